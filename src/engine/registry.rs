//! The snapshots that are alive: what every pruner must leave for them.
//!
//! A snapshot registers first and takes its sequence then; a pruner fixes its cut (the visible sequence) first and reads the
//! registry then. So a snapshot that a pruner does not find has a sequence at or above the pruner's cut, and at the cut
//! nothing is pruned.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::present::Present;
use crate::format::Sequence;
use crate::sys::atomic::{AtomicUsize, Ordering};
use crate::sys::{Mutex, in_total_order};
use crate::visibility::Visibility;

#[cfg(all(test, loom))]
mod models;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Snapshots registered or being registered. Sequentially consistent, like the loads and stores of `visible`.
    count: AtomicUsize,
    live: Mutex<BTreeMap<Sequence, usize>>,
}

/// A registration; ends when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<Registry>,
    pub(crate) at: Sequence,
}

impl Registry {
    /// Registers a reader at the sequence that is visible now.
    pub(crate) fn register(self: &Arc<Self>, present: &Present) -> Registration {
        self.count.fetch_add(1, Ordering::SeqCst);
        in_total_order();
        let mut live = self.live.lock();
        let at = present.visible();
        *live.entry(at).or_insert(0) += 1;
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
        self.live.lock().keys().copied().collect()
    }

    /// Whether a registered reader has a sequence in this range. O(log n) for n different sequences.
    pub(crate) fn stands_in(&self, range: Range<Sequence>) -> bool {
        !self.is_empty() && self.live.lock().range(range).next().is_some()
    }

    /// What a rewrite at `cut`, a value that `visible` has had, must keep.
    pub(crate) fn retain(&self, cut: Sequence) -> Visibility {
        Visibility::retain(self.sequences(), cut)
    }

    /// The sequence of the oldest registered reader.
    pub(crate) fn oldest(&self) -> Option<Sequence> {
        self.live.lock().keys().next().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.live.lock().values().sum()
    }
}

impl Clone for Registration {
    fn clone(&self) -> Self {
        self.registry.count.fetch_add(1, Ordering::SeqCst);
        *self.registry.live.lock().entry(self.at).or_insert(0) += 1;
        Self { registry: Arc::clone(&self.registry), at: self.at }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut live = self.registry.live.lock();
        debug_assert!(live.contains_key(&self.at), "a registration is in the registry");
        if let Some(readers) = live.get_mut(&self.at) {
            *readers -= 1;
            if *readers == 0 {
                live.remove(&self.at);
            }
        }
        self.registry.count.fetch_sub(1, Ordering::SeqCst);
    }
}
