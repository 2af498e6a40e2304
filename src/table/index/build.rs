//! Building index files.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::bloom;
use super::super::file::position;
use crate::error::Damage;
use crate::format::checksum::{Id, Seed};
use crate::format::index::{
    BUCKET_BYTES, Bucket, GROUP_BYTES, GROUP_LANDMARKS, GROUP_UNITS, IndexSection, KeyGroup, OrderKind, PointKind,
    VERSIONS_INTERVAL, bucket_of, fragment,
};
use crate::format::prefix::Magic;
use crate::format::table::{TableHeader, Totals, encode_tail};
use crate::format::{KeyspaceId, UNIT, common_prefix, key_head};
use crate::options::{PointIndex, SectionOptions, TableOptions};
use crate::sys::Scratch;

/// Keys per bucket on average: a load of 0.7, at which 3 % of the keys overflow into the next bucket.
const KEYS_PER_BUCKET: u64 = 7;

/// A key of a point index. Many of them lie in one piece of memory, and none in two.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PointKey {
    hash: U64,
    locator: U32,
    padding: [u8; 4],
}

const POINT_BYTES: usize = size_of::<PointKey>();
const _: () = assert!(POINT_BYTES.is_power_of_two());

/// Collects the keys of a table and encodes its index file.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    options: TableOptions,
    id: Id,
    body: Scratch,
    directory: Vec<u8>,
    sections: u32,
    // Of the section being collected:
    /// One for each key.
    points: Scratch,
    /// Versions of the last key behind its first one.
    versions: u64,
    order: OrderBuilder,
}

impl IndexBuilder {
    /// For the index of the table `id`.
    pub(crate) fn new(options: TableOptions, id: Id) -> Self {
        let mut body = Scratch::default();
        body.extend(TableHeader::new(Magic::INDEX, id, options.chunk_log2).as_bytes());
        Self {
            options,
            id,
            body,
            directory: Vec::new(),
            sections: 0,
            points: Scratch::default(),
            versions: 0,
            order: OrderBuilder::new(order_kind(options.section)),
        }
    }

    /// The options of the section that follows.
    pub(crate) fn start_section(&mut self, options: SectionOptions) {
        self.options.section = options;
        self.order = OrderBuilder::new(order_kind(options));
    }

    /// Adds the next key, by the place of its newest version.
    pub(crate) fn add(&mut self, key: &[u8], hash: u64, locator: u32) -> Result<(), Damage> {
        self.order.add(key, locator)?;
        let point = PointKey { hash: U64::new(hash), locator: U32::new(locator), padding: [0; 4] };
        self.points.extend(point.as_bytes());
        self.versions = 0;
        Ok(())
    }

    /// Adds an older version of the key that was added last.
    #[inline]
    pub(crate) fn add_version(&mut self, key: &[u8], locator: u32) -> Result<(), Damage> {
        self.versions += 1;
        if self.versions.is_multiple_of(VERSIONS_INTERVAL) { self.order.add(key, locator) } else { Ok(()) }
    }

