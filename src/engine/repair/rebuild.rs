//! Writing a database anew from what could be read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::inventory::{Inventory, Source};
use super::{Outcome, RepairReport};
use crate::engine::Engine;
use crate::engine::checkpoint::copy_file;
use crate::error::{Damage, Error, Result};
use crate::format::checksum::Id;
use crate::format::current::Current;
use crate::format::edit::{Edit, KeyspaceMeta};
use crate::format::entry::{Entry, Kind};
use crate::format::names::{self, FileKind};
use crate::format::{FileNumber, KeyspaceId, NUMBER_MAX, Sequence};
use crate::keyspace_state::KeyspaceState;
use crate::memtable::RunCursor;
use crate::merge::{Place, Scan, Source as Sorted};
use crate::options::{KeyspaceOptions, Options};
use crate::sys::{Dir, Fs};
use crate::table::{Shelf, Table, TableCursor, TableWriter, Values, Verify};
use crate::version::{Handles, Manifest, State, Version, read_current, swap_current};
use crate::visibility::{Cover, Visibility};

/// Where the new database is until it takes the place of the old one.
const SCRATCH: &str = "repair";

/// Where the files of the old one are kept; a number follows if there is one already.
const ORIGINALS: &str = "lost";

struct Rebuild<'r> {
    options: &'r Options,
    dir: &'r Arc<dyn Dir>,
    inventory: Inventory,
    /// Copies of what can be read of damaged tables, by the number of their table.
    copies: BTreeMap<FileNumber, Arc<Table>>,
    next_number: u64,
}

pub(super) fn rebuild(options: &Options, dir: &Arc<dyn Dir>, inventory: Inventory) -> Result<RepairReport> {
    let next_number = inventory.highest_number() + 1;
    if next_number >= NUMBER_MAX / 2 {
        return Err(Error::NumbersExhausted);
    }
    let mut rebuild = Rebuild { options, dir, inventory, copies: BTreeMap::new(), next_number };
    let scratch = dir.path().join(SCRATCH);
    let fs = &*options.file_system.0;
    remove_all(fs, options, &scratch);
    let report = rebuild.write(&scratch).and_then(|report| rebuild.replace(&scratch, report));
    rebuild.copies.clear();
    remove_all(fs, options, &scratch);
    report
}

/// Removes a directory of files, if there is one.
fn remove_all(fs: &dyn Fs, options: &Options, path: &Path) {
    if let Ok(dir) = fs.open_dir(path, false, options.access()) {
        for name in dir.list().unwrap_or_default() {
            let _ = dir.remove(&name);
        }
        let _ = fs.remove_dir(path);
    }
}

