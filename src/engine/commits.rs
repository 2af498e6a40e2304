//! Commits that have returned before they are durable, and who waits for them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::task::{Poll, Waker};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::format::Position;
use crate::sys::{Condvar, LockRank, Mutex};

/// How far the log is durable, as commits see it, and who waits for it to be so.
#[derive(Debug)]
pub(crate) struct Commits {
    state: Mutex<State>,
    /// There is something to sync, or the thread that syncs is to end.
    submitted: Condvar,
    /// There is somebody to tell, or nobody any more.
    told: Condvar,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            state: Mutex::new(LockRank::Commits, State::default()),
            submitted: Condvar::default(),
            told: Condvar::default(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Everything before this place of the log is on disk. Stays where it is after a failure: whoever has been told that his
    /// commit has failed must not find it durable later.
    durable: Option<Position>,
    /// Why nothing behind it becomes durable any more.
    failure: Option<Error>,
    /// The end of the newest commit that is to be synced without anybody who waits in a call.
    wanted: Option<Position>,
    /// In the order of their commits, and for one commit in that of their registration.
    waiting: BTreeMap<Registered, Told>,
    /// Those whose commit has come to its end, in the order in which they are told.
    ready: VecDeque<(Told, Result<()>)>,
    registrations: u64,
    /// Whether somebody tells them now.
    telling: bool,
    threads: Vec<JoinHandle<()>>,
    phase: Phase,
}

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Syncs,
    Tells,
}

/// What the threads are there for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    NotBegun,
    Runs,
    /// Nothing is synced any more but by the close.
    Closing,
    /// Nothing is going to change; who is told now is the last one.
    Over,
}

/// Where somebody who waits for a commit is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Registered {
    end: Position,
    number: u64,
}

/// Who is told of the end of a commit.
pub(super) enum Told {
    Callback(Box<dyn FnOnce(Result<()>) + Send>),
    Task(Waker),
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Callback(_) => "Callback",
            Self::Task(_) => "Task",
        })
    }
}

impl State {
    /// What has become of the commit that ends there, once that is known.
    fn outcome(&self, end: Position) -> Option<Result<()>> {
        if self.durable >= Some(end) { Some(Ok(())) } else { self.failure.clone().map(Err) }
    }

    /// Moves those who wait for what is durable now.
    fn release_durable(&mut self) {
        while let Some(first) = self.waiting.first_entry().filter(|first| Some(first.key().end) <= self.durable) {
            self.ready.push_back((first.remove(), Ok(())));
        }
    }
}

impl Commits {
    /// Everything before `end` is on disk.
    pub(super) fn set_durable(&self, end: Position) {
        let mut state = self.state.lock();
        if state.failure.is_some() || state.durable >= Some(end) {
            return;
        }
        state.durable = Some(end);
        state.release_durable();
        self.announce(&state);
    }

    /// What is not durable now will not be. Keeps the first cause.
    pub(super) fn fail(&self, cause: &Error) {
        let mut state = self.state.lock();
        if state.failure.is_none() {
            state.failure = Some(cause.clone());
            let lost = std::mem::take(&mut state.waiting);
            state.ready.extend(lost.into_values().map(|told| (told, Err(cause.clone()))));
        }
        self.submitted.notify_all();
        self.announce(&state);
    }

    fn announce(&self, state: &State) {
        if !state.ready.is_empty() {
            self.told.notify_all();
        }
    }

    /// What has become of the commit that ends there, once that is known.
    pub(super) fn outcome(&self, end: Position) -> Option<Result<()>> {
        self.state.lock().outcome(end)
    }

    /// Has the commit that ends there synced.
    pub(super) fn want(&self, end: Position) {
        let mut state = self.state.lock();
        if state.wanted < Some(end) {
            state.wanted = Some(end);
            if state.durable < Some(end) {
                self.submitted.notify_all();
            }
        }
    }