    /// Encodes the structures of the section whose keys have been added, which lie between two. What is wrong with them is a
    /// bug of a writer, or the fault of the table that a lost index is made from.
    pub(crate) fn finish_section(
        &mut self,
        keyspace: KeyspaceId,
        min_key: &[u8],
        max_key: &[u8],
    ) -> Result<(), Damage> {
        let keys = (self.points.len() / POINT_BYTES) as u64;
        let common_prefix = common_prefix(min_key, max_key).to_vec();
        self.pad(BUCKET_BYTES);
        let point_offset = self.body.len() as u64;
        let (point, point_count) = self.encode_points(keys)?;

        let heads_offset = self.body.len() as u64;
        let order = self.order.finish()?;
        for at in 0..order.starts.locators.len() {
            let rest = order.starts.key(at)?.strip_prefix(common_prefix.as_slice()).ok_or(Damage::OutOfOrder)?;
            self.body.extend(&key_head(rest).to_le_bytes());
        }
        let align = match order.kind {
            OrderKind::Groups => GROUP_BYTES,
            OrderKind::Sparse { .. } => UNIT,
        };
        self.pad(align);
        let order_offset = self.body.len() as u64;
        match order.kind {
            OrderKind::Groups => order.groups.pieces().for_each(|groups| self.body.extend(groups)),
            OrderKind::Sparse { .. } => {
                order.starts.locators.iter().for_each(|locator| self.body.extend(&locator.to_le_bytes()));
            }
        }
        self.pad(UNIT);

        let section = IndexSection {
            keyspace,
            point,
            point_offset,
            point_count,
            keys,
            landmarks: order.landmarks,
            order: order.kind,
            heads_offset,
            order_offset,
            order_count: order.starts.locators.len() as u64,
            common_prefix,
        };
        section.encode(&mut self.directory);
        self.sections += 1;
        self.points = Scratch::default();
        Ok(())
    }

    fn pad(&mut self, align: u64) {
        let padded = (self.body.len() as u64).next_multiple_of(align);
        self.body.extend_zeroed(position(padded) - self.body.len());
    }

    fn encode_points(&mut self, keys: u64) -> Result<(PointKind, u32), Damage> {
        let pieces = self.points.pieces().map(<[PointKey]>::ref_from_bytes);
        let pieces: Vec<&[PointKey]> = pieces.collect::<Result<_, _>>().map_err(|_| Damage::OutOfBounds)?;
        let points = pieces.into_iter().flatten();
        match self.options.section.point_index {
            PointIndex::Hash => Ok((PointKind::Hash, add_buckets(&mut self.body, keys, points)?)),
            PointIndex::Bloom { error_rate } => {
                let shape = bloom::shape(keys, error_rate);
                let blocks = bloom::build(shape, points.map(|point| point.hash.get()))?;
                self.body.extend(blocks.as_bytes());
                Ok((PointKind::Bloom { probes: shape.probes }, shape.blocks))
            }
        }
    }

    /// The whole file.
    pub(crate) fn finish(mut self) -> Scratch {
        let (id, chunk_log2) = (self.id, self.options.chunk_log2);
        let seed = Seed::of_table(&id);
        let chunks = self.body.pieces().flat_map(|piece| piece.chunks(1 << chunk_log2)).zip(0u64..);
        let sums: Vec<u32> = chunks.map(|(chunk, i)| seed.sum(i << chunk_log2, chunk)).collect();
        let body_end = self.body.len() as u64;
        let tail = encode_tail(Magic::INDEX, id, body_end, &sums, &self.directory, self.sections, Totals::default());
        self.body.extend(&tail);
        self.body
    }
}

/// Adds buckets, and puts each of so many keys into its own one, or into the next one with room; returns how many buckets.
fn add_buckets<'p>(body: &mut Scratch, keys: u64, points: impl Iterator<Item = &'p PointKey>) -> Result<u32, Damage> {
    let count = keys.div_ceil(KEYS_PER_BUCKET).max(1);
    let count = u32::try_from(count).map_err(|_| Damage::OutOfBounds)?;
    let begin = body.len();
    body.extend_zeroed(count as usize * size_of::<Bucket>());
    for point in points {
        let hash = point.hash.get();
        let mut at = bucket_of(hash, count);
        // There are 10/7 slots for each key, so this ends.
        loop {
            let offset = begin + position(at) * size_of::<Bucket>();
            let bucket = body.slice_mut(offset, size_of::<Bucket>()).ok_or(Damage::OutOfBounds)?;
            let bucket = Bucket::mut_from_bytes(bucket).map_err(|_| Damage::OutOfBounds)?;
            if bucket.put(hash, point.locator.get()) {
                break;
            }
            at = (at + 1) % u64::from(count);
        }
    }
    Ok(count)
}

