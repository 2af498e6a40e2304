//! Flush, compaction, open and recovery.

use std::cell::LazyCell;
use std::path::Path;
use std::time::{Duration, Instant};

use maplsm::{Db, Options, PointIndex};

use crate::data::{Data, key, number_in};
use crate::fixture::{self, Store, quiet};
use crate::floor;
use crate::report::{Case, Suite};

pub(crate) fn all(suite: &mut Suite, data: &Data) {
    rewrites(suite, data);
    clean_opens(suite, data);
    recovery(suite, data);
}

/// Flush and compaction of all entries, synced to disk.
fn rewrites(suite: &mut Suite, data: &Data) {
    let per_entry = |name| Case::new("maintenance", name).operations(data.entries).floor(floor::WRITE);
    suite.bench(per_entry("flush"), |iterations| {
        sum_of(iterations, || {
            let store = Store::in_memtable(data);
            let start = Instant::now();
            store.db.flush().expect("a flush");
            let took = start.elapsed();
            store.check(data, 9973);
            took
        })
    });
    let image = LazyCell::new(|| Store::unsettled(data).close());
    suite.bench(per_entry("compaction of eight tables"), |iterations| {
        sum_of(iterations, || {
            let dir = fixture::copy(&fixture::path(&image));
            let db = quiet().open(fixture::path(&dir)).expect("an open");
            let start = Instant::now();
            db.compact().expect("a compaction");
            let took = start.elapsed();
            fixture::check(&db, data, 9973);
            took
        })
    });
}

/// Opens of a store that was closed.
fn clean_opens(suite: &mut Suite, data: &Data) {
    let flushed = LazyCell::new(|| Store::settled(data, PointIndex::Hash).close());
    suite.bench(Case::new("open", "flushed").whole().target(10.0), |iterations| {
        sum_of(iterations, || timed_open(&quiet(), &fixture::path(&flushed), |db| assert_clean(db, 0)))
    });
    suite.bench(Case::new("open", "flushed, and one get").whole(), |iterations| {
        sum_of(iterations, || {
            let start = Instant::now();
            let db = quiet().open(fixture::path(&flushed)).expect("an open");
            let found = db.get(key(7)).expect("a lookup").expect("an entry");
            let took = start.elapsed();
            assert_eq!(number_in(&found), 7, "the value of an entry");
            took
        })
    });
    let unflushed = LazyCell::new(|| Store::in_memtable(data).close());
    suite.bench(Case::new("open", "closed, all in the log").whole(), |iterations| {
        let check = |db: &Db| {
            assert_clean(db, u64::from(data.entries));
            fixture::check(db, data, 9973);
        };
        sum_of(iterations, || timed_open(&quiet(), &fixture::path(&unflushed), check))
    });
}

/// Opens of what a killed process leaves.
fn recovery(suite: &mut Suite, data: &Data) {
    let killed = LazyCell::new(|| fixture::copy(&fixture::path(&Store::in_memtable(data).dir)));
    let recovered = |db: &Db| {
        assert_eq!(db.recovery_report().entries, u64::from(data.entries), "entries replayed");
        fixture::check(db, data, 9973);
    };
    let log_bytes = data.entry_bytes();
    let case = Case::new("recovery", "replay of the log").bytes(log_bytes).floor(floor::SUM).target(500.0);
    suite.bench(case, |iterations| {
        // A reader replays and changes nothing, so every iteration finds the same.
        let mut options = quiet();
        options.read_only(true);
        let path = fixture::path(&killed);
        sum_of(iterations, || timed_open(&options, &path, recovered))
    });
    let case = Case::new("recovery", "open of a killed store").bytes(log_bytes).floor(floor::WRITE);
    suite.bench(case, |iterations| {
        sum_of(iterations, || {
            let dir = fixture::copy(&fixture::path(&killed));
            timed_open(&quiet(), &fixture::path(&dir), recovered)
        })
    });
}

fn assert_clean(db: &Db, entries: u64) {
    let report = db.recovery_report();
    assert!(report.clean && report.entries == entries, "a clean open: {report:?}");
}

fn timed_open(options: &Options, path: &Path, check: impl Fn(&Db)) -> Duration {
    let start = Instant::now();
    let db = options.open(path).expect("an open");
    let took = start.elapsed();
    check(&db);
    took
}

fn sum_of(iterations: u64, mut one: impl FnMut() -> Duration) -> Duration {
    (0..iterations).map(|_| one()).sum()
}
