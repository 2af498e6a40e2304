//! Checking everything.

use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};

use super::files::Files;
use super::health::Health;
use super::manifest::SharedManifest;
use super::readers::Readers;
use super::repair::kept::is_kept;
use crate::error::{Damage, Error, Result};
use crate::format::Sequence;
use crate::format::names::{self, FileKind};
use crate::table::Table;
use crate::version::{Handles, Version, read_current, read_manifest};

/// What [`Db::verify`](crate::Db::verify) found.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// Tables checked.
    pub tables: usize,
    /// Value files checked.
    pub value_files: usize,
    /// Entries seen in tables and in the log, all versions and tombstones counted.
    pub entries: u64,
    /// Bytes of tables, value files and log segments read.
    pub bytes: u64,
    /// What is wrong, one error for each damaged file; or why nothing could be checked.
    pub problems: Vec<Error>,
    /// Files that are no part of the database though their names say so, sorted: what earlier runs have left of work that was
    /// cut off. No damage: nothing reads them, and the first durable write after an open removes them.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::paths"))]
    pub leftovers: Vec<PathBuf>,
    /// What earlier [repairs](crate::repair) have kept beside the database, sorted: directories with the files as they were,
    /// and lists of what is lost. No part of the database; remove them when they are not needed any more.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::paths"))]
    pub kept: Vec<PathBuf>,
    /// Other names in the directory that the format does not know. No damage either; they are never touched.
    pub foreign: usize,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Reads every byte of every table, of every value file and of the log: checksums, order, counts, sequence numbers, that
/// each index leads to each key, and each pointer to its value; that tables and history agree, and that the manifest is
/// on disk as it is known here. Tells as well what else is in the directory, whether its lock is still there, and
/// why the store takes no more writes if it does not. If the store is closed meanwhile, the last problem says so.
pub(super) fn verify(health: &Health, files: &Files, readers: &Readers, manifest: &SharedManifest) -> Report {
    let mut check = Check { health, files, readers, manifest, report: Report::default() };
    let looked = health.check_open().and_then(|()| check.look_at_all());
    check.report.problems.extend(looked.err());
    check.report.problems.iter().for_each(|problem| health.events.note_error(problem));
    check.report
}

/// What is in the directory and no part of the database; see [`Report`].
#[derive(Default)]
struct Beside {
    leftovers: Vec<PathBuf>,
    kept: Vec<PathBuf>,
    foreign: usize,
}

/// A check under way.
struct Check<'e> {
    health: &'e Health,
    files: &'e Files,
    readers: &'e Readers,
    manifest: &'e SharedManifest,
    report: Report,
}

