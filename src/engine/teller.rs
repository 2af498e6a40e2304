//! Who syncs what was submitted, and who tells of it.
//!
//! The thread that syncs does nothing else, and neither does the one that tells: a callback that takes its time delays other
//! callbacks and nothing besides. Both begin with the first commit that needs them. A store without background threads has
//! neither: there, whoever is called to sync tells as well, once it holds no lock.
//!
//! Durable commits a second (`cargo bench --bench limits -- submitted 100000`, medians of five, 2 cores): one thread that waits
//! for each 5,700, eight of them 18,200, one thread with 64 on their way 133,000.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::callback::Callback;
use super::commits::{Commits, Life, Registered, Told};
use super::files::Files;
use super::health::Health;
use super::log::LogEnd;
use super::sync::Syncer;
use crate::error::{Error, Result};
use crate::format::Position;
use crate::options::Options;

pub(crate) struct Teller {
    pub(super) options: Arc<Options>,
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) log: Arc<LogEnd>,
    pub(super) commits: Arc<Commits>,
    pub(super) syncer: Arc<Syncer>,
}

impl Teller {
    /// Begins the threads that sync what is submitted, and tell of it, before anything is.
    pub(crate) fn start(self: &Arc<Self>) -> Result<()> {
        if !self.has_threads() {
            return Ok(());
        }
        self.commits.start(|life| {
            let teller = Arc::clone(self);
            let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
            let thread = match life {
                Life::Syncs => named("maplsm-sync").spawn(move || teller.sync_submitted()),
                Life::Tells => named("maplsm-tell").spawn(move || teller.tell_in_turn()),
            };
            thread.map_err(|e| Error::io("start a thread for", self.files.path(), e))
        })
    }

    /// Whether threads sync what is submitted, and tell of it.
    pub(crate) fn has_threads(&self) -> bool {
        self.options.background_threads > 0
    }

    /// Makes everything committed so far durable, for who asks for it and nothing else.
    pub(crate) fn sync(&self) -> Result<()> {
        self.health.check_not_telling("sync")?;
        let synced = self.syncer.sync();
        self.tell_here();
        synced
    }

    /// Makes what was submitted durable, and tells of it, on this thread, if there is no other one for that.
    pub(super) fn drive(&self) -> Result<()> {
        let synced = if self.commits.are_behind() { self.syncer.sync() } else { Ok(()) };
        self.tell_here();
        synced
    }

    /// Has what is committed up to there synced soon.
    pub(crate) fn want(&self, end: Position) {
        self.commits.want(end);
    }

    /// The life of the thread that syncs.
    pub(super) fn sync_submitted(&self) {
        while self.commits.wait_for_work() {
            // A panic poisons the store, which tells everybody. A close syncs what it finds.
            match self.health.watched(|| self.syncer.sync_to(self.log.end())) {
                Some(Err(e)) if !self.commits.is_closing() => self.commits.fail(&e),
                _ => {}
            }
        }
    }

    /// The life of the thread that tells.
    pub(super) fn tell_in_turn(&self) {
        self.tell_all(true);
    }

    /// Tells whoever can be told by now, on this thread, if there is no thread for that, and nobody else does it at the moment.
    pub(super) fn tell_here(&self) {
        if !self.has_threads() || self.commits.is_over() {
            self.tell_all(false);
        }
    }

    fn tell_all(&self, waits: bool) {
        let mut goes_on = false;
        while let Some((told, outcome)) = self.commits.next(goes_on, waits) {
            goes_on = true;
            self.tell(told, outcome);
        }
    }

    /// A panic of the callback ends the callback and nothing else.
    fn tell(&self, told: Told, outcome: Result<()>) {
        let _within = self.health.enter(Callback::Durable);
        let _ = catch_unwind(AssertUnwindSafe(|| match told {
            Told::Callback(callback) => callback(outcome),
            Told::Task(waker) => waker.wake(),
        }));
    }

    /// What has become of the commit that ends there, once that is known.
    pub(crate) fn outcome_of(&self, end: Position) -> Option<Result<()>> {
        // A forked child must not wait for a lock that a thread of its parent had.
        if self.health.is_forked() { Some(Err(Error::Closed)) } else { self.commits.outcome(end) }
    }

    /// Calls back once with what has become of the commit that ends there.
    pub(crate) fn call_back(&self, end: Position, callback: Box<dyn FnOnce(Result<()>) + Send>) {
        if self.health.is_forked() {
            return callback(Err(Error::Closed));
        }
        self.commits.register(end, Told::Callback(callback));
        self.tell_here();
    }

    /// What has become of the commit that ends there; if that is not known, the task is woken once it is.
    pub(crate) fn poll_outcome(
        &self,
        end: Position,
        waker: &Waker,
        registered: &mut Option<Registered>,
    ) -> Poll<Result<()>> {
        if self.health.is_forked() {
            return Poll::Ready(Err(Error::Closed));
        }
        self.commits.poll(end, waker, registered)
    }

    /// Wakes nobody any more who is registered there.
    pub(crate) fn forget_task(&self, registered: Registered) {
        if !self.health.is_forked() {
            self.commits.forget(registered);
        }
    }

    /// Waits until the commit that ends there is durable.
    pub(crate) fn wait_until_durable(&self, end: Position) -> Result<()> {
        self.health.check_not_telling("wait")?;
        if let Some(outcome) = self.outcome_of(end) {
            return outcome;
        }
        let synced = self.syncer.sync_to(end);
        self.tell_here();
        // A close that came between has made it durable, or says why not.
        synced.or_else(|e| self.commits.outcome(end).unwrap_or(Err(e)))
    }

    /// The last part of a close: everybody has been told when this returns.
    pub(super) fn end(&self) {
        self.tell_here();
        self.commits.wait_until_told();
        for thread in self.commits.take_threads() {
            // Whoever drops the last handle in a task that is woken must not wait for himself.
            if thread.thread().id() != std::thread::current().id() {
                // It has caught every panic.
                let _ = thread.join();
            }
        }
    }
}
