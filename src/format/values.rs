//! FORMAT.md, sections 6.5 and 10.11.
//!
//! Value files, and the pointers of tables into them.
//!
//! A `.val` has the frame of a [table](super::table) with an empty directory; its body is records, back to back, each at a
//! multiple of 16:
//!
//! ```text
//! header 24 | key k | zeros up to a multiple of 16 | value v | zeros up to a multiple of 16
//! ```
//!
//! A record says by itself what it is the value of, so that a file can be checked, shown and salvaged without its tables.

use std::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::bytes::{self, Part};
use super::checksum::Id;
use super::table::{FOOTER_BYTES, Frame, TABLE_HEADER_BYTES};
use super::{FILE_BYTES_MAX, FileNumber, KeyspaceId, NUMBER_MAX, Sequence};
use crate::error::{Bug, Damage, Fault, Feature, bug};

/// Records and values begin at a multiple of this many bytes.
pub(crate) const VALUE_UNIT: u64 = 16;

/// Length of an encoded [`Pointer`].
pub(crate) const POINTER_BYTES: usize = 24;

/// Where a value is that stands apart from its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) file: FileNumber,
    /// Where the value begins in the file.
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PointerRecord {
    file: U64,
    offset: U64,
    length: U32,
    /// Of the value. No version packs values yet.
    codec: u8,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<PointerRecord>() == POINTER_BYTES && align_of::<PointerRecord>() == 1);

impl Pointer {
    pub(crate) fn encode(self) -> [u8; POINTER_BYTES] {
        let record = PointerRecord {
            file: U64::new(self.file.0),
            offset: U64::new(self.offset),
            length: U32::new(self.length),
            codec: 0,
            reserved: [0; 3],
        };
        zerocopy::transmute!(record)
    }

    /// Reads the value of an entry that is a pointer.
    #[inline]
    pub(crate) fn decode(value: &[u8]) -> Result<Self, Fault> {
        let record = PointerRecord::read_from_bytes(value).map_err(|_| Damage::BadField)?;
        check_codec(record.codec)?;
        let (file, offset) = (record.file.get(), record.offset.get());
        let placed = offset.is_multiple_of(VALUE_UNIT) && offset < FILE_BYTES_MAX;
        if file >= NUMBER_MAX || !placed || record.reserved != [0; 3] {
            return Err(Damage::BadField.into());
        }
        Ok(Self { file: FileNumber(file), offset, length: record.length.get() })
    }

    /// Where the value ends.
    #[inline]
    pub(crate) fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.length))
    }

    /// Where the record of this value ends.
    pub(crate) fn record_end(self) -> u64 {
        self.offset.saturating_add(align_up(u64::from(self.length)))
    }

    /// Where the record of this value begins, given its key.
    #[inline]
    pub(crate) fn record_start(self, key_bytes: usize) -> Result<u64, Damage> {
        self.offset.checked_sub(head_bytes(key_bytes as u64)).ok_or(Damage::BadPointer)
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RecordHeader {
    keyspace: U32,
    key_bytes: U16,
    reserved: [u8; 2],
    sequence: U64,
    value_bytes: U32,
    codec: u8,
    reserved_tail: [u8; 3],
}

/// Whether a value is stored as it is.
#[inline]
fn check_codec(codec: u8) -> Result<(), Feature> {
    if codec == 0 { Ok(()) } else { Err(Feature::Algorithm(codec)) }
}

const RECORD_HEADER_BYTES: u64 = 24;
const _: () = assert!(size_of::<RecordHeader>() == 24 && align_of::<RecordHeader>() == 1);

#[expect(clippy::arithmetic_side_effects, reason = "sums of lengths of keys and values, below 2^33")]
const fn align_up(bytes: u64) -> u64 {
    (bytes + (VALUE_UNIT - 1)) & !(VALUE_UNIT - 1)
}

/// From the start of a record to its value.
#[expect(clippy::arithmetic_side_effects, reason = "the length of a key is below 2^16")]
const fn head_bytes(key_bytes: u64) -> u64 {
    align_up(RECORD_HEADER_BYTES + key_bytes)
}

/// Space that a record takes, padding included.
#[expect(clippy::arithmetic_side_effects, reason = "the sum of numbers below 2^33")]
pub(crate) const fn record_bytes(key_bytes: u64, value_bytes: u64) -> u64 {
    head_bytes(key_bytes) + align_up(value_bytes)
}

/// What stands in front of a value: header, key, padding. The lengths are those of an entry.
#[expect(clippy::cast_possible_truncation, reason = "an entry's lengths fit into their fields")]
pub(crate) fn encode_head(keyspace: KeyspaceId, sequence: Sequence, key: &[u8], value_bytes: u32) -> Vec<u8> {
    debug_assert!(key.len() <= super::KEY_BYTES_MAX);
    let header = RecordHeader {
        keyspace: U32::new(keyspace.0),
        key_bytes: U16::new(key.len() as u16),
        reserved: [0; 2],
        sequence: U64::new(sequence.0),
        value_bytes: U32::new(value_bytes),
        codec: 0,
        reserved_tail: [0; 3],
    };
    let mut head = header.as_bytes().to_vec();
    head.extend_from_slice(key);
    head.resize(head.len().next_multiple_of(16), 0);
    head
}

/// Zeros that stand behind a value of this length.
pub(crate) fn padding(value_bytes: u32) -> Result<&'static [u8], Bug> {
    const ZEROS: [u8; 16] = [0; 16];
    let value_bytes = u64::from(value_bytes);
    let padding = bytes::slice(&ZEROS, 0, align_up(value_bytes).wrapping_sub(value_bytes));
    padding.map_err(|_| bug("a value takes more than its next multiple of 16"))
}

