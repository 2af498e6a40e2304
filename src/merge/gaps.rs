//! Stretches of keys in which a reader has found nothing but removed entries, so that the next one need not look at them all.
//!
//! A gap is known for a sequence: no key in it is visible there. It holds for every reader at that sequence or above, as long
//! as nothing is inserted into it; removals do not matter. Whoever commits cuts the gaps that his keys fall into before he
//! shows them.
//!
//! A gap is measured while others commit. It is announced first; only then its reader looks whether his sequence is the last
//! one that was given away. If it is, every later commit finds the announcement and cuts it. (Each of the two writes and
//! then reads what the other has written, in the one order of sequentially consistent accesses: at least one sees the other.)

use crate::format::range::Edge;
use crate::format::{KeyspaceId, Sequence};
use crate::sys::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sys::{LockRank, Mutex, in_total_order};

#[cfg(all(test, loom))]
mod models;

/// So many gaps are known at the most; a new one replaces the oldest.
const GAPS_MAX: usize = 64;

/// Gaps end at keys of at most this many bytes.
const KEY_BYTES_MAX: usize = 1024;

/// The gaps that are known of a database.
#[derive(Debug)]
pub(crate) struct Gaps {
    /// How many there are, those that are being measured included.
    count: AtomicUsize,
    /// The last sequence number that was given to a commit.
    given: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Oldest first.
    list: Vec<Gap>,
    /// The number of the next measurement.
    next: u64,
}

#[derive(Debug)]
struct Gap {
    keyspace: KeyspaceId,
    start: Edge,
    end: Edge,
    /// Nothing in it is visible to readers at this sequence or above.
    since: Sequence,
    measured: Measured,
}

/// How far a gap is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measured {
    Whole,
    /// By the measurement of this number, which goes forwards from its start, or backwards from its end.
    Forward(u64),
    Backward(u64),
}

impl Measured {
    fn number(self) -> Option<u64> {
        match self {
            Self::Whole => None,
            Self::Forward(number) | Self::Backward(number) => Some(number),
        }
    }
}

impl Gaps {
    /// For a database that has given this sequence number away last.
    pub(crate) fn new(given: Sequence) -> Self {
        Self {
            count: AtomicUsize::new(0),
            given: AtomicU64::new(given.0),
            known: Mutex::new(LockRank::Gaps, Known::default()),
        }
    }

    /// To be called with the last sequence number of a commit, before the first [`cut`](Self::cut) for it.
    #[inline]
    pub(crate) fn give(&self, last: Sequence) {
        self.given.swap(last.0, Ordering::SeqCst);
        in_total_order();
    }

    /// To be called for each key that a commit inserts, before it becomes visible.
    #[inline]
    pub(crate) fn cut(&self, keyspace: KeyspaceId, key: &[u8]) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.cut_those_with(keyspace, key);
        }
    }

    #[cold]
    fn cut_those_with(&self, keyspace: KeyspaceId, key: &[u8]) {
        for gap in self.known.lock().list.iter_mut().filter(|gap| gap.has(keyspace, key)) {
            match gap.measured {
                // What is nearer to where the measurement began has been seen.
                Measured::Backward(_) => gap.start = Edge::After(key.to_vec()),
                _ => gap.end = Edge::Before(key.to_vec()),
            }
        }
    }

    /// Forgets all gaps: a commit shows what is not in the log, or takes a keyspace away. To be called like [`cut`](Self::cut).
    pub(crate) fn clear(&self) {
        let mut known = self.known.lock();
        known.list.clear();
        self.count.store(0, Ordering::SeqCst);
    }

    /// The gap around a key, for a reader at a sequence: where it starts and where it ends.
    pub(crate) fn around(&self, keyspace: KeyspaceId, key: &[u8], at: Sequence) -> Option<(Edge, Edge)> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let known = self.known.lock();
        let is_known = |gap: &&Gap| gap.measured == Measured::Whole && gap.since <= at && gap.has(keyspace, key);
        known.list.iter().rev().find(is_known).map(|gap| (gap.start.clone(), gap.end.clone()))
    }

    /// Begins to measure a gap for a reader at a sequence, forwards or backwards from a place. `None` if something has been
    /// committed since.
    pub(crate) fn measure(
        &self,
        keyspace: KeyspaceId,
        from: Edge,
        at: Sequence,
        forward: bool,
    ) -> Option<Measurement<'_>> {
        if from.key().len() > KEY_BYTES_MAX {
            return None;
        }
        let mut known = self.known.lock();
        let number = known.next;
        known.next += 1;
        let (start, end, measured) = if forward {
            (from, Edge::End, Measured::Forward(number))
        } else {
            (Edge::START.to_owned(), from, Measured::Backward(number))
        };
        if known.list.len() == GAPS_MAX {
            known.list.remove(0);
        }
        known.list.push(Gap { keyspace, start, end, since: at, measured });
        self.count.store(known.list.len(), Ordering::SeqCst);
        drop(known);
        in_total_order();
        let measurement = Measurement { gaps: self, number, forward };
        // Otherwise it is forgotten again.
        (self.given.load(Ordering::SeqCst) == at.0).then_some(measurement)
    }
}

impl Gap {
    fn has(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        self.keyspace == keyspace && self.start.is_in_front_of(key) && !self.end.is_in_front_of(key)
    }

    fn is_inside(&self, other: &Self) -> bool {
        self.keyspace == other.keyspace && self.start >= other.start && self.end <= other.end
    }
}

/// A gap that is being measured; forgotten unless it is [finished](Self::finish).
#[derive(Debug)]
pub(crate) struct Measurement<'g> {
    gaps: &'g Gaps,
    number: u64,
    forward: bool,
}

impl Measurement<'_> {
    /// Everything up to this place, in the direction of the measurement, was found to be removed.
    pub(crate) fn finish(self, upto: Edge) {
        let mut known = self.gaps.known.lock();
        let list = &mut known.list;
        let Some(at) = list.iter().position(|gap| gap.measured.number() == Some(self.number)) else { return };
        let mut gap = list.remove(at);
        gap.measured = Measured::Whole;
        if self.forward {
            gap.end = gap.end.min(upto);
        } else {
            gap.start = gap.start.max(upto);
        }
        if gap.start < gap.end && gap.start.key().len().max(gap.end.key().len()) <= KEY_BYTES_MAX {
            // Most measurements begin at a gap that was known, and are of more.
            list.retain(|other| other.measured != Measured::Whole || !other.is_inside(&gap));
            list.push(gap);
        }
        self.gaps.count.store(list.len(), Ordering::SeqCst);
    }
}

impl Drop for Measurement<'_> {
    fn drop(&mut self) {
        let mut known = self.gaps.known.lock();
        known.list.retain(|gap| gap.measured.number() != Some(self.number));
        self.gaps.count.store(known.list.len(), Ordering::SeqCst);
    }
}
