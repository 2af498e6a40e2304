//! Committing: a group is checked, waits for room if it must, is appended (see `append`) and, if that was asked for, synced.
//!
//! Committers take the writer lock one after another and hold it for a copy and a few hash insertions; those who asked for
//! `Sync` wait outside of it, where one `fdatasync` serves all of them (see `sync`). This does what a queue with a leader
//! does, without handing batches between threads.

use std::sync::Arc;

use super::append::Appender;
use super::background::{Background, WAIT_STEP, Work};
use super::body::Body;
use super::counters::Counters;
use super::files::Files;
use super::flush::Flusher;
use super::health::Health;
use super::keyspaces::KeyspaceNames;
use super::log::{LogEnd, Writer};
use super::maintenance::Maintenance;
use super::readers::Readers;
use super::reserve::Reserve;
use super::sync::Syncer;
use super::turnstile::Turnstiles;
use super::write_stalls::{DELAY_MAX, DELAY_MIN, FREEING_SHARE, Ticket, WriteStalls};
use crate::error::{Error, Result, bug};
use crate::event::StallReason;
use crate::format::Position;
use crate::format::entry::Kind;
use crate::format::range::{Edge, range_value};
use crate::keyspace_state::KeyspaceState;
use crate::log::Use;
use crate::meter::Sampled;
use crate::options::{Durability, Options};
use crate::sys::now;

/// Commits groups, and lets them wait before.
pub(crate) struct Committer {
    pub(super) options: Arc<Options>,
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) readers: Arc<Readers>,
    pub(super) keyspaces: Arc<KeyspaceNames>,
    pub(super) log: Arc<LogEnd>,
    pub(super) reserve: Arc<Reserve>,
    pub(super) stalls: Arc<WriteStalls>,
    pub(super) turnstiles: Arc<Turnstiles>,
    pub(super) appender: Arc<Appender>,
    pub(super) syncer: Arc<Syncer>,
    pub(super) flusher: Arc<Flusher>,
    pub(super) maintenance: Arc<Maintenance>,
    pub(super) background: Arc<Background>,
    pub(super) counters: Arc<Counters>,
}

/// What the last look at what a commit relies on has come to, with which it stands or falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Passed,
    /// What has been seen before says too little now.
    Outdated,
}

/// What has become of a commit with a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    /// It is visible, and ends here in the log.
    UpTo(Position),
    /// Nothing has been written: the check was [outdated](Check::Outdated).
    Unchanged,
}

/// Whether a commit waits for background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Waits,
    Refuses,
}

impl Committer {
    /// Commits one change with the durability of the options.
    #[inline]
    pub(crate) fn commit_one(&self, keyspace: &KeyspaceState, kind: Kind, key: &[u8], value: &[u8]) -> Result<()> {
        self.commit_one_with(keyspace, kind, key, value, self.options.durability)
    }

    /// Commits one change.
    #[inline]
    pub(crate) fn commit_one_with(
        &self,
        keyspace: &KeyspaceState,
        kind: Kind,
        key: &[u8],
        value: &[u8],
        durability: Durability,
    ) -> Result<()> {
        self.commit(Body::One { keyspace, kind, key, value }, durability)
    }

    /// Commits the removal of what lies between two edges, if any key can be there.
    pub(crate) fn remove_range(&self, keyspace: &KeyspaceState, (start, end): (Edge, Edge)) -> Result<()> {
        if start >= end {
            return self.commit_nothing(self.options.durability).map(|_| ());
        }
        self.commit_one(keyspace, Kind::RangeDelete, start.key(), &range_value(&start, &end))
    }

    /// Commits one group. With [`Durability::Sync`] it is on disk when this returns.
    #[inline]
    pub(crate) fn commit(&self, body: Body<'_>, durability: Durability) -> Result<()> {
        self.commit_checked(body, durability, |_| Ok(Check::Passed)).map(|_| ())
    }

