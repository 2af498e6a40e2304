//! What a crash has left of the log, written anew.
//!
//! After a crash, groups beyond the highest durable mark may exist in the page cache only, and an `fdatasync` that failed once
//! may report success for them. So the log is copied into new segments, group by group, which are synced and read back before
//! an edit of the manifest names them in place of the old ones; these stay whole until that edit is durable. Nothing is sorted
//! for it (128 MB of a million entries open in 0.25 s, where sorting them into tables took 0.9), and what is copied is flushed
//! like anything else that an open finds.
//!
//! A crash in between leaves the old log and copies behind it, which carry nothing that counts ([`crate::log`]); the next open
//! begins again.

use std::sync::Arc;

use super::recover::{CopiedSegment, Found, FoundLog};
use super::reserve::Reserve;
use super::store::{Installed, Store};
use crate::error::{Error, Result, must};
use crate::format::edit::Edit;
use crate::format::names::{self, FileKind};
use crate::format::{FileNumber, NUMBER_MAX, Position, Sequence};
use crate::log::{Input, copy_segment};
use crate::sys::Dir;

/// Copies of the segments of a log, which are removed again unless they become part of the database.
pub(super) struct LogCopies {
    dir: Arc<dyn Dir>,
    /// In the order of the log.
    begun: Vec<CopiedSegment>,
    next_number: u64,
}

impl Drop for LogCopies {
    fn drop(&mut self) {
        self.remove();
    }
}

impl LogCopies {
    /// Copies a log into segments with numbers from `next_number` on. On a full disk, a reserve that an earlier run has kept is
    /// given up for it.
    pub(super) fn write(dir: &Arc<dyn Dir>, found: &Found, log: &FoundLog, next_number: u64) -> Result<Self> {
        let mut copies = Self { dir: Arc::clone(dir), begun: Vec::new(), next_number };
        match copies.copy_all(found, log) {
            Err(e) if e.is_full() => {
                copies.remove();
                dir.remove(names::RESERVE).map_err(|_| e)?;
                copies.copy_all(found, log)?;
            }
            other => other?,
        }
        Ok(copies)
    }

    fn copy_all(&mut self, found: &Found, log: &FoundLog) -> Result<()> {
        for (of, bytes) in log.parts() {
            let number = FileNumber(self.next_number);
            if number.0 >= NUMBER_MAX {
                return Err(Error::NumbersExhausted);
            }
            self.next_number += 1;
            let before = self.begun.last().map(|copy| Position { segment: copy.number, offset: copy.end });
            self.begun.push(CopiedSegment { number, of, end: bytes.len() as u64 });
            let from = Input { number: of, bytes, end: None };
            copy_segment(&*self.dir, &found.database, &from, number, before.unwrap_or_default())?;
        }
        Ok(())
    }

    fn remove(&mut self) {
        for copy in self.begun.drain(..) {
            let _ = self.dir.remove(&FileKind::Segment.name(copy.number));
        }
    }

    /// A number after those of the copies.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Reads the copies back as the log that they are to be.
    pub(super) fn read_back(&self, found: &Found, log: &FoundLog) -> Result<FoundLog> {
        let copied = FoundLog::of_copies(&*self.dir, &found.database, &self.begun)?;
        must(copied.says_the_same(log), "the copy of a log has other groups than the log")?;
        Ok(copied)
    }

    /// Has them named by the manifest in place of the segments that they were made from. `last` is the last sequence number.
    pub(super) fn install(mut self, store: &Store, reserve: &Reserve, last: Sequence) -> Result<()> {
        store.files.sync_names().map_err(|e| store.health.poison(e))?;
        let edit = Edit {
            first_segment: Some(self.begun.first().map_or(FileNumber(self.next_number), |copy| copy.number)),
            // A skip that ends the log is behind nothing that is still to come.
            last_sequence: Some(last),
            segment_ends: self.begun.iter().map(|copy| (copy.number, copy.end)).collect(),
            ..Edit::default()
        };
        let installed = reserve.with_reserve(|| store.install_edit(edit.clone()));
        if installed.is_ok() || store.health.is_poisoned() {
            // They are part of the database, or may be.
            self.begun.clear();
        }
        Ok(must(
            installed? == Installed::Done,
            "the log of the last run has been refused as if it took something away",
        )?)
    }
}
