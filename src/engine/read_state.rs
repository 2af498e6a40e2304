//! What a reader looks at: memtables and tables, immutable as a set.

use std::path::PathBuf;
use std::sync::Arc;

use super::onlooker::{Onlooker, Said};
use super::operators::Operators;
use super::registry::Registration;
use crate::error::{Fault, Feature, Result};
use crate::format::entry::{Entry, Kind};
use crate::format::names::FileKind;
use crate::format::range::Range;
use crate::format::values::Pointer;
use crate::format::{FileNumber, KeyspaceId, Sequence};
use crate::memtable::{Lookup, Memtable, RunCursor};
use crate::merge::{Learned, LevelCursor, Look, Scan, ScanShared, Source, Tables};
use crate::operator::KeptValues;
use crate::sys::{Block, Era, Mapping, Mappings, Pinned};
use crate::table::{Answer, ChunkedFile, Found, Nobody, Table, TableReader, ValueFile, Verify};
use crate::version::{Tree, Version};
use crate::visibility::{Cover, Visibility};

/// Every entry that has been committed is in one of the parts; which ones a reader sees is decided by its sequence.
#[derive(Debug, Clone)]
pub(crate) struct ReadState {
    /// Newest first. The first one still grows if `growing` is set; the others are frozen and wait for their flush.
    pub(crate) memtables: Vec<Arc<Memtable>>,
    pub(crate) growing: bool,
    pub(crate) version: Arc<Version>,
    pub(crate) learned: Arc<Learned>,
    pub(crate) operators: Arc<Operators>,
    /// What reads have made of operands.
    pub(crate) kept: KeptValues,
    pub(crate) mappings: Mappings,
}

/// Where a lookup ended.
#[derive(Debug)]
pub(crate) enum Find<V> {
    Value(V),
    Absent,
    /// See [`Lookup::Retry`].
    Retry,
    /// The newest version is an operand. What the operator makes of it, nobody computes here: that is the program's code.
    Operand,
    /// Something has to be opened first. To be done without an era, and then to be tried again.
    Closed(Closed),
}

impl<V> Find<V> {
    /// What `next` makes of a value that has been found.
    #[inline]
    pub(super) fn and_then<T>(self, next: impl FnOnce(V) -> Result<Find<T>>) -> Result<Find<T>> {
        match self {
            Self::Value(value) => next(value),
            Self::Absent => Ok(Find::Absent),
            Self::Retry => Ok(Find::Retry),
            Self::Operand => Ok(Find::Operand),
            Self::Closed(closed) => Ok(Find::Closed(closed)),
        }
    }
}

/// What a lookup needs and is not open.
#[derive(Debug)]
pub(crate) enum Closed {
    Table(Arc<Table>),
    Values(Arc<ValueFile>),
}

/// What a lookup has had to open. It stays open until the lookup is over, so that each attempt gets further than the one in
/// front of it, however few tables may be open.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    tables: Vec<(FileNumber, Arc<TableReader>)>,
    values: Vec<(FileNumber, Arc<ChunkedFile>)>,
}

/// What most lookups have had to open.
pub(super) static NOTHING_OPENED: Opened = Opened { tables: Vec::new(), values: Vec::new() };

impl Opened {
    #[cold]
    pub(crate) fn open(&mut self, closed: &Closed) -> Result<()> {
        match closed {
            Closed::Table(table) => self.tables.push((table.number(), table.pin()?)),
            Closed::Values(file) => self.values.push((file.number(), file.pin()?)),
        }
        Ok(())
    }

    #[cold]
    fn table(&self, number: FileNumber) -> Option<&TableReader> {
        self.tables.iter().find(|(of, _)| *of == number).map(|(_, reader)| &**reader)
    }

    #[cold]
    fn values(&self, number: FileNumber) -> Option<&ChunkedFile> {
        self.values.iter().find(|(of, _)| *of == number).map(|(_, file)| &**file)
    }
}

/// Where a value is.
#[derive(Debug)]
pub(crate) enum ValueAt<'v> {
    /// In a mapping that the read state, the era or what was opened keeps.
    Mapped(&'v Mapping, std::ops::Range<usize>),
    Block(Block, std::ops::Range<usize>),
}

