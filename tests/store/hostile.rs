//! The worst that a file can be: an open ends soon, with a typed error or a database, and takes memory by the file's size.

use std::path::Path;
use std::time::{Duration, Instant};

use maplsm::{Durability, ErrorKind, SimFs, WriteBatch};

use crate::support::reseal::{Kind, reseal};
use crate::support::{DIR, load, names, sim_options};

/// Generous: this is a debug build on a machine that does other things as well.
const LONGEST: Duration = Duration::from_secs(5);

/// Large enough that anything that is not linear shows.
const FILE_BYTES: usize = 4 << 20;

/// A database with tables, a log and a manifest, as a crash leaves it.
fn crashed() -> SimFs {
    let fs = SimFs::new();
    let db = sim_options(&fs).memtable_bytes(64 << 10).open(DIR).unwrap();
    load(&db, (0..300u32).map(|i| (i.to_be_bytes(), [1; 50])), 20);
    db.flush().unwrap();
    load(&db, (200..500u32).map(|i| (i.to_be_bytes(), [2; 50])), 1);
    fs.kill()
}

fn open(fs: &SimFs, what: &str) {
    let begun = Instant::now();
    let opened = sim_options(fs).open(DIR);
    match opened {
        Ok(db) => {
            let _ = db.iter().find(Result::is_err);
            let _ = db.verify();
        }
        Err(e) => assert!(
            [ErrorKind::Corruption, ErrorKind::UnsupportedFormat, ErrorKind::InvalidInput, ErrorKind::NotFound]
                .contains(&e.kind()),
            "{what}: {e}"
        ),
    }
    let took = begun.elapsed();
    println!("{what}: {} ms", took.as_millis());
    assert!(took < LONGEST, "{what} takes {took:?}");
}

/// Replaces the end of one file, with and without checksums made right.
fn fill(ending: &str, pattern: &[u8]) {
    for seal in [false, true] {
        let fs = crashed();
        let name = names(&fs, ending).pop().unwrap();
        let path = Path::new(DIR).join(&name);
        let mut bytes = fs.read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used.next_multiple_of(8));
        while bytes.len() < FILE_BYTES {
            bytes.extend_from_slice(pattern);
        }
        if let Some(kind) = Kind::of(&name).filter(|_| seal) {
            reseal(kind, &mut bytes);
        }
        fs.write(&path, &bytes);
        open(&fs, &format!("{name} with {:02x?}.. behind it, sealed: {seal}", &pattern[..pattern.len().min(8)]));
    }
}

/// What looks like the start of a group at every place, groups of every length, empty ones, and what is no group at all.
#[test]
fn long_tails_of_logs_are_searched_in_linear_time() {
    let mut group = [0u8; 24];
    (group[0], group[1]) = (0x96, 1);
    for ending in [".wal", ".manifest"] {
        fill(ending, &[0x96, 1, 0, 0, 0, 0, 0, 0]);
        fill(ending, &[0x96, 1, 0, 0, 1, 0, 0, 0]);
        fill(ending, &[0x96, 2, 0, 0, 0, 0, 0, 0]);
        fill(ending, &group);
        (group[1], group[4]) = (2, 1);
        fill(ending, &group);
        fill(ending, &[0xff; 8]);
        fill(ending, &[0x96; 4096]);
    }
}

/// A log of nothing but range tombstones, in each other, over each other and side by side.
#[test]
fn logs_of_range_tombstones_are_replayed_soon() {
    const RANGES: u32 = 40_000;
    for shape in ["inwards", "outwards", "staggered", "disjoint"] {
        let fs = SimFs::new();
        let db = sim_options(&fs).open(DIR).unwrap();
        let mut batch = WriteBatch::new();
        for i in 0..RANGES {
            let [start, end] = match shape {
                "inwards" => [i, 2 * RANGES - i],
                "outwards" => [RANGES - i, RANGES + i + 1],
                "staggered" => [i, RANGES + i],
                _ => [2 * i, 2 * i + 1],
            };
            batch.remove_range(start.to_be_bytes()..end.to_be_bytes());
        }
        db.write_with(&batch, Durability::Buffered).unwrap();
        let bytes = db.stats().memtable_bytes;
        open(&fs.kill(), &format!("{bytes} bytes of range tombstones, {shape}"));
    }
}

/// Every 4-byte and 8-byte place of headers, footers, directories and first records holds an enormous number in turn.
#[test]
fn enormous_numbers_are_not_believed() {
    let good = crashed();
    for (name, _) in good.files(Path::new(DIR)) {
        let Some(kind) = Kind::of(&name) else { continue };
        let path = Path::new(DIR).join(&name);
        let bytes = good.read(&path).unwrap();
        let head = 0..bytes.len().min(600);
        let tail = bytes.len().saturating_sub(800)..bytes.len();
        for at in head.chain(tail).step_by(4).filter(|at| at + 8 <= bytes.len()) {
            for (number, width) in [(u64::MAX, 8), (1 << 62, 8), (u64::from(u32::MAX), 4), (1 << 30, 4)] {
                let mut bad = bytes.clone();
                bad[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
                reseal(kind, &mut bad);
                let fs = good.kill();
                fs.write(&path, &bad);
                let begun = Instant::now();
                let opened = sim_options(&fs).read_only(true).open(DIR);
                let _ = opened.map(|db| db.iter().find(Result::is_err).is_some());
                assert!(begun.elapsed() < LONGEST, "{name}: {number:#x} at {at}");
            }
        }
    }
}
