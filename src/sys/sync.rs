//! What locks are made of, and atomics. Normally those of `parking_lot` and the standard library; built with `--cfg loom` or
//! `--cfg shuttle`, those of the model checker, so that models run the code itself: loom tries every order that the memory
//! model allows, on small pieces; shuttle tries many schedules, on the whole engine.

#[cfg(not(any(loom, shuttle)))]
pub(super) use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(any(loom, shuttle, tsan)))]
pub(crate) use std::sync::OnceLock;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic;

#[cfg(any(loom, shuttle, tsan))]
pub(crate) use once::OnceLock;

#[cfg(any(loom, shuttle))]
pub(super) use modelled::{Condvar, Mutex, MutexGuard};
#[cfg(any(loom, shuttle))]
pub(crate) use modelled::{ZeroedArray, atomic};

/// The standard library's cell inside an atomic of this crate: what happens in the standard library itself is seen neither by
/// a model checker nor by the thread sanitizer (`--cfg tsan`).
#[cfg(any(loom, shuttle, tsan))]
mod once {
    use super::atomic::{AtomicBool, Ordering};

    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        set: AtomicBool,
        cell: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { set: AtomicBool::new(false), cell: std::sync::OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.set.load(Ordering::Acquire) { self.cell.get() } else { None }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.cell.set(value)?;
            self.set.store(true, Ordering::Release);
            Ok(())
        }

        pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
            if let Some(value) = self.get() {
                return value;
            }
            let value = self.cell.get_or_init(init);
            // Another thread may have set it; both have passed the cell's own lock.
            self.set.fetch_or(true, Ordering::AcqRel);
            value
        }
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<T: Clone> Clone for OnceLock<T> {
        fn clone(&self) -> Self {
            let clone = Self::new();
            if let Some(value) = self.get() {
                let _ = clone.set(value.clone());
            }
            clone
        }
    }
}

/// Stands between two accesses that rely on the one order of all sequentially consistent ones. The accesses themselves
/// see to it; loom knows that order of fences only.
#[inline]
pub(crate) fn in_total_order() {
    #[cfg(loom)]
    atomic::fence(atomic::Ordering::SeqCst);
}

#[cfg(any(loom, shuttle))]
mod modelled {
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    #[cfg(loom)]
    use loom::sync as backend;
    #[cfg(shuttle)]
    use shuttle::sync as backend;

    pub(crate) use backend::atomic;

    /// The twin of [`region::ZeroedArray`](super::super::region::ZeroedArray): the model checker's atomics have more to them
    /// than their bytes.
    pub(crate) struct ZeroedArray<T>(Vec<T>);

    impl<T: Default> ZeroedArray<T> {
        pub(crate) fn new(length: usize) -> std::io::Result<Self> {
            Ok(Self((0..length).map(|_| T::default()).collect()))
        }

        /// Models do not fork.
        pub(crate) fn wiped_by_fork(length: usize) -> std::io::Result<Self> {
            Self::new(length)
        }
    }

    impl<T> Deref for ZeroedArray<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }

    /// The model checker's mutex with parking_lot's methods.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(backend::Mutex<T>);

    /// Empty only inside [`Condvar::wait`].
    pub(crate) struct MutexGuard<'a, T>(Option<backend::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(backend::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)))
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }

        pub(crate) fn is_locked(&self) -> bool {
            self.try_lock().is_none()
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    impl<T> fmt::Debug for Mutex<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Mutex")
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("a held lock")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("a held lock")
        }
    }

    #[derive(Default)]
    pub(crate) struct Condvar(backend::Condvar);

    impl Condvar {
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.0 = guard.0.take().map(|held| self.0.wait(held).unwrap_or_else(std::sync::PoisonError::into_inner));
        }

        /// In a model no time passes: this waits for a notification.
        pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _longest: Duration) {
            self.wait(guard);
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    impl fmt::Debug for Condvar {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Condvar")
        }
    }
}
