//! Checking a whole table.

use std::sync::atomic::{AtomicBool, Ordering};

use super::body::{Verify, first};
use super::digest::RunningDigest;
use super::index::Point;
use super::reader::TableReader;
use super::values::Values;
use super::walk::{InWindows, Walk};
use crate::error::{Bug, Damage, Error, Result, bug, must};
use crate::format::entry::{Entry, Kind};
use crate::format::range::Edge;
use crate::format::section::{Section, ValueFileShare, count_value};
use crate::format::table::Totals;
use crate::format::values::Pointer;
use crate::format::{KeyspaceId, Sequence, key_hash};

/// Keys between two looks at whether to stop.
const STOP_KEYS: u64 = 4096;

/// Keys whose places in the index are on their way into the cache.
const LOOKUPS: usize = 16;

/// Hashes and places of keys that are to be looked up a little later.
#[derive(Default)]
struct Lookups {
    waiting: [(u64, usize); LOOKUPS],
    pushed: usize,
}

impl Lookups {
    /// Takes a key, and looks the one up that waits longest.
    #[inline]
    fn push(&mut self, key: (u64, usize), look_up: impl FnOnce(u64, usize) -> Result<()>) -> Result<()> {
        let slot = self.waiting.get_mut(self.pushed % LOOKUPS).ok_or_else(|| bug("a ring has no such slot"))?;
        let (hash, place) = std::mem::replace(slot, key);
        self.pushed += 1;
        if self.pushed > LOOKUPS { look_up(hash, place) } else { Ok(()) }
    }

    /// Looks the others up.
    fn finish(self, mut look_up: impl FnMut(u64, usize) -> Result<()>) -> Result<()> {
        self.waiting.into_iter().take(self.pushed).try_for_each(|(hash, place)| look_up(hash, place))
    }
}

/// What a section says of its entries, counted again.
struct Counts {
    entries: u64,
    keys: u64,
    tombstones: u64,
    ranges: u64,
    /// The smallest and the largest of entries without the mark, ...
    sequences: (Sequence, Sequence),
    /// ... and the largest of range tombstones.
    removals: Sequence,
    value_files: Vec<ValueFileShare>,
}

impl Default for Counts {
    fn default() -> Self {
        let sequences = (Sequence(u64::MAX), Sequence(0));
        Self {
            entries: 0,
            keys: 0,
            tombstones: 0,
            ranges: 0,
            sequences,
            removals: Sequence(0),
            value_files: Vec::new(),
        }
    }
}

impl Counts {
    #[inline]
    fn add(&mut self, entry: &Entry, marked: bool, pointer: Option<Pointer>) {
        self.entries += 1;
        self.tombstones += u64::from(entry.kind() == Kind::Delete);
        if let Some(pointer) = pointer {
            count_value(&mut self.value_files, pointer, entry.key_end - entry.key_start);
        }
        if !marked && entry.sequence != Sequence(0) {
            let (min, max) = self.sequences;
            self.sequences = (min.min(entry.sequence), max.max(entry.sequence));
        }
    }

    fn must_be_of(&self, section: &Section) -> Result<(), Bug> {
        let counts = (section.entries, section.keys, section.tombstones, section.range_tombstones);
        must((self.entries, self.keys, self.tombstones, self.ranges) == counts, "a section is counted wrong")?;
        must(self.value_files == section.value_files, "the values of a section are counted wrong")?;
        let (min, max) = self.sequences;
        let is_right = (min.min(max), max.max(self.removals)) == (section.min_sequence, section.max_sequence);
        must(is_right || section.takes_global_sequence, "a section has other sequence numbers than it says")
    }
}

impl TableReader {
    /// Reads back a table that this process has just written, and compares all of it with what was added: every checksum of
    /// table and index; each entry and range tombstone, by their digests; the counts, bounds and value files of the sections;
    /// and the index, which must lead to each key and its place by both of its ways. What a checksum tells is damage; anything
    /// else is a bug. `stop` is asked from time to time and ends it with [`Error::Closed`].
    pub(super) fn verify_written(&self, added: &[RunningDigest], totals: Totals, stop: &AtomicBool) -> Result<()> {
        if let Some(error) = &self.index_refused {
            return Err(error.clone());
        }
        self.index.file().verify(stop)?;
        let frame = self.file().frame();
        must(
            added.len() == self.sections().len() && frame.totals == totals,
            "a table has other sections than it was given",
        )?;
        for (number, (section, added)) in self.sections().iter().zip(added).enumerate() {
            let found = self.read_back(number, section, stop)?;
            must(found == *added, "a table has other entries than were added to it")?;
        }
        // The walk has verified the entries.
        let entries = self.sections().iter().map(|section| section.start..section.end);
        self.file().verify_around(entries, stop)
    }

