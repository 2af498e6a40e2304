//! Keys as numbers.

use crate::format::{common_prefix, key_head};

/// What decides most comparisons of keys: a number that orders like them, in the direction of travel. Equal ones decide
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u128);

impl Rank {
    /// In front of all keys.
    pub(super) const FIRST: Self = Self(0);

    /// Of a source without a current entry: behind all keys.
    pub(super) const EXHAUSTED: Self = Self(u128::MAX);

    #[inline]
    const fn new(region: Region, head: u64) -> Self {
        Self((region as u128) << 64 | head as u128)
    }

    /// The rank on the way back.
    #[inline]
    pub(super) const fn reversed(self) -> Self {
        Self(!self.0)
    }
}

/// Where a key is among those that begin with the common prefix. None of them makes a rank of all zeros or all ones.
#[derive(Debug, Clone, Copy)]
enum Region {
    InFront = 1,
    Inside = 2,
    Behind = 3,
}

/// The longest prefix that is left out.
const PREFIX_BYTES_MAX: usize = 32;

/// What all keys of the tables of a merge begin with, and what therefore decides nothing. A rank is the eight bytes behind it:
/// in a store whose keys begin with the same sixteen bytes, the first eight would leave each comparison to the keys.
///
/// That they do begin with it is what a table says of itself, so each key is held against it.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefix {
    bytes: [u8; PREFIX_BYTES_MAX],
    length: usize,
    /// Its first and its last eight bytes, as heads: all of it if it has at most 16. Of a shorter one, the first are masked.
    first: u64,
    last: u64,
    mask: u64,
}

impl Prefix {
    /// What keys with all these bounds begin with.
    pub(super) fn of<'k>(mut bounds: impl Iterator<Item = (&'k [u8], &'k [u8])>) -> Self {
        let Some((lower, upper)) = bounds.next() else { return Self::default() };
        let mut length = common_prefix(lower, upper).len().min(PREFIX_BYTES_MAX);
        for (other_lower, other_upper) in bounds {
            for other in [other_lower, other_upper] {
                length = length.min(common_prefix(lower, other).len());
            }
        }
        let prefix = lower.get(..length).unwrap_or_default();
        let mut bytes = [0; PREFIX_BYTES_MAX];
        bytes[..length].copy_from_slice(prefix);
        let mask = if length < 8 { !(u64::MAX >> (8 * length)) } else { u64::MAX };
        let last = prefix.last_chunk::<8>().map_or(0, |last| u64::from_be_bytes(*last));
        Self { bytes, length, first: key_head(prefix), last, mask }
    }

    /// The rank of a key on the way forwards.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "of each step of a scan")]
    pub(super) fn rank(&self, key: &[u8]) -> Rank {
        match key.split_at_checked(self.length) {
            Some((prefix, rest)) if self.length == 0 || self.is(prefix, key) => {
                Rank::new(Region::Inside, key_head(rest))
            }
            _ => self.rank_outside(key),
        }
    }

    /// The rank of a key on the way forwards, or backwards.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    pub(super) fn rank_going(&self, forward: bool, key: &[u8]) -> Rank {
        let rank = self.rank(key);
        if forward { rank } else { rank.reversed() }
    }

    /// Whether the prefix of `key`, as long as this one, is the same.
    #[inline]
    fn is(&self, prefix: &[u8], key: &[u8]) -> bool {
        match (self.length, prefix.last_chunk::<8>()) {
            (..8, _) => (key_head(key) ^ self.first) & self.mask == 0,
            (8..=16, Some(last)) => key_head(key) == self.first && u64::from_be_bytes(*last) == self.last,
            _ => self.bytes.get(..self.length) == Some(prefix),
        }
    }

    #[cold]
    fn rank_outside(&self, key: &[u8]) -> Rank {
        let is_in_front = Some(key) < self.bytes.get(..self.length);
        Rank::new(if is_in_front { Region::InFront } else { Region::Behind }, key_head(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_like_keys_whatever_the_prefix() {
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for length in 1..45 {
            for last in [0, 1, 7, u8::MAX] {
                let key: Vec<u8> = (0..length).map(|at| b'a' + at % 23).collect();
                let other = [&key[..usize::from(length) - 1], &[last]].concat();
                keys.extend([key.clone(), other.clone(), [&other[..], &[0]].concat(), [&other[..], b"zz"].concat()]);
            }
        }
        keys.sort();
        keys.dedup();
        for bound in (0..keys.len()).step_by(7) {
            let (lower, upper) = (&keys[bound][..], &keys[(bound + 1).min(keys.len() - 1)][..]);
            let prefix = Prefix::of([(lower, upper), (lower, lower)].into_iter());
            assert_eq!(prefix.length, common_prefix(lower, upper).len().min(PREFIX_BYTES_MAX));
            for pair in keys.windows(2) {
                let [front, behind] = [&pair[0], &pair[1]].map(|key| prefix.rank(key));
                assert!(Rank::FIRST < front && front <= behind && behind < Rank::EXHAUSTED, "{pair:?} {prefix:?}");
                assert!(Rank::FIRST < behind.reversed() && behind.reversed() <= front.reversed());
                assert!(front.reversed() < Rank::EXHAUSTED);
            }
            let inside = |key: &Vec<u8>| key.starts_with(&lower[..prefix.length]);
            let mut heads = keys.iter().filter(|key| inside(key)).map(|key| (prefix.rank(key), &key[prefix.length..]));
            assert!(heads.all(|(rank, rest)| rank == Rank::new(Region::Inside, key_head(rest))));
        }
    }

    #[test]
    fn without_bounds_a_rank_is_the_head() {
        let prefix = Prefix::of(std::iter::empty());
        assert_eq!(prefix.rank(b"abcdefghi"), Rank::new(Region::Inside, u64::from_be_bytes(*b"abcdefgh")));
    }
}
