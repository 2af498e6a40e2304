//! Tables: immutable sorted files, their indexes, and cursors over them.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod bloom;
mod body;
mod cache;
mod chunked;
mod cursor;
mod digest;
mod file;
mod index;
mod packing;
mod reader;
mod rebuild;
mod salvage;
mod standalone;
mod values;
mod verify;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

pub(crate) use body::Verify;
use cache::BlockCache;
pub(crate) use cursor::TableCursor;
use file::ChunkedFile;
pub(crate) use reader::{Answer, TableReader};
pub(crate) use salvage::{Piece, Salvage, mend_values, read_id, read_meta, read_values_meta};
pub use standalone::{Entries, Entry, EntryKind, RangeTombstone, Reader};
pub(crate) use values::{Found, Stored, ValueFile, ValueWriter, Values};
pub(crate) use writer::{TableWriter, WrittenTable, write_index};

use crate::error::{Damage, Error, Result};
use crate::format::edit::TableMeta;
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::section::Section;
use crate::format::{FileNumber, KeyspaceId};
use crate::options::{PointIndex, TableOptions};
use crate::sys::OnceLock;
use crate::sys::{Dir, Mutex};

/// What the tables of a database have in common: where they are, how they are read, and the cache of their blocks.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) dir: Arc<dyn Dir>,
    pub(crate) options: TableOptions,
    cache: BlockCache,
}

/// Why a file that must be there cannot be opened: only its absence is damage.
fn not_opened(path: &Path, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound => Error::corrupt(path, 0, Damage::Missing),
        _ => Error::io("open", path, e),
    }
}

/// What was read, unless it is damaged. A disk that fails says nothing about what is on it.
fn intact<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.is_corruption() => Ok(None),
        Err(e) => Err(e),
    }
}

impl Shelf {
    /// With a cache of at most `cache_bytes`.
    pub(crate) fn new(dir: Arc<dyn Dir>, options: TableOptions, cache_bytes: u64) -> Arc<Self> {
        Arc::new(Self { dir, options, cache: BlockCache::new(cache_bytes) })
    }

    /// Opens a table or value file.
    fn file(&self, kind: FileKind, magic: Magic, number: FileNumber) -> Result<ChunkedFile> {
        let name = kind.name(number);
        let path = self.dir.path().join(&name);
        let contents = self.dir.contents(&name).map_err(|e| not_opened(&path, e))?;
        ChunkedFile::open_contents(path, contents, magic, self.options.verify_always)
    }

    /// Bytes that unpacked blocks take in the cache.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// How often a read found its block in the cache, and how often not.
    pub(crate) fn cache_hits_and_misses(&self) -> (u64, u64) {
        self.cache.hits_and_misses()
    }
}

/// A table of the current version: what the manifest knows of it, and, once it has been used, its mapping.
pub(crate) struct Table {
    // Set when the table is made known.
    pub(crate) meta: TableMeta,
    shelf: Arc<Shelf>,
    /// The kind of point index that a lost index of each section is made again with; all as in `options` if there are none.
    points: Vec<PointIndex>,
    // Own synchronization: made by the first reader.
    reader: OnceLock<Arc<TableReader>>,
    opening: Mutex<()>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({}, {} bytes)", self.meta.number, self.meta.file_bytes)
    }
}

impl Table {
    pub(crate) fn new(meta: TableMeta, shelf: Arc<Shelf>, points: Vec<PointIndex>) -> Self {
        Self { meta, shelf, points, reader: OnceLock::new(), opening: Mutex::new(()) }
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

    /// The only section of a table of level 1 or below.
    pub(crate) fn only_section(&self) -> Option<&Section> {
        self.meta.sections.first()
    }

    /// The open table. The first call maps it and its index and checks them against the manifest.
    #[inline]
    pub(crate) fn reader(&self) -> Result<&Arc<TableReader>> {
        match self.reader.get() {
            Some(reader) => Ok(reader),
            None => self.open(),
        }
    }

    #[cold]
    fn open(&self) -> Result<&Arc<TableReader>> {
        let _one_at_a_time = self.opening.lock();
        if self.reader.get().is_none() {
            let reader = TableReader::open(&self.shelf, &self.meta, &self.points)?;
            let _ = self.reader.set(Arc::new(reader));
        }
        let path = || self.shelf.dir.path().join(FileKind::Table.name(self.number()));
        self.reader.get().ok_or_else(|| Error::corrupt(&path(), 0, Damage::Missing))
    }

    /// The open table, if it has been used.
    pub(crate) fn opened(&self) -> Option<&Arc<TableReader>> {
        self.reader.get()
    }

    /// Takes over the reader of a table that this process has just written and verified.
    pub(crate) fn with_reader(self, reader: TableReader) -> Self {
        let _ = self.reader.set(Arc::new(reader));
        self
    }

    /// Length of the index file in bytes; 0 if there is none at the moment.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.shelf.dir.length(&FileKind::Index.name(self.number())).unwrap_or(0)
    }
}
