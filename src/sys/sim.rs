//! The file system in memory: every promise a disk makes, and everything else taken back at a power cut.

mod chance;
mod image;
mod names;
mod open;
mod tree;

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::files::OpenFiles;
use super::{
    Access, Advice, Ahead, AppendFile, Contents, Dir, FileSystem, Fs, Lock, LockMode, LogFile, Mapping, Mutex,
    first_that_fits, log_sizes,
};
use open::{SimFile, SimLock, SimLog, SimRandom};
use tree::{Disk, FolderId, Lockable};

/// A file system in memory that can be stopped at any moment, for tests of what a crash leaves.
///
/// It keeps two images: the *live* one, which a running program sees, and the *durable* one. [`kill`](Self::kill) gives the
/// disk as the next process finds it after this one died, [`power_cut`](Self::power_cut) as the next boot finds it. Both are
/// copies: the original goes on, so one run of a program can be crashed after each of its steps. The model:
///
/// - A sector of 512 bytes is written whole or not at all. After a power cut, each sector written since the last completed
///   sync of its file is as of that sync or in any later state, independently of all others; bytes never synced may read as
///   zero. A sector with synced bytes in it never loses them ("powersafe overwrite").
/// - A file's length is anything between the length last synced and the live one.
/// - Syncing a file does not sync its name. Each creation, renaming and removal since the last sync of the directory is done
///   or not, independently but in order; a renaming is atomic. New directories are durable at once.
/// - After an injected error of a sync, the file reads as before and later syncs succeed, but what was unsynced at the
///   failed one never becomes durable unless it is written again. This is what Linux does.
/// - Space is taken in pages of 4 KiB, by what is written and by what is taken ahead, up to a
///   [capacity](Self::set_capacity), if it has one. It is free again when the last name and the last handle of a file are gone.
///
/// Nothing depends on the wall clock or on real entropy: the same calls with the same seeds give the same bytes.
///
/// A clone is another handle on the same disk.
///
/// ```
/// use std::path::Path;
///
/// let disk = maplsm::SimFs::new();
/// disk.write(Path::new("db/notes"), b"planted");
/// let after = disk.power_cut(7);
/// assert_eq!(after.read(Path::new("db/notes")).as_deref(), Some(&b"planted"[..]));
/// ```
#[derive(Clone)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
    /// Files that are mapped or open, and how many of them a process may have.
    open_files: Arc<AtomicUsize>,
    open_files_most: Arc<AtomicUsize>,
}

/// As many mappings as Linux gives a process.
const OPEN_FILES_MAX: usize = 65_530;

/// Something that goes wrong on a [`SimFs`]. Counting starts at the call of [`SimFs::inject`]; 1 is the next one.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One operation fails and does nothing, except that a failed sync loses what it was to make durable.
    Error {
        /// Which operation, of those that [`SimFs::operations`] counts.
        after: u64,
        /// The kind of error it fails with.
        kind: io::ErrorKind,
    },
    /// This operation and all later ones fail and do nothing: the disk stands still at a crash point. Reading still works.
    Halt {
        /// Which operation, of those that [`SimFs::operations`] counts.
        after: u64,
    },
    /// A write stops after some of its bytes and fails with [`io::ErrorKind::StorageFull`].
    Short {
        /// Which write, counting appends and log commits only.
        after: u64,
    },
    /// One look at the disk fails: opening a file, asking for its length, listing a directory, or looking after a lock.
    Look {
        /// Which one, of those that [`SimFs::looks`] counts.
        after: u64,
        /// The kind of error it fails with.
        kind: io::ErrorKind,
    },
}

impl SimFs {
    /// An empty disk with seed 0.
    pub fn new() -> Self {
        Self::with_seed(0)
    }

    /// An empty disk. The seed decides about ids that a database makes up and, together with the one given to
    /// [`power_cut`](Self::power_cut), about what is lost.
    pub fn with_seed(seed: u64) -> Self {
        Self::from(Disk::new(seed))
    }

    /// The disk after the process died at this moment: nothing is lost and all locks are free. What was unsynced still is.
    ///
    /// The copy counts operations from zero and has no faults.
    #[must_use]
    pub fn kill(&self) -> Self {
        Self::from(self.disk.lock().after_kill())
    }

