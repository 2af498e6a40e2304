//! Every bit of a database's files, flipped one at a time: refused, noticed, reported as a dropped tail, or harmless; never a
//! wrong answer.
//!
//! [`in_both_modes_after_a_close_and_after_a_kill`] takes every 199th bit of a database of some 75 KiB; `MAPLSM_FLIPS=n` takes
//! every n-th, so `MAPLSM_FLIPS=1` takes all of them, which needs a quarter of an hour with two cores.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use maplsm::{Compression, Error, ErrorKind, IoMode, Options, PointIndex, SimFs, WriteBatch};

use super::damage::{is_kind, small};
use crate::support::model::{Map, read_all};
use crate::support::{DIR, contents, image, names, path, sim_options};

/// What came of a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The database did not open.
    Refused,
    /// A read answered an error.
    Noticed,
    /// Every read was right; `verify` told of the damage.
    Verified,
    /// The end of the log was cut off, and the recovery report says where.
    Dropped,
    /// Everything reads back right, and nothing is wrong.
    Harmless,
}

/// Opens a database and reads everything in every way; panics if any answer is wrong. `states` are those after each commit,
/// the last one that of the whole database: an earlier one may be found only where the recovery report says that the log was
/// cut off. The file and offset of the flipped byte are `flipped`: in a log, the cut is at or before it; a last edit of the
/// manifest that is not whole has never been acknowledged, and what the log has beyond the edit before it is cut off.
pub(super) fn examine(options: &Options, states: &[Map], what: &str, flipped: Option<(&str, u64)>) -> Outcome {
    let typed = |e: &Error| {
        let kinds = [ErrorKind::Corruption, ErrorKind::UnsupportedFormat];
        assert!(kinds.contains(&e.kind()), "{what}: {e}");
    };
    let db = match options.open(DIR) {
        Ok(db) => db,
        Err(e) => {
            typed(&e);
            return Outcome::Refused;
        }
    };
    let mut state = states.last().unwrap();
    let dropped = db.recovery_report().dropped.as_ref();
    if let Some(tail) = dropped {
        let (name, offset) = flipped.unwrap_or_else(|| panic!("{what}: {tail:?}"));
        let is_before = (&tail.path, tail.offset) <= (&path(name), offset);
        let is_told = if is_kind(name, "wal") { is_before } else { is_kind(name, "manifest") };
        assert!(is_told && is_kind(tail.path.to_str().unwrap(), "wal"), "{what}: {tail:?}");
        let found = contents(&db);
        state = states.iter().rfind(|state| **state == found).unwrap_or_else(|| panic!("{what}: no prefix"));
    }
    let mut noticed = false;
    for i in 0..=255u8 {
        for key in [vec![b'k', i], vec![i], Vec::new(), b"log".to_vec()] {
            if i % 16 != 0 && key.len() != 2 {
                continue;
            }
            match db.get(&key) {
                Ok(found) => {
                    assert_eq!(found.map(|value| value.to_vec()), state.get(&key).cloned(), "{what}: {key:?}");
                }
                Err(e) => {
                    typed(&e);
                    noticed = true;
                }
            }
        }
    }
    let mut compare = |found: maplsm::Result<Map>| match found {
        Ok(found) => assert!(found == *state, "{what}: a scan shows {found:?}"),
        Err(e) => {
            typed(&e);
            noticed = true;
        }
    };
    compare(read_all(db.iter()));
    let backwards = db.iter().rev().map(|entry| entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec())));
    compare(backwards.collect());
    let report = db.verify();
    report.problems.iter().for_each(&typed);
    if noticed {
        assert!(!report.is_ok(), "{what}: a read fails and verify finds nothing");
        return Outcome::Noticed;
    }
    match (report.is_ok(), dropped) {
        (true, Some(_)) => Outcome::Dropped,
        (true, None) => Outcome::Harmless,
        (false, _) => Outcome::Verified,
    }
}

/// A group without a body, which says that a run has ended.
const MARK_BYTES: usize = 24;

/// Whether nothing depends on a byte of a file: an index is made again, zeros behind the log's end are not part of it, and the
/// mark at the end of a manifest says what the edits in front of it say without it.
fn may_be_harmless(kind: &str, bytes: &[u8], at: usize) -> bool {
    match kind {
        "idx" => true,
        "wal" => bytes[at..].iter().all(|byte| *byte == 0),
        "manifest" => at >= bytes.len() - MARK_BYTES,
        _ => false,
    }
}

type Outcomes = BTreeMap<(String, Outcome), usize>;

