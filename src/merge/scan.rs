//! A merge as one reader sees it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Gaps, Located, Merge, Place, Source, Version};
use crate::error::Result;
use crate::format::entry::{Entry, Kind};
use crate::format::range::Edge;
use crate::format::{KEY_BYTES_MAX, KeyspaceId, Sequence};
use crate::sys::{Block, Mappings, Pinned, Purse};
use crate::table::{Value, ValueFile, Values};
use crate::visibility::Cover;

/// Keys in a row of which nothing is seen, after which a scan looks for a way past them: a seek costs about as much as this
/// many steps.
const HIDDEN_MAX: u32 = 32;

/// Looks for a way on, in a row, between two of which a gap becomes known: shorter ones are not worth it.
const LOOKS_MIN: u32 = 4;

/// Where a scan is.
#[derive(Debug, Clone)]
enum Current {
    Nowhere,
    /// At the current entry of the merge, which goes forwards.
    Top,
    /// At an entry that the merge, going backwards, has left with all versions of its key. Its block, if it is in one, is kept
    /// if there are newer ones of the same key: of those there may be many.
    Left(Located, Option<Block>),
}

/// What one reader sees of a merge: the newest version of each key at its sequence, without tombstones, in both directions.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    merge: Merge,
    cover: Cover,
    look: Look,
    shared: Shared,
    current: Current,
    /// The value of the current entry if it is a pointer.
    apart: Option<(Arc<ValueFile>, Value)>,
    /// For who pins one value after another, of those that stand apart.
    purse: Purse,
}

/// An entry that stays valid on its own.
#[derive(Clone)]
pub(crate) struct PinnedEntry {
    /// From its key on.
    pub(crate) bytes: Pinned,
    /// Where in them the key ends, and where the value begins.
    pub(crate) key_end: usize,
    pub(crate) value_start: usize,
    /// The value, if it stands apart.
    pub(crate) value: Option<Pinned>,
}

impl PinnedEntry {
    #[inline]
    fn new(bytes: Pinned, entry: &Entry, value: Option<Pinned>) -> Self {
        let [key_end, value_start] = [entry.key_end, entry.value_start()].map(|at| at - entry.key_start);
        Self { bytes, key_end, value_start, value }
    }
}

/// Who looks, and at what.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) at: Sequence,
    /// What the sources were chosen for: others may have entries outside of it.
    pub(crate) within: (Edge, Edge),
}

/// What scans share with others.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// Where values are that stand apart from their entries.
    pub(crate) values: Arc<Values>,
    pub(crate) gaps: Arc<Gaps>,
    /// What is read from, to be checked before anything is shown.
    pub(crate) mappings: Mappings,
}

impl Scan {
    /// Sources come newest first; `cover` has the range tombstones of all of them.
    pub(crate) fn new(sources: Vec<Source>, cover: Cover, look: Look, shared: Shared) -> Self {
        let (merge, current) = (Merge::new(sources), Current::Nowhere);
        Self { merge, cover, look, shared, current, apart: None, purse: Purse::default() }
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

    /// The current entry and the bytes that it is in.
    #[inline]
    fn entry(&self) -> Option<(&Entry, &[u8])> {
        match &self.current {
            Current::Nowhere => None,
            Current::Top => self.merge.top_in_place(),
            Current::Left(left, block) => Some((&left.entry, bytes_of(&self.merge, left, block.as_ref()))),
        }
    }

    /// Whether the scan is at an entry.
    #[inline]
    pub(crate) fn is_at_entry(&self) -> bool {
        !matches!(self.current, Current::Nowhere)
    }

    /// The key of the current entry; empty if there is none.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.entry().map_or(&[], |(entry, bytes)| entry.key(bytes))
    }

