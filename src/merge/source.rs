//! What can be merged: one run of a memtable, one table, or the tables of a level.

use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::format::KeyspaceId;
use crate::format::entry::Entry;
use crate::format::entry_ref::EntryRef;
use crate::format::range::{self as key, Edge};
use crate::format::section::Section;
use crate::memtable::RunCursor;
use crate::sys::{Block, Mapping, Pinned};
use crate::table::{Home, Level, Table, TableCursor, Verify};

/// Tables that do not overlap, in order of their keys.
#[derive(Debug, Clone)]
pub(crate) enum Tables {
    /// A level; each table has one section.
    Level(Level),
    /// One table.
    One(Arc<Table>),
}

impl Deref for Tables {
    type Target = [Arc<Table>];

    #[inline]
    fn deref(&self) -> &[Arc<Table>] {
        match self {
            Self::Level(tables) => tables,
            Self::One(table) => std::slice::from_ref(table),
        }
    }
}

impl Tables {
    /// What the tables say of a keyspace: one of them.
    #[inline]
    fn section<'t>(&self, table: &'t Table, keyspace: KeyspaceId) -> Option<&'t Section> {
        match self {
            Self::Level(_) => table.only_section(),
            Self::One(_) => table.section(keyspace),
        }
    }

    /// What all keys of a keyspace lie between.
    fn bounds(&self, keyspace: KeyspaceId) -> Option<(&Edge, &Edge)> {
        let lower = &self.section(self.first()?, keyspace)?.lower;
        Some((lower, &self.section(self.last()?, keyspace)?.upper))
    }

    /// Whether they may say something about keys between two edges.
    pub(crate) fn overlap(&self, keyspace: KeyspaceId, (start, end): &key::Range<'_>) -> bool {
        self.bounds(keyspace).is_some_and(|(lower, upper)| lower.as_ref() < *end && *start < upper.as_ref())
    }
}

/// Tables that do not overlap, as one source. They are opened one by one, when the cursor comes to them.
#[derive(Debug, Clone)]
pub(crate) struct LevelCursor {
    tables: Tables,
    keyspace: KeyspaceId,
    verify: Verify,
    /// The table of the cursor.
    at: usize,
    /// In a box: a scan that has been made and not moved is small, and a table that is left is handed on.
    cursor: Option<Box<TableCursor>>,
    /// Whether the cursor has been at an entry of the table.
    was_at_entry: bool,
    /// The table in front of the present one, in the direction of travel, and the cursor as it has left it: its last entry may
    /// be in use still.
    left: Option<(usize, Box<TableCursor>)>,
    /// The table in which the seek under way begins.
    sought: Option<usize>,
}

impl LevelCursor {
    pub(crate) fn new(tables: Tables, keyspace: KeyspaceId, verify: Verify) -> Self {
        Self { tables, keyspace, verify, at: 0, cursor: None, was_at_entry: false, left: None, sought: None }
    }

    /// Whether it is a table of level 0, and not a level.
    pub(super) fn is_one_table(&self) -> bool {
        matches!(self.tables, Tables::One(_))
    }

    /// What all keys lie between.
    fn bounds(&self) -> Option<(&[u8], &[u8])> {
        self.tables.bounds(self.keyspace).map(|(lower, upper)| (lower.key(), upper.key()))
    }

    /// The cursor over a table whose entries may be in use: the present one, or the one that was left.
    #[inline]
    fn cursor(&self, table: usize) -> Option<&TableCursor> {
        match &self.cursor {
            Some(cursor) if self.at == table => Some(cursor),
            _ => self.left(table),
        }
    }

    #[inline]
    fn cursor_of_mut(&mut self, table: usize) -> Option<&mut TableCursor> {
        match &mut self.cursor {
            Some(cursor) if self.at == table => Some(cursor),
            _ => self.left.as_mut().filter(|(left, _)| *left == table).map(|(_, cursor)| &mut **cursor),
        }
    }

    fn left(&self, table: usize) -> Option<&TableCursor> {
        let left = self.left.as_ref().filter(|(left, _)| *left == table).map(|(_, cursor)| &**cursor);
        debug_assert!(left.is_some(), "an entry of a table is used that was left long ago");
        left
    }

    /// Leaves the table of the cursor.
    fn leave(&mut self) {
        if let Some(cursor) = self.cursor.take()
            && self.was_at_entry
        {
            self.left = Some((self.at, cursor));
        }
        self.was_at_entry = false;
    }