    /// Registers somebody who is told once of the end of a commit, or is about to be told if it is known.
    pub(super) fn register(&self, end: Position, told: Told) {
        let mut state = self.state.lock();
        state.registrations += 1;
        let registered = Registered { end, number: state.registrations };
        match state.outcome(end) {
            Some(outcome) => state.ready.push_back((told, outcome)),
            None => _ = state.waiting.insert(registered, told),
        }
        self.announce(&state);
    }

    /// What has become of the commit that ends there, or else has the task woken once that is known, instead of one that was
    /// registered before.
    pub(super) fn poll(&self, end: Position, waker: &Waker, registered: &mut Option<Registered>) -> Poll<Result<()>> {
        // A waker is somebody else's code: it is cloned before, and dropped after.
        let mut task = Some(Told::Task(waker.clone()));
        let mut state = self.state.lock();
        let before = registered.take().and_then(|before| state.waiting.remove(&before));
        let polled = state.outcome(end).map_or(Poll::Pending, Poll::Ready);
        if polled.is_pending() {
            state.registrations += 1;
            let at = Registered { end, number: state.registrations };
            state.waiting.extend(task.take().map(|task| (at, task)));
            *registered = Some(at);
        }
        drop(state);
        drop((before, task));
        polled
    }

    /// Forgets who was registered, if he has not been told.
    pub(super) fn forget(&self, registered: Registered) {
        let forgotten = self.state.lock().waiting.remove(&registered);
        drop(forgotten);
    }

    /// Whether something that was submitted is not known to be durable, though it may be in a table by now.
    pub(super) fn are_behind(&self) -> bool {
        let state = self.state.lock();
        state.failure.is_none() && state.durable < state.wanted
    }

    /// Waits until there is something to sync; false once that is not this thread's work any more.
    pub(super) fn wait_for_work(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.phase >= Phase::Closing || state.failure.is_some() {
                return false;
            }
            if state.durable < state.wanted {
                return true;
            }
            self.submitted.wait(&mut state);
        }
    }

    /// Somebody to tell, one after the other, whoever tells: `goes_on` says that the caller has told the one before. If there is
    /// nobody, or somebody else tells, this waits until that changes, if it is to; none once it will not.
    pub(super) fn next(&self, mut goes_on: bool, waits: bool) -> Option<(Told, Result<()>)> {
        let mut state = self.state.lock();
        loop {
            if goes_on || !state.telling {
                let next = state.ready.pop_front();
                state.telling = next.is_some();
                if next.is_some() {
                    return next;
                }
                if goes_on {
                    goes_on = false;
                    self.told.notify_all();
                }
            }
            if !waits || state.phase == Phase::Over {
                return None;
            }
            self.told.wait(&mut state);
        }
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state.lock();
        state.phase = state.phase.max(phase);
        drop(state);
        self.submitted.notify_all();
        self.told.notify_all();
    }

    /// From now on only the close syncs.
    pub(super) fn close(&self) {
        self.enter(Phase::Closing);
    }

    /// The run has ended like this: whoever has not been told is told now.
    pub(super) fn end(&self, ended: &Result<()>) {
        // After a good end, everything is durable.
        self.fail(ended.as_ref().err().unwrap_or(&Error::Closed));
        self.enter(Phase::Over);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state.lock().phase >= Phase::Closing
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.lock().phase == Phase::Over
    }

    pub(super) fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.state.lock().threads)
    }

    pub(super) fn wait_until_told(&self) {
        let mut state = self.state.lock();
        while state.telling || !state.ready.is_empty() {
            self.told.wait(&mut state);
        }
    }

    /// Has the threads begun, once. If one cannot begin, those before it stay, and the next call begins what is missing.
    pub(super) fn start(&self, begin: impl Fn(Life) -> Result<JoinHandle<()>>) -> Result<()> {
        let mut state = self.state.lock();
        if state.phase == Phase::NotBegun {
            for life in [Life::Syncs, Life::Tells].into_iter().skip(state.threads.len()) {
                state.threads.push(begin(life)?);
            }
            state.phase = Phase::Runs;
        }
        Ok(())
    }
}
