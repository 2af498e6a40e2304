//! Locks that are taken in one order.
//!
//! Each lock has a [`LockRank`], and a thread that has a lock takes none of its rank or below. So threads never wait for each
//! other in a circle. Where debug assertions are on, as in tests, every lock is checked when it is taken, and the first one out
//! of order is a panic that names both, whether or not another thread was there to wait for. Elsewhere nothing is stored and
//! nothing is done.
//!
//! What is only tried for waits for nobody and is not checked, but it is held like any other.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::sync;
use check::{Checked, Holding};

pub(crate) use check::{apart, check_none_held};

#[cfg(all(test, debug_assertions))]
mod tests;

/// All locks, in the order in which they are taken. ARCHITECTURE.md has the same list, with who holds them and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LockRank {
    /// What a transaction has read and written.
    Transaction,
    /// Whose turn it is, of those who would meet again and again.
    Turnstile,
    /// Of commits that wait for a flush, the first.
    Stall,
    /// How the run has ended.
    Close,
    /// One flush at a time.
    Flushing,
    /// Which compactions are under way.
    Compactions,
    /// How far one compaction is.
    Job,
    /// One creation or drop of a keyspace at a time.
    Naming,
    /// Whose turn it is to sync the log.
    Turns,
    /// One sync of the log at a time.
    Syncing,
    /// The end of the log.
    Writer,
    /// The durable state.
    Manifest,
    /// Keyspaces by name.
    Keyspaces,
    /// Space for a full disk.
    Reserve,
    /// Files that go once their last reader has gone.
    Obsolete,
    /// One table or value file, while it is opened or let go.
    Desk,
    /// The right to replace the read state. Whoever opens a table, and had to let others go, takes it as well.
    Publishing,
    /// How far the entries of a memtable have been handed to its sorted runs.
    Distributed,
    /// The sorted runs of a keyspace in a memtable.
    Sorted,
    /// Registered readers.
    Readers,
    /// Gaps between keys.
    Gaps,
    /// The order in which open tables are let go.
    Clock,
    /// Values taken back that somebody may still use.
    Eras,
    /// A value that is lent.
    Lent,
    /// The lock file.
    Directory,
    /// What background threads sleep on.
    Background,
    /// Their handles.
    Threads,
    /// Commits that somebody waits for.
    Commits,
    /// Events on their way to the listener.
    Events,
    /// What an operator has made of a key.
    KeptValues,
    /// Directories that this process has locked.
    Held,
    /// The simulated disk.
    Disk,
}

pub(crate) struct Mutex<T> {
    rank: Checked,
    inner: sync::Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(rank: LockRank, value: T) -> Self {
        Self { rank: Checked::new(rank), inner: sync::Mutex::new(value) }
    }

    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.rank.check();
        MutexGuard { inner: self.inner.lock(), held: self.rank.hold() }
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.inner.try_lock().map(|inner| MutexGuard { inner, held: self.rank.hold() })
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }

    /// Without locking: nobody else has it.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

#[must_use]
pub(crate) struct MutexGuard<'m, T> {
    inner: sync::MutexGuard<'m, T>,
    held: Holding,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    /// Lets the lock go until this is notified. Whatever else the thread holds must come before it, as it is taken again.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.held.check_again();
        self.0.wait(&mut guard.inner);
    }

    /// The same, but no longer than this.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, longest: Duration) {
        guard.held.check_again();
        self.0.wait_for(&mut guard.inner, longest);
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

#[cfg(debug_assertions)]
mod check {
    use std::cell::RefCell;
    use std::mem;

    use super::LockRank;

    // The model checkers run many threads of a model on one of the system.
    #[cfg(loom)]
    use loom::thread_local;
    #[cfg(shuttle)]
    use shuttle::thread_local;

    thread_local! {
        /// What this thread holds.
        static HELD: RefCell<Vec<LockRank>> = RefCell::default();
    }

    /// The rank of a lock.
    pub(super) struct Checked(LockRank);

    /// One that this thread has.
    pub(super) struct Holding(LockRank);

    impl Checked {
        pub(super) fn new(rank: LockRank) -> Self {
            Self(rank)
        }

        #[track_caller]
        pub(super) fn check(&self) {
            check(self.0, |held| held.iter().max().copied());
        }

        pub(super) fn hold(&self) -> Holding {
            let _ = HELD.try_with(|held| held.borrow_mut().push(self.0));
            Holding(self.0)
        }
    }

    impl Holding {
        /// Checks a lock that is let go and taken again.
        #[track_caller]
        pub(super) fn check_again(&self) {
            let mut own = true;
            check(self.0, |held| held.iter().filter(|rank| **rank != self.0 || !mem::take(&mut own)).max().copied());
        }
    }

    impl Drop for Holding {
        fn drop(&mut self) {
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                if let Some(at) = held.iter().rposition(|rank| *rank == self.0) {
                    held.remove(at);
                }
            });
        }
    }

    #[track_caller]
    fn check(rank: LockRank, highest: impl FnOnce(&[LockRank]) -> Option<LockRank>) {
        // A thread at its very end holds nothing.
        let highest = HELD.try_with(|held| highest(&held.borrow())).ok().flatten();
        if let Some(highest) = highest.filter(|highest| *highest >= rank) {
            panic!(
                "the lock {rank:?} is taken by a thread that has {highest:?}, which comes after it: a deadlock in waiting"
            );
        }
    }

    /// Before code of the caller: what it does may take any lock.
    #[inline]
    #[track_caller]
    pub(crate) fn check_none_held() {
        let first = HELD.try_with(|held| held.borrow().first().copied()).ok().flatten();
        if let Some(first) = first {
            panic!("code of the caller is called by a thread that has {first:?}: a deadlock in waiting");
        }
    }

    /// Runs what has nothing to do with the locks that this thread has, as if on another thread.
    pub(crate) fn apart<T>(work: impl FnOnce() -> T) -> T {
        struct Restore(Vec<LockRank>);
        impl Drop for Restore {
            fn drop(&mut self) {
                HELD.with(|held| held.replace(mem::take(&mut self.0)));
            }
        }
        let _restore = Restore(HELD.with(RefCell::take));
        work()
    }
}

#[cfg(not(debug_assertions))]
mod check {
    use super::LockRank;

    pub(super) struct Checked;
    pub(super) struct Holding;

    impl Checked {
        #[inline]
        pub(super) fn new(_rank: LockRank) -> Self {
            Self
        }

        #[inline]
        pub(super) fn check(&self) {}

        #[inline]
        pub(super) fn hold(&self) -> Holding {
            Holding
        }
    }

    impl Holding {
        #[inline]
        pub(super) fn check_again(&self) {}
    }

    #[inline]
    pub(crate) fn check_none_held() {}

    #[inline]
    pub(crate) fn apart<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
}