/// Where a value is, before a value file has been looked at.
#[derive(Debug)]
pub(crate) enum ValuePlace<'v> {
    Here(ValueAt<'v>),
    Apart(Pointer, &'v Arc<ValueFile>),
}

/// What a lookup is after: a value, or where it is. A lookup is compiled for each: a value that went through its place on the
/// way would cost a get 4 to 8 % more.
pub(super) trait Sought<'v>: Sized {
    /// A value that was found.
    fn here(value: ValueAt<'v>) -> Self;

    /// What a pointer leads to that was found instead.
    fn apart(open: (&'v Era, &'v Opened), pointer: Pointer, file: &'v Arc<ValueFile>) -> Result<Find<Self>>;
}

impl<'v> Sought<'v> for ValueAt<'v> {
    #[inline]
    fn here(value: ValueAt<'v>) -> Self {
        value
    }

    fn apart(open: (&'v Era, &'v Opened), pointer: Pointer, file: &'v Arc<ValueFile>) -> Result<Find<Self>> {
        value_apart(open, pointer, file)
    }
}

impl<'v> Sought<'v> for ValuePlace<'v> {
    fn here(value: ValueAt<'v>) -> Self {
        Self::Here(value)
    }

    fn apart(_: (&'v Era, &'v Opened), pointer: Pointer, file: &'v Arc<ValueFile>) -> Result<Find<Self>> {
        Ok(Find::Value(Self::Apart(pointer, file)))
    }
}

impl ValuePlace<'_> {
    /// The length of the value.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Here(ValueAt::Mapped(_, range) | ValueAt::Block(_, range)) => range.len() as u64,
            Self::Apart(pointer, _) => pointer.length.into(),
        }
    }
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

impl ReadState {
    /// Memtables that wait to be flushed, newest first.
    pub(crate) fn frozen(&self) -> &[Arc<Memtable>] {
        self.memtables.get(usize::from(self.growing)..).unwrap_or_default()
    }

