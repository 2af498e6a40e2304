//! What waits to be flushed while more is written than can be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use maplsm::{Db, Durability, Options, WriteBatch};

const VALUE_BYTES: u32 = 1000;

/// A batch of about `bytes`, whose keys nobody else has.
fn batch(number: u64, bytes: u32) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for entry in 0..bytes / VALUE_BYTES {
        let key = (number << 32 | u64::from(entry)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        batch.insert(key, [0x5a; VALUE_BYTES as usize]);
    }
    batch
}

/// The most log that all memtables have together, in MiB, until `done`.
fn most(db: &Db, done: &AtomicBool) -> u64 {
    let mut most = 0;
    while !done.load(Ordering::Relaxed) {
        most = most.max(db.stats().memtable_bytes);
        thread::sleep(Duration::from_millis(1));
    }
    most >> 20
}

fn one(mib: u32, writers: u32, batch_mib: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new();
    options.durability(Durability::Buffered).background_threads(1);
    let db = options.open(dir.path().join("db")).expect("a database");
    let batches = mib / batch_mib / writers;
    let done = AtomicBool::new(false);
    let write = |writer: u32| {
        let mut longest = Duration::ZERO;
        for number in 0..batches {
            let batch = batch((writer * batches + number).into(), batch_mib << 20);
            let begin = Instant::now();
            db.write(&batch).expect("a commit");
            longest = longest.max(begin.elapsed());
        }
        longest
    };
    let begin = Instant::now();
    let (longest, most) = thread::scope(|scope| {
        let watch = scope.spawn(|| most(&db, &done));
        let writers: Vec<_> = (0..writers).map(|writer| scope.spawn(move || write(writer))).collect();
        let longest = writers.into_iter().map(|writer| writer.join().expect("a writer")).max().expect("a writer");
        done.store(true, Ordering::Relaxed);
        (longest, watch.join().expect("the watch"))
    });
    let took = begin.elapsed();
    db.wait_for_background().expect("a settled database");
    let settled = begin.elapsed();
    let speed = f64::from(mib) / took.as_secs_f64();
    println!(
        "{writers:>7}{batch_mib:>11}{speed:>9.0}{most:>15}{:>15.0}{:>13.1}",
        longest.as_secs_f64() * 1e3,
        settled.as_secs_f64()
    );
}

pub(crate) fn run(mib: u32) {
    println!("writers  batch, MiB   MiB/s  most log, MiB  longest, ms  settled, s");
    for (writers, batch_mib) in [(1, 32), (64, 1)] {
        one(mib, writers, batch_mib);
    }
}
