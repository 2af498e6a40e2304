//! Handles of the files that an edit adds.

use std::sync::Arc;

use super::Keyspaces;
use crate::format::edit::TableMeta;
use crate::format::values::ValuesMeta;
use crate::table::{Table, TableCache, ValueFile};

/// Makes handles, or takes those of files that this process has just written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handles<'a> {
    table_cache: &'a Arc<TableCache>,
    tables: &'a [Arc<Table>],
    values: &'a [Arc<ValueFile>],
}

impl<'a> Handles<'a> {
    pub(crate) fn new(table_cache: &'a Arc<TableCache>) -> Self {
        Self { table_cache, tables: &[], values: &[] }
    }

    /// The same, with handles that are there already.
    pub(crate) fn with(self, tables: &'a [Arc<Table>], values: &'a [Arc<ValueFile>]) -> Self {
        Self { tables, values, ..self }
    }

    pub(super) fn table(&self, meta: &TableMeta, keyspaces: &Keyspaces) -> Arc<Table> {
        let known = self.tables.iter().find(|table| table.number() == meta.number);
        let new = || {
            let points = keyspaces.point_indexes(meta, self.table_cache.options.section);
            Arc::new(Table::new(meta.clone(), Arc::clone(self.table_cache), points))
        };
        known.map_or_else(new, Arc::clone)
    }

    pub(super) fn values(&self, meta: &ValuesMeta) -> Arc<ValueFile> {
        let known = self.values.iter().find(|file| file.number() == meta.number);
        known.map_or_else(|| ValueFile::new(*meta, Arc::clone(self.table_cache)), Arc::clone)
    }
}
