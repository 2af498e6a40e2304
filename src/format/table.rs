//! FORMAT.md, sections 10.1 to 10.3.
//!
//! The frame of `.sst`, `.idx` and `.val` files.
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

use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::bytes::Part;
use super::checksum::{Id, Seed};
use super::prefix::{Magic, Prefix};
use super::{FILE_BYTES_MAX, NUMBER_MAX, Sequence, UNIT, align_up, bytes};
use crate::error::{Damage, Fault};

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
        let reserved = header.prefix.is_reserved_zero() && bytes::all_zero(&header.reserved);
        if !reserved || !CHUNK_LOG2.contains(&header.chunk_log2) {
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
pub(super) struct Footer {
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

/// Where the directory of a file with this body begins.
pub(super) fn directory_offset(body_end: u64, chunk_log2: u8) -> Option<u64> {
    // No file is longer; a larger number would overflow.
    let chunks = chunk_count(Some(body_end).filter(|end| *end <= FILE_BYTES_MAX)?, chunk_log2);
    body_end.checked_add(align_up(checksums_bytes(chunks)))
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
    super::pad(&mut tail);
    let directory_offset = body_end + tail.len() as u64;
    tail.extend_from_slice(directory);
    let footer = Footer::new(magic, id, body_end, directory_offset, directory, section_count, totals);
    tail.extend_from_slice(footer.as_bytes());
    tail
}

impl Footer {
    /// The sealed footer of a file whose directory stands at this offset and ends where the footer begins.
    pub(super) fn new(
        magic: Magic,
        id: Id,
        body_end: u64,
        directory_offset: u64,
        directory: &[u8],
        section_count: u32,
        totals: Totals,
    ) -> Self {
        let seed = Seed::of_table(&id);
        let footer_offset = directory_offset.saturating_add(directory.len() as u64);
        let mut footer = Self {
            magic: magic.0,
            id,
            file_bytes: U64::new(footer_offset.saturating_add(FOOTER_BYTES)),
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
        footer.checksum = U32::new(footer.sum(seed, footer_offset));
        footer
    }

    /// What stands at the end of a file, whether it is a footer or not.
    pub(super) fn of(file: &[u8]) -> Option<Self> {
        bytes::read(file, (file.len() as u64).checked_sub(FOOTER_BYTES)?).ok()
    }

    /// Whether it is one of a file of this kind and length, by its own checksum.
    pub(super) fn is_sealed(&self, magic: Magic, length: u64) -> bool {
        let sum = self.sum(Seed::of_table(&self.id), length.saturating_sub(FOOTER_BYTES));
        self.magic == magic.0 && self.file_bytes.get() == length && self.checksum.get() == sum
    }

    pub(super) fn id(&self) -> Id {
        self.id
    }

    pub(super) fn body_end(&self) -> u64 {
        self.body_end.get()
    }

    pub(super) fn directory_offset(&self) -> u64 {
        self.directory_offset.get()
    }

    pub(super) fn section_count(&self) -> u32 {
        self.section_count.get()
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            entries: self.entries.get(),
            min_sequence: Sequence(self.min_sequence.get()),
            max_sequence: Sequence(self.max_sequence.get()),
        }
    }

    pub(super) fn checksum(&self) -> u32 {
        self.checksum.get()
    }

    /// Whether it says the same as another one, whatever its checksum is.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let said = |footer: &Self| bytes::slice(footer.as_bytes(), 0, FOOTER_CHECKED).map(<[u8]>::to_vec);
        said(self) == said(other)
    }

    fn sum(&self, seed: Seed, offset: u64) -> u32 {
        seed.sum(offset, bytes::slice(self.as_bytes(), 0, FOOTER_CHECKED).unwrap_or_default())
    }
}

impl Frame {
    /// Checks header, footer and directory of a whole file. On damage, returns the offset as well.
    pub(crate) fn parse(file: &[u8], magic: Magic) -> Result<Self, (u64, Fault)> {
        let whole = Part::whole(file);
        let (frame, directory) = Self::parse_ends(file, whole, file.len() as u64, magic)?;
        frame.check_directory(whole, directory)?;
        Ok(frame)
    }

    /// Checks header and footer of a file of this length, given its first bytes and its last ones. Returns the checksum of
    /// the directory as well.
    pub(crate) fn parse_ends(
        header: &[u8],
        end: Part<'_>,
        length: u64,
        magic: Magic,
    ) -> Result<(Self, u32), (u64, Fault)> {
        let header = TableHeader::parse(header, magic).map_err(|fault| (0, fault))?;
        let seed = Seed::of_table(&header.id);
        let footer_offset = length.checked_sub(FOOTER_BYTES).ok_or((length, Damage::Truncated.into()))?;
        let bad = |damage: Damage| (footer_offset, Fault::from(damage));
        let footer: Footer = end.read(footer_offset).map_err(bad)?;
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
            totals: footer.totals(),
            footer_checksum: footer.checksum.get(),
        };
        frame.check_places(footer_offset).map_err(bad)?;
        if !bytes::all_zero(&footer.reserved) || frame.totals.max_sequence.0 >= NUMBER_MAX {
            return Err(bad(Damage::BadField));
        }
        Ok((frame, footer.directory_checksum.get()))
    }

    /// Checks the directory, which is in `tail`.
    pub(crate) fn check_directory(&self, tail: Part<'_>, checksum: u32) -> Result<(), (u64, Fault)> {
        let at_directory = |damage: Damage| (self.directory_offset, Fault::from(damage));
        let directory = self.directory(tail).map_err(at_directory)?;
        if checksum == self.seed.sum(self.directory_offset, directory) {
            Ok(())
        } else {
            Err(at_directory(Damage::BadChecksum))
        }
    }

    /// The parts follow each other without gaps.
    fn check_places(&self, footer_offset: u64) -> Result<(), Damage> {
        if self.body_end < TABLE_HEADER_BYTES || self.body_end > footer_offset || !self.body_end.is_multiple_of(UNIT) {
            return Err(Damage::OutOfBounds);
        }
        if directory_offset(self.body_end, self.chunk_log2) != Some(self.directory_offset) {
            return Err(Damage::OutOfBounds);
        }
        if self.directory_offset.checked_add(self.directory_bytes) != Some(footer_offset) {
            return Err(Damage::OutOfBounds);
        }
        Ok(())
    }

    /// The directory; `tail` has at least what follows the body, as everywhere here.
    pub(crate) fn directory<'a>(&self, tail: Part<'a>) -> Result<&'a [u8], Damage> {
        tail.slice(self.directory_offset, self.directory_bytes)
    }

    pub(crate) fn chunks(&self) -> u64 {
        chunk_count(self.body_end, self.chunk_log2)
    }

    /// Where chunk `chunk` is, clipped to the body.
    pub(crate) fn chunk_range(&self, chunk: u64) -> (u64, u64) {
        let start = chunk << self.chunk_log2;
        (start, (1 << self.chunk_log2).min(self.body_end.saturating_sub(start)))
    }

    /// Where the chunks that lie inside of a range of the body begin and end. If there are none, both are behind its begin.
    #[expect(clippy::arithmetic_side_effects, reason = "offsets of a frame whose places have been checked")]
    pub(crate) fn whole_chunks(&self, range: Range<u64>) -> (u64, u64) {
        let mask = (1 << self.chunk_log2) - 1;
        let from = ((range.start + mask) & !mask).min(self.body_end);
        let to = if range.end == self.body_end { range.end } else { range.end & !mask };
        (from, to.max(from))
    }

    /// Computes the checksum of a chunk of the body, whose bytes `body` has, and compares it with the stored one; checks the
    /// page that holds that as well if `check_page`. Returns the offset of the damage.
    #[expect(clippy::arithmetic_side_effects, reason = "offsets of a frame whose places have been checked")]
    pub(crate) fn check_chunk(
        &self,
        body: Part<'_>,
        tail: Part<'_>,
        chunk: u64,
        check_page: bool,
    ) -> Result<(), (u64, Damage)> {
        let page_start = self.body_end + chunk / SUMS_PER_PAGE * PAGE_BYTES;
        if check_page {
            self.check_page(tail, chunk / SUMS_PER_PAGE)?;
        }
        let slot = page_start + chunk % SUMS_PER_PAGE * SUM_BYTES;
        let stored: U32 = tail.read(slot).map_err(|damage| (slot, damage))?;
        let (start, length) = self.chunk_range(chunk);
        let chunk_bytes = body.slice(start, length).map_err(|damage| (start, damage))?;
        if self.seed.sum(start, chunk_bytes) != stored.get() {
            return Err((start, Damage::BadChecksum));
        }
        Ok(())
    }

    /// Checks one page of chunk checksums.
    pub(super) fn check_page(&self, tail: Part<'_>, page: u64) -> Result<(), (u64, Damage)> {
        let (start, sums) = self.page(page);
        let at_page = |damage| (start, damage);
        let length = sums.saturating_mul(SUM_BYTES);
        let page_bytes = tail.slice(start, length).map_err(at_page)?;
        let stored: U32 = tail.read(start.saturating_add(length)).map_err(at_page)?;
        if self.seed.sum(start, page_bytes) != stored.get() {
            return Err((start, Damage::BadChecksum));
        }
        Ok(())
    }

    /// Pages of chunk checksums.
    pub(super) fn pages(&self) -> u64 {
        self.chunks().div_ceil(SUMS_PER_PAGE)
    }

    /// Where a page of chunk checksums begins, and how many it has.
    #[expect(clippy::arithmetic_side_effects, reason = "offsets of a frame whose places have been checked")]
    fn page(&self, page: u64) -> (u64, u64) {
        let sums = SUMS_PER_PAGE.min(self.chunks().saturating_sub(page * SUMS_PER_PAGE));
        (self.body_end + page * PAGE_BYTES, sums)
    }

    /// Mends a damaged page of chunk checksums of a whole file. If the chunks themselves have the checksums that the page was
    /// sealed with, that is what it said. Otherwise each of them is left to speak for its chunk alone, under a new seal: a
    /// damaged one matches nothing.
    #[expect(clippy::arithmetic_side_effects, reason = "offsets of a frame whose places have been checked")]
    pub(super) fn mend_page(&self, file: &mut [u8], page: u64) {
        let (start, count) = self.page(page);
        let (first, end) = (page * SUMS_PER_PAGE, start + count * SUM_BYTES);
        let sum = |chunk: u64| {
            let (start, length) = self.chunk_range(chunk);
            bytes::slice(file, start, length).map_or(0, |chunk| self.seed.sum(start, chunk))
        };
        let computed: Vec<u8> = (first..first + count).flat_map(|chunk| sum(chunk).to_le_bytes()).collect();
        let sealed = bytes::read::<U32>(file, end).is_ok_and(|seal| seal.get() == self.seed.sum(start, &computed));
        if sealed {
            return bytes::write(file, start, &computed);
        }
        let seal = self.seed.sum(start, bytes::slice(file, start, count * SUM_BYTES).unwrap_or_default());
        bytes::write(file, end, &seal.to_le_bytes());
    }

    /// The padding between the checksum pages and the directory is zero.
    pub(crate) fn check_padding(&self, tail: Part<'_>) -> Result<(), (u64, Damage)> {
        let end = self.body_end.saturating_add(checksums_bytes(self.chunks()));
        let padding = tail.slice(end, self.directory_offset.saturating_sub(end)).map_err(|d| (end, d))?;
        if bytes::all_zero(padding) { Ok(()) } else { Err((end, Damage::BadField)) }
    }
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
            assert_eq!(frame.directory(Part::whole(&file)).unwrap(), b"directory-record");
            for chunk in 0..frame.chunks() {
                frame.check_chunk(Part::whole(&file), Part::whole(&file), chunk, true).unwrap();
            }
            frame.check_padding(Part::whole(&file)).unwrap();
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
                    (0..frame.chunks())
                        .any(|chunk| frame.check_chunk(Part::whole(&bad), Part::whole(&bad), chunk, true).is_err())
                        || frame.check_padding(Part::whole(&bad)).is_err()
                }
            };
            assert!(found, "bit {bit}");
        }
    }
}