impl Rebuild<'_> {
    fn fs(&self) -> &dyn Fs {
        &*self.options.file_system.0
    }

    fn new_number(&mut self) -> FileNumber {
        self.next_number += 1;
        FileNumber(self.next_number - 1)
    }

    fn new_id(&self) -> Result<Id> {
        let mut id = Id::default();
        self.fs().random(&mut id).map_err(|e| Error::io("get random bytes for", self.dir.path(), e))?;
        Ok(id)
    }

    /// Writes the new database into a directory of its own.
    fn write(&mut self, path: &Path) -> Result<RepairReport> {
        let scratch = self.fs().create_dir(path, self.options.access()).map_err(|e| Error::io("create", path, e))?;
        scratch
            .lock(names::LOCK, crate::sys::LockMode::Exclusive { create: true })
            .map_err(|e| Error::io("lock", path, e))?;
        let shelf = Shelf::new(Arc::clone(&scratch), self.options.table, self.options.cache_bytes);
        self.copy_damaged(&shelf)?;
        let mut report = RepairReport { rebuilt: true, ..RepairReport::default() };
        let keyspaces = self.keyspaces(&mut report)?;
        let create = Edit { create: keyspaces.clone(), ..Edit::default() };
        let handles = Handles::new(&shelf);
        let version = Version::default().apply(&create, &handles).map_err(|damage| Error::corrupt(path, 0, damage))?;
        let manifest = self.new_number();
        let next = FileNumber(self.next_number);
        let state = State { next_number: next, first_segment: next, ..State::default() };
        let mut first = Manifest::new(Arc::clone(&scratch), self.new_id()?, state, None);
        first.append(&Edit::default(), &version, || Ok(manifest))?;
        first.close(&Edit::default())?;
        drop(first);

        let mut options = self.options.clone();
        options.read_only(false).background_threads(0);
        let engine = Engine::open(&options, path)?;
        let mut states = vec![Arc::clone(engine.default_keyspace())];
        for meta in &keyspaces {
            states.push(engine.keyspace(&meta.name)?);
        }
        for state in states {
            report.entries += self.load(&engine, &state)?;
        }
        engine.close()?;
        report.findings = std::mem::take(&mut self.inventory.findings);
        Ok(report)
    }

    /// The keyspaces that there are, with names made up for those whose own is lost.
    fn keyspaces(&self, report: &mut RepairReport) -> Result<Vec<KeyspaceMeta>> {
        let mut metas: BTreeMap<KeyspaceId, KeyspaceMeta> =
            self.inventory.keyspaces.iter().map(|meta| (meta.id, meta.clone())).collect();
        let of_tables = self.inventory.sources.iter().flat_map(|source| source.serves.iter().copied());
        let of_log = self.inventory.memtables.iter().flat_map(|memtable| memtable.keyspaces());
        let used: BTreeSet<KeyspaceId> = of_tables.chain(of_log).collect();
        for id in used.into_iter().filter(|id| *id != KeyspaceId::DEFAULT) {
            if metas.contains_key(&id) {
                continue;
            }
            let mut name = format!("recovered-{}", id.0);
            while metas.values().any(|meta| meta.name == name) {
                name.push('\'');
            }
            metas.insert(id, KeyspaceOptions::new().record(self.options.table.section, id, &name)?);
            report.renamed_keyspaces.push(name);
        }
        Ok(metas.into_values().collect())
    }

    /// Copies what can be read of damaged tables, so that the rest of the work meets no damage.
    fn copy_damaged(&mut self, shelf: &Arc<Shelf>) -> Result<()> {
        let damaged: Vec<usize> =
            (0..self.inventory.sources.len()).filter(|at| self.inventory.sources[*at].damaged).collect();
        for at in damaged {
            let (number, id) = (self.new_number(), self.new_id()?);
            let source = &self.inventory.sources[at];
            let (copy, entries) = copy_readable(shelf, number, id, source, &self.inventory.values)?;
            let path = self.dir.path().join(FileKind::Table.name(source.table.number()));
            let total: u64 = source.table.meta.sections.iter().map(|section| section.entries).sum();
            let of_table = |problem: &Error| problem.corruption().is_some_and(|c| c.path == path);
            let findings = self.inventory.findings.iter_mut();
            for finding in findings.filter(|finding| of_table(&finding.problem)) {
                let lost = Some(total.saturating_sub(entries));
                finding.outcome =
                    if entries == 0 { Outcome::Lost { entries: lost } } else { Outcome::Salvaged { entries, lost } };
            }
            if let Some(copy) = copy {
                self.copies.insert(source.table.number(), Arc::new(copy));
            }
        }
        Ok(())
    }

    /// Loads everything of a keyspace, as a reader of the old database would see it; answers how many entries there are.
    fn load(&self, engine: &Engine, state: &KeyspaceState) -> Result<u64> {
        let mut sources = Vec::new();
        let mut cover = Cover::default();
        let mut removals = Vec::new();
        for memtable in &self.inventory.memtables {
            let mut rule = Visibility::retain(Vec::new(), Sequence(NUMBER_MAX));
            let runs = memtable.runs(state.id, &mut rule);
            sources.extend(runs.into_iter().map(|run| Sorted::Run(RunCursor::new(Arc::clone(memtable), run))));
            removals.extend(memtable.ranges(state.id).iter().cloned());
        }
        for source in self.inventory.sources.iter().filter(|source| source.serves.contains(&state.id)) {
            let copy = || self.copies.get(&source.table.number());
            let table = if source.damaged { copy() } else { Some(&source.table) };
            let Some(reader) = table.map(|table| table.reader()).transpose()? else { continue };
            sources.extend(TableCursor::new(reader, state.id, Verify::Again).map(Sorted::Table));
            removals.extend(reader.ranges(state.id).cloned());
        }
        // Nothing is known of which source is older than which removal.
        cover.add(&removals, sources.len());
        let mut scan = Scan::new(sources, cover, Arc::clone(&self.inventory.values), Sequence(NUMBER_MAX));
        let mut more = scan.go(Place::First)?;
        let entries = std::iter::from_fn(|| {
            if !more {
                return None;
            }
            let entry = scan.current().map(|(key, value)| (key.to_vec(), value.to_vec()));
            match scan.next() {
                Ok(another) => more = another,
                Err(e) => {
                    more = false;
                    return Some(Err(e));
                }
            }
            entry.map(Ok)
        });
        Ok(engine.ingest(state, entries)?.entries)
    }

    /// Puts the new database in the place of the old one, whose files are kept.
    fn replace(&self, path: &Path, mut report: RepairReport) -> Result<RepairReport> {
        let access = self.options.access();
        let scratch = self.fs().open_dir(path, false, access).map_err(|e| Error::io("open", path, e))?;
        let stop = AtomicBool::new(false);
        let copy = |from: &Arc<dyn Dir>, name: &str, to: &Arc<dyn Dir>| {
            copy_file(&**from, name, to, &stop).map_err(|(operation, e)| Error::io(operation, &to.path().join(name), e))
        };
        let sync = |dir: &Arc<dyn Dir>| dir.sync().map_err(|e| Error::io("sync", dir.path(), e));
        let Some((database, manifest)) = read_current(&*scratch)? else {
            return Err(Error::corrupt(&path.join(names::CURRENT), 0, Damage::Missing));
        };
        let copies: BTreeSet<FileNumber> = self.copies.values().map(|table| table.number()).collect();
        for name in scratch.list().map_err(|e| Error::io("list", path, e))? {
            if FileKind::parse(&name).is_some_and(|(_, number)| !copies.contains(&number)) {
                copy(&scratch, &name, self.dir)?;
            }
        }
        let originals = self.originals()?;
        for name in self.inventory.files() {
            copy(self.dir, name, &originals)?;
        }
        sync(&originals)?;
        sync(self.dir)?;
        swap_current(&**self.dir, Current::new(database, manifest))?;
        for name in self.inventory.files().filter(|name| *name != names::CURRENT) {
            self.dir.remove(name).map_err(|e| Error::io("remove", &self.dir.path().join(name), e))?;
        }
        report.originals = Some(originals.path().to_owned());
        Ok(report)
    }

    /// A new directory for the old files.
    fn originals(&self) -> Result<Arc<dyn Dir>> {
        let mut attempt = 1;
        loop {
            let name = if attempt == 1 { ORIGINALS.to_owned() } else { format!("{ORIGINALS}-{attempt}") };
            let path: PathBuf = self.dir.path().join(name);
            match self.fs().create_dir(&path, self.options.access()) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
                made => return made.map_err(|e| Error::io("create", &path, e)),
            }
        }
    }
}

