//! Keys and values at the edges of what the format can hold, and stores of one and of a million entries.

use std::ops::Bound;

use maplsm::{Db, Durability, Error, ErrorKind, IoMode, Options, PointIndex, SimFs, WriteBatch};

use crate::support::{DIR, contents, load, sim_options};

const KEY_BYTES_MAX: usize = 65_535;

/// Runs `check` on what is in the log, in tables, in one level, and after an open.
fn in_every_place(options: &Options, path: &std::path::Path, fill: impl Fn(&Db), check: impl Fn(&Db, &str)) {
    let db = options.open(path).unwrap();
    fill(&db);
    check(&db, "in the log");
    db.close().unwrap();
    let db = options.open(path).unwrap();
    check(&db, "replayed");
    db.flush().unwrap();
    check(&db, "flushed");
    db.compact().unwrap();
    check(&db, "compacted");
    assert!(db.verify().is_ok(), "{:?}", db.verify());
    db.close().unwrap();
    check(&options.open(path).unwrap(), "opened");
    check(&options.clone().read_only(true).open(path).unwrap(), "opened read-only");
}

fn in_memory(fill: impl Fn(&Db), check: impl Fn(&Db, &str)) {
    for bloom in [false, true] {
        let index = if bloom { PointIndex::Bloom { error_rate: 0.01 } } else { PointIndex::Hash };
        in_every_place(sim_options(&SimFs::new()).point_index(index), DIR.as_ref(), &fill, &check);
    }
}

#[test]
fn every_byte_in_keys_and_values() {
    let keys = || {
        let one = (0..=255u8).map(|a| vec![a]);
        let two = (0..=255u8).flat_map(|a| [0, 1, 0x7f, 0x80, 0xfe, 0xff].map(|b| vec![a, b]));
        let head = (0..=255u8).map(|a| [&b"sevenby"[..], &[a], b"more"].concat());
        std::iter::once(Vec::new()).chain(one).chain(two).chain(head)
    };
    let value = |key: &[u8]| (0..=255u8).map(|byte| byte ^ key.last().copied().unwrap_or(7)).collect::<Vec<u8>>();
    in_memory(
        |db| load(db, keys().map(|key| (key.clone(), value(&key))), 100),
        |db, at| {
            for key in keys() {
                assert_eq!(db.get(&key).unwrap().unwrap(), value(&key), "{at}: {key:?}");
            }
            let found = contents(db);
            assert_eq!(found.len(), keys().count(), "{at}");
            assert!(found.keys().eq(keys().collect::<std::collections::BTreeSet<_>>().iter()), "{at}");
            assert_eq!(db.prefix([0xff]).count(), 7, "{at}");
            assert_eq!(db.prefix([]).count(), keys().count(), "{at}");
        },
    );
}

#[test]
fn the_empty_key_and_the_empty_value() {
    in_memory(
        |db| {
            db.insert("", "of the empty key").unwrap();
            db.insert("empty", "").unwrap();
            db.insert("gone", "").unwrap();
            db.remove("gone").unwrap();
        },
        |db, at| {
            assert_eq!(db.get("").unwrap().unwrap(), "of the empty key", "{at}");
            assert_eq!(db.get("empty").unwrap().unwrap(), "", "{at}");
            assert!(db.contains_key("empty").unwrap() && !db.contains_key("gone").unwrap(), "{at}");
            assert_eq!(db.iter().count(), 2, "{at}");
            assert_eq!(db.range::<&str>((Bound::Excluded(""), Bound::Unbounded)).count(), 1, "{at}");
            assert_eq!(db.range(..="").count(), 1, "{at}");
            assert_eq!(db.range(.."").count(), 0, "{at}");
            let mut cursor = db.cursor();
            assert!(cursor.seek_back("").unwrap() && cursor.key().is_empty(), "{at}");
            assert!(cursor.next().unwrap() && cursor.key() == b"empty" && cursor.value().is_empty(), "{at}");
        },
    );
    in_memory(
        |db| db.insert("", "").unwrap(),
        |db, at| {
            assert_eq!(db.get("").unwrap().unwrap(), "", "{at}");
            let entry = db.iter().next().unwrap().unwrap();
            assert!(entry.key().is_empty() && entry.value().is_empty(), "{at}");
        },
    );
}

