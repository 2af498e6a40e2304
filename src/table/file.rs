//! A table or index file: in memory, with checksums that are verified at first touch and remembered; or read piece by piece,
//! with checksums that are verified each time.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::readahead::Residence;
use crate::error::{Damage, Error, Fault, Result};
use crate::format::bytes::{self, Part};
use crate::format::prefix::Magic;
use crate::format::table::{FOOTER_BYTES, Frame, TABLE_HEADER_BYTES};
use crate::sys::{Contents, Mapping, PAGE_BYTES, RandomFile};

/// Reading as much as this is announced: at random, the pages of it would come in one by one. A read of less is not worth a
/// system call, now and then one if it is in memory.
const LONG_BYTES: usize = 16 << 10;

/// What is read at a time to verify a file that is not in memory.
const VERIFY_BYTES: u64 = 1 << 20;

/// What was read, unless it is damaged. A disk that fails says nothing about what is on it.
pub(super) fn intact<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.is_corruption() => Ok(None),
        Err(e) => Err(e),
    }
}

/// An offset or a place as a number of bytes of the address space; files are not larger than that.
#[inline]
pub(super) fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// A file that is not in memory, but for its end.
struct OnDisk {
    file: Box<dyn RandomFile>,
    /// Everything behind the body: checksums, directory and footer.
    tail: Vec<u8>,
}

pub(crate) struct ChunkedFile {
    path: PathBuf,
    /// The whole file; empty if it is not in memory.
    mapping: Mapping,
    on_disk: Option<OnDisk>,
    frame: Frame,
    /// One bit a chunk: its checksum has matched. Set bits are never cleared; a relaxed order suffices, because a bit says
    /// something about bytes that never change. It outlives the mapping; see [`KnownFile`].
    verified: Arc<[AtomicU64]>,
    residence: Residence,
    always: bool,
}

/// What stays known of a file while it is not open: its frame, and which of its chunks have been verified. That takes a bit
/// for each chunk.
#[derive(Debug, Clone)]
pub(crate) struct KnownFile {
    frame: Frame,
    verified: Arc<[AtomicU64]>,
}

impl fmt::Debug for ChunkedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkedFile({})", self.path.display())
    }
}

