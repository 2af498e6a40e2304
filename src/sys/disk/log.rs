//! Log files.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::space::{Length, allocate, write_at};
use crate::error::{bug, is_full};
use crate::sys::access::Access;
use crate::sys::ahead::{Ahead, LOG_STEP_BYTES, first_that_fits, log_sizes};
use crate::sys::guard::Place;
use crate::sys::region::{ArenaWriter, Mapping};
use crate::sys::seam::{AppendError, LogFile, SyncFile};

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

/// A log file. Mapped, its arena is the file; otherwise the arena is anonymous memory and each commit writes it to the file.
///
/// Either way its space is taken ahead of the writer, so that a full disk refuses [`reserve`](LogFile::reserve), before
/// anything is written.
#[derive(Debug)]
pub(super) struct DiskLog {
    file: Arc<File>,
    arena: ArenaWriter,
    capacity: usize,
    mapped: bool,
    /// Whether the file system can take space ahead.
    allocates: bool,
    /// Bytes of the file whose space has been taken.
    allocated: usize,
    /// Bytes from the start that have been made present, if the file is mapped.
    present: usize,
}

impl DiskLog {
    /// The log in a file that has just been made.
    pub(super) fn new(
        file: File,
        capacity: usize,
        ahead: Ahead,
        access: Access,
        place: &Place<'_>,
    ) -> io::Result<Self> {
        let file = Arc::new(file);
        let capacity = capacity.next_multiple_of(LOG_STEP_BYTES);
        let mut allocates = true;
        let allocated = first_that_fits(log_sizes(1, capacity, ahead), |size| {
            allocates = allocate(&file, 0..size as u64, Length::Extended)?;
            Ok(())
        })?;
        let allocated = if allocates { allocated } else { 0 };
        let mapped = access == Access::Map && allocates && may_be_mapped(&file);
        let arena = if mapped { Mapping::log_file(&file, capacity, place)? } else { Mapping::anonymous(capacity)? };
        Ok(Self { file, arena, capacity, mapped, allocates, allocated, present: 0 })
    }

    /// Writes what is behind the end. If there is no space for it after all (the file system cannot take it ahead, or does
    /// not keep what it took), what has been written of it is zeroed: then nothing is there, as before, and nothing behind
    /// it. A header of zeros is no group, so recovery ends in front of it whether it finds the zeros or the file's end.
    /// Where zeroing fails as well, a part of the group is there, which recovery drops; but if the bytes that are missing
    /// were zeros, it is whole, so the log must not go on.
    fn write(&mut self, length: usize) -> Result<(), AppendError> {
        let offset = self.arena.end() as u64;
        let bytes = self.arena.reserve(length).ok_or_else(|| bug("what is to be published is not in the log"))?;
        write_at(&self.file, bytes, offset).map_err(|(written, e)| {
            let taken_back = || write_at(&self.file, &vec![0; written], offset).is_ok();
            if is_full(&e) && taken_back() { AppendError::Refused(e) } else { AppendError::Failed(e) }
        })
    }
}

impl LogFile for DiskLog {
    fn mapping(&self) -> &Mapping {
        self.arena.mapping()
    }

    fn make_room(&mut self, bytes: usize, ahead: Ahead) -> io::Result<usize> {
        if !self.allocates {
            return Ok(self.capacity);
        }
        let end = self.arena.end().saturating_add(bytes).min(self.capacity);
        if end > self.allocated {
            let (file, from) = (&self.file, self.allocated as u64);
            let take = |size| allocate(file, from..size as u64, Length::Extended).map(drop);
            self.allocated = first_that_fits(log_sizes(end, self.capacity, ahead), take)?;
        }
        Ok(self.allocated)
    }

    fn reserve(&mut self, length: usize) -> io::Result<&mut [u8]> {
        let full = || io::Error::new(io::ErrorKind::StorageFull, "the log segment is full");
        let end = self.arena.end().checked_add(length).filter(|end| *end <= self.capacity).ok_or_else(full)?;
        if end > self.allocated {
            self.make_room(length, Ahead::Needed)?;
        }
        if self.mapped && end > self.present {
            let target = (end + LOG_STEP_BYTES).next_multiple_of(LOG_STEP_BYTES).min(self.allocated);
            self.arena.populate(self.present, target - self.present);
            self.present = target;
        }
        self.arena.reserve(length).ok_or_else(full)
    }

    fn commit(&mut self, length: usize) -> Result<(), AppendError> {
        if !self.mapped {
            self.write(length)?;
        }
        Ok(self.arena.publish(length)?)
    }

    fn syncer(&self) -> Arc<dyn SyncFile> {
        Arc::new(DiskSync { file: Arc::clone(&self.file) })
    }
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
