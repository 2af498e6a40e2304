//! Which indexes are to stay in memory.
//!
//! A lookup needs a page of its table's index first, so these pages are worth more than those of entries. The system finds
//! that out by itself from mappings that it has no advice for, by how they are used; but what it has dropped of such a mapping
//! comes back with all that its readahead is set to, which is ruin where indexes do not fit: each lookup then throws out what the
//! next ones need. So indexes that fit into a budget are mapped without advice, and those beyond it as read at random.
//!
//! Measured with readahead 8 MiB and everything in a control group, the page cache included; us a get, KiB from the disk for each:
//!
//! | entries, indexes | memory | no budget | half of the memory | nothing |
//! |---|---:|---:|---:|---:|
//! | 12 M, 155 MB | 128 MiB | 1,737 / 1,184 | 116 / 7.6 | 116 / 5.8 |
//! | 12 M, 155 MB | 256 MiB | 109 / 5.7 | 81 / 5.1 | 73 / 4.3 |
//! | 4 M, 51 MB | 256 MiB | 35, 50 / 2.4, 2.5 | the same | 39, 52 / 2.4, 2.5 |
//!
//! Nothing would be best for gets alone. But beside a writer, whose compactions walk through all entries, indexes that are read
//! at random are the first to go: 4 M entries in 256 MiB, a get takes 266 us then, and 150 with their indexes in the budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Of the indexes of one database.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    taken: Arc<AtomicU64>,
    /// Whether somebody has gone away with nothing.
    refused: AtomicBool,
}

/// A part that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    taken: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    pub(super) fn new(most: u64) -> Self {
        Self { most, taken: Arc::default(), refused: AtomicBool::new(false) }
    }

    /// Takes a part, if there is as much left.
    pub(super) fn take(&self, bytes: u64) -> Option<Share> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.most);
        if self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            self.refused.store(true, Ordering::Relaxed);
            return None;
        }
        Some(Share { taken: Arc::clone(&self.taken), bytes })
    }

    /// Whether somebody has been refused a part since this was asked last.
    pub(super) fn has_refused(&self) -> bool {
        self.refused.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}
