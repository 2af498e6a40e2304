//! Who may open a directory, what a closed handle answers, and what outlives it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use maplsm::{Cursor, Db, Durability, Entry, Error, Iter, Options, SimFs, Slice, Snapshot, WriteBatch};

use crate::support::{DIR, contents, image, load, path, sim_options};

fn files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            (entry.path(), (std::fs::read(entry.path()).unwrap(), entry.metadata().unwrap().modified().unwrap()))
        })
        .collect()
}

fn fill(db: &Db) {
    load(db, (0..200u32).map(|i| (format!("key{i:03}"), vec![7; 50])), 10);
    db.compact().unwrap();
    load(db, (100..250u32).map(|i| (format!("key{i:03}"), vec![8; 50])), 10);
    db.flush().unwrap();
    load(db, (240..300u32).map(|i| (format!("key{i:03}"), vec![9; 50])), 10);
}

#[test]
fn handles_and_values_go_between_threads_and_are_owned() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    fn cloned<T: Clone>() {}
    shared::<Db>();
    shared::<Snapshot>();
    shared::<Slice>();
    shared::<Entry>();
    shared::<WriteBatch>();
    shared::<Options>();
    shared::<Error>();
    sent::<Iter>();
    sent::<Cursor>();
    cloned::<Db>();
    cloned::<Snapshot>();
    cloned::<Slice>();
}

#[test]
fn a_writer_is_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let on_disk = |read_only: bool| Options::new().read_only(read_only).open(&path);
    let fs = SimFs::new();
    let in_memory = |read_only: bool| sim_options(&fs).read_only(read_only).open(DIR);
    let open: [&dyn Fn(bool) -> maplsm::Result<Db>; 2] = [&on_disk, &in_memory];
    for open in open {
        assert!(matches!(open(true), Err(Error::NotFound(_))), "a read-only open creates nothing");
        let db = open(false).unwrap();
        db.insert("key", "value").unwrap();
        assert!(matches!(open(false), Err(Error::Locked(_))));
        assert!(matches!(open(true), Err(Error::Locked(_))));
        let other = db.clone();
        drop(db);
        assert!(matches!(open(false), Err(Error::Locked(_))), "a clone is a handle as well");
        other.close().unwrap();
        let (one, two) = (open(true).unwrap(), open(true).unwrap());
        assert_eq!((contents(&one).len(), contents(&two).len()), (1, 1));
        assert!(matches!(open(false), Err(Error::Locked(_))), "readers exclude a writer");
        drop(one);
        assert!(matches!(open(false), Err(Error::Locked(_))));
        drop(two);
        drop(open(false).unwrap());
        open(false).unwrap().close().unwrap();
    }
}

/// Who opens a database twice is told so, however he calls its directory, and nobody else is.
#[test]
fn a_second_open_of_a_process_is_told_from_that_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let told = |opened: maplsm::Result<Db>| match opened {
        Err(Error::Locked(held)) => held.by_this_process,
        other => panic!("{other:?}"),
    };
    let db = Db::open(&path).unwrap();
    for same in [path.clone(), dir.path().join(".").join("db"), path.join("..").join("db")] {
        let refused = Db::open(&same).unwrap_err();
        assert!(refused.to_string().contains("by two handles in one process"), "{refused}");
        assert!(told(Db::open(&same)) && told(Options::new().read_only(true).open(&same)));
    }
    db.close().unwrap();
    let readers = [(); 2].map(|()| Options::new().read_only(true).open(&path).unwrap());
    for reader in readers {
        assert!(told(Db::open(&path)));
        drop(reader);
    }
    // Somebody else has locked it: stands for another process, as this one has not opened it.
    let lock = std::fs::File::open(path.join("LOCK")).unwrap();
    lock.lock().unwrap();
    assert!(!told(Db::open(&path)));
    let refused = Db::open(&path).unwrap_err().to_string();
    assert!(refused.ends_with("is in use by another process"), "{refused}");
    drop(lock);
    Db::open(&path).unwrap();
    let fs = SimFs::new();
    let _db = sim_options(&fs).open(DIR).unwrap();
    assert!(told(sim_options(&fs).open(DIR)));
}

#[test]
fn another_process_is_refused() {
    // The lock belongs to the open file, so a second open of the same process stands for one of another process; a child
    // process that has inherited nothing is tested by the command line.
    let dir = tempfile::tempdir().unwrap();
    let _db = Db::open(dir.path()).unwrap();
    let lock = std::fs::File::options().read(true).write(true).open(dir.path().join("LOCK")).unwrap();
    assert!(matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)));
    assert!(matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)));
}