/// A decoded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'f> {
    pub(crate) keyspace: KeyspaceId,
    /// That of the entry, or 0 if that was not known.
    pub(crate) sequence: Sequence,
    pub(crate) key: &'f [u8],
    /// Where the value begins.
    pub(crate) offset: u64,
    pub(crate) length: u32,
    /// Where the next record begins.
    pub(crate) next: u64,
}

/// Length of the part of a record that must be verified before anything in it is believed: its header.
pub(crate) const fn header_end(start: u64) -> u64 {
    start.saturating_add(RECORD_HEADER_BYTES)
}

/// Where the record at `start` ends, from its header alone, which has been verified.
pub(crate) fn record_end(file: Part<'_>, start: u64, limit: u64) -> Result<u64, Damage> {
    file.read::<RecordHeader>(start)?.end(start, limit)
}

impl RecordHeader {
    fn end(&self, start: u64, limit: u64) -> Result<u64, Damage> {
        let length = record_bytes(u64::from(self.key_bytes.get()), u64::from(self.value_bytes.get()));
        let end = start.checked_add(length).ok_or(Damage::OutOfBounds)?;
        if end <= limit { Ok(end) } else { Err(Damage::OutOfBounds) }
    }
}

impl<'f> Record<'f> {
    /// Where the value is.
    pub(crate) fn value(&self) -> Range<usize> {
        let place = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
        place(self.offset)..place(self.offset.saturating_add(self.length.into()))
    }

    /// Decodes the record at `start`, which must end, padding included, at or before `limit`. All its bytes have been
    /// verified.
    pub(crate) fn parse(file: Part<'f>, start: u64, limit: u64) -> Result<Self, Fault> {
        let header: RecordHeader = file.read(start)?;
        check_codec(header.codec)?;
        let next = header.end(start, limit)?;
        let (key_bytes, length) = (u64::from(header.key_bytes.get()), header.value_bytes.get());
        let key = file.slice(header_end(start), key_bytes)?;
        let offset = start.saturating_add(head_bytes(key_bytes));
        let behind_key = header_end(start).saturating_add(key_bytes);
        let behind_value = offset.saturating_add(u64::from(length));
        let paddings = [(behind_key, offset), (behind_value, next)];
        for (from, to) in paddings {
            if !bytes::all_zero(file.slice(from, to.saturating_sub(from))?) {
                return Err(Damage::BadField.into());
            }
        }
        let reserved = header.reserved == [0; 2] && header.reserved_tail == [0; 3];
        if !reserved || header.sequence.get() >= NUMBER_MAX {
            return Err(Damage::BadField.into());
        }
        let keyspace = KeyspaceId(header.keyspace.get());
        Ok(Self { keyspace, sequence: Sequence(header.sequence.get()), key, offset, length, next })
    }
}

/// What the manifest knows of a value file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValuesMeta {
    pub(crate) number: FileNumber,
    pub(crate) id: Id,
    pub(crate) file_bytes: u64,
    /// Length of all records.
    pub(crate) record_bytes: u64,
    pub(crate) records: u64,
    pub(crate) footer_checksum: u32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ValuesRecord {
    number: U64,
    id: Id,
    file_bytes: U64,
    record_bytes: U64,
    records: U64,
    footer_checksum: U32,
    reserved: [u8; 4],
}

const _: () = assert!(size_of::<ValuesRecord>() == 56 && align_of::<ValuesRecord>() == 1);

/// The shortest record: no key, a value of one byte or none.
const RECORD_BYTES_MIN: u64 = 32;

