//! The state of the store, and the one place where it changes.

use std::sync::Arc;

use super::between::Between;
use super::files::Files;
use super::health::Health;
use super::keyspaces::KeyspaceNames;
use super::manifest::{Prepared, SharedManifest};
use super::outputs::Outputs;
use super::read_state::ReadState;
use super::readers::Readers;
use super::write_stalls::WriteStalls;
use crate::error::{Error, Result};
use crate::format::FileNumber;
use crate::format::edit::Edit;
use crate::version::Handles;

/// What is durable, and what readers see of it.
pub(crate) struct Store {
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) readers: Arc<Readers>,
    pub(super) keyspaces: Arc<KeyspaceNames>,
    pub(super) stalls: Arc<WriteStalls>,
    pub(super) manifest: SharedManifest,
    /// Tables of level 0 that start a compaction.
    pub(super) l0_tables: usize,
    /// Whether a compaction may remove more than what nobody sees.
    pub(super) filters: bool,
}

/// What has become of an edit that could be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Installed {
    /// It is durable and visible.
    Done,
    /// Nothing has been done: it is about tables of a keyspace that has been dropped since it was planned.
    Superseded,
}

impl Store {
    /// Makes an edit durable and then visible: the one place where the state of the database changes.
    ///
    /// Order: manifest append and sync, new version, publication, and only then may files become obsolete. `outputs` has the
    /// handles of the files that the edit adds; `flushed` are the memtables that it replaces by them.
    fn install(&self, mut edit: Edit, outputs: &Outputs, flushed: &[FileNumber]) -> Result<Installed> {
        let mut recording = self.manifest.recording()?;
        let version = self.readers.version();
        if version.has_dropped(&edit) {
            return Ok(Installed::Superseded);
        }
        let dropped = version.dropped_sections(&edit);
        edit.consume.extend(dropped);
        let handles = Handles::new(&self.files.table_cache).with(&outputs.tables, &outputs.values);
        // Tables that someone has forged are refused here as well, so this is damage and no bug.
        let (next, gone) =
            version.replace(&edit, &handles).map_err(|damage| Error::corrupt(self.files.path(), 0, damage))?;
        let next = Arc::new(next);
        let appended = recording.append(&mut edit, &next)?;
        for memtable in self.readers.load().memtables.iter().filter(|memtable| flushed.contains(&memtable.number())) {
            self.files.note_flushed(memtable);
        }
        let between = Between::disk_and_memory(&self.health);
        self.keyspaces.set_dropped(&edit.drop, version.named());
        self.publish(|read_state| {
            read_state.memtables.retain(|memtable| !flushed.contains(&memtable.number()));
            read_state.version = Arc::clone(&next);
            if self.filters && (!edit.consume.is_empty() || !edit.remove.is_empty()) {
                read_state.kept = read_state.kept.forget();
            }
        });
        between.agree();
        let values_before = version.values().iter().map(|stored| &stored.file).chain(&outputs.values);
        let values_gone = values_before.filter(|file| !next.values().contains(file.number())).cloned().collect();
        drop(version);
        recording.retire(Outputs { tables: gone, values: values_gone }, appended);
        Ok(Installed::Done)
    }

    /// Installs an edit that adds no files.
    pub(super) fn install_edit(&self, edit: Edit) -> Result<Installed> {
        self.install(edit, &Outputs::default(), &[])
    }

    /// Installs an edit with new files, whose names become durable first. If the edit cannot have been recorded, the files
    /// are removed again.
    pub(super) fn install_new(&self, edit: Edit, outputs: &Outputs, flushed: &[FileNumber]) -> Result<Installed> {
        let synced =
            if outputs.is_empty() { Ok(()) } else { self.files.sync_names().map_err(|e| self.health.poison(e)) };
        let installed = synced.and_then(|()| self.install(edit, outputs, flushed));
        if !matches!(installed, Ok(Installed::Done)) && !self.health.is_poisoned() {
            self.files.discard(outputs);
        }
        installed
    }

    /// Prepares a manifest before the first segment of this run. The first one of all is there at once: a log without one is
    /// a database that has lost it.
    pub(super) fn start_manifest(&self) -> Result<()> {
        match self.manifest.prepare()? {
            Prepared::Ready => Ok(()),
            Prepared::Missing => self.install_edit(Edit::default()).map(|_| ()),
        }
    }

    /// Replaces the read state by a changed copy.
    pub(super) fn publish(&self, change: impl FnOnce(&mut ReadState)) {
        self.readers.publish(|read_state| {
            change(read_state);
            self.stalls.update(read_state, self.l0_tables);
        });
    }
}
