//! Which flushes and compactions are under way.

use std::sync::Arc;

use super::background::WAIT_STEP;
use super::health::Health;
use super::job::{Begun, Job};
use crate::error::Result;
use crate::sys::{Condvar, LockRank, Mutex, MutexGuard};
use crate::version::{Plan, Running};

/// One flush at a time, and several compactions, where they do not touch each other.
#[derive(Debug)]
pub(crate) struct Scheduler {
    flushing: Mutex<()>,
    compactions: Mutex<Compactions>,
    /// A compaction has ended, or other work.
    ended: Condvar,
}

/// The right to flush: one flush after the other, so that tables of level 0 come in the order of the log.
pub(super) struct Flushing<'s> {
    _held: MutexGuard<'s, ()>,
}

/// The right to begin compactions, or to keep them from it: none begins or is installed meanwhile. The manifest may be changed
/// under it, and nothing else be carried out.
pub(super) type Standstill<'s> = MutexGuard<'s, Compactions>;

#[derive(Debug, Default)]
pub(super) struct Compactions {
    running: Running,
    /// Those that other threads may help with.
    jobs: Vec<Arc<Job>>,
    /// Callers with a plan that has to wait for others; nothing new begins before theirs.
    pub(super) waiting: usize,
    /// Others at work in the directory: compactions whose inputs are being removed, loads.
    others: usize,
}

impl Compactions {
    pub(super) fn running(&self) -> &Running {
        &self.running
    }

    /// Begins a plan that may run beside those.
    pub(super) fn begin(&mut self, plan: Plan) -> Begun {
        let plan = Arc::new(plan);
        Begun { number: self.running.begin(&plan), plan }
    }

    fn are_done(&self) -> bool {
        self.running.is_empty() && self.others == 0
    }
}

/// Makes whoever wants to give the directory up wait.
pub(super) struct AtWork<'s>(&'s Scheduler);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut compactions = self.0.compactions.lock();
        debug_assert!(compactions.others > 0, "work that ends has begun");
        compactions.others -= 1;
        drop(compactions);
        self.0.ended.notify_all();
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            flushing: Mutex::new(LockRank::Flushing, ()),
            compactions: Mutex::new(LockRank::Compactions, Compactions::default()),
            ended: Condvar::default(),
        }
    }
}

impl Scheduler {
    /// Waits for whoever flushes now.
    pub(super) fn flushing(&self) -> Flushing<'_> {
        Flushing { _held: self.flushing.lock() }
    }

    /// None if somebody flushes now.
    pub(super) fn try_flushing(&self) -> Option<Flushing<'_>> {
        self.flushing.try_lock().map(|held| Flushing { _held: held })
    }

    /// Whether a flush or a compaction is under way.
    pub(super) fn is_working(&self) -> bool {
        !self.compactions.lock().are_done() || self.flushing.is_locked()
    }

    /// Keeps compactions from beginning.
    pub(super) fn stand_still(&self) -> Standstill<'_> {
        self.compactions.lock()
    }

    /// Waits until a compaction has ended, or a moment.
    pub(super) fn wait_for_end(&self, standstill: &mut Standstill<'_>) {
        self.ended.wait_for(standstill, WAIT_STEP);
    }

    /// Waits until no compaction is under way; for those who have cancelled them and keep new ones from beginning.
    pub(super) fn wait_until_done(&self) {
        let mut compactions = self.compactions.lock();
        while !compactions.are_done() {
            self.wait_for_end(&mut compactions);
        }
    }

    /// The compactions under way.
    pub(crate) fn plans(&self) -> Vec<Arc<Plan>> {
        self.compactions.lock().running.plans().map(Arc::clone).collect()
    }

    /// A compaction under way that has something left to help with.
    pub(super) fn unfinished(&self) -> Option<Arc<Job>> {
        self.compactions.lock().jobs.iter().find(|job| job.has_some_left()).map(Arc::clone)
    }

    /// Lets other threads help with a compaction under way.
    pub(super) fn enlist(&self, job: &Arc<Job>) {
        self.compactions.lock().jobs.push(Arc::clone(job));
    }

    /// Takes a plan off the list of those under way. Until the result is dropped, this still counts as work in the directory.
    pub(super) fn end(&self, begun: u64) -> AtWork<'_> {
        let mut compactions = self.compactions.lock();
        compactions.jobs.retain(|job| job.begun.number != begun);
        compactions.running.end(begun);
        compactions.others += 1;
        drop(compactions);
        AtWork(self)
    }

    /// Begins work on files of the directory, unless it is being given up.
    pub(super) fn begin_work(&self, health: &Health) -> Result<AtWork<'_>> {
        let mut compactions = self.compactions.lock();
        health.check_going_on()?;
        compactions.others += 1;
        Ok(AtWork(self))
    }
}
