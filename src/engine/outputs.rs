//! What a flush or a compaction writes: tables, and the value files that they point to.

use std::sync::Arc;

use crate::format::edit::Edit;
use crate::sys::MappingWatch;
use crate::table::{Table, ValueFile};

/// Files that are no part of the database any more.
#[derive(Default)]
pub(super) struct Obsolete {
    /// A reader may still use them.
    pub(super) files: Outputs,
    /// Those that were removed, with their lengths, and whose space a slice may still keep.
    removed: Vec<(u64, MappingWatch)>,
}

impl Obsolete {
    /// A file of so many bytes is removed.
    pub(super) fn note_removed(&mut self, bytes: u64, watch: Option<MappingWatch>) {
        self.removed.retain(|(_, watch)| watch.is_kept());
        self.removed.extend(watch.map(|watch| (bytes, watch)));
    }

    /// Bytes of files that were removed and are still in use.
    pub(super) fn kept_bytes(&self) -> u64 {
        let kept = self.removed.iter().filter(|(_, watch)| watch.is_kept());
        kept.fold(0, |sum, (bytes, _)| sum.saturating_add(*bytes))
    }
}

/// Files that are on disk, and not part of the database yet.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    pub(super) tables: Vec<Arc<Table>>,
    pub(super) values: Vec<Arc<ValueFile>>,
}

impl Outputs {
    pub(super) fn extend(&mut self, others: Self) {
        self.tables.extend(others.tables);
        self.values.extend(others.values);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.values.is_empty()
    }

    /// The numbers of the tables.
    pub(super) fn table_numbers(&self) -> Vec<u64> {
        self.tables.iter().map(|table| table.number().0).collect()
    }

    /// The length of the files in bytes, indexes as well.
    pub(super) fn bytes(&self) -> u64 {
        let tables = self.tables.iter().map(|table| table.meta.file_bytes.saturating_add(table.index_bytes()));
        tables.chain(self.values.iter().map(|file| file.meta.file_bytes)).fold(0, u64::saturating_add)
    }

    /// Makes them part of an edit, the tables at a level.
    pub(super) fn add_to(&self, edit: &mut Edit, level: u8) {
        edit.add_values.extend(self.values.iter().map(|file| file.meta));
        edit.add.extend(self.tables.iter().map(|table| (level, table.meta.clone())));
    }
}
