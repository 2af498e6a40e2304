//! The entries of a table's sections: where they are, and how they come into memory.
//!
//! Entries are named by *places*, numbers that grow with the order of the entries. In a plain section the place of an entry
//! is its offset in the file, in a compressed one it is its block and its offset in there (see `format::block`). A locator of
//! the index is a place in units either way. A [`Window`] is a run of entries that are in memory together: the whole
//! section, in place, or one block.

use std::ops::Range;
use std::sync::Arc;

use super::Shelf;
use super::cache::BlockKey;
use super::file::ChunkedFile;
use crate::error::{Damage, Error, Result};
use crate::format::FileNumber;
use crate::format::block::{BlockPlace, check_blocks, unpack};
use crate::format::bytes;
use crate::format::entry::{Entry, EntryHeader};
use crate::format::section::{Codec, Section};
use crate::sys::{Block, BlockBuffer};

/// Whether a walk relies on what was verified earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Each chunk is verified at its first touch by anyone, and blocks are taken from the cache and left there.
    Once,
    /// Each chunk is verified at its first touch by anyone; the cache is left alone.
    Apart,
    /// Each chunk is verified by this walk, whatever is remembered: what compaction copies must be right now. The cache is
    /// left alone.
    Again,
}

/// A run of entries in memory, and which of their bytes are known to be verified.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    /// The places of its entries lie from `start` to in front of `end`.
    start: usize,
    end: usize,
    /// Where the places of the window behind it begin.
    next: usize,
    /// Where the place `start` is in the bytes: those of the block, or else the mapped ones.
    at: usize,
    block: Option<Block>,
    /// Where in the file the bytes of the block come from.
    origin: u64,
    /// Mapped bytes that this walk knows to be verified.
    checked: Range<usize>,
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
    fn contains(&self, place: usize) -> bool {
        place >= self.start && place < self.end && place < self.next
    }

    /// The place of the entry behind the one at `place`.
    #[inline]
    pub(super) fn behind(&self, place: usize, entry: &Entry) -> usize {
        let end = place + (entry.next() - entry.start);
        if end >= self.end { self.next } else { end }
    }

    /// Where in the file damage at `place` is.
    fn offset(&self, place: usize) -> u64 {
        if self.block.is_some() { self.origin } else { (self.at + place.saturating_sub(self.start)) as u64 }
    }
}

/// A table's file with its checked sections.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) file: ChunkedFile,
    pub(super) sections: Vec<Section>,
    number: FileNumber,
    shelf: Arc<Shelf>,
}

