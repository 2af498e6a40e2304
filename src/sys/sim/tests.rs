use std::collections::BTreeSet;

use super::*;
use crate::sys::{Access, Ahead, Dir, Fs, Lock, LockMode};

const SEEDS: std::ops::Range<u64> = 0..500;

fn open(fs: &SimFs) -> Arc<dyn Dir> {
    fs.open_dir(Path::new("a/db"), true, Access::Map).unwrap()
}

fn start() -> (SimFs, Arc<dyn Dir>) {
    let fs = SimFs::new();
    let dir = open(&fs);
    (fs, dir)
}

fn put(dir: &dyn Dir, name: &str, bytes: &[u8]) {
    let mut file = dir.create(name).unwrap();
    file.append(bytes).unwrap();
    file.sync().unwrap();
}

fn names(fs: &SimFs) -> Vec<String> {
    fs.files(Path::new("a/db")).into_iter().map(|(name, _)| name).collect()
}

/// Every set of names that some power cut leaves.
fn outcomes(fs: &SimFs) -> BTreeSet<Vec<String>> {
    SEEDS.map(|seed| names(&fs.power_cut(seed))).collect()
}

fn sets(expected: &[&[&str]]) -> BTreeSet<Vec<String>> {
    expected.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect()
}

fn read(fs: &SimFs, name: &str) -> Option<Vec<u8>> {
    fs.read(&Path::new("a/db").join(name))
}

#[test]
fn synced_files_with_synced_names_survive_every_power_cut() {
    let (fs, dir) = start();
    put(&*dir, "1", &[7; 5000]);
    dir.sync().unwrap();
    for seed in SEEDS {
        let after = fs.power_cut(seed);
        assert_eq!(read(&after, "1"), Some(vec![7; 5000]));
        assert_eq!(read(&after.power_cut(seed + 1), "1"), Some(vec![7; 5000]), "what a power cut left is durable");
        assert_eq!(open(&after).open("1").unwrap().bytes(), [7; 5000]);
    }
}

#[test]
fn a_synced_name_does_not_make_bytes_durable() {
    let (fs, dir) = start();
    let mut file = dir.create("1").unwrap();
    file.append(&[7; 1000]).unwrap();
    dir.sync().unwrap();
    let left: Vec<Vec<u8>> = SEEDS.map(|seed| read(&fs.power_cut(seed), "1").unwrap()).collect();
    assert!(left.iter().any(Vec::is_empty));
    assert!(left.contains(&vec![7; 1000]));
    assert!(left.contains(&vec![0; 1000]));
    assert!(left.iter().any(|bytes| bytes.len() == 1000 && bytes[..512] == [0; 512] && bytes[512..] == [7; 488]));
}

#[test]
fn names_may_be_lost_until_the_directory_is_synced() {
    let (fs, dir) = start();
    put(&*dir, "1", b"");
    put(&*dir, "2", b"");
    assert_eq!(outcomes(&fs), sets(&[&[], &["1"], &["2"], &["1", "2"]]));
    dir.sync().unwrap();
    assert_eq!(outcomes(&fs), sets(&[&["1", "2"]]));

    dir.remove("1").unwrap();
    assert_eq!(names(&fs), ["2"]);
    assert_eq!(outcomes(&fs), sets(&[&["1", "2"], &["2"]]));
    dir.sync().unwrap();
    assert_eq!(outcomes(&fs), sets(&[&["2"]]));

    dir.rename("2", "3").unwrap();
    dir.rename("3", "4").unwrap();
    assert_eq!(names(&fs), ["4"]);
    assert_eq!(outcomes(&fs), sets(&[&["2"], &["3"], &["4"]]), "renaming is atomic");
    dir.sync().unwrap();
    assert_eq!(outcomes(&fs), sets(&[&["4"]]));
}

