//! What readers pay for level 0, so that it is merged away once that is worth it.
//!
//! A seek looks into every table of level 0, and a scan goes from one to the other. A compaction takes that away, but rewrites
//! what is there, and nobody knows how much will be read. So readers pay until they have paid as much as the compaction costs,
//! and then it is done: whatever is read afterwards, both together cost no more than twice what the better of the two would
//! have (the ski rental of Karlin, Manasse, Rudolph and Sleator, "Competitive snoopy caching", Algorithmica 3, 1988). Where
//! nothing is read, or only looked up, nothing is rewritten for it. LevelDB compacts files that have cost too many seeks, too.
//!
//! Measured with entries of 16 + 100 bytes in memory: a seek in a further table takes 220 to 400 ns, a change from one table to
//! another some 50 to 150 ns, and the compaction of an entry 232 ns.

use std::fmt;

use super::Source;
use crate::format::KeyspaceId;
use crate::sys::OnceLock;
use crate::sys::atomic::{AtomicU64, Ordering};

/// The cost of a seek in one more table; a change to another table costs 1.
const SEEK: u64 = 4;

/// What can be compacted for a cost of 1.
const BYTES: u64 = 48;

/// Keyspaces share so many sums: who pays for another one makes its compaction come early, and no more of them in all.
const SUMS: usize = 16;

/// A sum is looked at each time that it has grown by so much: for a thread that does nothing but seek, 40 times a second.
const LOOK: u64 = 1 << 17;

/// A scan pays when it owes so much, and when it ends.
const PAYMENT: u64 = 1024;

/// What is owed and has not been paid. A copy owes nothing.
#[derive(Debug, Default)]
pub(super) struct Owed(pub(super) u64);

impl Clone for Owed {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What a scan owes for level 0.
#[derive(Debug, Clone)]
pub(super) struct Bill {
    /// Tables that a compaction would take away from among the sources.
    tables: u64,
    owed: Owed,
}

impl Bill {
    pub(super) fn new(sources: &[Source]) -> Self {
        let of_level0 = |source: &&Source| matches!(source, Source::Level(cursor) if cursor.is_one_table());
        let tables = sources.iter().filter(of_level0).count() as u64;
        // Without a level below, one of them is left.
        let has_level = sources.iter().any(|source| matches!(source, Source::Level(cursor) if !cursor.is_one_table()));
        Self { tables: if has_level { tables } else { tables.saturating_sub(1) }, owed: Owed::default() }
    }

    /// Adds a seek; returns whether it is time to pay.
    #[inline]
    pub(super) fn add_seek(&mut self) -> bool {
        self.owed.0 += self.tables * SEEK;
        self.owed.0 >= PAYMENT
    }

    /// What is owed for seeks and for changes from one source to another.
    pub(super) fn take(&mut self, changes: &mut Owed) -> u64 {
        let (seeks, changes) = (std::mem::take(&mut self.owed), std::mem::take(changes));
        if self.tables > 0 { seeks.0.saturating_add(changes.0) } else { 0 }
    }
}

/// What readers have paid for level 0, by keyspace.
#[derive(Default)]
pub(crate) struct ReadCost {
    sums: [AtomicU64; SUMS],
    /// Called when it may be worth a compaction.
    due: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for ReadCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadCost").field(&self.sums).finish()
    }
}

/// How many bytes the readers of each keyspace have paid the compaction of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paid([u64; SUMS]);

impl Paid {
    #[cfg(test)]
    pub(crate) const NOTHING: Self = Self([0; SUMS]);

    pub(crate) fn by(&self, keyspace: KeyspaceId) -> u64 {
        self.0.get(sum_of(keyspace)).map_or(0, |sum| sum.saturating_mul(BYTES))
    }

    /// Of a single keyspace.
    #[cfg(test)]
    pub(crate) fn bytes(keyspace: KeyspaceId, bytes: u64) -> Self {
        let mut paid = Self::NOTHING;
        paid.0[sum_of(keyspace)] = bytes.div_ceil(BYTES);
        paid
    }
}

/// Which of the sums is that of a keyspace.
fn sum_of(keyspace: KeyspaceId) -> usize {
    keyspace.0 as usize % SUMS
}

impl ReadCost {
    /// Sets who is called, by a reader, when it may be worth a compaction. The first one stays.
    pub(crate) fn when_due(&self, due: impl Fn() + Send + Sync + 'static) {
        let _ = self.due.set(Box::new(due));
    }

    /// What has been paid so far.
    pub(crate) fn paid(&self) -> Paid {
        Paid(std::array::from_fn(|at| self.sums[at].load(Ordering::Relaxed)))
    }

    /// To be called when level 0 of a keyspace is merged: that has been paid for.
    pub(crate) fn settle(&self, keyspace: KeyspaceId) {
        if let Some(sum) = self.sums.get(sum_of(keyspace)) {
            sum.store(0, Ordering::Relaxed);
        }
    }

    /// To be called with what a scan owes.
    pub(super) fn pay(&self, keyspace: KeyspaceId, cost: u64) {
        let Some(sum) = self.sums.get(sum_of(keyspace)) else { return };
        let before = sum.fetch_add(cost, Ordering::Relaxed);
        if before / LOOK != before.saturating_add(cost) / LOOK
            && let Some(due) = self.due.get()
        {
            due();
        }
    }
}
