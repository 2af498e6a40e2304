//! What there is in a directory, and what is wrong with it. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::evidence::{Evidence, open_manifest};
use super::log::{Chain, LogReader};
use super::{Finding, Outcome};
use crate::engine::recover::{Found, numbered, read_found, replay};
use crate::error::{Damage, Error, Result};
use crate::format::checksum::Id;
use crate::format::current::Current;
use crate::format::edit::{KeyspaceMeta, TableMeta};
use crate::format::names::{self, FileKind};
use crate::format::prefix::Magic;
use crate::format::range::Edge;
use crate::format::section::Section;
use crate::format::segment::SegmentHeader;
use crate::format::{FileNumber, KeyspaceId, Sequence};
use crate::memtable::Memtable;
use crate::options::Options;
use crate::sys::Dir;
use crate::table::{
    Salvage, Shelf, Table, TableReader, ValueFile, Values, mend_values, read_meta, read_values_meta, write_index,
};
use crate::version::{read_current, swap_current};

/// A table of which entries are to be had.
pub(super) struct Source {
    pub(super) number: FileNumber,
    pub(super) content: Content,
    /// The keyspaces for which it speaks.
    pub(super) serves: Vec<KeyspaceId>,
}

/// Where the entries of a table are.
pub(super) enum Content {
    Whole(Arc<Table>),
    /// Some of its bytes are not what was written.
    Damaged(Box<Salvage>),
}

/// What was in a table of which nothing can be read.
pub(super) struct LostSection {
    pub(super) table: FileNumber,
    pub(super) keyspace: KeyspaceId,
    pub(super) lower: Edge,
    pub(super) upper: Edge,
}

/// What an open could do nothing about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// The manifest is whole and `CURRENT` does not name it.
    Current(Id, FileNumber),
    Rebuild,
}

pub(super) struct Inventory {
    dir: Arc<dyn Dir>,
    pub(super) shelf: Arc<Shelf>,
    names: Vec<String>,
    need: Need,
    pub(super) findings: Vec<Finding>,
    pub(super) keyspaces: Vec<KeyspaceMeta>,
    pub(super) sources: Vec<Source>,
    pub(super) lost: Vec<LostSection>,
    /// Where values are that stand apart from their entries.
    pub(super) values: Arc<Values>,
    pub(super) memtables: Vec<Arc<Memtable>>,
    /// Tables whose index is to be made again.
    without_index: Vec<Arc<Table>>,
}

impl Inventory {
    pub(super) fn take(options: &Options, dir: &Arc<dyn Dir>, names: &[String]) -> Result<Self> {
        let mut inventory = Self {
            dir: Arc::clone(dir),
            shelf: Shelf::new(Arc::clone(dir), options.table, options.cache_bytes),
            names: names.to_vec(),
            need: Need::Nothing,
            findings: Vec::new(),
            keyspaces: Vec::new(),
            sources: Vec::new(),
            lost: Vec::new(),
            values: Arc::default(),
            memtables: Vec::new(),
            without_index: Vec::new(),
        };
        match inventory.find_manifest()? {
            Some(found) => inventory.go_by_manifest(&found)?,
            None => inventory.go_by_tables()?,
        }
        Ok(inventory)
    }

    pub(super) fn needs_rebuild(&self) -> bool {
        self.need == Need::Rebuild
    }

