//! Leveled compaction with a lazy top.
//!
//! Level 0 collects tables while reads of many tables are cheap, and is merged into level 1 as a whole. How many levels there
//! are below follows from the amount of data: one, until it is `multiplier` times `level1_bytes`; then all of it moves one
//! level deeper, and the levels in between get sizes of equal ratio. A small data set so has one level, which each merge
//! rewrites; it costs the more the larger that level is against what level 0 collects, so a large level 1 makes level 0
//! wait twice as long.

use std::sync::Arc;

use super::garbage::Garbage;
use super::pick::{DEEPEST, Limits, Plan, Running, Urgency, overlapping, range_of, section_bytes, value_bytes};
use super::{Tree, Version};
use crate::event::CompactionReason;
use crate::format::KeyspaceId;
use crate::format::range::Range;
use crate::table::Table;

/// Tables of which this share is tombstones and old versions are rewritten.
const GARBAGE_SHARE: u64 = 4;

/// What a keyspace has in level 0 is small if it is less than this share of its level 1.
const SMALL_SHARE: u64 = 8;

/// What a compaction costs before its first byte, its syncs above all: some 15 ms, in which so many bytes are compacted.
const COMPACTION_BYTES: u64 = 8 << 20;

/// A merge within level 0 takes an older table along unless it is this many times as large as all newer ones.
const TIER_RATIO: u64 = 4;

/// So many neighbours that are smaller than this share of a table are joined: a byte is rewritten once for each time that its
/// table grows by this factor.
const JOINED: usize = 8;

/// Value files with this many times as much garbage as they may have come before everything else.
const GARBAGE_FIRST: f64 = 2.0;

/// Something that a keyspace may need.
#[derive(Debug, Clone, Copy)]
enum Action<'a> {
    /// All of level 0 goes to level 1.
    Level0,
    /// One table goes a level down.
    Level(u8),
    /// All tables of the deepest level move one level down.
    Deepen(u8),
    /// A table with much that is of no use is rewritten.
    Clean(u8, &'a Arc<Table>),
    /// Small neighbours become one table of the same level.
    Join(u8, &'a [Arc<Table>]),
}

/// A compaction that is due, before it is planned.
#[derive(Debug)]
enum Due<'a> {
    /// Of one keyspace.
    Tree(Shape<'a>, Action<'a>),
    /// Tables of level 0, for keyspaces that have little in them.
    Small(Plan),
    /// A table that points to value files with much garbage.
    Values,
}

/// All compactions that are due, the most urgent first; what collects garbage of value files on its way does so.
struct Picking<'a> {
    version: &'a Version,
    garbage: Garbage,
    due: Vec<(Urgency, Due<'a>)>,
}

