//! How many tables are open at a time: `Options::max_open_tables`, and what happens beyond it.

use std::sync::atomic::{AtomicBool, Ordering};

use maplsm::{Db, Error, ErrorKind, Fault, IoMode, Options, SimFs};

use crate::support::{DIR, load, names, sim_options};

/// What may be open, in tables and value files.
const OPEN: usize = 4;

fn key(i: usize) -> Vec<u8> {
    format!("key{i:05}").into_bytes()
}

/// Every tenth is large enough to stand apart.
fn value(i: usize) -> Vec<u8> {
    vec![u8::try_from(i % 251).unwrap(); if i.is_multiple_of(10) { 500 } else { 60 + i % 7 }]
}

fn options(fs: &SimFs, mode: IoMode) -> Options {
    let mut options = sim_options(fs);
    options.io_mode(mode).max_open_tables(OPEN).table_bytes(4 << 10).memtable_bytes(16 << 10).cache_bytes(16 << 10);
    options.large_value_bytes(Some(256)).level_bytes_base(16 << 10).level_multiplier(2).l0_tables(4);
    options
}

/// Files that `tables` open tables keep: a mapped one has an index.
fn files(tables: usize, mode: IoMode) -> usize {
    if mode == IoMode::Map { 2 * tables } else { tables }
}

/// A database of many tables: one load for each key modulo 3, so that some overlap, and the newest entries in level 0.
fn many_tables(fs: &SimFs, mode: IoMode, keys: usize) -> Db {
    let db = options(fs, mode).open(DIR).unwrap();
    for third in 0..2 {
        db.ingest((0..keys).filter(|i| i % 3 == third).map(|i| (key(i), value(i)))).unwrap();
    }
    load(&db, (0..keys).filter(|i| i % 3 == 2).map(|i| (key(i), value(i))), 16);
    db.flush().unwrap();
    db
}

/// All on one level.
fn one_level(db: &Db, keys: usize) -> usize {
    db.ingest((0..keys).map(|i| (key(i), value(i)))).unwrap().tables
}

fn check_gets(db: &Db, keys: usize) {
    // In an order that jumps from table to table.
    for i in (0..keys).map(|i| i * 607 % keys) {
        assert!(db.get(key(i)).unwrap().unwrap() == value(i), "key {i}");
    }
    assert!(db.get("key").unwrap().is_none() && db.get(key(keys)).unwrap().is_none());
}

fn check_scans(db: &Db, keys: usize) {
    let mut both = db.iter();
    for i in 0..keys / 2 {
        let (front, back) = (both.next().unwrap().unwrap(), both.next_back().unwrap().unwrap());
        assert!((front.key(), front.value()) == (&key(i)[..], &value(i)[..]), "key {i}");
        let j = keys - 1 - i;
        assert!((back.key(), back.value()) == (&key(j)[..], &value(j)[..]), "key {j}");
    }
    let mut cursor = db.cursor();
    let mut more = cursor.seek_last().unwrap();
    for i in (0..keys).rev() {
        assert!(more && (cursor.key(), cursor.value()) == (&key(i)[..], &value(i)[..]), "key {i}");
        // Turns round now and then, across the bounds of tables as well.
        if i % 5 == 0 && i + 1 < keys {
            assert!(cursor.next().unwrap() && cursor.key() == key(i + 1));
            assert!(cursor.prev().unwrap() && cursor.value() == value(i));
        }
        more = cursor.prev().unwrap();
    }
    assert!(!more);
}

#[test]
fn more_tables_than_may_be_open_are_read_like_any_others() {
    const KEYS: usize = 3001;
    for mode in [IoMode::Map, IoMode::Read] {
        let fs = SimFs::new();
        let db = many_tables(&fs, mode, KEYS);
        let tables = db.stats().tables.len() + db.stats().value_files.len();
        assert!(tables > 10 * OPEN, "{tables} tables");
        for _ in 0..2 {
            check_gets(&db, KEYS);
            check_limit(&fs, &db, mode);
            check_scans(&db, KEYS);
            // What the scan held goes with the next tables that are opened.
            check_gets(&db, KEYS);
            check_limit(&fs, &db, mode);
            let report = db.verify();
            assert!(report.is_ok() && report.tables > OPEN, "{report:?}");
            db.compact().unwrap();
        }
        db.close().unwrap();
        drop(db);
        assert_eq!(fs.open_files(), 0, "something is open after the end");
        return_to(&fs, mode, KEYS);
    }
}

