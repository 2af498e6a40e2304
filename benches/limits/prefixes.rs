//! Keys in a memtable that begin with the same bytes.

use std::hint::black_box;
use std::time::Duration;

use maplsm::{Durability, Options, WriteBatch};

use crate::timed;

const VALUE: [u8; 100] = [7; 100];

/// Rounds of which the median is printed.
const ROUNDS: usize = 5;

const SEEKS: u32 = 100_000;

fn key(prefix: &[u8], number: u32) -> Vec<u8> {
    let number = u64::from(number);
    let z = (number.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let [mixed, again] = [z ^ (z >> 27), (z ^ (z >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb)];
    [prefix, &mixed.to_be_bytes(), &again.to_be_bytes()].concat()
}

/// The median of a few rounds, in nanoseconds an operation.
fn median(operations: u32, mut round: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| timed(&mut round).1).collect();
    times.sort_unstable();
    times[ROUNDS / 2].as_secs_f64() * 1e9 / f64::from(operations)
}

pub(crate) fn run(count: u32) {
    println!("\n{count} entries in a memtable: the first look, in ms, and what comes after it, in ns");
    println!("{:<24}{:>12}{:>12}{:>12}{:>12}", "", "first look", "seek", "forward", "backward");
    for prefix in [&b""[..], b"row/", b"tenant/000017/row/"] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut options = Options::new();
        // Nothing happens unasked.
        options.durability(Durability::Buffered).memtable_bytes(1 << 30).background_threads(0);
        let db = options.open(dir.path().join("db")).expect("a database");
        let mut batch = WriteBatch::new();
        for number in 0..count {
            batch.insert(key(prefix, number), VALUE);
            if batch.len() == 1000 || number + 1 == count {
                db.write(&batch).expect("a commit");
                batch.clear();
            }
        }
        let mut cursor = db.cursor();
        let (found, first_look) = timed(|| cursor.seek_first());
        assert!(found.expect("a seek"), "there are entries");
        let keys: Vec<Vec<u8>> = (0..SEEKS).map(|number| key(prefix, number.wrapping_mul(7919) % count)).collect();
        let seek = median(SEEKS, || {
            for key in &keys {
                assert!(cursor.seek(key).expect("a seek") && cursor.key() == key, "an entry is missing");
                black_box(cursor.value().first());
            }
        });
        let forward = median(count, || {
            let (mut more, mut seen) = (cursor.seek_first().expect("a seek"), 0);
            while more {
                seen += u32::from(black_box(cursor.value()).len() == VALUE.len());
                more = cursor.next().expect("a step");
            }
            assert_eq!(seen, count);
        });
        let backward = median(count, || {
            let (mut more, mut seen) = (cursor.seek_last().expect("a seek"), 0);
            while more {
                seen += u32::from(black_box(cursor.value()).len() == VALUE.len());
                more = cursor.prev().expect("a step");
            }
            assert_eq!(seen, count);
        });
        let what = if prefix.is_empty() { "no prefix".to_owned() } else { format!("{} bytes", prefix.len()) };
        let first_look = first_look.as_secs_f64() * 1e3;
        println!("{what:<24}{first_look:>12.1}{seek:>12.0}{forward:>12.0}{backward:>12.0}");
    }
}
