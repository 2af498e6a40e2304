//! Who goes next, of those who would meet again and again if all of them went at once: updates of one key, which are refused
//! when another comes between, and transactions.
//!
//! A turn protects nothing; what must not be mixed is checked when it is committed. So it may be held while the caller's code
//! runs, it is given up rather than waited for without end, and a thread that has it and comes again goes on without: whatever
//! that code calls, also through other threads, nobody waits for ever.

#[cfg(shuttle)]
use shuttle::thread::{self, ThreadId};
use std::collections::VecDeque;
#[cfg(not(shuttle))]
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::sys::atomic::{AtomicBool, Ordering};
use crate::sys::{Condvar, LockRank, Mutex, now};

/// How long a turn is waited for at the most. Much longer than an update takes, or a transaction should.
const LONGEST: Duration = Duration::from_secs(1);

/// Keys are spread over so many turnstiles.
const STRIPES: u64 = 64;

/// Those of an engine.
#[derive(Debug)]
pub(crate) struct Turnstiles {
    updates: Box<[Turnstile]>,
    transactions: Turnstile,
}

impl Default for Turnstiles {
    fn default() -> Self {
        Self { updates: (0..STRIPES).map(|_| Turnstile::default()).collect(), transactions: Turnstile::default() }
    }
}

impl Turnstiles {
    /// For updates of a key with this hash.
    #[inline]
    pub(super) fn of_key(&self, hash: u64) -> Option<&Turnstile> {
        self.updates.get(usize::try_from(hash % STRIPES).unwrap_or_default())
    }

    /// For transactions that have met others too often.
    pub(crate) fn transactions(&self) -> &Turnstile {
        &self.transactions
    }
}

/// One after another, in the order in which they come.
#[derive(Debug)]
pub(crate) struct Turnstile {
    queue: Mutex<Queue>,
    /// Somebody has left.
    left: Condvar,
    /// Whether somebody is through. For those who look in passing.
    taken: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    through: Option<ThreadId>,
    /// The numbers of those who wait, in order.
    waiting: VecDeque<u64>,
    next: u64,
}

/// The turn, until this is dropped; or none, for who goes on without.
#[must_use]
pub(crate) struct Passage<'t>(Option<&'t Turnstile>);

impl Passage<'_> {
    /// Whether it is one.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let Some(turnstile) = self.0 else { return };
        let mut queue = turnstile.queue.lock();
        queue.through = None;
        turnstile.taken.store(false, Ordering::Relaxed);
        drop(queue);
        turnstile.left.notify_all();
    }
}

impl Default for Turnstile {
    fn default() -> Self {
        Self {
            queue: Mutex::new(LockRank::Turnstile, Queue::default()),
            left: Condvar::default(),
            taken: AtomicBool::new(false),
        }
    }
}

impl Turnstile {
    /// Waits for the turn. A thread that has it already gets none, and so does one that has waited for too long.
    pub(crate) fn enter(&self) -> Passage<'_> {
        let own = thread::current().id();
        let mut queue = self.queue.lock();
        if queue.through == Some(own) {
            return Passage(None);
        }
        if queue.through.is_some() || !queue.waiting.is_empty() {
            let number = queue.next;
            queue.next += 1;
            queue.waiting.push_back(number);
            let begun = now();
            while queue.through.is_some() || queue.waiting.front() != Some(&number) {
                let waited = now().saturating_sub(begun);
                if waited >= LONGEST {
                    queue.waiting.retain(|other| *other != number);
                    drop(queue);
                    // Whoever is behind may be the first now.
                    self.left.notify_all();
                    return Passage(None);
                }
                self.left.wait_for(&mut queue, LONGEST.saturating_sub(waited));
            }
            queue.waiting.pop_front();
        }
        queue.through = Some(own);
        self.taken.store(true, Ordering::Relaxed);
        Passage(Some(self))
    }

    /// Waits, but not for ever, until no other thread is through or waits to be.
    pub(crate) fn let_others_go(&self) {
        if !self.taken.load(Ordering::Relaxed) {
            return;
        }
        let own = thread::current().id();
        let begun = now();
        let mut queue = self.queue.lock();
        while queue.through.is_some_and(|other| other != own) || (queue.through.is_none() && !queue.waiting.is_empty())
        {
            let waited = now().saturating_sub(begun);
            if waited >= LONGEST {
                return;
            }
            self.left.wait_for(&mut queue, LONGEST.saturating_sub(waited));
        }
    }
}
