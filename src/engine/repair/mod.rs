//! Repair: everything that can still be read of a damaged database becomes a consistent one.
//!
//! A lost index or `CURRENT` is made again where it belongs. Every other damage leads to a rebuild: all entries that can be
//! read, of tables and log, are merged by their sequence numbers and loaded into a new database, which takes the place of the
//! old one with the swap of `CURRENT`; the old files are kept in a directory of their own. Tables and log say enough for
//! that: of the manifest, only the names of keyspaces, and what had been removed, cannot be told from them. Where the manifest
//! is damaged, the edits in it that are intact still tell most of it.
//!
//! Frames of files are mended in memory where what is intact proves what they were (`format::mend`), and tables are read
//! chunk by chunk (`table::salvage`). What is lost is one of three things: a value whose key is known, which hides older
//! versions, so that the key is absent rather than old; a stretch of a table between two keys that are known; or a stretch of
//! the log. The report names them. Of the latter two, older or removed data may be visible again.
//!
//! A disk that fails is not taken for damage: any error but corruption ends the repair, and nothing has changed.

mod evidence;
mod inventory;
mod log;
mod rebuild;

use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inventory::Inventory;

use super::recover::take_lock;
use crate::error::{Error, Result};
use crate::format::names::{self, FileKind};
use crate::format::range::Edge;
use crate::options::Options;
use crate::sys::Dir;

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

/// One thing that was wrong.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finding {
    /// File, offset and what was wrong there.
    pub problem: Error,
    /// What came of it.
    pub outcome: Outcome,
    /// Keys whose last value is lost with it. They are absent now; no older value has taken the place of theirs. At most 1,000
    /// are named. Only a [`repair`](crate::repair) knows them.
    pub lost_keys: Vec<LostKey>,
    /// How many there are.
    pub lost_key_count: u64,
    /// Where unknown entries are lost with it: a key in there may be absent or have an older value, and removed ones may be
    /// back. At most 1,000 are named. Only a [`repair`](crate::repair) knows them.
    pub lost_ranges: Vec<LostRange>,
    /// How many there are.
    pub lost_range_count: u64,
}

/// How many keys and ranges a finding names.
const NAMED_MAX: usize = 1000;

impl Finding {
    fn new(problem: Error, outcome: Outcome) -> Self {
        let (lost_keys, lost_ranges) = (Vec::new(), Vec::new());
        Self { problem, outcome, lost_keys, lost_key_count: 0, lost_ranges, lost_range_count: 0 }
    }

    /// Whether older versions of keys, or keys that had been removed, may be visible again because of this.
    pub fn may_bring_back(&self) -> bool {
        match self.outcome {
            Outcome::Restored => false,
            // The keys of values that are lost are known.
            Outcome::Salvaged { lost, .. } => lost.is_none() || self.lost_range_count > 0,
            Outcome::Lost { entries } => entries != Some(self.lost_key_count),
            Outcome::Gap { .. } | Outcome::Inferred => true,
        }
    }

    fn is_of(&self, path: &Path) -> bool {
        self.problem.corruption().is_some_and(|corruption| corruption.path == path)
    }

    fn add_key(&mut self, keyspace: &str, key: Vec<u8>) {
        self.lost_key_count += 1;
        if self.lost_keys.len() < NAMED_MAX {
            self.lost_keys.push(LostKey { keyspace: keyspace.to_owned(), key });
        }
    }

    fn add_range(&mut self, range: LostRange) {
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
    fn new(keyspace: &str, start: &Edge, end: &Edge) -> Self {
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
    /// A stretch of the log is lost, from the offset of the problem on; what stands in front of it and behind it has been read.
    /// At the end of the log it may be a commit that a crash has interrupted.
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

pub(crate) fn repair(options: &Options, path: &Path) -> Result<RepairReport> {
    let (dir, list) = look_into(options, path)?;
    let _lock = take_lock(&*dir, false, true)?;
    let inventory = Inventory::take(options, &dir, &list)?;
    if inventory.needs_rebuild() {
        return rebuild::rebuild(options, &dir, inventory);
    }
    inventory.restore()?;
    Ok(RepairReport { findings: inventory.findings, ..RepairReport::default() })
}

/// What a repair would find. Changes nothing.
pub(crate) fn examine(options: &Options, path: &Path) -> Result<Vec<Finding>> {
    let (dir, list) = look_into(options, path)?;
    // Without the file nobody can have locked it.
    let _lock = if list.iter().any(|name| name == names::LOCK) { Some(take_lock(&*dir, true, false)?) } else { None };
    Ok(Inventory::take(options, &dir, &list)?.findings)
}

/// The directory of a database, and the names in it.
fn look_into(options: &Options, path: &Path) -> Result<(Arc<dyn Dir>, Vec<String>)> {
    let not_found = || Error::NotFound(Arc::new(path.to_owned()));
    let fs = &options.file_system.0;
    let dir = fs.open_dir(path, false, options.access()).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => not_found(),
        _ => Error::io("open", path, e),
    })?;
    let list = dir.list().map_err(|e| Error::io("list", path, e))?;
    if !list.iter().any(|name| name == names::CURRENT || FileKind::parse(name).is_some()) {
        return Err(not_found());
    }
    Ok((dir, list))
}