    /// Commits one group without a sync; returns where it ends in the log.
    pub(super) fn commit_upto(&self, body: Body<'_>) -> Result<Position> {
        match self.commit_checked(body, Durability::Buffered, |_| Ok(Check::Passed))? {
            Committed::UpTo(end) => Ok(end),
            Committed::Unchanged => Err(bug("a commit that nobody checks has been refused").into()),
        }
    }

    /// Commits one group unless that would wait for background work.
    pub(crate) fn try_commit(&self, body: Body<'_>, durability: Durability) -> Result<()> {
        self.commit_as(Patience::Refuses, body, durability, |_| Ok(Check::Passed)).map(|_| ())
    }

    /// Commits one group if `check` agrees, which is asked when no other commit can come in between.
    #[inline]
    pub(super) fn commit_checked(
        &self,
        body: Body<'_>,
        durability: Durability,
        check: impl Fn(&Writer) -> Result<Check>,
    ) -> Result<Committed> {
        self.commit_as(Patience::Waits, body, durability, check)
    }

    #[inline]
    fn commit_as(
        &self,
        patience: Patience,
        body: Body<'_>,
        durability: Durability,
        check: impl Fn(&Writer) -> Result<Check>,
    ) -> Result<Committed> {
        let started = self.readers.meters.begin(Sampled::Put);
        self.health.check_writable()?;
        body.check(&self.keyspaces.owner, &self.keyspaces.default, self.options.max_batch_bytes)?;
        if body.count() == 0 {
            return self.commit_nothing(durability).map(Committed::UpTo);
        }
        let (bytes, for_use) = (body.bytes(), body.for_use());
        let ticket = match patience {
            Patience::Waits => {
                self.wait_for_room(bytes, for_use)?;
                self.admit(bytes, for_use)?
            }
            Patience::Refuses => {
                let ticket = self.stalls.try_admit(bytes, for_use)?;
                self.take_room(bytes)?;
                ticket
            }
        };
        let alone = || {
            let mut writer = self.log.writer();
            self.health.check_writable()?;
            body.check_keyspaces(&writer.committing)?;
            if check(&writer)? == Check::Outdated {
                return Ok(None);
            }
            self.appender.append(&mut writer, body).map(Some).map_err(|e| self.health.stop_at_bug(e))
        };
        let end = match patience {
            Patience::Waits if for_use == Use::Freeing => self.maintenance.once_there_is_space(alone)?,
            _ => alone()?,
        };
        let Some(end) = end else { return Ok(Committed::Unchanged) };
        drop(ticket);
        self.background.committed();
        if body.merges() {
            body.visit_merges(|keyspace, key| self.readers.note_merge(keyspace, key));
        }
        match durability {
            Durability::Sync => self.syncer.sync_to(end)?,
            Durability::Buffered => {}
        }
        if let Some(started) = started {
            self.readers.meters.end(Sampled::Put, started);
        }
        Ok(Committed::UpTo(end))
    }

    /// A commit without a change. Like any other, if it is acknowledged as durable, so is everything in front of it.
    #[cold]
    fn commit_nothing(&self, durability: Durability) -> Result<Position> {
        self.health.check_writable()?;
        let end = self.log.end();
        match durability {
            Durability::Sync => self.syncer.sync_to(end)?,
            Durability::Buffered => {}
        }
        Ok(end)
    }

    /// Slows a writer down that is about to add `bytes` to the log. Work that keeps failing is no reason to refuse what may
    /// let it succeed.
    #[inline]
    fn wait_for_room(&self, bytes: u64, for_use: Use) -> Result<()> {
        if for_use == Use::Freeing && self.health.within().is_none() {
            self.make_space_first()?;
        }
        if self.stalls.is_free() { Ok(()) } else { self.hold_up(bytes, for_use) }
    }

