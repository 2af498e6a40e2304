//! Merge operators: whatever happens to operands, a key has the value that its operator makes of all of them in their order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use maplsm::operators::{Append, Associative, Counter, Max};
use maplsm::{
    Compression, Db, Error, ErrorKind, Feature, Isolation, Keyspace, KeyspaceOptions, MergeError, MergeOperator,
    Options, SimFs, Snapshot, WriteBatch, inspect,
};

use crate::support::model::{Map, read_all};
use crate::support::{DIR, names, path, sim_options};

/// Puts operands behind the value, with a comma between them, and says so in each value that it makes. Cannot put two
/// operands together. Fails for an operand `fail`, and panics for one `panic`.
struct Joined;

impl MergeOperator for Joined {
    fn name(&self) -> &'static str {
        "test.joined"
    }

    fn merge(&self, key: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        assert!(!operands.is_empty(), "something is merged into {key:?}");
        let mut made = value.map(<[u8]>::to_vec);
        for operand in operands {
            match *operand {
                b"fail" => return Err(MergeError::new("it was told to")),
                b"panic" => panic!("the operator was told to"),
                other => made = Some(joined(made.as_deref(), other)),
            }
        }
        Ok(made.unwrap_or_default())
    }
}

fn joined(value: Option<&[u8]>, operand: &[u8]) -> Vec<u8> {
    value.map_or_else(|| operand.to_vec(), |value| [value, b",", operand].concat())
}

/// The same, and two operands are one with a comma.
fn joining() -> impl MergeOperator {
    Associative::new("test.joining", |a: &[u8], b: &[u8]| Ok(joined(Some(a), b)))
}

fn one() -> [u8; 8] {
    1u64.to_le_bytes()
}

fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().unwrap())
}

fn count(db: &Db, key: &str) -> Option<u64> {
    db.get(key).unwrap().map(|value| number(&value))
}

