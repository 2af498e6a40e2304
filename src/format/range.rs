//! Ranges of keys, and the tombstones over them: in the log an entry of kind range delete, in a table a list of fragments.
//!
//! ```text
//! value of a range delete      start side u8 | end side u8 | end key
//! fragment in a table          header 16 | sequence numbers u64, descending | start key | end key | zeros up to 8
//! ```

use std::cmp::Ordering;
use std::ops::{Bound, RangeBounds};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{NUMBER_MAX, Sequence, align_up, bytes};
use crate::error::Damage;

/// A place between keys: right in front of a key or right behind it, or behind all keys. Places order like keys, so no key
/// that follows another ever has to be made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge<K = Vec<u8>> {
    Before(K),
    After(K),
    End,
}

/// From one place to another.
pub(crate) type Range<'k> = (Edge<&'k [u8]>, Edge<&'k [u8]>);

impl<K: AsRef<[u8]>> Edge<K> {
    #[inline]
    pub(crate) fn as_ref(&self) -> Edge<&[u8]> {
        match self {
            Self::Before(key) => Edge::Before(key.as_ref()),
            Self::After(key) => Edge::After(key.as_ref()),
            Self::End => Edge::End,
        }
    }

    pub(crate) fn to_owned(&self) -> Edge {
        match self.as_ref() {
            Edge::Before(key) => Edge::Before(key.to_vec()),
            Edge::After(key) => Edge::After(key.to_vec()),
            Edge::End => Edge::End,
        }
    }

    /// Whether `key` lies behind this place.
    #[inline]
    pub(crate) fn is_in_front_of(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(edge) => edge.as_ref() <= key,
            Self::After(edge) => edge.as_ref() < key,
            Self::End => false,
        }
    }

    /// The key that the place is next to; empty for the end.
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Self::Before(key) | Self::After(key) => key.as_ref(),
            Self::End => &[],
        }
    }

    fn side(&self) -> u8 {
        match self {
            Self::Before(_) => BEFORE,
            Self::After(_) => AFTER,
            Self::End => END,
        }
    }
}

impl Edge<&'static [u8]> {
    /// The place in front of all keys.
    pub(crate) const START: Self = Edge::Before(&[]);
}

impl<'k> Edge<&'k [u8]> {
    /// Like [`key`](Self::key), for as long as the key lives.
    pub(crate) fn into_key(self) -> &'k [u8] {
        match self {
            Self::Before(key) | Self::After(key) => key,
            Self::End => &[],
        }
    }

    /// `key` is empty for the end, and `side` one that is known.
    fn new(side: u8, key: &'k [u8]) -> Result<Self, Damage> {
        match side {
            BEFORE => Ok(Self::Before(key)),
            AFTER => Ok(Self::After(key)),
            END if key.is_empty() => Ok(Self::End),
            _ => Err(Damage::BadField),
        }
    }
}

impl<K: AsRef<[u8]> + Eq> Ord for Edge<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::End, Self::End) => Ordering::Equal,
            (Self::End, _) => Ordering::Greater,
            (_, Self::End) => Ordering::Less,
            _ => self.key().cmp(other.key()).then(self.side().cmp(&other.side())),
        }
    }
}

impl<K: AsRef<[u8]> + Eq> PartialOrd for Edge<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The places between which the keys of a range lie; for an empty range, the second one is not behind the first.
pub(crate) fn edges<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> (Edge, Edge) {
    let start = match range.start_bound() {
        Bound::Unbounded => Edge::START.to_owned(),
        Bound::Included(key) => Edge::Before(key.as_ref().to_vec()),
        Bound::Excluded(key) => Edge::After(key.as_ref().to_vec()),
    };
    let end = match range.end_bound() {
        Bound::Unbounded => Edge::End,
        Bound::Included(key) => Edge::After(key.as_ref().to_vec()),
        Bound::Excluded(key) => Edge::Before(key.as_ref().to_vec()),
    };
    (start, end)
}

const BEFORE: u8 = 0;
const AFTER: u8 = 1;
const END: u8 = 2;

