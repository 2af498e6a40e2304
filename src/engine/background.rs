//! The state of the background: what wakes its threads, what they have failed at, and who waits for them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sys::{Condvar, LockRank, Mutex, now};

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
pub(super) struct Failures {
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
pub(super) enum Awake {
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

    /// How often somebody has called [`wake`](Self::wake).
    pub(super) fn wakes(&self) -> u64 {
        self.state.lock().wakes
    }

    /// Adds a thread, to be waited for by [`stop`](Self::stop).
    pub(super) fn add_thread(&self, thread: JoinHandle<()>) {
        self.threads.lock().push(thread);
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
    pub(super) fn sleep(&self, seen: u64, longest: Option<Duration>) -> Awake {
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

    /// A thread is about to sleep, or looks at the log by itself in a moment.
    pub(super) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::SeqCst);
    }

    /// Whether somebody waits until nothing is left to do.
    pub(super) fn is_settling(&self) -> bool {
        self.settling.load(Ordering::SeqCst) > 0
    }

    /// Somebody begins to wait for that, until the result is dropped.
    pub(super) fn begin_settling(&self) -> Settling<'_> {
        self.settling.fetch_add(1, Ordering::SeqCst);
        Settling(self)
    }

    #[cold]
    fn rouse(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.wake();
    }

    /// Notes that a background thread has failed at something.
    pub(super) fn note_failure(&self, duty: Duty, cause: &Error) {
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
    pub(super) fn try_again(&self) -> Failures {
        let mut state = self.state.lock();
        state.flush.retry_at = Duration::ZERO;
        state.compaction.retry_at = Duration::ZERO;
        Failures { flush: state.flush.failures, compaction: state.compaction.failures }
    }

    /// Whether a thread is going to try, or to try again.
    pub(super) fn will_try(&self, duty: Duty) -> bool {
        !self.state.lock().streak(duty).is_failing()
    }

    /// Whether work that failed may be tried again.
    pub(super) fn may_try(&self, duty: Duty) -> bool {
        let mut state = self.state.lock();
        let streak = state.streak(duty);
        streak.failures == 0 || streak.retry_at <= now()
    }

    /// How long until work that failed is tried again.
    pub(super) fn retry_in(&self) -> Option<Duration> {
        let state = self.state.lock();
        let failing = [&state.flush, &state.compaction].into_iter().filter(|streak| streak.failures > 0);
        failing.map(|streak| streak.retry_at.saturating_sub(now())).min()
    }

    /// The error of work that keeps failing.
    pub(super) fn failure(&self) -> Result<()> {
        self.failure_since(Failures::default())
    }

    /// The error of work that keeps failing and has failed since.
    pub(super) fn failure_since(&self, before: Failures) -> Result<()> {
        let state = self.state.lock();
        for (streak, before) in [(&state.flush, before.flush), (&state.compaction, before.compaction)] {
            if let Some(cause) = streak.last.as_ref().filter(|_| streak.is_failing() && streak.failures != before) {
                return Err(Error::Background(Arc::clone(cause)));
            }
        }
        Ok(())
    }
}

/// Somebody waits until nothing is left to do.
pub(super) struct Settling<'b>(&'b Background);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.0.settling.fetch_sub(1, Ordering::SeqCst);
    }
}
