//! Backpressure: writers are slowed down in proportion to the work that they leave undone.
//!
//! Debt is counted in frozen memtables and tables of level 0. It sets a rate for all writers together: from [`RATE_FREE`]
//! bytes of log a second where the debt begins, down to [`RATE_FULL`] at pressure 1, and so on beyond: each step of equal
//! debt divides the rate by the same factor. So the rate meets that of the background work somewhere, whatever the disk can
//! do, and nothing stops unless [too much](super::stall) is frozen. Each commit takes its bytes' worth of time from a shared
//! budget and sleeps until the budget is even, but never longer than [`DELAY_MAX`] for each MiB that it has; what is owed
//! beyond that is left to the commits after it. What frees space takes a [share](FREEING_SHARE) of its worth.

use std::time::Duration;

use super::background::Work;
use super::{Engine, ReadState};
use crate::error::{Error, Result};
use crate::log::Use;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::now;

/// Frozen memtables from which on writers are slowed down, and those at pressure 1.
const FROZEN_FREE: usize = 1;
const FROZEN_FULL: usize = 5;

/// Tables of level 0 likewise, as multiples of the number that starts a compaction.
const LEVEL0_FREE: usize = 3;
const LEVEL0_FULL: usize = 6;

/// Bytes of log a second.
const RATE_FREE: f64 = 1e9;
const RATE_FULL: f64 = 4e6;

/// Pressure beyond this changes nothing any more: 16 KB/s.
const PRESSURE_MAX: f64 = 2.0;

/// Less is not worth a sleep, which takes 50 microseconds longer than it should.
const DELAY_MIN: Duration = Duration::from_micros(500);
const DELAY_MAX: Duration = Duration::from_millis(50);

/// Of what a commit takes that frees space, only this share is charged, so that on a busy store it waits the least.
const FREEING_SHARE: u64 = 8;

/// What all writers together may owe at most.
const OWED_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// In millionths.
    debt: AtomicU32,
    /// The moment, in nanoseconds, at which the budget is even.
    even_at: AtomicU64,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Pressure {
    /// How hard writers are slowed down: 0 not at all, 1 to 4 MB/s.
    pub(crate) fn debt(&self) -> f64 {
        f64::from(self.debt.load(Ordering::Relaxed)) / 1e6
    }

    /// How long from now until the budget is even.
    fn owed(&self) -> Duration {
        Duration::from_nanos(self.even_at.load(Ordering::Relaxed).saturating_sub(nanos(now())))
    }

    /// Takes the time of `bytes` from the budget; returns how long to wait.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn charge(&self, bytes: u64) -> Duration {
        let rate = RATE_FREE * (RATE_FULL / RATE_FREE).powf(self.debt().min(PRESSURE_MAX));
        let cost = nanos(Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(OWED_MAX));
        let at = nanos(now());
        let charged = |even_at: u64| Some(even_at.max(at).saturating_add(cost).min(at + nanos(OWED_MAX)));
        let before = self.even_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged).unwrap_or(at);
        Duration::from_nanos(before.max(at).saturating_add(cost) - at)
    }

    /// Recomputes the debt for a new read state, where so many tables of level 0 start a compaction.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn update(&self, read_state: &ReadState, l0_tables: usize) {
        let share = |n: usize, free: usize, full: usize| n.saturating_sub(free) as f64 / (full - free) as f64;
        let by_tables = share(read_state.version.level0_len(), LEVEL0_FREE * l0_tables, LEVEL0_FULL * l0_tables);
        let by_frozen = share(read_state.frozen().len(), FROZEN_FREE, FROZEN_FULL);
        let debt = by_tables.max(by_frozen).min(PRESSURE_MAX);
        self.debt.store((debt * 1e6) as u32, Ordering::Relaxed);
    }
}

impl Engine {
    /// Slows a writer down that is about to add `bytes` to the log. Work that keeps failing is no reason to refuse what may
    /// let it succeed.
    #[inline]
    pub(super) fn wait_for_room(&self, bytes: u64, for_use: Use) -> Result<()> {
        if for_use == Use::Freeing && self.within().is_none() {
            self.make_space_first()?;
        }
        if self.pressure.debt.load(Ordering::Relaxed) == 0 { Ok(()) } else { self.delay(bytes, for_use) }
    }

    #[cold]
    fn delay(&self, bytes: u64, for_use: Use) -> Result<()> {
        let may_go_on =
            |e: Error| if for_use == Use::Freeing && e.is_full() { self.health.check_writable() } else { Err(e) };
        let alone = self.options.background_threads == 0;
        if self.within().is_some() {
            // This thread may be the one whose work is waited for. A flush asks no caller's code; a compaction inside of
            // another one would ask the filter again that writes here.
            match self.flush_if_due() {
                Ok(Work::NoneDue) if !alone => {}
                Ok(_) => return Ok(()),
                Err(e) => return may_go_on(e),
            }
        } else if alone {
            return self.step(false).map(drop).or_else(may_go_on);
        }
        match self.background.failure() {
            // Nobody makes up for the debt; waiting would not help.
            Err(e) if for_use == Use::Freeing && e.is_lack_of_space() => return Ok(()),
            other => other?,
        }
        let wait = self.pressure.charge(if for_use == Use::Freeing { bytes / FREEING_SHARE } else { bytes });
        if wait >= DELAY_MIN {
            let steps = u32::try_from(bytes >> 20).unwrap_or(u32::MAX).max(1);
            std::thread::sleep(wait.min(DELAY_MAX.saturating_mul(steps)));
        }
        Ok(())
    }

    /// Refuses a write that would be slowed down now; charges it otherwise.
    pub(super) fn take_room(&self, bytes: u64) -> Result<()> {
        if self.pressure.debt.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.background.failure()?;
        if self.options.background_threads == 0 || self.pressure.owed() >= DELAY_MIN {
            return Err(Error::WouldBlock);
        }
        self.pressure.charge(bytes);
        Ok(())
    }
}
