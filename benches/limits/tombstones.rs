//! Many range tombstones.

use std::hint::black_box;
use std::time::Duration;

use maplsm::{Db, Durability, Options, Snapshot, Transaction, WriteBatch};

use super::timed;

const STEPS: [&str; 10] = ["commit", "get", "scan", "back", "reopen", "flush", "compact", "get", "scan", "reopen"];

/// Snapshots in between, if there are any.
const SNAPSHOTS: u64 = 20;

/// How the commits are cut.
#[derive(Clone, Copy)]
enum Commits {
    Batch,
    Single,
    BesideSnapshots,
    Transaction,
}

/// How the ranges lie.
#[derive(Clone, Copy)]
enum Shape {
    /// No ranges: puts only.
    Puts,
    /// Always the same key.
    Same,
    /// One key after another.
    Apart,
    /// Each over the next ten.
    Overlapping,
    /// Each inside the one before.
    Inwards,
    /// Each around the one before.
    Outwards,
    /// All keys.
    All,
    Random,
}

fn mix(number: u64) -> u64 {
    let z = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

impl Shape {
    /// The key and the range of one round of `count`, which lie within `2 * count`.
    fn place(self, round: u64, count: u64) -> (u64, std::ops::Range<u64>) {
        match self {
            Self::Puts | Self::Apart => (round, round..round + 1),
            Self::Same => (7, 7..8),
            Self::Overlapping => (round, round..round + 10),
            Self::Inwards => (round, round..2 * count - round),
            Self::Outwards => (count - round, count - round..count + round),
            Self::All => (round, 0..2 * count),
            Self::Random => {
                let start = mix(round) % count;
                (start, start..start + 1 + mix(start) % 1000)
            }
        }
    }
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn options() -> Options {
    let mut options = Options::new();
    // One memtable holds all, and nothing happens unasked.
    options.durability(Durability::Buffered).memtable_bytes(1 << 30).background_threads(0);
    options
}

fn commit(db: &Db, shape: Shape, commits: Commits, count: u64) -> Vec<Snapshot> {
    if let Commits::Transaction = commits {
        let mut transaction = db.transaction();
        (0..count).try_for_each(|round| change(&mut transaction, shape, round, count)).expect("changes");
        transaction.commit().expect("a commit");
        return Vec::new();
    }
    let mut snapshots = Vec::new();
    let mut batch = WriteBatch::new();
    for round in 0..count {
        let (at, range) = shape.place(round, count);
        if let Shape::Puts = shape {
            for step in 0..4 {
                batch.insert(key(4 * round + step), round.to_le_bytes());
            }
        } else {
            batch.insert(key(at), b"older").remove(key(at)).remove_range(key(range.start)..key(range.end));
            batch.insert(key(at), round.to_le_bytes());
        }
        if !matches!(commits, Commits::Batch) {
            db.write(&batch).expect("a commit");
            batch.clear();
        }
        if matches!(commits, Commits::BesideSnapshots) && round % (count / SNAPSHOTS).max(1) == 0 {
            snapshots.push(db.snapshot());
        }
    }
    db.write(&batch).expect("a commit");
    snapshots
}

fn change(transaction: &mut Transaction, shape: Shape, round: u64, count: u64) -> maplsm::Result<()> {
    if let Shape::Puts = shape {
        return (0..4).try_for_each(|step| transaction.insert(key(4 * round + step), round.to_le_bytes()));
    }
    let (at, range) = shape.place(round, count);
    transaction.insert(key(at), b"older")?;
    transaction.remove(key(at))?;
    transaction.remove_range(key(range.start)..key(range.end))?;
    transaction.insert(key(at), round.to_le_bytes())
}

fn get_all(db: &Db, count: u64) {
    for at in 0..count {
        black_box(db.get(key(at)).expect("a get"));
    }
}

fn measure(shape: Shape, commits: Commits, count: u64) -> Vec<Duration> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let mut times = Vec::new();
    let mut time = |work: &mut dyn FnMut()| times.push(timed(work).1);
    let mut db = options().open(&path).expect("a database");
    let mut snapshots = Vec::new();
    time(&mut || snapshots = commit(&db, shape, commits, count));
    time(&mut || get_all(&db, count));
    time(&mut || _ = black_box(db.iter().count()));
    time(&mut || _ = black_box(db.iter().rev().count()));
    if snapshots.is_empty() {
        db.close().expect("a close");
        time(&mut || db = options().open(&path).expect("a database"));
    } else {
        // What they see, they see through the memtable that is there.
        time(&mut || snapshots.iter().for_each(|snapshot| _ = black_box(snapshot.iter().count())));
    }
    time(&mut || db.flush().expect("a flush"));
    time(&mut || db.compact().expect("a compaction"));
    time(&mut || get_all(&db, count));
    time(&mut || _ = black_box(db.iter().count()));
    drop(snapshots);
    db.close().expect("a close");
    time(&mut || db = options().open(&path).expect("a database"));
    times
}

/// `only` one of the lines, if it says which: `apart single`, for example.
pub(crate) fn run(count: u64, only: Option<&String>) {
    println!(
        "{count} times (put, remove, remove range, put), and as many puts; ms. Beside snapshots, the first `reopen`"
    );
    println!("is a scan of each of them instead.");
    print!("{:<12}{:<12}", "ranges", "commits");
    for step in STEPS {
        print!("{step:>9}");
    }
    println!();
    let shapes = [
        ("none", Shape::Puts),
        ("same", Shape::Same),
        ("apart", Shape::Apart),
        ("overlapping", Shape::Overlapping),
        ("inwards", Shape::Inwards),
        ("outwards", Shape::Outwards),
        ("all", Shape::All),
        ("random", Shape::Random),
    ];
    let modes = [
        (Commits::Batch, "batch"),
        (Commits::Single, "single"),
        (Commits::BesideSnapshots, "snapshots"),
        (Commits::Transaction, "transaction"),
    ];
    for (commits, mode) in modes {
        for (name, shape) in shapes {
            if only.is_some_and(|only| *only != format!("{name} {mode}")) {
                continue;
            }
            print!("{name:<12}{mode:<12}");
            for time in measure(shape, commits, count) {
                print!("{:>9.1}", time.as_secs_f64() * 1e3);
            }
            println!();
        }
    }
}
