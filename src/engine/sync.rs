//! Making the log durable, and the marks that let recovery tell a torn tail from damage.

use std::sync::Arc;

use super::commits::Commits;
use super::counters::Counters;
use super::files::Files;
use super::health::Health;
use super::log::{LogEnd, Syncing, Unsynced, Writer};
use super::readers::Readers;
use super::store::Store;
use crate::error::{Error, Result};
use crate::format::Position;
use crate::format::edit::Edit;
use crate::format::group::GroupKind;
use crate::format::names::FileKind;
use crate::meter::Measured;
use crate::sys::atomic::Ordering;

/// Makes durable what is in the log.
pub(crate) struct Syncer {
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) readers: Arc<Readers>,
    pub(super) store: Arc<Store>,
    pub(super) log: Arc<LogEnd>,
    pub(super) commits: Arc<Commits>,
    pub(super) counters: Arc<Counters>,
}

impl Syncer {
    /// Makes everything committed so far durable.
    pub(super) fn sync(&self) -> Result<()> {
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
        unsynced.directory &= !unsynced.unrecorded || self.store.manifest.is_fresh();
        self.sync_files(&unsynced)?;
        if unsynced.unrecorded {
            self.store.manifest.record_durable(unsynced.end).map_err(|e| self.health.poison(e))?;
        }
        let mut writer = self.log.writer();
        writer.note_synced(&unsynced);
        writer.recorded = writer.recorded.max(unsynced.end.segment);
        drop(writer);
        self.commits.set_durable(unsynced.end);
        Ok(unsynced.end)
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
        self.readers.meters.measure(Measured::Sync, sync).map_err(|e| self.health.poison(e))
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
        log.mark(kind, durable).map_err(|e| self.files.log_error(&self.health, log, e))?;
        writer.marked = Position { segment: log.number(), offset: log.end() };
        Ok(())
    }

    /// The manifest gets to know where the log ends, so that a lost or shortened segment is noticed as well.
    pub(super) fn mark_end(&self, syncing: &Syncing<'_>) -> Result<()> {
        self.health.check_intact()?;
        let end = self.sync_log(syncing)?;
        self.mark(&mut self.log.writer(), GroupKind::Close, end)?;
        self.sync_log(syncing)?;
        let segment_ends =
            self.readers.read_state().memtables.iter().map(|log| (log.number(), log.log_bytes())).collect();
        self.store.manifest.close(&Edit { segment_ends, ..Edit::default() })
    }
}
