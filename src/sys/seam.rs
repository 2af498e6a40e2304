//! What a file system does for this crate: the seam that [`disk`](super::disk) and [`sim`](super::sim) are behind.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::access::{Access, Advice};
use super::ahead::Ahead;
use super::files::OpenFiles;
use super::region::Mapping;
use crate::error::{Bug, Error, Result};

/// How a directory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// For a writer: excludes everyone. Creates the lock file if there is none and `create` is set.
    Exclusive { create: bool },
    /// For read-only use: excludes writers. Creates nothing.
    Shared,
}

/// The answer to an attempt to lock.
pub(crate) enum Lock {
    Held(Box<dyn HeldLock>),
    /// Somebody else has it.
    Busy,
    /// Somebody else in this process has it.
    BusyHere,
    /// There is no lock file, so the directory is no database.
    Absent,
}

/// A lock, held until this is dropped by the process that has taken it: forked children have no part in it.
pub(crate) trait HeldLock: Send + Sync {
    /// Whether the lock file still has its name. If not, others may have locked another file of this name.
    fn stands(&self) -> io::Result<bool>;
}

/// A file system, with the entropy that goes with it.
pub(crate) trait Fs: fmt::Debug + Send + Sync {
    /// Opens a directory, which is made (mode 0700, and made durable in its parent) if it is absent and `create` is set.
    fn open_dir(&self, path: &Path, create: bool, access: Access) -> io::Result<Arc<dyn Dir>>;

    /// Opens the directory in which `path` is, or is to be, and tells its name there. What is missing on the way is made, as
    /// above.
    fn open_parent(&self, path: &Path, access: Access) -> io::Result<(Arc<dyn Dir>, OsString)>;

    /// Random bytes for ids.
    fn random(&self, out: &mut [u8]) -> io::Result<()>;
}

/// A directory that is held open. Names are plain file names, and are looked up in it: whether it is moved, others take its
/// place, or the working directory changes, makes no difference. (Where a system cannot do that, which is elsewhere than on
/// Unix, it is the absolute path at the time of the open that stands for it.)
pub(crate) trait Dir: Any + fmt::Debug + Send + Sync {
    /// What its opener has called it; for messages.
    fn path(&self) -> &Path;

    /// The names of all files in it.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a directory in this one, never through a symbolic link.
    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>>;

    /// Makes a directory in this one (mode 0700, and durable), which must not be there.
    fn create_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>>;

    /// Removes an empty directory in this one.
    fn remove_dir(&self, name: &OsStr) -> io::Result<()>;

    /// Tries to take this directory, and the lock file `name` in it.
    fn lock(&self, name: &str, mode: LockMode) -> io::Result<Lock>;

    /// Makes a new file (an error if it exists) that is written from front to back.
    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>>;

    /// Makes a new log file of at most `capacity` bytes, all zero.
    fn create_log(&self, name: &str, capacity: usize, ahead: Ahead) -> io::Result<Box<dyn LogFile>>;

    /// The contents of a file that nobody writes any more, for those who read all of it. What cannot be read is an error here.
    fn open(&self, name: &str) -> io::Result<Mapping>;

    /// The contents of a table or value file: as a mapping that reads nothing yet, or, where nothing is mapped, to be read
    /// piece by piece.
    fn contents(&self, name: &str, advice: Advice) -> io::Result<Contents>;

    /// The account of the files that [`open`](Self::open) and [`contents`](Self::contents) map or keep open.
    fn open_files(&self) -> &OpenFiles;

    /// The length of a regular file.
    fn length(&self, name: &str) -> io::Result<u64>;

    /// Renames a file over another one; durable after [`sync`](Self::sync).
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file that nobody writes any more the same name in another directory as well; durable after a sync of that.
    /// Fails where both are not on one file system that has links.
    fn link(&self, name: &str, to: &dyn Dir) -> io::Result<()>;

