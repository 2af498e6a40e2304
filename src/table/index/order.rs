//! The order index of a section: where a key stands among the others.

use std::cmp::Ordering;
use std::sync::atomic;

use zerocopy::little_endian::{U16, U32, U64};

use super::Index;
use crate::error::Result;
use crate::format::bytes;
use crate::format::index::{
    GROUP_BYTES, GROUP_LANDMARKS, IndexSection, KeyGroup, OrderKind, VERSIONS_INTERVAL, fragment,
};
use crate::format::key_head;
use crate::sys::prefetch;

/// Bits of a head.
const HEAD_BITS: u32 = u64::BITS;

/// The order index of one section, in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    index: &'a Index,
    section: &'a IndexSection,
    heads: &'a [U64],
}

/// Which landmark is sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The last one in front.
    InFront,
    /// The first one that is not.
    Behind,
}

/// Where a section is to be searched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// From its first entry on: no key is in front.
    First,
    /// From this place on, where a key begins: of every key behind it, it is not known that it is in front.
    At(usize),
    /// Every key is in front.
    End,
}

impl Index {
    /// The order index of a section, whose heads are verified as a whole by the first use.
    #[inline]
    pub(crate) fn order(&self, number: usize) -> Result<Order<'_>> {
        let section = self.section(number)?;
        let (offset, count) = (section.heads_offset, section.order_count);
        let heads: &[U64] = bytes::array(self.file.bytes(), offset, count).map_err(self.at(offset))?;
        if self.heads_verified.get(number).is_none_or(|verified| !verified.load(atomic::Ordering::Relaxed)) {
            let start = usize::try_from(offset).map_err(|_| self.mismatch(offset))?;
            if !heads.is_empty() {
                self.file.check(start, start.saturating_add(size_of_val(heads)))?;
            }
            if let Some(verified) = self.heads_verified.get(number) {
                verified.store(true, atomic::Ordering::Relaxed);
            }
        }
        Ok(Order::new(self, section, heads))
    }
}

impl<'a> Order<'a> {
    #[inline]
    pub(super) fn new(index: &'a Index, section: &'a IndexSection, heads: &'a [U64]) -> Self {
        Self { index, section, heads }
    }

    /// Where to begin to look for the first entry that is not in front of a place of its own, which is that of a version of
    /// `key`, or in front of or behind all of them. Groups know the first landmark behind that, or the last one in front, and a
    /// sparse index one of every so many in front. `is_in_front` says on which side the entry at a place is, which is needed
    /// only where heads and fragments do not decide. `near` becomes what [`before`](Self::before) takes. O(log n).
    #[inline]
    pub(crate) fn search(
        &self,
        key: &[u8],
        side: Side,
        near: &mut usize,
        mut is_in_front: impl FnMut(usize) -> Result<bool>,
    ) -> Result<Start> {
        let prefix = self.section.common_prefix.as_slice();
        let (start, rest) = key.split_at(key.len().min(prefix.len()));
        match start.cmp(prefix) {
            Ordering::Less => return Ok(Start::First),
            Ordering::Greater => return Ok(Start::End),
            Ordering::Equal => {}
        }
        let head = key_head(rest);
        let low = self.behind(head, *near);
        let ties = self.heads.get(low..).unwrap_or_default();
        // Most heads are there once, and a binary search of what is behind costs as much as the one before.
        let is_tied = ties.first().is_some_and(|other| other.get() == head);
        let ties = if is_tied { ties.partition_point(|other| other.get() == head) } else { 0 };
        let rank = partition(low..low + ties, |at| is_in_front(self.start(at)?))?;
        let Some(at) = rank.checked_sub(1) else { return Ok(Start::First) };
        *near = at;
        match self.section.order {
            OrderKind::Sparse { .. } => Ok(Start::At(self.start(at)?)),
            OrderKind::Groups => self.search_group(at, key, head, side, is_in_front),
        }
    }

    /// The first steps of [`search`](Self::search): `near` becomes what makes those short that are left, and what they look at
    /// comes into the cache.
    #[inline]
    pub(crate) fn aim(&self, key: &[u8], near: &mut usize) -> Result<()> {
        let Some(rest) = key.strip_prefix(self.section.common_prefix.as_slice()) else { return Ok(()) };
        let Some(at) = self.behind(key_head(rest), *near).checked_sub(1) else { return Ok(()) };
        *near = at;
        if self.section.order == OrderKind::Groups {
            let offset = self.section.order_offset + at as u64 * GROUP_BYTES;
            let group: &KeyGroup = self.index.line(offset)?;
            prefetch(&group.first);
            prefetch(&group.fragments);
        }
        Ok(())
    }

