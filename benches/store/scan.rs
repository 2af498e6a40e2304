//! Walks in both directions and seeks, over one settled table and over several.

use std::cell::LazyCell;
use std::time::{Duration, Instant};

use maplsm::{Cursor, Iter, PointIndex};

use crate::data::{Data, key, number_in};
use crate::fixture::Store;
use crate::floor;
use crate::report::{Case, Suite};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Reverse,
}

pub(crate) fn all(suite: &mut Suite, data: &Data) {
    let sorted = LazyCell::new(|| data.sorted());
    {
        let store = LazyCell::new(|| Store::settled(data, PointIndex::Hash));
        let case = Case::new("scan", "cursor forward").floor(floor::READ).target(50.0);
        cursor(suite, case, &store, &sorted, Way::Forward);
        cursor(suite, Case::new("scan", "cursor reverse").floor(floor::READ), &store, &sorted, Way::Reverse);
        iterator(suite, Case::new("scan", "Iter forward").floor(floor::READ), &store, &sorted, Way::Forward);
        iterator(suite, Case::new("scan", "Iter reverse").floor(floor::READ), &store, &sorted, Way::Reverse);
        let mut order = data.shuffled();
        suite.bench(Case::new("seek", "one table").floor(floor::MISS_CHAIN), |n| seeks(&store, n, &mut order));
    }
    {
        let store = LazyCell::new(|| Store::unsettled(data));
        let case = Case::new("scan", "cursor forward, eight tables").floor(floor::READ);
        cursor(suite, case, &store, &sorted, Way::Forward);
        let mut order = data.shuffled();
        suite.bench(Case::new("seek", "eight tables").floor(floor::MISS_CHAIN), |n| seeks(&store, n, &mut order));
    }
    {
        let store = LazyCell::new(|| Store::in_memtable(data));
        let case = Case::new("scan", "cursor forward, memtable").floor(floor::READ);
        cursor(suite, case, &store, &sorted, Way::Forward);
    }
}

/// Walks a cursor over the store, from one end to the other, as often as it takes.
fn cursor(
    suite: &mut Suite,
    case: Case,
    store: &LazyCell<Store, impl FnOnce() -> Store>,
    sorted: &LazyCell<Vec<u32>, impl FnOnce() -> Vec<u32>>,
    way: Way,
) {
    let mut walk: Option<(Cursor, usize)> = None;
    suite.bench(case, |iterations| {
        let sorted = &***sorted;
        let (cursor, seen) = walk.get_or_insert_with(|| (store.db.cursor(), 0));
        let mut wrong = 0u64;
        let start = Instant::now();
        for _ in 0..iterations {
            if *seen == sorted.len() || *seen == 0 {
                *seen = 0;
                let found = if way == Way::Forward { cursor.seek_first() } else { cursor.seek_last() };
                assert!(found.expect("a seek"), "an entry");
            } else {
                let found = if way == Way::Forward { cursor.next() } else { cursor.prev() };
                wrong += u64::from(!found.expect("a step"));
            }
            let expected = if way == Way::Forward { sorted[*seen] } else { sorted[sorted.len() - 1 - *seen] };
            wrong += u64::from(number_in(cursor.value()) != expected);
            *seen += 1;
        }
        let took = start.elapsed();
        assert_eq!(wrong, 0, "wrong entries");
        took
    });
}

/// The same with an iterator.
fn iterator(
    suite: &mut Suite,
    case: Case,
    store: &LazyCell<Store, impl FnOnce() -> Store>,
    sorted: &LazyCell<Vec<u32>, impl FnOnce() -> Vec<u32>>,
    way: Way,
) {
    let mut walk: Option<(Iter, usize)> = None;
    suite.bench(case, |iterations| {
        let sorted = &***sorted;
        let mut wrong = 0u64;
        let start = Instant::now();
        for _ in 0..iterations {
            let (iter, seen) = walk.get_or_insert_with(|| (store.db.iter(), 0));
            let entry = if way == Way::Forward { iter.next() } else { iter.next_back() };
            let entry = entry.expect("an entry").expect("a step");
            let expected = if way == Way::Forward { sorted[*seen] } else { sorted[sorted.len() - 1 - *seen] };
            wrong += u64::from(number_in(entry.value()) != expected);
            *seen += 1;
            if *seen == sorted.len() {
                assert!(iter.next().is_none() && iter.next_back().is_none(), "the end");
                walk = None;
            }
        }
        let took = start.elapsed();
        assert_eq!(wrong, 0, "wrong entries");
        took
    });
}

fn seeks(store: &Store, iterations: u64, order: &mut impl Iterator<Item = u32>) -> Duration {
    let mut cursor = store.db.cursor();
    let mut wrong = 0u64;
    let start = Instant::now();
    for _ in 0..iterations {
        let number = order.next().unwrap_or(0);
        let found = cursor.seek(key(number)).expect("a seek");
        wrong += u64::from(!found || number_in(cursor.value()) != number);
    }
    let took = start.elapsed();
    assert_eq!(wrong, 0, "wrong entries");
    took
}
