//! A version in the making.
#![expect(clippy::mutable_key_type, reason = "tables are ordered by their records, which do not change")]

use std::cmp::{Ordering, Reverse};
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::{Handles, Keyspaces, Level, Shared, Tree, Version};
use crate::error::Damage;
use crate::format::edit::{Edit, LEVELS};
use crate::format::range::Edge;
use crate::format::section::Section;
use crate::format::{FileNumber, KeyspaceId, Sequence};
use crate::table::{Table, ValueFile, Values};

/// Edits are applied to it in place. To begin and to end takes time by the size of the version; an edit takes time by its own
/// size and the logarithm of the version's. So the time that a manifest takes goes by its length, whatever it says.
#[derive(Debug)]
pub(super) struct Draft {
    tables: BTreeMap<FileNumber, Placed>,
    /// Newest data first. What speaks for nothing but dropped keyspaces goes at the end.
    level0: BTreeMap<Reverse<Age>, Shared>,
    trees: BTreeMap<KeyspaceId, [Run; LEVELS as usize - 1]>,
    named: Arc<Keyspaces>,
    /// Those that tables may refer to. What none of them does goes at the end.
    values: BTreeMap<FileNumber, Arc<ValueFile>>,
    has_dropped: bool,
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

/// Tables of level 0 are ordered by their data. File numbers tell nothing but tables apart: a merge of older tables has a
/// higher number than a flush that began later.
type Age = (Option<Sequence>, FileNumber);

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
        Self { was: Arc::clone(level), changed: None }
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

impl Draft {
    pub(super) fn of(version: &Version) -> Self {
        let runs = |tree: &Tree| tree.levels.each_ref().map(Run::of);
        Self {
            tables: version.tables().map(|(level, table)| (table.number(), Placed::on(level, table))).collect(),
            level0: version.level0.iter().map(|shared| (age(&shared.table), shared.clone())).collect(),
            trees: version.trees.iter().map(|(keyspace, tree)| (*keyspace, runs(tree))).collect(),
            named: Arc::clone(&version.named),
            values: version.values.iter().map(|s| (s.file.number(), Arc::clone(&s.file))).collect(),
            has_dropped: false,
        }
    }

    /// Applies an edit. After an error, the draft is of no use any more.
    pub(super) fn apply(&mut self, edit: &Edit, handles: &Handles<'_>) -> Result<(), Damage> {
        if !edit.create.is_empty() || edit.next_keyspace.is_some() {
            Arc::make_mut(&mut self.named).create(edit)?;
        }
        for meta in &edit.add_values {
            if self.values.insert(meta.number, handles.values(meta)).is_some() {
                return Err(Damage::BadField);
            }
        }
        for number in &edit.remove {
            self.take(*number)?;
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

    /// The version that the edits have led to. What goes at the end, FORMAT.md (12.5) lets go then. Sections that still speak for
    /// their keyspace must refer to value files that are there; those that have been consumed may name files that are gone.
    pub(super) fn finish(self) -> Result<Version, Damage> {
        let Self { level0, trees, named, values, has_dropped, .. } = self;
        let mut level0: Vec<Shared> = level0.into_values().collect();
        if has_dropped {
            for shared in &mut level0 {
                let sections = shared.table.meta.sections.iter().map(|section| section.keyspace);
                shared.consumed.extend(sections.filter(|keyspace| !named.is_live(*keyspace)));
            }
            level0.retain(|shared| shared.consumed.len() < shared.table.meta.sections.len());
        }
        let tree = |runs: [Run; LEVELS as usize - 1]| Tree { levels: runs.map(Run::into_level) };
        let trees = trees.into_iter().map(|(keyspace, runs)| (keyspace, tree(runs))).collect();
        let mut version = Version { level0, trees, named, values: Arc::default() };
        if !values.is_empty() {
            version.values = Arc::new(Values::in_use(&values, version.sections())?);
        }
        Ok(version)
    }

    fn take(&mut self, number: FileNumber) -> Result<Arc<Table>, Damage> {
        let Placed { level, age, table } = self.tables.remove(&number).ok_or(Damage::BadField)?;
        if level == 0 {
            self.level0.remove(&age);
        } else if let Some(run) = self.run(level, &table) {
            run.tables().remove(&ByLower(Arc::clone(&table)));
        }
        Ok(table)
    }

    fn put(&mut self, level: u8, table: Arc<Table>) -> Result<(), Damage> {
        let Slot::Vacant(slot) = self.tables.entry(table.number()) else { return Err(Damage::BadField) };
        let age = slot.insert(Placed::on(level, &table)).age;
        let sections = &table.meta.sections;
        if level == 0 && !sections.is_empty() {
            self.level0.insert(age, Shared { table, consumed: BTreeSet::new() });
            return Ok(());
        }
        let [section] = sections.as_slice() else { return Err(Damage::BadField) };
        self.trees.entry(section.keyspace).or_default();
        let run = self.run(level, &table).ok_or(Damage::BadField)?;
        run.tables().insert(ByLower(table));
        Ok(())
    }

    /// Where a table stands that is on a level of a tree.
    fn run(&mut self, level: u8, table: &Table) -> Option<&mut Run> {
        let tree = self.trees.get_mut(&table.only_section()?.keyspace)?;
        tree.get_mut(usize::from(level.checked_sub(1)?))
    }

    fn consume(&mut self, number: FileNumber, keyspace: KeyspaceId) -> Result<(), Damage> {
        let placed = self.tables.get(&number).ok_or(Damage::BadField)?;
        let Slot::Occupied(mut slot) = self.level0.entry(placed.age) else { return Err(Damage::BadField) };
        let shared = slot.get_mut();
        if shared.table.section(keyspace).is_none() || !shared.consumed.insert(keyspace) {
            return Err(Damage::BadField);
        }
        if shared.consumed.len() == shared.table.meta.sections.len() {
            slot.remove();
            self.tables.remove(&number);
        }
        Ok(())
    }

    /// Forgets a keyspace and all that it has.
    fn drop_keyspace(&mut self, keyspace: KeyspaceId) -> Result<(), Damage> {
        Arc::make_mut(&mut self.named).remove(keyspace)?;
        for mut run in self.trees.remove(&keyspace).into_iter().flatten() {
            for ByLower(table) in run.tables().iter() {
                self.tables.remove(&table.number());
            }
        }
        self.has_dropped = true;
        Ok(())
    }

    /// Whether everything that an edit has added belongs to a keyspace that is there.
    fn check_added(&self, edit: &Edit) -> Result<(), Damage> {
        for (level, meta) in &edit.add {
            let shared = self.tables.get(&meta.number).and_then(|placed| self.level0.get(&placed.age));
            let consumed = |keyspace| match shared {
                Some(shared) => shared.consumed.contains(&keyspace) || edit.drop.contains(&keyspace),
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
        let Some(Placed { level, table, .. }) = self.tables.get(&number).cloned() else { return Ok(()) };
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
