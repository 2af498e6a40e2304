//! Work beside the callers: backpressure, failures that pass, ends that do not wait.

use std::io::ErrorKind as IoErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use maplsm::{
    CompactionReason, CompactionStats, Db, Durability, Error, ErrorKind, Fault, KeyspaceOptions, Options, SimFs,
    Verdict, WriteBatch,
};

use crate::support::{Gate, sim_options, until};

fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn fill(db: &Db, numbers: std::ops::Range<u64>) {
    for number in numbers {
        db.insert(key(number), number.to_le_bytes()).unwrap();
    }
}

fn check(db: &Db, count: u64) {
    for number in 0..count {
        assert_eq!(db.get(key(number)).unwrap().as_deref(), Some(&number.to_le_bytes()[..]), "{number}");
    }
    assert_eq!(db.iter().count() as u64, count);
}

/// A disk that is full for a while delays everything and loses nothing.
#[test]
fn a_full_disk_is_reported_to_writers_and_forgotten_once_there_is_room() {
    let fs = SimFs::new();
    let mut options = Options::new();
    options.file_system(fs.clone()).durability(Durability::Buffered).memtable_entries(Some(100)).background_threads(2);
    let db = options.open("/db").unwrap();
    fill(&db, 0..150);
    db.wait_for_background().unwrap();
    // Every append of the flush fails until it has been tried often enough to be reported.
    for _ in 0..40 {
        fs.inject(Fault::Error { after: 1, kind: IoErrorKind::StorageFull });
    }
    let flush = db.flush();
    assert!(flush.is_err() || db.stats().frozen_memtables == 0);
    // Whatever the faults have met since: they pass, and the store goes on by itself.
    let start = Instant::now();
    loop {
        match db.wait_for_background() {
            Ok(()) if db.insert(b"after", b"wards").is_ok() => break,
            Ok(()) | Err(Error::Background(_) | Error::Io(_)) => {}
            Err(Error::Poisoned(_)) => {
                // A fault in a sync of the log or the manifest: that takes a new open.
                drop(db);
                let db = options.open("/db").unwrap();
                check(&db, 150);
                return;
            }
            Err(e) => panic!("{e}"),
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it does not recover");
        std::thread::sleep(Duration::from_millis(20));
    }
    db.remove(b"after").unwrap();
    check(&db, 150);
}

#[test]
fn a_write_that_must_not_wait_is_refused_while_there_is_debt() {
    let fs = SimFs::new();
    let db = sim_options(&fs).memtable_entries(Some(10)).open("/db").unwrap();
    let mut refused = 0;
    for number in 0..100u64 {
        match db.try_write(WriteBatch::new().insert(key(number), number.to_le_bytes())) {
            Ok(()) => {}
            Err(e @ Error::WouldBlock) => {
                assert_eq!(e.kind(), ErrorKind::Busy);
                refused += 1;
                assert!(db.get(key(number)).unwrap().is_none() && db.stats().write_pressure > 0.0);
                db.maintain().unwrap();
                db.try_write(WriteBatch::new().insert(key(number), number.to_le_bytes())).unwrap();
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!(refused > 1, "{refused}");
    check(&db, 100);
}

/// A filter that can be told to be slow holds a compaction up; nothing waits for that.
#[test]
fn closing_cancels_a_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let entered = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&entered);
    let mut options = Options::new();
    options.durability(Durability::Buffered).background_threads(1).compaction_filter(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(20));
        Verdict::Keep
    });
    let db = options.open(dir.path().join("db")).unwrap();
    let mut batch = WriteBatch::new();
    for number in 0..200_000 {
        batch.insert(key(number), number.to_le_bytes());
    }
    db.write(&batch).unwrap();
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| db.compact());
        while entered.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let start = Instant::now();
        db.close().unwrap();
        // 4,096 entries of up to 100 us each, where the whole takes 20 s.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(matches!(compaction.join().unwrap(), Err(Error::Closed)));
    });
    drop(db);
    let db = Options::new().open(dir.path().join("db")).unwrap();
    assert!(db.recovery_report().clean);
    check(&db, 200_000);
    assert!(db.verify().is_ok());
}

