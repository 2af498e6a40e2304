//! A simulated disk as a file system, and a directory of it that is held open.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::SimFs;
use super::open::{SimFile, SimLock, SimLog, SimRandom};
use super::tree::{FolderId, Lockable};
use crate::sys::access::{Access, Advice};
use crate::sys::ahead::{Ahead, first_that_fits, log_sizes};
use crate::sys::files::OpenFiles;
use crate::sys::region::Mapping;
use crate::sys::seam::{AppendFile, Contents, Dir, Fs, Lock, LockMode, LogFile};

impl Fs for SimFs {
    fn open_dir(&self, path: &Path, create: bool, access: Access) -> io::Result<Arc<dyn Dir>> {
        let mut disk = self.disk.lock();
        if create {
            disk.make_dir(path)?;
        }
        let folder = disk.find_dir(path)?;
        Ok(Arc::new(SimDir::new(self, folder, path, access)))
    }

    fn open_parent(&self, path: &Path, access: Access) -> io::Result<(Arc<dyn Dir>, OsString)> {
        let named = path.parent().zip(path.file_name());
        let (parent, name) = named.ok_or(io::ErrorKind::AlreadyExists)?;
        Ok((self.open_dir(parent, true, access)?, name.to_owned()))
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        for part in out.chunks_mut(size_of::<u64>()) {
            part.copy_from_slice(&disk.entropy.draw().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimDir {
    fs: SimFs,
    folder: FolderId,
    /// As its opener has called it; for messages.
    path: PathBuf,
    access: Access,
    open_files: OpenFiles,
}

impl SimDir {
    fn new(fs: &SimFs, folder: FolderId, path: &Path, access: Access) -> Self {
        let most = fs.open_files_most.load(Ordering::Relaxed);
        let open_files = OpenFiles::new(access, Arc::clone(&fs.open_files), most);
        Self { fs: fs.clone(), folder, path: path.to_owned(), access, open_files }
    }

    fn inner(&self, name: &OsStr, folder: FolderId) -> Arc<dyn Dir> {
        Arc::new(Self::new(&self.fs, folder, &self.path.join(name), self.access))
    }
}

impl Dir for SimDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.fs.disk.lock();
        disk.look()?;
        disk.list(self.folder)
    }

    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        let folder = self.fs.disk.lock().find_dir_in(self.folder, name)?;
        Ok(self.inner(name, folder))
    }

    fn create_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        let folder = self.fs.disk.lock().create_dir(self.folder, name)?;
        Ok(self.inner(name, folder))
    }

    fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        self.fs.disk.lock().remove_dir(self.folder, name)
    }

    fn lock(&self, name: &str, mode: LockMode) -> io::Result<Lock> {
        let mut disk = self.fs.disk.lock();
        if !disk.acquire(Lockable::Folder(self.folder), mode) {
            return Ok(Lock::BusyHere);
        }
        let create = matches!(mode, LockMode::Exclusive { create: true });
        let refused = match disk.lock_file(self.folder, name, create) {
            Ok(Some(file)) if disk.acquire(Lockable::File(file), mode) => {
                let (fs, folder, name) = (self.fs.clone(), self.folder, name.to_owned());
                return Ok(Lock::Held(Box::new(SimLock { fs, folder, name, file })));
            }
            Ok(Some(_)) => Ok(Lock::BusyHere),
            Ok(None) => Ok(Lock::Absent),
            Err(e) => Err(e),
        };
        disk.release(Lockable::Folder(self.folder));
        refused
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        let file = self.fs.disk.lock().create(self.folder, name)?;
        Ok(Box::new(SimFile::new(&self.fs, file)))
    }

    fn create_log(&self, name: &str, capacity: usize, ahead: Ahead) -> io::Result<Box<dyn LogFile>> {
        let arena = Mapping::anonymous(capacity.max(1))?;
        let file = self.fs.disk.lock().create(self.folder, name)?;
        let file = SimFile::new(&self.fs, file);
        let extend = |size| self.fs.disk.lock().extend(file.file, size);
        let allocated = first_that_fits(log_sizes(1, capacity, ahead), extend)?;
        Ok(Box::new(SimLog { file, arena, capacity, allocated, failed: false }))
    }

    fn open(&self, name: &str) -> io::Result<Mapping> {
        let mut disk = self.fs.disk.lock();
        disk.look()?;
        let bytes = disk.image(self.folder, name)?.contents();
        Ok(match self.access {
            Access::Map => Mapping::counted_heap(bytes, self.open_files.count()),
            Access::Read => Mapping::heap(bytes),
        })
    }

    fn contents(&self, name: &str, _advice: Advice) -> io::Result<Contents> {
        if self.access == Access::Map {
            return self.open(name).map(Contents::Mapped);
        }
        let mut disk = self.fs.disk.lock();
        disk.look()?;
        let bytes = disk.image(self.folder, name)?.contents();
        let length = bytes.len() as u64;
        drop(disk);
        Ok(Contents::Random(
            Box::new(SimRandom { fs: self.fs.clone(), bytes, _counted: self.open_files.count() }),
            length,
        ))
    }

    fn open_files(&self) -> &OpenFiles {
        &self.open_files
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        let mut disk = self.fs.disk.lock();
        disk.look()?;
        Ok(disk.image(self.folder, name)?.length() as u64)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fs.disk.lock().rename(self.folder, from, to)
    }

    fn link(&self, name: &str, to: &dyn Dir) -> io::Result<()> {
        let to: &dyn Any = to;
        let to = to.downcast_ref::<Self>().ok_or(io::ErrorKind::CrossesDevices)?;
        self.fs.disk.lock().link_into(self.folder, name, to.folder)
    }

    fn hold_space(&self, name: &str, bytes: u64) -> io::Result<u64> {
        self.fs.disk.lock().hold_space(self.folder, name, usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.fs.disk.lock().remove(self.folder, name)
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.disk.lock().sync_dir(self.folder)
    }
}
