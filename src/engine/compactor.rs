//! Carrying out compactions: several at once where they do not touch each other, and a large one by several threads.

use std::sync::Arc;

use super::background::{Background, Duty, Work};
use super::compact::Merger;
use super::counters::Counters;
use super::files::Files;
use super::health::Health;
use super::job::{Begun, Job, Merged, Subcompaction};
use super::readers::Readers;
use super::reserve::Reserve;
use super::scheduler::Scheduler;
use super::store::{Installed, Store};
use crate::error::{Error, Result};
use crate::format::KeyspaceId;
use crate::format::edit::Edit;
use crate::format::range::Range;
use crate::meter::Measured;
use crate::options::Options;
use crate::sys::atomic::Ordering;
use crate::version::{Limits, Plan, Running, pick, plan_range};

/// Spans for each thread, so that one that has to flush in between does not hold up the others for long.
const SUBCOMPACTIONS_PER_THREAD: usize = 2;

/// What a keyspace has in level 0 is worth no tables of its own below this share of `level_bytes_base`.
const SMALL_SHARE: u64 = 256;

/// Plans compactions, begins and ends them, and works on them.
pub(crate) struct Compactor {
    pub(super) options: Arc<Options>,
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) readers: Arc<Readers>,
    pub(super) store: Arc<Store>,
    pub(super) reserve: Arc<Reserve>,
    pub(super) merger: Merger,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) background: Arc<Background>,
    pub(super) counters: Arc<Counters>,
}

impl Compactor {
    /// What the tables of the levels are compared with.
    pub(crate) fn limits(&self, calm: bool) -> Limits {
        Limits {
            level0_tables: self.options.l0_tables,
            level1_bytes: self.options.level_bytes_base,
            multiplier: self.options.level_multiplier,
            table_bytes: self.options.table_bytes,
            small_bytes: self.options.level_bytes_base / SMALL_SHARE,
            calm,
            paid: self.readers.learned.cost.paid(),
            seen_by_all: self.readers.retain().oldest(),
        }
    }

    /// Whether a compaction is due.
    pub(super) fn is_due(&self, calm: bool) -> bool {
        let version = self.readers.version();
        pick(&version, &self.limits(calm), &Running::default()).is_some()
    }

    /// Whether readers keep versions from a compaction that would be due without them.
    pub(super) fn is_kept_by_readers(&self) -> bool {
        let is_due = || {
            let version = self.readers.version();
            let without_readers = Limits { seen_by_all: self.readers.visible(), ..self.limits(true) };
            pick(&version, &without_readers, &Running::default()).is_some()
        };
        !self.readers.registry().is_empty() && is_due()
    }

    /// Helps with a compaction under way, or begins the most urgent one that may run beside those.
    pub(super) fn compact_next(&self, calm: bool) -> Result<Work> {
        self.health.events.noted(self.with_space(|| self.try_compact_next(calm)))
    }

    fn try_compact_next(&self, calm: bool) -> Result<Work> {
        if let Some(job) = self.scheduler.unfinished() {
            return self.work_on(job).map(|()| Work::Done);
        }
        let begun = {
            let mut compactions = self.scheduler.stand_still();
            self.health.check_writable()?;
            if compactions.waiting > 0 || self.health.is_cancelled() {
                return Ok(Work::NoneDue);
            }
            let version = self.readers.version();
            if let Some(edit) = self.merger.covered(&version, compactions.running())? {
                return self.store.install_edit(edit).map(|_| Work::Done);
            }
            let plan = pick(&version, &self.limits(calm), compactions.running());
            plan.map(|plan| compactions.begin(plan))
        };
        match begun {
            Some(begun) if begun.plan.is_move() && self.has_codecs(&begun.plan) => {
                self.move_tables(&begun).map(|()| Work::Done)
            }
            Some(begun) => self.start(begun).and_then(|job| self.work_on(job)).map(|()| Work::Done),
            None => Ok(Work::NoneDue),
        }
    }

