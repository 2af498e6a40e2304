//! A cursor over one section of a table.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use super::body::{LINE, Verify, end, first};
use super::reader::TableReader;
use super::window::Window;
use crate::error::{Damage, Result, bug};
use crate::format::KeyspaceId;
use crate::format::alignment::Alignment;
use crate::format::entry::Entry;
use crate::format::entry_ref::EntryRef;
use crate::format::section::Section;
use crate::sys::{Block, Pinned, Purse, prefetch};

/// How far ahead of the current entry a walk looks.
const AHEAD_BYTES: usize = 1024;

/// How far ahead each step of a walk in one table looks. The processor notices that a walk is sequential, but not before it has
/// gone some way, and forgets it at the end of each page: of a seek and a hundred entries, this takes away a sixth. With 1,024
/// or 2,048 bytes, a seek and ten entries take 5 % longer.
const STEP_BYTES: usize = 512;

/// How many bytes a seek asks for at once: of those that it walks over, or that a short scan does.
const SEEK_BYTES: usize = 2048;

/// Walks the entries of a section in both directions, all versions; within a key the newest comes first.
#[derive(Debug, Clone)]
pub(crate) struct TableCursor {
    reader: Arc<TableReader>,
    /// The number of the section.
    section: usize,
    /// Where its places begin and end.
    start: usize,
    end: usize,
    alignment: Alignment,
    has_single_versions: bool,
    verify: Verify,
    current: Option<Entry>,
    /// The place of the current entry, which is in the window.
    place: usize,
    window: Window,
    /// Of the window: see [`Home`].
    home: Home,
    /// Where the entry is that the last step has left, and in what.
    left_at: Option<(usize, Home)>,
    /// The block of that entry, if the window has moved.
    left_block: Option<(Home, Block)>,
    /// Where in the order index the cursor is, about.
    near: usize,
    /// Blocks that the window has been on.
    blocks: u32,
    /// Entries in front of the current one, back to a place that the order index knows, and their places.
    behind: Vec<(usize, Home, Entry)>,
    /// Places of keys in front of all these, ascending: the order index is asked once for a group.
    places: Vec<usize>,
    /// For who pins one entry after another.
    purse: Purse,
}

/// What an entry of a table is in: its mapping, or one of the blocks that a cursor comes to. A cursor has the mapping, and the
/// blocks of its current entry and of the one that the last step has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Home(Option<NonZeroU32>);

impl Home {
    #[inline]
    pub(crate) fn is_mapping(self) -> bool {
        self.0.is_none()
    }
}

impl TableCursor {
    /// A cursor over the keyspace's section, if there is one.
    pub(crate) fn new(reader: Arc<TableReader>, keyspace: KeyspaceId, verify: Verify) -> Option<Self> {
        let number = reader.section_of(keyspace)?;
        let section = reader.sections().get(number)?;
        let (start, end, alignment) = (first(section), end(section), section.alignment);
        let has_single_versions = section.has_single_versions();
        Some(Self {
            reader,
            section: number,
            start,
            end,
            alignment,
            has_single_versions,
            verify,
            current: None,
            place: start,
            window: Window::default(),
            home: Home::default(),
            left_block: None,
            left_at: None,
            near: 0,
            blocks: 0,
            behind: Vec::new(),
            places: Vec::new(),
            purse: Purse::default(),
        })
    }

