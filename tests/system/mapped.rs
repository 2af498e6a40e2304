//! Mapped files that are truncated, overwritten, or lose a part while they are read: with the guard, an error and a live
//! process.

use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use maplsm::{Db, Error, ErrorKind, IoMode, Options};
use rustix::fs::FallocateFlags;

/// What is done to the files of a kind.
const DEEDS: [&str; 6] =
    ["sst truncate", "idx truncate", "wal truncate", "sst shorten", "sst overwrite", "sst punch a hole"];

/// Bytes that are overwritten, or become a hole.
const LOST_BYTES: usize = 20_000;

const KEYS: u32 = 4000;

fn key(number: u32) -> String {
    format!("key {number:06}")
}

fn value(number: u32) -> Vec<u8> {
    vec![u8::try_from(number % 251).unwrap() + 1; 150]
}

fn open(path: &Path) -> Db {
    let mut options = Options::new();
    options.memtable_bytes(256 << 10).background_threads(0).io_mode(IoMode::Map);
    // What changes after it was verified is noticed by those who verify always.
    options.verify_always(std::env::var("LOST_DEED").is_ok_and(|deed| !loses_pages(&deed)));
    options.durability(maplsm::Durability::Buffered).open(path).unwrap()
}

/// Whether there are pages that cannot be read any more, and not only other bytes.
fn loses_pages(deed: &str) -> bool {
    deed.ends_with("truncate") || deed.ends_with("shorten")
}

fn fill(db: &Db) {
    for number in 0..KEYS {
        db.insert(key(number), value(number)).unwrap();
    }
}

fn read_all(db: &Db) -> Vec<maplsm::Result<()>> {
    let right = |number: u32, found: &[u8]| assert!(found == value(number), "a wrong value of {number}");
    let mut answers = Vec::new();
    for number in 0..KEYS {
        answers.push(db.get(key(number)).map(|found| right(number, &found.expect("it is there"))));
    }
    let mut next = 0;
    for entry in db {
        answers.push(entry.map(|entry| {
            assert_eq!(entry.key(), key(next).as_bytes(), "a scan");
            right(next, entry.value());
            next += 1;
        }));
    }
    answers
}

/// The program under test, in a process of its own.
#[test]
#[ignore = "a program for the other tests of this module"]
fn loser() {
    let Ok(path) = std::env::var("LOST_DB") else { return };
    let path = Path::new(&path);
    let deed = std::env::var("LOST_DEED").unwrap();
    let (kind, deed) = deed.split_once(' ').unwrap();
    if std::env::var("LOST_GUARD").is_ok() {
        maplsm::guard_mappings().unwrap();
        maplsm::guard_mappings().unwrap();
    }
    let (db, other) = (open(&path.join("db")), open(&path.join("other")));
    fill(&db);
    fill(&other);
    assert!(read_all(&db).iter().all(Result::is_ok));
    for entry in std::fs::read_dir(path.join("db")).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == kind) {
            let file = std::fs::File::options().write(true).open(entry.path()).unwrap();
            let length = file.metadata().unwrap().len();
            match deed {
                "truncate" => file.set_len(0).unwrap(),
                // At a page: the rest of the last one becomes zero without a signal, like any overwriting.
                "shorten" => file.set_len(length / 8192 * 4096).unwrap(),
                "overwrite" => FileExt::write_all_at(&file, &vec![0xa5; LOST_BYTES], length / 3).unwrap(),
                _ => {
                    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    rustix::fs::fallocate(&file, hole, length / 3, LOST_BYTES as u64).unwrap();
                }
            }
        }
    }
    let answers = read_all(&db);
    let errors: Vec<&Error> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(!errors.is_empty(), "nothing was noticed");
    if loses_pages(deed) {
        assert!(errors.iter().any(|e| matches!(e, Error::MappingLost(_))), "{}", errors[0]);
        let refused = db.insert("more", "of it").and_then(|()| db.sync()).unwrap_err();
        assert!([ErrorKind::Io, ErrorKind::State].contains(&refused.kind()), "{refused}");
        assert!(!db.verify().is_ok());
    }
    // The other database has not noticed anything.
    assert!(read_all(&other).iter().all(Result::is_ok));
    other.insert("more", "of it").unwrap();
    other.sync().unwrap();
    drop(db);
    drop(other);
    println!("alive: {}", errors[0]);
}

fn lose(deed: &str, guard: bool) -> std::process::Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "system::mapped::loser", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("LOST_DB", dir.path()).env("LOST_DEED", deed);
    if guard {
        command.env("LOST_GUARD", "yes");
    }
    command.output().unwrap()
}

/// What a process with the guard says of its loss.
pub(crate) fn first_error(deed: &str) -> String {
    let output = lose(deed, true);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("alive"), "{deed}: {:?}: {said}", output.status);
    said
}

#[test]
fn a_lost_mapping_is_an_error_and_not_the_end_of_the_process() {
    for deed in DEEDS {
        first_error(deed);
    }
}

/// What the guard is for, and that its absence changes nothing of what a process had before.
#[test]
fn without_the_guard_the_signal_ends_the_process() {
    const SIGBUS: i32 = 7;
    assert_eq!(lose("wal truncate", false).status.signal(), Some(SIGBUS));
}
