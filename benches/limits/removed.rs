//! Much that is removed, or older, in the way of what is there.

use std::hint::black_box;
use std::time::{Duration, Instant};

use maplsm::{Db, Snapshot};

use crate::filled::{VALUE, key, mix, options, put_all};

/// Entries of the queue that are there at a time.
const DEPTH: u64 = 1000;

/// Of each time, so many are taken.
const ROUNDS: usize = 200;

/// What `work` takes: the first time, the median of those after it, and the longest of them.
fn print(what: &str, mut work: impl FnMut()) {
    let mut time = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    let first = time();
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| time()).collect();
    times.sort_unstable();
    let micros = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e6);
    let (median, last) = (micros(times.get(ROUNDS / 2)), micros(times.last()));
    println!("{what:<56}{:>12.1}{median:>12.1}{last:>12.1}", micros(Some(&first)));
}

/// First in, first out.
fn queue(count: u64, memtable_bytes: usize, flush: bool, what: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = options(memtable_bytes).open(dir.path().join("db")).expect("a database");
    put_all(&db, count + DEPTH, key);
    if flush {
        db.compact().expect("a compaction");
    }
    (0..count).for_each(|number| db.remove(key(number)).expect("a removal"));
    if flush {
        db.flush().expect("a flush");
    }
    let mut head = count;
    let check = |head: u64| {
        let first = db.iter().next().expect("an entry").expect("an entry that can be read");
        assert_eq!(first.key(), key(head));
    };
    print(&format!("{what}: first"), || check(head));
    print(&format!("{what}: push, first, pop"), || {
        db.insert(key(head + DEPTH), VALUE).expect("an insert");
        check(head);
        db.remove(key(head)).expect("a removal");
        head += 1;
    });
    print(&format!("{what}: last of what is removed"), || {
        let last = db.range(..key(count / 2)).next_back();
        assert!(last.is_none());
    });
    db.compact().expect("a compaction");
    print(&format!("{what}, settled: first"), || check(head));
    print(&format!("{what}, settled: push, first, pop"), || {
        db.insert(key(head + DEPTH), VALUE).expect("an insert");
        check(head);
        db.remove(key(head)).expect("a removal");
        head += 1;
    });
}

/// A scan's time for each entry that is there, in nanoseconds: the best of five.
fn scan(db: &Db, there: u32) -> f64 {
    let best = (0..5).map(|_| {
        let start = Instant::now();
        let mut cursor = db.cursor();
        let (mut more, mut seen) = (cursor.seek_first().expect("a seek"), 0);
        while more {
            black_box(cursor.value());
            seen += 1;
            more = cursor.next().expect("a step");
        }
        assert_eq!(seen, there);
        start.elapsed()
    });
    best.min().expect("five times").as_secs_f64() * 1e9 / f64::from(there)
}

/// A random half is removed.
fn half(count: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = options(1 << 30).open(dir.path().join("db")).expect("a database");
    put_all(&db, count.into(), |number| key(mix(number)));
    db.compact().expect("a compaction");
    let whole = scan(&db, count);
    let removed = (0..u64::from(count)).filter(|number| mix(number + u64::from(count)) & 1 == 0);
    let mut there = count;
    for number in removed {
        db.remove(key(mix(number))).expect("a removal");
        there -= 1;
    }
    let at_once = scan(&db, there);
    db.flush().expect("a flush");
    let flushed = scan(&db, there);
    db.compact().expect("a compaction");
    let settled = scan(&db, there);
    println!(
        "scan, ns an entry: all there {whole:.1}, half removed: in the memtable {at_once:.1}, flushed {flushed:.1}, settled {settled:.1}"
    );
}

/// All is written once more, and a random half a third time, each into a table of its own.
fn copies(count: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = options(1 << 30).open(dir.path().join("db")).expect("a database");
    let all = u64::from(count);
    put_all(&db, all, |number| key(mix(number)));
    db.flush().expect("a flush");
    let once = scan(&db, count);
    put_all(&db, all, |number| key(mix(number)));
    db.flush().expect("a flush");
    let twice = scan(&db, count);
    put_all(&db, all / 2, |number| key(mix(2 * number + (mix(number + all) & 1))));
    db.flush().expect("a flush");
    let more = scan(&db, count);
    println!("scan, ns an entry: all written once {once:.1}, twice {twice:.1}, and half of it a third time {more:.1}");
}

/// Many versions of one key, each of which somebody sees.
fn versions(count: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = options(1 << 30).open(dir.path().join("db")).expect("a database");
    let mut snapshots: Vec<(u64, Snapshot)> = Vec::new();
    for number in 0..count {
        db.insert("key", number.to_be_bytes()).expect("an insert");
        snapshots.push((number, db.snapshot()));
    }
    let mut rounds = 0;
    let mut get = || {
        rounds += 1;
        let (number, snapshot) = &snapshots[usize::try_from(mix(rounds) % count).expect("a place")];
        assert_eq!(snapshot.get("key").expect("a get").expect("a value"), number.to_be_bytes()[..]);
    };
    print(&format!("{count} versions in the memtable: a get of an old one"), &mut get);
    db.flush().expect("a flush");
    print(&format!("{count} versions in a table: a get of an old one"), &mut get);
}

pub(crate) fn run(count: u32) {
    println!(
        "{:<56}{:>12}{:>12}{:>12}",
        format!("{count} removed, {DEPTH} there; us"),
        "first time",
        "median",
        "longest"
    );
    queue(count.into(), 1 << 30, false, "in the memtable");
    queue(count.into(), 1 << 30, true, "removals in level 0, entries in level 1");
    versions(20_000.min(count.into()));
    half(count);
    copies(count);
}
