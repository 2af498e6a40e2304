//! What there is in a directory, and what is wrong with it. Changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::evidence::{Evidence, open_manifest};
use super::log::read_segment;
use super::{Finding, Outcome};
use crate::engine::recover::{Found, numbered, read_found, replay};
use crate::error::{Damage, Error, Result};
use crate::format::checksum::Id;
use crate::format::current::Current;
use crate::format::edit::{KeyspaceMeta, TableMeta};
use crate::format::names::{self, FileKind};
use crate::format::prefix::Magic;
use crate::format::segment::SegmentHeader;
use crate::format::{FileNumber, KeyspaceId};
use crate::memtable::Memtable;
use crate::options::Options;
use crate::sys::Dir;
use crate::table::{Shelf, Table, ValueFile, Values, read_meta, read_values_meta, write_index};
use crate::version::{read_current, swap_current};

/// A table of which entries are to be had.
pub(super) struct Source {
    pub(super) table: Arc<Table>,
    /// The keyspaces for which it speaks.
    pub(super) serves: Vec<KeyspaceId>,
    /// Whether some of its entries cannot be read.
    pub(super) damaged: bool,
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
            values: Arc::default(),
            memtables: Vec::new(),
            without_index: Vec::new(),
        };
        match inventory.find_manifest()? {
            Some(found) => inventory.go_by_manifest(&found)?,
            None => inventory.go_by_tables()?,
        }
        inventory.examine_values()?;
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
        self.findings.push(Finding { problem, outcome });
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
                self.findings.extend(lost.map(|problem| Finding { problem, outcome: Outcome::Inferred }));
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
                self.findings.extend(lost.map(|problem| Finding { problem, outcome: Outcome::Inferred }));
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
        self.values = Arc::clone(version.values());
        self.keyspaces = version.named().iter().map(|meta| KeyspaceMeta::clone(meta)).collect();
        for (level, table) in version.tables() {
            let keyspaces = table.meta.sections.iter().map(|section| section.keyspace);
            let serves = keyspaces.filter(|keyspace| level > 0 || version.serves(table, *keyspace)).collect();
            self.examine(Arc::clone(table), serves)?;
        }
        match replay(&*self.dir, found, &self.names) {
            Ok(replayed) => self.memtables = replayed.memtables,
            Err(e) => {
                let e = damage(e)?;
                let dropped = |keyspace| version.named().was_created(keyspace) && !version.named().is_live(keyspace);
                self.read_log(found.state.first_segment, &dropped, Some(e))?;
            }
        }
        Ok(())
    }

    fn go_by_tables(&mut self) -> Result<()> {
        self.need = Need::Rebuild;
        let evidence = Evidence::gather(&self.dir, &self.of_kind(FileKind::Manifest))?;
        let mut values = Vec::new();
        for number in self.of_kind(FileKind::Values) {
            match read_values_meta(&self.shelf, number) {
                Ok(meta) => values.push(Arc::new(ValueFile::new(meta, Arc::clone(&self.shelf)))),
                // The tables that need it tell.
                Err(e) => drop(damage(e)?),
            }
        }
        self.values = Arc::new(Values::found(values));
        for number in self.of_kind(FileKind::Table) {
            if evidence.removed.contains(&number) {
                continue;
            }
            match read_meta(&self.shelf, number, |id| evidence.tables.get(id).map(TableMeta::global_sequence)) {
                Ok(meta) => {
                    let keyspaces = meta.sections.iter().map(|section| section.keyspace);
                    let gone = |keyspace: &KeyspaceId| {
                        evidence.dropped.contains(keyspace) || evidence.consumed.contains(&(number, *keyspace))
                    };
                    let serves = keyspaces.filter(|keyspace| !gone(keyspace)).collect();
                    let table = Table::new(meta, Arc::clone(&self.shelf), Vec::new());
                    self.examine(Arc::new(table), serves)?;
                }
                Err(e) => {
                    let e = damage(e)?;
                    self.note(e, Outcome::Lost { entries: None });
                }
            }
        }
        let dropped = |keyspace| evidence.dropped.contains(&keyspace);
        self.read_log(evidence.first_segment, &dropped, None)?;
        self.keyspaces = evidence.keyspaces.into_values().collect();
        Ok(())
    }

    /// Looks at every byte of a table, and notes what is wrong.
    fn examine(&mut self, table: Arc<Table>, serves: Vec<KeyspaceId>) -> Result<()> {
        if serves.is_empty() {
            return Ok(());
        }
        let entries = table.meta.sections.iter().filter(|s| serves.contains(&s.keyspace)).map(|s| s.entries).sum();
        let reader = match table.reader() {
            Ok(reader) => Arc::clone(reader),
            Err(e) => {
                let e = damage(e)?;
                self.need = Need::Rebuild;
                self.note(e, Outcome::Lost { entries: Some(entries) });
                return Ok(());
            }
        };
        let index = FileKind::Index.name(table.number());
        let index_damage = |e: &Error| e.corruption().is_some_and(|c| c.path.file_name().is_some_and(|n| *n == *index));
        let mut damaged = false;
        match reader.verify(&self.values, |keyspace| serves.contains(&keyspace)) {
            Ok(_) => {}
            Err(e) if index_damage(&e) => reader.forget_index()?,
            Err(e) => {
                let e = damage(e)?;
                damaged = true;
                self.need = Need::Rebuild;
                // The rebuild fills in what it could read.
                self.note(e, Outcome::Salvaged { entries, lost: None });
            }
        }
        if reader.lost_index().is_some() {
            self.note(Error::corrupt(&self.dir.path().join(&index), 0, Damage::IndexMismatch), Outcome::Restored);
            self.without_index.push(Arc::clone(&table));
        }
        self.sources.push(Source { table, serves, damaged });
        Ok(())
    }

    /// Looks at every byte of the value files; what tables need of them has been seen already.
    fn examine_values(&mut self) -> Result<()> {
        let values = Arc::clone(&self.values);
        for stored in values.iter() {
            let Err(e) = stored.file.verify(&AtomicBool::new(false)) else { continue };
            let e = damage(e)?;
            let path = stored.file.path();
            let is_known = |finding: &Finding| finding.problem.corruption().is_some_and(|c| c.path == path);
            if !self.findings.iter().any(is_known) {
                self.need = Need::Rebuild;
                self.note(e, Outcome::Restored);
            }
        }
        Ok(())
    }

    /// Reads the intact groups of all segments from `first` on. If `problem` is known, that is what is wrong with them.
    fn read_log(
        &mut self,
        first: FileNumber,
        is_dropped: &dyn Fn(KeyspaceId) -> bool,
        problem: Option<Error>,
    ) -> Result<()> {
        self.need = Need::Rebuild;
        let mut entries = 0;
        let segments: BTreeSet<FileNumber> = self.of_kind(FileKind::Segment).into_iter().collect();
        for number in segments.range(first..) {
            match read_segment(&self.dir, *number, is_dropped) {
                Ok(found) => {
                    entries += found.entries;
                    if found.lost_bytes > 0 && problem.is_none() {
                        let path = self.dir.path().join(FileKind::Segment.name(*number));
                        let salvaged = Outcome::Salvaged { entries: found.entries, lost: None };
                        self.note(Error::corrupt(&path, 0, Damage::BadChecksum), salvaged);
                    }
                    self.memtables.extend(found.memtables);
                }
                Err(e) => {
                    let e = damage(e)?;
                    self.note(e, Outcome::Lost { entries: None });
                }
            }
        }
        self.findings
            .extend(problem.map(|problem| Finding { problem, outcome: Outcome::Salvaged { entries, lost: None } }));
        Ok(())
    }
}

/// The error, if it says that something is damaged; others end the repair.
fn damage(error: Error) -> Result<Error> {
    if error.is_corruption() { Ok(error) } else { Err(error) }
}
