//! What can be merged: one run of a memtable, one table, or the tables of a level.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::format::KeyspaceId;
use crate::format::entry::Entry;
use crate::memtable::RunCursor;
use crate::sys::Mapping;
use crate::table::{Reader, Table, TableCursor, Verify};

/// The tables of one level, which do not overlap, as one source.
#[derive(Debug, Clone)]
pub(crate) struct LevelCursor {
    tables: Arc<[Arc<Table>]>,
    keyspace: KeyspaceId,
    verify: Verify,
    /// The table of the cursor.
    at: usize,
    cursor: Option<TableCursor>,
}

impl LevelCursor {
    pub(crate) fn new(tables: Arc<[Arc<Table>]>, keyspace: KeyspaceId, verify: Verify) -> Self {
        Self { tables, keyspace, verify, at: 0, cursor: None }
    }

    fn reader(&self, table: usize) -> Option<&Arc<Reader>> {
        self.tables.get(table)?.reader().ok()
    }

    /// The bytes of a table, most often of the one that the cursor is in.
    #[inline]
    fn bytes(&self, table: usize) -> &[u8] {
        match &self.cursor {
            Some(cursor) if self.at == table => cursor.bytes(),
            _ => self.reader(table).map_or(&[], |reader| reader.bytes()),
        }
    }

    #[inline]
    fn current(&self) -> Option<&Entry> {
        self.cursor.as_ref()?.current()
    }

    fn open(&mut self, at: usize) -> Result<Option<&mut TableCursor>> {
        if self.at != at || self.cursor.is_none() {
            self.at = at;
            self.cursor = match self.tables.get(at) {
                Some(table) => TableCursor::new(table.reader()?, self.keyspace, self.verify),
                None => None,
            };
        }
        Ok(self.cursor.as_mut())
    }

    fn seek_first(&mut self) -> Result<()> {
        self.open(0)?.map_or(Ok(()), TableCursor::seek_first)
    }

    fn seek_last(&mut self) -> Result<()> {
        let Some(last) = self.tables.len().checked_sub(1) else { return Ok(()) };
        self.open(last)?.map_or(Ok(()), TableCursor::seek_last)
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        let at = self.tables.partition_point(|table| table.only_section().is_some_and(|s| s.max_key.as_slice() < key));
        self.open(at)?.map_or(Ok(()), |cursor| cursor.seek(key))
    }

    fn seek_back(&mut self, key: &[u8]) -> Result<()> {
        let below =
            self.tables.partition_point(|table| table.only_section().is_some_and(|s| s.min_key.as_slice() <= key));
        let Some(at) = below.checked_sub(1) else {
            self.cursor = None;
            return Ok(());
        };
        self.open(at)?.map_or(Ok(()), |cursor| cursor.seek_back(key))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        cursor.next()?;
        if cursor.current().is_none() {
            return self.open(self.at + 1)?.map_or(Ok(()), TableCursor::seek_first);
        }
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        cursor.prev()?;
        if cursor.current().is_some() {
            return Ok(());
        }
        let Some(before) = self.at.checked_sub(1) else {
            self.cursor = None;
            return Ok(());
        };
        self.open(before)?.map_or(Ok(()), TableCursor::seek_last)
    }
}

/// Something sorted by (key ascending, sequence descending).
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Run(RunCursor),
    Table(TableCursor),
    Level(LevelCursor),
}

/// Calls the method of the same name of whichever cursor it is; those of runs cannot fail.
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
            (Self::Run(cursor), Place::First) => cursor.seek_first(),
            (Self::Run(cursor), Place::Last) => cursor.seek_last(),
            (Self::Run(cursor), Place::AtOrBehind(key)) => cursor.seek(key),
            (Self::Run(cursor), Place::AtOrInFront(key)) => cursor.seek_back(key),
            (Self::Table(cursor), Place::First) => return cursor.seek_first(),
            (Self::Table(cursor), Place::Last) => return cursor.seek_last(),
            (Self::Table(cursor), Place::AtOrBehind(key)) => return cursor.seek(key),
            (Self::Table(cursor), Place::AtOrInFront(key)) => return cursor.seek_back(key),
            (Self::Level(cursor), Place::First) => return cursor.seek_first(),
            (Self::Level(cursor), Place::Last) => return cursor.seek_last(),
            (Self::Level(cursor), Place::AtOrBehind(key)) => return cursor.seek(key),
            (Self::Level(cursor), Place::AtOrInFront(key)) => return cursor.seek_back(key),
        }
        Ok(())
    }

    #[inline]
    pub(super) fn step(&mut self, forward: bool) -> Result<()> {
        match (self, forward) {
            (Self::Run(cursor), true) => cursor.next(),
            (Self::Run(cursor), false) => cursor.prev(),
            (Self::Table(cursor), true) => return cursor.next(),
            (Self::Table(cursor), false) => return cursor.prev(),
            (Self::Level(cursor), true) => return cursor.next(),
            (Self::Level(cursor), false) => return cursor.prev(),
        }
        Ok(())
    }

    /// The bytes that entries of table `table` of this source are in.
    #[inline]
    pub(super) fn bytes(&self, table: usize) -> &[u8] {
        match self {
            Self::Run(cursor) => cursor.bytes(),
            Self::Table(cursor) => cursor.bytes(),
            Self::Level(cursor) => cursor.bytes(table),
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
