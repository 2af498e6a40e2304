//! What a reader looks at: memtables and tables, immutable as a set.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Fault, Feature, Result};
use crate::format::entry::{Entry, Kind};
use crate::format::names::FileKind;
use crate::format::{KeyspaceId, Sequence};
use crate::memtable::{Lookup, Memtable, RunCursor};
use crate::merge::{LevelCursor, Source};
use crate::sys::{Block, Mapping, Pinned};
use crate::table::{Answer, Found, Table, TableCursor, TableReader, Verify};
use crate::version::Version;
use crate::visibility::{Cover, Visibility};

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
    Value(ValueAt<'v>),
    Absent,
    /// See [`Lookup::Retry`].
    Retry,
}

/// Where a value is.
#[derive(Debug)]
pub(crate) enum ValueAt<'v> {
    /// In a mapping that the view keeps.
    Mapped(&'v Mapping, Range<usize>),
    Block(Block, Range<usize>),
}

impl ValueAt<'_> {
    /// The value, kept alive on its own.
    #[inline]
    pub(crate) fn pin(self) -> Pinned {
        match self {
            Self::Mapped(mapping, range) => mapping.pin(range),
            Self::Block(block, range) => block.pin(range),
        }
    }
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
                Lookup::Removed => return Ok(Find::Absent),
                Lookup::Retry => return Ok(Find::Retry),
                Lookup::Entry(entry) => {
                    return match entry.kind() {
                        Kind::Delete | Kind::RangeDelete => Ok(Find::Absent),
                        Kind::Merge => Err(refuse(&entry, FileKind::Segment.name(memtable.number()).as_ref())),
                        Kind::Put | Kind::Pointer => {
                            let range = entry.value_start()..entry.end;
                            Ok(Find::Value(ValueAt::Mapped(memtable.mapping(), range)))
                        }
                    };
                }
            }
        }
        if self.version.level0_len() > 1 {
            // One after another they would be as many cache misses.
            let opened = self.version.level0(keyspace).filter_map(|table| table.opened());
            opened.for_each(|reader| reader.prefetch(keyspace, hash));
        }
        for table in self.version.level0(keyspace) {
            if let Some(found) = self.find_in(table, keyspace, hash, key, at)? {
                return Ok(found);
            }
        }
        let Some(tree) = self.version.tree(keyspace) else { return Ok(Find::Absent) };
        for (_, tables) in tree.levels() {
            let after = tables.partition_point(|t| t.only_section().is_some_and(|s| s.upper.is_in_front_of(key)));
            let Some(table) = tables.get(after) else { continue };
            if table.only_section().is_some_and(|section| section.lower.is_in_front_of(key))
                && let Some(found) = self.find_in(table, keyspace, hash, key, at)?
            {
                return Ok(found);
            }
        }
        Ok(Find::Absent)
    }

    /// What a table says about a key, unless that is nothing.
    #[inline]
    fn find_in<'v>(
        &'v self,
        table: &'v Table,
        keyspace: KeyspaceId,
        hash: u64,
        key: &[u8],
        at: Sequence,
    ) -> Result<Option<Find<'v>>> {
        let reader = table.reader()?;
        if reader.excludes(keyspace, hash) {
            return Ok(None);
        }
        match reader.get(keyspace, hash, key, at)? {
            Answer::Entry(entry) => self.found(reader, &entry, None).map(Some),
            Answer::InBlock(found) => self.found(reader, &found.0, Some(found.1)).map(Some),
            Answer::Removed => Ok(Some(Find::Absent)),
            Answer::Missing => Ok(None),
        }
    }

    #[inline]
    fn found<'v>(&'v self, reader: &'v TableReader, entry: &Entry, block: Option<Block>) -> Result<Find<'v>> {
        let range = entry.value_start()..entry.end;
        Ok(match (entry.kind(), block) {
            (Kind::Put, None) => Find::Value(ValueAt::Mapped(reader.mapping(), range)),
            (Kind::Put, Some(block)) => Find::Value(ValueAt::Block(block, range)),
            (Kind::Pointer, None) => return self.apart(reader, entry, reader.bytes()),
            (Kind::Pointer, Some(block)) => return self.apart(reader, entry, block.bytes()),
            (Kind::Delete | Kind::RangeDelete, _) => Find::Absent,
            (Kind::Merge, _) => return Err(refuse(entry, reader.file().path())),
        })
    }

    /// The value that an entry in `bytes` points to.
    fn apart<'v>(&'v self, reader: &TableReader, entry: &Entry, bytes: &[u8]) -> Result<Find<'v>> {
        let path = || reader.file().path().to_owned();
        let (pointer, file) = self.version.values().find(entry, bytes, path)?;
        Ok(Find::Value(match file.value(pointer)? {
            Found::Mapped(range) => ValueAt::Mapped(file.mapping()?, range),
            Found::Block(block) => {
                let all = 0..block.bytes().len();
                ValueAt::Block(block, all)
            }
        }))
    }

    /// Sorted sources, newest first, that together hold everything that someone in `rule` sees, and the range tombstones over
    /// them.
    pub(crate) fn sources(&self, keyspace: KeyspaceId, rule: &mut Visibility) -> Result<(Vec<Source>, Cover)> {
        let mut sources = Vec::new();
        let mut cover = Cover::default();
        for memtable in &self.memtables {
            let runs = memtable.runs(keyspace, rule)?;
            sources.extend(runs.into_iter().map(|run| Source::Run(RunCursor::new(Arc::clone(memtable), run))));
            cover.add(&*memtable.ranges(keyspace), sources.len());
        }
        for table in self.version.level0(keyspace) {
            let reader = table.reader()?;
            sources.extend(TableCursor::new(reader, keyspace, Verify::Once).map(Source::Table));
            cover.add(reader.ranges(keyspace), sources.len());
        }
        let Some(tree) = self.version.tree(keyspace) else { return Ok((sources, cover)) };
        for (_, tables) in tree.levels().filter(|(_, tables)| !tables.is_empty()) {
            sources.push(Source::Level(LevelCursor::new(Arc::clone(tables), keyspace, Verify::Once)));
            for table in tables.iter().filter(|table| table.has_ranges(keyspace)) {
                cover.add(table.reader()?.ranges(keyspace), sources.len());
            }
        }
        Ok((sources, cover))
    }
}

/// The error for a value that only a merge operator can tell.
#[cold]
fn refuse(operand: &Entry, path: &Path) -> Error {
    Fault::from(Feature::MergeOperand).at(path, operand.start as u64)
}
