//! Loading sorted entries: their place in the history, where their tables go, and that nothing is left of a refused one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use maplsm::inspect::{self, Value};
use maplsm::{Db, Error, ErrorKind, Fault, Options, SimFs, WriteBatch};

use crate::support::model::{Map, read_all};
use crate::support::{self, DIR, contents, image, sim_options};

fn small(fs: &SimFs) -> Options {
    let mut options = sim_options(fs);
    options.table_bytes(4 << 10).memtable_bytes(64 << 10).level_bytes_base(8 << 10).level_multiplier(2);
    options
}

fn open(fs: &SimFs) -> Db {
    small(fs).open(DIR).unwrap()
}

fn entries(keys: std::ops::Range<u32>, value: &'static str) -> impl Iterator<Item = (String, &'static str)> {
    keys.map(move |key| (format!("key{key:05}"), value))
}

fn value(db: &Db, key: u32) -> Option<String> {
    db.get(format!("key{key:05}")).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Numbers of tables on each level.
fn levels(db: &Db) -> Vec<usize> {
    db.stats().levels.iter().map(|level| level.tables).collect()
}

fn names(fs: &SimFs) -> Vec<String> {
    fs.files(Path::new(DIR)).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_load_is_read_like_everything_else_and_stays() {
    let fs = SimFs::new();
    let db = open(&fs);
    let loaded = db.ingest(entries(0..2000, "loaded")).unwrap();
    assert_eq!((loaded.entries, loaded.level), (2000, 1));
    assert!(loaded.tables > 5 && loaded.bytes > 4096, "{loaded:?}");
    assert_eq!(levels(&db), [0, loaded.tables]);
    for db in [db.clone(), {
        db.close().unwrap();
        open(&fs)
    }]
    .iter()
    .skip(1)
    {
        assert_eq!(db.iter().count(), 2000);
        assert_eq!(db.iter().rev().count(), 2000);
        assert_eq!(db.range("key00100".."key00200").count(), 100);
        assert_eq!((value(db, 0).as_deref(), value(db, 1999).as_deref()), (Some("loaded"), Some("loaded")));
        assert_eq!((value(db, 2000), db.get("key00100x").unwrap()), (None, None));
        assert!(db.verify().is_ok());
        assert_eq!(db.stats().last_sequence, 1);
    }
}

#[test]
fn the_empty_load_changes_nothing() {
    let fs = SimFs::new();
    let db = open(&fs);
    let operations = fs.operations();
    assert_eq!(db.ingest(Vec::<(&str, &str)>::new()).unwrap().entries, 0);
    assert_eq!(fs.operations(), operations);
}

#[test]
fn what_does_not_ascend_is_refused_with_its_place_and_nothing_is_left() {
    let fs = SimFs::new();
    let db = open(&fs);
    db.insert("key00005", "before").unwrap();
    let before = names(&fs);
    for (last, duplicate) in [("key01999", true), ("key00007", false), ("", false)] {
        let bad = entries(0..2000, "x").chain([(last.to_owned(), "y")]);
        match db.ingest(bad) {
            Err(e @ Error::NotAscending { position: 2000, .. }) => {
                assert!(matches!(e, Error::NotAscending { duplicate: d, .. } if d == duplicate));
                assert_eq!(e.kind(), ErrorKind::InvalidInput);
                assert!(e.to_string().contains("2000") && !e.to_string().contains("key0"), "{e}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(names(&fs), before);
    }
    let long = [("a".to_owned(), "x"), ("k".repeat(70_000), "y")];
    assert!(matches!(db.ingest(long), Err(Error::KeyTooLong { bytes: 70_000 })));
    assert_eq!(names(&fs), before);
    assert_eq!(db.iter().count(), 1);

    // The same for a source that fails.
    let failing = entries(0..2000, "x").map(Ok).chain([Err(io::Error::other("gone").into())]);
    let outcome: Result<_, Box<dyn std::error::Error>> = db.try_ingest(failing);
    assert_eq!(outcome.unwrap_err().to_string(), "gone");
    assert_eq!(names(&fs), before);
}

#[test]
fn a_load_hides_what_is_older_and_is_hidden_by_what_is_newer() {
    let fs = SimFs::new();
    let db = open(&fs);
    for place in ["log", "level 0", "level 1"] {
        db.write(WriteBatch::new().insert("key00001", "old").insert("key00002", "old").remove("key00003")).unwrap();
        db.remove_range("key00004".."key00008").unwrap();
        match place {
            "level 0" => db.flush().unwrap(),
            "level 1" => db.compact().unwrap(),
            _ => {}
        }
        let before = db.snapshot();
        let seen = read_all(before.iter()).unwrap();
        db.ingest(entries(0..10, "loaded")).unwrap();
        let between = db.snapshot();
        db.insert("key00002", "new").unwrap();
        db.remove("key00003").unwrap();
        db.remove_range("key00006"..).unwrap();
        let check = |db: &Db| {
            assert_eq!(value(db, 1).as_deref(), Some("loaded"), "{place}");
            assert_eq!(value(db, 2).as_deref(), Some("new"), "{place}");
            assert_eq!((value(db, 3), value(db, 6), value(db, 9)), (None, None, None), "{place}");
            assert_eq!(value(db, 5).as_deref(), Some("loaded"), "{place}");
            assert_eq!(db.iter().count(), 5, "{place}");
        };
        let look = || {
            check(&db);
            assert_eq!(read_all(before.iter()).unwrap(), seen, "{place}");
            assert_eq!(read_all(between.iter()).unwrap().len(), 10, "{place}");
            assert_eq!(between.get("key00005").unwrap().as_deref(), Some(&b"loaded"[..]), "{place}");
        };
        look();
        db.flush().unwrap();
        look();
        db.compact().unwrap();
        look();
        drop((before, between));
        db.compact().unwrap();
        check(&db);
        assert!(db.verify().is_ok());
        let after = Db::clone(&db);
        after.remove_range::<&str>(..).unwrap();
        after.compact().unwrap();
    }
}

#[test]
fn loads_go_as_deep_as_nothing_is_in_their_way() {
    let fs = SimFs::new();
    let db = open(&fs);
    assert_eq!(db.ingest(entries(1000..2000, "a")).unwrap().level, 1);
    db.maintain().unwrap();
    let deep = db.stats().levels.len() - 1;
    assert!(deep > 1, "too much for level 1: {:?}", levels(&db));
    assert_eq!(usize::from(db.ingest(entries(3000..3010, "b")).unwrap().level), deep);
    assert_eq!(usize::from(db.ingest(entries(2500..2510, "c")).unwrap().level), deep, "in a gap");
    assert_eq!(usize::from(db.ingest(entries(1500..1510, "d")).unwrap().level), deep - 1, "above what it replaces");
    assert_eq!(db.ingest(entries(1505..1506, "e")).unwrap().level, 0, "what it replaces is not the deepest");
    assert_eq!((value(&db, 1505).as_deref(), value(&db, 1504).as_deref()), (Some("e"), Some("d")));
    let written = fs.bytes_written();
    db.compact_range("key03000".."key03010").unwrap();
    assert!(fs.bytes_written() - written < 200, "what overlaps nothing is not rewritten");
    db.maintain().unwrap();
    assert_eq!(db.iter().count(), 1000 + 20);
    assert!(db.verify().is_ok());
}

#[test]
fn memtables_are_flushed_only_if_they_have_keys_in_the_range() {
    let fs = SimFs::new();
    let db = open(&fs);
    db.write(WriteBatch::new().insert("key00000", "x").insert("key00500", "x")).unwrap();
    db.remove_range("key00600".."key00700").unwrap();
    db.ingest(entries(100..200, "loaded")).unwrap();
    assert_eq!((db.stats().flushes, db.stats().memtable_entries), (0, 3));
    db.insert("key00150", "newer").unwrap();
    assert_eq!(value(&db, 150).as_deref(), Some("newer"));
    db.ingest(entries(150..151, "newest")).unwrap();
    assert_eq!((db.stats().flushes, db.stats().memtable_entries), (1, 0));
    assert_eq!(value(&db, 150).as_deref(), Some("newest"));
    db.remove_range("key00600".."key00700").unwrap();
    db.ingest(entries(650..660, "in a hole")).unwrap();
    assert_eq!(db.stats().flushes, 2, "a range tombstone counts");
    assert_eq!(db.range("key00600".."key00700").count(), 10);
    let state = contents(&db);
    db.compact().unwrap();
    assert_eq!(contents(&db), state);
}

/// A merge of level 0 must not bring a load, and older tables with it, in front of a memtable that is flushed later.
#[test]
fn tables_of_level_0_are_in_the_order_of_the_history() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    db.write(WriteBatch::new().insert("key00005", "old").insert("zebra", "old")).unwrap();
    db.flush().unwrap();
    db.insert("zebra", "new").unwrap();
    assert_eq!(db.ingest(entries(0..10, "loaded")).unwrap().level, 0);
    db.maintain().unwrap();
    db.flush().unwrap();
    assert_eq!(db.get("zebra").unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(value(&db, 5).as_deref(), Some("loaded"));
}

#[test]
fn the_log_goes_on_across_a_load() {
    let fs = SimFs::new();
    let db = open(&fs);
    db.insert("a", "1").unwrap();
    db.ingest(entries(0..10, "x")).unwrap();
    db.insert("b", "2").unwrap();
    db.ingest(entries(10..20, "y")).unwrap();
    assert_eq!(db.stats().last_sequence, 4);
    let state = contents(&db);
    db.close().unwrap();
    // The first load after an open may find no segment.
    let db = open(&fs);
    assert!(db.recovery_report().clean);
    assert_eq!(contents(&db), state);
    db.ingest(entries(20..30, "z")).unwrap();
    db.insert("c", "3").unwrap();
    let state = contents(&db);
    let killed = fs.kill();
    let after = open(&killed);
    assert_eq!((contents(&after), after.stats().last_sequence), (state.clone(), 6));
    drop(after);
    db.close().unwrap();
    assert_eq!(contents(&open(&fs)), state);
}

#[test]
fn transactions_conflict_with_a_load_of_what_they_have_read() {
    let fs = SimFs::new();
    let db = open(&fs);
    for other_commits in [false, true] {
        for (key, conflicts) in [("key00005", true), ("key00050", false)] {
            let transaction = db.transaction();
            transaction.get(key).unwrap();
            transaction.insert("result", "x").unwrap();
            if other_commits {
                db.insert("other", "before").unwrap();
            }
            db.ingest(entries(0..10, "x")).unwrap();
            if other_commits {
                db.insert("other", "after").unwrap();
            }
            match transaction.commit() {
                Err(Error::Conflict) => assert!(conflicts, "{key}"),
                Ok(()) => assert!(!conflicts, "{key}"),
                Err(e) => panic!("{e}"),
            }
        }
    }
}

#[test]
fn keyspaces_are_loaded_apart_and_a_dropped_one_refuses() {
    let fs = SimFs::new();
    let db = open(&fs);
    let (a, b) = (db.keyspace("a").unwrap(), db.keyspace("b").unwrap());
    a.insert("key00001", "old").unwrap();
    b.insert("key00001", "old").unwrap();
    assert_eq!(a.ingest(entries(0..100, "a")).unwrap().entries, 100);
    let from_a = a.iter().map(|entry| entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec())));
    b.try_ingest(from_a.filter(|entry| entry.as_ref().is_ok_and(|(key, _)| key.ends_with(b"7")))).unwrap();
    assert_eq!((a.iter().count(), b.iter().count(), db.iter().count()), (100, 11, 0));
    assert_eq!(b.get("key00001").unwrap().as_deref(), Some(&b"old"[..]));
    db.drop_keyspace("a").unwrap();
    let before = names(&fs);
    assert!(matches!(a.ingest([("k", "v")]), Err(Error::KeyspaceDropped { .. })));
    assert_eq!(names(&fs), before);
    // Dropped while the load is under way.
    let during = entries(0..10, "b").inspect(|(key, _)| {
        if key == "key00005" {
            db.drop_keyspace("b").unwrap();
        }
    });
    assert!(matches!(b.ingest(during), Err(Error::KeyspaceDropped { .. })));
    assert!(db.verify().is_ok() && support::names(&fs, ".sst").iter().all(|name| before.contains(name)));
}

#[test]
fn a_closed_store_ends_a_load_and_the_next_open_clears_it_away() {
    let fs = SimFs::new();
    let db = open(&fs);
    db.insert("key", "value").unwrap();
    let during = entries(0..4000, "x").inspect(|(key, _)| {
        if key == "key02000" {
            db.close().unwrap();
        }
    });
    assert!(matches!(db.ingest(during), Err(Error::Closed)));
    let db = open(&fs);
    db.insert("key", "again").unwrap();
    db.sync().unwrap();
    assert!(support::names(&fs, ".sst").is_empty(), "{:?}", names(&fs));
    assert_eq!(db.iter().count(), 1);
}

/// A store with something in its log, and a load that overlaps it.
fn prepared() -> (SimFs, Map) {
    let fs = SimFs::new();
    let db = open(&fs);
    db.ingest(entries(0..50, "first")).unwrap();
    db.insert("key00020", "log").unwrap();
    db.remove("key00021").unwrap();
    let state = contents(&db);
    db.close().unwrap();
    (fs, state)
}

fn with_load(mut state: Map) -> Map {
    state.extend(entries(10..300, "second").map(|(key, value)| (key.into_bytes(), value.as_bytes().to_vec())));
    state
}

#[test]
fn a_crash_leaves_all_of_a_load_or_nothing() {
    let (before, state) = prepared();
    let loaded = with_load(state.clone());
    let (mut nothing, mut all) = (0, 0);
    for after in 1.. {
        let fs = before.kill();
        let db = open(&fs);
        fs.inject(Fault::Halt { after });
        let outcome = db.ingest(entries(10..300, "second"));
        for seed in 0..6 {
            let crashed = if seed == 0 { fs.kill() } else { fs.power_cut(seed) };
            let reopened = open(&crashed);
            let found = contents(&reopened);
            assert!(found == state || found == loaded, "halted at {after}, seed {seed}");
            assert!(outcome.is_err() || found == loaded, "halted at {after}, seed {seed}");
            assert!(reopened.verify().is_ok());
            if found == loaded {
                all += 1;
            } else {
                nothing += 1;
            }
            reopened.insert("more", "x").unwrap();
            reopened.sync().unwrap();
            let tables = support::names(&crashed, ".sst").len();
            assert_eq!(tables, reopened.stats().tables.len(), "halted at {after}, seed {seed}: leftovers");
        }
        if outcome.is_ok() {
            break;
        }
    }
    assert!(nothing > 100 && all > 6, "{nothing} {all}");
}

#[test]
fn an_error_leaves_all_of_a_load_or_nothing() {
    let (before, state) = prepared();
    let loaded = with_load(state.clone());
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for after in 1.. {
            let fs = before.kill();
            let db = open(&fs);
            fs.inject(Fault::Error { after, kind });
            let outcome = db.ingest(entries(10..300, "second"));
            let found = contents(&db);
            assert_eq!(found == loaded, outcome.is_ok(), "{kind:?} at {after}");
            if outcome.is_err() {
                assert_eq!(found, state, "{kind:?} at {after}");
            }
            // Either it goes on, without leftovers, or it says that it does not.
            match db.insert("more", "x") {
                Ok(()) => {
                    let tables = support::names(&fs, ".sst").len();
                    // A file that could not be removed is removed by the next open.
                    assert!(tables <= db.stats().tables.len() + 1, "{kind:?} at {after}: {:?}", names(&fs));
                    assert_eq!(contents(&db).len(), found.len() + 1);
                }
                Err(e) => assert!(outcome.is_err() && matches!(e, Error::Poisoned(_)), "{kind:?} at {after}: {e}"),
            }
            let reopened = contents(&open(&fs.kill()));
            let without = |mut map: Map| {
                map.remove(&b"more"[..]);
                map
            };
            let reopened = without(reopened);
            assert!(reopened == state || reopened == loaded, "{kind:?} at {after}");
            if outcome.is_ok() {
                break;
            }
        }
    }
}

/// Loads beside writers, flushes and compactions: each key has the value of a write that is not older than any other that
/// was over before it began.
#[test]
fn loads_beside_writers_and_compactions() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new();
    options.durability(maplsm::Durability::Buffered).memtable_bytes(64 << 10).table_bytes(32 << 10);
    options.level_bytes_base(128 << 10).l0_tables(2);
    let db = options.open(dir.path().join("db")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each writer has keys of its own among those of the loads, and knows what they must hold.
        let writers: Vec<_> = (0..2u32)
            .map(|writer| {
                let (db, stop) = (&db, &stop);
                scope.spawn(move || {
                    let mut model: BTreeMap<u32, u64> = BTreeMap::new();
                    let mut round = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        round += 1;
                        let key = u32::try_from(round * 7919 % 500).unwrap() * 4 + writer;
                        db.insert(key.to_be_bytes(), round.to_be_bytes()).unwrap();
                        model.insert(key, round);
                        let other = u32::try_from(round * 104_729 % 500).unwrap() * 4 + writer;
                        let found = db.get(other.to_be_bytes()).unwrap().map(|value| value.to_vec());
                        let expected = model.get(&other).map(|round| round.to_be_bytes().to_vec());
                        assert_eq!(found, expected);
                    }
                    model
                })
            })
            .collect();
        for round in 0..12u64 {
            // Keys of nobody else, in the middle of the others' ranges.
            let keys = (0..500u32).map(|key| ((key * 4 + 2).to_be_bytes(), round.to_be_bytes()));
            let before = db.snapshot();
            let seen = before.get(2u32.to_be_bytes()).unwrap();
            db.ingest(keys).unwrap();
            assert_eq!(before.get(2u32.to_be_bytes()).unwrap(), seen);
            for key in [0u32, 17, 499] {
                assert_eq!(db.get((key * 4 + 2).to_be_bytes()).unwrap().unwrap(), round.to_be_bytes());
            }
            if round % 5 == 3 {
                db.compact().unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        for (writer, model) in (0u32..).zip(writers) {
            let model = model.join().unwrap();
            for (key, round) in &model {
                assert_eq!(db.get(key.to_be_bytes()).unwrap().unwrap(), round.to_be_bytes(), "writer {writer}");
            }
        }
    });
    db.wait_for_background().unwrap();
    assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
    db.close().unwrap();
}

#[test]
fn files_say_that_the_manifest_has_the_number() {
    let fs = SimFs::new();
    let db = open(&fs);
    db.write(WriteBatch::new().insert("a", "1").insert("b", "2")).unwrap();
    db.ingest([("key", "value")]).unwrap();
    db.insert("c", "3").unwrap();
    db.close().unwrap();
    let show = |ending: &str| {
        let (name, bytes) = image(&fs).into_iter().find(|(name, _)| name.ends_with(ending)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let mut items = Vec::new();
        inspect::file(&path, &mut |item| {
            let number = |name| match item.fields.iter().find(|(field, _)| *field == name) {
                Some((_, Value::Number(number))) => Some(*number),
                _ => None,
            };
            items.push((item.kind, number("sequence"), number("min_sequence"), number("global_sequence")));
            Ok(())
        })
        .unwrap();
        (bytes, items)
    };
    let (table, items) = show(".sst");
    assert_eq!(table[64..76], [0x80, 0, 0, 0, 0, 0, 3, 0, 5, 0, 0, 0], "marked, and without a number of its own");
    assert!(items.contains(&("section", None, Some(2), Some(1))), "the last number in front of it: {items:?}");
    let (_, items) = show(".manifest");
    assert!(items.contains(&("add-table", None, None, Some(3))), "{items:?}");
    assert!(items.contains(&("section", None, Some(3), Some(1))), "{items:?}");
    let (_, items) = show(".wal");
    assert!(items.contains(&("entry", Some(2), None, None)) && items.contains(&("entry", Some(4), None, None)));
}
