//! The entries of a table's sections: where they are, and how they come into memory.
//!
//! Entries are named by *places*, numbers that grow with the order of the entries. In a plain section the place of an entry
//! is its offset in the file, in a compressed one it is its block and its offset in there (see `format::block`). A locator of
//! the index is a place in units either way. A [`Window`] is a run of entries that are in memory together: the whole
//! section, in place; one block; or, where nothing is mapped, a page of the file or what a walk is about to need.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::cache::BlockKey;
use super::file::{ChunkedFile, position};
use super::readahead::Readahead;
use super::table_cache::TableCache;
use super::window::Window;
use crate::error::{Damage, Error, Result};
use crate::format::FileNumber;
use crate::format::block::{BlockPlace, unpack};
use crate::format::bytes;
use crate::format::codec::Codec;
use crate::format::entry::{Entry, EntryHeader, header_at, skim_in_table};
use crate::format::section::Section;
use crate::sys::{Block, BlockBuffer, prefetch};

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

/// A table's file with its checked sections.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) file: ChunkedFile,
    pub(super) sections: Vec<Section>,
    number: FileNumber,
    table_cache: Arc<TableCache>,
    /// The directories of blocks of the sections, if the file is not in memory.
    directories: Vec<Vec<u8>>,
}

/// What is read of a plain section at a time, and kept in the cache, if the file is not in memory.
const PAGE_BYTES: usize = 4 << 10;

