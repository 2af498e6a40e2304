//! Merges into one key.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use maplsm::operators::Counter;
use maplsm::{Db, Durability, Options};

use crate::timed;

const KEY: &str = "visits";
const THREADS: u32 = 4;
const READS: u32 = 100_000;

fn add_one(db: &Db) {
    db.merge(KEY, 1u64.to_le_bytes()).expect("a merge");
}

fn each(taken: Duration, times: u32) -> f64 {
    taken.as_secs_f64() / f64::from(times) * 1e9
}

/// What a read takes, on average, and what it finds.
fn read(db: &Db) -> (f64, u64) {
    let get = || db.get(KEY).expect("a read").expect("a count");
    let ((), taken) = timed(|| (0..READS).for_each(|_| drop(black_box(get()))));
    let bytes: [u8; 8] = get().as_ref().try_into().expect("eight bytes");
    (each(taken, READS), u64::from_le_bytes(bytes))
}

pub(crate) fn run(merges: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new();
    options.merge_operator(Counter).durability(Durability::Buffered);
    let db = options.open(dir.path().join("db")).expect("a database");
    let ((), alone) = timed(|| (0..merges).for_each(|_| add_one(&db)));
    let (in_memory, count) = read(&db);
    assert_eq!(count, u64::from(merges));
    db.flush().expect("a flush");
    let (in_table, _) = read(&db);
    let ((), compaction) = timed(|| db.compact().expect("a compaction"));
    let (compacted, count) = read(&db);
    assert_eq!(count, u64::from(merges));
    let entries = db.approximate_len::<&str>(..).expect("a count");
    assert_eq!(entries, 1, "entries");
    println!(
        "{merges} merges into one key: {:.0} ns each; a get of it {in_memory:.0} ns with the log, {in_table:.0} ns flushed, \
         {compacted:.0} ns compacted, which takes {:.0} ms and leaves {entries} entry",
        each(alone, merges),
        compaction.as_secs_f64() * 1e3,
    );

    let together = |work: &(dyn Fn() + Sync)| {
        let ((), taken) = timed(|| {
            thread::scope(|scope| {
                (0..THREADS).for_each(|_| drop(scope.spawn(|| (0..merges / THREADS).for_each(|_| work()))));
            });
        });
        each(taken, merges)
    };
    let merging = together(&|| add_one(&db));
    let updating = together(&|| {
        let add = |old: Option<&[u8]>| {
            let old = old.and_then(|old| old.try_into().ok()).map_or(0, u64::from_le_bytes);
            Some((old + 1).to_le_bytes())
        };
        db.update(KEY, add).expect("an update");
    });
    let (_, count) = read(&db);
    assert_eq!(count, u64::from(merges) + 2 * u64::from(merges / THREADS * THREADS));
    println!("{THREADS} threads: {merging:.0} ns a merge, {updating:.0} ns an update");
}
