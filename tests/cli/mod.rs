//! The `maplsm` command as its users meet it: a process with arguments, pipes and an exit code.

mod commands;
mod crash;
mod export;
mod import;
mod ingest;
mod inspect;
#[cfg(unix)]
mod interrupts;
mod keyspaces;
mod shell;
#[cfg(unix)]
mod terminal;
mod transcripts;

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;

/// A directory for one test, with a database in it as soon as a command makes one.
struct Store {
    directory: TempDir,
}

/// What a process left behind.
#[derive(Debug)]
struct Answer {
    out: Vec<u8>,
    err: String,
    code: Option<i32>,
}

impl Store {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    /// A store with one entry a line of `tsv`, all in a table.
    fn with(tsv: impl AsRef<[u8]>) -> Self {
        let store = Self::new();
        store.feed(["import"], tsv).success();
        store.run(["flush"]).success();
        store
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("database")
    }

    /// A path beside the database.
    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maplsm"));
        command.arg("--db").arg(self.database()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Answer {
        self.feed(arguments, "")
    }

    fn feed<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: impl AsRef<[u8]>) -> Answer {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        // On its own thread: both pipes can be full. A process that stops reading is no failure of the test.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        Answer { out: output.stdout, err, code: output.status.code() }
    }

    /// Commands for the shell, and its answers.
    fn shell(&self, input: impl AsRef<[u8]>) -> Answer {
        self.feed::<&str>([], input)
    }

    /// The files of the database that end so.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.database()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
        paths.sort();
        paths
    }
}

impl Answer {
    fn text(&self) -> &str {
        str::from_utf8(&self.out).unwrap()
    }

    #[track_caller]
    fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// A message on stderr that holds all of `words`, and this exit code.
    #[track_caller]
    fn failure(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "`{word}` is missing in {self:?}");
        }
        self
    }

    /// Success without messages, and exactly this on stdout.
    #[track_caller]
    fn prints(self, expected: &str) {
        assert_eq!((self.text(), self.err.as_str(), self.code), (expected, "", Some(0)));
    }
}

fn lines(count: usize, line: impl FnMut(usize) -> String) -> String {
    (0..count).map(line).collect()
}

/// All files below a directory with what they hold.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}

/// Turns one bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A line for every byte value in key and value, and for what surrounds them.
fn every_byte() -> Vec<u8> {
    let mut lines = Vec::new();
    for byte in 0..=255_u8 {
        lines.extend(format!("key \\x{byte:02x}\\xc3{byte}\tvalue \\x{byte:02x}\\x{:02X} end \n", 255 - byte).bytes());
    }
    lines.extend(b"\tvalue of the empty key\nempty value\t\nback\\\\slash\ta\\tb\\nc\\rd\\\\n\n");
    lines.extend("Grüße 世界\t🦀 \\xe2\\x80\\xae\n".bytes());
    lines
}