/// How many entries of each kind the tables have.
fn kinds(fs: &SimFs) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for name in names(fs, ".sst") {
        let bytes = fs.read(&path(&name)).unwrap();
        inspect::bytes(Path::new(&name), &bytes, &mut |item| {
            if item.kind == "entry" {
                let kind = item.fields.iter().find(|(name, _)| *name == "kind").map(|(_, value)| format!("{value:?}"));
                *kinds.entry(kind.unwrap()).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
    }
    kinds
}

fn total(fs: &SimFs) -> u64 {
    kinds(fs).values().sum()
}

fn has_operands(fs: &SimFs) -> bool {
    kinds(fs).keys().any(|kind| kind.contains("operand"))
}

#[test]
fn every_way_to_read_sees_what_the_operator_makes() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    let db = options.merge_operator(Counter).open(DIR).unwrap();
    let logs = db.create_keyspace("logs", KeyspaceOptions::new().merge_operator(Append)).unwrap();
    let before = db.snapshot();
    db.insert("a", 5u64.to_le_bytes()).unwrap();
    for key in ["a", "b", "b", "z"] {
        db.merge(key, one()).unwrap();
    }
    let middle = db.snapshot();
    db.merge("b", (-1i64).to_le_bytes()).unwrap();
    db.write(WriteBatch::new().merge("c", one()).merge("c", one()).insert("d", one()).merge("d", one())).unwrap();
    db.write(WriteBatch::new().merge_into(&logs, "log", "one;").merge_into(&logs, "log", "two;")).unwrap();
    db.remove("z").unwrap();
    db.merge("z", 7u64.to_le_bytes()).unwrap();
    let expected = [("a", 6), ("b", 1), ("c", 2), ("d", 2), ("z", 7)];
    let check = |db: &Db| {
        let numbers = |iter: maplsm::Iter| -> Vec<(String, u64)> {
            let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
            iter.map(|entry| entry.map(|entry| (text(entry.key()), number(entry.value()))).unwrap()).collect()
        };
        let of = |list: &[(&str, u64)]| list.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect::<Vec<_>>();
        assert_eq!(numbers(db.iter()), of(&expected));
        let mut back: Vec<_> = db.iter().rev().map(|entry| entry.unwrap()).map(|e| number(e.value())).collect();
        back.reverse();
        assert_eq!(back, expected.map(|(_, count)| count));
        assert_eq!(numbers(db.range("b".."d")), of(&expected[1..3]));
        let values = db.multi_get(["z", "nothing", "b", "a"]).unwrap();
        let values: Vec<_> = values.iter().map(|value| value.as_deref().map(number)).collect();
        assert_eq!(values, [Some(7), None, Some(1), Some(6)]);
        assert_eq!((db.size_of("b").unwrap(), db.contains_key("c").unwrap()), (Some(8), true));
        assert_eq!(number(db.first().unwrap().unwrap().value()), 6);
        assert_eq!(number(db.last().unwrap().unwrap().value()), 7);
        let mut cursor = db.cursor();
        assert!(cursor.seek("b").unwrap() && number(cursor.value()) == 1);
        assert!(cursor.next().unwrap() && number(cursor.value()) == 2 && cursor.key() == b"c");
        assert!(cursor.prev().unwrap() && cursor.prev().unwrap() && number(cursor.value()) == 6);
        let logs = db.keyspace("logs").unwrap();
        assert_eq!(logs.get("log").unwrap().unwrap(), b"one;two;");
        assert_eq!(logs.iter().next_back().unwrap().unwrap().value(), b"one;two;");
        assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
    };
    let old = |snapshot: &Snapshot, expected: &[Option<u64>]| {
        let found = ["a", "b", "c", "z"].map(|key| snapshot.get(key).unwrap().map(|value| number(&value)));
        assert_eq!(found, expected);
    };
    let check_all = |db: &Db| {
        check(db);
        old(&before, &[None; 4]);
        old(&middle, &[Some(6), Some(2), None, Some(1)]);
        assert_eq!(middle.iter().map(|entry| number(entry.unwrap().value())).sum::<u64>(), 9);
        assert_eq!(middle.iter().rev().map(|entry| number(entry.unwrap().value())).sum::<u64>(), 9);
    };
    check_all(&db);
    db.flush().unwrap();
    check_all(&db);
    db.compact().unwrap();
    check_all(&db);
    drop((before, middle));
    db.compact().unwrap();
    logs.compact().unwrap();
    check(&db);
    assert_eq!((total(&fs), has_operands(&fs)), (6, false), "each key has one entry");
    db.close().unwrap();
    // Nothing has to be said again of operators that come with the crate.
    let db = sim_options(&fs).open(DIR).unwrap();
    check(&db);
    db.merge("a", one()).unwrap();
    assert_eq!(count(&db, "a"), Some(7));
}

#[test]
fn updates_and_merges_of_one_key_meet() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Counter).open(DIR).unwrap();
    db.merge("k", one()).unwrap();
    let add = |old: Option<&[u8]>| Some((old.map_or(0, number) + 10).to_le_bytes());
    assert_eq!(db.update("k", add).unwrap(), Some(11u64.to_le_bytes()));
    db.merge("k", one()).unwrap();
    assert!(db.compare_and_swap("k", Some(&11u64.to_le_bytes()), None).unwrap().is_err());
    assert!(db.compare_and_swap("k", Some(&12u64.to_le_bytes()), Some(&one())).unwrap().is_ok());
    db.merge("k", one()).unwrap();
    assert_eq!(db.take("k").unwrap().map(|value| number(&value)), Some(2));
    assert!(db.get("k").unwrap().is_none());
    db.merge("k", one()).unwrap();
    assert_eq!(number(db.pop_first().unwrap().unwrap().value()), 1);
    assert!(db.is_empty().unwrap());
    // Everybody counts.
    let (threads, times) = (4, 300);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (db, add) = (&db, &add);
            scope.spawn(move || {
                for i in 0..times {
                    if thread == 0 {
                        db.update("k", add).unwrap();
                    } else {
                        db.merge("k", one()).unwrap();
                    }
                    if i % 100 == 50 {
                        db.flush().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(count(&db, "k"), Some(10 * times + (threads - 1) * times));
    db.compact().unwrap();
    assert_eq!((count(&db, "k"), total(&fs)), (Some(10 * times + (threads - 1) * times), 1));
}

/// A counter that counts how often it is asked, and the most operands that it was given.
struct Counted(Arc<AtomicU64>, Arc<AtomicU64>);

impl MergeOperator for Counted {
    fn name(&self) -> &'static str {
        "test.counted"
    }

    fn merge(&self, key: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.fetch_max(operands.len() as u64, Ordering::Relaxed);
        Counter.merge(key, value, operands)
    }

    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        Counter.combine(key, operands)
    }
}

#[test]
fn a_hundred_thousand_increments_are_one_entry() {
    let fs = SimFs::new();
    let calls = Arc::new(AtomicU64::new(0));
    let longest = Arc::new(AtomicU64::new(0));
    let mut options = sim_options(&fs);
    // No compaction, which would ask as well.
    options.merge_operator(Counted(calls.clone(), longest.clone())).memtable_bytes(64 << 10).l0_tables(1000);
    let db = options.open(DIR).unwrap();
    for i in 1..=100_000 {
        db.merge("k", one()).unwrap();
        if i % 9973 == 0 {
            assert_eq!(count(&db, "k"), Some(i));
            assert_eq!(number(db.last().unwrap().unwrap().value()), i);
        }
    }
    let read = longest.swap(0, Ordering::Relaxed);
    assert!(read <= 128, "a read goes through {read} operands");
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!((count(&db, "k"), total(&fs), has_operands(&fs)), (Some(100_000), 1, false));
    calls.store(0, Ordering::Relaxed);
    assert_eq!(count(&db, "k"), Some(100_000));
    assert_eq!(calls.load(Ordering::Relaxed), 0, "a value is read as it stands");
}

#[test]
fn a_chain_that_an_open_has_found_is_gone_through_once() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Counter).open(DIR).unwrap();
    (0..10_000).for_each(|_| db.merge("k", one()).unwrap());
    db.close().unwrap();
    let (calls, longest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for scans in [false, true] {
        let mut options = sim_options(&fs.kill());
        let db = options.known_operator(Named(Counted(calls.clone(), longest.clone()))).open(DIR).unwrap();
        for _ in 0..3 {
            let found = if scans { db.first().unwrap().map(|entry| number(entry.value())) } else { count(&db, "k") };
            assert_eq!(found, Some(10_000));
        }
        // After the first one, nobody is asked.
        assert_eq!((calls.swap(0, Ordering::Relaxed), longest.swap(0, Ordering::Relaxed)), (1, 10_000), "{scans}");
    }
}

