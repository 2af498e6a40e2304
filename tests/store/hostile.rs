//! The worst that a file can be: an open ends soon, with a typed error or a database, and takes memory by the file's size.

use std::path::Path;
use std::time::{Duration, Instant};

use maplsm::{Durability, ErrorKind, SimFs, WriteBatch};

use crate::support::reseal::{Kind, adopt, reseal};
use crate::support::{DIR, change, load, names, path, sim_options};

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

/// Runs the rest of a test in a process of its own that can have this much address space and no more; answers whether this is
/// that process, or there is no such limit.
fn is_capped(test: &str, kibibytes: u32) -> bool {
    const CAPPED: &str = "MAPLSM_TEST_CAPPED";
    if cfg!(not(target_os = "linux")) || std::env::var_os(CAPPED).is_some() {
        return true;
    }
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("ulimit -v {kibibytes} && exec \"$0\" \"$@\"")]);
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(CAPPED, "yes");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let says = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{says}");
    print!("{says}");
    false
}

/// Whatever a number in a header, footer or directory says, with all checksums right: everyone who looks at the file answers
/// in the memory that the file takes.
#[test]
fn numbers_that_lie_take_no_memory() {
    if !is_capped("store::hostile::numbers_that_lie_take_no_memory", 1 << 20) {
        return;
    }
    let good = with_every_kind();
    let (mut cases, mut refused, begun) = (0, 0, Instant::now());
    for (name, _) in good.files(Path::new(DIR)) {
        let Some(kind) = Kind::of(&name) else { continue };
        let bytes = good.read(&path(&name)).unwrap();
        let length = bytes.len() as u64;
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let places: Vec<usize> = match kind {
            Kind::Table | Kind::Index | Kind::Values => {
                // The fields of the footer, and the directory in front of it.
                let footer = used - 128;
                [footer + 24, footer + 32, footer + 40, footer + 48, footer + 56, footer + 64, footer + 72]
                    .into_iter()
                    .chain((64..footer).rev().step_by(4).take(40).map(|at| at & !3))
                    .chain([40, 64, 68])
                    .collect()
            }
            _ => (40..used.min(400)).step_by(4).collect(),
        };
        let numbers = [1 << 31, 1 << 46, (1 << 63) - 8, u64::MAX - 7, u64::MAX, length - 8, length + 8, length * 16];
        for (number, at) in places.iter().enumerate().flat_map(|(i, at)| {
            // The fields of the footer with all of them, every other place with two.
            let all = at + 128 > used && used % 8 == 0;
            numbers.iter().enumerate().filter(move |(n, _)| all || n % 4 == i % 4).map(move |(_, n)| (*n, *at))
        }) {
            let mut bad = bytes.clone();
            let Some(field) = bad.get_mut(at..at + 8) else { continue };
            field.copy_from_slice(&number.to_le_bytes());
            reseal(kind, &mut bad);
            let fs = good.kill();
            fs.write(&path(&name), &bad);
            // Half of the time the manifest says the same.
            if matches!(kind, Kind::Table | Kind::Values) && cases % 2 == 0 {
                let of = name.split('.').next().unwrap().parse().unwrap();
                let manifest = names(&fs, ".manifest").pop().unwrap();
                change(&fs, &manifest, |manifest| {
                    adopt(manifest, of, &bad);
                    reseal(Kind::Manifest, manifest);
                });
            }
            let what = format!("{name}: {number:#x} at {at}");
            let read_only = sim_options(&fs).read_only(true).open(DIR);
            let opened = read_only.as_ref().map(|db| db.verify().problems.len()).map_err(ToString::to_string);
            drop(read_only);
            if kind == Kind::Table
                && let Ok(table) = maplsm::table::Reader::new(&bad)
            {
                let _ = table.verify();
                let _ = table.get(0, b"k", u64::MAX);
            }
            let _ = maplsm::inspect::bytes(&path(&name), &bad, &mut |_| Ok(()));
            let examined = maplsm::examine(DIR, &sim_options(&fs));
            match maplsm::repair(DIR, &sim_options(&fs)) {
                Ok(report) => {
                    let db = sim_options(&fs).open(DIR).unwrap_or_else(|e| panic!("{what}: {e}, {report:?}"));
                    assert!(db.verify().is_ok(), "{what}: {:?}", db.verify().problems);
                    let told = examined.unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert!(told.is_empty() == report.findings.is_empty(), "{what}: {told:?}, {opened:?}");
                }
                Err(e) => {
                    assert!(e.kind() == ErrorKind::UnsupportedFormat || e.is_corruption(), "{what}: {e}, {opened:?}");
                    refused += 1;
                }
            }
            cases += 1;
        }
    }
    println!("{cases} lies, {refused} refused, {} ms", begun.elapsed().as_millis());
}

/// Files of every kind, with a log that is needed.
fn with_every_kind() -> SimFs {
    let fs = SimFs::new();
    let db = sim_options(&fs).large_value_bytes(Some(200)).index_interval(2).open(DIR).unwrap();
    let second = db.keyspace("second").unwrap();
    load(&db, (0..40u32).map(|i| (i.to_be_bytes(), vec![1; if i % 4 == 0 { 300 } else { 20 }])), 20);
    second.insert("k", "v").unwrap();
    db.remove_range(3u32.to_be_bytes()..6u32.to_be_bytes()).unwrap();
    db.flush().unwrap();
    load(&db, (20..60u32).map(|i| (i.to_be_bytes(), [2; 20])), 10);
    db.close().unwrap();
    fs
}
