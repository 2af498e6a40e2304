//! FORMAT.md, section 6.
//!
//! Entries: the same bytes in the log and in tables.
//!
//! ```text
//! offset  size  field
//!      0     1  bits 0-3 kind, 4 extension follows, 5-6 value alignment (none, 8, 16), 7 oldest
//!      1     5  low 40 bits of the sequence number
//!      6     2  key length k
//!      8     4  value length v
//!     12     x  extension, 0 bytes without bit 4
//!   12+x     k  key
//!              zeros up to the alignment of the value
//!            v  value
//!              zeros up to the next multiple of 8, with alignment 16 of 16
//! ```

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::alignment::Alignment;
use super::extension::{Extension, extension_bytes};
use super::kind::KIND;
pub(crate) use super::kind::{Kind, kind_at};
use super::values::{POINTER_BYTES, Pointer};
use super::{SEQUENCE_SPAN, Sequence, align_up, bytes, pad};
use crate::error::{Bug, Damage, Fault, Feature, bug, must};

/// What completes the numbers in the headers of entries to sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

const EXTENSION: u8 = 0x10;
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

/// Space that an entry without an extension takes, padding included.
#[inline]
#[expect(clippy::arithmetic_side_effects, reason = "the sum of three numbers below 2^33")]
pub(crate) fn entry_bytes(key_bytes: u64, value_bytes: u64, alignment: Alignment) -> u64 {
    alignment.entry_start(alignment.value_start(ENTRY_HEADER_BYTES + key_bytes) + value_bytes)
}

/// An extension has at most 255 units, and may move the value by one more.
const EXTENSION_BYTES_MAX: u64 = 256 * super::UNIT;

impl EntryHeader {
    /// A header; lengths are cut to their fields, whose limits the caller has checked.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the commit checks KEY_BYTES_MAX and VALUE_BYTES_MAX")]
    pub(super) fn new(kind: Kind, sequence: Sequence, key: &[u8], value: &[u8], alignment: Alignment) -> Self {
        debug_assert!(key.len() <= super::KEY_BYTES_MAX && value.len() <= super::VALUE_BYTES_MAX);
        Self {
            flags: kind as u8 | alignment.flags(),
            sequence: low_bytes(sequence),
            key_bytes: U16::new(key.len() as u16),
            value_bytes: U32::new(value.len() as u32),
        }
    }

    /// Space that the entry takes if it has no extension, padding included.
    #[inline]
    fn span(&self) -> u64 {
        let alignment = Alignment::of_flags(self.flags).unwrap_or_default();
        entry_bytes(u64::from(self.key_bytes.get()), u64::from(self.value_bytes.get()), alignment)
    }

    /// The most that the entry takes, padding included, whatever the length of its extension turns out to be.
    pub(crate) fn span_max(&self) -> u64 {
        let extension = if self.flags & EXTENSION == 0 { 0 } else { EXTENSION_BYTES_MAX };
        self.span().saturating_add(extension)
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

    /// The same header in front of an extension.
    pub(super) fn with_extension(self) -> Self {
        Self { flags: self.flags | EXTENSION, ..self }
    }

    /// The absolute sequence number.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "base is below 2^63 and the distance below 2^40")]
    fn sequence(&self, base: Base) -> Sequence {
        if self.is_marked_oldest() {
            return base.oldest;
        }
        let mut low = [0; 8];
        low[..5].copy_from_slice(&self.sequence);
        let low = u64::from_le_bytes(low);
        Sequence(base.min.0 + (low.wrapping_sub(base.min.0) & SEQUENCE_MASK))
    }
}

#[inline]
fn low_bytes(sequence: Sequence) -> [u8; 5] {
    let mut low = [0; 5];
    low.copy_from_slice(&sequence.0.to_le_bytes()[..5]);
    low
}

/// A decoded entry: where its parts are in the bytes it was decoded from.
///
/// Invariant: `start < key_start <= key_end <= value_start() <= end <= length of the bytes`. All fields are words, so that
/// it has no padding: copies of padding are odd-sized moves that stall the loads behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) start: usize,
    pub(crate) key_start: usize,
    pub(crate) key_end: usize,
    /// End of the value; the next entry starts at [`next`](Self::next).
    pub(crate) end: usize,
    pub(crate) sequence: Sequence,
    shape: Shape,
}

