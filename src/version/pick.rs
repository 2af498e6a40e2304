//! Plans of compactions, and which of them may run at the same time: pure functions of the version.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Version;
use super::garbage::{CALM_SHARE, is_wasteful};
use crate::event::CompactionReason;
use crate::format::edit::LEVELS;
use crate::format::range::{Edge, Range};
use crate::format::section::{Section, ValueFileShare};
use crate::format::{FileNumber, KeyspaceId, SEQUENCE_SPAN, Sequence};
use crate::merge::Paid;
use crate::table::{Table, Values};

pub(super) const DEEPEST: u8 = LEVELS - 1;

/// How large levels may be, and how much work they are worth at the moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Tables of level 0 at which they are merged into level 1; twice as many where level 1 is large.
    pub(crate) level0_tables: usize,
    pub(crate) level1_bytes: u64,
    pub(crate) multiplier: u32,
    /// Size at which a compaction begins a new table.
    pub(crate) table_bytes: u64,
    /// Below this, what a keyspace has in level 0 is not worth tables of its own.
    pub(crate) small_bytes: u64,
    /// Nobody writes, or somebody waits for the store to settle: space counts more than what a rewrite costs.
    pub(crate) calm: bool,
    /// What readers have paid for level 0.
    pub(crate) paid: Paid,
    /// Every reader sees this sequence or a later one.
    pub(crate) seen_by_all: Sequence,
}

/// Why a compaction is done, and how many times what it is about is over its limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Urgency {
    pub(crate) reason: CompactionReason,
    /// At least 1 if it is due.
    pub(crate) score: f64,
}

impl Urgency {
    pub(super) fn new(reason: CompactionReason, score: f64) -> Self {
        Self { reason, score }
    }
}

/// One keyspace's share in a compaction.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    pub(crate) keyspace: KeyspaceId,
    /// Level and table, newest data first.
    pub(crate) inputs: Vec<(u8, Arc<Table>)>,
    /// Tables with newer versions, which are read for what those hide, and stay as they are.
    pub(crate) newer: Vec<(u8, Arc<Table>)>,
    /// Whether no deeper level has data in the range, so that nothing older than the inputs remains.
    pub(crate) bottom: bool,
    /// Everything in the inputs lies between these.
    pub(super) range: (Edge, Edge),
}

impl Share {
    fn new(version: &Version, keyspace: KeyspaceId, inputs: Vec<(u8, Arc<Table>)>, output: u8) -> Self {
        let range = range_of(keyspace, inputs.iter().map(|(_, table)| table)).unwrap_or((Edge::START, Edge::START));
        let is_input = |table: &Arc<Table>| inputs.iter().any(|(_, input)| input.number() == table.number());
        let older = version
            .tree(keyspace)
            .is_some_and(|tree| (output + 1..=DEEPEST).any(|level| !overlapping(tree.level(level), range).is_empty()));
        let bottom = !older && (output > 0 || version.level0(keyspace).all(is_input));
        let range = (range.0.to_owned(), range.1.to_owned());
        Self { keyspace, inputs, newer: Vec::new(), bottom, range }
    }

    /// Everything of the inputs lies between these.
    pub(crate) fn range(&self) -> Range<'_> {
        (self.range.0.as_ref(), self.range.1.as_ref())
    }

    /// From the first to the last sequence number; one section cannot hold more than [`SEQUENCE_SPAN`].
    fn sequence_span(&self) -> u64 {
        let min = self.sections().map(|(_, section)| section.min_sequence.0).min().unwrap_or(0);
        let max = self.sections().map(|(_, section)| section.max_sequence.0).max().unwrap_or(0);
        max.saturating_sub(min)
    }

    /// The sections that are merged, with their tables.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&Arc<Table>, &Section)> {
        self.inputs.iter().filter_map(|(_, table)| Some((table, table.section(self.keyspace)?)))
    }
}

/// A compaction: what these tables hold of some keyspaces becomes tables of level `output`.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// In order of keyspace; more than one only if `output` is 0.
    pub(crate) shares: Vec<Share>,
    pub(crate) output: u8,
    /// Value files whose values move into new ones.
    pub(crate) emptied: BTreeSet<FileNumber>,
    /// Where the values of the inputs are.
    pub(crate) values: Arc<Values>,
    pub(crate) urgency: Urgency,
}

