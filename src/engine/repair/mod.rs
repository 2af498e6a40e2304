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

mod copies;
mod evidence;
mod findings;
mod inventory;
mod list;
mod log;
mod numbers;
mod owners;
mod rebuild;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use findings::{Finding, LostKey, LostRange, Outcome};
use inventory::Inventory;

use super::recover::{lock_if_there, take_lock};
use crate::error::{Error, Result};
use crate::format::names::{self, FileKind};
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

pub(crate) fn repair(options: &Options, path: &Path) -> Result<RepairReport> {
    let (dir, list) = look_into(options, path)?;
    let _lock = take_lock(&*dir, false, true)?;
    let inventory = Inventory::take(options, &dir, &list)?;
    if inventory.needs_rebuild() {
        return rebuild::rebuild(options, &dir, inventory);
    }
    inventory.restore()?;
    Ok(RepairReport { findings: inventory.findings.into_list(), ..RepairReport::default() })
}

/// What a repair would find and lose. Changes nothing.
pub(crate) fn examine(options: &Options, path: &Path) -> Result<Vec<Finding>> {
    let (dir, list) = look_into(options, path)?;
    // Without a lock file there is none to hold, and nobody has the directory.
    let _lock = lock_if_there(&*dir, true, false)?;
    let inventory = Inventory::take(options, &dir, &list)?;
    if inventory.needs_rebuild() {
        return rebuild::foresee(options, &dir, inventory);
    }
    Ok(inventory.findings.into_list())
}

/// Whether this is the name of what a repair keeps of the files as they were, or of what is lost.
pub(super) fn is_kept(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(rebuild::ORIGINALS) else { return false };
    let number = rest.strip_suffix(rebuild::LIST_ENDING).unwrap_or(rest);
    let digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.is_empty() || number.strip_prefix('-').is_some_and(digits)
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
