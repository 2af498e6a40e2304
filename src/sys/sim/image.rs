//! The bytes of one simulated file: what a reader sees, and what a power cut may leave of it.
//!
//! Files are only ever written at their end. Every state that a sector has been in is therefore a prefix of the sector's
//! live bytes with zeros behind it, and a number says which; no byte is stored twice.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::chance::Chance;
use crate::sys::PAGE_BYTES;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;

/// States remembered of a partly filled sector; with more writes to it, the oldest are forgotten.
const STATES_MAX: usize = 4;

/// Bytes that copies of an image share until one of them changes. A multiple of [`SECTOR`].
const CHUNK: usize = 16 << 10;

#[derive(Clone, Default)]
pub(super) struct Image {
    /// The bytes written; all chunks but the last are full.
    chunks: Vec<Arc<Vec<u8>>>,
    written: usize,
    /// The length of the file, zero behind `written`.
    length: usize,
    /// Space has been taken up to here, if that is behind the length.
    taken: usize,
    durable_length: usize,
    /// Bytes behind this are dirty. Bytes in front of it are durable, but for `dropped`.
    synced: usize,
    /// Where each write since the last sync ended, ascending.
    ends: Vec<usize>,
    /// Sectors that a failed sync gave up, with the number of bytes in them that are durable.
    dropped: BTreeMap<usize, usize>,
}

impl Image {
    pub(super) fn durable(bytes: &[u8]) -> Self {
        let mut image = Self::default();
        image.append(bytes);
        image.sync();
        image
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The space that it takes.
    pub(super) fn space(&self) -> u64 {
        self.length.max(self.taken).next_multiple_of(PAGE_BYTES) as u64
    }

    /// Takes space without becoming longer.
    pub(super) fn take(&mut self, end: usize) {
        self.taken = self.taken.max(end);
    }

    /// The bytes written, behind which the next ones go.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    pub(super) fn contents(&self) -> Vec<u8> {
        let mut contents = vec![0; self.length];
        for (to, from) in contents.chunks_mut(CHUNK).zip(&self.chunks) {
            to[..from.len()].copy_from_slice(from);
        }
        contents
    }