/// What one lookup uses at a time may be more than may be open, until another one opens a table: all of level 0, a table of
/// each other level, and a value file.
#[track_caller]
fn check_limit(fs: &SimFs, db: &Db, mode: IoMode) {
    let stats = db.stats();
    let most = OPEN + stats.levels[0].tables + stats.levels.len() + 1;
    let (open, open_files) = (stats.open_tables, fs.open_files());
    assert!(open <= most && open_files <= files(most, mode), "{open} tables, {open_files} files of {most} tables");
    assert!(most < stats.tables.len() + stats.value_files.len(), "{stats:?}");
}

/// Opens the database again and takes a checkpoint of it.
fn return_to(fs: &SimFs, mode: IoMode, keys: usize) {
    let db = options(fs, mode).open(DIR).unwrap();
    assert_eq!((db.stats().open_tables, db.stats().table_openings), (0, 0), "an open maps no table");
    assert!(fs.open_files() <= 4, "but for what is left of the log");
    db.checkpoint("/copy").unwrap();
    assert!(db.stats().open_tables <= OPEN && fs.open_files() <= files(OPEN, mode) + 4);
    let copy = options(fs, mode).open("/copy").unwrap();
    check_gets(&copy, keys);
    check_scans(&db, keys);
    assert!(copy.verify().is_ok());
}

#[test]
fn what_is_in_use_outlives_the_tables_that_are_let_go() {
    const KEYS: usize = 1500;
    for mode in [IoMode::Map, IoMode::Read] {
        let fs = SimFs::new();
        let db = many_tables(&fs, mode, KEYS);
        let snapshot = db.snapshot();
        let mut iter = db.iter();
        let mut cursor = db.cursor();
        assert!(cursor.seek(key(700)).unwrap());
        let slices: Vec<_> = (0..KEYS).step_by(100).map(|i| db.get(key(i)).unwrap().unwrap()).collect();
        let borrowed: Vec<_> = (7..KEYS).step_by(100).map(|i| snapshot.get_ref(key(i)).unwrap().unwrap()).collect();
        let first = iter.next().unwrap().unwrap();
        // Everything is let go again and again, and then replaced.
        for i in 0..KEYS {
            db.insert(key(i), "new").unwrap();
        }
        check_new(&db, KEYS);
        db.compact().unwrap();
        check_new(&db, KEYS);
        for (slice, i) in slices.iter().zip((0..KEYS).step_by(100)) {
            assert!(*slice == value(i), "key {i}");
        }
        for (value_then, i) in borrowed.iter().zip((7..KEYS).step_by(100)) {
            assert!(**value_then == value(i), "key {i}");
        }
        assert!(first.value() == value(0) && snapshot.get(key(42)).unwrap().unwrap() == value(42));
        for (i, entry) in (1..KEYS).zip(&mut iter) {
            let entry = entry.unwrap();
            assert!((entry.key(), entry.value()) == (&key(i)[..], &value(i)[..]), "key {i}");
        }
        for i in 700..KEYS {
            assert!((cursor.key(), cursor.value()) == (&key(i)[..], &value(i)[..]), "key {i}");
            assert_eq!(cursor.next().unwrap(), i + 1 < KEYS);
        }
        drop(borrowed);
        drop((slices, first, iter, cursor, snapshot));
        check_new(&db, KEYS);
        check_limit(&fs, &db, mode);
    }
}

fn check_new(db: &Db, keys: usize) {
    for i in (0..keys).map(|i| i * 607 % keys) {
        assert!(db.get(key(i)).unwrap().unwrap() == *b"new", "key {i}");
    }
}

/// Recency: what is used between two looks of the clock stays open.
#[test]
fn a_table_that_is_used_stays_open() {
    const KEYS: usize = 3001;
    let fs = SimFs::new();
    let db = options(&fs, IoMode::Map).max_open_tables(2 * OPEN).large_value_bytes(None).open(DIR).unwrap();
    let tables = u64::try_from(one_level(&db, KEYS)).unwrap();
    let before = db.stats().table_openings;
    for i in 0..KEYS {
        db.get(key(1)).unwrap().unwrap();
        db.get(key(i)).unwrap().unwrap();
    }
    assert_eq!(db.stats().table_openings - before, tables, "each table is opened once, and the first one stays");
}