#[test]
fn one_entry() {
    in_memory(
        |db| db.insert("only", "one").unwrap(),
        |db, at| {
            assert_eq!(db.get("only").unwrap().unwrap(), "one", "{at}");
            assert!(db.get("onl").unwrap().is_none() && db.get("only\0").unwrap().is_none(), "{at}");
            assert_eq!((db.iter().count(), db.iter().rev().count()), (1, 1), "{at}");
            let mut cursor = db.cursor();
            assert!(cursor.seek("o").unwrap() && !cursor.next().unwrap(), "{at}");
            assert!(cursor.seek_back("p").unwrap() && !cursor.prev().unwrap(), "{at}");
        },
    );
}

#[test]
fn the_longest_keys() {
    let key = |last: u8| {
        let mut key = vec![b'k'; KEY_BYTES_MAX];
        key[KEY_BYTES_MAX - 1] = last;
        key
    };
    in_memory(
        |db| {
            for last in 0..5u8 {
                db.insert(key(last), [last]).unwrap();
            }
            db.insert(vec![0xff; KEY_BYTES_MAX], "the last possible key").unwrap();
            db.insert(&key(9)[1..], "one byte shorter").unwrap();
        },
        |db, at| {
            for last in 0..5u8 {
                assert_eq!(db.get(key(last)).unwrap().unwrap(), [last], "{at}");
            }
            assert!(db.get(key(5)).unwrap().is_none(), "{at}");
            assert_eq!(db.iter().count(), 7, "{at}");
            assert_eq!(db.iter().next_back().unwrap().unwrap().value(), b"the last possible key", "{at}");
            assert_eq!(db.range(key(1)..key(4)).count(), 3, "{at}");
            db.compact_range(vec![0xff; 3]..).or_else(|e| matches!(e, Error::ReadOnly).then_some(()).ok_or(e)).unwrap();
        },
    );
}

#[test]
fn keys_beyond_the_limit_are_refused() {
    let db = sim_options(&SimFs::new()).open(DIR).unwrap();
    let key = vec![0; KEY_BYTES_MAX + 1];
    let refused = |e: Error| {
        assert!(matches!(e, Error::KeyTooLong { bytes: 65_536 }), "{e}");
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
    };
    refused(db.insert(&key, "value").unwrap_err());
    refused(db.remove(&key).unwrap_err());
    let mut batch = WriteBatch::new();
    batch.insert("good", "value").insert(&key, "value").insert("good as well", "value");
    refused(db.write(&batch).unwrap_err());
    assert_eq!(db.iter().count(), 0, "a batch is refused whole");
    assert!(db.get(&key).unwrap().is_none(), "looking for such a key is no error");
    assert_eq!(db.range(&key[..]..).count() + db.prefix(&key).count(), 0);
    let mut cursor = db.cursor();
    assert!(!cursor.seek(&key).unwrap() && !cursor.seek_back(&key).unwrap());
    batch.clear();
    db.write(batch.insert("good", "value")).unwrap();
    assert_eq!(db.iter().count(), 1);
}

#[test]
fn batches_beyond_the_limit_are_refused_before_a_byte_is_written() {
    let fs = SimFs::new();
    let db = sim_options(&fs).max_batch_bytes(1000).open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    let (before, state) = (fs.bytes_written(), contents(&db));
    let refused = |e: Error| {
        assert!(matches!(e, Error::BatchTooLarge { bytes, limit: 1000 } if bytes > 1000), "{e}");
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
    };
    refused(db.insert("key", vec![1; 1000]).unwrap_err());
    let mut batch = WriteBatch::new();
    for i in 0..100u8 {
        batch.insert([i], [i]);
    }
    refused(db.write(&batch).unwrap_err());
    assert_eq!((fs.bytes_written(), contents(&db)), (before, state));
    // Exactly the limit is no problem: what a batch takes is its body and the header of its group.
    let largest = (1..1000usize).rev().find(|length| db.insert("key", vec![2; *length]).is_ok()).unwrap();
    assert!((900..1000).contains(&largest), "{largest}");
    assert_eq!(db.get("key").unwrap().unwrap().len(), largest);
    db.write(WriteBatch::new()).unwrap();
}

