//! The teaching project's list: what a store does from one end to the other.

use maplsm::{Db, Durability, Options, SimFs, WriteBatch};

fn fill(db: &Db, keys: u32) {
    for i in 0..keys {
        let key = format!("key{:05}", i.wrapping_mul(7919) % keys);
        db.write_with(WriteBatch::new().insert(key, i.to_le_bytes()), Durability::Buffered).unwrap();
    }
}

#[test]
fn values_are_read_back_from_the_memtable_and_from_tables() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("db")).unwrap();
    fill(&db, 3000);
    let check = |db: &Db| {
        for i in 0..3000u32 {
            let key = format!("key{:05}", i.wrapping_mul(7919) % 3000);
            assert_eq!(db.get(&key).unwrap().unwrap(), i.to_le_bytes(), "{key}");
        }
        assert!(db.get("absent").unwrap().is_none());
        let keys: Vec<Vec<u8>> = db.iter().map(|e| e.unwrap().key().to_vec()).collect();
        assert_eq!(keys.len(), 3000);
        assert!(keys.is_sorted());
        let mut back: Vec<Vec<u8>> = db.iter().rev().map(|e| e.unwrap().key().to_vec()).collect();
        back.reverse();
        assert_eq!(keys, back);
    };
    check(&db);
    db.flush().unwrap();
    check(&db);
    assert_eq!(db.stats().memtable_entries, 0);
    db.compact().unwrap();
    check(&db);
    assert!(db.verify().is_ok(), "{:?}", db.verify());
    db.close().unwrap();
    let db = Db::open(dir.path().join("db")).unwrap();
    check(&db);
    assert!(db.recovery_report().clean);
}

#[test]
fn the_log_is_replayed_after_a_kill_and_after_a_close() {
    let fs = SimFs::new();
    let mut options = Options::new();
    options.file_system(fs.clone()).background_threads(0);
    let db = options.open("/db").unwrap();
    fill(&db, 500);
    let killed = fs.kill();
    let after = options.clone().file_system(killed).open("/db").unwrap();
    assert_eq!(after.iter().count(), 500);
    assert!(!after.recovery_report().clean);
    db.close().unwrap();
    let again = options.open("/db").unwrap();
    assert_eq!(again.iter().count(), 500);
    assert!(again.recovery_report().clean);
    assert_eq!(again.recovery_report().groups, 500);
}

#[test]
fn small_memtables_flush_and_compact_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new();
    options
        .memtable_entries(Some(100))
        .durability(Durability::Buffered)
        .table_bytes(8 << 10)
        .l0_tables(4)
        .level_multiplier(2)
        .level_bytes_base(16 << 10);
    let db = options.open(dir.path().join("db")).unwrap();
    for round in 0..5u32 {
        for i in 0..2000u32 {
            db.insert(format!("key{:05}", i.wrapping_mul(7919) % 2000), format!("{round}-{i}")).unwrap();
        }
    }
    db.wait_for_background().unwrap();
    let stats = db.stats();
    assert!(stats.levels.len() > 2, "{stats:?}");
    assert_eq!(db.iter().count(), 2000);
    for i in 0..2000u32 {
        db.remove(format!("key{i:05}")).unwrap();
    }
    assert_eq!(db.iter().count(), 0);
    db.compact().unwrap();
    assert_eq!(db.stats().tables, [], "nothing is left of what was removed");
    assert!(db.verify().is_ok());
}

#[test]
fn verify_beside_a_writer_finds_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new();
    options.memtable_bytes(64 << 10).durability(Durability::Buffered);
    let db = options.open(dir.path().join("db")).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| fill(&db, 20_000));
        while !writer.is_finished() {
            let report = db.verify();
            assert!(report.is_ok(), "{:?}", report.problems);
        }
    });
}

/// What a compaction by hand makes due is done, although the threads had nothing to do before it.
#[test]
fn background_work_goes_on_after_a_compaction_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new();
    options.l0_tables(100).table_bytes(4 << 10).level_bytes_base(4 << 10).level_multiplier(2).background_threads(2);
    let db = options.open(dir.path().join("db")).unwrap();
    fill(&db, 1000);
    db.compact().unwrap();
    db.wait_for_background().unwrap();
    assert!(db.stats().levels.len() > 2, "{:?}", db.stats());
    assert_eq!(db.iter().count(), 1000);
}

/// Tables are opened when they are first read, so what an iterator has not come to yet must stay on disk, also when the first
/// change after an open is the compaction that replaces it.
#[test]
fn an_iterator_reads_tables_that_the_first_compaction_of_a_run_replaces() {
    let fs = SimFs::new();
    let mut options = Options::new();
    options.file_system(fs).background_threads(0).durability(Durability::Buffered).table_bytes(4 << 10);
    let db = options.open("/db").unwrap();
    fill(&db, 3000);
    db.flush().unwrap();
    fill(&db, 3000);
    db.compact().unwrap();
    db.remove("key00000").unwrap();
    db.flush().unwrap();
    assert!(db.stats().tables.len() > 10);
    db.close().unwrap();

    let db = options.open("/db").unwrap();
    let mut iter = db.iter();
    iter.next().unwrap().unwrap();
    db.compact().unwrap();
    for entry in iter {
        entry.unwrap();
    }
    assert_eq!(db.iter().count(), 2999);
}

#[test]
fn compact_drops_tombstones_of_a_single_table() {
    let fs = SimFs::new();
    let mut options = Options::new();
    options.file_system(fs).background_threads(0);
    let db = options.open("/db").unwrap();
    db.insert("a", "1").unwrap();
    db.remove("a").unwrap();
    db.compact().unwrap();
    assert_eq!(db.stats().tables, []);
    assert!(db.get("a").unwrap().is_none());
}
