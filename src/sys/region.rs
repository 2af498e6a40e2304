//! Memory that files live in: mappings and log arenas. With `guard`, `lend` and `share`, the only file of the crate with
//! `unsafe`.
//!
//! # The contract that makes `&[u8]` over a file sound
//! A database directory belongs to the process that holds its lock. Tables, indexes, value files and manifests are created
//! with `O_EXCL`, written once, mapped only after that, and never written, truncated or recycled again, only unlinked, which
//! keeps the mapped pages alive. A log segment is written by one [`ArenaWriter`] behind the published end, and read in front
//! of it. Another process that changes these files breaks the contract; `IoMode::Read` has no such condition. What the guard
//! does about a file that is lost all the same keeps every byte readable and initialised, and nothing that was read is
//! believed.
#![allow(unsafe_code)]

mod block;
mod buffer;
mod present;

use std::fmt;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use memmap2::{Mmap, MmapMut, MmapOptions, MmapRaw};
use zerocopy::{FromZeros, IntoBytes};

use super::access::Advice;
#[cfg(target_os = "linux")]
use super::access::PAGE_BYTES;
use super::atomic::{AtomicUsize, Ordering};
use super::files::OpenFile;
use super::guard::{Place, Watched};
use super::share::{self, Share};
use crate::error::{Bug, must};
pub(crate) use block::Block;
pub(crate) use buffer::BlockBuffer;

/// What owns the bytes.
enum Memory {
    /// And whether the system tells what of it is present.
    File(Mmap, bool),
    Heap(Vec<u8>),
    /// Memory on the heap that begins at a multiple of 16.
    Words(Vec<u128>, usize),
    /// A shared file mapping or anonymous memory, written through its raw pointer by one [`ArenaWriter`].
    Arena(MmapRaw),
}

/// A run of bytes at a fixed address.
///
/// Invariant: `readable` bytes from `base` are initialised, alive as long as `memory` is, and never change again.
struct Region {
    base: NonNull<u8>,
    readable: AtomicUsize,
    /// In front of `memory`, and so dropped before it.
    _watched: Option<Watched>,
    memory: Memory,
    /// Behind `memory`: until it is gone, it counts.
    counted: Option<OpenFile>,
}

// SAFETY: the readable bytes are immutable, `readable` is atomic, and the bytes behind it are touched by the one writer only.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn new(memory: Memory, place: Option<&Place<'_>>, counted: Option<OpenFile>) -> Self {
        let (base, readable) = match &memory {
            Memory::File(map, _) => (map.as_ptr(), map.len()),
            Memory::Heap(bytes) => (bytes.as_ptr(), bytes.len()),
            Memory::Words(words, length) => (words.as_ptr().cast(), *length),
            Memory::Arena(map) => (map.as_ptr(), 0),
        };
        let base = NonNull::new(base.cast_mut()).unwrap_or(NonNull::dangling());
        let length = match &memory {
            Memory::File(map, _) => map.len(),
            Memory::Heap(_) | Memory::Words(..) => 0,
            Memory::Arena(map) => map.len(),
        };
        let watched = place.and_then(|place| place.watch(base.as_ptr(), length));
        Self { base, readable: AtomicUsize::new(readable), _watched: watched, memory, counted }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        let readable = self.readable.load(Ordering::Acquire);
        // SAFETY: by the invariant; the acquire pairs with the release of `ArenaWriter::publish`, so the bytes are written.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), readable) }
    }
}

/// Whether the system tells what of a file is in memory. Linux does so to its owner and to who may write it; of other files
/// it says that all of them is.
fn is_told(file: &File) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        file.metadata().is_ok_and(|metadata| metadata.uid() == rustix::process::geteuid().as_raw())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        false
    }
}

