//! Keys in a memtable that begin with the same bytes.

use std::hint::black_box;
use std::time::Duration;

use maplsm::{Cursor, Result};

use crate::filled::{VALUE, key, mix, options, put_all};
use crate::timed;

/// Rounds of which the median is printed.
const ROUNDS: usize = 5;

const SEEKS: u32 = 100_000;

/// The median of a few rounds, in nanoseconds an operation.
fn median(operations: u32, mut round: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| timed(&mut round).1).collect();
    times.sort_unstable();
    times[ROUNDS / 2].as_secs_f64() * 1e9 / f64::from(operations)
}

/// Walks from one end to the other.
fn walk(
    cursor: &mut Cursor,
    count: u32,
    start: impl Fn(&mut Cursor) -> Result<bool>,
    step: impl Fn(&mut Cursor) -> Result<bool>,
) {
    let (mut more, mut seen) = (start(cursor).expect("a seek"), 0);
    while more {
        seen += u32::from(black_box(cursor.value()).len() == VALUE.len());
        more = step(cursor).expect("a step");
    }
    assert_eq!(seen, count);
}

pub(crate) fn run(count: u32) {
    println!("\n{count} entries in a memtable: the first look, in ms, and what comes after it, in ns");
    println!("{:<24}{:>12}{:>12}{:>12}{:>12}", "", "first look", "seek", "forward", "backward");
    for prefix in [&b""[..], b"row/", b"tenant/000017/row/"] {
        let key = |number: u64| [prefix, &key(mix(number))].concat();
        let dir = tempfile::tempdir().expect("a directory");
        let db = options(1 << 30).open(dir.path().join("db")).expect("a database");
        put_all(&db, count.into(), key);
        let mut cursor = db.cursor();
        let (found, first_look) = timed(|| cursor.seek_first());
        assert!(found.expect("a seek"), "there are entries");
        let keys: Vec<Vec<u8>> = (0..SEEKS).map(|number| key((number.wrapping_mul(7919) % count).into())).collect();
        let seek = median(SEEKS, || {
            for key in &keys {
                assert!(cursor.seek(key).expect("a seek") && cursor.key() == key, "an entry is missing");
                black_box(cursor.value().first());
            }
        });
        let forward = median(count, || walk(&mut cursor, count, Cursor::seek_first, Cursor::next));
        let backward = median(count, || walk(&mut cursor, count, Cursor::seek_last, Cursor::prev));
        let what = if prefix.is_empty() { "no prefix".to_owned() } else { format!("{} bytes", prefix.len()) };
        let first_look = first_look.as_secs_f64() * 1e3;
        println!("{what:<24}{first_look:>12.1}{seek:>12.0}{forward:>12.0}{backward:>12.0}");
    }
}