/// The same, under the name of the counter of the crate.
struct Named(Counted);

impl MergeOperator for Named {
    fn name(&self) -> &'static str {
        "maplsm.counter"
    }

    fn merge(&self, key: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        self.0.merge(key, value, operands)
    }
}

/// A value that is too long to be kept would be made anew again and again, so writers leave it alone.
#[test]
fn appends_to_a_long_value_do_not_read_it() {
    let fs = SimFs::new();
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let append = Associative::new("test.append", move |a: &[u8], b: &[u8]| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok([a, b].concat())
    });
    let db = sim_options(&fs).merge_operator(append).open(DIR).unwrap();
    db.insert("k", vec![7; 2 << 20]).unwrap();
    (0..1000).for_each(|_| db.merge("k", "more").unwrap());
    assert!(calls.load(Ordering::Relaxed) <= 64, "{calls:?}");
    assert_eq!(db.size_of("k").unwrap(), Some((2 << 20) + 4000));
}

/// An operator is given at least one operand, also where what is kept of a read is all there is.
#[test]
fn an_operator_is_never_asked_about_no_operands() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Joined).open(DIR).unwrap();
    (0..128).for_each(|_| db.merge("k", "1").unwrap());
    let expected = vec!["1"; 128].join(",");
    for _ in 0..3 {
        assert_eq!(db.get("k").unwrap().unwrap(), expected.as_bytes());
        assert_eq!(db.iter().next().unwrap().unwrap().value(), expected.as_bytes());
        assert_eq!(db.iter().next_back().unwrap().unwrap().value(), expected.as_bytes());
    }
}

/// Puts the key in front of a value, and fails without one.
struct Picky;

impl MergeOperator for Picky {
    fn name(&self) -> &'static str {
        "test.picky"
    }

    fn merge(&self, key: &[u8], value: Option<&[u8]>, _: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        let value = value.ok_or_else(|| MergeError::new("there is nothing to change"))?;
        Ok([key, value].concat())
    }
}

/// Which keys there are in memory has nothing to do with what they have elsewhere.
#[test]
fn keys_in_memory_are_told_without_their_values() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Picky).open(DIR).unwrap();
    db.insert("k", "1").unwrap();
    db.flush().unwrap();
    db.merge("k", "").unwrap();
    db.merge("none", "").unwrap();
    assert_eq!(db.memtable_keys().unwrap(), [b"k".to_vec(), b"none".to_vec()]);
    assert_eq!(db.get("k").unwrap().unwrap(), b"k1");
    assert!(db.get("none").is_err() && db.contains_key("none").is_err());
}

/// What comes by other ways stands above and below operands like what is written.
#[test]
fn loads_removals_and_ends_meet_operands() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Append).open(DIR).unwrap();
    let get = |key: &str| db.get(key).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap());
    for key in ["a", "b", "c"] {
        db.merge(key, "old;").unwrap();
    }
    db.flush().unwrap();
    db.ingest([("b", "loaded;"), ("d", "loaded;")]).unwrap();
    for key in ["b", "c", "d", "e"] {
        db.merge(key, "new;").unwrap();
    }
    let check = || {
        assert_eq!(get("a").as_deref(), Some("old;"));
        assert_eq!((get("b").as_deref(), get("c").as_deref()), (Some("loaded;new;"), Some("old;new;")));
        assert_eq!((get("d").as_deref(), get("e").as_deref()), (Some("loaded;new;"), Some("new;")));
        assert_eq!(db.first().unwrap().unwrap().value(), b"old;");
        assert_eq!(db.last().unwrap().unwrap().value(), b"new;");
        assert_eq!(db.keys().count(), 5);
        assert_eq!(db.values().map(|value| value.unwrap().len()).collect::<Vec<_>>(), [4, 11, 8, 11, 4]);
    };
    check();
    db.compact().unwrap();
    check();
    assert!(db.insert_if_absent("e", "x").unwrap().is_some(), "an operand makes a value");
    db.merge("f", "1;").unwrap();
    assert!(db.insert_if_absent("f", "x").unwrap().is_some());
    db.merge("f", "2;").unwrap();
    assert_eq!(db.pop_last().unwrap().unwrap().value(), b"1;2;");
    assert_eq!(db.fetch_update("c", |_| None::<&str>).unwrap().unwrap(), b"old;new;");
    db.merge("c", "1;").unwrap();
    db.remove_prefix("a").unwrap();
    db.remove_range("d".."f").unwrap();
    db.merge("a", "2;").unwrap();
    db.merge("d", "3;").unwrap();
    for _ in 0..2 {
        let left: Vec<_> = db.iter().map(|entry| entry.unwrap()).collect();
        let left: Vec<_> = left.iter().map(|entry| [entry.key(), b"=", entry.value()].concat()).collect();
        assert_eq!(left, [&b"a=2;"[..], b"b=loaded;new;", b"c=1;", b"d=3;"]);
        db.compact().unwrap();
    }
}

