//! A table or index file in memory, with checksums that are verified at first touch and remembered.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Damage, Error, Result};
use crate::format::prefix::Magic;
use crate::format::table::Frame;
use crate::sys::Mapping;

/// What the kernel brings in around a page that is missing, and what is made present at a time.
const TOUCH_BYTES: usize = 64 << 10;

pub(crate) struct ChunkedFile {
    path: PathBuf,
    mapping: Mapping,
    frame: Frame,
    /// One bit a chunk: its checksum has matched. Set bits are never cleared; a relaxed order suffices, because a bit says
    /// something about bytes that never change.
    verified: Box<[AtomicU64]>,
    always: bool,
}

impl fmt::Debug for ChunkedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkedFile({})", self.path.display())
    }
}

impl ChunkedFile {
    /// Checks header, footer and directory. With `always`, no checksum is taken for granted later.
    pub(crate) fn open(path: PathBuf, mapping: Mapping, magic: Magic, always: bool) -> Result<Self> {
        let frame = match Frame::parse(mapping.bytes(), magic) {
            Ok(frame) => frame,
            Err((offset, fault)) => return Err(fault.at(&path, offset)),
        };
        let words = frame.chunks().div_ceil(64);
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { path, mapping, frame, verified, always })
    }

    /// For a file whose bytes this process has just computed the checksums of.
    pub(crate) fn mark_verified(&self) {
        for word in &self.verified {
            word.store(u64::MAX, Ordering::Relaxed);
        }
    }

    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.mapping.bytes()
    }

    /// The error for damage at `offset` of this file.
    pub(crate) fn corrupt(&self, offset: u64, what: Damage) -> Error {
        Error::corrupt(&self.path, offset, what)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Verifies every chunk that the bytes from `start` to `end` of the body touch.
    #[inline]
    pub(crate) fn check(&self, start: usize, end: usize) -> Result<()> {
        let first = start >> self.frame.chunk_log2;
        let last = end.saturating_sub(1).max(start) >> self.frame.chunk_log2;
        for chunk in first..=last {
            let word = self.verified.get(chunk / 64);
            if self.always || word.is_none_or(|word| word.load(Ordering::Relaxed) >> (chunk % 64) & 1 == 0) {
                self.check_chunk(chunk as u64)?;
            }
        }
        Ok(())
    }

    /// Verifies one chunk whatever is remembered of it.
    #[cold]
    pub(crate) fn check_chunk(&self, chunk: u64) -> Result<()> {
        if chunk >= self.frame.chunks() {
            return Err(self.corrupt(chunk << self.frame.chunk_log2, Damage::OutOfBounds));
        }
        self.touch(chunk)?;
        let checked = self.frame.check_chunk(self.bytes(), chunk, true);
        checked.map_err(|(offset, damage)| self.corrupt(offset, damage))?;
        let word = usize::try_from(chunk / 64).ok().and_then(|word| self.verified.get(word));
        if let Some(word) = word {
            word.fetch_or(1 << (chunk % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes sure that a chunk can be read before it is, with those around it. Behind a chunk that was read before there is
    /// nothing to do, so that a scan does this once in a while.
    fn touch(&self, chunk: u64) -> Result<()> {
        let is_verified = |chunk: u64| {
            let word = usize::try_from(chunk / 64).ok().and_then(|word| self.verified.get(word));
            word.is_some_and(|word| word.load(Ordering::Relaxed) >> (chunk % 64) & 1 == 1)
        };
        let start = usize::try_from(chunk << self.frame.chunk_log2).unwrap_or(usize::MAX);
        if chunk > 0 && is_verified(chunk - 1) && start % TOUCH_BYTES != 0 || is_verified(chunk) {
            return Ok(());
        }
        let end = start.saturating_add(1 << self.frame.chunk_log2).next_multiple_of(TOUCH_BYTES);
        let touched = self.mapping.touch(start - start % TOUCH_BYTES..end);
        touched.map_err(|e| Error::io("read", &self.path, e))
    }

    /// Verifies every chunk that the bytes from `start` to `end` of the body touch, whatever is remembered of them.
    pub(crate) fn check_again(&self, start: u64, end: u64) -> Result<()> {
        let chunk_log2 = self.frame.chunk_log2;
        (start >> chunk_log2..=end.saturating_sub(1).max(start) >> chunk_log2)
            .try_for_each(|chunk| self.check_chunk(chunk))
    }

    /// Where the chunk behind the one with `offset` begins.
    #[inline]
    pub(crate) fn chunk_end(&self, offset: usize) -> usize {
        ((offset >> self.frame.chunk_log2) + 1) << self.frame.chunk_log2
    }

    /// Verifies every byte of the file: all chunks, checksum pages and padding. Ends with [`Error::Closed`] once `stop` is
    /// set.
    pub(crate) fn verify(&self, stop: &AtomicBool) -> Result<()> {
        for chunk in 0..self.frame.chunks() {
            if chunk % 256 == 0 && stop.load(Ordering::Relaxed) {
                return Err(Error::Closed);
            }
            self.check_chunk(chunk)?;
        }
        self.frame.check_padding(self.bytes()).map_err(|(offset, damage)| self.corrupt(offset, damage))
    }
}
