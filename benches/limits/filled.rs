//! Databases that are filled, and do nothing unasked.

use maplsm::{Db, Durability, Options, WriteBatch};

pub(crate) const VALUE: [u8; 100] = [7; 100];

/// A number that says nothing about where its neighbours go.
pub(crate) fn mix(number: u64) -> u64 {
    let z = (number.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// Sixteen bytes that order like the number.
pub(crate) fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn options(memtable_bytes: usize) -> Options {
    let mut options = Options::new();
    options.durability(Durability::Buffered).memtable_bytes(memtable_bytes).background_threads(0);
    options
}

/// Puts an entry for each number, in batches.
pub(crate) fn put_all<K: AsRef<[u8]>>(db: &Db, count: u64, key: impl Fn(u64) -> K) {
    let mut batch = WriteBatch::new();
    for number in 0..count {
        batch.insert(key(number), VALUE);
        if batch.len() == 1000 || number + 1 == count {
            db.write(&batch).expect("a commit");
            batch.clear();
        }
    }
}
