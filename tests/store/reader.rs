//! A second reader, written from FORMAT.md alone in another language, finds in the golden directories what the library finds.
//!
//! A place where the document leaves something open, or says something else than the library does, shows as a difference.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use maplsm::SimFs;

use crate::support::model::read_all;
use crate::support::{DIR, image, sim_options};

/// The answer of the second reader for what a reader of another build or with an operator could read.
const UNSUPPORTED: i32 = 3;

fn golden() -> Vec<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<PathBuf> = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "{byte:02x}").unwrap();
    }
}

/// What the library finds in a copy, as the second reader writes it.
fn lines(dir: &Path) -> String {
    let fs = SimFs::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        fs.write(&Path::new(DIR).join(entry.file_name()), &fs::read(entry.path()).unwrap());
    }
    let db = sim_options(&fs).read_only(true).open(DIR).unwrap();
    let mut names = db.keyspaces();
    names.push("default".into());
    names.sort();
    let mut lines = String::new();
    for name in names {
        for (key, value) in read_all(db.keyspace(&name).unwrap().iter()).unwrap() {
            write!(lines, "{name}\t").unwrap();
            hex(&mut lines, &key);
            lines.push('\t');
            hex(&mut lines, &value);
            lines.push('\n');
        }
    }
    lines
}

/// What the second reader makes of a directory.
#[derive(Debug)]
pub(super) enum Second {
    Lines(String),
    /// Its exit code.
    Refused(i32),
}

/// Runs the second reader; none if there is no Python here.
fn run(dir: &Path) -> Option<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader/read.py");
    let output = Command::new("python3").arg(&script).arg(dir).output().ok();
    if output.is_none() {
        println!("there is no python3 here: the second reader was not run");
    }
    output
}

/// What the second reader makes of the database on this disk; none if there is no Python here.
pub(super) fn second_reader(fs: &SimFs) -> Option<Second> {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in image(fs) {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let output = run(dir.path())?;
    match output.status.code() {
        Some(0) => Some(Second::Lines(String::from_utf8(output.stdout).unwrap())),
        Some(code @ 2..=3) => Some(Second::Refused(code)),
        other => panic!("it ends with {other:?}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn a_second_reader_finds_the_same() {
    let mut compared = 0;
    for dir in golden() {
        let name = dir.file_name().and_then(OsStr::to_str).unwrap();
        let Some(output) = run(&dir) else { return };
        let message = String::from_utf8_lossy(&output.stderr);
        if name == "zstd" || name == "extension" {
            assert_eq!(output.status.code(), Some(UNSUPPORTED), "{name}: {message}");
            continue;
        }
        assert!(output.status.success(), "{name}: {message}");
        // A library without the codec cannot be asked.
        if name != "lz4" || cfg!(feature = "lz4") {
            assert_eq!(String::from_utf8(output.stdout).unwrap(), lines(&dir), "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 7, "only {compared} directories were compared");
}
