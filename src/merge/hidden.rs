//! The ways of a scan past many keys of which nothing is seen.

use std::sync::Arc;

use super::Located;
use super::scan::{Current, Scan};
use crate::error::Result;
use crate::format::KEY_BYTES_MAX;
use crate::format::range::Edge;

/// Looks for a way on, in a row, between two of which a gap becomes known: shorter ones are not worth it.
const LOOKS_MIN: u32 = 4;

impl Scan {
    /// The same as [`forward`](Self::forward) from a key of which nothing is seen, like those in front of it: past the range
    /// that a tombstone removes, and past gaps that are known. How far the way was without anything to be seen becomes known.
    #[cold]
    pub(super) fn forward_far(&mut self) -> Result<bool> {
        let learned = Arc::clone(&self.shared.learned);
        let gaps = &learned.gaps;
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

    /// See [`forward_far`](Self::forward_far).
    #[cold]
    pub(super) fn backward_far(&mut self) -> Result<bool> {
        let learned = Arc::clone(&self.shared.learned);
        let gaps = &learned.gaps;
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
            if let Some(found) = self.walk_back(self.merge.top_version())? {
                break found;
            }
        };
        if let Some(measurement) = measurement.filter(|_| looks >= LOOKS_MIN) {
            let upto = if found { Edge::After(self.key().to_vec()) } else { Edge::START.to_owned() };
            measurement.finish(upto.max(self.look.within.0.clone()));
        }
        Ok(found)
    }

    /// Jumps to the end of the hole that `entry` is in, if a range tombstone makes one, with all sources that are older than
    /// it, so that a scan does not pay for everything that was ever in a removed range. Returns whether it has moved.
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
}
