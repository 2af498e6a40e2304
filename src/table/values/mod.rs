//! Value files: the values that tables point to.

mod set;
mod writer;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

pub(crate) use set::{Stored, Values};
pub(crate) use writer::ValueWriter;

use super::desk::Desk;
use super::digest::RunningDigest;
use super::file::{ChunkedFile, KnownFile, position};
use super::open::Lending;
use super::table_cache::TableCache;
use crate::error::{Damage, Error, Result};
use crate::format::bytes::Part;
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::table::TABLE_HEADER_BYTES;
use crate::format::values::{Pointer, Record, ValuesMeta, header_end, record_end};
use crate::format::{FileNumber, KeyspaceId, Sequence};
use crate::sys::{Block, Era, MappingWatch, Pinned, Purse, Taken};

/// What is read of a file at a time to walk over it, if it is not in memory.
const WALK_BYTES: u64 = 1 << 20;

/// Where a verified value is: in the mapping of its file, or, where nothing is mapped, in memory of its own.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Mapped(Range<usize>),
    Block(Block),
}

/// A verified value, with the file that it is in, which stays open for it.
#[derive(Debug, Clone)]
pub(crate) struct StoredValue {
    file: Arc<ChunkedFile>,
    found: Found,
}

impl StoredValue {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.found {
            Found::Mapped(range) => self.file.bytes().get(range.clone()).unwrap_or_default(),
            Found::Block(block) => block.bytes(),
        }
    }

    /// The value, kept alive on its own.
    pub(crate) fn pin(&self) -> Pinned {
        self.pin_from(&mut Purse::default())
    }

    /// The same, with a pin from a purse.
    pub(crate) fn pin_from(&self, purse: &mut Purse) -> Pinned {
        match &self.found {
            Found::Mapped(range) => self.file.mapping().pin_from(purse, range.clone()),
            Found::Block(block) => block.pin_from(purse, 0..block.bytes().len()),
        }
    }
}

/// A value file of a version: what the manifest knows of it, and, while it is open, its mapping.
pub(crate) struct ValueFile {
    // Set when the file is made known.
    pub(crate) meta: ValuesMeta,
    table_cache: Arc<TableCache>,
    // Own synchronization.
    desk: Desk<ChunkedFile, KnownFile>,
}

impl fmt::Debug for ValueFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueFile({}, {} bytes)", self.meta.number, self.meta.file_bytes)
    }
}

impl Drop for ValueFile {
    fn drop(&mut self) {
        self.desk.leave(&self.table_cache);
    }
}

impl Lending for ValueFile {
    fn last_use(&self) -> u64 {
        self.desk.last_use()
    }

    fn let_go(&self, taken: &mut Taken<'_>) -> bool {
        self.desk.let_go(&self.table_cache, taken, ChunkedFile::is_pinned, ChunkedFile::known)
    }
}

impl ValueFile {
    pub(crate) fn new(meta: ValuesMeta, table_cache: Arc<TableCache>) -> Arc<Self> {
        let desk = Desk::new(&table_cache, None);
        Arc::new(Self { meta, table_cache, desk })
    }

    /// With an open file in place of what is on disk.
    pub(super) fn with_file(meta: ValuesMeta, table_cache: Arc<TableCache>, file: ChunkedFile) -> Result<Arc<Self>> {
        let values = Self::new(meta, table_cache);
        values.check_file(&file)?;
        let known = file.known();
        values.desk.adopt(&values.table_cache, Arc::downgrade(&values) as Weak<dyn Lending>, file, known);
        Ok(values)
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.meta.number
    }

    /// What tells whether somebody keeps its mapping, if it is open.
    pub(crate) fn watch(&self) -> Option<MappingWatch> {
        self.desk.pinned().map(|file| file.mapping().watch())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.table_cache.dir.path().join(FileKind::Values.name(self.number()))
    }

    /// The error for damage at `offset` of this file.
    fn corrupt(&self, offset: u64, what: Damage) -> Error {
        Error::corrupt(&self.path(), offset, what)
    }

    /// The open file, for as long as the era is held; `None` if it must be opened first, with [`pin`](Self::pin).
    #[inline]
    pub(crate) fn borrow<'v>(&'v self, era: &'v Era) -> Option<&'v ChunkedFile> {
        self.desk.borrow(era)
    }

    /// The open file, which is not let go while the result lives. If it is not open, this maps it, or reads its end, and
    /// checks it against the manifest.
    pub(crate) fn pin(self: &Arc<Self>) -> Result<Arc<ChunkedFile>> {
        let who = || Arc::downgrade(self) as Weak<dyn Lending>;
        self.desk.pin(&self.table_cache, who, |known| {
            let file = self.table_cache.file(FileKind::Values, Magic::VALUES, self.number());
            let mut file = self.table_cache.looked(file.and_then(|file| self.check_file(&file).map(|()| file)))?;
            if let Some(known) = known {
                file.recall(known);
            }
            let known = file.known();
            Ok((file, known))
        })
    }