/// Notes in the lowest bit of each byte whether that page is in memory, of pages in a row from `start`, where one begins. False
/// if the system does not say, or has not so many.
#[cfg(target_os = "linux")]
fn ask_for_pages(map: &Mmap, start: usize, pages: &mut [u8]) -> bool {
    let rest = map.get(start..).unwrap_or_default();
    let length = rest.len().min(pages.len() * PAGE_BYTES);
    // SAFETY: the range lies inside of the mapping, so it is ours, and what is there is not touched; a byte is written for each
    // page of it, which `pages` has room for: pages of the system are no smaller than `PAGE_BYTES`.
    let answer = unsafe { libc::mincore(rest.as_ptr().cast_mut().cast(), length, pages.as_mut_ptr()) };
    answer == 0 && length.div_ceil(PAGE_BYTES) == pages.len()
}

/// Tells the system that it may take these pages of a mapped file before others; a hint.
#[cfg(target_os = "linux")]
fn give_back_first(pages: &[u8]) {
    let start = pages.as_ptr().cast_mut().cast();
    // SAFETY: the range lies inside of a mapping; nothing that it shows is changed, only how soon the system gives its memory
    // to somebody else, after which it is read from the file again.
    let _ = unsafe { rustix::mm::madvise(start, pages.len(), rustix::mm::Advice::LinuxCold) };
}

impl Memory {
    /// A copy of `bytes` that begins at a multiple of 16.
    fn words(bytes: &[u8]) -> Self {
        let mut words = vec![0u128; bytes.len().div_ceil(16)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self::Words(words, bytes.len())
    }
}

/// Reference counts of one region, one per stripe: threads that read the same file do not share a cache line.
const STRIPES: usize = 8;

/// What a pin keeps alive.
enum Held {
    /// One stripe of a region.
    Region(#[expect(dead_code, reason = "held for its drop")] Arc<Region>),
    Buffer(BlockBuffer),
}

/// Keeps a region or a block alive: a share of one stripe, or of the block.
type Pin = Share<Held>;

/// Pins that were counted together, for those who pin one range after another of the same bytes. A clone is an empty one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Purse(share::Purse<Held>);

/// The contents of a file in memory. A clone is another handle on the same bytes.
#[derive(Clone)]
pub(crate) struct Mapping {
    region: Arc<Region>,
    /// Where the region begins; here as well, so that a read follows one pointer less.
    base: NonNull<u8>,
    /// Length of what does not grow; at most what is readable.
    fixed: Option<usize>,
    stripes: [Pin; STRIPES],
}

/// Tells of a mapping whether anything keeps its bytes, and keeps nothing itself.
#[derive(Clone)]
pub(crate) struct MappingWatch(Weak<Region>);

impl MappingWatch {
    pub(crate) fn is_kept(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} bytes)", self.bytes().len())
    }
}

// SAFETY: the bytes behind `base` are the region's, which is `Send + Sync`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