impl<'a> Picking<'a> {
    fn new(version: &'a Version, limits: &Limits) -> Self {
        let mut trees: Vec<(Urgency, Due<'a>)> = Vec::new();
        let mut small = Vec::new();
        for keyspace in version.keyspaces() {
            let shape = Shape::new(version, keyspace);
            if shape.is_small(limits) {
                small.push(keyspace);
            }
            let urgent = shape.urgencies(version, limits).into_iter().filter(|(urgency, _)| urgency.score >= 1.0);
            trees.extend(urgent.map(|(urgency, action)| (urgency, Due::Tree(shape, action))));
        }
        // Moves first: they cost nothing, and each merge that comes first makes the level larger.
        let key = |urgency: &Urgency| (urgency.reason == CompactionReason::LevelsFull, urgency.score);
        trees.sort_by(|(a, _), (b, _)| {
            let ((a, x), (b, y)) = (key(a), key(b));
            b.cmp(&a).then(y.total_cmp(&x))
        });
        let garbage = Garbage::of(version, limits.calm);
        let values = Urgency::new(CompactionReason::ValueGarbage, garbage.urgency);
        // Other compactions collect it on their way; if that is not enough, it goes first.
        let (first, last) = if garbage.urgency > GARBAGE_FIRST { (true, false) } else { (false, true) };
        let collect = |now: bool| (now && !garbage.files.is_empty()).then_some((values, Due::Values));
        let mut due: Vec<(Urgency, Due<'a>)> = collect(first).into_iter().collect();
        due.extend(merge_small(version, &small, limits).map(|(urgency, plan)| (urgency, Due::Small(plan))));
        due.extend(trees);
        due.extend(collect(last));
        Self { version, garbage, due }
    }

    /// The plan of what is due, if it may run beside others.
    fn plan(&self, urgency: Urgency, due: &Due<'a>, running: &Running) -> Option<Plan> {
        let plan = match due {
            Due::Tree(shape, action) => shape.plan(self.version, *action, running)?,
            Due::Small(plan) => running.allows(plan).then(|| plan.clone())?,
            Due::Values => Plan::emptying(self.version, &self.garbage.files, running)?,
        };
        let plan = if plan.is_move() { plan } else { plan.moving_values(&self.garbage.files) };
        Some(plan.because(urgency))
    }

    fn plans(&self, running: &Running) -> impl Iterator<Item = Plan> {
        self.due.iter().filter_map(move |(urgency, due)| self.plan(*urgency, due, running))
    }
}

/// The most urgent compaction that may run beside `running`, if any is due.
pub(crate) fn pick(version: &Version, limits: &Limits, running: &Running) -> Option<Plan> {
    Picking::new(version, limits).plans(running).next()
}

/// Every compaction that would be picked, one by one, if nothing else were done; the most urgent first.
pub(crate) fn due(version: &Version, limits: &Limits) -> Vec<Plan> {
    Picking::new(version, limits).plans(&Running::default()).collect()
}

/// How many times each level of a keyspace is over its limit, from level 0 to its deepest one; see
/// [`KeyspaceStats::level_scores`](crate::KeyspaceStats::level_scores).
pub(crate) fn scores(version: &Version, keyspace: KeyspaceId, limits: &Limits) -> Vec<f64> {
    let shape = Shape::new(version, keyspace);
    (0..=shape.bottom).map(|level| shape.score(level, limits)).collect()
}

/// The sizes of one keyspace's levels.
#[derive(Debug, Clone, Copy)]
struct Shape<'a> {
    keyspace: KeyspaceId,
    tree: Option<&'a Tree>,
    level0_tables: usize,
    /// Bytes of its sections in level 0, and of the tables of the levels below: what a rewrite costs.
    bytes: [u64; DEEPEST as usize + 1],
    /// The same with what stands in value files.
    space: [u64; DEEPEST as usize + 1],
    largest_of_level0: u64,
    /// The deepest level with tables.
    bottom: u8,
    /// Bytes of older versions that tombstones above the deepest level make useless, by the average.
    shadowed_bytes: u64,
}

impl<'a> Shape<'a> {
    fn new(version: &'a Version, keyspace: KeyspaceId) -> Self {
        let mut shape = Self {
            keyspace,
            tree: version.tree(keyspace),
            level0_tables: 0,
            bytes: [0; DEEPEST as usize + 1],
            space: [0; DEEPEST as usize + 1],
            largest_of_level0: 0,
            bottom: 0,
            shadowed_bytes: 0,
        };
        let mut tombstones = 0;
        for section in version.level0(keyspace).filter_map(|table| table.section(keyspace)) {
            shape.level0_tables += 1;
            let space = section_bytes(section).saturating_add(value_bytes(section));
            shape.bytes[0] += section_bytes(section);
            shape.space[0] = shape.space[0].saturating_add(space);
            shape.largest_of_level0 = shape.largest_of_level0.max(space);
            tombstones += section.tombstones;
        }
        for (level, tables) in shape.tree.iter().flat_map(|tree| tree.levels()).filter(|(_, t)| !t.is_empty()) {
            // Those of the level above are not above the deepest one any more when that is this one.
            let sections = || tables.iter().filter_map(|table| table.only_section());
            let bytes: u64 = tables.iter().map(|table| table.meta.file_bytes).sum();
            let entries: u64 = sections().map(|section| section.entries).sum();
            let space = sections().map(value_bytes).fold(bytes, u64::saturating_add);
            shape.bytes[usize::from(level)] = bytes;
            shape.space[usize::from(level)] = space;
            shape.bottom = level;
            shape.shadowed_bytes = (space / entries.max(1)).saturating_mul(tombstones).min(space);
            tombstones += sections().map(|section| section.tombstones).sum::<u64>();
        }
        shape
    }

    fn level_bytes(&self, level: u8) -> u64 {
        self.bytes.get(usize::from(level)).copied().unwrap_or(0)
    }

    fn tables(&self, level: u8) -> &'a [Arc<Table>] {
        self.tree.map_or(&[], |tree| tree.level(level))
    }

    /// Whether what is in level 0 is worth no tables of level 1: it is little, and so is what its tombstones hide.
    fn is_small(&self, limits: &Limits) -> bool {
        let worth = self.bytes[0].saturating_add(self.shadowed_bytes);
        self.level0_tables > 0 && worth < limits.small_bytes.max(self.bytes[1] / SMALL_SHARE)
    }

