//! The space of a simulated disk: who takes it, and what happens when there is none.

use std::collections::BTreeSet;
use std::io;

use super::super::chance::Random;
use super::super::image::Image;
use super::super::names::{Change, FileId, Lasting};
use super::{Disk, FolderId};
use crate::error::is_full;
use crate::sys::{AppendError, PAGE_BYTES};

impl Disk {
    /// Appends as a kernel does: what there is space for, and then comes the error.
    pub(in super::super) fn append(&mut self, file: FileId, bytes: &[u8]) -> Result<(), AppendError> {
        self.writes += 1;
        let short = self.faults.shorts.remove(&self.writes);
        if let Err(e) = self.step() {
            return Err(if is_full(&e) { AppendError::Refused(e) } else { AppendError::Failed(e) });
        }
        let fitting = self.files.get(&file).map_or(bytes.len(), |image| self.fitting(file, image.written()));
        let chosen = if short { Random::new(self.seed ^ self.writes).below(bytes.len()) } else { bytes.len() };
        let kept = chosen.min(fitting);
        self.bytes_written += kept as u64;
        if let Some(image) = self.files.get_mut(&file) {
            image.append(&bytes[..kept]);
        }
        match kept {
            _ if kept == bytes.len() => Ok(()),
            0 if !short => Err(AppendError::Refused(no_space())),
            _ => Err(AppendError::Failed(no_space())),
        }
    }

    pub(in super::super) fn grow(&mut self, file: FileId, length: usize) -> io::Result<()> {
        self.step()?;
        self.extend(file, length)
    }

    /// The same as a part of another operation.
    pub(in super::super) fn extend(&mut self, file: FileId, length: usize) -> io::Result<()> {
        self.check_space(file, length)?;
        if let Some(image) = self.files.get_mut(&file) {
            image.grow(length);
        }
        Ok(())
    }

    /// Takes the space of `bytes` bytes behind what is written. Only where the disk can be full is this an operation:
    /// elsewhere it changes nothing that anyone could see.
    pub(in super::super) fn make_room(&mut self, file: FileId, bytes: usize) -> io::Result<()> {
        if self.capacity.is_none() {
            return Ok(());
        }
        self.step()?;
        let end = self.files.get(&file).map_or(0, |image| image.written().saturating_add(bytes));
        self.check_space(file, end)?;
        if let Some(image) = self.files.get_mut(&file) {
            image.take(end);
        }
        Ok(())
    }

    /// Makes a file of zeros, or makes it longer.
    pub(in super::super) fn hold_space(&mut self, dir: FolderId, name: &str, length: usize) -> io::Result<u64> {
        self.step()?;
        let file = match self.find(dir, name) {
            Ok(file) => file,
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Err(_) => self.link(dir, name, Image::default(), Lasting::AfterSync),
        };
        let extended = self.extend(file, length);
        let held = self.files.get(&file).map_or(0, Image::length);
        if held == 0 {
            self.change(dir, Change::Unlink(name.into()), Lasting::AfterSync);
        }
        extended.map(|()| held as u64)
    }

    /// The space that files take: those with a name, and those that someone has open.
    pub(in super::super) fn space(&self) -> u64 {
        let named = self.folders.values().flat_map(|folder| folder.live.values());
        let all: BTreeSet<FileId> = named.chain(self.handles.keys()).copied().collect();
        all.iter().filter_map(|file| self.files.get(file)).map(Image::space).sum()
    }

    /// Up to where a file may grow.
    fn limit(&self, file: FileId) -> usize {
        let Some(capacity) = self.capacity else { return usize::MAX };
        let own = self.files.get(&file).map_or(0, Image::space);
        let limit = own + capacity.saturating_sub(self.space());
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// How many bytes there is space for from `offset` of a file on.
    fn fitting(&self, file: FileId, offset: usize) -> usize {
        self.limit(file).saturating_sub(offset)
    }

    fn check_space(&self, file: FileId, length: usize) -> io::Result<()> {
        let fits = length.checked_next_multiple_of(PAGE_BYTES).is_some_and(|space| space <= self.limit(file));
        if fits { Ok(()) } else { Err(no_space()) }
    }
}

fn no_space() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the simulated disk is full")
}