    fn check_file(&self, file: &ChunkedFile) -> Result<()> {
        let frame = file.frame();
        if frame.id != self.meta.id || file.length() != self.meta.file_bytes {
            return Err(file.corrupt(0, Damage::WrongFile));
        }
        let is_empty = frame.section_count == 0 && frame.directory_bytes == 0;
        if !is_empty || ValuesMeta::of(self.number(), frame, self.meta.file_bytes) != self.meta {
            return Err(file.corrupt(frame.directory_offset, Damage::ManifestMismatch));
        }
        Ok(())
    }

    /// Where the value is that a pointer names, in the open file. O(1), and the verification of each chunk at its first
    /// touch; O(length) where nothing is mapped.
    #[inline]
    pub(crate) fn find(&self, file: &ChunkedFile, pointer: Pointer) -> Result<Found> {
        if pointer.offset < TABLE_HEADER_BYTES || pointer.end() > file.frame().body_end {
            return Err(self.corrupt(pointer.offset, Damage::BadPointer));
        }
        if !file.is_in_memory() {
            return self.read(file, pointer);
        }
        let range = position(pointer.offset)..position(pointer.end());
        if !range.is_empty() {
            file.check(range.start, range.end)?;
        }
        Ok(Found::Mapped(range))
    }

    /// The value that a pointer into a file names that is not in memory.
    #[cold]
    fn read(&self, file: &ChunkedFile, pointer: Pointer) -> Result<Found> {
        let (start, end) = (pointer.offset, pointer.end());
        let value = if start == end { Cow::default() } else { file.verified(start, end)? };
        let block = Block::copy_of(&value).map_err(|e| Error::io("make room for a value of", &self.path(), e))?;
        Ok(Found::Block(block))
    }

    /// The value that a pointer names.
    pub(crate) fn value(self: &Arc<Self>, pointer: Pointer) -> Result<StoredValue> {
        let file = self.pin()?;
        let found = self.find(&file, pointer)?;
        Ok(StoredValue { file, found })
    }

    /// The same in place of another value of this file, which saves counting its users.
    #[inline]
    pub(crate) fn move_to(&self, value: &mut StoredValue, pointer: Pointer) -> Result<()> {
        value.found = self.find(&value.file, pointer)?;
        Ok(())
    }

    /// The value that a pointer of the entry with this key leads to, and the sequence number that its record has. Whatever has
    /// been verified before, this verifies the whole record again: what is copied must be right now.
    pub(crate) fn record(
        self: &Arc<Self>,
        keyspace: KeyspaceId,
        key: &[u8],
        pointer: Pointer,
    ) -> Result<(Sequence, StoredValue)> {
        let file = self.pin()?;
        let bad = || self.corrupt(pointer.offset, Damage::BadPointer);
        let (start, end) = (pointer.record_start(key.len()).map_err(|_| bad())?, pointer.record_end());
        if start < TABLE_HEADER_BYTES || end > file.frame().body_end {
            return Err(bad());
        }
        if file.is_in_memory() {
            file.check_again(start, end)?;
        }
        let sequence = {
            let bytes = file.verified(start, end)?;
            let record = Record::parse(Part { bytes: &bytes, start }, start, end);
            let record = record.map_err(|fault| fault.at(&self.path(), start))?;
            let leads_here = (record.offset, record.length) == (pointer.offset, pointer.length);
            if !leads_here || record.keyspace != keyspace || record.key != key {
                return Err(bad());
            }
            record.sequence
        };
        let found = self.find(&file, pointer)?;
        Ok((sequence, StoredValue { file, found }))
    }

    /// Checks every byte of the file and that records fill it; returns the digest of those. Ends with [`Error::Closed`] once
    /// `stop` is set.
    pub(crate) fn verify(self: &Arc<Self>, stop: &AtomicBool) -> Result<RunningDigest> {
        let file = self.pin()?;
        file.verify(stop)?;
        let end = file.frame().body_end;
        let piece = |at: u64, length: u64| file.verified(at, end.min(at.saturating_add(length)));
        let (mut at, mut records, mut digest) = (TABLE_HEADER_BYTES, 0, RunningDigest::default());
        let (mut start, mut bytes) = (at, Cow::Borrowed(&[][..]));
        while at < end {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Closed);
            }
            if header_end(at) > start.saturating_add(bytes.len() as u64) {
                (start, bytes) = (at, piece(at, WALK_BYTES)?);
            }
            let next = record_end(Part { bytes: &bytes, start }, at, end).map_err(|damage| file.corrupt(at, damage))?;
            if next > start.saturating_add(bytes.len() as u64) {
                (start, bytes) = (at, piece(at, WALK_BYTES.max(next.saturating_sub(at)))?);
            }
            let record = Record::parse(Part { bytes: &bytes, start }, at, end);
            let record = record.map_err(|fault| fault.at(file.path(), at))?;
            let pointer = Pointer { file: self.number(), offset: record.offset, length: record.length };
            digest.add_value(record.keyspace, record.sequence, record.key, pointer);
            at = record.next;
            records += 1;
        }
        if records == self.meta.records {
            Ok(digest)
        } else {
            Err(file.corrupt(file.frame().directory_offset, Damage::ManifestMismatch))
        }
    }
}