/// A batch with more entries and bytes than a segment is meant for gets a segment of its own.
#[test]
fn a_batch_larger_than_a_segment() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.memtable_bytes(4 << 10).memtable_entries(Some(10));
    let fill = |db: &Db| {
        db.insert("before", "1").unwrap();
        let mut batch = WriteBatch::new();
        for i in 0..5000u32 {
            batch.insert(i.to_be_bytes(), [7; 20]);
        }
        db.write_with(&batch, Durability::Sync).unwrap();
        db.insert("behind", "1").unwrap();
    };
    in_every_place(&options, DIR.as_ref(), fill, |db, at| assert_eq!(db.iter().count(), 5002, "{at}"));
}

#[test]
fn a_value_larger_than_the_memtable() {
    let dir = tempfile::tempdir().unwrap();
    let value: Vec<u8> = (0..70u32 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    assert_eq!(value.len(), 70 << 20);
    for mode in [IoMode::Map, IoMode::Read] {
        let path = dir.path().join(format!("{mode:?}"));
        let mut options = Options::new();
        options.io_mode(mode);
        let db = options.open(&path).unwrap();
        db.insert("a", "small").unwrap();
        db.insert("large", &value).unwrap();
        db.insert("z", "small").unwrap();
        let check = |db: &Db| {
            assert!(db.get("large").unwrap().unwrap() == value);
            assert_eq!(db.get("z").unwrap().unwrap(), "small");
            assert_eq!(db.iter().map(|entry| entry.unwrap().value().len()).sum::<usize>(), value.len() + 10);
        };
        check(&db);
        let kept = db.get("large").unwrap().unwrap();
        db.close().unwrap();
        let db = options.open(&path).unwrap();
        check(&db);
        db.flush().unwrap();
        db.wait_for_background().unwrap();
        check(&db);
        db.remove("large").unwrap();
        db.compact().unwrap();
        assert_eq!(db.iter().count(), 2);
        drop(db);
        assert!(kept == value, "a slice outlives its file");
    }
}

#[test]
fn a_million_entries() {
    const COUNT: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new();
    options.memtable_bytes(8 << 20).durability(Durability::Buffered).background_threads(1);
    let db = options.open(dir.path().join("db")).unwrap();
    // An odd factor visits every number once, in no order.
    let number = |i: u64| i.wrapping_mul(7_919) % COUNT;
    load(&db, (0..COUNT).map(|i| (number(i).to_be_bytes(), number(i).to_le_bytes())), 5000);
    db.wait_for_background().unwrap();
    let check = |db: &Db| {
        let mut cursor = db.cursor();
        let mut more = cursor.seek_first().unwrap();
        let mut count = 0;
        while more {
            assert!(cursor.key() == u64::to_be_bytes(count) && cursor.value() == u64::to_le_bytes(count));
            count += 1;
            more = cursor.next().unwrap();
        }
        assert_eq!(count, COUNT);
        for i in (0..COUNT).step_by(97) {
            assert_eq!(db.get(i.to_be_bytes()).unwrap().unwrap(), i.to_le_bytes());
            assert!(db.get((i + COUNT).to_be_bytes()).unwrap().is_none());
        }
    };
    check(&db);
    assert!(db.stats().flushes > 2, "{:?}", db.stats());
    db.close().unwrap();
    let db = options.open(dir.path().join("db")).unwrap();
    assert_eq!(db.range(1000u64.to_be_bytes()..2000u64.to_be_bytes()).rev().count(), 1000);
    check(&db);
}