thread_local! {
    static STRIPE: usize = {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

impl Mapping {
    fn new(memory: Memory, place: Option<&Place<'_>>, counted: Option<OpenFile>) -> Self {
        let grows = matches!(memory, Memory::Arena(_));
        let region = Arc::new(Region::new(memory, place, counted));
        let fixed = (!grows).then(|| region.bytes().len());
        let stripes = std::array::from_fn(|_| Share::new(Held::Region(Arc::clone(&region))));
        Self { base: region.base, fixed, region, stripes }
    }

    /// Maps a whole file for reading.
    pub(super) fn file(
        file: &File,
        length: usize,
        advice: Advice,
        place: &Place<'_>,
        counted: OpenFile,
    ) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self::heap(Vec::new()));
        }
        // SAFETY: the file is one of ours and complete; the module's contract says that it never changes again.
        let map = unsafe { MmapOptions::new().len(length).map(file) }?;
        let mapping = Self::new(Memory::File(map, is_told(file)), Some(place), Some(counted));
        if advice != Advice::Normal {
            mapping.advise(advice);
        }
        Ok(mapping)
    }

    /// Bytes that are in memory already. They begin at a multiple of 16, as mapped files do, so that what is aligned in a file
    /// is aligned in memory.
    pub(crate) fn heap(bytes: Vec<u8>) -> Self {
        Self::in_heap(bytes, None)
    }

    /// The same in place of the mapping of a file.
    pub(super) fn counted_heap(bytes: Vec<u8>, counted: OpenFile) -> Self {
        Self::in_heap(bytes, Some(counted))
    }

    fn in_heap(bytes: Vec<u8>, counted: Option<OpenFile>) -> Self {
        let aligned = bytes.as_ptr().addr().is_multiple_of(16);
        Self::new(if aligned { Memory::Heap(bytes) } else { Memory::words(&bytes) }, None, counted)
    }

    /// Whether they are a mapped file, which counts as one, or stand for one.
    pub(crate) fn is_of_file(&self) -> bool {
        self.region.counted.is_some()
    }

    /// What tells whether anything, a slice for example, keeps the bytes.
    pub(crate) fn watch(&self) -> MappingWatch {
        MappingWatch(Arc::downgrade(&self.region))
    }

    /// Whether someone else keeps the bytes: a slice, or another handle.
    pub(crate) fn is_pinned(&self) -> bool {
        self.stripes.iter().any(Share::is_shared)
    }

    /// A mapping of `capacity` bytes of a file that is to be written through it. Bytes beyond the file's end must not be
    /// reserved; the address range alone is taken here.
    pub(super) fn log_file(file: &File, capacity: usize, place: &Place<'_>) -> io::Result<ArenaWriter> {
        let map = MmapOptions::new().len(capacity).map_raw(file)?;
        // A forked child must not be able to write into the log.
        #[cfg(target_os = "linux")]
        map.advise(memmap2::Advice::DontFork)?;
        Ok(ArenaWriter::new(map, Some(place)))
    }

    /// An arena of anonymous memory.
    pub(crate) fn anonymous(capacity: usize) -> io::Result<ArenaWriter> {
        Ok(ArenaWriter::new(MmapMut::map_anon(capacity)?.into(), None))
    }

    /// The bytes of the file; of a log, the published ones.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self.fixed {
            // SAFETY: `base` is the region's and `length` is at most what has been readable, which stays as it is while
            // `region` lives.
            Some(length) => unsafe { std::slice::from_raw_parts(self.base.as_ptr(), length) },
            None => self.region.bytes(),
        }
    }

    /// The first `length` bytes as a mapping of their own.
    pub(crate) fn prefix(&self, length: usize) -> Self {
        Self { fixed: Some(length.min(self.bytes().len())), ..self.clone() }
    }

    /// A range of [`bytes`](Self::bytes) that stays valid on its own. A range outside is empty.
    #[inline]
    pub(crate) fn pin(&self, range: Range<usize>) -> Pinned {
        Pinned::new(self.bytes(), range, self.stripe().clone())
    }

    /// The same, with a pin from a purse.
    #[inline]
    pub(crate) fn pin_from(&self, purse: &mut Purse, range: Range<usize>) -> Pinned {
        let pin = purse.0.take(Arc::as_ptr(&self.region).addr(), || self.stripe());
        Pinned::new(self.bytes(), range, pin)
    }

    /// The stripe of this thread.
    #[inline]
    fn stripe(&self) -> &Pin {
        &self.stripes[STRIPE.try_with(|stripe| *stripe).unwrap_or(0)]
    }
}

/// The right to write behind the published end of an arena. There is one for each, and it is not `Clone`.
pub(crate) struct ArenaWriter {
    mapping: Mapping,
    capacity: usize,
    /// Length of the last reservation.
    reserved: usize,
}

impl fmt::Debug for ArenaWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArenaWriter({} of {} bytes)", self.end(), self.capacity)
    }
}

