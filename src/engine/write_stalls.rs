//! Write stalls: how writers are slowed down by the work that they leave undone, and when they have to wait for it.
//!
//! Debt is counted in frozen memtables and tables of level 0. It sets a rate for all writers together: from [`RATE_FREE`]
//! bytes of log a second where the debt begins, down to [`RATE_FULL`] at a debt of 1, and so on beyond: each step of equal
//! debt divides the rate by the same factor. So the rate meets that of the background work somewhere, whatever the disk can
//! do. Each commit takes its bytes' worth of time from a shared budget and sleeps until the budget is even, but never longer
//! than [`DELAY_MAX`] for each MiB that it has; what is owed beyond that is left to the commits after it. What frees space
//! takes a [share](FREEING_SHARE) of its worth.
//!
//! Such delays can be too short: for commits as large as a memtable, or if many threads begin theirs at one moment. So there
//! is a cap. Bytes are admitted before a commit takes any lock, and count until they are in the log; where they and what is
//! frozen come to more than [`Options::max_frozen_bytes`](crate::Options::max_frozen_bytes), the commit waits for a flush.
//! What is alone is always admitted, whatever its size.
//!
//! Small commits take no ticket while little is frozen: those of all threads together are not worth what two atomic operations
//! on one cache line would cost each of them.

use std::sync::Arc;
use std::time::Duration;

use super::events::Events;
use super::read_state::ReadState;
use super::stall_log::{StallLog, StallStats};
use crate::error::{Error, Result};
use crate::event::{Event, StallReason};
use crate::log::Use;
use crate::sys::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sys::{LockRank, Mutex, MutexGuard, now};

/// Frozen memtables from which on writers are slowed down, and those at a debt of 1.
const FROZEN_FREE: usize = 1;
const FROZEN_FULL: usize = 5;

/// Tables of level 0 likewise, as multiples of the number that starts a compaction.
const LEVEL0_FREE: usize = 3;
const LEVEL0_FULL: usize = 6;

/// Bytes of log a second.
const RATE_FREE: f64 = 1e9;
const RATE_FULL: f64 = 4e6;

/// Debt beyond this changes nothing any more: 16 KB/s.
const DEBT_MAX: f64 = 2.0;

/// Less is not worth a sleep, which takes 50 microseconds longer than it should.
pub(super) const DELAY_MIN: Duration = Duration::from_micros(500);
pub(super) const DELAY_MAX: Duration = Duration::from_millis(50);

/// Of what a commit takes that frees space, only this share is charged, so that on a busy store it waits the least.
pub(super) const FREEING_SHARE: u64 = 8;

/// What all writers together may owe at most.
const OWED_MAX: Duration = Duration::from_secs(1);

/// Commits of fewer bytes are not counted on their way into the log while little is frozen.
const TICKET_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(crate) struct WriteStalls {
    /// In millionths.
    debt: AtomicU32,
    /// The moment, in nanoseconds, at which the budget is even.
    even_at: AtomicU64,
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
    /// Whether the debt is that of level 0.
    owed_to_level0: AtomicBool,
    log: StallLog,
    /// In nanoseconds, since when commits are delayed, and since when some wait.
    delayed_since: AtomicU64,
    waiting_since: AtomicU64,
    events: Arc<Events>,
}

