//! FORMAT.md, section 11.
//!
//! The directory and the structures of an `.idx`: order index, point index, bloom filter.

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
pub(crate) type FilterBlock = [u8; 64];

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

/// Bytes of a head: what [`key_head`](super::key_head) says of a key behind the common prefix.
const HEAD_BYTES: u64 = 8;

/// How an index answers "where does this key stand among the others?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrderKind {
    /// Groups of landmarks, with the place and a fragment of each.
    Groups,
    /// The place of every so many landmarks.
    Sparse { interval: u16 },
}

/// An order index knows the first entry of each key, and every so manyth one of the same key behind it: its landmarks.
pub(crate) const VERSIONS_INTERVAL: u64 = 16;

/// A group has this many landmarks at the most.
pub(crate) const GROUP_LANDMARKS: usize = 31;

/// The entries of a group lie less than this many units behind its first one.
pub(crate) const GROUP_UNITS: u32 = 1 << 16;

/// Two cache lines of the order index: landmarks that follow each other. Slot 0 is the first of them; the arrays have the
/// slots from 1 on, and are zero from `landmarks` on.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct KeyGroup {
    /// The place of the first landmark, in units from the start of the `.sst`.
    pub(crate) first: U32,
    /// Bytes that all keys of the group begin with.
    pub(crate) shared: U16,
    /// 1 to [`GROUP_LANDMARKS`].
    pub(crate) landmarks: U16,
    /// Places, in units behind `first`.
    pub(crate) offsets: [U16; GROUP_LANDMARKS - 1],
    /// See [`fragment`].
    pub(crate) fragments: [U16; GROUP_LANDMARKS - 1],
}

pub(crate) const GROUP_BYTES: u64 = 128;
const _: () = assert!(size_of::<KeyGroup>() == 128 && align_of::<KeyGroup>() == 1);

