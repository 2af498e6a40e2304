//! The frame of `.sst` and `.idx` files, and the directory of an `.sst`.
//!
//! ```text
//! header      64 bytes
//! body        entries (.sst), or filters and indexes (.idx); ends at a multiple of 8
//! checksums   pages of up to 1,023 chunk checksums and one of the page itself
//! directory   one record per keyspace section
//! footer      128 bytes, at the end of the file
//! ```
//!
//! Every byte is covered: header and body by the chunk checksums (chunk 0 begins at offset 0), the checksum pages by their
//! own, the directory by the footer, the footer by itself.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::{Id, Seed};
use super::prefix::{Magic, Prefix};
use super::range::{Edge, Fragment, bounds, bounds_byte, decode_fragments};
use super::{FILE_BYTES_MAX, FileNumber, KeyspaceId, NUMBER_MAX, Sequence, UNIT, align_up, bytes};
use crate::error::{Damage, Fault, Feature};

/// Smallest and largest checksum chunk as powers of two: 4 KiB, one page, to 1 MiB.
pub(crate) const CHUNK_LOG2: std::ops::RangeInclusive<u8> = 12..=20;

pub(crate) const TABLE_HEADER_BYTES: u64 = 64;
pub(crate) const FOOTER_BYTES: u64 = 128;
const SUMS_PER_PAGE: u64 = 1023;
const SUM_BYTES: u64 = 4;
const PAGE_BYTES: u64 = (SUMS_PER_PAGE + 1) * SUM_BYTES;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct TableHeader {
    prefix: Prefix,
    id: Id,
    chunk_log2: u8,
    reserved: [u8; 19],
    checksum: U32,
}

const HEADER_CHECKED: u64 = 60;
const _: () = assert!(size_of::<TableHeader>() == 64 && align_of::<TableHeader>() == 1);

impl TableHeader {
    pub(crate) fn new(magic: Magic, id: Id, chunk_log2: u8) -> Self {
        let mut header = Self { prefix: Prefix::new(magic), id, chunk_log2, reserved: [0; 19], checksum: U32::ZERO };
        header.checksum = U32::new(header.sum());
        header
    }

    pub(crate) fn parse(file: &[u8], magic: Magic) -> Result<Self, Fault> {
        let header: Self = bytes::read(file, 0).map_err(|_| Damage::Truncated)?;
        header.prefix.check(magic)?;
        if header.checksum.get() != header.sum() {
            return Err(Damage::BadChecksum.into());
        }
        if !bytes::all_zero(&header.reserved) || !CHUNK_LOG2.contains(&header.chunk_log2) {
            return Err(Damage::BadField.into());
        }
        Ok(header)
    }

    fn sum(&self) -> u32 {
        Seed::of_table(&self.id).sum(0, bytes::slice(self.as_bytes(), 0, HEADER_CHECKED).unwrap_or_default())
    }

    pub(crate) fn id(&self) -> Id {
        self.id
    }

    pub(crate) fn chunk_log2(&self) -> u8 {
        self.chunk_log2
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Footer {
    magic: [u8; 8],
    id: Id,
    file_bytes: U64,
    body_end: U64,
    directory_offset: U64,
    directory_bytes: U64,
    section_count: U32,
    directory_checksum: U32,
    entries: U64,
    min_sequence: U64,
    max_sequence: U64,
    reserved: [u8; 36],
    checksum: U32,
}

const FOOTER_CHECKED: u64 = 124;
const _: () = assert!(size_of::<Footer>() == 128 && align_of::<Footer>() == 1);

/// The totals that a footer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) entries: u64,
    pub(crate) min_sequence: Sequence,
    pub(crate) max_sequence: Sequence,
}

/// A checked frame: where the parts of a table or index file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) id: Id,
    pub(crate) seed: Seed,
    pub(crate) chunk_log2: u8,
    pub(crate) body_end: u64,
    pub(crate) directory_offset: u64,
    pub(crate) directory_bytes: u64,
    pub(crate) section_count: u32,
    pub(crate) totals: Totals,
    pub(crate) footer_checksum: u32,
}

/// Chunks of `body_end` bytes.
pub(crate) fn chunk_count(body_end: u64, chunk_log2: u8) -> u64 {
    body_end.div_ceil(1 << chunk_log2)
}

/// Size of the pages that hold `chunks` checksums.
#[expect(clippy::arithmetic_side_effects, reason = "at most 2^23 chunks")]
fn checksums_bytes(chunks: u64) -> u64 {
    (chunks + chunks.div_ceil(SUMS_PER_PAGE)) * SUM_BYTES
}

