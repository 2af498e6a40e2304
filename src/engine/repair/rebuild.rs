//! Writing a database anew from what could be read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::inventory::{Content, Inventory, LostSection};
use super::{Finding, LostRange, Outcome, RepairReport};
use crate::engine::Engine;
use crate::engine::checkpoint::copy_file;
use crate::error::{Damage, Error, Result};
use crate::format::checksum::Id;
use crate::format::current::Current;
use crate::format::edit::{Edit, KeyspaceMeta};
use crate::format::entry::{Entry, Kind, copy_with_pointer};
use crate::format::names::{self, FileKind};
use crate::format::range::Edge;
use crate::format::section::Section;
use crate::format::values::Pointer;
use crate::format::{FileNumber, KeyspaceId, NUMBER_MAX, Sequence};
use crate::keyspace_state::KeyspaceState;
use crate::memtable::RunCursor;
use crate::merge::{Merge, Source as Sorted, Versions};
use crate::options::{KeyspaceOptions, Options};
use crate::sys::{Dir, Fs};
use crate::table::{Piece, Salvage, Shelf, Table, TableCursor, TableWriter, ValueFile, Values, Verify};
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
    /// How many values the result has from each value file.
    values_read: BTreeMap<FileNumber, u64>,
    next_number: u64,
}

