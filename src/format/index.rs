//! The directory and the structures of an `.idx`: sparse index, point index, bloom filter.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{KeyspaceId, UNIT, align_up, bytes};
use crate::error::{Damage, Fault, Feature};

/// How an index answers "is this key here, and where?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointKind {
    /// Buckets of fingerprints and locators.
    Hash,
    /// A blocked bloom filter with this many probes.
    Bloom { probes: u8 },
}

/// Slots of a bucket.
pub(crate) const BUCKET_SLOTS: usize = 10;

/// One cache line of the point index. Slots from `count` on are zero.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Bucket {
    pub(crate) count: u8,
    /// Not zero if a key of this bucket stands in the next one.
    pub(crate) overflow: u8,
    reserved: [u8; 2],
    pub(crate) fingerprints: [U16; BUCKET_SLOTS],
    /// Places of entries in units from the start of the `.sst`.
    pub(crate) locators: [U32; BUCKET_SLOTS],
}

pub(crate) const BUCKET_BYTES: u64 = 64;
const _: () = assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 1);

/// The bucket (of `count`) where the search for a key begins; the upper half of the hash decides.
#[inline]
#[expect(clippy::arithmetic_side_effects, reason = "a product of two 32-bit numbers")]
pub(crate) fn bucket_of(hash: u64, count: u32) -> u64 {
    ((hash >> 32) * u64::from(count)) >> 32
}

/// The lower 16 bits of the hash.
#[inline]
pub(crate) fn fingerprint(hash: u64) -> u16 {
    let [a, b, ..] = hash.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// A block of the bloom filter has 512 bits.
pub(crate) const BLOCK_BYTES: u64 = 64;
pub(crate) type Block = [u8; 64];

/// Probes that are taken from one mixed hash: nine bits each.
const PROBES_PER_MIX: u8 = 7;

/// The bits that a key has in its block. The hash is mixed (`x = hash * 0x9e3779b97f4a7c15`, `x ^= x >> 32`), and gives seven
/// probes of nine bits from its low end; for further ones, `x` is mixed again in the same way.
#[inline]
pub(crate) fn block_bits(hash: u64, probes: u8) -> impl Iterator<Item = usize> {
    let mut x = hash;
    (0..probes).map(move |probe| {
        x = if probe.is_multiple_of(PROBES_PER_MIX) { mix(x) } else { x.rotate_right(9) };
        usize::try_from(x & 511).unwrap_or_default()
    })
}

#[inline]
fn mix(hash: u64) -> u64 {
    let x = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 32)
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IndexRecord {
    keyspace: U32,
    point_kind: u8,
    hash: u8,
    probes: u8,
    reserved: u8,
    hash_seed: U64,
    point_offset: U64,
    point_count: U64,
    keys: U64,
    heads_offset: U64,
    locators_offset: U64,
    sparse_count: U64,
    interval: U16,
    common_prefix_bytes: U16,
    reserved_tail: [u8; 4],
}

const _: () = assert!(size_of::<IndexRecord>() == 72 && align_of::<IndexRecord>() == 1);

/// A checked record of an index directory: where the structures of one keyspace section are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexSection {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) point: PointKind,
    pub(crate) point_offset: u64,
    /// Buckets or blocks.
    pub(crate) point_count: u32,
    pub(crate) keys: u64,
    /// `sparse_count` heads: eight bytes big-endian of the keys behind the common prefix.
    pub(crate) heads_offset: u64,
    /// `sparse_count` locators.
    pub(crate) locators_offset: u64,
    pub(crate) sparse_count: u64,
    pub(crate) interval: u16,
    /// What all keys of the section begin with.
    pub(crate) common_prefix: Vec<u8>,
}

