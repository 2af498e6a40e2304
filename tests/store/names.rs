//! Paths are looked up once, at the open: nobody who moves, replaces or removes names afterwards, and no new working
//! directory, leads an open database astray.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use maplsm::{Db, Durability, Error, Options, SimFs};

use crate::support::{contents, load, sim_options};

fn options() -> Options {
    let mut options = Options::new();
    options.memtable_bytes(16 << 10).background_threads(0).durability(Durability::Buffered);
    options
}

/// What a database with these entries holds.
fn filled(name: &str, numbers: std::ops::Range<u32>) -> Vec<(Vec<u8>, Vec<u8>)> {
    numbers.map(|number| (format!("{name} {number:05}").into_bytes(), vec![7; 100])).collect()
}

/// Writes until there are tables and a log.
fn fill(db: &Db, name: &str, numbers: std::ops::Range<u32>) {
    load(db, filled(name, numbers), 10);
}

fn is_whole(db: &Db, expected: &[(Vec<u8>, Vec<u8>)]) {
    assert!(contents(db).into_iter().eq(expected.iter().cloned()));
    assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
}

/// Everything that makes, renames, links and removes files.
fn do_everything(db: &Db, name: &str, numbers: std::ops::Range<u32>) {
    fill(db, name, numbers);
    db.sync().unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    db.maintain().unwrap();
}

#[test]
fn a_directory_that_is_moved_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    let fs = SimFs::new();
    let in_memory = sim_options(&fs).memtable_bytes(16 << 10).clone();
    move_about(&options(), dir.path(), |from, to| std::fs::rename(from, to).unwrap());
    move_about(&in_memory, Path::new("/of/names"), |from, to| fs.move_dir(from, to));
}

fn move_about(options: &Options, place: &Path, rename: impl Fn(&Path, &Path)) {
    let path = |name: &str| place.join(name);
    let db = options.open(path("here/db")).unwrap();
    do_everything(&db, "key", 0..300);
    let (snapshot, before) = (db.snapshot(), contents(&db));
    // Once the directory itself, and once one on the way to it; another database takes its place.
    rename(&path("here/db"), &path("here/moved"));
    do_everything(&db, "key", 300..600);
    assert!(matches!(options.clone().create_if_missing(false).open(path("here/db")), Err(Error::NotFound(_))));
    let other = options.open(path("here/db")).unwrap();
    fill(&other, "other", 0..300);
    rename(&path("here"), &path("there"));
    do_everything(&db, "key", 600..900);
    do_everything(&other, "other", 300..500);
    db.checkpoint(path("copy")).unwrap();
    assert!(matches!(options.open(path("there/moved")), Err(Error::Locked(_))));
    assert!(snapshot.iter().map(|entry| entry.unwrap().key().to_vec()).eq(before.keys().cloned()));
    db.close().unwrap();
    other.close().unwrap();
    for name in ["copy", "there/moved"] {
        is_whole(&options.open(path(name)).unwrap(), &filled("key", 0..900));
    }
    is_whole(&options.open(path("there/db")).unwrap(), &filled("other", 0..500));
}

/// A repair looks up the database's path once, and nothing that is in the way under the names that it needs is followed.
#[cfg(unix)]
#[test]
fn a_repair_does_not_follow_links() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let db = options().open(path("db")).unwrap();
    do_everything(&db, "key", 0..300);
    db.close().unwrap();
    spoil(&path("db"));
    std::fs::create_dir(path("elsewhere")).unwrap();
    std::fs::write(path("elsewhere/keep"), "it").unwrap();
    std::os::unix::fs::symlink(path("elsewhere"), path("db/repair")).unwrap();
    assert!(maplsm::repair(path("db"), &options()).is_err(), "the name is taken");
    assert_eq!(std::fs::read(path("elsewhere/keep")).unwrap(), b"it");
    std::fs::remove_file(path("db/repair")).unwrap();
    let report = maplsm::repair(path("db"), &options()).unwrap();
    assert!(report.rebuilt && !report.has_losses(), "{report:?}");
    is_whole(&options().open(path("db")).unwrap(), &filled("key", 0..300));
}

/// Damage that makes a repair write everything anew, and loses nothing.
fn spoil(db: &Path) {
    let is_table = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "sst");
    let table = std::fs::read_dir(db).unwrap().map(|entry| entry.unwrap().path()).find(is_table).unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&table, bytes).unwrap();
}

/// The working directory belongs to the process, so all that changes it is done in one of its own.
#[test]
#[ignore = "a program for the other tests of this module"]
fn wanderer() {
    let (Ok(act), Some(place)) = (std::env::var("WANDERER_ACT"), std::env::var_os("WANDERER_PLACE")) else { return };
    let place = Path::new(&place);
    for name in ["one", "two"] {
        std::fs::create_dir(place.join(name)).unwrap();
    }
    match &*act {
        "write" => write_from_elsewhere(place),
        "checkpoint" => wander_about(place, make_checkpoints),
        "repair" => wander_about(place, make_repairs),
        _ => panic!("{act}"),
    }
    println!("arrived");
}

