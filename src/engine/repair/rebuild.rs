//! Writing a database anew from what could be read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::copies::Copy;
use super::findings::{Finding, LostRange, Outcome, RepairReport};
use super::inventory::{Content, Inventory, LostSection};
use super::kept::{LIST_ENDING, ORIGINALS};
use super::list::LostList;
use super::numbers;
use crate::engine::Engine;
use crate::engine::checkpoint::copy_file;
use crate::error::{Damage, Error, Feature, Result, Unsupported};
use crate::format::checksum::Id;
use crate::format::current::Current;
use crate::format::edit::{Edit, KeyspaceMeta};
use crate::format::entry::{Entry, Kind};
use crate::format::names::{self, FileKind};
use crate::format::section::Section;
use crate::format::values::Pointer;
use crate::format::{FileNumber, KeyspaceId, NUMBER_MAX, Sequence};
use crate::memtable::{Memtable, RunCursor};
use crate::merge::{Chain, ChainStep, Located, Merge, Source as Sorted, Versions};
use crate::operator::Operator;
use crate::options::{KeyspaceOptions, Options};
use crate::sys::{Dir, Fs, sim::SimFs};
use crate::table::{Table, TableCache, TableCursor, ValueFile, Values, Verify};
use crate::version::{Handles, Manifest, State, Version, read_current, swap_current};
use crate::visibility::{Cover, Fragments, Visibility};

/// Where the new database is until it takes the place of the old one.
const SCRATCH: &str = "repair";

/// A value that cannot be had: the file that it is in, if it is apart, and why.
type LostValue = (Option<FileNumber>, Error);

struct Rebuild<'r> {
    options: &'r Options,
    dir: &'r Arc<dyn Dir>,
    inventory: Inventory,
    /// Copies of what can be read of damaged tables, by the number of their table.
    copies: BTreeMap<FileNumber, Vec<Arc<Table>>>,
    /// Which table a copy is of.
    copied: BTreeMap<FileNumber, FileNumber>,
    /// The stretches of the log that have something of a keyspace.
    memtables: BTreeMap<KeyspaceId, Vec<Arc<Memtable>>>,
    /// How many values the result has from each value file.
    values_read: BTreeMap<FileNumber, u64>,
    next_number: u64,
    list: LostList,
    /// The newest version of a key that has been come to behind the operands of another one.
    behind: Option<Located>,
}

pub(super) fn rebuild(options: &Options, dir: &Arc<dyn Dir>, inventory: Inventory) -> Result<RepairReport> {
    let mut rebuild = Rebuild::new(options, dir, inventory);
    remove_scratch(&**dir);
    let scratch = dir.create_dir(OsStr::new(SCRATCH));
    let scratch = scratch.map_err(|e| Error::io("create", &dir.path().join(SCRATCH), e));
    let report = scratch.and_then(|scratch| {
        let report = rebuild.write(&scratch)?;
        rebuild.replace(&scratch, report)
    });
    rebuild.copies.clear();
    remove_scratch(&**dir);
    report
}

/// What a rebuild would find and lose. Copies of damaged tables are made in memory, and nothing is written.
pub(super) fn foresee(options: &Options, dir: &Arc<dyn Dir>, inventory: Inventory) -> Result<Vec<Finding>> {
    let mut rebuild = Rebuild::new(options, dir, inventory);
    let (memory, path) = (SimFs::new(), dir.path());
    let scratch = memory.open_dir(path, true, options.access()).map_err(|e| Error::io("make room for", path, e))?;
    rebuild.copy_damaged(&TableCache::new(scratch, options.table, options.cache_bytes, options.max_open_tables))?;
    let keyspaces = rebuild.keyspaces(&mut RepairReport::default())?;
    let default = (KeyspaceId::DEFAULT, KeyspaceId::DEFAULT_NAME);
    let named = keyspaces.iter().map(|meta| (meta.id, meta.name.as_str()));
    let values = Arc::clone(&rebuild.inventory.values);
    for (id, name) in std::iter::once(default).chain(named) {
        let mut versions = rebuild.versions(id)?;
        while rebuild.next_entry(id, name, &mut versions, &values)?.is_some() {}
    }
    rebuild.name_losses(&keyspaces)?;
    Ok(rebuild.inventory.findings.into_list())
}

