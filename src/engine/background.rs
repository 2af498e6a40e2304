//! Threads that flush, compact and mark the log as idle.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::Engine;
use crate::error::{Error, Result};
use crate::format::Position;
use crate::sys::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sys::{Condvar, LockRank, Mutex, now};
use crate::version::{Limits, Running, pick};

/// Without a commit for this long, the log is synced and marked.
const IDLE: Duration = Duration::from_millis(100);

/// Without one for this long, the store settles: see [`Limits::calm`](crate::version::Limits::calm).
const CALM: Duration = Duration::from_secs(1);

/// While readers keep files that are no part of the database any more, or versions that only they see, a thread with nothing to
/// do looks this often whether they have ended. Their end wakes nobody: most of them keep nothing, and many end in a second.
const KEPT: Duration = Duration::from_secs(1);

/// A thread that waits for the log to be idle looks no more often than this.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// Those who wait for work of others look up this often.
pub(super) const WAIT_STEP: Duration = Duration::from_millis(20);

/// Failures in a row after which writers with debt get the error.
const FAILURES_MAX: u32 = 5;
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Background {
    state: Mutex<State>,
    /// Something may have become possible: for threads that wait for work.
    work: Condvar,
    /// Something has been done: for those who wait for its effect.
    done: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Whether a thread waits, or is about to, and none looks at the log in a moment, whatever is committed from now on.
    asleep: AtomicBool,
    /// Callers that wait until nothing is left to do.
    settling: AtomicUsize,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            state: Mutex::new(LockRank::Background, State::default()),
            work: Condvar::default(),
            done: Condvar::default(),
            threads: Mutex::new(LockRank::Threads, Vec::new()),
            asleep: AtomicBool::new(false),
            settling: AtomicUsize::new(0),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    /// Counts calls of `wake`, so that a thread notices one that came while it was busy.
    wakes: u64,
    flush: Streak,
    compaction: Streak,
}

/// Failures in a row of one kind of work.
#[derive(Debug, Default)]
struct Streak {
    failures: u32,
    last: Option<Arc<Error>>,
    /// Not to be tried again before this moment.
    retry_at: Duration,
}

impl Streak {
    /// Whether it has failed so often that it counts as failing until it succeeds.
    fn is_failing(&self) -> bool {
        self.failures >= FAILURES_MAX
    }
}

/// How often each duty has failed in a row.
#[derive(Debug, Default, Clone, Copy)]
struct Failures {
    flush: u32,
    compaction: u32,
}

/// What a look for work has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// A piece of it has been done, and there may be more.
    Done,
    NoneDue,
}

/// Whether a thread that has slept is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awake {
    GoesOn,
    Stops,
}

/// Kinds of work that fail, and recover, on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Flush,
    Compaction,
}

impl State {
    fn streak(&mut self, duty: Duty) -> &mut Streak {
        match duty {
            Duty::Flush => &mut self.flush,
            Duty::Compaction => &mut self.compaction,
        }
    }
}

impl Background {
    /// Tells threads and waiters to look again.
    pub(super) fn wake(&self) {
        self.state.lock().wakes += 1;
        self.work.notify_all();
        self.done.notify_all();
    }

