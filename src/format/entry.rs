//! Entries: the same bytes in the log and in tables.
//!
//! ```text
//! offset  size  field
//!      0     1  bits 0-3 kind, 4 extension follows, 5-6 value alignment (none, 8, 16), 7 oldest
//!      1     5  low 40 bits of the sequence number
//!      6     2  key length k
//!      8     4  value length v
//!     12     k  key
//!   12+k     v  value
//!              zeros up to the next multiple of 8
//! ```

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::values::{POINTER_BYTES, Pointer};
use super::{SEQUENCE_SPAN, Sequence, align_up, bytes};
use crate::error::{Damage, Fault, Feature};

/// What an entry says about its key. Kind 3 (merge operand) is reserved.
/// A word wide, so that an [`Entry`] has no padding: copies of padding are odd-sized moves that stall the loads behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Kind {
    Put = 0,
    Delete = 1,
    /// Removes a range of keys that begins at the entry's key; see [`range_of`](super::range::range_of). Only in the log.
    RangeDelete = 2,
    /// The key has a value that stands in a value file; the entry's value is a [`Pointer`]. Only in tables.
    Pointer = 4,
}

impl Kind {
    /// Whether the key of such an entry has a value.
    #[inline]
    pub(crate) fn has_value(self) -> bool {
        matches!(self, Self::Put | Self::Pointer)
    }
}

/// What completes the numbers in the headers of entries to sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// The smallest one.
    pub(crate) min: Sequence,
    /// That of entries marked as oldest: 0, unless the manifest gives their table one.
    pub(crate) oldest: Sequence,
}

impl From<Sequence> for Base {
    #[inline]
    fn from(min: Sequence) -> Self {
        Self { min, oldest: Sequence(0) }
    }
}

const KIND: u8 = 0x0f;
const OLDEST: u8 = 0x80;
const SEQUENCE_MASK: u64 = SEQUENCE_SPAN - 1;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct EntryHeader {
    flags: u8,
    sequence: [u8; 5],
    key_bytes: U16,
    value_bytes: U32,
}

pub(crate) const ENTRY_HEADER_BYTES: u64 = 12;
const _: () = assert!(size_of::<EntryHeader>() == 12 && align_of::<EntryHeader>() == 1);

/// The least space that an entry takes.
pub(crate) const ENTRY_BYTES_MIN: u64 = 16;

/// Space that an entry takes, padding included.
#[inline]
#[expect(clippy::arithmetic_side_effects, reason = "the sum of three numbers below 2^33")]
pub(crate) fn entry_bytes(key_bytes: u64, value_bytes: u64) -> u64 {
    align_up(ENTRY_HEADER_BYTES + key_bytes + value_bytes)
}

impl EntryHeader {
    /// A header; lengths are cut to their fields, whose limits the caller has checked.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the commit checks KEY_BYTES_MAX and VALUE_BYTES_MAX")]
    pub(crate) fn new(kind: Kind, sequence: Sequence, key: &[u8], value: &[u8]) -> Self {
        debug_assert!(key.len() <= super::KEY_BYTES_MAX && value.len() <= super::VALUE_BYTES_MAX);
        Self {
            flags: kind as u8,
            sequence: low_bytes(sequence),
            key_bytes: U16::new(key.len() as u16),
            value_bytes: U32::new(value.len() as u32),
        }
    }

    /// Space that the entry takes, padding included.
    #[inline]
    pub(crate) fn span(&self) -> u64 {
        entry_bytes(u64::from(self.key_bytes.get()), u64::from(self.value_bytes.get()))
    }

    /// The same header with another sequence number: how a batch gets its place in history.
    #[inline]
    pub(crate) fn set_sequence(&mut self, sequence: Sequence) {
        self.sequence = low_bytes(sequence);
    }

    /// The same header marked as the oldest version that anyone can see; it then reads as sequence 0, and says so, because
    /// zeros shrink better.
    pub(crate) fn mark_oldest(&mut self) {
        self.flags |= OLDEST;
        self.sequence = [0; 5];
    }

    #[inline]
    pub(crate) fn is_marked_oldest(&self) -> bool {
        self.flags & OLDEST != 0
    }

