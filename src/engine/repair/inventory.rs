//! What there is in a directory, and what is wrong with it. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::evidence::{Evidence, open_listed};
use super::findings::{Finding, Findings, Outcome, damage, intact};
use super::log::{Chain, LogReader};
use super::numbers;
use super::owners::{Owners, of_kind};
use crate::engine::recover::{DroppedTail, Found, FoundLog, read_found};
use crate::engine::verify::order_problems;
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
    Salvage, Table, TableCache, TableReader, ValueFile, Values, mend_values, read_id, read_meta, read_values_meta,
    write_index,
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
    pub(super) table_cache: Arc<TableCache>,
    names: Vec<String>,
    owners: Owners,
    need: Need,
    pub(super) findings: Findings,
    pub(super) keyspaces: Vec<KeyspaceMeta>,
    /// The name of the operator of the default one.
    pub(super) default_operator: Option<String>,
    pub(super) sources: Vec<Source>,
    pub(super) lost: Vec<LostSection>,
    /// Where values are that stand apart from their entries.
    pub(super) values: Arc<Values>,
    pub(super) memtables: Vec<Arc<Memtable>>,
    /// The end of the log, if it was cut off.
    torn: Option<DroppedTail>,
    /// Tables whose index is to be made again.
    without_index: Vec<Arc<Table>>,
}

impl Inventory {
    pub(super) fn take(options: &Options, dir: &Arc<dyn Dir>, names: &[String]) -> Result<Self> {
        let mut inventory = Self {
            dir: Arc::clone(dir),
            table_cache: TableCache::new(Arc::clone(dir), options.table, options.cache_bytes, options.max_open_tables),
            names: names.to_vec(),
            owners: Owners::default(),
            need: Need::Nothing,
            findings: Findings::default(),
            keyspaces: Vec::new(),
            default_operator: None,
            sources: Vec::new(),
            lost: Vec::new(),
            values: Arc::default(),
            memtables: Vec::new(),
            torn: None,
            without_index: Vec::new(),
        };
        match inventory.find_manifest()? {
            Some(found) => inventory.go_by_manifest(&found)?,
            None => inventory.go_by_tables()?,
        }
        inventory.find_last_numbers();
        // Of a database that is left as it is, the open tells this.
        if let Some(tail) = inventory.torn.take().filter(|_| inventory.needs_rebuild()) {
            let problem = Error::corrupt(&tail.path, tail.offset, Damage::BadChecksum);
            inventory.note(problem, Outcome::Gap { bytes: tail.bytes, entries: None });
        }
        Ok(inventory)
    }

    pub(super) fn needs_rebuild(&self) -> bool {
        self.need == Need::Rebuild
    }