/// The value of a range-delete entry, whose key is that of `start`.
pub(crate) fn range_value<K: AsRef<[u8]>>(start: &Edge<K>, end: &Edge<K>) -> Vec<u8> {
    [&[start.side(), end.side()], end.key()].concat()
}

/// The range that a range-delete entry with this key and value removes; it is never empty.
pub(crate) fn range_of<'e>(key: &'e [u8], value: &'e [u8]) -> Result<Range<'e>, Damage> {
    let [start_side, end_side, end_key @ ..] = value else { return Err(Damage::OutOfBounds) };
    let start = Edge::new(*start_side, key)?;
    let end = Edge::new(*end_side, end_key)?;
    if start < end && end_key.len() <= super::KEY_BYTES_MAX { Ok((start, end)) } else { Err(Damage::BadField) }
}

/// How the bounds of a section are stored: bit 0 is the side of the lower one, bits 1 and 2 are that of the upper one.
pub(crate) fn bounds_byte(lower: &Edge, upper: &Edge) -> u8 {
    lower.side() | upper.side() << 1
}

/// The bounds of a section, given [`bounds_byte`] and their keys.
pub(crate) fn bounds(byte: u8, lower: &[u8], upper: &[u8]) -> Result<(Edge, Edge), Damage> {
    let (lower, upper) = (Edge::new(byte & 1, lower)?, Edge::new(byte >> 1, upper)?);
    if lower < upper { Ok((lower.to_owned(), upper.to_owned())) } else { Err(Damage::OutOfOrder) }
}

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) start: Edge,
    pub(crate) end: Edge,
    pub(crate) sequences: Vec<Sequence>,
}

impl Fragment {
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
        for sequence in &self.sequences {
            out.extend_from_slice(&sequence.0.to_le_bytes());
        }
        out.extend_from_slice(self.start.key());
        out.extend_from_slice(self.end.key());
        super::entry::pad(out);
    }

    /// Length of the record of a table.
    #[expect(clippy::arithmetic_side_effects, reason = "a fragment in memory is far below 2^63 bytes")]
    pub(crate) fn bytes(&self) -> u64 {
        let keys = self.start.key().len() + self.end.key().len();
        align_up(FRAGMENT_HEADER_BYTES + self.sequences.len() as u64 * 8 + keys as u64)
    }

    /// Decodes the record at the front of `rest`; answers it and what follows.
    fn decode(rest: &[u8]) -> Result<(Self, &[u8]), Damage> {
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
        let rest = usize::try_from(padded).ok().and_then(|padded| rest.get(padded..)).ok_or(Damage::OutOfBounds)?;
        Ok((Self { start: start.to_owned(), end: end.to_owned(), sequences }, rest))
    }
}

