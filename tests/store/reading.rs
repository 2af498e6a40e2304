//! Reading beyond one value and one walk: ends, keys and values alone, many keys at once, sizes, and counts without a walk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use maplsm::{Db, Entry, IoMode, Isolation, Options, PointIndex, Result, SimFs, Slice, WriteBatch};

use crate::support::model::Map;
use crate::support::{DIR, load, names, sim_options};

fn open() -> Db {
    sim_options(&SimFs::new()).open(DIR).unwrap()
}

fn key(i: u64) -> Vec<u8> {
    format!("key{i:06}").into_bytes()
}

/// The ways in which entries are stored that lookups tell apart.
fn layouts() -> Vec<(&'static str, Options)> {
    let of = |change: fn(&mut Options)| {
        let mut options = sim_options(&SimFs::new());
        options.memtable_bytes(64 << 10).table_bytes(32 << 10).level_bytes_base(64 << 10);
        change(&mut options);
        options
    };
    vec![
        ("plain", of(|_| ())),
        ("bloom", of(|options| _ = options.point_index(PointIndex::Bloom { error_rate: 0.01 }).index_interval(16))),
        ("read", of(|options| _ = options.io_mode(IoMode::Read))),
        ("apart", of(|options| _ = options.large_value_bytes(Some(64)))),
        ("read apart", of(|options| _ = options.io_mode(IoMode::Read).large_value_bytes(Some(64)))),
        #[cfg(feature = "lz4")]
        ("blocks", of(|options| _ = options.compression(maplsm::Compression::Lz4))),
    ]
}

/// Fills a database so that it has something in the memtable, in level 0 and below, older versions, and removed keys.
fn fill(db: &Db) -> Map {
    let mut model = Map::new();
    for round in 0..4u64 {
        for i in (0..1200).filter(|i| i % (round + 1) == 0) {
            let value = vec![u8::try_from(i % 251).unwrap(); usize::try_from(i * 7 % 200 + round).unwrap()];
            db.insert(key(i), &value).unwrap();
            model.insert(key(i), value);
        }
        for i in (round..1200).step_by(17) {
            db.remove(key(i)).unwrap();
            model.remove(&key(i));
        }
        match round {
            0 => db.compact().unwrap(),
            3 => {}
            _ => db.flush().unwrap(),
        }
    }
    db.remove_range(key(300)..key(340)).unwrap();
    model.retain(|k, _| !(key(300)..key(340)).contains(k));
    model
}

#[test]
fn ends_are_what_a_walk_begins_and_ends_with() {
    let db = open();
    let named = db.keyspace("named").unwrap();
    assert!(db.first().unwrap().is_none() && db.last().unwrap().is_none() && db.is_empty().unwrap());
    assert!(named.is_empty().unwrap() && db.snapshot().is_empty().unwrap() && db.transaction().is_empty().unwrap());
    let before = db.snapshot();
    db.write(WriteBatch::new().insert("b", "2").insert("a", "1").insert("c", "3")).unwrap();
    let key_of = |entry: Result<Option<Entry>>| entry.unwrap().map(|entry| entry.key().to_vec());
    for flushed in [false, true] {
        if flushed {
            db.flush().unwrap();
        }
        assert_eq!((key_of(db.first()), key_of(db.last())), (Some(b"a".to_vec()), Some(b"c".to_vec())));
        let snapshot = db.snapshot();
        assert_eq!((key_of(snapshot.first()), key_of(snapshot.last())), (Some(b"a".to_vec()), Some(b"c".to_vec())));
        assert!(!db.is_empty().unwrap() && named.is_empty().unwrap() && before.is_empty().unwrap());
    }
    let tx = db.transaction();
    tx.remove("a").unwrap();
    tx.insert("d", "4").unwrap();
    assert_eq!((key_of(tx.first()), key_of(tx.last())), (Some(b"b".to_vec()), Some(b"d".to_vec())));
    named.insert("x", "y").unwrap();
    assert_eq!((key_of(named.first()), key_of(named.last())), (Some(b"x".to_vec()), Some(b"x".to_vec())));
    db.remove_range::<&str>(..).unwrap();
    assert!(db.is_empty().unwrap() && !named.is_empty().unwrap());
    db.drop_keyspace("named").unwrap();
    assert!(named.first().is_err() && named.last().is_err() && named.is_empty().is_err());
    assert_eq!(db.path(), Path::new(DIR));
}

