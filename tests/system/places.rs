//! Disks that are full, read-only, or whose files cannot be changed.

use std::path::Path;
use std::process::Command;

use maplsm::{Db, Durability, Error, ErrorKind, IoMode, Options};

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

/// Inserts until that is refused for want of space, and for nothing else.
fn fill_up(db: &Db, value_bytes: usize) -> u64 {
    for number in 0.. {
        if let Err(error) = db.insert(super::victim::key(number), vec![1; value_bytes]) {
            let full = matches!(&error, Error::Io(e) if e.source.kind() == std::io::ErrorKind::StorageFull);
            let behind = matches!(&error, Error::Background(e) if e.kind() == ErrorKind::Io);
            assert!(full || behind, "{error}");
            return number;
        }
    }
    unreachable!("the disk never fills up")
}

/// Inserts until it succeeds: the work that makes space may still be under way.
fn insert_soon(db: &Db, what: &str) {
    let begun = std::time::Instant::now();
    while let Err(error) = db.insert("again", "writable") {
        assert!(
            error.kind() != ErrorKind::State && begun.elapsed().as_secs() < 30,
            "{what}: {error}: {:?}",
            db.stats()
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Deleting is possible on a full disk, and gives space to those who were refused.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_full_disk_takes_removals_and_gives_back_what_they_remove() {
    let dir = tempfile::tempdir().unwrap();
    let disks =
        [Mounted::new(&dir.path().join("tmpfs"), "size=24m"), Mounted::image(&dir.path().join("ext4"), "ext4", 40)];
    for disk in disks.into_iter().flatten() {
        for (mode, memtable) in [(IoMode::Map, 64 << 20), (IoMode::Map, 1 << 20), (IoMode::Read, 2 << 20)] {
            for reopened in [false, true] {
                let what = format!("{}, {mode:?}, {memtable}, reopened {reopened}", disk.0.display());
                let path = disk.0.join("db");
                let mut options = Options::new();
                options.io_mode(mode).memtable_bytes(memtable).table_bytes(1 << 20).durability(Durability::Buffered);
                let mut db = options.open(&path).unwrap();
                let count = fill_up(&db, 1000);
                println!("{what}: full after {count} entries of 1,000 bytes");
                assert!(count > 4000, "{what}");
                if reopened {
                    drop(db);
                    db = options.open(&path).unwrap_or_else(|e| panic!("{what}: {e}"));
                }
                for number in 0..1000 {
                    db.remove(super::victim::key(number)).unwrap_or_else(|e| panic!("{what}: {number}: {e}"));
                }
                db.remove_range(..super::victim::key(count / 2)).unwrap_or_else(|e| panic!("{what}: {e}"));
                db.flush().unwrap_or_else(|e| panic!("{what}: {e}"));
                db.compact().unwrap_or_else(|e| panic!("{what}: {e}"));
                insert_soon(&db, &what);
                assert!(db.get(super::victim::key(count / 2 - 1)).unwrap().is_none(), "{what}");
                assert_eq!(db.iter().count() as u64, count - count / 2 + 1, "{what}");
                db.remove_range::<&[u8]>(..).unwrap_or_else(|e| panic!("{what}: {e}"));
                db.compact().unwrap_or_else(|e| panic!("{what}: {e}"));
                insert_soon(&db, &what);
                let again = fill_up(&db, 1000);
                assert!(again > count - count / 5, "{what}: {again} after {count}");
                assert!(db.verify().is_ok(), "{what}: {:?}", db.verify().problems);
                drop(db);
                let db = options.open(&path).unwrap_or_else(|e| panic!("{what}: {e}"));
                expect(&db, again - 1);
                drop(db);
                std::fs::remove_dir_all(&path).unwrap();
            }
        }
    }
}

/// A file system that cannot take space ahead: writing to the log fails half-way, and is taken back.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_full_disk_that_cannot_preallocate_refuses_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Mounted::image(&dir.path().join("ext2"), "ext2", 16) else { return };
    for mode in [IoMode::Map, IoMode::Read] {
        let path = disk.0.join("db");
        std::fs::write(disk.0.join("ballast"), vec![1; 2 << 20]).unwrap();
        let mut options = Options::new();
        options.io_mode(mode).durability(Durability::Buffered);
        let db = options.open(&path).unwrap();
        let count = fill_up(&db, 10_000);
        // What is shorter than what was refused goes in its place.
        let mut short = 0;
        while short < 100 && db.insert(format!("short {short}"), vec![2; 500]).is_ok() {
            short += 1;
        }
        println!("{mode:?}: full after {count} entries of 10,000 bytes and {short} of 500");
        let copy = dir.path().join(format!("copy {mode:?}"));
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(&path).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        let crashed = options.open(&copy).unwrap();
        expect(&crashed, count - 1);
        assert_eq!(crashed.iter().count() as u64, count + short, "{mode:?}: what was refused does not count");
        std::fs::remove_file(disk.0.join("ballast")).unwrap();
        db.insert("again", "writable").unwrap();
        db.close().unwrap();
        drop(db);
        let db = options.open(&path).unwrap();
        assert_eq!(db.iter().count() as u64, count + short + 1);
        drop(db);
        std::fs::remove_dir_all(&path).unwrap();
    }
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