/// A sequence of numbers that depends on nothing else than its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn check(keyspace: &Keyspace, model: &Map, what: &str) {
    assert!(read_all(keyspace.iter()).unwrap() == *model, "{what}");
    let back: Vec<_> =
        keyspace.iter().rev().map(|entry| entry.unwrap()).map(|e| (e.key().to_vec(), e.value().to_vec())).collect();
    assert!(back.into_iter().rev().eq(model.clone()), "{what}, backwards");
    for key in 0..12u8 {
        assert_eq!(keyspace.get([key]).unwrap().as_deref(), model.get(&vec![key]).map(Vec::as_slice), "{what}, {key}");
    }
}

/// One history against a map. The operator is not commutative, so an operand out of its place shows, and so does one twice.
fn run(seed: u64, combines: bool) {
    let mut random = Random(seed);
    let mut fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.memtable_bytes(4 << 10).l0_tables(2).level_bytes_base(4 << 10).level_multiplier(2).table_bytes(4 << 10);
    options.large_value_bytes([None, Some(64)][(seed % 2) as usize]).known_operator(Joined).known_operator(joining());
    if cfg!(feature = "lz4") && seed.is_multiple_of(3) {
        options.compression(Compression::Lz4).compressed_from_level(0);
    }
    let mut db = options.open(DIR).unwrap();
    let mut of_keyspace = KeyspaceOptions::new();
    if combines {
        of_keyspace.merge_operator(joining());
    } else {
        of_keyspace.merge_operator(Joined);
    }
    of_keyspace.value_alignment([1, 16][(seed / 2 % 2) as usize]);
    let mut keyspace = db.create_keyspace("k", &of_keyspace).unwrap();
    let mut model = Map::new();
    let mut snapshots: Vec<(Snapshot, Map)> = Vec::new();
    for step in 0..600u64 {
        let key = vec![u8::try_from(random.below(12)).unwrap()];
        let what = format!("seed {seed}, step {step}");
        match random.below(40) {
            0..=21 => {
                let operand = format!("{step}").into_bytes();
                keyspace.merge(&key, &operand).unwrap();
                let made = joined(model.get(&key).map(Vec::as_slice), &operand);
                model.insert(key, made);
            }
            22..=24 => {
                let value = format!("put {step}").into_bytes();
                keyspace.insert(&key, &value).unwrap();
                model.insert(key, value);
            }
            25 => {
                keyspace.remove(&key).unwrap();
                model.remove(&key);
            }
            26 => {
                let end = vec![key[0] + 3];
                keyspace.remove_range(key.clone()..end.clone()).unwrap();
                model.retain(|k, _| *k < key || *k >= end);
            }
            27 | 28 => {
                let tx = db.transaction();
                tx.get_from(&keyspace, &key).unwrap();
                tx.merge_into(&keyspace, &key, "tx").unwrap();
                tx.merge_into(&keyspace, &key, "tx2").unwrap();
                let made = joined(Some(&joined(model.get(&key).map(Vec::as_slice), b"tx")), b"tx2");
                assert_eq!(tx.get_from(&keyspace, &key).unwrap().unwrap(), made[..], "{what}");
                model.insert(key, made);
                let seen: Map = tx
                    .range_of::<&[u8]>(&keyspace, ..)
                    .map(|entry| entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec())).unwrap())
                    .collect();
                assert!(seen == model, "{what}: what a transaction sees");
                tx.commit().unwrap();
            }
            29 => snapshots.push((keyspace.snapshot(), model.clone())),
            30 if !snapshots.is_empty() => {
                let at = random.below(snapshots.len() as u64);
                snapshots.swap_remove(usize::try_from(at).unwrap());
            }
            31 | 32 => db.flush().unwrap(),
            33 | 34 => db.maintain().unwrap(),
            35 => keyspace.compact().unwrap(),
            36 if random.below(3) == 0 => {
                snapshots.clear();
                drop(keyspace);
                if random.below(2) == 0 {
                    db.close().unwrap();
                }
                drop(db);
                fs = fs.kill();
                db = options.file_system(fs.clone()).open(DIR).unwrap();
                keyspace = db.keyspace("k").unwrap();
            }
            _ => {
                check(&keyspace, &model, &what);
                for (snapshot, model) in &snapshots {
                    assert!(read_all(snapshot.iter()).unwrap() == *model, "{what}: a snapshot");
                    for key in 0..12u8 {
                        let expected = model.get(&vec![key]).map(Vec::as_slice);
                        assert_eq!(snapshot.get([key]).unwrap().as_deref(), expected, "{what}: a snapshot, {key}");
                    }
                }
            }
        }
    }
    check(&keyspace, &model, "at the end");
    snapshots.clear();
    keyspace.compact().unwrap();
    check(&keyspace, &model, "compacted");
    assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
    assert_eq!((total(&fs), has_operands(&fs)), (model.len() as u64, false), "seed {seed}: compacted");
}

