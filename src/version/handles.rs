//! Handles of the files that an edit adds.

use std::sync::Arc;

use super::Keyspaces;
use crate::format::edit::TableMeta;
use crate::format::values::ValuesMeta;
use crate::table::{Shelf, Table, ValueFile};

/// Makes handles, or takes those of files that this process has just written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handles<'a> {
    shelf: &'a Arc<Shelf>,
    tables: &'a [Arc<Table>],
    values: &'a [Arc<ValueFile>],
}

impl<'a> Handles<'a> {
    pub(crate) fn new(shelf: &'a Arc<Shelf>) -> Self {
        Self { shelf, tables: &[], values: &[] }
    }

    /// The same, with handles that are there already.
    pub(crate) fn with(self, tables: &'a [Arc<Table>], values: &'a [Arc<ValueFile>]) -> Self {
        Self { tables, values, ..self }
    }

    pub(super) fn table(&self, meta: &TableMeta, keyspaces: &Keyspaces) -> Arc<Table> {
        let known = self.tables.iter().find(|table| table.number() == meta.number);
        let new = || {
            let points = keyspaces.point_indexes(meta, self.shelf.options.section);
            Arc::new(Table::new(meta.clone(), Arc::clone(self.shelf), points))
        };
        known.map_or_else(new, Arc::clone)
    }

    pub(super) fn values(&self, meta: &ValuesMeta) -> Arc<ValueFile> {
        let known = self.values.iter().find(|file| file.number() == meta.number);
        known.map_or_else(|| ValueFile::new(*meta, Arc::clone(self.shelf)), Arc::clone)
    }
}
