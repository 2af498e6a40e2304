//! Puts, one by one, synced, and in batches, into a store with default options, which flushes and compacts beside them.

use std::time::{Duration, Instant};

use maplsm::{Durability, Options, WriteBatch};

use crate::data::{Data, key, value};
use crate::fixture::Store;
use crate::floor;
use crate::report::{Case, Suite};

pub(crate) fn all(suite: &mut Suite, data: &Data) {
    let case = Case::new("put", "buffered").floor(floor::COPY_AND_SUM).target(250.0);
    let mut writer = Writer::new(data, buffered());
    suite.bench(case, |iterations| {
        writer.run(iterations, 1, |store, number| store.db.insert(key(number), value(number)))
    });
    drop(writer);

    // What the path itself costs: nothing is flushed, no thread runs beside it.
    let case = Case::new("put", "buffered, into one memtable").floor(floor::COPY_AND_SUM).target(250.0);
    let mut options = buffered();
    options.memtable_bytes(512 << 20).background_threads(0);
    let mut writer = Writer::new(data, options);
    suite.bench(case, |iterations| {
        writer.run(iterations, 1, |store, number| store.db.insert(key(number), value(number)))
    });
    drop(writer);

    let case = Case::new("put", "synced").floor(floor::SYNC);
    let mut writer = Writer::new(data, Options::new());
    suite.bench(case, |iterations| {
        writer.run(iterations, 1, |store, number| store.db.insert(key(number), value(number)))
    });
    drop(writer);

    for (name, size) in [("buffered, batches of 100", 100), ("buffered, batches of 1000", 1000)] {
        let case = Case::new("put", name).operations(size).floor(floor::COPY_AND_SUM);
        let mut writer = Writer::new(data, buffered());
        let mut batch = WriteBatch::new();
        suite.bench(case, |iterations| {
            writer.run(iterations, size, |store, first| {
                batch.clear();
                for number in first..first + size {
                    batch.insert(key(number), value(number));
                }
                store.db.write(&batch)
            })
        });
    }
    ingest(suite, data);
}

/// Everything in order of key, straight into tables, durable at the end.
fn ingest(suite: &mut Suite, data: &Data) {
    let mut sorted: Vec<u32> = (0..data.entries).collect();
    sorted.sort_unstable_by_key(|number| key(*number));
    let case = Case::new("ingest", "sorted entries").operations(data.entries).floor(floor::WRITE);
    suite.bench(case, |iterations| {
        let mut took = Duration::ZERO;
        for _ in 0..iterations {
            let store = Store::new(&Options::new());
            let entries = sorted.iter().map(|number| (key(*number), value(*number)));
            let start = Instant::now();
            store.db.ingest(entries).expect("a load");
            took += start.elapsed();
            store.check(data, 997);
        }
        took
    });
}

fn buffered() -> Options {
    let mut options = Options::new();
    options.durability(Durability::Buffered);
    options
}

/// Fills one store after another with all entries; making and checking them is not timed.
struct Writer<'d> {
    data: &'d Data,
    options: Options,
    store: Option<Store>,
    next: u32,
}

impl<'d> Writer<'d> {
    fn new(data: &'d Data, options: Options) -> Self {
        Self { data, options, store: None, next: 0 }
    }

    /// So many calls of `put`, each of which adds `step` entries.
    fn run(&mut self, calls: u64, step: u32, mut put: impl FnMut(&Store, u32) -> maplsm::Result<()>) -> Duration {
        let mut took = Duration::ZERO;
        let mut rest = calls;
        while rest > 0 {
            let store = self.store.get_or_insert_with(|| Store::new(&self.options));
            let here = rest.min(u64::from((self.data.entries - self.next) / step));
            let start = Instant::now();
            for _ in 0..here {
                put(store, self.next).expect("a commit");
                self.next += step;
            }
            took += start.elapsed();
            rest -= here;
            if self.next + step > self.data.entries {
                store.check(self.data, 997);
                self.store = None;
                self.next = 0;
            }
        }
        took
    }
}
