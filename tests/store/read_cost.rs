//! Level 0 is merged away once readers have paid as much for it as that costs.

use std::time::{Duration, Instant};

use maplsm::{Db, SimFs};

use crate::support::{DIR, load, sim_options};

/// Two tables of level 0, of which the newer one is too small for anything to be due.
fn with_two_tables(db: &Db) {
    for step in [1, 16] {
        load(db, (0..4000u32).step_by(step).map(|i| (i.to_be_bytes(), [7; 20])), 100);
        db.flush().unwrap();
    }
    db.wait_for_background().unwrap();
    assert_eq!(tables(db), [2]);
}

/// The tables on each level.
fn tables(db: &Db) -> Vec<usize> {
    db.stats().levels.iter().map(|level| level.tables).collect()
}

/// Seeks that cost what it costs to compact so many bytes, with one table more than there would be.
fn seeks_for(bytes: u64) -> u64 {
    bytes / (4 * 48)
}

fn seek(db: &Db, times: u64) {
    let mut cursor = db.cursor();
    for number in 0..times {
        let key = u32::try_from(number * 7919 % 4000).unwrap();
        assert!(cursor.seek(key.to_be_bytes()).unwrap());
        assert_eq!(cursor.key(), key.to_be_bytes());
    }
}

/// As much is paid as it costs to compact what is there and 8 MiB; lookups cost nothing, and
/// what has been paid for does not count again.
#[test]
fn readers_pay_for_a_compaction() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    with_two_tables(&db);
    let bytes = db.stats().levels[0].bytes;

    for number in 0..2 * seeks_for(8 << 20) {
        assert!(db.get(u32::try_from(number % 4000).unwrap().to_be_bytes()).unwrap().is_some());
    }
    // Not quite enough.
    seek(&db, seeks_for(8 << 20));
    db.wait_for_background().unwrap();
    assert_eq!(tables(&db), [2]);
    seek(&db, seeks_for(bytes) + 1);
    db.wait_for_background().unwrap();
    assert_eq!(tables(&db), [0, 1]);

    // Another one is small beside what there is, and must be paid for from the beginning.
    load(&db, (0..20u32).map(|i| (i.to_be_bytes(), [7; 20])), 10);
    db.flush().unwrap();
    for (parts, after) in [(1, [1, 1]), (1, [1, 1]), (2, [0, 1])] {
        seek(&db, seeks_for(8 << 20) / 4 * parts + seeks_for(bytes));
        db.wait_for_background().unwrap();
        assert_eq!(tables(&db), after);
    }
    assert_eq!(db.iter().count(), 4000);
    assert!(db.verify().is_ok());
}

/// Scans pay as well, for each time that they go from one table to the other: one that has no more than a seek, in the end.
#[test]
fn scans_and_short_iterators_pay() {
    for entries in [1, 4000] {
        let fs = SimFs::new();
        let db = sim_options(&fs).open(DIR).unwrap();
        with_two_tables(&db);
        let mut read = 0;
        while tables(&db) == [2] {
            read += db.iter().take(entries).inspect(|entry| assert!(entry.is_ok())).count();
            db.wait_for_background().unwrap();
            assert!(read < 2_000_000, "{entries} entries an iterator");
        }
        println!("{read} entries in iterators of {entries}");
        assert!(read > 10_000);
        assert_eq!(tables(&db), [0, 1]);
    }
}

/// Readers wake the thread that compacts.
#[test]
fn a_store_that_is_only_read_is_compacted() {
    let fs = SimFs::new();
    let db = sim_options(&fs).background_threads(1).open(DIR).unwrap();
    with_two_tables(&db);
    // So long that the thread has nothing more to look for by itself.
    std::thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    while tables(&db) == [2] {
        seek(&db, 10_000);
        // Only a hang exceeds this.
        assert!(began.elapsed() < Duration::from_secs(60), "nobody compacts");
    }
    assert_eq!(tables(&db), [0, 1]);
    assert_eq!(db.iter().count(), 4000);
}
