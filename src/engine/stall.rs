//! Write stalls: how much may wait to be flushed.
//!
//! [Delays](super::pressure) slow writers down by what they have left undone, and can be too short: for commits as large as a
//! memtable, or if many threads begin theirs at one moment. So there is a cap. Bytes are admitted before a commit takes any
//! lock, and count until they are in the log; where they and what is frozen come to more than
//! [`Options::max_frozen_bytes`](crate::Options::max_frozen_bytes), the commit waits for a flush. What is alone is always
//! admitted, whatever its size.
//!
//! Small commits take no ticket while little is frozen: those of all threads together are not worth what two atomic operations
//! on one cache line would cost each of them.

use std::time::Duration;

use super::Engine;
use super::background::{WAIT_STEP, Work};
use crate::error::{Error, Result};
use crate::log::Use;
use crate::sys::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sys::{LockRank, Mutex, now};

/// Commits of fewer bytes are not counted on their way into the log while little is frozen.
const TICKET_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(crate) struct Stalls {
    /// What may be frozen before a commit waits, and how much more before one waits that makes space.
    most: u64,
    kept: u64,
    /// In frozen memtables.
    frozen: AtomicU64,
    /// On their way into the log.
    admitted: AtomicU64,
    /// Commits that wait now.
    waiting: AtomicUsize,
    /// Held by the first of them: a large one would wait for ever if small ones took all room that there ever is.
    turn: Mutex<()>,
    /// Commits that had to wait, and for how long together, in nanoseconds.
    count: AtomicU64,
    nanos: AtomicU64,
}

/// Bytes that are on their way into the log until this is dropped.
#[derive(Debug)]
pub(super) struct Ticket<'s> {
    stalls: &'s Stalls,
    bytes: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.stalls.admitted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Stalls {
    /// Beyond `most` frozen bytes commits wait; what frees space may use what is kept for a full disk on top.
    pub(super) fn new(most: u64, kept: u64) -> Self {
        Self {
            most,
            kept,
            frozen: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            turn: Mutex::new(LockRank::Stall, ()),
            count: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
        }
    }

    /// Notes how many bytes are frozen now.
    pub(super) fn set_frozen(&self, bytes: u64) {
        self.frozen.store(bytes, Ordering::Relaxed);
    }

    /// Whether a commit needs no look at the cap: it is small, and nothing is near it.
    #[inline]
    fn is_far(&self, bytes: u64) -> bool {
        bytes < TICKET_BYTES && self.frozen.load(Ordering::Relaxed) <= self.most / 2
    }

    /// Admits a commit, unless that is too much: more than the cap, and for one that takes a half of it alone, if more than a
    /// half is taken.
    fn admit(&self, bytes: u64, most: u64) -> Option<Ticket<'_>> {
        let more = |admitted: u64| {
            let before = admitted.saturating_add(self.frozen.load(Ordering::Relaxed));
            let room = (most / 2).max(most.saturating_sub(bytes));
            (before <= room).then(|| admitted.saturating_add(bytes))
        };
        self.admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Ticket { stalls: self, bytes })
    }

    /// The same for one that comes behind all who wait.
    fn admit_last(&self, bytes: u64, most: u64) -> Option<Ticket<'_>> {
        if self.are_some_waiting() { None } else { self.admit(bytes, most) }
    }

    /// Admits a commit whatever there is.
    fn admit_anyway(&self, bytes: u64) -> Ticket<'_> {
        self.admitted.fetch_add(bytes, Ordering::Relaxed);
        Ticket { stalls: self, bytes }
    }

    /// Whether a commit waits until something is flushed.
    pub(super) fn are_some_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// What may be frozen before a commit for this use waits.
    fn most(&self, for_use: Use) -> u64 {
        if for_use == Use::Freeing { self.most.saturating_add(self.kept) } else { self.most }
    }

    /// Admits a commit if it need not wait.
    pub(super) fn try_admit(&self, bytes: u64, for_use: Use) -> Result<Option<Ticket<'_>>> {
        if self.is_far(bytes) {
            return Ok(None);
        }
        self.admit_last(bytes, self.most(for_use)).map(Some).ok_or(Error::WouldBlock)
    }

    fn note(&self, waited: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many commits had to wait.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// For how long they had to, together.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    pub(crate) fn frozen(&self) -> u64 {
        self.frozen.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Admits a commit of so many bytes of log, once what is frozen leaves room for it.
    #[inline]
    pub(super) fn admit(&self, bytes: u64, for_use: Use) -> Result<Option<Ticket<'_>>> {
        if self.stalls.is_far(bytes) {
            return Ok(None);
        }
        self.admit_near(bytes, for_use).map(Some)
    }

    #[cold]
    fn admit_near(&self, bytes: u64, for_use: Use) -> Result<Ticket<'_>> {
        let most = self.stalls.most(for_use);
        if let Some(ticket) = self.stalls.admit_last(bytes, most) {
            return Ok(ticket);
        }
        let begun = now();
        self.stalls.waiting.fetch_add(1, Ordering::Relaxed);
        self.background.wake();
        let admitted = self.stall(bytes, for_use, most);
        self.stalls.waiting.fetch_sub(1, Ordering::Relaxed);
        self.stalls.note(now().saturating_sub(begun));
        admitted
    }

    /// Waits until a commit is admitted, or until it is clear that it will not be.
    fn stall(&self, bytes: u64, for_use: Use, most: u64) -> Result<Ticket<'_>> {
        // In a callback, this thread may be the one that would flush: it flushes, which calls nobody back, and waits for nobody
        // else's turn.
        let helps = self.options.background_threads == 0 || self.within().is_some();
        let _turn = (!helps).then(|| self.stalls.turn.lock());
        loop {
            self.health.check_writable()?;
            self.health.check_going_on()?;
            if let Some(ticket) = self.stalls.admit(bytes, most) {
                return Ok(ticket);
            }
            let flushed = if helps { self.flush_if_due() } else { self.background.failure().map(|()| Work::NoneDue) };
            match flushed {
                Ok(Work::Done) => {}
                Ok(Work::NoneDue) => self.background.wait_for_progress(WAIT_STEP),
                // Waiting for space would keep it from being made.
                Err(e) if for_use == Use::Freeing && e.is_lack_of_space() => {
                    return Ok(self.stalls.admit_anyway(bytes));
                }
                Err(e) => return Err(e),
            }
        }
    }
}
