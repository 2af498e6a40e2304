//! What a flush or a compaction writes: tables, and the value files that they point to.

use std::sync::Arc;

use crate::format::edit::Edit;
use crate::table::{Table, ValueFile};

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

    /// Makes them part of an edit, the tables at a level.
    pub(super) fn add_to(&self, edit: &mut Edit, level: u8) {
        edit.add_values.extend(self.values.iter().map(|file| file.meta));
        edit.add.extend(self.tables.iter().map(|table| (level, table.meta.clone())));
    }
}