pub(super) fn rebuild(options: &Options, dir: &Arc<dyn Dir>, inventory: Inventory) -> Result<RepairReport> {
    let next_number = inventory.highest_number() + 1;
    if next_number >= NUMBER_MAX / 2 {
        return Err(Error::NumbersExhausted);
    }
    let mut rebuild =
        Rebuild { options, dir, inventory, copies: BTreeMap::new(), values_read: BTreeMap::new(), next_number };
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
        self.name_ranges(&keyspaces);
        self.name_values();
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

    /// Copies what can be read of damaged tables, so that the rest of the work meets no damage but lost values.
    fn copy_damaged(&mut self, shelf: &Arc<Shelf>) -> Result<()> {
        for at in 0..self.inventory.sources.len() {
            if let Content::Whole(_) = self.inventory.sources[at].content {
                continue;
            }
            let (number, id) = (self.new_number(), self.new_id()?);
            let source = &self.inventory.sources[at];
            let Content::Damaged(salvage) = &source.content else { continue };
            let (copy, missing) = copy_readable(shelf, number, id, salvage, &source.serves)?;
            let serves = |section: &&Section| source.serves.contains(&section.keyspace);
            let total: u64 = salvage.sections().iter().filter(serves).map(|section| section.entries).sum();
            let (entries, lost) = (missing.entries, total.saturating_sub(missing.entries));
            let path = salvage.path().to_owned();
            let finding = self.inventory.findings.iter_mut().find(|finding| finding.is_of(&path));
            if let Some(finding) = finding {
                finding.outcome = match (entries, lost) {
                    (_, 0) if missing.ranges.is_empty() => Outcome::Restored,
                    (0, lost) => Outcome::Lost { entries: Some(lost) },
                    (entries, lost) => Outcome::Salvaged { entries, lost: Some(lost) },
                };
            }
            let table = source.number;
            let ranges = missing.ranges.into_iter();
            self.inventory.lost.extend(ranges.map(|(keyspace, lower, upper)| LostSection {
                table,
                keyspace,
                lower,
                upper,
            }));
            if let Some(copy) = copy {
                self.copies.insert(table, Arc::new(copy));
            }
        }
        Ok(())
    }

    /// Names the ranges in which entries are lost.
    fn name_ranges(&mut self, keyspaces: &[KeyspaceMeta]) {
        for lost in std::mem::take(&mut self.inventory.lost) {
            let name = keyspaces.iter().find(|meta| meta.id == lost.keyspace).map_or("", |meta| &meta.name);
            let name = if lost.keyspace == KeyspaceId::DEFAULT { KeyspaceId::DEFAULT_NAME } else { name };
            let path = self.dir.path().join(FileKind::Table.name(lost.table));
            if let Some(finding) = self.inventory.findings.iter_mut().find(|finding| finding.is_of(&path)) {
                finding.add_range(LostRange::new(name, &lost.lower, &lost.upper));
            }
        }
    }

    /// Notes that a key has lost its value with the file that holds it, or held it.
    fn lose_key(&mut self, keyspace: &KeyspaceState, key: Vec<u8>, file: Option<FileNumber>, problem: Error) {
        // What stood in a damaged table is now said to be in a file with the number of its copy.
        let is_copy = |copy: &&Arc<Table>| Some(copy.number()) == file;
        let copied = self.copies.iter().find(|(_, copy)| is_copy(copy)).map(|(table, _)| FileKind::Table.name(*table));
        let name = copied.or_else(|| file.map(|number| FileKind::Values.name(number)));
        let path = name.map(|name| self.dir.path().join(name));
        let findings = &mut self.inventory.findings;
        let at = path.and_then(|path| findings.iter().position(|finding| finding.is_of(&path))).unwrap_or_else(|| {
            findings.push(Finding::new(problem, Outcome::Restored));
            findings.len() - 1
        });
        if let Some(finding) = findings.get_mut(at) {
            finding.add_key(&keyspace.name, key);
        }
    }

    /// Says of the value files, whose outcome was open, what is lost with them.
    fn name_values(&mut self) {
        for finding in self.inventory.findings.iter_mut().filter(|finding| finding.lost_key_count > 0) {
            if finding.outcome == Outcome::Restored {
                let lost = Some(finding.lost_key_count);
                let mut read = self
                    .values_read
                    .iter()
                    .filter(|(number, _)| finding.is_of(&self.dir.path().join(FileKind::Values.name(**number))));
                finding.outcome = match read.next() {
                    Some((_, entries)) => Outcome::Salvaged { entries: *entries, lost },
                    None => Outcome::Lost { entries: lost },
                };
            }
        }
    }

    /// Loads everything of a keyspace, as a reader of the old database would see it; answers how many entries there are.
    fn load(&mut self, engine: &Engine, state: &KeyspaceState) -> Result<u64> {
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
            let table = match &source.content {
                Content::Whole(table) => Some(table),
                Content::Damaged(_) => self.copies.get(&source.number),
            };
            let Some(reader) = table.map(|table| table.reader()).transpose()? else { continue };
            sources.extend(TableCursor::new(reader, state.id, Verify::Again).map(Sorted::Table));
            removals.extend(reader.ranges(state.id).cloned());
        }
        // Nothing is known of which source is older than which removal.
        cover.add(&removals, sources.len());
        let rule = Visibility::retain(Vec::new(), Sequence(NUMBER_MAX));
        let mut versions = Versions::new(Merge::new(sources), cover, rule)?;
        let values = Arc::clone(&self.inventory.values);
        let entries = std::iter::from_fn(|| self.next_entry(state, &mut versions, &values).transpose());
        Ok(engine.ingest(state, entries)?.entries)
    }

    /// The next key that has a value, and that.
    fn next_entry(
        &mut self,
        state: &KeyspaceState,
        versions: &mut Versions,
        values: &Values,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        while let Some((located, _)) = versions.next()? {
            let merge = versions.merge();
            let key = merge.key(&located).to_vec();
            match located.entry.kind() {
                Kind::Put => return Ok(Some((key, merge.value(&located).to_vec()))),
                Kind::Delete | Kind::RangeDelete => {}
                Kind::Merge => return Err(merge.refuse(&located)),
                Kind::Pointer => {
                    let found = merge.find_value(&located, values);
                    let file = located.entry.pointer(merge.bytes(&located)).ok().map(|pointer| pointer.file);
                    match found.and_then(|(pointer, file)| read_value(file, state.id, &key, pointer, &located.entry)) {
                        Ok(value) => {
                            *self.values_read.entry(file.unwrap_or_default()).or_default() += 1;
                            return Ok(Some((key, value)));
                        }
                        Err(e) if e.is_corruption() => self.lose_key(state, key, file, e),
                        Err(e) => return Err(e),
                    }
                }
            }
        }
        Ok(None)
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

/// The value that an entry points to, if it is that of this very version.
fn read_value(file: &ValueFile, keyspace: KeyspaceId, key: &[u8], pointer: Pointer, entry: &Entry) -> Result<Vec<u8>> {
    let (sequence, found) = file.record(keyspace, key, pointer)?;
    // Either may not know its number.
    let numbers = [sequence, entry.sequence];
    if numbers[0] != numbers[1] && !numbers.contains(&Sequence(0)) {
        return Err(Error::corrupt(&file.path(), pointer.offset, Damage::BadPointer));
    }
    Ok(file.bytes(&found).to_vec())
}

/// What a copy of a damaged table lacks.
#[derive(Default)]
struct Missing {
    /// Entries that were copied.
    entries: u64,
    ranges: Vec<(KeyspaceId, Edge, Edge)>,
}

/// Copies every entry of a damaged table that can be read, and its range tombstones. An entry whose value is lost becomes a
/// pointer that leads nowhere: it hides older versions as before, and the merge tells if its value is missed.
fn copy_readable(
    shelf: &Arc<Shelf>,
    number: FileNumber,
    id: Id,
    salvage: &Salvage,
    serves: &[KeyspaceId],
) -> Result<(Option<Table>, Missing)> {
    let mut writer = TableWriter::create(shelf, number, id, &Arc::default())?;
    let mut missing = Missing::default();
    let mut copied = Vec::new();
    for section in salvage.sections().iter().filter(|section| serves.contains(&section.keyspace)) {
        let keyspace = section.keyspace;
        writer.start_section(shelf.options.section.at_level(0))?;
        // Behind the last key that could be read; and whether anything is lost there.
        let (mut behind, mut is_gap) = (section.lower.clone(), false);
        salvage.walk(keyspace, |piece| {
            let (entry, bytes, has_value) = match piece {
                Piece::Entry(entry, bytes) => (entry, bytes, true),
                Piece::WithoutValue(entry, bytes) => (entry, bytes, false),
                Piece::Gap => {
                    is_gap = true;
                    return Ok(());
                }
            };
            let key = Edge::After(entry.key(bytes).to_vec());
            if std::mem::take(&mut is_gap) {
                missing.ranges.push((keyspace, behind.clone(), key.clone()));
            }
            behind = key;
            if has_value {
                missing.entries += 1;
                return writer.add(keyspace, entry, bytes, false);
            }
            let nowhere = Pointer { file: number, offset: 0, length: 0 };
            let entry = copy_with_pointer(&mut copied, entry, bytes, nowhere);
            writer.add(keyspace, &entry.map_err(|e| Error::corrupt(salvage.path(), 0, e))?, &copied, false)
        })?;
        let ranges = salvage.ranges(keyspace);
        if is_gap {
            missing.ranges.push((keyspace, behind, section.upper.clone()));
        }
        match ranges {
            Some(ranges) => writer.add_ranges(keyspace, ranges)?,
            None => missing.ranges.push((keyspace, section.lower.clone(), section.upper.clone())),
        }
    }
    if writer.is_empty() {
        return Ok((None, missing));
    }
    Ok((Some(writer.finish()?.into_table(Arc::clone(shelf))), missing))
}