    /// How many times a level is over its limit: level 0 in tables, the others in bytes, the deepest one against what it may
    /// have before all levels move down.
    #[expect(clippy::cast_precision_loss, reason = "ratios")]
    fn score(&self, level: u8, limits: &Limits) -> f64 {
        let bytes = self.level_bytes(level) as f64;
        match level {
            0 => {
                let lazy = if self.bytes[0] >= 2 * self.bytes[1] { 1 } else { 2 };
                self.level0_tables as f64 / limits.level0_tables.saturating_mul(lazy) as f64
            }
            DEEPEST => 0.0,
            level if level < self.bottom => bytes / self.target(level, limits),
            level => bytes / (limits.level1_bytes as f64 * f64::from(limits.multiplier).powi(level.into())),
        }
    }

    /// What the keyspace may need, and how much.
    fn urgencies(&self, version: &Version, limits: &Limits) -> Vec<(Urgency, Action<'a>)> {
        let mut urgencies = Vec::new();
        let mut add = |reason, score, action| urgencies.push((Urgency::new(reason, score), action));
        if !self.is_small(limits) {
            add(CompactionReason::Level0Tables, self.score(0, limits), Action::Level0);
        }
        for level in 1..self.bottom {
            add(CompactionReason::LevelBytes, self.score(level, limits), Action::Level(level));
        }
        if self.bottom > 0 && self.score(self.bottom, limits) > 1.0 {
            add(CompactionReason::LevelsFull, self.score(self.bottom, limits), Action::Deepen(self.bottom));
        }
        let mut add_due = |reason, action: Option<Action<'a>>| {
            if let Some(action) = action {
                add(reason, 1.0, action);
            }
        };
        add_due(CompactionReason::Calm, self.when_calm(limits));
        add_due(CompactionReason::Tombstones, self.garbage(limits));
        add_due(CompactionReason::SmallTables, self.small_neighbours(limits));
        add_due(CompactionReason::Readers, self.is_paid(version, limits).then_some(Action::Level0));
        urgencies
    }

    /// The size of a level above the deepest one: equal ratios from `level1_bytes` to the size that the deepest one has.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn target(&self, level: u8, limits: &Limits) -> f64 {
        let unit = limits.level1_bytes as f64;
        let depth = self.level_bytes(self.bottom) as f64 / unit;
        unit * depth.max(1.0).powf(f64::from(level) / f64::from(self.bottom))
    }

    /// What to do if nothing else is to be done and the deepest level is not as many times as large as those above it together
    /// as one level may be as the next one. That bounds the space that old versions take, which is what they may have of the
    /// same keys, and what is calm is read as one level, mostly: of 500,000 entries of 16 + 100 bytes, a seek and ten entries
    /// take 0.8 us in one table, and 1.2 us in two of which one has an eighth of them.
    fn when_calm(&self, limits: &Limits) -> Option<Action<'a>> {
        let space = |level: u8| self.space.get(usize::from(level)).copied().unwrap_or(0);
        let total = self.space.iter().copied().fold(0, u64::saturating_add);
        let deepest = if self.bottom > 0 { space(self.bottom) } else { self.largest_of_level0 };
        let above = total - deepest;
        let base = deepest.max(self.largest_of_level0);
        if !limits.calm || above.saturating_add(self.shadowed_bytes).saturating_mul(limits.multiplier.into()) <= base {
            return None;
        }
        let level = (0..self.bottom.max(1)).max_by_key(|level| space(*level))?;
        let worth = space(0).saturating_add(self.shadowed_bytes);
        let is_small = worth < limits.small_bytes.max(space(1) / SMALL_SHARE);
        match level {
            0 if is_small || self.level0_tables == 0 => None,
            0 => Some(Action::Level0),
            _ => Some(Action::Level(level)),
        }
    }

    /// Whether readers have paid as much for what is in level 0 as it costs to merge it away: see [`Paid`](crate::merge::Paid).
    fn is_paid(&self, version: &Version, limits: &Limits) -> bool {
        let sources = self.level0_tables + usize::from(self.bottom > 0);
        let paid = limits.paid.by(self.keyspace);
        let is_enough = |bytes: u64| paid >= bytes.saturating_add(COMPACTION_BYTES);
        self.level0_tables > 0
            && sources > 1
            && is_enough(self.bytes[0])
            && is_enough(self.plan_level0(version).input_bytes())
    }

    /// A table with many tombstones and old versions, all of which a rewrite can drop.
    fn garbage(&self, limits: &Limits) -> Option<Action<'a>> {
        let is_garbage = |table: &&Arc<Table>| {
            table.only_section().is_some_and(|section| {
                let older = section.entries - section.keys.min(section.entries);
                let useless = older.saturating_add(section.tombstones).saturating_add(section.range_tombstones);
                useless > 0
                    && useless.saturating_mul(GARBAGE_SHARE) >= section.entries
                    && section.max_sequence <= limits.seen_by_all
            })
        };
        (1..=self.bottom).find_map(|level| Some(Action::Clean(level, self.tables(level).iter().find(is_garbage)?)))
    }

    /// Small tables that stand side by side, as loads of a few entries leave them.
    fn small_neighbours(&self, limits: &Limits) -> Option<Action<'a>> {
        let is_small = |table: &Arc<Table>| table.meta.file_bytes < limits.table_bytes / JOINED as u64;
        (1..=self.bottom).find_map(|level| {
            let mut runs = self.tables(level).chunk_by(|a, b| is_small(a) && is_small(b));
            runs.find(|run| run.len() >= JOINED).map(|run| Action::Join(level, &run[..JOINED]))
        })
    }

    /// The plan for an action, if it may run now.
    fn plan(&self, version: &Version, action: Action<'_>, running: &Running) -> Option<Plan> {
        let allowed = |plan: Plan| running.allows(&plan).then_some(plan);
        match action {
            Action::Level0 => allowed(self.plan_level0(version)),
            Action::Level(level) => {
                let mut tables: Vec<&Arc<Table>> = self.tables(level).iter().collect();
                tables.sort_by(|a, b| self.cost(level, a).total_cmp(&self.cost(level, b)));
                tables.into_iter().find_map(|table| allowed(self.plan_table(version, level, table)))
            }
            Action::Deepen(level) => {
                let inputs = self.tables(level).iter().map(|table| (level, Arc::clone(table))).collect();
                allowed(Plan::new(version, self.keyspace, inputs, level + 1))
            }
            Action::Clean(level, table) => allowed(self.plan_cleaning(version, level, table)),
            Action::Join(level, tables) => {
                let inputs = tables.iter().map(|table| (level, Arc::clone(table))).collect();
                allowed(Plan::new(version, self.keyspace, inputs, level))
            }
        }
    }

    fn plan_level0(&self, version: &Version) -> Plan {
        let level0 = || version.level0(self.keyspace);
        let mut inputs: Vec<(u8, Arc<Table>)> = level0().map(|table| (0, Arc::clone(table))).collect();
        if let Some(range) = range_of(self.keyspace, level0()) {
            inputs.extend(overlapping(self.tables(1), range).into_iter().map(|table| (1, Arc::clone(table))));
        }
        Plan::new(version, self.keyspace, inputs, 1)
    }

    /// The tables of the next level that a table drags along.
    fn below(&self, level: u8, table: &Arc<Table>) -> Vec<&'a Arc<Table>> {
        let range: Option<Range<'_>> = range_of(self.keyspace, std::iter::once(table));
        range.map(|range| overlapping(self.tables(level + 1), range)).unwrap_or_default()
    }

    /// Bytes dragged along for each byte that goes down.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn cost(&self, level: u8, table: &Arc<Table>) -> f64 {
        let dragged: u64 = self.below(level, table).iter().map(|other| other.meta.file_bytes).sum();
        dragged as f64 / table.meta.file_bytes.max(1) as f64
    }

    fn plan_table(&self, version: &Version, level: u8, table: &Arc<Table>) -> Plan {
        let mut inputs = vec![(level, Arc::clone(table))];
        inputs.extend(self.below(level, table).into_iter().map(|other| (level + 1, Arc::clone(other))));
        Plan::new(version, self.keyspace, inputs, level + 1)
    }

    /// Where nothing older is below, a table is rewritten in its place; else its tombstones go down.
    fn plan_cleaning(&self, version: &Version, level: u8, table: &Arc<Table>) -> Plan {
        let in_place = Plan::new(version, self.keyspace, vec![(level, Arc::clone(table))], level);
        if in_place.shares.iter().all(|share| share.bottom) { in_place } else { self.plan_table(version, level, table) }
    }
}

