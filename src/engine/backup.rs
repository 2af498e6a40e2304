//! Backups: copies of the store in one directory, each a database of its own that shares what has not changed with the one
//! before.
//!
//! A backup is a checkpoint whose files are copied, since what is linked to the live store is lost with it, and linked to those
//! of the backup before where that has the same table or value file, by id, length and checksum. So the second backup costs
//! what has changed since the first, each can be opened, verified and restored alone, and removing one takes from the others
//! nothing. `CURRENT` is the last file of a copy: a directory without it was interrupted, and goes with the next backup.
//!
//! The name of a backup says which database it is of, and none of another one is put beside it: a copy has an id of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{Copier, Earlier, Links};
use super::recover::{lock_if_there, open_dir, read_found};
use crate::error::{Error, Result};
use crate::format::checksum::Id;
use crate::format::names;
use crate::options::Options;
use crate::sys::{Dir, HeldLock};
use crate::table::TableCache;
use crate::version::read_current;

/// One backup of a directory of backups: what [`backups`](crate::backups) lists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Backup {
    /// Counts the backups of a directory, from 1.
    pub number: u64,
    /// The directory that it is in: a database, which may be opened read-only, verified and restored.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::path"))]
    pub path: PathBuf,
}

/// What a backup took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BackupReport {
    /// The backup that was made.
    pub backup: Backup,
    /// Bytes of tables and value files that were copied. The manifest, and the index files of what was copied, come on top.
    pub copied_bytes: u64,
    /// Bytes of tables and value files that it shares with the backup before.
    pub shared_bytes: u64,
}

/// The name of a backup: its number, and the database that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    number: u64,
    database: Id,
}

impl Name {
    fn text(&self) -> String {
        format!("{:06}-{:032x}", self.number, u128::from_be_bytes(self.database))
    }

    /// None for every name that this does not write.
    fn parse(text: &str) -> Option<Self> {
        let (number, database) = text.split_once('-')?;
        let database = u128::from_str_radix(database, 16).ok()?.to_be_bytes();
        let name = Self { number: number.parse().ok()?, database };
        (name.text() == text).then_some(name)
    }
}

/// What a directory of backups is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Locks it for others who read as well.
    Reading,
    Pruning,
    /// Makes it, if it is not there.
    Adding,
}

/// A directory of backups, locked.
struct Backups {
    dir: Arc<dyn Dir>,
    _lock: Box<dyn HeldLock>,
    /// Complete ones, oldest first.
    complete: Vec<Name>,
    interrupted: Vec<Name>,
}

impl Backups {
    fn open(options: &Options, path: &Path, purpose: Purpose) -> Result<Self> {
        let (adds, reads) = (purpose == Purpose::Adding, purpose == Purpose::Reading);
        let dir = open_dir(options, path, adds)?;
        let list = || dir.list().map_err(|e| Error::io("list", dir.path(), e));
        let found = |names: Vec<String>| names.iter().filter_map(|name| Name::parse(name)).collect::<Vec<_>>();
        if !adds && found(list()?).is_empty() {
            return Err(Error::NotFound(Arc::new(path.to_owned())));
        }
        // A directory with files of other things is none for backups.
        let foreign = |name: &String| name != names::LOCK && Name::parse(name).is_none();
        if !reads && list()?.iter().any(foreign) {
            let problem = "there are other files in it";
            return Err(Error::ForeignBackup { path: Arc::new(path.to_owned()), problem });
        }
        let lock = lock_if_there(&*dir, reads, adds)?;
        let lock = lock.ok_or_else(|| Error::NotFound(Arc::new(path.to_owned())))?;
        let (mut complete, mut interrupted) = (Vec::new(), Vec::new());
        for name in found(list()?) {
            let of = Self::open_one(&dir, &name)?;
            let is_complete = of.length(names::CURRENT).is_ok();
            if is_complete { complete.push(name) } else { interrupted.push(name) }
        }
        complete.sort_unstable();
        Ok(Self { dir, _lock: lock, complete, interrupted })
    }

    fn open_one(dir: &Arc<dyn Dir>, name: &Name) -> Result<Arc<dyn Dir>> {
        let text = name.text();
        dir.open_dir(OsStr::new(&text)).map_err(|e| Error::io("open", &dir.path().join(text), e))
    }

