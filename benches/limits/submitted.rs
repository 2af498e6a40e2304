//! Commits that wait for the disk, and commits on their way to it.

use std::collections::VecDeque;
use std::thread;
use std::time::Instant;

use maplsm::{Db, WriteBatch};

const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 5;

fn batch(number: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.insert(number.to_be_bytes(), [0x5a; 100]);
    batch
}

/// Commits a second of so many threads that wait for each commit.
fn blocking(db: &Db, threads: u32, each: u32) -> f64 {
    let begin = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for number in 0..each {
                    db.write(batch((thread * each + number).into())).expect("a commit");
                }
            });
        }
    });
    f64::from(threads * each) / begin.elapsed().as_secs_f64()
}

/// Commits a second of one thread that has so many on their way.
fn submitting(db: &Db, commits: u32) -> f64 {
    let begin = Instant::now();
    let mut in_flight = VecDeque::new();
    for number in 0..commits {
        if in_flight.len() == IN_FLIGHT {
            let oldest: Option<maplsm::Commit> = in_flight.pop_front();
            oldest.expect("sixty-four commits").wait().expect("a durable commit");
        }
        in_flight.push_back(db.submit(batch(number.into())).expect("a commit"));
    }
    for commit in in_flight {
        commit.wait().expect("a durable commit");
    }
    f64::from(commits) / begin.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn run(commits: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::open(dir.path().join("db")).expect("a database");
    let [mut one, mut eight, mut submitted] = [(); 3].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        one.push(blocking(&db, 1, commits / 20));
        eight.push(blocking(&db, 8, commits / 20));
        submitted.push(submitting(&db, commits));
    }
    let [one, eight, submitted] = [one, eight, submitted].map(median);
    println!(
        "durable commits a second: 1 thread that waits {one:.0}, 8 threads {eight:.0}, 1 thread with {IN_FLIGHT} in flight {submitted:.0}: \
         {:.1} x one, {:.1} x eight",
        submitted / one,
        submitted / eight
    );
}