/// Removes the new database, or what an earlier repair has left of its own.
fn remove_scratch(dir: &dyn Dir) {
    let name = OsStr::new(SCRATCH);
    if let Ok(scratch) = dir.open_dir(name) {
        for file in scratch.list().unwrap_or_default() {
            let _ = scratch.remove(&file);
        }
        let _ = dir.remove_dir(name);
    }
}

impl<'r> Rebuild<'r> {
    fn new(options: &'r Options, dir: &'r Arc<dyn Dir>, inventory: Inventory) -> Self {
        let next_number = numbers::first_free(inventory.names());
        let mut memtables: BTreeMap<KeyspaceId, Vec<Arc<Memtable>>> = BTreeMap::new();
        for memtable in &inventory.memtables {
            for keyspace in memtable.keyspaces() {
                memtables.entry(keyspace).or_default().push(Arc::clone(memtable));
            }
        }
        let (copies, copied, values_read) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let list = LostList::default();
        Self { options, dir, inventory, copies, copied, memtables, values_read, next_number, list, behind: None }
    }

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
    fn write(&mut self, scratch: &Arc<dyn Dir>) -> Result<RepairReport> {
        let path = scratch.path();
        scratch
            .lock(names::LOCK, crate::sys::LockMode::Exclusive { create: true })
            .map_err(|e| Error::io("lock", path, e))?;
        let table_cache = TableCache::new(
            Arc::clone(scratch),
            self.options.table,
            self.options.cache_bytes,
            self.options.max_open_tables,
        );
        self.list = LostList::new(scratch);
        self.copy_damaged(&table_cache)?;
        let mut report = RepairReport { rebuilt: true, ..RepairReport::default() };
        let keyspaces = self.keyspaces(&mut report)?;
        let default_operator = self.inventory.default_operator.clone();
        let create = Edit { create: keyspaces.clone(), default_operator, ..Edit::default() };
        let handles = Handles::new(&table_cache);
        let version = Version::default().apply(&create, &handles).map_err(|damage| Error::corrupt(path, 0, damage))?;
        let manifest = self.new_number();
        let next = FileNumber(self.next_number);
        let state = State { next_number: next, first_segment: next, ..State::default() };
        let mut first = Manifest::new(Arc::clone(scratch), self.new_id()?, state, None);
        first.append(&Edit::default(), &version, || Ok(manifest))?;
        first.close(&Edit::default())?;
        drop(first);

        let mut options = self.options.clone();
        options.read_only(false).background_threads(0).allow_missing_operators(true);
        let engine = Engine::open_in(&options, scratch)?;
        let mut states = vec![Arc::clone(engine.default_keyspace())];
        for meta in &keyspaces {
            states.push(engine.catalog.keyspace(&meta.name)?);
        }
        for state in states {
            // As a reader of the old database would see it.
            let mut versions = self.versions(state.id)?;
            let values = Arc::clone(&self.inventory.values);
            let next = || self.next_entry(state.id, &state.name, &mut versions, &values).transpose();
            report.entries += engine.loader.ingest(&state, std::iter::from_fn(next))?.entries;
        }
        engine.close()?;
        self.name_losses(&keyspaces)?;
        report.findings = std::mem::take(&mut self.inventory.findings).into_list();
        Ok(report)
    }

    /// The keyspaces that there are, with names made up for those whose own is lost.
    fn keyspaces(&self, report: &mut RepairReport) -> Result<Vec<KeyspaceMeta>> {
        let mut metas: BTreeMap<KeyspaceId, KeyspaceMeta> =
            self.inventory.keyspaces.iter().map(|meta| (meta.id, meta.clone())).collect();
        let mut names: BTreeSet<String> = metas.values().map(|meta| meta.name.clone()).collect();
        let of_tables = self.inventory.sources.iter().flat_map(|source| source.serves.iter().copied());
        let used: BTreeSet<KeyspaceId> = of_tables.chain(self.memtables.keys().copied()).collect();
        for id in used.into_iter().filter(|id| *id != KeyspaceId::DEFAULT) {
            if metas.contains_key(&id) {
                continue;
            }
            let mut name = format!("recovered-{}", id.0);
            while names.contains(&name) {
                name.push('\'');
            }
            names.insert(name.clone());
            metas.insert(id, KeyspaceOptions::new().record(self.options.table.section, id, &name)?);
            report.renamed_keyspaces.push(name);
        }
        Ok(metas.into_values().collect())
    }