/// The flags of an entry without `oldest` in the low byte, and above it the number of zeros between key and value. Of most
/// entries it is the kind and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape(usize);

const GAP_SHIFT: u32 = 8;

impl Shape {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low byte")]
    fn flags(self) -> u8 {
        self.0 as u8
    }

    /// The same one with another kind.
    fn of_kind(self, kind: Kind) -> Self {
        Self((self.0 & !usize::from(KIND)) | kind as usize)
    }

    fn alignment(self) -> Alignment {
        Alignment::of_flags(self.flags()).unwrap_or_default()
    }

    #[inline]
    fn gap(self) -> usize {
        self.0 >> GAP_SHIFT
    }

    /// One less than what the span is a multiple of: 7, or 15 if bit 6, an alignment of 16, is set.
    #[inline]
    fn mask(self) -> usize {
        7 | (self.0 >> 3 & 8)
    }
}

/// The shape of an entry whose flags say more than a kind, and the length of its extension; `region` begins with it.
#[cold]
#[inline(never)]
fn read_shape(region: &[u8], start: usize, flags: u8, key_bytes: usize) -> Result<(Shape, usize), Fault> {
    let alignment = Alignment::of_flags(flags).ok_or(Feature::EntryKind(flags))?;
    if flags & KIND >= Kind::COUNT {
        return Err(Feature::EntryKind(flags).into());
    }
    if alignment.entry_start(start as u64) != start as u64 {
        return Err(Damage::BadField.into());
    }
    let mut extension = 0;
    if flags & EXTENSION != 0 {
        let of_operand = flags & KIND == Kind::Merge as u8;
        extension = extension_bytes(region.get(size_of::<EntryHeader>()..).unwrap_or_default(), of_operand)?;
    }
    // Below 2^17, so that nothing here wraps.
    let key_end = ENTRY_HEADER_BYTES.wrapping_add(extension as u64).wrapping_add(key_bytes as u64);
    let gap = alignment.value_start(key_end).wrapping_sub(key_end);
    let gap = usize::try_from(gap).unwrap_or_default();
    Ok((Shape(usize::from(flags) | gap << GAP_SHIFT), extension))
}

impl Entry {
    /// Decodes the entry at `start` of a log segment, which must end, padding included, at or before `limit`.
    #[inline]
    pub(crate) fn parse(file: &[u8], start: usize, limit: usize, base: impl Into<Base>) -> Result<Self, Fault> {
        let entry = Self::decode(file, start, limit, base.into())?;
        if entry.kind() == Kind::Pointer { Err(Damage::BadField.into()) } else { Ok(entry) }
    }

    /// Like [`parse`](Self::parse), in a table: range tombstones stand apart there and not among the entries, and values may
    /// stand in value files.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "passed on in memory, the result would hold up every step of a scan")]
    pub(crate) fn parse_in_table(file: &[u8], start: usize, limit: usize, base: Base) -> Result<Self, Fault> {
        let entry = Self::decode(file, start, limit, base)?;
        let misplaced = match entry.kind() {
            Kind::Put | Kind::Delete | Kind::Merge => false,
            Kind::RangeDelete => true,
            Kind::Pointer => entry.value_bytes() != POINTER_BYTES,
        };
        if misplaced { Err(Damage::BadField.into()) } else { Ok(entry) }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    fn decode(file: &[u8], start: usize, limit: usize, base: Base) -> Result<Self, Fault> {
        let region = file.get(start..limit).ok_or(Damage::OutOfBounds)?;
        let (header, _) = EntryHeader::read_from_prefix(region).map_err(|_| Damage::OutOfBounds)?;
        let flags = header.flags & !OLDEST;
        let key_bytes = usize::from(header.key_bytes.get());
        // Where the value would end without what only some entries have.
        let plain = ENTRY_HEADER_BYTES.wrapping_add(key_bytes as u64).wrapping_add(header.value_bytes.get().into());
        // Most entries are plain and must not pay for the others: what these add is constant here.
        let (shape, key_offset, length, span) = if flags < Kind::COUNT {
            (Shape(usize::from(flags)), size_of::<EntryHeader>(), plain, align_up(plain))
        } else {
            let (shape, extension) = read_shape(region, start, flags, key_bytes)?;
            let length = plain.wrapping_add(extension as u64).wrapping_add(shape.gap() as u64);
            let span = shape.alignment().entry_start(length);
            (shape, size_of::<EntryHeader>().wrapping_add(extension), length, span)
        };
        if (region.len() as u64) < span {
            return Err(Damage::OutOfBounds.into());
        }
        let length = usize::try_from(length).map_err(|_| Damage::OutOfBounds)?;
        // The span fits into `region`, so none of these sums overflows.
        let key_start = start.wrapping_add(key_offset);
        Ok(Self {
            start,
            key_start,
            key_end: key_start.wrapping_add(key_bytes),
            end: start.wrapping_add(length),
            sequence: header.sequence(base),
            shape,
        })
    }

    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        Kind::of_flags(self.shape.flags() & KIND)
    }

