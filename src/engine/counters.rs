//! What has been done since the open.

use crate::sys::atomic::AtomicU64;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) log_syncs: AtomicU64,
    pub(crate) conflicts: AtomicU64,
}
