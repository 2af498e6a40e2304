//! Range tombstones in memory: which parts of the key space were removed, and when.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::Arc;

use super::Visibility;
use crate::format::Sequence;
use crate::format::fragment::{Fragment, FragmentList};
use crate::format::range::Edge;

/// Disjoint fragments in order of key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fragments {
    list: FragmentList,
    /// Sequence numbers that nobody at `floor` or above sees may have been left out.
    floor: Sequence,
    /// No sequence number is above this one.
    newest: Sequence,
}

impl Fragments {
    /// Fragments as a table has stored them.
    pub(crate) fn from_sorted(list: FragmentList) -> Self {
        let newest = list.iter().filter_map(|fragment| fragment.sequences.first().copied()).max();
        Self { list, floor: Sequence(0), newest: newest.unwrap_or_default() }
    }

    /// Ranges as they have come, in no order, as fragments; without the sequence numbers that nobody in `rule` sees.
    /// O(n log n).
    pub(crate) fn of_ranges(ranges: FragmentList, rule: &mut Visibility) -> Self {
        // The most frequent case.
        if ranges.len() == 1 {
            Self::from_sorted(ranges)
        } else {
            Self::sweep(ranges.iter().collect(), rule.cut(), rule)
        }
    }

    /// Several lists as one, without the sequence numbers that nobody in `rule` sees. O(n log n).
    pub(crate) fn merge<'f>(lists: impl IntoIterator<Item = &'f Self>, rule: &mut Visibility) -> Self {
        let mut floor = rule.cut();
        let mut parts = Vec::new();
        for list in lists {
            floor = floor.max(list.floor);
            parts.extend(list.list.iter());
        }
        Self::sweep(parts, floor, rule)
    }

    fn sweep(mut parts: Vec<Fragment<'_>>, floor: Sequence, rule: &mut Visibility) -> Self {
        parts.sort_by(|a, b| a.start.cmp(&b.start));
        let newest = parts.iter().filter_map(|part| part.sequences.first().copied()).max();
        let mut sweep = Sweep::default();
        for part in parts {
            sweep.close_until(Some(part.start), rule);
            sweep.open(part);
        }
        sweep.close_until(None, rule);
        Self { list: sweep.out, floor, newest: newest.unwrap_or_default() }
    }

    pub(crate) fn list(&self) -> &FragmentList {
        &self.list
    }

    pub(crate) fn floor(&self) -> Sequence {
        self.floor
    }

    /// No sequence number is above this one.
    pub(crate) fn newest(&self) -> Sequence {
        self.newest
    }

    /// Leaves out the sequence numbers for which `gone` holds.
    pub(crate) fn remove(&mut self, gone: impl Fn(Sequence) -> bool) {
        let mut kept = FragmentList::default();
        let mut sequences = Vec::new();
        for fragment in self.list.iter() {
            sequences.clear();
            sequences.extend(fragment.sequences.iter().copied().filter(|sequence| !gone(*sequence)));
            if !sequences.is_empty() {
                kept.push(fragment.start, fragment.end, &sequences);
            }
        }
        self.list = kept;
    }

    /// How many fragments end in front of `key`.
    #[inline]
    fn rank(&self, key: &[u8]) -> usize {
        self.list.rank(|end| end.is_in_front_of(key))
    }

    /// The newest time at or below `at` at which `key` was removed. O(log n).
    pub(crate) fn newest_of(&self, key: &[u8], at: Sequence) -> Option<Sequence> {
        let fragment = self.list.get(self.rank(key)).filter(|fragment| fragment.start.is_in_front_of(key))?;
        fragment.sequences.get(fragment.sequences.partition_point(|sequence| *sequence > at)).copied()
    }

    /// The fragments with keys behind `lower`, which may begin in front of it.
    fn behind(&self, lower: Edge<&[u8]>) -> impl Iterator<Item = Fragment<'_>> {
        let first = self.list.rank(|end| end <= lower);
        (first..self.list.len()).filter_map(|at| self.list.get(at))
    }

    /// The part between two edges. O(log n) for n fragments, and O(m) for the m of the part.
    pub(crate) fn clip(&self, lower: &Edge, upper: &Edge) -> Self {
        let (lower, upper) = (lower.as_ref(), upper.as_ref());
        let mut list = FragmentList::default();
        for fragment in self.behind(lower).take_while(|fragment| fragment.start < upper) {
            list.push(fragment.start.max(lower), fragment.end.min(upper), fragment.sequences);
        }
        Self { list, floor: self.floor, newest: self.newest }
    }

    /// Whether every key between two edges was removed at a time for which `counts` holds.
    pub(crate) fn covers(&self, lower: &Edge, upper: &Edge, counts: impl Fn(Sequence) -> bool) -> bool {
        let mut covered_to = lower.as_ref();
        for fragment in self.behind(lower.as_ref()) {
            if fragment.start > covered_to || !fragment.sequences.iter().any(|sequence| counts(*sequence)) {
                return false;
            }
            covered_to = fragment.end;
            if covered_to >= upper.as_ref() {
                return true;
            }
        }
        false
    }
}

