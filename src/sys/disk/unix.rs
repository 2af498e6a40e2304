//! A directory that is held open. Its names are looked up in it and nowhere else, so neither a new working directory nor
//! somebody who moves or replaces a directory on the way leads us astray.
//!
//! A call that a signal interrupts has done nothing and is made again.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::how::{How, not_regular};

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIR_MODE: Mode = Mode::from_raw_mode(0o700);

const AS_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(super) struct Handle(OwnedFd);

impl Handle {
    /// The only look at a path: everything else starts at a handle.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(retry_on_intr(|| rustix::fs::openat(CWD, path, AS_DIR, Mode::empty()))?))
    }

    /// A directory in this one, never through a symbolic link.
    pub(super) fn open_dir(&self, name: &OsStr) -> io::Result<Self> {
        let flags = AS_DIR | OFlags::NOFOLLOW;
        Ok(Self(retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, Mode::empty()))?))
    }

    /// Another open description of this directory: its locks are its own.
    pub(super) fn again(&self) -> io::Result<Self> {
        self.open_dir(OsStr::new("."))
    }

    pub(super) fn into_file(self) -> File {
        File::from(self.0)
    }

    pub(super) fn make_dir(&self, name: &OsStr) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::mkdirat(&self.0, name, DIR_MODE))?)
    }

    pub(super) fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR))?)
    }

    /// All names that are UTF-8.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut dir = retry_on_intr(|| Dir::read_from(&self.0))?;
        while let Some(entry) = dir.read() {
            match entry {
                Ok(entry) => names.extend(entry.file_name().to_str().ok().map(str::to_owned)),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }

    /// Opens a file, never through a symbolic link, and never waiting for a fifo's other end.
    pub(super) fn open_file(&self, name: &str, how: How) -> io::Result<File> {
        let flags = match how {
            How::Read => OFlags::RDONLY,
            How::Write { create: false } => OFlags::RDWR,
            How::Write { create: true } => OFlags::RDWR | OFlags::CREATE,
            How::New => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, FILE_MODE))?))
    }

    fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(retry_on_intr(|| rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW))?)
    }

    /// The length of a regular file.
    pub(super) fn length(&self, name: &str) -> io::Result<u64> {
        let stat = self.stat(name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_regular());
        }
        u64::try_from(stat.st_size).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Whether the name leads to this very file.
    pub(super) fn leads_to(&self, name: &str, file: &File) -> io::Result<bool> {
        let held = retry_on_intr(|| rustix::fs::fstat(file))?;
        match self.stat(name) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::renameat(&self.0, from, &self.0, to))?)
    }

    pub(super) fn link(&self, name: &str, to: &Self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::linkat(&self.0, name, &to.0, name, AtFlags::empty()))?)
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.0, name, AtFlags::empty()))?)
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fsync(&self.0))?)
    }
}

/// Whether a lock failed because the file system has none for directories: some network file systems.
pub(super) fn has_no_lock(e: &io::Error) -> bool {
    let none = [
        Errno::OPNOTSUPP,
        Errno::NOTSUP,
        Errno::NOSYS,
        Errno::INVAL,
        Errno::ISDIR,
        Errno::NOLCK,
        // Where `flock` becomes a lock of a range, an exclusive one wants a descriptor that can write.
        Errno::BADF,
    ];
    Errno::from_io_error(e).is_some_and(|e| none.contains(&e))
}
