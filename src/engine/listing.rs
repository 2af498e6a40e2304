//! What a copy of the store consists of, for who sends it elsewhere.

use std::path::Path;
use std::sync::Arc;

use super::recover::{lock_if_there, open_dir, read_state};
use crate::error::{Error, Result};
use crate::format::names::{self, FileKind, numbered};
use crate::options::Options;
use crate::table::TableCache;
use crate::version::read_current;

/// The files of a checkpoint or backup, as its manifest names them: what [`Checkpoint::read`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    files: Vec<CheckpointFile>,
}

/// A file of a [`Checkpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointFile {
    /// Its name in the directory.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The identity of a table or value file, which no other file ever has, in this database or another one. Files with the same
    /// identity and checksum are the same, whatever their names are. None for those that stand for the moment of the copy, are
    /// small, and are always to be fetched.
    pub id: Option<[u8; 16]>,
    /// The checksum of the footer of a table or value file, which covers all others in it.
    pub checksum: Option<u32>,
}

impl Checkpoint {
    /// Lists the files of a checkpoint, or of a [`Backup`](crate::Backup), that nobody has open to write. Whoever has all of
    /// them in one directory, and an empty file `LOCK`, has the database. Index files are not listed: they are made again where
    /// they are missing.
    ///
    /// Reads the manifest; [`Db::verify`](crate::Db::verify) reads everything.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no database; [`Error::Corruption`] if a file is missing, has another length, or the
    /// manifest is damaged; [`Error::Locked`] if somebody writes it, and [`Error::InvalidCheckpoint`] if somebody did: a
    /// database with a log is no checkpoint.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.insert("key", "value")?;
    /// db.checkpoint(dir.path().join("copy"))?;
    /// let checkpoint = maplsm::Checkpoint::read(dir.path().join("copy"))?;
    /// assert!(checkpoint.files().iter().any(|file| file.name.ends_with(".sst") && file.id.is_some()));
    /// assert_eq!(checkpoint.files().last().unwrap().name, "CURRENT");
    /// # db.close()
    /// # }
    /// ```
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().read_checkpoint(path)
    }

    /// Tables and value files first; `CURRENT` is the last one, without which a directory is no database yet.
    pub fn files(&self) -> &[CheckpointFile] {
        &self.files
    }
}

impl Options {
    /// [`Checkpoint::read`], with these options.
    pub fn read_checkpoint(&self, path: impl AsRef<Path>) -> Result<Checkpoint> {
        self.check()?;
        list(self, path.as_ref())
    }
}

fn list(options: &Options, path: &Path) -> Result<Checkpoint> {
    let absent = || Error::NotFound(Arc::new(path.to_owned()));
    let dir = open_dir(options, path, false)?;
    let _lock = lock_if_there(&*dir, true, false)?.ok_or_else(absent)?;
    let (database, manifest) = read_current(&*dir)?.ok_or_else(absent)?;
    let table_cache = TableCache::new(Arc::clone(&dir), options.table, 0, None);
    let found = read_state(&table_cache, database, manifest)?;
    let names = dir.list().map_err(|e| Error::io("list", path, e))?;
    if numbered(&names).any(|(kind, _)| kind == FileKind::Segment) {
        return Err(Error::InvalidCheckpoint {
            path: Arc::new(path.to_owned()),
            problem: "it has a log, so it has been written",
        });
    }
    let tables = found.version.tables().map(|(_, table)| CheckpointFile {
        name: FileKind::Table.name(table.number()),
        bytes: table.meta.file_bytes,
        id: Some(table.meta.id),
        checksum: Some(table.meta.footer_checksum),
    });
    let values = found.version.values().iter().map(|stored| CheckpointFile {
        name: FileKind::Values.name(stored.file.number()),
        bytes: stored.file.meta.file_bytes,
        id: Some(stored.file.meta.id),
        checksum: Some(stored.file.meta.footer_checksum),
    });
    let mut files: Vec<_> = tables.chain(values).collect();
    for name in [FileKind::Manifest.name(manifest), names::CURRENT.to_owned()] {
        let bytes = dir.length(&name).map_err(|e| Error::io("examine", &path.join(&name), e))?;
        files.push(CheckpointFile { name, bytes, id: None, checksum: None });
    }
    Ok(Checkpoint { files })
}