    /// The alignment that its flags name.
    #[inline]
    pub(crate) fn alignment(&self) -> Alignment {
        self.shape.alignment()
    }

    /// Where the value begins: where the key ends, or a few zeros later.
    #[inline]
    pub(crate) fn value_start(&self) -> usize {
        self.key_end.wrapping_add(self.shape.gap())
    }

    #[inline]
    pub(crate) fn key<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        file.get(self.key_start..self.key_end).unwrap_or_default()
    }

    /// The length of its value; of a pointer, that of the pointer.
    #[inline]
    pub(crate) fn value_bytes(&self) -> usize {
        self.end.saturating_sub(self.value_start())
    }

    /// Where the value of an entry that is a pointer stands.
    #[inline]
    pub(crate) fn pointer(&self, file: &[u8]) -> Result<Pointer, Fault> {
        Pointer::decode(self.value(file))
    }

    /// The same of any entry: none if it has its value itself.
    #[inline]
    pub(crate) fn any_pointer(&self, file: &[u8]) -> Result<Option<Pointer>, Fault> {
        if self.kind() == Kind::Pointer { self.pointer(file).map(Some) } else { Ok(None) }
    }

    #[inline]
    pub(crate) fn value<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        file.get(self.value_start()..self.end).unwrap_or_default()
    }

    /// The extension, if there is one.
    pub(crate) fn extension(&self, file: &[u8]) -> Option<Extension> {
        let start = self.start.checked_add(size_of::<EntryHeader>())?;
        let bytes = file.get(start..self.key_start).filter(|bytes| !bytes.is_empty())?;
        Extension::read(bytes, self.kind() == Kind::Merge).ok()
    }

    /// The whole entry, padding included, as it is copied by flush and compaction.
    #[inline]
    pub(crate) fn raw<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        file.get(self.start..self.next()).unwrap_or_default()
    }

    /// The entry on its own: its bytes, padding included, and its places in them.
    pub(crate) fn detached(&self, file: &[u8]) -> (Self, Vec<u8>) {
        let [key_start, key_end, end] =
            [self.key_start, self.key_end, self.end].map(|at| at.saturating_sub(self.start));
        (Self { start: 0, key_start, key_end, end, ..*self }, self.raw(file).to_vec())
    }

    /// The same entry in other bytes, where it starts at `start`.
    pub(crate) fn moved_to(&self, start: usize) -> Self {
        let moved = |at: usize| at.wrapping_sub(self.start).wrapping_add(start);
        let [key_start, key_end, end] = [self.key_start, self.key_end, self.end].map(moved);
        Self { start, key_start, key_end, end, ..*self }
    }

    /// Where the next entry starts.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "`parse` has checked that the padded end is inside the bytes")]
    pub(crate) fn next(&self) -> usize {
        let length = self.end - self.start;
        let mask = self.shape.mask();
        self.start + ((length + mask) & !mask)
    }
}