    /// The same header with this number in place of the mark.
    pub(crate) fn unmark_oldest(&mut self, sequence: Sequence) {
        self.flags &= !OLDEST;
        self.set_sequence(sequence);
    }

    /// The absolute sequence number.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "base is below 2^63 and the distance below 2^40")]
    fn sequence(&self, base: Base) -> Sequence {
        if self.is_marked_oldest() {
            return base.oldest;
        }
        let mut low = [0; 8];
        if let Some(bytes) = low.first_chunk_mut::<5>() {
            *bytes = self.sequence;
        }
        let low = u64::from_le_bytes(low);
        Sequence(base.min.0 + (low.wrapping_sub(base.min.0) & SEQUENCE_MASK))
    }
}

#[inline]
fn low_bytes(sequence: Sequence) -> [u8; 5] {
    sequence.0.to_le_bytes().first_chunk().copied().unwrap_or_default()
}

/// A decoded entry: where its parts are in the bytes it was decoded from.
///
/// Invariant: `start < key_start <= value_start <= end <= length of the bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) start: usize,
    pub(crate) key_start: usize,
    pub(crate) value_start: usize,
    /// End of the value; the next entry starts at [`next`](Self::next).
    pub(crate) end: usize,
    pub(crate) sequence: Sequence,
    pub(crate) kind: Kind,
}

impl Entry {
    /// Decodes the entry at `start` of a log segment, which must end, padding included, at or before `limit`.
    #[inline]
    pub(crate) fn parse(file: &[u8], start: usize, limit: usize, base: impl Into<Base>) -> Result<Self, Fault> {
        let entry = Self::decode(file, start, limit, base.into())?;
        if entry.kind == Kind::Pointer { Err(Damage::BadField.into()) } else { Ok(entry) }
    }

    /// Like [`parse`](Self::parse), in a table: range tombstones stand apart there and not among the entries, and values may
    /// stand in value files.
    #[inline]
    pub(crate) fn parse_in_table(file: &[u8], start: usize, limit: usize, base: Base) -> Result<Self, Fault> {
        let entry = Self::decode(file, start, limit, base)?;
        let misplaced = match entry.kind {
            Kind::Put | Kind::Delete => false,
            Kind::RangeDelete => true,
            Kind::Pointer => entry.end.wrapping_sub(entry.value_start) != POINTER_BYTES,
        };
        if misplaced { Err(Damage::BadField.into()) } else { Ok(entry) }
    }

    #[inline]
    fn decode(file: &[u8], start: usize, limit: usize, base: Base) -> Result<Self, Fault> {
        let region = file.get(start..limit).ok_or(Damage::OutOfBounds)?;
        let (header, _) = EntryHeader::read_from_prefix(region).map_err(|_| Damage::OutOfBounds)?;
        let kind = match header.flags & !OLDEST {
            0 => Kind::Put,
            1 => Kind::Delete,
            2 => Kind::RangeDelete,
            4 => Kind::Pointer,
            other => return Err(Feature::EntryKind(other).into()),
        };
        let key_bytes = usize::from(header.key_bytes.get());
        let value_bytes = usize::try_from(header.value_bytes.get()).map_err(|_| Damage::OutOfBounds)?;
        if u64::try_from(region.len()).is_ok_and(|length| length < header.span()) {
            return Err(Damage::OutOfBounds.into());
        }
        // The span fits into `region`, so none of these sums overflows.
        let key_start = start.wrapping_add(size_of::<EntryHeader>());
        let value_start = key_start.wrapping_add(key_bytes);
        Ok(Self {
            start,
            key_start,
            value_start,
            end: value_start.wrapping_add(value_bytes),
            sequence: header.sequence(base),
            kind,
        })
    }

