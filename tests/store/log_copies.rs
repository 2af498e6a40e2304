//! What a crash has left of the log is written anew when the database is opened, segment by segment.

use std::io::ErrorKind;

use maplsm::{Db, Digest, Durability, Fault, KeyspaceOptions, SimFs, WriteBatch};

use super::reader::second_reader;
use crate::support::{DIR, change, image, names, path, sim_options};

/// A disk as a killed process has left it: segments with everything in them that a log can have.
fn left() -> SimFs {
    let fs = SimFs::with_seed(7);
    let db = open(&fs);
    let aligned = db.create_keyspace("aligned", KeyspaceOptions::new().value_alignment(16)).unwrap();
    for number in 0..400u32 {
        let mut batch = WriteBatch::new();
        batch.insert(number.to_be_bytes(), vec![1; (number as usize * 7) % 90]);
        batch.insert_into(&aligned, number.to_le_bytes(), vec![2; 32]);
        // With a sync and the mark behind it now and then, which are 24 bytes: no multiple of 16.
        let durability = if number % 37 == 5 { Durability::Sync } else { Durability::Buffered };
        db.write_with(&batch, durability).unwrap();
        if number % 50 == 11 {
            db.maintain().unwrap();
        }
    }
    db.remove_range([0, 0, 0, 17]..[0, 0, 0, 29]).unwrap();
    db.ingest([("loaded", "beside the log")]).unwrap();
    db.insert("large", vec![3; 300_000]).unwrap();
    db.insert("last", "of all").unwrap();
    let left = fs.kill();
    drop(db);
    left
}

fn open(fs: &SimFs) -> Db {
    sim_options(fs).memtable_bytes(4096).open(DIR).unwrap()
}

/// What stands for everything that there is, keyspace by keyspace.
fn everything(db: &Db) -> [Digest; 2] {
    [db.snapshot(), db.keyspace("aligned").unwrap().snapshot()].map(|snapshot| snapshot.digest().unwrap())
}

/// The same for one who only reads.
fn found(fs: &SimFs) -> [Digest; 2] {
    everything(&sim_options(fs).read_only(true).open(DIR).unwrap())
}

#[test]
fn a_log_is_copied_and_not_sorted() {
    let left = left();
    let before = (names(&left, ".wal"), names(&left, ".sst"), found(&left));
    assert!(before.0.len() >= 2, "{:?}", before.0);
    let db = open(&left);
    assert!(!db.recovery_report().clean);
    assert_eq!(db.recovery_report().segments, before.0.len());
    assert_eq!(names(&left, ".sst"), before.1, "no table is made of it");
    let copies = names(&left, ".wal");
    assert_eq!(copies.len(), before.0.len());
    assert!(copies.first() > before.0.last(), "{copies:?} for {:?}", before.0);
    assert_eq!(everything(&db), before.2);
    // The power goes, at once and after more has been written.
    assert_eq!(found(&left.power_cut(1)), before.2, "it is durable before it is shown");
    db.write_with(WriteBatch::new().insert("more", "of it"), Durability::Sync).unwrap();
    let later = left.power_cut(2);
    let reopened = open(&later);
    assert_eq!(reopened.get("more").unwrap().unwrap(), "of it");
    reopened.remove("more").unwrap();
    assert_eq!(everything(&reopened), before.2);
    drop((db, reopened));
    // And after a close nothing is copied any more.
    open(&left).close().unwrap();
    let closed = names(&left, ".wal");
    let db = open(&left);
    assert!(db.recovery_report().clean);
    assert_eq!(names(&left, ".wal"), closed);
    db.remove("more").unwrap();
    assert_eq!(everything(&db), before.2);
    assert!(db.verify().is_ok());
}

/// Whatever becomes of the copies, the log that they were made from is read to the same end, by each reader; and what it has
/// lost is told as it was, without them.
#[test]
fn an_open_that_is_cut_off_is_repeated() {
    // What is there now, no further loss of power takes.
    let left = left().power_cut(3);
    // Behind it, something of a torn group.
    let last = names(&left, ".wal").pop().unwrap();
    change(&left, &last, |bytes| {
        bytes.resize(bytes.len().max(200), 0);
        let end = bytes.len();
        bytes[end - 8..].fill(7);
    });
    let before = found(&left);
    let dropped = sim_options(&left).read_only(true).open(DIR).unwrap().recovery_report().dropped.clone();
    assert!(dropped.is_some());
    let lines = second_reader(&left).map(|second| format!("{second:?}"));
    let (mut repeated, mut done) = (0, false);
    for after in 1.. {
        let disk = left.kill();
        disk.inject(Fault::Halt { after });
        let opened = sim_options(&disk).memtable_bytes(4096).open(DIR);
        done |= opened.is_ok() && disk.operations() < after;
        for seed in 0..3 {
            let again = if seed == 0 { disk.kill() } else { disk.power_cut(after * 10 + seed) };
            let what = format!("halted at {after}, seed {seed}");
            assert_eq!(found(&again), before, "{what}");
            if seed == 0 && after % 4 == 0 {
                assert_eq!(second_reader(&again).map(|second| format!("{second:?}")), lines, "{what}: second reader");
            }
            let reader = sim_options(&again).read_only(true).open(DIR).unwrap();
            let report = reader.recovery_report().clone();
            drop(reader);
            if !report.clean {
                repeated += 1;
                let told = report.dropped.as_ref().map(|tail| (tail.offset, tail.bytes));
                assert_eq!(told, dropped.as_ref().map(|tail| (tail.offset, tail.bytes)), "{what}");
            }
            let db = open(&again);
            assert_eq!(everything(&db), before, "{what}");
            // What is left of the attempt goes with the first edit.
            let segments = names(&again, ".wal").len();
            db.flush().unwrap();
            assert!(segments <= names(&left, ".wal").len(), "{what}: {segments}");
            assert_eq!(everything(&db), before, "{what}");
        }
        if done {
            break;
        }
    }
    assert!(repeated > 20, "{repeated}");
    assert!(lines.is_none_or(|lines| lines.starts_with("Lines")));
}

/// An error of the disk fails the open, and leaves the old log as it was, and nothing beside it.
#[test]
fn an_error_leaves_the_old_log_alone() {
    let left = left();
    let before = image(&left);
    for after in 1.. {
        let disk = left.kill();
        disk.inject(Fault::Error { after, kind: ErrorKind::StorageFull });
        let opened = sim_options(&disk).memtable_bytes(4096).open(DIR);
        let Err(_) = opened else {
            if disk.operations() < after {
                break;
            }
            continue;
        };
        // The new log is there as soon as CURRENT names a manifest that knows it, the old one until then.
        let now = image(&disk);
        let current = |image: &[(String, Vec<u8>)]| image.iter().find(|(name, _)| name == "CURRENT").cloned();
        let stays = |file: &(String, Vec<u8>)| !file.0.contains(".wal") || now.contains(file);
        assert!(current(&now) != current(&before) || before.iter().all(stays), "{after}");
        assert_eq!(found(&disk), found(&left), "{after}");
    }
    // A disk that is full for good.
    let disk = left.kill();
    disk.remove(&path("RESERVE"));
    disk.set_capacity(Some(disk.space() + 1000));
    let e = sim_options(&disk).memtable_bytes(4096).open(DIR).unwrap_err();
    assert_eq!(std::io::Error::from(e).kind(), ErrorKind::StorageFull);
    assert_eq!(image(&disk), before);
    disk.set_capacity(None);
    assert_eq!(found(&disk), found(&left));
}