impl Plan {
    /// A compaction of one keyspace. The inputs have keys of it.
    pub(super) fn new(version: &Version, keyspace: KeyspaceId, inputs: Vec<(u8, Arc<Table>)>, output: u8) -> Self {
        Self::of(version, vec![Share::new(version, keyspace, inputs, output)], output)
    }

    /// A merge of tables of level 0 into one, for keyspaces that have too little there for tables of their own.
    pub(super) fn within_level0(version: &Version, keyspaces: &[KeyspaceId], tables: &[&Arc<Table>]) -> Self {
        let share = |keyspace: &KeyspaceId| {
            let serving = tables.iter().filter(|table| version.serves(table, *keyspace));
            let inputs: Vec<_> = serving.map(|table| (0, Arc::clone(table))).collect();
            let share = Share::new(version, *keyspace, inputs, 0);
            (!share.inputs.is_empty() && share.sequence_span() < SEQUENCE_SPAN).then_some(share)
        };
        Self::of(version, keyspaces.iter().filter_map(share).collect(), 0)
    }

    /// A rewrite of neighbours where they are, as one table and without what newer tables hide in them; `None` if one of them
    /// is gone, or it is one table of which nothing can be hidden. The newer tables stay, so this takes no more space than the
    /// neighbours.
    pub(crate) fn shrinking(version: &Version, neighbours: &[FileNumber]) -> Option<Self> {
        let is_one = |table: &Arc<Table>| neighbours.contains(&table.number());
        let tables: Vec<(u8, &Arc<Table>)> = version.tables().filter(|(_, table)| is_one(table)).collect();
        let (level, first) = *tables.first().filter(|_| tables.len() == neighbours.len())?;
        let share = |section: &Section| {
            let keyspace = section.keyspace;
            let inputs = tables.iter().map(|(level, table)| (*level, Arc::clone(table))).collect();
            let mut share = Share::new(version, keyspace, inputs, level);
            // From the newest one on down to these.
            let newer = version.of_keyspace(keyspace).take_while(|(_, other)| !is_one(other));
            let overlapping =
                |other: &Arc<Table>| other.section(keyspace).is_some_and(|other| overlaps(other, share.range()));
            let newer = newer.filter(|(_, other)| overlapping(other));
            share.newer = newer.map(|(above, other)| (above, Arc::clone(other))).collect();
            share
        };
        let sections =
            first.meta.sections.iter().filter(|section| level > 0 || version.serves(first, section.keyspace));
        let shares: Vec<Share> = sections.map(share).collect();
        let is_of_use = tables.len() > 1 || shares.iter().any(|share| !share.newer.is_empty());
        let urgency = Urgency::new(CompactionReason::FullDisk, 1.0);
        is_of_use.then(|| Self::of(version, shares, level).because(urgency))
    }

    /// A rewrite of one table that points to one of these value files, if one may run now.
    pub(super) fn emptying(version: &Version, files: &BTreeSet<FileNumber>, running: &Running) -> Option<Self> {
        let points_there = |table: &Table| {
            let shares = table.meta.sections.iter().flat_map(|section| &section.value_files);
            shares.into_iter().any(|share| files.contains(&share.file))
        };
        let tables = version.tables().filter(|(_, table)| points_there(table));
        let plans = tables.map(|(level, table)| Self::in_place(version, level, table));
        plans.map(|plan| plan.moving_values(files)).find(|plan| {
            // Sections that have been consumed point there as well.
            plan.moves_values() && running.allows(plan)
        })
    }

    fn in_place(version: &Version, level: u8, table: &Arc<Table>) -> Self {
        if level == 0 {
            let keyspaces: Vec<_> = table.meta.sections.iter().map(|section| section.keyspace).collect();
            return Self::within_level0(version, &keyspaces, &[table]);
        }
        let keyspace = table.only_section().map(|section| section.keyspace).unwrap_or_default();
        Self::new(version, keyspace, vec![(level, Arc::clone(table))], level)
    }

