//! Lookups in the memtable, in one settled table, and over several tables.

use std::cell::LazyCell;
use std::time::{Duration, Instant};

use maplsm::PointIndex;

use crate::data::{Data, key, number_in};
use crate::fixture::Store;
use crate::floor;
use crate::report::{Case, Suite};

pub(crate) fn all(suite: &mut Suite, data: &Data) {
    {
        let store = LazyCell::new(|| Store::settled(data, PointIndex::Hash));
        let case = Case::new("get", "hit").floor(floor::MISS).target(500.0);
        let mut order = data.shuffled();
        suite.bench(case, |iterations| hits(&store, iterations, &mut order));
        let case = Case::new("get", "miss").floor(floor::MISS).target(150.0);
        let mut order = data.shuffled();
        suite.bench(case, |iterations| misses(&store, data, iterations, &mut order));
        let case = Case::new("get", "Zipf").floor(floor::MISS);
        let mut order = data.skewed();
        suite.bench(case, |iterations| hits(&store, iterations, &mut order));
        let case = Case::new("get", "hit, chained").floor(floor::MISS_CHAIN);
        suite.bench(case, |iterations| chain(&store, data, iterations));
    }
    {
        let store = LazyCell::new(|| Store::settled(data, PointIndex::Bloom { error_rate: 0.01 }));
        let case = Case::new("get", "hit, bloom").floor(floor::MISS);
        let mut order = data.shuffled();
        suite.bench(case, |iterations| hits(&store, iterations, &mut order));
        let case = Case::new("get", "miss, bloom").floor(floor::MISS);
        let mut order = data.shuffled();
        suite.bench(case, |iterations| misses(&store, data, iterations, &mut order));
    }
    {
        let store = LazyCell::new(|| Store::in_memtable(data));
        let case = Case::new("get", "hit, memtable").floor(floor::MISS);
        let mut order = data.shuffled();
        suite.bench(case, |iterations| hits(&store, iterations, &mut order));
        let case = Case::new("get", "miss, memtable").floor(floor::MISS);
        let mut order = data.shuffled();
        suite.bench(case, |iterations| misses(&store, data, iterations, &mut order));
    }
    {
        let store = LazyCell::new(|| Store::unsettled(data));
        let case = Case::new("get", "hit, eight tables").floor(floor::MISS);
        let mut order = data.shuffled();
        suite.bench(case, |iterations| hits(&store, iterations, &mut order));
        let case = Case::new("get", "miss, eight tables").floor(floor::MISS);
        let mut order = data.shuffled();
        suite.bench(case, |iterations| misses(&store, data, iterations, &mut order));
    }
}

fn hits(store: &Store, iterations: u64, order: &mut impl Iterator<Item = u32>) -> Duration {
    let mut wrong = 0u64;
    let start = Instant::now();
    for _ in 0..iterations {
        let number = order.next().unwrap_or(0);
        let found = store.db.get(key(number)).expect("a lookup");
        wrong += u64::from(found.is_none_or(|value| number_in(&value) != number));
    }
    let took = start.elapsed();
    assert_eq!(wrong, 0, "wrong answers");
    took
}

fn misses(store: &Store, data: &Data, iterations: u64, order: &mut impl Iterator<Item = u32>) -> Duration {
    let mut wrong = 0u64;
    let start = Instant::now();
    for _ in 0..iterations {
        let number = data.entries + order.next().unwrap_or(0);
        wrong += u64::from(store.db.get(key(number)).expect("a lookup").is_some());
    }
    let took = start.elapsed();
    assert_eq!(wrong, 0, "wrong answers");
    took
}

/// Each lookup needs the answer of the one before: the latency, where the others show the throughput.
fn chain(store: &Store, data: &Data, iterations: u64) -> Duration {
    let mut number = 0u32;
    let start = Instant::now();
    for _ in 0..iterations {
        let value = store.db.get(key(number)).expect("a lookup").expect("an entry");
        assert_eq!(number_in(&value), number, "the value of an entry");
        number = (number_in(&value) + 1) % data.entries;
    }
    start.elapsed()
}
