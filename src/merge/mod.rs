//! The k-way merge: many sorted sources as one, and the versions in it that someone sees.
//!
//! A loser tree (Knuth, The Art of Computer Programming, vol. 3, 5.4.1): advancing the winner costs one comparison on each
//! of log2(k) levels, most of them decided, without a branch, by the cached eight-byte heads of the keys.

mod scan;
mod source;
mod versions;

use std::cmp::Ordering;
use std::hint::select_unpredictable;
use std::path::Path;
use std::sync::Arc;

pub(crate) use scan::Scan;
pub(crate) use source::{LevelCursor, Place, Source};
pub(crate) use versions::Versions;

use crate::error::{Damage, Error, Fault, Feature, Result};
use crate::format::entry::{Entry, Kind};
use crate::format::values::Pointer;
use crate::format::{Sequence, key_head};
use crate::sys::{Block, Pinned};
use crate::table::{ValueFile, Values};

/// An entry and where its bytes are; valid as long as the merge, wherever its sources have gone since.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    source: u32,
    table: u32,
    /// What the entry is in, unless that is the mapping of its table or memtable.
    block: Option<Block>,
    pub(crate) entry: Entry,
}

#[derive(Debug, Clone)]
pub(crate) struct Merge {
    sources: Vec<Source>,
    /// What decides most comparisons: the head of each source's current key, counted from the end of the direction of travel
    /// if that is backwards, or [`EXHAUSTED`].
    ranks: Vec<u128>,
    /// `tree[0]` is the winner, `tree[i]` the loser of the match at inner node `i`.
    tree: Vec<usize>,
    forward: bool,
}

/// The rank of a source without a current entry: behind all others.
const EXHAUSTED: u128 = u128::MAX;

impl Merge {
    pub(crate) fn new(sources: Vec<Source>) -> Self {
        let count = sources.len();
        Self { ranks: vec![EXHAUSTED; count], tree: vec![0; count.max(1)], sources, forward: true }
    }

    /// Positions every source and orders them for going on forwards (from the first, or at or behind a key) or backwards.
    pub(crate) fn go(&mut self, place: Place<'_>) -> Result<()> {
        self.forward = matches!(place, Place::First | Place::AtOrBehind(_));
        for at in 0..self.sources.len() {
            self.sources[at].go(place)?;
            self.note_rank(at);
        }
        self.build();
        Ok(())
    }

    #[inline]
    fn note_rank(&mut self, at: usize) {
        let source = &self.sources[at];
        self.ranks[at] = source.current().map_or(EXHAUSTED, |entry| {
            let head = key_head(entry.key(source.bytes()));
            u128::from(if self.forward { head } else { !head })
        });
    }

    fn build(&mut self) {
        let count = self.sources.len();
        if count == 0 {
            return;
        }
        // Play the matches from the leaves up; `winners[n]` is the winner at inner node or leaf `n`.
        let mut winners = vec![0; 2 * count];
        for leaf in 0..count {
            winners[count + leaf] = leaf;
        }
        for node in (1..count).rev() {
            let (a, b) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if self.before(b, a) { (b, a) } else { (a, b) };
            winners[node] = winner;
            self.tree[node] = loser;
        }
        self.tree[0] = if count == 1 { 0 } else { winners[1] };
    }

    /// Whether source `a` comes before source `b` in the direction of travel; exhausted ones come last.
    #[inline]
    fn before(&self, a: usize, b: usize) -> bool {
        let (x, y) = (self.ranks[a], self.ranks[b]);
        if x == y { self.before_tied(a, b) } else { x < y }
    }

    /// The same where the ranks do not decide.
    fn before_tied(&self, a: usize, b: usize) -> bool {
        let (of_a, of_b) = (&self.sources[a], &self.sources[b]);
        let (Some(x), Some(y)) = (of_a.current(), of_b.current()) else { return of_a.current().is_some() };
        let order = x.key(of_a.bytes()).cmp(y.key(of_b.bytes()));
        let order = order.then_with(|| y.sequence.cmp(&x.sequence));
        if self.forward { order == Ordering::Less } else { order == Ordering::Greater }
    }

    /// The current entry.
    #[inline]
    pub(crate) fn top(&self) -> Option<Located> {
        let winner = self.tree[0];
        let source = self.sources.get(winner)?;
        let entry = *source.current()?;
        Some(Located { source: number(winner), table: number(source.table()), block: source.block().cloned(), entry })
    }

    /// Sequence and kind of the current entry.
    #[inline]
    fn top_version(&self) -> Option<(Sequence, Kind)> {
        let entry = self.sources.get(self.tree[0])?.current()?;
        Some((entry.sequence, entry.kind()))
    }

