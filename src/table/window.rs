//! What a walk over a section has at hand.

use std::ops::Range;

use super::readahead::Readahead;
use crate::format::entry::{Base, Entry};
use crate::sys::Block;

/// A run of entries in memory, and which of its bytes are known to be verified.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    /// The places of its entries lie from `start` to in front of `end`.
    pub(super) start: usize,
    pub(super) end: usize,
    /// Where the places of the window behind it begin.
    pub(super) next: usize,
    /// Where the place `start` is in the bytes: those of the block, or else the mapped ones.
    pub(super) at: usize,
    pub(super) block: Option<Block>,
    /// Where in the file the bytes of the block come from.
    pub(super) origin: u64,
    /// Whether an entry may go on behind the window: it was cut out without regard to them.
    pub(super) is_cut: bool,
    /// Those of its bytes that are known to be verified: an entry that fits in needs no further look.
    pub(super) sure: Range<usize>,
    /// What the sequence numbers of the entries are completed with.
    pub(super) base: Base,
    /// Mapped bytes that this walk has made present.
    pub(super) present: Range<usize>,
    /// Of the walk: outlives windows that it leaves behind.
    pub(super) ahead: Readahead,
}

impl Window {
    /// What the entries are in, unless that is the mapping.
    #[inline]
    pub(super) fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }

    pub(super) fn into_block(self) -> Option<Block> {
        self.block
    }

    #[inline]
    pub(super) fn contains(&self, place: usize) -> bool {
        place >= self.start && place < self.end && place < self.next
    }

    /// A window on a block, which is verified, whose places begin at `start`.
    pub(super) fn on(block: Block, start: usize, origin: u64) -> Self {
        let length = block.bytes().len();
        let end = start.saturating_add(length);
        Self { start, end, next: end, origin, sure: 0..length, block: Some(block), ..Self::default() }
    }

    /// The place of the entry behind the one at `place`.
    #[inline]
    pub(super) fn behind(&self, place: usize, entry: &Entry) -> usize {
        let end = place + (entry.next() - entry.start);
        if end >= self.end { self.next } else { end }
    }

    /// Where in the file damage at `place` is.
    pub(super) fn offset(&self, place: usize) -> u64 {
        if self.block.is_some() { self.origin } else { (self.at + place.saturating_sub(self.start)) as u64 }
    }
}