    /// Delays a commit, and notes for how long, if that can be felt.
    #[cold]
    fn hold_up(&self, bytes: u64, for_use: Use) -> Result<()> {
        let (reason, begun) = (self.stalls.reason(), now());
        let delayed = self.delay(bytes, for_use);
        let took = now().saturating_sub(begun);
        if took >= DELAY_MIN {
            self.stalls.note(reason, took);
        }
        delayed
    }

    fn delay(&self, bytes: u64, for_use: Use) -> Result<()> {
        let may_go_on =
            |e: Error| if for_use == Use::Freeing && e.is_full() { self.health.check_writable() } else { Err(e) };
        let alone = self.options.background_threads == 0;
        if self.health.within().is_some() {
            // This thread may be the one whose work is waited for. A flush asks no caller's code; a compaction inside of
            // another one would ask the filter again that writes here.
            match self.flusher.flush_if_due() {
                Ok(Work::NoneDue) if !alone => {}
                Ok(_) => return Ok(()),
                Err(e) => return may_go_on(e),
            }
        } else if alone {
            return self.maintenance.step(false).map(drop).or_else(may_go_on);
        }
        match self.background.failure() {
            // Nobody makes up for the debt; waiting would not help.
            Err(e) if for_use == Use::Freeing && e.is_lack_of_space() => return Ok(()),
            other => other?,
        }
        let wait = self.stalls.charge(if for_use == Use::Freeing { bytes / FREEING_SHARE } else { bytes });
        if wait >= DELAY_MIN {
            let steps = u32::try_from(bytes >> 20).unwrap_or(u32::MAX).max(1);
            std::thread::sleep(wait.min(DELAY_MAX.saturating_mul(steps)));
        }
        Ok(())
    }

    /// Where the reserve has been given up, a commit that makes space first sees to it that what the log already has to say is
    /// done: its own entries would take the space for that. What cannot be flushed even so is no reason to refuse it.
    fn make_space_first(&self) -> Result<()> {
        if !self.reserve.is_given_up() {
            return Ok(());
        }
        while !self.readers.read_state().frozen().is_empty() {
            match self.flusher.flush_oldest() {
                Ok(Work::Done) => {}
                Err(e) if !e.is_full() => return Err(e),
                Ok(Work::NoneDue) | Err(_) => break,
            }
        }
        self.reserve.refill(&self.log);
        Ok(())
    }

    /// Refuses a write that would be slowed down now; charges it otherwise.
    fn take_room(&self, bytes: u64) -> Result<()> {
        if self.stalls.is_free() {
            return Ok(());
        }
        self.background.failure()?;
        if self.options.background_threads == 0 || self.stalls.owed() >= DELAY_MIN {
            return Err(Error::WouldBlock);
        }
        self.stalls.charge(bytes);
        Ok(())
    }

    /// Admits a commit of so many bytes of log, once what is frozen leaves room for it.
    #[inline]
    fn admit(&self, bytes: u64, for_use: Use) -> Result<Option<Ticket<'_>>> {
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
        let waiting = self.stalls.begin_wait();
        self.background.wake();
        let admitted = self.stall(bytes, for_use, most);
        drop(waiting);
        self.stalls.note(StallReason::FrozenBytes, now().saturating_sub(begun));
        admitted
    }

    /// Waits until a commit is admitted, or until it is clear that it will not be.
    fn stall(&self, bytes: u64, for_use: Use, most: u64) -> Result<Ticket<'_>> {
        // In a callback, this thread may be the one that would flush: it flushes, which calls nobody back, and waits for nobody
        // else's turn.
        let helps = self.options.background_threads == 0 || self.health.within().is_some();
        let _turn = (!helps).then(|| self.stalls.turn());
        loop {
            self.health.check_writable()?;
            self.health.check_going_on()?;
            if let Some(ticket) = self.stalls.admit(bytes, most) {
                return Ok(ticket);
            }
            let flushed =
                if helps { self.flusher.flush_if_due() } else { self.background.failure().map(|()| Work::NoneDue) };
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
