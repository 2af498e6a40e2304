//! What there is now: the read state, and the sequence up to which entries may be read.
//!
//! Both change on their own, and a reader without a lock needs a pair that belongs together:
//!
//! 1. The read state has every entry that is visible: whoever begins a memtable publishes the read state with it before he
//!    makes its entries visible. A reader that loads the read state and then the sequence may still have an older read state;
//!    the epoch tells it.
//! 2. The read state has every version that is seen at the sequence: whoever rewrites entries at a cut took the cut from
//!    `visible` before he published the result. So a reader loads the read state first and the sequence after it.

use crate::format::Sequence;
use crate::sys::atomic::{AtomicU64, Ordering};

#[cfg(all(test, loom))]
mod models;

#[derive(Debug)]
pub(crate) struct Present {
    /// Counts publications of the read state.
    epoch: AtomicU64,
    /// Entries up to this sequence number may be read. Sequentially consistent, for [`Registry`](super::registry::Registry).
    visible: AtomicU64,
}

impl Present {
    pub(super) fn new(visible: Sequence) -> Self {
        Self { epoch: AtomicU64::new(0), visible: AtomicU64::new(visible.0) }
    }

    /// Publishes a read state, which `store` does.
    pub(super) fn publish(&self, store: impl FnOnce()) {
        store();
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes entries up to `upto` visible. The published read state has them.
    #[inline]
    pub(super) fn show(&self, upto: Sequence) {
        debug_assert!(self.visible.load(Ordering::Relaxed) <= upto.0, "what has been shown stays visible");
        self.visible.store(upto.0, Ordering::SeqCst);
    }

    /// The sequence up to which entries may be read. A read state loaded later has all of them.
    #[inline]
    pub(crate) fn visible(&self) -> Sequence {
        Sequence(self.visible.load(Ordering::SeqCst))
    }

    /// The read state, which `load` loads, and a sequence that belong together; `None` if the read state has just been
    /// replaced.
    #[inline]
    pub(super) fn acquire<V>(&self, load: impl FnOnce() -> V) -> Option<(V, Sequence)> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let read_state = load();
        let at = Sequence(self.visible.load(Ordering::Acquire));
        (self.epoch.load(Ordering::Acquire) == epoch).then_some((read_state, at))
    }
}