#[test]
fn what_a_transaction_sees_at_its_ends_counts_as_read() {
    type Look = fn(&maplsm::Transaction);
    let looks: [Look; 3] = [
        |tx| assert_eq!(tx.first().unwrap().unwrap().key(), b"b"),
        |tx| assert!(!tx.is_empty().unwrap()),
        |tx| assert_eq!(tx.multi_get(["b", "a"]).unwrap(), [tx.get("b").unwrap(), None]),
    ];
    for look in looks {
        let db = open();
        db.write(WriteBatch::new().insert("b", "1").insert("c", "1")).unwrap();
        let tx = db.transaction_with(Isolation::Serializable);
        look(&tx);
        tx.insert("z", "1").unwrap();
        db.insert("a", "1").unwrap();
        assert!(matches!(tx.commit(), Err(maplsm::Error::Conflict)));
    }
    let db = open();
    db.insert("b", "1").unwrap();
    let tx = db.transaction();
    tx.insert("c", "own").unwrap();
    tx.remove("b").unwrap();
    let values = tx.multi_get(["c", "b", "x"]).unwrap();
    assert!(values[0].as_ref().unwrap() == "own" && values[1..] == [None, None]);
}

#[test]
fn keys_and_values_are_those_of_the_entries() {
    for (name, options) in layouts() {
        let db = options.open(DIR).unwrap();
        let model = fill(&db);
        let keys: Vec<Slice> = db.keys().collect::<Result<_>>().unwrap();
        assert!(keys.iter().eq(model.keys()), "{name}");
        let values: Vec<Slice> = db.snapshot().values().rev().collect::<Result<_>>().unwrap();
        assert!(values.iter().eq(model.values().rev()), "{name}");
        let parts: Vec<(Slice, Slice)> =
            db.iter().map(|entry| entry.map(Entry::into_parts)).collect::<Result<_>>().unwrap();
        let copies: Map = db.iter().map(|entry| entry.map(Into::into)).collect::<Result<_>>().unwrap();
        let shared: BTreeMap<Arc<[u8]>, Arc<[u8]>> =
            db.iter().map(|entry| entry.map(Into::into)).collect::<Result<_>>().unwrap();
        drop(db);
        // All of it keeps alive what it is in.
        assert!(parts.iter().map(|(k, v)| (&**k, &**v)).eq(model.iter().map(|(k, v)| (&**k, &**v))), "{name}");
        assert!(copies == model && shared.len() == model.len(), "{name}");
        let (first, last) = (keys[0].clone(), values[0].clone());
        assert_eq!(Vec::from(first.clone()), first.to_vec());
        assert_eq!((&*Arc::<[u8]>::from(first.clone()), &*Box::<[u8]>::from(last.clone())), (&*first, &*last));
    }
}

/// Against an iterator over what is left of the range.
#[test]
fn an_iterator_that_seeks_goes_on_there() {
    for seed in 0..200u64 {
        println!("seed {seed}");
        let mut state = seed;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        let db = open();
        let model: Vec<u64> = (0..60).filter(|_| below(3) > 0).collect();
        load(&db, model.iter().map(|i| (key(*i), "")), 7);
        if seed % 2 == 0 {
            db.flush().unwrap();
        }
        let (from, to) = (below(20), 40 + below(30));
        let mut left: Vec<u64> = model.into_iter().filter(|i| (from..to).contains(i)).collect();
        let mut iter = db.range(key(from)..key(to));
        for _ in 0..30 {
            match below(4) {
                0 => {
                    let target = below(70);
                    iter.seek(key(target));
                    left.retain(|i| *i >= target);
                }
                1 => assert_eq!(iter.next_back().map(|e| e.unwrap().into_key()), left.pop().map(key).map(slice(&db))),
                _ => {
                    let expected = (!left.is_empty()).then(|| left.remove(0));
                    assert_eq!(iter.next().map(|e| e.unwrap().into_key()), expected.map(key).map(slice(&db)));
                }
            }
        }
    }
}

