//! Range tombstones: what they hide, from whom, and what becomes of it.

use std::ops::Bound;

use maplsm::{Db, Options, SimFs, WriteBatch};

use crate::support::sim_options;

fn key(number: u32) -> String {
    format!("key{number:05}")
}

fn keys(db: &Db) -> Vec<String> {
    db.iter().map(|entry| String::from_utf8(entry.unwrap().key().to_vec()).unwrap()).collect()
}

fn expected(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(key).collect()
}

/// `count` keys with values of 100 bytes, in tables below level 0.
fn filled(fs: &SimFs, count: u32, options: &mut Options) -> Db {
    let db = options.file_system(fs.clone()).open("/db").unwrap();
    for number in 0..count {
        db.insert(key(number), [7; 100]).unwrap();
    }
    db.compact().unwrap();
    db
}

#[test]
fn bounds_are_those_of_the_range() {
    let ranges: [(Bound<u32>, Bound<u32>, &[u32]); 7] = [
        (Bound::Included(2), Bound::Excluded(4), &[0, 1, 4, 5]),
        (Bound::Included(2), Bound::Included(4), &[0, 1, 5]),
        (Bound::Excluded(2), Bound::Excluded(4), &[0, 1, 2, 4, 5]),
        (Bound::Excluded(2), Bound::Included(4), &[0, 1, 2, 5]),
        (Bound::Unbounded, Bound::Excluded(2), &[2, 3, 4, 5]),
        (Bound::Excluded(3), Bound::Unbounded, &[0, 1, 2, 3]),
        (Bound::Included(4), Bound::Excluded(2), &[0, 1, 2, 3, 4, 5]),
    ];
    for (start, end, left) in ranges {
        for flushed in [false, true] {
            let fs = SimFs::new();
            let db = filled(&fs, 6, &mut sim_options(&fs));
            db.remove_range((start.map(key), end.map(key))).unwrap();
            if flushed {
                db.flush().unwrap();
            }
            let left = expected(left.iter().copied());
            assert_eq!(keys(&db), left, "{start:?} {end:?} flushed: {flushed}");
            for number in 0..6 {
                assert_eq!(db.contains_key(key(number)).unwrap(), left.contains(&key(number)));
            }
            db.close().unwrap();
            let db = sim_options(&fs).open("/db").unwrap();
            assert_eq!(keys(&db), left);
            assert!(db.verify().is_ok());
        }
    }
}

#[test]
fn a_batch_takes_effect_in_its_order() {
    let fs = SimFs::new();
    let db = filled(&fs, 6, &mut sim_options(&fs));
    db.write(WriteBatch::new().insert(key(2), "lost").remove_range(key(1)..key(5)).insert(key(3), "kept")).unwrap();
    for _ in 0..2 {
        assert_eq!(keys(&db), expected([0, 3, 5].into_iter()));
        assert_eq!(db.get(key(3)).unwrap().unwrap(), "kept");
        db.flush().unwrap();
    }
}

#[test]
fn snapshots_see_what_was_removed_after_them_through_flush_and_compaction() {
    let fs = SimFs::new();
    let db = filled(&fs, 40, sim_options(&fs).table_bytes(4 << 10));
    let before = db.snapshot();
    db.remove_range(key(10)..key(30)).unwrap();
    let between = db.snapshot();
    db.insert(key(20), "again").unwrap();
    db.remove_range(key(15)..).unwrap();
    for round in 0..3 {
        assert_eq!(before.iter().count(), 40, "round {round}");
        assert_eq!(between.iter().count(), 20);
        assert_eq!(between.iter().rev().count(), 20);
        assert_eq!(db.iter().count(), 10);
        assert!(before.get(key(20)).unwrap().is_some() && between.get(key(20)).unwrap().is_none());
        assert_eq!(before.get_ref(key(39)).unwrap().as_deref(), Some(&[7; 100][..]));
        if round == 0 {
            db.flush().unwrap();
        } else {
            db.compact().unwrap();
        }
        assert!(db.verify().is_ok(), "{:?}", db.verify());
    }
    drop((before, between));
    db.compact().unwrap();
    assert_eq!(db.iter().count(), 10);
    let tables = db.stats().tables;
    assert_eq!(tables.iter().map(|table| table.entries).sum::<u64>(), 10, "nothing hidden is left");
}