/// A build that knows of the file only, and not of the lock of the directory: it is excluded, and excludes.
#[test]
fn who_locks_the_file_alone_is_excluded_and_excludes() {
    let dir = tempfile::tempdir().unwrap();
    Db::open(dir.path()).unwrap().close().unwrap();
    for read_only in [false, true] {
        let lock = std::fs::File::options().read(true).write(true).open(dir.path().join("LOCK")).unwrap();
        lock.lock().unwrap();
        for _ in 0..3 {
            assert!(matches!(Options::new().read_only(read_only).open(dir.path()), Err(Error::Locked(_))));
        }
        drop(lock);
        // What was locked in front of it has been given back.
        Options::new().read_only(read_only).open(dir.path()).unwrap().close().unwrap();
    }
}

/// What somebody does to the lock file of an open database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meddling {
    Removes,
    Replaces,
}

#[test]
fn a_lock_file_that_is_gone_ends_all_writes() {
    for meddling in [Meddling::Removes, Meddling::Replaces] {
        let dir = tempfile::tempdir().unwrap();
        let on_disk = Options::new().background_threads(0).memtable_bytes(16 << 10).clone();
        let fs = SimFs::new();
        let in_memory = sim_options(&fs).memtable_bytes(16 << 10).durability(Durability::Sync).clone();
        let path = dir.path().join("db");
        let lock = path.join("LOCK");
        meddle(&on_disk, &path, || match meddling {
            Meddling::Removes => std::fs::remove_file(&lock).unwrap(),
            Meddling::Replaces => {
                std::fs::write(path.join("new"), b"").unwrap();
                std::fs::rename(path.join("new"), &lock).unwrap();
            }
        });
        let lock = Path::new(DIR).join("LOCK");
        meddle(&in_memory, Path::new(DIR), || match meddling {
            Meddling::Removes => fs.remove(&lock),
            Meddling::Replaces => fs.write(&lock, b""),
        });
    }
}

type Call<'c> = &'c dyn Fn(&Db) -> maplsm::Result<()>;

fn meddle(options: &Options, path: &Path, lose_lock: impl Fn()) {
    let lost = |result: maplsm::Result<()>| match result {
        Err(Error::LockLost(lock)) => assert_eq!(*lock, path.join("LOCK")),
        other => panic!("{other:?}"),
    };
    let poisoned = |result: maplsm::Result<()>| match result {
        Err(Error::Poisoned(cause)) => assert!(matches!(*cause, Error::LockLost(_)), "{cause}"),
        other => panic!("{other:?}"),
    };
    // Each time, another call is the first that is made after it.
    let second = |db: &Db| db.create_keyspace("second", &maplsm::KeyspaceOptions::new()).map(drop);
    let calls: [Call<'_>; 9] = [
        &|db| db.insert("after", "wards"),
        &|db| db.write_with(WriteBatch::new().insert("key000", "again"), Durability::Sync),
        &|db| db.write_with(WriteBatch::new().insert("key000", "again"), Durability::Buffered).and_then(|()| db.sync()),
        &|db| db.flush(),
        &|db| db.compact(),
        &|db| db.ingest([("x", "y")]).map(drop),
        &second,
        &|db| load_until_it_fails(db),
        &|db| db.close(),
    ];
    for call in calls {
        let db = options.open(path).unwrap();
        fill(&db);
        let expected = contents(&db);
        db.sync().unwrap();
        lose_lock();
        // The directory is still locked, whatever is in it.
        for _ in 0..2 {
            assert!(matches!(options.open(path), Err(Error::Locked(_))));
            assert!(matches!(options.clone().read_only(true).open(path), Err(Error::Locked(_))));
            assert!(matches!(maplsm::examine(path, options), Err(Error::Locked(_))));
        }
        assert!(matches!(maplsm::repair(path, options), Err(Error::Locked(_))));
        lost(call(&db));
        if db.get("key000").is_ok() {
            poisoned(db.insert("more", "of it"));
            poisoned(db.sync());
            poisoned(db.flush());
            assert!(contents(&db).len() >= expected.len(), "reads go on");
            let _ = db.close();
        }
        drop(db);
        // The next one that may create makes a new lock file, as of any directory; what was acknowledged is there.
        let db = options.open(path).unwrap();
        let found = contents(&db);
        for (key, value) in &expected {
            let again = key == b"key000" && found.get(key).is_some_and(|value| value == b"again");
            assert!(found.get(key) == Some(value) || again, "{key:?}");
        }
        assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
        db.insert("key000", vec![7; 50]).unwrap();
        db.close().unwrap();
    }
}