/// The key of the entry of a table at `start`, which ends at or before `limit`, and where the next one starts, for who only
/// passes over it: less work than to parse it. None of those that are not plain, or wrong.
#[inline]
pub(crate) fn skim_in_table(file: &[u8], start: usize, limit: usize) -> Option<(&[u8], usize)> {
    let region = file.get(start..limit)?;
    let (header, rest) = EntryHeader::read_from_prefix(region).ok()?;
    let kind = header.flags & !OLDEST;
    if kind >= Kind::COUNT || kind == Kind::RangeDelete as u8 || kind == Kind::Pointer as u8 {
        return None;
    }
    let key_bytes = usize::from(header.key_bytes.get());
    let span = entry_bytes(key_bytes as u64, header.value_bytes.get().into(), Alignment::None);
    let span = usize::try_from(span).ok().filter(|span| *span <= region.len())?;
    Some((rest.get(..key_bytes)?, start.wrapping_add(span)))
}

/// The key of the entry at `start`, one that has been parsed before: this is less work.
#[inline]
pub(crate) fn key_at(file: &[u8], start: usize) -> Option<&[u8]> {
    let (header, rest) = EntryHeader::read_from_prefix(file.get(start..)?).ok()?;
    let extension = if header.flags & EXTENSION == 0 { 0 } else { usize::from(*rest.first()?) << 3 };
    rest.get(extension..)?.get(..usize::from(header.key_bytes.get()))
}

/// The sequence number of the entry at `start`, one that has been parsed before.
#[inline]
pub(crate) fn sequence_at(file: &[u8], start: usize, base: Sequence) -> Option<Sequence> {
    let (header, _) = EntryHeader::read_from_prefix(file.get(start..)?).ok()?;
    Some(header.sequence(base.into()))
}

/// Appends an entry to `out`, padding included.
#[expect(clippy::arithmetic_side_effects, reason = "the sum of lengths of values in memory")]
#[expect(clippy::cast_possible_truncation, reason = "`out` holds both, so their places are words")]
pub(crate) fn push_entry(
    out: &mut Vec<u8>,
    kind: Kind,
    sequence: Sequence,
    key: &[u8],
    value: &[u8],
    alignment: Alignment,
) {
    let start = out.len();
    let header = EntryHeader::new(kind, sequence, key, value, alignment);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(key);
    if alignment == Alignment::None {
        out.extend_from_slice(value);
        return pad(out);
    }
    out.resize(start + alignment.value_start((out.len() - start) as u64) as usize, 0);
    out.extend_from_slice(value);
    out.resize(start + alignment.entry_start((out.len() - start) as u64) as usize, 0);
}

/// Replaces `out` by the same entry, which has been parsed from `file`, with a pointer as its value, and returns its places
/// there.
#[expect(clippy::cast_possible_truncation, reason = "a pointer has 24 bytes")]
pub(super) fn copy_with_pointer(out: &mut Vec<u8>, entry: &Entry, file: &[u8], pointer: Pointer) -> Result<Entry, Bug> {
    let lost = |_| bug("an entry that has been parsed is not in its bytes");
    let mut header = header_at(file, entry.start).map_err(lost)?;
    header.flags = (header.flags & !KIND) | Kind::Pointer as u8;
    header.value_bytes = U32::new(POINTER_BYTES as u32);
    out.clear();
    out.extend_from_slice(header.as_bytes());
    // The extension, the key, and the zeros in front of the value, which are as many for another one.
    let before_value = entry.start.saturating_add(out.len())..entry.value_start();
    let before_value = file.get(before_value).ok_or_else(|| lost(Damage::OutOfBounds))?;
    out.extend_from_slice(before_value);
    out.extend_from_slice(&pointer.encode());
    let end = out.len();
    let padded = entry.alignment().entry_start(end as u64);
    out.resize(usize::try_from(padded).map_err(|_| bug("an entry without its value is too long"))?, 0);
    let [key_start, key_end] = [entry.key_start, entry.key_end].map(|at| at.saturating_sub(entry.start));
    Ok(Entry { start: 0, key_start, key_end, end, sequence: entry.sequence, shape: entry.shape.of_kind(Kind::Pointer) })
}