/// A sweep over fragments by their start.
#[derive(Default)]
struct Sweep<'f> {
    /// The open fragments by their end, nearest first.
    open: BinaryHeap<ByEnd<'f>>,
    /// Their sequence numbers; each with the number of open fragments that have it.
    active: BTreeMap<Sequence, usize>,
    /// Where the next piece begins.
    from: Option<Edge<&'f [u8]>>,
    out: FragmentList,
    /// Of one piece.
    sequences: Vec<Sequence>,
}

struct ByEnd<'f>(Fragment<'f>);

impl Ord for ByEnd<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.end.cmp(&self.0.end)
    }
}

impl PartialOrd for ByEnd<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByEnd<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByEnd<'_> {}

impl<'f> Sweep<'f> {
    fn open(&mut self, fragment: Fragment<'f>) {
        self.from = Some(fragment.start);
        for sequence in fragment.sequences {
            *self.active.entry(*sequence).or_insert(0) += 1;
        }
        self.open.push(ByEnd(fragment));
    }

    /// Writes the pieces up to `edge`, or all of them.
    fn close_until(&mut self, edge: Option<Edge<&'f [u8]>>, rule: &mut Visibility) {
        while let Some(ByEnd(nearest)) = self.open.peek() {
            let nearest = *nearest;
            if edge.is_some_and(|edge| nearest.end > edge) {
                break;
            }
            self.piece(nearest.end, rule);
            self.open.pop();
            for sequence in nearest.sequences {
                if let Some(count) = self.active.get_mut(sequence) {
                    *count -= 1;
                    if *count == 0 {
                        self.active.remove(sequence);
                    }
                }
            }
        }
        if let Some(edge) = edge {
            self.piece(edge, rule);
        }
    }

    /// Writes the piece from where the last one ended to `end`. Any number of ranges may be nested, and most of them serve
    /// nobody, so this goes from one that someone sees to the next: O(log n) for each of those who look.
    fn piece(&mut self, end: Edge<&'f [u8]>, rule: &mut Visibility) {
        let Some(from) = self.from.replace(end) else { return };
        if self.active.is_empty() || from >= end {
            return;
        }
        rule.start_key();
        self.sequences.clear();
        let mut next = self.active.last_key_value();
        while let Some((sequence, _)) = next {
            if rule.admits(*sequence) {
                self.sequences.push(*sequence);
            }
            next = rule.highest_admitted(*sequence).and_then(|highest| self.active.range(..=highest).next_back());
        }
        match self.out.last() {
            Some(last) if last.end == from && last.sequences == self.sequences => self.out.extend_last(end),
            _ if self.sequences.is_empty() => {}
            _ => self.out.push(from, end, &self.sequences),
        }
    }
}

/// The range tombstones over several sources, looked at from one key after another.
///
/// Remembers the stretch around the last key in which nothing changes, so that a walk costs two comparisons a key.
#[derive(Clone, Default)]
pub(crate) struct Cover {
    layers: Vec<Layer>,
    /// Between these edges, `removed` is right.
    stretch: Option<(Edge, Edge)>,
    /// When the keys of the stretch were removed, newest first, and by which layer.
    removed: Vec<(Sequence, usize)>,
}

