//! A cursor over one section of a table.

use std::sync::Arc;

use super::body::{Verify, Window, end, first};
use super::reader::TableReader;
use crate::error::{Damage, Result};
use crate::format::KeyspaceId;
use crate::format::entry::Entry;
use crate::format::section::Section;
use crate::sys::{Block, prefetch};

/// How far ahead of the current entry a walk forwards looks.
const AHEAD_BYTES: usize = 1024;
const LINE: usize = 64;

/// Walks the entries of a section in both directions, all versions; within a key the newest comes first.
#[derive(Debug, Clone)]
pub(crate) struct TableCursor {
    reader: Arc<TableReader>,
    /// The number of the section.
    section: usize,
    /// Where its places begin and end.
    start: usize,
    end: usize,
    verify: Verify,
    current: Option<Entry>,
    /// The place of the current entry, which is in the window.
    place: usize,
    window: Window,
    /// Places of the entries in front of the current one, back to the beginning of their interval.
    behind: Vec<usize>,
}

impl TableCursor {
    /// A cursor over the keyspace's section, if there is one.
    pub(crate) fn new(reader: Arc<TableReader>, keyspace: KeyspaceId, verify: Verify) -> Option<Self> {
        let number = reader.section_of(keyspace)?;
        let section = reader.sections().get(number)?;
        let (start, end) = (first(section), end(section));
        let (window, behind) = (Window::default(), Vec::new());
        Some(Self { reader, section: number, start, end, verify, current: None, place: start, window, behind })
    }

    /// The bytes that the current entry is in.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.reader.bytes_of(&self.window)
    }

    #[inline]
    pub(crate) fn mapped(&self) -> &[u8] {
        self.reader.bytes()
    }

    /// What the current entry is in, unless that is the mapping.
    #[inline]
    pub(crate) fn block(&self) -> Option<&Block> {
        self.window.block()
    }

    pub(crate) fn reader(&self) -> &Arc<TableReader> {
        &self.reader
    }

    #[inline]
    pub(crate) fn current(&self) -> Option<&Entry> {
        self.current.as_ref()
    }

    #[inline]
    fn read(&mut self, place: usize) -> Result<Entry> {
        let section: &Section = self.reader.section(self.section)?;
        self.reader.entry(&mut self.window, section, place, self.verify)
    }

    #[inline]
    fn go_to(&mut self, place: usize) -> Result<()> {
        self.current = if place < self.end { Some(self.read(place)?) } else { None };
        self.place = place;
        Ok(())
    }

    pub(crate) fn seek_first(&mut self) -> Result<()> {
        self.behind.clear();
        self.go_to(self.start)
    }

    pub(crate) fn seek_last(&mut self) -> Result<()> {
        self.behind.clear();
        self.go_back_from(self.end)
    }

    /// The first entry at or behind `key`. O(log n) and up to one interval of entries.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.behind.clear();
        if self.start == self.end {
            return Ok(());
        }
        self.go_to(self.reader.interval_start(self.section, key, false, self.verify)?)?;
        while let Some(entry) = self.current {
            if entry.key(self.bytes()) >= key {
                break;
            }
            self.go_to(self.window.behind(self.place, &entry))?;
        }
        Ok(())
    }

    /// The last entry at or in front of `key`: the oldest version of that key, if it is there.
    pub(crate) fn seek_back(&mut self, key: &[u8]) -> Result<()> {
        self.behind.clear();
        if self.start == self.end {
            return Ok(());
        }
        let mut place = self.reader.interval_start(self.section, key, true, self.verify)?;
        while place < self.end {
            let entry = self.read(place)?;
            if entry.key(self.bytes()) > key {
                break;
            }
            self.behind.push(place);
            place = self.window.behind(place, &entry);
        }
        self.current = None;
        self.behind.pop().map_or(Ok(()), |last| self.go_to(last))
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        let Some(entry) = self.current else { return Ok(()) };
        if !self.behind.is_empty() {
            self.behind.clear();
        }
        self.prefetch(&entry);
        self.go_to(self.window.behind(self.place, &entry))
    }

    /// Starts to bring what lies [`AHEAD_BYTES`] behind an entry into the cache, as many bytes as the entry has: among many
    /// tables that are walked in turns, the processor does not notice that each walk is sequential.
    #[inline]
    fn prefetch(&self, entry: &Entry) {
        let start = entry.start + AHEAD_BYTES;
        let ahead = self.bytes().get(start..start + (entry.end - entry.start).min(AHEAD_BYTES)).unwrap_or_default();
        for line in ahead.iter().step_by(LINE) {
            prefetch(line);
        }
    }

    #[inline]
    pub(crate) fn prev(&mut self) -> Result<()> {
        if self.current.is_none() {
            return Ok(());
        }
        match self.behind.pop() {
            Some(place) => self.go_to(place),
            None => self.go_back_from(self.place),
        }
    }

    /// Goes to the entry in front of `place`: decodes its interval forwards once and walks it back.
    #[cold]
    fn go_back_from(&mut self, place: usize) -> Result<()> {
        if place <= self.start {
            self.current = None;
            return Ok(());
        }
        let mut at = self.reader.interval_before(self.section, place)?;
        while at < place {
            self.behind.push(at);
            let entry = self.read(at)?;
            at = self.window.behind(at, &entry);
        }
        match self.behind.pop() {
            Some(last) if at == place => self.go_to(last),
            _ => Err(self.reader.file().corrupt(at as u64, Damage::OutOfBounds)),
        }
    }
}
