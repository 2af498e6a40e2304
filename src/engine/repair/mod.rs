//! Repair: everything that can still be read of a damaged database becomes a consistent one.
//!
//! A lost index or `CURRENT` is made again where it belongs. Every other damage leads to a rebuild: all entries that can be
//! read, of tables and log, are merged by their sequence numbers and loaded into a new database, which takes the place of the
//! old one with the swap of `CURRENT`; the old files are kept in a directory of their own. Tables and log say enough for
//! that: of the manifest, only the names of keyspaces, and what had been removed, cannot be told from them. Where the manifest
//! is damaged, the edits in it that are intact still tell most of it.

mod evidence;
mod inventory;
mod log;
mod rebuild;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inventory::Inventory;

use super::recover::take_lock;
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
}

/// One thing that was wrong.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finding {
    /// File, offset and what was wrong there.
    pub problem: Error,
    /// What came of it.
    pub outcome: Outcome,
}

/// What has become of a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing is lost: it has been made again from other files.
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
