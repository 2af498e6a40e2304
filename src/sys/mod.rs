//! The world outside: file system, memory maps and entropy, behind one seam.
//!
//! Everything above works on [`Fs`], [`Dir`], [`LogFile`] and [`AppendFile`]; [`disk`] implements them on a real file system
//! and [`sim`] in memory, with power cuts and injected errors. Nothing outside this room calls `std::fs`, makes a system
//! call or asks for random bytes. `unsafe` is allowed in [`region`], [`guard`], [`lend`] and [`share`] alone.

mod access;
mod ahead;
pub(crate) mod disk;
mod files;
mod flag;
mod guard;
mod lend;
mod mappings;
mod memory;
mod ranked;
pub(crate) mod region;
mod scratch;
mod seam;
mod share;
pub(crate) mod sim;
mod sync;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

pub(crate) use access::{Access, Advice, PAGE_BYTES};
pub(crate) use ahead::Ahead;
pub(crate) use files::{OpenFiles, is_shortage};
pub(crate) use flag::Flag;
pub use guard::guard_mappings;
pub(crate) use lend::{Era, Eras, Lent, Taken};
pub(crate) use mappings::Mappings;
pub(crate) use memory::memory_allowed;
pub(crate) use ranked::{Condvar, LockRank, Mutex, MutexGuard, check_none_held};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use region::ZeroedArray;
pub(crate) use region::{Block, BlockBuffer, Mapping, MappingWatch, Pinned, Purse, prefetch};
pub(crate) use scratch::Scratch;
pub(crate) use seam::{
    AppendError, AppendFile, Contents, Dir, Fs, HeldLock, Lock, LockMode, LogFile, RandomFile, SyncFile, write_file,
};
#[cfg(any(loom, shuttle))]
pub(crate) use sync::ZeroedArray;
pub(crate) use sync::{OnceLock, atomic, in_total_order};

/// Time since some moment of this process, which never goes back.
pub(crate) fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Waits for a moment, for others to do something.
pub(crate) fn pause() {
    #[cfg(not(shuttle))]
    std::thread::sleep(Duration::from_micros(500));
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
}

/// Where a store keeps its files: the real file system, or one in memory for tests.
#[derive(Clone, Debug)]
pub struct FileSystem(pub(crate) Arc<dyn Fs>);

impl FileSystem {
    /// The operating system's files.
    pub fn disk() -> Self {
        Self(Arc::new(disk::DiskFs))
    }
}

impl Default for FileSystem {
    fn default() -> Self {
        Self::disk()
    }
}
