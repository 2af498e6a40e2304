//! Tables read from their bytes alone.

use std::collections::BTreeMap;
use std::path::Path;

use maplsm::table::{EntryKind, Reader};
use maplsm::{Compression, Db, Durability, Options, SimFs, WriteBatch};

use crate::support::DIR;

fn key(number: u32) -> Vec<u8> {
    format!("key{number:05}").into_bytes()
}

fn value(number: u32) -> Vec<u8> {
    vec![u8::try_from(number % 251).unwrap(); 1 + number as usize % 60]
}

fn codecs() -> Vec<Compression> {
    let mut codecs = vec![Compression::None];
    if cfg!(feature = "lz4") {
        codecs.push(Compression::Lz4);
    }
    if cfg!(feature = "zstd") {
        codecs.push(Compression::Zstd(1));
    }
    codecs
}

fn options(fs: &SimFs, compression: Compression) -> Options {
    let mut options = Options::new();
    options.file_system(fs.clone()).background_threads(0).durability(Durability::Buffered);
    options.compression(compression).compressed_from_level(0);
    options
}

/// The bytes of the only table.
fn table(fs: &SimFs, db: &Db) -> Vec<u8> {
    let number = db.stats().tables[0].number;
    fs.read(&Path::new(DIR).join(format!("{number:06}.sst"))).unwrap()
}

fn fill(db: &Db, keys: u32) {
    let mut batch = WriteBatch::new();
    for number in 0..keys {
        batch.insert(key(number * 2), value(number));
    }
    db.write(batch).unwrap();
}

#[test]
fn entries_and_lookups_agree_with_the_store() {
    for compression in codecs() {
        let fs = SimFs::with_seed(3);
        let db = options(&fs, compression).open(DIR).unwrap();
        fill(&db, 3000);
        db.compact().unwrap();
        let bytes = table(&fs, &db);
        let reader = Reader::new(&bytes).unwrap();
        reader.verify().unwrap();
        assert_eq!((reader.len(), reader.keyspaces().collect::<Vec<_>>()), (3000, vec![0]));
        let found: Vec<_> = reader.entries(0).map(|entry| entry.map(|e| (e.key.into(), e.value.into()))).collect();
        let found: Vec<(Vec<u8>, Vec<u8>)> = found.into_iter().collect::<maplsm::Result<_>>().unwrap();
        let stored = db.iter().map(|entry| entry.map(|e| (e.key().to_vec(), e.value().to_vec())));
        assert_eq!(found, stored.collect::<maplsm::Result<Vec<_>>>().unwrap(), "{compression:?}");
        for number in 0..6001 {
            let entry = reader.get(0, key(number), u64::MAX).unwrap();
            let expected = db.get(key(number)).unwrap();
            assert_eq!(entry.map(|e| e.value.into_owned()).as_deref(), expected.as_deref(), "{number}");
        }
        assert!(reader.get(7, key(0), u64::MAX).unwrap().is_none());
        assert_eq!(reader.entries(7).count(), 0);
    }
}

#[test]
fn versions_and_removals_are_told_apart() {
    for compression in codecs() {
        let fs = SimFs::with_seed(3);
        let db = options(&fs, compression).open(DIR).unwrap();
        fill(&db, 100);
        let (before, snapshot) = (db.stats().last_sequence, db.snapshot());
        db.insert(key(4), "new").unwrap();
        db.remove(key(6)).unwrap();
        db.remove_range(key(100)..key(120)).unwrap();
        let other = db.keyspace("other").unwrap();
        other.insert("a", "b").unwrap();
        db.flush().unwrap();
        let bytes = table(&fs, &db);
        let reader = Reader::new(&bytes).unwrap();
        reader.verify().unwrap();
        let get = |number: u32, at: u64| {
            reader.get(0, key(number), at).unwrap().map(|entry| (entry.kind, entry.value.into_owned()))
        };
        assert_eq!(get(4, u64::MAX), Some((EntryKind::Put, b"new".to_vec())));
        assert_eq!(get(4, before), Some((EntryKind::Put, value(2))));
        assert_eq!(get(6, u64::MAX), Some((EntryKind::Delete, Vec::new())));
        assert_eq!(get(110, u64::MAX), Some((EntryKind::RangeDelete, Vec::new())));
        assert_eq!(get(110, before), Some((EntryKind::Put, value(55))));
        assert_eq!(get(120, u64::MAX), Some((EntryKind::Put, value(60))));
        assert_eq!(reader.range_tombstones(0).len(), 1);
        assert_eq!(reader.keyspaces().count(), 2);
        drop(snapshot);
    }
}

/// Whatever is cut off or flipped: an error, or what the table says without that.
#[test]
fn damaged_tables_are_errors_and_nothing_else() {
    for compression in codecs() {
        let fs = SimFs::with_seed(3);
        let db = options(&fs, compression).open(DIR).unwrap();
        fill(&db, 60);
        db.compact().unwrap();
        let good = table(&fs, &db);
        let all = |bytes: &[u8]| -> maplsm::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
            let reader = Reader::new(bytes)?;
            let entries = reader.entries(0).map(|e| e.map(|e| (e.key.into(), e.value.into())));
            let entries = entries.collect::<maplsm::Result<BTreeMap<_, _>>>()?;
            reader.verify().map(|()| entries)
        };
        let expected = all(&good).unwrap();
        assert_eq!(expected.len(), 60);
        for length in 0..good.len() {
            assert!(all(&good[..length]).is_err(), "cut to {length}");
        }
        let mut bad = good.clone();
        for bit in 0..good.len() * 8 {
            bad[bit / 8] ^= 1 << (bit % 8);
            // The header has room that a reader may ignore: optional feature bits.
            assert!(all(&bad).map_or_else(|e| e.is_corruption() || bit < 64 * 8, |all| all == expected), "bit {bit}");
            bad[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
