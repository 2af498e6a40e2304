//! A version in the making.
#![expect(clippy::mutable_key_type, reason = "tables are ordered by their records, which do not change")]

use std::cmp::{Ordering, Reverse};
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::grouped::Grouped;
use super::{Age, Handles, Keyspaces, SharedTable, Tree, Version};
use crate::error::Damage;
use crate::format::edit::Edit;
use crate::format::range::Edge;
use crate::format::section::Section;
use crate::format::{FileNumber, KeyspaceId, LEVELS};
use crate::table::{Level, Table, ValueFile, Values};

impl Version {
    /// The version after an edit. `handles` makes those of the files that the edit adds.
    pub(crate) fn apply(&self, edit: &Edit, handles: &Handles<'_>) -> Result<Self, Damage> {
        self.replace(edit, handles).map(|(next, _)| next)
    }

    /// The same, with the tables that are part of this version, or of the edit, and not of the next version.
    pub(crate) fn replace(&self, edit: &Edit, handles: &Handles<'_>) -> Result<(Self, Vec<Arc<Table>>), Damage> {
        let mut builder = VersionBuilder::of(self);
        builder.apply(edit, handles)?;
        builder.finish()
    }
}

/// Edits are applied to it in place. To begin and to end takes time by the tables of level 0; the first edit that names tables
/// takes time by the size of the version; and otherwise an edit takes time by its own size and the logarithm of the version's.
/// So the time that a manifest takes goes by its length, whatever it says.
#[derive(Debug)]
pub(super) struct VersionBuilder {
    /// Made for the first edit that names one.
    tables: Option<BTreeMap<FileNumber, Placed>>,
    /// Newest data first. What speaks for nothing but dropped keyspaces goes at the end.
    level0: BTreeMap<Reverse<Age>, SharedTable>,
    /// Those that no edit has touched, and those that one has. No tree is in both.
    trees: Grouped<Arc<Tree>>,
    changed: BTreeMap<KeyspaceId, Runs>,
    named: Arc<Keyspaces>,
    values: DraftValues,
    dropped: Vec<KeyspaceId>,
    /// Tables that were there, or were added, and are not there any more.
    gone: Vec<Arc<Table>>,
}

type Runs = [Run; LEVELS as usize - 1];

/// Value files in the making.
#[derive(Debug)]
struct DraftValues {
    /// As they were. What no table refers to any more goes at the end.
    was: Arc<Values>,
    added: BTreeMap<FileNumber, Arc<ValueFile>>,
    /// Whether who refers to what is to be counted anew.
    recount: bool,
}

impl DraftValues {
    fn note(&mut self, section: &Section) {
        self.recount |= !section.value_files.is_empty();
    }

    fn note_all(&mut self, table: &Table) {
        table.meta.sections.iter().for_each(|section| self.note(section));
    }
}

/// A table, and where it stands.
#[derive(Debug, Clone)]
struct Placed {
    level: u8,
    age: Reverse<Age>,
    table: Arc<Table>,
}

impl Placed {
    fn on(level: u8, table: &Arc<Table>) -> Self {
        Self { level, age: age(table), table: Arc::clone(table) }
    }
}

fn age(table: &Table) -> Reverse<Age> {
    Reverse((table.meta.sections.iter().map(|section| section.max_sequence).max(), table.number()))
}

/// A level of a keyspace: as it was, and, once it is changed, its tables in order of their lower ends.
#[derive(Debug, Default)]
struct Run {
    was: Level,
    changed: Option<BTreeSet<ByLower>>,
}

impl Run {
    fn of(level: &Level) -> Self {
        Self { was: level.clone(), changed: None }
    }

    fn tables(&mut self) -> &mut BTreeSet<ByLower> {
        let was = &self.was;
        self.changed.get_or_insert_with(|| was.iter().cloned().map(ByLower).collect())
    }

    fn into_level(self) -> Level {
        let changed = self.changed.map(|tables| tables.into_iter().map(|ByLower(table)| table).collect());
        changed.unwrap_or(self.was)
    }
}

/// A table of a tree, in order of the lower end of its section.
#[derive(Debug, Clone)]
struct ByLower(Arc<Table>);

impl ByLower {
    fn section(&self) -> Option<&Section> {
        self.0.only_section()
    }

    fn lower(&self) -> Option<Edge<&[u8]>> {
        self.section().map(|section| section.lower.as_ref())
    }

    /// Whether all of this table is in front of all of the other one.
    fn is_in_front_of(&self, other: &Self) -> bool {
        self.section().zip(other.section()).is_some_and(|(a, b)| a.upper <= b.lower)
    }
}

impl Ord for ByLower {
    fn cmp(&self, other: &Self) -> Ordering {
        self.lower().cmp(&other.lower()).then_with(|| self.0.number().cmp(&other.0.number()))
    }
}

