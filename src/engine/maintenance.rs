//! The work that is due, and what callers ask for of it: flushes, compactions, marks in the log, and looking after what else
//! there is. Done on the caller's thread, or by the [threads](super::threads).

use std::sync::Arc;
use std::time::Duration;

use super::background::{Background, Duty, Failures, WAIT_STEP, Work};
use super::compactor::Compactor;
use super::files::Files;
use super::flush::Flusher;
use super::health::Health;
use super::log::LogEnd;
use super::readers::Readers;
use super::reserve::Reserve;
use super::scheduler::Scheduler;
use super::store::Store;
use super::sync::Syncer;
use super::teller::Teller;
use crate::error::Result;
use crate::event::Event;
use crate::format::KeyspaceId;
use crate::format::range::{Edge, Range};
use crate::options::Options;
use crate::sys::now;
use crate::version::Plan;

/// A call that makes space waits for the work of others no longer than this, all in all: that may be a compaction with a
/// filter, whose code waits for the caller.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Does the work that is due.
pub(crate) struct Maintenance {
    pub(super) options: Arc<Options>,
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) readers: Arc<Readers>,
    pub(super) store: Arc<Store>,
    pub(super) log: Arc<LogEnd>,
    pub(super) reserve: Arc<Reserve>,
    pub(super) syncer: Arc<Syncer>,
    pub(super) teller: Arc<Teller>,
    pub(super) flusher: Arc<Flusher>,
    pub(super) compactor: Arc<Compactor>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) background: Arc<Background>,
}

impl Maintenance {
    /// Freezes the memtable and flushes everything; then nothing has to be replayed at the next open.
    pub(crate) fn flush(&self) -> Result<()> {
        self.health.check_writable()?;
        self.log.writer().freeze(&self.store);
        let newest = self.readers.read_state().frozen().first().map(|memtable| memtable.number());
        newest.map_or(Ok(()), |newest| self.once_there_is_space(|| self.flusher.flush_through(newest)))
    }

    /// Compacts everything of a keyspace in a range (all of it, if `None`) into one level.
    pub(crate) fn compact_range(&self, keyspace: KeyspaceId, range: Range<'_>) -> Result<()> {
        self.health.check_not_within(if range == (Edge::START, Edge::End) { "compact" } else { "compact_range" })?;
        self.flush()?;
        // What lies in a removed range as a whole goes first: that takes no space, and what is left may need some.
        self.compactor.remove_covered()?;
        let compact = |is_due: fn(&Plan) -> bool| {
            self.once_there_is_space(|| {
                self.compactor.with_space(|| self.compactor.compact_once(keyspace, range, is_due))
            })
        };
        // Which values the first one makes garbage, it knows only when it is done.
        let compacted = compact(|_| true).and_then(|()| compact(Plan::moves_values));
        // What this has made due.
        self.background.wake();
        compacted
    }

    /// Does what is due besides flushes and compactions.
    fn keep_house(&self) {
        self.files.purge(&self.readers);
        self.reserve.relieve(&self.log, &self.store);
        self.reserve.refill(&self.log);
        self.files.restore_indexes(&self.readers.version(), &self.health);
    }

    /// Does one piece of work that is due and has not just failed. A flush comes before a compaction, and neither keeps the
    /// other from being tried.
    pub(super) fn step_in_turn(&self, calm: bool) -> Work {
        self.keep_house();
        if let Ok(Work::Done) = self.flusher.flush_in_turn() {
            return Work::Done;
        }
        if !self.background.may_try(Duty::Compaction) {
            return Work::NoneDue;
        }
        let compacted = self.compactor.compact_next(calm).inspect_err(|e| {
            self.health.events.raise(|| Event::BackgroundError(e.clone()));
            self.background.note_failure(Duty::Compaction, e);
        });
        compacted.unwrap_or(Work::NoneDue)
    }

    /// Does one piece of work on the caller's thread.
    pub(super) fn step(&self, calm: bool) -> Result<Work> {
        self.keep_house();
        match self.flusher.flush_if_due()? {
            Work::Done => Ok(Work::Done),
            Work::NoneDue => self.compactor.compact_next(calm),
        }
    }

    /// Does all work that is due, on this thread.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.health.check_writable()?;
        self.health.check_not_within("maintain")?;
        while self.step(true)? == Work::Done {}
        if let Some(end) = self.log.unmarked(&self.health) {
            self.syncer.mark_idle(end)?;
        }
        // What was submitted and has been flushed meanwhile leaves nothing to mark.
        self.teller.drive()?;
        // What the log has removed counts now that it is on disk.
        while self.step(true)? == Work::Done {}
        self.health.check_intact()
    }

    /// Waits until no flush and no compaction is due; does them itself if there are no threads. What has failed is tried again
    /// at once, and is an error if it keeps failing.
    pub(crate) fn wait_for_background(&self) -> Result<()> {
        self.health.check_writable()?;
        self.health.check_not_within("wait_for_background")?;
        if self.options.background_threads == 0 {
            while self.step(true)? == Work::Done {}
            return self.health.check_intact();
        }
        let _settling = self.background.begin_settling();
        let before = self.background.try_again();
        self.background.wake();
        self.wait_until_settled(before)
    }

    /// Whether a flush or a compaction is under way, or a thread will begin one that is due.
    pub(super) fn is_at_work(&self) -> bool {
        let comes = |duty, wanted: &dyn Fn() -> bool| self.background.will_try(duty) && wanted();
        self.scheduler.is_working()
            || self.options.background_threads > 0
                && (comes(Duty::Flush, &|| self.flusher.is_due())
                    || comes(Duty::Compaction, &|| self.compactor.is_due(false)))
    }

    fn wait_until_settled(&self, before: Failures) -> Result<()> {
        while self.scheduler.is_working() || self.flusher.is_due() || self.compactor.is_due(true) {
            self.health.check_writable()?;
            self.background.failure_since(before)?;
            self.background.wait_for_progress(WAIT_STEP);
        }
        self.health.check_intact()
    }

    /// Does what makes space for its caller. Where it finds none, but others are at work, who may give some back, it is done
    /// again when they are done. What this thread holds must not be in their way.
    #[inline]
    pub(super) fn once_there_is_space<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match work() {
            // What has ended all writing is told as it is.
            Err(e) if e.is_full() && !self.health.is_poisoned() && self.health.within().is_none() => {
                self.keep_trying(work)
            }
            other => other,
        }
    }

    #[cold]
    fn keep_trying<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        let until = now() + WAIT_MAX;
        loop {
            self.health.check_writable()?;
            let (freed, beside) = (self.reserve.freed(), self.is_at_work());
            let refused = match work() {
                Err(e) if e.is_full() && !self.health.is_poisoned() => e,
                other => return other,
            };
            let is_new = || self.reserve.freed() != freed;
            // Work that has ended without success has given back what it had taken.
            if now() >= until || !(beside || is_new() || self.is_at_work()) {
                return Err(refused);
            }
            while !is_new() && now() < until {
                self.background.wait_for_progress(WAIT_STEP);
                // Between the tries of a thread there may be space as well.
                if !self.scheduler.is_working() {
                    break;
                }
            }
        }
    }
}