/// Buffered commits do not look after the lock, but do not go far: the next segment of the log has a name.
fn load_until_it_fails(db: &Db) -> maplsm::Result<()> {
    (0..1000u32)
        .try_for_each(|i| db.write_with(WriteBatch::new().insert(format!("more{i:03}"), [7; 50]), Durability::Buffered))
}

/// A second process that knows nothing of the lock of the directory opens it when the lock file has gone, as builds before
/// this one do: the first one acknowledges nothing from then on.
#[test]
fn nothing_is_acknowledged_beside_a_second_writer() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().background_threads(0).open(dir.path()).unwrap();
    db.insert("first", "acknowledged").unwrap();
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    let second = std::fs::File::options().write(true).create_new(true).open(dir.path().join("LOCK")).unwrap();
    second.try_lock().unwrap();
    let files = || files(dir.path()).into_keys().collect::<Vec<_>>();
    let before = files();
    assert!(matches!(db.insert("second", "refused"), Err(Error::LockLost(_))));
    assert!(matches!(db.flush(), Err(Error::Poisoned(_))));
    assert!(matches!(db.verify().problems[..], [Error::LockLost(_)]), "what is looked at may be another one's by now");
    drop(db);
    assert_eq!(files(), before, "nothing is made or removed");
    assert!(matches!(Db::open(dir.path()), Err(Error::Locked(_))));
    drop(second);
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.get("first").unwrap().as_deref(), Some(&b"acknowledged"[..]));
}

#[test]
fn nothing_is_made_where_no_database_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    assert!(matches!(Options::new().create_if_missing(false).open(&path), Err(Error::NotFound(_))));
    assert!(matches!(Options::new().read_only(true).open(&path), Err(Error::NotFound(_))));
    assert!(!path.exists());
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(Options::new().create_if_missing(false).open(&path), Err(Error::NotFound(_))));
    assert!(matches!(Options::new().read_only(true).open(&path), Err(Error::NotFound(_))));
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn reading_only_changes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(&path).unwrap();
    fill(&db);
    let expected = contents(&db);
    db.close().unwrap();
    std::fs::remove_file(files(&path).keys().find(|p| p.extension().is_some_and(|e| e == "idx")).unwrap()).unwrap();
    let before = files(&path);
    let db = Options::new().read_only(true).open(&path).unwrap();
    assert_eq!(contents(&db), expected);
    assert!(db.verify().is_ok());
    let refused = |result: maplsm::Result<()>| assert!(matches!(result, Err(Error::ReadOnly)), "{result:?}");
    refused(db.insert("key", "value"));
    refused(db.remove("key"));
    refused(db.write(WriteBatch::new().insert("key", "value")));
    refused(db.write_with(WriteBatch::new(), Durability::Buffered));
    refused(db.sync());
    refused(db.flush());
    refused(db.compact());
    refused(db.compact_range("a".."b"));
    refused(db.maintain());
    drop(db);
    assert_eq!(files(&path), before);
}

/// The same on a disk that was not closed cleanly: the log is replayed in memory only.
#[test]
fn reading_only_after_a_crash_changes_nothing() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    fill(&db);
    let left = fs.kill();
    let before = image(&left);
    let reader = sim_options(&left).read_only(true).open(DIR).unwrap();
    assert_eq!(contents(&reader), contents(&db));
    assert!(!reader.recovery_report().clean);
    reader.close().unwrap();
    assert_eq!((image(&left), left.operations()), (before, 0));
}

#[expect(clippy::needless_pass_by_value, reason = "answers are passed as they come")]
fn closed<T: std::fmt::Debug>(result: maplsm::Result<T>) {
    assert!(matches!(result, Err(Error::Closed)), "{result:?}");
}

#[test]
fn a_closed_handle_says_so() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    fill(&db);
    let (other, snapshot) = (db.clone(), db.snapshot());
    db.close().unwrap();
    for db in [&db, &other] {
        closed(db.get("key000"));
        closed(db.contains_key("key000"));
        closed(db.insert("key", "value"));
        closed(db.remove("key"));
        closed(db.write(WriteBatch::new().insert("key", "value")));
        closed(db.sync());
        closed(db.flush());
        closed(db.compact());
        closed(db.maintain());
        closed(db.wait_for_background());
        closed(db.memtable_keys());
        db.close().unwrap();
        closed(db.iter().next().unwrap());
        closed(db.range("a"..).next_back().unwrap());
        assert!(db.prefix("a").by_ref().nth(1).is_none(), "an iterator ends after its error");
        closed(db.cursor().seek_first());
        assert!(matches!(db.verify().problems[..], [Error::Closed]));
        closed(db.snapshot().get("key000"));
    }
    closed(snapshot.get("key000"));
    closed(snapshot.get_ref("key000").map(|found| found.is_some()));
    closed(snapshot.iter().next().unwrap());
    let again = sim_options(&fs).open(DIR).unwrap();
    assert_eq!(contents(&again).len(), 300);
}