impl ArenaWriter {
    fn new(map: MmapRaw, place: Option<&Place<'_>>) -> Self {
        let capacity = map.len();
        Self { mapping: Mapping::new(Memory::Arena(map), place, None), capacity, reserved: 0 }
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The published length.
    pub(crate) fn end(&self) -> usize {
        self.mapping.region.readable.load(Ordering::Relaxed)
    }

    /// `length` bytes behind the published end, or `None` if the arena is too small. The caller has made sure that the file
    /// behind the mapping, if there is one, is long enough.
    pub(crate) fn reserve(&mut self, length: usize) -> Option<&mut [u8]> {
        let end = self.end();
        if end.checked_add(length)? > self.capacity {
            return None;
        }
        self.reserved = length;
        let base = self.mapping.region.base.as_ptr();
        // SAFETY: `end` is inside the arena.
        let start = unsafe { base.add(end) };
        // SAFETY: the range lies inside the arena and behind `readable`, so no `&[u8]` covers it (`Region::bytes` ends at
        // `readable`, which only `publish` moves, through `&mut self`); this is the only writer, borrowed mutably for the
        // slice's life; the memory is zero or has been written, so it is initialised.
        Some(unsafe { std::slice::from_raw_parts_mut(start, length) })
    }

    /// Moves the published end over `length` bytes of the last reservation, which has as many.
    pub(crate) fn publish(&mut self, length: usize) -> Result<(), Bug> {
        must(length <= self.reserved, "more of the log is to be published than has been reserved")?;
        self.reserved = 0;
        // Inside the arena, as the reservation was.
        self.mapping.region.readable.store(self.end() + length, Ordering::Release);
        Ok(())
    }
}

/// Asks the processor to bring the cache line of a value closer; a hint. Unlike a load, it does not hold up what follows.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing as far as the program can tell and cannot fault, and the address is a live value's; SSE
    // belongs to every x86-64 processor.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Bytes of a file or a block that stay valid and unchanged for as long as this value lives, whatever happens to the file.
#[derive(Clone)]
pub(crate) struct Pinned {
    start: NonNull<u8>,
    length: usize,
    pin: Pin,
}

impl Pinned {
    /// A range of `bytes`, which are what the pin keeps.
    #[inline]
    fn new(bytes: &[u8], range: Range<usize>, pin: Pin) -> Self {
        let bytes = bytes.get(range).unwrap_or_default();
        Self { start: NonNull::from(bytes).cast(), length: bytes.len(), pin }
    }

    /// A part of the bytes, kept alive as well.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        Self::new(self, range, self.pin.clone())
    }

    /// A part of the bytes, which takes over what keeps them alive.
    pub(crate) fn into_part(self, range: Range<usize>) -> Self {
        let bytes = self.get(range).unwrap_or_default();
        let (start, length) = (NonNull::from(bytes).cast(), bytes.len());
        Self { start, length, pin: self.pin }
    }
}

// SAFETY: the bytes are immutable and the pin is `Send + Sync`.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Deref for Pinned {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` and `length` come from a slice of the region's readable bytes or of the block's (or from an empty
        // slice), which stay as they are, and where they are, while the pin holds the region or the block.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

/// A shared array, all zero at first, for tables of atomics that are touched at random: in huge pages if it is large enough
/// for them, which saves faults and address translations; in the heap if it is so small that a mapping of its own would
/// cost more than it does.
pub(crate) struct ZeroedArray<T>(Elements<T>);

enum Elements<T> {
    Mapped { map: MmapRaw, length: usize, elements: PhantomData<[T]> },
    Small(Box<[T]>),
}

/// Arrays below this size are small.
const MAPPED_BYTES: usize = 64 << 10;

/// The size of a huge page where there are any.
#[cfg(target_os = "linux")]
const HUGE_BYTES: usize = 2 << 20;

impl<T: FromZeros> ZeroedArray<T> {
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        // Elements are not dropped, and a mapping is aligned to a page.
        const { assert!(!std::mem::needs_drop::<T>() && align_of::<T>() <= 4096) };
        let bytes = length.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        if bytes < MAPPED_BYTES {
            let elements = <[T]>::new_box_zeroed_with_elems(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
            return Ok(Self(Elements::Small(elements)));
        }
        let map = MmapRaw::from(MmapMut::map_anon(bytes)?);
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_BYTES {
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Self(Elements::Mapped { map, length, elements: PhantomData }))
    }