#[test]
fn a_filter_removes_what_no_snapshot_needs() {
    let fs = SimFs::new();
    let db = sim_options(&fs)
        .compaction_filter(|entry| if entry.value[0] % 2 == 0 { Verdict::Remove } else { Verdict::Keep })
        .open("/db")
        .unwrap();
    fill(&db, 0..100);
    let snapshot = db.snapshot();
    fill(&db, 0..100);
    db.compact().unwrap();
    assert_eq!(snapshot.iter().count(), 100, "a snapshot keeps what it sees");
    drop(snapshot);
    db.compact().unwrap();
    assert_eq!(db.iter().count(), 50);
    assert!(db.get(key(4)).unwrap().is_none() && db.get(key(5)).unwrap().is_some());
    assert_eq!(db.stats().tables.iter().map(|table| table.entries).sum::<u64>(), 50);
    assert!(db.verify().is_ok());
}

#[test]
fn a_filter_that_panics_is_an_error_until_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let angry = Arc::new(AtomicBool::new(true));
    let is_angry = Arc::clone(&angry);
    let mut options = Options::new();
    options
        .durability(Durability::Buffered)
        .memtable_entries(Some(50))
        .l0_tables(2)
        .level_bytes_base(4 << 10)
        .compaction_filter(move |_| {
            assert!(!is_angry.load(Ordering::Relaxed), "on purpose");
            Verdict::Keep
        });
    let db = options.open(dir.path().join("db")).unwrap();
    fill(&db, 0..60);
    let error = db.compact().unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    // In the background it fails as well, again and again, until somebody hears of it.
    let start = Instant::now();
    let mut number = 60;
    let reported = loop {
        match db.insert(key(number), number.to_le_bytes()) {
            Ok(()) => number += 1,
            Err(e) => break e,
        }
        assert!(start.elapsed() < Duration::from_secs(60), "nobody hears of it: {:?}", db.stats());
    };
    assert_eq!(reported.kind(), ErrorKind::Background, "{reported}");
    check(&db, number);
    // Whoever waits when the cause has ended hears of what fails from now on only.
    angry.store(false, Ordering::Relaxed);
    db.wait_for_background().unwrap();
    db.compact().unwrap();
    fill(&db, number..number + 100);
    check(&db, number + 100);
}

/// A panic in the middle of a flush, or where the log gets its mark, leaves nobody knows what: no more writes, reads go on,
/// and the next open has everything.
#[test]
fn a_panic_of_a_background_thread_is_the_end_of_writing_and_of_nothing_else() {
    for entries in [20, 1000] {
        let fs = SimFs::new();
        let mut options = sim_options(&fs);
        let db = options.memtable_entries(Some(entries)).background_threads(1).open("/db").unwrap();
        fs.watch(|_| {
            assert!(std::thread::current().name().is_none_or(|name| !name.starts_with("maplsm")), "on purpose");
        });
        let start = Instant::now();
        let mut number = 0;
        let refused = loop {
            match db.insert(key(number), number.to_le_bytes()) {
                Ok(()) => number += 1,
                Err(e) => break e,
            }
            // So long that the log gets its mark.
            if number > 50 {
                std::thread::sleep(Duration::from_millis(200));
            }
            assert!(start.elapsed() < Duration::from_secs(60), "nobody hears of it");
        };
        assert!(matches!(&refused, Error::Poisoned(cause) if cause.to_string().contains("panicked")), "{refused}");
        check(&db, number);
        check(&options.file_system(fs.kill()).open("/db").unwrap(), number);
    }
}

/// What a snapshot keeps from being dropped can be seen, and goes with it.
#[test]
fn stats_show_what_snapshots_keep() {
    let db = sim_options(&SimFs::new()).durability(Durability::Buffered).open("/db").unwrap();
    fill(&db, 0..1000);
    let snapshot = db.snapshot();
    let taken_at = db.stats().last_sequence;
    fill(&db, 0..1000);
    db.compact().unwrap();
    let stats = db.stats();
    assert_eq!((stats.snapshots, stats.oldest_snapshot), (1, Some(taken_at)));
    let in_tables = stats.keyspaces[0].bytes;
    assert!(stats.hidden_bytes.abs_diff(in_tables / 2) < in_tables / 10, "{} of {in_tables}", stats.hidden_bytes);
    drop(snapshot);
    db.compact().unwrap();
    assert_eq!((db.stats().oldest_snapshot, db.stats().hidden_bytes), (None, 0));
    check(&db, 1000);
}