#[test]
fn tables_inside_the_range_go_without_being_read() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.table_bytes(16 << 10).memtable_bytes(16 << 10).level_bytes_base(64 << 10).background_threads(0);
    let db = filled(&fs, 4000, &mut options);
    let tables = db.stats().tables.len();
    assert!(tables > 12, "{tables} tables");
    let before = db.stats();
    db.remove_range(key(100)..key(3900)).unwrap();
    db.flush().unwrap();
    db.maintain().unwrap();
    let after = db.stats();
    assert!(after.tables.len() < 8, "{} of {tables} tables are left", after.tables.len());
    assert_eq!(after.compacted_bytes, before.compacted_bytes);
    assert_eq!(keys(&db), expected((0..100).chain(3900..4000)));
    db.close().unwrap();
    let db = sim_options(&fs).open("/db").unwrap();
    assert_eq!(keys(&db), expected((0..100).chain(3900..4000)));
    db.compact().unwrap();
    assert_eq!(db.stats().tables.len(), 1);
}

#[test]
fn a_snapshot_keeps_the_tables_that_it_sees() {
    let fs = SimFs::new();
    let db = filled(&fs, 1000, sim_options(&fs).table_bytes(16 << 10).memtable_bytes(16 << 10).background_threads(0));
    let snapshot = db.snapshot();
    let tables = db.stats().tables.len();
    db.remove_range::<&str>(..).unwrap();
    db.flush().unwrap();
    db.maintain().unwrap();
    assert_eq!(db.stats().tables.len(), tables + 1);
    assert_eq!((snapshot.iter().count(), db.iter().count()), (1000, 0));
    drop(snapshot);
    db.maintain().unwrap();
    assert_eq!(db.stats().tables.iter().map(|table| table.entries).sum::<u64>(), 0);
}

#[test]
fn a_removed_stretch_costs_a_scan_little() {
    let fs = SimFs::new();
    let db = filled(&fs, 5000, sim_options(&fs).table_bytes(16 << 10).memtable_bytes(16 << 10));
    db.remove_range(key(10)..=key(4990)).unwrap();
    for range in [key(0)..key(9999), key(5)..key(4995), key(11)..key(4992)] {
        let count = |from: u32, to: u32| (0..10).chain(4991..5000).filter(|n| (from..to).contains(n)).count();
        let bounds = [&range.start, &range.end].map(|key| key[3..].parse().unwrap());
        assert_eq!(db.range(range.clone()).count(), count(bounds[0], bounds[1]));
        assert_eq!(db.range(range).rev().count(), count(bounds[0], bounds[1]));
    }
    let mut cursor = db.cursor();
    assert!(cursor.seek(key(2000)).unwrap());
    assert_eq!(cursor.key(), key(4991).as_bytes());
    assert!(cursor.prev().unwrap());
    assert_eq!(cursor.key(), key(9).as_bytes());
    assert!(cursor.next().unwrap());
    assert_eq!(cursor.key(), key(4991).as_bytes());
}

/// A scan jumps over a removed stretch with the older entries, and stops at newer ones inside of it.
#[test]
fn who_turns_in_a_removed_stretch_comes_back() {
    let fs = SimFs::new();
    let db = filled(&fs, 1000, &mut sim_options(&fs));
    db.remove_range(key(100)..key(900)).unwrap();
    db.flush().unwrap();
    let inside = [300, 301, 500, 899];
    for number in inside {
        db.insert(key(number), "new").unwrap();
    }
    let there: Vec<String> = expected((90..100).chain(inside).chain(900..910));
    let mut cursor = db.cursor();
    // From each entry to each other one, on the way there and back.
    for from in 0..there.len() {
        for to in 0..there.len() {
            assert!(cursor.seek(&there[from]).unwrap());
            let way: Vec<usize> = if from < to { (from + 1..=to).collect() } else { (to..from).rev().collect() };
            for at in &way {
                assert!(if from < to { cursor.next() } else { cursor.prev() }.unwrap());
                assert_eq!(cursor.key(), there[*at].as_bytes(), "from {from} to {to}");
            }
            for at in way.iter().rev().skip(1).chain([&from]).take(way.len()) {
                assert!(if from < to { cursor.prev() } else { cursor.next() }.unwrap());
                assert_eq!(cursor.key(), there[*at].as_bytes(), "back from {to} to {from}");
            }
        }
    }
}

#[test]
fn many_overlapping_ranges_are_as_good_as_their_union() {
    let fs = SimFs::new();
    let db = filled(&fs, 2000, &mut sim_options(&fs));
    for number in 0..900 {
        db.remove_range(key(number)..key(1900 - number)).unwrap();
        db.insert(key(1950), "in between").unwrap();
    }
    for _ in 0..2 {
        assert_eq!(keys(&db), expected(1900..2000));
        assert!(db.get(key(950)).unwrap().is_none());
        db.flush().unwrap();
    }
    assert!(db.verify().is_ok());
}