/// The same for walks that leave the cache alone.
const WALK_BYTES: usize = 256 << 10;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// What a walk makes present at a time, of what it has asked for, if the file is mapped.
const PRESENT_BYTES: usize = 64 << 10;

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
        table_cache: Arc<TableCache>,
    ) -> Result<Self> {
        let mut body = Self { file, sections, number, table_cache, directories: Vec::new() };
        for section in &body.sections {
            let directory = match section.blocks {
                0 => Cow::default(),
                _ => body.file.verified(section.blocks_offset(), section.parts_end())?,
            };
            if !body.file.is_in_memory() {
                body.directories.push(directory.into_owned());
            }
        }
        for section in body.sections.iter().filter(|section| section.blocks > 0) {
            section
                .check_block_records(body.blocks(section)?)
                .map_err(|(record, damage)| body.at_record(section, record, damage))?;
        }
        Ok(body)
    }

    /// The same for a file that is in memory and may be damaged: see [`check_directory`](Self::check_directory).
    pub(super) fn of_damaged(
        file: ChunkedFile,
        sections: Vec<Section>,
        number: FileNumber,
        table_cache: Arc<TableCache>,
    ) -> Self {
        Self { file, sections, number, table_cache, directories: Vec::new() }
    }

    /// Checks the directory of the blocks of a section, if there is one, which [`new`](Self::new) has not done.
    pub(super) fn check_directory(&self, section: &Section) -> Result<()> {
        if section.blocks == 0 {
            return Ok(());
        }
        self.file.check(position(section.blocks_offset()), position(section.parts_end()))?;
        section
            .check_block_records(self.blocks(section)?)
            .map_err(|(record, damage)| self.at_record(section, record, damage))
    }

    /// Whether the entries of a section are read where they stand in the file.
    #[inline]
    pub(super) fn is_in_place(&self, section: &Section) -> bool {
        section.codec == Codec::None && self.file.is_in_memory()
    }

    fn blocks(&self, section: &Section) -> Result<&[u8]> {
        if let Ok(at) = self.sections.binary_search_by_key(&section.keyspace, |section| section.keyspace)
            && let Some(directory) = self.directories.get(at)
        {
            return Ok(directory);
        }
        let (start, length) = (section.blocks_offset(), section.blocks_bytes());
        bytes::slice(self.file.bytes(), start, length).map_err(|damage| self.file.corrupt(start, damage))
    }

    #[cold]
    fn at_record(&self, section: &Section, record: u32, damage: Damage) -> Error {
        let offset = section.blocks_offset() + u64::from(record) * crate::format::block::BLOCK_RECORD_BYTES;
        self.file.corrupt(offset, damage)
    }

    /// The bytes that a window's entries are in.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "of each step of a scan, twice")]
    pub(super) fn bytes<'b>(&'b self, window: &'b Window) -> &'b [u8] {
        match &window.block {
            Some(block) => block.bytes(),
            None => self.file.bytes(),
        }
    }

    /// The entry at `place`, if it is one that needs no look at anything but its header: in the window and known to be
    /// verified.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "passed on in memory, the entry would hold up every step of a scan")]
    pub(super) fn sure_entry(&self, window: &Window, place: usize) -> Option<Entry> {
        // In front of the window this wraps, and is behind `sure` then.
        let start = place.wrapping_sub(window.start).wrapping_add(window.at);
        if place >= window.next || start < window.sure.start {
            return None;
        }
        Entry::parse_in_table(self.bytes(window), start, window.sure.end, window.base).ok()
    }

    /// The key of such an entry, and the place of the next one.
    #[inline]
    pub(super) fn sure_key<'b>(&'b self, window: &'b Window, place: usize) -> Option<(&'b [u8], usize)> {
        let start = place.wrapping_sub(window.start).wrapping_add(window.at);
        if place >= window.next || start < window.sure.start {
            return None;
        }
        let (key, next) = skim_in_table(self.bytes(window), start, window.sure.end)?;
        let behind = place.wrapping_add(next.wrapping_sub(start));
        Some((key, if behind >= window.end { window.next } else { behind }))
    }

    /// Asks the processor for the bytes of the entries from `place` on, if they are in the window.
    #[inline]
    pub(super) fn prefetch(&self, window: &Window, place: usize, length: usize) {
        let start = place.wrapping_sub(window.start).wrapping_add(window.at);
        let ahead = self.bytes(window).get(start..).unwrap_or_default();
        ahead.iter().take(length).step_by(LINE).for_each(prefetch);
    }

    /// The verified entry at `place`; moves the window there, if it is elsewhere.
    #[inline]
    pub(super) fn entry(&self, window: &mut Window, section: &Section, place: usize, verify: Verify) -> Result<Entry> {
        match self.sure_entry(window, place) {
            Some(entry) if verify != Verify::Again || entry.alignment() == section.alignment => Ok(entry),
            _ => self.make_sure(window, section, place, verify),
        }
    }

    /// The same where something has to be done for it.
    #[inline(never)]
    pub(super) fn make_sure(
        &self,
        window: &mut Window,
        section: &Section,
        place: usize,
        verify: Verify,
    ) -> Result<Entry> {
        if !window.contains(place) {
            self.move_to(window, section, place, verify)?;
        }
        if window.is_cut {
            self.complete(window, section, place, verify)?;
        }
        let start = window.at + (place - window.start);
        let limit = window.at + (window.end - window.start);
        if window.block.is_none() {
            self.check(window, start, limit.min(start.saturating_add(size_of::<EntryHeader>())), verify)?;
        }
        let parsed = Entry::parse_in_table(self.bytes(window), start, limit, window.base);
        let entry = parsed.map_err(|fault| fault.at(self.file.path(), window.offset(place)))?;
        if window.block.is_none() && entry.end > window.sure.end {
            self.check(window, start, entry.end, verify)?;
        }
        if verify == Verify::Again && entry.alignment() != section.alignment {
            return Err(self.file.corrupt(window.offset(place), Damage::BadField));
        }
        Ok(entry)
    }

    /// Makes sure that the mapped bytes from `start` to `end`, which are in the window, are verified.
    #[inline]
    fn check(&self, window: &mut Window, start: usize, end: usize, verify: Verify) -> Result<()> {
        let sure = &window.sure;
        if start >= sure.start && end <= sure.end {
            return Ok(());
        }
        // Whole chunks are verified, so what is in front of the entry is sure as well: a walk comes from behind, perhaps.
        let known = if sure.contains(&start) { sure.end } else { start };
        let chunks = self.file.whole_chunks(known, end);
        self.ask(&mut window.ahead, &chunks);
        if verify == Verify::Again || !self.file.are_verified(known, end) {
            self.verify(window, (known, end), &chunks, verify)?;
        }
        let now = chunks.start.max(window.at)..chunks.end.min(window.at + (window.end - window.start));
        let before = &window.sure;
        let touch = now.start <= before.end && before.start <= now.end;
        window.sure = if touch { now.start.min(before.start)..now.end.max(before.end) } else { now };
        Ok(())
    }

    /// Verifies `chunks`, all those with bytes from `start` to `end`, when they and those that the walk comes to next have been
    /// asked for.
    #[cold]
    fn verify(
        &self,
        window: &mut Window,
        (start, end): (usize, usize),
        chunks: &Range<usize>,
        verify: Verify,
    ) -> Result<()> {
        let is_present = window.present.start <= chunks.start && chunks.end <= window.present.end;
        if !is_present {
            if verify == Verify::Again {
                self.file.leave(window.ahead.fetched(&window.present));
            }
            window.present = window.ahead.asked(chunks, PRESENT_BYTES);
            self.file.touch(window.present.clone())?;
        }
        match verify {
            Verify::Again => self.file.check_again_present(start as u64, end as u64),
            Verify::Once | Verify::Apart => self.file.check_present(start, end),
        }
    }

    /// Asks for what the walk comes to, now that it comes to `step`.
    fn ask(&self, ahead: &mut Readahead, step: &Range<usize>) {
        let asked = ahead.step(step.clone(), position(self.file.frame().body_end), self.readahead_bytes());
        if !asked.is_empty() && self.file.read_ahead(asked.clone()) {
            ahead.note_fetched(asked);
        }
    }

    fn readahead_bytes(&self) -> usize {
        self.table_cache.options.readahead_bytes
    }

    /// Moves a window to where `place` is.
    #[cold]
    fn move_to(&self, window: &mut Window, section: &Section, place: usize, verify: Verify) -> Result<()> {
        let mut ahead = std::mem::take(&mut window.ahead);
        if ahead.is_new() && verify == Verify::Again {
            ahead = Readahead::eager(self.readahead_bytes());
        }
        *window = Window { base: section.base(), ..self.window(section, place, verify, &mut ahead)? };
        window.ahead = ahead;
        Ok(())
    }

    /// The window with `place`.
    fn window(&self, section: &Section, place: usize, verify: Verify, ahead: &mut Readahead) -> Result<Window> {
        if !contains(section, place) {
            return Err(self.file.corrupt(section.start, Damage::OutOfBounds));
        }
        if self.is_in_place(section) {
            let (start, end) = (first(section), end(section));
            return Ok(Window { start, end, next: end, at: start, ..Window::default() });
        }
        if section.codec == Codec::None {
            return self.page(section, place, verify);
        }
        let number = u32::try_from(place >> section.block_log2).unwrap_or(u32::MAX);
        let found =
            section.block(self.blocks(section)?, number).map_err(|damage| self.at_record(section, number, damage))?;
        let start = (number as usize) << section.block_log2;
        let (end, next) = (start + position(found.raw), start + (1 << section.block_log2));
        if place >= end {
            return Err(self.file.corrupt(found.start, Damage::OutOfBounds));
        }
        if found.is_plain() && self.file.is_in_memory() {
            return Ok(Window { start, end, next, at: position(found.start), ..Window::default() });
        }
        let block = self.block(section, &found, verify, ahead)?;
        Ok(Window { next, ..Window::on(block, start, found.start) })
    }

    /// An unpacked block, from the cache or from the file.
    fn block(&self, section: &Section, found: &BlockPlace, verify: Verify, ahead: &mut Readahead) -> Result<Block> {
        let key = BlockKey { table: self.number, start: found.start };
        if verify == Verify::Once
            && let Some(block) = self.table_cache.cache.get(key)
        {
            return Ok(block);
        }
        let end = found.start + found.stored;
        if self.file.is_in_memory() {
            let step = self.file.whole_chunks(position(found.start), position(end));
            self.ask(ahead, &step);
            if verify == Verify::Again {
                self.file.check_again(found.start, end)?;
            }
        }
        let stored = self.file.verified(found.start, end)?;
        let block = if found.is_plain() {
            self.owned(&stored)?
        } else {
            let mut buffer = self.buffer(position(found.raw))?;
            let unpacked = unpack(section.codec, &stored, buffer.bytes_mut());
            unpacked.map_err(|fault| fault.at(self.file.path(), found.start))?;
            buffer.into_block()
        };
        if verify == Verify::Once {
            self.table_cache.cache.insert(key, &block);
        }
        Ok(block)
    }

    fn buffer(&self, length: usize) -> Result<BlockBuffer> {
        BlockBuffer::new(length).map_err(|e| self.no_room(e))
    }

    #[cold]
    fn no_room(&self, error: std::io::Error) -> Error {
        Error::io("make room for a block of", self.file.path(), error)
    }

    fn owned(&self, bytes: &[u8]) -> Result<Block> {
        Block::copy_of(bytes).map_err(|e| self.no_room(e))
    }

    /// A window on a plain section of a file that is not in memory: the page with `place`, or for walks that leave the cache
    /// alone, what begins there.
    fn page(&self, section: &Section, place: usize, verify: Verify) -> Result<Window> {
        if verify != Verify::Once {
            return self.piece(section, place, WALK_BYTES);
        }
        let page = place - place % PAGE_BYTES;
        let (start, end) = (page.max(first(section)), (page + PAGE_BYTES).min(end(section)));
        let key = BlockKey { table: self.number, start: start as u64 };
        let block = if let Some(block) = self.table_cache.cache.get(key) {
            block
        } else {
            let block = self.owned(&self.file.verified(start as u64, end as u64)?)?;
            self.table_cache.cache.insert(key, &block);
            block
        };
        Ok(Window { is_cut: true, ..Window::on(block, start, start as u64) })
    }

    /// The window on `length` bytes of such a section from `place` on, or as many as there are.
    fn piece(&self, section: &Section, place: usize, length: usize) -> Result<Window> {
        let end = place.saturating_add(length).min(end(section));
        let block = self.owned(&self.file.verified(place as u64, end as u64)?)?;
        Ok(Window { is_cut: true, base: section.base(), ..Window::on(block, place, place as u64) })
    }

    /// Makes sure that the whole entry at `place` is in a window that was cut out without regard to entries.
    #[cold]
    fn complete(&self, window: &mut Window, section: &Section, place: usize, verify: Verify) -> Result<()> {
        let header = size_of::<EntryHeader>();
        if place.saturating_add(header) > window.end && window.end < end(section) {
            *window = self.piece(section, place, header)?;
        }
        let at = window.at + (place - window.start);
        let Ok(found) = header_at(self.bytes(window), at) else { return Ok(()) };
        let span = position(found.span_max());
        if place.saturating_add(span) > window.end && window.end < end(section) {
            *window = self.piece(section, place, if verify == Verify::Once { span } else { span.max(WALK_BYTES) })?;
        }
        Ok(())
    }

    /// Where in the file the entry at `place` is, or the block that it is in.
    pub(super) fn offset(&self, section: &Section, place: usize) -> u64 {
        if section.codec == Codec::None {
            return place as u64;
        }
        let number = u32::try_from(place >> section.block_log2).unwrap_or(u32::MAX);
        let blocks = self.blocks(section).unwrap_or_default();
        section.block(blocks, number).map_or(section.start, |found| found.start)
    }

    /// Checks what stands between the blocks of a section, whose checksums match.
    pub(super) fn check_gaps(&self, section: &Section) -> Result<()> {
        let mut end = section.start;
        for number in 0..section.blocks {
            let found = section
                .block(self.blocks(section)?, number)
                .map_err(|damage| self.at_record(section, number, damage))?;
            self.check_gap(end, found.start)?;
            end = found.start + found.stored;
        }
        if section.blocks > 0 { self.check_gap(end, section.end) } else { Ok(()) }
    }

    /// The bytes between two parts are zero.
    pub(super) fn check_gap(&self, start: u64, end: u64) -> Result<()> {
        let is_zero = start >= end || bytes::all_zero(&self.file.verified(start, end)?);
        if is_zero { Ok(()) } else { Err(self.file.corrupt(start, Damage::BadField)) }
    }
}
