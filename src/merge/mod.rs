//! The k-way merge: many sorted sources as one, and the versions in it that someone sees.
//!
//! A loser tree (Knuth, The Art of Computer Programming, vol. 3, 5.4.1): advancing the winner costs one comparison on each
//! of log2(k) levels, most of them decided, without a branch, by the ranks of the keys; and only one in all for as long as it
//! stays in front of the others, which costs nothing where there is one source.

mod apart;
mod chain;
mod cost;
mod gaps;
mod hidden;
mod made;
mod rank;
mod scan;
mod source;
mod step;
mod versions;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

pub(crate) use apart::PinnedEntry;
pub(crate) use chain::{Chain, ChainStep};
use cost::{Bill, Owed};
pub(crate) use cost::{Paid, ReadCost};
use gaps::Gaps;
use rank::{Prefix, Rank};
pub(crate) use scan::{Learned, Look, Scan, ScanShared};
pub(crate) use source::{LevelCursor, Place, Source, Tables};
pub(crate) use versions::Versions;

use crate::error::{Damage, Error, Fault, Feature, Result};
use crate::format::Sequence;
use crate::format::entry::{Entry, Kind};
use crate::format::entry_ref::EntryRef;
use crate::format::values::Pointer;
use crate::sys::{Block, Pinned};
use crate::table::{Home, Table, ValueFile, Values};

/// An entry and where its bytes are. They are there until its source has gone on twice: a merge that has left an entry can
/// still show it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located {
    source: u32,
    table: u32,
    home: Home,
    pub(crate) entry: Entry,
}

/// What decides whether a reader sees an entry.
#[derive(Debug, Clone, Copy)]
struct Version {
    sequence: Sequence,
    kind: Kind,
}

