//! What reads of data that is not in memory bring in, counted by the kernel.

use std::path::Path;
use std::process::Command;

use maplsm::{Compression, Db, Durability, IoMode, Options};

const ENTRIES: u32 = 60_000;
const GETS: u32 = 30;
const PAGE: u64 = 4096;

/// Bytes that this process has caused to be read from disks.
fn from_disk() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("read_bytes: ")).unwrap().parse().unwrap()
}

/// Keys without an order, so that neighbours are far apart.
fn key(number: u32) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    key
}

/// A settled database of one table that is on the disk only.
fn evicted(options: &Options, path: &Path) -> Db {
    let db = options.open(path).unwrap();
    for number in 0..ENTRIES {
        db.insert(key(number), [number.to_le_bytes()[0]; 100]).unwrap();
    }
    db.compact().unwrap();
    db.close().unwrap();
    drop(db);
    for entry in std::fs::read_dir(path).unwrap() {
        let file = std::fs::File::open(entry.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    options.open(path).unwrap()
}

/// Measures in a process of its own, since the kernel counts by process.
#[test]
#[ignore = "a program for the other tests of this module"]
fn reader() {
    let Some(path) = std::env::var_os("COLD_DB") else { return };
    let mode = if std::env::var("COLD_MODE").unwrap() == "Read" { IoMode::Read } else { IoMode::Map };
    let is_packed = std::env::var_os("COLD_PACKED").is_some();
    let mut options = Options::new();
    options
        .io_mode(mode)
        .durability(Durability::Buffered)
        .background_threads(0)
        .large_value_bytes(None)
        .reserve_bytes(0);
    if is_packed {
        options.compression(Compression::Lz4).compressed_from_level(0).block_bytes(16 << 10);
    }
    let begin = from_disk();
    let db = evicted(&options, Path::new(&path));
    // Brings in the index.
    assert!(db.get(key(7)).unwrap().is_some());
    if from_disk() == begin {
        println!("this file system reads from no disk");
        return;
    }
    let size = db.stats().levels.iter().map(|level| level.bytes).sum::<u64>();
    let opened = from_disk();
    for number in 0..GETS {
        assert!(db.get(key(number * 1_777 + 100)).unwrap().is_some());
    }
    let gets = (from_disk() - opened) / u64::from(GETS);
    let most = if is_packed { (16 << 10) + 2 * PAGE } else { 3 * PAGE };
    assert!(gets <= most, "{gets} bytes a get");

    let before = from_disk();
    let mut cursor = db.cursor();
    for number in 0..GETS {
        assert!(cursor.seek(key(number * 1_999 + 50)).unwrap());
        for _ in 0..10 {
            cursor.next().unwrap();
        }
    }
    let seeks = (from_disk() - before) / u64::from(GETS);
    assert!(seeks <= most + (16 << 10), "{seeks} bytes a seek with ten entries");

    let before = from_disk();
    assert_eq!(db.iter().count(), ENTRIES as usize);
    assert_eq!(db.iter().rev().count(), ENTRIES as usize);
    let scans = from_disk() - before;
    assert!(scans <= size + (1 << 20), "{scans} bytes for a scan of {size}");
    println!("bytes a get: {gets}; a seek with ten entries: {seeks}; two scans: {scans} of {size}");
    db.close().unwrap();
}

fn read(mode: IoMode, is_packed: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "system::cold::reader", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("COLD_DB", dir.path().join("db")).env("COLD_MODE", format!("{mode:?}"));
    if is_packed {
        command.env("COLD_PACKED", "1");
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{mode:?}: {said}");
    let marks = ["bytes a get", "this file system"];
    let line = said.lines().find_map(|line| marks.iter().find_map(|mark| line.find(mark).map(|at| &line[at..])));
    println!("{mode:?}, {}: {}", if is_packed { "in blocks" } else { "plain" }, line.expect("a report"));
}

#[test]
fn reads_bring_in_what_they_need() {
    for mode in [IoMode::Map, IoMode::Read] {
        read(mode, false);
        if cfg!(feature = "lz4") {
            read(mode, true);
        }
    }
}