/// The order index that belongs to a point index: beside a hash index, which has something for each key as well, groups; beside
/// a filter, which is chosen to keep indexes small, places of some landmarks.
fn order_kind(options: SectionOptions) -> OrderKind {
    match options.point_index {
        PointIndex::Hash => OrderKind::Groups,
        PointIndex::Bloom { .. } => OrderKind::Sparse { interval: options.interval },
    }
}

/// Collects the order index of a section.
#[derive(Debug)]
struct OrderBuilder {
    kind: OrderKind,
    landmarks: u64,
    /// Those that have a head.
    starts: Keys,
    groups: Scratch,
    /// Those of the group that is being collected.
    members: Keys,
}

impl OrderBuilder {
    fn new(kind: OrderKind) -> Self {
        Self { kind, landmarks: 0, starts: Keys::default(), groups: Scratch::default(), members: Keys::default() }
    }

    #[inline]
    fn add(&mut self, key: &[u8], locator: u32) -> Result<(), Damage> {
        let starts = match self.kind {
            OrderKind::Sparse { interval } => self.landmarks.is_multiple_of(interval.into()),
            OrderKind::Groups => !self.joins(locator),
        };
        if starts {
            self.close_group()?;
            self.starts.push(key, locator);
        }
        if self.kind == OrderKind::Groups {
            self.members.push(key, locator);
        }
        self.landmarks += 1;
        Ok(())
    }

    /// Whether a landmark belongs to the group that is being collected.
    fn joins(&self, locator: u32) -> bool {
        let first = self.members.locators.first().filter(|_| self.members.locators.len() < GROUP_LANDMARKS);
        first.and_then(|first| locator.checked_sub(*first)).is_some_and(|offset| offset < GROUP_UNITS)
    }

    fn close_group(&mut self) -> Result<(), Damage> {
        let members = &self.members;
        let [first, rest @ ..] = members.locators.as_slice() else { return Ok(()) };
        // What the first and the last one share, all between them do.
        let shared = common_prefix(members.key(0)?, members.key(rest.len())?).len();
        let mut group = KeyGroup { first: U32::new(*first), ..KeyGroup::new_zeroed() };
        group.shared = to_u16(shared)?;
        group.landmarks = to_u16(members.locators.len())?;
        let slots = group.offsets.iter_mut().zip(&mut group.fragments);
        for (at, (locator, (offset, print))) in (1..).zip(rest.iter().zip(slots)) {
            *offset = to_u16(locator.checked_sub(*first).ok_or(Damage::OutOfOrder)? as usize)?;
            *print = U16::new(fragment(members.key(at)?, shared));
        }
        self.groups.extend(group.as_bytes());
        self.members.clear();
        Ok(())
    }

    /// What has been collected; begins anew.
    fn finish(&mut self) -> Result<Self, Damage> {
        self.close_group()?;
        let fresh = Self::new(self.kind);
        Ok(std::mem::replace(self, fresh))
    }
}

fn to_u16(number: usize) -> Result<U16, Damage> {
    u16::try_from(number).map(U16::new).map_err(|_| Damage::OutOfBounds)
}

/// Keys one behind the other, and their locators.
#[derive(Debug, Default)]
struct Keys {
    bytes: Vec<u8>,
    /// Where each begins.
    begins: Vec<usize>,
    locators: Vec<u32>,
}

impl Keys {
    #[inline]
    fn push(&mut self, key: &[u8], locator: u32) {
        self.begins.push(self.bytes.len());
        self.bytes.extend_from_slice(key);
        self.locators.push(locator);
    }

    fn key(&self, at: usize) -> Result<&[u8], Damage> {
        let begin = self.begins.get(at).ok_or(Damage::OutOfBounds)?;
        let end = self.begins.get(at + 1).unwrap_or(&self.bytes.len()).to_owned();
        self.bytes.get(*begin..end).ok_or(Damage::OutOfBounds)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.begins.clear();
        self.locators.clear();
    }
}
