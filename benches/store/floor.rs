//! The least that each operation could cost on this machine, now.

use std::cell::LazyCell;
use std::fs::File;
use std::hint::black_box;
use std::io::{Seek, SeekFrom, Write};
use std::time::Instant;

use crate::data::{Data, ENTRY_BYTES, key, value};
use crate::report::{Case, Suite};
use crate::threads::on_threads;

/// A put in the log: header of the group, and the entry with its own header.
const LOG_RECORD: usize = GROUP_HEADER + ENTRY_BYTES;
/// What of it the group's first checksum does not cover.
const GROUP_HEADER: usize = 24;

pub(crate) const COPY_AND_SUM: &str = "copy and checksum";
pub(crate) const SYNC: &str = "write and fdatasync";
pub(crate) const MISS: &str = "one cache miss";
pub(crate) const MISS_TWO: &str = "one cache miss, two threads";
pub(crate) const MISS_CHAIN: &str = "one cache miss, chained";
pub(crate) const READ: &str = "sequential read";
pub(crate) const SUM: &str = "checksum of the bytes";
pub(crate) const WRITE: &str = "write and sync the bytes";

pub(crate) fn all(suite: &mut Suite, data: &Data) {
    copy_and_sum(suite, data);
    sync(suite);
    memory(suite, data);
    write(suite, data);
}

fn copy_and_sum(suite: &mut Suite, data: &Data) {
    let mut arena = Vec::new();
    let mut at = 0;
    let mut number = 0;
    suite.bench(Case::new("floor", COPY_AND_SUM), |iterations| {
        arena.resize((64 << 20) / LOG_RECORD * LOG_RECORD, 1);
        let start = Instant::now();
        for _ in 0..iterations {
            let record = &mut arena[at..at + LOG_RECORD];
            record[LOG_RECORD - 120..LOG_RECORD - 104].copy_from_slice(&key(number));
            record[LOG_RECORD - 104..LOG_RECORD - 4].copy_from_slice(&value(number));
            let body = crc32fast::hash(&record[GROUP_HEADER..]);
            record[..4].copy_from_slice(&body.to_le_bytes());
            let header = crc32fast::hash(&record[..GROUP_HEADER]);
            record[4..8].copy_from_slice(&header.to_le_bytes());
            number = (number + 1) % data.entries;
            at = if at + LOG_RECORD == arena.len() { 0 } else { at + LOG_RECORD };
        }
        start.elapsed()
    });
}

fn sync(suite: &mut Suite) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&vec![0; 8 << 20]).expect("a write");
    file.sync_all().expect("a sync");
    let mut at = 0;
    suite.bench(Case::new("floor", SYNC), |iterations| {
        let start = Instant::now();
        for _ in 0..iterations {
            file.seek(SeekFrom::Start(at)).expect("a seek");
            file.write_all(&[1; LOG_RECORD]).expect("a write");
            file.sync_data().expect("a sync");
            at = (at + LOG_RECORD as u64) % (7 << 20);
        }
        start.elapsed()
    });
}

/// Reads of memory as large as the table.
fn memory(suite: &mut Suite, data: &Data) {
    let entries = data.entries as usize;
    let memory = LazyCell::new(|| {
        // In the place of each entry stands the one that is read next: a random cycle through all of them.
        let mut memory = vec![0u8; entries * ENTRY_BYTES];
        let mut order = data.shuffled();
        let first = order.next().unwrap_or(0);
        let mut previous = first;
        for number in order.take(entries) {
            let start = previous as usize * ENTRY_BYTES;
            memory[start..start + 4].copy_from_slice(&number.to_le_bytes());
            previous = number;
        }
        memory
    });
    let word = |memory: &[u8], number: u32| -> u32 {
        let start = number as usize * ENTRY_BYTES;
        memory[start..start + 4].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
    };
    let misses = |memory: &[u8], count: u64| {
        let order = data.shuffled().take(usize::try_from(count).unwrap_or(usize::MAX));
        black_box(order.fold(0u64, |sum, number| sum + u64::from(word(memory, number))));
    };
    for (name, threads) in [(MISS, 1), (MISS_TWO, 2)] {
        suite.bench(Case::new("floor", name), |iterations| {
            let memory = &**memory;
            on_threads(threads, |_| misses(memory, iterations.div_ceil(u64::from(threads))))
        });
    }
    let mut next = 0;
    suite.bench(Case::new("floor", MISS_CHAIN), |iterations| {
        let memory = &**memory;
        let start = Instant::now();
        for _ in 0..iterations {
            next = word(memory, next);
        }
        black_box(next);
        start.elapsed()
    });
    suite.bench(Case::new("floor", READ).operations(data.entries), |iterations| {
        let memory = &**memory;
        let start = Instant::now();
        for _ in 0..iterations {
            let words = memory.chunks_exact(8);
            let sum = words.fold(0u64, |sum, word| sum ^ word.first_chunk().map_or(0, |w| u64::from_le_bytes(*w)));
            black_box(sum);
        }
        start.elapsed()
    });
    suite.bench(Case::new("floor", SUM).bytes(data.entry_bytes()), |iterations| {
        let memory = &**memory;
        let start = Instant::now();
        for _ in 0..iterations {
            black_box(crc32fast::hash(memory));
        }
        start.elapsed()
    });
}

fn write(suite: &mut Suite, data: &Data) {
    let bytes = data.entries as usize * ENTRY_BYTES;
    suite.bench(Case::new("floor", WRITE).operations(data.entries), |iterations| {
        let piece = vec![9; 4 << 20];
        let start = Instant::now();
        for _ in 0..iterations {
            let mut file: File = tempfile::tempfile().expect("a temporary file");
            let mut rest = bytes;
            while rest > 0 {
                let now = rest.min(piece.len());
                file.write_all(&piece[..now]).expect("a write");
                rest -= now;
            }
            file.sync_data().expect("a sync");
        }
        start.elapsed()
    });
}