/// Everything behind the body: checksum pages, directory and footer, to be appended to it.
#[expect(clippy::arithmetic_side_effects, reason = "offsets below FILE_BYTES_MAX, which the writer checks")]
pub(crate) fn encode_tail(
    magic: Magic,
    id: Id,
    body_end: u64,
    sums: &[u32],
    directory: &[u8],
    section_count: u32,
    totals: Totals,
) -> Vec<u8> {
    let seed = Seed::of_table(&id);
    let mut tail = Vec::new();
    for page in sums.chunks(1023) {
        let start = tail.len();
        for sum in page {
            tail.extend_from_slice(&sum.to_le_bytes());
        }
        let page_sum = seed.sum(body_end + start as u64, tail.get(start..).unwrap_or_default());
        tail.extend_from_slice(&page_sum.to_le_bytes());
    }
    super::entry::pad(&mut tail);
    let directory_offset = body_end + tail.len() as u64;
    tail.extend_from_slice(directory);
    let mut footer = Footer {
        magic: magic.0,
        id,
        file_bytes: U64::new(body_end + tail.len() as u64 + FOOTER_BYTES),
        body_end: U64::new(body_end),
        directory_offset: U64::new(directory_offset),
        directory_bytes: U64::new(directory.len() as u64),
        section_count: U32::new(section_count),
        directory_checksum: U32::new(seed.sum(directory_offset, directory)),
        entries: U64::new(totals.entries),
        min_sequence: U64::new(totals.min_sequence.0),
        max_sequence: U64::new(totals.max_sequence.0),
        reserved: [0; 36],
        checksum: U32::ZERO,
    };
    let footer_offset = body_end + tail.len() as u64;
    footer.checksum = U32::new(footer.sum(seed, footer_offset));
    tail.extend_from_slice(footer.as_bytes());
    tail
}

impl Footer {
    fn sum(&self, seed: Seed, offset: u64) -> u32 {
        seed.sum(offset, bytes::slice(self.as_bytes(), 0, FOOTER_CHECKED).unwrap_or_default())
    }
}

impl Frame {
    /// Checks header, footer and directory of a whole file. On damage, answers the offset as well.
    pub(crate) fn parse(file: &[u8], magic: Magic) -> Result<Self, (u64, Fault)> {
        let header = TableHeader::parse(file, magic).map_err(|fault| (0, fault))?;
        let seed = Seed::of_table(&header.id);
        let length = file.len() as u64;
        let footer_offset = length.checked_sub(FOOTER_BYTES).ok_or((length, Damage::Truncated.into()))?;
        let bad = |damage: Damage| (footer_offset, Fault::from(damage));
        let footer: Footer = bytes::read(file, footer_offset).map_err(bad)?;
        if footer.magic != magic.0 {
            return Err(bad(Damage::BadMagic));
        }
        if footer.checksum.get() != footer.sum(seed, footer_offset) {
            return Err(bad(Damage::BadChecksum));
        }
        if footer.id != header.id {
            return Err(bad(Damage::WrongFile));
        }
        if footer.file_bytes.get() != length || length > FILE_BYTES_MAX {
            return Err(bad(Damage::WrongLength));
        }
        let frame = Self {
            id: header.id,
            seed,
            chunk_log2: header.chunk_log2,
            body_end: footer.body_end.get(),
            directory_offset: footer.directory_offset.get(),
            directory_bytes: footer.directory_bytes.get(),
            section_count: footer.section_count.get(),
            totals: Totals {
                entries: footer.entries.get(),
                min_sequence: Sequence(footer.min_sequence.get()),
                max_sequence: Sequence(footer.max_sequence.get()),
            },
            footer_checksum: footer.checksum.get(),
        };
        frame.check_places(footer_offset).map_err(bad)?;
        if !bytes::all_zero(&footer.reserved) || frame.totals.max_sequence.0 >= NUMBER_MAX {
            return Err(bad(Damage::BadField));
        }
        let at_directory = |damage: Damage| (frame.directory_offset, Fault::from(damage));
        let directory = frame.directory(file).map_err(at_directory)?;
        if footer.directory_checksum.get() != seed.sum(frame.directory_offset, directory) {
            return Err(at_directory(Damage::BadChecksum));
        }
        Ok(frame)
    }

    /// The parts follow each other without gaps.
    fn check_places(&self, footer_offset: u64) -> Result<(), Damage> {
        if self.body_end < TABLE_HEADER_BYTES || self.body_end > footer_offset || !self.body_end.is_multiple_of(UNIT) {
            return Err(Damage::OutOfBounds);
        }
        let checksums = align_up(checksums_bytes(chunk_count(self.body_end, self.chunk_log2)));
        if self.body_end.checked_add(checksums) != Some(self.directory_offset) {
            return Err(Damage::OutOfBounds);
        }
        if self.directory_offset.checked_add(self.directory_bytes) != Some(footer_offset) {
            return Err(Damage::OutOfBounds);
        }
        Ok(())
    }

