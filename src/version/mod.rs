//! The state of the database that the manifest makes durable: which keyspaces there are, and which tables stand on which
//! level.
//!
//! A [`Version`] is immutable. Applying an edit to one is a pure function, used alike by flush and compaction, and by
//! recovery, which applies many to one [`VersionBuilder`](builder::VersionBuilder); so is picking the next compaction.

mod builder;
mod garbage;
mod grouped;
mod handles;
mod keyspaces;
mod leveled;
mod manifest;
mod pick;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use grouped::Grouped;
pub(crate) use handles::Handles;
pub(crate) use keyspaces::Keyspaces;
pub(crate) use leveled::{due, pick, scores};
pub(crate) use manifest::{Appended, Manifest, State, Unrecorded, read_current, read_manifest, swap_current};
pub(crate) use pick::{Limits, Plan, Running, Share, neighbours, plan_range};
pub(crate) use place::level_for;

use crate::error::Damage;
use crate::format::edit::{Edit, KeyspaceMeta};
use crate::format::section::Section;
use crate::format::{FileNumber, KeyspaceId, LEVELS, Sequence};
use crate::table::{Level, Table, Values};

/// Levels 1 to 6 of one keyspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    levels: [Level; LEVELS as usize - 1],
}

impl Tree {
    /// Levels 1, 2, ... with their tables.
    pub(crate) fn levels(&self) -> impl DoubleEndedIterator<Item = (u8, &Level)> {
        (1..LEVELS).zip(&self.levels)
    }

    /// The tables of level `level`, which is at least 1.
    pub(crate) fn level(&self, level: u8) -> &[Arc<Table>] {
        self.levels.get(usize::from(level.saturating_sub(1))).map_or(&[], |tables| &**tables)
    }
}

/// Tables of level 0 are ordered by their data. File numbers tell nothing but tables apart: a merge of older tables has a
/// higher number than a flush that began later.
type Age = (Option<Sequence>, FileNumber);

/// A table of level 0, which belongs to all keyspaces.
#[derive(Debug, Clone)]
pub(crate) struct SharedTable {
    pub(crate) table: Arc<Table>,
    age: Age,
    /// Keyspaces whose section has been compacted into their tree, or that have been dropped.
    consumed: Grouped<()>,
}

impl SharedTable {
    /// Whether the table still speaks for a keyspace.
    #[inline]
    pub(crate) fn serves(&self, keyspace: KeyspaceId) -> bool {
        (self.consumed.len() == 0 || self.consumed.get(keyspace).is_none()) && self.table.section(keyspace).is_some()
    }
}

/// Versions share what they have in common, so that an edit takes time by its own size and not by that of the version, but for
/// the tables of level 0 and a small share (see [`Grouped`]) of the keyspaces, as long as it names no table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Version {
    /// Level 0, newest data first: for each keyspace, all sequence numbers of a table are above those of the next one.
    level0: Vec<SharedTable>,
    trees: Grouped<Arc<Tree>>,
    named: Arc<Keyspaces>,
    values: Arc<Values>,
}

impl Version {
    /// The keyspaces other than the default one.
    #[inline]
    pub(crate) fn named(&self) -> &Keyspaces {
        &self.named
    }

    /// The value files that the tables refer to.
    #[inline]
    pub(crate) fn values(&self) -> &Arc<Values> {
        &self.values
    }

    /// The tables of level 0 that speak for a keyspace, newest first.
    #[inline]
    pub(crate) fn level0(&self, keyspace: KeyspaceId) -> impl Iterator<Item = &Arc<Table>> {
        self.level0.iter().filter(move |shared| shared.serves(keyspace)).map(|shared| &shared.table)
    }

