//! Work that goes on beside the callers: threads that flush, compact and mark the log as idle, and the pressure that makes
//! writers wait for them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Engine, View};
use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sys::{Condvar, Mutex};
use crate::version::pick;

/// Without a commit for this long, the log is synced and marked.
const IDLE: Duration = Duration::from_millis(100);

/// Frozen memtables from which on writers are slowed down, and at which they wait.
const FROZEN_SLOW: usize = 2;
const FROZEN_STOP: usize = 6;

/// Level-0 tables, as multiples of the number that starts a compaction, between which writers are slowed down more and more.
const LEVEL0_SLOW: usize = 3;
const LEVEL0_MOST: usize = 9;

/// The delay of one commit at the highest pressure below a stop.
const DELAY_MAX: Duration = Duration::from_millis(2);

/// Delays are collected until they are worth a sleep: shorter ones would oversleep.
const SLEEP_MIN: Duration = Duration::from_micros(250);

/// A writer that waits looks up this often.
const WAIT_STEP: Duration = Duration::from_millis(20);

/// Failures in a row after which writers that wait get the error.
const FAILURES_MAX: u32 = 5;
const BACKOFF_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Background {
    state: Mutex<State>,
    /// Something may have become possible: for threads that wait for work.
    work: Condvar,
    /// Something has been done: for those who wait for its effect.
    done: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Whether a thread waits, or is about to, without knowing of commits from now on.
    asleep: AtomicBool,
    /// Pressure in millionths; 0 is none, a million the most before a stop, and more a stop.
    pressure: AtomicU32,
    /// Delay that writers owe, in nanoseconds.
    owed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    /// Counts calls of `wake`, so that a thread notices one that came while it was busy.
    wakes: u64,
    /// Failures in a row, and the last one.
    failures: u32,
    last_failure: Option<Arc<Error>>,
}

impl Background {
    /// Tells threads and waiters to look again.
    pub(super) fn wake(&self) {
        self.state.lock().wakes += 1;
        self.work.notify_all();
        self.done.notify_all();
    }

    /// Ends the threads and waits for them.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_all();
        self.done.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A thread that drops the last handle must not wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }

    /// Waits for a wake after the `seen`-th one, but no longer than `longest`; answers whether to go on.
    fn sleep(&self, seen: u64, longest: Option<Duration>) -> bool {
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
        !state.stopping
    }

    fn backoff(&self) -> Duration {
        Duration::from_millis(5 << self.state.lock().failures.min(10)).min(BACKOFF_MAX)
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

    fn note(&self, outcome: &Result<bool>) {
        let mut state = self.state.lock();
        match outcome {
            Ok(_) => (state.failures, state.last_failure) = (0, None),
            Err(e) => {
                state.failures += 1;
                state.last_failure = Some(Arc::new(e.clone()));
            }
        }
        drop(state);
        self.done.notify_all();
    }

    /// The error of work that keeps failing.
    fn failure(&self) -> Result<()> {
        let state = self.state.lock();
        match &state.last_failure {
            Some(cause) if state.failures >= FAILURES_MAX => Err(Error::Background(Arc::clone(cause))),
            _ => Ok(()),
        }
    }

    /// How hard writers are slowed down: 0 not at all, 1 as much as before a stop, more: they wait.
    pub(crate) fn pressure(&self) -> f64 {
        f64::from(self.pressure.load(Ordering::Relaxed)) / 1e6
    }
}

