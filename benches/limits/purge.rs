//! The removal of a long prefix, as a replicated log purges what everybody has.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use maplsm::{Db, Durability, Options, WriteBatch};

const VALUE_BYTES: usize = 200;

fn megabytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("a directory").flatten();
    // Files come and go meanwhile.
    let bytes: u64 = files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    bytes / 1_000_000
}

/// The 99.9th percentile of gets in a keyspace of their own, in microseconds, until `done`.
fn reads(db: &Db, done: &AtomicBool) -> f64 {
    let mut took = Vec::new();
    let mut key = 0u64;
    while !done.load(Ordering::Relaxed) {
        key = (key + 7919) % 100_000;
        let begin = Instant::now();
        let found = db.get(key.to_be_bytes()).expect("a lookup");
        took.push(begin.elapsed());
        assert!(found.is_some());
    }
    took.sort_unstable();
    took.get(took.len().saturating_sub(1 + took.len() / 1000)).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

pub(crate) fn run(entries: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let mut options = Options::new();
    options.durability(Durability::Buffered);
    let db = options.open(&path).expect("a database");
    let log = db.keyspace("log").expect("a keyspace");
    let entries = u64::from(entries);
    let mut batch = WriteBatch::new();
    for key in 0..100_000u64 {
        batch.insert(key.to_be_bytes(), "state");
    }
    for index in 0..entries {
        batch.insert_into(&log, index.to_be_bytes(), [0x5a; VALUE_BYTES]);
        if batch.len() >= 1000 {
            db.write(&batch).expect("a commit");
            batch.clear();
        }
    }
    db.write(&batch).expect("a commit");
    db.sync().expect("a sync");
    let purge = |upto: u64| {
        let mut batch = WriteBatch::new();
        batch.remove_range_from(&log, ..=upto.to_be_bytes()).insert("purged", upto.to_be_bytes());
        let begin = Instant::now();
        db.write_with(&batch, Durability::Sync).expect("a purge");
        begin.elapsed()
    };
    let done = AtomicBool::new(false);
    let (before, beside, took, back, full, left) = thread::scope(|scope| {
        let reader = scope.spawn(|| reads(&db, &done));
        thread::sleep(Duration::from_secs(2));
        done.store(true, Ordering::Relaxed);
        let before = reader.join().expect("a reader");
        done.store(false, Ordering::Relaxed);
        let full = megabytes(&path);
        let reader = scope.spawn(|| reads(&db, &done));
        let took = purge(entries - 1);
        let durable = Instant::now();
        let mut back = Duration::ZERO;
        let mut left = full;
        while durable.elapsed() < Duration::from_secs(4) {
            let now = megabytes(&path);
            if now < left {
                (left, back) = (now, durable.elapsed());
            }
            thread::sleep(Duration::from_millis(10));
        }
        done.store(true, Ordering::Relaxed);
        (before, reader.join().expect("a reader"), took, back, full, left)
    });
    assert_eq!(log.iter().count(), 0);
    println!(
        "{entries} log entries of {VALUE_BYTES} bytes purged in {:.2} ms, synced; {full} MB of files became {left} MB \
         {:.0} ms later; gets beside it, 99.9th percentile: {beside:.1} us ({before:.1} us before)",
        took.as_secs_f64() * 1e3,
        back.as_secs_f64() * 1e3
    );
}
