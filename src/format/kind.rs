//! FORMAT.md, section 6.1.
//!
//! Kinds of entries.

/// The bits of the flags of an entry that are its kind.
pub(super) const KIND: u8 = 0x0f;

/// What an entry says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Put = 0,
    Delete = 1,
    /// Removes a range of keys that begins at the entry's key; see [`range_of`](super::range::range_of). Only in the log.
    RangeDelete = 2,
    /// Changes what older versions of the key make of it, by the operator of its keyspace. Without that, it is kept, with
    /// everything below it, and the value of the key is refused.
    Merge = 3,
    /// The key has a value that stands in a value file; the entry's value is a [pointer](super::values::Pointer). Only in
    /// tables.
    Pointer = 4,
}

impl Kind {
    pub(super) const COUNT: u8 = 5;

    /// That of an entry that has been parsed.
    #[inline]
    pub(super) fn of_flags(kind: u8) -> Self {
        match kind {
            0 => Self::Put,
            1 => Self::Delete,
            2 => Self::RangeDelete,
            3 => Self::Merge,
            _ => Self::Pointer,
        }
    }

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

/// The kind of the entry at `start`, one that has been parsed before.
#[inline]
pub(crate) fn kind_at(file: &[u8], start: usize) -> Option<Kind> {
    file.get(start).map(|flags| Kind::of_flags(*flags & KIND))
}