/// Copies an entry into `out`, which has exactly [`entry_bytes`] bytes, and every one of them is written.
#[inline]
pub(crate) fn write_entry(
    out: &mut [u8],
    kind: Kind,
    sequence: Sequence,
    key: &[u8],
    value: &[u8],
    alignment: Alignment,
) -> Result<(), Bug> {
    let header = EntryHeader::new(kind, sequence, key, value, alignment);
    must(out.len() as u64 == header.span(), "an entry has more or less room than it takes")?;
    let mut rest = put(put(out, header.as_bytes())?, key)?;
    if alignment != Alignment::None {
        let key_end = ENTRY_HEADER_BYTES.wrapping_add(key.len() as u64);
        let gap = alignment.value_start(key_end).wrapping_sub(key_end);
        let zeros = usize::try_from(gap).ok().and_then(|gap| [0; 16].get(..gap));
        rest = put(rest, zeros.ok_or_else(|| bug("a value is too far behind its key"))?)?;
    }
    put(rest, value)?.fill(0);
    Ok(())
}

/// Copies `part` to the front of `out`, and returns what is behind it.
#[inline]
fn put<'o>(out: &'o mut [u8], part: &[u8]) -> Result<&'o mut [u8], Bug> {
    let (head, rest) =
        out.split_at_mut_checked(part.len()).ok_or_else(|| bug("an entry has less room than it takes"))?;
    head.copy_from_slice(part);
    Ok(rest)
}

/// The alignment of the entries of a run that this process has made, all of one keyspace.
pub(crate) fn alignment_of(run: &[u8]) -> Result<Alignment, Bug> {
    let alignment = run.first().and_then(|flags| Alignment::of_flags(*flags));
    alignment.ok_or_else(|| bug("a run has no entry, or one without an alignment"))
}

/// Gives the entries of `run` (headers to be patched in place), which fill it, consecutive sequence numbers from `first`;
/// returns how many.
pub(crate) fn stamp(run: &mut [u8], first: Sequence) -> Result<u64, Bug> {
    let mut rest = run;
    let mut sequence = first.0;
    while !rest.is_empty() {
        let (header, _) = EntryHeader::mut_from_prefix(rest).map_err(|_| bug("half an entry ends a run"))?;
        header.set_sequence(Sequence(sequence));
        let span = usize::try_from(header.span()).ok();
        let (_, tail) = span
            .and_then(|span| rest.split_at_mut_checked(span))
            .ok_or_else(|| bug("an entry of a run is longer than the run"))?;
        sequence = sequence.wrapping_add(1);
        rest = tail;
    }
    Ok(sequence.wrapping_sub(first.0))
}