    /// Copies what can be read of damaged tables, so that the rest of the work meets no damage but lost values.
    fn copy_damaged(&mut self, table_cache: &Arc<TableCache>) -> Result<()> {
        for at in 0..self.inventory.sources.len() {
            if let Content::Whole(_) = self.inventory.sources[at].content {
                continue;
            }
            let names = [(self.new_number(), self.new_id()?), (self.new_number(), self.new_id()?)];
            let source = &self.inventory.sources[at];
            let Content::Damaged(salvage) = &source.content else { continue };
            let copy = Copy::make(table_cache, names, salvage, &source.serves)?;
            let serves = |section: &&Section| source.serves.contains(&section.keyspace);
            let total: u64 = salvage.sections().iter().filter(serves).map(|section| section.entries).sum();
            let (entries, lost) = (copy.entries, total.saturating_sub(copy.entries));
            let (table, path) = (source.number, salvage.path().to_owned());
            let out_of_order = || Error::corrupt(&path, 0, Damage::OutOfOrder);
            let finding = self.inventory.findings.of_or_note(&path, out_of_order);
            finding.outcome = match (entries, lost) {
                (_, 0) if copy.ranges.is_empty() => Outcome::Restored,
                (0, lost) => Outcome::Lost { entries: Some(lost) },
                (entries, lost) => Outcome::Salvaged { entries, lost: Some(lost) },
            };
            let is_told = finding.problem.corruption().is_some_and(|found| found.what == Damage::OutOfOrder);
            if copy.is_out_of_order && !is_told {
                self.inventory.findings.note(out_of_order(), Outcome::Restored);
            }
            let ranges = copy.ranges.into_iter();
            self.inventory.lost.extend(ranges.map(|(keyspace, lower, upper)| LostSection {
                table,
                keyspace,
                lower,
                upper,
            }));
            self.copied.extend(copy.tables.iter().map(|copy| (copy.number(), table)));
            self.copies.insert(table, copy.tables);
        }
        Ok(())
    }

    /// Says what is lost, as far as that has been left open.
    fn name_losses(&mut self, keyspaces: &[KeyspaceMeta]) -> Result<()> {
        let names: BTreeMap<KeyspaceId, &str> = keyspaces.iter().map(|meta| (meta.id, meta.name.as_str())).collect();
        for lost in std::mem::take(&mut self.inventory.lost) {
            let name = names.get(&lost.keyspace).copied().unwrap_or(KeyspaceId::DEFAULT_NAME);
            let path = self.dir.path().join(FileKind::Table.name(lost.table));
            let range = LostRange::new(name, &lost.lower, &lost.upper);
            self.list.add_range(&range)?;
            let problem = || Error::corrupt(&path, 0, Damage::Missing);
            self.inventory.findings.of_or_note(&path, problem).add_range(range);
        }
        self.name_values();
        self.list.finish()
    }

    /// Notes that a key has lost its value with the file that holds it, or held it.
    fn lose_key(&mut self, keyspace: &str, key: &[u8], file: Option<FileNumber>, problem: Error) -> Result<()> {
        self.list.add_key(keyspace, key)?;
        // What stood in a damaged table is now said to be in a file with the number of its copy.
        let name = file.map(|number| match self.copied.get(&number) {
            Some(table) => FileKind::Table.name(*table),
            None => FileKind::Values.name(number),
        });
        let path = name.map(|name| self.dir.path().join(name)).unwrap_or_default();
        self.inventory.findings.of_or_note(&path, || problem).add_key(keyspace, key);
        Ok(())
    }

    /// Says of the value files, whose outcome was open, what is lost with them.
    fn name_values(&mut self) {
        let path = |(number, read): (&FileNumber, &u64)| (self.dir.path().join(FileKind::Values.name(*number)), *read);
        let read: BTreeMap<PathBuf, u64> = self.values_read.iter().map(path).collect();
        for finding in self.inventory.findings.iter_mut().filter(|finding| finding.lost_key_count > 0) {
            if finding.outcome == Outcome::Restored {
                let lost = Some(finding.lost_key_count);
                let path = finding.problem.corruption().map(|corruption| &corruption.path);
                finding.outcome = match path.and_then(|path| read.get(path)) {
                    Some(entries) => Outcome::Salvaged { entries: *entries, lost },
                    None => Outcome::Lost { entries: lost },
                };
            }
        }
    }

