//! What the store's operations cost, each next to the least it could cost.
//!
//! One million entries of 16 + 100 bytes in random order, always the same ones. Every answer is checked. Every number has a
//! floor measured in the same run: the copy and checksum of a put, the one cache miss of a get, the memory traffic of a scan,
//! the bare sync of a durable commit. The report at the end gives the ratio, which says more than nanoseconds of an unknown
//! machine.
//!
//! ```text
//! cargo bench --bench store                    everything, about three minutes
//! cargo bench --bench store -- --quick         with fewer samples
//! cargo bench --bench store -- 'get|floor'     some of it
//! TMPDIR=/data cargo bench --bench store       on another file system
//! ```

mod data;
mod disk;
mod fixture;
mod floor;
mod maintenance;
mod read;
mod report;
mod scan;
mod threads;
mod write;

use std::time::Duration;

use criterion::Criterion;

use crate::data::Data;
use crate::report::Suite;

fn main() {
    let criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    // `--test` only shows that every benchmark works.
    let test = std::env::args().any(|argument| argument == "--test");
    let data = Data::new(if test { 20_000 } else { 1_000_000 });
    let mut suite = Suite::new(criterion);
    floor::all(&mut suite, &data);
    write::all(&mut suite, &data);
    read::all(&mut suite, &data);
    scan::all(&mut suite, &data);
    threads::all(&mut suite, &data);
    maintenance::all(&mut suite, &data);
    if suite.is_complete() {
        disk::all(&mut suite, &data);
    }
    if !test {
        suite.report();
    }
    suite.finish();
}
