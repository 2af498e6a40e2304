//! A merge as one reader sees it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apart::{Apart, PinnedEntry};
use super::step::{Alone, Came};
use super::{Bill, Gaps, Located, Merge, Place, ReadCost, Source, Version};
use crate::error::Result;
use crate::format::entry::Kind;
use crate::format::entry_ref::EntryRef;
use crate::format::range::Edge;
use crate::format::{KeyspaceId, Sequence};
use crate::operator::{KeptValues, Operator};
use crate::sys::{Block, Mappings, Purse};
use crate::table::Values;
use crate::visibility::Cover;

/// Keys in a row of which nothing is seen, after which a scan looks for a way past them: a seek costs about as much as this
/// many steps.
const HIDDEN_MAX: u32 = 32;

/// Where a scan is.
#[derive(Debug, Clone)]
pub(super) enum Current {
    Nowhere,
    /// At the current entry of the merge: forwards the newest version of its key that is seen, backwards the only one.
    Top,
    /// At an entry that the merge, going backwards, has left with all versions of its key. Its block, if it is in one, is kept
    /// if there are newer ones of the same key: of those there may be many.
    Left(Located, Option<Block>),
}

/// What one reader sees of a merge: the newest version of each key at its sequence, without tombstones, in both directions.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(super) merge: Merge,
    pub(super) cover: Cover,
    pub(super) look: Look,
    pub(super) shared: ScanShared,
    pub(super) current: Current,
    bill: Bill,
    /// The value of the current entry if that is a pointer or an operand.
    pub(super) apart: Apart,
    /// Looks for what an operand works on. Made for the first one.
    pub(super) aside: Option<Box<Merge>>,
    /// For who pins one value after another, of those that stand apart.
    purse: Purse,
}

/// Who looks, and at what.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) at: Sequence,
    /// What the sources were chosen for: others may have entries outside of it.
    pub(crate) within: (Edge, Edge),
}

/// What readers leave to those behind them.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) gaps: Gaps,
    pub(crate) cost: ReadCost,
}

impl Learned {
    /// For a database that has given this sequence number away last.
    pub(crate) fn new(given: Sequence) -> Self {
        Self { gaps: Gaps::new(given), cost: ReadCost::default() }
    }
}

/// What scans share with others.
#[derive(Debug, Clone)]
pub(crate) struct ScanShared {
    /// Where values are that stand apart from their entries.
    pub(crate) values: Arc<Values>,
    pub(crate) learned: Arc<Learned>,
    /// What is read from, to be checked before anything is shown.
    pub(crate) mappings: Mappings,
    /// What makes values of operands.
    pub(crate) operator: Option<Operator>,
    pub(crate) kept: KeptValues,
}

impl Scan {
    /// Sources come newest first; `cover` has the range tombstones of all of them.
    pub(crate) fn new(sources: Vec<Source>, cover: Cover, look: Look, shared: ScanShared) -> Self {
        let bill = Bill::new(&sources);
        let (merge, current) = (Merge::new(sources), Current::Nowhere);
        Self { merge, cover, look, shared, current, bill, apart: Apart::Nothing, aside: None, purse: Purse::default() }
    }

    /// Pays what it owes for level 0.
    #[cold]
    fn pay(&mut self) {
        let owed = self.bill.take(&mut self.merge.changes);
        if owed > 0 {
            self.shared.learned.cost.pay(self.look.keyspace, owed);
        }
    }

    /// What a move has found, if it can be believed.
    #[inline]
    fn checked(&self, moved: Result<bool>) -> Result<bool> {
        match moved {
            Ok(found) if !Mappings::are_guarded() => Ok(found),
            Err(e) if !Mappings::are_guarded() => Err(e),
            moved => self.check_mappings().and(moved),
        }
    }

    #[cold]
    fn check_mappings(&self) -> Result<()> {
        self.shared.mappings.check(self.value())
    }