/// A key of the database as a slice.
fn slice(db: &Db) -> impl Fn(Vec<u8>) -> Slice {
    let db = db.clone();
    move |key| db.range(key.clone()..=key).next().unwrap().unwrap().into_key()
}

#[test]
fn a_cursor_goes_past_a_key_in_both_directions() {
    let db = open();
    load(&db, (0..10).map(|i| (key(2 * i), "")), 3);
    let mut cursor = db.cursor();
    for i in 0..20u64 {
        let before = (0..i).rev().find(|i| i % 2 == 0);
        assert_eq!(cursor.seek_before(key(i)).unwrap(), before.is_some());
        assert!(before.is_none_or(|before| cursor.key() == key(before)));
        let after = (i + 1..19).find(|i| i % 2 == 0);
        assert_eq!(cursor.seek_after(key(i)).unwrap(), after.is_some(), "{i}");
        assert!(after.is_none_or(|after| cursor.key() == key(after)));
    }
}

#[test]
fn sizes_and_many_values_are_those_of_single_reads() {
    for (name, options) in layouts() {
        let db = options.open(DIR).unwrap();
        let model = fill(&db);
        let named = db.keyspace("named").unwrap();
        named.insert(key(1), "of another keyspace").unwrap();
        let keys: Vec<Vec<u8>> = (0..1300).map(|i| key(i * 7 % 1300)).collect();
        for (what, values) in [
            ("db", db.multi_get(&keys).unwrap()),
            ("snapshot", db.snapshot().multi_get(keys.iter()).unwrap()),
            ("transaction", db.transaction().multi_get(&keys).unwrap()),
        ] {
            assert_eq!(values.len(), keys.len());
            for (key, value) in keys.iter().zip(values) {
                assert_eq!(value.as_deref(), model.get(key).map(|value| &value[..]), "{name} {what}");
            }
        }
        for key in &keys {
            let expected = model.get(key).map(|value| value.len() as u64);
            assert_eq!(db.size_of(key).unwrap(), expected, "{name}");
            assert_eq!(db.snapshot().size_of(key).unwrap(), expected, "{name}");
        }
        assert!(db.multi_get::<&str>([]).unwrap().is_empty());
        assert_eq!(named.multi_get([key(1), key(2)]).unwrap(), [named.get(key(1)).unwrap(), None]);
        assert_eq!(named.size_of(key(1)).unwrap(), Some(19));
        db.drop_keyspace("named").unwrap();
        assert!(named.multi_get([key(1)]).is_err() && named.size_of(key(1)).is_err());
        db.close().unwrap();
        assert!(matches!(db.multi_get([key(1)]), Err(maplsm::Error::Closed)));
        assert!(matches!(db.size_of(key(1)), Err(maplsm::Error::Closed)));
    }
}

/// With fewer open tables than a window of keys is in.
#[test]
fn many_values_are_in_more_tables_than_may_be_open() {
    let mut options = sim_options(&SimFs::new());
    options.max_open_tables(2).table_bytes(8 << 10).large_value_bytes(Some(300));
    let db = options.open(DIR).unwrap();
    let value = |i: u64| vec![7u8; usize::try_from(100 + i % 400).unwrap()];
    db.ingest((0..2000).map(|i| (key(i), value(i)))).unwrap();
    assert!(db.stats().tables.len() > 10);
    let keys = |step: u64| (0..60).map(move |i| i * step % 2000);
    for step in [1, 33, 331] {
        let values = db.multi_get(keys(step).map(key)).unwrap();
        let expected: Vec<Vec<u8>> = keys(step).map(value).collect();
        assert!(values.iter().map(|value| value.as_deref().unwrap()).eq(expected.iter().map(|value| &value[..])));
    }
}

