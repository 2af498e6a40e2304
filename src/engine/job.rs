//! Carrying out compactions: several at once where they do not touch each other, and a large one by several threads.

use std::sync::Arc;

use super::background::{Duty, Work};
use super::compact::Subcompaction;
use super::outputs::Outputs;
use super::scheduler::Begun;
use super::{Engine, Installed};
use crate::error::{Error, Result};
use crate::format::KeyspaceId;
use crate::format::edit::Edit;
use crate::format::range::{Edge, Range};
use crate::sys::atomic::Ordering;
use crate::sys::{LockRank, Mutex, OnceLock};
use crate::version::{Plan, Running, pick, plan_range};

/// Spans for each thread, so that one that has to flush in between does not hold up the others for long.
const SUBCOMPACTIONS_PER_THREAD: usize = 2;

/// A compaction whose subcompactions are merged one by one, by whoever has time; the last one to finish installs all outputs.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) begun: Begun,
    subcompactions: Vec<Subcompaction>,
    progress: Mutex<Progress>,
    outcome: Arc<OnceLock<Result<()>>>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The next subcompaction to begin.
    next: usize,
    under_way: usize,
    outputs: Outputs,
    failure: Option<Error>,
}

/// What all subcompactions of a job have come to.
#[derive(Debug)]
struct Merged {
    outputs: Outputs,
    /// Of the first one that has failed.
    failure: Option<Error>,
}

impl Job {
    /// Whether some of its subcompactions are still to be taken.
    pub(super) fn has_some_left(&self) -> bool {
        self.progress.lock().next < self.subcompactions.len()
    }

    fn take(&self) -> Option<&Subcompaction> {
        let mut progress = self.progress.lock();
        let subcompaction = self.subcompactions.get(progress.next)?;
        progress.next += 1;
        progress.under_way += 1;
        Some(subcompaction)
    }

    /// Notes how a subcompaction ended; returns what all of them have come to if it was the last one.
    fn finish(&self, outputs: Result<Outputs>) -> Option<Merged> {
        let mut progress = self.progress.lock();
        debug_assert!(
            progress.under_way > 0 && progress.next <= self.subcompactions.len(),
            "a subcompaction that ends has begun"
        );
        progress.under_way -= 1;
        match outputs {
            Ok(outputs) => progress.outputs.extend(outputs),
            Err(e) => {
                progress.next = self.subcompactions.len();
                progress.failure.get_or_insert(e);
            }
        }
        let last = progress.under_way == 0 && progress.next == self.subcompactions.len();
        last.then(|| Merged { outputs: std::mem::take(&mut progress.outputs), failure: progress.failure.take() })
    }
}

impl Engine {
    /// Whether a compaction is due.
    pub(super) fn compaction_wanted(&self, calm: bool) -> bool {
        let version = self.readers.version();
        pick(&version, &self.limits(calm), &Running::default()).is_some()
    }

    /// Helps with a compaction under way, or begins the most urgent one that may run beside those.
    pub(super) fn compact_next(&self, calm: bool) -> Result<Work> {
        self.with_space(|| self.try_compact_next(calm))
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
            if let Some(edit) = self.covered(&version, compactions.running())? {
                return self.install_edit(edit).map(|_| Work::Done);
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

    /// Removes the tables that nobody sees any more, if there are any; see [`Self::covered`].
    fn remove_covered(&self) -> Result<()> {
        {
            let compactions = self.scheduler.stand_still();
            let version = self.readers.version();
            let Some(edit) = self.covered(&version, compactions.running())? else { return Ok(()) };
            self.install_edit(edit)?;
        }
        self.files.purge(&self.readers);
        Ok(())
    }

    /// Compacts everything of a keyspace in a range (all of it, if `None`) into one level.
    pub(crate) fn compact_range(&self, keyspace: KeyspaceId, range: Range<'_>) -> Result<()> {
        self.check_not_within(if range == (Edge::START, Edge::End) { "compact" } else { "compact_range" })?;
        self.flush()?;
        // What lies in a removed range as a whole goes first: that takes no space, and what is left may need some.
        self.remove_covered()?;
        let compact = |is_due: fn(&Plan) -> bool| {
            self.once_there_is_space(|| self.with_space(|| self.compact_once(keyspace, range, is_due)))
        };
        // Which values the first one makes garbage, it knows only when it is done.
        let compacted = compact(|_| true).and_then(|()| compact(Plan::moves_values));
        // What this has made due.
        self.background.wake();
        compacted
    }

    /// Compacts what there is in a range, if the plan for that `is_due`.
    fn compact_once(&self, keyspace: KeyspaceId, range: Range<'_>, is_due: impl Fn(&Plan) -> bool) -> Result<()> {
        self.scheduler.stand_still().waiting += 1;
        let begun = self.begin_range(keyspace, range, is_due);
        self.scheduler.stand_still().waiting -= 1;
        match begun? {
            Some(begun) => self.compact_planned(begun),
            None => Ok(()),
        }
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
        if self.is_plain(plan) && !plan.moves_values() && stays && self.has_codecs(plan) {
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
            let (codec, _) = self.section_options(share.keyspace).at_level(plan.output).codec();
            share.sections().all(|(_, section)| section.codec == codec || section.entries == 0)
        })
    }

    /// Carries out a plan whose inputs go to their new level as they are.
    fn move_tables(&self, begun: &Begun) -> Result<()> {
        let plan = &begun.plan;
        let moves = plan.inputs().map(|(_, table, _)| (table.number(), plan.output)).collect();
        let moved = self.health.unless_it_panics(|| self.install_edit(Edit { moves, ..Edit::default() }));
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
        let progress = Mutex::new(LockRank::Job, Progress::default());
        let job = Job { begun, subcompactions, progress, outcome: Arc::default() };
        let job = Arc::new(job);
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
            let merged = self.health.unless_it_panics(|| self.merge_subcompaction(&job.begun.plan, subcompaction));
            let merged = merged.map_err(|e| self.health.stop_at_bug(e));
            let own = merged.as_ref().map(|_| ()).map_err(Error::clone);
            if let Some(merged) = job.finish(merged) {
                let outcome = self.health.unless_it_panics(|| self.conclude(&job, merged));
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
        if self.install_new(edit, &outputs, &[])? == Installed::Superseded {
            return Ok(());
        }
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
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