    pub(super) fn of(version: &Version, shares: Vec<Share>, output: u8) -> Self {
        let urgency = Urgency::new(CompactionReason::Asked, 1.0);
        Self { shares, output, emptied: BTreeSet::new(), values: Arc::clone(version.values()), urgency }
    }

    /// The same plan, for another reason than that somebody has asked for it.
    pub(super) fn because(mut self, urgency: Urgency) -> Self {
        self.urgency = urgency;
        self
    }

    /// The same plan, which also moves what its inputs have in these value files.
    pub(super) fn moving_values(mut self, files: &BTreeSet<FileNumber>) -> Self {
        self.emptied = self.value_shares().map(|share| share.file).filter(|file| files.contains(file)).collect();
        self
    }

    /// The same plan, which also empties the value files with garbage that only its inputs have values in, and those with much
    /// garbage.
    pub(crate) fn reclaiming(self) -> Self {
        let mut inside: BTreeMap<FileNumber, u64> = BTreeMap::new();
        for share in self.value_shares() {
            *inside.entry(share.file).or_default() += share.values;
        }
        let is_reclaimed = |(file, values): (&FileNumber, &u64)| {
            let stored = self.values.get(*file).filter(|stored| stored.garbage_bytes() > 0);
            stored.is_some_and(|stored| stored.live == *values || is_wasteful(stored, CALM_SHARE))
        };
        let files = inside.iter().filter(|entry| is_reclaimed(*entry)).map(|(file, _)| *file).collect();
        self.moving_values(&files)
    }

    /// What the inputs have in value files.
    fn value_shares(&self) -> impl Iterator<Item = &ValueFileShare> {
        self.shares.iter().flat_map(Share::sections).flat_map(|(_, section)| &section.value_files)
    }

    pub(crate) fn moves_values(&self) -> bool {
        !self.emptied.is_empty()
    }

    /// Whether the inputs, all on one level, are many more than tables of their full size would be: the files of a share of a
    /// compaction may each have a smaller one at their end.
    pub(crate) fn has_small_tables(&self, table_bytes: u64, shares: usize) -> bool {
        let bytes: u64 = self.inputs().map(|(_, table, _)| table.meta.file_bytes).sum();
        let full_sized = usize::try_from(bytes.div_ceil(table_bytes.max(1))).unwrap_or(usize::MAX);
        self.inputs().count() > full_sized.saturating_mul(2).saturating_add(shares)
    }

    /// Bytes of the values that move.
    fn moved_bytes(&self) -> u64 {
        self.value_shares().filter(|share| self.emptied.contains(&share.file)).map(|share| share.bytes).sum()
    }

    /// Level, table and keyspace of everything that is merged.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = (u8, &Arc<Table>, KeyspaceId)> {
        self.shares.iter().flat_map(|share| share.inputs.iter().map(|(level, table)| (*level, table, share.keyspace)))
    }

    /// Whether the inputs can go to their new level as they are.
    pub(crate) fn is_move(&self) -> bool {
        if self.moves_values() {
            return false;
        }
        let mut ranges: Vec<Range<'_>> = Vec::new();
        for (level, table, _) in self.inputs() {
            match &table.meta.sections[..] {
                [section] if level < self.output => ranges.push((section.lower.as_ref(), section.upper.as_ref())),
                _ => return false,
            }
        }
        ranges.sort_unstable();
        ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0)
    }

    /// What has to be written, at most.
    pub(crate) fn input_bytes(&self) -> u64 {
        let entries: u64 =
            self.shares.iter().flat_map(Share::sections).map(|(_, section)| section_bytes(section)).sum();
        entries.saturating_add(self.moved_bytes())
    }

    fn levels(&self) -> RangeInclusive<u8> {
        self.inputs().map(|(level, ..)| level).min().unwrap_or(self.output)..=self.output
    }

    /// Two plans are in each other's way if one could read or write, on some level, what the other one replaces.
    fn conflicts(&self, other: &Self) -> bool {
        let (a, b) = (self.levels(), other.levels());
        let meet = |x: &Share, y: &Share| x.keyspace == y.keyspace && x.range.0 < y.range.1 && y.range.0 < x.range.1;
        a.start() <= b.end()
            && b.start() <= a.end()
            && self.shares.iter().any(|x| other.shares.iter().any(|y| meet(x, y)))
    }
}

