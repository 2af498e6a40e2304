//! FORMAT.md, section 6.1.
//!
//! Kinds of entries.

/// What an entry says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Put = 0,
    Delete = 1,
    /// Removes a range of keys that begins at the entry's key; see [`range_of`](super::range::range_of). Only in the log.
    RangeDelete = 2,
    /// Changes what older versions of the key make of it, by an operator that this library does not have: it is kept, with
    /// everything below it, and its value is refused.
    Merge = 3,
    /// The key has a value that stands in a value file; the entry's value is a [pointer](super::values::Pointer). Only in
    /// tables.
    Pointer = 4,
}

impl Kind {
    pub(super) const COUNT: u8 = 5;

    /// Whether such an entry removes, and does nothing else.
    pub(crate) fn removes(self) -> bool {
        matches!(self, Self::Delete | Self::RangeDelete)
    }

    /// Whether the key of such an entry has a value.
    #[inline]
    pub(crate) fn has_value(self) -> bool {
        matches!(self, Self::Put | Self::Pointer)
    }
}
