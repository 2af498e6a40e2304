//! The read state that readers load, and how it is replaced.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, Guard};

use super::read_state::ReadState;
use crate::sys::{Era, LockRank, Mutex, MutexGuard};
use crate::table::{Renew, TableCache};

/// A read state as readers load it, and the era that lets them use its open tables without counting; see [`Era`].
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) read_state: Arc<ReadState>,
    pub(crate) era: Era,
}

impl Deref for Shown {
    type Target = ReadState;

    #[inline]
    fn deref(&self) -> &ReadState {
        &self.read_state
    }
}

/// The read state that is published, and who may replace it.
#[derive(Debug)]
pub(crate) struct Published {
    table_cache: Arc<TableCache>,
    shown: ArcSwap<Shown>,
    publishing: Mutex<()>,
}

/// The right to replace the read state.
pub(super) struct Publishing<'s> {
    _held: MutexGuard<'s, ()>,
}

impl Published {
    /// Shows a first read state. From now on tables that are let go stay for those who look at it.
    pub(super) fn new(read_state: ReadState, table_cache: &Arc<TableCache>) -> Arc<Self> {
        let shown = Shown { read_state: Arc::new(read_state), era: table_cache.open.era() };
        let published = Arc::new(Self {
            table_cache: Arc::clone(table_cache),
            shown: ArcSwap::from_pointee(shown),
            publishing: Mutex::new(LockRank::Publishing, ()),
        });
        table_cache.open.shown_by(Arc::downgrade(&published) as Weak<dyn Renew>);
        published
    }

    /// What is shown. While the result lives, nothing that is let go is closed, so it is not to be kept.
    #[inline]
    pub(crate) fn load(&self) -> Guard<Arc<Shown>> {
        self.shown.load()
    }

    /// Waits for whoever replaces the read state now.
    pub(super) fn publishing(&self) -> Publishing<'_> {
        Publishing { _held: self.publishing.lock() }
    }

    /// Shows another read state.
    pub(super) fn show(&self, _alone: &Publishing<'_>, read_state: Arc<ReadState>) {
        self.shown.store(Arc::new(Shown { read_state, era: self.table_cache.open.era() }));
    }
}

impl Drop for Published {
    /// Nobody looks any more. What waits for those who did would keep the table cache alive, and the table cache it.
    fn drop(&mut self) {
        self.table_cache.open.release();
    }
}

impl Renew for Published {
    /// Shows the same read state with the era that is now.
    fn renew(&self) {
        let alone = self.publishing();
        let read_state = Arc::clone(&self.load().read_state);
        self.show(&alone, read_state);
    }
}