/// Slices keep their tables open over the limit of the database, up to that of the process.
#[test]
fn pins_go_over_the_limit_up_to_that_of_the_process() {
    const KEYS: usize = 3001;
    // Three quarters of this, for tables with an index each.
    const LIMIT: usize = 64;
    let fs = SimFs::new();
    fs.limit_open_files(LIMIT);
    let db = options(&fs, IoMode::Map).large_value_bytes(None).open(DIR).unwrap();
    assert!(one_level(&db, KEYS) > LIMIT);
    check_gets(&db, KEYS);
    assert!(fs.open_files() <= 2 * OPEN);
    let mut slices = Vec::new();
    let refused = (0..KEYS).find_map(|i| match db.get(key(i)) {
        Ok(slice) => {
            slices.push(slice.unwrap());
            None
        }
        Err(e) => Some(e),
    });
    let refused = refused.expect("an error");
    let Error::TooManyOpenTables { open, limit, max_open_tables } = refused else { panic!("{refused}") };
    assert_eq!((limit, max_open_tables), (LIMIT / 4 * 3, OPEN));
    assert!(open > limit - 2 && open <= limit && fs.open_files() == open, "{open} of {limit}");
    assert_eq!(refused.kind(), ErrorKind::Busy);
    for word in ["48", "max_open_tables = 4", "vm.max_map_count"] {
        assert!(refused.to_string().contains(word), "{refused}");
    }
    // What is open can be read, and written and flushed is what needs no further table.
    for (i, slice) in slices.iter().enumerate() {
        assert!(*slice == value(i) && db.get(key(i)).unwrap().unwrap() == value(i), "key {i}");
    }
    let scan = db.iter().find_map(Result::err);
    assert!(matches!(scan, Some(Error::TooManyOpenTables { .. })), "{scan:?}");
    drop(slices);
    check_scans(&db, KEYS);
    assert!(db.verify().is_ok());
    check_gets(&db, KEYS);
    assert!(fs.open_files() <= 2 * OPEN, "{}", fs.open_files());
}

/// The limits of the system are those of a process, so databases let go of tables for each other.
#[test]
fn databases_of_a_process_share_what_it_may_have() {
    const KEYS: usize = 1500;
    const LIMIT: usize = 60;
    let fs = SimFs::new();
    fs.limit_open_files(LIMIT);
    let dbs: Vec<Db> = (0..4)
        .map(|i| {
            let db = options(&fs, IoMode::Map).max_open_tables(1000).open(format!("{DIR}{i}")).unwrap();
            one_level(&db, KEYS);
            db
        })
        .collect();
    for db in dbs.iter().chain(&dbs) {
        check_gets(db, KEYS);
        // One that has just been opened may keep a table though the others have all the rest.
        assert!(fs.open_files() <= LIMIT / 2 + 2 * dbs.len(), "{}", fs.open_files());
    }
    drop(dbs);
    let default = sim_options(&fs).table_bytes(4 << 10).open("/default").unwrap();
    assert!(one_level(&default, KEYS) > 16);
    check_gets(&default, KEYS);
    assert_eq!(default.stats().open_tables, 8, "a quarter of what the system gives, or a few");
}

/// Too few mappings or descriptors is nothing that is wrong with a table or its index.
#[test]
fn a_shortage_lets_others_go_and_blames_no_index() {
    const KEYS: usize = 1500;
    let fs = SimFs::new();
    one_level(&options(&fs, IoMode::Map).large_value_bytes(None).open(DIR).unwrap(), KEYS);
    let indexes = names(&fs, ".idx");
    let db = options(&fs, IoMode::Map).max_open_tables(100).open(DIR).unwrap();
    let shortage = |after| fs.inject(Fault::Look { after, kind: std::io::ErrorKind::OutOfMemory });
    // Nothing is open that could be let go: the table's turn, then that of its index.
    for after in [1, 2] {
        shortage(after);
        let refused = db.get(key(0)).unwrap_err();
        assert!(matches!(&refused, Error::Io(e) if e.source.kind() == std::io::ErrorKind::OutOfMemory), "{refused}");
    }
    db.get(key(0)).unwrap().unwrap();
    // Each in a table of its own.
    for i in (150..KEYS).step_by(150) {
        let before = db.stats();
        shortage(1 + u64::try_from(i / 150 % 2).unwrap());
        assert!(db.get(key(i + 3)).unwrap().unwrap() == value(i + 3), "key {i}");
        assert!(before.open_tables > 0 && db.stats().table_openings == before.table_openings + 1, "key {i}");
    }
    assert!(db.verify().is_ok());
    assert_eq!(names(&fs, ".idx"), indexes, "an index was made again");
}

