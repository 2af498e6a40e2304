//! What lookups touch.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one lookup has touched.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) memtables: u64,
    pub(crate) tables: u64,
    pub(crate) ruled_out: u64,
    pub(crate) false_positives: u64,
    pub(crate) bytes: u64,
    /// Entries of the table that is asked now.
    pub(crate) entries: u64,
}

/// What lookups have touched together.
#[derive(Debug, Default)]
pub(super) struct LookupSums {
    lookups: AtomicU64,
    found: AtomicU64,
    memtables: AtomicU64,
    tables: AtomicU64,
    ruled_out: AtomicU64,
    false_positives: AtomicU64,
    bytes: AtomicU64,
    returned: AtomicU64,
}

impl LookupSums {
    pub(super) fn add(&self, tally: &Tally, returned: Option<usize>) {
        let add = |to: &AtomicU64, more: u64| {
            if more > 0 {
                to.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&self.lookups, 1);
        add(&self.found, returned.is_some().into());
        add(&self.memtables, tally.memtables);
        add(&self.tables, tally.tables);
        add(&self.ruled_out, tally.ruled_out);
        add(&self.false_positives, tally.false_positives);
        add(&self.bytes, tally.bytes);
        add(&self.returned, returned.unwrap_or(0) as u64);
    }

    pub(super) fn read(one_in: u32, all: &[&Self]) -> LookupStats {
        let sum = |of: fn(&Self) -> &AtomicU64| all.iter().map(|sums| of(sums).load(Ordering::Relaxed)).sum();
        LookupStats {
            one_in,
            lookups: sum(|sums| &sums.lookups),
            found: sum(|sums| &sums.found),
            memtables: sum(|sums| &sums.memtables),
            tables: sum(|sums| &sums.tables),
            ruled_out: sum(|sums| &sums.ruled_out),
            false_positives: sum(|sums| &sums.false_positives),
            bytes_read: sum(|sums| &sums.bytes),
            bytes_returned: sum(|sums| &sums.returned),
        }
    }
}

/// What gets of one key have touched since the open. One in 256 of them is looked at; the numbers are those of these lookups,
/// so their ratios are the ones of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LookupStats {
    /// How many lookups there have been for each that was looked at, on average.
    pub one_in: u32,
    /// Lookups that were looked at.
    pub lookups: u64,
    /// Those that have found a value.
    pub found: u64,
    /// Memtables that they have asked.
    pub memtables: u64,
    /// Tables whose keys come before and after theirs, and that they have asked.
    pub tables: u64,
    /// Those of the tables that were passed by without a look at an entry: the hash index or the filter has ruled the key out.
    pub ruled_out: u64,
    /// Entries of other keys that they have had to look at: false positives of hash indexes and filters.
    pub false_positives: u64,
    /// Bytes of index lines and entries of tables that they have looked at, and of values that stand apart. How many bytes the
    /// system has read for that from the disk, nobody knows here: whole pages, and none where they are in memory.
    pub bytes_read: u64,
    /// Bytes of the values that they have found.
    pub bytes_returned: u64,
}

impl LookupStats {
    /// Tables that a lookup asks, on average; `None` if none was looked at.
    pub fn tables_per_lookup(&self) -> Option<f64> {
        ratio(self.tables, self.lookups)
    }

    /// Of the tables that did not have the key, and were asked, the share that a hash index or a filter has ruled out; `None`
    /// if there were none.
    pub fn ruled_out_share(&self) -> Option<f64> {
        ratio(self.ruled_out, self.ruled_out.saturating_add(self.false_positives))
    }

    /// Bytes looked at for each byte returned; `None` if none was returned.
    pub fn read_amplification(&self) -> Option<f64> {
        ratio(self.bytes_read, self.bytes_returned)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
pub(crate) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
