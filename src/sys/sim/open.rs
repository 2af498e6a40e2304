//! What is open on a simulated disk: files, logs and locks.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::SimFs;
use super::names::FileId;
use super::tree::{FolderId, Lockable};
use crate::error::bug;
use crate::sys::ahead::{Ahead, first_that_fits, log_sizes};
use crate::sys::files::OpenFile;
use crate::sys::region::ArenaWriter;
use crate::sys::region::Mapping;
use crate::sys::seam::{AppendError, AppendFile, HeldLock, LogFile, RandomFile, SyncFile};

/// A file that nobody writes any more, so its bytes are those that it had when it was opened.
pub(super) struct SimRandom {
    pub(super) fs: SimFs,
    pub(super) bytes: Vec<u8>,
    pub(super) _counted: OpenFile,
}

impl fmt::Debug for SimRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimRandom({} bytes)", self.bytes.len())
    }
}

impl RandomFile for SimRandom {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.fs.disk.lock().look()?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(start..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

pub(super) struct SimLock {
    pub(super) fs: SimFs,
    pub(super) folder: FolderId,
    pub(super) name: String,
    pub(super) file: FileId,
}

impl HeldLock for SimLock {
    fn stands(&self) -> io::Result<bool> {
        let mut disk = self.fs.disk.lock();
        disk.look()?;
        Ok(disk.leads_to(self.folder, &self.name, self.file))
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.fs.disk.lock();
        disk.release(Lockable::File(self.file));
        disk.release(Lockable::Folder(self.folder));
    }
}

/// An open file, which stays usable after its name is gone.
#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) fs: SimFs,
    pub(super) file: FileId,
}

impl SimFile {
    pub(super) fn new(fs: &SimFs, file: FileId) -> Self {
        *fs.disk.lock().handles.entry(file).or_default() += 1;
        Self { fs: fs.clone(), file }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut disk = self.fs.disk.lock();
        if let Some(count) = disk.handles.get_mut(&self.file) {
            *count -= 1;
        }
        disk.handles.retain(|_, count| *count > 0);
    }
}

impl AppendFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        self.fs.disk.lock().append(self.file, bytes)
    }

    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        self.fs.disk.lock().make_room(self.file, usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn sync(&mut self) -> io::Result<()> {
        SyncFile::sync(self)
    }
}

impl SyncFile for SimFile {
    fn sync(&self) -> io::Result<()> {
        self.fs.disk.lock().sync(self.file)
    }
}

/// A log whose readers use the arena; each commit copies the new bytes to the disk.
#[derive(Debug)]
pub(super) struct SimLog {
    pub(super) file: SimFile,
    pub(super) arena: ArenaWriter,
    pub(super) capacity: usize,
    /// The length of the file.
    pub(super) allocated: usize,
    /// Set when a commit failed half-way, after which the contract forbids writing.
    pub(super) failed: bool,
}

impl LogFile for SimLog {
    fn mapping(&self) -> &Mapping {
        self.arena.mapping()
    }

    fn make_room(&mut self, bytes: usize, ahead: Ahead) -> io::Result<usize> {
        let end = self.arena.end().saturating_add(bytes).min(self.capacity);
        if end > self.allocated {
            let grow = |size| self.file.fs.disk.lock().grow(self.file.file, size);
            self.allocated = first_that_fits(log_sizes(end, self.capacity, ahead), grow)?;
        }
        Ok(self.allocated)
    }

    fn reserve(&mut self, length: usize) -> io::Result<&mut [u8]> {
        if self.failed {
            return Err(io::Error::other("the log is written after a failed commit"));
        }
        let full = || io::Error::new(io::ErrorKind::StorageFull, "the log segment is full");
        self.arena.end().checked_add(length).filter(|end| *end <= self.capacity).ok_or_else(full)?;
        self.make_room(length, Ahead::Needed)?;
        self.arena.reserve(length).ok_or_else(full)
    }

    fn commit(&mut self, length: usize) -> Result<(), AppendError> {
        if self.failed {
            return Err(AppendError::Failed(io::Error::other("the log is written after a failed commit")));
        }
        let bytes = self.arena.reserve(length).ok_or_else(|| bug("what is to be published is not in the log"))?;
        let appended = self.file.append(bytes);
        self.failed = matches!(appended, Err(AppendError::Failed(_)));
        appended?;
        Ok(self.arena.publish(length)?)
    }

    fn syncer(&self) -> Arc<dyn SyncFile> {
        Arc::new(SimFile::new(&self.file.fs, self.file.file))
    }
}
