//! Writing a file in large pieces, with the checksums of its chunks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Bug, bug};
use crate::format::checksum::Seed;
use crate::sys::AppendFile;

/// Files are written in pieces of this size, at multiples of it: the page cache then keeps 2 MiB folios, which later map and
/// fault 10 to 25 times cheaper.
const WRITE_BYTES: usize = 4 << 20;

/// Files are made durable in pieces of this size, so that neither the last sync nor one of the log beside it waits for long.
const SYNC_BYTES: u64 = 16 << 20;

/// A file that is being written, with the checksums of its chunks.
#[derive(Debug)]
pub(super) struct ChunkedWriter {
    file: Box<dyn AppendFile>,
    seed: Seed,
    chunk_log2: u8,
    /// Bytes not written yet; they begin at a multiple of [`WRITE_BYTES`].
    buffer: Vec<u8>,
    buffer_start: u64,
    /// Everything below has a checksum; a multiple of the chunk size.
    summed: u64,
    sums: Vec<u32>,
    /// Everything below is durable.
    synced: u64,
    /// Ends the writing with an error of kind `Interrupted`.
    stop: Arc<AtomicBool>,
}

impl ChunkedWriter {
    pub(super) fn new(file: Box<dyn AppendFile>, seed: Seed, chunk_log2: u8, stop: Arc<AtomicBool>) -> Self {
        let buffer = Vec::with_capacity(WRITE_BYTES / 16);
        Self { file, seed, chunk_log2, buffer, buffer_start: 0, summed: 0, sums: Vec::new(), synced: 0, stop }
    }

    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.buffer_start + self.buffer.len() as u64
    }

    /// The flag that ends the writing.
    pub(super) fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() <= WRITE_BYTES {
            return self.push_piece(bytes);
        }
        // So that the buffer does not grow with the longest value.
        bytes.chunks(WRITE_BYTES).try_for_each(|piece| self.push_piece(piece))
    }

    #[inline]
    fn push_piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.end() - self.summed >= 1 << self.chunk_log2 {
            self.sum_full_chunks()?;
        }
        if self.buffer.len() >= WRITE_BYTES {
            self.write_full_pieces()?;
        }
        Ok(())
    }

    fn sum_full_chunks(&mut self) -> Result<(), Bug> {
        while self.end() - self.summed >= 1 << self.chunk_log2 {
            self.sum_chunk(1 << self.chunk_log2)?;
        }
        Ok(())
    }

    fn sum_chunk(&mut self, length: usize) -> Result<(), Bug> {
        debug_assert!(self.summed == (self.sums.len() as u64) << self.chunk_log2, "only the last chunk may be short");
        let start = self.summed.checked_sub(self.buffer_start).and_then(|start| usize::try_from(start).ok());
        let chunk = start.and_then(|start| self.buffer.get(start..start.checked_add(length)?));
        let chunk = chunk.ok_or_else(|| bug("a chunk has been written before it got its checksum"))?;
        self.sums.push(self.seed.sum(self.summed, chunk));
        self.summed += length as u64;
        Ok(())
    }

    #[cold]
    fn write_full_pieces(&mut self) -> io::Result<()> {
        debug_assert!(
            self.buffer_start.is_multiple_of(WRITE_BYTES as u64),
            "pieces are written where their size divides"
        );
        let pieces = self.buffer.len() / WRITE_BYTES * WRITE_BYTES;
        let (whole, _) =
            self.buffer.split_at_checked(pieces).ok_or_else(|| bug("a piece is longer than the buffer"))?;
        self.file.append(whole)?;
        self.buffer.drain(..pieces);
        self.buffer_start += pieces as u64;
        if self.buffer_start - self.synced >= SYNC_BYTES {
            self.file.sync()?;
            self.synced = self.buffer_start;
        }
        if self.stop.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    /// Adds the checksum of the last chunk, and appends what `tail` makes of the checksums. The result is to be synced.
    pub(super) fn finish(mut self, tail: impl FnOnce(u64, &[u32]) -> Vec<u8>) -> io::Result<Box<dyn AppendFile>> {
        self.sum_full_chunks()?;
        let rest = usize::try_from(self.end() - self.summed).map_err(|_| bug("a chunk is too long"))?;
        if rest > 0 {
            self.sum_chunk(rest)?;
        }
        let tail = tail(self.end(), &self.sums);
        self.buffer.extend_from_slice(&tail);
        self.file.append(&self.buffer)?;
        Ok(self.file)
    }
}
