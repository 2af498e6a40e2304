//! The real file system.
//!
//! A path is looked up once, when a directory is opened; from then on, names are looked up in what is held open ([`Handle`]).

mod held;
mod how;
mod lock;
mod log;
#[cfg(not(unix))]
mod portable;
mod space;
#[cfg(unix)]
mod unix;

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::access::{Access, Advice};
use super::ahead::{Ahead, first_that_fits};
use super::files::{self, OpenFile, OpenFiles};
use super::guard::Owner;
use super::region::Mapping;
use super::seam::{AppendError, AppendFile, Contents, Dir, Fs, Lock, LockMode, LogFile, RandomFile};
use crate::error::is_full;
use how::{How, not_regular};
use log::DiskLog;
#[cfg(not(unix))]
use portable::Handle;
use space::{Length, allocate, write_at};
#[cfg(unix)]
use unix::Handle;

#[derive(Debug)]
pub(crate) struct DiskFs;

impl Fs for DiskFs {
    fn open_dir(&self, path: &Path, create: bool, access: Access) -> io::Result<Arc<dyn Dir>> {
        let handle = if create { open_or_make(path)? } else { Handle::open(path)? };
        Ok(Arc::new(DiskDir::new(handle, path.to_owned(), access)))
    }

    fn open_parent(&self, path: &Path, access: Access) -> io::Result<(Arc<dyn Dir>, OsString)> {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(io::ErrorKind::AlreadyExists.into());
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let handle = open_or_make(or_here(parent))?;
        Ok((Arc::new(DiskDir::new(handle, parent.to_owned(), access)), name.to_owned()))
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        getrandom::fill(out).map_err(io::Error::from)
    }
}

/// What a path without a name stands for.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Opens a directory. If it is missing, it and every missing parent are made, each durable in its own parent.
fn open_or_make(path: &Path) -> io::Result<Handle> {
    let missing = match Handle::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => e,
        other => return other,
    };
    let name = match path.components().next_back() {
        Some(Component::Normal(name)) => name,
        Some(Component::ParentDir) => OsStr::new(".."),
        _ => return Err(missing),
    };
    let parent = open_or_make(or_here(path.parent().unwrap_or(Path::new(""))))?;
    match parent.make_dir(name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    parent.sync()?;
    parent.open_dir(name)
}

#[derive(Debug)]
struct DiskDir {
    /// As its opener has called it. For messages: nothing is looked up by it.
    path: PathBuf,
    handle: Arc<Handle>,
    access: Access,
    mappings: Owner,
    open_files: OpenFiles,
}

impl DiskDir {
    fn new(handle: Handle, path: PathBuf, access: Access) -> Self {
        Self { path, handle: Arc::new(handle), access, mappings: Owner::new(), open_files: files::of_process(access) }
    }

    fn inner(&self, name: &OsStr, handle: Handle) -> Arc<dyn Dir> {
        Arc::new(Self::new(handle, self.path.join(name), self.access))
    }

    fn open_regular(&self, name: &str, how: How) -> io::Result<(File, u64)> {
        let file = self.handle.open_file(name, how)?;
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok((file, metadata.len())) } else { Err(not_regular()) }
    }

    /// A file as the access asks for it: mapped, with nothing of it present yet, or read.
    fn load(&self, name: &str, advice: Advice) -> io::Result<Mapping> {
        let (mut file, length) = self.open_regular(name, How::Read)?;
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        match self.access {
            Access::Map => Mapping::file(&file, length, advice, &self.mappings.file(name), self.open_files.count()),
            Access::Read => {
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(length)?;
                file.read_to_end(&mut bytes)?;
                Ok(Mapping::heap(bytes))
            }
        }
    }
}