impl Engine {
    pub(crate) fn start_threads(self: &Arc<Self>) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        for number in 0..self.options.background_threads {
            let engine = Arc::clone(self);
            let thread = std::thread::Builder::new().name(format!("maplsm-{number}")).spawn(move || engine.run());
            let thread = thread.map_err(|e| Error::io("start a thread for", self.dir.path(), e))?;
            self.background.threads.lock().push(thread);
        }
        Ok(())
    }

    /// The life of a background thread.
    fn run(&self) {
        let mut quiet = None;
        loop {
            let seen = self.background.state.lock().wakes;
            let outcome = catch_unwind(AssertUnwindSafe(|| self.step())).unwrap_or_else(|_| {
                let panicked = std::io::Error::other("it panicked");
                Err(self.poison(Error::io("do background work in", self.dir.path(), panicked)))
            });
            self.background.note(&outcome);

            // A commit that this look at the log misses sees that the thread sleeps, and wakes it: both take lock 2.
            self.background.asleep.store(true, Ordering::SeqCst);
            let unmarked = self.has_unmarked();
            if let (Ok(false), Some(end)) = (&outcome, unmarked)
                && quiet == unmarked
            {
                quiet = None;
                self.background.note(&self.mark_idle(end).map(|()| true));
                continue;
            }
            quiet = unmarked;
            let wait = match outcome {
                Ok(true) => Some(Duration::ZERO),
                Ok(false) => unmarked.map(|_| IDLE),
                Err(_) => Some(self.background.backoff()),
            };
            if !self.background.sleep(seen, wait) || self.poison.get().is_some() {
                return;
            }
        }
    }

    /// Does one piece of work; answers whether there was one. A flush comes before a compaction.
    fn step(&self) -> Result<bool> {
        self.purge();
        self.restore_indexes();
        if self.flush_wanted(&self.view()) {
            return self.flush_oldest();
        }
        // Another thread may be at it; this one then has nothing to do.
        if self.compacting.is_locked() {
            return Ok(false);
        }
        self.compact_next()
    }

    /// Whether `step` would find work.
    fn has_work(&self) -> bool {
        let view = self.view();
        self.flush_wanted(&view) || pick(&view.version, &self.limits()).is_some()
    }

    /// Does all work that is due, on this thread.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.check_writable()?;
        while self.step()? {}
        match self.has_unmarked() {
            Some(end) => self.mark_idle(end),
            None => Ok(()),
        }
    }

    /// Waits until no flush and no compaction is due; does them itself if there are no threads.
    pub(crate) fn wait_for_background(&self) -> Result<()> {
        self.check_writable()?;
        if self.options.background_threads == 0 {
            while self.step()? {}
            return Ok(());
        }
        while self.has_work() || self.compacting.is_locked() || self.flushing.is_locked() {
            self.check_writable()?;
            self.background.failure()?;
            let mut state = self.background.state.lock();
            self.background.done.wait_for(&mut state, WAIT_STEP);
        }
        Ok(())
    }

    /// Recomputes the pressure for a new view.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn update_pressure(&self, view: &View) {
        let frozen = view.frozen().len();
        let tables = view.version.level0_len();
        let slow = |n: usize, from: usize, to: usize| n.saturating_sub(from) as f64 / (to - from) as f64;
        let unit = self.options.l0_tables;
        let by_tables = slow(tables, LEVEL0_SLOW * unit, LEVEL0_MOST * unit).min(1.0);
        let by_frozen = slow(frozen, FROZEN_SLOW, FROZEN_STOP).min(1.0);
        let stop = if frozen > FROZEN_STOP { 1.0 } else { 0.0 };
        let pressure = by_tables.max(by_frozen) + stop;
        self.background.pressure.store((pressure * 1e6) as u32, Ordering::Relaxed);
    }

    /// Slows a writer down in proportion to the debt of flushes and compactions, so that it never has to stop for long.
    #[inline]
    pub(super) fn wait_for_room(&self) -> Result<()> {
        if self.background.pressure.load(Ordering::Relaxed) == 0 { Ok(()) } else { self.delay() }
    }

    #[cold]
    fn delay(&self) -> Result<()> {
        if self.options.background_threads == 0 {
            return self.step().map(|_| ());
        }
        while self.background.pressure() > 1.0 {
            self.check_writable()?;
            self.background.failure()?;
            let mut state = self.background.state.lock();
            self.background.done.wait_for(&mut state, WAIT_STEP);
        }
        let share = self.background.pressure().powi(2);
        let delay = u64::try_from(DELAY_MAX.mul_f64(share).as_nanos()).unwrap_or(0);
        let owed = self.background.owed.fetch_add(delay, Ordering::Relaxed) + delay;
        if Duration::from_nanos(owed) >= SLEEP_MIN {
            std::thread::sleep(Duration::from_nanos(self.background.owed.swap(0, Ordering::Relaxed)));
        }
        Ok(())
    }
}
