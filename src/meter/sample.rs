//! Which operations are looked at.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of so many operations, one is looked at, on average.
pub(super) const ONE_IN: u32 = 256;

/// What happens too often to be looked at each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sampled {
    Get,
    Put,
    Seek,
}

/// The state of a thread. Zeros are one that has looked at nothing yet.
struct Sampler {
    /// Operations of each kind until the next one that is looked at, itself counted.
    left: [Cell<u32>; 3],
    /// Where its distances come from, never 0 once it has begun.
    random: Cell<u64>,
}

thread_local! {
    static SAMPLER: Sampler =
        const { Sampler { left: [Cell::new(0), Cell::new(0), Cell::new(0)], random: Cell::new(0) } };
}

/// Whether an operation that begins now is one to look at.
#[inline]
pub(super) fn is_due(operation: Sampled) -> bool {
    // A thread at its very end looks at nothing.
    let due = SAMPLER.try_with(|sampler| {
        let [get, put, seek] = &sampler.left;
        let left = match operation {
            Sampled::Get => get,
            Sampled::Put => put,
            Sampled::Seek => seek,
        };
        match left.get() {
            more @ 2.. => {
                left.set(more - 1);
                false
            }
            last => sampler.begin_again(last, left),
        }
    });
    due.unwrap_or(false)
}

impl Sampler {
    /// Draws how far the next one is.
    #[cold]
    fn begin_again(&self, last: u32, left: &Cell<u32>) -> bool {
        // A thread that has looked at nothing yet is as far from the next one as any other, so that threads which live for a
        // few operations only are looked at as often as those that live for long.
        let due = last == 1 || self.up_to(ONE_IN) == 1;
        left.set(if due { self.up_to(2 * ONE_IN - 1) } else { self.up_to(ONE_IN - 1) });
        due
    }

    /// From 1 to `most`, each as likely.
    fn up_to(&self, most: u32) -> u32 {
        let mut random = self.random.get();
        if random == 0 {
            static THREADS: AtomicU64 = AtomicU64::new(1);
            random = THREADS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        }
        // Marsaglia, "Xorshift RNGs" (2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        self.random.set(random);
        u32::try_from((random >> 32) % u64::from(most)).unwrap_or(0) + 1
    }
}

/// A number that tells threads apart, as far as that is possible with few.
pub(super) fn stripe() -> usize {
    thread_local! {
        static STRIPE: usize = {
            static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
            NEXT.fetch_add(1, Ordering::Relaxed)
        };
    }
    STRIPE.try_with(|stripe| *stripe).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_due_whatever_else_the_thread_does() {
        const CALLS: u32 = 2_000 * ONE_IN;
        let mut due = [0u32; 2];
        for _ in 0..CALLS {
            // In step with each other, as they are in a program that writes what it reads.
            due[0] += u32::from(is_due(Sampled::Get));
            due[1] += u32::from(is_due(Sampled::Put));
        }
        for due in due {
            assert!((1_800..2_200).contains(&due), "{due} of {CALLS}");
        }
    }

    #[test]
    fn threads_that_end_soon_are_looked_at_as_well() {
        const THREADS: u32 = 1000;
        let first = |_| std::thread::spawn(|| u32::from(is_due(Sampled::Seek))).join().unwrap();
        let due: u32 = (0..THREADS).map(first).sum();
        assert!((1..=60).contains(&due), "{due} of the first operations of {THREADS} threads");
    }
}