    fn public(&self, name: &Name) -> Backup {
        Backup { number: name.number, path: self.dir.path().join(name.text()) }
    }

    /// Whether all of them are of this database.
    fn check(&self, database: &Id) -> Result<()> {
        let mut all = self.complete.iter().chain(&self.interrupted);
        if all.all(|name| name.database == *database) {
            return Ok(());
        }
        let problem = "it has backups of another database";
        Err(Error::ForeignBackup { path: Arc::new(self.dir.path().to_owned()), problem })
    }

    /// Removes one. `CURRENT` goes first, so that what a crash leaves counts as interrupted.
    fn remove(&self, name: &Name) -> Result<()> {
        let of = Self::open_one(&self.dir, name)?;
        let failed = |what: &str, e| Error::io("remove", &of.path().join(what), e);
        let mut files = of.list().map_err(|e| Error::io("list", of.path(), e))?;
        files.sort_unstable_by_key(|file| file != names::CURRENT);
        for file in &files {
            of.remove(file).map_err(|e| failed(file, e))?;
            if file == names::CURRENT {
                of.sync().map_err(|e| failed(file, e))?;
            }
        }
        self.dir.remove_dir(OsStr::new(&name.text())).map_err(|e| failed("", e))
    }

    /// Removes what was interrupted.
    fn sweep(&self) -> Result<()> {
        self.interrupted.iter().try_for_each(|name| self.remove(name))
    }

    /// What the newest one has, if that can be read; if not, the next one shares nothing with it.
    fn earlier(&self, options: &Options) -> Option<Earlier> {
        let dir = Self::open_one(&self.dir, self.complete.last()?).ok()?;
        let table_cache = TableCache::new(Arc::clone(&dir), options.table, 0, None);
        let (database, manifest) = read_current(&*dir).ok()??;
        let found = read_found(&table_cache, database, manifest).ok()?;
        Some(Earlier { dir, version: found.version })
    }
}

impl Copier<'_> {
    /// Makes a backup of what is committed now in a directory of backups, which is made if it is not there.
    pub(super) fn backup(&self, path: &Path) -> Result<BackupReport> {
        let _at_work = self.begin()?;
        let backups = Backups::open(self.options, path, Purpose::Adding)?;
        backups.check(&self.files.database)?;
        backups.sweep()?;
        let last = backups.complete.last().map_or(0, |last| last.number);
        let number = last.checked_add(1).ok_or(Error::NumbersExhausted)?;
        let name = Name { number, database: self.files.database };
        let text = name.text();
        let create = |e| Error::io("create", &backups.dir.path().join(&text), e);
        let dir = backups.dir.create_dir(OsStr::new(&text)).map_err(create)?;
        let links = backups.earlier(self.options).map_or(Links::None, Links::Earlier);
        let made = self.copy_into(&dir, links);
        if made.is_err() {
            let _ = backups.remove(&name);
        }
        let copied = made?;
        Ok(BackupReport { backup: backups.public(&name), copied_bytes: copied.written, shared_bytes: copied.linked })
    }
}

/// The complete backups of a directory, oldest first.
pub(crate) fn backups(options: &Options, path: &Path) -> Result<Vec<Backup>> {
    let backups = Backups::open(options, path, Purpose::Reading)?;
    Ok(backups.complete.iter().map(|name| backups.public(name)).collect())
}

/// Removes all but the newest `keep` backups; returns how many.
pub(crate) fn prune_backups(options: &Options, path: &Path, keep: usize) -> Result<usize> {
    let backups = Backups::open(options, path, Purpose::Pruning)?;
    backups.sweep()?;
    let old = backups.complete.len().saturating_sub(keep);
    backups.complete[..old].iter().try_for_each(|name| backups.remove(name))?;
    Ok(old)
}

/// The newest backup of a directory of backups; none if it is no such directory, but perhaps a database.
pub(super) fn newest(options: &Options, path: &Path) -> Result<Option<PathBuf>> {
    match Backups::open(options, path, Purpose::Reading) {
        Ok(backups) => match backups.complete.last() {
            Some(newest) => Ok(Some(backups.public(newest).path)),
            None => Err(Error::NotFound(Arc::new(path.to_owned()))),
        },
        Err(Error::NotFound(_)) => Ok(None),
        Err(e) => Err(e),
    }
}
