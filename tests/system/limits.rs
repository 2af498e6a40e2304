//! What a process may have: file sizes, descriptors, address space, memory.

use maplsm::{ErrorKind, IoMode};

use super::{Orders, can};

/// Runs a victim under a limit of the shell and checks what it has left; answers whether it got to the end.
fn under(limit: &str, mode: IoMode) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let orders = Orders::new(dir.path().join("db"), dir.path().join("notes"), mode);
    let script = format!("{limit}; exec \"$@\"");
    let ended = orders.run(&["bash", "-c", &script, "victim"]);
    assert!(!ended.panicked(), "{limit}: {}", ended.said);
    if orders.db.exists() {
        orders.check(&format!("{limit}, {mode:?}"));
    }
    ended.well && !ended.said.contains("ended by")
}

#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn limits_of_a_process_are_errors_and_lose_nothing() {
    for mode in [IoMode::Map, IoMode::Read] {
        let mut report = Vec::new();
        // The signal of a file that grows too large is ignored, so that the call fails.
        for blocks in [0, 1, 2, 4, 5, 6, 8, 16, 64] {
            report.push((format!("file size {blocks} KiB"), under(&format!("trap '' XFSZ; ulimit -f {blocks}"), mode)));
        }
        for files in 4..24 {
            report.push((format!("{files} descriptors"), under(&format!("ulimit -n {files}"), mode)));
        }
        for kibibytes in (1..16).map(|step| step * 8192) {
            report.push((format!("{kibibytes} KiB of addresses"), under(&format!("ulimit -v {kibibytes}"), mode)));
        }
        let (through, ended): (Vec<_>, Vec<_>) = report.into_iter().partition(|(_, through)| *through);
        println!("{mode:?}: {} limits were too narrow, {} were not", ended.len(), through.len());
        assert!(!through.is_empty() && !ended.is_empty());
    }
}

/// Has the database open while there are no more mappings to be had, and again with a few more each time.
#[test]
#[ignore = "a program for the other tests of this module"]
fn crowded() {
    let Some(path) = std::env::var_os("CROWDED_DB") else { return };
    let mut options = super::options(IoMode::Map);
    options.background_threads(0);
    let db = options.open(&path).unwrap();
    let commit = |number: u32| {
        let committed = db.insert(number.to_be_bytes(), vec![7; 600]);
        if let Err(error) = &committed {
            let kinds = [ErrorKind::Io, ErrorKind::State, ErrorKind::Background, ErrorKind::Busy];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
        committed.is_ok()
    };
    let mut acknowledged: Vec<u32> = (0..20).filter(|number| commit(*number)).collect();
    let mut maps = Vec::with_capacity(1 << 20);
    // Neighbours of the same kind would become one mapping.
    while let Ok(map) = memmap2::MmapMut::map_anon(4096) {
        if maps.len() % 2 == 0 {
            maps.push((Some(map), None));
        } else {
            let Ok(map) = map.make_read_only() else { break };
            maps.push((None, Some(map)));
        }
        assert!(maps.len() < 1 << 20, "this machine has no limit");
    }
    println!("{} mappings", maps.len());
    for round in 1..=40 {
        acknowledged.extend((round * 20..round * 20 + 20).filter(|number| commit(*number)));
        maps.truncate(maps.len() - 2);
    }
    drop((maps, db));
    let db = options.open(&path).unwrap();
    assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
    for number in &acknowledged {
        assert!(db.contains_key(number.to_be_bytes()).unwrap(), "{number}");
    }
    db.insert("more", "of it").unwrap();
    db.close().unwrap();
    println!("{} of 820 acknowledged, then as ever", acknowledged.len());
}

/// The kernel gives a process so many mappings and no more (`vm.max_map_count`).
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_process_without_mappings_gets_errors_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "system::limits::crowded", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env("CROWDED_DB", dir.path().join("db")).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("without mappings: {said}");
    assert!(output.status.success() && said.contains("then as ever"), "{said}");
}

const TABLES: u32 = 40_000;

/// Two of these fill a table of 4 KiB.
const VALUE_BYTES: usize = 2100;

fn value_of(number: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[7; VALUE_BYTES]].concat()
}

/// With the smallest tables that there are; with larger ones, the store would join those of [`make_tables`].
fn small_tables() -> maplsm::Options {
    let mut options = maplsm::Options::new();
    options.table_bytes(4 << 10);
    options
}

/// A database of so many tables, all on one level. One load, whose tables are cut at the smallest size.
fn make_tables(path: &std::path::Path, tables: u32) {
    let db = small_tables().background_threads(0).open(path).unwrap();
    let loaded = db.ingest((0..2 * tables).map(|number| (number.to_be_bytes(), value_of(number)))).unwrap();
    assert_eq!(loaded.tables, usize::try_from(tables).unwrap());
    db.close().unwrap();
}

/// Runs a test of this module as a program of its own, behind a limit of the shell; answers what it has said.
fn program(name: &str, limit: &str, db: &std::path::Path) -> String {
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &format!("{limit} exec \"$@\""), "limited"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env("TABLES_DB", db).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{name}: {said}");
    assert!(output.status.success(), "{said}");
    said
}

