//! Large values, which stand apart from their entries.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use maplsm::{Db, Durability, FileSystem, IoMode, KeyspaceOptions, Options, SimFs, Verdict, WriteBatch};

use crate::support::{DIR, contents, load, names, sim_options};

const VALUE: usize = 1000;

fn key(i: usize) -> Vec<u8> {
    format!("key{i:05}").into_bytes()
}

fn value(i: usize, round: usize) -> Vec<u8> {
    let mut value = format!("{i} {round} ").into_bytes();
    value.resize(VALUE + i % 16, u8::try_from(i * 7 + round).unwrap_or(b'v'));
    value
}

fn options(fs: &SimFs) -> Options {
    let mut options = sim_options(fs);
    options.large_value_bytes(Some(256)).memtable_bytes(256 << 10).table_bytes(64 << 10).level_bytes_base(256 << 10);
    options.l0_tables(4);
    options
}

fn write(db: &Db, keys: impl Iterator<Item = usize>, round: usize) {
    load(db, keys.map(|i| (key(i), value(i, round))), 16);
}

fn bytes_of(fs: &SimFs, ending: &str) -> u64 {
    let files = fs.files(Path::new(DIR)).into_iter();
    files.filter(|(name, _)| name.ends_with(ending)).map(|(_, length)| length).sum()
}

fn check(db: &Db, keys: usize, round: impl Fn(usize) -> usize) {
    for i in 0..keys {
        assert!(db.get(key(i)).unwrap().unwrap() == value(i, round(i)), "key {i}");
    }
    let mut iter = db.iter();
    for i in 0..keys {
        let entry = iter.next().unwrap().unwrap();
        assert!((entry.key(), entry.value()) == (&key(i)[..], &value(i, round(i))[..]), "key {i}");
    }
    assert!(iter.next().is_none());
    let mut cursor = db.cursor();
    let mut more = cursor.seek_last().unwrap();
    for i in (0..keys).rev() {
        assert!(more && cursor.value() == value(i, round(i)), "key {i}");
        more = cursor.prev().unwrap();
    }
    let report = db.verify();
    assert!(report.is_ok(), "{report:?}");
}

/// Without mappings, each read reads and verifies its value, and no other one.
#[test]
fn values_are_read_one_by_one_and_verified_each_time() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("db");
    let mut options = options(&SimFs::new());
    options.file_system(FileSystem::disk()).io_mode(IoMode::Read);
    let db = options.open(&path).unwrap();
    write(&db, 0..300, 1);
    let kept = db.get(key(7)).unwrap();
    db.compact().unwrap();
    write(&db, (0..300).step_by(2), 2);
    db.compact().unwrap();
    check(&db, 300, |i| 2 - i % 2);
    db.close().unwrap();
    assert_eq!(kept.as_deref(), Some(&value(7, 1)[..]));

    let mapped = options.clone().io_mode(IoMode::Map).open(&path).unwrap();
    check(&mapped, 300, |i| 2 - i % 2);
    mapped.close().unwrap();

    let db = options.open(&path).unwrap();
    let (first, last) = (key(1), key(299));
    assert!(db.get(&first).unwrap().is_some() && db.get(&last).unwrap().is_some());
    let files = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|e| e == "val"));
    let holding = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(first.len()).position(|window| window == first)?;
        Some((path, bytes, at))
    };
    let (file, mut bytes, at) = files.into_iter().find_map(holding).unwrap();
    bytes[at + 100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert!(db.get(&first).unwrap_err().is_corruption(), "what was read before is verified again");
    assert!(db.iter().any(|entry| entry.is_err()) && !db.verify().is_ok());
    assert!(db.get(&last).unwrap().is_some(), "another value is read without it");
    bytes[at + 100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    check(&db, 300, |i| 2 - i % 2);
}

#[test]
fn values_are_written_once_and_read_in_every_way() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    write(&db, 0..1500, 0);
    db.insert("small", "in its table").unwrap();
    db.remove("small").unwrap();
    db.compact().unwrap();
    check(&db, 1500, |_| 0);
    let (in_tables, apart) = (bytes_of(&fs, ".sst"), bytes_of(&fs, ".val"));
    assert!(in_tables < 150 << 10 && apart > 1500 << 10, "{in_tables} {apart}");
    let files = db.stats().value_files;
    assert!(files.iter().all(|file| (file.live_values, file.garbage_bytes) == (file.values, 0)), "{files:?}");
    assert_eq!(files.iter().map(|file| file.values).sum::<u64>(), 1500);
    // A value is where a processor likes to have it.
    assert!(db.get(key(7)).unwrap().unwrap().as_ptr().addr().is_multiple_of(16));
    // A further compaction leaves them alone.
    let before: Vec<String> = names(&fs, ".val");
    write(&db, 1500..1600, 0);
    db.compact().unwrap();
    assert!(before.iter().all(|name| names(&fs, ".val").contains(name)));
    // A slice outlives everything.
    let slice = db.get(key(3)).unwrap().unwrap();
    for round in 1..3 {
        write(&db, 0..1600, round);
        db.compact().unwrap();
    }
    assert!(before.iter().all(|name| !names(&fs, ".val").contains(name)));
    check(&db, 1600, |_| 2);
    db.close().unwrap();
    assert!(slice == value(3, 0));
    let db = options(&fs).large_value_bytes(None).open(DIR).unwrap();
    check(&db, 1600, |_| 2);
}