impl ValuesMeta {
    /// What a frame says of its file.
    pub(crate) fn of(number: FileNumber, frame: &Frame, file_bytes: u64) -> Self {
        Self {
            number,
            id: frame.id,
            file_bytes,
            record_bytes: frame.body_end.saturating_sub(TABLE_HEADER_BYTES),
            records: frame.totals.entries,
            footer_checksum: frame.footer_checksum,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let record = ValuesRecord {
            number: U64::new(self.number.0),
            id: self.id,
            file_bytes: U64::new(self.file_bytes),
            record_bytes: U64::new(self.record_bytes),
            records: U64::new(self.records),
            footer_checksum: U32::new(self.footer_checksum),
            reserved: [0; 4],
        };
        record.as_bytes().to_vec()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Damage> {
        let record = ValuesRecord::read_from_bytes(payload).map_err(|_| Damage::BadField)?;
        let meta = Self {
            number: FileNumber(record.number.get()),
            id: record.id,
            file_bytes: record.file_bytes.get(),
            record_bytes: record.record_bytes.get(),
            records: record.records.get(),
            footer_checksum: record.footer_checksum.get(),
        };
        let around = TABLE_HEADER_BYTES.saturating_add(FOOTER_BYTES);
        let lengths = meta.file_bytes <= FILE_BYTES_MAX
            && meta.record_bytes.saturating_add(around) <= meta.file_bytes
            && meta.record_bytes.is_multiple_of(VALUE_UNIT)
            && meta.records >= 1
            && meta.records <= meta.record_bytes / RECORD_BYTES_MIN;
        let reserved = record.reserved == [0; 4];
        if lengths && reserved && meta.number.0 < NUMBER_MAX { Ok(meta) } else { Err(Damage::BadField) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(keyspace: u32, sequence: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(value.len()).unwrap();
        let mut out = encode_head(KeyspaceId(keyspace), Sequence(sequence), key, length);
        out.extend_from_slice(value);
        out.extend_from_slice(padding(length).unwrap());
        out
    }

    #[test]
    fn records_round_trip_at_multiples_of_16() {
        for (k, v) in [(0, 0), (0, 1), (8, 16), (9, 17), (300, 5000), (65_535, 15)] {
            let (key, value) = (vec![b'k'; k], vec![b'v'; v]);
            let bytes = [record(3, 9, &key, &value), record(4, 0, b"next", b"")].concat();
            let limit = bytes.len() as u64;
            let first = Record::parse(Part::whole(&bytes), 0, limit).unwrap();
            assert_eq!((first.keyspace, first.sequence, first.key), (KeyspaceId(3), Sequence(9), &key[..]));
            assert_eq!((first.offset % 16, first.next % 16), (0, 0));
            assert_eq!(first.next, record_bytes(k as u64, v as u64));
            let pointer = Pointer { file: FileNumber(1), offset: first.offset, length: first.length };
            assert_eq!(pointer.record_start(k), Ok(0));
            assert_eq!(&bytes[usize::try_from(first.offset).unwrap()..][..v], &value[..]);
            assert_eq!(Record::parse(Part::whole(&bytes), first.next, limit).unwrap().key, b"next");
            assert_eq!(Record::parse(Part::whole(&bytes), 0, first.next - 1), Err(Damage::OutOfBounds.into()));
        }
    }

    #[test]
    fn padding_and_reserved_bytes_are_zero() {
        let good = record(0, 1, b"key", b"value");
        for at in [6, 7, 21, 23, 27, 31, 37, 47] {
            let mut bad = good.clone();
            bad[at] = 1;
            let refused = Record::parse(Part::whole(&bad), 0, bad.len() as u64);
            assert_eq!(refused, Err(Damage::BadField.into()), "byte {at}");
        }
        let mut packed = good.clone();
        packed[20] = 2;
        let refused = Record::parse(Part::whole(&packed), 0, packed.len() as u64);
        assert_eq!(refused, Err(Feature::Algorithm(2).into()));
    }

    #[test]
    fn pointers_are_checked() {
        let pointer = Pointer { file: FileNumber(7), offset: 4096, length: 99 };
        let good = pointer.encode();
        assert_eq!(Pointer::decode(&good), Ok(pointer));
        assert_eq!(pointer.end(), 4195);
        assert_eq!(pointer.record_start(65_000), Err(Damage::BadPointer));
        for (at, byte) in [(7, 0x80), (8, 1), (15, 1), (21, 1), (23, 1)] {
            let mut bad = good;
            bad[at] = byte;
            assert_eq!(Pointer::decode(&bad), Err(Damage::BadField.into()), "byte {at}");
        }
        let mut packed = good;
        packed[20] = 1;
        assert_eq!(Pointer::decode(&packed), Err(Feature::Algorithm(1).into()));
        assert_eq!(Pointer::decode(&good[..23]), Err(Damage::BadField.into()));
    }

    #[test]
    fn manifest_records_are_checked() {
        let meta = ValuesMeta {
            number: FileNumber(4),
            id: [7; 16],
            file_bytes: 4096,
            record_bytes: 64,
            records: 2,
            footer_checksum: 5,
        };
        let good = meta.encode();
        assert_eq!(ValuesMeta::decode(&good), Ok(meta));
        // A number of 2^63, a file too short for its records, records at no multiple of 16, none, too many, reserved bytes.
        for (at, byte) in [(7, 0x80), (25, 0), (32, 65), (40, 0), (40, 3), (52, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(ValuesMeta::decode(&bad), Err(Damage::BadField), "byte {at}");
        }
        assert_eq!(ValuesMeta::decode(&good[..48]), Err(Damage::BadField));
    }
}
