//! Making the log durable, and the marks that let recovery tell a torn tail from damage.

use super::Engine;
use super::log::{Syncing, Unsynced, Writer};
use super::outputs::Outputs;
use crate::error::{Error, Result};
use crate::format::Position;
use crate::format::edit::Edit;
use crate::format::group::GroupKind;
use crate::format::names::FileKind;
use crate::sys::atomic::Ordering;

impl Engine {
    /// Makes everything committed so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.health.check_writable()?;
        let end = self.log.end();
        self.sync_to(end)
    }

    /// Waits until the log is durable up to `end`.
    pub(super) fn sync_to(&self, end: Position) -> Result<()> {
        self.log.sync_to(end, |syncing| {
            self.health.check_writable()?;
            self.sync_log(syncing)
        })
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
        let mut unsynced = self.log.writer().unsynced();
        // The directory is synced before `CURRENT` names a fresh manifest, and that says that the segment is there.
        unsynced.directory &= !unsynced.unrecorded || self.manifest.lock().is_fresh();
        self.sync_files(&unsynced)?;
        if unsynced.unrecorded {
            self.record_durable(unsynced.end).map_err(|e| self.health.poison(e))?;
        }
        let mut writer = self.log.writer();
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

    /// Syncs the log and writes a mark that says so, if nothing has been committed since `seen`. The next open then knows
    /// that damage in front of the mark is damage and no torn tail.
    pub(super) fn mark_idle(&self, seen: Position) -> Result<()> {
        let syncing = self.log.syncing();
        self.health.check_writable()?;
        let end = self.sync_log(&syncing)?;
        {
            let mut writer = self.log.writer();
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
        self.scheduler.wait_until_done();
        let _no_flush = self.scheduler.flushing();
        let syncing = self.log.syncing();
        {
            let _writer = self.log.writer();
            self.health.close();
            self.files.table_cache.give_up();
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
        self.mark(&mut self.log.writer(), GroupKind::Close, end)?;
        self.sync_log(syncing)?;
        let segment_ends =
            self.readers.read_state().memtables.iter().map(|log| (log.number(), log.log_bytes())).collect();
        let mut manifest = self.manifest.lock();
        // An edit that was under way when the store was closed may have failed, and nothing good stands behind half of one.
        self.health.check_intact()?;
        manifest.close(&Edit { segment_ends, ..Edit::default() })
    }
}
