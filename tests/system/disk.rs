//! Disks that fail: an ext4 file system on a loop device whose image loses its end (reads fail with `EIO`), or cannot grow
//! (writes fail at the sync, and the kernel marks their pages clean).

use std::path::{Path, PathBuf};
use std::process::Command;

use maplsm::{Db, Durability, ErrorKind, IoMode, KeyspaceOptions, Options};

use super::{Mounted, Orders, can};

const IMAGE_BYTES: u64 = 24 << 20;

const KEYS: u32 = 1500;

/// A mounted image. Its parts are taken down in order.
struct Disk {
    image: PathBuf,
    mounted: Mounted,
}

impl Disk {
    /// A new file system in the file `image`, which is as sparse as can be.
    fn new(image: &Path, at: &Path) -> Option<Self> {
        std::fs::File::create(image).unwrap().set_len(IMAGE_BYTES).unwrap();
        let arguments = ["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=0", image.to_str().unwrap()];
        if !can("mkfs.ext4", &arguments, "a failing disk") {
            return None;
        }
        Self::mount(image, at)
    }

    fn mount(image: &Path, at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let arguments = ["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()];
        let mounted = can("mount", &arguments, "a failing disk").then(|| Mounted(at.to_owned()))?;
        Some(Self { image: image.to_owned(), mounted })
    }

    /// Unmounts and mounts: what the kernel has in memory is gone.
    fn again(self) -> Self {
        let Self { image, mounted } = self;
        let at = mounted.0.clone();
        std::mem::forget(mounted);
        assert!(Command::new("umount").arg(&at).status().unwrap().success());
        Self::mount(&image, &at).unwrap()
    }
}

fn open(path: &Path, mode: IoMode) -> maplsm::Result<Db> {
    let mut options = Options::new();
    options.memtable_bytes(256 << 10).background_threads(0).io_mode(mode).durability(Durability::Buffered);
    options.open(path)
}

fn key(number: u32) -> String {
    format!("key {number:06}")
}

/// Small ones, and ones that stand in value files.
fn value(number: u32) -> Vec<u8> {
    vec![u8::try_from(number % 251).unwrap() + 1; if number.is_multiple_of(3) { 6000 } else { 150 }]
}

fn fill(path: &Path) {
    let db = open(path, IoMode::Map).unwrap();
    let apart = db.create_keyspace("apart", KeyspaceOptions::new().large_value_bytes(Some(4096))).unwrap();
    for number in 0..KEYS {
        apart.insert(key(number), value(number)).unwrap();
        if number == KEYS * 9 / 10 {
            db.flush().unwrap();
        }
    }
    db.close().unwrap();
}

/// Gets and scans everything; answers how many reads were right, and the errors.
fn read_all(db: &Db) -> (usize, Vec<maplsm::Error>) {
    let (mut right, mut errors) = (0, Vec::new());
    let mut note = |answer: maplsm::Result<()>| match answer {
        Ok(()) => right += 1,
        Err(error) => errors.push(error),
    };
    let apart = match db.keyspace("apart") {
        Ok(apart) => apart,
        Err(error) => return (0, vec![error]),
    };
    for number in 0..KEYS {
        let check = |found: Option<maplsm::Slice>| {
            assert!(found.expect("it is there") == value(number), "a wrong value of {number}");
        };
        note(apart.get(key(number)).map(check));
    }
    for (number, entry) in (0..).zip(&apart) {
        note(entry.map(|entry| assert!(entry.key() == key(number).as_bytes() && entry.value() == value(number))));
    }
    (right, errors)
}

/// The program under test, in a process of its own: opens, reads if it is told to, cuts the image, and reads.
#[test]
#[ignore = "a program for the other tests of this module"]
fn reader() {
    let order = |name: &str| std::env::var(name).ok();
    let Some(path) = order("DISK_DB") else { return };
    let mode = if order("DISK_MODE").as_deref() == Some("Read") { IoMode::Read } else { IoMode::Map };
    if order("DISK_GUARD").is_some() {
        maplsm::guard_mappings().unwrap();
    }
    let cut = || {
        let image = std::fs::File::options().write(true).open(order("DISK_IMAGE").unwrap()).unwrap();
        image.set_len(order("DISK_CUT").unwrap().parse().unwrap()).unwrap();
    };
    // Names and inodes are known; whatever else there is must come from the disk.
    let known = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>();
    assert!(known > 0);
    let evict = order("DISK_EVICT");
    if evict.is_none() {
        cut();
    }
    let said = |errors: &[maplsm::Error]| {
        for error in errors {
            let kinds = [ErrorKind::Io, ErrorKind::State, ErrorKind::Corruption];
            assert!(kinds.contains(&error.kind()) && error.corruption().is_none(), "{error}");
        }
    };
    let db = match open(Path::new(&path), mode) {
        Ok(db) => db,
        Err(error) => {
            said(std::slice::from_ref(&error));
            return println!("refused: {error}");
        }
    };
    if let Some(group) = evict {
        assert_eq!(read_all(&db).1.len(), 0);
        cut();
        // All of this process's pages that can be read again are given up, mapped or not.
        for _ in 0..3 {
            let _ = std::fs::write(format!("{group}/memory.force_empty"), "0");
        }
    }
    let (right, errors) = read_all(&db);
    said(&errors);
    println!(
        "alive: {right} reads were right, {} errors {}",
        errors.len(),
        errors.first().map_or(String::new(), |e| format!(": {e}"))
    );
    assert!(errors.is_empty() || !db.verify().is_ok());
    drop(db);
}

/// Starts the reader; `before` is a shell command of its process.
fn read(disk: &Disk, mode: IoMode, cut: u64, before: &str, more: &[(&str, &str)]) -> std::process::Output {
    let program = std::env::current_exe().unwrap();
    let script = format!("{before} exec \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script, "reader"]).arg(program);
    command.args(["--exact", "system::disk::reader", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("DISK_DB", disk.mounted.0.join("db")).env("DISK_MODE", format!("{mode:?}"));
    command.env("DISK_IMAGE", &disk.image).env("DISK_CUT", cut.to_string()).envs(more.iter().copied());
    command.output().unwrap()
}

fn said(output: &std::process::Output) -> String {
    let said = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// What cannot be read is an error of those who want it, without the guard as well: nothing of a mapping is read before it is
/// present. What can be read is right.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_disk_that_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("disk");
    let Some(mut disk) = Disk::new(&dir.path().join("image"), &at) else { return };
    fill(&at.join("db"));
    disk = disk.again();
    let whole = dir.path().join("whole");
    drop(disk);
    std::fs::copy(dir.path().join("image"), &whole).unwrap();
    let mut seen = std::collections::BTreeMap::<(String, &str), u32>::new();
    for mode in [IoMode::Map, IoMode::Read] {
        for step in 1..=24 {
            std::fs::copy(&whole, dir.path().join("image")).unwrap();
            let disk = Disk::mount(&dir.path().join("image"), &at).unwrap();
            let cut = IMAGE_BYTES * step / 24 / 4096 * 4096;
            let output = read(&disk, mode, cut, "", &[]);
            let said = said(&output);
            assert!(output.status.success(), "{mode:?}, cut at {cut}: {:?}: {said}", output.status);
            let ended = if said.contains("refused: ") {
                "refused"
            } else if said.contains(" 0 errors ") {
                "whole"
            } else {
                "errors"
            };
            *seen.entry((format!("{mode:?}"), ended)).or_default() += 1;
        }
    }
    println!("disks that could not be read from a place on: {seen:?}");
    // Where the cuts fall is up to the file system: few or none of them spare what an open reads and hit what only reads need.
    for mode in ["Map", "Read"] {
        assert!(["refused", "whole"].iter().all(|ended| seen.contains_key(&(mode.to_owned(), *ended))));
    }
}

/// Pages that were read, evicted, and then cannot be read again: an error with the guard.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_disk_that_fails_later_is_an_error_with_the_guard() {
    let group = Path::new("/sys/fs/cgroup/memory/maplsm-evict");
    if std::fs::create_dir_all(group).is_err() || !group.join("memory.force_empty").exists() {
        println!("skipped: pages evicted: this machine has no memory cgroups of version 1");
        let _ = std::fs::remove_dir(group);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("disk");
    let Some(mut disk) = Disk::new(&dir.path().join("image"), &at) else { return };
    fill(&at.join("db"));
    disk = disk.again();
    let join = format!("echo $$ > {}/cgroup.procs;", group.display());
    let more = [("DISK_EVICT", group.to_str().unwrap()), ("DISK_GUARD", "yes")];
    // Metadata is in front of this; of the files, most is behind it.
    let output = read(&disk, IoMode::Map, 4 << 20, &join, &more);
    let _ = std::fs::remove_dir(group);
    let said = said(&output);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    let line = said.lines().find(|line| line.contains("alive: ")).unwrap();
    println!("pages evicted: {line}");
    assert!(!line.contains(" 0 errors"), "nothing was evicted");
}

/// A sync fails, and the kernel forgets that it did: the store takes no more writes, and what the next open shows is still
/// there when the kernel's memory is gone.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_sync_that_fails_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [IoMode::Map, IoMode::Read] {
        let Some(host) = Mounted::new(&dir.path().join("host"), "size=32m") else { return };
        let at = dir.path().join("disk");
        let Some(mut disk) = Disk::new(&host.0.join("image"), &at) else { return };
        let orders =
            Orders { commits: 40, ..Orders::new(at.join("db"), dir.path().join(format!("notes {mode:?}")), mode) };
        let begun = orders.run(&[]);
        assert!(begun.well && orders.acknowledged() == 40, "{}", begun.said);
        // The image has no block for what is new.
        let ballast = host.0.join("ballast");
        let full = Command::new("dd").args(["if=/dev/zero", "bs=4k", &format!("of={}", ballast.display())]).output();
        assert!(!full.unwrap().status.success());
        let more = Orders { commits: 4000, ..orders.clone() };
        // A flush that meets the failure first takes the reserve, and commits are refused until it is done with it.
        let has_failed = (0..20).any(|_| {
            let ended = more.run(&[]);
            assert!(!ended.panicked() && ended.said.contains("ended by: "), "{}", ended.said);
            let reason = ended.said.lines().find(|line| line.contains("ended by: ")).unwrap();
            println!("{mode:?}: {} acknowledged, {reason}", orders.acknowledged());
            let is_sync = reason.contains("sync");
            assert!(is_sync || reason.contains("cannot reserve space"), "{reason}");
            is_sync
        });
        assert!(has_failed, "no sync has failed");
        std::fs::remove_file(&ballast).unwrap();
        let shown = { super::last_number(&super::options(mode).read_only(true).open(&orders.db).unwrap()) };
        assert!(shown >= orders.acknowledged());
        orders.check("after a failed sync");
        disk = disk.again();
        orders.check("after a failed sync, and without the kernel's memory");
        drop(disk);
    }
}