/// Writers move all keys from one number to the next in one batch, while tables come and go.
#[test]
fn many_values_are_of_one_moment() {
    let mut options = sim_options(&SimFs::new());
    options.memtable_entries(Some(2000)).background_threads(1);
    let db = options.open(DIR).unwrap();
    let keys: Vec<Vec<u8>> = (0..100).map(key).collect();
    let write = |number: u32| {
        let mut batch = WriteBatch::new();
        for key in &keys {
            batch.insert(key, number.to_be_bytes());
        }
        db.write(&batch).unwrap();
    };
    write(0);
    let before = db.snapshot();
    write(1);
    let seen = before.multi_get(&keys).unwrap();
    assert!(seen.iter().all(|value| value.as_deref() == Some(&[0; 4][..])), "not the moment of the snapshot");
    drop(before);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            (2..3000).for_each(&write);
            done.store(true, Ordering::SeqCst);
        });
        let mut reads = 0;
        let mut last = 0;
        while !done.load(Ordering::SeqCst) {
            let values = db.multi_get(&keys).unwrap();
            let number = |value: &Option<Slice>| u32::from_be_bytes(value.as_deref().unwrap().try_into().unwrap());
            let first = number(&values[0]);
            assert!(values.iter().all(|value| number(value) == first), "values of two moments");
            assert!(first >= last, "back in time");
            last = first;
            reads += 1;
        }
        println!("{reads} reads");
    });
}

/// Of a value that stands apart, only its entry is read for its size.
#[test]
fn a_size_says_nothing_about_a_value_that_stands_apart() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.large_value_bytes(Some(64));
    let db = options.open(DIR).unwrap();
    db.insert("key", [1; 5000]).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let file = names(&fs, ".val").pop().expect("a value file");
    crate::support::change(&fs, &file, |bytes| bytes[3000] ^= 1);
    let db = options.open(DIR).unwrap();
    assert!(db.get("key").unwrap_err().is_corruption());
    assert!(db.multi_get(["other", "key"]).unwrap_err().is_corruption());
    assert_eq!(db.size_of("key").unwrap(), Some(5000));
}

type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Everything that a range is compared with, by its bounds.
fn ranges(count: u64) -> Vec<KeyRange> {
    let at = |share: u64| key(count * share / 100);
    let mut ranges = vec![(Bound::Unbounded, Bound::Unbounded)];
    for (from, to) in [(0, 50), (10, 11), (33, 34), (50, 100), (99, 100), (20, 80), (0, 200), (60, 40)] {
        ranges.push((Bound::Included(at(from)), Bound::Excluded(at(to))));
        ranges.push((Bound::Excluded(at(from)), Bound::Included(at(to))));
        ranges.push((Bound::Unbounded, Bound::Excluded(at(to))));
        ranges.push((Bound::Excluded(at(from)), Bound::Unbounded));
    }
    ranges
}

fn is_in(range: &KeyRange, key: &[u8]) -> bool {
    use std::ops::RangeBounds;
    RangeBounds::<Vec<u8>>::contains(range, &key.to_vec())
}

/// The documented bound of the error: for each table that a range begins or ends in.
fn bound(name: &str, tables: u64) -> u64 {
    tables * if name == "bloom" { 2 * 16 } else { 30 }
}

