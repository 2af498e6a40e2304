//! A merge as one reader sees it.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Located, Merge, Place, Source};
use crate::error::Result;
use crate::format::entry::Kind;
use crate::format::range::Edge;
use crate::format::{KEY_BYTES_MAX, Sequence};
use crate::sys::{Mappings, Pinned};
use crate::table::{Value, ValueFile, Values};
use crate::visibility::Cover;

/// Removed entries in a row after which a scan jumps: a seek costs about as much as this many steps.
const HIDDEN_MAX: u32 = 32;

/// What one reader sees of a merge: the newest version of each key at its sequence, without tombstones, in both directions.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    merge: Merge,
    cover: Cover,
    /// Where values are that stand apart from their entries.
    values: Arc<Values>,
    at: Sequence,
    current: Option<Located>,
    /// The value of the current entry if it is a pointer.
    apart: Option<(Arc<ValueFile>, Value)>,
    /// Removed entries met in a row.
    hidden: u32,
    /// What is read from, to be checked before anything is shown.
    mappings: Option<Mappings>,
}

impl Scan {
    /// Sources come newest first; `cover` has the range tombstones of all of them, `values` the value files.
    pub(crate) fn new(sources: Vec<Source>, cover: Cover, values: Arc<Values>, at: Sequence) -> Self {
        let merge = Merge::new(sources);
        Self { merge, cover, values, at, current: None, apart: None, hidden: 0, mappings: None }
    }

    /// Sees to it that nothing is shown of a mapping that was lost.
    pub(crate) fn of(mut self, mappings: &Mappings) -> Self {
        self.mappings = Some(mappings.clone());
        self
    }

    /// What a move has found, if it can be believed.
    #[inline]
    fn checked(&self, moved: Result<bool>) -> Result<bool> {
        if Mappings::are_guarded() { self.check_mappings().and(moved) } else { moved }
    }

    #[cold]
    fn check_mappings(&self) -> Result<()> {
        let found = self.current().map_or(&[][..], |(_, value)| value);
        self.mappings.as_ref().map_or(Ok(()), |mappings| mappings.check(found))
    }

    /// Key and value of the current entry.
    #[inline]
    pub(crate) fn current(&self) -> Option<(&[u8], &[u8])> {
        let current = self.current.as_ref()?;
        let value = match &self.apart {
            Some((_, value)) if current.entry.kind() == Kind::Pointer => value.bytes(),
            _ => self.merge.value(current),
        };
        Some((self.merge.key(current), value))
    }

    /// The current entry, kept alive on its own: its bytes from the key on, where in them the key ends and the value begins,
    /// and the value if it stands apart.
    #[inline]
    pub(crate) fn pin(&self) -> Option<(Pinned, [usize; 2], Option<Pinned>)> {
        let current = self.current.as_ref()?;
        let value = match &self.apart {
            Some((_, value)) if current.entry.kind() == Kind::Pointer => Some(value.pin()),
            _ => None,
        };
        let entry = &current.entry;
        let places = [entry.key_end, entry.value_start()].map(|at| at - entry.key_start);
        Some((self.merge.pin(current)?, places, value))
    }

    /// Finds the value that the current entry points to, and verifies it.
    fn resolve(&mut self) -> Result<bool> {
        let Some(current) = &self.current else { return Ok(false) };
        let found = self.merge.find_value(current, &self.values);
        let resolved = found.and_then(|(pointer, file)| match &mut self.apart {
            // Most often the same file as before.
            Some((held, value)) if Arc::ptr_eq(held, file) => held.move_to(value, pointer),
            apart => {
                *apart = Some((Arc::clone(file), file.value(pointer)?));
                Ok(())
            }
        });
        match resolved {
            Ok(()) => Ok(true),
            Err(e) => {
                self.current = None;
                Err(e)
            }
        }
    }

    /// Goes to the first (or, for places from behind, the last) visible entry from `place` on.
    pub(crate) fn go(&mut self, place: Place<'_>) -> Result<bool> {
        self.current = None;
        self.merge.go(place)?;
        let moved = if self.merge.forward { self.forward(false) } else { self.backward() };
        self.checked(moved)
    }

