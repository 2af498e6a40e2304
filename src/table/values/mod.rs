//! Value files: the values that tables point to.

mod set;
mod writer;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) use set::{Stored, Values};
pub(crate) use writer::ValueWriter;

use super::Shelf;
use super::file::ChunkedFile;
use crate::error::{Damage, Error, Result};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::table::TABLE_HEADER_BYTES;
use crate::format::values::{Pointer, Record, ValuesMeta, header_end, record_end};
use crate::format::{FileNumber, KeyspaceId};
use crate::sys::{Mapping, Mutex, OnceLock};

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

    /// The open file. The first call maps it and checks it against the manifest.
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
            let path = self.path();
            let mapping = self.shelf.dir.open(&FileKind::Values.name(self.number())).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Error::corrupt(&path, 0, Damage::Missing),
                _ => Error::io("map", &path, e),
            })?;
            let file = ChunkedFile::open(path, mapping, Magic::VALUES, self.shelf.options.verify_always)?;
            let frame = file.frame();
            if frame.id != self.meta.id || file.bytes().len() as u64 != self.meta.file_bytes {
                return Err(file.corrupt(0, Damage::WrongFile));
            }
            let is_empty = frame.section_count == 0 && frame.directory_bytes == 0;
            if !is_empty || ValuesMeta::of(self.number(), frame, self.meta.file_bytes) != self.meta {
                return Err(file.corrupt(frame.directory_offset, Damage::ManifestMismatch));
            }
            let _ = self.file.set(file);
        }
        self.file.get().ok_or_else(|| self.corrupt(0, Damage::Missing))
    }

    /// The value that a pointer names, verified, as a range of the mapping. O(1), and the verification of each chunk at its
    /// first touch.
    #[inline]
    pub(crate) fn value(&self, pointer: Pointer) -> Result<(&Mapping, Range<usize>)> {
        let file = self.file()?;
        if pointer.offset < TABLE_HEADER_BYTES || pointer.end() > file.frame().body_end {
            return Err(self.corrupt(pointer.offset, Damage::BadPointer));
        }
        let range = place(pointer.offset)..place(pointer.end());
        if !range.is_empty() {
            file.check(range.start, range.end)?;
        }
        Ok((file.mapping(), range))
    }

    /// The record that a pointer of the entry with this key leads to. Whatever has been verified before, this verifies it
    /// again: what is copied must be right now.
    pub(crate) fn record(&self, keyspace: KeyspaceId, key: &[u8], pointer: Pointer) -> Result<Record<'_>> {
        let file = self.file()?;
        let bad = || self.corrupt(pointer.offset, Damage::BadPointer);
        let start =
            pointer.record_start(key.len()).ok().filter(|start| *start >= TABLE_HEADER_BYTES).ok_or_else(bad)?;
        let record = read_record(file, start)?;
        let leads_here = (record.offset, record.length) == (pointer.offset, pointer.length);
        if leads_here && record.keyspace == keyspace && record.key == key { Ok(record) } else { Err(bad()) }
    }

    /// A range of the file that [`value`](Self::value) has answered.
    #[inline]
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.file.get().and_then(|file| file.bytes().get(range)).unwrap_or_default()
    }

    /// The open file's mapping, if it has been used.
    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        self.file.get().map(ChunkedFile::mapping)
    }

    /// Checks every byte of the file and that records fill it. Ends with [`Error::Closed`] once `stop` is set.
    pub(crate) fn verify(&self, stop: &AtomicBool) -> Result<()> {
        let file = self.file()?;
        file.verify(stop)?;
        let (mut at, mut records) = (TABLE_HEADER_BYTES, 0);
        while at < file.frame().body_end {
            let record = Record::parse(file.bytes(), at, file.frame().body_end);
            at = record.map_err(|damage| file.corrupt(at, damage))?.next;
            records += 1;
        }
        if records == self.meta.records {
            Ok(())
        } else {
            Err(file.corrupt(file.frame().directory_offset, Damage::ManifestMismatch))
        }
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Verifies the record at `start` and reads it.
fn read_record(file: &ChunkedFile, start: u64) -> Result<Record<'_>> {
    let limit = file.frame().body_end;
    let damaged = |damage| file.corrupt(start, damage);
    if header_end(start) > limit {
        return Err(damaged(Damage::BadPointer));
    }
    file.check_again(start, header_end(start))?;
    let end = record_end(file.bytes(), start, limit).map_err(damaged)?;
    file.check_again(start, end)?;
    Record::parse(file.bytes(), start, limit).map_err(damaged)
}
