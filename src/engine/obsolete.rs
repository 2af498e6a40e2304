//! Removing files that nothing refers to any more. A file that cannot be removed now is removed by a later open.

use std::collections::HashSet;
use std::sync::Arc;

use super::files::Files;
use super::health::Health;
use super::outputs::Outputs;
use super::readers::Readers;
use crate::format::FileNumber;
use crate::format::names::{FileKind, numbered};
use crate::memtable::Memtable;
use crate::sys::atomic::Ordering;
use crate::table::write_index;
use crate::version::{Appended, Manifest, Version};

/// Whether this is the last handle of a table or value file. They are in read states and iterators; if this one is the last,
/// nobody can make another, but who lets go of tables, for a moment and not to open it. (A read state that is only borrowed
/// counts as well: replacing a read state takes a count for each of its borrowers.)
fn is_last<T>(handle: &Arc<T>) -> bool {
    let is_last = Arc::strong_count(handle) == 1;
    // The unlink comes behind everything that the last user did.
    std::sync::atomic::fence(Ordering::Acquire);
    is_last
}

impl Files {
    /// Takes care of what an installed edit has made obsolete.
    pub(super) fn retire(&self, gone: Outputs, appended: Appended, manifest: &Manifest, readers: &Readers) {
        self.obsolete.lock().files.extend(gone);
        self.purge(readers);
        self.remove_segments(manifest.state().first_segment);
        if let Appended::Fresh { replaced } = appended {
            if let Some(replaced) = replaced {
                let _ = self.dir.remove(&FileKind::Manifest.name(replaced));
            }
            for name in self.leftovers(manifest, &readers.load().version, &self.names()) {
                let _ = self.dir.remove(name);
            }
        }
    }

    /// Removes obsolete tables and value files that no reader uses any more. Slices do not count: what they need stays mapped.
    /// The memory for indexes that this frees is for the tables that have found none.
    pub(super) fn purge(&self, readers: &Readers) {
        self.remove_obsolete();
        let version = readers.version();
        self.table_cache.share_index_memory(version.tables().map(|(_, table)| table));
    }

    fn remove_obsolete(&self) {
        let mut obsolete = self.obsolete.lock();
        let mut removed = Vec::new();
        obsolete.files.tables.retain(|table| {
            if !is_last(table) {
                return true;
            }
            self.remove_table(table.number());
            removed.push((table.meta.file_bytes, table.watch()));
            false
        });
        obsolete.files.values.retain(|file| {
            let used = !is_last(file);
            if !used {
                self.remove_values(file.number());
                removed.push((file.meta.file_bytes, file.watch()));
            }
            used
        });
        for (bytes, watch) in removed {
            obsolete.note_removed(bytes, watch);
        }
    }

    /// Whether there are files that go when their last reader ends.
    pub(super) fn has_obsolete(&self) -> bool {
        !self.obsolete.lock().files.is_empty()
    }

    pub(crate) fn obsolete_bytes(&self) -> u64 {
        let obsolete = &self.obsolete.lock().files;
        let values = obsolete.values.iter().map(|file| file.meta.file_bytes);
        obsolete.tables.iter().map(|table| table.meta.file_bytes).chain(values).sum()
    }

    /// A memtable goes, whose segment is going to be removed.
    pub(super) fn note_flushed(&self, memtable: &Memtable) {
        self.obsolete.lock().note_removed(memtable.log_bytes(), Some(memtable.mapping().watch()));
    }

    /// Bytes of files that were removed and that something keeps mapped.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.obsolete.lock().kept_bytes()
    }

    /// Removes files that have not become part of the database.
    pub(super) fn discard(&self, outputs: &Outputs) {
        for table in &outputs.tables {
            self.remove_table(table.number());
        }
        for file in &outputs.values {
            self.remove_values(file.number());
        }
    }

    pub(super) fn remove_table(&self, number: FileNumber) {
        let _ = self.dir.remove(&FileKind::Index.name(number));
        let _ = self.dir.remove(&FileKind::Table.name(number));
    }

    pub(super) fn remove_values(&self, number: FileNumber) {
        let _ = self.dir.remove(&FileKind::Values.name(number));
    }

    /// Removes log segments in front of the first one that is needed. Memtables that readers still hold stay mapped.
    fn remove_segments(&self, first: FileNumber) {
        let removed_before = FileNumber(self.segments_removed_below.fetch_max(first.0, Ordering::Relaxed));
        if removed_before >= first {
            return;
        }
        for (kind, number) in numbered(&self.names()) {
            if kind == FileKind::Segment && number < first {
                let _ = self.dir.remove(&kind.name(number));
            }
        }
    }

    /// Of these names in the directory, the files that earlier runs have left and that are no part of the database: tables and
    /// value files of unfinished work, old segments and manifests. They go when a fresh manifest is durable. What this run has
    /// made is its own business: it may be in work, or is removed when its last reader is gone. The lock on the manifest keeps
    /// files from becoming obsolete meanwhile.
    pub(super) fn leftovers<'n>(&self, manifest: &Manifest, version: &Version, names: &'n [String]) -> Vec<&'n str> {
        let mut tables: HashSet<FileNumber> = version.tables().map(|(_, table)| table.number()).collect();
        // What a reader still uses goes by `purge`.
        let obsolete_values: HashSet<FileNumber> = {
            let obsolete = &self.obsolete.lock().files;
            tables.extend(obsolete.tables.iter().map(|table| table.number()));
            obsolete.values.iter().map(|file| file.number()).collect()
        };
        let needed = |kind, number| match kind {
            FileKind::Table | FileKind::Index => tables.contains(&number),
            FileKind::Values => version.values().contains(number) || obsolete_values.contains(&number),
            FileKind::Segment => number >= manifest.state().first_segment,
            FileKind::Manifest => manifest.current() == Some(number),
        };
        let is_left = |name: &&str| {
            FileKind::parse(name).is_some_and(|(kind, number)| !self.is_own(number) && !needed(kind, number))
        };
        names.iter().map(String::as_str).filter(is_left).collect()
    }

    fn names(&self) -> Vec<String> {
        self.dir.list().unwrap_or_default()
    }

    /// Writes indexes that were lost or damaged and have been made again in memory.
    pub(super) fn restore_indexes(&self, version: &Version, health: &Health) {
        if health.is_read_only() {
            return;
        }
        for (_, table) in version.tables() {
            let Some(index) = table.lost_index() else { continue };
            if self.check_lock(health).is_err() {
                return;
            }
            let _ = self.dir.remove(&FileKind::Index.name(table.number()));
            // Without the file, the next open makes it again; so an error here loses nothing.
            if write_index(&*self.dir, table.number(), [index.bytes()]).is_ok() {
                let _ = self.dir.sync();
            }
            table.index_restored();
        }
    }
}
