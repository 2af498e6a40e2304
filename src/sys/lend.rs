//! Values that are lent without counting who has them, and can be taken back all the same.
//!
//! A table is opened once and read a million times a second; counting each reader costs more than the lookup. So readers do
//! not count: they hold an [`Era`], which they have at hand anyway, because it comes with the read state that they have loaded.
//! Whoever takes a value back ([`Lent::take`]) ends the era ([`Eras::end`]), sees to it that a read state with the new one is
//! shown, and the value waits until the last holder of the old era, and of every era before it, is gone ([`Eras::release`]).
//!
//! Measured against the other ways, on two busy cores, for a lookup in 1, 4 and 12 tables, as what it costs more than one
//! that never gives anything back: a guard of `arc-swap` for each table 18, 79 and 276 ns, a pin of `crossbeam-epoch` 9 to
//! 18 ns, a slot of the thread's own with a full fence 7 to 10 ns, cells in pages that the read state owns up to 10 ns, and
//! this nothing that could be told from noise. Giving up a table by replacing its handle costs a copy of its level: 0.6 ms for
//! 40,000 tables. A new era costs 0.24 us.
//!
//! This file has `unsafe` code: one load through a pointer.
#![allow(unsafe_code)]

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::ptr;
use std::sync::Arc;

use super::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use super::{LockRank, Mutex};

#[cfg(all(test, loom))]
mod models;

/// Ids of [`Eras`], so that nobody borrows under the eras of another database.
static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

/// A stretch of time between two occasions at which values were taken back. Whoever holds one may use what is lent.
#[derive(Clone)]
pub(crate) struct Era {
    of: u64,
    number: u64,
    /// Counts the holders. Those who borrow from the same holder count once.
    _held: Arc<()>,
}

impl fmt::Debug for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Era(of {})", self.of)
    }
}

impl Era {
    /// Later eras have higher numbers.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

type Value = Arc<dyn Any + Send + Sync>;

/// Values that were taken back, and the era that ended then. Those who hold that era or an earlier one may be using them.
struct Ended {
    era: Arc<()>,
    values: Vec<Value>,
}

struct State {
    current: Arc<()>,
    /// In order of time.
    ended: VecDeque<Ended>,
}

/// The eras of one database.
pub(crate) struct Eras {
    id: u64,
    state: Mutex<State>,
    /// The number of the current one, for those who need no more.
    number: AtomicU64,
    /// Values that wait, so that there is nothing to do most of the time.
    waiting: AtomicUsize,
}

impl fmt::Debug for Eras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Eras({}, {} waiting)", self.id, self.waiting.load(Ordering::Relaxed))
    }
}

impl Eras {
    pub(crate) fn new() -> Self {
        let state = State { current: Arc::new(()), ended: VecDeque::new() };
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self { id, state: Mutex::new(LockRank::Eras, state), number: AtomicU64::new(1), waiting: AtomicUsize::new(0) }
    }

    /// The era that is now.
    pub(crate) fn current(&self) -> Era {
        let state = self.state.lock();
        Era { of: self.id, number: self.number(), _held: Arc::clone(&state.current) }
    }

    /// The number of the era that is now.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// For values that are about to be taken back.
    pub(crate) fn taking(&self) -> Taken<'_> {
        Taken { eras: self, values: Vec::new() }
    }

    /// Ends the era after values were taken back.
    fn end(&self, values: Vec<Value>) {
        let mut state = self.state.lock();
        self.waiting.fetch_add(values.len(), Ordering::Relaxed);
        self.number.fetch_add(1, Ordering::Relaxed);
        let era = mem::replace(&mut state.current, Arc::new(()));
        state.ended.push_back(Ended { era, values });
    }

    /// How many values wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Drops the values that nobody can be using any more.
    pub(crate) fn release(&self) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut unused = Vec::new();
        {
            let mut state = self.state.lock();
            // `get_mut` also orders the drop behind everything that the last holder did.
            while let Some(ended) = state.ended.front_mut()
                && Arc::get_mut(&mut ended.era).is_some()
            {
                unused.extend(state.ended.pop_front());
            }
        }
        let released: usize = unused.iter().map(|ended| ended.values.len()).sum();
        drop(unused);
        self.waiting.fetch_sub(released, Ordering::Relaxed);
    }
}

/// Values that have been taken back. When this is dropped, the era ends.
pub(crate) struct Taken<'e> {
    eras: &'e Eras,
    values: Vec<Value>,
}

impl Taken<'_> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.values.is_empty() {
            self.eras.end(mem::take(&mut self.values));
        }
    }
}

/// A place for a value that is lent.
///
/// Invariant: `at` is null or points to the value that `owner` holds. A value leaves `owner` in two ways: with the whole
/// place, or into a [`Taken`] of the eras with the id `of`, after `at` was set to null.
pub(crate) struct Lent<T> {
    of: u64,
    at: AtomicPtr<T>,
    owner: Mutex<Option<Arc<T>>>,
}

impl<T> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lent({})", if self.at.load(Ordering::Relaxed).is_null() { "nothing" } else { "a value" })
    }
}

impl<T: Any + Send + Sync> Lent<T> {
    /// A place without a value.
    pub(crate) fn new(eras: &Eras) -> Self {
        Self { of: eras.id, at: AtomicPtr::new(ptr::null_mut()), owner: Mutex::new(LockRank::Lent, None) }
    }

    /// The value, if there is one, for as long as `era` is held. An era of another database borrows nothing.
    #[inline]
    pub(crate) fn get<'l>(&'l self, era: &'l Era) -> Option<&'l T> {
        if era.of != self.of {
            return None;
        }
        let at = self.at.load(Ordering::Acquire);
        // SAFETY: null, or a pointer to a value that `owner` held when it was stored (`set`, whose release pairs with the
        // acquire). The result lives no longer than `self` and `era`, so the value must stay that long. If it leaves `owner`
        // with the place, `self` is not borrowed. If it is taken back, it goes into an `Ended` of the same eras together
        // with the era that was the current one then, and is dropped when nobody holds that era or an earlier one. The
        // caller's era is one of these: a later one was made, under the lock of the eras, after `at` had been set to null,
        // and whoever has it has it from that lock, so that the load above would have seen the null or a later value.
        unsafe { at.as_ref() }
    }

    /// The value, counted.
    pub(crate) fn pin(&self) -> Option<Arc<T>> {
        self.owner.lock().clone()
    }

    /// Lends a value, unless there is one.
    pub(crate) fn set(&self, value: Arc<T>) {
        let mut owner = self.owner.lock();
        if owner.is_none() {
            self.at.store(Arc::as_ptr(&value).cast_mut(), Ordering::Release);
            *owner = Some(value);
        }
    }

    /// Takes the value back, if there is one and `may` says so. It is asked about the value, and whether someone has it
    /// counted.
    pub(crate) fn take(&self, taken: &mut Taken<'_>, may: impl FnOnce(&T, bool) -> bool) -> bool {
        let mut owner = self.owner.lock();
        let may = owner.as_ref().is_some_and(|value| may(value, Arc::strong_count(value) > 1));
        if !may || taken.eras.id != self.of {
            return false;
        }
        self.at.store(ptr::null_mut(), Ordering::Relaxed);
        taken.values.extend(owner.take().map(|value| value as Value));
        true
    }
}