    /// The bytes that the current entry is in.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.reader.body.bytes(&self.window)
    }

    /// The bytes of the mapping, or of the block that the cursor is in or was in before.
    #[inline]
    pub(crate) fn bytes_of(&self, home: Home) -> &[u8] {
        if home == self.home { self.bytes() } else { self.block(home).map_or(self.reader.bytes(), Block::bytes) }
    }

    /// What the current entry is in.
    #[inline]
    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// The block, unless it is the mapping.
    pub(crate) fn block(&self, home: Home) -> Option<&Block> {
        block_of((self.home, &self.window), self.left_block.as_ref(), home)
    }

    /// The current entry from its key on, so that it stays valid on its own.
    #[inline]
    pub(crate) fn pin_current_from_purse(&mut self) -> Option<Pinned> {
        let entry = self.current.as_ref()?;
        let range = entry.key_start..entry.end;
        Some(match self.window.block() {
            Some(block) => block.pin_from(&mut self.purse, range),
            None => self.reader.mapping().pin_from(&mut self.purse, range),
        })
    }

    /// A range of what an entry is in that stays valid on its own.
    #[inline]
    pub(crate) fn pin_from_purse(&mut self, home: Home, range: Range<usize>) -> Pinned {
        match block_of((self.home, &self.window), self.left_block.as_ref(), home) {
            Some(block) => block.pin_from(&mut self.purse, range),
            None => self.reader.mapping().pin_from(&mut self.purse, range),
        }
    }

    pub(crate) fn reader(&self) -> &TableReader {
        &self.reader
    }

    /// What the keys of its section lie between.
    pub(crate) fn bounds(&self) -> (&[u8], &[u8]) {
        self.reader.sections().get(self.section).map_or((&[], &[]), |s| (s.lower.key(), s.upper.key()))
    }

    /// Whether its section says that it has one version of each key.
    #[inline]
    pub(crate) fn has_single_versions(&self) -> bool {
        self.has_single_versions
    }

    #[inline]
    pub(crate) fn is_at_entry(&self) -> bool {
        self.current.is_some()
    }

    #[inline]
    pub(crate) fn entry(&self) -> Option<EntryRef<'_>> {
        Some(self.current.as_ref()?.in_bytes(self.bytes()))
    }

    /// The same of the entry that the last step has left.
    pub(crate) fn left(&self) -> Option<(Entry, &[u8])> {
        let (start, home) = self.left_at?;
        let (bytes, base) = (self.bytes_of(home), self.reader.sections().get(self.section)?.base());
        Some((Entry::parse_in_table(bytes, start, bytes.len(), base).ok()?, bytes))
    }

    /// The entry at a place.
    #[inline]
    fn read(&mut self, place: usize) -> Result<Entry> {
        match self.sure_entry(place) {
            Some(entry) => Ok(entry),
            None => self.move_window(place),
        }
    }

    /// The same, if the window need not move.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "passed on in memory, the entry would hold up every step of a scan")]
    fn sure_entry(&self, place: usize) -> Option<Entry> {
        let entry = self.reader.body.sure_entry(&self.window, place)?;
        (self.verify != Verify::Again || entry.alignment() == self.alignment).then_some(entry)
    }

    /// The same where the window may have to move.
    #[cold]
    fn move_window(&mut self, place: usize) -> Result<Entry> {
        let section: &Section = self.reader.section(self.section)?;
        let before = self.window.block().cloned();
        let read = self.reader.body.make_sure(&mut self.window, section, place, self.verify);
        if !same_block(before.as_ref(), self.window.block()) {
            // A step back may come through several blocks: what is kept is that of the entry that it has left.
            if self.left_at.is_some_and(|(_, home)| home == self.home) {
                self.left_block = before.map(|block| (self.home, block));
            }
            self.home = Home::default();
            if self.window.block().is_some() {
                self.blocks = self.blocks.wrapping_add(1).max(1);
                self.home = Home(NonZeroU32::new(self.blocks));
            }
        }
        if read.is_err() {
            self.current = None;
        }
        read
    }

    #[inline]
    fn go_to(&mut self, place: usize) -> Result<()> {
        if let Some(entry) = self.sure_entry(place) {
            (self.current, self.place) = (Some(entry), place);
            return Ok(());
        }
        self.go_far(place)
    }

    #[cold]
    fn go_far(&mut self, place: usize) -> Result<()> {
        self.current = if place < self.end { Some(self.move_window(place)?) } else { None };
        self.place = place;
        Ok(())
    }

    /// To be called in front of every seek.
    #[inline]
    fn leave(&mut self) {
        self.forget_what_is_in_front();
        (self.current, self.left_at, self.left_block) = (None, None, None);
    }

    #[inline]
    fn forget_what_is_in_front(&mut self) {
        self.behind.clear();
        self.places.clear();
    }

    pub(crate) fn seek_first(&mut self) -> Result<()> {
        self.leave();
        self.go_to(self.start)
    }

    pub(crate) fn seek_last(&mut self) -> Result<()> {
        self.leave();
        self.go_back_from(self.end)
    }

    /// The first step of a seek, as far as it waits for nothing: asks the processor for what the next one looks at.
    #[inline]
    pub(crate) fn aim(&mut self, key: &[u8]) -> Result<()> {
        self.reader.aim(self.section, key, &mut self.near)
    }

    /// The step of a seek that finds out where to look for the first entry at or behind `key` (behind it, if `past`), and asks
    /// the processor for what is there. O(log n).
    #[inline]
    pub(crate) fn find(&mut self, key: &[u8], past: bool) -> Result<()> {
        self.leave();
        self.place = self.end;
        if self.start < self.end {
            self.place = self.reader.start(self.section, key, past, self.verify, &mut self.near)?;
            self.reader.body.prefetch(&self.window, self.place, SEEK_BYTES);
        }
        Ok(())
    }

    /// Goes to the first entry at or behind `key`, when that has been [found](Self::find): with a sparse index over up to an
    /// interval of entries.
    pub(crate) fn arrive(&mut self, key: &[u8]) -> Result<()> {
        let mut place = self.place;
        while place < self.end {
            if let Some((other, behind)) = self.reader.body.sure_key(&self.window, place)
                && other < key
            {
                place = behind;
                continue;
            }
            let entry = self.read(place)?;
            if entry.key(self.bytes()) >= key {
                (self.current, self.place) = (Some(entry), place);
                break;
            }
            place = self.window.behind(place, &entry);
        }
        Ok(())
    }

    /// Goes to the last entry at or in front of `key`, the oldest version of that key, if it is there, when what is past it has
    /// been [found](Self::find).
    pub(crate) fn arrive_back(&mut self, key: &[u8]) -> Result<()> {
        if self.start == self.end {
            return Ok(());
        }
        let mut place = self.place;
        while place < self.end {
            let entry = self.read(place)?;
            if entry.key(self.bytes()) > key {
                break;
            }
            self.behind.push((place, self.home, entry));
            place = self.window.behind(place, &entry);
        }
        match self.behind.pop() {
            Some(last) => self.go_back_to(last),
            None => self.go_back_from(place),
        }
    }

    /// Goes on to the next entry, if there is no more to it than to read its header: most often.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "of each step of a scan: a call costs a tenth of it")]
    pub(crate) fn next_if_sure(&mut self) -> Option<EntryRef<'_>> {
        let left = self.current.as_ref()?;
        let place = self.window.behind(self.place, left);
        let entry = self.sure_entry(place)?;
        self.left_at = Some((left.start, self.home));
        self.forget_what_is_in_front();
        // Stored where it stays at once: an entry that is passed on through memory is stored word by word and loaded in pieces
        // of two, which takes as long as all else that a scan does.
        self.place = place;
        let bytes = self.reader.body.bytes(&self.window);
        prefetch_at(bytes, entry.start.wrapping_add(STEP_BYTES));
        Some(self.current.insert(entry).in_bytes(bytes))
    }

    /// The same backwards, if the order index has been asked for what is in front, and there is one version of it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    pub(crate) fn prev_if_sure(&mut self) -> Option<EntryRef<'_>> {
        let left = self.current.as_ref()?;
        let place = *self.places.last().filter(|_| self.behind.is_empty())?;
        let entry = self.sure_entry(place)?;
        if self.window.behind(place, &entry) != self.place {
            return None;
        }
        self.left_at = Some((left.start, self.home));
        self.places.pop();
        self.place = place;
        let bytes = self.reader.body.bytes(&self.window);
        // In front of the file this wraps, to where there is nothing.
        prefetch_at(bytes, entry.start.wrapping_sub(STEP_BYTES));
        Some(self.current.insert(entry).in_bytes(bytes))
    }

    pub(crate) fn next(&mut self) -> Result<()> {
        let Some(entry) = &self.current else { return Ok(()) };
        let place = self.window.behind(self.place, entry);
        self.left_at = Some((entry.start, self.home));
        self.forget_what_is_in_front();
        self.go_to(place)
    }

    /// Starts to bring what lies [`AHEAD_BYTES`] behind the current entry into the cache, as many bytes as that has: among many
    /// tables that are walked in turns, the processor does not notice that each walk is sequential.
    #[inline]
    pub(crate) fn prefetch(&self) {
        let Some(entry) = &self.current else { return };
        let length = (entry.end - entry.start).min(AHEAD_BYTES);
        self.reader.body.prefetch(&self.window, self.place + AHEAD_BYTES, length);
    }

    pub(crate) fn prev(&mut self) -> Result<()> {
        let Some(entry) = &self.current else { return Ok(()) };
        self.left_at = Some((entry.start, self.home));
        match self.behind.pop() {
            Some(found) => self.go_back_to(found),
            None => self.go_back_from(self.place),
        }
    }

    /// Goes to an entry that has been read, where it was then.
    #[inline]
    fn go_back_to(&mut self, (place, home, entry): (usize, Home, Entry)) -> Result<()> {
        if home != self.home {
            return self.go_to(place);
        }
        (self.current, self.place) = (Some(entry), place);
        Ok(())
    }

    /// Goes to the entry in front of `place`, by way of a place that the order index knows: what stands between is decoded
    /// once and walked back.
    fn go_back_from(&mut self, place: usize) -> Result<()> {
        if place <= self.start {
            self.current = None;
            return Ok(());
        }
        if self.places.is_empty() {
            let from = place.saturating_sub(SEEK_BYTES).max(self.start);
            self.reader.body.prefetch(&self.window, from, place - from);
            self.reader.before(self.section, place, &mut self.near, &mut self.places)?;
        }
        let mut at = self.places.pop().ok_or_else(|| bug("nothing is in front of what is not the first"))?;
        loop {
            let entry = self.read(at)?;
            let behind = self.window.behind(at, &entry);
            if behind == place {
                (self.current, self.place) = (Some(entry), at);
                return Ok(());
            }
            if behind > place {
                return Err(self.reader.file().corrupt(at as u64, Damage::OutOfBounds));
            }
            self.behind.push((at, self.home, entry));
            at = behind;
        }
    }
}

/// Starts to bring the line with a byte, if there is one, and the one behind it into the cache: with [`Body::prefetch`], which
/// finds a place and goes on from line to line, a step backwards takes 31 ns instead of 30, and seek + 100 2 % longer.
///
/// [`Body::prefetch`]: super::body::Body::prefetch
#[inline(always)]
#[expect(clippy::inline_always, reason = "of each step of a scan")]
fn prefetch_at(bytes: &[u8], at: usize) {
    for at in [at, at.wrapping_add(LINE)] {
        if let Some(byte) = bytes.get(at) {
            prefetch(byte);
        }
    }
}

/// See [`TableCursor::block`].
#[inline]
fn block_of<'b>(
    (of_window, window): (Home, &'b Window),
    left: Option<&'b (Home, Block)>,
    home: Home,
) -> Option<&'b Block> {
    if home == of_window {
        return window.block();
    }
    let left = left.filter(|(left, _)| *left == home).map(|(_, block)| block);
    debug_assert!(left.is_some() || home == Home::default(), "an entry is used of a block that was left long ago");
    left
}

fn same_block(a: Option<&Block>, b: Option<&Block>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.is(b),
        (None, None) => true,
        _ => false,
    }
}