impl IndexSection {
    #[expect(clippy::cast_possible_truncation, reason = "a prefix of a key has at most KEY_BYTES_MAX bytes")]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (point_kind, probes) = match self.point {
            PointKind::Hash => (1, 0),
            PointKind::Bloom { probes } => (2, probes),
        };
        let record = IndexRecord {
            keyspace: U32::new(self.keyspace.0),
            point_kind,
            hash: 0,
            probes,
            reserved: 0,
            hash_seed: U64::new(u64::from(self.keyspace.0)),
            point_offset: U64::new(self.point_offset),
            point_count: U64::new(u64::from(self.point_count)),
            keys: U64::new(self.keys),
            heads_offset: U64::new(self.heads_offset),
            locators_offset: U64::new(self.locators_offset),
            sparse_count: U64::new(self.sparse_count),
            interval: U16::new(self.interval),
            common_prefix_bytes: U16::new(self.common_prefix.len() as u16),
            reserved_tail: [0; 4],
        };
        out.extend_from_slice(record.as_bytes());
        out.extend_from_slice(&self.common_prefix);
        super::entry::pad(out);
    }

    /// Decodes the record at the front of `rest`; every structure lies inside the first `body_end` bytes of the file.
    pub(crate) fn decode(rest: &[u8], body_end: u64) -> Result<(Self, &[u8]), Fault> {
        let (record, rest) = IndexRecord::read_from_prefix(rest).map_err(|_| Damage::OutOfBounds)?;
        let point = match (record.point_kind, record.probes) {
            (1, 0) => PointKind::Hash,
            (2, probes @ 1..=30) => PointKind::Bloom { probes },
            (kind, _) => return Err(Feature::Algorithm(kind).into()),
        };
        if record.hash != 0 {
            return Err(Feature::Algorithm(record.hash).into());
        }
        let prefix_bytes = u64::from(record.common_prefix_bytes.get());
        let common_prefix = bytes::slice(rest, 0, prefix_bytes)?.to_vec();
        let padded = align_up(prefix_bytes);
        let padding = bytes::slice(rest, prefix_bytes, padded.saturating_sub(prefix_bytes))?;
        let reserved = record.reserved == 0 && record.reserved_tail == [0; 4] && bytes::all_zero(padding);
        if !reserved || record.hash_seed.get() != u64::from(record.keyspace.get()) {
            return Err(Damage::BadField.into());
        }
        let point_count = u32::try_from(record.point_count.get()).map_err(|_| Damage::BadField)?;
        let section = Self {
            keyspace: KeyspaceId(record.keyspace.get()),
            point,
            point_offset: record.point_offset.get(),
            point_count,
            keys: record.keys.get(),
            heads_offset: record.heads_offset.get(),
            locators_offset: record.locators_offset.get(),
            sparse_count: record.sparse_count.get(),
            interval: record.interval.get(),
            common_prefix,
        };
        section.check(body_end)?;
        let rest = usize::try_from(padded).ok().and_then(|padded| rest.get(padded..)).ok_or(Damage::OutOfBounds)?;
        Ok((section, rest))
    }

    fn check(&self, body_end: u64) -> Result<(), Damage> {
        if self.point_count == 0 || !(1..=256).contains(&self.interval) {
            return Err(Damage::BadField);
        }
        let point_bytes = u64::from(self.point_count).checked_mul(BUCKET_BYTES);
        let heads_bytes = self.sparse_count.checked_mul(8);
        let locators_bytes = self.sparse_count.checked_mul(4);
        let ranges = [
            (self.point_offset, point_bytes),
            (self.heads_offset, heads_bytes),
            (self.locators_offset, locators_bytes),
        ];
        for (offset, length) in ranges {
            let end = length.and_then(|length| offset.checked_add(length)).ok_or(Damage::OutOfBounds)?;
            if offset < super::table::TABLE_HEADER_BYTES || end > body_end || !offset.is_multiple_of(UNIT) {
                return Err(Damage::OutOfBounds);
            }
        }
        if !self.point_offset.is_multiple_of(BUCKET_BYTES) {
            return Err(Damage::OutOfBounds);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_round_trip_and_stay_in_bounds() {
        let section = IndexSection {
            keyspace: KeyspaceId(4),
            point: PointKind::Bloom { probes: 6 },
            point_offset: 64,
            point_count: 2,
            keys: 17,
            heads_offset: 192,
            locators_offset: 208,
            sparse_count: 2,
            interval: 16,
            common_prefix: b"user:".to_vec(),
        };
        let mut out = Vec::new();
        section.encode(&mut out);
        assert_eq!(IndexSection::decode(&out, 216).unwrap(), (section, &[][..]));
        assert!(IndexSection::decode(&out, 215).is_err());
        for length in 0..out.len() {
            assert!(IndexSection::decode(&out[..length], 216).is_err());
        }
    }

    #[test]
    fn buckets_and_bits_are_in_range() {
        for i in 0..10_000u64 {
            let hash = xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes());
            assert!(bucket_of(hash, 7) < 7);
            assert!(block_bits(hash, 8).all(|bit| bit < 512));
        }
        assert_eq!(bucket_of(u64::MAX, u32::MAX), u64::from(u32::MAX) - 1);
    }
}
