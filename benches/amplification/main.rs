//! What a store writes and keeps for what is put into it, and how long puts take while it works at its limit.
//!
//! ```sh
//! cargo bench --bench amplification               # 5 million entries
//! cargo bench --bench amplification -- 1000000    # fewer
//! ```
//!
//! Loads the entries (keys of 16 bytes, values of 100) in random order, one commit each, and then overwrites each one once in
//! another random order, as fast as the store lets it. Write amplification is what the operating system counts as written by
//! this process (`/proc/self/io`), divided by the bytes of all keys and values put.

use std::path::Path;
use std::time::{Duration, Instant};

use maplsm::{Db, Durability, Options, Stats};

const KEY_BYTES: u64 = 16;
const VALUE_BYTES: u64 = 100;

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

fn value(number: u64, round: u8) -> [u8; 100] {
    let mut value = [round; 100];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// Bytes that this process has caused to be written; 0 where the operating system does not say.
fn written() -> u64 {
    let counters = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Counts of latencies in buckets of about 3 %.
struct Histogram {
    counts: Vec<u64>,
    longest: Duration,
}

impl Histogram {
    fn new() -> Self {
        Self { counts: vec![0; 64 << 5], longest: Duration::ZERO }
    }

    fn add(&mut self, took: Duration) {
        self.longest = self.longest.max(took);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(32);
        let exponent = nanos.ilog2();
        let bucket = u64::from(exponent) << 5 | (nanos >> (exponent - 5) & 31);
        self.counts[usize::try_from(bucket).expect("a bucket")] += 1;
    }

    fn quantile(&self, share: f64) -> Duration {
        let total: u64 = self.counts.iter().sum();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mut left = (total as f64 * share) as u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            if left < *count {
                let (exponent, part) = (bucket >> 5, bucket as u64 & 31);
                return Duration::from_nanos((32 + part) << exponent >> 5);
            }
            left -= count;
        }
        self.longest
    }
}

fn put_all(db: &Db, entries: u64, round: u8, order: u64) -> Histogram {
    let mut histogram = Histogram::new();
    // Odd steps through a power of two visit every number once; those beyond the entries are left out.
    let span = entries.next_power_of_two();
    let step = mix(order) | 1;
    let mut at = mix(order + 1);
    for _ in 0..span {
        at = at.wrapping_add(step);
        let number = at & (span - 1);
        if number < entries {
            let (key, value) = (key(number), value(number, round));
            let start = Instant::now();
            db.insert(key, value).expect("a put");
            histogram.add(start.elapsed());
        }
    }
    histogram
}

fn check(db: &Db, entries: u64, round: u8) {
    for number in (0..entries).step_by(9973) {
        let found = db.get(key(number)).expect("a get");
        assert_eq!(found.as_deref(), Some(&value(number, round)[..]), "entry {number}");
    }
}

/// Bytes of tables and indexes.
fn space(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("the directory").map(|file| file.expect("a file"));
    let of_tables = files.filter(|file| file.path().extension().is_some_and(|e| e == "sst" || e == "idx"));
    of_tables.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum()
}

fn shape(stats: &Stats) -> String {
    let levels = stats.levels.iter().filter(|level| level.tables > 0);
    let levels: Vec<String> =
        levels.map(|level| format!("L{} {} x {} MB", level.level, level.tables, level.bytes / 1_000_000)).collect();
    levels.join(", ")
}

#[expect(clippy::cast_precision_loss, reason = "ratios to print")]
fn main() {
    let entries = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(5_000_000u64);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("db");
    let db = Options::new().durability(Durability::Buffered).open(&path).expect("a new store");
    let live = entries * (KEY_BYTES + VALUE_BYTES);
    let before = written();
    let mut put = 0;
    for (round, name) in ["load", "overwrite"].into_iter().enumerate() {
        let round = u8::try_from(round).expect("a round");
        let start = Instant::now();
        let histogram = put_all(&db, entries, round, u64::from(round) * 1000);
        let took = start.elapsed();
        put += live;
        println!(
            "{name:<10} {:.1} s, {:.0} puts/s; p50 {:?}, p99 {:?}, p99.9 {:?}, p99.99 {:?}, max {:?}",
            took.as_secs_f64(),
            entries as f64 / took.as_secs_f64(),
            histogram.quantile(0.5),
            histogram.quantile(0.99),
            histogram.quantile(0.999),
            histogram.quantile(0.9999),
            histogram.longest,
        );
        let stats = db.stats();
        println!(
            "           {}; frozen {}, pressure {:.2}, written {:.2} x",
            shape(&stats),
            stats.frozen_memtables,
            stats.write_pressure,
            (written() - before) as f64 / put as f64
        );
        check(&db, entries, round);
    }
    timed_reads(&db, entries, "unsettled");
    let start = Instant::now();
    db.wait_for_background().expect("background work");
    println!("settled    after {:.1} s more: {}", start.elapsed().as_secs_f64(), shape(&db.stats()));
    println!(
        "           written {:.2} x, space {:.2} x, {} flushes, {} compactions of {} MB",
        (written() - before) as f64 / put as f64,
        space(&path) as f64 / live as f64,
        db.stats().flushes,
        db.stats().compactions,
        db.stats().compacted_bytes / 1_000_000,
    );
    timed_reads(&db, entries, "settled");
    let start = Instant::now();
    db.compact().expect("a compaction");
    println!("compacted  in {:.1} s: {}", start.elapsed().as_secs_f64(), shape(&db.stats()));
    println!("           space {:.2} x", space(&path) as f64 / live as f64);
    check(&db, entries, 1);
    timed_reads(&db, entries, "compacted");
    db.close().expect("a clean close");
}

#[expect(clippy::cast_precision_loss, reason = "ratios to print")]
fn timed_reads(db: &Db, entries: u64, state: &str) {
    let lookups = entries.min(500_000);
    let start = Instant::now();
    for at in 0..lookups {
        let found = db.get(key(mix(at) % entries)).expect("a get");
        assert!(found.is_some());
    }
    let get = start.elapsed().as_nanos() as f64 / lookups as f64;
    let start = Instant::now();
    let mut cursor = db.cursor();
    let mut more = cursor.seek_first().expect("a scan");
    let mut count = 0u64;
    while more {
        count += 1;
        more = cursor.next().expect("a scan");
    }
    assert_eq!(count, entries);
    let scan = start.elapsed().as_nanos() as f64 / entries as f64;
    println!("{state:<10} {get:.0} ns a get, {scan:.0} ns an entry of a scan");
}
