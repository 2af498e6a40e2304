//! Reading the entries of a section in bytes that hold all of its table: without a mapping, a cache or any I/O.

use std::borrow::Cow;
use std::ops::Range;

use super::body::{end, first};
use super::file::position;
use super::walk::Walk;
use crate::error::{Damage, Error, Fault, Result};
use crate::format::block::{BLOCK_RECORD_BYTES, BlockPlace};
use crate::format::bytes;
use crate::format::codec::Codec;
use crate::format::entry::{ENTRY_HEADER_BYTES, Entry};
use crate::format::section::Section;

/// Bytes that hold all of a table, and are verified as they are needed.
pub(crate) trait TableBytes<'a> {
    fn all(&self) -> &'a [u8];

    /// Verifies the bytes in front of `end` that begin at `start`.
    fn verify(&mut self, start: u64, end: u64) -> Result<()>;

    /// The error for what is wrong at an offset.
    fn damaged(&self, offset: u64, fault: Fault) -> Error;

    /// `length` verified bytes from `start`.
    fn verified(&mut self, start: u64, length: u64) -> Result<&'a [u8]> {
        let found = bytes::slice(self.all(), start, length).map_err(|damage| self.damaged(start, damage.into()))?;
        if length > 0 {
            self.verify(start, start.saturating_add(length))?;
        }
        Ok(found)
    }

    /// The directory of the blocks of a section, checked; empty if it has none.
    fn blocks(&mut self, section: &Section) -> Result<&'a [u8]> {
        let start = section.blocks_offset();
        let blocks = self.verified(start, section.blocks_bytes())?;
        if section.blocks > 0 {
            section.check_block_records(blocks).map_err(|(number, damage)| {
                self.damaged(start + u64::from(number) * BLOCK_RECORD_BYTES, damage.into())
            })?;
        }
        Ok(blocks)
    }
}

/// A walk over a section in such bytes.
pub(crate) struct InBytes<'a, 's, B> {
    pub(crate) of: B,
    section: &'s Section,
    /// Its directory of blocks.
    blocks: &'a [u8],
    /// The block of the entry read last, unpacked, and where its places begin.
    block: Option<(usize, BlockPlace, Cow<'a, [u8]>)>,
}

impl<'a, 's, B: TableBytes<'a>> InBytes<'a, 's, B> {
    pub(crate) fn new(of: B, section: &'s Section, blocks: &'a [u8]) -> Self {
        Self { of, section, blocks, block: None }
    }

    /// Where the places of the section begin.
    pub(crate) fn first(&self) -> usize {
        first(self.section)
    }

    /// The block with a place, and where its places begin; none in a section without blocks.
    pub(crate) fn block(&mut self, place: usize) -> Result<Option<(usize, &BlockPlace)>> {
        if self.section.codec == Codec::None {
            return Ok(None);
        }
        let start = place >> self.section.block_log2 << self.section.block_log2;
        if self.block.as_ref().is_none_or(|(at, ..)| *at != start) {
            let number = u32::try_from(place >> self.section.block_log2).unwrap_or(u32::MAX);
            let found = self
                .section
                .block(self.blocks, number)
                .map_err(|damage| self.of.damaged(self.section.blocks_offset(), damage.into()))?;
            let stored = self.of.verified(found.start, found.stored)?;
            let raw = found.unpacked(self.section.codec, stored);
            let raw = raw.map_err(|fault| self.of.damaged(found.start, fault))?;
            self.block = Some((start, found, raw));
        }
        Ok(self.block.as_ref().map(|(start, block, _)| (*start, block)))
    }

    /// What is walked over, and the bytes that the entry read last is in.
    pub(crate) fn parts(&mut self) -> (&mut B, &[u8]) {
        let all = self.of.all();
        (&mut self.of, self.block.as_ref().map_or(all, |(_, _, raw)| raw))
    }

    /// Part of what the entry read last is in.
    pub(crate) fn part(&self, range: Range<usize>) -> Cow<'a, [u8]> {
        match &self.block {
            None => Cow::Borrowed(self.of.all().get(range).unwrap_or_default()),
            Some((_, _, Cow::Borrowed(block))) => Cow::Borrowed(block.get(range).unwrap_or_default()),
            Some((_, _, Cow::Owned(block))) => Cow::Owned(block.get(range).unwrap_or_default().to_vec()),
        }
    }
}

impl<'a, B: TableBytes<'a>> Walk for InBytes<'a, '_, B> {
    fn entry(&mut self, place: usize) -> Result<Entry> {
        // What the manifest says of a table is not known: its own number for all of its entries reads as 0.
        let base = self.section.min_sequence.into();
        self.block(place)?;
        if let Some((start, block, raw)) = &self.block {
            let parsed = Entry::parse_in_table(raw, place.wrapping_sub(*start), raw.len(), base);
            return parsed.map_err(|fault| self.of.damaged(block.start, fault));
        }
        let (at, end) = (place as u64, self.section.end);
        self.of.verified(at, ENTRY_HEADER_BYTES.min(end.saturating_sub(at)))?;
        let entry = Entry::parse_in_table(self.of.all(), place, position(end), base);
        let entry = entry.map_err(|fault| self.of.damaged(at, fault))?;
        let length = entry.next().checked_sub(place).ok_or_else(|| self.of.damaged(at, Damage::OutOfBounds.into()))?;
        self.of.verified(at, length as u64)?;
        Ok(entry)
    }

    fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or_else(|| self.of.all(), |(_, _, raw)| raw)
    }

    fn behind(&self, place: usize, entry: &Entry) -> usize {
        match &self.block {
            Some((start, _, raw)) if entry.next() >= raw.len() => start.saturating_add(1 << self.section.block_log2),
            _ => place.saturating_add(entry.next() - entry.start),
        }
    }

    fn end(&self) -> usize {
        end(self.section)
    }
}