/// A number of the kernel about this process, in a file of `/proc/self` behind a word.
fn of_this_process(file: &str, word: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(word)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Reads each of 300 tables, twice, and walks over them.
#[test]
#[ignore = "a program for the other tests of this module"]
fn few_descriptors() {
    let Some(path) = std::env::var_os("TABLES_DB") else { return };
    let db = small_tables().io_mode(IoMode::Read).open(&path).unwrap();
    let good = (0..600).filter(|number: &u32| {
        let found = db.get((number * 2 % 600).to_be_bytes());
        found.is_ok_and(|value| value.is_some_and(|value| *value == value_of(number * 2 % 600)))
    });
    println!("{} of 600 gets", good.count());
    assert_eq!(db.iter().map(Result::unwrap).count(), 600);
    assert_eq!(db.iter().rev().map(Result::unwrap).count(), 600);
    println!("{:?} open, {} openings", db.stats().open_tables, db.stats().table_openings);
    db.insert("more", "of it").unwrap();
    db.compact().unwrap();
    assert!(db.verify().is_ok());
    db.close().unwrap();
}

/// With `IoMode::Read` an open table has a descriptor.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn more_tables_than_descriptors_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    make_tables(&db, 300);
    let said = program("system::limits::few_descriptors", "ulimit -n 64;", &db);
    assert!(said.contains("600 of 600 gets"));
}

/// Reads a key of each table, in both orders, with the default options and with few tables open; walks; and holds on to a
/// value of each table until there is an error.
#[test]
#[ignore = "a program for the other tests of this module"]
fn many_mappings() {
    let Some(path) = std::env::var_os("TABLES_DB") else { return };
    let allowed: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let gets = |db: &maplsm::Db, what: &str| {
        let began = std::time::Instant::now();
        for number in 0..TABLES {
            let number = 2 * number + 1;
            assert!(db.get(number.to_be_bytes()).unwrap().unwrap() == *value_of(number), "{number}");
        }
        let each = began.elapsed() / TABLES;
        println!("{what}: {each:?} a get, {} tables open, {} mappings", db.stats().open_tables, mappings());
        assert!(mappings() < allowed / 2 + 1000);
    };
    let db = small_tables().open(&path).unwrap();
    assert!(db.stats().open_tables == 0 && mappings() < 1000, "an open maps no table");
    let memory = of_this_process("status", "RssAnon:");
    gets(&db, "first");
    gets(&db, "again");
    let tables = usize::try_from(TABLES).unwrap();
    let more = (of_this_process("status", "RssAnon:") - memory) * 1024 / tables;
    println!("{more} bytes for each of {tables} tables that have been open");
    let began = std::time::Instant::now();
    assert_eq!(db.iter().map(Result::unwrap).count(), 2 * tables);
    assert_eq!(db.iter().rev().map(Result::unwrap).count(), 2 * tables);
    println!("two walks: {:?}, {} mappings", began.elapsed(), mappings());
    let mut slices = Vec::new();
    let refused = (0..TABLES).find_map(|number| match db.get((2 * number).to_be_bytes()) {
        Ok(slice) => {
            slices.push(slice.unwrap());
            None
        }
        Err(e) => Some(e),
    });
    println!("{} slices, {} mappings, then: {refused:?}", slices.len(), mappings());
    assert!(refused.is_none() == (allowed / 4 * 3 >= 2 * tables));
    assert!(refused.is_none_or(|e| matches!(e, maplsm::Error::TooManyOpenTables { .. })));
    for (number, slice) in (0..TABLES).zip(&slices) {
        assert!(**slice == *value_of(2 * number), "{number}");
    }
    drop(slices);
    gets(&db, "after that");
    db.close().unwrap();
    // A handle that is left keeps open what its iterators would still read.
    drop(db);
    assert!(mappings() < 1000);
    let db = small_tables().max_open_tables(100).open(&path).unwrap();
    gets(&db, "with 100 open");
    gets(&db, "with 100 open, again");
    assert!(db.stats().open_tables <= 100 && mappings() < 1000);
    assert!(db.verify().is_ok());
    db.close().unwrap();
}

/// `vm.max_map_count` is 65,530 on most machines, and a table takes two mappings.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn more_tables_than_mappings_are_read() {
    // In memory, where there is a place for that: each table is synced twice.
    let memory = std::path::Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let db = dir.path().join("db");
    make_tables(&db, TABLES);
    program("system::limits::many_mappings", "", &db);
}

/// A process that may have less memory than its database takes is slower and nothing else.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn little_memory_is_enough() {
    let group = std::path::Path::new("/sys/fs/cgroup/memory/maplsm-test");
    let limit = group.join("memory.limit_in_bytes");
    if std::fs::create_dir_all(group).is_err() || std::fs::write(&limit, "32M").is_err() {
        println!("skipped: little memory: this machine has no memory cgroups of version 1");
        let _ = std::fs::remove_dir(group);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut orders = Orders::new(dir.path().join("db"), dir.path().join("notes"), IoMode::Map);
    orders.commits = 400;
    let script = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
    let ended = orders.run(&["bash", "-c", &script, "victim"]);
    assert!(ended.well, "{}", ended.said);
    orders.check("32 MiB of memory");
    assert_eq!(orders.acknowledged(), 400);
    let _ = std::fs::remove_dir(group);
}

/// Another process, and a child that is forked while the database is open, is refused.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn another_process_is_refused_while_this_one_lives() {
    let dir = tempfile::tempdir().unwrap();
    let orders = Orders::new(dir.path().join("db"), dir.path().join("notes"), IoMode::Map);
    let db = super::options(IoMode::Map).open(&orders.db).unwrap();
    let refused = |what: &str| {
        let ended = orders.run(&[]);
        assert!(ended.said.contains("is in use by another process"), "{what}: {}", ended.said);
    };
    refused("while it is open");
    // A child inherits no descriptor, so it cannot keep the lock when its parent has closed the database.
    let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
    refused("with a child");
    db.close().unwrap();
    let ended = orders.run(&[]);
    assert!(ended.well, "{}", ended.said);
    orders.check("after the close");
    assert!(can("kill", &["-0", &child.id().to_string()], "a child that outlives the lock"));
    child.kill().unwrap();
    child.wait().unwrap();
}
