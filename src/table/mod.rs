//! Tables: immutable sorted files, their indexes, and cursors over them.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod ahead;
mod amount;
mod block_builder;
mod bloom;
mod body;
mod budget;
mod cache;
mod chunked;
mod cursor;
mod desk;
mod digest;
mod file;
mod in_bytes;
mod index;
mod kept;
mod level;
mod open;
mod readahead;
mod reader;
mod rebuild;
mod salvage;
mod standalone;
mod table_cache;
mod values;
mod verify;
mod walk;
mod window;
mod witness;
mod writer;

use std::fmt;
use std::sync::{Arc, Weak};

pub(crate) use amount::Amount;
pub(crate) use body::Verify;
pub(crate) use cursor::{Home, TableCursor};
use desk::Desk;
pub(crate) use file::ChunkedFile;
pub(crate) use in_bytes::{InBytes, TableBytes};
use kept::Kept;
pub(crate) use level::Level;
use open::Lending;
pub(crate) use open::Renew;
pub(crate) use reader::{Answer, TableReader};
pub(crate) use salvage::{Piece, Salvage, mend_values, read_id, read_meta, read_values_meta};
pub use standalone::{Entries, Entry, EntryKind, RangeTombstone, Reader};
pub(crate) use table_cache::TableCache;
pub(crate) use values::{Found, Stored, StoredValue, ValueFile, ValueWriter, Values};
pub(crate) use walk::Walk;
pub(crate) use witness::{Nobody, Witness};
pub(crate) use writer::{TableWriter, WrittenTable, write_index};

use crate::error::Result;
use crate::format::edit::TableMeta;
use crate::format::names::FileKind;
use crate::format::section::Section;
use crate::format::{FileNumber, KeyspaceId};
use crate::options::PointIndex;
use crate::sys::{Era, Mapping, MappingWatch, Taken};
use crate::visibility::Fragments;

/// A table of the current version: what the manifest knows of it, and, while it is open, its mapping.
pub(crate) struct Table {
    // Set when the table is made known.
    pub(crate) meta: TableMeta,
    cache: Arc<TableCache>,
    /// The kind of point index that a lost index of each section is made again with; all as in `options` if there are none.
    points: Vec<PointIndex>,
    // Own synchronization.
    desk: Desk<TableReader, Kept>,
}

impl TableCache {
    /// Gives what there is of the memory for mapped indexes to those tables that have found none left, in the order given. To
    /// be called when others have gone.
    pub(crate) fn share_index_memory<'t>(&self, tables: impl IntoIterator<Item = &'t Arc<Table>>) {
        if self.index_memory.has_room_again() {
            tables.into_iter().for_each(|table| table.take_index_memory());
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({}, {} bytes)", self.meta.number, self.meta.file_bytes)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.desk.leave(&self.cache);
    }
}

impl Lending for Table {
    fn last_use(&self) -> u64 {
        self.desk.last_use()
    }

    fn let_go(&self, taken: &mut Taken<'_>) -> bool {
        self.desk.let_go(&self.cache, taken, TableReader::is_pinned, TableReader::kept)
    }
}

impl Table {
    pub(crate) fn new(meta: TableMeta, cache: Arc<TableCache>, points: Vec<PointIndex>) -> Self {
        Self::known(meta, cache, points, None)
    }

    fn known(meta: TableMeta, cache: Arc<TableCache>, points: Vec<PointIndex>, kept: Option<Kept>) -> Self {
        let desk = Desk::new(&cache, kept);
        Self { meta, cache, points, desk }
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.meta.number
    }

    /// The section of a keyspace, if the table has one.
    #[inline]
    pub(crate) fn section(&self, keyspace: KeyspaceId) -> Option<&Section> {
        let sections = &self.meta.sections;
        let at = sections.binary_search_by_key(&keyspace, |section| section.keyspace).ok()?;
        sections.get(at)
    }

    /// Whether the section of a keyspace has range tombstones.
    pub(crate) fn has_ranges(&self, keyspace: KeyspaceId) -> bool {
        self.section(keyspace).is_some_and(|section| section.range_tombstones > 0)
    }

    /// The range tombstones of a keyspace. Opens the table if it never was.
    pub(crate) fn ranges(self: &Arc<Self>, keyspace: KeyspaceId) -> Result<Option<Arc<Fragments>>> {
        let sections = &self.meta.sections;
        let Ok(at) = sections.binary_search_by_key(&keyspace, |section| section.keyspace) else { return Ok(None) };
        if let Some(kept) = &self.desk.state().kept {
            return Ok(kept.ranges.get(at).cloned());
        }
        Ok(self.pin()?.ranges(keyspace).cloned())
    }

    /// The only section of a table of level 1 or below.
    pub(crate) fn only_section(&self) -> Option<&Section> {
        self.meta.sections.first()
    }

    /// The open table, for as long as the era is held; `None` if it must be opened first, with [`pin`](Self::pin).
    #[inline]
    pub(crate) fn borrow<'t>(&'t self, era: &'t Era) -> Option<&'t TableReader> {
        self.desk.borrow(era)
    }

    /// The same without counting as a use.
    #[inline]
    pub(crate) fn peek<'t>(&'t self, era: &'t Era) -> Option<&'t TableReader> {
        self.desk.peek(era)
    }

    /// The open table, which is not let go while the result lives. If it is not open, this maps it and its index and checks
    /// them against the manifest; see [`open`] for what it closes.
    pub(crate) fn pin(self: &Arc<Self>) -> Result<Arc<TableReader>> {
        let who = || Arc::downgrade(self) as Weak<dyn Lending>;
        self.desk.pin(&self.cache, who, |kept| {
            let reader = self.cache.looked(TableReader::open(&self.cache, &self.meta, &self.points, kept))?;
            let kept = reader.kept();
            Ok((reader, kept))
        })
    }

    /// What tells whether somebody keeps its mapping, if it is open.
    pub(crate) fn watch(&self) -> Option<MappingWatch> {
        self.desk.pinned().map(|reader| reader.mapping().watch())
    }

    /// The bytes of an index that is not on disk and should be.
    pub(crate) fn lost_index(&self) -> Option<Mapping> {
        match self.desk.pinned() {
            Some(reader) => reader.lost_index(),
            None => self.desk.state().kept.as_ref().filter(|kept| kept.index_lost)?.index.clone(),
        }
    }

    /// Takes a share of the memory for mapped indexes if the table is open and has none.
    fn take_index_memory(&self) {
        if let Some(reader) = self.desk.pinned() {
            reader.take_index_memory(&self.cache);
        }
    }

    /// To be called when it is.
    pub(crate) fn index_restored(&self) {
        let mut state = self.desk.state();
        if let Some(reader) = self.desk.pinned() {
            reader.index_restored();
        }
        if let Some(kept) = &mut state.kept {
            kept.index_lost = false;
        }
    }

    /// Takes over the reader of a table that this process has just written and verified.
    fn with_reader(self, reader: TableReader) -> Arc<Self> {
        let table = Arc::new(self);
        let kept = reader.kept();
        let who = Arc::downgrade(&table) as Weak<dyn Lending>;
        table.desk.adopt(&table.cache, who, reader, kept);
        table
    }

    /// Length of the index file in bytes; 0 if there is none at the moment.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.cache.dir.length(&FileKind::Index.name(self.number())).unwrap_or(0)
    }
}