    /// The current entry.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "of each key and value that a scan shows")]
    fn entry(&self) -> Option<EntryRef<'_>> {
        if matches!(self.current, Current::Top) { self.merge.top_in_place() } else { self.left_entry() }
    }

    #[inline(never)]
    fn left_entry(&self) -> Option<EntryRef<'_>> {
        let Current::Left(left, block) = &self.current else { return None };
        Some(left.entry.in_bytes(bytes_of(&self.merge, left, block.as_ref())))
    }

    /// Whether the scan is at an entry.
    #[inline]
    pub(crate) fn is_at_entry(&self) -> bool {
        !matches!(self.current, Current::Nowhere)
    }

    /// The key of the current entry; empty if there is none.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.entry().map_or(&[], EntryRef::key)
    }

    /// The value of the current entry; empty if there is none.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        let Some(entry) = self.entry() else { return &[] };
        match &self.apart {
            Apart::Stored(_, value) if entry.kind() == Kind::Pointer => value.bytes(),
            Apart::Made(block) if entry.kind() == Kind::Merge => block.bytes(),
            _ => entry.value(),
        }
    }

    /// The current entry, kept alive on its own.
    pub(crate) fn pin(&self) -> Option<PinnedEntry> {
        let entry = self.entry()?;
        let bytes = match &self.current {
            Current::Nowhere => return None,
            Current::Top => self.merge.pin(&self.merge.top()?)?,
            Current::Left(_, Some(block)) => block.pin(entry.key_start..entry.end),
            Current::Left(left, None) => self.merge.pin(left)?,
        };
        let value = match &self.apart {
            Apart::Stored(_, value) if entry.kind() == Kind::Pointer => Some(value.pin()),
            Apart::Made(block) if entry.kind() == Kind::Merge => Some(block.pin(0..block.bytes().len())),
            _ => None,
        };
        Some(PinnedEntry::new(bytes, entry.place(), value))
    }

    /// The same for who pins one entry after another: of what they are in, many pins are counted at once.
    #[inline]
    pub(crate) fn pin_from_purse(&mut self) -> Option<PinnedEntry> {
        let bytes = match &self.current {
            Current::Nowhere => return None,
            Current::Top => self.merge.pin_top_from_purse()?,
            Current::Left(left, Some(block)) => block.pin(left.entry.key_start..left.entry.end),
            Current::Left(left, None) => self.merge.pin_from_purse(left)?,
        };
        let value = match &self.apart {
            Apart::Stored(_, value) if self.is_at(Kind::Pointer) => Some(value.pin_from(&mut self.purse)),
            Apart::Made(block) if self.is_at(Kind::Merge) => Some(block.pin(0..block.bytes().len())),
            _ => None,
        };
        let entry = self.entry()?;
        Some(PinnedEntry::new(bytes, entry.place(), value))
    }

    #[inline]
    fn is_at(&self, kind: Kind) -> bool {
        self.entry().is_some_and(|entry| entry.kind() == kind)
    }

    /// Finds the value that the current entry points to, and verifies it.
    fn resolve(&mut self) -> Result<bool> {
        let Some(entry) = self.entry() else { return Ok(false) };
        let found = self.shared.values.find(entry, || self.path());
        let resolved = found.and_then(|(pointer, file)| match &mut self.apart {
            // Most often the same file as before.
            Apart::Stored(held, value) if Arc::ptr_eq(held, file) => held.move_to(value, pointer),
            apart => {
                *apart = Apart::Stored(Arc::clone(file), file.value(pointer)?);
                Ok(())
            }
        });
        if resolved.is_err() {
            self.current = Current::Nowhere;
        }
        resolved.map(|()| true)
    }

    /// The file that the current entry is in.
    #[cold]
    fn path(&self) -> PathBuf {
        match &self.current {
            Current::Left(left, _) => self.merge.path(left),
            _ => self.merge.top().and_then(|top| self.merge.path(&top)),
        }
        .unwrap_or(Path::new(""))
        .to_owned()
    }

    /// Goes to the first (or, for places from behind, the last) visible entry from `place` on.
    pub(crate) fn go(&mut self, place: Place<'_>) -> Result<bool> {
        self.current = Current::Nowhere;
        if self.bill.add_seek() {
            self.pay();
        }
        self.merge.go(place)?;
        let moved = if self.merge.forward { self.forward(false) } else { self.backward(None) };
        self.checked(moved)
    }

    /// The next visible entry; from no entry, there is none. After an error, the scan is nowhere.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<bool> {
        match self.step_alone::<true>() {
            Some(Alone::ToValue) => self.checked(Ok(true)),
            Some(Alone::ToOther(came)) => {
                let moved = self.next_from(came);
                self.checked(moved)
            }
            None => self.next_far(),
        }
    }

    /// See [`Merge::step_alone`].
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "of each step of a scan")]
    fn step_alone<const FORWARD: bool>(&mut self) -> Option<Alone> {
        let is_alone = matches!(self.current, Current::Top) && self.cover.is_empty();
        if is_alone { self.merge.step_alone::<FORWARD>(self.look.at) } else { None }
    }

    /// Goes on from what a step has come to.
    #[inline(never)]
    fn next_from(&mut self, came: Came) -> Result<bool> {
        self.current = Current::Nowhere;
        let (top, done) = self.merge.take_in_order(came)?;
        match self.walk_from(top, done)? {
            Some(found) => Ok(found),
            None => self.forward_far(),
        }
    }

    #[inline(never)]
    fn next_far(&mut self) -> Result<bool> {
        let done = match self.current {
            Current::Nowhere => return Ok(false),
            Current::Top if self.merge.forward => {
                self.current = Current::Nowhere;
                true
            }
            _ => self.turn()?,
        };
        let moved = self.forward(done);
        self.checked(moved)
    }

    /// The visible entry in front; from no entry, there is none. After an error, the scan is nowhere.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<bool> {
        match self.step_alone::<false>() {
            Some(Alone::ToValue) => self.checked(Ok(true)),
            Some(Alone::ToOther(came)) => {
                self.current = Current::Nowhere;
                let moved = self.merge.take_in_order(came).and_then(|left| self.backward(Some(left)));
                self.checked(moved)
            }
            None => self.prev_far(),
        }
    }

    #[inline(never)]
    fn prev_far(&mut self) -> Result<bool> {
        let at = match self.current {
            Current::Nowhere => return Ok(false),
            Current::Top if self.merge.forward => self.turn()?,
            ref current => matches!(current, Current::Top),
        };
        self.current = Current::Nowhere;
        let left = at.then(|| self.merge.advance_in_order()).transpose();
        let moved = left.and_then(|left| self.backward(left));
        self.checked(moved)
    }

    /// Turns the merge round: backwards, it stands in front of all versions of the current key then, and forwards at the newest
    /// one that is seen or behind all of them. Returns whether it stands at one.
    #[cold]
    fn turn(&mut self) -> Result<bool> {
        let key = self.key().to_vec();
        self.current = Current::Nowhere;
        self.merge.turn(&key)?;
        while !self.merge.forward && self.merge.is_at(&key, None)? {
            self.merge.advance()?;
        }
        self.merge.is_at(&key, None)
    }

    /// Going forwards, the merge stands at the current entry. With `done`, the versions of its key have had their turn.
    #[inline]
    fn forward(&mut self, done: bool) -> Result<bool> {
        match self.walk(done)? {
            Some(found) => Ok(found),
            None => self.forward_far(),
        }
    }

    /// Whether there is a visible entry further on; `None` at the last of many keys of which nothing is seen.
    #[inline]
    pub(super) fn walk(&mut self, done: bool) -> Result<Option<bool>> {
        if !done {
            return self.walk_from(self.merge.top_version(), false);
        }
        self.merge.pass_copies()?;
        let (top, done) = self.merge.advance_in_order()?;
        self.walk_from(top, done)
    }

    /// The same from the version `top` on, at which the merge stands.
    #[inline]
    fn walk_from(&mut self, mut top: Option<Version>, mut done: bool) -> Result<Option<bool>> {
        let mut hidden = 0;
        while let Some(Version { sequence, kind }) = top {
            if !done && sequence <= self.look.at {
                let removed = !self.cover.is_empty() && self.is_top_removed();
                if kind.has_value() && !removed {
                    self.current = Current::Top;
                    return if kind == Kind::Pointer { self.resolve().map(Some) } else { Ok(Some(true)) };
                }
                if kind == Kind::Merge && !removed {
                    self.current = Current::Top;
                    return self.make().map(Some);
                }
                done = true;
                hidden += 1;
                if hidden == HIDDEN_MAX {
                    return Ok(None);
                }
                self.merge.pass_copies()?;
            }
            let (next, same) = self.merge.advance_in_order()?;
            (top, done) = (next, done && same);
        }
        Ok(Some(false))
    }

    /// Whether a range tombstone that this reader sees covers the current entry of the merge.
    fn is_top_removed(&mut self) -> bool {
        let Some(entry) = self.merge.top_in_place() else { return false };
        is_removed(&mut self.cover, self.look.at, entry)
    }

    /// The same of the current entry of the scan, on the way back.
    fn is_current_removed(&mut self) -> bool {
        let Current::Left(left, block) = &self.current else { return false };
        let bytes = bytes_of(&self.merge, left, block.as_ref());
        is_removed(&mut self.cover, self.look.at, left.entry.in_bytes(bytes))
    }

    /// Going backwards, versions come from old to new, so the merge stands in front of all versions of the current entry's key.
    /// Where that was the only one of its key, it has just been `left`; which says where to, and if it was not the only one.
    #[inline(never)]
    fn backward(&mut self, left: Option<(Option<Version>, bool)>) -> Result<bool> {
        let found = match left {
            None => self.find_backward(self.merge.top_version()),
            Some((top, false)) => self.find_backward(top),
            Some((_, true)) => Err(self.merge.disorder(self.merge.winner, None)),
        };
        if !matches!(found, Ok(true)) {
            self.current = Current::Nowhere;
        }
        found
    }

    /// Keeps the block of the entry that was left, before its source goes on for the second time.
    #[cold]
    fn keep_block(&mut self) {
        if let Current::Left(left, block @ None) = &mut self.current {
            *block = self.merge.block(left).cloned();
        }
    }

    #[inline]
    fn find_backward(&mut self, top: Option<Version>) -> Result<bool> {
        match self.walk_back(top)? {
            Some(found) => Ok(found),
            None => self.backward_far(),
        }
    }

    /// Whether there is a visible entry from the version `top` on, at which the merge stands; `None` at the last of many keys
    /// of which nothing is seen.
    #[inline]
    pub(super) fn walk_back(&mut self, mut top: Option<Version>) -> Result<Option<bool>> {
        let mut hidden = 0;
        while let Some(mut version) = top {
            // Most often: then it need not be left to find out that it is the newest one.
            if version.sequence <= self.look.at
                && self.merge.is_at_only_version()
                && version.kind.has_value()
                && (self.cover.is_empty() || !self.is_top_removed())
            {
                self.current = Current::Top;
                return if version.kind == Kind::Pointer { self.resolve().map(Some) } else { Ok(Some(true)) };
            }
            // The newest version of the key that is seen.
            let mut newest = None;
            loop {
                if version.sequence <= self.look.at
                    && let Some(located) = self.merge.top()
                {
                    newest = Some(version);
                    self.current = Current::Left(located, None);
                } else if newest.is_some() {
                    self.keep_block();
                }
                let (next, same) = self.merge.advance_in_order()?;
                top = next;
                match next {
                    Some(next) if same => version = next,
                    _ => break,
                }
            }
            let Some(Version { kind, .. }) = newest else { continue };
            let removed = !self.cover.is_empty() && self.is_current_removed();
            if kind.has_value() && !removed {
                return if kind == Kind::Pointer { self.resolve().map(Some) } else { Ok(Some(true)) };
            }
            if kind == Kind::Merge && !removed {
                return self.make().map(Some);
            }
            hidden += 1;
            if hidden == HIDDEN_MAX {
                return Ok(None);
            }
        }
        Ok(Some(false))
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.pay();
    }
}

/// Whether a range tombstone removes an entry.
fn is_removed(cover: &mut Cover, at: Sequence, entry: EntryRef<'_>) -> bool {
    cover.removed(entry.key(), at).is_some_and(|(removal, _)| removal > entry.sequence)
}

/// What an entry is in that the merge has left.
#[inline]
fn bytes_of<'b>(merge: &'b Merge, left: &Located, block: Option<&'b Block>) -> &'b [u8] {
    block.map_or_else(|| merge.bytes(left), Block::bytes)
}
