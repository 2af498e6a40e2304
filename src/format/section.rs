//! FORMAT.md, section 10.4.
//!
//! The directory of an `.sst`: what it holds of each keyspace.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::alignment::Alignment;
use super::block::{BLOCK_LOG2, BLOCK_RECORD_BYTES, BlockPlace, align_block, blocks_max};
use super::codec::Codec;
use super::entry::{Base, ENTRY_BYTES_MIN};
use super::fragment::FragmentList;
use super::range::{Edge, bounds, bounds_byte};
use super::table::{Frame, TABLE_HEADER_BYTES};
use super::values::{Pointer, record_bytes};
use super::{FILE_BYTES_MAX, FileNumber, KeyspaceId, NUMBER_MAX, Sequence, UNIT, align_up, bytes};
use crate::error::{Damage, Fault, Feature};

/// One keyspace's part of an `.sst`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SectionRecord {
    /// Length of this structure, further fields of a later version included.
    record_bytes: U16,
    /// A reader that does not know one of these bits must refuse the section.
    required: U16,
    keyspace: U32,
    key_order: u8,
    hash: u8,
    compression: u8,
    encryption: u8,
    alignment_log2: u8,
    block_log2: u8,
    /// The sides of the two keys on which the bounds lie.
    bounds: u8,
    reserved: u8,
    start: U64,
    end: U64,
    entries: U64,
    keys: U64,
    tombstones: U64,
    range_tombstones: U64,
    range_tombstones_bytes: U64,
    min_sequence: U64,
    max_sequence: U64,
    interval: U16,
    lower_key_bytes: U16,
    upper_key_bytes: U16,
    /// A reader may ignore these bits.
    optional: U16,
    blocks: U32,
    value_files: U32,
}

const RECORD_BYTES: u16 = 104;
const _: () = assert!(size_of::<SectionRecord>() == RECORD_BYTES as usize && align_of::<SectionRecord>() == 1);

/// All entries have the sequence number that the manifest gives the table.
const TAKES_GLOBAL_SEQUENCE: u16 = 1;

/// What a later writer has said in a record beside what this version knows, and a reader passes over. The manifest is to
/// repeat the directory of each table byte for byte, so it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Later {
    /// Bits that may be ignored.
    pub(crate) optional: u32,
    /// The bytes of further fields.
    pub(crate) fields: Vec<u8>,
}

impl Later {
    /// The length of a record that takes `known` bytes without further fields.
    #[expect(clippy::cast_possible_truncation, reason = "as it was read, from a field of this size")]
    pub(super) fn record_bytes(&self, known: u16) -> U16 {
        U16::new(known.saturating_add(self.fields.len() as u16))
    }