    /// The first head that is not in front of one. `near` may be the last that is.
    #[inline]
    fn behind(&self, head: u64, near: usize) -> usize {
        let is_in_front = |other: &U64| other.get() < head;
        match self.heads.get(near..).and_then(|heads| heads.split_first()) {
            Some((at, behind)) if is_in_front(at) && !behind.first().is_some_and(is_in_front) => near + 1,
            _ => self.heads.partition_point(is_in_front),
        }
    }

    /// The same in a group whose first landmark is in front, and that of the next one is not.
    #[inline]
    fn search_group(
        &self,
        at: usize,
        key: &[u8],
        head: u64,
        side: Side,
        mut is_in_front: impl FnMut(usize) -> Result<bool>,
    ) -> Result<Start> {
        let group = self.group(at)?;
        let (landmarks, shared) = (usize::from(group.landmarks), usize::from(group.shared.get()));
        // Does the key begin with what the keys of the group share? Then it is not behind all of them by that alone. The heads
        // tell, if they reach that far, and otherwise the last key: a key between the first and the last shares it.
        let shared_bits = u32::try_from(8 * shared.saturating_sub(self.section.common_prefix.len()));
        let is_behind = match shared_bits.ok().filter(|bits| *bits <= HEAD_BITS) {
            Some(bits) => {
                let differ = head ^ self.heads.get(at).map_or(head, |first| first.get());
                differ.checked_shr(HEAD_BITS - bits).is_some_and(|differ| differ != 0)
            }
            None => is_in_front(place_in(group, landmarks - 1))?,
        };
        let slot = if is_behind {
            landmarks
        } else {
            let wanted = fragment(key, shared);
            let low = count(group, |print| print < wanted);
            let ties = count(group, |print| print == wanted);
            1 + partition(low..low + ties, |slot| is_in_front(place_in(group, slot + 1)))?
        };
        if side == Side::InFront {
            Ok(Start::At(place_in(group, slot - 1)))
        } else if slot < landmarks {
            Ok(Start::At(place_in(group, slot)))
        } else if at + 1 < self.heads.len() {
            Ok(Start::At(self.start(at + 1)?))
        } else {
            Ok(Start::End)
        }
    }

    /// Adds places of landmarks, ascending and in front of `place`: with groups those of all between the start of a group and
    /// there, with a sparse index one, in front by less than an interval; none if there is no such landmark. `near` is
    /// where to look first, and becomes where they were found. O(1) for walks, else O(log n), and a group for each.
    #[inline]
    pub(crate) fn before(&self, place: usize, near: &mut usize, places: &mut Vec<usize>) -> Result<()> {
        let is_in_front = |at: usize| Ok(at < self.heads.len() && self.start(at)? < place);
        // A walk comes to where it was, or to what is in front of that.
        let mut at = *near;
        if !is_in_front(at)? {
            at = at.wrapping_sub(1);
        }
        if !is_in_front(at)? || is_in_front(at + 1)? {
            match partition(0..self.heads.len(), is_in_front)?.checked_sub(1) {
                Some(found) => at = found,
                None => return Ok(()),
            }
        }
        *near = at;
        match self.section.order {
            OrderKind::Sparse { .. } => places.push(self.start(at)?),
            OrderKind::Groups => {
                places.extend(self::places(self.group(at)?));
                places.truncate(places.partition_point(|at| *at < place));
            }
        }
        Ok(())
    }

    /// The place of the first landmark at or behind the share `part / parts` of the section, about.
    pub(crate) fn at_share(&self, part: usize, parts: usize) -> Result<usize> {
        self.start(self.heads.len() * part / parts)
    }

    /// About how many landmarks are in front of the place that a [`search`](Self::search) has found, which left `at` in `near`:
    /// each group is taken to be as full as all are on average, and in the last one they are counted.
    pub(crate) fn rank(&self, at: usize, place: usize) -> Result<u64> {
        let landmarks = self.section.landmarks;
        let rank = match self.section.order {
            OrderKind::Sparse { interval } => (at as u64).saturating_mul(interval.into()),
            OrderKind::Groups => {
                let in_front = u128::from(landmarks) * at as u128 / self.heads.len().max(1) as u128;
                let slot = places(self.group(at)?).take_while(|other| *other < place).count();
                u64::try_from(in_front).unwrap_or(u64::MAX).saturating_add(slot as u64)
            }
        };
        Ok(rank.min(landmarks))
    }

    /// Where the landmark of head `at` is.
    #[inline]
    fn start(&self, at: usize) -> Result<usize> {
        match self.section.order {
            OrderKind::Groups => Ok(place_in(self.group(at)?, 0)),
            OrderKind::Sparse { .. } => {
                let offset = self.section.order_offset + at as u64 * size_of::<U32>() as u64;
                Ok(place(self.index.line::<U32>(offset)?.get()))
            }
        }
    }