    /// All names in the directory.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The names of all files of the format, but the lock.
    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        let is_ours = |name: &&String| FileKind::parse(name).is_some() || *name == names::CURRENT;
        self.names.iter().filter(is_ours)
    }

    /// Notes names that leave no number for new files; those do not stay.
    fn find_last_numbers(&mut self) {
        for name in numbers::last_names(&self.names) {
            let path = self.dir.path().join(name);
            self.need = Need::Rebuild;
            self.findings.of_or_note(&path, || Error::corrupt(&path, 0, Damage::WrongFile));
        }
    }

    /// Makes again what can be made again where it belongs.
    pub(super) fn restore(&self) -> Result<()> {
        for table in &self.without_index {
            if let Some(index) = table.lost_index() {
                let number = table.number();
                let _ = self.dir.remove(&FileKind::Index.name(number));
                write_index(&*self.dir, number, [index.bytes()])?;
            }
        }
        if !self.without_index.is_empty() {
            self.dir.sync().map_err(|e| Error::io("sync", self.dir.path(), e))?;
        }
        match self.need {
            Need::Current(database, manifest) => Ok(swap_current(&*self.dir, Current::new(database, manifest))?),
            Need::Nothing | Need::Rebuild => Ok(()),
        }
    }

    fn note(&mut self, problem: Error, outcome: Outcome) {
        self.findings.note(problem, outcome);
    }

    fn damaged(&self, kind: FileKind, number: FileNumber, what: Damage) -> Error {
        Error::corrupt(&self.dir.path().join(kind.name(number)), 0, what)
    }

    fn of_kind(&self, kind: FileKind) -> Vec<FileNumber> {
        of_kind(&self.names, kind)
    }

    /// The state by the manifest that counts, if it is whole: that of `CURRENT`, or, without one, the youngest of the database
    /// that most of the files belong to.
    fn find_manifest(&mut self) -> Result<Option<Found>> {
        let path = self.dir.path().join(names::CURRENT);
        let mut current = match read_current(&*self.dir) {
            Ok(Some(current)) => Ok(current),
            Ok(None) => Err(Error::corrupt(&path, 0, Damage::Missing)),
            Err(e) => Err(damage(e)?),
        };
        self.owners = Owners::weigh(&self.table_cache, &self.names, current.as_ref().ok().copied())?;
        if let Ok((database, _)) = current
            && self.owners.ours != Some(database)
        {
            current = Err(Error::corrupt(&path, 0, Damage::WrongFile));
        }
        let (found, lost) = match current {
            Ok(current) => (Some(current), None),
            Err(e) => (self.owners.ours.zip(self.owners.youngest_manifest(&self.names)), Some(e)),
        };
        let Some((database, number)) = found else {
            if let Some(e) = lost {
                self.note(e, Outcome::Inferred);
            }
            return Ok(None);
        };
        let problem = match read_found(&self.table_cache, database, number) {
            Ok(found) if !self.is_of_another_moment(&found, lost.is_some())? => {
                if let Some(e) = lost {
                    self.note(e, Outcome::Restored);
                    self.need = Need::Current(database, number);
                }
                return Ok(Some(found));
            }
            Ok(_) => self.damaged(FileKind::Manifest, number, Damage::ManifestMismatch),
            Err(e) => damage(e)?,
        };
        for e in lost.into_iter().chain([problem]) {
            self.note(e, Outcome::Inferred);
        }
        Ok(None)
    }

    /// Whether the end of a manifest is lost, or the whole of a younger one: it was not closed, and there are tables that it
    /// does not name: in place of some that it does; or in place of the segments of the log that it needs; or made after it,
    /// while nothing says that it is the last one.
    fn is_of_another_moment(&self, found: &Found, is_current_lost: bool) -> Result<bool> {
        let named: BTreeSet<FileNumber> = found.version.tables().map(|(_, table)| table.number()).collect();
        let there: BTreeSet<FileNumber> = self.of_kind(FileKind::Table).into_iter().collect();
        let others: Vec<FileNumber> = there.difference(&named).copied().collect();
        if found.manifest_durable || others.is_empty() {
            return Ok(false);
        }
        let has_later = others.iter().any(|number| *number >= found.state.next_number);
        Ok(!named.is_subset(&there) || is_current_lost && has_later || self.lacks_its_log(found)?)
    }

    /// Whether the log does not begin where the manifest says: its first segment says that the one in front of it is needed,
    /// or cannot be read. One that was never written says nothing.
    fn lacks_its_log(&self, found: &Found) -> Result<bool> {
        let first = found.state.first_segment;
        let Some(number) = self.of_kind(FileKind::Segment).into_iter().find(|number| *number >= first) else {
            return Ok(false);
        };
        let file = open_listed(&self.dir, FileKind::Segment, number)?;
        let header = SegmentHeader::parse(file.bytes(), Magic::SEGMENT, &found.database, number);
        Ok(match header {
            Ok(header) => header.predecessor().segment >= first,
            Err(_) => file.bytes().iter().any(|byte| *byte != 0),
        })
    }

    fn go_by_manifest(&mut self, found: &Found) -> Result<()> {
        let version = &found.version;
        if let Some(manifest) = found.manifest.filter(|_| numbers::is_last(found.state.next_number)) {
            self.need = Need::Rebuild;
            self.note(self.damaged(FileKind::Manifest, manifest, Damage::BadField), Outcome::Restored);
        }
        self.examine_values(version.values().iter().map(|stored| Arc::clone(&stored.file)))?;
        self.keyspaces = version.named().iter().map(|meta| KeyspaceMeta::clone(meta)).collect();
        self.default_operator = version.named().operator(KeyspaceId::DEFAULT).map(str::to_owned);
        for (level, table) in version.tables() {
            let keyspaces = table.meta.sections.iter().map(|section| section.keyspace);
            let serves = keyspaces.filter(|keyspace| level > 0 || version.serves(table, *keyspace)).collect();
            self.examine(table, serves)?;
        }
        let log = FoundLog::of(&*self.dir, found, &self.names);
        match log.and_then(|log| log.index(&*self.dir, found, &log)) {
            Ok(replayed) => {
                let last = Sequence(replayed.next_sequence.0.saturating_sub(1)).max(found.state.last_sequence);
                for problem in order_problems(self.dir.path(), version, last) {
                    // Every version is where it was; which one is newer, their numbers say.
                    self.need = Need::Rebuild;
                    self.note(problem, Outcome::Restored);
                }
                self.memtables = replayed.memtables;
                self.torn = replayed.report.dropped;
            }
            Err(e) => {
                let e = damage(e)?;
                let mut ends = found.state.segment_ends.clone();
                if let Some(durable) = found.state.log_durable {
                    let end = ends.entry(durable.segment).or_default();
                    *end = durable.offset.max(*end);
                }
                let is_dropped = |keyspace| version.named().was_created(keyspace) && !version.named().is_live(keyspace);
                let before = self.findings.list().len();
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
                if !self.findings.list().iter().skip(before).any(explains) {
                    let entries = self.memtables.iter().map(|memtable| memtable.entries()).sum();
                    self.note(e, Outcome::Salvaged { entries, lost: None });
                }
            }
        }
        Ok(())
    }

    fn go_by_tables(&mut self) -> Result<()> {
        self.need = Need::Rebuild;
        let databases: Vec<Id> = self.owners.ours.into_iter().collect();
        let evidence = match self.owners.ours {
            Some(database) => self.owners.evidence(&self.table_cache, &self.names, database)?,
            None => Evidence::gather(&self.dir, &self.of_kind(FileKind::Manifest), &[])?,
        };
        self.values_by_themselves(&evidence)?;
        let mut near = evidence.last_sequence;
        for number in self.of_kind(FileKind::Table) {
            let id = read_id(&self.table_cache, FileKind::Table, number)?;
            let known = id.and_then(|id| evidence.tables.get(&id)).or(evidence.table(number));
            // Its name may be that of another one.
            let named = known.map_or(number, |meta| meta.number);
            let gone = |keyspace: &KeyspaceId| {
                let is_dropped = evidence.dropped.contains(keyspace) || *keyspace == KeyspaceId::LAST;
                is_dropped || evidence.consumed.contains(&(named, *keyspace))
            };
            let serves = |sections: &[Section]| {
                sections.iter().map(|section| section.keyspace).filter(|keyspace| !gone(keyspace)).collect()
            };
            if let Some(id) = id.filter(|id| evidence.excludes(number, id, &self.owners.claimed)) {
                self.refuse_table(number, id, &evidence, &serves)?;
                continue;
            }
            if evidence.removed.contains(&named) {
                continue;
            }
            let global = |id: &Id| evidence.tables.get(id).map(TableMeta::global_sequence);
            match read_meta(&self.table_cache, number, global) {
                Ok(meta) => {
                    near = meta.sections.iter().map(|section| section.max_sequence).fold(near, Sequence::max);
                    let serves = serves(&meta.sections);
                    self.examine(&Arc::new(Table::new(meta, Arc::clone(&self.table_cache), Vec::new())), serves)?;
                }
                Err(e) => self.salvage(number, known, &serves, damage(e)?)?,
            }
        }
        let is_dropped = |keyspace| evidence.dropped.contains(&keyspace) || keyspace == KeyspaceId::LAST;
        let (first, ends) = (evidence.first_segment, BTreeMap::new());
        self.read_log(&Chain { databases, first, is_known: false, ends, near, is_dropped: &is_dropped })?;
        self.keyspaces = evidence.keyspaces.into_values().collect();
        self.default_operator = evidence.default_operator;
        Ok(())
    }

    /// Finds the value files, by the manifests and by what they say of themselves.
    fn values_by_themselves(&mut self, evidence: &Evidence) -> Result<()> {
        let mut values = Vec::new();
        for number in self.of_kind(FileKind::Values) {
            let known = evidence.values.get(&number);
            let id = read_id(&self.table_cache, FileKind::Values, number)?.filter(|_| known.is_none());
            if id.is_some_and(|id| evidence.excludes(number, &id, &self.owners.claimed)) {
                continue;
            }
            let read = known.map_or_else(|| read_values_meta(&self.table_cache, number), |meta| Ok(*meta));
            match read {
                Ok(meta) => values.push(ValueFile::new(meta, Arc::clone(&self.table_cache))),
                Err(e) => {
                    let e = damage(e)?;
                    values.extend(intact(mend_values(&self.table_cache, number, None))?);
                    self.note(e, Outcome::Restored);
                }
            }
        }
        self.examine_values(values)
    }

    /// Notes that the table under a number is none of the database's. If it stands in the place of one, that one is lost.
    fn refuse_table(
        &mut self,
        number: FileNumber,
        id: Id,
        evidence: &Evidence,
        serves: &dyn Fn(&[Section]) -> Vec<KeyspaceId>,
    ) -> Result<()> {
        let problem = self.damaged(FileKind::Table, number, Damage::WrongFile);
        match evidence.table(number).filter(|_| !evidence.removed.contains(&number)) {
            Some(known) => self.salvage(number, Some(known), serves, problem),
            // What a run that was cut off has left is nobody's.
            None if !self.owners.claimed.contains(&id) => Ok(()),
            None => {
                self.note(problem, Outcome::Restored);
                Ok(())
            }
        }
    }

    /// Looks at every byte of a table, and notes what is wrong.
    fn examine(&mut self, table: &Arc<Table>, serves: Vec<KeyspaceId>) -> Result<()> {
        if serves.is_empty() {
            return Ok(());
        }
        let problem = match table.pin() {
            Ok(reader) => self.check(table.number(), &reader, &serves)?,
            Err(e) => Some(damage(e)?),
        };
        if let Some(e) = problem {
            return self.salvage(table.number(), Some(&table.meta), &|_| serves.clone(), e);
        }
        if table.lost_index().is_some() {
            self.note(self.damaged(FileKind::Index, table.number(), Damage::IndexMismatch), Outcome::Restored);
            self.without_index.push(Arc::clone(table));
        }
        self.sources.push(Source { number: table.number(), content: Content::Whole(Arc::clone(table)), serves });
        Ok(())
    }

    /// What is wrong with a table itself. Of values that it points to, the merge finds out which ones are needed.
    fn check(&mut self, number: FileNumber, reader: &TableReader, serves: &[KeyspaceId]) -> Result<Option<Error>> {
        let verify = || reader.verify(&self.values, |keyspace| serves.contains(&keyspace));
        if intact(verify())?.is_some() {
            return Ok(None);
        }
        let index = FileKind::Index.name(number);
        let is_of_index = |e: &Error| {
            e.corruption().and_then(|corruption| corruption.path.file_name()).is_some_and(|name| *name == *index)
        };
        let mut own = reader.verify(&self.values, |_| false);
        if own.as_ref().is_err_and(is_of_index) {
            own = reader.forget_index().and_then(|()| reader.verify(&self.values, |_| false));
        }
        match own {
            Ok(_) => {}
            // One that has just been made from the entries does not lead to them.
            Err(e) if is_of_index(&e) => return Ok(Some(reader.file().corrupt(0, Damage::OutOfOrder))),
            Err(e) => return Ok(Some(damage(e)?)),
        }
        if let Err(e) = verify() {
            let e = damage(e)?;
            self.need = Need::Rebuild;
            let path = e.corruption().map(|corruption| corruption.path.clone()).unwrap_or_default();
            self.findings.of_or_note(&path, || e);
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
        let salvage = Salvage::open(&self.table_cache, number, known, |_| known.map(TableMeta::global_sequence));
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
            self.findings.of_or_note(&file.path(), || e);
            let mended = intact(mend_values(&self.table_cache, file.number(), Some(&file.meta)))?;
            found.push(mended.unwrap_or(file));
        }
        self.values = Arc::new(Values::found(found));
        Ok(())
    }

    /// Reads the intact groups of all segments.
    fn read_log(&mut self, chain: &Chain<'_>) -> Result<()> {
        self.need = Need::Rebuild;
        let segments = self.of_kind(FileKind::Segment).into_iter().collect();
        let read = LogReader::read(&self.dir, chain, &segments)?;
        self.memtables.extend(read.memtables);
        self.findings.extend(read.findings);
        Ok(())
    }
}
