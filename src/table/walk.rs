//! Reading the entries of a section by their places, wherever they stand.

use super::body::{Body, Verify, end};
use super::file::position;
use super::window::Window;
use crate::error::Result;
use crate::format::Sequence;
use crate::format::entry::{Entry, EntryHeader};
use crate::format::entry_ref::EntryRef;
use crate::format::section::Section;
use crate::sys::Block;

/// Where a walk for a version has ended.
#[derive(Debug)]
pub(crate) enum Walked {
    To(Entry),
    /// There is no such version.
    Missing,
    /// It is further away.
    NotSoFar,
}

/// Reads verified entries one by one. What searches and walks is written over this once, and made for each of its kinds.
pub(crate) trait Walk {
    /// The entry at a place.
    fn entry(&mut self, place: usize) -> Result<Entry>;

    /// The bytes that the entry read last is in.
    fn bytes(&self) -> &[u8];

    /// The place behind the entry read last, which is at `place`.
    fn behind(&self, place: usize, entry: &Entry) -> usize;

    /// Where the places of the section end.
    fn end(&self) -> usize;

    /// Goes from `place` on to the first entry that is not in front of `key`.
    fn seek(&mut self, mut place: usize, key: &[u8]) -> Result<Option<(usize, Entry)>> {
        while place < self.end() {
            let entry = self.entry(place)?;
            if entry.key(self.bytes()) >= key {
                return Ok(Some((place, entry)));
            }
            place = self.behind(place, &entry);
        }
        Ok(None)
    }

    /// Shows every entry from `place` on in order, with its place, and whether it is the first one of its key.
    fn visit(
        &mut self,
        mut place: usize,
        mut visit: impl FnMut(usize, EntryRef<'_>, bool) -> Result<()>,
    ) -> Result<()> {
        let mut last: Option<Vec<u8>> = None;
        while place < self.end() {
            let entry = self.entry(place)?;
            let found = entry.in_bytes(self.bytes());
            let same = last.as_deref() == Some(found.key());
            visit(place, found, !same)?;
            if !same {
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(found.key());
            }
            place = self.behind(place, &entry);
        }
        Ok(())
    }

    /// The newest version of `key` at or below `at`, given a newer one or itself: older ones follow it. Takes so many steps at
    /// the most.
    #[inline]
    fn version(
        &mut self,
        (mut place, mut entry): (usize, Entry),
        key: &[u8],
        at: Sequence,
        most: u64,
    ) -> Result<Walked> {
        let mut steps = 0;
        while entry.sequence > at {
            if steps == most {
                return Ok(Walked::NotSoFar);
            }
            steps += 1;
            place = self.behind(place, &entry);
            if place >= self.end() {
                return Ok(Walked::Missing);
            }
            entry = self.entry(place)?;
            if entry.key(self.bytes()) != key {
                return Ok(Walked::Missing);
            }
        }
        Ok(Walked::To(entry))
    }
}

/// A walk over a table of a store.
pub(super) trait Keep: Walk {
    /// What the entry read last is in, unless that is the mapping.
    fn into_block(self) -> Option<Block>;
}

/// Over a section whose entries are read where they stand in the file: places are offsets.
pub(super) struct InPlace<'b> {
    body: &'b Body,
    section: &'b Section,
}

impl<'b> InPlace<'b> {
    #[inline]
    pub(super) fn new(body: &'b Body, section: &'b Section) -> Self {
        debug_assert!(body.is_in_place(section), "places are offsets");
        Self { body, section }
    }
}

impl Walk for InPlace<'_> {
    /// Verifies the chunk of the header, reads the lengths, then verifies every chunk that the entry covers.
    #[inline]
    fn entry(&mut self, place: usize) -> Result<Entry> {
        let (file, limit) = (&self.body.file, self.end());
        file.check(place, limit.min(place.saturating_add(size_of::<EntryHeader>())))?;
        let entry = Entry::parse_in_table(file.bytes(), place, limit, self.section.base())
            .map_err(|fault| fault.at(file.path(), place as u64))?;
        if entry.end > file.chunk_end(place) {
            file.check(place, entry.end)?;
        }
        Ok(entry)
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.body.file.bytes()
    }

    #[inline]
    fn behind(&self, _place: usize, entry: &Entry) -> usize {
        entry.next()
    }

    #[inline]
    fn end(&self) -> usize {
        position(self.section.end)
    }
}

impl Keep for InPlace<'_> {
    #[inline]
    fn into_block(self) -> Option<Block> {
        None
    }
}

/// Over any section.
pub(super) struct InWindows<'b> {
    body: &'b Body,
    section: &'b Section,
    window: Window,
    verify: Verify,
}

impl<'b> InWindows<'b> {
    pub(super) fn new(body: &'b Body, section: &'b Section, verify: Verify) -> Self {
        Self { body, section, window: Window::default(), verify }
    }
}

impl Walk for InWindows<'_> {
    #[inline]
    fn entry(&mut self, place: usize) -> Result<Entry> {
        self.body.entry(&mut self.window, self.section, place, self.verify)
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.body.bytes(&self.window)
    }

    #[inline]
    fn behind(&self, place: usize, entry: &Entry) -> usize {
        self.window.behind(place, entry)
    }

    #[inline]
    fn end(&self) -> usize {
        end(self.section)
    }
}

impl Keep for InWindows<'_> {
    fn into_block(self) -> Option<Block> {
        self.window.into_block()
    }
}