    /// Writes behind the last byte written, which may be in front of the file's end.
    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.written += bytes.len();
        self.length = self.length.max(self.written);
        while !bytes.is_empty() {
            if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                self.chunks.push(Arc::default());
            }
            let Some(chunk) = self.chunks.last_mut().map(Arc::make_mut) else { return };
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - chunk.len()));
            chunk.extend_from_slice(now);
            bytes = later;
        }
        self.record_end();
    }

    fn record_end(&mut self) {
        let sector = |end: usize| (end - 1) / SECTOR;
        self.ends.push(self.written);
        if let Some(oldest) = self.ends.len().checked_sub(STATES_MAX + 1)
            && sector(self.ends[oldest]) == sector(self.written)
        {
            self.ends.remove(oldest);
        }
    }

    /// Adds zeros that are part of the length only.
    pub(super) fn grow(&mut self, length: usize) {
        self.length = self.length.max(length);
    }

    pub(super) fn sync(&mut self) {
        // A sector that was written again after the failed sync is written back whole.
        self.dropped.split_off(&self.dirty_sectors().start);
        self.synced = self.written;
        self.ends.clear();
        self.durable_length = self.length;
    }

    /// What a kernel does when writeback fails: the pages count as clean, so that no later sync writes them.
    pub(super) fn fail_sync(&mut self) {
        for sector in self.dirty_sectors() {
            self.dropped.insert(sector, self.durable_in(sector));
        }
        self.synced = self.written;
        self.ends.clear();
    }

    fn dirty_sectors(&self) -> Range<usize> {
        let end = self.written.div_ceil(SECTOR);
        if self.synced < self.written { self.synced / SECTOR..end } else { end..end }
    }

    /// How many bytes of a sector are durable.
    fn durable_in(&self, sector: usize) -> usize {
        match self.dropped.get(&sector) {
            Some(kept) => *kept,
            None => self.synced.saturating_sub(sector * SECTOR).min(SECTOR),
        }
    }

    /// What is left after a power cut.
    pub(super) fn after_power_cut(&self, chance: &mut Chance) -> Self {
        let mut left = Self { chunks: self.chunks.clone(), written: self.written, ..Self::default() };
        if self.synced < self.written || self.durable_length < self.length || !self.dropped.is_empty() {
            chance.next_subject();
            left.cut(self.pick_length(chance));
            let dirty = self.dirty_sectors();
            for (sector, kept) in self.dropped.range(..dirty.start) {
                left.keep(*sector, *kept);
            }
            for sector in dirty {
                left.keep(sector, self.pick_state(sector, chance));
            }
        } else {
            left.length = self.length;
        }
        left.synced = left.written;
        left.durable_length = left.length;
        left
    }

    fn pick_length(&self, chance: &mut Chance) -> usize {
        let (low, high) = (self.durable_length, self.length);
        // Most of a preallocated file is zeros, so a length among the bytes written gets a share of its own.
        match chance.pick(4) {
            0 => low,
            1 => chance.between(low, self.written.max(low)),
            2 => chance.between(low, high),
            _ => high,
        }
    }

    /// Any of the sector's states since its last sync, as the number of bytes that are in it.
    fn pick_state(&self, sector: usize, chance: &mut Chance) -> usize {
        let start = sector * SECTOR;
        let first = self.ends.partition_point(|end| *end <= start);
        let full = self.ends.partition_point(|end| *end < start + SECTOR);
        let states = 1 + full - first + usize::from(full < self.ends.len());
        match chance.pick(states).checked_sub(1) {
            None => self.durable_in(sector),
            Some(write) => (self.ends[first + write] - start).min(SECTOR),
        }
    }

    fn cut(&mut self, length: usize) {
        self.length = length;
        self.written = self.written.min(length);
        self.chunks.truncate(self.written.div_ceil(CHUNK));
        let tail = self.written - self.chunks.len().saturating_sub(1) * CHUNK;
        if let Some(chunk) = self.chunks.last_mut().filter(|chunk| chunk.len() > tail) {
            Arc::make_mut(chunk).truncate(tail);
        }
    }

    /// Zeroes all but the first `kept` bytes of a sector.
    fn keep(&mut self, sector: usize, kept: usize) {
        let (start, stop) = (sector * SECTOR + kept, self.written.min((sector + 1) * SECTOR));
        if start < stop {
            let chunk = start / CHUNK;
            Arc::make_mut(&mut self.chunks[chunk])[start - chunk * CHUNK..stop - chunk * CHUNK].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chance::Random;
    use super::*;

    const SEEDS: Range<u64> = 0..2000;

    fn cuts(image: &Image) -> impl Iterator<Item = Vec<u8>> {
        SEEDS.map(|seed| image.after_power_cut(&mut Chance::new(Random::new(seed))).contents())
    }

    /// Bytes none of which is zero.
    fn bytes(range: Range<usize>) -> Vec<u8> {
        range.map(|i| u8::try_from(i % 251).unwrap() + 1).collect()
    }

    #[test]
    fn synced_bytes_survive_and_the_rest_may_not() {
        let mut image = Image::durable(&bytes(0..1300));
        image.append(&bytes(1300..40_000));
        let mut lengths = std::collections::BTreeSet::new();
        for left in cuts(&image) {
            assert_eq!(left[..1300], bytes(0..1300));
            lengths.insert(left.len());
        }
        assert!(lengths.len() > 100);
        assert_eq!((lengths.first(), lengths.last()), (Some(&1300), Some(&40_000)));
        assert!(cuts(&image).any(|left| left == bytes(0..40_000)));
        image.sync();
        assert!(cuts(&image).all(|left| left == bytes(0..40_000)));
    }

    #[test]
    fn each_sector_is_in_one_of_its_states() {
        // Sector 0 was seen at 100 (synced), 200 and 512 bytes, sector 1 at 0, 88 and 512, sector 2 at 0 and 376.
        let mut image = Image::durable(&bytes(0..100));
        for end in [200, 600, 1400] {
            image.append(&bytes(image.length()..end));
        }
        let mut seen = std::collections::BTreeSet::new();
        for left in cuts(&image).filter(|left| left.len() == 1400) {
            let filled = |sector: usize| {
                let part = &left[sector * SECTOR..1400.min((sector + 1) * SECTOR)];
                let filled = part.iter().position(|byte| *byte == 0).unwrap_or(part.len());
                assert_eq!(part[..filled], bytes(sector * SECTOR..sector * SECTOR + filled));
                assert!(part[filled..].iter().all(|byte| *byte == 0));
                filled
            };
            seen.insert((filled(0), filled(1), filled(2)));
        }
        let expected = [100, 200, 512]
            .into_iter()
            .flat_map(|a| [0, 88, 512].into_iter().flat_map(move |b| [0, 376].into_iter().map(move |c| (a, b, c))));
        assert_eq!(seen, expected.collect());
    }

    #[test]
    fn only_the_last_states_of_a_sector_are_remembered() {
        let mut image = Image::default();
        for end in 1..=2 * SECTOR {
            image.append(&bytes(end - 1..end));
        }
        assert_eq!(image.ends, [509, 510, 511, 512, 1021, 1022, 1023, 1024]);
    }

    #[test]
    fn what_a_failed_sync_dropped_stays_old_until_it_is_written_again() {
        let mut image = Image::durable(&bytes(0..600));
        image.append(&bytes(600..2000));
        image.fail_sync();
        assert_eq!(image.contents(), bytes(0..2000), "readers see everything");
        image.sync();
        let mut old = bytes(0..600);
        old.resize(2000, 0);
        assert!(cuts(&image).all(|left| left == old), "a later sync does not help");

        image.append(&bytes(2000..3000));
        for left in cuts(&image) {
            assert_eq!((&left[..600], left.len() >= 2000), (&old[..600], true));
            assert!(left[600..1536].iter().all(|byte| *byte == 0));
        }
        image.sync();
        // The sector at 1536 was written again, so its dropped bytes are now durable with the new ones.
        old.truncate(1536);
        old.extend(bytes(1536..3000));
        assert!(cuts(&image).all(|left| left == old));
    }

    #[test]
    fn a_preallocated_file_loses_its_length_and_then_keeps_it() {
        let mut image = Image::default();
        image.grow(1 << 20);
        image.append(&bytes(0..700));
        assert_eq!(image.length(), 1 << 20);
        assert!(image.contents()[700..].iter().all(|byte| *byte == 0));
        assert!(cuts(&image).any(|left| left.is_empty()));
        assert!(cuts(&image).any(|left| (1..700).contains(&left.len())));
        image.sync();
        assert!(cuts(&image).all(|left| left == image.contents()));
    }

    #[test]
    fn copies_share_what_is_the_same() {
        let mut image = Image::durable(&bytes(0..5 * CHUNK));
        image.append(&bytes(5 * CHUNK..5 * CHUNK + 10));
        let left = image.after_power_cut(&mut Chance::new(Random::new(0)));
        let shared = image.chunks.iter().zip(&left.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= 5);
        image.append(b"more");
        assert!(!left.contents().ends_with(b"more"));
    }
}