impl ChunkedFile {
    /// Checks header, footer and directory. With `always`, no checksum is taken for granted later.
    pub(crate) fn open(path: PathBuf, mapping: Mapping, magic: Magic, always: bool) -> Result<Self> {
        let whole = Part::whole(mapping.bytes());
        let length = whole.bytes.len() as u64;
        let fetch = |start: u64, end: u64| {
            mapping.fetch(position(start)..position(end)).map_err(|e| Error::io("read", &path, e))
        };
        let at = |(offset, fault): (u64, Fault)| fault.at(&path, offset);
        fetch(0, TABLE_HEADER_BYTES)?;
        fetch(length.saturating_sub(FOOTER_BYTES), length)?;
        let (frame, directory) = Frame::parse_ends(whole.bytes, whole, length, magic).map_err(at)?;
        fetch(frame.body_end, length)?;
        frame.check_directory(whole, directory).map_err(at)?;
        let words = frame.chunks().div_ceil(64);
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { path, mapping, on_disk: None, frame, verified, residence: Residence::default(), always })
    }

    /// The same for a file that may not be in memory. Then its end is read and kept, and nothing else.
    pub(crate) fn open_contents(path: PathBuf, contents: Contents, magic: Magic, always: bool) -> Result<Self> {
        let (file, length) = match contents {
            Contents::Mapped(mapping) => return Self::open(path, mapping, magic, always),
            Contents::Random(file, length) => (file, length),
        };
        let read =
            |offset: u64, length: u64| read_piece(&*file, offset, length).map_err(|e| Error::io("read", &path, e));
        let at = |(offset, fault): (u64, Fault)| fault.at(&path, offset);
        let header = read(0, TABLE_HEADER_BYTES.min(length))?;
        let start = length.saturating_sub(FOOTER_BYTES);
        let footer = read(start, length - start)?;
        let end = Part { bytes: &footer, start };
        let (frame, directory) = Frame::parse_ends(&header, end, length, magic).map_err(at)?;
        let tail = read(frame.body_end, length - frame.body_end)?;
        frame.check_directory(Part { bytes: &tail, start: frame.body_end }, directory).map_err(at)?;
        let on_disk = Some(OnDisk { file, tail });
        let (mapping, verified) = (Mapping::heap(Vec::new()), Arc::default());
        Ok(Self { path, mapping, on_disk, frame, verified, residence: Residence::default(), always })
    }

    /// What to remember when the file is let go.
    pub(crate) fn known(&self) -> KnownFile {
        KnownFile { frame: self.frame, verified: Arc::clone(&self.verified) }
    }

    /// Whether there is no point in letting the file go: slices keep it mapped, or it is memory of its own.
    pub(super) fn is_pinned(&self) -> bool {
        self.is_in_memory() && (self.mapping.is_pinned() || !self.mapping.is_of_file())
    }

    /// Takes over what was known of the file when it was open before. Does nothing if it is another one.
    pub(crate) fn recall(&mut self, known: &KnownFile) {
        if self.frame == known.frame && self.verified.len() == known.verified.len() {
            self.verified = Arc::clone(&known.verified);
        }
    }

    /// For a file whose bytes this process has just computed the checksums of.
    pub(crate) fn mark_verified(&self) {
        for word in &*self.verified {
            word.store(u64::MAX, Ordering::Relaxed);
        }
    }

    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The bytes of the file that are in memory: all or none.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.mapping.bytes()
    }

    /// Whether they are.
    #[inline]
    pub(crate) fn is_in_memory(&self) -> bool {
        // No file is empty, and lookups have these at hand.
        !self.mapping.bytes().is_empty()
    }

    /// Everything behind the body, at least.
    pub(crate) fn tail(&self) -> Part<'_> {
        match &self.on_disk {
            Some(on_disk) => Part { bytes: &on_disk.tail, start: self.frame.body_end },
            None => Part::whole(self.mapping.bytes()),
        }
    }

    /// Length of the file.
    pub(crate) fn length(&self) -> u64 {
        let tail = self.tail();
        tail.start + tail.bytes.len() as u64
    }

    /// The verified bytes from `start` to `end` of the body. They are read if they are not in memory.
    pub(crate) fn verified(&self, start: u64, end: u64) -> Result<Cow<'_, [u8]>> {
        let length = end.saturating_sub(start);
        if self.is_in_memory() {
            self.check(position(start), position(end))?;
            let bytes = bytes::slice(self.bytes(), start, length);
            return bytes.map(Cow::Borrowed).map_err(|damage| self.corrupt(start, damage));
        }
        let (first, mut chunks) = self.read_chunks(start, end)?;
        let skipped = position(start - first).min(chunks.len());
        chunks.drain(..skipped);
        chunks.truncate(position(length));
        Ok(Cow::Owned(chunks))
    }

    /// Reads and verifies the chunks with the bytes from `start` to `end` of the body; returns where they begin as well.
    fn read_chunks(&self, start: u64, end: u64) -> Result<(u64, Vec<u8>)> {
        let Some(on_disk) = &self.on_disk else { return Err(self.corrupt(start, Damage::OutOfBounds)) };
        if start >= end || end > self.frame.body_end {
            return Err(self.corrupt(start, Damage::OutOfBounds));
        }
        let (first, last) = (start >> self.frame.chunk_log2, (end - 1) >> self.frame.chunk_log2);
        let (begin, _) = self.frame.chunk_range(first);
        let (last_start, last_length) = self.frame.chunk_range(last);
        let bytes = read_piece(&*on_disk.file, begin, last_start + last_length - begin);
        let bytes = bytes.map_err(|e| Error::io("read", &self.path, e))?;
        for chunk in first..=last {
            let checked = self.frame.check_chunk(Part { bytes: &bytes, start: begin }, self.tail(), chunk, true);
            checked.map_err(|(offset, damage)| self.corrupt(offset, damage))?;
        }
        Ok((begin, bytes))
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
        if !self.are_verified(start, end) {
            self.fetch(self.whole_chunks(start, end))?;
            return self.check_present(start, end);
        }
        if end.saturating_sub(start) >= LONG_BYTES {
            self.read_ahead(start..end);
        }
        Ok(())
    }

    /// The same for a walk that has seen to it that they can be read.
    #[cold]
    pub(super) fn check_present(&self, start: usize, end: usize) -> Result<()> {
        let mut unknown = self.chunks(start, end).filter(|chunk| self.always || !self.has_matched(*chunk));
        unknown.try_for_each(|chunk| self.check_chunk(chunk as u64))
    }

    /// The bytes of all chunks with bytes from `start` to `end`.
    pub(super) fn whole_chunks(&self, start: usize, end: usize) -> Range<usize> {
        let chunks = self.chunks(start, end);
        chunks.start << self.frame.chunk_log2..chunks.end << self.frame.chunk_log2
    }

    /// Whether none of the chunks with bytes from `start` to `end` need be verified again.
    pub(super) fn are_verified(&self, start: usize, end: usize) -> bool {
        !self.always && self.chunks(start, end).all(|chunk| self.has_matched(chunk))
    }

    /// The chunks with bytes from `start` to `end`.
    #[inline]
    fn chunks(&self, start: usize, end: usize) -> Range<usize> {
        start >> self.frame.chunk_log2..(end.saturating_sub(1).max(start) >> self.frame.chunk_log2) + 1
    }

    #[inline]
    fn has_matched(&self, chunk: usize) -> bool {
        let word = self.verified.get(chunk / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (chunk % 64) & 1 == 1)
    }

    /// Asks for what is to be read soon, unless it is in memory; returns whether it was not. See `sys`.
    pub(super) fn read_ahead(&self, range: Range<usize>) -> bool {
        let is_missing = !self.residence.covers(&range, || self.mapping.is_present(range.clone()));
        if is_missing {
            self.mapping.read_ahead(range);
        }
        is_missing
    }

    /// Tells the system that a range will not be needed soon.
    pub(super) fn leave(&self, range: Range<usize>) {
        self.mapping.leave(range);
    }

    /// Brings a range into memory.
    fn fetch(&self, range: Range<usize>) -> Result<()> {
        if range.len() > PAGE_BYTES {
            self.read_ahead(range.clone());
        }
        self.touch(range)
    }

    /// Makes sure that a range, which has been asked for, can be read before it is.
    pub(super) fn touch(&self, range: Range<usize>) -> Result<()> {
        self.mapping.touch(range).map_err(|e| Error::io("read", &self.path, e))
    }

    /// Whether the chunk with `offset` need not be verified again.
    #[inline]
    pub(crate) fn is_verified(&self, offset: u64) -> bool {
        let chunk = usize::try_from(offset >> self.frame.chunk_log2);
        !self.always && chunk.is_ok_and(|chunk| self.has_matched(chunk))
    }

    /// Verifies one chunk, which can be read, whatever is remembered of it.
    #[cold]
    fn check_chunk(&self, chunk: u64) -> Result<()> {
        if chunk >= self.frame.chunks() {
            return Err(self.corrupt(chunk << self.frame.chunk_log2, Damage::OutOfBounds));
        }
        let whole = Part::whole(self.bytes());
        let checked = self.frame.check_chunk(whole, whole, chunk, true);
        checked.map_err(|(offset, damage)| self.corrupt(offset, damage))?;
        let word = usize::try_from(chunk / 64).ok().and_then(|word| self.verified.get(word));
        if let Some(word) = word {
            word.fetch_or(1 << (chunk % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Verifies every chunk that the bytes from `start` to `end` of the body touch, whatever is remembered of them.
    pub(crate) fn check_again(&self, start: u64, end: u64) -> Result<()> {
        self.fetch(self.whole_chunks(position(start), position(end)))?;
        self.check_again_present(start, end)
    }

    /// The same for a walk that has seen to it that they can be read.
    pub(super) fn check_again_present(&self, start: u64, end: u64) -> Result<()> {
        let chunk_log2 = self.frame.chunk_log2;
        let mut chunks = start >> chunk_log2..=end.saturating_sub(1).max(start) >> chunk_log2;
        chunks.try_for_each(|chunk| self.check_chunk(chunk))
    }

    /// Where the chunk behind the one with `offset` begins.
    #[inline]
    pub(crate) fn chunk_end(&self, offset: usize) -> usize {
        ((offset >> self.frame.chunk_log2) + 1) << self.frame.chunk_log2
    }

    /// Verifies every byte of the file: all chunks, checksum pages and padding. Ends with [`Error::Closed`] once `stop` is
    /// set.
    pub(crate) fn verify(&self, stop: &AtomicBool) -> Result<()> {
        self.verify_around([], stop)
    }

    /// The same without the chunks that lie inside of one of `others`, which somebody has verified: ranges of the body, in
    /// order.
    pub(crate) fn verify_around(&self, others: impl IntoIterator<Item = Range<u64>>, stop: &AtomicBool) -> Result<()> {
        let end = self.frame.body_end;
        let mut start = 0;
        for other in others.into_iter().chain(std::iter::once(end..end)) {
            let (from, to) = self.frame.whole_chunks(other);
            self.verify_from(start, from, stop)?;
            start = to;
        }
        self.frame.check_padding(self.tail()).map_err(|(offset, damage)| self.corrupt(offset, damage))
    }

    /// Verifies the chunks from `start` to in front of `end`, both where one begins or the last one ends.
    fn verify_from(&self, mut start: u64, end: u64, stop: &AtomicBool) -> Result<()> {
        while start < end {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Closed);
            }
            let to = end.min(start + VERIFY_BYTES.max(1 << self.frame.chunk_log2));
            if self.is_in_memory() {
                // The disk works on the next piece meanwhile.
                let next = to.saturating_add(to - start).min(end);
                self.read_ahead(position(to)..position(next));
                self.check_again(start, to)?;
            } else {
                self.read_chunks(start, to)?;
            }
            start = to;
        }
        Ok(())
    }
}

/// A piece of a file, whose length bounds it.
fn read_piece(file: &dyn RandomFile, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length)?;
    bytes.resize(length, 0);
    file.read_at(offset, &mut bytes)?;
    Ok(bytes)
}
