//! A counter that eight threads add to, by merges, which read nothing, and by updates, which go one after another.
//!
//! `cargo run --release --example counter`

use std::time::Instant;

use maplsm::operators::Counter;
use maplsm::{Db, Durability, Options};

const THREADS: u64 = 8;
const TIMES: u64 = 10_000;

/// Lets the threads add one, each so many times, and says how long that takes.
fn count(db: &Db, key: &str, add_one: impl Fn() -> maplsm::Result<()> + Sync) -> maplsm::Result<()> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let add = || (0..TIMES).try_for_each(|_| add_one());
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(add)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread ends"))
    })?;
    let each = begun.elapsed() / u32::try_from(THREADS * TIMES).unwrap_or(u32::MAX);
    let count = db.get(key)?.map_or(0, |value| value.get_as::<[u8; 8]>().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    println!("{key}: {count}, {each:?} each");
    assert_eq!(count, THREADS * TIMES);
    Ok(())
}

fn main() -> maplsm::Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Options::new().merge_operator(Counter).durability(Durability::Buffered).open(dir.path().join("db"))?;
    let (merged, updated) = ("merged", "updated");

    count(&db, merged, || db.merge(merged, 1u64.to_le_bytes()))?;
    count(&db, updated, || {
        let add_one = |old: Option<&[u8]>| {
            let old = old.and_then(|old| Some(u64::from_le_bytes(old.try_into().ok()?)));
            Some((old.unwrap_or(0) + 1).to_le_bytes())
        };
        db.update(updated, add_one).map(drop)
    })?;

    // Until a compaction, each merge is an entry.
    db.compact()?;
    println!("{} entries", db.approximate_len::<&str>(..)?);
    db.close()
}
