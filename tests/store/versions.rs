//! Many versions of a key, in one file or in many, each of which somebody sees.

use std::collections::BTreeMap;

use maplsm::{Compression, Cursor, Db, IoMode, PointIndex, SimFs, Snapshot};

use super::compression::CODECS;
use crate::support::model::Source;
use crate::support::{DIR, sim_options};

const VERSIONS: u32 = 3000;

/// A key, and the ones next to it.
const KEYS: [&[u8]; 3] = [b"key 1", b"key 2", b"key 3"];

/// Every one of the snapshots sees the version that was there when it was taken, and both others.
fn check(snapshots: &[(u32, Snapshot)], what: &str) {
    for (number, snapshot) in snapshots {
        let value = number.to_be_bytes();
        let expected = [&b"before"[..], &value, b"behind"];
        for (key, value) in KEYS.iter().zip(expected) {
            assert_eq!(snapshot.get(key).unwrap().as_deref(), Some(value), "{what}, version {number}");
        }
        let mut forward = snapshot.iter().map(|entry| entry.unwrap());
        assert!(expected.iter().all(|value| forward.next().is_some_and(|entry| entry.value() == *value)));
        assert!(forward.next().is_none());
        let mut cursor = snapshot.cursor();
        let mut more = cursor.seek_last().unwrap();
        for value in expected.iter().rev() {
            assert!(more && cursor.value() == *value, "{what}, version {number}, backwards");
            more = cursor.prev().unwrap();
        }
        assert!(!more);
    }
}

#[test]
fn an_old_one_of_many_versions_is_found_wherever_it_is() {
    for point_index in [PointIndex::Hash, PointIndex::Bloom { error_rate: 0.01 }] {
        let plain = [(Compression::None, IoMode::Map), (Compression::None, IoMode::Read)];
        for (compression, io_mode) in plain.into_iter().chain(CODECS.iter().map(|codec| (*codec, IoMode::Map))) {
            let fs = SimFs::new();
            let mut options = sim_options(&fs);
            options.point_index(point_index).io_mode(io_mode);
            options.compression(compression).compressed_from_level(0);
            let db: Db = options.open(DIR).unwrap();
            db.insert(KEYS[0], "before").unwrap();
            db.insert(KEYS[2], "behind").unwrap();
            let mut snapshots = Vec::new();
            for number in 0..VERSIONS {
                db.insert(KEYS[1], number.to_be_bytes()).unwrap();
                if number % 7 == 0 || number + 20 > VERSIONS {
                    snapshots.push((number, db.snapshot()));
                }
            }
            let what = |place: &str| format!("{point_index:?}, {compression:?}, {io_mode:?}, {place}");
            check(&snapshots, &what("memtable"));
            db.flush().unwrap();
            check(&snapshots, &what("level 0"));
            db.compact().unwrap();
            check(&snapshots, &what("settled"));
            assert!(db.verify().is_ok(), "{:?}", db.verify());
        }
    }
}

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn here(cursor: &Cursor) -> (&[u8], &[u8]) {
    (cursor.key(), cursor.value())
}

/// A cursor shows what is there, in both directions, from every key, and whichever way it turns.
fn walk(cursor: &mut Cursor, expected: &Contents, random: &mut Source<'_>, what: &str) {
    let entries: Vec<(&[u8], &[u8])> = expected.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    let mut more = cursor.seek_first().unwrap();
    for entry in &entries {
        assert!(more && here(cursor) == *entry, "{what}, forwards");
        more = cursor.next().unwrap();
    }
    assert!(!more, "{what}, forwards");
    more = cursor.seek_last().unwrap();
    for entry in entries.iter().rev() {
        assert!(more && here(cursor) == *entry, "{what}, backwards");
        more = cursor.prev().unwrap();
    }
    assert!(!more, "{what}, backwards");
    for (from, entry) in entries.iter().enumerate() {
        assert!(cursor.seek(entry.0).unwrap() && here(cursor) == *entry, "{what}, a seek");
        let mut at = from;
        for _ in 0..random.below(8) {
            let forward = random.below(2) == 0;
            let next = if forward { Some(at + 1).filter(|at| *at < entries.len()) } else { at.checked_sub(1) };
            let moved = if forward { cursor.next() } else { cursor.prev() }.unwrap();
            assert_eq!(moved, next.is_some(), "{what}, a turn");
            let Some(next) = next else { break };
            at = next;
            assert_eq!(here(cursor), entries[at], "{what}, a turn");
        }
    }
}

#[test]
fn copies_in_many_tables_are_passed_over() {
    for seed in 0..60 {
        let mut random = Source::Random(seed);
        let fs = SimFs::new();
        let db = sim_options(&fs).l0_tables(100).open(DIR).unwrap();
        let mut contents = Contents::new();
        let mut seen: Vec<(Snapshot, Contents)> = Vec::new();
        for round in 0..2 + random.below(9) {
            for _ in 0..random.below(120) {
                let key = format!("key {:02}", random.below(60)).into_bytes();
                match random.below(40) {
                    0 => {
                        let end = format!("key {:02}", random.below(60)).into_bytes();
                        db.remove_range(key.clone()..end.clone()).unwrap();
                        contents.retain(|other, _| *other < key || *other >= end);
                    }
                    1..16 => {
                        db.remove(&key).unwrap();
                        contents.remove(&key);
                    }
                    value => {
                        let value = format!("{round} {value}").into_bytes();
                        db.insert(&key, &value).unwrap();
                        contents.insert(key, value);
                    }
                }
            }
            if random.below(3) == 0 {
                seen.push((db.snapshot(), contents.clone()));
            }
            if random.below(5) > 0 {
                db.flush().unwrap();
            }
        }
        walk(&mut db.cursor(), &contents, &mut random, &format!("seed {seed}, now"));
        for (number, (snapshot, contents)) in seen.iter().enumerate() {
            walk(&mut snapshot.cursor(), contents, &mut random, &format!("seed {seed}, snapshot {number}"));
        }
    }
}