    /// Tells the threads to end.
    pub(super) fn ask_to_stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_all();
        self.done.notify_all();
    }

    /// Ends the threads and waits for them.
    pub(super) fn stop(&self) {
        self.ask_to_stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A thread that drops the last handle must not wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }

    /// Waits for a wake after the `seen`-th one, but no longer than `longest`.
    fn sleep(&self, seen: u64, longest: Option<Duration>) -> Awake {
        let mut state = self.state.lock();
        if !state.stopping && state.wakes == seen {
            match longest {
                Some(Duration::ZERO) => {}
                Some(longest) => {
                    self.work.wait_for(&mut state, longest);
                }
                None => self.work.wait(&mut state),
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
        if state.stopping { Awake::Stops } else { Awake::GoesOn }
    }

    /// Waits until something has been done, or for `longest`.
    pub(super) fn wait_for_progress(&self, longest: Duration) {
        let mut state = self.state.lock();
        self.done.wait_for(&mut state, longest);
    }

    /// Called after each commit: makes sure that somebody will mark the log as idle.
    #[inline]
    pub(super) fn committed(&self) {
        if self.asleep.load(Ordering::Relaxed) {
            self.rouse();
        }
    }

    #[cold]
    fn rouse(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.wake();
    }

    /// Notes that a background thread has failed at something.
    fn note_failure(&self, duty: Duty, cause: &Error) {
        let mut state = self.state.lock();
        let streak = state.streak(duty);
        streak.failures += 1;
        streak.last = Some(Arc::new(cause.clone()));
        streak.retry_at = now() + (BACKOFF_MIN * (1 << streak.failures.min(8))).min(BACKOFF_MAX);
        drop(state);
        self.done.notify_all();
    }

    /// Notes that something has been done, on whichever thread: what kept it from being done has ended.
    pub(super) fn note_success(&self, duty: Duty) {
        *self.state.lock().streak(duty) = Streak::default();
        self.done.notify_all();
    }

    /// Has what failed tried again now. Returns how often each duty had failed.
    fn try_again(&self) -> Failures {
        let mut state = self.state.lock();
        state.flush.retry_at = Duration::ZERO;
        state.compaction.retry_at = Duration::ZERO;
        Failures { flush: state.flush.failures, compaction: state.compaction.failures }
    }

    /// Whether a thread is going to try, or to try again.
    fn will_try(&self, duty: Duty) -> bool {
        !self.state.lock().streak(duty).is_failing()
    }

    /// Whether work that failed may be tried again.
    fn may_try(&self, duty: Duty) -> bool {
        let mut state = self.state.lock();
        let streak = state.streak(duty);
        streak.failures == 0 || streak.retry_at <= now()
    }

    /// How long until work that failed is tried again.
    fn retry_in(&self) -> Option<Duration> {
        let state = self.state.lock();
        let failing = [&state.flush, &state.compaction].into_iter().filter(|streak| streak.failures > 0);
        failing.map(|streak| streak.retry_at.saturating_sub(now())).min()
    }

    /// The error of work that keeps failing.
    pub(super) fn failure(&self) -> Result<()> {
        self.failure_since(Failures::default())
    }

    /// The error of work that keeps failing and has failed since.
    fn failure_since(&self, before: Failures) -> Result<()> {
        let state = self.state.lock();
        for (streak, before) in [(&state.flush, before.flush), (&state.compaction, before.compaction)] {
            if let Some(cause) = streak.last.as_ref().filter(|_| streak.is_failing() && streak.failures != before) {
                return Err(Error::Background(Arc::clone(cause)));
            }
        }
        Ok(())
    }
}

impl Engine {
    pub(crate) fn start_threads(self: &Arc<Self>) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        if self.options.background_threads > 0 {
            let engine = Arc::downgrade(self);
            self.readers.learned.cost.when_due(move || {
                if let Some(engine) = engine.upgrade() {
                    engine.background.wake();
                }
            });
        }
        for number in 0..self.options.background_threads {
            let engine = Arc::clone(self);
            let thread = std::thread::Builder::new().name(format!("maplsm-{number}")).spawn(move || engine.run());
            let thread = thread.map_err(|e| Error::io("start a thread for", self.files.path(), e))?;
            self.background.threads.lock().push(thread);
        }
        Ok(())
    }

    /// The life of a background thread.
    fn run(&self) {
        // The end of the log, and since when it has been that.
        let mut quiet = (Position::default(), now());
        loop {
            let seen = self.background.state.lock().wakes;
            let end = self.log.end();
            if quiet.0 != end {
                quiet = (end, now());
            }
            let still = now().saturating_sub(quiet.1);
            let calm = self.background.settling.load(Ordering::SeqCst) > 0 || still >= CALM;
            let worked = self.health.watched(|| self.step_in_turn(calm)) == Some(Work::Done);

            // A commit that this look at the log misses sees that the thread sleeps, and wakes it: both take the writer. If
            // there is something to mark, the thread looks again by itself, and no commit has to wake it until then.
            self.background.asleep.store(true, Ordering::SeqCst);
            let unmarked = self.log.unmarked(&self.health);
            if unmarked.is_some() {
                self.background.asleep.store(false, Ordering::SeqCst);
            }
            if !worked && unmarked == Some(quiet.0) && still >= IDLE {
                let marked = self.health.watched(|| self.mark_idle(quiet.0));
                if marked.is_some_and(|marked| marked.is_ok()) {
                    continue;
                }
            }
            let look_at = if unmarked.is_some() { Some(IDLE) } else { (still < CALM).then_some(CALM) };
            let look_in = look_at.map(|at| at.saturating_sub(still).max(LOOK_MIN));
            let wait = if worked {
                Some(Duration::ZERO)
            } else {
                let kept = self.is_something_kept().then_some(KEPT);
                [look_in, self.background.retry_in(), self.reserve.look_after_in(), kept].into_iter().flatten().min()
            };
            if self.background.sleep(seen, wait) == Awake::Stops || self.health.is_poisoned() {
                return;
            }
        }
    }

    /// Whether readers keep something that would go without them.
    fn is_something_kept(&self) -> bool {
        let is_due = || {
            let version = self.readers.version();
            let without_readers = Limits { seen_by_all: self.readers.visible(), ..self.limits(true) };
            pick(&version, &without_readers, &Running::default()).is_some()
        };
        self.files.has_obsolete() || !self.readers.registry().is_empty() && is_due()
    }

    /// Does what is due besides flushes and compactions.
    fn keep_house(&self) {
        self.files.purge(&self.readers);
        self.relieve();
        self.refill_reserve();
        self.files.restore_indexes(&self.readers.version(), &self.health);
    }

    /// Does one piece of work that is due and has not just failed. A flush comes before a compaction, and neither keeps the
    /// other from being tried.
    fn step_in_turn(&self, calm: bool) -> Work {
        self.keep_house();
        if let Ok(Work::Done) = self.flush_in_turn() {
            return Work::Done;
        }
        if !self.background.may_try(Duty::Compaction) {
            return Work::NoneDue;
        }
        let compacted = self.compact_next(calm).inspect_err(|e| self.background.note_failure(Duty::Compaction, e));
        compacted.unwrap_or(Work::NoneDue)
    }

    /// Flushes if that is due and has not just failed.
    pub(super) fn flush_in_turn(&self) -> Result<Work> {
        if !self.background.may_try(Duty::Flush) {
            return Ok(Work::NoneDue);
        }
        self.flush_if_due().inspect_err(|e| self.background.note_failure(Duty::Flush, e))
    }

    /// Does one piece of work on the caller's thread.
    pub(super) fn step(&self, calm: bool) -> Result<Work> {
        self.keep_house();
        match self.flush_if_due()? {
            Work::Done => Ok(Work::Done),
            Work::NoneDue => self.compact_next(calm),
        }
    }

    /// Does all work that is due, on this thread.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.health.check_writable()?;
        self.check_not_within("maintain")?;
        while self.step(true)? == Work::Done {}
        match self.log.unmarked(&self.health) {
            Some(end) => self.mark_idle(end),
            None => self.health.check_intact(),
        }
    }

    /// Waits until no flush and no compaction is due; does them itself if there are no threads. What has failed is tried again
    /// at once, and is an error if it keeps failing.
    pub(crate) fn wait_for_background(&self) -> Result<()> {
        self.health.check_writable()?;
        self.check_not_within("wait_for_background")?;
        if self.options.background_threads == 0 {
            while self.step(true)? == Work::Done {}
            return self.health.check_intact();
        }
        self.background.settling.fetch_add(1, Ordering::SeqCst);
        let before = self.background.try_again();
        self.background.wake();
        let settled = self.wait_until_settled(before);
        self.background.settling.fetch_sub(1, Ordering::SeqCst);
        settled
    }

    /// Whether a flush or a compaction is under way, or a thread will begin one that is due.
    pub(super) fn is_at_work(&self) -> bool {
        let comes = |duty, wanted: &dyn Fn() -> bool| self.background.will_try(duty) && wanted();
        self.scheduler.is_working()
            || self.options.background_threads > 0
                && (comes(Duty::Flush, &|| self.flush_wanted(&self.readers.read_state()))
                    || comes(Duty::Compaction, &|| self.compaction_wanted(false)))
    }

    fn wait_until_settled(&self, before: Failures) -> Result<()> {
        while self.scheduler.is_working()
            || self.flush_wanted(&self.readers.read_state())
            || self.compaction_wanted(true)
        {
            self.health.check_writable()?;
            self.background.failure_since(before)?;
            self.background.wait_for_progress(WAIT_STEP);
        }
        self.health.check_intact()
    }
}
