//! What is left of a damaged index.

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::super::file::intact;
use super::Index;
use super::order;
use crate::error::Result;
use crate::format::index::{BUCKET_BYTES, BUCKET_SLOTS, Bucket, KeyGroup, OrderKind, PointKind};

impl Index {
    /// The places at which the intact parts of the index say that entries of a section begin, ascending; every other part may
    /// be damaged. O(n log n).
    pub(crate) fn intact_places(&self, section: usize) -> Result<Vec<usize>> {
        let section = self.section(section)?;
        let mut places = Vec::new();
        let place = |locator: &U32| locator.get() as usize * 8;
        if section.point == PointKind::Hash {
            let bytes = u64::from(section.point_count).saturating_mul(BUCKET_BYTES);
            self.intact_pieces(section.point_offset, bytes, |piece| {
                let buckets = <[Bucket]>::ref_from_bytes(piece).unwrap_or_default();
                for bucket in buckets.iter().filter(|bucket| usize::from(bucket.count) <= BUCKET_SLOTS) {
                    places.extend(bucket.locators.iter().take(bucket.count.into()).map(place));
                }
            })?;
        }
        let bytes = section.order_count.saturating_mul(section.order_bytes());
        self.intact_pieces(section.order_offset, bytes, |piece| match section.order {
            OrderKind::Sparse { .. } => {
                places.extend(<[U32]>::ref_from_bytes(piece).unwrap_or_default().iter().map(place));
            }
            OrderKind::Groups => {
                let groups = <[KeyGroup]>::ref_from_bytes(piece).unwrap_or_default();
                places.extend(groups.iter().flat_map(order::places));
            }
        })?;
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// Shows what is intact of an array, chunk by chunk: no bucket, group or locator lies in two.
    fn intact_pieces(&self, offset: u64, length: u64, mut show: impl FnMut(&[u8])) -> Result<()> {
        let place = |offset: u64| usize::try_from(offset).map_err(|_| self.mismatch(offset));
        let (mut at, end) = (place(offset)?, place(offset.saturating_add(length))?);
        while at < end {
            let stop = end.min(self.file.chunk_end(at));
            if intact(self.file.check(at, stop))?.is_some() {
                show(self.file.bytes().get(at..stop).unwrap_or_default());
            }
            at = stop;
        }
        Ok(())
    }
}