    /// Goes on to the next entry in the direction of travel.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<()> {
        let mut winner = self.tree[0];
        let Some(source) = self.sources.get_mut(winner) else { return Ok(()) };
        source.step(self.forward)?;
        self.note_rank(winner);
        let mut node = (winner + self.sources.len()) >> 1;
        while node > 0 {
            // Who wins is a coin toss, so a branch would be mispredicted every other time.
            let loser = self.tree[node];
            let swap = self.before(loser, winner);
            self.tree[node] = select_unpredictable(swap, winner, loser);
            winner = select_unpredictable(swap, loser, winner);
            node /= 2;
        }
        self.tree[0] = winner;
        Ok(())
    }

    /// Goes on like [`advance`](Self::advance); answers whether the next entry is a version of the same key.
    #[inline]
    fn advance_in_order(&mut self) -> Result<bool> {
        let Some(&rank) = self.ranks.get(self.tree[0]) else { return Ok(false) };
        let Some(earlier) = self.top() else { return Ok(false) };
        self.advance()?;
        if self.ranks[self.tree[0]] > rank { Ok(false) } else { self.is_same_key(&earlier) }
    }

    /// Whether the current entry is a version of the same key as the one before it. A table out of order shows here at the
    /// latest, in either direction: a source whose key goes back has been in front of the others with the one before, so what
    /// comes next from all of them is behind that.
    fn is_same_key(&self, earlier: &Located) -> Result<bool> {
        let Some(top) = self.top() else { return Ok(false) };
        if self.compare(earlier, &top)? == Ordering::Less {
            return Ok(false);
        }
        let (newer, older) = if self.forward { (earlier, &top) } else { (&top, earlier) };
        // Of one version there may be two copies, and no version stands behind an older one.
        if newer.entry.sequence < older.entry.sequence { Err(self.disorder(earlier, &top)) } else { Ok(true) }
    }

    /// Brings the sources from number `from` on to `key`, if that is ahead of them.
    #[cold]
    fn skip(&mut self, from: usize, key: &[u8]) -> Result<()> {
        let place = if self.forward { Place::AtOrBehind(key) } else { Place::AtOrInFront(key) };
        for at in from..self.sources.len() {
            let source = &mut self.sources[at];
            let Some(entry) = source.current() else { continue };
            let order = entry.key(source.bytes()).cmp(key);
            if if self.forward { order.is_lt() } else { order.is_gt() } {
                source.go(place)?;
                self.note_rank(at);
            }
        }
        self.build();
        Ok(())
    }

    /// The number of the source that an entry is from, in the order in which they were given.
    pub(crate) fn source(of: &Located) -> usize {
        of.source as usize
    }

    /// The bytes that an entry is in.
    #[inline]
    pub(crate) fn bytes<'a>(&'a self, of: &'a Located) -> &'a [u8] {
        match &of.block {
            Some(block) => block.bytes(),
            None => self.sources.get(of.source as usize).map_or(&[], |source| source.mapped(of.table as usize)),
        }
    }

    #[inline]
    pub(crate) fn key<'a>(&'a self, of: &'a Located) -> &'a [u8] {
        of.entry.key(self.bytes(of))
    }

    #[inline]
    pub(crate) fn value<'a>(&'a self, of: &'a Located) -> &'a [u8] {
        of.entry.value(self.bytes(of))
    }

    /// Where the value of an entry stands that is a pointer.
    pub(crate) fn find_value<'v>(&self, of: &Located, values: &'v Values) -> Result<(Pointer, &'v Arc<ValueFile>)> {
        let path = || {
            self.sources
                .get(of.source as usize)
                .and_then(|source| source.path(of.table as usize))
                .unwrap_or(Path::new(""))
        };
        values.find(&of.entry, self.bytes(of), || path().to_owned())
    }

    /// The bytes of an entry, kept alive on their own.
    pub(crate) fn pin(&self, of: &Located) -> Option<Pinned> {
        let range = of.entry.key_start..of.entry.end;
        match &of.block {
            Some(block) => Some(block.pin(range)),
            None => Some(self.sources.get(of.source as usize)?.mapping(of.table as usize)?.pin(range)),
        }
    }

    /// Whether the key of `later`, which comes after `earlier` in the direction of travel, is the same (`Equal`) or another
    /// one (`Less`). Anything else is a table out of order, which checksums cannot tell.
    #[inline]
    fn compare(&self, earlier: &Located, later: &Located) -> Result<Ordering> {
        let order = self.key(earlier).cmp(self.key(later));
        let order = if self.forward { order } else { order.reverse() };
        if order == Ordering::Greater { Err(self.disorder(earlier, later)) } else { Ok(order) }
    }

    /// The error for a value that only a merge operator can tell.
    #[cold]
    pub(crate) fn refuse(&self, operand: &Located) -> Error {
        let source = self.sources.get(operand.source as usize);
        let path = source.and_then(|source| source.path(operand.table as usize));
        Fault::from(Feature::MergeOperand).at(path.unwrap_or(Path::new("the log")), operand.entry.start as u64)
    }

    /// Memtables are in order, so a table is to blame: that of the later entry, unless that comes from a memtable.
    #[cold]
    fn disorder(&self, earlier: &Located, later: &Located) -> Error {
        let of = |at: &Located| self.sources.get(at.source as usize)?.path(at.table as usize);
        let (path, at) = of(later).map(|path| (path, later)).or_else(|| Some((of(earlier)?, earlier))).unzip();
        let offset = at.map_or(0, |at| at.entry.start as u64);
        Error::corrupt(path.unwrap_or(Path::new("")), offset, Damage::OutOfOrder)
    }
}