    /// The names of all files of the format, but the lock.
    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        let is_ours = |name: &&String| FileKind::parse(name).is_some() || *name == names::CURRENT;
        self.names.iter().filter(is_ours)
    }

    /// The highest number that a file has.
    pub(super) fn highest_number(&self) -> u64 {
        numbered(&self.names).map(|(_, number)| number.0).max().unwrap_or(0)
    }

    /// Makes again what can be made again where it belongs.
    pub(super) fn restore(&self) -> Result<()> {
        for table in &self.without_index {
            if let Some(bytes) = table.reader()?.lost_index() {
                let number = table.number();
                let _ = self.dir.remove(&FileKind::Index.name(number));
                write_index(&*self.dir, number, bytes)?;
            }
        }
        if !self.without_index.is_empty() {
            self.dir.sync().map_err(|e| Error::io("sync", self.dir.path(), e))?;
        }
        match self.need {
            Need::Current(database, manifest) => swap_current(&*self.dir, Current::new(database, manifest)),
            Need::Nothing | Need::Rebuild => Ok(()),
        }
    }

    fn note(&mut self, problem: Error, outcome: Outcome) {
        self.findings.push(Finding::new(problem, outcome));
    }

    fn of_kind(&self, kind: FileKind) -> Vec<FileNumber> {
        let mut numbers: Vec<FileNumber> =
            numbered(&self.names).filter(|(k, _)| *k == kind).map(|(_, number)| number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The state by the manifest that counts, if it is whole: that of `CURRENT`, or, without one, the youngest.
    fn find_manifest(&mut self) -> Result<Option<Found>> {
        let current = match read_current(&*self.dir) {
            Ok(Some(current)) => Ok(current),
            Ok(None) => Err(Error::corrupt(&self.dir.path().join(names::CURRENT), 0, Damage::Missing)),
            Err(e) => Err(damage(e)?),
        };
        let (database, number, lost) = match current {
            Ok((database, number)) => (database, number, None),
            Err(e) => {
                let Some((database, number)) = self.youngest_manifest()? else {
                    self.note(e, Outcome::Inferred);
                    return Ok(None);
                };
                (database, number, Some(e))
            }
        };
        match read_found(&self.shelf, database, number, &self.names) {
            Ok(found) if self.is_of_another_moment(&found) => {
                self.findings.extend(lost.map(|problem| Finding::new(problem, Outcome::Inferred)));
                let path = self.dir.path().join(FileKind::Manifest.name(number));
                self.note(Error::corrupt(&path, 0, Damage::ManifestMismatch), Outcome::Inferred);
                Ok(None)
            }
            Ok(found) => {
                if let Some(e) = lost {
                    self.note(e, Outcome::Restored);
                    self.need = Need::Current(database, number);
                }
                Ok(Some(found))
            }
            Err(e) => {
                self.findings.extend(lost.map(|problem| Finding::new(problem, Outcome::Inferred)));
                let e = damage(e)?;
                self.note(e, Outcome::Inferred);
                Ok(None)
            }
        }
    }

    /// Whether a manifest names tables that are not there while there are tables that it does not name: then its end is lost.
    fn is_of_another_moment(&self, found: &Found) -> bool {
        let named: BTreeSet<FileNumber> = found.version.tables().map(|(_, table)| table.number()).collect();
        let there: BTreeSet<FileNumber> = self.of_kind(FileKind::Table).into_iter().collect();
        !named.is_subset(&there) && !there.is_subset(&named)
    }

    fn youngest_manifest(&self) -> Result<Option<(Id, FileNumber)>> {
        let Some(number) = self.of_kind(FileKind::Manifest).pop() else { return Ok(None) };
        let file = open_manifest(&self.dir, number)?;
        let header = SegmentHeader::parse_any(file.bytes(), Magic::MANIFEST).ok();
        Ok(header.filter(|header| header.number() == number).map(|header| (header.database(), number)))
    }

    fn go_by_manifest(&mut self, found: &Found) -> Result<()> {
        let version = &found.version;
        self.examine_values(version.values().iter().map(|stored| Arc::clone(&stored.file)))?;
        self.keyspaces = version.named().iter().map(|meta| KeyspaceMeta::clone(meta)).collect();
        for (level, table) in version.tables() {
            let keyspaces = table.meta.sections.iter().map(|section| section.keyspace);
            let serves = keyspaces.filter(|keyspace| level > 0 || version.serves(table, *keyspace)).collect();
            self.examine(table, serves)?;
        }
        match replay(&*self.dir, found, &self.names) {
            Ok(replayed) => self.memtables = replayed.memtables,
            Err(e) => {
                let e = damage(e)?;
                let mut ends = found.state.segment_ends.clone();
                if let Some(durable) = found.state.log_durable {
                    let end = ends.entry(durable.segment).or_default();
                    *end = durable.offset.max(*end);
                }
                let is_dropped = |keyspace| version.named().was_created(keyspace) && !version.named().is_live(keyspace);
                let before = self.findings.len();
                self.read_log(&Chain {
                    databases: vec![found.database],
                    first: found.state.first_segment,
                    is_known: true,
                    ends,
                    near: found.state.last_sequence,
                    is_dropped: &is_dropped,
                })?;
                // What no gap shows: groups that are intact and do not fit together.
                let path = e.corruption().map(|corruption| corruption.path.clone()).unwrap_or_default();
                let explains = |finding: &Finding| finding.outcome != Outcome::Restored || finding.is_of(&path);
                if !self.findings.iter().skip(before).any(explains) {
                    let entries = self.memtables.iter().map(|memtable| memtable.entries()).sum();
                    self.note(e, Outcome::Salvaged { entries, lost: None });
                }
            }
        }
        Ok(())
    }

    fn go_by_tables(&mut self) -> Result<()> {
        self.need = Need::Rebuild;
        let databases = self.databases()?;
        let evidence = Evidence::gather(&self.dir, &self.of_kind(FileKind::Manifest), &databases)?;
        let mut values = Vec::new();
        for number in self.of_kind(FileKind::Values) {
            let read = match evidence.values.get(&number) {
                Some(meta) => Ok(*meta),
                None => read_values_meta(&self.shelf, number),
            };
            match read {
                Ok(meta) => values.push(Arc::new(ValueFile::new(meta, Arc::clone(&self.shelf)))),
                Err(e) => {
                    let e = damage(e)?;
                    values.extend(intact(mend_values(&self.shelf, number, None))?.map(Arc::new));
                    self.note(e, Outcome::Restored);
                }
            }
        }
        self.examine_values(values)?;
        let mut near = evidence.last_sequence;
        for number in self.of_kind(FileKind::Table) {
            if evidence.removed.contains(&number) {
                continue;
            }
            let gone = |keyspace: &KeyspaceId| {
                evidence.dropped.contains(keyspace) || evidence.consumed.contains(&(number, *keyspace))
            };
            let serves = |sections: &[Section]| {
                sections.iter().map(|section| section.keyspace).filter(|keyspace| !gone(keyspace)).collect()
            };
            let global = |id: &Id| evidence.tables.get(id).map(TableMeta::global_sequence);
            match read_meta(&self.shelf, number, global) {
                Ok(meta) => {
                    near = meta.sections.iter().map(|section| section.max_sequence).fold(near, Sequence::max);
                    let serves = serves(&meta.sections);
                    self.examine(&Arc::new(Table::new(meta, Arc::clone(&self.shelf), Vec::new())), serves)?;
                }
                Err(e) => self.salvage(number, evidence.table(number), &serves, damage(e)?)?,
            }
        }
        let is_dropped = |keyspace| evidence.dropped.contains(&keyspace);
        let (first, ends) = (evidence.first_segment, BTreeMap::new());
        self.read_log(&Chain { databases, first, is_known: false, ends, near, is_dropped: &is_dropped })?;
        self.keyspaces = evidence.keyspaces.into_values().collect();
        Ok(())
    }

    /// The databases that files of this directory say they belong to: one, if `CURRENT` can be read.
    fn databases(&self) -> Result<Vec<Id>> {
        if let Some(Some((database, _))) = intact(read_current(&*self.dir))? {
            return Ok(vec![database]);
        }
        let mut found = BTreeSet::new();
        for (kind, magic) in [(FileKind::Manifest, Magic::MANIFEST), (FileKind::Segment, Magic::SEGMENT)] {
            for number in self.of_kind(kind) {
                let name = kind.name(number);
                let file = self.dir.open(&name).map_err(|e| Error::io("map", &self.dir.path().join(&name), e))?;
                let header = SegmentHeader::parse_any(file.bytes(), magic).ok();
                found.extend(header.filter(|header| header.number() == number).map(|header| header.database()));
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Looks at every byte of a table, and notes what is wrong.
    fn examine(&mut self, table: &Arc<Table>, serves: Vec<KeyspaceId>) -> Result<()> {
        if serves.is_empty() {
            return Ok(());
        }
        let problem = match table.reader() {
            Ok(reader) => self.check(table.number(), reader, &serves)?,
            Err(e) => Some(damage(e)?),
        };
        if let Some(e) = problem {
            return self.salvage(table.number(), Some(&table.meta), &|_| serves.clone(), e);
        }
        if table.reader()?.lost_index().is_some() {
            let path = self.dir.path().join(FileKind::Index.name(table.number()));
            self.note(Error::corrupt(&path, 0, Damage::IndexMismatch), Outcome::Restored);
            self.without_index.push(Arc::clone(table));
        }
        self.sources.push(Source { number: table.number(), content: Content::Whole(Arc::clone(table)), serves });
        Ok(())
    }

    /// What is wrong with a table itself. Of values that it points to, the merge finds out which ones are needed.
    fn check(&mut self, number: FileNumber, reader: &TableReader, serves: &[KeyspaceId]) -> Result<Option<Error>> {
        let index = FileKind::Index.name(number);
        let verify = || reader.verify(&self.values, |keyspace| serves.contains(&keyspace));
        let mut verified = verify();
        if let Err(e) = &verified
            && e.corruption().is_some_and(|c| c.path.file_name().is_some_and(|name| *name == *index))
        {
            verified = reader.forget_index().and_then(|()| verify());
        }
        let Err(e) = verified else { return Ok(None) };
        let e = damage(e)?;
        if intact(reader.verify(&self.values, |_| false))?.is_none() {
            return Ok(Some(e));
        }
        self.need = Need::Rebuild;
        let path = e.corruption().map(|corruption| corruption.path.clone()).unwrap_or_default();
        if !self.findings.iter().any(|finding| finding.is_of(&path)) {
            self.note(e, Outcome::Restored);
        }
        Ok(None)
    }

    /// Takes what can be read of a damaged table, of which `known` tells if anything does.
    fn salvage(
        &mut self,
        number: FileNumber,
        known: Option<&TableMeta>,
        serves: &dyn Fn(&[Section]) -> Vec<KeyspaceId>,
        problem: Error,
    ) -> Result<()> {
        self.need = Need::Rebuild;
        let entries = |sections: &[Section], serves: &[KeyspaceId]| {
            sections.iter().filter(|section| serves.contains(&section.keyspace)).map(|section| section.entries).sum()
        };
        let salvage = Salvage::open(&self.shelf, number, known, |_| known.map(TableMeta::global_sequence));
        if let Some(salvage) = intact(salvage)? {
            let serves = serves(salvage.sections());
            // The rebuild fills in what it could read.
            self.note(problem, Outcome::Salvaged { entries: entries(salvage.sections(), &serves), lost: None });
            self.sources.push(Source { number, content: Content::Damaged(Box::new(salvage)), serves });
            return Ok(());
        }
        let sections = known.map_or(&[][..], |meta| &meta.sections);
        let serves = serves(sections);
        self.note(problem, Outcome::Lost { entries: known.map(|_| entries(sections, &serves)) });
        let lost = sections.iter().filter(|section| serves.contains(&section.keyspace)).map(|section| LostSection {
            table: number,
            keyspace: section.keyspace,
            lower: section.lower.clone(),
            upper: section.upper.clone(),
        });
        self.lost.extend(lost);
        Ok(())
    }

    /// Looks at every byte of value files, and mends their frames. What is lost in them the merge finds out.
    fn examine_values(&mut self, files: impl IntoIterator<Item = Arc<ValueFile>>) -> Result<()> {
        let mut found = Vec::new();
        for file in files {
            let Err(e) = file.verify(&AtomicBool::new(false)) else {
                found.push(file);
                continue;
            };
            let e = damage(e)?;
            self.need = Need::Rebuild;
            if !self.findings.iter().any(|finding| finding.is_of(&file.path())) {
                self.note(e, Outcome::Restored);
            }
            let mended = intact(mend_values(&self.shelf, file.number(), Some(&file.meta)))?;
            found.push(mended.map_or(file, Arc::new));
        }
        self.values = Arc::new(Values::found(found));
        Ok(())
    }

    /// Reads the intact groups of all segments.
    fn read_log(&mut self, chain: &Chain<'_>) -> Result<()> {
        self.need = Need::Rebuild;
        let segments = self.of_kind(FileKind::Segment).into_iter().collect();
        let read = LogReader::read(&self.dir, chain, &segments)?;
        let (memtables, findings) = (read.memtables, read.findings);
        self.memtables.extend(memtables);
        self.findings.extend(findings);
        Ok(())
    }
}

/// The error, if it says that something is damaged; others end the repair.
fn damage(error: Error) -> Result<Error> {
    if error.is_corruption() { Ok(error) } else { Err(error) }
}

/// What was read, unless it is damaged.
fn intact<T>(read: Result<T>) -> Result<Option<T>> {
    read.map(Some).or_else(|e| damage(e).map(|_| None))
}