#[test]
fn histories_agree_with_a_map() {
    for seed in 0..40 {
        run(seed, seed % 4 < 2);
    }
}

#[test]
fn operators_are_asked_for_by_name() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Joined).open(DIR).unwrap();
    db.create_keyspace("other", KeyspaceOptions::new().merge_operator(joining())).unwrap().merge("k", "1").unwrap();
    db.insert("put", "value").unwrap();
    db.merge("k", "1").unwrap();
    db.merge("k", "2").unwrap();
    db.close().unwrap();
    let image = || crate::support::image(&fs);
    let good = image();
    let refused = |options: &mut Options, keyspace: &str, option: &str| {
        for read_only in [false, true] {
            let error = options.read_only(read_only).open(DIR).unwrap_err();
            assert!(error.to_string().contains(option) && error.to_string().contains("test.jo"), "{error}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(matches!(&error, Error::OtherOperator { keyspace: of, .. } if **of == *keyspace), "{error}");
        }
        assert!(image() == good, "nothing is changed");
    };
    refused(&mut sim_options(&fs), "default", "merge_operator");
    refused(sim_options(&fs).merge_operator(Counter).known_operator(joining()), "default", "merge_operator");
    refused(sim_options(&fs).merge_operator(Counter).allow_missing_operators(true), "default", "merge_operator");
    refused(sim_options(&fs).merge_operator(Joined), "other", "known_operator");
    // A name that cannot be kept.
    let nameless = Associative::new("", |a: &[u8], _: &[u8]| Ok(a.to_vec()));
    assert!(matches!(sim_options(&fs).known_operator(nameless).open(DIR), Err(Error::InvalidOptions { .. })));
    // Without them, everything else works.
    let db = sim_options(&fs).allow_missing_operators(true).open(DIR).unwrap();
    let unsupported = |error: Error| matches!(&error, Error::UnsupportedFormat(u) if u.what == Feature::MergeOperand);
    for _ in 0..2 {
        assert!(unsupported(db.get("k").unwrap_err()) && unsupported(db.iter().next().unwrap().unwrap_err()));
        assert_eq!(db.get("put").unwrap().unwrap(), b"value");
        assert!(matches!(db.merge("k", "3"), Err(Error::NoOperator { .. })));
        assert!(matches!(db.write(WriteBatch::new().merge("k", "3")), Err(Error::NoOperator { .. })));
        assert!(matches!(db.transaction().merge("k", "3"), Err(Error::NoOperator { .. })));
        db.compact().unwrap();
    }
    db.close().unwrap();
    maplsm::restore(DIR, "/nowhere").unwrap_err();
    sim_options(&fs).restore(DIR, "/restored").unwrap();
    for dir in [DIR, "/restored"] {
        let db = sim_options(&fs).known_operator(Joined).known_operator(joining()).open(dir).unwrap();
        assert_eq!(db.get("k").unwrap().unwrap(), b"1,2");
        assert_eq!(db.keyspace("other").unwrap().get("k").unwrap().unwrap(), b"1");
    }
    // Where there is none, there is nothing to merge with.
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    let plain = db.keyspace("plain").unwrap();
    assert!(matches!(db.merge("k", "1"), Err(Error::NoOperator { keyspace }) if &*keyspace == "default"));
    assert!(matches!(plain.merge("k", "1"), Err(Error::NoOperator { keyspace }) if &*keyspace == "plain"));
    let refused = db.write(WriteBatch::new().insert("a", "").merge_into(&plain, "k", "1"));
    assert!(matches!(refused, Err(Error::NoOperator { .. })) && db.is_empty().unwrap());
}

