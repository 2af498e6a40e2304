//! What bytes mean: every structure of every file as a `repr(C)` type, its checksum and its limits.
//!
//! Nothing here does I/O, allocates by a length it read, or trusts a byte: decoders take `&[u8]` and return a
//! [`Fault`](crate::error::Fault), which the caller who knows the file turns into an error with a place. FORMAT.md is the
//! normative text; this room's files stand in the order of its sections. Nothing outside this room knows an offset.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub(crate) mod alignment;
pub(crate) mod block;
pub(crate) mod bytes;
pub(crate) mod checksum;
pub(crate) mod codec;
pub(crate) mod current;
pub(crate) mod edit;
pub(crate) mod entry;
pub(crate) mod entry_ref;
pub(crate) mod extension;
pub(crate) mod folded;
pub(crate) mod fragment;
pub(crate) mod group;
pub(crate) mod index;
mod kind;
pub(crate) mod mend;
pub(crate) mod names;
pub(crate) mod prefix;
pub(crate) mod range;
pub(crate) mod section;
pub(crate) mod section_options;
pub(crate) mod segment;
pub(crate) mod table;
pub(crate) mod values;

use std::fmt;

/// Everything in a file begins at a multiple of this many bytes, so that a place fits into 32 bits of units.
pub(crate) const UNIT: u64 = 8;

/// Levels 0 to 6.
pub(crate) const LEVELS: u8 = 7;

/// Longest key in bytes.
pub(crate) const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Longest value in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = u32::MAX as usize;

/// Longest log segment and longest table, in bytes: offsets are 32-bit numbers of units.
pub(crate) const FILE_BYTES_MAX: u64 = (u32::MAX as u64) * UNIT;

/// Sequence numbers of one segment or section stay within this span of its smallest: entries carry the low 40 bits.
pub(crate) const SEQUENCE_SPAN: u64 = 1 << 40;

/// Numbers of files and of commits stay below this, so that arithmetic on them cannot overflow.
pub(crate) const NUMBER_MAX: u64 = 1 << 63;

/// The number in a file's name; higher numbers are younger files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct FileNumber(pub(crate) u64);

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// The place of an entry in the history of the database; the first one is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Sequence(pub(crate) u64);

/// The number of a keyspace; the default one is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct KeyspaceId(pub(crate) u32);

impl KeyspaceId {
    /// The keyspace that every database has.
    pub(crate) const DEFAULT: Self = Self(0);

    /// The name of the default keyspace, which no other one has.
    pub(crate) const DEFAULT_NAME: &'static str = "default";

    /// Never given to a keyspace, so that there is always a next id.
    pub(crate) const LAST: Self = Self(u32::MAX);
}

/// A place in the log: everything in earlier segments, and this segment below `offset`, comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    pub(crate) segment: FileNumber,
    pub(crate) offset: u64,
}

/// Rounds up to a multiple of [`UNIT`]. The caller's value is a sum of file offsets and lengths, far from overflow.
#[expect(clippy::arithmetic_side_effects, reason = "arguments are below 2^63: offsets plus 32-bit lengths")]
pub(crate) const fn align_up(bytes: u64) -> u64 {
    (bytes + (UNIT - 1)) & !(UNIT - 1)
}

/// Appends zeros up to the next multiple of [`UNIT`].
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(8), 0);
}

/// The hash of a key for indexes and filters: XXH3 with 64 bits, seeded with the keyspace.
#[inline]
pub(crate) fn key_hash(keyspace: KeyspaceId, key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(key, u64::from(keyspace.0))
}

/// What two keys, and so all keys between them, begin with.
#[inline]
pub(crate) fn common_prefix<'k>(a: &'k [u8], b: &[u8]) -> &'k [u8] {
    let length = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    a.split_at(length).0
}

/// The first eight bytes of a key as a number that orders like the key, zero-padded; equal heads decide nothing.
#[inline]
#[expect(clippy::indexing_slicing, reason = "the ranges are bounded by the length tested in the same expression")]
pub(crate) fn key_head(key: &[u8]) -> u64 {
    if let Some(first) = key.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut head = [0; 8];
    head[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_order_like_keys() {
        let keys: [&[u8]; 7] = [b"", b"\0", b"a", b"a\0", b"ab", b"abcdefgh", b"abcdefghi"];
        assert!(keys.windows(2).all(|pair| key_head(pair[0]) <= key_head(pair[1])));
        assert_eq!(key_head(b"a"), 0x6100_0000_0000_0000);
    }

    #[test]
    fn align_rounds_up_to_units() {
        assert_eq!([0, 1, 8, 9].map(align_up), [0, 8, 8, 16]);
    }
}