#[test]
fn lengths_are_as_exact_as_documented() {
    const COUNT: u64 = 5000;
    for (name, options) in layouts() {
        let db = options.open(DIR).unwrap();
        let exact = |range: &KeyRange| (0..COUNT).filter(|i| is_in(range, &key(*i))).count() as u64;
        let check = |what: &str, tables: u64, copies: u64| {
            for range in ranges(COUNT) {
                let (about, exact) = (db.approximate_len(range.clone()).unwrap(), copies * exact(&range));
                let error = bound(name, tables);
                assert!(about.abs_diff(exact) <= error, "{name}, {what}: {about} for {exact} of {range:?}");
            }
        };
        // Of different sizes.
        let value = |i: u64| vec![1u8; usize::try_from(i * i % 300).unwrap()];
        db.ingest((0..COUNT).map(|i| (key(i), value(i)))).unwrap();
        assert!(db.stats().tables.len() > 1, "{name}");
        check("one level", 2, 1);
        assert_eq!(db.approximate_len::<&str>(..).unwrap(), COUNT, "whole tables are exact");
        // Each key once more, in memory and then in level 0.
        let mut batch = WriteBatch::new();
        (0..COUNT).for_each(|i| _ = batch.insert(key(i), ""));
        db.write(&batch).unwrap();
        let copies = db.approximate_len::<&str>(..).unwrap();
        assert_eq!(copies, 2 * COUNT, "{name}");
        check("a memtable or tables above", 3 + 2, 2);
        db.flush().unwrap();
        check("level 0", 3 + 2, 2);
        db.compact().unwrap();
        check("compacted", 2, 1);
        assert_eq!(db.approximate_len::<&str>(..).unwrap(), COUNT, "{name}");
    }
}

#[test]
fn nothing_has_no_length() {
    let db = open();
    assert_eq!(db.approximate_len::<&str>(..).unwrap(), 0);
    assert_eq!(db.approximate_size::<&str>(..).unwrap(), 0);
    db.insert(key(1), "value").unwrap();
    assert_eq!(db.approximate_len(key(1)..=key(1)).unwrap(), 1);
    assert_eq!(db.approximate_len(key(2)..key(1)).unwrap(), 0);
    assert!((1..200).contains(&db.approximate_size::<&str>(..).unwrap()));
    db.close().unwrap();
    assert!(matches!(db.approximate_len::<&str>(..), Err(maplsm::Error::Closed)));
}

/// Removed keys count until they are compacted away, and entries so large that groups of the index are not full may make the
/// whole difference of their table, and no more.
#[test]
fn lengths_count_what_is_stored() {
    let db = open();
    load(&db, (0..1000).map(|i| (key(i), "value")), 50);
    load(&db, (0..1000).map(|i| (key(i), "newer")), 50);
    (0..500).for_each(|i| db.remove(key(i)).unwrap());
    db.flush().unwrap();
    assert!((1000..=2500).contains(&db.approximate_len::<&str>(..).unwrap()));
    db.compact().unwrap();
    assert_eq!(db.approximate_len::<&str>(..).unwrap(), 500);

    let mut options = sim_options(&SimFs::new());
    options.table_bytes(64 << 20);
    let db = options.open(DIR).unwrap();
    db.ingest((0..400).map(|i| (key(i), vec![0u8; if i < 100 { 64 << 10 } else { 10 }]))).unwrap();
    for range in ranges(400) {
        let exact = (0..400).filter(|i| is_in(&range, &key(*i))).count() as u64;
        assert!(db.approximate_len(range.clone()).unwrap().abs_diff(exact) <= 400);
    }
}

#[test]
fn sizes_of_ranges_are_shares_of_all() {
    const COUNT: u64 = 5000;
    for (name, options) in layouts() {
        let db = options.open(DIR).unwrap();
        db.ingest((0..COUNT).map(|i| (key(i), vec![u8::try_from(i % 256).unwrap(); 100]))).unwrap();
        let all = db.approximate_size::<&str>(..).unwrap();
        let stats = db.stats();
        let stored: u64 = stats.tables.iter().map(|table| table.bytes).sum::<u64>()
            + stats.value_files.iter().map(|file| file.bytes).sum::<u64>();
        assert!(all <= stored && all > stored / 2, "{name}: {all} of {stored}");
        for range in ranges(COUNT) {
            let about = db.approximate_size(range.clone()).unwrap();
            let keys = (0..COUNT).filter(|i| is_in(&range, &key(*i))).count() as u64;
            let exact = all * keys / COUNT;
            // A block or an interval of the index at each end.
            assert!(about.abs_diff(exact) <= 16 << 10, "{name}: {about} for {exact} of {range:?}");
        }
    }
}