impl Check<'_> {
    fn look_at_all(&mut self) -> Result<()> {
        let read_state = self.readers.read_state();
        for memtable in &read_state.memtables {
            self.report.entries += memtable.entries();
            self.report.bytes += memtable.log_bytes();
            self.note(self.files.verify_groups(memtable))?;
        }
        for (level, table) in read_state.version.tables() {
            // A section that has been consumed may point to values that are gone.
            let serves = |keyspace| level > 0 || read_state.version.serves(table, keyspace);
            self.report.tables += 1;
            self.report.bytes += table.meta.file_bytes;
            let entries = table.pin().and_then(|reader| reader.verify(read_state.version.values(), serves));
            self.report.entries += self.note(entries)?;
        }
        for stored in read_state.version.values().iter() {
            self.report.value_files += 1;
            self.report.bytes += stored.file.meta.file_bytes;
            self.note(stored.file.verify(self.health.cancelled()).map(drop))?;
        }
        self.note(self.health.check_found(&[]))?;
        self.report.problems.extend(order_problems(self.files.path(), &read_state.version, self.readers.visible()));
        self.note(self.verify_manifest())?;
        let around = self.look_around();
        let beside = self.note(around)?;
        (self.report.leftovers, self.report.kept, self.report.foreign) =
            (beside.leftovers, beside.kept, beside.foreign);
        self.note(self.files.check_lock(self.health).and_then(|()| self.health.check_intact()))
    }

    /// What a look at the directory has found, or its problem in the report; an error if the directory may have been another
    /// database's by then. Somebody else gets at it only once the lock is free, which comes after the flag is lowered; so if
    /// the flag is still up behind the look, the whole look was at this database.
    fn note<T: Default>(&mut self, seen: Result<T>) -> Result<T> {
        fence(Ordering::SeqCst);
        self.health.check_open()?;
        // Being closed, it may have left half-way what was looked at.
        self.health.check_going_on()?;
        Ok(seen.unwrap_or_else(|problem| {
            self.report.problems.push(problem);
            T::default()
        }))
    }

    /// What is in the directory and no part of the database: files of earlier runs, what repairs have kept, and how many names
    /// that the format does not know.
    fn look_around(&self) -> Result<Beside> {
        // Nothing becomes obsolete, and no `CURRENT.new` is under way, while this is held.
        let manifest = self.manifest.lock();
        let version = self.readers.version();
        let mut names = self.files.dir.list().map_err(|e| Error::io("list", self.files.path(), e))?;
        names.sort_unstable();
        let ours = |name: &str| [names::LOCK, names::CURRENT, names::CURRENT_NEW, names::RESERVE].contains(&name);
        let unknown = names.iter().filter(|name| !ours(name) && FileKind::parse(name).is_none());
        let (kept, foreign): (Vec<&String>, Vec<&String>) = unknown.partition(|name| is_kept(name));
        let kept = kept.into_iter().map(|name| self.files.path_of(name)).collect();
        let unfinished = names.iter().map(String::as_str).filter(|name| *name == names::CURRENT_NEW);
        let left = self.files.leftovers(&manifest, &version, &names).into_iter().chain(unfinished);
        let leftovers = left.map(|name| self.files.path_of(name)).collect();
        Ok(Beside { leftovers, kept, foreign: foreign.len() })
    }

    /// Whether `CURRENT` and the manifest say on disk what they have said here.
    fn verify_manifest(&self) -> Result<()> {
        let manifest = self.manifest.lock();
        // After a failure, nobody knows what is on disk.
        let Some(number) = manifest.current().filter(|_| !self.health.is_poisoned()) else { return Ok(()) };
        let damaged = |name: &str, what| Err(Error::corrupt(&self.files.path_of(name), 0, what));
        match read_current(&*self.files.dir)? {
            Some(current) if current == (self.files.database, number) => {}
            Some(_) => return damaged(names::CURRENT, Damage::WrongFile),
            None => return damaged(names::CURRENT, Damage::Missing),
        }
        let recovered =
            read_manifest(&*self.files.dir, &self.files.database, number, &Handles::new(&self.files.table_cache))?;
        if recovered.version.to_edit() == self.readers.load().version.to_edit() {
            return Ok(());
        }
        damaged(&FileKind::Manifest.name(number), Damage::ManifestMismatch)
    }
}

/// What no table shows alone: that nothing is newer than the history, and that of two tables of level 0 one is newer.
pub(super) fn order_problems(dir: &Path, version: &Version, visible: Sequence) -> Vec<Error> {
    let mut problems = Vec::new();
    let path = |table: &Table| dir.join(FileKind::Table.name(table.number()));
    for (_, table) in version.tables() {
        if table.meta.sections.iter().any(|section| section.max_sequence > visible) {
            problems.push(Error::corrupt(&path(table), 0, Damage::BadSequence));
        }
    }
    for keyspace in version.keyspaces() {
        let mut newer = None;
        for table in version.level0(keyspace) {
            let Some(section) = table.section(keyspace) else { continue };
            // All of a section may have given up their numbers; tables of one load have the same.
            if newer.is_some_and(|newer| newer != Sequence(0) && section.max_sequence > newer) {
                problems.push(Error::corrupt(&path(table), 0, Damage::OutOfOrder));
            }
            newer = Some(section.min_sequence);
        }
    }
    problems
}