    /// Makes a file that holds `bytes` bytes of space and nothing else, or makes it that long; a longer one stays as it is.
    /// Returns how much it holds: 0, and there is no file, where the file system cannot take space ahead.
    fn hold_space(&self, name: &str, bytes: u64) -> io::Result<u64>;

    /// Removes a file; what is mapped stays readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names created, renamed and removed so far durable.
    fn sync(&self) -> io::Result<()>;

    /// The name of a file whose mapping the guard has had to replace, if there is one.
    fn lost(&self) -> Option<String> {
        None
    }
}

/// What a file holds.
pub(crate) enum Contents {
    Mapped(Mapping),
    /// The file, and its length.
    Random(Box<dyn RandomFile>, u64),
}

/// A file that is read at any place. It stays readable after its name is gone.
pub(crate) trait RandomFile: fmt::Debug + Send + Sync {
    /// Fills `out` with the bytes from `offset` on; an error of kind `UnexpectedEof` if there are fewer.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

/// Why bytes were not appended to a file.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// There was no space for them: the file holds what it held before and may be written on.
    Refused(io::Error),
    /// Half-way, or nobody knows how far; the file must not be written any more.
    Failed(io::Error),
    /// What cannot happen has, before anything was written.
    Bug(Bug),
}

impl From<Bug> for AppendError {
    fn from(bug: Bug) -> Self {
        Self::Bug(bug)
    }
}

impl From<AppendError> for io::Error {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(e) | AppendError::Failed(e) => e,
            AppendError::Bug(bug) => bug.into(),
        }
    }
}

/// A file being written from front to back.
pub(crate) trait AppendFile: fmt::Debug + Send {
    /// Appends all of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError>;

    /// Takes the space of the next `bytes` bytes, so that appending them will not be refused; the length of the file stays.
    /// Does nothing where the file system cannot do that.
    fn make_room(&mut self, bytes: u64) -> io::Result<()>;

    /// Makes everything appended so far durable. After an error nothing is known about the file's contents on disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// The writing end of a log file, which is also the memory its readers use.
///
/// `reserve` gives the bytes behind the end, to be filled; `commit` hands the first `length` of them over to the kernel and
/// lets readers see them. After an error of `commit`, the end has not moved.
pub(crate) trait LogFile: fmt::Debug + Send {
    /// The published bytes, readable while more are written behind them.
    fn mapping(&self) -> &Mapping;

    /// Takes the space of the next `bytes` bytes, or of what is left of the capacity, where the file system can take it
    /// ahead. Returns the place up to which there is no need to ask again.
    fn make_room(&mut self, bytes: usize, ahead: Ahead) -> io::Result<usize>;

    /// `length` bytes behind the end; their contents are unspecified. Takes what space they still need; an error if there is
    /// none.
    fn reserve(&mut self, length: usize) -> io::Result<&mut [u8]>;

    /// Publishes the first `length` reserved bytes. They survive the death of the process from now on.
    fn commit(&mut self, length: usize) -> Result<(), AppendError>;

    /// For syncing from another thread.
    fn syncer(&self) -> Arc<dyn SyncFile>;
}

/// Makes a log file's contents durable.
pub(crate) trait SyncFile: fmt::Debug + Send + Sync {
    /// Everything committed before the call is durable after it. An error says nothing about what is on disk, and a
    /// later success neither.
    fn sync(&self) -> io::Result<()>;
}

/// Makes a file with these bytes, given in pieces, durable but for its name; an error names what could not be done.
pub(crate) fn write_file<'b>(dir: &dyn Dir, name: &str, bytes: impl IntoIterator<Item = &'b [u8]>) -> Result<()> {
    let path = dir.path().join(name);
    let mut file = dir.create(name).map_err(|e| Error::io("create", &path, e))?;
    for piece in bytes {
        file.append(piece).map_err(|e| Error::io("write", &path, e.into()))?;
    }
    file.sync().map_err(|e| Error::io("sync", &path, e))
}
