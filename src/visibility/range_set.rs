//! A set of keys given as ranges: what a transaction has read.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::format::range::Edge;

/// Disjoint ranges of keys. A single key is the range from right before it to right behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    /// From start to end; ranges that touch are one.
    ranges: BTreeMap<Edge, Edge>,
}

/// What a range that was added has become part of, and what it has replaced: to take it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    start: Edge,
    parts: Vec<(Edge, Edge)>,
}

impl RangeSet {
    /// Adds a range; returns how to [take it back](Self::take_back), unless it is empty. O(log n) amortised.
    pub(crate) fn insert(&mut self, mut start: Edge, mut end: Edge) -> Option<Joined> {
        if start >= end {
            return None;
        }
        let mut parts = Vec::new();
        // Every range that begins at or in front of the new end and ends at or behind the new start becomes part of it.
        while let Some((near, far)) = self.ranges.range(..=&end).next_back()
            && *far >= start
        {
            let near = near.clone();
            let Some(part) = self.ranges.remove_entry(&near) else { break };
            if part.0 < start {
                start = near;
            }
            if part.1 > end {
                end = part.1.clone();
            }
            parts.push(part);
        }
        self.ranges.insert(start.clone(), end);
        Some(Joined { start, parts })
    }

    /// Takes back the range that was added last of those that are still there.
    pub(crate) fn take_back(&mut self, joined: Joined) {
        self.ranges.remove(&joined.start);
        self.ranges.extend(joined.parts);
    }

    pub(crate) fn insert_key(&mut self, key: &[u8]) {
        if !self.contains(key) {
            self.insert(Edge::Before(key.to_vec()), Edge::After(key.to_vec()));
        }
    }

    /// Whether a key is in one of the ranges. O(log n).
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let upto = Edge::Before(key.to_vec());
        self.ranges.range(..=&upto).next_back().is_some_and(|(_, end)| !end.is_in_front_of(key))
    }

    /// Whether any key could be both in a range of the set and between two edges. O(log n).
    pub(crate) fn intersects(&self, start: &Edge, end: &Edge) -> bool {
        let in_front = (Bound::Unbounded, Bound::Excluded(end));
        self.ranges.range::<Edge, _>(in_front).next_back().is_some_and(|(_, far)| far > start)
    }

    /// The ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Edge, &Edge)> {
        self.ranges.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(number: u64) -> Edge {
        let key = vec![u8::try_from(number / 2).unwrap()];
        if number.is_multiple_of(2) { Edge::Before(key) } else { Edge::After(key) }
    }

    #[test]
    fn what_was_added_last_is_taken_back_first() {
        let mut set = RangeSet::default();
        let mut history = Vec::new();
        for (start, end) in [(2, 4), (8, 9), (4, 6), (20, 30), (22, 24), (7, 7), (1, 40), (50, 51)] {
            let before = set.clone();
            history.push((before, set.insert(edge(start), edge(end))));
        }
        assert_eq!(history[5].1, None);
        for (before, joined) in history.into_iter().rev() {
            if let Some(joined) = joined {
                set.take_back(joined);
            }
            assert_eq!(set, before);
        }
    }

    #[test]
    fn a_set_answers_like_the_list_of_its_ranges() {
        let mut state = 7u64;
        let mut pick = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..300 {
            let mut set = RangeSet::default();
            let mut list = Vec::new();
            for _ in 0..pick(9) {
                let start = pick(40);
                let end = start + pick(8);
                set.insert(edge(start), edge(end));
                list.push((start, end));
            }
            let apart = set.iter().map(|(start, end)| (start.clone(), end.clone())).collect::<Vec<_>>();
            assert!(apart.windows(2).all(|pair| pair[0].1 < pair[1].0), "round {round}");
            for key in 0..26 {
                // The key stands between its edges 2 * key and 2 * key + 1.
                let inside = list.iter().any(|(start, end)| *start <= 2 * key && *end > 2 * key);
                assert_eq!(set.contains(&[u8::try_from(key).unwrap()]), inside, "round {round} key {key}");
            }
            for (start, end) in (0..50).flat_map(|start| (start + 1..52).map(move |end| (start, end))) {
                let meets = list.iter().any(|(from, to)| from < to && *from < end && *to > start);
                assert_eq!(set.intersects(&edge(start), &edge(end)), meets, "round {round} {start}..{end}");
            }
        }
    }
}
