//! Log files.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::error::bug;
use crate::sys::guard::Place;
use crate::sys::region::ArenaWriter;
use crate::sys::{Access, LogFile, Mapping, SyncFile};

/// A log file starts with this much space and doubles it ahead of the writer.
const LOG_BYTES_MIN: usize = 1 << 20;

/// Log pages are made present in steps of this size.
const POPULATE_BYTES: usize = 256 << 10;

/// The least that is allocated at once where signals keep interrupting.
#[cfg(target_os = "linux")]
const PIECE_BYTES_MIN: usize = 4 << 10;

/// Whether stores through a mapping of this file are sound: a preallocated block cannot be refused at writeback. Known for
/// ext4, XFS and tmpfs.
#[cfg(target_os = "linux")]
fn may_be_mapped(file: &File) -> bool {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;
    let Ok(found) = rustix::io::retry_on_intr(|| rustix::fs::fstatfs(file)) else { return false };
    u64::try_from(found.f_type).is_ok_and(|kind| [EXT4, XFS, TMPFS].contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn may_be_mapped(_: &File) -> bool {
    false
}

/// Allocates the bytes from `from` to `to`; answers whether the file system can do that.
///
/// A signal interrupts it, and tmpfs then gives back all that the call has allocated so far: made again as it was, it would
/// never end under a timer that is faster. So it goes on in halves, each of which stays.
#[cfg(target_os = "linux")]
fn grow(file: &File, from: usize, to: usize) -> io::Result<bool> {
    let (mut at, mut piece) = (from, to - from);
    while at < to {
        let length = piece.min(to - at);
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), at as u64, length as u64) {
            Ok(()) => at += length,
            Err(rustix::io::Errno::INTR) => piece = (piece / 2).max(PIECE_BYTES_MIN),
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn grow(_: &File, _: usize, _: usize) -> io::Result<bool> {
    Ok(false)
}

/// A log file. Mapped, its arena is the file; otherwise the arena is anonymous memory and each commit writes it to the file.
#[derive(Debug)]
pub(super) struct DiskLog {
    file: Arc<File>,
    arena: ArenaWriter,
    capacity: usize,
    mapped: bool,
    /// Bytes of the file that exist, if it is mapped.
    allocated: usize,
    /// Bytes from the start that have been made present.
    present: usize,
}

impl DiskLog {
    /// The log in a file that has just been made.
    pub(super) fn new(file: File, capacity: usize, access: Access, place: &Place<'_>) -> io::Result<Self> {
        let file = Arc::new(file);
        let capacity = capacity.next_multiple_of(POPULATE_BYTES);
        let mapped = access == Access::Map && may_be_mapped(&file) && grow(&file, 0, LOG_BYTES_MIN.min(capacity))?;
        let arena = if mapped { Mapping::log_file(&file, capacity, place)? } else { Mapping::anonymous(capacity)? };
        let allocated = if mapped { LOG_BYTES_MIN.min(capacity) } else { 0 };
        Ok(Self { file, arena, capacity, mapped, allocated, present: 0 })
    }
}

impl LogFile for DiskLog {
    fn mapping(&self) -> &Mapping {
        self.arena.mapping()
    }

    fn reserve(&mut self, length: usize) -> io::Result<&mut [u8]> {
        let full = || io::Error::new(io::ErrorKind::StorageFull, "the log segment is full");
        let end = self.arena.end().checked_add(length).filter(|end| *end <= self.capacity).ok_or_else(full)?;
        if self.mapped && end > self.allocated {
            let target = end.next_power_of_two().min(self.capacity).max(end);
            grow(&self.file, self.allocated, target)?;
            self.allocated = target;
        }
        if self.mapped && end > self.present {
            let target = (end + POPULATE_BYTES).next_multiple_of(POPULATE_BYTES).min(self.allocated);
            self.arena.populate(self.present, target - self.present);
            self.present = target;
        }
        self.arena.reserve(length).ok_or_else(full)
    }

    fn commit(&mut self, length: usize) -> io::Result<()> {
        if !self.mapped {
            let offset = self.arena.end() as u64;
            let bytes = self.arena.reserve(length).ok_or_else(|| bug("what is to be published is not in the log"))?;
            write_all_at(&self.file, bytes, offset)?;
        }
        Ok(self.arena.publish(length)?)
    }

    fn syncer(&self) -> Arc<dyn SyncFile> {
        Arc::new(DiskSync { file: Arc::clone(&self.file) })
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

#[derive(Debug)]
struct DiskSync {
    file: Arc<File>,
}

impl SyncFile for DiskSync {
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