/// Bytes of live values with their keys, without checksums.
fn live(keys: usize) -> u64 {
    (0..keys).map(|i| (48 + value(i, 0).len()).next_multiple_of(16) as u64).sum()
}

#[test]
fn garbage_takes_no_more_than_its_share() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    write(&db, 0..2000, 0);
    db.wait_for_background().unwrap();
    for round in 1..6usize {
        // Half of them, in no order.
        write(&db, (0..2000).map(|i| (i * 1237) % 2000).filter(|i| (i / 3 + round).is_multiple_of(2)), round);
        db.wait_for_background().unwrap();
        let apart = bytes_of(&fs, ".val");
        // A quarter of what tables refer to may be garbage, and that may be a quarter more than there are keys.
        assert!(apart <= live(2000) * 25 / 16 + (8 << 10), "round {round}: {apart} for {}", live(2000));
        db.compact().unwrap();
        let apart = bytes_of(&fs, ".val");
        assert!(apart <= live(2000) * 101 / 100, "round {round}: {apart} for {}", live(2000));
    }
    let last = |i: usize| (1..6usize).rev().find(|round| (i / 3 + round).is_multiple_of(2)).unwrap_or(0);
    check(&db, 2000, last);
    db.remove_range(key(0)..key(1000)).unwrap();
    db.compact().unwrap();
    assert!(bytes_of(&fs, ".val") <= live(1000) * 102 / 100);
    for i in 1000..2000 {
        db.remove(key(i)).unwrap();
    }
    db.compact().unwrap();
    assert_eq!(names(&fs, ".val"), [""; 0]);
}

#[test]
fn while_it_is_busy_a_store_has_as_much_garbage_as_live_values_at_most() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    write(&db, 0..2000, 0);
    for round in 1..8 {
        write(&db, (0..2000).map(|i| (i * 1237) % 2000), round);
        let files = db.stats().value_files;
        let sum = |of: fn(&maplsm::ValueFileStats) -> u64| files.iter().map(of).sum::<u64>();
        let (live, garbage) = (sum(|file| file.live_bytes), sum(|file| file.garbage_bytes));
        // Work is done in writes here, so some may be due.
        assert!(garbage <= live * 3 / 2, "round {round}: {garbage} {live}");
    }
    check(&db, 2000, |_| 7);
}

#[test]
fn snapshots_and_iterators_keep_what_they_see() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    write(&db, 0..300, 0);
    db.flush().unwrap();
    let snapshot = db.snapshot();
    let borrowed = snapshot.get_ref(key(5)).unwrap().unwrap();
    let mut iter = db.iter();
    assert!(iter.next().unwrap().unwrap().value() == value(0, 0));
    for round in 1..4 {
        write(&db, 0..300, round);
        db.compact().unwrap();
    }
    assert!(*borrowed == value(5, 0));
    for i in 0..300 {
        assert!(snapshot.get(key(i)).unwrap().unwrap() == value(i, 0), "{i}");
    }
    assert_eq!(snapshot.iter().flatten().count(), 300);
    for i in 1..300 {
        assert!(iter.next().unwrap().unwrap().value() == value(i, 0), "{i}");
    }
    let entry = iter.next_back();
    assert!(entry.is_none());
    drop((iter, snapshot));
    db.compact().unwrap();
    check(&db, 300, |_| 3);
    assert!(bytes_of(&fs, ".val") <= live(300) * 101 / 100);
}

