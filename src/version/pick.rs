//! Picking the next compaction: a pure function of the version.

use std::sync::Arc;

use super::Version;
use crate::format::KeyspaceId;
use crate::format::edit::LEVELS;
use crate::format::range::Range;
use crate::format::table::Section;
use crate::table::Table;

const DEEPEST: u8 = LEVELS - 1;

/// How large levels may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) level0_tables: usize,
    pub(crate) level1_bytes: u64,
    pub(crate) multiplier: u32,
}

impl Limits {
    fn level_bytes(&self, level: u8) -> u64 {
        (1..level).fold(self.level1_bytes, |bytes, _| bytes.saturating_mul(u64::from(self.multiplier)))
    }
}

/// A compaction: these tables of one keyspace become tables of level `output`.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) keyspace: KeyspaceId,
    /// Level and table, newest data first.
    pub(crate) inputs: Vec<(u8, Arc<Table>)>,
    pub(crate) output: u8,
    /// Whether no deeper level has data in the range, so that nothing older than the inputs remains.
    pub(crate) bottom: bool,
}

impl Plan {
    fn new(version: &Version, keyspace: KeyspaceId, inputs: Vec<(u8, Arc<Table>)>, output: u8) -> Self {
        let range = range_of(keyspace, inputs.iter().map(|(_, table)| table));
        let bottom = version.tree(keyspace).is_none_or(|tree| {
            (output + 1..=DEEPEST)
                .all(|level| range.is_none_or(|range| overlapping(tree.level(level), range).is_empty()))
        });
        Self { keyspace, inputs, output, bottom }
    }

    /// Whether the one input can go to its new level as it is.
    pub(crate) fn is_move(&self) -> bool {
        matches!(&self.inputs[..], [(level, table)] if *level < self.output && table.meta.sections.len() == 1)
    }

    pub(crate) fn input_bytes(&self) -> u64 {
        self.inputs.iter().map(|(_, table)| table.meta.file_bytes).sum()
    }
}

/// Range tombstones count as well as keys.
fn overlaps(section: &Section, (lower, upper): Range<'_>) -> bool {
    section.lower.as_ref() < upper && lower < section.upper.as_ref()
}

/// The tables of a level with keys in a range.
fn overlapping<'a>(tables: &'a [Arc<Table>], range: Range<'_>) -> Vec<&'a Arc<Table>> {
    tables.iter().filter(|table| table.only_section().is_some_and(|section| overlaps(section, range))).collect()
}

/// The smallest range with everything of a keyspace in `tables`.
fn range_of<'a>(keyspace: KeyspaceId, tables: impl Iterator<Item = &'a Arc<Table>>) -> Option<Range<'a>> {
    tables.filter_map(|table| table.section(keyspace)).fold(None, |range: Option<Range<'a>>, section| {
        let (lower, upper) = (section.lower.as_ref(), section.upper.as_ref());
        Some(range.map_or((lower, upper), |(low, high)| (low.min(lower), high.max(upper))))
    })
}

fn total_bytes(tables: &[Arc<Table>]) -> u64 {
    tables.iter().map(|table| table.meta.file_bytes).sum()
}

/// The most urgent compaction, if any level is over its limit.
///
/// Level 0 is urgent by its number of tables, the others by their size; the level that is the most times over its limit
/// comes first. Level 0 is compacted as a whole. Of a deeper level, the table is taken that drags the least data of the next
/// level along for its size; if that is none, it moves.
pub(crate) fn pick(version: &Version, limits: &Limits) -> Option<Plan> {
    let mut best: Option<(f64, KeyspaceId, u8)> = None;
    for keyspace in version.keyspaces() {
        for (urgency, level) in urgencies(version, keyspace, limits) {
            if urgency >= 1.0 && best.is_none_or(|(most, ..)| urgency > most) {
                best = Some((urgency, keyspace, level));
            }
        }
    }
    let (_, keyspace, level) = best?;
    Some(if level == 0 { plan_level0(version, keyspace) } else { plan_level(version, keyspace, level)? })
}

/// How many times each level is over its limit.
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn urgencies(version: &Version, keyspace: KeyspaceId, limits: &Limits) -> Vec<(f64, u8)> {
    let count = version.level0(keyspace).count();
    let mut urgencies = vec![(count as f64 / limits.level0_tables as f64, 0)];
    if let Some(tree) = version.tree(keyspace) {
        for (level, tables) in tree.levels().filter(|(level, _)| *level < DEEPEST) {
            urgencies.push((total_bytes(tables) as f64 / limits.level_bytes(level) as f64, level));
        }
    }
    urgencies
}

