//! A cursor over one sorted run.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::{Memtable, Run};
use crate::error::{Bug, must};
use crate::format::entry::Entry;
use crate::format::entry_ref::EntryRef;
use crate::sys::{Pinned, Purse, prefetch};

/// How many entries ahead a walk looks, and how many cache lines of each it asks for.
const AHEAD: usize = 8;
const AHEAD_LINES: usize = 3;
const LINE: usize = 64;

/// Walks a sorted run in both directions. Positions are entries, all versions; within a key the newest comes first.
#[derive(Clone)]
pub(crate) struct RunCursor {
    memtable: Arc<Memtable>,
    run: Arc<Run>,
    /// Index of the current item; `run.len()` when there is none.
    at: usize,
    current: Option<Entry>,
    /// Index of the item that the last step has left.
    left: usize,
    /// For who pins one entry after another.
    purse: Purse,
}

impl fmt::Debug for RunCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunCursor({} of {} in {:?})", self.at, self.run.len(), self.memtable)
    }
}

impl RunCursor {
    pub(crate) fn new(memtable: Arc<Memtable>, run: Arc<Run>) -> Self {
        Self { at: run.len(), left: run.len(), memtable, run, current: None, purse: Purse::default() }
    }

    pub(crate) fn memtable(&self) -> &Memtable {
        &self.memtable
    }

    /// What all keys begin with.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.run.prefix()
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memtable.bytes()
    }

    /// The current entry from its key on, so that it stays valid on its own.
    #[inline]
    pub(crate) fn pin_current_from_purse(&mut self) -> Option<Pinned> {
        let entry = self.current.as_ref()?;
        Some(self.memtable.mapping().pin_from(&mut self.purse, entry.key_start..entry.end))
    }

    /// A range of the bytes that stays valid on its own.
    #[inline]
    pub(crate) fn pin_from_purse(&mut self, range: Range<usize>) -> Pinned {
        self.memtable.mapping().pin_from(&mut self.purse, range)
    }

    /// A bug, if the cursor stands on an item that leads to no entry: the run would seem to end there.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Bug> {
        must(self.current.is_some() || self.at >= self.run.len(), "a sorted run leads to no entry")
    }

    #[inline]
    pub(crate) fn entry(&self) -> Option<EntryRef<'_>> {
        Some(self.current.as_ref()?.in_bytes(self.bytes()))
    }

    /// The same of the entry that the last step has left.
    pub(crate) fn left(&self) -> Option<(Entry, &[u8])> {
        let item = self.run.get(self.left)?;
        Some((self.memtable.entry(item.locator)?, self.bytes()))
    }

    #[inline]
    fn go_to(&mut self, at: Option<usize>) {
        self.left = self.at;
        self.at = at.unwrap_or(self.run.len());
        self.current = self.run.get(self.at).and_then(|item| self.memtable.entry(item.locator));
    }

    /// How many entries have a key below `key`, or, with `or_equal`, not above it.
    fn rank(&self, key: &[u8], or_equal: bool) -> usize {
        self.run.rank(key, or_equal, |item| item.key(self.bytes()))
    }

    pub(crate) fn seek_first(&mut self) {
        self.go_to(Some(0));
    }

    pub(crate) fn seek_last(&mut self) {
        self.go_to(self.run.len().checked_sub(1));
    }

    /// The first entry at or behind `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.go_to(Some(self.rank(key, false)));
    }

    /// The last entry at or in front of `key`.
    pub(crate) fn seek_back(&mut self, key: &[u8]) {
        self.go_to(self.rank(key, true).checked_sub(1));
    }

    pub(crate) fn next(&mut self) -> Result<(), Bug> {
        self.prefetch(self.at.saturating_add(AHEAD));
        self.go_to(self.at.checked_add(1));
        self.check()
    }

    pub(crate) fn prev(&mut self) -> Result<(), Bug> {
        // In front of the first one this wraps, to where there is nothing.
        self.prefetch(self.at.wrapping_sub(AHEAD));
        self.go_to(self.at.checked_sub(1));
        self.check()
    }

    /// Starts to bring an entry that will be needed soon into the cache: in order of key, each one is a miss.
    #[inline]
    fn prefetch(&self, at: usize) {
        let Some(item) = self.run.get(at) else { return };
        let start = item.locator as usize * 8;
        for line in self.bytes().get(start..).unwrap_or_default().iter().step_by(LINE).take(AHEAD_LINES) {
            prefetch(line);
        }
    }
}