#[test]
fn an_operator_that_fails_is_an_error_of_its_key_alone() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Joined).open(DIR).unwrap();
    for (key, operand) in [("bad", "fail"), ("worse", "panic")] {
        db.insert(key, "base").unwrap();
        for operand in ["1", operand, "2"] {
            db.merge(key, operand).unwrap();
        }
    }
    db.merge("good", "1").unwrap();
    for round in 0..4 {
        for (key, problem) in [("bad", "told"), ("worse", "panicked")] {
            let error = db.get(key).unwrap_err();
            assert!(matches!(&error, Error::MergeFailed { key: of, .. } if **of == *key.as_bytes()), "{error}");
            assert!(error.to_string().contains(problem) && error.kind() == ErrorKind::Operator, "{error}");
            assert!(db.range(key..=key).next().unwrap().is_err() && db.range(key..=key).next_back().unwrap().is_err());
            assert!(db.size_of(key).is_err() && db.multi_get(["good", key]).is_err());
            assert!(db.update(key, |_| Some("new")).is_err());
            db.merge(key, "more").unwrap();
        }
        assert_eq!(db.get("good").unwrap().unwrap(), b"1");
        if round < 3 {
            db.compact().unwrap();
            // The base and each operand, of both.
            assert_eq!(total(&fs), 1 + 2 * (5 + round));
        }
    }
    // A newer value hides all that.
    db.insert("bad", "new").unwrap();
    db.remove("worse").unwrap();
    db.merge("worse", "1").unwrap();
    assert!(db.get("bad").unwrap().unwrap() == "new" && db.get("worse").unwrap().unwrap() == "1");
    db.compact().unwrap();
    assert_eq!(total(&fs), 3);
}

#[test]
fn a_merge_is_no_read_of_a_transaction() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Counter).open(DIR).unwrap();
    db.insert("k", one()).unwrap();
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        db.insert("k", one()).unwrap();
        let tx = db.transaction_with(isolation);
        tx.merge("k", one()).unwrap();
        let savepoint = tx.savepoint();
        tx.merge("k", one()).unwrap();
        tx.merge("new", one()).unwrap();
        assert!(tx.rollback_to(savepoint));
        tx.merge("k", one()).unwrap();
        db.merge("k", one()).unwrap();
        tx.commit().unwrap();
        assert_eq!((count(&db, "k"), count(&db, "new")), (Some(4), None), "{isolation:?}");
    }
    // Who reads it relies on it.
    let tx = db.transaction();
    tx.merge("k", one()).unwrap();
    assert_eq!(number(&tx.get("k").unwrap().unwrap()), 5);
    db.merge("k", one()).unwrap();
    assert!(matches!(tx.commit(), Err(Error::Conflict)));
    // Of what the transaction has written itself, a value is made at once.
    let tx = db.transaction();
    tx.remove("k").unwrap();
    tx.merge("k", one()).unwrap();
    tx.insert("l", one()).unwrap();
    tx.merge("l", one()).unwrap();
    tx.merge("m", one()).unwrap();
    assert!(matches!(tx.merge("l", "no number"), Err(Error::MergeFailed { .. })));
    let values = tx.multi_get(["k", "l", "m", "n"]).unwrap();
    let values: Vec<_> = values.iter().map(|value| value.as_deref().map(number)).collect();
    assert_eq!(values, [Some(1), Some(2), Some(1), None]);
    assert_eq!(tx.iter().rev().map(|entry| number(entry.unwrap().value())).collect::<Vec<_>>(), [1, 2, 1]);
    db.merge("k", one()).unwrap();
    tx.remove_range("l"..="l").unwrap();
    assert!(matches!(tx.commit(), Err(Error::Conflict)), "an iterator reads");
    // Many operands of one key are one.
    let tx = db.transaction();
    tx.savepoint();
    (0..1000).for_each(|_| tx.merge("many", one()).unwrap());
    let inner = tx.savepoint();
    (0..1000).for_each(|_| tx.merge("many", one()).unwrap());
    assert_eq!(number(&tx.get("many").unwrap().unwrap()), 2000);
    assert!(tx.rollback_to(inner));
    assert_eq!(number(&tx.get("many").unwrap().unwrap()), 1000);
    tx.commit().unwrap();
    assert_eq!(count(&db, "many"), Some(1000));
    let tx = db.transaction();
    tx.merge("l", one()).unwrap();
    tx.remove_range("a".."z").unwrap();
    tx.merge("l", one()).unwrap();
    tx.commit().unwrap();
    assert_eq!((count(&db, "k"), count(&db, "l")), (None, Some(1)));
}

