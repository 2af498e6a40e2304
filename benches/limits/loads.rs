//! Many loads of a few entries that do not overlap.

use std::time::Instant;

use maplsm::{Durability, Options};

const ENTRIES: u64 = 100;

pub(crate) fn run(loads: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new();
    options.durability(Durability::Buffered);
    let db = options.open(dir.path().join("db")).expect("a database");
    let mut took = Vec::new();
    for load in 0..u64::from(loads) {
        let begin = Instant::now();
        let entries = (0..ENTRIES).map(|entry| ((load * ENTRIES + entry).to_be_bytes(), [7; 100]));
        db.ingest(entries).expect("a load");
        took.push(begin.elapsed());
    }
    let median = |times: &[std::time::Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let tenth = (took.len() / 10).max(1);
    let (first, last) = (median(&took[..tenth]), median(&took[took.len() - tenth..]));
    let tables = || db.stats().tables.len();
    let loaded = tables();
    db.wait_for_background().expect("a settled database");
    let settled = tables();
    db.compact().expect("a compaction");
    println!(
        "{loads} loads of {ENTRIES} entries: {first:.2} ms each at first, {last:.2} at last; tables: {loaded}, settled {settled}, compacted {}",
        tables()
    );
}