    #[inline]
    pub(crate) fn key<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        file.get(self.key_start..self.value_start).unwrap_or_default()
    }

    /// The length of its value; of a pointer, that of the pointer.
    #[inline]
    pub(crate) fn value_bytes(&self) -> usize {
        self.end.saturating_sub(self.value_start)
    }

    /// Where the value of an entry that is a pointer stands.
    #[inline]
    pub(crate) fn pointer(&self, file: &[u8]) -> Result<Pointer, Damage> {
        Pointer::decode(self.value(file))
    }

    #[inline]
    pub(crate) fn value<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        file.get(self.value_start..self.end).unwrap_or_default()
    }

    /// The whole entry, padding included, as it is copied by flush and compaction.
    #[inline]
    pub(crate) fn raw<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        file.get(self.start..self.next()).unwrap_or_default()
    }

    /// Where the next entry starts.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "`parse` has checked that the padded end is inside the bytes")]
    pub(crate) fn next(&self) -> usize {
        let length = self.end - self.start;
        self.start + ((length + 7) & !7)
    }
}

/// Appends an entry to `out`, padding included.
pub(crate) fn push_entry(out: &mut Vec<u8>, kind: Kind, sequence: Sequence, key: &[u8], value: &[u8]) {
    out.extend_from_slice(EntryHeader::new(kind, sequence, key, value).as_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    pad(out);
}

/// Replaces `out` by the same entry with a pointer as its value, and answers its places there.
#[expect(clippy::cast_possible_truncation, reason = "a pointer has 24 bytes")]
pub(crate) fn copy_with_pointer(
    out: &mut Vec<u8>,
    entry: &Entry,
    file: &[u8],
    pointer: Pointer,
) -> Result<Entry, Damage> {
    let mut header = header_at(file, entry.start)?;
    header.flags = (header.flags & !KIND) | Kind::Pointer as u8;
    header.value_bytes = U32::new(POINTER_BYTES as u32);
    out.clear();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(file.get(entry.start.saturating_add(out.len())..entry.value_start).unwrap_or_default());
    let value_start = out.len();
    out.extend_from_slice(&pointer.encode());
    let end = out.len();
    pad(out);
    let key_start = entry.key_start.saturating_sub(entry.start);
    Ok(Entry { start: 0, key_start, value_start, end, sequence: entry.sequence, kind: Kind::Pointer })
}

/// Appends zeros up to the next multiple of [`UNIT`](super::UNIT).
pub(crate) fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(8), 0);
}

/// Copies an entry into `out`, which has exactly [`entry_bytes`] bytes.
#[inline]
pub(crate) fn write_entry(out: &mut [u8], kind: Kind, sequence: Sequence, key: &[u8], value: &[u8]) {
    let header = EntryHeader::new(kind, sequence, key, value);
    let mut rest = out;
    for part in [header.as_bytes(), key, value] {
        let Some((head, tail)) = rest.split_at_mut_checked(part.len()) else { return };
        head.copy_from_slice(part);
        rest = tail;
    }
    rest.fill(0);
}

/// Gives the entries of `run` (headers to be patched in place) consecutive sequence numbers from `first`; answers how many.
pub(crate) fn stamp(run: &mut [u8], first: Sequence) -> u64 {
    let mut rest = run;
    let mut sequence = first.0;
    while let Ok((header, _)) = EntryHeader::mut_from_prefix(rest) {
        header.set_sequence(Sequence(sequence));
        let span = usize::try_from(header.span()).unwrap_or(usize::MAX);
        sequence = sequence.wrapping_add(1);
        rest = rest.split_at_mut_checked(span).map_or(&mut [], |(_, tail)| tail);
    }
    sequence.wrapping_sub(first.0)
}

