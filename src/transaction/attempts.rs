//! The attempts of a transaction that is run until it commits.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::engine::{Passage, Turnstile};

/// Attempts of [`Db::transact`](crate::Db::transact), and after how many of them it runs alone.
const ATTEMPTS: u32 = 64;
const BESIDE_OTHERS: u32 = 8;

/// The first and the longest pause between two attempts beside others: eight of them are over in 20 ms.
const PAUSE_MIN: Duration = Duration::from_micros(20);
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// How often it has been tried. Beside others, there is a pause between two attempts: each up to twice as long as the one
/// before, and of different length in different threads, so that those who have met once do not meet again.
pub(crate) struct Attempts<'t> {
    others: &'t Turnstile,
    failed: u32,
    random: RandomState,
    alone: Option<Passage<'t>>,
}

impl<'t> Attempts<'t> {
    pub(crate) fn new(others: &'t Turnstile) -> Self {
        Self { others, failed: 0, random: RandomState::new(), alone: None }
    }

    /// To be called before each attempt: waits for one that runs alone, or for the turn to be that one.
    pub(crate) fn begin(&mut self) {
        if self.failed < BESIDE_OTHERS {
            self.others.let_others_go();
        } else if !self.is_alone() {
            // Within a body that runs alone, or after a wait that was too long, there is none.
            self.alone = Some(self.others.enter());
        }
    }

    fn is_alone(&self) -> bool {
        self.alone.as_ref().is_some_and(Passage::is_taken)
    }

    /// To be called after an attempt that has met a conflict: pauses; returns false if there were enough.
    pub(crate) fn go_on(&mut self) -> bool {
        self.failed += 1;
        if self.failed >= ATTEMPTS {
            return false;
        }
        if !self.is_alone() {
            let longest = PAUSE_MIN.saturating_mul(1 << self.failed.min(16)).min(PAUSE_MAX);
            let share = u32::try_from(self.random.hash_one(self.failed) % 1024).unwrap_or(0);
            std::thread::sleep(longest / 1024 * share);
        }
        true
    }
}