    /// Splits what follows the known fields of a record into further ones and the rest.
    pub(super) fn split(record_bytes: U16, known: u16, optional: u32, rest: &[u8]) -> Result<(Self, &[u8]), Damage> {
        let further = record_bytes.get().checked_sub(known).ok_or(Damage::BadField)?;
        if !u64::from(record_bytes.get()).is_multiple_of(UNIT) {
            return Err(Damage::BadField);
        }
        let (fields, rest) = rest.split_at_checked(further.into()).ok_or(Damage::OutOfBounds)?;
        Ok((Self { optional, fields: fields.to_vec() }, rest))
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ValueFileRecord {
    number: U64,
    values: U64,
    bytes: U64,
}

const VALUE_FILE_RECORD_BYTES: u64 = 24;
const _: () = assert!(size_of::<ValueFileRecord>() == 24 && align_of::<ValueFileRecord>() == 1);

/// What a section has in one value file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueFileShare {
    pub(crate) file: FileNumber,
    /// Entries that point into it.
    pub(crate) values: u64,
    /// Bytes that these values take there.
    pub(crate) bytes: u64,
}

/// Counts a value that an entry of a section points to.
pub(crate) fn count_value(shares: &mut Vec<ValueFileShare>, pointer: Pointer, key_bytes: usize) {
    let length = record_bytes(key_bytes as u64, pointer.length.into());
    let at = shares.binary_search_by_key(&pointer.file, |share| share.file).unwrap_or_else(|at| {
        shares.insert(at, ValueFileShare { file: pointer.file, values: 0, bytes: 0 });
        at
    });
    if let Some(share) = shares.get_mut(at) {
        share.values = share.values.saturating_add(1);
        share.bytes = share.bytes.saturating_add(length);
    }
}

/// A checked section: which entries are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) keyspace: KeyspaceId,
    /// Range of its entries in the file.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) entries: u64,
    /// Different keys among the entries.
    pub(crate) keys: u64,
    pub(crate) tombstones: u64,
    /// Fragments of range tombstones; they stand right behind the entries.
    pub(crate) range_tombstones: u64,
    pub(crate) range_tombstones_bytes: u64,
    /// Smallest sequence number of an entry without the `oldest` mark; the base of all of them.
    pub(crate) min_sequence: Sequence,
    /// Largest sequence number of such an entry or of a range tombstone. If the section takes a global one, both are that
    /// (see [`set_global_sequence`](Self::set_global_sequence)); in the file, they are the last one in front of the load.
    pub(crate) max_sequence: Sequence,
    pub(crate) interval: u16,
    /// All keys and all range tombstones lie between these.
    pub(crate) lower: Edge,
    pub(crate) upper: Edge,
    pub(crate) codec: Codec,
    /// How many blocks there are; 0 without a codec.
    pub(crate) blocks: u32,
    /// The block size as a power of two; 0 without a codec.
    pub(crate) block_log2: u8,
    /// Of the values of all its entries.
    pub(crate) alignment: Alignment,
    /// Whether the manifest says which sequence number all of it has.
    pub(crate) takes_global_sequence: bool,
    /// In order of the files' numbers.
    pub(crate) value_files: Vec<ValueFileShare>,
    pub(crate) later: Later,
}

