//! The snapshots that are alive: what every pruner must leave for them.
//!
//! A snapshot registers first and takes its sequence then; a pruner fixes its cut (the visible sequence) first and reads the
//! registry then. So a snapshot that a pruner does not find has a sequence at or above the pruner's cut, and at the cut
//! nothing is pruned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::format::Sequence;
use crate::sys::Mutex;
use crate::visibility::Visibility;

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
    /// Registers a reader at the sequence that `visible` has now.
    pub(crate) fn register(self: &Arc<Self>, visible: &AtomicU64) -> Registration {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut live = self.live.lock();
        let at = Sequence(visible.load(Ordering::SeqCst));
        *live.entry(at).or_insert(0) += 1;
        Registration { registry: Arc::clone(self), at }
    }

    /// The sequences of all registered readers, ascending.
    pub(crate) fn sequences(&self) -> Vec<Sequence> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        self.live.lock().keys().copied().collect()
    }

    /// What a rewrite at `cut`, a value that `visible` has had, must keep.
    pub(crate) fn retain(&self, cut: Sequence) -> Visibility {
        Visibility::retain(self.sequences(), cut)
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
        if let Some(readers) = live.get_mut(&self.at) {
            *readers -= 1;
            if *readers == 0 {
                live.remove(&self.at);
            }
        }
        self.registry.count.fetch_sub(1, Ordering::SeqCst);
    }
}