/// Two databases by one relative name.
fn write_from_elsewhere(place: &Path) {
    let enter = |name: &str| std::env::set_current_dir(place.join(name)).unwrap();
    enter("two");
    let two = options().open("db").unwrap();
    do_everything(&two, "two", 0..600);
    two.close().unwrap();
    enter("one");
    let one = options().open("db").unwrap();
    do_everything(&one, "one", 0..300);
    let second = one.create_keyspace("second", &maplsm::KeyspaceOptions::new()).unwrap();
    enter("two");
    do_everything(&one, "one", 300..600);
    second.insert("key", "value").unwrap();
    one.ingest([("p", "q")]).unwrap();
    one.checkpoint("copy").unwrap();
    std::env::set_current_dir("/").unwrap();
    do_everything(&one, "one", 600..900);
    one.remove("p").unwrap();
    is_whole(&one, &filled("one", 0..900));
    one.close().unwrap();
    let db = options().open(place.join("one/db")).unwrap();
    is_whole(&db, &filled("one", 0..900));
    assert_eq!(db.keyspace("second").unwrap().get("key").unwrap().as_deref(), Some(&b"value"[..]));
    is_whole(&options().open(place.join("two/db")).unwrap(), &filled("two", 0..600));
    assert_eq!(options().open(place.join("two/copy")).unwrap().iter().count(), 601);
    for name in ["one", "two"] {
        let names = std::fs::read_dir(place.join(name)).unwrap().count();
        assert_eq!(names, if name == "one" { 1 } else { 2 });
    }
}

/// Runs this while the working directory changes all the time.
fn wander_about(place: &Path, what: fn(&Path)) {
    std::env::set_current_dir(place.join("one")).unwrap();
    let arrived = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for name in ["two", "one"].into_iter().cycle() {
                if arrived.load(Ordering::Relaxed) {
                    break;
                }
                std::env::set_current_dir(place.join(name)).unwrap();
                std::thread::yield_now();
            }
        });
        let done = std::panic::catch_unwind(|| what(place));
        arrived.store(true, Ordering::Relaxed);
        done.unwrap();
    });
}

/// Each is in one place or the other, whole, and has left nothing in the other.
fn make_checkpoints(place: &Path) {
    let db = options().open(place.join("db")).unwrap();
    do_everything(&db, "key", 0..100);
    fill(&db, "key", 100..120);
    for round in 0..20 {
        let name = format!("on the way/copy {round}");
        db.checkpoint(&name).unwrap();
        let copies = ["one", "two"].map(|at| place.join(at).join(&name));
        let there: Vec<&PathBuf> = copies.iter().filter(|copy| copy.exists()).collect();
        assert_eq!(there.len(), 1, "{copies:?}");
        is_whole(&options().open(there[0]).unwrap(), &filled("key", 0..120));
        assert!(matches!(db.checkpoint(there[0]), Err(Error::Io(_))));
    }
}

/// Each repairs one of the two, and does nothing to the other.
fn make_repairs(place: &Path) {
    let paths = ["one/db", "two/db"].map(|name| place.join(name));
    for (path, name) in paths.iter().zip(["one", "two"]) {
        let db = options().open(path).unwrap();
        do_everything(&db, name, 0..200);
        db.close().unwrap();
    }
    for _ in 0..10 {
        for path in &paths {
            spoil(path);
        }
        let mut repaired = [false; 2];
        while repaired != [true; 2] {
            let report = maplsm::repair("db", &options()).unwrap();
            // The other one is as it was, damage included.
            let found = [0, 1].map(|at| maplsm::examine(&paths[at], &options()).unwrap().is_empty());
            let newly = [0, 1].map(|at| found[at] && !repaired[at]);
            assert_eq!(newly.iter().filter(|new| **new).count(), usize::from(report.rebuilt), "{repaired:?} {found:?}");
            assert!(!report.has_losses(), "{report:?}");
            repaired = found;
        }
        for (path, name) in paths.iter().zip(["one", "two"]) {
            is_whole(&options().open(path).unwrap(), &filled(name, 0..200));
        }
    }
}

fn wander(act: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "store::names::wanderer", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env("WANDERER_ACT", act).env("WANDERER_PLACE", dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("arrived"), "{act}: {said}");
}

#[test]
fn a_new_working_directory_makes_no_difference() {
    wander("write");
}

#[test]
fn a_checkpoint_goes_to_one_place_while_the_working_directory_changes() {
    wander("checkpoint");
}

#[test]
fn a_repair_is_of_one_database_while_the_working_directory_changes() {
    wander("repair");
}
