//! FORMAT.md, section 10.6.
//!
//! The range tombstones of a section: fragments, in order of key and without overlaps.
//!
//! ```text
//! fragment in a table          header 16 | sequence numbers u64, descending | start key | end key | zeros up to 8
//! ```

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::range::Edge;
use super::{NUMBER_MAX, Sequence, align_up, bytes};
use crate::error::Damage;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FragmentHeader {
    start_side: u8,
    end_side: u8,
    start_key_bytes: U16,
    end_key_bytes: U16,
    reserved: [u8; 2],
    count: U32,
    reserved_tail: [u8; 4],
}

pub(crate) const FRAGMENT_HEADER_BYTES: u64 = 16;
const _: () = assert!(size_of::<FragmentHeader>() == 16 && align_of::<FragmentHeader>() == 1);

/// A range of keys and the sequence numbers, newest first, at which it was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment<'f> {
    pub(crate) start: Edge<&'f [u8]>,
    pub(crate) end: Edge<&'f [u8]>,
    pub(crate) sequences: &'f [Sequence],
}

impl Fragment<'_> {
    /// Appends the record of a table.
    #[expect(clippy::cast_possible_truncation, reason = "keys have at most KEY_BYTES_MAX bytes")]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let header = FragmentHeader {
            start_side: self.start.side(),
            end_side: self.end.side(),
            start_key_bytes: U16::new(self.start.key().len() as u16),
            end_key_bytes: U16::new(self.end.key().len() as u16),
            reserved: [0; 2],
            count: U32::new(u32::try_from(self.sequences.len()).unwrap_or(u32::MAX)),
            reserved_tail: [0; 4],
        };
        out.extend_from_slice(header.as_bytes());
        for sequence in self.sequences {
            out.extend_from_slice(&sequence.0.to_le_bytes());
        }
        out.extend_from_slice(self.start.key());
        out.extend_from_slice(self.end.key());
        super::pad(out);
    }

    /// Length of the record of a table.
    #[expect(clippy::arithmetic_side_effects, reason = "a fragment in memory is far below 2^63 bytes")]
    pub(crate) fn bytes(&self) -> u64 {
        let keys = self.start.key().len() + self.end.key().len();
        align_up(FRAGMENT_HEADER_BYTES + self.sequences.len() as u64 * 8 + keys as u64)
    }
}

/// A list of fragments in memory. Those of a section are in order and do not overlap.
///
/// Everything stands in three arrays, so that a merge of lists, which a memtable does again and again, copies bytes and
/// allocates nothing for each fragment: with three vectors in each, it took four times as long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FragmentList {
    places: Vec<Place>,
    /// The keys of their edges, one behind another. Those that touch share one.
    keys: Vec<u8>,
    sequences: Vec<Sequence>,
}

/// Where in the arrays a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    start: EdgeAt,
    end: EdgeAt,
    /// Its sequence numbers end here, and begin where those of the fragment in front of it end.
    sequences_end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EdgeAt {
    key: usize,
    bytes: u16,
    side: u8,
}

