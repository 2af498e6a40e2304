//! Disks that are full, read-only, or whose files cannot be changed.

use std::path::Path;
use std::process::Command;

use maplsm::{Db, Error, ErrorKind, IoMode, Options};

use super::{Mounted, can, options};

/// Writes until that fails, and a little further; answers the numbers that were acknowledged.
fn fill(db: &Db) -> (u64, Error) {
    let mut failures = 0;
    let mut acknowledged = 0;
    loop {
        match db.insert(super::victim::key(acknowledged + 1), vec![1; 3000]) {
            Ok(()) => acknowledged += 1,
            Err(error) => {
                let kinds = [ErrorKind::Io, ErrorKind::State, ErrorKind::Background];
                assert!(kinds.contains(&error.kind()), "{error}");
                failures += 1;
                if failures == 5 {
                    return (acknowledged, error);
                }
            }
        }
        assert!(acknowledged < 1 << 20, "the disk never fills up");
    }
}

fn expect(db: &Db, acknowledged: u64) {
    for number in 1..=acknowledged {
        assert!(db.get(super::victim::key(number)).unwrap().is_some(), "{number} of {acknowledged} is gone");
    }
}

/// A full disk stops writers with an error; nothing acknowledged is lost, and with space again all goes on.
fn fills_up(mount: &str, reserve: impl Fn(&Path)) {
    for mode in [IoMode::Map, IoMode::Read] {
        let dir = tempfile::tempdir().unwrap();
        let Some(disk) = Mounted::new(&dir.path().join("disk"), mount) else { return };
        let path = disk.0.join("db");
        reserve(&disk.0);
        let db = options(mode).open(&path).unwrap();
        let (acknowledged, error) = fill(&db);
        println!("{mount}, {mode:?}: full after {acknowledged} commits: {error}");
        expect(&db, acknowledged);
        drop(db);
        // Full as it is, it can be read.
        match Options::new().read_only(true).io_mode(mode).open(&path) {
            Ok(db) => expect(&db, acknowledged),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
        }
        // Opening for writing may need space; with some, everything goes on.
        drop(options(mode).open(&path).map(|db| expect(&db, acknowledged)));
        for entry in std::fs::read_dir(&disk.0).unwrap().map(Result::unwrap) {
            if entry.file_name() != "db" {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        let db = options(mode).open(&path).unwrap();
        expect(&db, acknowledged);
        for number in 1..=acknowledged {
            db.remove(super::victim::key(number)).unwrap();
        }
        db.compact().unwrap();
        db.insert("again", "writable").unwrap();
        assert!(db.verify().is_ok());
        db.close().unwrap();
    }
}

#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_disk_without_bytes_loses_nothing() {
    fills_up("size=3m", |disk| std::fs::write(disk.join("reserve"), vec![0; 1 << 20]).unwrap());
}

#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_disk_without_inodes_loses_nothing() {
    fills_up("size=64m,nr_inodes=40", |disk| {
        for number in 0..20 {
            std::fs::write(disk.join(format!("reserve {number}")), b"").unwrap();
        }
    });
}

#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_read_only_disk_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Mounted::new(&dir.path().join("disk"), "size=16m") else { return };
    for mode in [IoMode::Map, IoMode::Read] {
        let path = disk.0.join(format!("{mode:?}"));
        let db = options(mode).open(disk.0.join("db")).unwrap();
        db.insert("key", "value").unwrap();
        // As a crash leaves it: nothing may be repaired on a disk that cannot be written.
        std::fs::create_dir(&path).unwrap();
        for entry in std::fs::read_dir(disk.0.join("db")).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
        }
        db.close().unwrap();
        drop(db);
        assert!(disk.remount("ro"));
        let error = options(mode).open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        let reader = Options::new().read_only(true).io_mode(mode).open(&path).unwrap();
        assert_eq!(reader.get("key").unwrap().as_deref(), Some(&b"value"[..]));
        drop(reader);
        assert!(disk.remount("rw"));
    }
}

/// Files that even root cannot change or remove, as a mistaken administrator may leave them.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn files_that_cannot_be_removed_are_no_matter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = options(IoMode::Map).open(&path).unwrap();
    for number in 0..40 {
        db.insert(super::victim::key(number), vec![1; 500]).unwrap();
    }
    db.flush().unwrap();
    let tables: Vec<String> = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "sst"))
        .collect();
    let names: Vec<&str> = tables.iter().map(String::as_str).collect();
    if !can("chattr", &[&["+i"], &names[..]].concat(), "files that cannot be removed") {
        return;
    }
    let compacted = db.compact();
    let found = (0..40).all(|number| db.get(super::victim::key(number)).unwrap().is_some());
    let closed = db.close();
    let again = options(IoMode::Map).open(&path).map(|db| db.iter().count());
    assert!(Command::new("chattr").arg("-i").args(&names).status().unwrap().success());
    compacted.unwrap();
    closed.unwrap();
    assert!(found && again.unwrap() == 40);
    // Removable again, they go with the next run that writes.
    let db = options(IoMode::Map).open(&path).unwrap();
    db.insert("one", "more").unwrap();
    db.compact().unwrap();
    db.close().unwrap();
    assert!(names.iter().all(|name| !Path::new(name).exists()));
}