    /// Removes the tables that nobody sees any more, if there are any; see [`Merger::covered`].
    pub(super) fn remove_covered(&self) -> Result<()> {
        {
            let compactions = self.scheduler.stand_still();
            let version = self.readers.version();
            let Some(edit) = self.health.events.noted(self.merger.covered(&version, compactions.running()))? else {
                return Ok(());
            };
            self.store.install_edit(edit)?;
        }
        self.files.purge(&self.readers);
        Ok(())
    }

    /// Compacts what there is in a range, if the plan for that `is_due`.
    pub(super) fn compact_once(
        &self,
        keyspace: KeyspaceId,
        range: Range<'_>,
        is_due: impl Fn(&Plan) -> bool,
    ) -> Result<()> {
        self.scheduler.stand_still().waiting += 1;
        let begun = self.begin_range(keyspace, range, is_due);
        self.scheduler.stand_still().waiting -= 1;
        let compacted = begun.and_then(|begun| begun.map_or(Ok(()), |begun| self.compact_planned(begun)));
        self.health.events.noted(compacted)
    }

    /// Waits until the compaction of a range may begin.
    fn begin_range(
        &self,
        keyspace: KeyspaceId,
        range: Range<'_>,
        is_due: impl Fn(&Plan) -> bool,
    ) -> Result<Option<Begun>> {
        let mut compactions = self.scheduler.stand_still();
        loop {
            self.health.check_writable()?;
            self.health.check_going_on()?;
            let version = self.readers.version();
            let plan = plan_range(&version, keyspace, range).map(Plan::reclaiming).filter(&is_due);
            let Some(plan) = plan else { return Ok(None) };
            if compactions.running().allows(&plan) {
                return Ok(Some(compactions.begin(plan)));
            }
            self.scheduler.wait_for_end(&mut compactions);
        }
    }

    fn compact_planned(&self, begun: Begun) -> Result<()> {
        let plan = &begun.plan;
        let in_place = plan.inputs().all(|(level, ..)| level == plan.output);
        let stays = (in_place || plan.is_move()) && !plan.has_small_tables(self.options.table_bytes, self.shares());
        if self.merger.is_plain(plan) && !plan.moves_values() && stays && self.has_codecs(plan) {
            // Nothing to drop: what is on one level already stays.
            if in_place {
                self.end(begun.number);
                return Ok(());
            }
            return self.move_tables(&begun);
        }
        let job = self.start(begun)?;
        let outcome = Arc::clone(&job.outcome);
        let own = self.work_on(job);
        let mut compactions = self.scheduler.stand_still();
        loop {
            match outcome.get() {
                Some(outcome) => return own.and(outcome.clone()),
                None => self.scheduler.wait_for_end(&mut compactions),
            }
        }
    }

    /// Whether the inputs are compressed as tables of the level are that they are to go to.
    fn has_codecs(&self, plan: &Plan) -> bool {
        plan.shares.iter().all(|share| {
            let (codec, _) =
                self.readers.section_options(share.keyspace, self.options.table.section).at_level(plan.output).codec();
            share.sections().all(|(_, section)| section.codec == codec || section.entries == 0)
        })
    }

    /// Carries out a plan whose inputs go to their new level as they are.
    fn move_tables(&self, begun: &Begun) -> Result<()> {
        let plan = &begun.plan;
        let moves = plan.inputs().map(|(_, table, _)| (table.number(), plan.output)).collect();
        let moved = self.health.unless_it_panics(|| self.store.install_edit(Edit { moves, ..Edit::default() }));
        self.end(begun.number);
        moved.map(|_| self.background.note_success(Duty::Compaction))
    }

    /// Cuts a plan into subcompactions and lets other threads help.
    fn start(&self, begun: Begun) -> Result<Arc<Job>> {
        for share in begun.plan.shares.iter().filter(|share| share.inputs.iter().any(|(level, _)| *level == 0)) {
            self.readers.learned.cost.settle(share.keyspace);
        }
        let subcompactions = self.health.unless_it_panics(|| self.split(&begun.plan));
        let subcompactions = subcompactions.inspect_err(|_| self.end(begun.number))?;
        Ok(self.enlist(begun, subcompactions))
    }

