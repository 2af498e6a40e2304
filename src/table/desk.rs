//! One table or value file, whether it is open or not.

use std::sync::{Arc, Weak};

use super::open::Lending;
use super::table_cache::TableCache;
use crate::error::Result;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::{Era, Lent, LockRank, Mutex, MutexGuard, Taken};

/// A file in its handle: what is open of it, and what stays known of it while it is not.
#[derive(Debug)]
pub(super) struct Desk<T, K> {
    lent: Lent<T>,
    /// Recency: the number of the last era in which it was used.
    last_use: AtomicU64,
    /// Held by who opens it or lets it go.
    state: Mutex<State<K>>,
}

#[derive(Debug)]
pub(super) struct State<K> {
    pub(super) kept: Option<K>,
    seat: Option<usize>,
}

impl<T: Send + Sync + 'static, K> Desk<T, K> {
    pub(super) fn new(table_cache: &TableCache, kept: Option<K>) -> Self {
        let state = Mutex::new(LockRank::Desk, State { kept, seat: None });
        Self { lent: Lent::new(&table_cache.open.eras), last_use: AtomicU64::new(0), state }
    }

    /// What is open, for as long as the era is held.
    #[inline]
    pub(super) fn borrow<'d>(&'d self, era: &'d Era) -> Option<&'d T> {
        let open = self.lent.get(era)?;
        self.note_use(era.number());
        Some(open)
    }

    /// The same without counting as a use.
    #[inline]
    pub(super) fn peek<'d>(&'d self, era: &'d Era) -> Option<&'d T> {
        self.lent.get(era)
    }

    #[inline]
    fn note_use(&self, era: u64) {
        // A store only once in an era: the line stays shared between threads.
        if self.last_use.load(Ordering::Relaxed) != era {
            self.last_use.store(era, Ordering::Relaxed);
        }
    }

    /// What is open, if it is, counted.
    pub(super) fn pinned(&self) -> Option<Arc<T>> {
        self.lent.pin()
    }

    /// What is open, counted; opened by `open` if it is not, for `who`.
    pub(super) fn pin(
        &self,
        table_cache: &TableCache,
        who: impl FnOnce() -> Weak<dyn Lending>,
        open: impl Fn(Option<&K>) -> Result<(T, K)>,
    ) -> Result<Arc<T>> {
        if let Some(open) = self.lent.pin() {
            self.note_use(table_cache.open.eras.number());
            return Ok(open);
        }
        // Before the lock: those who are waited for may be waiting for it.
        table_cache.open.make_room()?;
        let mut state = self.state.lock();
        if let Some(open) = self.lent.pin() {
            return Ok(open);
        }
        let (opened, kept) = table_cache.open.admit(|| open(state.kept.as_ref()))?;
        Ok(self.set(table_cache, &mut state, who(), Arc::new(opened), kept))
    }

    /// Takes over what has just been opened.
    pub(super) fn adopt(&self, table_cache: &TableCache, who: Weak<dyn Lending>, opened: T, kept: K) {
        // It is open already; room is made if there is any to be had.
        let _ = table_cache.open.make_room();
        self.set(table_cache, &mut self.state.lock(), who, Arc::new(opened), kept);
    }

    fn set(
        &self,
        table_cache: &TableCache,
        state: &mut State<K>,
        who: Weak<dyn Lending>,
        open: Arc<T>,
        kept: K,
    ) -> Arc<T> {
        state.kept = Some(kept);
        state.seat = Some(table_cache.open.sit(who));
        self.note_use(table_cache.open.eras.number());
        self.lent.set(Arc::clone(&open));
        open
    }

    /// What is known of it while it is not open. Whoever holds this keeps it from being opened or let go.
    pub(super) fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock()
    }

    pub(super) fn last_use(&self) -> u64 {
        self.last_use.load(Ordering::Relaxed)
    }

    /// Lets it go, unless it is pinned; `is_pinned` tells of what is counted elsewhere, `keep` what stays known.
    pub(super) fn let_go(
        &self,
        table_cache: &TableCache,
        taken: &mut Taken<'_>,
        is_pinned: impl FnOnce(&T) -> bool,
        keep: impl FnOnce(&T) -> K,
    ) -> bool {
        let Some(mut state) = self.state.try_lock() else { return false };
        let mut kept = None;
        let may = |open: &T, is_counted: bool| {
            let may = !is_counted && !is_pinned(open);
            if may {
                kept = Some(keep(open));
            }
            may
        };
        if !self.lent.take(taken, may) {
            return false;
        }
        state.kept = kept;
        if let Some(seat) = state.seat.take() {
            table_cache.open.leave(seat);
        }
        true
    }

    /// To be called when its handle is dropped.
    pub(super) fn leave(&mut self, table_cache: &TableCache) {
        if let Some(seat) = self.state.get_mut().seat.take() {
            table_cache.open.leave(seat);
        }
    }
}
