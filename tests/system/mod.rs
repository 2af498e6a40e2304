//! Faults of the real system: failing calls, killed processes, full disks, limits.
//!
//! The program under test is this binary itself, started again as [`victim::victim`] with its orders in the environment. It
//! commits numbers in order and notes each acknowledged one; whatever happens to it, the next open must find all of those,
//! at most one more, and nothing half done. These tests want root, `strace` and a few minutes, so they are run on demand:
//! `.ci/faults`. What a machine cannot do is skipped with a word about it.

mod calls;
mod cold;
mod disk;
mod fork;
mod limits;
pub(crate) mod mapped;
mod places;
mod power;
mod victim;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maplsm::{Db, IoMode};
use victim::options;

/// A victim that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// How a victim ended, and everything that it said.
struct Ended {
    well: bool,
    said: String,
}

impl Ended {
    /// Whether it panicked, other than in the start of a thread or of the test itself, which is the standard library's matter.
    fn panicked(&self) -> bool {
        self.said.lines().any(|line| line.contains("panicked at ") && !line.contains("/rustc/"))
    }
}

/// What a victim is told to do.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    /// Where the database is.
    db: PathBuf,
    /// Where acknowledged numbers are noted; in a place without faults.
    notes: PathBuf,
    mode: IoMode,
    /// Numbers to commit, by each of the threads in turn.
    commits: u64,
    threads: usize,
}

impl Orders {
    fn new(db: PathBuf, notes: PathBuf, mode: IoMode) -> Self {
        Self { db, notes, mode, commits: 14, threads: 1 }
    }

    /// The command that carries them out, behind `before`, which may be a tracer or a shell that sets limits.
    fn command(&self, before: &[&str]) -> Command {
        let program = std::env::current_exe().unwrap();
        let own = ["--exact", "system::victim::victim", "--ignored", "--nocapture", "--test-threads=1"];
        let mut command = match before {
            [] => Command::new(&program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        command.args(own).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("VICTIM_DB", &self.db).env("VICTIM_NOTES", &self.notes);
        command.env("VICTIM_MODE", if self.mode == IoMode::Read { "read" } else { "map" });
        command.env("VICTIM_COMMITS", self.commits.to_string()).env("VICTIM_THREADS", self.threads.to_string());
        command
    }

    /// Runs it to its end, which must come.
    fn run(&self, before: &[&str]) -> Ended {
        let mut child = self.command(before).spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > LONGEST {
                let _ = child.kill();
                panic!("{before:?}: the victim hangs");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        Ended { well: output.status.success(), said: String::from_utf8_lossy(&said).into_owned() }
    }

    /// The highest number that was acknowledged.
    fn acknowledged(&self) -> u64 {
        let notes = std::fs::read_to_string(&self.notes).unwrap_or_default();
        notes.lines().filter_map(|line| line.parse().ok()).max().unwrap_or(0)
    }

    /// Opens what the victim has left, without any fault.
    fn check(&self, what: &str) {
        let acknowledged = self.acknowledged();
        let db = options(self.mode).open(&self.db).unwrap_or_else(|e| panic!("{what}: {e}"));
        let last = last_number(&db);
        // What is under way when the process ends is there or not.
        let most = acknowledged + self.threads as u64;
        assert!((acknowledged..=most).contains(&last), "{what}: {acknowledged} acknowledged, {last} found");
        for number in 1..=last {
            let value = db.get(victim::key(number)).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(value.as_deref() == Some(&victim::value(number)[..]), "{what}: number {number} of {last}");
        }
        assert_eq!(db.range(victim::key(last + 1)..).count(), 0, "{what}: more than {last}");
        assert!(db.verify().is_ok(), "{what}: {:?}", db.verify().problems);
        db.insert("afterwards", "writable").unwrap_or_else(|e| panic!("{what}: {e}"));
        db.close().unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

/// The last number of the database; each batch carries it.
fn last_number(db: &Db) -> u64 {
    let last = db.get(victim::LAST).unwrap();
    last.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()))
}

/// Whether a program is there and does what it is asked for; says so if not.
fn can(program: &str, arguments: &[&str], for_what: &str) -> bool {
    let able = Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success());
    if !able {
        println!("skipped: {for_what}: this machine cannot `{program} {}`", arguments.join(" "));
    }
    able
}

/// A file system in memory, mounted for as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let at_text = at.to_str().unwrap();
        can("mount", &["-t", "tmpfs", "-o", options, "none", at_text], "a full disk").then(|| Self(at.to_owned()))
    }

    /// A file system of some kind in a file beside it, of so many MiB.
    fn image(at: &Path, kind: &str, mebibytes: u64) -> Option<Self> {
        let image = at.with_extension("image");
        std::fs::create_dir_all(at).unwrap();
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let (image, at_text) = (image.to_str().unwrap(), at.to_str().unwrap());
        let made = can(&format!("mkfs.{kind}"), &["-q", "-F", "-m", "0", image], "a full disk");
        (made && can("mount", &["-o", "loop", image, at_text], "a full disk")).then(|| Self(at.to_owned()))
    }

    fn remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        can("mount", &["-o", &options, self.0.to_str().unwrap()], "another state of the disk")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