/// Bytes that are on their way into the log until this is dropped.
#[derive(Debug)]
pub(super) struct Ticket<'s> {
    stalls: &'s WriteStalls,
    bytes: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.stalls.admitted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl WriteStalls {
    /// Beyond `most` frozen bytes commits wait; what frees space may use what is kept for a full disk on top.
    pub(super) fn new(most: u64, kept: u64, events: &Arc<Events>) -> Self {
        Self {
            debt: AtomicU32::new(0),
            even_at: AtomicU64::new(0),
            most,
            kept,
            frozen: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            turn: Mutex::new(LockRank::Stall, ()),
            owed_to_level0: AtomicBool::new(false),
            log: StallLog::default(),
            delayed_since: AtomicU64::new(0),
            waiting_since: AtomicU64::new(0),
            events: Arc::clone(events),
        }
    }

    /// How hard writers are slowed down: 0 not at all, 1 to 4 MB/s.
    pub(crate) fn debt(&self) -> f64 {
        f64::from(self.debt.load(Ordering::Relaxed)) / 1e6
    }

    /// How long from now until the budget is even.
    pub(super) fn owed(&self) -> Duration {
        Duration::from_nanos(self.even_at.load(Ordering::Relaxed).saturating_sub(nanos(now())))
    }

    /// Takes the time of `bytes` from the budget; returns how long to wait.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn charge(&self, bytes: u64) -> Duration {
        let rate = RATE_FREE * (RATE_FULL / RATE_FREE).powf(self.debt().min(DEBT_MAX));
        let cost = nanos(Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(OWED_MAX));
        let at = nanos(now());
        let charged = |even_at: u64| Some(even_at.max(at).saturating_add(cost).min(at + nanos(OWED_MAX)));
        let before = self.even_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged).unwrap_or(at);
        Duration::from_nanos(before.max(at).saturating_add(cost) - at)
    }

    /// Takes down what writers will feel of a new read state, where so many tables of level 0 start a compaction.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn update(&self, read_state: &ReadState, l0_tables: usize) {
        let share = |n: usize, free: usize, full: usize| n.saturating_sub(free) as f64 / (full - free) as f64;
        let by_tables = share(read_state.version.level0_len(), LEVEL0_FREE * l0_tables, LEVEL0_FULL * l0_tables);
        let by_frozen = share(read_state.frozen().len(), FROZEN_FREE, FROZEN_FULL);
        let debt = by_tables.max(by_frozen).min(DEBT_MAX);
        let before = (!self.is_free()).then(|| self.reason());
        self.owed_to_level0.store(by_tables > by_frozen, Ordering::Relaxed);
        self.debt.store((debt * 1e6) as u32, Ordering::Relaxed);
        let after = (!self.is_free()).then(|| self.reason());
        if before != after {
            self.tell(&self.delayed_since, before, after);
        }
        let frozen = read_state.frozen().iter().map(|memtable| memtable.log_bytes()).sum();
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Tells that commits are held up for another reason than before, or for none. Who changes that does so alone.
    #[cold]
    fn tell(&self, since: &AtomicU64, before: Option<StallReason>, after: Option<StallReason>) {
        let at = now();
        let began = Duration::from_nanos(since.swap(nanos(at), Ordering::Relaxed));
        if let Some(reason) = before {
            self.events.raise(|| Event::StallEnded { reason, took: at.saturating_sub(began) });
        }
        if let Some(reason) = after {
            self.events.raise(|| Event::StallBegan { reason });
        }
    }

    /// Whether there is any debt.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.debt.load(Ordering::Relaxed) == 0
    }

    /// Whether a commit needs no look at the cap: it is small, and nothing is near it.
    #[inline]
    pub(super) fn is_far(&self, bytes: u64) -> bool {
        bytes < TICKET_BYTES && self.frozen.load(Ordering::Relaxed) <= self.most / 2
    }

    /// Admits a commit, unless that is too much: more than the cap, and for one that takes a half of it alone, if more than a
    /// half is taken.
    pub(super) fn admit(&self, bytes: u64, most: u64) -> Option<Ticket<'_>> {
        let more = |admitted: u64| {
            let before = admitted.saturating_add(self.frozen.load(Ordering::Relaxed));
            let room = (most / 2).max(most.saturating_sub(bytes));
            (before <= room).then(|| admitted.saturating_add(bytes))
        };
        self.admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Ticket { stalls: self, bytes })
    }

    /// The same for one that comes behind all who wait.
    pub(super) fn admit_last(&self, bytes: u64, most: u64) -> Option<Ticket<'_>> {
        if self.are_some_waiting() { None } else { self.admit(bytes, most) }
    }

    /// Admits a commit whatever there is.
    pub(super) fn admit_anyway(&self, bytes: u64) -> Ticket<'_> {
        self.admitted.fetch_add(bytes, Ordering::Relaxed);
        Ticket { stalls: self, bytes }
    }

    /// Whether a commit waits until something is flushed.
    pub(super) fn are_some_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// What may be frozen before a commit for this use waits.
    pub(super) fn most(&self, for_use: Use) -> u64 {
        if for_use == Use::Freeing { self.most.saturating_add(self.kept) } else { self.most }
    }

    /// Admits a commit if it need not wait.
    pub(super) fn try_admit(&self, bytes: u64, for_use: Use) -> Result<Option<Ticket<'_>>> {
        if self.is_far(bytes) {
            return Ok(None);
        }
        self.admit_last(bytes, self.most(for_use)).map(Some).ok_or(Error::WouldBlock)
    }

    /// Why commits are delayed, if they are.
    pub(super) fn reason(&self) -> StallReason {
        let of_level0 = self.owed_to_level0.load(Ordering::Relaxed);
        if of_level0 { StallReason::Level0Tables } else { StallReason::FrozenMemtables }
    }

    /// A commit has been held up.
    pub(super) fn note(&self, reason: StallReason, took: Duration) {
        self.log.note(reason, took);
    }

    /// What stalls there have been, by reason.
    pub(crate) fn stats(&self) -> [StallStats; 3] {
        [StallReason::FrozenMemtables, StallReason::Level0Tables, StallReason::FrozenBytes]
            .map(|reason| self.log.read(reason))
    }

    pub(crate) fn frozen(&self) -> u64 {
        self.frozen.load(Ordering::Relaxed)
    }

    /// Waits for the turn of the first of those who wait.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Counts a commit that waits, until the result is dropped.
    pub(super) fn begin_wait(&self) -> Waiting<'_> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.tell(&self.waiting_since, None, Some(StallReason::FrozenBytes));
        }
        Waiting(self)
    }
}

/// A commit that waits.
pub(super) struct Waiting<'s>(&'s WriteStalls);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.tell(&self.0.waiting_since, Some(StallReason::FrozenBytes), None);
        }
    }
}
