//! FORMAT.md, section 6.4.
//!
//! Ranges of keys, and the tombstones over them in the log: entries of kind range delete. Those in tables are
//! [fragments](super::fragment).
//!
//! ```text
//! value of a range delete      start side u8 | end side u8 | end key
//! ```

use std::cmp::Ordering;
use std::ops::{Bound, RangeBounds};

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

    pub(crate) fn side(&self) -> u8 {
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
    pub(super) fn new(side: u8, key: &'k [u8]) -> Result<Self, Damage> {
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

/// The shortest key that is after all those that begin with `prefix`, if there is one.
pub(crate) fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut behind = prefix.get(..=last)?.to_vec();
    let last = behind.last_mut()?;
    *last = last.saturating_add(1);
    Some(behind)
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
