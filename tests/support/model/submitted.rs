//! Commits that were submitted, and what was heard of them.

use std::sync::{Arc, Mutex, PoisonError};

use super::history::History;

/// Which commit, and what its callback was told.
type CalledBack = (u64, maplsm::Result<()>);

/// Those of one open of the database.
#[derive(Default)]
pub(super) struct Submitted {
    /// Each with its number in the history; those that nobody waits for are dropped.
    commits: Vec<(u64, maplsm::Commit)>,
    called_back: Arc<Mutex<Vec<CalledBack>>>,
    asked: usize,
    heard: usize,
    last: u64,
}

impl Submitted {
    pub(super) fn add(&mut self, number: u64, commit: maplsm::Commit) {
        let called_back = Arc::clone(&self.called_back);
        commit.on_durable(move |outcome| {
            called_back.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
        });
        self.asked += 1;
        if !number.is_multiple_of(3) {
            super::driver::put(&mut self.commits, (number, commit), 4);
        }
    }

    /// One that somebody waits for.
    pub(super) fn take(&mut self, slot: usize) -> Option<(u64, maplsm::Commit)> {
        (slot < self.commits.len()).then(|| self.commits.swap_remove(slot))
    }

    /// Takes down what was heard: callbacks come in order, and what they say to be durable is.
    pub(super) fn hear(&mut self, history: &mut History) {
        for (number, outcome) in self.called_back.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            assert!(number > self.last, "commit {number} is called back behind {}", self.last);
            self.last = number;
            self.heard += 1;
            if outcome.is_ok() {
                history.synced_through(number);
            }
        }
    }

    /// Everybody has been called back by now.
    pub(super) fn check_all_heard(&self) {
        assert_eq!(self.heard, self.asked, "commits whose callback has been called, and that were submitted");
    }
}