    /// Lets other threads help with a plan.
    pub(super) fn enlist(&self, begun: Begun, subcompactions: Vec<Subcompaction>) -> Arc<Job> {
        let job = Job::new(begun, subcompactions);
        self.health.events.raise(|| job.begun.to_event());
        let helped = job.subcompactions.len() > 1;
        self.scheduler.enlist(&job);
        if helped {
            self.background.wake();
        }
        job
    }

    /// The subcompactions of a large compaction.
    fn shares(&self) -> usize {
        let threads = self.options.background_threads;
        if threads > 1 { threads * SUBCOMPACTIONS_PER_THREAD } else { 1 }
    }

    /// Spans of about equal size, at least as large as a table, for all threads.
    fn split(&self, plan: &Plan) -> Result<Vec<Subcompaction>> {
        let most = self.shares();
        let by_size = usize::try_from(plan.input_bytes() / self.options.table_bytes).unwrap_or(usize::MAX);
        let [share] = &plan.shares[..] else { return Ok(vec![Subcompaction::default()]) };
        let largest = share.sections().max_by_key(|(_, section)| section.end - section.start);
        match largest {
            Some((table, _)) if plan.output > 0 => {
                Ok(Subcompaction::between(table.pin()?.split_keys(share.keyspace, by_size.min(most))?))
            }
            _ => Ok(vec![Subcompaction::default()]),
        }
    }

    /// Merges subcompactions of a job until none is left; installs its outputs if the last one to finish is among them.
    pub(super) fn work_on(&self, job: Arc<Job>) -> Result<()> {
        let mut result = Ok(());
        while let Some(subcompaction) = job.take() {
            let merged =
                self.health.unless_it_panics(|| self.merger.merge_subcompaction(&job.begun.plan, subcompaction));
            let merged = merged.map_err(|e| self.health.stop_at_bug(e));
            let own = merged.as_ref().map(|_| ()).map_err(Error::clone);
            if let Some(merged) = job.finish(merged) {
                let (outputs, bytes) = (merged.outputs.table_numbers(), merged.outputs.bytes());
                let outcome = self.health.unless_it_panics(|| self.conclude(&job, merged));
                if let Err(e) = &outcome {
                    self.health.events.note_error(e);
                }
                self.health.events.raise(|| job.to_event(outputs, bytes, outcome.as_ref().err()));
                let _ = job.outcome.set(outcome.clone());
                let begun = job.begun.number;
                // It was the last subcompaction; with the job go the handles of its inputs.
                drop(job);
                self.end(begun);
                if outcome.is_ok() {
                    self.reserve.note_freed();
                    self.background.note_success(Duty::Compaction);
                }
                return result.and(outcome);
            }
            result = result.and(own);
        }
        result
    }

    /// Replaces the inputs by the outputs; after a failure, removes those again.
    fn conclude(&self, job: &Job, Merged { outputs, failure }: Merged) -> Result<()> {
        if let Some(failure) = failure {
            self.files.discard(&outputs);
            return Err(failure);
        }
        let mut edit = Edit::default();
        for (level, table, keyspace) in job.begun.plan.inputs() {
            match level {
                0 => edit.consume.push((table.number(), keyspace)),
                _ => edit.remove.push(table.number()),
            }
        }
        outputs.add_to(&mut edit, job.begun.plan.output);
        if self.store.install_new(edit, &outputs, &[])? == Installed::Superseded {
            return Ok(());
        }
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        self.counters.written.by_compactions.fetch_add(outputs.bytes(), Ordering::Relaxed);
        self.readers.meters.note(Measured::Compaction, job.started);
        self.counters.compacted_bytes.fetch_add(job.begun.plan.input_bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Takes a plan off the list of those under way, and removes what it has made obsolete.
    pub(super) fn end(&self, begun: u64) {
        let at_work = self.scheduler.end(begun);
        self.files.purge(&self.readers);
        drop(at_work);
        self.background.wake();
    }
}