/// The two bytes of a key behind the first `shared` ones as a number, zero-padded: among keys that share those, it orders like
/// the key; equal ones decide nothing.
#[inline]
pub(crate) fn fragment(key: &[u8], shared: usize) -> u16 {
    let rest = key.get(shared..).unwrap_or_default();
    match rest {
        [first, second, ..] => u16::from_be_bytes([*first, *second]),
        [first] => u16::from_be_bytes([*first, 0]),
        [] => 0,
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IndexRecord {
    record_bytes: U16,
    common_prefix_bytes: U16,
    keyspace: U32,
    point_kind: u8,
    probes: u8,
    order_kind: u8,
    hash: u8,
    interval: U16,
    reserved: [u8; 2],
    hash_seed: U64,
    point_offset: U64,
    point_count: U64,
    keys: U64,
    landmarks: U64,
    heads_offset: U64,
    order_offset: U64,
    order_count: U64,
}

const RECORD_BYTES: u16 = 80;
const _: () = assert!(size_of::<IndexRecord>() == RECORD_BYTES as usize && align_of::<IndexRecord>() == 1);

/// A checked record of an index directory: where the structures of one keyspace section are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexSection {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) point: PointKind,
    pub(crate) point_offset: u64,
    /// Buckets or blocks.
    pub(crate) point_count: u32,
    pub(crate) keys: u64,
    /// What the order index knows: see [`VERSIONS_INTERVAL`].
    pub(crate) landmarks: u64,
    pub(crate) order: OrderKind,
    /// `order_count` heads: of the first landmark of each group, or of every so many landmarks.
    pub(crate) heads_offset: u64,
    /// `order_count` groups or locators.
    pub(crate) order_offset: u64,
    pub(crate) order_count: u64,
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
        let (order_kind, interval) = match self.order {
            OrderKind::Sparse { interval } => (1, interval),
            OrderKind::Groups => (2, 0),
        };
        let record = IndexRecord {
            record_bytes: U16::new(RECORD_BYTES),
            common_prefix_bytes: U16::new(self.common_prefix.len() as u16),
            keyspace: U32::new(self.keyspace.0),
            point_kind,
            probes,
            order_kind,
            hash: 0,
            interval: U16::new(interval),
            reserved: [0; 2],
            hash_seed: U64::new(u64::from(self.keyspace.0)),
            point_offset: U64::new(self.point_offset),
            point_count: U64::new(u64::from(self.point_count)),
            keys: U64::new(self.keys),
            landmarks: U64::new(self.landmarks),
            heads_offset: U64::new(self.heads_offset),
            order_offset: U64::new(self.order_offset),
            order_count: U64::new(self.order_count),
        };
        out.extend_from_slice(record.as_bytes());
        out.extend_from_slice(&self.common_prefix);
        super::pad(out);
    }

    /// Decodes the record at the front of `rest`; every structure lies inside the first `body_end` bytes of the file. Fields
    /// that a later version has added are passed over.
    pub(crate) fn decode(rest: &[u8], body_end: u64) -> Result<(Self, &[u8]), Fault> {
        let (record, _) = IndexRecord::read_from_prefix(rest).map_err(|_| Damage::OutOfBounds)?;
        if record.record_bytes < RECORD_BYTES || !u64::from(record.record_bytes.get()).is_multiple_of(UNIT) {
            return Err(Damage::BadField.into());
        }
        let rest = rest.get(usize::from(record.record_bytes.get())..).ok_or(Damage::OutOfBounds)?;
        let point = match (record.point_kind, record.probes) {
            (1, 0) => PointKind::Hash,
            (2, probes @ 1..=30) => PointKind::Bloom { probes },
            (kind, _) => return Err(Feature::Algorithm(kind).into()),
        };
        let order = match (record.order_kind, record.interval.get()) {
            (1, interval @ 1..=256) => OrderKind::Sparse { interval },
            (2, 0) => OrderKind::Groups,
            (1 | 2, _) => return Err(Damage::BadField.into()),
            (kind, _) => return Err(Feature::Algorithm(kind).into()),
        };
        if record.hash != 0 {
            return Err(Feature::Algorithm(record.hash).into());
        }
        let prefix_bytes = u64::from(record.common_prefix_bytes.get());
        let common_prefix = bytes::slice(rest, 0, prefix_bytes)?.to_vec();
        let padded = align_up(prefix_bytes);
        let padding = bytes::slice(rest, prefix_bytes, padded.saturating_sub(prefix_bytes))?;
        let reserved = record.reserved == [0; 2] && bytes::all_zero(padding);
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
            landmarks: record.landmarks.get(),
            order,
            heads_offset: record.heads_offset.get(),
            order_offset: record.order_offset.get(),
            order_count: record.order_count.get(),
            common_prefix,
        };
        section.check(body_end)?;
        let rest = usize::try_from(padded).ok().and_then(|padded| rest.get(padded..)).ok_or(Damage::OutOfBounds)?;
        Ok((section, rest))
    }

    /// Bytes of a group or locator, which begins where they divide.
    pub(crate) fn order_bytes(&self) -> u64 {
        match self.order {
            OrderKind::Groups => GROUP_BYTES,
            OrderKind::Sparse { .. } => size_of::<U32>() as u64,
        }
    }

    fn check(&self, body_end: u64) -> Result<(), Damage> {
        let fits = match self.order {
            OrderKind::Sparse { interval } => self.order_count == self.landmarks.div_ceil(interval.into()),
            OrderKind::Groups => {
                (self.landmarks.div_ceil(GROUP_LANDMARKS as u64)..=self.landmarks).contains(&self.order_count)
            }
        };
        if self.point_count == 0 || !fits || self.landmarks < self.keys {
            return Err(Damage::BadField);
        }
        let arrays = [
            (self.point_offset, u64::from(self.point_count), BUCKET_BYTES, BUCKET_BYTES),
            (self.heads_offset, self.order_count, HEAD_BYTES, UNIT),
            (self.order_offset, self.order_count, self.order_bytes(), self.order_bytes().max(UNIT)),
        ];
        for (offset, count, bytes, align) in arrays {
            let end = count.checked_mul(bytes).and_then(|length| offset.checked_add(length));
            let end = end.ok_or(Damage::OutOfBounds)?;
            if offset < super::table::TABLE_HEADER_BYTES || end > body_end || !offset.is_multiple_of(align) {
                return Err(Damage::OutOfBounds);
            }
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
            landmarks: 18,
            order: OrderKind::Sparse { interval: 16 },
            heads_offset: 192,
            order_offset: 208,
            order_count: 2,
            common_prefix: b"user:".to_vec(),
        };
        let groups = IndexSection { order: OrderKind::Groups, order_offset: 256, ..section.clone() };
        for (section, end) in [(section, 216), (groups, 512)] {
            let mut out = Vec::new();
            section.encode(&mut out);
            assert_eq!(IndexSection::decode(&out, end).unwrap(), (section.clone(), &[][..]));
            assert!(IndexSection::decode(&out, end - 1).is_err());
            for length in 0..out.len() {
                assert!(IndexSection::decode(&out[..length], end).is_err());
            }
            // A record with a field more.
            out[0] += 8;
            out.splice(80..80, [7; 8]);
            assert_eq!(IndexSection::decode(&out, end).unwrap(), (section, &[][..]));
        }
    }

    #[test]
    fn fragments_order_like_keys_that_share_what_is_in_front() {
        let keys: [&[u8]; 6] = [b"ab", b"ab\0", b"aba", b"aba\xff", b"abb", b"ab\xff\xff\xff"];
        let found: Vec<u16> = keys.iter().map(|key| fragment(key, 2)).collect();
        assert_eq!(found, [0, 0, 0x6100, 0x61ff, 0x6200, 0xffff]);
        assert_eq!([fragment(b"a", 0), fragment(b"a", 1), fragment(b"a", 9)], [0x6100, 0, 0]);
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
