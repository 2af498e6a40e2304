//! What was wrong, and what came of it.

use std::collections::HashMap;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::range::Edge;

/// What a [`repair`](crate::repair) has found and done.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was wrong, file by file, and what came of it. Nothing is changed if it is empty.
    pub findings: Vec<Finding>,
    /// Whether the database has been written anew from what could be read.
    pub rebuilt: bool,
    /// Entries in it then, over all keyspaces.
    pub entries: u64,
    /// Names that were made up for keyspaces whose own is lost.
    pub renamed_keyspaces: Vec<String>,
    /// Where the files of the database as it was are now, if it was written anew. No part of the database any more.
    pub originals: Option<PathBuf>,
    /// A text file that names everything that is lost, if anything can be named; [`Finding`] names the beginning of it. A
    /// line is `key`, a tab, the keyspace, a tab and the key; or `range`, a tab, the keyspace, and behind further tabs where
    /// the range begins and where it ends: `[` or `(` and a key, or nothing; a key and `]` or `)`, or nothing. Bytes of keys
    /// and names that are not printable ASCII, and backslashes, are written as `\xHH`.
    pub lost_list: Option<PathBuf>,
}

impl RepairReport {
    /// Whether nothing was wrong.
    pub fn is_intact(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether something that the database held is, or may be, not as it was.
    pub fn has_losses(&self) -> bool {
        self.findings.iter().any(|finding| finding.outcome != Outcome::Restored)
    }

    /// Whether older versions of keys, or keys that had been removed, may be visible again, because what hid them is lost. If
    /// not, every key has its last value, or is one of [`Finding::lost_keys`] and absent.
    pub fn may_bring_back(&self) -> bool {
        self.findings.iter().any(Finding::may_bring_back)
    }
}

/// Findings, and which one tells of a file.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    /// The first one of each file.
    by_path: HashMap<PathBuf, usize>,
}

impl Findings {
    pub(super) fn note(&mut self, problem: Error, outcome: Outcome) -> &mut Finding {
        if let Some(corruption) = problem.corruption() {
            self.by_path.entry(corruption.path.clone()).or_insert(self.list.len());
        }
        self.list.push(Finding::new(problem, outcome));
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// The one that tells of a file; `problem` is noted if none does.
    pub(super) fn of_or_note(&mut self, path: &Path, problem: impl FnOnce() -> Error) -> &mut Finding {
        let known = self.by_path.get(path).copied();
        let at = known.unwrap_or_else(|| {
            self.note(problem(), Outcome::Restored);
            self.by_path.insert(path.to_owned(), self.list.len() - 1);
            self.list.len() - 1
        });
        &mut self.list[at]
    }

    pub(super) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            let problem = finding.problem.clone();
            let outcome = finding.outcome;
            *self.note(problem, outcome) = finding;
        }
    }

    pub(super) fn list(&self) -> &[Finding] {
        &self.list
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Finding> {
        self.list.iter_mut()
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        self.list
    }
}

/// One thing that was wrong.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finding {
    /// File, offset and what was wrong there.
    pub problem: Error,
    /// What came of it.
    pub outcome: Outcome,
    /// Keys whose last value is lost with it. They are absent then; no older value takes the place of theirs. At most 1,000
    /// are named here; a [`repair`](crate::repair) writes down all of them.
    pub lost_keys: Vec<LostKey>,
    /// How many there are.
    pub lost_key_count: u64,
    /// Where unknown entries are lost with it: a key in there may be absent or have an older value, and removed ones may be
    /// back. At most 1,000 are named here; a [`repair`](crate::repair) writes down all of them.
    pub lost_ranges: Vec<LostRange>,
    /// How many there are.
    pub lost_range_count: u64,
}

/// How many keys and ranges a finding names.
const NAMED_MAX: usize = 1000;

