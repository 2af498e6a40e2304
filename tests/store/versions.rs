//! Very many versions of one key, each of which somebody sees.

use maplsm::{Compression, Db, IoMode, PointIndex, SimFs, Snapshot};

use super::compression::CODECS;
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
