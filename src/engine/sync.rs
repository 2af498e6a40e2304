//! Making the log durable, and the marks that let recovery tell a torn tail from damage.

use std::sync::Arc;

use super::Engine;
use super::outputs::Outputs;
use super::write::Writer;
use crate::error::{Error, Result};
use crate::format::Position;
use crate::format::edit::Edit;
use crate::format::group::GroupKind;
use crate::format::names::FileKind;
use crate::sys::atomic::Ordering;
use crate::sys::{Condvar, LockRank, Mutex, MutexGuard, SyncFile};

/// Who syncs, and how far the log is durable: where those wait who want no more than that. They must not queue for [`Syncing`],
/// behind somebody who syncs what he has committed since.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<Turn>,
    /// The state has changed.
    over: Condvar,
}

impl Default for Turns {
    fn default() -> Self {
        Self { state: Mutex::new(LockRank::Turns, Turn::default()), over: Condvar::default() }
    }
}

#[derive(Debug, Default)]
struct Turn {
    taken: bool,
    durable: Option<Position>,
}

impl Turns {
    /// Waits until the log is durable up to `end`, or answers true: then it is the caller's turn to make it so, and to
    /// [end it](Self::end).
    fn take(&self, end: Position) -> bool {
        let mut turn = self.state.lock();
        loop {
            if turn.durable >= Some(end) {
                return false;
            }
            if !turn.taken {
                turn.taken = true;
                return true;
            }
            self.over.wait(&mut turn);
        }
    }

    fn end(&self, durable: Option<Position>) {
        let mut turn = self.state.lock();
        turn.taken = false;
        turn.durable = turn.durable.max(durable);
        drop(turn);
        self.over.notify_all();
    }
}

/// The right to sync the log: one sync after the other, so that each finds what the one before has left.
pub(super) struct Syncing<'e> {
    _held: MutexGuard<'e, ()>,
}

/// What a sync of the log has to do at one moment.
struct Unsynced {
    end: Position,
    /// Oldest first, with the place up to which each is to be synced.
    files: Vec<(Position, Arc<dyn SyncFile>)>,
    directory: bool,
    /// Whether the manifest does not know yet that there is anything durable in the segment of the end.
    unrecorded: bool,
}

impl Writer {
    fn unsynced(&self) -> Unsynced {
        let end = self.end();
        let mut files = self.unsynced.clone();
        if self.durable < Some(end) {
            files.extend(self.active.as_ref().map(|(log, _)| (end, log.syncer())));
        }
        let unrecorded = self.recorded < end.segment;
        Unsynced { end, files, directory: self.directory_dirty, unrecorded }
    }

    fn note_synced(&mut self, synced: &Unsynced) {
        debug_assert!(synced.end <= self.end(), "nothing is durable that is not in the log");
        self.unsynced.retain(|(position, _)| *position > synced.end);
        if self.end().segment == synced.end.segment {
            self.directory_dirty = false;
        }
        self.durable = self.durable.max(Some(synced.end));
    }
}