impl Section {
    /// Appends the directory record.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "keys have at most KEY_BYTES_MAX bytes, there are fewer value files than entries, and optional bits are 16"
    )]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let record = SectionRecord {
            record_bytes: self.later.record_bytes(RECORD_BYTES),
            required: U16::new(if self.takes_global_sequence { TAKES_GLOBAL_SEQUENCE } else { 0 }),
            keyspace: U32::new(self.keyspace.0),
            key_order: 0,
            hash: 0,
            compression: self.codec as u8,
            encryption: 0,
            alignment_log2: self.alignment.log2(),
            block_log2: self.block_log2,
            bounds: bounds_byte(&self.lower, &self.upper),
            reserved: 0,
            start: U64::new(self.start),
            end: U64::new(self.end),
            entries: U64::new(self.entries),
            keys: U64::new(self.keys),
            tombstones: U64::new(self.tombstones),
            range_tombstones: U64::new(self.range_tombstones),
            range_tombstones_bytes: U64::new(self.range_tombstones_bytes),
            min_sequence: U64::new(self.min_sequence.0),
            max_sequence: U64::new(self.max_sequence.0),
            interval: U16::new(self.interval),
            lower_key_bytes: U16::new(self.lower.key().len() as u16),
            upper_key_bytes: U16::new(self.upper.key().len() as u16),
            optional: U16::new(self.later.optional as u16),
            blocks: U32::new(self.blocks),
            value_files: U32::new(self.value_files.len() as u32),
        };
        out.extend_from_slice(record.as_bytes());
        out.extend_from_slice(&self.later.fields);
        out.extend_from_slice(self.lower.key());
        out.extend_from_slice(self.upper.key());
        super::pad(out);
        for share in &self.value_files {
            let (number, values, bytes) = (U64::new(share.file.0), U64::new(share.values), U64::new(share.bytes));
            out.extend_from_slice(ValueFileRecord { number, values, bytes }.as_bytes());
        }
    }

    /// Decodes the record at the front of `rest`, returns it and what follows.
    pub(crate) fn decode(rest: &[u8]) -> Result<(Self, &[u8]), Fault> {
        let (record, rest) = SectionRecord::read_from_prefix(rest).map_err(|_| Damage::OutOfBounds)?;
        let (later, rest) = Later::split(record.record_bytes, RECORD_BYTES, record.optional.get().into(), rest)?;
        let required = record.required.get();
        if required & !TAKES_GLOBAL_SEQUENCE != 0 {
            return Err(Feature::RequiredBits(required.into()).into());
        }
        for algorithm in [record.key_order, record.hash, record.encryption] {
            if algorithm != 0 {
                return Err(Feature::Algorithm(algorithm).into());
            }
        }
        let codec = Codec::decode(record.compression)?;
        let log2 = record.alignment_log2;
        let alignment = Alignment::of_log2(log2).ok_or(Feature::Algorithm(log2))?;
        let has_ranges = record.range_tombstones.get() != 0;
        if record.reserved != 0 || has_ranges != (record.range_tombstones_bytes.get() != 0) {
            return Err(Damage::BadField.into());
        }
        let lower_bytes = u64::from(record.lower_key_bytes.get());
        let upper_bytes = u64::from(record.upper_key_bytes.get());
        let (lower_key, upper_key) =
            (bytes::slice(rest, 0, lower_bytes)?, bytes::slice(rest, lower_bytes, upper_bytes)?);
        let (lower, upper) = bounds(record.bounds, lower_key, upper_key)?;
        let keys_end = lower_bytes.saturating_add(upper_bytes);
        let padded = align_up(keys_end);
        if !bytes::all_zero(bytes::slice(rest, keys_end, padded.saturating_sub(keys_end))?) {
            return Err(Damage::BadField.into());
        }
        let rest = usize::try_from(padded).ok().and_then(|padded| rest.get(padded..)).ok_or(Damage::OutOfBounds)?;
        let (value_files, rest) = decode_value_files(rest, record.value_files.get())?;
        let section = Self {
            keyspace: KeyspaceId(record.keyspace.get()),
            start: record.start.get(),
            end: record.end.get(),
            entries: record.entries.get(),
            keys: record.keys.get(),
            tombstones: record.tombstones.get(),
            range_tombstones: record.range_tombstones.get(),
            range_tombstones_bytes: record.range_tombstones_bytes.get(),
            min_sequence: Sequence(record.min_sequence.get()),
            max_sequence: Sequence(record.max_sequence.get()),
            interval: record.interval.get(),
            lower,
            upper,
            codec,
            blocks: record.blocks.get(),
            block_log2: record.block_log2,
            alignment,
            takes_global_sequence: required & TAKES_GLOBAL_SEQUENCE != 0,
            value_files,
            later,
        };
        section.check()?;
        section.check_supported()?;
        Ok((section, rest))
    }

    fn check(&self) -> Result<(), Damage> {
        if self.start > self.end {
            return Err(Damage::OutOfOrder);
        }
        let empty = self.entries == 0 && self.start == self.end && self.range_tombstones > 0;
        let filled = self.keys >= 1 && self.start < self.end;
        let counts = self.keys <= self.entries && self.tombstones <= self.entries && (empty || filled);
        let sequences = self.min_sequence <= self.max_sequence && self.max_sequence.0 < NUMBER_MAX;
        let aligned =
            [self.start, self.end, self.range_tombstones_bytes].iter().all(|place| place.is_multiple_of(UNIT));
        let global = !self.takes_global_sequence
            || (self.min_sequence == self.max_sequence && self.tombstones == 0 && self.range_tombstones == 0);
        if !counts || !sequences || !aligned || !global || !(1..=256).contains(&self.interval) {
            return Err(Damage::BadField);
        }
        let pointers = self.value_files.iter().fold(0u64, |sum, share| sum.saturating_add(share.values));
        if pointers > self.entries.saturating_sub(self.tombstones) {
            return Err(Damage::BadField);
        }
        self.check_blocks()
    }

    /// An entry takes at least 16 bytes, so a count cannot make a reader allocate more than the file's size, unpacked.
    fn check_blocks(&self) -> Result<(), Damage> {
        let stored = self.end.saturating_sub(self.start);
        let (fields, room) = match self.codec {
            Codec::None => (self.blocks == 0 && self.block_log2 == 0, stored),
            _ if !BLOCK_LOG2.contains(&self.block_log2) => (false, 0),
            _ => {
                let blocks = u64::from(self.blocks);
                let counted = (1..=blocks_max(self.block_log2)).contains(&self.blocks) && blocks <= stored;
                (counted, blocks.saturating_mul(1 << self.block_log2))
            }
        };
        if fields && self.entries <= room / ENTRY_BYTES_MIN { Ok(()) } else { Err(Damage::BadField) }
    }

    /// Refuses what the format has a place for and no reader of this version understands.
    fn check_supported(&self) -> Result<(), Fault> {
        Ok(self.codec.check_built()?)
    }

    /// Whether there is one version of each key, tombstones among them.
    pub(crate) fn has_single_versions(&self) -> bool {
        self.entries == self.keys
    }

    /// What the sequence numbers of its entries are completed with.
    #[inline]
    pub(crate) fn base(&self) -> Base {
        let oldest = if self.takes_global_sequence { self.max_sequence } else { Sequence(0) };
        Base { min: self.min_sequence, oldest }
    }

    /// The smallest sequence number of its entries without the mark; if it has range tombstones alone, the largest of these.
    pub(crate) fn oldest_sequence(&self) -> Sequence {
        if self.entries == 0 { self.max_sequence } else { self.min_sequence }
    }

    /// Gives all entries the sequence number that the manifest has for the table, which is above those of the file.
    pub(crate) fn set_global_sequence(&mut self, sequence: Sequence) -> Result<(), Damage> {
        if self.takes_global_sequence != (sequence != Sequence(0)) {
            return Err(Damage::ManifestMismatch);
        }
        if self.takes_global_sequence {
            if sequence <= self.max_sequence {
                return Err(Damage::BadSequence);
            }
            (self.min_sequence, self.max_sequence) = (sequence, sequence);
        }
        Ok(())
    }

    /// Where the range tombstones end.
    pub(crate) fn ranges_end(&self) -> u64 {
        self.end.saturating_add(self.range_tombstones_bytes)
    }

    /// Where the directory of blocks begins, if there are any: behind the range tombstones.
    pub(crate) fn blocks_offset(&self) -> u64 {
        self.ranges_end()
    }

    /// Length of the directory of blocks.
    pub(crate) fn blocks_bytes(&self) -> u64 {
        u64::from(self.blocks).saturating_mul(BLOCK_RECORD_BYTES)
    }

    /// Where the section ends, with everything that belongs to it.
    pub(crate) fn parts_end(&self) -> u64 {
        self.blocks_offset().saturating_add(self.blocks_bytes())
    }

    /// Where block `number` is. Its record stands in the section's directory of blocks, whose chunks have been verified.
    pub(crate) fn block(&self, directory: &[u8], number: u32) -> Result<BlockPlace, Damage> {
        BlockPlace::read(directory, number, &(self.start..self.end), self.block_log2)
    }

    /// Checks all records of the directory of blocks: the blocks follow each other and fill the section, and there is room in
    /// them for its entries. On damage, returns the number of the record.
    pub(crate) fn check_block_records(&self, directory: &[u8]) -> Result<(), (u32, Damage)> {
        let mut start = align_block(self.start);
        let mut raw = 0u64;
        for number in 0..self.blocks {
            let place = self.block(directory, number).map_err(|damage| (number, damage))?;
            if place.start != start {
                return Err((number, Damage::OutOfOrder));
            }
            start = place.next();
            raw = raw.saturating_add(place.raw);
        }
        if start != self.end || self.entries > raw / ENTRY_BYTES_MIN {
            return Err((self.blocks, Damage::BadField));
        }
        Ok(())
    }

    /// The range tombstones of the section, whose chunks have been verified, from the bytes that they take.
    pub(crate) fn fragments(&self, bytes: &[u8]) -> Result<FragmentList, Damage> {
        FragmentList::decode(bytes, self.range_tombstones, (&self.lower, &self.upper), self.max_sequence)
    }

    /// Decodes a whole directory; sections are in order of keyspace and fill the body.
    pub(crate) fn decode_directory(frame: &Frame, mut rest: &[u8]) -> Result<Vec<Self>, Fault> {
        let mut sections: Vec<Self> = Vec::new();
        let mut start = TABLE_HEADER_BYTES;
        for _ in 0..frame.section_count {
            let (section, tail) = Self::decode(rest)?;
            let ordered = sections.last().is_none_or(|last| last.keyspace < section.keyspace);
            if !ordered || section.start != section.alignment.entry_start(start) {
                return Err(Damage::OutOfOrder.into());
            }
            (start, rest) = (section.parts_end(), tail);
            if start > frame.body_end {
                return Err(Damage::OutOfBounds.into());
            }
            sections.push(section);
        }
        if sections.is_empty() || start != frame.body_end || !rest.is_empty() {
            return Err(Damage::OutOfBounds.into());
        }
        let entries = sections.iter().fold(0u64, |sum, section| sum.saturating_add(section.entries));
        if entries != frame.totals.entries {
            return Err(Damage::BadField.into());
        }
        Ok(sections)
    }
}

