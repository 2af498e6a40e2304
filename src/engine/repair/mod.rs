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
pub(super) mod kept;
mod list;
mod log;
mod numbers;
mod owners;
mod rebuild;

use std::path::Path;
use std::sync::Arc;

pub use findings::{Finding, LostKey, LostRange, Outcome, RepairReport};
use inventory::Inventory;

use super::recover::{lock_if_there, open_dir, take_lock};
use crate::error::{Error, Result};
use crate::format::names::{self, FileKind};
use crate::options::Options;
use crate::sys::Dir;

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

/// The directory of a database, and the names in it.
fn look_into(options: &Options, path: &Path) -> Result<(Arc<dyn Dir>, Vec<String>)> {
    let dir = open_dir(options, path, false)?;
    let list = dir.list().map_err(|e| Error::io("list", path, e))?;
    if !list.iter().any(|name| name == names::CURRENT || FileKind::parse(name).is_some()) {
        return Err(Error::NotFound(Arc::new(path.to_owned())));
    }
    Ok((dir, list))
}