    /// The verified group `at`.
    #[inline]
    fn group(&self, at: usize) -> Result<&'a KeyGroup> {
        let offset = self.section.order_offset + at as u64 * GROUP_BYTES;
        let group: &KeyGroup = self.index.line(offset)?;
        if !(1..=GROUP_LANDMARKS).contains(&usize::from(group.landmarks)) {
            return Err(self.index.mismatch(offset));
        }
        Ok(group)
    }

    /// What compares the index with the entries that it is of, in order.
    pub(crate) fn check(self) -> OrderCheck<'a> {
        OrderCheck { order: self, versions: 0, landmarks: 0, at: 0, slot: 0, shared: Vec::new() }
    }
}

/// Compares an order index with the entries of its section.
#[derive(Debug)]
pub(crate) struct OrderCheck<'a> {
    order: Order<'a>,
    /// Of the last key, behind its first one.
    versions: u64,
    landmarks: u64,
    /// Of the landmark that comes next: its group, and its slot there.
    at: usize,
    slot: usize,
    /// What the keys of the group begin with.
    shared: Vec<u8>,
}

impl OrderCheck<'_> {
    /// Whether the index leads to the next entry and its place, if it has to.
    #[inline]
    pub(crate) fn leads_to(&mut self, key: &[u8], place: usize, is_new_key: bool) -> Result<bool> {
        self.versions = if is_new_key { 0 } else { self.versions + 1 };
        if self.versions.is_multiple_of(VERSIONS_INTERVAL) { self.leads_to_landmark(key, place) } else { Ok(true) }
    }

    fn leads_to_landmark(&mut self, key: &[u8], place: usize) -> Result<bool> {
        let (number, order) = (self.landmarks, self.order);
        self.landmarks += 1;
        match order.section.order {
            OrderKind::Sparse { interval } => {
                let interval = u64::from(interval);
                if !number.is_multiple_of(interval) {
                    return Ok(true);
                }
                self.at = usize::try_from(number / interval).map_err(|_| order.index.mismatch(0))? + 1;
                self.is_start(self.at - 1, key, place)
            }
            OrderKind::Groups => {
                if self.at >= order.heads.len() {
                    return Ok(false);
                }
                let (group, slot) = (order.group(self.at)?, self.slot);
                let shared = usize::from(group.shared.get());
                let leads = match slot.checked_sub(1) {
                    None => {
                        self.shared = key.get(..shared).unwrap_or_default().to_vec();
                        self.shared.len() == shared && self.is_start(self.at, key, place)?
                    }
                    Some(behind) => {
                        let print = group.fragments.get(behind).map(|print| print.get());
                        key.starts_with(&self.shared)
                            && print == Some(fragment(key, shared))
                            && place_in(group, slot) == place
                    }
                };
                self.slot += 1;
                if self.slot == usize::from(group.landmarks) {
                    (self.at, self.slot) = (self.at + 1, 0);
                }
                Ok(leads)
            }
        }
    }

    fn is_start(&self, at: usize, key: &[u8], place: usize) -> Result<bool> {
        let head = key.strip_prefix(self.order.section.common_prefix.as_slice()).map(key_head);
        let stored = self.order.heads.get(at).map(|head| head.get());
        Ok(stored.is_some() && stored == head && self.order.start(at)? == place)
    }

    /// Whether there is no more in the index than led to landmarks.
    pub(crate) fn is_done(&self) -> bool {
        self.at == self.order.heads.len() && self.slot == 0 && self.landmarks == self.order.section.landmarks
    }
}

/// The places of the landmarks of a group, which may be any bytes.
pub(super) fn places(group: &KeyGroup) -> impl Iterator<Item = usize> {
    let first = place(group.first.get());
    let offsets = group.offsets.iter().map(move |offset| first + place(offset.get().into()));
    std::iter::once(first).chain(offsets).take(group.landmarks.get().into())
}

/// The place of a slot of a group.
#[inline]
fn place_in(group: &KeyGroup, slot: usize) -> usize {
    let behind = slot.checked_sub(1).and_then(|slot| group.offsets.get(slot));
    place(group.first.get()) + behind.map_or(0, |offset| place(offset.get().into()))
}

#[inline]
fn place(units: u32) -> usize {
    units as usize * 8
}

/// How many fragments of a group are such. All of the array, so that a processor does eight at a time.
#[inline]
fn count(group: &KeyGroup, is: impl Fn(u16) -> bool) -> usize {
    let landmarks = group.landmarks.get();
    let counted =
        |count: u16, (slot, print): (u16, &U16)| count + (u16::from(is(print.get())) & u16::from(slot < landmarks));
    usize::from((1..).zip(&group.fragments).fold(0, counted))
}

/// The first number that is not such: those that are, are in front.
#[inline]
fn partition(range: std::ops::Range<usize>, mut is: impl FnMut(usize) -> Result<bool>) -> Result<usize> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = usize::midpoint(low, high);
        if is(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}