/// Decodes `count` shares of value files, in order of number, and returns what follows.
fn decode_value_files(rest: &[u8], count: u32) -> Result<(Vec<ValueFileShare>, &[u8]), Damage> {
    let bytes = u64::from(count).saturating_mul(VALUE_FILE_RECORD_BYTES);
    let records: &[ValueFileRecord] = bytes::array(rest, 0, u64::from(count))?;
    let share = |record: &ValueFileRecord| ValueFileShare {
        file: FileNumber(record.number.get()),
        values: record.values.get(),
        bytes: record.bytes.get(),
    };
    let shares: Vec<ValueFileShare> = records.iter().map(share).collect();
    let ordered = shares.is_sorted_by(|a, b| a.file < b.file);
    let plausible = |share: &ValueFileShare| {
        (1..NUMBER_MAX).contains(&share.file.0) && share.values > 0 && share.bytes <= FILE_BYTES_MAX
    };
    if !ordered || !shares.iter().all(plausible) {
        return Err(Damage::BadField);
    }
    let rest = usize::try_from(bytes).ok().and_then(|bytes| rest.get(bytes..)).ok_or(Damage::OutOfBounds)?;
    Ok((shares, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_bounded_by_the_section_and_by_what_is_stored() {
        let section = Section {
            keyspace: KeyspaceId(0),
            start: 64,
            end: 64 + 4096,
            entries: 2,
            keys: 2,
            tombstones: 0,
            range_tombstones: 0,
            range_tombstones_bytes: 0,
            min_sequence: Sequence(1),
            max_sequence: Sequence(2),
            interval: 16,
            lower: Edge::Before(b"a".to_vec()),
            upper: Edge::After(b"b".to_vec()),
            codec: Codec::Lz4,
            blocks: 2,
            block_log2: 12,
            alignment: Alignment::None,
            takes_global_sequence: false,
            value_files: Vec::new(),
            later: Later::default(),
        };
        let good = [
            BlockPlace { start: 64, stored: 100, raw: 4096 },
            BlockPlace { start: 176, stored: 3984, raw: 3984 * 1024 },
        ];
        let directory = |places: &[BlockPlace]| {
            let mut out = Vec::new();
            for place in places {
                place.encode(&mut out);
            }
            out
        };
        assert_eq!(section.check_block_records(&directory(&good)), Ok(()));
        assert_eq!(section.check_block_records(&directory(&good[..1])), Err((1, Damage::OutOfBounds)));
        let with = |change: fn(&mut [BlockPlace; 2])| {
            let mut places = good;
            change(&mut places);
            section.check_block_records(&directory(&places))
        };
        assert_eq!(with(|p| p[0].raw = 0), Err((0, Damage::BadField)));
        assert_eq!(with(|p| p[0].raw = 96), Err((0, Damage::BadField)), "it must not grow");
        assert_eq!(with(|p| p[1].raw += 8), Err((1, Damage::BadField)), "a bomb");
        assert_eq!(with(|p| p[0].stored = 0), Err((0, Damage::BadField)));
        assert_eq!(with(|p| p[0].stored = u64::MAX), Err((0, Damage::OutOfBounds)));
        assert_eq!(with(|p| p[0].start = 48), Err((0, Damage::OutOfBounds)));
        assert_eq!(with(|p| p[0].start = 80), Err((0, Damage::OutOfOrder)));
        let shorter = |p: &mut [BlockPlace; 2]| (p[1].stored, p[1].raw) = (3968, 4096);
        assert_eq!(with(shorter), Err((2, Damage::BadField)), "blocks fill the section");
        assert_eq!(with(|p| p[1].stored += 1), Err((1, Damage::OutOfBounds)));
    }
}