impl Dir for DiskDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.handle.names()
    }

    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        Ok(self.inner(name, self.handle.open_dir(name)?))
    }

    fn create_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        self.handle.make_dir(name)?;
        let made = self.handle.open_dir(name).and_then(|made| self.handle.sync().map(|()| made));
        if made.is_err() {
            let _ = self.handle.remove_dir(name);
        }
        Ok(self.inner(name, made?))
    }

    fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        self.handle.remove_dir(name)
    }

    fn lock(&self, name: &str, mode: LockMode) -> io::Result<Lock> {
        lock::take(&self.handle, name, mode)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        Ok(Box::new(DiskFile { file: self.handle.open_file(name, How::New)?, end: 0, allocated: 0 }))
    }

    fn create_log(&self, name: &str, capacity: usize, ahead: Ahead) -> io::Result<Box<dyn LogFile>> {
        let file = self.handle.open_file(name, How::New)?;
        Ok(Box::new(DiskLog::new(file, capacity, ahead, self.access, &self.mappings.file(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Mapping> {
        let mapping = self.load(name, Advice::Normal)?;
        mapping.bring_in()?;
        Ok(mapping)
    }

    fn contents(&self, name: &str, advice: Advice) -> io::Result<Contents> {
        if self.access == Access::Map {
            return self.load(name, advice).map(Contents::Mapped);
        }
        let (file, length) = self.open_regular(name, How::Read)?;
        Ok(Contents::Random(Box::new(DiskRandom { file, _counted: self.open_files.count() }), length))
    }

    fn open_files(&self) -> &OpenFiles {
        &self.open_files
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.handle.length(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.handle.rename(from, to)
    }

    fn link(&self, name: &str, to: &dyn Dir) -> io::Result<()> {
        let to: &dyn Any = to;
        let to = to.downcast_ref::<Self>().ok_or(io::ErrorKind::CrossesDevices)?;
        self.handle.link(name, &to.handle)
    }

    fn hold_space(&self, name: &str, bytes: u64) -> io::Result<u64> {
        let (file, length) = self.open_regular(name, How::Write { create: true })?;
        if length >= bytes {
            return Ok(length);
        }
        // From the start: after a power cut, a file may have its length and not its space.
        let held = allocate(&file, 0..bytes, Length::Extended);
        if !matches!(held, Ok(true)) && length == 0 {
            self.remove(name)?;
        }
        held.map(|held| if held { bytes } else { 0 })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.handle.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync()
    }

    fn lost(&self) -> Option<String> {
        self.mappings.lost()
    }
}

#[derive(Debug)]
struct DiskFile {
    file: File,
    end: u64,
    /// Space has been taken up to here.
    allocated: u64,
}

/// What [`DiskFile::make_room`] takes at once, so that it is no call for each append.
const ROOM_BYTES: u64 = 64 << 10;

impl AppendFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        write_at(&self.file, bytes, self.end).map_err(|(written, e)| match written {
            0 if is_full(&e) => AppendError::Refused(e),
            _ => AppendError::Failed(e),
        })?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.end.saturating_add(bytes);
        if end > self.allocated {
            let (file, from) = (&self.file, self.allocated.max(self.end));
            let take = |to| allocate(file, from..to, Length::Kept).map(drop);
            self.allocated = first_that_fits([end.next_multiple_of(ROOM_BYTES), end], take)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[derive(Debug)]
struct DiskRandom {
    file: File,
    _counted: OpenFile,
}

impl RandomFile for DiskRandom {
    #[cfg(unix)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, out, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    out = &mut out[read..];
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::PAGE_BYTES;

    fn dir(access: Access) -> (tempfile::TempDir, Arc<dyn Dir>) {
        let temp = tempfile::tempdir().unwrap();
        let dir = DiskFs.open_dir(&temp.path().join("a/b"), true, access).unwrap();
        (temp, dir)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pages_that_were_touched_are_present_and_others_are_not() {
        const LENGTH: usize = 1000 * PAGE_BYTES + 1;
        let (temp, dir) = dir(Access::Map);
        fs::File::create(temp.path().join("a/b/hole")).unwrap().set_len(LENGTH as u64).unwrap();
        let Ok(Contents::Mapped(mapping)) = dir.contents("hole", Advice::Random) else { panic!("it is mapped") };
        let mapping = &mapping;
        let present = |from: usize, to: usize| mapping.is_present(from * PAGE_BYTES..(to * PAGE_BYTES).min(LENGTH));
        assert!(!present(0, 1) && !present(0, 1001) && !present(1000, 1001));
        mapping.touch(100 * PAGE_BYTES..700 * PAGE_BYTES).unwrap();
        assert!(present(100, 700) && present(350, 351));
        assert!(mapping.is_present(101 * PAGE_BYTES - 1..101 * PAGE_BYTES + 1));
        assert!(!present(99, 700) && !present(100, 701), "one page of it is not there");
        assert!(!mapping.is_present(700 * PAGE_BYTES - 1..700 * PAGE_BYTES + 1));
        mapping.touch(0..LENGTH).unwrap();
        assert!(present(0, 1001) && present(1000, 1001));
        assert!(!mapping.is_present(LENGTH - 1..LENGTH + PAGE_BYTES), "there is no such page");
    }

    #[test]
    fn log_contents_are_in_the_file_after_each_commit() {
        for access in [Access::Map, Access::Read] {
            let (_temp, dir) = dir(access);
            let mut log = dir.create_log("000001.wal", 3 << 20, Ahead::Doubling).unwrap();
            let mut expected = Vec::new();
            for i in 0..200u8 {
                let length = 20_000 + usize::from(i);
                if expected.len() + length > 3 << 20 {
                    assert!(log.reserve(1 << 20).is_err(), "a full segment is an error");
                    break;
                }
                log.reserve(length).unwrap().fill(i);
                log.commit(length).unwrap();
                expected.extend(std::iter::repeat_n(i, length));
                assert_eq!(log.mapping().bytes().len(), expected.len());
            }
            log.syncer().sync().unwrap();
            assert!(log.mapping().bytes() == expected);
            assert!(dir.open("000001.wal").unwrap().bytes().starts_with(&expected));
            assert!(dir.create_log("000001.wal", 1 << 20, Ahead::Doubling).is_err(), "files are never created twice");
        }
    }

    #[test]
    fn locks_exclude_each_other() {
        let (_temp, dir) = dir(Access::Map);
        assert!(matches!(dir.lock("LOCK", LockMode::Shared), Ok(Lock::Absent)));
        let exclusive = dir.lock("LOCK", LockMode::Exclusive { create: true }).unwrap();
        assert!(matches!(exclusive, Lock::Held(_)));
        assert!(matches!(dir.lock("LOCK", LockMode::Shared), Ok(Lock::BusyHere)));
        assert!(matches!(dir.lock("LOCK", LockMode::Exclusive { create: false }), Ok(Lock::BusyHere)));
        drop(exclusive);
        let shared = dir.lock("LOCK", LockMode::Shared).unwrap();
        assert!(matches!(dir.lock("LOCK", LockMode::Shared), Ok(Lock::Held(_))));
        assert!(matches!(dir.lock("LOCK", LockMode::Exclusive { create: false }), Ok(Lock::BusyHere)));
        drop(shared);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_directories_are_not_opened_and_modes_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let (_temp, dir) = dir(Access::Map);
        dir.create("000001.sst").unwrap().append(b"x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("000001.sst"), dir.path().join("000002.sst")).unwrap();
        fs::create_dir(dir.path().join("000003.sst")).unwrap();
        assert!(dir.open("000002.sst").is_err() && dir.open("000003.sst").is_err());
        assert!(dir.length("000002.sst").is_err() && dir.length("000003.sst").is_err());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(dir.path()), mode(&dir.path().join("000001.sst"))), (0o700, 0o600));
    }
}
