//! What is asked for when several keys are to be looked up: first of all of them what each lookup would look at first, then
//! what it would look at next. So cache misses, and the reads of a disk, go on beside each other, and not one after another.
//!
//! All of it is advice. Damage that is met is left to the lookup that follows.

use super::body::{Body, contains};
use super::file::{ChunkedFile, position};
use super::reader::TableReader;
use super::values::ValueFile;
use crate::format::KeyspaceId;
use crate::format::section::Section;
use crate::format::values::Pointer;
use crate::sys::{Era, PAGE_BYTES, prefetch};

impl TableReader {
    /// Asks for what [`get`](Self::get) looks at first.
    pub(crate) fn ask_for_index(&self, keyspace: KeyspaceId, hash: u64) {
        let Some(number) = self.section_of(keyspace) else { return };
        let index = self.index();
        index.prefetch(number, hash);
        // With a share of the memory for indexes, it is there.
        if self.index_share.get().is_none()
            && let Some(offset) = index.first_offset(number, hash)
        {
            ask_for(&index.file, position(offset), 1);
        }
    }

    /// Asks for the entries that the point index names.
    pub(crate) fn ask_for_entry(&self, keyspace: KeyspaceId, hash: u64) {
        let Some(number) = self.section_of(keyspace) else { return };
        let Ok(section) = self.section(number) else { return };
        let _ = self.index().find(number, hash, |locator| {
            self.body.ask_for(section, locator as usize * 8);
            Ok(None::<()>)
        });
    }
}

impl Body {
    /// Asks for the entry at a place that an index has named, which may be any number.
    fn ask_for(&self, section: &Section, place: usize) {
        if !self.file.is_in_memory() || !contains(section, place) {
            return;
        }
        let offset = position(self.offset(section, place));
        if let Some(first) = self.file.bytes().get(offset) {
            prefetch(first);
        }
        ask_for(&self.file, offset, 1);
    }
}

impl ValueFile {
    /// Asks for a value, if the file is open.
    pub(crate) fn ask_for(&self, era: &Era, pointer: Pointer) {
        if let Some(file) =
            self.borrow(era).filter(|file| file.is_in_memory() && pointer.end() <= file.frame().body_end)
        {
            ask_for(file, position(pointer.offset), pointer.length as usize);
        }
    }
}

/// Asks the disk for what a lookup reads that looks at `length` bytes from `start`: chunks that are not verified as a whole.
fn ask_for(file: &ChunkedFile, start: usize, length: usize) {
    let end = start.saturating_add(length);
    if file.are_verified(start, end) {
        file.read_ahead(start - start % PAGE_BYTES..end);
    } else {
        file.read_ahead(file.whole_chunks(start, end));
    }
}
