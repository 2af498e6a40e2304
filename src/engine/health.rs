//! Whether the store goes on: whether it is open, and known to be what it has acknowledged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::background::Background;
use super::commits::Commits;
use super::events::Events;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::sys::{Flag, Mappings, OnceLock};
use crate::version::Unrecorded;

/// It only ever gets worse: what is closed, cancelled or poisoned stays so until the next open.
pub(crate) struct Health {
    /// Of the directory, for errors.
    path: PathBuf,
    read_only: bool,
    /// Down once the store is closed, and in a forked child.
    open: Flag,
    /// The first failure that makes further writes unsafe.
    poison: OnceLock<Arc<Error>>,
    /// Asks long work to stop.
    cancelled: Arc<AtomicBool>,
    mappings: Mappings,
    /// Whoever waits for work is told when it will not come.
    background: Arc<Background>,
    /// Whoever waits for a commit to be durable as well.
    commits: Arc<Commits>,
    /// And whoever listens.
    pub(super) events: Arc<Events>,
}

impl Health {
    pub(super) fn new(
        path: PathBuf,
        read_only: bool,
        open: Flag,
        mappings: Mappings,
        (background, commits, events): (Arc<Background>, Arc<Commits>, Arc<Events>),
    ) -> Self {
        let (poison, cancelled) = (OnceLock::new(), Arc::default());
        Self { path, read_only, open, poison, cancelled, mappings, background, commits, events }
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<()> {
        if self.open.is_up() { Ok(()) } else { Err(Error::Closed) }
    }

    #[inline]
    pub(super) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.check_intact()
    }

    /// Whether the store is known to be what it has acknowledged. Asked at the end of whatever promises something as well.
    #[inline]
    pub(super) fn check_intact(&self) -> Result<()> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned(Arc::clone(cause))),
            None => Ok(()),
        }
    }

    /// What was read of mappings must not be built upon if one of them was lost.
    #[inline]
    pub(super) fn check_mapped(&self) -> Result<()> {
        self.check_found(&[]).map_err(|e| self.poison(e))
    }

    /// To be called with what is about to be handed out.
    #[inline]
    pub(super) fn check_found(&self, bytes: &[u8]) -> Result<()> {
        self.mappings.check(bytes)
    }

    /// Whether long work has been asked to stop.
    pub(super) fn check_going_on(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Closed) } else { Ok(()) }
    }

    /// There is no memory for a part of the store's work.
    #[cold]
    pub(super) fn no_memory(&self, work: &'static str, error: std::io::Error) -> Error {
        Error::io(work, &self.path, error)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// What long work below the engine looks at from time to time.
    pub(super) fn cancelled(&self) -> &Arc<AtomicBool> {
        &self.cancelled
    }

    /// Asks long work to stop.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// From now on nothing is read or written.
    pub(super) fn close(&self) {
        self.open.lower();
    }

    /// Whether this is a forked child, to which the store is lost.
    pub(super) fn is_forked(&self) -> bool {
        self.open.is_wiped()
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether nothing is written any more.
    #[inline]
    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    /// Stops all further writes: after this failure nobody knows what is on disk. Keeps the first cause.
    pub(super) fn poison(&self, error: Error) -> Error {
        if self.poison.set(Arc::new(error.clone())).is_ok() {
            self.events.raise(|| Event::Poisoned(error.clone()));
        }
        if let Err(poisoned) = self.check_intact() {
            self.commits.fail(&poisoned);
        }
        self.background.wake();
        error
    }

    /// The error of work: whoever listens hears of damage. A bug on the way to the disk stops all further writes as well: what
    /// else is wrong, nobody knows.
    pub(super) fn stop_at_bug(&self, error: Error) -> Error {
        self.events.note_error(&error);
        if matches!(error, Error::Bug(_)) { self.poison(error) } else { error }
    }

    /// The error of an edit that is not durable: unless it was refused, nobody knows what is on disk.
    pub(super) fn unrecorded(&self, unrecorded: Unrecorded) -> Error {
        match unrecorded {
            Unrecorded::Refused(e) => e,
            Unrecorded::Unknown(e) => self.poison(e),
        }
    }

    /// What `work` returns, unless it panics.
    pub(super) fn watched<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(work)).inspect_err(|_| drop(self.panicked())).ok()
    }

    /// A panic of a part of a compaction is an error, and whoever waits for its end hears of it.
    pub(super) fn unless_it_panics<T>(&self, part: impl FnOnce() -> Result<T>) -> Result<T> {
        catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|_| Err(self.panicked()))
    }

    /// What a panic in the background has left half done, nobody knows: no more writes.
    fn panicked(&self) -> Error {
        let panicked = std::io::Error::other("it panicked");
        self.poison(Error::io("do background work in", &self.path, panicked))
    }
}
