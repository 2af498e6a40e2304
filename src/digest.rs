//! What a keyspace holds, in 24 bytes.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Nothing else is hashed with it: "maplsm", and the version of this function.
const SEED: u64 = 0x6d61_706c_736d_0001;

/// Stands for the time at which an entry expires that never does.
const NEVER: u64 = u64::MAX;

/// A digest of the entries of a keyspace, or of a range of its keys: what
/// [`Snapshot::digest`](crate::Snapshot::digest) returns.
///
/// Two digests are equal if the same keys have the same values, and but for one case in about 2^128 only then. Nothing else
/// counts: not when or in which order the entries were written, what tables and logs look like, how they are compressed or
/// keyspaces are named. So replicas compare digests, and need not send each other what they hold.
///
/// The digest of a range that is cut into parts is the sum of theirs. So two replicas that differ find the keys that do by
/// bisection, with as many digests as the keyspace has powers of two of entries: see the example at
/// [`Snapshot::digest_range`](crate::Snapshot::digest_range).
///
/// # The function
/// It is fixed, so that replicas of different versions agree. The digest of an entry is the 128-bit XXH3 hash
/// ([specification](https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md)), with the seed `6d61706c736d0001`, of the
/// length of the key and 2^64 - 1 (the time at which an entry expires that never does), eight bytes each and little-endian,
/// then the key and the value; that of several entries is their sum modulo 2^128. It tells what has diverged. It is no defence
/// against somebody who chooses keys and values so that two sums are equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest {
    entries: u64,
    sum: u128,
}

impl Digest {
    /// Of one entry. `buffer` is room to work in.
    pub(crate) fn of(key: &[u8], value: &[u8], buffer: &mut Vec<u8>) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&(key.len() as u64).to_le_bytes());
        buffer.extend_from_slice(&NEVER.to_le_bytes());
        buffer.extend_from_slice(key);
        buffer.extend_from_slice(value);
        Self { entries: 1, sum: xxh3_128_with_seed(buffer, SEED) }
    }

    /// How many entries it is of.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The sum of the digests of all entries.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// To be sent to others: the number of entries and the sum, little-endian.
    pub fn to_bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.entries.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sum.to_le_bytes());
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) has made bytes of.
    pub fn from_bytes(bytes: [u8; 24]) -> Self {
        let (mut entries, mut sum) = ([0; 8], [0; 16]);
        entries.copy_from_slice(&bytes[..8]);
        sum.copy_from_slice(&bytes[8..]);
        Self { entries: u64::from_le_bytes(entries), sum: u128::from_le_bytes(sum) }
    }
}

/// Of what two ranges hold that have no key in common.
impl Add for Digest {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { entries: self.entries.wrapping_add(other.entries), sum: self.sum.wrapping_add(other.sum) }
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Digest {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Self::add)
    }
}

/// The sum in hexadecimal, and the number of entries.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x} of {} entries", self.sum, self.entries)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frozen: replicas of all versions agree.
    #[test]
    fn the_function_is_what_it_has_always_been() {
        let mut buffer = Vec::new();
        let digest = Digest::of(b"key", b"value", &mut buffer);
        let input = [&3u64.to_le_bytes()[..], &[0xff; 8], b"keyvalue"].concat();
        assert_eq!(digest.sum(), xxh3_128_with_seed(&input, 0x6d61_706c_736d_0001));
        assert_eq!(Digest::from_bytes(digest.to_bytes()), digest);
        assert_ne!(Digest::of(b"ke", b"yvalue", &mut buffer).sum(), digest.sum(), "where a key ends counts");
    }
}