    /// The value of the current entry; empty if there is none.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        let Some((entry, bytes)) = self.entry() else { return &[] };
        match &self.apart {
            Some((_, value)) if entry.kind() == Kind::Pointer => value.bytes(),
            _ => entry.value(bytes),
        }
    }

    /// The current entry, kept alive on its own.
    pub(crate) fn pin(&self) -> Option<PinnedEntry> {
        let (entry, _) = self.entry()?;
        let bytes = match &self.current {
            Current::Nowhere => return None,
            Current::Top => self.merge.pin(&self.merge.top()?)?,
            Current::Left(_, Some(block)) => block.pin(entry.key_start..entry.end),
            Current::Left(left, None) => self.merge.pin(left)?,
        };
        let value = self.apart.as_ref().filter(|_| entry.kind() == Kind::Pointer).map(|(_, value)| value.pin());
        Some(PinnedEntry::new(bytes, entry, value))
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
            Some((_, value)) if self.is_at_pointer() => Some(value.pin_from(&mut self.purse)),
            _ => None,
        };
        let (entry, _) = self.entry()?;
        Some(PinnedEntry::new(bytes, entry, value))
    }

    #[inline]
    fn is_at_pointer(&self) -> bool {
        self.entry().is_some_and(|(entry, _)| entry.kind() == Kind::Pointer)
    }

    /// Finds the value that the current entry points to, and verifies it.
    fn resolve(&mut self) -> Result<bool> {
        let Some((entry, bytes)) = self.entry() else { return Ok(false) };
        let found = self.shared.values.find(entry, bytes, || self.path());
        let resolved = found.and_then(|(pointer, file)| match &mut self.apart {
            // Most often the same file as before.
            Some((held, value)) if Arc::ptr_eq(held, file) => held.move_to(value, pointer),
            apart => {
                *apart = Some((Arc::clone(file), file.value(pointer)?));
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
        self.merge.go(place)?;
        let moved = if self.merge.forward { self.forward(false) } else { self.backward() };
        self.checked(moved)
    }

    /// The next visible entry; from no entry, there is none. After an error, the scan is nowhere.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<bool> {
        match self.current {
            Current::Nowhere => return Ok(false),
            Current::Top => self.current = Current::Nowhere,
            Current::Left(..) => self.turn(true)?,
        }
        let moved = self.forward(true);
        self.checked(moved)
    }

    /// The visible entry in front; from no entry, there is none. After an error, the scan is nowhere.
    pub(crate) fn prev(&mut self) -> Result<bool> {
        match self.current {
            Current::Nowhere => return Ok(false),
            Current::Left(..) => self.current = Current::Nowhere,
            Current::Top => self.turn(false)?,
        }
        let moved = self.backward();
        self.checked(moved)
    }

    /// Turns the merge round: forwards, it stands at the newest version of the current key then, and backwards in front of all
    /// of them.
    #[cold]
    fn turn(&mut self, forward: bool) -> Result<()> {
        let key = self.key().to_vec();
        self.current = Current::Nowhere;
        self.merge.turn(&key)?;
        while !forward && self.merge.is_at(&key, None)? {
            self.merge.advance()?;
        }
        Ok(())
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
    fn walk(&mut self, mut done: bool) -> Result<Option<bool>> {
        let mut top = if done { None } else { self.merge.top_version() };
        if done {
            self.merge.pass_copies()?;
            (top, done) = self.merge.advance_in_order()?;
        }
        let mut hidden = 0;
        while let Some(Version { sequence, kind }) = top {
            if !done && sequence <= self.look.at {
                let removed = !self.cover.is_empty() && self.is_top_removed();
                if kind.has_value() && !removed {
                    self.current = Current::Top;
                    return if kind == Kind::Pointer { self.resolve().map(Some) } else { Ok(Some(true)) };
                }
                if kind == Kind::Merge
                    && !removed
                    && let Some(top) = self.merge.top()
                {
                    return Err(self.merge.refuse(&top));
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

    /// The same as [`forward`](Self::forward) from a key of which nothing is seen, like those in front of it: past the range
    /// that a tombstone removes, and past gaps that are known. How far the way was without anything to be seen becomes known.
    #[cold]
    fn forward_far(&mut self) -> Result<bool> {
        let gaps = Arc::clone(&self.shared.gaps);
        let (mut measurement, mut looks) = (None, 0);
        let found = loop {
            let Some(top) = self.merge.top() else { break false };
            let key = self.merge.key(&top).to_vec();
            let gap = gaps.around(self.look.keyspace, &key, self.look.at);
            if looks == 0 {
                let from = gap.as_ref().map_or_else(|| Edge::Before(key.clone()), |(start, _)| start.clone());
                measurement = gaps.measure(self.look.keyspace, from, self.look.at, true);
            }
            looks += if gap.is_some() { LOOKS_MIN } else { 1 };
            let moved = match &gap {
                Some((_, Edge::End)) => break false,
                Some((_, end)) => self.skip_to(0, end).map(|()| true)?,
                None => self.step_over(&top, &key)?,
            };
            let done = !moved || self.merge.is_at(&key, None)?;
            if let Some(found) = self.walk(done)? {
                break found;
            }
        };
        if let Some(measurement) = measurement.filter(|_| looks >= LOOKS_MIN) {
            let upto = if found { Edge::Before(self.key().to_vec()) } else { Edge::End };
            measurement.finish(upto.min(self.look.within.1.clone()));
        }
        Ok(found)
    }

    /// Whether a range tombstone that this reader sees covers the current entry of the merge.
    fn is_top_removed(&mut self) -> bool {
        let Some((entry, bytes)) = self.merge.top_in_place() else { return false };
        is_removed(&mut self.cover, self.look.at, (entry, bytes))
    }

    /// The same of the current entry of the scan, on the way back.
    fn is_current_removed(&mut self) -> bool {
        let Current::Left(left, block) = &self.current else { return false };
        let bytes = bytes_of(&self.merge, left, block.as_ref());
        is_removed(&mut self.cover, self.look.at, (&left.entry, bytes))
    }

    /// Jumps to the end of the hole that `entry` is in, if a range tombstone makes one, with all sources that are older than
    /// it, so that a scan does not pay for everything that was ever in a removed range. Answers whether it has moved.
    fn step_over(&mut self, entry: &Located, key: &[u8]) -> Result<bool> {
        let Some((_, layer)) = self.cover.removed(key, self.look.at) else { return Ok(false) };
        let Some((hole, older)) = self.cover.hole(layer, key) else { return Ok(false) };
        if older > entry.source as usize {
            return Ok(false);
        }
        let place = if self.merge.forward { hole.end.to_owned() } else { hole.start.to_owned() };
        self.skip_to(older, &place)?;
        Ok(true)
    }

    /// Brings the sources from number `from` on to a place, if that is ahead of them.
    fn skip_to(&mut self, from: usize, place: &Edge) -> Result<()> {
        match place {
            Edge::End => self.merge.skip(from, &vec![u8::MAX; KEY_BYTES_MAX]),
            place => self.merge.skip(from, place.key()),
        }
    }

    /// Going backwards, versions come from old to new, so the merge stands behind all versions of the current entry's key.
    fn backward(&mut self) -> Result<bool> {
        let found = self.find_backward();
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

    fn find_backward(&mut self) -> Result<bool> {
        match self.walk_back()? {
            Some(found) => Ok(found),
            None => self.backward_far(),
        }
    }

    /// Whether there is a visible entry further in front; `None` at the last of many keys of which nothing is seen.
    fn walk_back(&mut self) -> Result<Option<bool>> {
        let mut hidden = 0;
        let mut top = self.merge.top_version();
        while let Some(mut version) = top {
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
            let Current::Left(left, _) = &self.current else { continue };
            if kind == Kind::Merge && !removed {
                return Err(self.merge.refuse(left));
            }
            hidden += 1;
            if hidden == HIDDEN_MAX {
                return Ok(None);
            }
        }
        Ok(Some(false))
    }

    /// See [`forward_far`](Self::forward_far).
    #[cold]
    fn backward_far(&mut self) -> Result<bool> {
        let gaps = Arc::clone(&self.shared.gaps);
        let (mut measurement, mut looks) = (None, 0);
        let found = loop {
            let Current::Left(left, _) = &self.current else { break false };
            let (left, key) = (*left, self.key().to_vec());
            let gap = gaps.around(self.look.keyspace, &key, self.look.at);
            if looks == 0 {
                let from = gap.as_ref().map_or_else(|| Edge::After(key.clone()), |(_, end)| end.clone());
                measurement = gaps.measure(self.look.keyspace, from, self.look.at, false);
            }
            looks += if gap.is_some() { LOOKS_MIN } else { 1 };
            match &gap {
                Some((start, _)) if start.as_ref() == Edge::START => break false,
                Some((start, _)) => self.skip_to(0, start)?,
                None => _ = self.step_over(&left, &key)?,
            }
            if let Some(found) = self.walk_back()? {
                break found;
            }
        };
        if let Some(measurement) = measurement.filter(|_| looks >= LOOKS_MIN) {
            let upto = if found { Edge::After(self.key().to_vec()) } else { Edge::START.to_owned() };
            measurement.finish(upto.max(self.look.within.0.clone()));
        }
        Ok(found)
    }
}

/// Whether a range tombstone removes an entry.
fn is_removed(cover: &mut Cover, at: Sequence, (entry, bytes): (&Entry, &[u8])) -> bool {
    cover.removed(entry.key(bytes), at).is_some_and(|(removal, _)| removal > entry.sequence)
}

/// What an entry is in that the merge has left.
#[inline]
fn bytes_of<'b>(merge: &'b Merge, left: &Located, block: Option<&'b Block>) -> &'b [u8] {
    block.map_or_else(|| merge.bytes(left), Block::bytes)
}
