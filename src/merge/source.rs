//! What can be merged: one run of a memtable, one table, or the tables of a level.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::format::KeyspaceId;
use crate::format::entry::Entry;
use crate::memtable::RunCursor;
use crate::sys::{Block, Mapping};
use crate::table::{Table, TableCursor, TableReader, Verify};

/// The tables of one level, which do not overlap, as one source.
#[derive(Debug, Clone)]
pub(crate) struct LevelCursor {
    tables: Arc<[Arc<Table>]>,
    keyspace: KeyspaceId,
    verify: Verify,
    /// The table of the cursor.
    at: usize,
    cursor: Option<TableCursor>,
    /// Whether the cursor has been at an entry of the table.
    was_at_entry: bool,
    /// The table of the entry in front of the cursor's present table, in the direction of travel, which may be in use still.
    left: Option<(usize, Arc<TableReader>)>,
}

impl LevelCursor {
    pub(crate) fn new(tables: Arc<[Arc<Table>]>, keyspace: KeyspaceId, verify: Verify) -> Self {
        Self { tables, keyspace, verify, at: 0, cursor: None, was_at_entry: false, left: None }
    }

    /// A table whose entries may be in use: that of the cursor, or the one that it has left.
    fn reader(&self, table: usize) -> Option<&Arc<TableReader>> {
        match (&self.cursor, &self.left) {
            (Some(cursor), _) if self.at == table => Some(cursor.reader()),
            (_, Some((left, reader))) if *left == table => Some(reader),
            _ => {
                debug_assert!(false, "an entry of a table is used that was left long ago");
                None
            }
        }
    }

    /// The mapped bytes of such a table, most often of the one that the cursor is in.
    #[inline]
    fn mapped(&self, table: usize) -> &[u8] {
        match &self.cursor {
            Some(cursor) if self.at == table => cursor.mapped(),
            _ => self.reader(table).map_or(&[], |reader| reader.bytes()),
        }
    }

    /// Leaves the table of the cursor.
    fn leave(&mut self) {
        if let Some(cursor) = self.cursor.take()
            && self.was_at_entry
        {
            self.left = Some((self.at, Arc::clone(cursor.reader())));
        }
        self.was_at_entry = false;
    }

    /// Whether the cursor is at an entry.
    fn is_at_entry(&mut self) -> bool {
        let is_at_entry = self.current().is_some();
        self.was_at_entry |= is_at_entry;
        is_at_entry
    }

    #[inline]
    fn current(&self) -> Option<&Entry> {
        self.cursor.as_ref()?.current()
    }

    fn open(&mut self, at: usize) -> Result<Option<&mut TableCursor>> {
        if self.at != at || self.cursor.is_none() {
            self.leave();
            self.at = at;
            self.cursor = match self.tables.get(at) {
                Some(table) => TableCursor::new(table.pin()?, self.keyspace, self.verify),
                None => None,
            };
        }
        Ok(self.cursor.as_mut())
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

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        let at = self.tables.partition_point(|table| table.only_section().is_some_and(|s| s.upper.is_in_front_of(key)));
        let Some(cursor) = self.open(at)? else { return Ok(()) };
        cursor.seek(key)?;
        // Its range tombstones may reach further than its entries.
        if self.is_at_entry() { Ok(()) } else { self.first_from(at + 1) }
    }

    fn seek_back(&mut self, key: &[u8]) -> Result<()> {
        let end =
            self.tables.partition_point(|table| table.only_section().is_some_and(|s| s.lower.is_in_front_of(key)));
        let Some(at) = end.checked_sub(1) else { return self.last_below(0) };
        if let Some(cursor) = self.open(at)? {
            cursor.seek_back(key)?;
            if self.is_at_entry() {
                return Ok(());
            }
        }
        self.last_below(at)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        cursor.next()?;
        if cursor.current().is_none() { self.first_from(self.at + 1) } else { Ok(()) }
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        cursor.prev()?;
        if cursor.current().is_none() { self.last_below(self.at) } else { Ok(()) }
    }
}

/// Something sorted by (key ascending, sequence descending).
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Run(RunCursor),
    Table(TableCursor),
    Level(LevelCursor),
}

/// Calls the method of the same name of whichever cursor it is; those of runs cannot fail, or there is a bug.
impl Source {
    #[inline]
    pub(super) fn current(&self) -> Option<&Entry> {
        match self {
            Self::Run(cursor) => cursor.current(),
            Self::Table(cursor) => cursor.current(),
            Self::Level(cursor) => cursor.current(),
        }
    }

    pub(super) fn go(&mut self, place: Place<'_>) -> Result<()> {
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
            (Self::Table(cursor), Place::AtOrBehind(key)) => cursor.seek(key),
            (Self::Table(cursor), Place::AtOrInFront(key)) => cursor.seek_back(key),
            (Self::Level(cursor), Place::First) => cursor.seek_first(),
            (Self::Level(cursor), Place::Last) => cursor.seek_last(),
            (Self::Level(cursor), Place::AtOrBehind(key)) => cursor.seek(key),
            (Self::Level(cursor), Place::AtOrInFront(key)) => cursor.seek_back(key),
        }
    }

    #[inline]
    pub(super) fn step(&mut self, forward: bool) -> Result<()> {
        match (self, forward) {
            (Self::Run(cursor), forward) => {
                if forward {
                    cursor.next();
                } else {
                    cursor.prev();
                }
                Ok(cursor.check()?)
            }
            (Self::Table(cursor), true) => cursor.next(),
            (Self::Table(cursor), false) => cursor.prev(),
            (Self::Level(cursor), true) => cursor.next(),
            (Self::Level(cursor), false) => cursor.prev(),
        }
    }

    /// The bytes that the current entry is in.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Run(cursor) => cursor.bytes(),
            Self::Table(cursor) => cursor.bytes(),
            Self::Level(cursor) => cursor.cursor.as_ref().map_or(&[], |cursor| cursor.bytes()),
        }
    }

    /// The block that the current entry is in, unless it is in the mapping.
    #[inline]
    pub(super) fn block(&self) -> Option<&Block> {
        match self {
            Self::Run(_) => None,
            Self::Table(cursor) => cursor.block(),
            Self::Level(cursor) => cursor.cursor.as_ref()?.block(),
        }
    }

    /// The bytes that entries of table `table` of this source are in if they are in no block.
    #[inline]
    pub(super) fn mapped(&self, table: usize) -> &[u8] {
        match self {
            Self::Run(cursor) => cursor.bytes(),
            Self::Table(cursor) => cursor.mapped(),
            Self::Level(cursor) => cursor.mapped(table),
        }
    }

    /// The file of table `table` of this source; memtables have none.
    pub(super) fn path(&self, table: usize) -> Option<&Path> {
        match self {
            Self::Run(_) => None,
            Self::Table(cursor) => Some(cursor.reader().file().path()),
            Self::Level(cursor) => cursor.reader(table).map(|reader| reader.file().path()),
        }
    }

    pub(super) fn mapping(&self, table: usize) -> Option<&Mapping> {
        match self {
            Self::Run(cursor) => Some(cursor.memtable().mapping()),
            Self::Table(cursor) => Some(cursor.reader().mapping()),
            Self::Level(cursor) => cursor.reader(table).map(|reader| reader.mapping()),
        }
    }

    #[inline]
    pub(super) fn table(&self) -> usize {
        match self {
            Self::Level(cursor) => cursor.at,
            _ => 0,
        }
    }
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