/// Whether the value of an entry can be read if it stands apart.
fn has_value(cursor: &TableCursor, keyspace: KeyspaceId, entry: &Entry, values: &Values) -> Result<bool> {
    if entry.kind() != Kind::Pointer {
        return Ok(true);
    }
    let found = values.find(entry, cursor.bytes(), || cursor.reader().file().path().to_owned());
    let record = found.and_then(|(pointer, file)| file.record(keyspace, entry.key(cursor.bytes()), pointer).map(drop));
    match record {
        Err(e) if !e.is_corruption() => Err(e),
        record => Ok(record.is_ok()),
    }
}

/// Copies every entry of a table that can be read, and its range tombstones; answers how many entries there are.
fn copy_readable(
    shelf: &Arc<Shelf>,
    number: FileNumber,
    id: Id,
    source: &Source,
    values: &Values,
) -> Result<(Option<Table>, u64)> {
    let stop = Arc::default();
    let mut writer = TableWriter::create(shelf, number, id, &stop)?;
    let reader = source.table.reader()?;
    let mut entries = 0;
    for keyspace in &source.serves {
        let Some(mut cursor) = TableCursor::new(reader, *keyspace, Verify::Again) else { continue };
        writer.start_section(shelf.options.section.at_level(0))?;
        let mut last: Option<Vec<u8>> = None;
        let mut place = 0;
        let mut moved = cursor.seek_first();
        loop {
            match (&moved, cursor.current()) {
                (Ok(()), None) => break,
                (Ok(()), Some(entry)) => {
                    if has_value(&cursor, *keyspace, entry, values)? {
                        writer.add(*keyspace, entry, cursor.bytes(), false)?;
                        entries += 1;
                    }
                    last = Some(entry.key(cursor.bytes()).to_vec());
                    moved = cursor.next();
                }
                // Goes on with the next key of the sparse index that can be read.
                (Err(_), _) => {
                    let Some((at, key)) = reader.readable_key(*keyspace, place, last.as_deref())? else { break };
                    place = at + 1;
                    moved = cursor.seek(&key);
                }
            }
        }
        if let Some(ranges) = reader.ranges(*keyspace) {
            writer.add_ranges(*keyspace, ranges)?;
        }
    }
    if writer.is_empty() {
        return Ok((None, 0));
    }
    Ok((Some(writer.finish()?.into_table(Arc::clone(shelf))), entries))
}
