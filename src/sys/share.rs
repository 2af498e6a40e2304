//! Shared ownership that can be counted many at a time.
//!
//! Each entry of an iterator keeps alive what it is in, by a share of its own. As a clone of an `Arc`, that share is an atomic
//! addition to each step of a scan, and the processor does nothing else meanwhile. A [`Purse`] counts many shares at once and
//! hands them out without a further count; what is left it gives back.
//!
//! This file has `unsafe` code: it counts who uses an allocation, and frees it.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use super::atomic::{AtomicUsize, Ordering};

#[cfg(all(test, loom))]
mod models;

/// Alone on its cache lines, which processors fetch in pairs of 64 bytes: a value is shared under several counts so that
/// threads need not share one.
#[repr(align(128))]
struct Counted<T> {
    shares: AtomicUsize,
    value: T,
}

/// One of the owners of a value, which is dropped with the last of them.
///
/// Invariant: `at` is the box that `new` has leaked, and `shares` counts this share, so the box is there.
pub(super) struct Share<T> {
    at: NonNull<Counted<T>>,
    owned: PhantomData<Counted<T>>,
}

// SAFETY: shares of one value are an `Arc` of it: all of them lend it, and any of them may drop it.
unsafe impl<T: Send + Sync> Send for Share<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Share<T> {}

/// More shares than there are bytes to hold them in, if none of them is forgotten.
const SHARES_MAX: usize = isize::MAX as usize;

impl<T> Share<T> {
    pub(super) fn new(value: T) -> Self {
        Self::counted(NonNull::from(Box::leak(Box::new(Counted { shares: AtomicUsize::new(1), value }))))
    }

    /// A share that has been counted.
    #[inline]
    fn counted(at: NonNull<Counted<T>>) -> Self {
        Self { at, owned: PhantomData }
    }

    /// Counts `more` shares.
    #[inline]
    fn add(&self, more: usize) {
        // SAFETY: this share keeps the box.
        let counted = unsafe { self.at.as_ref() };
        // Who can make a share from this one knows of the value already, so nothing has to be ordered.
        if counted.shares.fetch_add(more, Ordering::Relaxed) > SHARES_MAX {
            // Shares were forgotten until their number says nothing any more.
            std::process::abort();
        }
    }

    /// Whether there are others.
    pub(super) fn is_shared(&self) -> bool {
        // SAFETY: this share keeps the box.
        unsafe { self.at.as_ref() }.shares.load(Ordering::Relaxed) > 1
    }

    /// Whether both are shares of the same value.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.at == other.at
    }

    /// Tells values apart while they are there.
    #[inline]
    pub(super) fn address(&self) -> usize {
        self.at.as_ptr().addr()
    }
}

/// Uncounts shares, which the caller had, and drops the value if there are no others.
///
/// # Safety
/// `at` is that of shares, `gone` of which nobody uses after this.
#[inline]
unsafe fn give_back<T>(at: NonNull<Counted<T>>, gone: usize) {
    // SAFETY: the shares that go are counted until now, so the box is there.
    let shares = unsafe { &at.as_ref().shares };
    // What each of the owners did comes before the drop.
    if shares.fetch_sub(gone, Ordering::AcqRel) == gone {
        // SAFETY: the box of `new`, and no share of it is left, so nobody else uses it or gets here.
        drop(unsafe { Box::from_raw(at.as_ptr()) });
    }
}

impl<T> Deref for Share<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this share keeps the box, whose value is only lent from now on.
        &unsafe { self.at.as_ref() }.value
    }
}

impl<T> Clone for Share<T> {
    #[inline]
    fn clone(&self) -> Self {
        self.add(1);
        Self::counted(self.at)
    }
}

impl<T> Drop for Share<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this share is one of those that are counted, and is gone after this.
        unsafe { give_back(self.at, 1) };
    }
}

/// How many shares a purse counts at once, from the second on: who has asked twice for shares of the same is going to.
const BATCH: usize = 64;

/// Shares that have been counted and not handed out, of what was asked for last.
///
/// Invariant: with `left` above 0, as many shares of the value at `at` are counted that nobody else has.
pub(super) struct Purse<T> {
    /// What they are of; see [`Purse::take`].
    of: usize,
    at: NonNull<Counted<T>>,
    left: usize,
}

// SAFETY: a purse is a number of shares.
unsafe impl<T: Send + Sync> Send for Purse<T> {}
// SAFETY: what can be done through a reference to a purse is nothing.
unsafe impl<T: Send + Sync> Sync for Purse<T> {}

impl<T> Purse<T> {
    /// A share of what has the address `of`. `share` returns one of it, which need not be the same each time, as long as every
    /// one keeps the address from being used again.
    #[inline]
    pub(super) fn take<'s>(&mut self, of: usize, share: impl FnOnce() -> &'s Share<T>) -> Share<T>
    where
        T: 's,
    {
        if self.of != of || self.left == 0 {
            return self.refill(of, share());
        }
        self.left -= 1;
        Share::counted(self.at)
    }

    #[inline(never)]
    fn refill(&mut self, of: usize, share: &Share<T>) -> Share<T> {
        let count = if self.of == of { BATCH } else { 1 };
        share.add(count);
        self.give_back();
        (self.of, self.at, self.left) = (of, share.at, count - 1);
        Share::counted(share.at)
    }

    fn give_back(&mut self) {
        let left = std::mem::take(&mut self.left);
        if left > 0 {
            // SAFETY: they are counted, and nobody else has them.
            unsafe { give_back(self.at, left) };
        }
    }
}

impl<T> Drop for Purse<T> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<T> Default for Purse<T> {
    fn default() -> Self {
        Self { of: 0, at: NonNull::dangling(), left: 0 }
    }
}

/// An empty one: what is left in a purse belongs to it.
impl<T> Clone for Purse<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> fmt::Debug for Purse<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Purse({} left)", self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_value_is_dropped_with_its_last_share_wherever_that_is() {
        let watched = Arc::new(());
        let [one, other] = [(); 2].map(|()| Share::new(Arc::clone(&watched)));
        let mut purse = Purse::default();
        let mut shares = Vec::new();
        for round in 0..3 * BATCH {
            // Now and then, another one is asked for in between.
            let of = if round % 50 == 49 { &other } else { &one };
            shares.push(purse.take(of.address(), || of));
        }
        assert!(shares.iter().all(|share| share.is(&one) || share.is(&other)));
        assert!(one.is_shared() && other.is_shared());
        let copy = purse.clone();
        drop((one, other, purse));
        assert_eq!(Arc::strong_count(&watched), 3);
        let last = shares.pop();
        std::thread::scope(|scope| _ = scope.spawn(|| drop(shares)));
        drop(copy);
        assert_eq!(Arc::strong_count(&watched), 2);
        drop(last);
        assert_eq!(Arc::strong_count(&watched), 1);
    }

    #[test]
    fn a_purse_gives_back_what_it_has_left() {
        let share = Share::new(());
        let mut purse = Purse::default();
        for _ in 0..2 {
            drop(purse.take(share.address(), || &share));
        }
        assert!(share.is_shared());
        drop(purse);
        assert!(!share.is_shared());
    }
}