#[test]
fn what_a_snapshot_sees_is_not_folded() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Counter).open(DIR).unwrap();
    let mut snapshots = Vec::new();
    for i in 1..=30u64 {
        db.merge("k", one()).unwrap();
        if i % 10 == 5 {
            snapshots.push((i, db.snapshot()));
        }
    }
    let check = |snapshots: &[(u64, Snapshot)]| {
        for (count, snapshot) in snapshots {
            assert_eq!(snapshot.get("k").unwrap().map(|value| number(&value)), Some(*count));
            assert_eq!(snapshot.iter().next().map(|entry| number(entry.unwrap().value())), Some(*count));
        }
        assert_eq!(count(&db, "k"), Some(30));
    };
    db.compact().unwrap();
    check(&snapshots);
    // The oldest has a value, and each group above it is one operand.
    assert_eq!((total(&fs), has_operands(&fs)), (4, true));
    snapshots.remove(1);
    db.compact().unwrap();
    check(&snapshots);
    assert_eq!(total(&fs), 3);
    snapshots.clear();
    db.compact().unwrap();
    check(&snapshots);
    assert_eq!((total(&fs), has_operands(&fs)), (1, false));
}

/// The value of a long chain is kept in memory, and a compaction may put operands together that are in it and others that are
/// not.
#[test]
fn what_is_kept_of_a_read_is_not_counted_twice() {
    let fs = SimFs::new();
    let db = sim_options(&fs).merge_operator(Counter).open(DIR).unwrap();
    let merge = |times: u64| (0..times).for_each(|_| db.merge("k", one()).unwrap());
    merge(10);
    let snapshot = db.snapshot();
    // Of the 64th, the value is kept.
    merge(90);
    db.compact().unwrap();
    assert_eq!((total(&fs), has_operands(&fs)), (2, true), "one operand stands for 90");
    merge(1);
    assert_eq!(count(&db, "k"), Some(101));
    assert_eq!(snapshot.get("k").unwrap().map(|value| number(&value)), Some(10));
    // A removal ends what is kept as well.
    merge(64);
    db.remove_range("a".."z").unwrap();
    merge(2);
    assert_eq!(count(&db, "k"), Some(2));
    db.insert("k", one()).unwrap();
    merge(70);
    assert_eq!(count(&db, "k"), Some(71));
}

#[test]
fn a_filter_is_asked_about_values_and_never_about_what_operands_work_on() {
    let fs = SimFs::new();
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let mut options = sim_options(&fs);
    options.merge_operator(Counter).compaction_filter(move |entry| {
        assert_eq!(number(entry.value), 3);
        seen.store(true, Ordering::Relaxed);
        maplsm::Verdict::Remove
    });
    let db = options.open(DIR).unwrap();
    db.insert("k", one()).unwrap();
    db.merge("k", one()).unwrap();
    db.merge("k", one()).unwrap();
    db.compact().unwrap();
    assert!(asked.load(Ordering::Relaxed) && db.get("k").unwrap().is_none());
    db.merge("k", one()).unwrap();
    assert_eq!(count(&db, "k"), Some(1));
}

