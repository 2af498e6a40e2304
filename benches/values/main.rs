//! What large values cost with and without value files: from what length on is it better to keep them apart?
//!
//! ```sh
//! cargo bench --bench values                      # 1 GiB of values of each length from 512 bytes to 64 KiB
//! cargo bench --bench values -- 256 4096 65536    # 256 MiB, these lengths
//! ```
//!
//! For each length, once with all values in tables and once with all apart: loads values in random order, overwrites half of
//! them in another order, waits until the store has settled, and reads: random gets that look at the whole value and ones
//! that look at its first byte, and a scan. Memtables, tables and levels are a quarter of the default sizes, so that a
//! gigabyte is as many of them as four. Written is what the operating system counts for this process (`/proc/self/io`), for
//! each byte put; space is that of all files for each byte live.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use maplsm::{Db, Durability, Options};

const LENGTHS: [usize; 8] = [512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// A permutation of the 64-bit numbers (the finalizer of `SplitMix64`).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(number).to_be_bytes());
    key[8..].copy_from_slice(&mix(!number).to_be_bytes());
    key
}

/// Bytes that this process has caused to be written; 0 where the operating system does not say.
fn written() -> u64 {
    let counters = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Bytes of all files but the log.
fn space(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("the directory").map(|file| file.expect("a file"));
    let kept = files.filter(|file| file.path().extension().is_some_and(|e| e != "wal"));
    kept.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum()
}

/// Numbers below `count` in an order of their own.
fn shuffled(count: u64, order: u64) -> impl Iterator<Item = u64> {
    // Odd steps through a power of two visit every number once; those beyond the count are left out.
    let span = count.next_power_of_two();
    let (step, start) = (mix(order) | 1, mix(order + 1));
    (0..span)
        .map(move |at| start.wrapping_add(at.wrapping_mul(step)) & (span - 1))
        .filter(move |number| *number < count)
}

struct Run {
    db: Db,
    length: usize,
    count: u64,
    value: Vec<u8>,
}

impl Run {
    fn put(&mut self, numbers: impl Iterator<Item = u64>, round: u8) -> (u64, Duration) {
        let start = Instant::now();
        let mut bytes = 0;
        for number in numbers {
            self.value[..8].copy_from_slice(&number.to_le_bytes());
            self.value[8] = round;
            self.db.insert(key(number), &self.value).expect("a put");
            bytes += (self.length + 16) as u64;
        }
        (bytes, start.elapsed())
    }

    fn gets(&self, whole: bool) -> f64 {
        let lookups = self.count.min(200_000);
        let start = Instant::now();
        let mut sum = 0u64;
        for at in 0..lookups {
            let number = mix(at) % self.count;
            let found = self.db.get(key(number)).expect("a get").expect("an entry");
            assert!(found.len() == self.length && found[..8] == number.to_le_bytes(), "entry {number}");
            if whole {
                sum += found.chunks_exact(8).map(|word| u64::from(word[0])).sum::<u64>();
            }
        }
        black_box(sum);
        per(start.elapsed(), lookups)
    }

    fn scan(&self) -> f64 {
        let start = Instant::now();
        let (mut cursor, mut count, mut sum) = (self.db.cursor(), 0, 0u64);
        let mut more = cursor.seek_first().expect("a scan");
        while more {
            count += 1;
            sum += cursor.value().chunks_exact(64).map(|line| u64::from(line[0])).sum::<u64>();
            more = cursor.next().expect("a scan");
        }
        black_box(sum);
        assert_eq!(count, self.count);
        per(start.elapsed(), count)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number to print")]
fn per(took: Duration, count: u64) -> f64 {
    took.as_nanos() as f64 / count as f64
}

#[expect(clippy::cast_precision_loss, reason = "numbers to print")]
fn measure(total: u64, length: usize, apart: bool) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("db");
    let mut options = Options::new();
    options.durability(Durability::Buffered).memtable_bytes(16 << 20).table_bytes(16 << 20).level_bytes_base(64 << 20);
    options.large_value_bytes(apart.then_some(64));
    let db = options.open(&path).expect("a new store");
    let count = total / length as u64;
    let value = (0..length as u64).map(|at| mix(at).to_le_bytes()[0]).collect();
    let mut run = Run { db, length, count, value };

    let before = written();
    let (loaded, load) = run.put(shuffled(count, 1), 0);
    let (overwritten, overwrite) = run.put(shuffled(count, 1000).filter(|number| mix(*number) & 1 == 0), 1);
    let start = Instant::now();
    run.db.wait_for_background().expect("background work");
    let settled = start.elapsed();
    let amplification = (written() - before) as f64 / (loaded + overwritten) as f64;
    let occupied = space(&path) as f64 / loaded as f64;
    let (first, whole, scan) = (run.gets(false), run.gets(true), run.scan());
    let start = Instant::now();
    run.db.compact().expect("a compaction");
    let compacted = start.elapsed();
    // A thread that looks around may hold an old file for a moment.
    while run.db.stats().obsolete_bytes > 0 && start.elapsed() < compacted + Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let rate = |bytes: u64, took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    println!(
        "{length:>6} {:<6} load {:>5.0} MB/s  overwrite {:>5.0} MB/s  settled after {:>5.2} s  written {amplification:>5.2}  \
         space {occupied:.2}  get {first:>6.0} ns  whole {whole:>6.0} ns  scan {scan:>6.0} ns  compact {:>5.2} s, space {:.2}",
        if apart { "apart" } else { "inside" },
        rate(loaded, load),
        rate(overwritten, overwrite),
        settled.as_secs_f64(),
        compacted.as_secs_f64(),
        space(&path) as f64 / loaded as f64,
    );
    run.db.close().expect("a clean close");
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let test = std::env::args().any(|argument| argument == "--test");
    let total = if test { 1 } else { numbers.first().copied().unwrap_or(1 << 10) } << 20;
    let lengths: Vec<usize> = numbers.iter().skip(1).filter_map(|length| usize::try_from(*length).ok()).collect();
    for length in if lengths.is_empty() { LENGTHS.to_vec() } else { lengths } {
        for apart in [false, true] {
            measure(total, length, apart);
        }
    }
}