impl FragmentList {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<Fragment<'_>> {
        let place = self.places.get(at)?;
        let before = at.checked_sub(1).and_then(|before| self.places.get(before));
        let sequences_start = before.map_or(0, |before| before.sequences_end);
        let sequences = self.sequences.get(sequences_start..place.sequences_end).unwrap_or_default();
        Some(Fragment { start: self.edge(place.start), end: self.edge(place.end), sequences })
    }

    pub(crate) fn first(&self) -> Option<Fragment<'_>> {
        self.get(0)
    }

    pub(crate) fn last(&self) -> Option<Fragment<'_>> {
        self.get(self.places.len().checked_sub(1)?)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Fragment<'_>> + Clone {
        (0..self.places.len()).filter_map(|at| self.get(at))
    }

    /// How many fragments at the front end where `is_passed` holds, given that it does for a front of them.
    #[inline]
    pub(crate) fn rank(&self, is_passed: impl Fn(Edge<&[u8]>) -> bool) -> usize {
        self.places.partition_point(|place| is_passed(self.edge(place.end)))
    }

    #[inline]
    fn edge(&self, at: EdgeAt) -> Edge<&[u8]> {
        let key = self.keys.get(at.key..at.key.saturating_add(usize::from(at.bytes))).unwrap_or_default();
        // The sides in the list are those of edges.
        Edge::new(at.side, key).unwrap_or(Edge::End)
    }

    /// Adds a fragment at the end.
    pub(crate) fn push(&mut self, start: Edge<&[u8]>, end: Edge<&[u8]>, sequences: &[Sequence]) {
        let start = match self.places.last().map(|last| last.end) {
            Some(last) if self.edge(last) == start => last,
            _ => self.push_edge(start),
        };
        let end = self.push_edge(end);
        self.sequences.extend_from_slice(sequences);
        self.places.push(Place { start, end, sequences_end: self.sequences.len() });
    }

    /// Moves the end of the last fragment to `end`.
    pub(crate) fn extend_last(&mut self, end: Edge<&[u8]>) {
        let Some(last) = self.places.last() else { return };
        // The key that goes is the last one, and of no other edge.
        self.keys.truncate(last.end.key);
        let end = self.push_edge(end);
        if let Some(last) = self.places.last_mut() {
            last.end = end;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "keys have at most KEY_BYTES_MAX bytes")]
    fn push_edge(&mut self, edge: Edge<&[u8]>) -> EdgeAt {
        let at = EdgeAt { key: self.keys.len(), bytes: edge.key().len() as u16, side: edge.side() };
        self.keys.extend_from_slice(edge.key());
        at
    }

    /// Decodes `count` fragments that fill `rest`: in order, without overlap, inside the bounds of their section.
    pub(crate) fn decode(
        mut rest: &[u8],
        count: u64,
        bounds: (&Edge, &Edge),
        max_sequence: Sequence,
    ) -> Result<Self, Damage> {
        let mut list = Self::default();
        while !rest.is_empty() {
            let behind = list.len();
            rest = list.decode_one(rest)?;
            let lower =
                behind.checked_sub(1).and_then(|last| list.get(last)).map_or(bounds.0.as_ref(), |last| last.end);
            let Some(fragment) = list.last() else { return Err(Damage::OutOfBounds) };
            if fragment.start < lower || fragment.end > bounds.1.as_ref() {
                return Err(Damage::OutOfOrder);
            }
            if fragment.sequences.first().is_some_and(|newest| *newest > max_sequence) {
                return Err(Damage::BadSequence);
            }
        }
        if list.len() as u64 == count { Ok(list) } else { Err(Damage::BadField) }
    }

    /// Decodes the record at the front of `rest` and adds it; returns what follows.
    fn decode_one<'r>(&mut self, rest: &'r [u8]) -> Result<&'r [u8], Damage> {
        let (header, _) = FragmentHeader::read_from_prefix(rest).map_err(|_| Damage::OutOfBounds)?;
        let count = u64::from(header.count.get());
        let sequences = bytes::array::<U64>(rest, FRAGMENT_HEADER_BYTES, count)?;
        let keys_at = FRAGMENT_HEADER_BYTES.saturating_add(count.saturating_mul(8));
        let [start_bytes, end_bytes] = [header.start_key_bytes, header.end_key_bytes].map(|n| u64::from(n.get()));
        let start = Edge::new(header.start_side, bytes::slice(rest, keys_at, start_bytes)?)?;
        let end_at = keys_at.saturating_add(start_bytes);
        let end = Edge::new(header.end_side, bytes::slice(rest, end_at, end_bytes)?)?;
        let length = end_at.saturating_add(end_bytes);
        let padded = align_up(length);
        let padding = bytes::slice(rest, length, padded.saturating_sub(length))?;
        if header.reserved != [0; 2] || header.reserved_tail != [0; 4] || !bytes::all_zero(padding) {
            return Err(Damage::BadField);
        }
        let sequences: Vec<Sequence> = sequences.iter().map(|sequence| Sequence(sequence.get())).collect();
        let numbered = sequences.first().is_some_and(|newest| newest.0 < NUMBER_MAX)
            && sequences.last().is_some_and(|oldest| oldest.0 > 0);
        let descending = sequences.is_sorted_by(|newer, older| newer > older);
        if start >= end || !numbered || !descending {
            return Err(Damage::OutOfOrder);
        }
        self.push(start, end, &sequences);
        usize::try_from(padded).ok().and_then(|padded| rest.get(padded..)).ok_or(Damage::OutOfBounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_round_trip_and_cut_or_misplaced_ones_are_refused() {
        let sequences = |numbers: &[u64]| numbers.iter().map(|s| Sequence(*s)).collect::<Vec<_>>();
        let mut list = FragmentList::default();
        list.push(Edge::Before(b"a"), Edge::After(b"apple"), &sequences(&[9, 4]));
        list.push(Edge::After(b"apple"), Edge::Before(b"b"), &sequences(&[4]));
        list.push(Edge::After(b"x"), Edge::End, &sequences(&[7, 6, 1]));
        let mut out = Vec::new();
        for fragment in list.iter() {
            let start = out.len() as u64;
            fragment.encode(&mut out);
            assert_eq!(out.len() as u64 - start, fragment.bytes());
        }
        let decode = |bytes: &[u8], count, lower: Edge<&[u8]>, max| {
            FragmentList::decode(bytes, count, (&lower.to_owned(), &Edge::End), Sequence(max))
        };
        let lower = Edge::Before(&b"a"[..]);
        assert_eq!(decode(&out, 3, lower, 9).unwrap(), list);
        assert_eq!(decode(&out, 2, lower, 9), Err(Damage::BadField));
        assert_eq!(decode(&out, 3, lower, 8), Err(Damage::BadSequence));
        assert_eq!(decode(&out, 3, Edge::After(b"a"), 9), Err(Damage::OutOfOrder));
        for length in (1..out.len()).filter(|length| length % 8 != 0) {
            assert!(decode(&out[..length], 3, lower, 9).is_err(), "{length}");
        }
        let mut rising = Vec::new();
        Fragment { start: lower, end: Edge::End, sequences: &sequences(&[4, 9]) }.encode(&mut rising);
        assert_eq!(decode(&rising, 1, lower, 9), Err(Damage::OutOfOrder));
        let mut overlapping = Vec::new();
        for (start, end) in [(lower, Edge::After(&b"c"[..])), (Edge::Before(b"c"), Edge::End)] {
            Fragment { start, end, sequences: &[Sequence(9)] }.encode(&mut overlapping);
        }
        assert_eq!(decode(&overlapping, 2, lower, 9), Err(Damage::OutOfOrder));
    }

    #[test]
    fn a_list_answers_what_was_added() {
        let mut list = FragmentList::default();
        assert!(list.is_empty() && list.first().is_none() && list.last().is_none() && list.get(0).is_none());
        list.push(Edge::START, Edge::Before(b"b"), &[Sequence(3)]);
        list.extend_last(Edge::After(b"bc"));
        list.push(Edge::After(b"bc"), Edge::After(b"d"), &[]);
        list.push(Edge::Before(b"e"), Edge::End, &[Sequence(9), Sequence(1)]);
        let expected = [
            (Edge::START, Edge::After(&b"bc"[..]), &[Sequence(3)][..]),
            (Edge::After(&b"bc"[..]), Edge::After(&b"d"[..]), &[]),
            (Edge::Before(&b"e"[..]), Edge::End, &[Sequence(9), Sequence(1)]),
        ];
        assert!(list.iter().map(|f| (f.start, f.end, f.sequences)).eq(expected));
        assert_eq!(list.rank(|end| end.is_in_front_of(b"c")), 1);
        assert_eq!(list.len(), 3);
    }
}
