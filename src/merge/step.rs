//! Going on in a merge, from one entry to the next.

use std::cmp::Ordering;
use std::hint::select_unpredictable;

use super::rank::Rank;
use super::{Merge, Source, Version};
use crate::error::{Result, bug};
use crate::format::Sequence;
use crate::format::entry::Kind;

/// What a source has come to: the rank of its key, and the version. Nothing, if it is exhausted.
pub(super) type Came = Option<(Rank, Version)>;

/// A step that needed nothing but a look at the next entry of one source.
pub(super) enum Alone {
    /// It has come to an entry that is all that anyone has of its key, a value that is seen.
    ToValue,
    /// It has come to something else, of which the merge has not been told.
    ToOther(Came),
}

impl Merge {
    /// Goes on to the next entry in the direction of travel.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<()> {
        self.step().map(|_| ())
    }

    /// The same; returns the version that it has come to, if there is one, and the rank of the entry before.
    #[inline]
    fn step(&mut self) -> Result<(Option<Version>, Rank)> {
        if let Some(source) = self.sources.get_mut(self.winner)
            && let Some(cursor) = source.cursor_mut()
        {
            let moved = if self.forward { cursor.next_if_sure() } else { cursor.prev_if_sure() };
            if let Some(entry) = moved {
                let rank = self.prefix.rank_going(self.forward, entry.key());
                let came = (rank, Version::of(entry.place()));
                return Ok(self.note_step(Some(came)));
            }
        }
        self.step_far()
    }

    /// The same where more has to be done than to read the next entry.
    #[inline(never)]
    fn step_far(&mut self) -> Result<(Option<Version>, Rank)> {
        let (forward, prefix) = (self.forward, &self.prefix);
        let Some(source) = self.sources.get_mut(self.winner) else { return Ok((None, Rank::EXHAUSTED)) };
        let moved = if forward { source.next() } else { source.prev() };
        moved?;
        let came = source.entry();
        let came = came.map(|entry| (prefix.rank_going(forward, entry.key()), Version::of(entry.place())));
        Ok(self.note_step(came))
    }

    /// Orders the sources when the one that has won last has gone on.
    #[inline]
    fn note_step(&mut self, stepped: Came) -> (Option<Version>, Rank) {
        let last = self.winner;
        let (rank, version) = stepped.map_or((Rank::EXHAUSTED, None), |(rank, version)| (rank, Some(version)));
        let before = std::mem::replace(&mut self.ranks[last], rank);
        if rank < self.limit {
            return (version, before);
        }
        // It will be some time until the source is needed again. One that is walked alone needs no help.
        self.sources[last].prefetch();
        self.replay(last);
        (self.top_version(), before)
    }

    /// Plays the matches of the source that has won last.
    #[inline(never)]
    fn replay(&mut self, last: usize) {
        self.changes.0 += 1;
        // If another one wins, its own rank is among those that were seen, so it is going to play next time.
        (self.winner, self.limit) = self.climb(last, 0);
    }

    /// Plays the matches of a source on the way up from its leaf to in front of node `to`; returns who has won, and the lowest
    /// rank of those that it has met.
    #[inline]
    fn climb(&mut self, mut winner: usize, to: usize) -> (usize, Rank) {
        let mut node = (winner + self.sources.len()) >> 1;
        let mut limit = Rank::EXHAUSTED;
        while node > to {
            // Who wins is a coin toss, so a branch would be mispredicted every other time.
            let loser = self.tree[node];
            limit = limit.min(self.ranks[loser]);
            let swap = self.before(loser, winner);
            self.tree[node] = select_unpredictable(swap, winner, loser);
            winner = select_unpredictable(swap, loser, winner);
            node /= 2;
        }
        (winner, limit)
    }

    /// Brings the other sources past the key of the current entry, on the way forwards: what they have of it is older, and
    /// nobody is to see it. One comparison tells that they have nothing of it. Of keys with copies in two tables a scan takes a
    /// sixth less for it, in three a quarter (`cargo bench --bench limits -- removed`).
    #[inline]
    pub(super) fn pass_copies(&mut self) -> Result<()> {
        match self.ranks.get(self.winner) {
            Some(rank) if *rank >= self.limit => self.pass_copies_far(),
            _ => Ok(()),
        }
    }

    /// Who stands on the same key has met the winner: it has won against all others below that match.
    #[inline(never)]
    fn pass_copies_far(&mut self) -> Result<()> {
        let mut node = (self.winner + self.sources.len()) >> 1;
        while node > 0 {
            let loser = self.tree[node];
            if self.ranks[loser] == self.ranks[self.winner] && self.pass_copies_of(loser)? {
                // What comes in its place is no newer than it was, so it loses this match as well, but may be a copy, too.
                (self.tree[node], _) = self.climb(loser, node);
            } else {
                node /= 2;
            }
        }
        Ok(())
    }

    /// Brings source `other` past the key of the current entry, if it stands on it; returns whether it did.
    fn pass_copies_of(&mut self, other: usize) -> Result<bool> {
        let Ok([winner, source]) = self.sources.get_disjoint_mut([self.winner, other]) else { return Ok(false) };
        let Some(entry) = winner.entry() else { return Ok(false) };
        let (key, mut newer) = (entry.key(), entry.sequence);
        let mut moved = false;
        while let Some(entry) = source.entry() {
            match key.cmp(entry.key()) {
                Ordering::Equal if entry.sequence <= newer => newer = entry.sequence,
                Ordering::Less => break,
                _ => return Err(self.disorder(other, None)),
            }
            source.next()?;
            moved = true;
        }
        self.ranks[other] = self.rank(&self.sources[other]);
        Ok(moved)
    }

    /// Goes on if no other source has a say, nor older versions, and nothing is to be done but to read the next header: most
    /// often. Half of the instructions of a step, which a scan takes when nothing stands in its way, are those of all the other
    /// cases.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "of each step of a scan")]
    pub(super) fn step_alone<const FORWARD: bool>(&mut self, at: Sequence) -> Option<Alone> {
        if self.forward != FORWARD {
            return None;
        }
        let rank = self.ranks.get_mut(self.winner)?;
        let before = *rank;
        if before >= self.limit {
            return None;
        }
        let cursor = self.sources.get_mut(self.winner)?.cursor_mut()?;
        if !FORWARD && !cursor.has_single_versions() {
            return None;
        }
        let entry = if FORWARD { cursor.next_if_sure() } else { cursor.prev_if_sure() }?;
        let after = self.prefix.rank_going(FORWARD, entry.key());
        let version = Version::of(entry.place());
        if before < after && after < self.limit && version.kind == Kind::Put && version.sequence <= at {
            *rank = after;
            return Some(Alone::ToValue);
        }
        Some(Alone::ToOther(Some((after, version))))
    }

    /// Goes on like [`advance`](Self::advance); returns the version that it has come to, if there is one, and whether it is one
    /// of the same key.
    #[inline]
    pub(super) fn advance_in_order(&mut self) -> Result<(Option<Version>, bool)> {
        let last = self.winner;
        let (version, before) = self.step()?;
        self.in_order(last, version, before)
    }

    /// The same for a step that has been made [alone](Self::step_alone).
    #[cold]
    pub(super) fn take_in_order(&mut self, came: Came) -> Result<(Option<Version>, bool)> {
        let last = self.winner;
        let (version, before) = self.note_step(came);
        self.in_order(last, version, before)
    }

    #[inline]
    fn in_order(&self, last: usize, version: Option<Version>, before: Rank) -> Result<(Option<Version>, bool)> {
        let same = version.is_some() && self.ranks[self.winner] <= before && self.is_same_key(last)?;
        Ok((version, same))
    }

    /// Whether the current entry is the only version of its key that any source has, as far as that can be told at once.
    #[inline]
    pub(super) fn is_at_only_version(&self) -> bool {
        let is_in_front = self.ranks.get(self.winner).is_some_and(|rank| *rank < self.limit);
        is_in_front && self.sources.get(self.winner).is_some_and(Source::has_single_versions)
    }

    /// Whether the current entry is a version of the same key as the one before it, which was of source `last`. A table out of
    /// order shows here at the latest, in either direction: a source whose key goes back has been in front of the others with
    /// the one before, so what comes next from all of them is behind that.
    fn is_same_key(&self, last: usize) -> Result<bool> {
        let left = self.sources.get(last).and_then(Source::left);
        let (left, bytes, _) = left.ok_or_else(|| bug("a source has lost the entry that it has just left"))?;
        if !self.is_at(left.key(bytes), Some(last))? {
            return Ok(false);
        }
        let Some(Version { sequence, .. }) = self.top_version() else { return Ok(false) };
        let (newer, older) = if self.forward { (left.sequence, sequence) } else { (sequence, left.sequence) };
        // Of one version there may be two copies, and no version stands behind an older one.
        let is_denied = last == self.winner && self.sources.get(last).is_some_and(Source::has_single_versions);
        if newer < older || is_denied { Err(self.disorder(self.winner, Some(last))) } else { Ok(true) }
    }
}