#[test]
fn a_crash_loses_nothing_and_leaves_nothing() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    write(&db, 0..500, 0);
    db.sync().unwrap();
    let copy = fs.power_cut(4);
    drop(db);
    let db = options(&copy).open(DIR).unwrap();
    assert!(!db.recovery_report().clean);
    check(&db, 500, |_| 0);
    db.flush().unwrap();
    check(&db, 500, |_| 0);
    let stats = db.stats();
    assert_eq!((stats.memtable_entries, stats.value_files.iter().map(|file| file.values).sum::<u64>()), (0, 500));
    // A file that nobody refers to goes at the next open that writes.
    copy.write(&Path::new(DIR).join("000001.val"), b"left behind");
    db.close().unwrap();
    let db = options(&copy).open(DIR).unwrap();
    write(&db, 0..1, 0);
    db.flush().unwrap();
    assert!(!names(&copy, ".val").contains(&"000001.val".to_owned()));
    check(&db, 500, |_| 0);
}

#[test]
fn keyspaces_have_their_own_thresholds_and_share_files() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    let apart = db.create_keyspace("apart", KeyspaceOptions::new().large_value_bytes(Some(64))).unwrap();
    let inside = db.create_keyspace("inside", KeyspaceOptions::new().large_value_bytes(None)).unwrap();
    for i in 0..40 {
        let mut batch = WriteBatch::new();
        batch.insert(key(i), value(i, 0));
        batch.insert_into(&apart, key(i), &value(i, 1)[..100]).insert_into(&inside, key(i), value(i, 2));
        db.write(&batch).unwrap();
    }
    db.flush().unwrap();
    let stats = db.stats();
    assert_eq!(stats.value_files.iter().map(|file| file.values).collect::<Vec<_>>(), [80]);
    let of = |name: &str| stats.keyspaces.iter().find(|keyspace| keyspace.name == name).unwrap();
    assert_eq!((of("apart").large_value_bytes, of("inside").large_value_bytes), (Some(64), None));
    assert_eq!((of("inside").value_bytes, of("default").value_bytes > 0), (0, true));
    db.drop_keyspace("apart").unwrap();
    db.close().unwrap();

    let db = options(&fs).open(DIR).unwrap();
    assert_eq!(db.stats().value_files[0].live_values, 40);
    let inside = db.keyspace("inside").unwrap();
    assert!(inside.get(key(7)).unwrap().unwrap() == value(7, 2));
    check(&db, 40, |_| 0);
    db.compact().unwrap();
    check(&db, 40, |_| 0);
    assert_eq!(db.stats().value_files[0].garbage_bytes, 0);
    for i in 0..40 {
        db.remove(key(i)).unwrap();
    }
    db.compact().unwrap();
    assert_eq!(names(&fs, ".val"), [""; 0]);
    assert!(inside.get(key(7)).unwrap().unwrap() == value(7, 2));
}

#[test]
fn a_filter_is_shown_the_values() {
    let fs = SimFs::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let mut options = options(&fs);
    options.compaction_filter(move |entry| {
        counter.fetch_add(1, Ordering::Relaxed);
        if entry.value.starts_with(b"1") { Verdict::Remove } else { Verdict::Keep }
    });
    let db = options.open(DIR).unwrap();
    write(&db, 0..200, 0);
    db.compact().unwrap();
    assert!(asked.load(Ordering::Relaxed) >= 200);
    assert_eq!(contents(&db).len(), 200 - 111);
    let live: u64 = db.stats().value_files.iter().map(|file| file.live_values).sum();
    assert_eq!((live, db.stats().value_files.iter().map(|file| file.garbage_bytes).sum::<u64>()), (89, 0));
}

#[test]
fn transactions_read_and_write_large_values() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    write(&db, 0..100, 0);
    db.flush().unwrap();
    db.transact(|transaction| {
        let old = transaction.get(key(5))?.unwrap();
        assert!(old == value(5, 0));
        transaction.insert(key(5), value(5, 1))?;
        assert_eq!(
            transaction.iter().filter(|entry| entry.as_ref().is_ok_and(|e| e.value().len() >= VALUE)).count(),
            100
        );
        Ok(())
    })
    .unwrap();
    let transaction = db.transaction();
    assert!(transaction.get(key(6)).unwrap().is_some());
    transaction.insert("other", "x").unwrap();
    write(&db, 6..7, 2);
    db.flush().unwrap();
    assert!(matches!(transaction.commit(), Err(maplsm::Error::Conflict)));
    check(&db, 100, |i| usize::from(i == 5) + 2 * usize::from(i == 6));
}

