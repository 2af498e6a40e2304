//! How many files of tables a process has mapped or open, of how many that the system lets it have.
//!
//! The limits are those of a process, so all its databases share one account: mappings count against `vm.max_map_count`,
//! descriptors against `RLIMIT_NOFILE`. Whoever opens files asks the account and lets others go first; see `table::open`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::access::Access;

/// The account of one kind of file: those that are mapped, or those that are read through a descriptor.
#[derive(Debug, Clone)]
pub(crate) struct OpenFiles {
    open: Arc<AtomicUsize>,
    /// What the system allows, for everything that the process does.
    limit: usize,
    /// Files that an open table keeps: itself and its index where they are mapped; the index is read into memory elsewhere.
    by_table: usize,
}

/// A file that is mapped or open.
#[derive(Debug)]
pub(crate) struct OpenFile(Arc<AtomicUsize>);

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OpenFiles {
    pub(super) fn new(access: Access, open: Arc<AtomicUsize>, limit: usize) -> Self {
        Self { open, limit, by_table: if access == Access::Map { 2 } else { 1 } }
    }

    /// Counts a file until the result is dropped.
    pub(super) fn count(&self) -> OpenFile {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenFile(Arc::clone(&self.open))
    }

    /// Files that are mapped or open now, by tables, value files, and what still uses those that have been let go.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn by_table(&self) -> usize {
        self.by_table
    }

    /// The number at which databases begin to let go of tables that nobody uses, whatever their own limits are: half of what
    /// the system allows. The rest of the process needs some as well: allocators map memory, and end the process if they
    /// cannot.
    pub(crate) fn comfortable(&self) -> usize {
        self.limit / 2
    }

    /// The number at which no table is opened any more.
    pub(crate) fn most(&self) -> usize {
        self.limit / 4 * 3
    }

    /// Tables that one database may keep open if it is not told: a quarter of what the system allows.
    pub(crate) fn tables_of_one(&self) -> usize {
        const RANGE: (usize, usize) = (8, 8192);
        (self.limit / 4 / self.by_table).clamp(RANGE.0, RANGE.1)
    }
}

/// Whether an error says that there are too many mappings or descriptors.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    if error.kind() == io::ErrorKind::OutOfMemory {
        return true;
    }
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let of = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        error.raw_os_error().is_some_and(|code| of.contains(&code))
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// The account of the files on disk of this process.
pub(super) fn of_process(access: Access) -> OpenFiles {
    static MAPPED: std::sync::LazyLock<Arc<AtomicUsize>> = std::sync::LazyLock::new(Arc::default);
    static READ: std::sync::LazyLock<Arc<AtomicUsize>> = std::sync::LazyLock::new(Arc::default);
    match access {
        Access::Map => OpenFiles::new(access, Arc::clone(&MAPPED), mappings_allowed()),
        Access::Read => OpenFiles::new(access, Arc::clone(&READ), descriptors_allowed()),
    }
}

/// The kernel's default, and what is assumed where there is no such limit.
const MAPPINGS: usize = 65_530;

fn mappings_allowed() -> usize {
    let told =
        if cfg!(target_os = "linux") { std::fs::read_to_string("/proc/sys/vm/max_map_count").ok() } else { None };
    told.and_then(|text| text.trim().parse().ok()).unwrap_or(MAPPINGS)
}

#[cfg(unix)]
fn descriptors_allowed() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Handles of Windows are limited by memory alone.
#[cfg(not(unix))]
fn descriptors_allowed() -> usize {
    MAPPINGS
}
