//! Several threads at once: what one costs the other. Times are those of one operation with all threads counted together, so
//! two readers that do not disturb each other halve them.

use std::cell::LazyCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use maplsm::{Durability, Options, PointIndex};

use crate::data::{Data, key, number_in, value};
use crate::fixture::{Store, quiet};
use crate::floor;
use crate::report::{Case, Suite};

pub(crate) fn all(suite: &mut Suite, data: &Data) {
    {
        let table = LazyCell::new(|| Store::settled(data, PointIndex::Hash));
        for (name, threads, floor) in
            [("table, one reader", 1, floor::MISS), ("table, two readers", 2, floor::MISS_TWO)]
        {
            let case = Case::new("threads", name).floor(floor);
            suite.bench(case, |iterations| read(&table, data, iterations, threads));
        }
    }
    {
        let memtable = LazyCell::new(|| Store::in_memtable(data));
        for (name, threads, floor) in
            [("memtable, one reader", 1, floor::MISS), ("memtable, two readers", 2, floor::MISS_TWO)]
        {
            let case = Case::new("threads", name).floor(floor);
            suite.bench(case, |iterations| read(&memtable, data, iterations, threads));
        }
    }
    {
        let store = LazyCell::new(|| Store::in_memtable(data));
        let case = Case::new("threads", "memtable, one reader beside a writer").floor(floor::MISS);
        suite.bench(case, |iterations| beside_writer(&store, data, || read(&store, data, iterations, 1)));
    }
    {
        let store = LazyCell::new(|| Store::in_memtable(data));
        let case = Case::new("threads", "snapshot, made and dropped").target(1000.0);
        suite.bench(case, |iterations| snapshots(&store, iterations));
        let case = Case::new("threads", "snapshot, beside a writer").target(1000.0);
        suite.bench(case, |iterations| beside_writer(&store, data, || snapshots(&store, iterations)));
    }
    {
        let store = LazyCell::new(|| Store::settled(data, PointIndex::Hash));
        let iterators = |iterations| timed(iterations, || drop(std::hint::black_box(store.db.iter())));
        suite.bench(Case::new("iterator", "made and dropped").target(150.0), iterators);
        // Each at a sequence number of its own.
        let snapshots = LazyCell::new(|| {
            let made = (0..10_000).map(|number| {
                store.db.insert(key(number), value(number)).expect("a commit");
                store.db.snapshot()
            });
            let made: Vec<_> = made.collect();
            assert!(store.db.iter().next().is_some());
            made
        });
        suite.bench(Case::new("iterator", "made and dropped among 10,000 snapshots").target(150.0), |iterations| {
            LazyCell::force(&snapshots);
            iterators(iterations)
        });
    }
    for (name, threads) in [("synced puts, two writers", 2), ("synced puts, eight writers", 8)] {
        let store = LazyCell::new(|| Store::new(&Options::new()));
        let case = Case::new("threads", name).floor(floor::SYNC);
        suite.bench(case, |iterations| synced(&store, data, iterations, threads));
    }
    {
        // The first scan sorts what has been written since the last one; the second finds it done.
        let case = Case::new("scan", "first entry behind 64 MiB of puts").whole();
        suite.bench(case, |iterations| first_scans(data, iterations));
    }
}

/// So many lookups, shared by the threads.
fn read(store: &Store, data: &Data, iterations: u64, threads: u32) -> Duration {
    let each = iterations.div_ceil(u64::from(threads));
    on_threads(threads, |thread| {
        let mut order = data.shuffled();
        let mut wrong = 0u64;
        for _ in 0..each {
            let number = own(data, order.next().unwrap_or(0), thread, threads);
            let found = store.db.get(key(number)).expect("a lookup");
            wrong += u64::from(found.is_none_or(|value| number_in(&value) != number));
        }
        assert_eq!(wrong, 0, "wrong answers");
    })
}

/// The same order, begun elsewhere by each thread.
fn own(data: &Data, number: u32, thread: u32, threads: u32) -> u32 {
    (number + data.entries / threads * thread) % data.entries
}

/// The time that all threads together take for `work`.
pub(crate) fn on_threads(threads: u32, work: impl Fn(u32) + Sync) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 1..threads {
            let work = &work;
            scope.spawn(move || work(thread));
        }
        work(0);
    });
    start.elapsed()
}

/// Overwrites entries, without a sync and at full speed, while `work` runs.
fn beside_writer(store: &Store, data: &Data, work: impl FnOnce() -> Duration) -> Duration {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (count, number) in data.shuffled().enumerate().take_while(|_| !done.load(Ordering::Relaxed)) {
                store.db.insert(key(number), value(number)).expect("a commit");
                // What has been overwritten must not fill the disk.
                if count % 2_000_000 == 1_999_999 {
                    store.db.flush().expect("a flush");
                }
            }
        });
        let took = work();
        done.store(true, Ordering::Relaxed);
        took
    })
}

fn snapshots(store: &Store, iterations: u64) -> Duration {
    timed(iterations, || drop(std::hint::black_box(store.db.snapshot())))
}

fn timed(iterations: u64, work: impl Fn()) -> Duration {
    let start = Instant::now();
    for _ in 0..iterations {
        work();
    }
    start.elapsed()
}

fn synced(store: &Store, data: &Data, iterations: u64, threads: u32) -> Duration {
    let each = iterations.div_ceil(u64::from(threads));
    on_threads(threads, |thread| {
        for number in data.shuffled().take(usize::try_from(each).unwrap_or(usize::MAX)) {
            let number = own(data, number, thread, threads);
            store.db.insert(key(number), value(number)).expect("a commit");
        }
    })
}

fn first_scans(data: &Data, iterations: u64) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..iterations {
        let store = Store::new(quiet().durability(Durability::Buffered));
        for number in 0..data.entries.min((64 << 20) / 136) {
            store.db.insert(key(number), value(number)).expect("a commit");
        }
        let start = Instant::now();
        assert!(store.db.iter().next().is_some());
        took += start.elapsed();
    }
    took
}
