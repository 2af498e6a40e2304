//! Checking a whole table.

use std::sync::atomic::AtomicBool;

use super::body::{Verify, Window};
use super::index::Point;
use super::reader::TableReader;
use super::values::Values;
use crate::error::{Damage, Result};
use crate::format::entry::{Kind, header_at};
use crate::format::section::{Section, count_value};
use crate::format::{KeyspaceId, Sequence, key_hash};

impl TableReader {
    /// Reads back a table that this process has just written: every checksum of table and index, the counts, and the order
    /// of the keys that the sparse index names. `stop` is asked from time to time and ends it with [`Error::Closed`](crate::Error::Closed).
    pub(crate) fn verify_written(&self, stop: &AtomicBool) -> Result<()> {
        if let Some(error) = &self.index_refused {
            return Err(error.clone());
        }
        self.file().verify(stop)?;
        self.index.file().verify(stop)?;
        let mut entries = 0;
        for (number, section) in self.sections().iter().enumerate() {
            entries += section.entries;
            let sparse = self.index.sparse(number)?;
            if sparse.len() as u64 != section.keys.div_ceil(u64::from(section.interval)) {
                return Err(self.index.file().corrupt(0, Damage::IndexMismatch));
            }
            let mut window = Window::default();
            let mut last: Option<Vec<u8>> = None;
            for at in 0..sparse.len() {
                let entry = self.indexed_entry(&self.index, &mut window, section, sparse.place(at), Verify::Apart)?;
                let key = entry.key(self.bytes_of(&window));
                if last.as_deref().is_some_and(|last| last >= key) {
                    return Err(self.file().corrupt(section.start, Damage::OutOfOrder));
                }
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
            }
            if last.is_some_and(|last| section.upper.is_in_front_of(&last)) {
                return Err(self.file().corrupt(section.end, Damage::OutOfOrder));
            }
        }
        if entries != self.file().frame().totals.entries {
            return Err(self.file().corrupt(self.file().frame().directory_offset, Damage::ManifestMismatch));
        }
        Ok(())
    }

    /// Checks every byte of the table and its index, the order of the entries, their counts and sequence numbers, that
    /// the index leads to every key, and, for keyspaces that it `serves`, that pointers lead to their values. Answers how
    /// many entries there are.
    pub(crate) fn verify(&self, values: &Values, serves: impl Fn(KeyspaceId) -> bool) -> Result<u64> {
        let never = AtomicBool::new(false);
        self.file().verify(&never)?;
        self.index().file().verify(&never)?;
        self.verify_gaps()?;
        let mut total = 0;
        for (number, section) in self.sections().iter().enumerate() {
            self.body.check_gaps(section)?;
            self.verify_section(number, section, serves(section.keyspace).then_some(values))?;
            total += section.entries;
        }
        Ok(total)
    }

    /// What brings a section to the place where its aligned entries can begin is zero.
    fn verify_gaps(&self) -> Result<()> {
        for pair in self.sections().windows(2) {
            let [before, behind] = pair else { continue };
            self.body.check_gap(before.parts_end(), behind.start)?;
        }
        Ok(())
    }

    /// Without `values`, pointers may lead nowhere.
    fn verify_section(&self, number: usize, section: &Section, values: Option<&Values>) -> Result<()> {
        let mut previous: Option<(Vec<u8>, Sequence)> = None;
        let (mut entries, mut keys, mut tombstones) = (0u64, 0u64, 0u64);
        let mut value_files = Vec::new();
        self.body.walk(section, |place, entry, bytes, is_new_key| {
            entries += 1;
            tombstones += u64::from(entry.kind() == Kind::Delete);
            let damaged = |what| Err(self.file().corrupt(self.body.offset(section, place), what));
            let key = entry.key(bytes);
            let in_order = previous.as_ref().is_none_or(|(last, sequence)| match last.as_slice().cmp(key) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => *sequence > entry.sequence,
                std::cmp::Ordering::Greater => false,
            });
            if !in_order {
                return damaged(Damage::OutOfOrder);
            }
            if entry.alignment() != section.alignment {
                return damaged(Damage::BadField);
            }
            let marked = header_at(bytes, entry.start).is_ok_and(|header| header.is_marked_oldest());
            let numbered = marked || (entry.sequence >= section.min_sequence && !section.takes_global_sequence);
            if !numbered || entry.sequence > section.max_sequence {
                return damaged(Damage::BadSequence);
            }
            if entry.kind() == Kind::Pointer {
                let at = self.body.offset(section, place);
                let pointer = entry.pointer(bytes).map_err(|what| self.file().corrupt(at, what))?;
                count_value(&mut value_files, pointer, key.len());
                if let Some(values) = values {
                    let file = values.file(pointer).ok_or_else(|| self.file().corrupt(at, Damage::BadPointer))?;
                    file.record(section.keyspace, key, pointer)?;
                }
            }
            let previous = previous.get_or_insert_default();
            previous.1 = entry.sequence;
            if is_new_key {
                previous.0.clear();
                previous.0.extend_from_slice(key);
                keys += 1;
                let hash = key_hash(section.keyspace, key);
                let found = self.index().find(number, hash, |l| Ok((l as usize * 8 == place).then_some(())))?;
                let interval = self.interval_start(number, key, true, Verify::Apart)?;
                if found == Point::Absent || interval > place {
                    return Err(self.index().file().corrupt(0, Damage::IndexMismatch));
                }
            }
            Ok(())
        })?;
        let counted = (entries, keys, tombstones) == (section.entries, section.keys, section.tombstones);
        if !counted || value_files != section.value_files {
            return Err(self.file().corrupt(self.file().frame().directory_offset, Damage::ManifestMismatch));
        }
        Ok(())
    }
}