    /// Whether the cursor is at an entry.
    fn is_at_entry(&mut self) -> bool {
        let is_at_entry = self.cursor.as_deref().is_some_and(TableCursor::is_at_entry);
        self.was_at_entry |= is_at_entry;
        is_at_entry
    }

    #[inline]
    fn entry(&self) -> Option<EntryRef<'_>> {
        self.cursor.as_deref()?.entry()
    }

    /// See [`Source::left`]: of the present table, or, if that has just been come to, of the one that was left.
    fn left_entry(&self) -> Option<(Entry, &[u8], Option<&Path>)> {
        self.cursor.as_deref().and_then(left_of).or_else(|| left_of(&self.left.as_ref()?.1))
    }

    fn open(&mut self, at: usize) -> Result<Option<&mut TableCursor>> {
        if self.at != at || self.cursor.is_none() {
            // Who seeks to and fro comes to the one that he has left.
            let left = self.left.take_if(|(left, _)| *left == at);
            self.leave();
            self.at = at;
            self.cursor = match (left, self.tables.get(at)) {
                (Some((_, cursor)), _) => Some(cursor),
                (None, Some(table)) => TableCursor::new(table.pin()?, self.keyspace, self.verify).map(Box::new),
                (None, None) => None,
            };
        }
        Ok(self.cursor.as_deref_mut())
    }

    fn seek_first(&mut self) -> Result<()> {
        self.first_from(0)
    }

    fn seek_last(&mut self) -> Result<()> {
        self.last_below(self.tables.len())
    }

    /// Goes to the first entry of table `at` or of the first one behind it that has any.
    fn first_from(&mut self, mut at: usize) -> Result<()> {
        while let Some(cursor) = self.open(at)? {
            cursor.seek_first()?;
            if self.is_at_entry() {
                break;
            }
            at += 1;
        }
        Ok(())
    }

    /// Goes to the last entry of the tables in front of table `end`.
    fn last_below(&mut self, end: usize) -> Result<()> {
        for at in (0..end).rev() {
            if let Some(cursor) = self.open(at)? {
                cursor.seek_last()?;
                if self.is_at_entry() {
                    return Ok(());
                }
            }
        }
        self.leave();
        Ok(())
    }

    /// The table in which a seek begins.
    fn table_of(&self, key: &[u8], back: bool) -> Option<usize> {
        match &self.tables {
            Tables::Level(level) if back => level.begin_at_or_before(key).checked_sub(1),
            Tables::Level(level) => Some(level.end_before(key)),
            Tables::One(table) => {
                let section = table.section(self.keyspace)?;
                let passed = |edge: &Edge| usize::from(edge.is_in_front_of(key));
                if back { passed(&section.lower).checked_sub(1) } else { Some(passed(&section.upper)) }
            }
        }
    }

    fn aim(&mut self, key: &[u8], back: bool, alone: bool) -> Result<()> {
        self.sought = self.table_of(key, back);
        match &mut self.cursor {
            Some(cursor) if !alone && self.sought == Some(self.at) => cursor.aim(key),
            _ => Ok(()),
        }
    }

    fn find(&mut self, key: &[u8], back: bool) -> Result<()> {
        match self.sought.map(|at| self.open(at)).transpose()?.flatten() {
            Some(cursor) => cursor.find(key, back),
            None => Ok(()),
        }
    }

    fn arrive(&mut self, key: &[u8], back: bool) -> Result<()> {
        let Some(at) = self.sought else { return self.last_below(0) };
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        if back {
            cursor.arrive_back(key)?;
        } else {
            cursor.arrive(key)?;
        }
        if self.is_at_entry() {
            return Ok(());
        }
        // The range tombstones of a table may reach further than its entries.
        if back { self.last_below(at) } else { self.first_from(at + 1) }
    }

    fn next(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        cursor.next()?;
        if cursor.is_at_entry() { Ok(()) } else { self.first_from(self.at + 1) }
    }

    fn prev(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        cursor.prev()?;
        if cursor.is_at_entry() { Ok(()) } else { self.last_below(self.at) }
    }
}

/// Something sorted by (key ascending, sequence descending).
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Run(RunCursor),
    Table(Box<TableCursor>),
    Level(LevelCursor),
}

impl From<TableCursor> for Source {
    fn from(cursor: TableCursor) -> Self {
        Self::Table(Box::new(cursor))
    }
}