/// Merges tables of level 0 for keyspaces that have little in them: newest tables first, and no table that is much larger
/// than all newer ones together, so that each byte is rewritten a logarithmic number of times.
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn merge_small(version: &Version, small: &[KeyspaceId], limits: &Limits) -> Option<(Urgency, Plan)> {
    let bytes_in = |table: &Arc<Table>| -> u64 {
        small.iter().filter_map(|keyspace| table.section(*keyspace)).map(section_bytes).sum()
    };
    let serves = |table: &&Arc<Table>| small.iter().any(|keyspace| version.serves(table, *keyspace));
    let tables: Vec<&Arc<Table>> = version.level0_tables().filter(serves).collect();
    let total: u64 = tables.iter().map(|table| bytes_in(table)).sum();
    let largest = tables.iter().map(|table| bytes_in(table)).max()?;
    let is_calm = limits.calm && (total - largest).saturating_mul(limits.multiplier.into()) > largest;
    if tables.len() < 2 || (tables.len() < limits.level0_tables && !is_calm) {
        return None;
    }
    let mut sum = 0u64;
    let taken = tables.iter().enumerate().take_while(|(at, table)| {
        let bytes = bytes_in(table);
        let take = *at < 2.max(limits.level0_tables / 2) || bytes <= sum.saturating_mul(TIER_RATIO);
        sum += bytes;
        take
    });
    let taken: Vec<&Arc<Table>> = taken.map(|(_, table)| *table).collect();
    let plan = Plan::within_level0(version, small, &taken);
    let score = (tables.len() as f64 / limits.level0_tables as f64).max(1.0);
    (!plan.shares.is_empty()).then_some((Urgency::new(CompactionReason::SmallKeyspaces, score), plan))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::tests::{apply, meta, version};
    use super::*;
    use crate::format::edit::{Edit, TableMeta};
    use crate::format::{FileNumber, Sequence};
    use crate::merge::Paid;

    const LIMITS: Limits = Limits {
        level0_tables: 2,
        level1_bytes: 100,
        multiplier: 10,
        table_bytes: 40,
        small_bytes: 20,
        calm: false,
        paid: Paid::NOTHING,
        seen_by_all: Sequence(u64::MAX),
    };
    const CALM: Limits = Limits { calm: true, ..LIMITS };

    /// Inputs as (level, number), output level, whether it is the bottom, whether it is a move.
    type Numbers = (Vec<(u8, u64)>, u8, bool, bool);

    fn pick(version: &Version, limits: &Limits) -> Option<Numbers> {
        super::pick(version, limits, &Running::default()).map(|plan| {
            let inputs = plan.inputs().map(|(level, table, _)| (level, table.number().0)).collect();
            (inputs, plan.output, plan.shares.iter().all(|share| share.bottom), plan.is_move())
        })
    }

    #[test]
    fn nothing_to_do_within_limits() {
        let busy =
            version(&[(0, 9, &[(0, "a", "z")], 50), (1, 4, &[(0, "a", "m")], 50), (2, 1, &[(0, "a", "z")], 9999)]);
        assert_eq!(pick(&busy, &LIMITS), None);
        assert_eq!(pick(&busy, &CALM), None);
        assert_eq!(pick(&Version::default(), &CALM), None);
    }

    #[test]
    fn level0_goes_once_readers_have_paid_as_much() {
        let two = version(&[(0, 9, &[(0, "a", "z")], 2000), (0, 8, &[(0, "a", "z")], 3000)]);
        let on_level = version(&[
            (0, 9, &[(0, "a", "c"), (1, "a", "c")], 10),
            (1, 4, &[(0, "a", "b")], 2000),
            (1, 5, &[(0, "x", "z")], 5000),
        ]);
        let limits = Limits { level0_tables: 4, level1_bytes: 100_000, small_bytes: 100, ..LIMITS };
        let paid = |bytes, keyspace| Limits { paid: Paid::bytes(KeyspaceId(keyspace), bytes), ..limits };
        let cost = COMPACTION_BYTES + 5000;
        assert_eq!(pick(&two, &paid(cost - 48, 0)), None);
        assert_eq!(pick(&two, &paid(cost, 0)), Some((vec![(0, 9), (0, 8)], 1, true, false)));
        // What is small goes as well, with what it overlaps, for the keyspace whose readers have paid.
        let cost = COMPACTION_BYTES + 2010;
        assert_eq!(pick(&on_level, &paid(cost - 48, 0)), None);
        assert_eq!(pick(&on_level, &paid(cost, 0)), Some((vec![(0, 9), (1, 4)], 1, true, false)));
        assert_eq!(pick(&on_level, &paid(cost, 1)), None);
        // One table is all that there can be.
        let one = version(&[(0, 9, &[(0, "a", "z")], 5000)]);
        assert_eq!(pick(&one, &paid(u64::MAX / 64, 0)), None);
    }

    #[test]
    fn level0_goes_as_a_whole_with_what_it_overlaps() {
        let busy = version(&[
            (0, 9, &[(0, "c", "d")], 50),
            (0, 8, &[(0, "a", "b"), (1, "x", "y")], 50),
            (1, 4, &[(0, "b", "c")], 10),
            (1, 5, &[(0, "x", "z")], 10),
            (2, 2, &[(0, "x", "z")], 1000),
        ]);
        assert_eq!(pick(&busy, &LIMITS), Some((vec![(0, 9), (0, 8), (1, 4)], 1, true, false)));
    }

    #[test]
    fn a_large_level_1_makes_level_0_wait() {
        let table = |number| (0, number, &[(0, "a", "z")][..], 50);
        let below = (1, 1, &[(0, "a", "z")][..], 300);
        let shape = |tables: u64| {
            let mut shape: Vec<_> = (2..2 + tables).map(table).collect();
            shape.push(below);
            version(&shape)
        };
        assert_eq!(pick(&shape(3), &LIMITS), None);
        assert_eq!(pick(&shape(4), &LIMITS).unwrap().0.len(), 5);
        let quarter = Limits { multiplier: 4, ..CALM };
        assert_eq!(pick(&shape(1), &quarter), None, "one sixth of level 1");
        assert_eq!(pick(&shape(2), &quarter).unwrap().0.len(), 3, "a third of level 1");
        assert_eq!(pick(&shape(1), &CALM).unwrap().0.len(), 2, "more than a tenth of level 1");
    }

    #[test]
    fn tables_that_do_not_overlap_move() {
        let sorted =
            version(&[(0, 9, &[(0, "e", "f")], 50), (0, 8, &[(0, "a", "b")], 50), (1, 1, &[(0, "x", "z")], 9)]);
        assert_eq!(pick(&sorted, &LIMITS), Some((vec![(0, 9), (0, 8)], 1, true, true)));
    }

    #[test]
    fn a_full_level_gives_its_cheapest_table() {
        let full = version(&[
            (1, 4, &[(0, "a", "c")], 400),
            (1, 5, &[(0, "e", "g")], 400),
            (2, 2, &[(0, "a", "d")], 3000),
            (2, 3, &[(0, "f", "h")], 1000),
        ]);
        assert_eq!(pick(&full, &LIMITS), Some((vec![(1, 5), (2, 3)], 2, true, false)));
        let free =
            version(&[(1, 4, &[(0, "a", "c")], 400), (1, 5, &[(0, "e", "g")], 400), (2, 2, &[(0, "a", "d")], 3000)]);
        assert_eq!(pick(&free, &LIMITS), Some((vec![(1, 5)], 2, true, true)));
    }

    #[test]
    fn the_only_level_becomes_deeper_when_it_is_large() {
        let tables = |bytes| version(&[(1, 4, &[(0, "a", "c")], bytes), (1, 5, &[(0, "e", "g")], bytes)]);
        assert_eq!(pick(&tables(500), &CALM), None);
        assert_eq!(pick(&tables(501), &LIMITS), Some((vec![(1, 4), (1, 5)], 2, true, true)));
    }

    #[test]
    fn small_shares_of_level_0_are_merged_in_it() {
        let shape = version(&[
            (0, 9, &[(0, "a", "z"), (1, "a", "b"), (2, "a", "b")], 9),
            (0, 8, &[(1, "c", "d")], 9),
            (0, 7, &[(1, "a", "d"), (2, "x", "y")], 9),
            (1, 1, &[(2, "x", "z")], 10),
        ]);
        let limits = Limits { small_bytes: 40, ..LIMITS };
        let plan = super::pick(&shape, &limits, &Running::default()).unwrap();
        let shares: Vec<_> = plan.shares.iter().map(|s| (s.keyspace.0, s.inputs.len(), s.bottom)).collect();
        assert_eq!((shares, plan.output), (vec![(0, 1, true), (1, 3, true), (2, 2, false)], 0));
    }

    #[test]
    fn garbage_is_rewritten_where_nothing_is_below_it_once_nobody_sees_it() {
        let mut table = meta(5, &[(0, "a", "c")], 50);
        (table.sections[0].entries, table.sections[0].keys) = (8, 6);
        let edit = Edit { add: vec![(1, table), (1, meta(4, &[(0, "m", "p")], 50))], ..Edit::default() };
        let alone = apply(&Version::default(), &edit).unwrap();
        assert_eq!(pick(&alone, &LIMITS), Some((vec![(1, 5)], 1, true, false)));
        assert_eq!(pick(&alone, &Limits { seen_by_all: Sequence(4), ..LIMITS }), None);
        let edit = Edit { add: vec![(2, meta(3, &[(0, "b", "z")], 500))], ..Edit::default() };
        let above = apply(&alone, &edit).unwrap();
        assert_eq!(pick(&above, &LIMITS), Some((vec![(1, 5), (2, 3)], 2, true, false)));
    }

    #[test]
    fn what_is_due_says_why_the_most_urgent_first() {
        let full = version(&[
            (0, 9, &[(0, "a", "z")], 50),
            (0, 8, &[(0, "a", "z")], 50),
            (0, 7, &[(0, "a", "z")], 50),
            (1, 4, &[(0, "a", "m")], 150),
            (2, 1, &[(0, "a", "z")], 12_000),
        ]);
        let reasons = |limits: &Limits| -> Vec<(CompactionReason, u8)> {
            due(&full, limits).iter().map(|plan| (plan.urgency.reason, plan.output)).collect()
        };
        let scores = scores(&full, KeyspaceId(0), &LIMITS);
        assert_eq!(scores, [0.75, 150.0 / (100.0 * 120_f64.sqrt()), 1.2]);
        assert_eq!(reasons(&LIMITS), [(CompactionReason::LevelsFull, 3)]);
        let narrow = Limits { level0_tables: 1, ..LIMITS };
        assert_eq!(reasons(&narrow), [(CompactionReason::LevelsFull, 3), (CompactionReason::Level0Tables, 1)]);
        let calm = Limits { level1_bytes: 1000, multiplier: 100, small_bytes: 0, ..CALM };
        assert_eq!(reasons(&calm), [(CompactionReason::Calm, 2)]);
    }

    #[test]
    fn small_neighbours_are_joined_eight_at_a_time() {
        let bounds: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
        let on_level = |sizes: &[u64]| {
            let table = |(number, bytes): (usize, &u64)| {
                (1, meta(number as u64 + 1, &[(0, &bounds[number], &bounds[number])], *bytes))
            };
            let add = sizes.iter().enumerate().map(table).collect();
            apply(&Version::default(), &Edit { add, ..Edit::default() }).unwrap()
        };
        let limits = Limits { level1_bytes: 100_000, ..LIMITS };
        let joined = |numbers: std::ops::RangeInclusive<u64>| Some((numbers.map(|n| (1, n)).collect(), 1, true, false));
        assert_eq!(pick(&on_level(&[4; 7]), &limits), None);
        assert_eq!(pick(&on_level(&[4; 8]), &limits), joined(1..=8));
        assert_eq!(pick(&on_level(&[4; 19]), &limits), joined(1..=8));
        assert_eq!(pick(&on_level(&[4, 4, 4, 4, 5, 4, 4, 4, 4]), &limits), None, "one between them is large enough");
        assert_eq!(pick(&on_level(&[40, 4, 4, 4, 4, 4, 4, 4, 4, 40]), &limits), joined(2..=9));
    }

    #[test]
    fn a_few_tombstones_that_hide_much_are_not_small() {
        let on_two_levels = |tombstones| {
            let [mut above, mut below] =
                [(9, 20), (1, 300)].map(|(number, bytes)| meta(number, &[(0, "a", "z")], bytes));
            (above.sections[0].entries, above.sections[0].keys) = (20, 20);
            above.sections[0].tombstones = tombstones;
            (below.sections[0].entries, below.sections[0].keys) = (100, 100);
            apply(&Version::default(), &Edit { add: vec![(0, above), (1, below)], ..Edit::default() }).unwrap()
        };
        assert_eq!(pick(&on_two_levels(0), &CALM), None);
        assert_eq!(pick(&on_two_levels(20), &CALM), Some((vec![(0, 9), (1, 1)], 1, true, false)));
        assert_eq!(pick(&on_two_levels(20), &LIMITS), None, "one table, while it is busy");
    }

    /// A store whose tables are sets of numbers; everything takes its size in entries.
    struct Simulation {
        version: Version,
        limits: Limits,
        table_entries: usize,
        contents: BTreeMap<u64, BTreeSet<u32>>,
        next: u64,
        put: usize,
        compacted: usize,
        /// How much of that was before the last settling.
        compacted_busy: usize,
        most_in_level0: usize,
    }

    impl Simulation {
        fn new(flush: u64, limits: Limits) -> Self {
            Self {
                version: Version::default(),
                limits,
                table_entries: usize::try_from(flush).unwrap(),
                contents: BTreeMap::new(),
                next: 1,
                put: 0,
                compacted: 0,
                compacted_busy: 0,
                most_in_level0: 0,
            }
        }

        fn add(&mut self, keys: BTreeSet<u32>) -> TableMeta {
            let (first, last) = (keys.first().unwrap(), keys.last().unwrap());
            let key = |key: &u32| format!("{key:08}");
            let mut table = meta(self.next, &[(0, &key(first), &key(last))], keys.len() as u64);
            table.sections[0].entries = keys.len() as u64;
            table.sections[0].keys = keys.len() as u64;
            self.contents.insert(self.next, keys);
            self.next += 1;
            table
        }

        fn put_all(&mut self, keys: impl Iterator<Item = u32>) {
            let mut memtable = BTreeSet::new();
            for key in keys {
                memtable.insert(key);
                self.put += 1;
                if memtable.len() == self.table_entries {
                    let table = self.add(std::mem::take(&mut memtable));
                    let edit = Edit { add: vec![(0, table)], ..Edit::default() };
                    self.version = apply(&self.version, &edit).unwrap();
                    self.most_in_level0 = self.most_in_level0.max(self.version.level0_len());
                    self.settle(self.limits.calm);
                }
            }
        }

        fn settle(&mut self, calm: bool) {
            let mut plans = 0;
            while let Some(plan) = super::pick(&self.version, &Limits { calm, ..self.limits }, &Running::default()) {
                plans += 1;
                assert!(plans < 10_000, "there is no end to it: {plan:?}");
                self.run(&plan);
            }
        }

        fn run(&mut self, plan: &Plan) {
            let mut edit = Edit::default();
            if plan.is_move() {
                edit.moves = plan.inputs().map(|(_, table, _)| (table.number(), plan.output)).collect();
            } else {
                let mut merged = BTreeSet::new();
                for (level, table, keyspace) in plan.inputs() {
                    merged.extend(self.contents.remove(&table.number().0).unwrap());
                    match level {
                        0 => edit.consume.push((FileNumber(table.number().0), keyspace)),
                        _ => edit.remove.push(table.number()),
                    }
                }
                self.compacted += merged.len();
                let merged: Vec<u32> = merged.into_iter().collect();
                // What stays in level 0 is one table.
                let most = if plan.output == 0 { usize::MAX } else { self.table_entries };
                for keys in merged.chunks(most) {
                    let table = self.add(keys.iter().copied().collect());
                    edit.add.push((plan.output, table));
                }
            }
            self.version = apply(&self.version, &edit).unwrap();
        }

        fn entries(&self) -> usize {
            self.contents.values().map(BTreeSet::len).sum()
        }

        /// Entries written by compaction for each one put, before the last settling and with it.
        #[expect(clippy::cast_precision_loss, reason = "ratios")]
        fn amplifications(&self) -> [f64; 2] {
            [self.compacted_busy, self.compacted].map(|compacted| compacted as f64 / self.put as f64)
        }
    }

    fn shuffled(entries: u32, seed: u32) -> impl Iterator<Item = u32> {
        let span = entries.next_power_of_two();
        let step = seed.wrapping_mul(2_654_435_761) | 1;
        (0..span).map(move |at| at.wrapping_mul(step).wrapping_add(seed) & (span - 1)).filter(move |key| *key < entries)
    }

    /// `flushes` memtables fill the store once; then each entry is overwritten `rounds` times. It is calm at the end, or after
    /// each flush.
    fn simulate(flushes: u32, rounds: u32, calm: bool) -> Simulation {
        const FLUSH: u32 = 1000;
        let limits = Limits {
            level0_tables: 8,
            level1_bytes: 5 * u64::from(FLUSH),
            multiplier: 10,
            table_bytes: FLUSH.into(),
            small_bytes: 20,
            calm,
            paid: Paid::NOTHING,
            seen_by_all: Sequence(0),
        };
        let mut simulation = Simulation::new(u64::from(FLUSH), limits);
        for round in 0..=rounds {
            simulation.put_all(shuffled(flushes * FLUSH, round * 7919 + 1));
        }
        simulation.compacted_busy = simulation.compacted;
        simulation.settle(true);
        let live = (flushes * FLUSH) as usize;
        assert!(simulation.most_in_level0 <= 16, "{}", simulation.most_in_level0);
        assert!(simulation.entries() * 10 <= live * 11, "{} of {live}", simulation.entries());
        simulation
    }

    #[test]
    fn small_stores_are_rewritten_about_once_for_each_put() {
        for flushes in [3, 8, 11, 12, 13, 16, 20] {
            let simulation = simulate(flushes, 1, false);
            let [busy, settled] = simulation.amplifications();
            eprintln!("{flushes} flushes, overwritten once: {busy:.2}, settled {settled:.2}");
            assert!(busy <= 1.25 && settled <= 1.5, "{flushes} flushes: {busy:.2}, settled {settled:.2}");
            assert!(simulation.version.tables().all(|(level, _)| level <= 1));
        }
    }

    #[test]
    fn what_is_calm_all_the_time_is_rewritten_as_by_one_level_more() {
        for (flushes, rounds) in [(13, 3), (40, 3), (120, 1)] {
            let [_, amplification] = simulate(flushes, rounds, true).amplifications();
            eprintln!("{flushes} flushes, overwritten {rounds} times, calm after each: {amplification:.2}");
            assert!(amplification <= 13.0, "{flushes} flushes: {amplification:.2}");
        }
    }

    #[test]
    fn amplification_grows_with_the_logarithm_of_the_data() {
        for (flushes, most) in [(40, 3.5), (120, 7.0)] {
            let [_, amplification] = simulate(flushes, 3, false).amplifications();
            eprintln!("{flushes} flushes, overwritten three times: {amplification:.2}");
            assert!(amplification <= most, "{flushes} flushes: {amplification:.2}");
        }
    }
}