/// What a filter has removed is not there any more, in what is kept of a read either.
#[test]
fn a_filter_and_long_chains_agree() {
    let fs = SimFs::new();
    let (calls, longest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut options = sim_options(&fs);
    options.merge_operator(Counted(calls, longest.clone())).compaction_filter(|_| maplsm::Verdict::Remove);
    let db = options.open(DIR).unwrap();
    let merge = |times: u64| (0..times).for_each(|_| db.merge("k", one()).unwrap());
    for round in 1..=3 {
        merge(1000);
        assert_eq!(count(&db, "k"), Some(1000), "round {round}");
        assert!(longest.swap(0, Ordering::Relaxed) <= 128);
        let snapshot = db.snapshot();
        db.compact().unwrap();
        assert_eq!(count(&db, "k"), Some(1000), "beside a snapshot, nothing is filtered");
        drop(snapshot);
        longest.store(0, Ordering::Relaxed);
        db.insert("other", one()).unwrap();
        db.compact().unwrap();
        assert_eq!(count(&db, "k"), None, "round {round}");
        longest.store(0, Ordering::Relaxed);
    }
}

/// The same where newer operands than those that the filter removes have come meanwhile, and are in what was kept.
#[test]
fn what_a_filter_removes_below_newer_operands_is_gone() {
    let fs = SimFs::new();
    let within: Arc<Mutex<Option<Db>>> = Arc::default();
    let of_filter = Arc::clone(&within);
    let merge = |db: &Db| (0..100).for_each(|_| db.merge("k", one()).unwrap());
    let mut options = sim_options(&fs);
    options.merge_operator(Counter).compaction_filter(move |entry| {
        assert_eq!(number(entry.value), 100);
        if let Some(db) = of_filter.lock().unwrap().take() {
            merge(&db);
            assert_eq!(count(&db, "k"), Some(200));
        }
        maplsm::Verdict::Remove
    });
    let db = options.open(DIR).unwrap();
    merge(&db);
    *within.lock().unwrap() = Some(db.clone());
    db.compact().unwrap();
    assert!(within.lock().unwrap().is_none(), "the filter is asked");
    for _ in 0..2 {
        assert_eq!((total(&fs), count(&db, "k")), (0, Some(100)), "the older hundred is gone");
    }
}

/// A database without its manifest, and with the tables that a compaction has replaced beside those that it has made.
fn with_inputs(options: &Options, fs: &SimFs, snapshot_at: Option<u64>) -> SimFs {
    let db = options.open(DIR).unwrap();
    let mut snapshot = None;
    db.insert("k", 100u64.to_le_bytes()).unwrap();
    for i in 1..=20 {
        db.merge("k", one()).unwrap();
        if Some(i) == snapshot_at {
            snapshot = Some(db.snapshot());
        }
    }
    db.insert("other", one()).unwrap();
    db.flush().unwrap();
    let inputs: Vec<(String, Vec<u8>)> =
        names(fs, ".sst").into_iter().map(|name| (name.clone(), fs.read(&path(&name)).unwrap())).collect();
    db.compact().unwrap();
    assert_eq!(count(&db, "k"), Some(120));
    assert!(total(fs) < 6, "they are folded");
    drop(snapshot);
    db.close().unwrap();
    let fs = fs.kill();
    for (name, bytes) in &inputs {
        fs.write(&path(name), bytes);
    }
    for name in names(&fs, ".manifest") {
        fs.remove(&path(&name));
    }
    fs.remove(&path("CURRENT"));
    fs
}

#[test]
fn a_repair_counts_nothing_twice() {
    for snapshot_at in [None, Some(10), Some(19)] {
        let fs = SimFs::new();
        let mut options = sim_options(&fs);
        options.merge_operator(Counter);
        let both = with_inputs(&options, &fs, snapshot_at);
        options.file_system(both.clone());
        let found = maplsm::examine(DIR, &options).unwrap();
        assert!(found.iter().all(|finding| finding.lost_key_count == 0), "{found:?}");
        let report = maplsm::repair(DIR, &options).unwrap();
        assert_eq!(report.entries, 2, "{report:?}");
        let db = options.open(DIR).unwrap();
        assert_eq!(count(&db, "k"), Some(120), "with a snapshot at {snapshot_at:?}");
        db.merge("k", one()).unwrap();
        assert_eq!(count(&db, "k"), Some(121));
        db.close().unwrap();
        // Its operator is known again.
        assert!(sim_options(&both).merge_operator(Max).open(DIR).is_err());
    }
}

#[test]
fn a_repair_without_the_operator_says_so_or_loses_the_key() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    let db = options.merge_operator(Joined).open(DIR).unwrap();
    db.insert("put", "value").unwrap();
    db.merge("k", "1").unwrap();
    db.merge("k", "2").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let damaged = fs.kill();
    // What only a rebuild mends, and what it does not need.
    crate::support::change(&damaged, &names(&damaged, ".sst")[0], |table| table[0] ^= 1);
    let before = crate::support::image(&damaged);
    let refused = maplsm::repair(DIR, &sim_options(&damaged)).unwrap_err();
    assert!(matches!(refused, Error::OtherOperator { .. }), "{refused}");
    assert!(crate::support::image(&damaged) == before);
    options.file_system(damaged.clone());
    maplsm::repair(DIR, &options).unwrap();
    let db = options.open(DIR).unwrap();
    assert!(db.get("k").unwrap().unwrap() == "1,2" && db.get("put").unwrap().unwrap() == "value");
    drop(db);
    // Without a manifest, nobody knows what the operator was called.
    let damaged = fs.kill();
    for name in names(&damaged, ".manifest") {
        damaged.remove(&path(&name));
    }
    let report = maplsm::repair(DIR, &sim_options(&damaged)).unwrap();
    let lost: u64 = report.findings.iter().map(|finding| finding.lost_key_count).sum();
    assert_eq!((report.entries, lost), (1, 1), "{report:?}");
    let db = sim_options(&damaged).open(DIR).unwrap();
    assert!(db.get("k").unwrap().is_none() && db.get("put").unwrap().is_some());
}

#[test]
fn copies_have_what_the_database_has() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    let db = options.merge_operator(Joined).open(DIR).unwrap();
    for i in 0..100 {
        db.merge([i % 7], format!("{i}")).unwrap();
        if i % 30 == 29 {
            db.flush().unwrap();
        }
    }
    let expected = read_all(db.iter()).unwrap();
    let digest = db.snapshot().digest().unwrap();
    db.checkpoint("/copy").unwrap();
    db.backup("/backups").unwrap();
    sim_options(&fs).restore("/backups", "/restored").unwrap();
    db.compact().unwrap();
    assert_eq!(db.snapshot().digest().unwrap(), digest, "a digest is that of the values");
    for dir in ["/copy", "/restored"] {
        let db = options.open(dir).unwrap();
        assert!(read_all(db.iter()).unwrap() == expected, "{dir}");
        assert_eq!(db.snapshot().digest().unwrap(), digest);
        assert!(db.verify().is_ok());
    }
}