    pub(crate) fn directory<'a>(&self, file: &'a [u8]) -> Result<&'a [u8], Damage> {
        bytes::slice(file, self.directory_offset, self.directory_bytes)
    }

    pub(crate) fn chunks(&self) -> u64 {
        chunk_count(self.body_end, self.chunk_log2)
    }

    /// Where chunk `chunk` is, clipped to the body.
    pub(crate) fn chunk_range(&self, chunk: u64) -> (u64, u64) {
        let start = chunk << self.chunk_log2;
        (start, (1 << self.chunk_log2).min(self.body_end.saturating_sub(start)))
    }

    /// Computes the checksum of a chunk of the body and compares it with the stored one; checks the page that holds that as
    /// well if `check_page`. Answers the offset of the damage.
    #[expect(clippy::arithmetic_side_effects, reason = "offsets of a frame whose places have been checked")]
    pub(crate) fn check_chunk(&self, file: &[u8], chunk: u64, check_page: bool) -> Result<(), (u64, Damage)> {
        let page_start = self.body_end + chunk / SUMS_PER_PAGE * PAGE_BYTES;
        if check_page {
            self.check_page(file, chunk / SUMS_PER_PAGE)?;
        }
        let slot = page_start + chunk % SUMS_PER_PAGE * SUM_BYTES;
        let stored: U32 = bytes::read(file, slot).map_err(|damage| (slot, damage))?;
        let (start, length) = self.chunk_range(chunk);
        let chunk_bytes = bytes::slice(file, start, length).map_err(|damage| (start, damage))?;
        if self.seed.sum(start, chunk_bytes) != stored.get() {
            return Err((start, Damage::BadChecksum));
        }
        Ok(())
    }

    /// Checks one page of chunk checksums.
    #[expect(clippy::arithmetic_side_effects, reason = "offsets of a frame whose places have been checked")]
    fn check_page(&self, file: &[u8], page: u64) -> Result<(), (u64, Damage)> {
        let start = self.body_end + page * PAGE_BYTES;
        let sums = SUMS_PER_PAGE.min(self.chunks().saturating_sub(page * SUMS_PER_PAGE));
        let at_page = |damage| (start, damage);
        let page_bytes = bytes::slice(file, start, sums * SUM_BYTES).map_err(at_page)?;
        let stored: U32 = bytes::read(file, start + sums * SUM_BYTES).map_err(at_page)?;
        if self.seed.sum(start, page_bytes) != stored.get() {
            return Err((start, Damage::BadChecksum));
        }
        Ok(())
    }

    /// The padding between the checksum pages and the directory is zero.
    pub(crate) fn check_padding(&self, file: &[u8]) -> Result<(), (u64, Damage)> {
        let end = self.body_end.saturating_add(checksums_bytes(self.chunks()));
        let padding = bytes::slice(file, end, self.directory_offset.saturating_sub(end)).map_err(|d| (end, d))?;
        if bytes::all_zero(padding) { Ok(()) } else { Err((end, Damage::BadField)) }
    }
}

/// One keyspace's part of an `.sst`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SectionRecord {
    keyspace: U32,
    key_order: u8,
    hash: u8,
    compression: u8,
    encryption: u8,
    hash_seed: U64,
    start: U64,
    end: U64,
    entries: U64,
    keys: U64,
    tombstones: U64,
    range_tombstones_offset: U64,
    range_tombstones_bytes: U64,
    range_tombstones: U64,
    min_sequence: U64,
    max_sequence: U64,
    interval: U16,
    alignment_log2: u8,
    /// The sides of the two keys on which the bounds lie.
    bounds: u8,
    lower_key_bytes: U16,
    upper_key_bytes: U16,
    blocks_offset: U64,
    blocks: U32,
    flags: U16,
    value_files: U16,
    reserved: [u8; 8],
}

const _: () = assert!(size_of::<SectionRecord>() == 128 && align_of::<SectionRecord>() == 1);

/// All entries have the sequence number that the manifest gives the table.
const TAKES_GLOBAL_SEQUENCE: u16 = 1;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ValueFileRecord {
    number: U64,
    values: U64,
    bytes: U64,
}

const VALUE_FILE_RECORD_BYTES: u64 = 24;
const _: () = assert!(size_of::<ValueFileRecord>() == 24 && align_of::<ValueFileRecord>() == 1);