    /// One that a forked child finds all zero, where the system can do that: Linux since 4.14.
    pub(crate) fn wiped_by_fork(length: usize) -> io::Result<Self> {
        const { assert!(!std::mem::needs_drop::<T>() && align_of::<T>() <= 4096) };
        let bytes = length.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = MmapRaw::from(MmapMut::map_anon(bytes)?);
        #[cfg(target_os = "linux")]
        {
            use rustix::mm::{Advice, madvise};
            // SAFETY: the mapping is private memory of ours, and zeros, which are what a child finds, are a valid `T`.
            let _ = unsafe { madvise(map.as_mut_ptr().cast(), bytes, Advice::LinuxWipeOnFork) };
        }
        Ok(Self(Elements::Mapped { map, length, elements: PhantomData }))
    }
}

impl<T> Deref for ZeroedArray<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.0 {
            // SAFETY: the mapping holds `length` elements, is aligned to a page and therefore to `T`, and began as zeros,
            // which are a valid `T` (`new` demands `FromZeros`); since then it has been reached through `&T` only.
            Elements::Mapped { map, length, .. } => unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), *length) },
            Elements::Small(elements) => elements,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_arrays_are_zero_and_can_be_shared() {
        use std::sync::atomic::AtomicU64;
        for length in [0, 1, 1000, 1 << 20] {
            let array = ZeroedArray::<AtomicU64>::new(length).unwrap();
            assert_eq!(array.len(), length);
            assert!(array.iter().all(|word| word.load(Ordering::Relaxed) == 0));
            std::thread::scope(|scope| {
                let add = || array.iter().for_each(|word| _ = word.fetch_add(1, Ordering::Relaxed));
                for thread in [scope.spawn(add), scope.spawn(add)] {
                    thread.join().unwrap();
                }
            });
            assert!(array.iter().all(|word| word.load(Ordering::Relaxed) == 2));
        }
    }

    #[test]
    fn readers_see_what_is_published_and_nothing_else() {
        let mut writer = Mapping::anonymous(64).unwrap();
        assert_eq!(writer.mapping().bytes(), b"");
        writer.reserve(5).unwrap().copy_from_slice(b"hello");
        assert_eq!(writer.mapping().bytes(), b"");
        writer.publish(4).unwrap();
        let pinned = writer.mapping().pin(1..4);
        writer.reserve(60).unwrap().fill(b'x');
        assert!(writer.reserve(61).is_none());
        writer.publish(60).unwrap();
        assert_eq!(writer.mapping().bytes().len(), 64);
        drop(writer);
        assert_eq!(&*pinned, b"ell");
    }

    #[test]
    fn blocks_are_aligned_and_their_pins_outlive_them() {
        for length in [0, 1, 15, 16, 17, 4096] {
            let mut buffer = BlockBuffer::new(length).unwrap();
            assert_eq!(buffer.bytes_mut(), vec![0; length]);
            buffer.bytes_mut().fill(7);
            let block = buffer.into_block();
            assert_eq!(block.bytes(), vec![7; length]);
            assert!(block.bytes().as_ptr().addr().is_multiple_of(16));
            let pins = [block.pin(0..length), block.pin(length..length), block.pin(0..length + 1)];
            let other = block.clone();
            drop(block);
            assert_eq!(other.bytes().len(), length);
            drop(other);
            assert_eq!(pins.map(|pin| pin.to_vec()), [vec![7; length], Vec::new(), Vec::new()]);
        }
    }

    #[test]
    fn pins_outlive_mappings_on_every_thread() {
        let mapping = Mapping::heap(b"0123456789".to_vec());
        let pins: Vec<Pinned> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|i| {
                    scope.spawn({
                        let m = &mapping;
                        move || m.pin(i..i + 1)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(&*mapping.pin(5..11), b"", "a range outside is empty");
        drop(mapping);
        assert!(pins.iter().enumerate().all(|(i, pin)| pin[0] == b'0' + u8::try_from(i).unwrap()));
    }
}
