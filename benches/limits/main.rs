//! What costs no more than it should where there is a great number of something: of range tombstones, of keyspaces, of
//! removed entries and old versions.
//!
//! ```sh
//! cargo bench --bench limits                          # all
//! cargo bench --bench limits -- tombstones 200000     # so many times (put, remove, remove range, put)
//! cargo bench --bench limits -- tombstones 200000 "apart single"    # one line of the table
//! cargo bench --bench limits -- keyspaces 10000
//! cargo bench --bench limits -- removed 1000000
//! cargo bench --bench limits -- prefixes 1000000
//! cargo bench --bench limits -- backlog 3072
//! cargo bench --bench limits -- loads 3000
//! cargo bench --bench limits -- submitted 200000
//! cargo bench --bench limits -- purge 6000000
//! cargo bench --bench limits -- merged 1000000
//! ```
//!
//! **tombstones**: commits (put, remove, remove range, put) over and over, the ranges laid out in several ways, as one batch,
//! as single commits, as single commits with snapshots in between, and as one transaction. Prints, in milliseconds, what
//! each step takes: the commits, a get of each key, a scan forwards and one backwards, a reopen that replays the log, a
//! flush, a compaction, gets and a scan of the result; and the same for as many puts of different keys, to compare with.
//!
//! **keyspaces**: medians, in microseconds, of what makes, drops and opens keyspaces where there are that many, and the longest
//! time that a writer beside them has waited for a commit.
//!
//! **removed**: a queue, whose entries are put at one end and removed at the other, after that many removals: how long it takes
//! to find the first entry, in the memtable, in tables, and settled; a scan of entries of which half are removed, beside one
//! of all; a scan of entries that were written more than once, each time into another table; a get of an old version among many.
//!
//! **prefixes**: so many entries in a memtable, whose keys begin with nothing, four, or eighteen bytes that all have: the first
//! look in order, which sorts them, a seek, and a step in each direction.
//!
//! **backlog**: so many MiB, in batches of 32 MiB by one thread and of 1 MiB by 64, with one thread that flushes: the most log that
//! was in memory at a time, and the longest time that a commit took.
//!
//! **loads**: so many loads of a hundred entries that do not overlap: what one takes at first and at last, and how many tables are
//! left of them.
//!
//! **submitted**: durable commits a second of one thread that waits for each, of eight such threads, and of one thread that has 64
//! commits on their way to the disk; the last number is that of commits in a round of the latter.
//!
//! **purge**: so many entries of a log, removed as a range with a mark in the same batch: how long that takes, until when their
//! files are gone, and gets of another keyspace beside it.
//!
//! **merged**: so many merges into one key: what one takes, and a get of the key in the log, in a table, and compacted to one
//! entry; and what a merge and an update of it take four threads at once.

mod backlog;
mod filled;
mod keyspaces;
mod loads;
mod merged;
mod prefixes;
mod purge;
mod removed;
mod submitted;
mod tombstones;

use std::time::{Duration, Instant};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |default: u32| args.get(1).map_or(default, |arg| arg.parse().expect("a number"));
    match args.first().map(String::as_str) {
        Some("tombstones") => tombstones::run(number(200_000).into(), args.get(2)),
        Some("keyspaces") => keyspaces::run(number(10_000)),
        Some("removed") => removed::run(number(1_000_000)),
        Some("prefixes") => prefixes::run(number(1_000_000)),
        Some("backlog") => backlog::run(number(3072)),
        Some("loads") => loads::run(number(3000)),
        Some("submitted") => submitted::run(number(200_000)),
        Some("purge") => purge::run(number(6_000_000)),
        Some("merged") => merged::run(number(1_000_000)),
        Some(other) => panic!("none of the names at the head of this program: {other}"),
        None => {
            tombstones::run(200_000, None);
            keyspaces::run(10_000);
            removed::run(1_000_000);
            prefixes::run(1_000_000);
            backlog::run(3072);
            loads::run(3000);
            submitted::run(200_000);
            purge::run(6_000_000);
            merged::run(1_000_000);
        }
    }
}

/// How long something takes.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed())
}