/// The plans that are being carried out.
#[derive(Debug, Default)]
pub(crate) struct Running {
    plans: Vec<(u64, Arc<Plan>)>,
    next: u64,
}

impl Running {
    pub(crate) fn allows(&self, plan: &Plan) -> bool {
        self.plans.iter().all(|(_, other)| !other.conflicts(plan))
    }

    /// Whether a running plan replaces what a table has of a keyspace.
    pub(crate) fn takes(&self, table: &Table, keyspace: KeyspaceId) -> bool {
        let mut inputs = self.plans.iter().flat_map(|(_, plan)| plan.inputs());
        inputs.any(|(_, input, of)| input.number() == table.number() && of == keyspace)
    }

    /// Registers a plan that [`allows`](Self::allows) has allowed; returns what to give to [`end`](Self::end).
    pub(crate) fn begin(&mut self, plan: &Arc<Plan>) -> u64 {
        debug_assert!(self.allows(plan), "plans under way do not touch each other");
        self.next += 1;
        self.plans.push((self.next, Arc::clone(plan)));
        self.next
    }

    pub(crate) fn end(&mut self, begun: u64) {
        debug_assert!(self.plans.iter().any(|(number, _)| *number == begun), "what ends has begun");
        self.plans.retain(|(number, _)| *number != begun);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// All of them, in the order in which they have begun.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.iter().map(|(_, plan)| plan)
    }
}

/// What a section takes in its file.
pub(super) fn section_bytes(section: &Section) -> u64 {
    section.end.saturating_sub(section.start).saturating_add(section.range_tombstones_bytes)
}

/// What the values of a section take in value files.
pub(super) fn value_bytes(section: &Section) -> u64 {
    section.value_files.iter().fold(0, |sum, share| sum.saturating_add(share.bytes))
}

/// Range tombstones count as well as keys.
fn overlaps(section: &Section, (lower, upper): Range<'_>) -> bool {
    section.lower.as_ref() < upper && lower < section.upper.as_ref()
}

/// The tables of a level with keys in a range.
pub(super) fn overlapping<'a>(tables: &'a [Arc<Table>], range: Range<'_>) -> Vec<&'a Arc<Table>> {
    tables.iter().filter(|table| table.only_section().is_some_and(|section| overlaps(section, range))).collect()
}

/// What [`Plan::shrinking`] rewrites at a time, and the bytes of its files, the smallest first: each table of level 0, and
/// below it neighbours that one table has room for.
pub(crate) fn neighbours(version: &Version, table_bytes: u64) -> Vec<(u64, Vec<FileNumber>)> {
    let mut groups: Vec<(u64, Vec<FileNumber>)> = Vec::new();
    let mut last = None;
    for (level, table) in version.tables() {
        let bytes = table.meta.file_bytes;
        let tree = table.only_section().filter(|_| level > 0).map(|section| (level, section.keyspace));
        match groups.last_mut().filter(|_| tree.is_some() && tree == last) {
            Some((sum, numbers)) if *sum + bytes <= table_bytes => {
                *sum += bytes;
                numbers.push(table.number());
            }
            _ => groups.push((bytes, vec![table.number()])),
        }
        last = tree;
    }
    groups.sort_unstable();
    groups
}

/// The smallest range with everything of a keyspace in `tables`.
pub(super) fn range_of<'a>(keyspace: KeyspaceId, tables: impl Iterator<Item = &'a Arc<Table>>) -> Option<Range<'a>> {
    tables.filter_map(|table| table.section(keyspace)).fold(None, |range: Option<Range<'a>>, section| {
        let (lower, upper) = (section.lower.as_ref(), section.upper.as_ref());
        Some(range.map_or((lower, upper), |(low, high)| (low.min(lower), high.max(upper))))
    })
}