    /// The tables of level 0, newest first.
    pub(crate) fn level0_tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.level0.iter().map(|shared| &shared.table)
    }

    /// Whether a table of level 0 speaks for a keyspace.
    pub(crate) fn serves(&self, table: &Table, keyspace: KeyspaceId) -> bool {
        self.level0.iter().any(|shared| shared.table.number() == table.number() && shared.serves(keyspace))
    }

    /// Whether, for each keyspace, all of a table of level 0 is newer than all of the next one, as readers take it that stop at
    /// the first one that has a key. Tables of one load have one number, and no key in common.
    fn check_ages(&self) -> Result<(), Damage> {
        let mut in_front: BTreeMap<KeyspaceId, &Section> = BTreeMap::new();
        for shared in &self.level0 {
            let sections = shared.table.meta.sections.iter();
            for section in sections.filter(|s| shared.serves(s.keyspace) && s.max_sequence > Sequence(0)) {
                let Some(newer) = in_front.insert(section.keyspace, section) else { continue };
                let of_one_load = newer.takes_global_sequence && section.takes_global_sequence;
                let of_one_load = of_one_load && newer.max_sequence == section.max_sequence;
                if newer.oldest_sequence() <= section.max_sequence && !of_one_load {
                    return Err(Damage::OutOfOrder);
                }
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn tree(&self, keyspace: KeyspaceId) -> Option<&Tree> {
        self.trees.get(keyspace).map(|tree| &**tree)
    }

    pub(crate) fn level0_len(&self) -> usize {
        self.level0.len()
    }

    /// Keyspaces with tables, in order.
    pub(crate) fn keyspaces(&self) -> BTreeSet<KeyspaceId> {
        let shared = self.level0.iter().flat_map(|shared| shared.table.meta.sections.iter().map(|s| s.keyspace));
        shared.chain(self.trees.iter().map(|(keyspace, _)| keyspace)).collect()
    }

    /// Every table with its level.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (u8, &Arc<Table>)> {
        let shared = self.level0.iter().map(|shared| (0, &shared.table));
        let trees = self.trees.iter().flat_map(|(_, tree)| tree.levels());
        shared.chain(trees.flat_map(|(level, tables)| tables.iter().map(move |table| (level, table))))
    }

    /// The level that a table is on, if it is one of them. O(tables).
    pub(crate) fn level_of(&self, table: &Arc<Table>) -> Option<u8> {
        self.tables().find(|(_, other)| Arc::ptr_eq(other, table)).map(|(level, _)| level)
    }

    /// The tables that speak for a keyspace, with their levels, newest data first.
    pub(crate) fn of_keyspace(&self, keyspace: KeyspaceId) -> impl Iterator<Item = (u8, &Arc<Table>)> {
        let shared = self.level0(keyspace).map(|table| (0, table));
        let levels = self.tree(keyspace).into_iter().flat_map(Tree::levels);
        shared.chain(levels.flat_map(|(level, tables)| tables.iter().map(move |table| (level, table))))
    }

    /// Whether a table of a keyspace has range tombstones.
    pub(crate) fn has_ranges(&self, keyspace: KeyspaceId) -> bool {
        self.of_keyspace(keyspace).any(|(_, table)| table.has_ranges(keyspace))
    }

    /// Every section that is part of its keyspace.
    pub(crate) fn sections(&self) -> impl Iterator<Item = &Section> {
        let of_shared = |shared: &SharedTable, section: &Section| shared.consumed.get(section.keyspace).is_none();
        let shared = self.level0.iter().flat_map(move |shared| {
            shared.table.meta.sections.iter().filter(move |section| of_shared(shared, section))
        });
        let trees = self.trees.iter().flat_map(|(_, tree)| tree.levels()).flat_map(|(_, tables)| tables.iter());
        shared.chain(trees.filter_map(|table| table.only_section()))
    }

    /// Whether an edit takes tables or sections that are not there any more, or adds tables to the tree of a keyspace that
    /// is not: its keyspace has been dropped since it was planned.
    pub(crate) fn has_dropped(&self, edit: &Edit) -> bool {
        let named = || edit.remove.iter().chain(edit.moves.iter().map(|(number, _)| number));
        let there: BTreeSet<FileNumber> = match named().next() {
            Some(_) => self.tables().map(|(_, table)| table.number()).collect(),
            None => BTreeSet::new(),
        };
        let serves = |number: FileNumber, keyspace| {
            self.level0.iter().any(|shared| shared.table.number() == number && shared.serves(keyspace))
        };
        let into_tree = edit.add.iter().filter(|(level, _)| *level > 0).flat_map(|(_, meta)| &meta.sections);
        named().any(|number| !there.contains(number))
            || edit.consume.iter().any(|(number, keyspace)| !serves(*number, *keyspace))
            || into_tree.into_iter().any(|section| !self.named.is_live(section.keyspace))
    }

    /// The sections that an edit adds to level 0 for keyspaces that are not there any more; nobody needs them.
    pub(crate) fn dropped_sections(&self, edit: &Edit) -> Vec<(FileNumber, KeyspaceId)> {
        let added = edit.add.iter().filter(|(level, _)| *level == 0);
        let sections = added.flat_map(|(_, meta)| meta.sections.iter().map(|section| (meta.number, section.keyspace)));
        let gone = |keyspace| !self.named.is_live(keyspace) && self.named.was_created(keyspace);
        sections.filter(|(_, keyspace)| gone(*keyspace)).collect()
    }

    /// An edit that makes this version from nothing.
    pub(crate) fn to_edit(&self) -> Edit {
        let consume = self
            .level0
            .iter()
            .flat_map(|shared| shared.consumed.iter().map(|(keyspace, ())| (shared.table.number(), keyspace)));
        Edit {
            add_values: self.values.iter().map(|stored| stored.file.meta).collect(),
            add: self.tables().map(|(level, table)| (level, table.meta.clone())).collect(),
            consume: consume.collect(),
            next_keyspace: Some(self.named.next()).filter(|next| *next != Keyspaces::default().next()),
            create: self.named.iter().map(|meta| KeyspaceMeta::clone(meta)).collect(),
            default_operator: self.named.operator(KeyspaceId::DEFAULT).map(str::to_owned),
            ..Edit::default()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::format::Sequence;
    use crate::format::alignment::Alignment;
    use crate::format::codec::Codec;
    use crate::format::edit::TableMeta;
    use crate::format::range::Edge;
    use crate::format::section::{Later, ValueFileShare};
    use crate::format::values::ValuesMeta;
    use crate::options::{SectionOptions, TableOptions};
    use crate::sys::{Access, FileSystem, sim::SimFs};
    use crate::table::TableCache;

    pub(crate) fn meta(number: u64, ranges: &[(u32, &str, &str)], bytes: u64) -> TableMeta {
        let section = |(keyspace, min, max): &(u32, &str, &str)| Section {
            keyspace: KeyspaceId(*keyspace),
            start: 64,
            end: 64 + bytes,
            entries: 1,
            keys: 1,
            tombstones: 0,
            range_tombstones: 0,
            range_tombstones_bytes: 0,
            min_sequence: Sequence(number),
            max_sequence: Sequence(number),
            interval: 16,
            lower: Edge::Before(min.as_bytes().to_vec()),
            upper: Edge::After(max.as_bytes().to_vec()),
            codec: Codec::None,
            blocks: 0,
            block_log2: 0,
            alignment: Alignment::None,
            takes_global_sequence: false,
            value_files: Vec::new(),
            later: Later::default(),
        };
        TableMeta {
            number: FileNumber(number),
            id: [0; 16],
            file_bytes: bytes,
            footer_checksum: 0,
            sections: ranges.iter().map(section).collect(),
        }
    }

    /// Level, number, sections as (keyspace, min, max), size.
    pub(crate) type TableShape<'a> = (u8, u64, &'a [(u32, &'a str, &'a str)], u64);

    /// A version made of `(level, number, [(keyspace, min, max)], bytes)`; its tables have no files.
    pub(crate) fn version(tables: &[TableShape<'_>]) -> Version {
        let add = tables.iter().map(|(level, number, ranges, bytes)| (*level, meta(*number, ranges, *bytes))).collect();
        let create = (1..10).map(|id| named(id, &format!("number {id}"))).collect();
        apply(&Version::default(), &Edit { add, create, ..Edit::default() }).unwrap()
    }

    pub(crate) fn named(id: u32, name: &str) -> KeyspaceMeta {
        let options = SectionOptions { threshold: Some(0), ..SectionOptions::default() };
        KeyspaceMeta { id: KeyspaceId(id), options, name: name.to_owned(), operator: None, later: Later::default() }
    }

    pub(crate) fn apply(version: &Version, edit: &Edit) -> Result<Version, Damage> {
        replace(version, edit).map(|(next, _)| next)
    }

    /// The version after an edit, and the numbers of the tables that it has made useless.
    fn replace(version: &Version, edit: &Edit) -> Result<(Version, Vec<u64>), Damage> {
        let fs = FileSystem::from(SimFs::new());
        let dir = fs.0.open_dir(std::path::Path::new("/db"), true, Access::Map).unwrap();
        let replaced = version.replace(edit, &Handles::new(&TableCache::new(dir, TableOptions::default(), 0, None)));
        replaced.map(|(next, gone)| {
            let mut gone: Vec<u64> = gone.iter().map(|table| table.number().0).collect();
            gone.sort_unstable();
            (next, gone)
        })
    }

    fn numbers(version: &Version) -> Vec<(u8, u64)> {
        version.tables().map(|(level, table)| (level, table.number().0)).collect()
    }

    #[test]
    fn edits_add_move_consume_and_remove() {
        let base = version(&[
            (0, 7, &[(0, "a", "z"), (3, "a", "b")], 10),
            (0, 9, &[(0, "c", "d")], 10),
            (1, 4, &[(0, "m", "p")], 10),
            (1, 5, &[(0, "a", "c")], 10),
        ]);
        assert_eq!(numbers(&base), [(0, 9), (0, 7), (1, 5), (1, 4)]);
        let edit = Edit {
            remove: vec![FileNumber(5)],
            moves: vec![(FileNumber(4), 2)],
            consume: vec![(FileNumber(7), KeyspaceId(0)), (FileNumber(9), KeyspaceId(0))],
            add: vec![(1, meta(11, &[(0, "a", "z")], 10))],
            ..Edit::default()
        };
        let next = apply(&base, &edit).unwrap();
        assert_eq!(numbers(&next), [(0, 7), (1, 11), (2, 4)], "a table without live sections is gone");
        assert_eq!(next.level0(KeyspaceId(0)).count(), 0);
        assert_eq!(next.level0(KeyspaceId(3)).count(), 1);
        assert_eq!(numbers(&base).len(), 4, "the old version is untouched");
        let again = apply(&Version::default(), &next.to_edit()).unwrap();
        assert_eq!(numbers(&again), numbers(&next));
        assert_eq!(again.level0(KeyspaceId(0)).count(), 0);
    }

    #[test]
    fn an_edit_tells_which_tables_nobody_needs_any_more() {
        let base = version(&[
            (0, 9, &[(3, "c", "d")], 10),
            (0, 7, &[(0, "a", "z"), (3, "a", "b")], 10),
            (1, 4, &[(0, "m", "p")], 10),
            (1, 5, &[(3, "a", "c")], 10),
        ]);
        let consume = |number, keyspace| vec![(FileNumber(number), KeyspaceId(keyspace))];
        let drop = vec![KeyspaceId(3)];
        let cases = [
            (Edit { create: vec![named(10, "new")], ..Edit::default() }, vec![]),
            (Edit { remove: vec![FileNumber(4)], ..Edit::default() }, vec![4]),
            (Edit { moves: vec![(FileNumber(4), 2)], ..Edit::default() }, vec![]),
            (Edit { consume: consume(7, 0), ..Edit::default() }, vec![]),
            (Edit { consume: consume(9, 3), ..Edit::default() }, vec![9]),
            (Edit { drop: drop.clone(), ..Edit::default() }, vec![5, 9]),
            (Edit { drop: drop.clone(), consume: consume(7, 0), ..Edit::default() }, vec![5, 7, 9]),
            (Edit { drop, moves: vec![(FileNumber(5), 2)], ..Edit::default() }, vec![5, 9]),
        ];
        for (edit, gone) in cases {
            let (next, told) = replace(&base, &edit).unwrap();
            assert_eq!(told, gone, "{edit:?}");
            let kept: BTreeSet<u64> = numbers(&next).into_iter().map(|(_, number)| number).collect();
            assert!(
                numbers(&base).iter().all(|(_, number)| kept.contains(number) != gone.contains(number)),
                "{edit:?}"
            );
            let again = apply(&Version::default(), &next.to_edit()).unwrap();
            assert_eq!(again.to_edit(), next.to_edit());
        }
    }

    #[test]
    fn versions_share_the_keyspaces_that_an_edit_leaves_alone() {
        let many: Vec<(u32, &str, &str)> = (1..10).map(|keyspace| (keyspace, "a", "b")).collect();
        let tables: Vec<TableShape<'_>> =
            many.iter().map(|one| (1, u64::from(one.0) + 100, std::slice::from_ref(one), 10)).collect();
        let base = version(&tables);
        let (next, gone) = replace(&base, &Edit { drop: vec![KeyspaceId(4)], ..Edit::default() }).unwrap();
        assert_eq!(gone, [104]);
        assert!(next.tree(KeyspaceId(4)).is_none() && !next.named().is_live(KeyspaceId(4)));
        for keyspace in (1..10).filter(|keyspace| *keyspace != 4).map(KeyspaceId) {
            let [before, after] = [&base, &next].map(|version| version.tree(keyspace).unwrap());
            assert!(std::ptr::eq(before, after), "{keyspace:?}");
        }
        assert!(Arc::ptr_eq(base.values(), next.values()));
    }

    #[test]
    fn edits_that_contradict_the_version_are_damage() {
        let base = version(&[(0, 7, &[(0, "a", "z")], 10), (1, 4, &[(0, "m", "p")], 10)]);
        let bad = [
            Edit { remove: vec![FileNumber(5)], ..Edit::default() },
            Edit { moves: vec![(FileNumber(5), 1)], ..Edit::default() },
            Edit { consume: vec![(FileNumber(4), KeyspaceId(0))], ..Edit::default() },
            Edit { consume: vec![(FileNumber(7), KeyspaceId(1))], ..Edit::default() },
            Edit { add: vec![(1, meta(4, &[(0, "x", "y")], 10))], ..Edit::default() },
            Edit { add: vec![(1, meta(8, &[(0, "a", "m")], 10))], ..Edit::default() },
            Edit { add: vec![(1, meta(8, &[(0, "q", "r"), (1, "a", "b")], 10))], ..Edit::default() },
            Edit { add: vec![(0, meta(8, &[(10, "q", "r")], 10))], ..Edit::default() },
            Edit { add: vec![(1, meta(8, &[(10, "q", "r")], 10))], ..Edit::default() },
            Edit { create: vec![named(9, "new")], ..Edit::default() },
            Edit { drop: vec![KeyspaceId(10)], ..Edit::default() },
            Edit { drop: vec![KeyspaceId(0)], ..Edit::default() },
            Edit { drop: vec![KeyspaceId(3), KeyspaceId(3)], ..Edit::default() },
        ];
        for edit in bad {
            assert!(apply(&base, &edit).is_err(), "{edit:?}");
        }
    }

    #[test]
    fn value_files_go_with_the_last_section_that_refers_to_them() {
        let values = |number| ValuesMeta {
            number: FileNumber(number),
            id: [0; 16],
            file_bytes: 4096,
            record_bytes: 64,
            records: 1,
            footer_checksum: 0,
        };
        let referring = |number, sections: &[(u32, u64)]| {
            let ranges: Vec<_> = sections.iter().map(|(keyspace, _)| (*keyspace, "a", "b")).collect();
            let mut table = meta(number, &ranges, 10);
            for (section, (_, file)) in table.sections.iter_mut().zip(sections) {
                section.value_files = vec![ValueFileShare { file: FileNumber(*file), values: 1, bytes: 64 }];
            }
            (0, table)
        };
        let there = |version: &Version| version.values().iter().map(|s| s.file.number().0).collect::<Vec<_>>();
        let create = vec![named(1, "other")];
        let add = vec![referring(7, &[(0, 20), (1, 21)])];
        let flush = Edit { create, add, add_values: vec![values(20), values(21)], ..Edit::default() };
        let base = apply(&Version::default(), &flush).unwrap();
        assert_eq!(there(&base), [20, 21]);
        let consumed = Edit { consume: vec![(FileNumber(7), KeyspaceId(0))], ..Edit::default() };
        let next = apply(&base, &consumed).unwrap();
        assert_eq!(there(&next), [21], "a consumed section refers to nothing");
        let again = apply(&Version::default(), &next.to_edit()).unwrap();
        assert_eq!((there(&again), numbers(&again)), (vec![21], vec![(0, 7)]));
        let dangling = Edit { add: vec![referring(8, &[(0, 20)])], ..Edit::default() };
        assert_eq!(apply(&next, &dangling).unwrap_err(), Damage::BadPointer);
        let last = apply(&next, &Edit { drop: vec![KeyspaceId(1)], ..Edit::default() }).unwrap();
        assert_eq!((there(&last), numbers(&last)), (vec![], vec![]));
    }

    #[test]
    fn a_dropped_keyspace_takes_its_tables_along_and_its_id_is_not_used_again() {
        let base = version(&[
            (0, 7, &[(0, "a", "z"), (3, "a", "b")], 10),
            (0, 8, &[(3, "c", "d")], 10),
            (1, 4, &[(3, "m", "p")], 10),
            (2, 5, &[(3, "a", "c")], 10),
            (1, 6, &[(4, "a", "c")], 10),
        ]);
        let dropped = apply(&base, &Edit { drop: vec![KeyspaceId(3), KeyspaceId(9)], ..Edit::default() }).unwrap();
        assert_eq!(numbers(&dropped), [(0, 7), (1, 6)]);
        assert_eq!(dropped.level0(KeyspaceId(3)).count(), 0);
        let again = apply(&Version::default(), &dropped.to_edit()).unwrap();
        assert_eq!(numbers(&again), numbers(&dropped));
        assert_eq!((again.named().next(), again.named().iter().count()), (KeyspaceId(10), 7));
        assert!(!again.named().is_live(KeyspaceId(9)) && again.named().was_created(KeyspaceId(9)));

        for (name, unique) in [("number 3", true), ("number 4", false), ("default", false)] {
            let more = apply(&dropped, &Edit { create: vec![named(10, name)], ..Edit::default() }).unwrap();
            assert_eq!(more.named().check_names().is_ok(), unique, "{name}");
        }

        // What was planned before is noticed.
        let compaction = Edit { remove: vec![FileNumber(4)], moves: vec![(FileNumber(5), 3)], ..Edit::default() };
        assert!(!base.has_dropped(&compaction) && dropped.has_dropped(&compaction));
        // A flush that was under way brings a section that nobody needs.
        let flushed = meta(11, &[(0, "a", "b"), (3, "a", "b")], 10);
        let mut flush = Edit { add: vec![(0, flushed)], ..Edit::default() };
        assert_eq!(apply(&dropped, &flush).unwrap_err(), Damage::UnknownKeyspace);
        flush.consume.push((FileNumber(11), KeyspaceId(3)));
        assert_eq!(numbers(&apply(&dropped, &flush).unwrap()), [(0, 11), (0, 7), (1, 6)]);
    }

    /// Keys of few different bytes: many are equal in their first eight, end early, or go on with zeros.
    fn alike(prefix: &[u8]) -> Vec<Vec<u8>> {
        let (letters, lengths) = ([0, b'a', 0xff], [1, 2, 7, 8, 9, 10]);
        let letter = |turn: usize, at: usize, length: usize| match length - at {
            left @ 1..=3 => letters[turn / [1, 3, 9][left - 1] % 3],
            _ => letters[turn / 27],
        };
        let key =
            |length: usize, turn| prefix.iter().copied().chain((0..length).map(move |at| letter(turn, at, length)));
        let keys = lengths.iter().flat_map(|length| (0..81).map(|turn| key(*length, turn).collect()));
        let mut keys: Vec<Vec<u8>> = keys.chain([prefix.to_vec()]).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    #[test]
    fn fences_say_what_the_sections_say() {
        let fs = FileSystem::from(SimFs::new());
        let dir = fs.0.open_dir(std::path::Path::new("/db"), true, Access::Map).unwrap();
        let cache = TableCache::new(dir, TableOptions::default(), 0, None);
        let table = |lower: Edge, upper: Edge| {
            let mut meta = meta(1, &[(0, "", "")], 10);
            (meta.sections[0].lower, meta.sections[0].upper) = (lower, upper);
            Arc::new(Table::new(meta, Arc::clone(&cache), Vec::new()))
        };
        let edge = |key: &[u8], after| if after { Edge::After(key.to_vec()) } else { Edge::Before(key.to_vec()) };
        let mut looked = 0;
        for prefix in [&b""[..], b"p", b"what all have in common"] {
            let keys = alike(prefix);
            for (step, sides) in [1, 2, 3, 7, 50].iter().flat_map(|step| (0..8).map(move |sides: usize| (*step, sides)))
            {
                let bounds: Vec<&Vec<u8>> = keys.iter().skip(sides).step_by(step).collect();
                let tables = bounds
                    .chunks_exact(2)
                    .map(|pair| table(edge(pair[0], sides & 1 > 0), edge(pair[1], sides & 2 > 0)));
                let end = (sides & 4 > 0 && prefix.is_empty())
                    .then(|| table(edge(bounds[bounds.len() - 1], true), Edge::End));
                let tables: Vec<Arc<Table>> = tables.chain(end).collect();
                let level: Level = tables.iter().cloned().collect();
                let sections: Vec<&Section> = tables.iter().filter_map(|table| table.only_section()).collect();
                let others = [&b""[..], b"o", b"q", b"what all have in commoo", b"what", &[0xff; 12]];
                for key in keys.iter().map(Vec::as_slice).chain(others) {
                    let ended = sections.iter().filter(|section| section.upper.is_in_front_of(key)).count();
                    let begun = sections.iter().filter(|section| section.lower.is_in_front_of(key)).count();
                    assert_eq!(level.end_before(key), ended, "{key:?} {step} {sides}");
                    assert_eq!(level.begin_at_or_before(key), begun, "{key:?} {step} {sides}");
                    let with = (begun > ended).then(|| &tables[ended]);
                    assert!(level.table_with(key).map(Arc::as_ptr) == with.map(Arc::as_ptr), "{key:?} {step} {sides}");
                    looked += usize::from(with.is_some());
                }
            }
        }
        assert!(looked > 10_000, "{looked}");
        assert!(Level::default().table_with(b"key").is_none());
    }
}