/// How the blocks of a section are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Codec {
    /// There are no blocks: entries stand in the file as they are.
    #[default]
    None = 0,
    Lz4 = 1,
    Zstd = 2,
}

impl Codec {
    pub(crate) fn decode(byte: u8) -> Result<Self, Fault> {
        match byte {
            0 => Ok(Self::None),
            1 => Ok(Self::Lz4),
            2 => Ok(Self::Zstd),
            other => Err(Feature::Algorithm(other).into()),
        }
    }
}

/// What a section has in one value file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueFileShare {
    pub(crate) file: FileNumber,
    /// Entries that point into it.
    pub(crate) values: u64,
    /// Bytes that these values take there.
    pub(crate) bytes: u64,
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
    /// Largest sequence number of such an entry or of a range tombstone.
    pub(crate) max_sequence: Sequence,
    pub(crate) interval: u16,
    /// All keys and all range tombstones lie between these.
    pub(crate) lower: Edge,
    pub(crate) upper: Edge,
    pub(crate) codec: Codec,
    /// How many blocks there are, and where the directory of them is; both 0 without a codec.
    pub(crate) blocks: u32,
    pub(crate) blocks_offset: u64,
    /// Values start at multiples of this power of two; 0 if anywhere.
    pub(crate) alignment_log2: u8,
    /// Whether the manifest says which sequence number all of it has.
    pub(crate) takes_global_sequence: bool,
    /// In order of the files' numbers.
    pub(crate) value_files: Vec<ValueFileShare>,
}

