//! The life of a background thread: what it does, in which order, and what wakes it.

use std::sync::Arc;
use std::time::Duration;

use super::background::{Awake, Work};
use super::maintenance::Maintenance;
use crate::error::{Error, Result};
use crate::format::Position;
use crate::sys::now;

/// Without a commit for this long, the log is synced and marked.
const IDLE: Duration = Duration::from_millis(100);

/// Without one for this long, the store settles: see [`Limits::calm`](crate::version::Limits::calm).
const CALM: Duration = Duration::from_secs(1);

/// While readers keep files that are no part of the database any more, or versions that only they see, a thread with nothing to
/// do looks this often whether they have ended. Their end wakes nobody: most of them keep nothing, and many end in a second.
const KEPT: Duration = Duration::from_secs(1);

/// A thread that waits for the log to be idle looks no more often than this.
const LOOK_MIN: Duration = Duration::from_millis(5);

impl Maintenance {
    pub(crate) fn start_threads(self: &Arc<Self>) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        if self.options.background_threads > 0 {
            let background = Arc::downgrade(&self.background);
            self.readers.learned.cost.when_due(move || {
                if let Some(background) = background.upgrade() {
                    background.wake();
                }
            });
        }
        for number in 0..self.options.background_threads {
            let maintenance = Arc::clone(self);
            let thread = std::thread::Builder::new().name(format!("maplsm-{number}")).spawn(move || maintenance.run());
            let thread = thread.map_err(|e| Error::io("start a thread for", self.files.path(), e))?;
            self.background.add_thread(thread);
        }
        Ok(())
    }

    /// The life of a background thread.
    fn run(&self) {
        // The end of the log, and since when it has been that.
        let mut quiet = (Position::default(), now());
        loop {
            let seen = self.background.wakes();
            let end = self.log.end();
            if quiet.0 != end {
                quiet = (end, now());
            }
            let still = now().saturating_sub(quiet.1);
            let calm = self.background.is_settling() || still >= CALM;
            let worked = self.health.watched(|| self.step_in_turn(calm)) == Some(Work::Done);

            // A commit that this look at the log misses sees that the thread sleeps, and wakes it: both take the writer. If
            // there is something to mark, the thread looks again by itself, and no commit has to wake it until then.
            self.background.set_asleep(true);
            let unmarked = self.log.unmarked(&self.health);
            if unmarked.is_some() {
                self.background.set_asleep(false);
            }
            if !worked && unmarked == Some(quiet.0) && still >= IDLE {
                let marked = self.health.watched(|| self.syncer.mark_idle(quiet.0));
                if marked.is_some_and(|marked| marked.is_ok()) {
                    continue;
                }
            }
            let look_at = if unmarked.is_some() { Some(IDLE) } else { (still < CALM).then_some(CALM) };
            let look_in = look_at.map(|at| at.saturating_sub(still).max(LOOK_MIN));
            let wait = if worked {
                Some(Duration::ZERO)
            } else {
                let kept = (self.files.has_obsolete() || self.compactor.is_kept_by_readers()).then_some(KEPT);
                [look_in, self.background.retry_in(), self.reserve.look_after_in(), kept].into_iter().flatten().min()
            };
            if self.background.sleep(seen, wait) == Awake::Stops || self.health.is_poisoned() {
                return;
            }
        }
    }
}