    /// The value of a key at `at`.
    #[inline]
    pub(crate) fn find<'v>(
        &'v self,
        open: (&'v Era, &'v Opened),
        key: (KeyspaceId, u64, &[u8]),
        at: Sequence,
        registered: bool,
    ) -> Result<Find<ValueAt<'v>>> {
        self.look_up(open, key, at, registered, &mut Nobody)
    }

    /// Where the value of a key at `at` is.
    pub(super) fn locate<'v>(
        &'v self,
        open: (&'v Era, &'v Opened),
        key: (KeyspaceId, u64, &[u8]),
        at: Sequence,
        registered: bool,
    ) -> Result<Find<ValuePlace<'v>>> {
        self.look_up(open, key, at, registered, &mut Nobody)
    }

    /// Memtables, then level 0, newest first, then one table of each deeper level. Uses the tables that are open in this era,
    /// and those that it has had to open before. `look` looks on.
    #[inline]
    pub(super) fn look_up<'v, V: Sought<'v>>(
        &'v self,
        (era, opened): (&'v Era, &'v Opened),
        (keyspace, hash, key): (KeyspaceId, u64, &[u8]),
        at: Sequence,
        registered: bool,
        look: &mut impl Onlooker,
    ) -> Result<Find<V>> {
        look.begin();
        for memtable in &self.memtables {
            let said = memtable.get(keyspace, hash, key, at, registered);
            look.memtable(memtable, &said);
            match said {
                Lookup::Missing => {}
                Lookup::Removed => return Ok(Find::Absent),
                Lookup::Retry => return Ok(Find::Retry),
                Lookup::Entry(entry) => {
                    return match entry.kind() {
                        Kind::Delete | Kind::RangeDelete => Ok(Find::Absent),
                        Kind::Merge => {
                            self.operand(keyspace, &entry, || FileKind::Segment.name(memtable.number()).into())
                        }
                        Kind::Put | Kind::Pointer => {
                            let range = entry.value_start()..entry.end;
                            Ok(Find::Value(V::here(ValueAt::Mapped(memtable.mapping(), range))))
                        }
                    };
                }
            }
        }
        let tree = self.version.tree(keyspace);
        if self.version.level0_len() + usize::from(tree.is_some()) > 1 {
            // One after another they would be as many cache misses.
            let open = self.version.level0(keyspace).filter_map(|table| table.peek(era));
            open.for_each(|reader| reader.prefetch(keyspace, hash));
            if let Some(tree) = tree {
                prefetch_levels(tree, era, (keyspace, hash, key));
            }
        }
        for table in self.version.level0(keyspace) {
            if let Some(found) = self.find_in((0, table), (era, opened), (keyspace, hash, key), at, look)? {
                return Ok(found);
            }
        }
        let Some(tree) = tree else { return Ok(Find::Absent) };
        for (level, tables) in tree.levels() {
            let Some(table) = tables.table_with(key) else {
                look.level_without(level);
                continue;
            };
            if let Some(found) = self.find_in((level, table), (era, opened), (keyspace, hash, key), at, look)? {
                return Ok(found);
            }
        }
        Ok(Find::Absent)
    }

    /// What a table says about a key, unless that is nothing.
    #[inline]
    fn find_in<'v, V: Sought<'v>>(
        &'v self,
        (level, table): (u8, &'v Arc<Table>),
        (era, opened): (&'v Era, &'v Opened),
        (keyspace, hash, key): (KeyspaceId, u64, &[u8]),
        at: Sequence,
        look: &mut impl Onlooker,
    ) -> Result<Option<Find<V>>> {
        let Some(reader) = table.borrow(era).or_else(|| opened.table(table.number())) else {
            let needed = closed(table, keyspace, key);
            if needed.is_none() {
                look.table(level, table, Said::OutOfRange);
            }
            return Ok(needed);
        };
        if reader.excludes(keyspace, hash) {
            look.table(level, table, Said::RuledOut);
            return Ok(None);
        }
        let answer = reader.get(keyspace, (hash, key), at, look)?;
        look.table(level, table, Said::Answer(&answer));
        match answer {
            Answer::Entry(entry) => self.found((era, opened), (reader, keyspace), (&entry, None), look).map(Some),
            Answer::InBlock(found) => {
                self.found((era, opened), (reader, keyspace), (&found.0, Some(found.1)), look).map(Some)
            }
            Answer::Removed => Ok(Some(Find::Absent)),
            Answer::Missing => Ok(None),
        }
    }

    #[inline]
    fn found<'v, V: Sought<'v>>(
        &'v self,
        open: (&'v Era, &'v Opened),
        (reader, keyspace): (&'v TableReader, KeyspaceId),
        (entry, block): (&Entry, Option<Block>),
        look: &mut impl Onlooker,
    ) -> Result<Find<V>> {
        let range = entry.value_start()..entry.end;
        let here = |value| Ok(Find::Value(V::here(value)));
        match (entry.kind(), block) {
            (Kind::Put, None) => here(ValueAt::Mapped(reader.mapping(), range)),
            (Kind::Put, Some(block)) => here(ValueAt::Block(block, range)),
            (Kind::Pointer, None) => self.apart(open, reader, (entry, reader.bytes()), look),
            (Kind::Pointer, Some(block)) => self.apart(open, reader, (entry, block.bytes()), look),
            (Kind::Delete | Kind::RangeDelete, _) => Ok(Find::Absent),
            (Kind::Merge, _) => self.operand(keyspace, entry, || reader.file().path().to_owned()),
        }
    }

    /// An operand of a keyspace, which is refused if there is no operator.
    #[cold]
    fn operand<V>(&self, keyspace: KeyspaceId, operand: &Entry, path: impl FnOnce() -> PathBuf) -> Result<Find<V>> {
        if self.operators.has(keyspace) {
            return Ok(Find::Operand);
        }
        Err(Fault::from(Feature::MergeOperand).at(&path(), operand.start as u64))
    }

    /// What an entry in `bytes` points to.
    fn apart<'v, V: Sought<'v>>(
        &'v self,
        open: (&'v Era, &'v Opened),
        reader: &TableReader,
        (entry, bytes): (&Entry, &[u8]),
        look: &mut impl Onlooker,
    ) -> Result<Find<V>> {
        let path = || reader.file().path().to_owned();
        let (pointer, file) = self.version.values().find(entry.in_bytes(bytes), path)?;
        look.value_file(file.number(), pointer);
        V::apart(open, pointer, file)
    }

    /// Sorted sources, newest first, that together hold everything that someone in `rule` sees between two edges, and the range
    /// tombstones over them. Nothing is opened for them, but tables that have range tombstones and never were.
    pub(crate) fn sources(
        &self,
        keyspace: KeyspaceId,
        within: Range<'_>,
        rule: impl Fn() -> Visibility,
    ) -> Result<(Vec<Source>, Cover)> {
        // Most stores have one level.
        let mut sources = Vec::with_capacity(1 + self.version.level0_len());
        let mut cover = Cover::default();
        for memtable in &self.memtables {
            let runs = memtable.runs(keyspace, &rule)?;
            sources.extend(runs.into_iter().map(|run| Source::Run(RunCursor::new(Arc::clone(memtable), run))));
            cover.add(memtable.ranges(keyspace).iter().flat_map(|lists| lists.iter()), sources.len());
        }
        self.add_tables(keyspace, within, &mut sources, &mut cover)?;
        Ok((sources, cover))
    }

    /// Adds the tables that may have something between two edges, newest first.
    pub(super) fn add_tables(
        &self,
        keyspace: KeyspaceId,
        within: Range<'_>,
        sources: &mut Vec<Source>,
        cover: &mut Cover,
    ) -> Result<()> {
        let level0 = self.version.level0(keyspace).map(|table| Tables::One(Arc::clone(table)));
        let tree = self.version.tree(keyspace);
        let levels = tree.iter().flat_map(|tree| tree.levels());
        let levels = levels.filter(|(_, tables)| !tables.is_empty()).map(|(_, tables)| Tables::Level(tables.clone()));
        for tables in level0.chain(levels).filter(|tables| tables.overlap(keyspace, &within)) {
            for table in tables.iter().filter(|table| table.has_ranges(keyspace)) {
                cover.add(&table.ranges(keyspace)?, sources.len() + 1);
            }
            sources.push(Source::Level(LevelCursor::new(tables, keyspace, Verify::Once)));
        }
        Ok(())
    }

    /// A scan of what a registered reader of a keyspace sees between two edges, positioned nowhere. It owns what it needs.
    pub(crate) fn scan(&self, keyspace: KeyspaceId, at: &Registration, within: Range<'_>) -> Result<Scan> {
        let (sources, cover) = self.sources(keyspace, within, || at.retain())?;
        let (start, end) = within;
        let look = Look { keyspace, at: at.at, within: (start.to_owned(), end.to_owned()) };
        let (values, learned) = (Arc::clone(self.version.values()), Arc::clone(&self.learned));
        let (mappings, operator, kept) = (self.mappings.clone(), self.operators.of(keyspace), self.kept.clone());
        Ok(Scan::new(sources, cover, look, ScanShared { values, learned, mappings, operator, kept }))
    }
}

/// The value in a place.
#[inline]
pub(super) fn resolve<'v>(open: (&'v Era, &'v Opened), place: ValuePlace<'v>) -> Result<Find<ValueAt<'v>>> {
    match place {
        ValuePlace::Here(value) => Ok(Find::Value(value)),
        ValuePlace::Apart(pointer, file) => value_apart(open, pointer, file),
    }
}

