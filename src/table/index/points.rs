//! The point index of a section: whether a key is there, and where.

use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32};

use super::super::bloom;
use super::Index;
use crate::error::Result;
use crate::format::bytes;
use crate::format::index::{
    BLOCK_BYTES, BUCKET_BYTES, BUCKET_SLOTS, Bucket, FilterBlock, IndexSection, PointKind, bucket_of, fingerprint,
};
use crate::sys::prefetch;

impl Index {
    /// Where in the file the line is that [`find`](Self::find) looks at first.
    pub(crate) fn first_offset(&self, section: usize, hash: u64) -> Option<u64> {
        self.sections.get(section).map(|section| first_offset(section, hash))
    }

    /// The bucket or block that [`find`](Self::find) looks at first, unverified, and where it is.
    #[inline]
    fn first_line(&self, section: &IndexSection, hash: u64) -> Option<(u64, &[u8])> {
        let offset = first_offset(section, hash);
        Some((offset, bytes::slice(self.file.bytes(), offset, BUCKET_BYTES).ok()?))
    }

    /// Asks for the cache line that [`find`](Self::find) looks at first.
    #[inline]
    pub(crate) fn prefetch(&self, section: usize, hash: u64) {
        let section = self.sections.get(section);
        if let Some((_, [first, ..])) = section.and_then(|section| self.first_line(section, hash)) {
            prefetch(first);
        }
    }

    /// Whether the line that [`find`](Self::find) looks at first is known to be intact and rules the key out. A quick answer
    /// for most of the lookups that miss; `false` says nothing.
    #[inline]
    pub(crate) fn excludes(&self, section: usize, hash: u64) -> bool {
        let Some(section) = self.sections.get(section) else { return false };
        let Some((offset, line)) = self.first_line(section, hash) else { return false };
        if !self.file.is_verified(offset) {
            return false;
        }
        match section.point {
            PointKind::Bloom { probes } => {
                FilterBlock::ref_from_bytes(line).is_ok_and(|block| !bloom::contains(block, hash, probes))
            }
            PointKind::Hash => Bucket::ref_from_bytes(line).is_ok_and(|bucket| {
                bucket.overflow == 0
                    && usize::from(bucket.count) <= BUCKET_SLOTS
                    && bucket.matches(fingerprint(hash)) == 0
            }),
        }
    }

    /// What the point index or the filter says about a hashed key. `candidate` is shown places where the key may be, until
    /// it returns something.
    #[inline]
    pub(crate) fn find<T>(
        &self,
        section: usize,
        hash: u64,
        mut candidate: impl FnMut(u32) -> Result<Option<T>>,
    ) -> Result<Point<T>> {
        let section = self.section(section)?;
        let count = section.point_count;
        let first = bucket_of(hash, count);
        if let PointKind::Bloom { probes } = section.point {
            const { assert!(BLOCK_BYTES == BUCKET_BYTES) };
            let block: &FilterBlock = self.line(section.point_offset + first * BUCKET_BYTES)?;
            return Ok(if bloom::contains(block, hash, probes) { Point::Maybe } else { Point::Absent });
        }
        let print = fingerprint(hash);
        let mut at = first;
        for _ in 0..count {
            let offset = section.point_offset + at * BUCKET_BYTES;
            let bucket: &Bucket = self.line(offset)?;
            if usize::from(bucket.count) > BUCKET_SLOTS {
                return Err(self.mismatch(offset));
            }
            let mut matches = bucket.matches(print);
            while matches != 0 {
                let slot = matches.trailing_zeros() as usize;
                matches &= matches - 1;
                let locator = bucket.locators.get(slot).map_or(0, |locator| locator.get());
                if let Some(found) = candidate(locator)? {
                    return Ok(Point::Found(found));
                }
            }
            if bucket.overflow == 0 {
                break;
            }
            at = if at + 1 == u64::from(count) { 0 } else { at + 1 };
        }
        Ok(Point::Absent)
    }
}

#[inline]
fn first_offset(section: &IndexSection, hash: u64) -> u64 {
    section.point_offset + bucket_of(hash, section.point_count) * BUCKET_BYTES
}

impl Bucket {
    /// Puts a key into the next slot; if there is none, says so to lookups, and returns false.
    #[inline]
    pub(super) fn put(&mut self, hash: u64, locator: u32) -> bool {
        let slot = usize::from(self.count);
        let (Some(print), Some(place)) = (self.fingerprints.get_mut(slot), self.locators.get_mut(slot)) else {
            self.overflow = 1;
            return false;
        };
        *print = U16::new(fingerprint(hash));
        *place = U32::new(locator);
        self.count += 1;
        true
    }

    /// A bit for each used slot with this fingerprint. Without branches, so that lookups overlap.
    #[inline]
    fn matches(&self, print: u16) -> u32 {
        let used = (1u32 << (self.count & 15)) - 1;
        let mut bits = 0;
        for (slot, candidate) in self.fingerprints.iter().enumerate() {
            bits |= u32::from(candidate.get() == print) << slot;
        }
        bits & used
    }
}

/// What a point index says about a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Point<T> {
    /// It is here.
    Found(T),
    /// It is not in the section.
    Absent,
    /// It may be; the order index knows where.
    Maybe,
}