#[test]
fn renaming_over_a_file_leaves_the_old_or_the_new_one() {
    let (fs, dir) = start();
    put(&*dir, "CURRENT", b"old");
    dir.sync().unwrap();
    put(&*dir, "tmp", b"new");
    dir.rename("tmp", "CURRENT").unwrap();
    let left: BTreeSet<Vec<u8>> = SEEDS.map(|seed| read(&fs.power_cut(seed), "CURRENT").unwrap()).collect();
    assert_eq!(left, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
}

#[test]
fn a_later_change_of_a_name_wins() {
    let (fs, dir) = start();
    put(&*dir, "1", b"old");
    dir.sync().unwrap();
    dir.remove("1").unwrap();
    put(&*dir, "1", b"new");
    let left: BTreeSet<Option<Vec<u8>>> = SEEDS.map(|seed| read(&fs.power_cut(seed), "1")).collect();
    assert_eq!(left, BTreeSet::from([None, Some(b"old".to_vec()), Some(b"new".to_vec())]));
}

#[test]
fn a_kill_keeps_everything_and_makes_nothing_durable() {
    let (fs, dir) = start();
    let _lock = dir.lock("LOCK", LockMode::Exclusive { create: true }).unwrap();
    dir.create("1").unwrap().append(&[7; 1000]).unwrap();
    let mut log = dir.create_log("2", 1000, Ahead::Doubling).unwrap();
    log.reserve(3).unwrap().copy_from_slice(b"log");
    log.commit(2).unwrap();
    let after = fs.kill();
    assert_eq!(names(&after), ["1", "2", "LOCK"]);
    assert_eq!(read(&after, "1"), Some(vec![7; 1000]));
    assert!(read(&after, "2").unwrap().starts_with(b"lo\0"));
    assert_eq!(outcomes(&after), outcomes(&fs));
    let lock = open(&after).lock("LOCK", LockMode::Exclusive { create: false }).unwrap();
    assert!(matches!(lock, Lock::Held(_)), "the dead hold no locks");

    put(&*dir, "3", b"");
    assert_eq!(read(&after, "3"), None, "a copy is a disk of its own");
}

#[test]
fn logs_are_preallocated_and_published_by_commits() {
    let (fs, dir) = start();
    let mut log = dir.create_log("1", 3 << 20, Ahead::Doubling).unwrap();
    assert_eq!(dir.length("1").unwrap(), 1 << 20);
    for i in 1..=5 {
        log.make_room(500 << 10, Ahead::Doubling).unwrap();
        log.reserve(500 << 10).unwrap().fill(i);
        log.commit(500 << 10).unwrap();
    }
    assert_eq!(dir.length("1").unwrap(), 3 << 20);
    assert_eq!(log.reserve(600 << 10).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(log.mapping().bytes().len(), 2500 << 10);
    let on_disk = dir.open("1").unwrap();
    assert_eq!(on_disk.bytes().len(), 3 << 20);
    assert!(on_disk.bytes().starts_with(log.mapping().bytes()));
    assert_eq!(fs.bytes_written(), 2500 << 10);

    let syncer = log.syncer();
    syncer.sync().unwrap();
    dir.sync().unwrap();
    log.reserve(4).unwrap().copy_from_slice(b"late");
    log.commit(4).unwrap();
    for seed in 0..20 {
        let left = read(&fs.power_cut(seed), "1").unwrap();
        assert_eq!(left.len(), 3 << 20);
        assert!(left.starts_with(&on_disk.bytes()[..2500 << 10]));
    }
}

#[test]
fn each_growth_of_a_log_is_decided_by_itself() {
    let (_fs, dir) = start();
    let mut log = dir.create_log("1", 3 << 20, Ahead::Needed).unwrap();
    assert_eq!(dir.length("1").unwrap(), 4096);
    for (needed, ahead, length) in [
        (5000, Ahead::Needed, 8192),
        (9000, Ahead::Doubling, 1 << 20),
        ((1 << 20) + 1, Ahead::Needed, (1 << 20) + 4096),
    ] {
        assert_eq!(log.make_room(needed, ahead).unwrap() as u64, length);
        assert_eq!(dir.length("1").unwrap(), length);
    }
    // What has not been taken ahead is taken when it is needed, and no more.
    log.reserve((1 << 20) + 5000).unwrap();
    assert_eq!(dir.length("1").unwrap(), (1 << 20) + 8192);
}

#[test]
fn small_logs_take_their_capacity() {
    let (_fs, dir) = start();
    let mut log = dir.create_log("1", 100, Ahead::Doubling).unwrap();
    assert_eq!(dir.length("1").unwrap(), 100);
    assert!(log.reserve(100).is_ok() && log.reserve(101).is_err());
}

#[test]
fn a_failed_sync_drops_what_was_dirty() {
    let (fs, dir) = start();
    let mut file = dir.create("1").unwrap();
    dir.sync().unwrap();
    file.append(&[1; 512]).unwrap();
    file.sync().unwrap();
    file.append(&[2; 512]).unwrap();
    fs.inject(Fault::Error { after: 1, kind: io::ErrorKind::Other });
    file.sync().unwrap_err();
    file.sync().unwrap();
    file.append(&[3; 512]).unwrap();
    file.sync().unwrap();
    assert_eq!(read(&fs, "1"), Some([[1; 512], [2; 512], [3; 512]].concat()));
    for seed in SEEDS {
        assert_eq!(read(&fs.power_cut(seed), "1"), Some([[1; 512], [0; 512], [3; 512]].concat()));
    }
}

#[test]
fn an_error_hits_one_operation_and_nothing_is_done() {
    let (fs, dir) = start();
    put(&*dir, "1", b"");
    let before = fs.operations();
    fs.inject(Fault::Error { after: 2, kind: io::ErrorKind::PermissionDenied });
    dir.rename("1", "2").unwrap();
    assert_eq!(dir.remove("2").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(names(&fs), ["2"]);
    dir.remove("2").unwrap();
    assert_eq!(fs.operations() - before, 3);

    fs.inject(Fault::Error { after: 1, kind: io::ErrorKind::StorageFull });
    assert!(fs.open_dir(Path::new("other"), true, Access::Map).is_err());
    assert!(fs.open_dir(Path::new("other"), false, Access::Map).is_err());
}

#[test]
fn a_halt_is_final_and_may_come_in_a_sync() {
    let (fs, dir) = start();
    dir.sync().unwrap();
    let mut file = dir.create("1").unwrap();
    dir.sync().unwrap();
    file.append(b"written").unwrap();
    fs.inject(Fault::Halt { after: 1 });
    for _ in 0..3 {
        file.sync().unwrap_err();
        file.append(b"more").unwrap_err();
        dir.create("2").unwrap_err();
    }
    assert_eq!(read(&fs, "1").as_deref(), Some(&b"written"[..]));
    let left: BTreeSet<Vec<u8>> = SEEDS.map(|seed| read(&fs.power_cut(seed), "1").unwrap()).collect();
    assert!(left.contains(&b"written"[..]) && left.contains(&b""[..]));
    assert!(open(&fs.kill()).create("2").is_ok(), "the copy works again");
}

#[test]
fn a_short_write_leaves_a_prefix() {
    let (fs, dir) = start();
    let mut file = dir.create("1").unwrap();
    fs.inject(Fault::Short { after: 2 });
    fs.inject(Fault::Short { after: 3 });
    file.append(b"all").unwrap();
    file.sync().unwrap();
    assert_eq!(io::Error::from(file.append(&[9; 100]).unwrap_err()).kind(), io::ErrorKind::StorageFull);
    let length = dir.length("1").unwrap();
    assert!((3..103).contains(&length));

    let mut log = dir.create_log("2", 1000, Ahead::Doubling).unwrap();
    log.reserve(100).unwrap().fill(9);
    log.commit(100).unwrap_err();
    assert_eq!(log.mapping().bytes(), b"", "the end has not moved");
    let written = read(&fs, "2").unwrap().iter().position(|byte| *byte == 0).unwrap();
    assert!(written < 100);
    assert_eq!(fs.bytes_written(), length + written as u64);
    assert!(log.reserve(1).is_err() && log.commit(0).is_err(), "the log must not be written again");
}

#[test]
fn locks_exclude_each_other_until_dropped() {
    let (fs, dir) = start();
    let exclusive = |create| dir.lock("LOCK", LockMode::Exclusive { create }).unwrap();
    let shared = || dir.lock("LOCK", LockMode::Shared).unwrap();
    assert!(matches!((shared(), exclusive(false)), (Lock::Absent, Lock::Absent)));
    let held = exclusive(true);
    assert!(matches!((&held, shared(), exclusive(true)), (Lock::Held(_), Lock::BusyHere, Lock::BusyHere)));
    drop(held);
    let (first, second) = (shared(), shared());
    assert!(matches!((&first, &second, exclusive(true)), (Lock::Held(_), Lock::Held(_), Lock::BusyHere)));
    drop(first);
    assert!(matches!(exclusive(true), Lock::BusyHere));
    drop(second);
    assert!(matches!(exclusive(true), Lock::Held(_)));
    assert_eq!(outcomes(&fs), sets(&[&["LOCK"]]));
}

#[test]
fn errors_are_those_of_an_operating_system() {
    let (fs, dir) = start();
    put(&*dir, "1", b"x");
    open(&fs);
    fs.open_dir(Path::new("a/db/sub"), true, Access::Map).unwrap();
    let kind = |error: io::Error| error.kind();
    assert_eq!(kind(dir.create("1").unwrap_err()), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(dir.create_log("sub", 10, Ahead::Doubling).unwrap_err()), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(dir.open("2").unwrap_err()), io::ErrorKind::NotFound);
    assert_eq!(kind(dir.open("sub").unwrap_err()), io::ErrorKind::InvalidInput);
    assert_eq!(kind(dir.length("2").unwrap_err()), io::ErrorKind::NotFound);
    assert_eq!(kind(dir.rename("2", "3").unwrap_err()), io::ErrorKind::NotFound);
    assert_eq!(kind(dir.remove("2").unwrap_err()), io::ErrorKind::NotFound);
    assert_eq!(dir.list().unwrap(), ["1", "sub"]);
    for create in [false, true] {
        let error = fs.open_dir(Path::new("a/db/1"), create, Access::Read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
    assert_eq!(kind(fs.open_dir(Path::new("b"), false, Access::Map).unwrap_err()), io::ErrorKind::NotFound);
}

#[test]
fn removed_files_stay_writable_and_readable_for_those_who_have_them() {
    let (fs, dir) = start();
    let mut file = dir.create("1").unwrap();
    file.append(b"one").unwrap();
    let mapping = dir.open("1").unwrap();
    dir.remove("1").unwrap();
    dir.sync().unwrap();
    file.append(b"two").unwrap();
    file.sync().unwrap();
    assert_eq!(mapping.bytes(), b"one");
    assert_eq!(outcomes(&fs), sets(&[&[]]));
}

#[test]
fn planted_and_uprooted_files_are_durable_among_unsynced_names() {
    let (fs, dir) = start();
    put(&*dir, "1", b"unsynced");
    put(&*dir, "2", b"unsynced");
    fs.write(Path::new("a/db/1"), b"planted");
    fs.remove(Path::new("a/db/2"));
    fs.write(Path::new("elsewhere/deep/3"), b"");
    for after in SEEDS.map(|seed| fs.power_cut(seed)) {
        assert_eq!(names(&after), ["1"]);
        assert_eq!(read(&after, "1").as_deref(), Some(&b"planted"[..]));
        assert_eq!(after.files(Path::new("elsewhere/deep")), [("3".to_owned(), 0)]);
    }
}

#[test]
fn the_same_seeds_give_the_same_disk() {
    let run = |seed| {
        let fs = SimFs::with_seed(seed);
        let dir = open(&fs);
        for i in 0..20u8 {
            let mut file = dir.create(&i.to_string()).unwrap();
            file.append(&vec![i; 3000]).unwrap();
        }
        let mut id = [0; 12];
        fs.random(&mut id).unwrap();
        let after = fs.power_cut(5);
        let files: Vec<Option<Vec<u8>>> = (0..20u8).map(|i| read(&after, &i.to_string())).collect();
        (id, files)
    };
    assert_eq!(run(1), run(1));
    let (one, two) = (run(1), run(2));
    assert_ne!(one.0, two.0);
    assert_ne!(one.1, two.1);
}