/// The tombstones of one source.
#[derive(Clone)]
struct Layer {
    fragments: Arc<Fragments>,
    /// Every source of the merge from this one on has only versions that are older than these tombstones.
    older_sources: usize,
}

impl fmt::Debug for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cover({} layers)", self.layers.len())
    }
}

impl Cover {
    /// Adds the tombstones of a source; sources from number `older_sources` on are older.
    pub(crate) fn add<'f>(&mut self, lists: impl IntoIterator<Item = &'f Arc<Fragments>>, older_sources: usize) {
        let lists = lists.into_iter().filter(|fragments| !fragments.list().is_empty());
        self.layers.extend(lists.map(|fragments| Layer { fragments: Arc::clone(fragments), older_sources }));
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    pub(crate) fn fragments(&self) -> impl Iterator<Item = &Fragments> {
        self.layers.iter().map(|layer| &*layer.fragments)
    }

    /// When `key` was removed as part of a range, newest first.
    #[inline]
    pub(crate) fn removals(&mut self, key: &[u8]) -> &[(Sequence, usize)] {
        let holds = |(from, to): &(Edge, Edge)| from.is_in_front_of(key) && !to.is_in_front_of(key);
        if !self.stretch.as_ref().is_some_and(holds) {
            self.look_at(key);
        }
        &self.removed
    }

    #[cold]
    fn look_at(&mut self, key: &[u8]) {
        self.removed.clear();
        let (mut from, mut to) = (Edge::START, Edge::End);
        for (at, layer) in self.layers.iter().enumerate() {
            let list = layer.fragments.list();
            let rank = layer.fragments.rank(key);
            let behind = rank.checked_sub(1).and_then(|before| list.get(before)).map(|before| before.end);
            let next = list.get(rank);
            let (start, end) = match next {
                Some(here) if here.start.is_in_front_of(key) => {
                    self.removed.extend(here.sequences.iter().map(|sequence| (*sequence, at)));
                    (here.start, here.end)
                }
                _ => (behind.unwrap_or(Edge::START), next.map_or(Edge::End, |next| next.start)),
            };
            (from, to) = (from.max(start), to.min(end));
        }
        self.stretch = Some((from.to_owned(), to.to_owned()));
        self.removed.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// The newest removal of `key` that a reader at `at` sees.
    #[inline]
    pub(crate) fn removed(&mut self, key: &[u8], at: Sequence) -> Option<(Sequence, usize)> {
        let removals = self.removals(key);
        removals.get(removals.partition_point(|(sequence, _)| *sequence > at)).copied()
    }

    /// The fragment of layer `layer` around the key last looked at, and the first source that is older than it.
    pub(crate) fn hole(&self, layer: usize, key: &[u8]) -> Option<(Fragment<'_>, usize)> {
        let layer = self.layers.get(layer)?;
        let fragment = layer.fragments.list().get(layer.fragments.rank(key))?;
        Some((fragment, layer.older_sources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(number: u64) -> Edge {
        let key = vec![u8::try_from(number / 2).unwrap()];
        if number.is_multiple_of(2) { Edge::Before(key) } else { Edge::After(key) }
    }

    type Range = (u64, u64, u64);

    fn random(seed: u64, count: usize) -> Vec<Range> {
        let mut state = seed;
        let mut pick = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        (1..=count as u64)
            .map(|sequence| {
                let start = pick(30);
                (start, start + 1 + pick(12), sequence)
            })
            .collect()
    }

    fn newest(ranges: &[Range], key: u64, at: u64) -> Option<Sequence> {
        // The key stands between its two edges, 2 * key and 2 * key + 1.
        let over = |r: &&Range| r.0 <= 2 * key && r.1 > 2 * key && r.2 <= at;
        ranges.iter().filter(over).map(|r| Sequence(r.2)).max()
    }

    fn single(range: &Range) -> Fragments {
        let mut list = FragmentList::default();
        list.push(edge(range.0).as_ref(), edge(range.1).as_ref(), &[Sequence(range.2)]);
        Fragments::from_sorted(list)
    }

    #[test]
    fn merged_fragments_answer_like_the_ranges() {
        for seed in 0..200 {
            let ranges = random(seed, (seed % 13) as usize);
            let singles: Vec<Fragments> = ranges.iter().map(single).collect();
            let keep = |snapshots: &[u64], cut| {
                Visibility::retain(snapshots.iter().map(|s| Sequence(*s)).collect(), Sequence(cut))
            };
            let all = Fragments::merge(&singles, &mut keep(&(0..20).collect::<Vec<_>>(), 20));
            let pruned = Fragments::merge(&singles, &mut keep(&[3], 8));
            let edges: Vec<_> = all.list.iter().map(|fragment| (fragment.start, fragment.end)).collect();
            assert!(edges.is_sorted_by(|a, b| a.1 <= b.0), "seed {seed}");
            let (lower, upper) = (edge(9), edge(20));
            let clipped = all.clip(&lower, &upper);
            let mut cover = Cover::default();
            cover.add(&singles.iter().cloned().map(Arc::new).collect::<Vec<_>>(), 0);
            for key in (0..25).chain((0..25).rev()) {
                let bytes = [u8::try_from(key).unwrap()];
                for at in 0..20 {
                    let expected = newest(&ranges, key, at);
                    assert_eq!(all.newest_of(&bytes, Sequence(at)), expected, "seed {seed} key {key} at {at}");
                    assert_eq!(cover.removed(&bytes, Sequence(at)).map(|r| r.0), expected, "seed {seed} key {key}");
                    if at == 3 || at >= 8 {
                        assert_eq!(pruned.newest_of(&bytes, Sequence(at)), expected, "seed {seed} key {key} at {at}");
                    }
                    let inside = lower.is_in_front_of(&bytes) && !upper.is_in_front_of(&bytes);
                    assert_eq!(clipped.newest_of(&bytes, Sequence(at)), expected.filter(|_| inside));
                }
            }
        }
    }

    /// Who looks sees one of any number of nested ranges, wherever the cut is: only those may be gone through.
    #[test]
    fn many_nested_ranges_are_merged_in_about_the_time_of_as_many_apart() {
        const RANGES: u32 = 8000;
        // It is 10 to 20 times as much, for ten snapshots; where each open range is looked at for each piece, 400 times.
        const RATIO: u32 = 100;
        let all = u64::from(RANGES);
        let merge = |nested: bool, cut: u64, last: u64| {
            let mut ranges = FragmentList::default();
            for at in 0..RANGES {
                let end = if nested { 2 * RANGES - at } else { at + 1 };
                let (from, to) = (at.to_be_bytes(), end.to_be_bytes());
                ranges.push(Edge::Before(&from), Edge::Before(&to), &[Sequence(u64::from(at) + 1)]);
            }
            let snapshots = (0..10).map(|at| Sequence(at * all / 20)).collect();
            let mut rule = Visibility::retain(snapshots, Sequence(cut)).with_group(Sequence(last));
            let start = std::time::Instant::now();
            let fragments = Fragments::of_ranges(ranges, &mut rule);
            let newest = fragments.newest_of(&(RANGES - 1).to_be_bytes(), Sequence(u64::MAX));
            assert_eq!(newest, Some(Sequence(all)));
            start.elapsed()
        };
        for (cut, last) in [(0, all), (all, 0), (all / 2, all)] {
            // Other work may come in between.
            let tries: Vec<_> = (0..3).map(|_| (merge(false, cut, last), merge(true, cut, last))).collect();
            assert!(tries.iter().any(|(apart, nested)| *nested < *apart * RATIO), "cut {cut}: {tries:?}");
        }
    }

    #[test]
    fn a_hole_without_gaps_covers_what_is_inside() {
        let ranges = [(2, 8, 5), (8, 20, 3), (21, 30, 9)];
        let singles: Vec<Fragments> = ranges.iter().map(single).collect();
        let all = Fragments::merge(&singles, &mut Visibility::retain(vec![], Sequence(10)));
        let covers = |from, to| all.covers(&edge(from), &edge(to), |s| s.0 > 2);
        assert!(covers(2, 8) && covers(3, 7) && covers(4, 20));
        assert!(!covers(4, 21) && !covers(1, 4) && !covers(19, 22) && !covers(30, 31));
        assert!(!all.covers(&edge(4), &edge(20), |s| s.0 > 3));
    }
}