    /// The next visible entry; from no entry, there is none.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<bool> {
        let Some(current) = &self.current else { return Ok(false) };
        if !self.merge.forward {
            let key = self.merge.key(current).to_vec();
            self.merge.go(Place::AtOrBehind(&key))?;
        }
        let moved = self.forward(true);
        self.checked(moved)
    }

    /// The visible entry in front; from no entry, there is none.
    pub(crate) fn prev(&mut self) -> Result<bool> {
        let Some(done) = self.current.clone() else { return Ok(false) };
        if self.merge.forward {
            let key = self.merge.key(&done).to_vec();
            self.merge.go(Place::AtOrInFront(&key))?;
            while let Some(top) = self.merge.top() {
                if self.merge.compare(&done, &top)? == Ordering::Less {
                    break;
                }
                self.merge.advance()?;
            }
        }
        let moved = self.backward();
        self.checked(moved)
    }

    /// Going forwards, the merge stands at the current entry. With `done`, the versions of its key have had their turn.
    #[inline]
    fn forward(&mut self, mut done: bool) -> Result<bool> {
        if done {
            done = self.merge.advance_in_order()?;
        }
        while let Some((sequence, kind)) = self.merge.top_version() {
            if !done && sequence <= self.at {
                let removed = !self.cover.is_empty() && self.is_top_removed();
                if kind.has_value() && !removed {
                    self.current = self.merge.top();
                    return if kind == Kind::Pointer { self.resolve() } else { Ok(true) };
                }
                if kind == Kind::Merge
                    && !removed
                    && let Some(top) = self.merge.top()
                {
                    return Err(self.merge.refuse(&top));
                }
                done = true;
                if removed && let Some(left) = self.leave_hole()? {
                    done = self.merge.is_same_key(&left)?;
                    continue;
                }
            }
            done &= self.merge.advance_in_order()?;
        }
        self.current = None;
        Ok(false)
    }

    fn is_top_removed(&mut self) -> bool {
        self.merge.top().is_some_and(|top| self.is_removed(&top))
    }

    /// See [`step_over`](Self::step_over); answers where the merge stood before, if it has moved.
    fn leave_hole(&mut self) -> Result<Option<Located>> {
        let Some(top) = self.merge.top() else { return Ok(None) };
        Ok(self.step_over(&top)?.then_some(top))
    }

    fn is_removed(&mut self, entry: &Located) -> bool {
        let removed = self.cover.removed(self.merge.key(entry), self.at).is_some_and(|(r, _)| r > entry.entry.sequence);
        self.hidden = if removed { self.hidden + 1 } else { 0 };
        removed
    }

    /// After many removed entries in a row, jumps to the end of the hole that `entry` is in with all sources that are older
    /// than it, so that a scan does not pay for everything that was ever in a removed range. Answers whether it has moved.
    fn step_over(&mut self, entry: &Located) -> Result<bool> {
        if self.hidden < HIDDEN_MAX {
            return Ok(false);
        }
        self.hidden = 0;
        let key = self.merge.key(entry).to_vec();
        let Some((_, layer)) = self.cover.removed(&key, self.at) else { return Ok(false) };
        let Some((hole, older)) = self.cover.hole(layer, &key) else { return Ok(false) };
        if older > entry.source as usize {
            return Ok(false);
        }
        match (self.merge.forward, &hole.end) {
            (true, Edge::End) => self.merge.skip(older, &vec![u8::MAX; KEY_BYTES_MAX])?,
            (true, end) => self.merge.skip(older, end.key())?,
            (false, _) => self.merge.skip(older, hole.start.key())?,
        }
        Ok(true)
    }

    /// Going backwards, versions come from old to new, so the merge stands behind all versions of the current entry's key.
    fn backward(&mut self) -> Result<bool> {
        while self.merge.top_version().is_some() {
            let mut newest: Option<Located> = None;
            while let Some((sequence, _)) = self.merge.top_version() {
                if sequence <= self.at {
                    newest = self.merge.top();
                }
                if !self.merge.advance_in_order()? {
                    break;
                }
            }
            let Some(newest) = newest else { continue };
            let removed = !self.cover.is_empty() && self.is_removed(&newest);
            let kind = newest.entry.kind();
            if kind.has_value() && !removed {
                self.current = Some(newest);
                return if kind == Kind::Pointer { self.resolve() } else { Ok(true) };
            }
            if kind == Kind::Merge && !removed {
                return Err(self.merge.refuse(&newest));
            }
            if removed {
                self.step_over(&newest)?;
            }
        }
        self.current = None;
        Ok(false)
    }
}
