//! A cursor over one section of a table.

use std::ops::Range;
use std::sync::Arc;

use super::reader::Reader;
use crate::error::{Damage, Result};
use crate::format::KeyspaceId;
use crate::format::entry::{Base, Entry};
use crate::sys::{Block, prefetch};

/// How far ahead of the current entry a walk forwards looks.
const AHEAD_BYTES: usize = 1024;
const LINE: usize = 64;

/// Whether a cursor relies on chunks verified earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Each chunk is verified at its first touch by anyone.
    Once,
    /// Each chunk is verified by this cursor, whatever is remembered: what compaction copies must be right now.
    Again,
}

/// Walks the entries of a section in both directions, all versions; within a key the newest comes first.
#[derive(Debug, Clone)]
pub(crate) struct TableCursor {
    reader: Arc<Reader>,
    section: usize,
    start: usize,
    end: usize,
    base: Base,
    verify: Verify,
    current: Option<Entry>,
    /// What the current entry is in, unless that is the mapping.
    block: Option<Block>,
    /// Bytes that this cursor knows to be verified.
    checked: Range<usize>,
    /// Offsets of the entries in front of the current one, back to the beginning of their interval.
    behind: Vec<usize>,
}

impl TableCursor {
    /// A cursor over the keyspace's section, if there is one.
    pub(crate) fn new(reader: &Arc<Reader>, keyspace: KeyspaceId, verify: Verify) -> Option<Self> {
        let number = reader.section_of(keyspace)?;
        let section = reader.sections().get(number)?;
        Some(Self {
            section: number,
            start: usize::try_from(section.start).ok()?,
            end: usize::try_from(section.end).ok()?,
            base: section.base(),
            reader: Arc::clone(reader),
            verify,
            current: None,
            block: None,
            checked: 0..0,
            behind: Vec::new(),
        })
    }

    /// The bytes that the current entry is in.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or_else(|| self.mapped(), Block::bytes)
    }

    #[inline]
    pub(crate) fn mapped(&self) -> &[u8] {
        self.reader.bytes()
    }

    #[inline]
    pub(crate) fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }

    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    #[inline]
    pub(crate) fn current(&self) -> Option<&Entry> {
        self.current.as_ref()
    }

    /// Makes sure that the bytes from `start` to `end` are verified.
    #[inline]
    fn check(&mut self, start: usize, end: usize) -> Result<()> {
        if start >= self.checked.start && end <= self.checked.end {
            return Ok(());
        }
        self.check_more(start, end)
    }

    #[cold]
    fn check_more(&mut self, start: usize, end: usize) -> Result<()> {
        let file = self.reader.file();
        match self.verify {
            Verify::Once => file.check(start, end)?,
            Verify::Again => {
                let chunk_log2 = file.frame().chunk_log2;
                let known = if self.checked.contains(&start) { self.checked.end } else { start };
                for chunk in known >> chunk_log2..=end.saturating_sub(1).max(start) >> chunk_log2 {
                    file.check_chunk(chunk as u64)?;
                }
            }
        }
        let from = if self.checked.contains(&start) { self.checked.start } else { start };
        self.checked = from..file.chunk_end(end.saturating_sub(1).max(start));
        Ok(())
    }

    #[inline]
    fn read(&mut self, start: usize) -> Result<Entry> {
        self.check(start, self.end.min(start + 12))?;
        let parsed = Entry::parse_in_table(self.reader.bytes(), start, self.end, self.base);
        let entry = parsed.map_err(|fault| fault.at(self.reader.file().path(), start as u64))?;
        self.check(start, entry.end)?;
        Ok(entry)
    }

    #[inline]
    fn go_to(&mut self, start: usize) -> Result<()> {
        self.current = if start < self.end { Some(self.read(start)?) } else { None };
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
        self.go_to(self.reader.interval_start(self.section, key, false)?)?;
        while let Some(entry) = self.current {
            if entry.key(self.bytes()) >= key {
                break;
            }
            self.go_to(entry.next())?;
        }
        Ok(())
    }

    /// The last entry at or in front of `key`: the oldest version of that key, if it is there.
    pub(crate) fn seek_back(&mut self, key: &[u8]) -> Result<()> {
        self.behind.clear();
        if self.start == self.end {
            return Ok(());
        }
        let mut at = self.reader.interval_start(self.section, key, true)?;
        let mut last = None;
        while at < self.end {
            let entry = self.read(at)?;
            if entry.key(self.bytes()) > key {
                break;
            }
            if let Some(previous) = last.replace(entry) {
                self.behind.push(previous.start);
            }
            at = entry.next();
        }
        self.current = last;
        Ok(())
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        let Some(entry) = self.current else { return Ok(()) };
        if !self.behind.is_empty() {
            self.behind.clear();
        }
        self.prefetch(&entry);
        self.go_to(entry.next())
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
        let Some(entry) = self.current else { return Ok(()) };
        match self.behind.pop() {
            Some(start) => self.go_to(start),
            None => self.go_back_from(entry.start),
        }
    }

    /// Goes to the entry that ends at `offset`: decodes its interval forwards once and walks it back.
    #[cold]
    fn go_back_from(&mut self, offset: usize) -> Result<()> {
        if offset <= self.start {
            self.current = None;
            return Ok(());
        }
        let mut at = self.reader.interval_before(self.section, offset)?;
        while at < offset {
            self.behind.push(at);
            at = self.read(at)?.next();
        }
        match self.behind.pop() {
            Some(start) if at == offset => self.go_to(start),
            _ => Err(self.reader.file().corrupt(at as u64, Damage::OutOfBounds)),
        }
    }
}