/// Calls the method of the same name of whichever cursor it is; those of runs cannot fail, or there is a bug.
impl Source {
    #[inline]
    pub(super) fn entry(&self) -> Option<EntryRef<'_>> {
        match self {
            Self::Run(cursor) => cursor.entry(),
            Self::Table(cursor) => cursor.entry(),
            Self::Level(cursor) => cursor.entry(),
        }
    }

    /// The entry that the last step has left, its bytes and its file; memtables have none.
    #[cold]
    pub(super) fn left(&self) -> Option<(Entry, &[u8], Option<&Path>)> {
        match self {
            Self::Run(cursor) => cursor.left().map(|(entry, bytes)| (entry, bytes, None)),
            Self::Table(cursor) => left_of(cursor),
            Self::Level(cursor) => cursor.left_entry(),
        }
    }

    /// Goes to a place.
    pub(super) fn go(&mut self, place: Place<'_>) -> Result<()> {
        self.aim(place, true)?;
        self.find(place)?;
        self.arrive(place)
    }

    /// Who goes to a place in many sources lets all of them do each of three steps before the next one: what one waits for in
    /// memory, the others wait for at the same time. This is the first step, of which there is less to do for one `alone`.
    pub(super) fn aim(&mut self, place: Place<'_>, alone: bool) -> Result<()> {
        match (self, place.key()) {
            (Self::Table(cursor), Some((key, _))) if !alone => cursor.aim(key),
            (Self::Level(cursor), Some((key, back))) => cursor.aim(key, back, alone),
            _ => Ok(()),
        }
    }

    /// The second step.
    pub(super) fn find(&mut self, place: Place<'_>) -> Result<()> {
        match (self, place.key()) {
            (Self::Table(cursor), Some((key, back))) => cursor.find(key, back),
            (Self::Level(cursor), Some((key, back))) => cursor.find(key, back),
            _ => Ok(()),
        }
    }

    /// The last step.
    pub(super) fn arrive(&mut self, place: Place<'_>) -> Result<()> {
        match (self, place) {
            (Self::Run(cursor), place) => {
                match place {
                    Place::First => cursor.seek_first(),
                    Place::Last => cursor.seek_last(),
                    Place::AtOrBehind(key) => cursor.seek(key),
                    Place::AtOrInFront(key) => cursor.seek_back(key),
                }
                Ok(cursor.check()?)
            }
            (Self::Table(cursor), Place::First) => cursor.seek_first(),
            (Self::Table(cursor), Place::Last) => cursor.seek_last(),
            (Self::Table(cursor), Place::AtOrBehind(key)) => cursor.arrive(key),
            (Self::Table(cursor), Place::AtOrInFront(key)) => cursor.arrive_back(key),
            (Self::Level(cursor), Place::First) => cursor.seek_first(),
            (Self::Level(cursor), Place::Last) => cursor.seek_last(),
            (Self::Level(cursor), Place::AtOrBehind(key)) => cursor.arrive(key, false),
            (Self::Level(cursor), Place::AtOrInFront(key)) => cursor.arrive(key, true),
        }
    }

    /// Goes on to the next entry.
    pub(super) fn next(&mut self) -> Result<()> {
        match self {
            Self::Run(cursor) => Ok(cursor.next()?),
            Self::Table(cursor) => cursor.next(),
            Self::Level(cursor) => cursor.next(),
        }
    }

    /// Goes to the entry in front.
    pub(super) fn prev(&mut self) -> Result<()> {
        match self {
            Self::Run(cursor) => Ok(cursor.prev()?),
            Self::Table(cursor) => cursor.prev(),
            Self::Level(cursor) => cursor.prev(),
        }
    }

    /// The cursor over the table that it is in.
    #[inline]
    pub(super) fn cursor_mut(&mut self) -> Option<&mut TableCursor> {
        match self {
            Self::Run(_) => None,
            Self::Table(cursor) => Some(cursor),
            Self::Level(cursor) => cursor.cursor.as_deref_mut(),
        }
    }

    /// Whether the table that it is in says that it has one version of each key; memtables do not know.
    #[inline]
    pub(super) fn has_single_versions(&self) -> bool {
        match self {
            Self::Run(_) => false,
            Self::Table(cursor) => cursor.has_single_versions(),
            Self::Level(cursor) => cursor.cursor.as_deref().is_some_and(TableCursor::has_single_versions),
        }
    }

    /// Starts to bring what comes next into the cache.
    #[inline]
    pub(super) fn prefetch(&self) {
        match self {
            Self::Run(_) => {}
            Self::Table(cursor) => cursor.prefetch(),
            Self::Level(cursor) => cursor.cursor.iter().for_each(|cursor| cursor.prefetch()),
        }
    }

    /// The table of this source that the current entry is in, and what in it.
    #[inline]
    pub(super) fn home(&self) -> (usize, Home) {
        match self {
            Self::Run(_) => (0, Home::default()),
            Self::Table(cursor) => (0, cursor.home()),
            Self::Level(cursor) => (cursor.at, cursor.cursor.as_deref().map(TableCursor::home).unwrap_or_default()),
        }
    }

    /// The cursor over table `table` of this source; memtables have none.
    #[inline]
    fn cursor(&self, table: usize) -> Option<&TableCursor> {
        match self {
            Self::Run(_) => None,
            Self::Table(cursor) => Some(cursor),
            Self::Level(cursor) => cursor.cursor(table),
        }
    }

    /// The bytes that entries of table `table` are in, of the present one or the one before, in its mapping or in a block.
    #[inline]
    pub(super) fn bytes_of(&self, table: usize, home: Home) -> &[u8] {
        match self {
            Self::Run(cursor) => cursor.bytes(),
            _ => self.cursor(table).map_or(&[], |cursor| cursor.bytes_of(home)),
        }
    }

    /// The block that such entries are in, unless that is the mapping.
    pub(super) fn block(&self, table: usize, home: Home) -> Option<&Block> {
        self.cursor(table)?.block(home)
    }

    /// Table `table` of this source, unless that is a memtable, or a table that is read alone.
    pub(super) fn table(&self, table: usize) -> Option<&Arc<Table>> {
        if let Self::Level(cursor) = self { cursor.tables.get(table) } else { None }
    }

    /// The file of table `table` of this source; memtables have none.
    pub(super) fn path(&self, table: usize) -> Option<&Path> {
        Some(self.cursor(table)?.reader().file().path())
    }

    /// The current entry from its key on, pinned by one who pins entry after entry: counted together.
    #[inline]
    pub(super) fn pin_current_from_purse(&mut self) -> Option<Pinned> {
        match self {
            Self::Run(cursor) => cursor.pin_current_from_purse(),
            Self::Table(cursor) => cursor.pin_current_from_purse(),
            Self::Level(cursor) => cursor.cursor.as_deref_mut()?.pin_current_from_purse(),
        }
    }

    /// A range of what entries of table `table` are in, pinned by one who pins entry after entry: counted together.
    #[inline]
    pub(super) fn pin_from_purse(&mut self, (table, home): (usize, Home), range: Range<usize>) -> Option<Pinned> {
        match self {
            Self::Run(cursor) => Some(cursor.pin_from_purse(range)),
            Self::Table(cursor) => Some(cursor.pin_from_purse(home, range)),
            Self::Level(cursor) => Some(cursor.cursor_of_mut(table)?.pin_from_purse(home, range)),
        }
    }

    pub(super) fn mapping(&self, table: usize) -> Option<&Mapping> {
        match self {
            Self::Run(cursor) => Some(cursor.memtable().mapping()),
            _ => Some(self.cursor(table)?.reader().mapping()),
        }
    }

    /// What its keys lie between; of a run, what both bounds begin with.
    pub(super) fn bounds(&self) -> Option<(&[u8], &[u8])> {
        match self {
            Self::Run(cursor) => Some((cursor.prefix(), cursor.prefix())),
            Self::Table(cursor) => Some(cursor.bounds()),
            Self::Level(cursor) => cursor.bounds(),
        }
    }
}

/// The entry that the last step of a cursor has left, its bytes and its file.
fn left_of(cursor: &TableCursor) -> Option<(Entry, &[u8], Option<&Path>)> {
    let (entry, bytes) = cursor.left()?;
    Some((entry, bytes, Some(cursor.reader().file().path())))
}

/// Where to go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'k> {
    First,
    Last,
    /// The first entry at or behind the key.
    AtOrBehind(&'k [u8]),
    /// The last entry at or in front of the key.
    AtOrInFront(&'k [u8]),
}

impl<'k> Place<'k> {
    /// The key, and whether what is sought is in front of it.
    #[inline]
    fn key(self) -> Option<(&'k [u8], bool)> {
        match self {
            Self::First | Self::Last => None,
            Self::AtOrBehind(key) => Some((key, false)),
            Self::AtOrInFront(key) => Some((key, true)),
        }
    }
}