/// The end of a reader is enough: nobody has to call anything.
#[test]
fn what_a_reader_has_kept_goes_when_it_ends() {
    let fs = SimFs::new();
    let db = sim_options(&fs).background_threads(1).memtable_entries(Some(200)).open("/db").unwrap();
    // Files that are no part of the database any more.
    fill(&db, 0..1000);
    db.compact().unwrap();
    let mut iter = db.iter();
    iter.next().unwrap().unwrap();
    fill(&db, 0..1000);
    db.compact().unwrap();
    assert!(db.stats().obsolete_bytes > 0);
    // So long that a thread has nothing more to look for by itself.
    std::thread::sleep(Duration::from_secs(3));
    drop(iter);
    until("gone", || db.stats().obsolete_bytes == 0);
    // Versions that nobody else sees.
    let snapshot = db.snapshot();
    fill(&db, 0..1000);
    db.compact().unwrap();
    assert!(db.stats().hidden_bytes > 0);
    std::thread::sleep(Duration::from_secs(3));
    drop(snapshot);
    until("merged", || db.stats().hidden_bytes == 0 && db.stats().obsolete_bytes == 0);
    check(&db, 1000);
}

/// Loads of a few entries that do not overlap are moved to a level as they are; small neighbours are joined there, and `compact`
/// leaves full tables.
#[test]
fn small_loads_do_not_leave_a_table_each() {
    const LOADS: u32 = 600;
    let fs = SimFs::new();
    let db = sim_options(&fs).open("/db").unwrap();
    let entries =
        |load: u32| (0..10u32).map(move |entry| ([load.to_be_bytes(), entry.to_be_bytes()].concat(), [7; 30]));
    let check = |most: usize| {
        let stats = db.stats();
        assert!(stats.tables.len() <= most, "{} tables", stats.tables.len());
        let expected = (0..LOADS).flat_map(entries).map(|(key, value)| (key, value.to_vec()));
        assert!(db.iter().map(|entry| entry.unwrap()).map(|e| (e.key().to_vec(), e.value().to_vec())).eq(expected));
    };
    for load in 0..LOADS {
        db.ingest(entries(load)).unwrap();
    }
    check(LOADS as usize);
    // A table that has been joined is one of eight again, and so on: fewer than eight of each size are left.
    db.maintain().unwrap();
    check(4 * 7);
    db.compact().unwrap();
    check(1);
    let before = db.stats().compactions;
    db.compact().unwrap();
    assert_eq!(db.stats().compactions, before, "full tables stay as they are");
    assert!(db.verify().is_ok());
}

/// What is due, what it is for, and what is under way can be asked for, and goes when it is done.
#[test]
fn statistics_say_what_is_due_and_what_is_under_way() {
    let (gate, mut options) = (Gate::default(), sim_options(&SimFs::new()));
    let held = gate.clone();
    options.l0_tables(3).large_value_bytes(None).compaction_filter(move |_| {
        held.pass();
        Verdict::Keep
    });
    let db = options.open("/db").unwrap();
    db.create_keyspace("little", &KeyspaceOptions::new()).unwrap().insert("a", "b").unwrap();
    for round in 1..=4u32 {
        // So much that it is worth tables of its own.
        let value = vec![7; 1 << 20];
        (0..2u32).for_each(|number| db.insert(number.to_be_bytes(), &value).unwrap());
        db.flush().unwrap();
        let (stats, scores) = (db.stats(), f64::from(round) / 3.0);
        assert_eq!(stats.keyspaces[0].level_scores, [scores], "{:?}", stats.keyspaces);
        let by_count = stats.compactions_due.iter().find(|due| due.reason == CompactionReason::Level0Tables);
        assert_eq!(by_count.is_some(), round >= 3, "{:?}", stats.compactions_due);
    }
    let due = db.stats().compactions_due;
    let by_count = &due[0];
    assert_eq!((by_count.reason, by_count.level, by_count.output_level), (CompactionReason::Level0Tables, 0, 1));
    assert!(by_count.tables == 4 && by_count.bytes > 8 << 20 && by_count.score > 1.3, "{by_count:?}");
    assert_eq!(by_count.keyspaces, ["default"]);
    assert!(db.stats().compactions_running.is_empty());
    thread::scope(|scope| {
        let compaction = scope.spawn(|| db.maintain());
        gate.wait();
        let running: Vec<CompactionStats> = db.stats().compactions_running;
        gate.open();
        compaction.join().unwrap().unwrap();
        assert_eq!(running, due[..1]);
    });
    let stats = db.stats();
    assert!(stats.compactions_due.is_empty() && stats.compactions_running.is_empty(), "{stats:?}");
    assert!(stats.keyspaces[0].level_scores.iter().all(|score| *score < 1.0), "{:?}", stats.keyspaces);
}