#[test]
fn values_of_every_length_around_the_threshold() {
    let fs = SimFs::new();
    let mut options = options(&fs);
    options.large_value_bytes(Some(64));
    let db = options.open(DIR).unwrap();
    let lengths: Vec<usize> = (0..140).chain([4000, 4096, 65_537, 3 << 20]).collect();
    let key = |length: &usize| format!("{length:08}");
    for length in &lengths {
        db.write_with(WriteBatch::new().insert(key(length), vec![b'x'; *length]), Durability::Buffered).unwrap();
    }
    for round in 0..2 {
        for length in &lengths {
            assert!(db.get(key(length)).unwrap().unwrap() == vec![b'x'; *length], "{length} in round {round}");
        }
        assert_eq!(db.iter().map(|entry| entry.unwrap().value().len()).collect::<Vec<_>>(), lengths);
        db.compact().unwrap();
    }
    let apart: u64 = db.stats().value_files.iter().map(|file| file.values).sum();
    assert_eq!(apart, lengths.iter().filter(|length| **length >= 64).count() as u64);
    assert!(db.verify().is_ok());
    assert!(options.large_value_bytes(Some(63)).open("/other").is_err());
}

#[test]
fn loaded_values_stand_apart_as_well() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    write(&db, 0..100, 0);
    let sorted = |keys: std::ops::Range<usize>| keys.map(|i| (key(i), value(i, 1)));
    db.ingest(sorted(50..400)).unwrap();
    check(&db, 400, |i| usize::from(i >= 50));
    assert!(bytes_of(&fs, ".sst") < 100 << 10);
    // What is refused leaves nothing behind.
    let before = names(&fs, ".val");
    assert!(db.ingest(sorted(0..200).chain(sorted(100..200))).is_err());
    assert_eq!(names(&fs, ".val"), before);
    write(&db, 60..70, 2);
    db.compact().unwrap();
    check(&db, 400, |i| if (60..70).contains(&i) { 2 } else { usize::from(i >= 50) });
    assert!(bytes_of(&fs, ".val") <= live(400) * 101 / 100);
    db.close().unwrap();
    let db = options(&fs).open(DIR).unwrap();
    check(&db, 400, |i| if (60..70).contains(&i) { 2 } else { usize::from(i >= 50) });
}

#[test]
fn a_checkpoint_takes_value_files_along() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    write(&db, 0..300, 0);
    db.flush().unwrap();
    write(&db, 100..200, 1);
    db.checkpoint("/copy").unwrap();
    write(&db, 0..300, 2);
    db.compact().unwrap();
    check(&db, 300, |_| 2);
    let round = |i: usize| usize::from((100..200).contains(&i));
    let copy = options(&fs).open("/copy").unwrap();
    check(&copy, 300, round);
    copy.compact().unwrap();
    check(&copy, 300, round);
    // What the checkpoint had from the log stands apart as well now.
    let live: u64 = copy.stats().value_files.iter().map(|file| file.live_values).sum();
    assert_eq!(live, 300);
}

#[test]
fn a_compaction_brings_values_to_where_they_belong() {
    let fs = SimFs::new();
    let db = options(&fs).large_value_bytes(None).open(DIR).unwrap();
    write(&db, 0..300, 0);
    db.flush().unwrap();
    write(&db, 100..200, 1);
    db.flush().unwrap();
    assert_eq!(db.stats().value_files, []);
    db.close().unwrap();
    let db = options(&fs).open(DIR).unwrap();
    db.compact().unwrap();
    assert_eq!(db.stats().value_files.iter().map(|file| file.live_values).sum::<u64>(), 300);
    check(&db, 300, |i| usize::from((100..200).contains(&i)));
}

#[test]
fn a_repair_keeps_the_values_that_can_be_read() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    write(&db, 0..200, 0);
    db.compact().unwrap();
    db.close().unwrap();
    let file = Path::new(DIR).join(&names(&fs, ".val")[0]);
    let mut bytes = fs.read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs.write(&file, &bytes);
    let report = maplsm::repair(DIR, &options(&fs)).unwrap();
    assert!(report.rebuilt && report.has_losses(), "{report:?}");
    assert_eq!(report.findings[0].problem.corruption().unwrap().path, file);
    let db = options(&fs).open(DIR).unwrap();
    assert!(db.verify().is_ok());
    let left = contents(&db);
    assert!((190..200).contains(&left.len()), "{}", left.len());
    assert!((0..200).all(|i| left.get(&key(i)).is_none_or(|found| *found == value(i, 0))));
    db.close().unwrap();
    // Without the manifest, the files tell all of it.
    fs.remove(&Path::new(DIR).join(&names(&fs, ".manifest")[0]));
    maplsm::repair(DIR, &options(&fs)).unwrap();
    assert_eq!(contents(&options(&fs).open(DIR).unwrap()), left);
}