/// Flips every `step`-th bit of these files; answers how often each outcome came, by kind of file.
fn flip(options: &Options, fs: &SimFs, files: &[(String, Vec<u8>)], states: &[Map], step: usize) -> Outcomes {
    let every = files.iter().flat_map(|(name, bytes)| (0..bytes.len() * 8).map(move |bit| (name, bytes, bit)));
    let flips: Vec<_> = every.step_by(step).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outcomes = Outcomes::new();
        loop {
            let Some((name, original, bit)) = flips.get(next.fetch_add(1, Ordering::Relaxed)) else { return outcomes };
            let mut bytes = (*original).clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let copy = fs.kill();
            copy.write(&path(name), &bytes);
            let what = format!("bit {} of byte {} of {name}", bit % 8, bit / 8);
            let flipped = (name.as_str(), (bit / 8) as u64);
            let outcome = examine(options.clone().file_system(copy), states, &what, Some(flipped));
            let kind = name.rsplit('.').next().unwrap_or(name).to_owned();
            assert!(outcome != Outcome::Harmless || may_be_harmless(&kind, original, bit / 8), "{what}");
            *outcomes.entry((kind, outcome)).or_insert(0) += 1;
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        let mut all = Outcomes::new();
        for (key, count) in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            *all.entry(key).or_insert(0) += count;
        }
        all
    })
}

#[test]
fn every_bit_of_a_small_database() {
    // What each kind of table is about, and everything for the first one.
    let kinds = [
        (PointIndex::Hash, Compression::None, ""),
        (PointIndex::Bloom { error_rate: 0.01 }, Compression::None, "idx"),
        #[cfg(feature = "lz4")]
        (PointIndex::Hash, Compression::Lz4, "sst"),
        #[cfg(feature = "zstd")]
        (PointIndex::Bloom { error_rate: 0.01 }, Compression::Zstd(1), "sst"),
    ];
    for (point_index, compression, kind) in kinds {
        let fs = SimFs::new();
        let mut options = sim_options(&fs);
        options.memtable_bytes(4 << 10).index_interval(3).point_index(point_index);
        options.compression(compression).compressed_from_level(0).block_bytes(4 << 10);
        let state = small(&options);
        let files: Vec<_> = image(&fs).into_iter().filter(|(name, _)| kind.is_empty() || is_kind(name, kind)).collect();
        let outcomes = flip(&options, &fs, &files, &[state], 1);
        let log = fs.read(&path(&names(&fs, ".wal")[0])).unwrap();
        let log_tail = log.iter().rev().take_while(|byte| **byte == 0).count();
        let count = |kind: &str, outcome| outcomes.get(&(kind.to_owned(), outcome)).copied().unwrap_or(0);
        if !kind.is_empty() {
            continue;
        }
        // Nothing of what is read at every open goes unnoticed, but for the mark at the end of the manifest itself and the
        // zeros behind the end of the log; nothing of a table does, and an index is made again.
        let bits = |ending: &str| {
            8 * files.iter().filter(|(name, _)| name.ends_with(ending)).map(|f| f.1.len()).sum::<usize>()
        };
        assert_eq!(count("CURRENT", Outcome::Refused), bits("CURRENT"));
        assert_eq!(count("manifest", Outcome::Refused) + 8 * MARK_BYTES, bits("manifest"));
        assert_eq!(count("wal", Outcome::Harmless), log_tail * 8);
        assert_eq!(count("idx", Outcome::Harmless), bits("idx"));
        assert!(bits("val") > 0);
    }
}

/// Commits to a database with tables on two levels, value files and segments of log, and closes it or kills its process;
/// answers the disk then and the states after each commit.
fn larger(fs: &SimFs, options: &Options, close: bool) -> (SimFs, Vec<Map>) {
    let db = options.open(DIR).unwrap();
    let mut states = vec![Map::new()];
    for turn in 0..170u8 {
        let length = usize::from(turn) * 37 % 400;
        let mut batch = WriteBatch::new();
        batch.insert([b'k', turn], vec![turn; length]).insert([b'k', turn % 7], [turn]).insert("log", [turn]);
        if turn % 11 == 3 {
            batch.insert([b'k', turn.wrapping_mul(3)], vec![turn; 1100 + length]).remove([b'k', turn - 2]);
        }
        db.write(&batch).unwrap();
        if turn == 40 {
            db.compact().unwrap();
        } else if turn == 100 {
            db.flush().unwrap();
        }
        states.push(contents(&db));
    }
    let stats = db.stats();
    assert!(stats.tables.len() > 1 && stats.value_files.len() > 1 && stats.tables.iter().any(|table| table.level > 0));
    let killed = fs.kill();
    db.close().unwrap();
    (if close { fs.clone() } else { killed }, states)
}

#[test]
fn in_both_modes_after_a_close_and_after_a_kill() {
    let step = std::env::var("MAPLSM_FLIPS").map_or(199, |text| text.parse().unwrap());
    for io_mode in [IoMode::Map, IoMode::Read] {
        for close in [true, false] {
            let fs = SimFs::new();
            let mut options = sim_options(&fs);
            options.io_mode(io_mode).memtable_bytes(8 << 10).index_interval(3).large_value_bytes(Some(1000));
            let (fs, states) = larger(&fs, &options, close);
            let files = image(&fs);
            let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
            assert!(bytes >= 64 << 10, "{bytes}");
            let outcomes = flip(&options, &fs, &files, &states, step);
            let end = if close { "closed" } else { "killed" };
            println!("{io_mode:?}, {end}, {bytes} bytes, every {step}th bit: {outcomes:?}");
            assert!(!close || outcomes.keys().all(|(_, outcome)| *outcome != Outcome::Dropped));
        }
    }
}
