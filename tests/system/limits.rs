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
            let kinds = [ErrorKind::Io, ErrorKind::State, ErrorKind::Background];
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
