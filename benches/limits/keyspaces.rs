//! Many keyspaces.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use maplsm::{Db, Durability, KeyspaceOptions, Options};

use super::timed;

const ROUNDS: u64 = 200;

/// Where the data of the keyspaces is.
#[derive(Clone, Copy)]
enum Data {
    Log,
    /// All in one table of level 0.
    Table,
    /// In a table of its own each.
    Tables,
}

fn options() -> Options {
    let mut options = Options::new();
    options.durability(Durability::Buffered);
    options
}

fn name(number: u64) -> String {
    format!("keyspace {number}")
}

/// Median and maximum in microseconds.
fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let micros = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e6);
    println!("{what:<44}{:>12.1}{:>12.1}", micros(times.get(times.len() / 2)), micros(times.last()));
}

fn measure(what: &str, mut work: impl FnMut(u64)) {
    print(what, (0..ROUNDS).map(|round| timed(|| work(round)).1).collect());
}

/// The longest waits of a writer beside what `work` does, one for each of its calls.
fn beside_writer(db: &Db, what: &str, mut work: impl FnMut(u64)) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut longest = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                db.insert("key", "value").expect("an insert");
                longest.push(start.elapsed());
                std::thread::sleep(Duration::from_micros(100));
            }
            longest.sort_unstable();
            longest.split_off(longest.len().saturating_sub(usize::try_from(ROUNDS).expect("few")))
        });
        for round in 0..ROUNDS {
            work(round);
            std::thread::sleep(Duration::from_millis(1));
        }
        done.store(true, Ordering::Relaxed);
        print(what, writer.join().expect("the writer"));
    });
}

pub(crate) fn run(count: u32) {
    println!("{count} keyspaces; us{:>37}{:>12}", "median", "longest");
    for data in [Data::Log, Data::Table, Data::Tables] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("db");
        let db = options().open(&path).expect("a database");
        let (keyspaces, time) = timed(|| {
            let named = (0..count).map(|number| db.keyspace(name(number.into())).expect("a keyspace"));
            named.collect::<Vec<_>>()
        });
        println!("{:<44}{:>12.1}", "making all, each", time.as_secs_f64() * 1e6 / f64::from(count.max(1)));
        for keyspace in &keyspaces {
            match data {
                Data::Log | Data::Table => keyspace.insert("key", "value").expect("an insert"),
                Data::Tables => _ = keyspace.ingest([("key", "value")]).expect("a load"),
            }
        }
        drop(keyspaces);
        if !matches!(data, Data::Log) {
            db.flush().expect("a flush");
            db.wait_for_background().expect("a calm store");
        }
        let with = match data {
            Data::Log => ", data in the log",
            Data::Table => ", data in one table",
            Data::Tables => ", a table each",
        };
        let new = |round: u64| format!("new {round}");
        measure(&format!("keyspace(new){with}"), |round| drop(db.keyspace(new(round)).expect("a keyspace")));
        measure(&format!("keyspace(known){with}"), |round| drop(db.keyspace(name(round)).expect("a keyspace")));
        measure(&format!("drop_keyspace{with}"), |round| db.drop_keyspace(new(round)).expect("a drop"));
        measure(&format!("flush of one entry{with}"), |round| {
            db.insert("key", round.to_le_bytes()).expect("an insert");
            db.flush().expect("a flush");
        });
        beside_writer(&db, "  writer beside creations, longest waits", |round| {
            drop(db.create_keyspace(new(round), &KeyspaceOptions::new()).expect("a keyspace"));
        });
        beside_writer(&db, "  writer beside drops, longest waits", |round| {
            db.drop_keyspace(new(round)).expect("a drop");
        });
        beside_writer(&db, "  writer beside flushes, longest waits", |_| db.flush().expect("a flush"));
        db.close().expect("a close");
        let (db, time) = timed(|| options().open(&path).expect("a database"));
        println!("{:<44}{:>12.1}", format!("open{with}"), time.as_secs_f64() * 1e6);
        let ((), time) = timed(|| db.close().expect("a close"));
        println!("{:<44}{:>12.1}", format!("close{with}"), time.as_secs_f64() * 1e6);
    }
}