/// A compaction of everything in a range into one level, the deepest that has data there. Grows the range until no table
/// straddles its ends. `None` if there is nothing to do.
pub(crate) fn plan_range(version: &Version, keyspace: KeyspaceId, range: Range<'_>) -> Option<Plan> {
    let mut inputs: Vec<(u8, Arc<Table>)> = Vec::new();
    // Each round takes at least one more table, or is the last.
    let mut lower = range.0.to_owned();
    let mut upper = range.1.to_owned();
    loop {
        let within = |table: &Arc<Table>| {
            table.section(keyspace).is_some_and(|section| overlaps(section, (lower.as_ref(), upper.as_ref())))
        };
        // The sections of level 0 overlap each other, so they go together or not at all.
        let level0 = version.level0(keyspace).any(within);
        let of_keyspace = version.of_keyspace(keyspace);
        let found: Vec<_> = of_keyspace
            .filter(|(level, table)| if *level == 0 { level0 } else { within(table) })
            .map(|(level, table)| (level, Arc::clone(table)))
            .collect();
        if found.len() == inputs.len() {
            break;
        }
        inputs = found;
        let (low, high) = range_of(keyspace, inputs.iter().map(|(_, table)| table))?;
        (lower, upper) = (low.to_owned().min(lower), high.to_owned().max(upper));
    }
    let output = inputs.iter().map(|(level, _)| *level).max()?.max(1);
    Some(Plan::new(version, keyspace, inputs, output))
}

#[cfg(test)]
mod tests {
    use super::super::tests::version;
    use super::*;

    fn numbers(plan: &Plan) -> (Vec<(u8, u64)>, u8, bool) {
        let inputs = plan.inputs().map(|(level, table, _)| (level, table.number().0)).collect();
        (inputs, plan.output, plan.is_move())
    }

    #[test]
    fn a_range_takes_along_what_straddles_it() {
        let tables = version(&[
            (1, 4, &[(0, "a", "c")], 60),
            (1, 5, &[(0, "e", "g")], 60),
            (2, 2, &[(0, "b", "f")], 300),
            (2, 3, &[(0, "p", "q")], 100),
        ]);
        let keys =
            |first: &'static str, last: &'static str| (Edge::Before(first.as_bytes()), Edge::After(last.as_bytes()));
        let plan = plan_range(&tables, KeyspaceId(0), keys("a", "a")).unwrap();
        assert_eq!(numbers(&plan), (vec![(1, 4), (1, 5), (2, 2)], 2, false));
        let everything = (Edge::START, Edge::End);
        assert_eq!(plan_range(&tables, KeyspaceId(0), everything).unwrap().inputs().count(), 4);
        assert!(plan_range(&tables, KeyspaceId(0), keys("x", "y")).is_none());
        assert!(plan_range(&tables, KeyspaceId(1), everything).is_none());
    }

    #[test]
    fn plans_conflict_where_levels_and_ranges_meet() {
        let tables = version(&[
            (0, 9, &[(0, "a", "f"), (1, "a", "z")], 10),
            (1, 4, &[(0, "a", "c")], 10),
            (1, 5, &[(0, "m", "p")], 10),
            (2, 2, &[(0, "a", "d")], 10),
            (2, 3, &[(0, "n", "q")], 10),
            (3, 1, &[(0, "a", "z")], 10),
        ]);
        let of = |numbers: &[u64], keyspace, output| {
            let inputs = tables.tables().filter(|(_, table)| numbers.contains(&table.number().0));
            let inputs = inputs.map(|(level, table)| (level, Arc::clone(table))).collect();
            Plan::new(&tables, KeyspaceId(keyspace), inputs, output)
        };
        let mut running = Running::default();
        let begun = running.begin(&Arc::new(of(&[9, 4], 0, 1)));
        assert!(!running.allows(&of(&[9, 4], 0, 1)), "the same");
        assert!(!running.allows(&of(&[4, 2], 0, 2)), "an input of the running one");
        assert!(running.allows(&of(&[5, 3], 0, 2)), "another range");
        assert!(running.allows(&of(&[2, 1], 0, 3)), "deeper levels");
        assert!(running.allows(&of(&[9], 1, 1)), "another keyspace");
        running.end(begun);
        assert!(running.is_empty() && running.allows(&of(&[4, 2], 0, 2)));
    }
}
