//! The snapshots that are alive: what every pruner must leave for them.
//!
//! A snapshot registers first and takes its sequence then; a pruner fixes its cut (the visible sequence) first and reads the
//! registry then. So a snapshot that a pruner does not find has a sequence at or above the pruner's cut, and at the cut
//! nothing is pruned.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use super::events::Events;
use super::present::Present;
use crate::error::Error;
use crate::format::Sequence;
use crate::meter::Meters;
use crate::sys::atomic::{AtomicUsize, Ordering};
use crate::sys::{LockRank, Mutex, in_total_order};
use crate::visibility::Visibility;

#[cfg(all(test, loom))]
mod models;

pub(crate) struct Registry {
    /// Snapshots registered or being registered. Sequentially consistent, like the loads and stores of `visible`.
    count: AtomicUsize,
    live: Mutex<Live>,
    /// For what registered readers do.
    meters: Arc<Meters>,
    events: Arc<Events>,
}

/// How many readers there are at each sequence.
#[derive(Debug, Default)]
struct Live {
    /// The highest sequence so far, at which there may be none: most readers come and go before it changes, and a tree would
    /// grow its root and lose it again for each of them.
    newest: (Sequence, usize),
    older: BTreeMap<Sequence, usize>,
}

impl Live {
    fn add(&mut self, at: Sequence) {
        if at > self.newest.0 {
            let (sequence, readers) = mem::replace(&mut self.newest, (at, 0));
            if readers > 0 {
                self.older.insert(sequence, readers);
            }
        }
        if at == self.newest.0 {
            self.newest.1 += 1;
        } else {
            *self.older.entry(at).or_insert(0) += 1;
        }
    }

    fn remove(&mut self, at: Sequence) {
        if at == self.newest.0 {
            self.newest.1 -= 1;
            return;
        }
        debug_assert!(self.older.contains_key(&at), "a registration is in the registry");
        if let Some(readers) = self.older.get_mut(&at) {
            *readers -= 1;
            if *readers == 0 {
                self.older.remove(&at);
            }
        }
    }

    /// The newest sequence, if there are readers at it.
    fn newest(&self) -> Option<Sequence> {
        (self.newest.1 > 0).then_some(self.newest.0)
    }
}

/// A registration; ends when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<Registry>,
    pub(crate) at: Sequence,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} readers)", self.len())
    }
}

impl Registry {
    pub(super) fn new(meters: &Arc<Meters>, events: &Arc<Events>) -> Self {
        let live = Mutex::new(LockRank::Readers, Live::default());
        Self { count: AtomicUsize::new(0), live, meters: Arc::clone(meters), events: Arc::clone(events) }
    }

    /// Registers a reader at the sequence that is visible now.
    pub(crate) fn register(self: &Arc<Self>, present: &Present) -> Registration {
        self.count.fetch_add(1, Ordering::SeqCst);
        in_total_order();
        let mut live = self.live.lock();
        let at = present.visible();
        live.add(at);
        Registration { registry: Arc::clone(self), at }
    }

    /// Whether nobody has registered, as far as readers below a cut that the caller has fixed are concerned.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        in_total_order();
        self.count.load(Ordering::SeqCst) == 0
    }

    /// The sequences of all registered readers, ascending.
    fn sequences(&self) -> Vec<Sequence> {
        if self.is_empty() {
            return Vec::new();
        }
        let live = self.live.lock();
        live.older.keys().copied().chain(live.newest()).collect()
    }

    /// Whether a registered reader has a sequence in this range. O(log n) for n different sequences.
    pub(crate) fn stands_in(&self, range: Range<Sequence>) -> bool {
        if self.is_empty() {
            return false;
        }
        let live = self.live.lock();
        live.newest().is_some_and(|newest| range.contains(&newest)) || live.older.range(range).next().is_some()
    }

    /// What a rewrite at `cut`, a value that `visible` has had, must keep.
    pub(crate) fn retain(&self, cut: Sequence) -> Visibility {
        Visibility::retain(self.sequences(), cut)
    }

    /// The sequence of the oldest registered reader.
    pub(crate) fn oldest(&self) -> Option<Sequence> {
        let live = self.live.lock();
        live.older.keys().next().copied().or(live.newest())
    }

    pub(crate) fn len(&self) -> usize {
        let live = self.live.lock();
        live.older.values().sum::<usize>() + live.newest.1
    }
}

impl Registration {
    /// What a sort for this reader must keep: its sequence is a value that `visible` has had.
    pub(crate) fn retain(&self) -> Visibility {
        self.registry.retain(self.at)
    }

    /// What this reader has done has failed.
    #[cold]
    pub(crate) fn note_error(&self, error: &Error) {
        self.registry.events.note_error(error);
    }

    /// Where what this reader does is measured.
    #[inline]
    pub(crate) fn meters(&self) -> &Meters {
        &self.registry.meters
    }
}

impl Clone for Registration {
    fn clone(&self) -> Self {
        self.registry.count.fetch_add(1, Ordering::SeqCst);
        self.registry.live.lock().add(self.at);
        Self { registry: Arc::clone(&self.registry), at: self.at }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut live = self.registry.live.lock();
        live.remove(self.at);
        self.registry.count.fetch_sub(1, Ordering::SeqCst);
    }
}