/// Decodes `count` fragments that fill `rest`: in order, without overlap, inside the bounds of their section.
pub(crate) fn decode_fragments(
    mut rest: &[u8],
    count: u64,
    bounds: (&Edge, &Edge),
    max_sequence: Sequence,
) -> Result<Vec<Fragment>, Damage> {
    let mut fragments: Vec<Fragment> = Vec::new();
    while !rest.is_empty() {
        let (fragment, tail) = Fragment::decode(rest)?;
        let behind = fragments.last().map_or(bounds.0, |last| &last.end);
        if fragment.start < *behind || fragment.end > *bounds.1 {
            return Err(Damage::OutOfOrder);
        }
        if fragment.sequences.first().is_some_and(|newest| *newest > max_sequence) {
            return Err(Damage::BadSequence);
        }
        fragments.push(fragment);
        rest = tail;
    }
    if fragments.len() as u64 == count { Ok(fragments) } else { Err(Damage::BadField) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges() -> Vec<Edge<&'static [u8]>> {
        let mut edges = Vec::new();
        for key in [&b""[..], b"\0", b"a", b"a\0", b"ab", b"b"] {
            edges.extend([Edge::Before(key), Edge::After(key)]);
        }
        edges.push(Edge::End);
        edges
    }

    #[test]
    fn edges_stand_between_keys() {
        let edges = edges();
        assert!(edges.is_sorted_by(|a, b| a < b));
        for (at, edge) in edges.iter().enumerate() {
            for (key_at, key) in edges.iter().enumerate().filter(|(i, _)| i % 2 == 0 && *i < 12) {
                assert_eq!(edge.is_in_front_of(key.key()), at <= key_at, "{edge:?} {key:?}");
            }
        }
    }

    #[test]
    fn range_deletes_round_trip_and_empty_ones_are_refused() {
        for start in edges() {
            for end in edges() {
                let value = range_value(&start, &end);
                let expected = if start < end { Ok((start, end)) } else { Err(Damage::BadField) };
                if start != Edge::End {
                    assert_eq!(range_of(start.key(), &value), expected);
                }
            }
        }
        assert_eq!(range_of(b"a", b""), Err(Damage::OutOfBounds));
        assert_eq!(range_of(b"a", b"\0"), Err(Damage::OutOfBounds));
        assert_eq!(range_of(b"a", b"\0\x02z"), Err(Damage::BadField), "the end has no key");
        assert_eq!(range_of(b"a", b"\0\x03z"), Err(Damage::BadField));
    }

    #[test]
    fn fragments_round_trip_and_cut_or_misplaced_ones_are_refused() {
        let fragment = |start: Edge<&[u8]>, end: Edge<&[u8]>, sequences: &[u64]| Fragment {
            start: start.to_owned(),
            end: end.to_owned(),
            sequences: sequences.iter().map(|s| Sequence(*s)).collect(),
        };
        let list = [
            fragment(Edge::Before(b"a"), Edge::After(b"apple"), &[9, 4]),
            fragment(Edge::After(b"apple"), Edge::Before(b"b"), &[4]),
            fragment(Edge::After(b"x"), Edge::End, &[7, 6, 1]),
        ];
        let mut out = Vec::new();
        for fragment in &list {
            let start = out.len() as u64;
            fragment.encode(&mut out);
            assert_eq!(out.len() as u64 - start, fragment.bytes());
        }
        let bounds = (&Edge::Before(b"a".to_vec()), &Edge::End);
        assert_eq!(decode_fragments(&out, 3, bounds, Sequence(9)).unwrap(), list);
        assert_eq!(decode_fragments(&out, 2, bounds, Sequence(9)), Err(Damage::BadField));
        assert_eq!(decode_fragments(&out, 3, bounds, Sequence(8)), Err(Damage::BadSequence));
        let narrow = (&Edge::After(b"a".to_vec()), &Edge::End);
        assert_eq!(decode_fragments(&out, 3, narrow, Sequence(9)), Err(Damage::OutOfOrder));
        for length in (1..out.len()).filter(|length| length % 8 != 0) {
            assert!(decode_fragments(&out[..length], 3, bounds, Sequence(9)).is_err(), "{length}");
        }
        let mut rising = Vec::new();
        fragment(Edge::Before(b"a"), Edge::End, &[4, 9]).encode(&mut rising);
        assert_eq!(decode_fragments(&rising, 1, bounds, Sequence(9)), Err(Damage::OutOfOrder));
    }

    #[test]
    fn bounds_fit_into_a_byte() {
        for (lower, upper) in [(Edge::Before(b"a"), Edge::After(b"b")), (Edge::After(b"a"), Edge::Before(b"b"))] {
            let (lower, upper) = (lower.to_owned(), upper.to_owned());
            assert_eq!(bounds(bounds_byte(&lower, &upper), b"a", b"b"), Ok((lower, upper)));
        }
        let (lower, upper) = (Edge::Before(b"a".to_vec()), Edge::End);
        assert_eq!(bounds(bounds_byte(&lower, &upper), b"a", b""), Ok((lower, upper)));
        assert!(bounds(0b110, b"a", b"b").is_err() && bounds(0b1000, b"a", b"b").is_err());
        assert!(bounds(0b100, b"a", b"b").is_err() && bounds(0b001, b"b", b"b").is_err());
    }
}