impl Engine {
    /// Makes everything committed so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.health.check_writable()?;
        let end = self.writer.lock().end();
        self.sync_to(end)
    }

    /// Waits for whoever syncs now.
    pub(super) fn syncing(&self) -> Syncing<'_> {
        Syncing { _held: self.syncing.lock() }
    }

    /// Waits until the log is durable up to `end`. Whoever gets the turn syncs for all who have committed until then.
    pub(super) fn sync_to(&self, end: Position) -> Result<()> {
        if !self.turns.take(end) {
            return Ok(());
        }
        let durable = self.sync_alone(end);
        self.turns.end(durable.as_ref().ok().copied());
        durable.map(|_| ())
    }

    /// Makes the log durable up to `end` at least; answers how far it is.
    fn sync_alone(&self, end: Position) -> Result<Position> {
        let syncing = self.syncing();
        if let Some(durable) = self.writer.lock().durable.filter(|durable| *durable >= end) {
            return Ok(durable);
        }
        self.health.check_writable()?;
        self.sync_log(&syncing)
    }

    /// Syncs everything up to the end that the log has now, oldest segment first, and moves the durable position there:
    /// never over groups committed after this call has read the end.
    ///
    /// What is durable in a segment must be known outside of it, or losing the segment is silence. So the first sync that ends
    /// in one tells the manifest, after the segment and its name are on disk and before anybody is told that they are.
    ///
    /// Whatever fails in here ends the writing: commits that are about to be refused have been shown, and nothing may follow
    /// them.
    pub(super) fn sync_log(&self, _alone: &Syncing<'_>) -> Result<Position> {
        let mut unsynced = self.writer.lock().unsynced();
        // The directory is synced before `CURRENT` names a fresh manifest, and that says that the segment is there.
        unsynced.directory &= !unsynced.unrecorded || self.manifest.lock().is_fresh();
        self.sync_files(&unsynced)?;
        if unsynced.unrecorded {
            self.record_durable(unsynced.end).map_err(|e| self.health.poison(e))?;
        }
        let mut writer = self.writer.lock();
        writer.note_synced(&unsynced);
        writer.recorded = writer.recorded.max(unsynced.end.segment);
        Ok(unsynced.end)
    }

    /// Makes the manifest know that the log is durable up to `end`. Changes no version, so this is no `install`.
    pub(super) fn record_durable(&self, end: Position) -> Result<()> {
        let mut manifest = self.manifest.lock();
        self.health.check_intact()?;
        self.files.check_lock(&self.health)?;
        if manifest.state().first_segment > end.segment {
            // A flush has been quicker.
            return Ok(());
        }
        let next_number = Some(self.files.next_number());
        let edit = Edit { log_durable: Some(end), next_number, ..Edit::default() };
        let version = self.readers.version();
        let appended =
            manifest.append(&edit, &version, || self.files.new_number()).map_err(|e| self.health.unrecorded(e))?;
        self.files.retire(Outputs::default(), appended, &manifest, &self.readers);
        Ok(())
    }

    /// Syncs everything while nobody can commit: for those who have synced nearly all of it before, and tell the manifest
    /// themselves.
    pub(super) fn sync_held(&self, _alone: &Syncing<'_>, writer: &mut Writer) -> Result<()> {
        let unsynced = writer.unsynced();
        self.sync_files(&unsynced)?;
        writer.note_synced(&unsynced);
        Ok(())
    }

    /// A failed sync is never tried again: the kernel may have dropped the pages and answer success.
    fn sync_files(&self, unsynced: &Unsynced) -> Result<()> {
        let sync = || {
            for (position, file) in &unsynced.files {
                self.counters.log_syncs.fetch_add(1, Ordering::Relaxed);
                let path = || self.files.path_of(&FileKind::Segment.name(position.segment));
                file.sync().map_err(|e| Error::io("sync", &path(), e))?;
            }
            self.health.check_mapped()?;
            if unsynced.directory {
                self.files.sync_names()?;
            }
            // Last: whoever has locked another lock file since has found all of this, and nothing is acknowledged that he
            // has not.
            self.files.check_lock(&self.health)
        };
        sync().map_err(|e| self.health.poison(e))
    }

    /// Whether the log has groups behind the last mark.
    pub(super) fn has_unmarked(&self) -> Option<Position> {
        let writer = self.writer.lock();
        let end = writer.end();
        (writer.active.is_some() && writer.marked < end && !self.health.is_poisoned()).then_some(end)
    }

    /// Syncs the log and writes a mark that says so, if nothing has been committed since `seen`. The next open then knows
    /// that damage in front of the mark is damage and no torn tail.
    pub(super) fn mark_idle(&self, seen: Position) -> Result<()> {
        let syncing = self.syncing();
        self.health.check_writable()?;
        let end = self.sync_log(&syncing)?;
        {
            let mut writer = self.writer.lock();
            if writer.end() != end || end != seen {
                return Ok(());
            }
            self.mark(&mut writer, GroupKind::Idle, end)?;
        }
        self.sync_log(&syncing).map(|_| ())
    }

    fn mark(&self, writer: &mut Writer, kind: GroupKind, durable: Position) -> Result<()> {
        let Some((log, _)) = &mut writer.active else { return Ok(()) };
        // A mark that finds no space is not there, and nothing else is lost.
        log.mark(kind, durable).map_err(|e| self.log_error(log, e))?;
        writer.marked = Position { segment: log.number(), offset: log.end() };
        Ok(())
    }

    /// Ends the run, once: whoever calls this later or meanwhile gets the same answer, when the directory is free.
    pub(crate) fn close(&self) -> Result<()> {
        // Before the lock, which the parent of a forked child may have held.
        if self.health.is_forked() {
            return Err(Error::Closed);
        }
        // And a callback that whoever has the lock is waiting for.
        self.check_not_within("close")?;
        let mut ended = self.ended.lock();
        ended.get_or_insert_with(|| self.end_run()).clone()
    }

    /// Background work is cancelled, the log synced and marked as complete, the manifest as well, and the directory unlocked,
    /// whatever fails before. Does not flush. Of a poisoned store nothing is synced or marked, and the answer says so: what
    /// was committed since the last good sync may be lost.
    fn end_run(&self) -> Result<()> {
        self.health.cancel();
        self.background.stop();
        self.wait_for_compactions();
        let _no_flush = self.flushing();
        let syncing = self.syncing();
        {
            let _writer = self.writer.lock();
            self.health.close();
            self.files.shelf.give_up();
        }
        let ended = if self.options.read_only { Ok(()) } else { self.mark_end(&syncing) };
        self.files.purge(&self.readers);
        self.files.unlock();
        ended
    }

    /// The manifest gets to know where the log ends, so that a lost or shortened segment is noticed as well.
    fn mark_end(&self, syncing: &Syncing<'_>) -> Result<()> {
        self.health.check_intact()?;
        let end = self.sync_log(syncing)?;
        self.mark(&mut self.writer.lock(), GroupKind::Close, end)?;
        self.sync_log(syncing)?;
        let segment_ends = self.readers.view().memtables.iter().map(|log| (log.number(), log.log_bytes())).collect();
        let mut manifest = self.manifest.lock();
        // An edit that was under way when the store was closed may have failed, and nothing good stands behind half of one.
        self.health.check_intact()?;
        manifest.close(&Edit { segment_ends, ..Edit::default() })
    }
}