/// The value that a pointer leads to.
fn value_apart<'v>(
    (era, opened): (&'v Era, &'v Opened),
    pointer: Pointer,
    file: &'v Arc<ValueFile>,
) -> Result<Find<ValueAt<'v>>> {
    let Some(open) = file.borrow(era).or_else(|| opened.values(file.number())) else {
        return Ok(Find::Closed(Closed::Values(Arc::clone(file))));
    };
    Ok(Find::Value(match file.find(open, pointer)? {
        Found::Mapped(range) => ValueAt::Mapped(open.mapping(), range),
        Found::Block(block) => {
            let all = 0..block.bytes().len();
            ValueAt::Block(block, all)
        }
    }))
}

/// Asks for what a lookup looks at first in the levels.
#[inline(never)]
fn prefetch_levels(tree: &Tree, era: &Era, (keyspace, hash, key): (KeyspaceId, u64, &[u8])) {
    let tables = tree.levels().filter_map(|(_, tables)| tables.table_with(key));
    tables.filter_map(|table| table.peek(era)).for_each(|reader| reader.prefetch(keyspace, hash));
}

/// What is to be opened for a lookup in a table that is not open: nothing if its section cannot have the key.
#[cold]
fn closed<V>(table: &Arc<Table>, keyspace: KeyspaceId, key: &[u8]) -> Option<Find<V>> {
    let section = table.section(keyspace)?;
    let has_room = section.lower.is_in_front_of(key) && !section.upper.is_in_front_of(key);
    has_room.then(|| Find::Closed(Closed::Table(Arc::clone(table))))
}