    /// Everything of a keyspace.
    fn versions(&self, keyspace: KeyspaceId) -> Result<Versions> {
        let mut sources = Vec::new();
        let mut removals: Vec<Arc<Fragments>> = Vec::new();
        let rule = || Visibility::retain(Vec::new(), Sequence(NUMBER_MAX));
        for memtable in self.memtables.get(&keyspace).into_iter().flatten() {
            let runs = memtable.runs(keyspace, rule)?;
            sources.extend(runs.into_iter().map(|run| Sorted::Run(RunCursor::new(Arc::clone(memtable), run))));
            removals.extend(memtable.ranges(keyspace).iter().flat_map(|lists| lists.iter().cloned()));
        }
        for source in self.inventory.sources.iter().filter(|source| source.serves.contains(&keyspace)) {
            let tables = match &source.content {
                Content::Whole(table) => std::slice::from_ref(table),
                Content::Damaged(_) => self.copies.get(&source.number).map_or(&[][..], Vec::as_slice),
            };
            for table in tables {
                let reader = table.pin()?;
                sources.extend(TableCursor::new(Arc::clone(&reader), keyspace, Verify::Again).map(Sorted::from));
                removals.extend(reader.ranges(keyspace).cloned());
            }
        }
        // Nothing is known of which source is older than which removal, and only the newest removal of a key matters. As one
        // list, any number of them is looked at once.
        let removals = Fragments::merge(removals.iter().map(|removals| &**removals), &mut rule());
        let mut cover = Cover::default();
        cover.add([&Arc::new(removals)], sources.len());
        Versions::new(Merge::new(sources), cover, rule())
    }

    /// The next key that has a value, and that.
    fn next_entry(
        &mut self,
        keyspace: KeyspaceId,
        name: &str,
        versions: &mut Versions,
        values: &Values,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        while let Some(located) = self.next_version(versions)? {
            let merge = versions.merge();
            let key = merge.key(&located).to_vec();
            match located.entry.kind() {
                Kind::Put => return Ok(Some((key, merge.value(&located).to_vec()))),
                Kind::Delete | Kind::RangeDelete => {}
                Kind::Merge => match self.merged((keyspace, name, &key), located, versions, values)? {
                    Ok(value) => return Ok(Some((key, value))),
                    Err((file, e)) => self.lose_key(name, &key, file, e)?,
                },
                Kind::Pointer => match self.value_apart((keyspace, &key), &located, merge, values)? {
                    Ok(value) => return Ok(Some((key, value))),
                    Err((file, e)) => self.lose_key(name, &key, file, e)?,
                },
            }
        }
        Ok(None)
    }

    fn next_version(&mut self, versions: &mut Versions) -> Result<Option<Located>> {
        match self.behind.take() {
            Some(located) => Ok(Some(located)),
            None => Ok(versions.next()?.map(|(located, _)| located)),
        }
    }

    /// The value that an entry points to, or what is damaged.
    fn value_apart(
        &mut self,
        (keyspace, key): (KeyspaceId, &[u8]),
        located: &Located,
        merge: &Merge,
        values: &Values,
    ) -> Result<Result<Vec<u8>, LostValue>> {
        let found = merge.find_value(located, values);
        let file = located.entry.pointer(merge.bytes(located)).ok().map(|pointer| pointer.file);
        match found.and_then(|(pointer, file)| read_value(file, keyspace, key, pointer, &located.entry)) {
            Ok(value) => {
                *self.values_read.entry(file.unwrap_or_default()).or_default() += 1;
                Ok(Ok(value))
            }
            Err(e) if e.is_corruption() => Ok(Err((file, e))),
            Err(e) => Err(e),
        }
    }

