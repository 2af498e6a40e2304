//! Stores to measure: made once, used by many benchmarks.

use std::path::{Path, PathBuf};

use maplsm::{Db, Durability, Options, PointIndex, WriteBatch};
use tempfile::TempDir;

use crate::data::{Data, key, number_in, value};

/// Entries per commit where the commit is not what is measured.
const BATCH: u32 = 1000;

/// A memtable that holds all entries.
pub(crate) const ONE_MEMTABLE: usize = 512 << 20;

/// Unflushed tables of an unsettled store.
pub(crate) const RUNS: u32 = 8;

/// A store and the directory that it is in.
pub(crate) struct Store {
    pub(crate) db: Db,
    pub(crate) dir: TempDir,
}

impl Store {
    /// An empty one.
    pub(crate) fn new(options: &Options) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = options.open(path(&dir)).expect("a new store");
        Self { db, dir }
    }

    /// With all entries in the log.
    pub(crate) fn in_memtable(data: &Data) -> Self {
        Self::in_memtable_with(data, &quiet())
    }

    /// With all entries in one table, and nothing else.
    pub(crate) fn settled(data: &Data, index: PointIndex) -> Self {
        let store = Self::in_memtable_with(data, quiet().point_index(index));
        store.db.compact().expect("a compaction");
        store.check(data, 1);
        store
    }

    fn in_memtable_with(data: &Data, options: &Options) -> Self {
        let store = Self::new(options);
        store.load(0..data.entries);
        store
    }

    /// With the entries in [`RUNS`] tables that overlap.
    pub(crate) fn unsettled(data: &Data) -> Self {
        let store = Self::new(&quiet());
        for run in 0..RUNS {
            store.load(data.entries / RUNS * run..data.entries / RUNS * (run + 1));
            store.db.flush().expect("a flush");
        }
        store.check(data, 1);
        store
    }

    fn load(&self, numbers: std::ops::Range<u32>) {
        let mut batch = WriteBatch::new();
        for start in numbers.clone().step_by(BATCH as usize) {
            batch.clear();
            for number in start..(start + BATCH).min(numbers.end) {
                batch.insert(key(number), value(number));
            }
            self.db.write(&batch).expect("a commit");
        }
    }

    /// Closes the store and keeps its files.
    pub(crate) fn close(self) -> TempDir {
        self.db.close().expect("a clean close");
        self.dir
    }

    /// Panics unless every `step`-th entries are there and right.
    pub(crate) fn check(&self, data: &Data, step: usize) {
        check(&self.db, data, step);
    }
}

/// Panics unless every `step`-th entry is there and right.
pub(crate) fn check(db: &Db, data: &Data, step: usize) {
    for number in (0..data.entries).step_by(step) {
        let found = db.get(key(number)).expect("a lookup").map(|value| number_in(&value));
        assert_eq!(found, Some(number), "the value of an entry");
    }
}

/// Options of a store that does nothing by itself: one large memtable, no threads, no compaction that is not asked for.
pub(crate) fn quiet() -> Options {
    let mut options = Options::new();
    options
        .durability(Durability::Buffered)
        .background_threads(0)
        .memtable_bytes(ONE_MEMTABLE)
        .l0_tables(100)
        .level_bytes_base(8 << 30)
        .table_bytes(8 << 30);
    options
}

/// Where the store of a temporary directory is.
pub(crate) fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("db")
}

/// A copy of a store's files: of a live one, what a killed process would leave.
pub(crate) fn copy(store: &Path) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(path(&dir)).expect("a directory");
    for (name, file) in files(store) {
        if name != "LOCK" {
            std::fs::copy(file, path(&dir).join(name)).expect("a copy");
        }
    }
    std::fs::write(path(&dir).join("LOCK"), "").expect("a lock file");
    dir
}

/// Names and paths of a store's files.
pub(crate) fn files(store: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(store).expect("a directory");
    let paths = entries.map(|entry| entry.expect("a directory entry").path());
    paths.map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path)).collect()
}

/// Bytes of the files with one of these extensions.
pub(crate) fn bytes_of(store: &Path, extensions: &[&str]) -> u64 {
    let wanted = |path: &Path| path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted));
    let lengths = files(store).into_iter().filter(|(_, path)| wanted(path));
    lengths.map(|(_, path)| path.metadata().expect("metadata").len()).sum()
}
