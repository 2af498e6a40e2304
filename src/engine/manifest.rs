//! The manifest behind its lock, and what goes with every change of it.

use std::sync::Arc;

use super::files::Files;
use super::health::Health;
use super::outputs::Outputs;
use super::readers::Readers;
use crate::error::Result;
use crate::event::Event;
use crate::format::Position;
use crate::format::edit::Edit;
use crate::sys::{LockRank, Mutex, MutexGuard};
use crate::version::{Appended, Manifest, Version};

/// The durable state of the store: which tables there are, and what is known of the log.
pub(crate) struct SharedManifest {
    manifest: Mutex<Manifest>,
    health: Arc<Health>,
    files: Arc<Files>,
    readers: Arc<Readers>,
}

/// The manifest, by whoever may change it: the store goes on, and its directory is its own.
pub(super) struct Recording<'m> {
    manifest: MutexGuard<'m, Manifest>,
    of: &'m SharedManifest,
}

/// What a preparation for edits to come has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    /// There is a manifest, and the space for a fresh one.
    Ready,
    /// There has never been one.
    Missing,
}

impl SharedManifest {
    pub(super) fn new(manifest: Manifest, health: &Arc<Health>, files: &Arc<Files>, readers: &Arc<Readers>) -> Self {
        Self {
            manifest: Mutex::new(LockRank::Manifest, manifest),
            health: Arc::clone(health),
            files: Arc::clone(files),
            readers: Arc::clone(readers),
        }
    }

    /// Waits for whoever changes it now, and keeps others from that.
    pub(super) fn lock(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock()
    }

    /// Waits for whoever changes it now, to change it.
    pub(super) fn recording(&self) -> Result<Recording<'_>> {
        let manifest = self.lock();
        self.health.check_writable()?;
        self.files.check_lock(&self.health)?;
        self.health.check_mapped()?;
        Ok(Recording { manifest, of: self })
    }

    /// Whether `CURRENT` names a manifest that was made since the open.
    pub(super) fn is_fresh(&self) -> bool {
        self.lock().is_fresh()
    }

    /// Whether the next edit goes into another manifest, with everything else.
    pub(super) fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    /// Takes the space for an edit that must not be refused once something else has been written.
    pub(super) fn make_room(&self, edit: &Edit) -> Result<()> {
        self.lock().make_room(edit)
    }

    /// Makes it known that the log is durable up to `end`. Changes no version. May be a part of the close.
    pub(super) fn record_durable(&self, end: Position) -> Result<()> {
        let manifest = self.lock();
        self.health.check_intact()?;
        self.files.check_lock(&self.health)?;
        if manifest.state().first_segment > end.segment {
            // A flush has been quicker.
            return Ok(());
        }
        let mut recording = Recording { manifest, of: self };
        let mut edit = Edit { log_durable: Some(end), ..Edit::default() };
        let appended = recording.append(&mut edit, &self.readers.version())?;
        recording.retire(Outputs::default(), appended);
        Ok(())
    }

    /// Prepares a fresh manifest before the first segment of this run: what is durable in the log must be known outside of it,
    /// and that there is no space for it has to be said before anything is in the log.
    pub(super) fn prepare(&self) -> Result<Prepared> {
        // Here and with what follows, files get names.
        self.files.check_lock(&self.health)?;
        let mut manifest = self.lock();
        if manifest.current().is_none() {
            return Ok(Prepared::Missing);
        }
        let version = self.readers.version();
        let prepared = manifest.prepare(&version, || self.files.new_number());
        prepared.map(|()| Prepared::Ready).map_err(|e| self.health.unrecorded(e))
    }

    /// Marks the end of a clean run, after a last edit.
    pub(super) fn close(&self, last: &Edit) -> Result<()> {
        let mut manifest = self.lock();
        // An edit that was under way when the store was closed may have failed, and nothing good stands behind half of one.
        self.health.check_intact()?;
        manifest.close(last)
    }
}

impl Recording<'_> {
    /// Makes an edit durable; `version` is the one that it leads to.
    pub(super) fn append(&mut self, edit: &mut Edit, version: &Version) -> Result<Appended> {
        let SharedManifest { files, health, .. } = self.of;
        edit.next_number = Some(files.next_number());
        let appended = self.manifest.append(edit, version, || files.new_number()).map_err(|e| health.unrecorded(e))?;
        if matches!(appended, Appended::Fresh { .. }) {
            health.events.raise(|| Event::ManifestReplaced);
        }
        Ok(appended)
    }

    /// Takes care of what an edit has made obsolete, once readers see what it leads to.
    pub(super) fn retire(&self, gone: Outputs, appended: Appended) {
        self.of.files.retire(gone, appended, &self.manifest, &self.of.readers);
    }
}