impl PartialOrd for ByLower {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByLower {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByLower {}

impl VersionBuilder {
    pub(super) fn of(version: &Version) -> Self {
        Self {
            tables: None,
            level0: version.level0.iter().map(|shared| (Reverse(shared.age), shared.clone())).collect(),
            trees: version.trees.clone(),
            changed: BTreeMap::new(),
            named: Arc::clone(&version.named),
            values: DraftValues { was: Arc::clone(&version.values), added: BTreeMap::new(), recount: false },
            dropped: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Applies an edit. After an error, the builder is of no use any more.
    pub(super) fn apply(&mut self, edit: &Edit, handles: &Handles<'_>) -> Result<(), Damage> {
        if !edit.create.is_empty() || edit.next_keyspace.is_some() || edit.default_operator.is_some() {
            Arc::make_mut(&mut self.named).create(edit)?;
        }
        for meta in &edit.add_values {
            let known = self.values.was.contains(meta.number);
            if known || self.values.added.insert(meta.number, handles.values(meta)).is_some() {
                return Err(Damage::BadField);
            }
            self.values.recount = true;
        }
        for number in &edit.remove {
            let table = self.take(*number)?;
            self.gone.push(table);
        }
        for (number, level) in &edit.moves {
            let table = self.take(*number)?;
            self.put(*level, table)?;
        }
        for (level, meta) in &edit.add {
            let table = handles.table(meta, &self.named);
            self.put(*level, table)?;
        }
        for (number, keyspace) in &edit.consume {
            self.consume(*number, *keyspace)?;
        }
        for keyspace in &edit.drop {
            self.drop_keyspace(*keyspace)?;
        }
        self.check_added(edit)?;
        let moved = edit.moves.iter().map(|(number, _)| *number);
        moved.chain(edit.add.iter().map(|(_, meta)| meta.number)).try_for_each(|number| self.check_order(number))
    }

    /// The version that the edits have led to, and the tables that have gone. What goes at the end, FORMAT.md (12.5) lets go
    /// then. Sections that still speak for their keyspace must refer to value files that are there; those that have been
    /// consumed may name files that are gone.
    pub(super) fn finish(mut self) -> Result<(Version, Vec<Arc<Table>>), Damage> {
        let mut level0: Vec<SharedTable> = std::mem::take(&mut self.level0).into_values().collect();
        if !self.dropped.is_empty() {
            for shared in &mut level0 {
                self.forget_dropped(shared);
            }
            let is_needed = |shared: &SharedTable| shared.consumed.len() < shared.table.meta.sections.len();
            self.gone.extend(level0.iter().filter(|shared| !is_needed(shared)).map(|shared| Arc::clone(&shared.table)));
            level0.retain(is_needed);
        }
        let Self { mut trees, changed, named, values, gone, .. } = self;
        for (keyspace, runs) in changed {
            trees.insert(keyspace, Arc::new(Tree { levels: runs.map(Run::into_level) }));
        }
        let mut version = Version { level0, trees, named, values: values.was };
        if values.recount {
            let mut files = values.added;
            files.extend(version.values.iter().map(|stored| (stored.file.number(), Arc::clone(&stored.file))));
            version.values = Arc::new(Values::in_use(&files, version.sections())?);
        }
        Ok((version, gone))
    }

    /// Takes what dropped keyspaces have in a table of level 0 for consumed.
    fn forget_dropped(&mut self, shared: &mut SharedTable) {
        let sections = &shared.table.meta.sections;
        let mut forget = |section: &Section| {
            if shared.consumed.insert(section.keyspace, ()).is_none() {
                self.values.note(section);
            }
        };
        // By what there is less of.
        if self.dropped.len() < sections.len() {
            self.dropped.iter().filter_map(|keyspace| shared.table.section(*keyspace)).for_each(&mut forget);
        } else {
            sections.iter().filter(|section| !self.named.is_live(section.keyspace)).for_each(&mut forget);
        }
    }

    fn tables(&mut self) -> &mut BTreeMap<FileNumber, Placed> {
        let (level0, trees) = (&self.level0, &self.trees);
        // Nothing but a table changes a tree.
        debug_assert!(self.tables.is_some() || self.changed.is_empty());
        self.tables.get_or_insert_with(|| {
            let shared =
                level0.iter().map(|(age, shared)| Placed { level: 0, age: *age, table: Arc::clone(&shared.table) });
            let levels = trees.iter().flat_map(|(_, tree)| tree.levels());
            let others = levels.flat_map(|(level, tables)| tables.iter().map(move |table| Placed::on(level, table)));
            shared.chain(others).map(|placed| (placed.table.number(), placed)).collect()
        })
    }

    fn take(&mut self, number: FileNumber) -> Result<Arc<Table>, Damage> {
        let Placed { level, age, table } = self.tables().remove(&number).ok_or(Damage::BadField)?;
        self.values.note_all(&table);
        if level == 0 {
            self.level0.remove(&age);
        } else if let Some(run) = self.run(level, &table) {
            run.tables().remove(&ByLower(Arc::clone(&table)));
        }
        Ok(table)
    }

    fn put(&mut self, level: u8, table: Arc<Table>) -> Result<(), Damage> {
        let Slot::Vacant(slot) = self.tables().entry(table.number()) else { return Err(Damage::BadField) };
        let age = slot.insert(Placed::on(level, &table)).age;
        self.values.note_all(&table);
        let sections = &table.meta.sections;
        if level == 0 && !sections.is_empty() {
            self.level0.insert(age, SharedTable { table, age: age.0, consumed: Grouped::default() });
            return Ok(());
        }
        let [section] = sections.as_slice() else { return Err(Damage::BadField) };
        if self.tree(section.keyspace).is_none() {
            self.changed.insert(section.keyspace, Runs::default());
        }
        let run = self.run(level, &table).ok_or(Damage::BadField)?;
        run.tables().insert(ByLower(table));
        Ok(())
    }

    /// The tree of a keyspace, to be changed.
    fn tree(&mut self, keyspace: KeyspaceId) -> Option<&mut Runs> {
        if !self.changed.contains_key(&keyspace) {
            let tree = self.trees.remove(keyspace)?;
            self.changed.insert(keyspace, tree.levels.each_ref().map(Run::of));
        }
        self.changed.get_mut(&keyspace)
    }

    /// Where a table stands that is on a level of a tree.
    fn run(&mut self, level: u8, table: &Table) -> Option<&mut Run> {
        let at = usize::from(level.checked_sub(1)?);
        self.tree(table.only_section()?.keyspace)?.get_mut(at)
    }

    fn consume(&mut self, number: FileNumber, keyspace: KeyspaceId) -> Result<(), Damage> {
        let age = self.tables().get(&number).ok_or(Damage::BadField)?.age;
        let Slot::Occupied(mut slot) = self.level0.entry(age) else { return Err(Damage::BadField) };
        let shared = slot.get_mut();
        let section = shared.table.section(keyspace).ok_or(Damage::BadField)?;
        if shared.consumed.insert(keyspace, ()).is_some() {
            return Err(Damage::BadField);
        }
        self.values.note(section);
        if shared.consumed.len() == shared.table.meta.sections.len() {
            self.gone.push(slot.remove().table);
            self.tables().remove(&number);
        }
        Ok(())
    }

    /// Forgets a keyspace and all that it has.
    fn drop_keyspace(&mut self, keyspace: KeyspaceId) -> Result<(), Damage> {
        Arc::make_mut(&mut self.named).remove(keyspace)?;
        let levels = match self.changed.remove(&keyspace) {
            Some(runs) => runs.map(Run::into_level),
            None => self.trees.remove(keyspace).map(|tree| tree.levels.clone()).unwrap_or_default(),
        };
        for table in levels.iter().flat_map(|tables| tables.iter()) {
            if let Some(tables) = &mut self.tables {
                tables.remove(&table.number());
            }
            self.values.note_all(table);
            self.gone.push(Arc::clone(table));
        }
        self.dropped.push(keyspace);
        Ok(())
    }

    /// Whether everything that an edit has added belongs to a keyspace that is there.
    fn check_added(&self, edit: &Edit) -> Result<(), Damage> {
        for (level, meta) in &edit.add {
            let placed = self.tables.as_ref().and_then(|tables| tables.get(&meta.number));
            let shared = placed.and_then(|placed| self.level0.get(&placed.age));
            let consumed = |keyspace| match shared {
                Some(shared) => shared.consumed.get(keyspace).is_some() || edit.drop.contains(&keyspace),
                // Not there any more: every section has been consumed.
                None => *level == 0,
            };
            let known = |keyspace| self.named.is_live(keyspace) || consumed(keyspace);
            if meta.sections.iter().any(|section| !known(section.keyspace)) {
                return Err(Damage::UnknownKeyspace);
            }
            // Entries are copied as they are, so those of all tables of a keyspace must be alike.
            let alike = |section: &Section| {
                let alignment = self.named.alignment(section.keyspace);
                section.entries == 0 || alignment.is_none_or(|alignment| alignment == section.alignment)
            };
            if !meta.sections.iter().all(alike) {
                return Err(Damage::BadField);
            }
        }
        Ok(())
    }

    /// Whether a table overlaps with none of its level, if it is still there.
    fn check_order(&mut self, number: FileNumber) -> Result<(), Damage> {
        let Some(Placed { level, table, .. }) = self.tables().get(&number).cloned() else { return Ok(()) };
        let table = ByLower(table);
        let Some(run) = self.run(level, &table.0) else { return Ok(()) };
        let tables = run.tables();
        let before = tables.range(..&table).next_back();
        let behind = tables.range((Excluded(&table), Unbounded)).next();
        let in_order = before.is_none_or(|before| before.is_in_front_of(&table))
            && behind.is_none_or(|behind| table.is_in_front_of(behind));
        if in_order { Ok(()) } else { Err(Damage::OutOfOrder) }
    }
}