/// An index that was made again in memory is not forgotten when its table is let go, and is written in the end.
#[test]
fn an_index_made_again_outlives_its_table_being_let_go() {
    const KEYS: usize = 1500;
    let fs = SimFs::new();
    drop(many_tables(&fs, IoMode::Map, KEYS));
    for name in names(&fs, ".idx") {
        fs.remove(&crate::support::path(&name));
    }
    let db = options(&fs, IoMode::Map).open(DIR).unwrap();
    for _ in 0..2 {
        check_gets(&db, KEYS);
        check_limit(&fs, &db, IoMode::Map);
    }
    assert!(names(&fs, ".idx").is_empty());
    db.maintain().unwrap();
    assert_eq!(names(&fs, ".idx").len(), names(&fs, ".sst").len());
    check_gets(&db, KEYS);
    check_scans(&db, KEYS);
    assert!(db.verify().is_ok());
}

/// Threads that read, walk and compact while nearly every table has to be opened for each of them.
#[test]
fn threads_open_and_let_go_beside_each_other() {
    const KEYS: usize = 1200;
    for mode in [IoMode::Map, IoMode::Read] {
        let fs = SimFs::new();
        let db = many_tables(&fs, mode, KEYS);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3).map(|_| scope.spawn(|| (0..3).for_each(|_| check_gets(&db, KEYS)))).collect();
            let walkers: Vec<_> = (0..2).map(|_| scope.spawn(|| (0..2).for_each(|_| check_scans(&db, KEYS)))).collect();
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    db.compact().unwrap();
                    load(&db, (0..KEYS).step_by(9).map(|i| (key(i), value(i))), 16);
                    db.flush().unwrap();
                }
            });
            for thread in readers.into_iter().chain(walkers) {
                let joined = thread.join();
                done.store(joined.is_err() || done.load(Ordering::Relaxed), Ordering::Relaxed);
                joined.unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        check_gets(&db, KEYS);
        check_limit(&fs, &db, mode);
    }
}

/// The shares that indexes have of the memory for them end with their tables, and answers do not depend on who has one.
#[test]
fn mapped_indexes_take_what_there_is_for_them_and_give_it_back() {
    let indexes = |db: &Db| db.stats().tables.iter().map(|table| table.index_bytes).sum::<u64>();
    for (mode, memory) in [(IoMode::Map, None), (IoMode::Map, Some(2100)), (IoMode::Map, Some(0)), (IoMode::Read, None)]
    {
        let fs = SimFs::new();
        let mut options = options(&fs, mode);
        options.max_open_tables(1000).large_value_bytes(None);
        if let Some(memory) = memory {
            options.index_memory_bytes(memory);
        }
        let db = options.open(DIR).unwrap();
        let tables = one_level(&db, 300);
        check_gets(&db, 300);
        let (stats, all) = (db.stats(), indexes(&db));
        assert!(tables > 3 && all > 4200, "{stats:?}");
        let expected = |kept: u64, all: u64| match (mode, memory) {
            (IoMode::Map, None) => kept == all,
            (IoMode::Map, Some(memory)) => kept <= memory && (kept > 0) == (memory > 0),
            _ => kept == 0,
        };
        assert!(expected(stats.kept_index_bytes, all), "{mode:?} {memory:?} {stats:?}");
        assert!(memory.is_none_or(|memory| stats.index_memory_bytes == memory), "{stats:?}");

        // Fewer tables, and others.
        db.remove_range(key(100)..).unwrap();
        db.compact().unwrap();
        for i in 0..100 {
            assert!(db.get(key(i)).unwrap().unwrap() == value(i), "key {i}");
        }
        assert!(db.get(key(100)).unwrap().is_none());
        let (stats, left) = (db.stats(), indexes(&db));
        assert!(stats.tables.len() < tables && left < all, "{stats:?}");
        assert!(expected(stats.kept_index_bytes, left), "{mode:?} {memory:?} {stats:?}");
    }
}