impl Finding {
    pub(super) fn new(problem: Error, outcome: Outcome) -> Self {
        let (lost_keys, lost_ranges) = (Vec::new(), Vec::new());
        Self { problem, outcome, lost_keys, lost_key_count: 0, lost_ranges, lost_range_count: 0 }
    }

    /// Whether older versions of keys, or keys that had been removed, may be visible again because of this.
    pub fn may_bring_back(&self) -> bool {
        match self.outcome {
            Outcome::Restored => false,
            // The keys of values that are lost are known.
            Outcome::Salvaged { lost, .. } => lost.is_none() || self.lost_range_count > 0,
            Outcome::Lost { entries } => entries != Some(self.lost_key_count) || self.lost_range_count > 0,
            Outcome::Gap { .. } | Outcome::Inferred => true,
        }
    }

    pub(super) fn is_of(&self, path: &Path) -> bool {
        self.problem.corruption().is_some_and(|corruption| corruption.path == path)
    }

    pub(super) fn add_key(&mut self, keyspace: &str, key: &[u8]) {
        self.lost_key_count += 1;
        if self.lost_keys.len() < NAMED_MAX {
            self.lost_keys.push(LostKey { keyspace: keyspace.to_owned(), key: key.to_vec() });
        }
    }

    pub(super) fn add_range(&mut self, range: LostRange) {
        self.lost_range_count += 1;
        if self.lost_ranges.len() < NAMED_MAX {
            self.lost_ranges.push(range);
        }
    }
}

/// A key that has lost its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostKey {
    /// The name of its keyspace.
    pub keyspace: String,
    /// The key.
    pub key: Vec<u8>,
}

/// Keys among which unknown entries are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRange {
    /// The name of their keyspace.
    pub keyspace: String,
    /// Where they begin.
    pub start: Bound<Vec<u8>>,
    /// Where they end.
    pub end: Bound<Vec<u8>>,
}

impl LostRange {
    pub(super) fn new(keyspace: &str, start: &Edge, end: &Edge) -> Self {
        let start = match start {
            Edge::Before(key) => Bound::Included(key.clone()),
            Edge::After(key) => Bound::Excluded(key.clone()),
            Edge::End => Bound::Unbounded,
        };
        let end = match end {
            Edge::Before(key) => Bound::Excluded(key.clone()),
            Edge::After(key) => Bound::Included(key.clone()),
            Edge::End => Bound::Unbounded,
        };
        Self { keyspace: keyspace.to_owned(), start, end }
    }

    /// Whether a key of this keyspace is among them.
    pub fn contains(&self, key: &[u8]) -> bool {
        (self.start.as_ref().map(Vec::as_slice), self.end.as_ref().map(Vec::as_slice)).contains(key)
    }
}

/// What has become of a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing is lost: what was damaged follows from what is intact.
    Restored,
    /// A part of it could be read.
    Salvaged {
        /// Entries that were read, older versions and tombstones counted.
        entries: u64,
        /// Entries that were not, if that is known.
        lost: Option<u64>,
    },
    /// Nothing of it could be read.
    Lost {
        /// Entries that it held, if that is known.
        entries: Option<u64>,
    },
    /// A stretch of the log is lost, from the offset of the problem on; what stands in front of it and behind it has been
    /// read. At the end of the log it may be a commit that a crash has interrupted.
    Gap {
        /// Its length.
        bytes: u64,
        /// Entries in it, if that is known.
        entries: Option<u64>,
    },
    /// It said which tables and keyspaces are part of the database, and the tables themselves have been asked instead: names
    /// of keyspaces may be lost, and what had been removed may be back.
    Inferred,
}

/// The error, if it says that something is damaged; others end the repair.
pub(super) fn damage(error: Error) -> Result<Error> {
    if error.is_corruption() { Ok(error) } else { Err(error) }
}

/// What was read, unless it is damaged.
pub(super) fn intact<T>(read: Result<T>) -> Result<Option<T>> {
    read.map(Some).or_else(|e| damage(e).map(|_| None))
}