/// Reads the raw header at `start`, for marking a copy.
pub(crate) fn header_at(file: &[u8], start: usize) -> Result<EntryHeader, Damage> {
    bytes::read(file, u64::try_from(start).map_err(|_| Damage::OutOfBounds)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(key: &[u8], value: &[u8], sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        push_entry(&mut out, Kind::Put, Sequence(sequence), key, value);
        out
    }

    #[test]
    fn round_trip_and_size() {
        for (k, v) in [(0, 0), (1, 0), (16, 100), (255, 3), (65_535, 70_000)] {
            let (key, value) = (vec![b'k'; k], vec![b'v'; v]);
            let bytes = encoded(&key, &value, 9);
            assert_eq!(bytes.len() as u64, entry_bytes(k as u64, v as u64));
            let entry = Entry::parse(&bytes, 0, bytes.len(), Sequence(1)).unwrap();
            assert_eq!((entry.key(&bytes), entry.value(&bytes)), (&key[..], &value[..]));
            assert_eq!((entry.sequence, entry.kind, entry.next()), (Sequence(9), Kind::Put, bytes.len()));
            let mut written = vec![0xaa; bytes.len()];
            write_entry(&mut written, Kind::Put, Sequence(9), &key, &value);
            assert_eq!(written, bytes);
            assert_eq!(entry.raw(&bytes), bytes);
        }
        assert_eq!(entry_bytes(16, 100), 128, "the size the design counts with");
    }

    #[test]
    fn sequences_are_relative_to_a_base() {
        for (base, sequence) in [(0, 0), (5, 5 + (1 << 40) - 1), ((1 << 40) - 1, 1 << 40), (3 << 50, (3 << 50) + 77)] {
            let bytes = encoded(b"k", b"v", sequence);
            assert_eq!(Entry::parse(&bytes, 0, bytes.len(), Sequence(base)).unwrap().sequence, Sequence(sequence));
        }
    }

    #[test]
    fn cut_and_reserved_entries_are_refused() {
        let bytes = encoded(b"key", b"value", 1);
        for limit in 0..bytes.len() {
            assert!(Entry::parse(&bytes, 0, limit, Sequence(0)).is_err(), "{limit}");
        }
        for flags in (3..0x80).filter(|flags| *flags != 4) {
            let mut bad = bytes.clone();
            bad[0] = flags;
            assert_eq!(
                Entry::parse(&bad, 0, bad.len(), Sequence(0)),
                Err(Fault::Unsupported(Feature::EntryKind(flags)))
            );
        }
        let misplaced: Result<Entry, Fault> = Err(Damage::BadField.into());
        let of_kind = |kind: u8, value: &[u8]| {
            let mut bytes = Vec::new();
            push_entry(&mut bytes, Kind::Put, Sequence(1), b"key", value);
            bytes[0] = kind;
            bytes
        };
        let range = of_kind(2, b"value");
        assert_eq!(Entry::parse_in_table(&range, 0, range.len(), Sequence(0).into()), misplaced);
        for (length, good) in [(23, false), (24, true), (25, false)] {
            let pointer = of_kind(4, &vec![0; length]);
            assert_eq!(Entry::parse(&pointer, 0, pointer.len(), Sequence(0)), misplaced);
            assert_eq!(Entry::parse_in_table(&pointer, 0, pointer.len(), Sequence(0).into()).is_ok(), good, "{length}");
        }
        let mut oldest = bytes.clone();
        oldest[0] |= OLDEST;
        assert_eq!(Entry::parse(&oldest, 0, oldest.len(), Sequence(7)).unwrap().sequence, Sequence(0));
    }

    #[test]
    fn a_pointer_takes_the_place_of_a_value_and_of_nothing_else() {
        let mut bytes = vec![0xaa; 8];
        push_entry(&mut bytes, Kind::Put, Sequence(77), b"some key", &[b'v'; 5000]);
        let entry = Entry::parse(&bytes, 8, bytes.len(), Sequence(70)).unwrap();
        let pointer = Pointer { file: super::super::FileNumber(5), offset: 4096, length: 5000 };
        let mut copy = b"what was there before".to_vec();
        let found = copy_with_pointer(&mut copy, &entry, &bytes, pointer).unwrap();
        assert_eq!(Ok(found), Entry::parse_in_table(&copy, 0, copy.len(), Sequence(70).into()));
        assert_eq!((found.key(&copy), found.sequence, found.next()), (&b"some key"[..], Sequence(77), copy.len()));
        assert_eq!(found.pointer(&copy), Ok(pointer));
    }

    #[test]
    fn stamping_numbers_every_entry_of_a_run() {
        let mut run = [encoded(b"a", b"", 0), encoded(b"bb", b"value", 0), encoded(b"", b"x", 0)].concat();
        assert_eq!(stamp(&mut run, Sequence(41)), 3);
        let mut at = 0;
        for expected in 41..44 {
            let entry = Entry::parse(&run, at, run.len(), Sequence(0)).unwrap();
            assert_eq!(entry.sequence, Sequence(expected));
            at = entry.next();
        }
        assert_eq!(at, run.len());
    }
}
