//! What a memtable has of one keyspace.

use super::hash::HashIndex;
use super::ranges::Ranges;
use super::sorted::Sorted;
use crate::format::KeyspaceId;
use crate::sys::atomic::AtomicU64;

/// The part of a memtable that belongs to one keyspace.
pub(super) struct Space {
    pub(super) keyspace: KeyspaceId,
    pub(super) index: HashIndex,
    pub(super) sorted: Sorted,
    pub(super) ranges: Ranges,
    /// Entries, all versions counted. Written by the writer only.
    pub(super) entries: AtomicU64,
}

impl Space {
    pub(super) fn new(keyspace: KeyspaceId, expected: usize) -> Self {
        Self {
            keyspace,
            index: HashIndex::new(expected),
            sorted: Sorted::default(),
            ranges: Ranges::default(),
            entries: AtomicU64::new(0),
        }
    }
}
