//! Writing value files.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zerocopy::IntoBytes;

use super::ValueFile;
use crate::error::{Error, Result, must};
use crate::format::checksum::{Id, Seed};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::table::{TableHeader, Totals, encode_tail};
use crate::format::values::{Pointer, encode_head, padding};
use crate::format::{FILE_BYTES_MAX, FileNumber, KeyspaceId, Sequence};
use crate::table::chunked::ChunkedWriter;
use crate::table::digest::RunningDigest;
use crate::table::{TableCache, read_values_meta};

/// Writes one value file.
#[derive(Debug)]
pub(crate) struct ValueWriter {
    table_cache: Arc<TableCache>,
    number: FileNumber,
    id: Id,
    out: ChunkedWriter,
    records: u64,
    digest: RunningDigest,
}

impl ValueWriter {
    /// Makes the file. Once `stop` is set, adding and finishing end with [`Error::Closed`] sooner or later.
    pub(crate) fn create(
        table_cache: &Arc<TableCache>,
        number: FileNumber,
        id: Id,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let file = table_cache.create(FileKind::Values, number)?;
        let options = table_cache.options;
        let out = ChunkedWriter::new(file, Seed::of_table(&id), options.chunk_log2, Arc::clone(stop));
        let mut writer = Self {
            table_cache: Arc::clone(table_cache),
            number,
            id,
            out,
            records: 0,
            digest: RunningDigest::default(),
        };
        writer.push(TableHeader::new(Magic::VALUES, id, options.chunk_log2).as_bytes())?;
        Ok(writer)
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.number
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.out.end()
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.push(bytes).map_err(|e| self.error(e))
    }

    fn error(&self, e: io::Error) -> Error {
        if e.kind() == io::ErrorKind::Interrupted && self.out.is_stopped() {
            return Error::Closed;
        }
        Error::io("write", &self.table_cache.dir.path().join(FileKind::Values.name(self.number)), e)
    }

    /// Appends a value; returns the pointer to it.
    pub(crate) fn add(
        &mut self,
        keyspace: KeyspaceId,
        sequence: Sequence,
        key: &[u8],
        value: &[u8],
    ) -> Result<Pointer> {
        let length = u32::try_from(value.len()).map_err(|_| Error::ValueTooLong { bytes: value.len() })?;
        self.push(&encode_head(keyspace, sequence, key, length))?;
        let pointer = Pointer { file: self.number, offset: self.out.end(), length };
        self.push(value)?;
        self.push(padding(length)?)?;
        self.digest.add_value(keyspace, sequence, key, pointer);
        self.records += 1;
        Ok(pointer)
    }

    /// Completes the file, makes it durable (not its directory entry), and reads it back as readers will: every checksum, and
    /// the records, which must be those that were added.
    pub(crate) fn finish(self) -> Result<Arc<ValueFile>> {
        if self.out.end() > FILE_BYTES_MAX {
            return Err(self.error(io::ErrorKind::FileTooLarge.into()));
        }
        let stop = self.out.stop();
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let path = self.table_cache.dir.path().join(FileKind::Values.name(self.number));
        let totals = Totals { entries: self.records, ..Totals::default() };
        let tail = |body_end, sums: &[u32]| encode_tail(Magic::VALUES, self.id, body_end, sums, &[], 0, totals);
        let mut written = self.out.finish(tail).map_err(|e| Error::io("write", &path, e))?;
        written.sync().map_err(|e| Error::io("sync", &path, e))?;
        let written = ValueFile::new(read_values_meta(&self.table_cache, self.number)?, self.table_cache);
        must(written.verify(&stop)? == self.digest, "a value file has other values than were added to it")?;
        Ok(written)
    }
}
