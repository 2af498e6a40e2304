//! What a reader looks at: memtables and tables, immutable as a set.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::format::entry::Kind;
use crate::format::{KeyspaceId, Sequence};
use crate::memtable::{Lookup, Memtable, RunCursor};
use crate::merge::{LevelCursor, Source};
use crate::sys::Mapping;
use crate::table::{TableCursor, Verify};
use crate::version::Version;
use crate::visibility::Visibility;

/// Every entry that has been committed is in one of the parts; which ones a reader sees is decided by its sequence.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Newest first. The first one still grows if `growing` is set; the others are frozen and wait for their flush.
    pub(crate) memtables: Vec<Arc<Memtable>>,
    pub(crate) growing: bool,
    pub(crate) version: Arc<Version>,
}

/// Where a lookup ended.
#[derive(Debug)]
pub(crate) enum Find<'v> {
    /// The mapping with the value, and the value's range in it.
    Value(&'v Mapping, Range<usize>),
    Absent,
    /// See [`Lookup::Retry`].
    Retry,
}

impl View {
    /// Memtables that wait to be flushed, newest first.
    pub(crate) fn frozen(&self) -> &[Arc<Memtable>] {
        self.memtables.get(usize::from(self.growing)..).unwrap_or_default()
    }

    /// The value of a key at `at`: memtables, then level 0, newest first, then one table of each deeper level.
    #[inline]
    pub(crate) fn find(
        &self,
        keyspace: KeyspaceId,
        hash: u64,
        key: &[u8],
        at: Sequence,
        registered: bool,
    ) -> Result<Find<'_>> {
        for memtable in &self.memtables {
            match memtable.get(keyspace, hash, key, at, registered) {
                Lookup::Missing => {}
                Lookup::Retry => return Ok(Find::Retry),
                Lookup::Entry(entry) if entry.kind == Kind::Delete => return Ok(Find::Absent),
                Lookup::Entry(entry) => return Ok(Find::Value(memtable.mapping(), entry.value_start..entry.end)),
            }
        }
        for table in self.version.level0(keyspace) {
            let reader = table.reader()?;
            if let Some(entry) = reader.get(keyspace, hash, key, at)? {
                return Ok(found(reader.mapping(), &entry));
            }
        }
        let Some(tree) = self.version.tree(keyspace) else { return Ok(Find::Absent) };
        for (_, tables) in tree.levels() {
            let after = tables.partition_point(|t| t.only_section().is_some_and(|s| s.max_key.as_slice() < key));
            let Some(table) = tables.get(after) else { continue };
            if table.only_section().is_none_or(|section| section.min_key.as_slice() > key) {
                continue;
            }
            let reader = table.reader()?;
            if let Some(entry) = reader.get(keyspace, hash, key, at)? {
                return Ok(found(reader.mapping(), &entry));
            }
        }
        Ok(Find::Absent)
    }

    /// Sorted sources that together hold everything that someone in `rule` sees.
    pub(crate) fn sources(&self, keyspace: KeyspaceId, rule: &mut Visibility) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for memtable in &self.memtables {
            let runs = memtable.runs(keyspace, rule);
            sources.extend(runs.into_iter().map(|run| Source::Run(RunCursor::new(Arc::clone(memtable), run))));
        }
        for table in self.version.level0(keyspace) {
            sources.extend(TableCursor::new(table.reader()?, keyspace, Verify::Once).map(Source::Table));
        }
        if let Some(tree) = self.version.tree(keyspace) {
            for (_, tables) in tree.levels().filter(|(_, tables)| !tables.is_empty()) {
                sources.push(Source::Level(LevelCursor::new(Arc::clone(tables), keyspace, Verify::Once)));
            }
        }
        Ok(sources)
    }
}

fn found<'v>(mapping: &'v Mapping, entry: &crate::format::entry::Entry) -> Find<'v> {
    match entry.kind {
        Kind::Put => Find::Value(mapping, entry.value_start..entry.end),
        Kind::Delete => Find::Absent,
    }
}
