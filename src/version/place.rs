//! Where new tables go that hold the newest versions of their keys.

use super::pick::{DEEPEST, Plan, Running, Share};
use super::{Tree, Version};
use crate::format::KeyspaceId;
use crate::format::range::Range;
use crate::format::section::Section;

/// The deepest level on which tables with these ranges (in order, apart from each other) neither overlap what is there nor
/// have older data above them; no deeper than the keyspace's data reaches, since a level that is reached by a few tables
/// alone makes all those above it cost more. Such tables need not be rewritten until something overlaps them. Else 0.
///
/// Levels that a running compaction may write to in between are left alone. O(n log m) for n tables and m ranges.
pub(crate) fn level_for(version: &Version, keyspace: KeyspaceId, ranges: &[Range<'_>], running: &Running) -> u8 {
    let (Some((lower, _)), Some((_, upper))) = (ranges.first(), ranges.last()) else { return 0 };
    let is_free = |section: &Section| {
        let behind = ranges.partition_point(|(_, upper)| *upper <= section.lower.as_ref());
        ranges.get(behind).is_none_or(|(lower, _)| section.upper.as_ref() <= *lower)
    };
    if !version.level0(keyspace).filter_map(|table| table.section(keyspace)).all(is_free) {
        return 0;
    }
    let tree = version.tree(keyspace);
    let bottom = tree.and_then(|tree| tree.levels().rfind(|(_, tables)| !tables.is_empty()));
    let deepest = bottom.map_or(1, |(level, _)| level).min(DEEPEST);
    let tables = |level| tree.map_or(&[][..], |tree: &Tree| tree.level(level));
    let overlapped =
        (1..=deepest).find(|level| !tables(*level).iter().filter_map(|table| table.only_section()).all(is_free));
    let undisturbed = |level: &u8| {
        let range = (lower.to_owned(), upper.to_owned());
        let share = Share { keyspace, inputs: Vec::new(), newer: Vec::new(), bottom: false, range };
        running.allows(&Plan::of(version, vec![share], *level))
    };
    (1..overlapped.unwrap_or(deepest + 1)).rev().find(undisturbed).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::version;
    use super::*;
    use crate::format::range::Edge;

    fn level(version: &Version, running: &Running, ranges: &[(&'static str, &'static str)]) -> u8 {
        let edge = |(first, last): &(&'static str, &'static str)| {
            (Edge::Before(first.as_bytes()), Edge::After(last.as_bytes()))
        };
        let ranges: Vec<Range<'_>> = ranges.iter().map(edge).collect();
        level_for(version, KeyspaceId(0), &ranges, running)
    }

    #[test]
    fn tables_go_as_deep_as_nothing_is_in_their_way() {
        let idle = Running::default();
        assert_eq!(level(&Version::default(), &idle, &[("a", "b")]), 1);
        let tables = version(&[
            (0, 9, &[(0, "a", "c"), (1, "a", "z")], 10),
            (1, 4, &[(0, "e", "g")], 10),
            (3, 5, &[(0, "i", "k")], 10),
            (3, 6, &[(0, "o", "q")], 10),
        ]);
        let cases: [(&[(&str, &str)], u8); 9] = [
            (&[("b", "b")], 0),
            (&[("c", "d")], 0),
            (&[("d", "d")], 3),
            (&[("g", "h")], 0),
            (&[("d", "h")], 0),
            (&[("d", "d"), ("h", "h")], 3),
            (&[("k", "k")], 2),
            (&[("l", "n"), ("r", "z")], 3),
            (&[("l", "p")], 2),
        ];
        for (ranges, expected) in cases {
            assert_eq!(level(&tables, &idle, ranges), expected, "{ranges:?}");
        }
    }

    #[test]
    fn levels_that_a_compaction_writes_to_are_left_alone() {
        let tables = version(&[
            (1, 4, &[(0, "a", "c")], 10),
            (1, 5, &[(0, "m", "p")], 10),
            (2, 2, &[(0, "a", "d")], 10),
            (2, 3, &[(0, "x", "z")], 10),
            (3, 1, &[(0, "a", "b")], 10),
        ]);
        let inputs = tables.tables().filter(|(_, table)| [4, 5, 2].contains(&table.number().0));
        let inputs = inputs.map(|(level, table)| (level, Arc::clone(table))).collect();
        let mut running = Running::default();
        running.begin(&Arc::new(Plan::new(&tables, KeyspaceId(0), inputs, 2)));
        assert_eq!(level(&tables, &running, &[("e", "f")]), 3, "its outputs may span the range, above");
        assert_eq!(level(&tables, &running, &[("q", "r")]), 3);
        assert_eq!(level(&tables, &running, &[("a", "b")]), 0);

        let inputs = tables.tables().filter(|(_, table)| [5, 3].contains(&table.number().0));
        let inputs = inputs.map(|(level, table)| (level, Arc::clone(table))).collect();
        let mut running = Running::default();
        running.begin(&Arc::new(Plan::new(&tables, KeyspaceId(0), inputs, 3)));
        assert_eq!(level(&tables, &running, &[("r", "s")]), 0, "its outputs may span the range");
        assert_eq!(level(&tables, &running, &[("e", "f")]), 3);
    }
}