    /// What the operator makes of operands, the newest of which has been come to. A compaction may have made an entry of some
    /// that are found as well: of those with its sequence number it comes first, so a value hides them, and an operand says
    /// for which it stands, which are then passed over. So each counts once, whichever of them can still be read.
    fn merged(
        &mut self,
        (keyspace, name, key): (KeyspaceId, &str, &[u8]),
        newest: Located,
        versions: &mut Versions,
        values: &Values,
    ) -> Result<Result<Vec<u8>, LostValue>> {
        let mut chain = Chain::new(Sequence(NUMBER_MAX), Sequence(0));
        let (mut shown, mut lost) = (ChainStep::More, None);
        let mut current = newest;
        loop {
            if shown == ChainStep::More {
                shown = chain.show(versions.merge().entry(&current));
                if shown == ChainStep::Pointer {
                    match self.value_apart((keyspace, key), &current, versions.merge(), values)? {
                        Ok(value) => chain.show_value(&value),
                        Err(damaged) => lost = Some(damaged),
                    }
                }
            }
            match versions.next()? {
                Some((next, false)) => current = next,
                behind => {
                    self.behind = behind.map(|(next, _)| next);
                    break;
                }
            }
        }
        if let Some(lost) = lost {
            return Ok(Err(lost));
        }
        let Some(operator) = self.operator(keyspace, name)? else {
            // Nobody knows what it was called.
            let what = Unsupported { path: self.dir.path().to_owned(), what: Feature::MergeOperand };
            return Ok(Err((None, Error::UnsupportedFormat(Arc::new(what)))));
        };
        Ok(chain.merge(&operator, key).map_err(|e| (None, e)))
    }

    /// The operator of a keyspace, unless its name is lost. It is an error if the program has not the one of this name.
    fn operator(&self, keyspace: KeyspaceId, name: &str) -> Result<Option<Operator>> {
        let given = &self.options.operators;
        let (operator, option) = if keyspace == KeyspaceId::DEFAULT {
            (self.inventory.default_operator.as_ref(), "merge_operator")
        } else {
            let meta = self.inventory.keyspaces.iter().find(|meta| meta.id == keyspace);
            (meta.and_then(|meta| meta.operator.as_ref()), "known_operator")
        };
        let Some(operator) = operator else {
            return Ok(given.default.clone().filter(|_| keyspace == KeyspaceId::DEFAULT));
        };
        let missing = || Error::OtherOperator { keyspace: name.into(), operator: operator.as_str().into(), option };
        given.find(operator).map(Some).ok_or_else(missing)
    }

    /// Puts the new database in the place of the old one, whose files are kept.
    fn replace(&self, scratch: &Arc<dyn Dir>, mut report: RepairReport) -> Result<RepairReport> {
        let path = scratch.path();
        let stop = AtomicBool::new(false);
        let copy = |from: &Arc<dyn Dir>, name: &str, to: &Arc<dyn Dir>| {
            copy_file(&**from, name, to, &stop).map_err(|(operation, e)| Error::io(operation, &to.path().join(name), e))
        };
        let sync = |dir: &Arc<dyn Dir>| dir.sync().map_err(|e| Error::io("sync", dir.path(), e));
        let Some((database, manifest)) = read_current(&**scratch)? else {
            return Err(Error::corrupt(&path.join(names::CURRENT), 0, Damage::Missing));
        };
        for name in scratch.list().map_err(|e| Error::io("list", path, e))? {
            if FileKind::parse(&name).is_some_and(|(_, number)| !self.copied.contains_key(&number)) {
                copy(scratch, &name, self.dir)?;
            }
        }
        let (originals, list) = self.originals()?;
        if self.list.copy(scratch, self.dir, &list)? {
            report.lost_list = Some(self.dir.path().join(list));
        }
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

    /// A new directory for the old files, and the name of the list that stands beside it.
    fn originals(&self) -> Result<(Arc<dyn Dir>, String)> {
        let mut attempt = 1;
        loop {
            let name = if attempt == 1 { ORIGINALS.to_owned() } else { format!("{ORIGINALS}-{attempt}") };
            let list = format!("{name}{LIST_ENDING}");
            attempt += 1;
            if self.inventory.names().contains(&list) {
                continue;
            }
            match self.dir.create_dir(OsStr::new(&name)) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => {
                    let made = made.map(|made| (made, list));
                    return made.map_err(|e| Error::io("create", &self.dir.path().join(name), e));
                }
            }
        }
    }
}

/// The value that an entry points to, if it is that of this very version.
fn read_value(
    file: &Arc<ValueFile>,
    keyspace: KeyspaceId,
    key: &[u8],
    pointer: Pointer,
    entry: &Entry,
) -> Result<Vec<u8>> {
    let (sequence, value) = file.record(keyspace, key, pointer)?;
    // Either may not know its number.
    let numbers = [sequence, entry.sequence];
    if numbers[0] != numbers[1] && !numbers.contains(&Sequence(0)) {
        return Err(Error::corrupt(&file.path(), pointer.offset, Damage::BadPointer));
    }
    Ok(value.bytes().to_vec())
}
