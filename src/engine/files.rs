//! The files of the store: their directory, their numbers, and making them. [Removing](super::obsolete) them is next door.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::health::Health;
use super::outputs::Obsolete;
use crate::error::{Error, Result};
use crate::format::checksum::{Id, Seed};
use crate::format::group::GroupHeader;
use crate::format::names::{self, FileKind};
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::format::{FileNumber, NUMBER_MAX};
use crate::log::SegmentWriter;
use crate::memtable::Memtable;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::{AppendError, Dir, Fs, HeldLock, LockRank, Mutex};
use crate::table::{Table, TableCache, TableWriter};

pub(crate) struct Files {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: Arc<dyn Dir>,
    pub(crate) table_cache: Arc<TableCache>,
    pub(super) database: Id,
    /// None once the store is closed.
    lock: Mutex<Option<Box<dyn HeldLock>>>,
    /// Files of earlier runs have lower numbers.
    first_number: FileNumber,
    next_number: AtomicU64,
    pub(super) obsolete: Mutex<Obsolete>,
    pub(super) segments_removed_below: AtomicU64,
    /// Asks who writes a file to stop.
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Files {
    pub(super) fn new(
        fs: Arc<dyn Fs>,
        table_cache: Arc<TableCache>,
        database: Id,
        lock: Box<dyn HeldLock>,
        next_number: u64,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        Self {
            fs,
            dir: Arc::clone(&table_cache.dir),
            table_cache,
            database,
            lock: Mutex::new(LockRank::Directory, Some(lock)),
            first_number: FileNumber(next_number),
            next_number: AtomicU64::new(next_number),
            obsolete: Mutex::new(LockRank::Obsolete, Obsolete::default()),
            segments_removed_below: AtomicU64::new(0),
            cancelled,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A number for a new file.
    pub(super) fn new_number(&self) -> Result<FileNumber> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        if number < NUMBER_MAX { Ok(FileNumber(number)) } else { Err(Error::NumbersExhausted) }
    }

    /// All files so far have lower numbers.
    pub(super) fn next_number(&self) -> FileNumber {
        FileNumber(self.next_number.load(Ordering::Relaxed))
    }

    /// Whether this run has made the file of this number.
    pub(super) fn is_own(&self, number: FileNumber) -> bool {
        number >= self.first_number
    }

    pub(super) fn new_id(&self) -> Result<Id> {
        let mut id = Id::default();
        self.fs.random(&mut id).map_err(|e| Error::io("get random bytes for", self.path(), e))?;
        Ok(id)
    }

    /// That the directory is this store's alone. If its lock file is not the one that it has locked, another process may
    /// have locked the other one: no more writes. To be called wherever something is made durable or gets a name; a look is a
    /// system call or two, so commits that are only buffered do without.
    pub(super) fn check_lock(&self, health: &Health) -> Result<()> {
        let lock = self.lock.lock();
        let path = || self.path_of(names::LOCK);
        match lock.as_ref().map(|lock| lock.stands()) {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(health.poison(Error::LockLost(Arc::new(path())))),
            Some(Err(e)) => Err(Error::io("examine", &path(), e)),
            None => Err(Error::Closed),
        }
    }

    /// Leaves the directory to others.
    pub(super) fn unlock(&self) {
        *self.lock.lock() = None;
    }

    /// Makes the names of new files durable.
    pub(super) fn sync_names(&self) -> Result<()> {
        self.dir.sync().map_err(|e| Error::io("sync", self.path(), e))
    }

    /// Writes one table; removes what there is of it if that fails.
    pub(super) fn write_table(&self, fill: impl FnOnce(&mut TableWriter) -> Result<()>) -> Result<Arc<Table>> {
        let number = self.new_number()?;
        let writer = TableWriter::create(&self.table_cache, number, self.new_id()?, &self.cancelled);
        let written = writer.and_then(|mut writer| {
            fill(&mut writer)?;
            writer.finish()
        });
        match written {
            Ok(written) => Ok(written.into_table(Arc::clone(&self.table_cache))),
            Err(e) => {
                self.remove_table(number);
                Err(e)
            }
        }
    }

    /// Checks every checksum of a segment before its entries get new ones: what was damaged in memory must not be sealed.
    pub(super) fn verify_groups(&self, memtable: &Memtable) -> Result<()> {
        let bytes = memtable.bytes();
        let seed = Seed::of_file(&self.database, memtable.number());
        let mut offset = SEGMENT_HEADER_BYTES;
        // The segment may be growing, by a mark of another thread at least: one look at its end serves all.
        while offset < bytes.len() as u64 {
            let parsed = GroupHeader::parse(bytes, seed, memtable.number(), offset);
            let path = || self.path_of(&FileKind::Segment.name(memtable.number()));
            let (group, _) = parsed.map_err(|fault| fault.at(&path(), offset))?;
            offset += group.span();
        }
        Ok(())
    }

    /// The error for a failed append. If space was refused before anything was written, the log is as it was; after a failed
    /// write, nobody knows what is in the file, and after a bug, what else is wrong.
    pub(super) fn log_error(&self, health: &Health, log: &SegmentWriter, e: AppendError) -> Error {
        let path = self.path_of(&FileKind::Segment.name(log.number()));
        match e {
            AppendError::Refused(e) => Error::io("extend", &path, e),
            AppendError::Failed(e) => health.poison(Error::io("write", &path, e)),
            AppendError::Bug(bug) => health.poison(bug.into()),
        }
    }
}
