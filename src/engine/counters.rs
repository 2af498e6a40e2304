//! What has been done since the open.

use std::sync::atomic::AtomicU64 as PlainU64;

use crate::sys::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) log_syncs: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) written: Written,
}

/// Bytes that have been written, by why. Nobody decides by them, so the models do without.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Written {
    /// Keys and values of commits, and what the log takes for them. Changed by whoever has the writer.
    pub(crate) by_users: PlainU64,
    pub(crate) in_log: PlainU64,
    pub(crate) loaded: PlainU64,
    pub(crate) by_flushes: PlainU64,
    pub(crate) by_compactions: PlainU64,
}

impl Written {
    /// Notes a group of the log, or what a load has brought. Nobody else may do so meanwhile, so that it needs no atomic
    /// addition.
    #[inline]
    pub(super) fn note_group(&self, by_user: u64, in_log: u64) {
        self.by_users.store(self.by_users.load(Ordering::Relaxed) + by_user, Ordering::Relaxed);
        self.in_log.store(self.in_log.load(Ordering::Relaxed) + in_log, Ordering::Relaxed);
    }
}