/// A place as a number of bytes of the address space; tables are not larger than that.
pub(super) fn position(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// Where the places of a section begin.
#[inline]
pub(super) fn first(section: &Section) -> usize {
    if section.codec == Codec::None { position(section.start) } else { 0 }
}

/// Where they end.
#[inline]
pub(super) fn end(section: &Section) -> usize {
    position(if section.codec == Codec::None { section.end } else { u64::from(section.blocks) << section.block_log2 })
}

/// Whether a place lies in a section.
#[inline]
pub(super) fn contains(section: &Section, place: usize) -> bool {
    (first(section)..end(section)).contains(&place)
}

impl Body {
    /// Takes the sections over, which the manifest agrees with, and checks the directories of their blocks.
    pub(super) fn new(
        file: ChunkedFile,
        sections: Vec<Section>,
        number: FileNumber,
        shelf: Arc<Shelf>,
    ) -> Result<Self> {
        let body = Self { file, sections, number, shelf };
        for section in body.sections.iter().filter(|section| section.blocks > 0) {
            body.file.check(position(section.blocks_offset()), position(section.parts_end()))?;
            check_blocks(body.blocks(section)?, section)
                .map_err(|(record, damage)| body.at_record(section, record, damage))?;
        }
        Ok(body)
    }

    /// Whether the entries of a section are read where they stand in the file.
    #[inline]
    pub(super) fn is_in_place(section: &Section) -> bool {
        section.codec == Codec::None
    }

    fn blocks(&self, section: &Section) -> Result<&[u8]> {
        let (start, length) = (section.blocks_offset(), section.blocks_bytes());
        bytes::slice(self.file.bytes(), start, length).map_err(|damage| self.file.corrupt(start, damage))
    }

    #[cold]
    fn at_record(&self, section: &Section, record: u32, damage: Damage) -> Error {
        let offset = section.blocks_offset() + u64::from(record) * crate::format::block::BLOCK_RECORD_BYTES;
        self.file.corrupt(offset, damage)
    }

    /// The bytes that a window's entries are in.
    #[inline]
    pub(super) fn bytes<'b>(&'b self, window: &'b Window) -> &'b [u8] {
        window.block.as_ref().map_or_else(|| self.file.bytes(), Block::bytes)
    }

    /// The verified entry at `place`; moves the window there, if it is elsewhere.
    #[inline]
    pub(super) fn entry(&self, window: &mut Window, section: &Section, place: usize, verify: Verify) -> Result<Entry> {
        if !window.contains(place) {
            *window = self.window(section, place, verify)?;
        }
        let start = window.at + (place - window.start);
        let limit = window.at + (window.end - window.start);
        if window.block.is_none() {
            self.check(window, start, limit.min(start.saturating_add(size_of::<EntryHeader>())), verify)?;
        }
        let parsed = Entry::parse_in_table(self.bytes(window), start, limit, section.base());
        let entry = parsed.map_err(|fault| fault.at(self.file.path(), window.offset(place)))?;
        if window.block.is_none() {
            self.check(window, start, entry.end, verify)?;
        }
        Ok(entry)
    }

    /// Makes sure that the mapped bytes from `start` to `end` are verified.
    #[inline]
    fn check(&self, window: &mut Window, start: usize, end: usize, verify: Verify) -> Result<()> {
        if start >= window.checked.start && end <= window.checked.end {
            return Ok(());
        }
        self.check_more(window, start, end, verify)
    }

    #[cold]
    fn check_more(&self, window: &mut Window, start: usize, end: usize, verify: Verify) -> Result<()> {
        let known = if window.checked.contains(&start) { window.checked.end } else { start };
        self.verify(known.min(end), end, verify)?;
        let from = if window.checked.contains(&start) { window.checked.start } else { start };
        window.checked = from..self.file.chunk_end(end.saturating_sub(1).max(start));
        Ok(())
    }

    /// Verifies every chunk with bytes from `start` to `end`.
    fn verify(&self, start: usize, end: usize, verify: Verify) -> Result<()> {
        if verify != Verify::Again {
            return self.file.check(start, end);
        }
        let chunk_log2 = self.file.frame().chunk_log2;
        for chunk in start >> chunk_log2..=end.saturating_sub(1).max(start) >> chunk_log2 {
            self.file.check_chunk(chunk as u64)?;
        }
        Ok(())
    }

    /// The window with `place`.
    #[cold]
    fn window(&self, section: &Section, place: usize, verify: Verify) -> Result<Window> {
        if !contains(section, place) {
            return Err(self.file.corrupt(section.start, Damage::OutOfBounds));
        }
        if Self::is_in_place(section) {
            let (start, end) = (first(section), end(section));
            return Ok(Window { start, end, next: end, at: start, ..Window::default() });
        }
        let number = u32::try_from(place >> section.block_log2).unwrap_or(u32::MAX);
        let found = BlockPlace::read(self.blocks(section)?, number, section)
            .map_err(|damage| self.at_record(section, number, damage))?;
        let start = (number as usize) << section.block_log2;
        let (end, next) = (start + position(found.raw), start + (1 << section.block_log2));
        let window = Window { start, end, next, origin: found.start, ..Window::default() };
        if place >= end {
            return Err(self.file.corrupt(found.start, Damage::OutOfBounds));
        }
        if found.is_plain() {
            return Ok(Window { at: position(found.start), ..window });
        }
        Ok(Window { block: Some(self.block(section, &found, verify)?), ..window })
    }

    /// An unpacked block, from the cache or from the file.
    fn block(&self, section: &Section, found: &BlockPlace, verify: Verify) -> Result<Block> {
        let key = BlockKey { table: self.number, start: found.start };
        if verify == Verify::Once
            && let Some(block) = self.shelf.cache.get(key)
        {
            return Ok(block);
        }
        self.verify(position(found.start), position(found.start + found.stored), verify)?;
        let damaged = |damage| self.file.corrupt(found.start, damage);
        let stored = bytes::slice(self.file.bytes(), found.start, found.stored).map_err(damaged)?;
        let mut buffer =
            BlockBuffer::new(position(found.raw)).map_err(|e| Error::io("unpack a block of", self.file.path(), e))?;
        unpack(section.codec, stored, buffer.bytes_mut()).map_err(|fault| fault.at(self.file.path(), found.start))?;
        let block = buffer.into_block();
        if verify == Verify::Once {
            self.shelf.cache.insert(key, &block);
        }
        Ok(block)
    }

    /// Shows every entry of a section in order, with its place and its bytes, and whether it is the first one of its key.
    pub(super) fn walk(
        &self,
        section: &Section,
        mut visit: impl FnMut(usize, &Entry, &[u8], bool) -> Result<()>,
    ) -> Result<()> {
        let mut window = Window::default();
        let mut place = first(section);
        let mut last: Option<Vec<u8>> = None;
        while place < end(section) {
            let entry = self.entry(&mut window, section, place, Verify::Apart)?;
            let bytes = self.bytes(&window);
            let key = entry.key(bytes);
            let same = last.as_deref() == Some(key);
            visit(place, &entry, bytes, !same)?;
            if !same {
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
            }
            place = window.behind(place, &entry);
        }
        Ok(())
    }

    /// Where in the file the entry at `place` is, or the block that it is in.
    pub(super) fn offset(&self, section: &Section, place: usize) -> u64 {
        if Self::is_in_place(section) {
            return place as u64;
        }
        let number = u32::try_from(place >> section.block_log2).unwrap_or(u32::MAX);
        let blocks = self.blocks(section).unwrap_or_default();
        BlockPlace::read(blocks, number, section).map_or(section.start, |found| found.start)
    }

    /// Checks what stands between the blocks of a section, whose checksums match.
    pub(super) fn check_gaps(&self, section: &Section) -> Result<()> {
        let mut end = section.start;
        for number in 0..section.blocks {
            let found = BlockPlace::read(self.blocks(section)?, number, section)
                .map_err(|damage| self.at_record(section, number, damage))?;
            self.check_gap(end, found.start)?;
            end = found.start + found.stored;
        }
        if section.blocks > 0 { self.check_gap(end, section.end) } else { Ok(()) }
    }

    fn check_gap(&self, start: u64, end: u64) -> Result<()> {
        let gap = bytes::slice(self.file.bytes(), start, end.saturating_sub(start));
        match gap.map(bytes::all_zero) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.file.corrupt(start, Damage::BadField)),
            Err(damage) => Err(self.file.corrupt(start, damage)),
        }
    }
}