/// The log of a replicated service in a keyspace of its own, in small tables, with large values apart.
fn replicated_log(fs: &SimFs, entries: u32) -> (Db, maplsm::Keyspace) {
    let mut options = sim_options(fs);
    options.table_bytes(16 << 10).memtable_bytes(16 << 10).level_bytes_base(64 << 10).large_value_bytes(Some(4000));
    let db = options.open("/db").unwrap();
    let log = db.keyspace("log").unwrap();
    for index in 0..entries {
        let length = if index % 50 == 0 { 5000 } else { 100 };
        log.insert(index.to_be_bytes(), vec![7; length]).unwrap();
    }
    log.compact().unwrap();
    db.insert("other", "kept").unwrap();
    db.flush().unwrap();
    (db, log)
}

fn purge(db: &Db, log: &maplsm::Keyspace, upto: u32) {
    db.write(WriteBatch::new().remove_range_from(log, ..=upto.to_be_bytes()).insert("purged", upto.to_be_bytes()))
        .unwrap();
}

fn files(fs: &SimFs, ending: &str) -> usize {
    crate::support::names(fs, ending).len()
}

#[test]
fn a_purged_prefix_is_gone_once_its_removal_is_durable() {
    let fs = SimFs::new();
    let (db, log) = replicated_log(&fs, 1000);
    let before = (files(&fs, ".sst"), files(&fs, ".val"));
    assert!(before.0 > 5 && before.1 > 0, "{before:?}");
    let written = db.stats().compacted_bytes;
    purge(&db, &log, 899);
    // Flushes nothing: the removal stands in the log alone.
    db.maintain().unwrap();
    let flushes = db.stats().flushes;
    let left = files(&fs, ".sst");
    assert!(left <= 3, "{left} tables of {before:?} are left");
    assert_eq!(db.stats().compacted_bytes, written, "tables go as they are");
    assert!(db.stats().log_segments > 0 && db.stats().flushes == flushes);
    assert_eq!(log.iter().count(), 100);

    // After a crash, what is gone and what removed it agree.
    let after = sim_options(&fs.power_cut(1)).open("/db").unwrap();
    let log = after.keyspace("log").unwrap();
    assert_eq!((log.iter().count(), after.get("purged").unwrap().as_deref()), (100, Some(&899u32.to_be_bytes()[..])));
    assert!(after.verify().is_ok() && after.get("other").unwrap().is_some());
}

#[test]
fn a_removal_that_is_not_durable_drops_nothing() {
    let fs = SimFs::new();
    let (db, log) = replicated_log(&fs, 1000);
    let before = (files(&fs, ".sst"), files(&fs, ".val"));
    purge(&db, &log, 999);
    // Looks for covered tables, and finds nothing to do.
    db.wait_for_background().unwrap();
    assert_eq!((files(&fs, ".sst"), files(&fs, ".val")), before);
    let lost = (0..20).find_map(|seed| {
        let db = sim_options(&fs.power_cut(seed)).open("/db").unwrap();
        db.get("purged").unwrap().is_none().then_some(db)
    });
    let lost = lost.expect("a power cut that takes the removal back");
    assert_eq!(
        lost.keyspace("log").unwrap().iter().map(|entry| entry.unwrap().value().len()).sum::<usize>(),
        1000 * 100 + 20 * 4900
    );
    db.sync().unwrap();
    db.wait_for_background().unwrap();
    assert!(files(&fs, ".sst") <= 2 && log.iter().next().is_none());
}

#[test]
fn a_snapshot_keeps_a_purged_prefix() {
    let fs = SimFs::new();
    let (db, log) = replicated_log(&fs, 500);
    let snapshot = db.snapshot().keyspace(&log);
    purge(&db, &log, 499);
    db.maintain().unwrap();
    assert!(files(&fs, ".sst") > 3 && snapshot.iter().count() == 500 && log.iter().count() == 0);
    drop(snapshot);
    db.maintain().unwrap();
    assert!(files(&fs, ".sst") <= 2);
    assert_eq!(files(&fs, ".val"), 0);
}

/// Threads do it by themselves, whatever the durability of the removal.
#[test]
fn a_purged_prefix_goes_without_a_call() {
    for durability in [maplsm::Durability::Sync, maplsm::Durability::Buffered] {
        let fs = SimFs::new();
        replicated_log(&fs, 500).0.close().unwrap();
        let mut options = sim_options(&fs);
        options.background_threads(1).durability(durability);
        let db = options.open("/db").unwrap();
        let log = db.keyspace("log").unwrap();
        purge(&db, &log, 499);
        crate::support::until("purged", || files(&fs, ".sst") <= 2 && files(&fs, ".val") == 0);
        assert!(log.iter().next().is_none());
    }
}
