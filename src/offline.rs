//! What is done with databases that nobody has open.

use std::path::Path;

use crate::engine::{self, Backup, Finding, RepairReport};
use crate::error::Result;
use crate::options::Options;

/// Makes a consistent database of what can be read of a damaged one, and reports what was wrong and what came of it.
///
/// Nothing may have the database open. If nothing is wrong, nothing is changed. A lost or damaged index or `CURRENT` is made
/// again in its place. After all other damage, what is intact of tables and log is written anew with `options`, which needs
/// space for a copy, and the files as they were are kept in a directory beside ([`RepairReport::originals`]), which is no part
/// of the database and may be removed. A crash leaves the one or the other. A damaged file is read into memory as a whole.
///
/// Only what a checksum proves is used. Damaged headers, footers, directories and checksums are made good where the manifest,
/// the other end of the file, or the rest of the directory prove what they were; tables are read chunk by chunk, the log group
/// by group. What is lost is reported:
/// - A value whose key is intact: the key is absent, no older value takes its place, and [`Finding::lost_keys`] names it.
/// - A stretch of a table, or all of it: [`Finding::lost_ranges`] says between which keys, as far as that is known. Keys in
///   there may be absent or have older values, and removed ones may be back.
/// - A stretch of the log ([`Outcome::Gap`](crate::Outcome::Gap)): where, how long, and how many entries if that is known;
///   which keys they had is not.
///
/// [`RepairReport::may_bring_back`] says whether older or removed data may be visible again. The result then need not be a
/// moment of the history; restore a copy instead if there is one.
///
/// Some things cannot be proven. If the manifest is damaged ([`Outcome::Inferred`](crate::Outcome::Inferred)), what was lost
/// in it is unknown: names of keyspaces, that keyspaces were dropped, which files were no longer part of the database, which
/// value file is which; and of a table that was loaded ([`Db::ingest`](crate::Db::ingest)), the place in the history is a
/// guess. A log that ends early, with nothing after that and no other file that says more, looks like that of a crash and is
/// left to the open ([`Db::recovery_report`](crate::Db::recovery_report)).
///
/// # Errors
/// A disk that fails at any of the files ends the repair with an error: nothing is taken for lost for that. So does a file of
/// another version ([`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat)), or one whose version is damaged.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// use maplsm::{Db, Options};
///
/// let db = Db::open(&path)?;
/// db.insert("key", "value")?;
/// db.close()?;
/// std::fs::remove_file(path.join("CURRENT")).unwrap();
/// assert!(Db::open(&path).is_err());
///
/// let report = maplsm::repair(&path, &Options::new())?;
/// assert!(!report.is_intact() && !report.has_losses());
/// assert!(Db::open(&path)?.contains_key("key")?);
/// # Ok(())
/// # }
/// ```
pub fn repair(path: impl AsRef<Path>, options: &Options) -> Result<RepairReport> {
    options.check()?;
    engine::repair(options, path.as_ref())
}

/// Reads every byte of a database that nobody writes, whether it opens or not, and returns all that is wrong with it, with
/// what [`repair`] could do about each. Changes nothing.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// maplsm::Db::open(&path)?.insert("key", "value")?;
/// assert!(maplsm::examine(&path, &maplsm::Options::new())?.is_empty());
/// # Ok(())
/// # }
/// ```
pub fn examine(path: impl AsRef<Path>, options: &Options) -> Result<Vec<Finding>> {
    options.check()?;
    engine::examine(options, path.as_ref())
}

/// The complete backups in a directory that [`Db::backup`](crate::Db::backup) has made, oldest first.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) if there is no backup in it, [`Error::Locked`](crate::Error::Locked) while one
/// is being made.
pub fn backups(path: impl AsRef<Path>) -> Result<Vec<Backup>> {
    Options::new().backups(path)
}

/// Removes all backups of a directory but the newest `keep`, and what interrupted ones have left; returns how many backups. The
/// others stay whole, whatever fails and whenever it is interrupted.
///
/// # Errors
/// Those of [`backups`].
pub fn prune_backups(path: impl AsRef<Path>, keep: usize) -> Result<usize> {
    Options::new().prune_backups(path, keep)
}

/// Makes a database at `to`, which must not be there, of a backup: of the newest one if `from` is a directory of
/// [backups](crate::Db::backup), of another one if it is that of a [`Backup`]. A checkpoint, or any other database that nobody
/// writes, can be restored as well. Every file is copied and verified, so that what is restored shares nothing with the
/// backup; the database gets an identity of its own. After an error, there is nothing at `to`. O(size).
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) if there is no backup and no database at `from`,
/// [`Error::Corruption`](crate::Error::Corruption) for a damaged one, [`Error::Io`](crate::Error::Io) if `to` exists.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = |name: &str| dir.path().join(name);
/// let db = maplsm::Db::open(path("db"))?;
/// db.insert("key", "value")?;
/// db.backup(path("backups"))?;
/// db.insert("key", "lost")?;
/// let second = db.backup(path("backups"))?;
/// db.close()?;
///
/// let all = maplsm::backups(path("backups"))?;
/// assert_eq!(all.last(), Some(&second.backup));
/// maplsm::restore(&all[0].path, path("restored"))?;
/// let restored = maplsm::Db::open(path("restored"))?;
/// assert_eq!(restored.get("key")?.unwrap(), b"value");
/// # restored.close()
/// # }
/// ```
pub fn restore(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    Options::new().restore(from, to)
}

impl Options {
    /// [`backups`], with these options.
    pub fn backups(&self, path: impl AsRef<Path>) -> Result<Vec<Backup>> {
        self.check()?;
        engine::backups(self, path.as_ref())
    }

    /// [`prune_backups`], with these options.
    pub fn prune_backups(&self, path: impl AsRef<Path>, keep: usize) -> Result<usize> {
        self.check()?;
        engine::prune_backups(self, path.as_ref(), keep)
    }

    /// [`restore`], with these options.
    pub fn restore(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.check()?;
        engine::restore(self, from.as_ref(), to.as_ref())
    }
}
