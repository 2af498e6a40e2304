//! Value files: the values that tables point to.

mod set;
mod writer;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use set::{Stored, Values};
pub(crate) use writer::ValueWriter;

use super::Shelf;
use super::digest::Digest;
use super::file::ChunkedFile;
use crate::error::{Damage, Error, Result};
use crate::format::bytes::Part;
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::table::TABLE_HEADER_BYTES;
use crate::format::values::{Pointer, Record, ValuesMeta, header_end, record_end};
use crate::format::{FileNumber, KeyspaceId, Sequence};
use crate::sys::{Block, Mapping, Mutex, OnceLock, Pinned};

/// What is read of a file at a time to walk over it, if it is not in memory.
const WALK_BYTES: u64 = 1 << 20;

/// A verified value: in the mapping of its file, or, where nothing is mapped, in memory of its own.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Mapped(Range<usize>),
    Block(Block),
}

/// A value file of a version: what the manifest knows of it, and, once it has been used, its mapping.
pub(crate) struct ValueFile {
    // Set when the file is made known.
    pub(crate) meta: ValuesMeta,
    shelf: Arc<Shelf>,
    // Own synchronization: made by the first reader.
    file: OnceLock<ChunkedFile>,
    opening: Mutex<()>,
}

impl fmt::Debug for ValueFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueFile({}, {} bytes)", self.meta.number, self.meta.file_bytes)
    }
}

impl ValueFile {
    pub(crate) fn new(meta: ValuesMeta, shelf: Arc<Shelf>) -> Self {
        Self { meta, shelf, file: OnceLock::new(), opening: Mutex::new(()) }
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.meta.number
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.shelf.dir.path().join(FileKind::Values.name(self.number()))
    }

    /// The error for damage at `offset` of this file.
    fn corrupt(&self, offset: u64, what: Damage) -> Error {
        Error::corrupt(&self.path(), offset, what)
    }

    /// The open file. The first call maps it, or reads its end, and checks it against the manifest.
    #[inline]
    fn file(&self) -> Result<&ChunkedFile> {
        match self.file.get() {
            Some(file) => Ok(file),
            None => self.open(),
        }
    }

    #[cold]
    fn open(&self) -> Result<&ChunkedFile> {
        let _one_at_a_time = self.opening.lock();
        if self.file.get().is_none() {
            self.set_file(self.shelf.file(FileKind::Values, Magic::VALUES, self.number())?)?;
        }
        self.file.get().ok_or_else(|| self.corrupt(0, Damage::Missing))
    }

    fn set_file(&self, file: ChunkedFile) -> Result<()> {
        let frame = file.frame();
        if frame.id != self.meta.id || file.length() != self.meta.file_bytes {
            return Err(file.corrupt(0, Damage::WrongFile));
        }
        let is_empty = frame.section_count == 0 && frame.directory_bytes == 0;
        if !is_empty || ValuesMeta::of(self.number(), frame, self.meta.file_bytes) != self.meta {
            return Err(file.corrupt(frame.directory_offset, Damage::ManifestMismatch));
        }
        let _ = self.file.set(file);
        Ok(())
    }

    /// Takes an open file in place of what is on disk.
    pub(super) fn with_file(self, file: ChunkedFile) -> Result<Self> {
        self.set_file(file)?;
        Ok(self)
    }

    /// The value that a pointer names. O(1), and the verification of each chunk at its first touch; O(length) where nothing is
    /// mapped.
    #[inline]
    pub(crate) fn value(&self, pointer: Pointer) -> Result<Found> {
        let file = self.file()?;
        if pointer.offset < TABLE_HEADER_BYTES || pointer.end() > file.frame().body_end {
            return Err(self.corrupt(pointer.offset, Damage::BadPointer));
        }
        if !file.is_in_memory() {
            return self.read(file, pointer);
        }
        let range = place(pointer.offset)..place(pointer.end());
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

    /// The value that a pointer of the entry with this key leads to, and the sequence number that its record has. Whatever has
    /// been verified before, this verifies the whole record again: what is copied must be right now.
    pub(crate) fn record(&self, keyspace: KeyspaceId, key: &[u8], pointer: Pointer) -> Result<(Sequence, Found)> {
        let file = self.file()?;
        let bad = || self.corrupt(pointer.offset, Damage::BadPointer);
        let (start, end) = (pointer.record_start(key.len()).map_err(|_| bad())?, pointer.record_end());
        if start < TABLE_HEADER_BYTES || end > file.frame().body_end {
            return Err(bad());
        }
        if file.is_in_memory() {
            file.check_again(start, end)?;
        }
        let bytes = file.verified(start, end)?;
        let record = Record::parse(Part { bytes: &bytes, start }, start, end);
        let record = record.map_err(|damage| self.corrupt(start, damage))?;
        let leads_here = (record.offset, record.length) == (pointer.offset, pointer.length);
        if !leads_here || record.keyspace != keyspace || record.key != key {
            return Err(bad());
        }
        Ok((record.sequence, self.value(pointer)?))
    }

    /// What [`value`](Self::value) has found.
    #[inline]
    pub(crate) fn bytes<'v>(&'v self, found: &'v Found) -> &'v [u8] {
        match found {
            Found::Mapped(range) => {
                self.file.get().and_then(|file| file.bytes().get(range.clone())).unwrap_or_default()
            }
            Found::Block(block) => block.bytes(),
        }
    }

    /// The same, kept alive on its own.
    pub(crate) fn pin(&self, found: &Found) -> Option<Pinned> {
        match found {
            Found::Mapped(range) => Some(self.file.get()?.mapping().pin(range.clone())),
            Found::Block(block) => Some(block.pin(0..block.bytes().len())),
        }
    }

    /// What values are mapped in.
    pub(crate) fn mapping(&self) -> Result<&Mapping> {
        self.file().map(ChunkedFile::mapping)
    }

    /// Checks every byte of the file and that records fill it; answers the digest of those. Ends with [`Error::Closed`] once
    /// `stop` is set.
    pub(crate) fn verify(&self, stop: &AtomicBool) -> Result<Digest> {
        let file = self.file()?;
        file.verify(stop)?;
        let end = file.frame().body_end;
        let piece = |at: u64, length: u64| file.verified(at, end.min(at.saturating_add(length)));
        let (mut at, mut records, mut digest) = (TABLE_HEADER_BYTES, 0, Digest::default());
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
            let record = record.map_err(|damage| file.corrupt(at, damage))?;
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

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
