//! Where values go that stand apart from their entries.

use std::sync::Arc;

use super::files::Files;
use crate::error::Result;
use crate::format::entry_ref::EntryRef;
use crate::format::{KeyspaceId, Sequence};
use crate::table::{TableWriter, ValueFile, ValueWriter};

/// Size at which a new value file is begun, in bytes.
const VALUE_FILE_BYTES: u64 = 256 << 20;

/// Writes values into value files that are made when the first one comes, and cut at
/// a size. What has not been [finished](Self::finish) is removed again.
pub(super) struct ValueSink<'e> {
    files: &'e Files,
    writer: Option<ValueWriter>,
    done: Vec<Arc<ValueFile>>,
    /// The entry that is written with a pointer.
    entry: Vec<u8>,
}

impl<'e> ValueSink<'e> {
    pub(super) fn new(files: &'e Files) -> Self {
        Self { files, writer: None, done: Vec::new(), entry: Vec::new() }
    }

    fn writer(&mut self) -> Result<&mut ValueWriter> {
        if self.writer.as_ref().is_some_and(|writer| writer.bytes() >= VALUE_FILE_BYTES) {
            self.finish_file()?;
        }
        match &mut self.writer {
            Some(writer) => Ok(writer),
            empty => {
                let files = self.files;
                let (number, id) = (files.new_number()?, files.new_id()?);
                let writer = ValueWriter::create(&files.table_cache, number, id, &files.cancelled)?;
                Ok(empty.insert(writer))
            }
        }
    }

    fn finish_file(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let number = writer.number();
        let finished = writer.finish().inspect_err(|_| self.files.remove_values(number))?;
        self.done.push(finished);
        Ok(())
    }

    /// Writes an entry, and its value, with the sequence number to go with it, apart from it.
    pub(super) fn add(
        &mut self,
        writer: &mut TableWriter,
        keyspace: KeyspaceId,
        entry: EntryRef<'_>,
        (sequence, value): (Sequence, &[u8]),
        oldest: bool,
    ) -> Result<()> {
        let pointer = self.writer()?.add(keyspace, sequence, entry.key(), value)?;
        let copy = entry.copy_with_pointer(&mut self.entry, pointer)?;
        writer.add(keyspace, copy.in_bytes(&self.entry), oldest)
    }

    /// Completes the files; their directory entries are not durable yet.
    pub(super) fn finish(&mut self) -> Result<Vec<Arc<ValueFile>>> {
        self.finish_file()?;
        Ok(std::mem::take(&mut self.done))
    }

    /// Leaves what there is to the next open.
    pub(super) fn abandon(&mut self) {
        self.writer = None;
        self.done.clear();
    }

    /// Removes what has not been finished.
    pub(super) fn discard(&mut self) {
        let unfinished = self.writer.take().map(|writer| writer.number());
        let done: Vec<Arc<ValueFile>> = std::mem::take(&mut self.done);
        for number in unfinished.into_iter().chain(done.iter().map(|file| file.number())) {
            self.files.remove_values(number);
        }
    }
}

impl Drop for ValueSink<'_> {
    fn drop(&mut self) {
        self.discard();
    }
}
