//! Which indexes are to stay in memory.
//!
//! A lookup needs a page of its table's index first, so these pages are worth more than those of entries. The system finds
//! that out by itself from mappings that it has no advice for, by how they are used; but what it has dropped of such a mapping
//! comes back with all that its readahead is set to, which is ruin where indexes do not fit: each lookup then throws out what
//! the next ones need. So indexes that fit into a budget are mapped without advice, and those beyond it as read at random.
//!
//! Measured with readahead 8 MiB and everything in a control group, the page cache included; us a get, KiB from the disk for
//! each:
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
    parts: Arc<Parts>,
    /// Whether somebody has gone away with nothing.
    refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Parts {
    taken: AtomicU64,
    /// Whether a part has been given back.
    returned: AtomicBool,
}

/// A part that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    parts: Arc<Parts>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.parts.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        self.parts.returned.store(true, Ordering::Release);
    }
}

impl Budget {
    pub(super) fn new(most: u64) -> Self {
        Self { most, parts: Arc::default(), refused: AtomicBool::new(false) }
    }

    /// Takes a part, if there is as much left.
    pub(super) fn take(&self, bytes: u64) -> Option<Share> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.most);
        if self.parts.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            self.refused.store(true, Ordering::Relaxed);
            return None;
        }
        Some(Share { parts: Arc::clone(&self.parts), bytes })
    }

    /// Whether somebody has been refused a part, and one has been given back since this was asked last.
    pub(super) fn has_room_again(&self) -> bool {
        self.refused.load(Ordering::Relaxed) && self.parts.returned.swap(false, Ordering::Acquire)
    }

    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    pub(crate) fn taken(&self) -> u64 {
        self.parts.taken.load(Ordering::Relaxed)
    }
}
