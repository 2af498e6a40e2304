//! The file system in memory: every promise a disk makes, and everything else taken back at a power cut.

mod chance;
mod dir;
mod image;
mod names;
mod open;
mod tree;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{FileSystem, LockRank, Mutex};
use tree::Disk;

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
        Self { disk: Arc::new(Mutex::new(LockRank::Disk, disk)), open_files: Arc::default(), open_files_most }
    }
}

impl From<SimFs> for FileSystem {
    fn from(fs: SimFs) -> Self {
        Self(Arc::new(fs))
    }
}

#[cfg(test)]
mod tests;