impl Version {
    #[inline]
    fn of(entry: &Entry) -> Self {
        Self { sequence: entry.sequence, kind: entry.kind() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Merge {
    sources: Vec<Source>,
    prefix: Prefix,
    /// That of each source's current key.
    ranks: Vec<Rank>,
    /// The source of the current entry.
    winner: usize,
    /// `tree[i]` is the loser of the match at inner node `i`.
    tree: Vec<usize>,
    /// The winner at each inner node, while the tree is built.
    winners: Vec<usize>,
    /// While its rank is below this one, the winner wins again.
    limit: Rank,
    forward: bool,
    /// How often it was to be seen whether another source comes first.
    changes: Owed,
}

impl Merge {
    pub(crate) fn new(sources: Vec<Source>) -> Self {
        let count = sources.len();
        Self {
            prefix: prefix(&sources),
            ranks: vec![Rank::EXHAUSTED; count],
            winner: 0,
            tree: if count > 1 { vec![0; count] } else { Vec::new() },
            winners: if count > 1 { vec![0; count] } else { Vec::new() },
            limit: Rank::FIRST,
            sources,
            forward: true,
            changes: Owed::default(),
        }
    }

    /// Positions every source and orders them for going on forwards (from the first, or at or behind a key) or backwards.
    pub(crate) fn go(&mut self, place: Place<'_>) -> Result<()> {
        self.forward = matches!(place, Place::First | Place::AtOrBehind(_));
        let alone = self.sources.len() == 1;
        self.sources.iter_mut().try_for_each(|source| source.aim(place, alone))?;
        self.sources.iter_mut().try_for_each(|source| source.find(place))?;
        for at in 0..self.sources.len() {
            self.sources[at].arrive(place)?;
            self.ranks[at] = self.rank(&self.sources[at]);
        }
        self.build();
        Ok(())
    }

    /// Turns round. It stands at or in front of all that is to come in its direction, and has left the entry with `key` or
    /// stands at its newest version that someone sees; it comes to what is behind that entry in the new direction.
    ///
    /// A source has what was in front of it next to where it stands, unless it has jumped over it: then it is brought on.
    pub(crate) fn turn(&mut self, key: &[u8]) -> Result<()> {
        self.forward = !self.forward;
        let place = if self.forward { Place::AtOrBehind(key) } else { Place::AtOrInFront(key) };
        for at in 0..self.sources.len() {
            let source = &mut self.sources[at];
            match (source.entry().is_some(), self.forward) {
                (true, true) => source.next()?,
                (true, false) => source.prev()?,
                (false, _) => source.go(place)?,
            }
            self.ranks[at] = self.rank(&self.sources[at]);
        }
        self.skip(0, key)
    }

    /// The rank of a source's current key.
    #[inline]
    fn rank(&self, source: &Source) -> Rank {
        source.entry().map_or(Rank::EXHAUSTED, |entry| self.prefix.rank_going(self.forward, entry.key()))
    }

    fn build(&mut self) {
        let count = self.sources.len();
        (self.winner, self.limit) = (0, Rank::EXHAUSTED);
        if count < 2 {
            return;
        }
        // Play the matches from the leaves up.
        for node in (1..count).rev() {
            let of = |node: usize| if node < count { self.winners[node] } else { node - count };
            let (a, b) = (of(2 * node), of(2 * node + 1));
            let (winner, loser) = if self.before(b, a) { (b, a) } else { (a, b) };
            self.winners[node] = winner;
            self.tree[node] = loser;
        }
        self.winner = self.winners[1];
        // As a climb finds it, without playing the matches again: that takes 1 % of a seek in two sources.
        let mut node = (self.winner + count) >> 1;
        while node > 0 {
            self.limit = self.limit.min(self.ranks[self.tree[node]]);
            node /= 2;
        }
    }

    /// Whether source `a` comes before source `b` in the direction of travel; exhausted ones come last.
    #[inline]
    fn before(&self, a: usize, b: usize) -> bool {
        let (x, y) = (self.ranks[a], self.ranks[b]);
        if x == y { self.before_tied(a, b) } else { x < y }
    }

    /// The same where the ranks do not decide. Of two copies of one version, that of the source that was given first counts as
    /// the newer one, in both directions: a forged table may have another value than the log that it is of, and all readers
    /// are to see the same of the two.
    fn before_tied(&self, a: usize, b: usize) -> bool {
        let Some(x) = self.sources[a].entry() else { return false };
        let Some(y) = self.sources[b].entry() else { return true };
        let order = x.key().cmp(y.key());
        let order = order.then_with(|| y.sequence.cmp(&x.sequence)).then_with(|| precedence(x).cmp(&precedence(y)));
        let order = order.then(a.cmp(&b));
        if self.forward { order == Ordering::Less } else { order == Ordering::Greater }
    }

    /// The current entry.
    #[inline]
    pub(crate) fn top(&self) -> Option<Located> {
        let source = self.sources.get(self.winner)?;
        let (table, home) = source.home();
        let entry = source.entry()?;
        Some(Located { source: number(self.winner), table: number(table), home, entry: *entry })
    }

    /// The current entry in its bytes.
    #[inline]
    fn top_in_place(&self) -> Option<EntryRef<'_>> {
        self.sources.get(self.winner)?.entry()
    }

    /// Which version the current entry is.
    #[inline]
    fn top_version(&self) -> Option<Version> {
        self.top_in_place().map(|entry| Version::of(entry.place()))
    }

    /// Whether the current entry, which comes after one with `key` in the direction of travel, has the same one. If it has one
    /// that should have come before, a table is out of order, which checksums cannot tell.
    fn is_at(&self, key: &[u8], last: Option<usize>) -> Result<bool> {
        let Some(entry) = self.top_in_place() else { return Ok(false) };
        let order = key.cmp(entry.key());
        match if self.forward { order } else { order.reverse() } {
            Ordering::Less => Ok(false),
            Ordering::Equal => Ok(true),
            Ordering::Greater => Err(self.disorder(self.winner, last)),
        }
    }

    /// Brings the sources from number `from` on to `key`, if that is ahead of them.
    #[cold]
    fn skip(&mut self, from: usize, key: &[u8]) -> Result<()> {
        let place = if self.forward { Place::AtOrBehind(key) } else { Place::AtOrInFront(key) };
        for at in from..self.sources.len() {
            let source = &mut self.sources[at];
            let Some(entry) = source.entry() else { continue };
            let order = entry.key().cmp(key);
            if if self.forward { order.is_lt() } else { order.is_gt() } {
                source.go(place)?;
                self.ranks[at] = self.rank(&self.sources[at]);
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
    pub(crate) fn bytes(&self, of: &Located) -> &[u8] {
        self.sources.get(of.source as usize).map_or(&[], |source| source.bytes_of(of.table as usize, of.home))
    }

    /// The block that an entry is in, unless that is a mapping; to be kept if it is to be used when its source has gone on more
    /// than once.
    #[inline]
    pub(crate) fn block(&self, of: &Located) -> Option<&Block> {
        if of.home.is_mapping() {
            return None;
        }
        self.sources.get(of.source as usize)?.block(of.table as usize, of.home)
    }

    /// The entry in its bytes.
    #[inline]
    pub(crate) fn entry<'m>(&'m self, of: &'m Located) -> EntryRef<'m> {
        of.entry.in_bytes(self.bytes(of))
    }

    #[inline]
    pub(crate) fn key(&self, of: &Located) -> &[u8] {
        of.entry.key(self.bytes(of))
    }

    #[inline]
    pub(crate) fn value(&self, of: &Located) -> &[u8] {
        of.entry.value(self.bytes(of))
    }

    /// Where the value of an entry stands that is a pointer.
    pub(crate) fn find_value<'v>(&self, of: &Located, values: &'v Values) -> Result<(Pointer, &'v Arc<ValueFile>)> {
        values.find(self.entry(of), || self.path(of).unwrap_or(Path::new("")).to_owned())
    }

    /// The table that an entry is in, if its source has the tables of a level.
    pub(crate) fn table(&self, of: &Located) -> Option<&Arc<Table>> {
        self.sources.get(of.source as usize)?.table(of.table as usize)
    }

    /// The file that an entry is in; memtables have none.
    fn path(&self, of: &Located) -> Option<&Path> {
        self.sources.get(of.source as usize)?.path(of.table as usize)
    }

    /// The bytes of an entry, kept alive on their own.
    pub(crate) fn pin(&self, of: &Located) -> Option<Pinned> {
        let range = of.entry.key_start..of.entry.end;
        match self.block(of) {
            Some(block) => Some(block.pin(range)),
            None => Some(self.sources.get(of.source as usize)?.mapping(of.table as usize)?.pin(range)),
        }
    }

    /// The same for who pins one entry after another: see [`Purse`](crate::sys::Purse).
    #[inline]
    pub(crate) fn pin_from_purse(&mut self, of: &Located) -> Option<Pinned> {
        let source = self.sources.get_mut(of.source as usize)?;
        source.pin_from_purse((of.table as usize, of.home), of.entry.key_start..of.entry.end)
    }

    /// The same of the current entry.
    #[inline]
    fn pin_top_from_purse(&mut self) -> Option<Pinned> {
        self.sources.get_mut(self.winner)?.pin_current_from_purse()
    }

    /// The error for a value that only a merge operator can tell.
    #[cold]
    pub(crate) fn refuse(&self, operand: Option<&Located>) -> Error {
        let path = operand.and_then(|operand| self.path(operand)).unwrap_or(Path::new("the log"));
        let start = operand.map_or(0, |operand| operand.entry.start);
        Fault::from(Feature::MergeOperand).at(path, start as u64)
    }

    /// Memtables are in order, so a table is to blame: that of the current entry of `source`, unless that comes from a
    /// memtable, or that of the entry before it.
    #[cold]
    fn disorder(&self, source: usize, last: Option<usize>) -> Error {
        let current = || {
            let source = self.sources.get(source)?;
            Some((source.path(source.home().0)?, source.entry()?.start))
        };
        let left = || {
            let (entry, _, path) = self.sources.get(last?)?.left()?;
            Some((path?, entry.start))
        };
        let (path, start) = current().or_else(left).unzip();
        Error::corrupt(path.unwrap_or(Path::new("")), start.unwrap_or(0) as u64, Damage::OutOfOrder)
    }
}

/// Which of two entries with one sequence number comes first: what a compaction has made of operands in front of what it was
/// made of. Both are found by a repair alone.
fn precedence(entry: EntryRef<'_>) -> u64 {
    if entry.kind() == Kind::Merge { entry.folded_from().0.saturating_add(1) } else { 0 }
}

/// What most keys begin with: what those of the tables do, or, if there are none, those of the runs. A memtable with a few
/// other keys must not make all comparisons of the tables slow.
fn prefix(sources: &[Source]) -> Prefix {
    let bounds = |of_runs: bool| {
        let sources = sources.iter().filter(move |source| matches!(source, Source::Run(_)) == of_runs);
        sources.filter_map(Source::bounds)
    };
    Prefix::of(bounds(bounds(false).next().is_none()))
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
    use crate::format::range::Edge;
    use crate::memtable::RunCursor;
    use crate::memtable::tests::Fixture;
    use crate::operator::KeptValues;
    use crate::sys::Mappings;
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

    /// All that a scan shows, from its first or from its last entry on.
    /// All that is in some memtables, as a reader at a sequence sees it.
    fn scan(fixtures: &[Fixture], at: u64) -> Scan {
        let within = (Edge::START.to_owned(), Edge::End);
        let look = Look { keyspace: KeyspaceId(0), at: Sequence(at), within };
        let learned = Arc::new(Learned::new(Sequence(at)));
        let mappings = Mappings::of(&fixtures[0].dir);
        let shared =
            ScanShared { values: Arc::default(), learned, mappings, operator: None, kept: KeptValues::default() };
        Scan::new(sources(fixtures), Cover::default(), look, shared)
    }

    fn walk(scan: &mut Scan, from: Place<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let forward = matches!(from, Place::First);
        let mut found = Vec::new();
        let mut more = scan.go(from).unwrap();
        while more {
            assert!(scan.is_at_entry());
            found.push((scan.key().to_vec(), scan.value().to_vec()));
            more = if forward { scan.next() } else { scan.prev() }.unwrap();
        }
        found
    }

    #[test]
    fn scans_agree_with_a_map_in_both_directions_and_at_every_turn() {
        for seed in 0..60 {
            let (fixtures, history) = random(1, seed);
            for at in [0, 10, 30, 100] {
                let expected = seen(&history, at);
                let mut scan = scan(&fixtures, at);
                let here = |scan: &Scan| scan.is_at_entry().then(|| (scan.key().to_vec(), scan.value().to_vec()));
                assert_eq!(walk(&mut scan, Place::First), expected, "seed {seed} at {at}");
                let mut found = walk(&mut scan, Place::Last);
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

    /// Of a forged database, two files may have the same version with different values.
    #[test]
    fn of_two_copies_of_a_version_all_readers_see_the_same() {
        for copies in 2..7_u8 {
            let mut fixtures: Vec<Fixture> = (0..copies).map(|_| Fixture::new()).collect();
            let keys: Vec<Vec<u8>> = (0..20_u8).map(|i| vec![i; usize::from(i)]).collect();
            for (copy, fixture) in (0..).zip(&mut fixtures) {
                for key in &keys {
                    fixture.write(0, Kind::Put, key, &[copy]);
                }
            }
            let mut scan = scan(&fixtures, 100);
            let forward = walk(&mut scan, Place::First);
            let mut back = walk(&mut scan, Place::Last);
            back.reverse();
            let expected: Vec<_> = keys.iter().map(|key| (key.clone(), vec![0])).collect();
            assert_eq!((&forward, &back), (&expected, &expected), "{copies} copies");
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
