//! Entries that stay valid on their own, and values that stand apart from their entries.

use std::sync::Arc;

use crate::format::entry::Entry;
use crate::sys::{Block, Pinned};
use crate::table::{StoredValue, ValueFile};

/// A value that stands apart from its entry.
#[derive(Debug, Clone)]
pub(super) enum Apart {
    Nothing,
    /// Of a pointer.
    Stored(Arc<ValueFile>, StoredValue),
    /// Of an operand.
    Made(Block),
}

/// An entry that stays valid on its own.
#[derive(Clone)]
pub(crate) struct PinnedEntry {
    /// From its key on.
    pub(crate) bytes: Pinned,
    /// Where in them the key ends, and where the value begins.
    pub(crate) key_end: usize,
    pub(crate) value_start: usize,
    /// The value, if it stands apart.
    pub(crate) value: Option<Pinned>,
}

impl PinnedEntry {
    #[inline]
    pub(super) fn new(bytes: Pinned, entry: &Entry, value: Option<Pinned>) -> Self {
        let [key_end, value_start] = [entry.key_end, entry.value_start()].map(|at| at - entry.key_start);
        Self { bytes, key_end, value_start, value }
    }
}