    /// Reads a section back; returns the digest of what the file has of it.
    fn read_back(&self, number: usize, section: &Section, stop: &AtomicBool) -> Result<RunningDigest> {
        let mut order = self.index.order(number)?.check();
        let mut digest = RunningDigest::default();
        let mut counts = Counts::default();
        let mut lookups = Lookups::default();
        let mut hash = 0;
        let mut walk = InWindows::new(&self.body, section, Verify::Again);
        walk.visit(first(section), |place, entry, is_new_key| {
            let pointer = entry.any_pointer().map_err(|fault| fault.at(self.file().path(), place as u64))?;
            let leads = order.leads_to(entry.key(), place, is_new_key)?;
            must(leads, "an order index does not lead to its key")?;
            if is_new_key {
                if counts.keys.is_multiple_of(STOP_KEYS) && stop.load(Ordering::Relaxed) {
                    return Err(Error::Closed);
                }
                let key = entry.key();
                hash = key_hash(section.keyspace, key);
                let inside = !section.lower.as_ref().cmp(&Edge::Before(key)).is_gt()
                    && !section.upper.as_ref().cmp(&Edge::After(key)).is_lt();
                must(inside, "a section has a key outside of its bounds")?;
                self.index.prefetch(number, hash);
                lookups.push((hash, place), |hash, place| self.must_find(number, hash, place))?;
            }
            let marked = entry.header().is_ok_and(|header| header.is_marked_oldest());
            digest.add(hash, if marked { Sequence(0) } else { entry.sequence }, entry.place(), pointer);
            counts.add(entry.place(), marked, pointer);
            counts.keys += u64::from(is_new_key);
            Ok(())
        })?;
        lookups.finish(|hash, place| self.must_find(number, hash, place))?;
        must(order.is_done(), "an order index has more than its table")?;
        let ranges = self.ranges.get(number).ok_or_else(|| bug("a section has no range tombstones, not even none"))?;
        for range in ranges.list().iter() {
            digest.add_range(range);
            let newest = range.sequences.first().copied().unwrap_or_default();
            counts.removals = counts.removals.max(newest);
            counts.ranges += 1;
        }
        counts.must_be_of(section)?;
        Ok(digest)
    }

    /// The point index must lead to a key, or the filter let it pass.
    #[inline]
    fn must_find(&self, number: usize, hash: u64, place: usize) -> Result<()> {
        let found = self.index.find(number, hash, |locator| Ok((locator as usize * 8 == place).then_some(())))?;
        Ok(must(found != Point::Absent, "an index does not lead to a key of its table")?)
    }
    /// Checks every byte of the table and its index, the order of the entries, their counts and sequence numbers, that
    /// the index leads to every key, and, for keyspaces that it `serves`, that pointers lead to their values. Returns how
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
        let mut order = self.index().order(number)?.check();
        let wrong_index = || Err(self.index().file().corrupt(0, Damage::IndexMismatch));
        let mut walk = InWindows::new(&self.body, section, Verify::Apart);
        walk.visit(first(section), |place, entry, is_new_key| {
            entries += 1;
            tombstones += u64::from(entry.kind() == Kind::Delete);
            let damaged = |what| Err(self.file().corrupt(self.body.offset(section, place), what));
            let key = entry.key();
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
            let marked = entry.header().is_ok_and(|header| header.is_marked_oldest());
            let numbered = marked || (entry.sequence >= section.min_sequence && !section.takes_global_sequence);
            if !numbered || entry.sequence > section.max_sequence {
                return damaged(Damage::BadSequence);
            }
            if entry.kind() == Kind::Pointer {
                let at = self.body.offset(section, place);
                let pointer = entry.pointer().map_err(|fault| fault.at(self.file().path(), at))?;
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
                if found == Point::Absent {
                    return wrong_index();
                }
            }
            if !order.leads_to(key, place, is_new_key)? {
                return wrong_index();
            }
            Ok(())
        })?;
        if !order.is_done() {
            return wrong_index();
        }
        let counted = (entries, keys, tombstones) == (section.entries, section.keys, section.tombstones);
        if !counted || value_files != section.value_files {
            return Err(self.file().corrupt(self.file().frame().directory_offset, Damage::ManifestMismatch));
        }
        Ok(())
    }
}
