//! Who can read the files, what is opened in their place, and what messages tell.
#![cfg(unix)]

use std::fmt::{Debug, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use maplsm::{Db, ErrorKind, IoMode, Options, SimFs, WriteBatch};

use crate::support::{DIR, sim_options};

fn options(mode: IoMode) -> Options {
    let mut options = Options::new();
    options.memtable_bytes(16 << 10).background_threads(0).io_mode(mode);
    options
}

/// A database with files of every kind.
fn make(path: &Path, mode: IoMode) {
    let db = options(mode).open(path).unwrap();
    for number in 0..100 {
        db.insert(format!("key {number}"), [7; 100]).unwrap();
    }
    db.flush().unwrap();
    db.insert("in the log", "as well").unwrap();
    db.close().unwrap();
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn nobody_else_may_read_or_enter() {
    for mode in [IoMode::Map, IoMode::Read] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/db");
        make(&path, mode);
        let bits = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((bits(&path), bits(&dir.path().join("new"))), (0o700, 0o700));
        let files = files(&path);
        assert!(files.len() >= 6, "{files:?}");
        for file in files {
            assert_eq!(bits(&file), 0o600, "{}", file.display());
        }
    }
}

/// A link, a fifo, a directory or a device in place of a file is refused, at once, and what a link leads to stays as it is.
#[test]
fn only_regular_files_are_opened() {
    for mode in [IoMode::Map, IoMode::Read] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        make(&path, mode);
        // The reserve is nothing that anyone reads; if it cannot be made, there is none.
        for file in files(&path).into_iter().filter(|file| !file.ends_with("RESERVE")) {
            let aside = dir.path().join("aside");
            std::fs::rename(&file, &aside).unwrap();
            let before = std::fs::read(&aside).unwrap();
            for what in ["link", "fifo", "directory", "device"] {
                let made = match what {
                    "link" => std::os::unix::fs::symlink(&aside, &file).is_ok(),
                    "fifo" => std::process::Command::new("mkfifo").arg(&file).status().unwrap().success(),
                    "directory" => std::fs::create_dir(&file).is_ok(),
                    _ => {
                        std::process::Command::new("mknod").arg(&file).args(["c", "1", "5"]).status().unwrap().success()
                    }
                };
                if !made {
                    println!("skipped: this user cannot make a {what}");
                    continue;
                }
                let begun = Instant::now();
                let opened = options(mode).open(&path).and_then(|db| {
                    let read = db.iter().try_for_each(|entry| entry.map(|_| ()));
                    db.close().and(read)
                });
                let is_index = file.extension().is_some_and(|extension| extension == "idx");
                match opened {
                    // An index is made again.
                    Ok(()) => assert!(is_index, "{what} as {}", file.display()),
                    Err(e) => assert!(
                        [ErrorKind::Io, ErrorKind::Corruption].contains(&e.kind()),
                        "{what} as {}: {e}",
                        file.display()
                    ),
                }
                assert!(begun.elapsed() < Duration::from_secs(5), "{what} as {} takes long", file.display());
                if file.is_dir() {
                    std::fs::remove_dir(&file).unwrap();
                } else {
                    std::fs::remove_file(&file).unwrap();
                }
                assert!(std::fs::read(&aside).unwrap() == before, "{what}: what a link leads to has changed");
            }
            std::fs::rename(&aside, &file).unwrap();
        }
        assert!(options(mode).open(&path).unwrap().verify().is_ok());
    }
}

const SECRET: &str = "SECRET";

/// Everything that can be printed, in both ways.
fn print(into: &mut String, thing: &impl Debug) {
    write!(into, "{thing:?} {thing:#?} ").unwrap();
}

fn expect_no_secret(printed: &str) {
    let as_numbers = SECRET.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    let squeezed: String = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!squeezed.contains(SECRET) && !squeezed.contains(&as_numbers), "{squeezed}");
}

fn secrets(fs: &SimFs) -> Db {
    let db = sim_options(fs).open(DIR).unwrap();
    for number in 0..50 {
        db.insert(format!("{SECRET} key {number}"), format!("{SECRET} value {number}")).unwrap();
    }
    db.flush().unwrap();
    db.insert(format!("{SECRET} key 7"), SECRET).unwrap();
    db
}

/// Keys and values stay out of what a program may log: handles, statistics, reports.
#[test]
fn handles_do_not_print_keys_or_values() {
    let db = secrets(&SimFs::new());
    let mut printed = String::new();
    let mut batch = WriteBatch::new();
    batch.insert(SECRET, SECRET).remove(SECRET).remove_range(SECRET..);
    print(&mut printed, &batch);
    let snapshot = db.snapshot();
    let (mut iter, mut cursor) = (db.iter(), db.cursor());
    iter.next();
    assert!(cursor.seek(SECRET).unwrap());
    let transaction = db.transaction();
    transaction.get(format!("{SECRET} key 3")).unwrap();
    transaction.insert(SECRET, SECRET).unwrap();
    print(&mut printed, &transaction);
    print(&mut printed, &(&db, &snapshot, &iter, &cursor, db.stats(), db.verify(), db.recovery_report()));
    expect_no_secret(&printed);
}

/// The same for errors: damage is told by file, offset and kind.
#[test]
fn errors_do_not_print_keys_or_values() {
    let fs = SimFs::new();
    secrets(&fs).close().unwrap();
    let (mut printed, mut errors) = (String::new(), 0);
    for (name, length) in fs.files(Path::new(DIR)) {
        let path = Path::new(DIR).join(&name);
        let good = fs.read(&path).unwrap();
        for at in (0..usize::try_from(length).unwrap().min(6000)).step_by(61) {
            let mut bad = good.clone();
            bad[at] ^= 0x21;
            fs.write(&path, &bad);
            let read = |db: &Db| -> Vec<maplsm::Error> {
                let read = db.iter().filter_map(Result::err);
                read.chain(db.get(format!("{SECRET} key 9")).err()).chain(db.verify().problems).collect()
            };
            let found = sim_options(&fs).read_only(true).open(DIR).map_or_else(|e| vec![e], |db| read(&db));
            errors += found.len();
            for error in found {
                print(&mut printed, &error);
                write!(printed, "{error}").unwrap();
            }
        }
        fs.write(&path, &good);
    }
    assert!(errors > 100, "{errors}");
    expect_no_secret(&printed);
}