    /// The disk after a power cut at this moment: what was synced, and of the rest what the seed says. All locks are free.
    ///
    /// The copy counts operations from zero and has no faults.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        Self::from(self.disk.lock().after_power_cut(seed))
    }

    /// How many operations have been tried that change or sync something: creating a file or a directory, appending,
    /// committing to a log, growing a log, linking, renaming, removing, and syncing a file or a directory.
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations
    }

    /// How many times a file has been opened or asked for its length, a directory listed, or a lock looked after.
    pub fn looks(&self) -> u64 {
        self.disk.lock().looks
    }

    /// Shows every crash point: from now on, `watch` gets the disk as [`kill`](Self::kill) gives it before each of the
    /// [`operations`](Self::operations) is done. So one run of a program serves all its crash points, each with as many power
    /// cuts as one likes. This takes the place of an earlier watch.
    ///
    /// `watch` is called in the middle of the operation and must not use this disk, only the copy.
    pub fn watch(&self, watch: impl FnMut(Self) + Send + 'static) {
        let mut watch = watch;
        self.disk.lock().watch = Some(Box::new(move |disk| watch(Self::from(disk))));
    }

    /// Gives the disk a size in bytes, or takes it away again: operations that need more space than there is left fail with
    /// [`io::ErrorKind::StorageFull`]. Copies have the same size. Files that are [put there](Self::write) find space always.
    ///
    /// ```
    /// use maplsm::{ErrorKind, Options, SimFs};
    ///
    /// let disk = SimFs::new();
    /// let db = Options::new().file_system(disk.clone()).background_threads(0).open("/db").unwrap();
    /// db.insert("key", "value").unwrap();
    /// disk.set_capacity(Some(disk.space()));
    /// let error = db.insert("large", vec![0; 2 << 20]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Io);
    /// disk.set_capacity(None);
    /// db.insert("large", vec![0; 2 << 20]).unwrap();
    /// ```
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.lock().capacity = bytes;
    }

    /// The space that files take, in bytes, whole pages each.
    pub fn space(&self) -> u64 {
        self.disk.lock().space()
    }

    /// How many bytes have been appended and committed.
    pub fn bytes_written(&self) -> u64 {
        self.disk.lock().bytes_written
    }

    /// Adds a fault to those that are to come.
    pub fn inject(&self, fault: Fault) {
        let mut disk = self.disk.lock();
        match fault {
            Fault::Error { after, kind } => disk.fail(after, kind),
            Fault::Halt { after } => disk.halt(after),
            Fault::Short { after } => disk.cut_short(after),
            Fault::Look { after, kind } => disk.fail_look(after, kind),
        }
    }

    /// Sets how many files a process may have mapped or open, as `vm.max_map_count` and `RLIMIT_NOFILE` do for real ones: for
    /// databases that are opened from now on. 65,530 if it is never called.
    pub fn limit_open_files(&self, most: usize) {
        self.open_files_most.store(most, Ordering::Relaxed);
    }

    /// How many table and value files, and indexes of tables, are mapped or open.
    pub fn open_files(&self) -> usize {
        self.open_files.load(Ordering::Relaxed)
    }

    /// The live files of a directory and their lengths, sorted by name.
    pub fn files(&self, dir: &Path) -> Vec<(String, u64)> {
        self.disk.lock().files(dir)
    }

    /// The live contents of a file, or `None` if there is none.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.disk.lock().contents(path)
    }

    /// Puts a file in place of any other, durably and with the directories it needs; this is not counted as an operation.
    ///
    /// # Panics
    /// If no file can have this path: it has no name in UTF-8, it is a directory, or its parent is a file.
    pub fn write(&self, path: &Path, bytes: &[u8]) {
        self.disk.lock().plant(path, bytes).expect("the path names a file and is free for one");
    }

    /// Removes a file durably, if there is one; this is not counted as an operation.
    pub fn remove(&self, path: &Path) {
        self.disk.lock().uproot(path);
    }

    /// Moves a directory, with all that is in it, durably; this is not counted as an operation. Whoever has it open goes on
    /// in it, as on a real disk.
    ///
    /// # Panics
    /// If there is no such directory, or `to` is there already or lies in it.
    pub fn move_dir(&self, from: &Path, to: &Path) {
        self.disk.lock().move_dir(from, to).expect("a directory, and a place for it");
    }
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFs").finish_non_exhaustive()
    }
}

impl From<Disk> for SimFs {
    fn from(disk: Disk) -> Self {
        let open_files_most = Arc::new(AtomicUsize::new(OPEN_FILES_MAX));
        Self { disk: Arc::new(Mutex::new(disk)), open_files: Arc::default(), open_files_most }
    }
}

impl From<SimFs> for FileSystem {
    fn from(fs: SimFs) -> Self {
        Self(Arc::new(fs))
    }
}

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
            return Ok(Lock::Busy);
        }
        let create = matches!(mode, LockMode::Exclusive { create: true });
        let refused = match disk.lock_file(self.folder, name, create) {
            Ok(Some(file)) if disk.acquire(Lockable::File(file), mode) => {
                let (fs, folder, name) = (self.fs.clone(), self.folder, name.to_owned());
                return Ok(Lock::Held(Box::new(SimLock { fs, folder, name, file })));
            }
            Ok(Some(_)) => Ok(Lock::Busy),
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

#[cfg(test)]
mod tests;
