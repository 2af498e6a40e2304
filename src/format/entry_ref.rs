//! FORMAT.md, section 6.
//!
//! Entries together with the bytes that they are in.

use std::ops::Deref;

use super::Sequence;
use super::entry::{Entry, EntryHeader, copy_with_pointer, header_at};
use super::extension::Extension;
use super::values::Pointer;
use crate::error::{Bug, Damage, Fault};

/// An entry and what it has been decoded from, so that nobody asks it with other bytes, which would answer something.
///
/// What keeps entries, or steps from one to the next, has an [`Entry`], and its bytes where they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryRef<'a> {
    entry: &'a Entry,
    bytes: &'a [u8],
}

impl Entry {
    /// The entry in the bytes that it has been decoded from.
    #[inline]
    pub(crate) fn in_bytes<'a>(&'a self, bytes: &'a [u8]) -> EntryRef<'a> {
        debug_assert!(self.next() <= bytes.len(), "an entry is not in its bytes");
        EntryRef { entry: self, bytes }
    }
}

/// What an entry says of itself alone.
impl Deref for EntryRef<'_> {
    type Target = Entry;

    #[inline]
    fn deref(&self) -> &Entry {
        self.entry
    }
}

impl<'a> EntryRef<'a> {
    /// The entry without its bytes.
    #[inline]
    pub(crate) fn place(self) -> &'a Entry {
        self.entry
    }

    #[inline]
    pub(crate) fn key(self) -> &'a [u8] {
        self.entry.key(self.bytes)
    }

    #[inline]
    pub(crate) fn value(self) -> &'a [u8] {
        self.entry.value(self.bytes)
    }

    /// Where the value of an entry that is a pointer stands.
    #[inline]
    pub(crate) fn pointer(self) -> Result<Pointer, Fault> {
        self.entry.pointer(self.bytes)
    }

    /// The same of any entry: none if it has its value itself.
    #[inline]
    pub(crate) fn any_pointer(self) -> Result<Option<Pointer>, Fault> {
        self.entry.any_pointer(self.bytes)
    }

    /// The whole entry, padding included, as it is copied by flush and compaction.
    #[inline]
    pub(crate) fn raw(self) -> &'a [u8] {
        self.entry.raw(self.bytes)
    }

    /// Replaces `out` by the same entry with a pointer as its value, and returns its places there.
    pub(crate) fn copy_with_pointer(self, out: &mut Vec<u8>, pointer: Pointer) -> Result<Entry, Bug> {
        copy_with_pointer(out, self.entry, self.bytes, pointer)
    }

    pub(crate) fn header(self) -> Result<EntryHeader, Damage> {
        header_at(self.bytes, self.entry.start)
    }

    /// Of a merge operand, the lowest sequence number for which it stands.
    pub(crate) fn folded_from(self) -> Sequence {
        match self.extension() {
            Some(Extension::FoldedFrom(distance)) => Sequence(self.sequence.0.saturating_sub(distance)),
            _ => self.sequence,
        }
    }

    /// The extension, if there is one.
    pub(crate) fn extension(self) -> Option<Extension> {
        self.entry.extension(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::alignment::Alignment;
    use crate::format::entry::{Kind, push_entry};

    #[test]
    fn an_entry_in_its_bytes_says_what_it_says_with_them() {
        let mut bytes = vec![0; 8];
        push_entry(&mut bytes, Kind::Put, Sequence(7), b"key", b"value", Alignment::None);
        let entry = Entry::parse(&bytes, 8, bytes.len(), Sequence(7)).unwrap();
        let found = entry.in_bytes(&bytes);
        assert_eq!((found.key(), found.value(), found.kind()), (&b"key"[..], &b"value"[..], Kind::Put));
        assert_eq!((found.sequence, found.place(), found.any_pointer()), (Sequence(7), &entry, Ok(None)));
        assert!(found.extension().is_none() && !found.header().unwrap().is_marked_oldest());
    }
}