impl Section {
    /// Appends the directory record.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "keys have at most KEY_BYTES_MAX bytes, and one flush makes few value files"
    )]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let record = SectionRecord {
            keyspace: U32::new(self.keyspace.0),
            key_order: 0,
            hash: 0,
            compression: self.codec as u8,
            encryption: 0,
            hash_seed: U64::new(u64::from(self.keyspace.0)),
            start: U64::new(self.start),
            end: U64::new(self.end),
            entries: U64::new(self.entries),
            keys: U64::new(self.keys),
            tombstones: U64::new(self.tombstones),
            range_tombstones_offset: U64::new(if self.range_tombstones == 0 { 0 } else { self.end }),
            range_tombstones_bytes: U64::new(self.range_tombstones_bytes),
            range_tombstones: U64::new(self.range_tombstones),
            min_sequence: U64::new(self.min_sequence.0),
            max_sequence: U64::new(self.max_sequence.0),
            interval: U16::new(self.interval),
            alignment_log2: self.alignment_log2,
            bounds: bounds_byte(&self.lower, &self.upper),
            lower_key_bytes: U16::new(self.lower.key().len() as u16),
            upper_key_bytes: U16::new(self.upper.key().len() as u16),
            blocks_offset: U64::new(self.blocks_offset),
            blocks: U32::new(self.blocks),
            flags: U16::new(if self.takes_global_sequence { TAKES_GLOBAL_SEQUENCE } else { 0 }),
            value_files: U16::new(self.value_files.len() as u16),
            reserved: [0; 8],
        };
        out.extend_from_slice(record.as_bytes());
        out.extend_from_slice(self.lower.key());
        out.extend_from_slice(self.upper.key());
        super::entry::pad(out);
        for share in &self.value_files {
            let (number, values, bytes) = (U64::new(share.file.0), U64::new(share.values), U64::new(share.bytes));
            out.extend_from_slice(ValueFileRecord { number, values, bytes }.as_bytes());
        }
    }

    /// Decodes the record at the front of `rest`, answers it and what follows.
    pub(crate) fn decode(rest: &[u8]) -> Result<(Self, &[u8]), Fault> {
        let (record, rest) = SectionRecord::read_from_prefix(rest).map_err(|_| Damage::OutOfBounds)?;
        for algorithm in [record.key_order, record.hash, record.encryption] {
            if algorithm != 0 {
                return Err(Feature::Algorithm(algorithm).into());
            }
        }
        let codec = Codec::decode(record.compression)?;
        if !matches!(record.alignment_log2, 0 | 3 | 4) {
            return Err(Feature::Algorithm(record.alignment_log2).into());
        }
        if record.flags.get() & !TAKES_GLOBAL_SEQUENCE != 0 {
            return Err(Feature::RequiredBits(record.flags.get().into()).into());
        }
        if record.reserved != [0; 8] {
            return Err(Damage::BadField.into());
        }
        let keyspace = KeyspaceId(record.keyspace.get());
        let has_ranges = record.range_tombstones.get() != 0;
        let ranges_offset = if has_ranges { record.end.get() } else { 0 };
        let ranges_placed = record.range_tombstones_offset.get() == ranges_offset
            && has_ranges == (record.range_tombstones_bytes.get() != 0);
        if !ranges_placed || record.hash_seed.get() != u64::from(keyspace.0) {
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
            keyspace,
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
            blocks_offset: record.blocks_offset.get(),
            alignment_log2: record.alignment_log2,
            takes_global_sequence: record.flags.get() & TAKES_GLOBAL_SEQUENCE != 0,
            value_files,
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
        if !counts || !sequences || !aligned || !(1..=256).contains(&self.interval) {
            return Err(Damage::BadField);
        }
        // An entry takes at least 16 bytes, so a count cannot make a reader allocate more than the file's size.
        if self.entries > self.end.saturating_sub(self.start) / 16 {
            return Err(Damage::BadField);
        }
        Ok(())
    }

    /// Refuses what the format has a place for and no reader of this version understands.
    fn check_supported(&self) -> Result<(), Fault> {
        if self.codec != Codec::None || self.blocks != 0 || self.blocks_offset != 0 {
            return Err(Feature::Algorithm(self.codec as u8).into());
        }
        if self.alignment_log2 != 0 {
            return Err(Feature::Algorithm(self.alignment_log2).into());
        }
        if self.takes_global_sequence {
            return Err(Feature::RequiredBits(TAKES_GLOBAL_SEQUENCE.into()).into());
        }
        if self.value_files.is_empty() { Ok(()) } else { Err(Feature::EntryKind(4).into()) }
    }

    /// Where the section ends, range tombstones included.
    pub(crate) fn ranges_end(&self) -> u64 {
        self.end.saturating_add(self.range_tombstones_bytes)
    }

    /// The range tombstones of the section, whose chunks have been verified.
    pub(crate) fn fragments(&self, file: &[u8]) -> Result<Vec<Fragment>, Damage> {
        let fragments = bytes::slice(file, self.end, self.range_tombstones_bytes)?;
        decode_fragments(fragments, self.range_tombstones, (&self.lower, &self.upper), self.max_sequence)
    }

    /// Decodes a whole directory; sections are in order of keyspace and fill the body.
    pub(crate) fn decode_directory(frame: &Frame, mut rest: &[u8]) -> Result<Vec<Self>, Fault> {
        let mut sections: Vec<Self> = Vec::new();
        let mut start = TABLE_HEADER_BYTES;
        for _ in 0..frame.section_count {
            let (section, tail) = Self::decode(rest)?;
            if section.start != start || sections.last().is_some_and(|last| last.keyspace >= section.keyspace) {
                return Err(Damage::OutOfOrder.into());
            }
            (start, rest) = (section.ranges_end(), tail);
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

/// Decodes `count` shares of value files, in order of number, and answers what follows.
fn decode_value_files(rest: &[u8], count: u16) -> Result<(Vec<ValueFileShare>, &[u8]), Damage> {
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

    /// A frame over an arbitrary body, with `chunk_log2` 12.
    fn file(body_bytes: usize) -> Vec<u8> {
        let id = [9; 16];
        let mut file = TableHeader::new(Magic::INDEX, id, 12).as_bytes().to_vec();
        file.extend((0..body_bytes).map(|i| (i % 251) as u8));
        let seed = Seed::of_table(&id);
        let sums: Vec<u32> = file.chunks(4096).enumerate().map(|(i, c)| seed.sum(i as u64 * 4096, c)).collect();
        let tail = encode_tail(Magic::INDEX, id, file.len() as u64, &sums, b"directory-record", 1, Totals::default());
        [file, tail].concat()
    }

    #[test]
    fn frames_of_all_page_shapes_parse_and_verify() {
        for body in [0, 8, 4096 - 64, 4096, 1023 * 4096 - 64, 1023 * 4096, 1024 * 4096] {
            let file = file(body);
            let frame = Frame::parse(&file, Magic::INDEX).unwrap();
            assert_eq!(frame.directory(&file).unwrap(), b"directory-record");
            for chunk in 0..frame.chunks() {
                frame.check_chunk(&file, chunk, true).unwrap();
            }
            frame.check_padding(&file).unwrap();
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = file(5000);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let found = match Frame::parse(&bad, Magic::INDEX) {
                Err(_) => true,
                Ok(frame) => {
                    (0..frame.chunks()).any(|chunk| frame.check_chunk(&bad, chunk, true).is_err())
                        || frame.check_padding(&bad).is_err()
                }
            };
            assert!(found, "bit {bit}");
        }
    }
}