fn plan_level0(version: &Version, keyspace: KeyspaceId) -> Plan {
    let mut inputs: Vec<(u8, Arc<Table>)> = version.level0(keyspace).map(|table| (0, Arc::clone(table))).collect();
    let range = range_of(keyspace, version.level0(keyspace));
    if let (Some(tree), Some(range)) = (version.tree(keyspace), range) {
        inputs.extend(overlapping(tree.level(1), range).into_iter().map(|table| (1, Arc::clone(table))));
    }
    Plan::new(version, keyspace, inputs, 1)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn plan_level(version: &Version, keyspace: KeyspaceId, level: u8) -> Option<Plan> {
    let tree = version.tree(keyspace)?;
    let below = |table: &Arc<Table>| {
        let range = range_of(keyspace, std::iter::once(table));
        range.map(|range| overlapping(tree.level(level + 1), range)).unwrap_or_default()
    };
    let cost = |table: &Arc<Table>| {
        let dragged: u64 = below(table).iter().map(|other| other.meta.file_bytes).sum();
        dragged as f64 / table.meta.file_bytes.max(1) as f64
    };
    let table = tree.level(level).iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    let mut inputs = vec![(level, Arc::clone(table))];
    inputs.extend(below(table).into_iter().map(|other| (level + 1, Arc::clone(other))));
    Some(Plan::new(version, keyspace, inputs, level + 1))
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
    use crate::format::range::Edge;

    const LIMITS: Limits = Limits { level0_tables: 2, level1_bytes: 100, multiplier: 10 };

    /// Inputs as (level, number), output level, whether it is the bottom, whether it is a move.
    type Numbers = (Vec<(u8, u64)>, u8, bool, bool);

    fn numbers(plan: Option<Plan>) -> Option<Numbers> {
        plan.map(|plan| {
            let inputs = plan.inputs.iter().map(|(level, table)| (*level, table.number().0)).collect();
            (inputs, plan.output, plan.bottom, plan.is_move())
        })
    }

    #[test]
    fn nothing_to_do_within_limits() {
        let calm =
            version(&[(0, 9, &[(0, "a", "z")], 50), (1, 4, &[(0, "a", "m")], 100 - 1), (6, 1, &[(0, "a", "z")], 9999)]);
        assert_eq!(numbers(pick(&calm, &LIMITS)), None);
        assert_eq!(numbers(pick(&Version::default(), &LIMITS)), None);
    }

    #[test]
    fn level0_goes_as_a_whole_with_what_it_overlaps() {
        let busy = version(&[
            (0, 9, &[(0, "c", "d")], 50),
            (0, 8, &[(0, "a", "b"), (1, "x", "y")], 50),
            (1, 4, &[(0, "b", "c")], 10),
            (1, 5, &[(0, "x", "z")], 10),
            (2, 2, &[(0, "x", "z")], 10),
        ]);
        assert_eq!(numbers(pick(&busy, &LIMITS)), Some((vec![(0, 9), (0, 8), (1, 4)], 1, true, false)));
    }

    #[test]
    fn a_full_level_gives_its_cheapest_table() {
        let full = version(&[
            (1, 4, &[(0, "a", "c")], 60),
            (1, 5, &[(0, "e", "g")], 60),
            (2, 2, &[(0, "a", "d")], 300),
            (2, 3, &[(0, "f", "h")], 100),
            (3, 1, &[(0, "h", "h")], 100),
        ]);
        assert_eq!(numbers(pick(&full, &LIMITS)), Some((vec![(1, 5), (2, 3)], 2, false, false)));
        let free =
            version(&[(1, 4, &[(0, "a", "c")], 60), (1, 5, &[(0, "e", "g")], 60), (2, 2, &[(0, "a", "d")], 300)]);
        assert_eq!(numbers(pick(&free, &LIMITS)), Some((vec![(1, 5)], 2, true, true)));
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
        let plan = plan_range(&tables, KeyspaceId(0), keys("a", "a"));
        assert_eq!(numbers(plan), Some((vec![(1, 4), (1, 5), (2, 2)], 2, true, false)));
        assert_eq!(numbers(plan_range(&tables, KeyspaceId(0), (Edge::START, Edge::End))).unwrap().0.len(), 4);
        assert_eq!(numbers(plan_range(&tables, KeyspaceId(0), keys("x", "y"))), None);
        assert_eq!(numbers(plan_range(&tables, KeyspaceId(1), (Edge::START, Edge::End))), None);
    }
}