/// Reads the raw header at `start`, for marking a copy.
pub(crate) fn header_at(file: &[u8], start: usize) -> Result<EntryHeader, Damage> {
    bytes::read(file, u64::try_from(start).map_err(|_| Damage::OutOfBounds)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::tests::found_by;

    fn encoded(key: &[u8], value: &[u8], sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        push_entry(&mut out, Kind::Put, Sequence(sequence), key, value, Alignment::None);
        out
    }

    #[test]
    fn round_trip_and_size() {
        for (k, v) in [(0, 0), (1, 0), (4, 4), (5, 11), (16, 100), (255, 3), (65_535, 70_000)] {
            for alignment in Alignment::ALL {
                let (key, value) = (vec![b'k'; k], vec![b'v'; v]);
                let mut bytes = Vec::new();
                push_entry(&mut bytes, Kind::Put, Sequence(9), &key, &value, alignment);
                assert_eq!(bytes.len() as u64, entry_bytes(k as u64, v as u64, alignment));
                let entry = Entry::parse(&bytes, 0, bytes.len(), Sequence(1)).unwrap();
                assert_eq!((entry.key(&bytes), entry.value(&bytes)), (&key[..], &value[..]));
                assert_eq!((entry.sequence, entry.kind(), entry.next()), (Sequence(9), Kind::Put, bytes.len()));
                assert_eq!((entry.alignment(), entry.extension(&bytes)), (alignment, None));
                assert_eq!(entry.value_start() % (1 << alignment.log2()), 0);
                assert_eq!(bytes.len() as u64, alignment.entry_start(bytes.len() as u64));
                let mut written = vec![0xaa; bytes.len()];
                write_entry(&mut written, Kind::Put, Sequence(9), &key, &value, alignment).unwrap();
                assert_eq!(written, bytes);
                assert_eq!(entry.raw(&bytes), bytes);
                assert_eq!(key_at(&bytes, 0), Some(&key[..]));
                assert_eq!(sequence_at(&bytes, 0, Sequence(1)), Some(Sequence(9)));
                let behind = [&bytes[..], &bytes].concat();
                let second = Entry::parse(&behind, bytes.len(), behind.len(), Sequence(1)).unwrap();
                assert_eq!((second.key(&behind), second.value(&behind)), (&key[..], &value[..]));
            }
        }
        assert_eq!(entry_bytes(16, 100, Alignment::None), 128, "the size the design counts with");
    }

    #[test]
    fn extensions_stand_in_front_of_the_key() {
        let mut bytes = encoded(&[&[1, 0x81, 5, 0, 0, 0, 0, 0], &b"key"[..]].concat(), b"value", 1);
        bytes[0] |= EXTENSION;
        bytes[6] = 3;
        let entry = Entry::parse(&bytes, 0, bytes.len(), Sequence(0)).unwrap();
        assert_eq!((entry.key(&bytes), entry.value(&bytes), entry.next()), (&b"key"[..], &b"value"[..], bytes.len()));
        assert_eq!(entry.extension(&bytes), Some(Extension::Expiry(5)));
        assert_eq!((entry.raw(&bytes), key_at(&bytes, 0)), (&bytes[..], Some(&b"key"[..])));
        for limit in 0..bytes.len() {
            assert!(Entry::parse(&bytes, 0, limit, Sequence(0)).is_err(), "{limit}");
        }
        bytes[13] = 1;
        let refused = Entry::parse(&bytes, 0, bytes.len(), Sequence(0));
        assert_eq!(refused, Err(Feature::EntryExtension(1).into()));
        bytes[12..14].copy_from_slice(&[200, 0x82]);
        assert_eq!(Entry::parse(&bytes, 0, bytes.len(), Sequence(0)), Err(Damage::OutOfBounds.into()));

        // With both, the zeros follow from where the key ends.
        let mut bytes = Vec::new();
        push_entry(&mut bytes, Kind::Put, Sequence(1), &[1; 12], b"value", Alignment::Sixteen);
        bytes[0] |= EXTENSION;
        bytes[6] = 4;
        bytes[13] = 0x80;
        let entry = Entry::parse(&bytes, 0, bytes.len(), Sequence(0)).unwrap();
        assert_eq!((entry.key(&bytes), entry.value(&bytes)), (&[1; 4][..], &b"value"[..]));
        assert_eq!(entry.extension(&bytes), Some(Extension::Ignored(0x80)));
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
        for alignment in Alignment::ALL {
            let mut bytes = Vec::new();
            push_entry(&mut bytes, Kind::Put, Sequence(1), b"key", b"value", alignment);
            for limit in 0..bytes.len() {
                assert!(Entry::parse(&bytes, 0, limit, Sequence(0)).is_err(), "{limit}");
            }
            let mut oldest = bytes.clone();
            oldest[0] |= OLDEST;
            assert_eq!(Entry::parse(&oldest, 0, oldest.len(), Sequence(7)).unwrap().sequence, Sequence(0));
        }
        let bytes = encoded(b"key", b"value", 1);
        for flags in (5..16).chain(0x60..0x80).chain([0x25, 0x4f]) {
            let mut bad = bytes.clone();
            bad[0] = flags;
            let refused = Entry::parse(&bad, 0, bad.len(), Sequence(0));
            assert_eq!(refused, Err(Fault::Unsupported(Feature::EntryKind(flags))), "flags {flags:#x}");
        }
    }

    #[test]
    fn kinds_are_refused_in_the_wrong_files() {
        let misplaced: Result<Entry, Fault> = Err(Damage::BadField.into());
        for alignment in Alignment::ALL {
            let of_kind = |kind: u8, value: &[u8]| {
                let mut bytes = Vec::new();
                push_entry(&mut bytes, Kind::Put, Sequence(1), b"key", value, alignment);
                bytes[0] |= kind;
                bytes
            };
            let range = of_kind(2, b"value");
            assert_eq!(Entry::parse_in_table(&range, 0, range.len(), Sequence(0).into()), misplaced);
            for (length, good) in [(23, false), (24, true), (25, false)] {
                let pointer = of_kind(4, &vec![0; length]);
                assert_eq!(Entry::parse(&pointer, 0, pointer.len(), Sequence(0)), misplaced);
                let parsed = Entry::parse_in_table(&pointer, 0, pointer.len(), Sequence(0).into());
                assert_eq!(parsed.is_ok(), good, "{length}");
            }
        }
    }

    #[test]
    fn copies_with_pointers_keep_everything_but_the_value() {
        let pointer = Pointer { file: super::super::FileNumber(7), offset: 64, length: 5000 };
        for alignment in Alignment::ALL {
            let mut bytes = Vec::new();
            push_entry(&mut bytes, Kind::Put, Sequence(3), b"a key", &[1; 5000], alignment);
            let entry = Entry::parse(&bytes, 0, bytes.len(), Sequence(0)).unwrap();
            let mut out = Vec::new();
            let copy = copy_with_pointer(&mut out, &entry, &bytes, pointer).unwrap();
            assert_eq!(Entry::parse_in_table(&out, 0, out.len(), Sequence(0).into()), Ok(copy));
            assert_eq!((copy.next(), copy.kind(), copy.alignment()), (out.len(), Kind::Pointer, alignment));
            assert_eq!((copy.key(&out), copy.pointer(&out)), (&b"a key"[..], Ok(pointer)));
        }
    }

    #[test]
    fn an_aligned_entry_in_a_wrong_place_is_refused() {
        let mut bytes = vec![0; 8];
        push_entry(&mut bytes, Kind::Put, Sequence(1), b"key", b"value", Alignment::Sixteen);
        assert_eq!(Entry::parse(&bytes, 8, bytes.len(), Sequence(0)), Err(Damage::BadField.into()));
    }

    #[test]
    fn a_pointer_takes_the_place_of_a_value_and_of_nothing_else() {
        let mut bytes = vec![0xaa; 8];
        push_entry(&mut bytes, Kind::Put, Sequence(77), b"some key", &[b'v'; 5000], Alignment::None);
        let entry = Entry::parse(&bytes, 8, bytes.len(), Sequence(70)).unwrap();
        let pointer = Pointer { file: super::super::FileNumber(5), offset: 4096, length: 5000 };
        let mut copy = b"what was there before".to_vec();
        let found = copy_with_pointer(&mut copy, &entry, &bytes, pointer).unwrap();
        assert_eq!(Ok(found), Entry::parse_in_table(&copy, 0, copy.len(), Sequence(70).into()));
        assert_eq!((found.key(&copy), found.sequence, found.next()), (&b"some key"[..], Sequence(77), copy.len()));
        assert_eq!(found.pointer(&copy), Ok(pointer));
    }

    #[test]
    fn nothing_is_written_into_less_or_more_room_than_it_takes() {
        for alignment in Alignment::ALL {
            let whole = entry_bytes(3, 5, alignment);
            for room in (0..whole).chain(whole + 8..whole + 40) {
                let found = found_by(|| {
                    let mut out = vec![0xaa; usize::try_from(room).unwrap()];
                    Ok(write_entry(&mut out, Kind::Put, Sequence(1), b"key", b"value", alignment)?)
                });
                assert!(found.contains("room than it takes"), "{room} of {whole}: {found}");
            }
        }
        for cut in 1..32 {
            let mut run = [encoded(b"a", b"", 0), encoded(b"b", b"v", 0)].concat();
            run.truncate(32 - cut);
            if run.len() != 16 {
                let found = found_by(|| Ok(stamp(&mut run, Sequence(1))?));
                assert!(found.contains("an entry"), "{found}");
            }
        }
    }

    #[test]
    fn stamping_numbers_every_entry_of_a_run() {
        for alignment in Alignment::ALL {
            let mut run = Vec::new();
            for (key, value) in [(&b"a"[..], &b""[..]), (b"bb", b"value"), (b"", b"x")] {
                push_entry(&mut run, Kind::Put, Sequence(0), key, value, alignment);
            }
            assert_eq!(alignment_of(&run), Ok(alignment));
            assert_eq!(stamp(&mut run, Sequence(41)), Ok(3));
            let mut at = 0;
            for expected in 41..44 {
                let entry = Entry::parse(&run, at, run.len(), Sequence(0)).unwrap();
                assert_eq!(entry.sequence, Sequence(expected));
                at = entry.next();
            }
            assert_eq!(at, run.len());
        }
    }
}