/// A number of a source or of a table; there are far fewer of them.
#[inline]
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::KeyspaceId;
    use crate::memtable::RunCursor;
    use crate::memtable::tests::Fixture;
    use crate::visibility::{Cover, Visibility};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// Key, sequence number, and value, or none for a tombstone.
    type Write = (Vec<u8>, u64, Option<Vec<u8>>);

    /// `runs` memtables with random puts and deletes, as sources, and the same history as a map.
    fn random(runs: usize, seed: u64) -> (Vec<Fixture>, Vec<Write>) {
        let mut state = seed;
        let mut pick = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut history = Vec::new();
        let fixtures = (0..runs)
            .map(|_| {
                let mut fixture = Fixture::new();
                for _ in 0..pick(60) {
                    let key = format!("k{:03}", pick(40)).into_bytes();
                    let value = (pick(4) > 0).then(|| pick(1000).to_le_bytes().to_vec());
                    let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
                    let at = fixture.write(0, kind, &key, value.as_deref().unwrap_or_default());
                    history.push((key, at.0, value));
                }
                fixture
            })
            .collect();
        (fixtures, history)
    }

    fn sources(fixtures: &[Fixture]) -> Vec<Source> {
        let mut sources = Vec::new();
        for fixture in fixtures {
            let rule = || Visibility::retain((0..200).map(Sequence).collect(), Sequence(200));
            for run in fixture.memtable.runs(KeyspaceId(0), rule).unwrap() {
                sources.push(Source::Run(RunCursor::new(Arc::clone(&fixture.memtable), run)));
            }
        }
        sources
    }

    fn seen(history: &[Write], at: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut newest: BTreeMap<&[u8], (u64, &Option<Vec<u8>>)> = BTreeMap::new();
        for (key, sequence, value) in history.iter().filter(|(_, sequence, _)| *sequence <= at) {
            let slot = newest.entry(key).or_insert((*sequence, value));
            if *sequence >= slot.0 {
                *slot = (*sequence, value);
            }
        }
        newest.into_iter().filter_map(|(key, (_, value))| Some((key.to_vec(), value.clone()?))).collect()
    }

    #[test]
    fn scans_agree_with_a_map_in_both_directions_and_at_every_turn() {
        for seed in 0..60 {
            let (fixtures, history) = random(1, seed);
            for at in [0, 10, 30, 100] {
                let expected = seen(&history, at);
                let mut scan = Scan::new(sources(&fixtures), Cover::default(), Arc::default(), Sequence(at));
                let here = |scan: &Scan| scan.current().map(|(k, v)| (k.to_vec(), v.to_vec()));
                let mut found = Vec::new();
                let mut more = scan.go(Place::First).unwrap();
                while more {
                    found.push(here(&scan).unwrap());
                    more = scan.next().unwrap();
                }
                assert_eq!(found, expected, "seed {seed} at {at}");
                let mut found = Vec::new();
                let mut more = scan.go(Place::Last).unwrap();
                while more {
                    found.push(here(&scan).unwrap());
                    more = scan.prev().unwrap();
                }
                found.reverse();
                assert_eq!(found, expected, "seed {seed} at {at} backwards");
                for (i, (key, _)) in expected.iter().enumerate() {
                    scan.go(Place::AtOrBehind(key)).unwrap();
                    assert_eq!(here(&scan).as_ref(), expected.get(i));
                    scan.prev().unwrap();
                    assert_eq!(here(&scan).as_ref(), i.checked_sub(1).map(|i| &expected[i]));
                    scan.go(Place::AtOrInFront(key)).unwrap();
                    scan.next().unwrap();
                    assert_eq!(here(&scan).as_ref(), expected.get(i + 1));
                    scan.prev().unwrap();
                    if i + 1 < expected.len() {
                        assert_eq!(here(&scan).as_ref(), expected.get(i));
                    }
                }
            }
        }
    }

    #[test]
    fn a_merge_yields_every_entry_in_order() {
        for runs in [0, 1, 2, 3, 5, 8, 13] {
            let (fixtures, history) = random(runs, 7 + runs as u64);
            let sources = sources(&fixtures);
            let mut merge = Merge::new(sources);
            let mut expected: Vec<(Vec<u8>, u64)> = history.iter().map(|(k, s, _)| (k.clone(), *s)).collect();
            expected.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            for place in [Place::First, Place::Last] {
                merge.go(place).unwrap();
                let mut found = Vec::new();
                while let Some(top) = merge.top() {
                    found.push((merge.key(&top).to_vec(), top.entry.sequence.0));
                    merge.advance().unwrap();
                }
                if matches!(place, Place::Last) {
                    found.reverse();
                }
                assert_eq!(found, expected, "{runs} runs");
            }
        }
    }
}