/// Tables are opened when they are first read, and that may be after the close, when somebody else has replaced them.
#[test]
fn who_comes_to_a_table_that_is_gone_after_the_close_is_told_of_the_close() {
    let fs = SimFs::new();
    let options = sim_options(&fs).table_bytes(64 << 10).clone();
    let db = options.open(DIR).unwrap();
    for _ in 0..2 {
        load(&db, (0..5_000u32).map(|i| (i.to_be_bytes(), [7; 100])), 1000);
        db.flush().unwrap();
    }
    db.compact().unwrap();
    assert!(db.stats().tables.len() > 3);
    db.close().unwrap();
    let db = options.open(DIR).unwrap();
    let (mut iter, mut back, mut cursor) = (db.iter(), db.iter(), db.cursor());
    assert!(iter.next().unwrap().is_ok() && back.next_back().unwrap().is_ok() && cursor.seek_first().unwrap());
    db.close().unwrap();
    let other = options.open(DIR).unwrap();
    load(&other, (0..5_000u32).map(|i| (i.to_be_bytes(), [8; 100])), 1000);
    other.compact().unwrap();
    other.close().unwrap();
    closed(iter.try_for_each(|entry| entry.map(drop)));
    closed(back.rev().try_for_each(|entry| entry.map(drop)));
    closed((0..10_000).try_for_each(|_| cursor.next().map(|_| ())));
}

/// The directory is somebody else's once it is closed: what a verify that is under way sees of it then is no damage here.
#[test]
fn a_verify_beside_a_close_reports_no_damage() {
    let other = SimFs::with_seed(2);
    let db = sim_options(&other).open(DIR).unwrap();
    fill(&db);
    db.close().unwrap();
    let mut met = 0;
    for round in 0..20 {
        let fs = SimFs::new();
        let db = sim_options(&fs).open(DIR).unwrap();
        load(&db, (0..10_000u32).map(|i| (i.to_be_bytes(), [7; 100])), 1000);
        db.flush().unwrap();
        let report = std::thread::scope(|scope| {
            let verifying = scope.spawn(|| db.verify());
            std::thread::sleep(std::time::Duration::from_micros(100 * round));
            db.close().unwrap();
            for (name, bytes) in image(&other) {
                fs.write(&path(&name), &bytes);
            }
            verifying.join().unwrap()
        });
        assert!(report.problems.iter().all(|problem| matches!(problem, Error::Closed)), "{:?}", report.problems);
        met += u32::from(!report.is_ok());
    }
    assert!(met > 0, "a close never met a verify");
}

#[test]
fn values_iterators_and_cursors_outlive_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("db")).unwrap();
    fill(&db);
    let keys = || (0..300u32).map(|i| format!("key{i:03}"));
    let slices: Vec<Slice> = keys().map(|key| db.get(key).unwrap().unwrap()).collect();
    let (mut iter, mut cursor) = (db.iter(), db.cursor());
    let entry = iter.next().unwrap().unwrap();
    assert!(cursor.seek("key100").unwrap());
    // What they look at is overwritten, compacted away, closed, and its files removed.
    load(&db, keys().map(|key| (key, "new")), 50);
    db.compact().unwrap();
    db.close().unwrap();
    drop(db);
    drop(dir);
    let of = |i: usize| match i {
        0..100 => 7,
        100..240 => 8,
        _ => 9u8,
    };
    assert!(slices.iter().enumerate().all(|(i, slice)| *slice == [of(i); 50]));
    assert!(entry.key() == b"key000" && entry.value() == [7; 50]);
    let rest = std::thread::spawn(move || iter.map(|entry| entry.unwrap().value()[0]).collect::<Vec<u8>>());
    assert!(rest.join().unwrap().into_iter().eq((1..300).map(of)));
    for i in 100..300 {
        assert_eq!(cursor.value(), [of(i); 50]);
        assert_eq!(cursor.next().unwrap(), i < 299);
    }
}

#[test]
fn a_database_can_be_opened_again_while_values_of_the_last_run_live() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut slices = Vec::new();
    for round in 0..5u8 {
        let db = Options::new().background_threads(usize::from(round % 2)).open(&path).unwrap();
        db.insert("key", [round; 1000]).unwrap();
        slices.push((round, db.get("key").unwrap().unwrap()));
        db.flush().unwrap();
        slices.push((round, db.get("key").unwrap().unwrap()));
        db.compact().unwrap();
    }
    assert!(slices.iter().all(|(round, slice)| *slice == [*round; 1000]));
}
