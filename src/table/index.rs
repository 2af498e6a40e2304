//! Building and reading `.idx` files: point index or bloom filter, and the sparse index.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use zerocopy::big_endian::U64 as BigU64;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::file::ChunkedFile;
use super::{bloom, intact};
use crate::error::{Damage, Error, Fault, Result};
use crate::format::checksum::{Id, Seed};
use crate::format::index::{
    BLOCK_BYTES, BUCKET_BYTES, BUCKET_SLOTS, Block, Bucket, IndexSection, PointKind, bucket_of, fingerprint,
};
use crate::format::prefix::Magic;
use crate::format::section::Section;
use crate::format::table::{TableHeader, Totals, encode_tail};
use crate::format::{KeyspaceId, bytes, key_head};
use crate::options::{PointIndex, SectionOptions, TableOptions};
use crate::sys::{Mapping, prefetch};

/// Keys per bucket on average: a load of 0.7, at which 3 % of the keys overflow into the next bucket.
const KEYS_PER_BUCKET: u64 = 7;

/// Collects the keys of a table and encodes its index file.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    options: TableOptions,
    id: Id,
    body: Vec<u8>,
    directory: Vec<u8>,
    sections: u32,
    // Of the section being collected:
    /// Hash and locator of each key.
    points: Vec<(u64, u32)>,
    /// Every `interval`-th key: its end in `sparse_keys`, and its locator.
    sparse: Vec<(usize, u32)>,
    sparse_keys: Vec<u8>,
}

impl IndexBuilder {
    /// For the index of the table `id`.
    pub(crate) fn new(options: TableOptions, id: Id) -> Self {
        Self {
            options,
            id,
            body: TableHeader::new(Magic::INDEX, id, options.chunk_log2).as_bytes().to_vec(),
            directory: Vec::new(),
            sections: 0,
            points: Vec::new(),
            sparse: Vec::new(),
            sparse_keys: Vec::new(),
        }
    }

    /// The options of the section that follows.
    pub(crate) fn start_section(&mut self, options: SectionOptions) {
        self.options.section = options;
    }

    /// Adds the next key, by the place of its newest version.
    pub(crate) fn add(&mut self, key: &[u8], hash: u64, locator: u32) {
        if self.points.len().is_multiple_of(usize::from(self.options.section.interval)) {
            self.sparse_keys.extend_from_slice(key);
            self.sparse.push((self.sparse_keys.len(), locator));
        }
        self.points.push((hash, locator));
    }

    /// Encodes the structures of the section whose keys have been added, which lie between two. What is wrong with them is a
    /// bug of a writer, or the fault of the table that a lost index is made from.
    pub(crate) fn finish_section(
        &mut self,
        keyspace: KeyspaceId,
        min_key: &[u8],
        max_key: &[u8],
    ) -> Result<(), Damage> {
        let keys = self.points.len() as u64;
        let common_prefix = common_prefix(min_key, max_key).to_vec();
        self.body.resize(self.body.len().next_multiple_of(64), 0);
        let point_offset = self.body.len() as u64;
        let (point, point_count) = self.encode_points()?;

        let heads_offset = self.body.len() as u64;
        let mut start = 0;
        for (end, _) in &self.sparse {
            let key = self.sparse_keys.get(start..*end).ok_or(Damage::OutOfBounds)?;
            let rest = key.strip_prefix(common_prefix.as_slice()).ok_or(Damage::OutOfOrder)?;
            self.body.extend_from_slice(&key_head(rest).to_be_bytes());
            start = *end;
        }
        let locators_offset = self.body.len() as u64;
        for (_, locator) in &self.sparse {
            self.body.extend_from_slice(&locator.to_le_bytes());
        }
        self.body.resize(self.body.len().next_multiple_of(8), 0);

        let section = IndexSection {
            keyspace,
            point,
            point_offset,
            point_count,
            keys,
            heads_offset,
            locators_offset,
            sparse_count: self.sparse.len() as u64,
            interval: self.options.section.interval,
            common_prefix,
        };
        section.encode(&mut self.directory);
        self.sections += 1;
        self.points.clear();
        self.sparse.clear();
        self.sparse_keys.clear();
        Ok(())
    }

    fn encode_points(&mut self) -> Result<(PointKind, u32), Damage> {
        match self.options.section.point_index {
            PointIndex::Hash => {
                let buckets = fill_buckets(&self.points)?;
                self.body.extend_from_slice(buckets.as_bytes());
                Ok((PointKind::Hash, u32::try_from(buckets.len()).map_err(|_| Damage::OutOfBounds)?))
            }
            PointIndex::Bloom { error_rate } => {
                let shape = bloom::shape(self.points.len() as u64, error_rate);
                let blocks = bloom::build(shape, self.points.iter().map(|(hash, _)| *hash))?;
                self.body.extend_from_slice(blocks.as_bytes());
                Ok((PointKind::Bloom { probes: shape.probes }, shape.blocks))
            }
        }
    }

    /// The whole file.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let (id, chunk_log2) = (self.id, self.options.chunk_log2);
        let seed = Seed::of_table(&id);
        let chunks = self.body.chunks(1 << chunk_log2).zip(0u64..);
        let sums: Vec<u32> = chunks.map(|(chunk, i)| seed.sum(i << chunk_log2, chunk)).collect();
        let body_end = self.body.len() as u64;
        let tail = encode_tail(Magic::INDEX, id, body_end, &sums, &self.directory, self.sections, Totals::default());
        self.body.extend_from_slice(&tail);
        self.body
    }
}

/// Puts each key into its bucket, or into the next one with room.
fn fill_buckets(points: &[(u64, u32)]) -> Result<Vec<Bucket>, Damage> {
    let count = (points.len() as u64).div_ceil(KEYS_PER_BUCKET).max(1);
    let count = u32::try_from(count).map_err(|_| Damage::OutOfBounds)?;
    let mut buckets = vec![Bucket::new_zeroed(); count as usize];
    for (hash, locator) in points {
        let mut at = usize::try_from(bucket_of(*hash, count)).map_err(|_| Damage::OutOfBounds)?;
        // There are 10/7 slots for each key, so this ends.
        while !buckets.get_mut(at).ok_or(Damage::OutOfBounds)?.put(*hash, *locator) {
            at = (at + 1) % count as usize;
        }
    }
    Ok(buckets)
}

/// An open index file.
#[derive(Debug)]
pub(crate) struct Index {
    pub(super) file: ChunkedFile,
    sections: Vec<IndexSection>,
    /// For each section, whether its sparse index has been verified as a whole.
    sparse_verified: Vec<AtomicBool>,
}

impl Index {
    /// Opens the index of a table with these sections, and checks that it belongs to them.
    pub(crate) fn open(path: PathBuf, mapping: Mapping, id: &Id, table: &[Section], always: bool) -> Result<Self> {
        Self::of_file(ChunkedFile::open(path, mapping, Magic::INDEX, always)?, id, table)
    }

    /// The same with a file that is open.
    pub(super) fn of_file(file: ChunkedFile, id: &Id, table: &[Section]) -> Result<Self> {
        if file.frame().id != *id {
            return Err(file.corrupt(0, Damage::WrongFile));
        }
        let sections = decode_directory(&file).map_err(|fault| fault.at(file.path(), file.frame().directory_offset))?;
        let fits = |(index, section): (&IndexSection, &Section)| {
            let sparse = index.keys.div_ceil(u64::from(index.interval));
            let common = common_prefix(section.lower.key(), section.upper.key());
            (index.keyspace, index.keys, index.interval) == (section.keyspace, section.keys, section.interval)
                && index.sparse_count == sparse
                && index.common_prefix == common
        };
        if sections.len() != table.len() || !sections.iter().zip(table).all(fits) {
            return Err(file.corrupt(file.frame().directory_offset, Damage::IndexMismatch));
        }
        let sparse_verified = sections.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { file, sections, sparse_verified })
    }

    /// For an index whose bytes this process has just made.
    pub(crate) fn mark_verified(&self) {
        self.file.mark_verified();
    }

    pub(crate) fn file(&self) -> &ChunkedFile {
        &self.file
    }

    fn section(&self, section: usize) -> Result<&IndexSection> {
        self.sections.get(section).ok_or_else(|| self.mismatch(0))
    }

    fn mismatch(&self, offset: u64) -> Error {
        self.file.corrupt(offset, Damage::IndexMismatch)
    }

    fn at(&self, offset: u64) -> impl Fn(Damage) -> Error {
        move |damage| self.file.corrupt(offset, damage)
    }

    /// The verified 64 bytes of bucket or block `at`.
    #[inline]
    fn line<T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable>(
        &self,
        section: &IndexSection,
        at: u64,
    ) -> Result<&T> {
        let offset = section.point_offset + at * BUCKET_BYTES;
        let start = usize::try_from(offset).map_err(|_| self.mismatch(offset))?;
        self.file.check(start, start + size_of::<Bucket>())?;
        let line = bytes::slice(self.file.bytes(), offset, BUCKET_BYTES).map_err(self.at(offset))?;
        T::ref_from_bytes(line).map_err(|_| self.mismatch(offset))
    }

    /// The bucket or block that [`find`](Self::find) looks at first, unverified, and where it is.
    #[inline]
    fn first_line(&self, section: &IndexSection, hash: u64) -> Option<(u64, &[u8])> {
        let offset = section.point_offset + bucket_of(hash, section.point_count) * BUCKET_BYTES;
        Some((offset, bytes::slice(self.file.bytes(), offset, BUCKET_BYTES).ok()?))
    }

    /// Asks for the cache line that [`find`](Self::find) looks at first.
    #[inline]
    pub(crate) fn prefetch(&self, section: usize, hash: u64) {
        let section = self.sections.get(section);
        if let Some((_, [first, ..])) = section.and_then(|section| self.first_line(section, hash)) {
            prefetch(first);
        }
    }

    /// Whether the line that [`find`](Self::find) looks at first is known to be intact and rules the key out. A quick answer
    /// for most of the lookups that miss; `false` says nothing.
    #[inline]
    pub(crate) fn excludes(&self, section: usize, hash: u64) -> bool {
        let Some(section) = self.sections.get(section) else { return false };
        let Some((offset, line)) = self.first_line(section, hash) else { return false };
        if !self.file.is_verified(offset) {
            return false;
        }
        match section.point {
            PointKind::Bloom { probes } => {
                Block::ref_from_bytes(line).is_ok_and(|block| !bloom::contains(block, hash, probes))
            }
            PointKind::Hash => Bucket::ref_from_bytes(line).is_ok_and(|bucket| {
                bucket.overflow == 0
                    && usize::from(bucket.count) <= BUCKET_SLOTS
                    && bucket.matches(fingerprint(hash)) == 0
            }),
        }
    }

    /// What the point index or the filter says about a hashed key. `candidate` is shown places where the key may be, until
    /// it answers something.
    #[inline]
    pub(crate) fn find<T>(
        &self,
        section: usize,
        hash: u64,
        mut candidate: impl FnMut(u32) -> Result<Option<T>>,
    ) -> Result<Point<T>> {
        let section = self.section(section)?;
        let count = section.point_count;
        let first = bucket_of(hash, count);
        if let PointKind::Bloom { probes } = section.point {
            const { assert!(BLOCK_BYTES == BUCKET_BYTES) };
            let block: &Block = self.line(section, first)?;
            return Ok(if bloom::contains(block, hash, probes) { Point::Maybe } else { Point::Absent });
        }
        let print = fingerprint(hash);
        let mut at = first;
        for _ in 0..count {
            let bucket: &Bucket = self.line(section, at)?;
            if usize::from(bucket.count) > BUCKET_SLOTS {
                return Err(self.mismatch(section.point_offset + at * BUCKET_BYTES));
            }
            let mut matches = bucket.matches(print);
            while matches != 0 {
                let slot = matches.trailing_zeros() as usize;
                matches &= matches - 1;
                let locator = bucket.locators.get(slot).map_or(0, |locator| locator.get());
                if let Some(found) = candidate(locator)? {
                    return Ok(Point::Found(found));
                }
            }
            if bucket.overflow == 0 {
                break;
            }
            at = if at + 1 == u64::from(count) { 0 } else { at + 1 };
        }
        Ok(Point::Absent)
    }

    /// The places at which the intact parts of the index say that entries of a section begin, ascending; every other part may
    /// be damaged. O(n log n).
    pub(super) fn intact_places(&self, section: usize) -> Result<Vec<usize>> {
        let section = self.section(section)?;
        let mut places = Vec::new();
        let place = |locator: &U32| locator.get() as usize * 8;
        if section.point == PointKind::Hash {
            let bytes = u64::from(section.point_count).saturating_mul(BUCKET_BYTES);
            self.intact_pieces(section.point_offset, bytes, |piece| {
                let buckets = <[Bucket]>::ref_from_bytes(piece).unwrap_or_default();
                for bucket in buckets.iter().filter(|bucket| usize::from(bucket.count) <= BUCKET_SLOTS) {
                    places.extend(bucket.locators.iter().take(bucket.count.into()).map(place));
                }
            })?;
        }
        let bytes = section.sparse_count.saturating_mul(size_of::<U32>() as u64);
        self.intact_pieces(section.locators_offset, bytes, |piece| {
            places.extend(<[U32]>::ref_from_bytes(piece).unwrap_or_default().iter().map(place));
        })?;
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// Shows what is intact of an array, chunk by chunk: no bucket and no locator lies in two.
    fn intact_pieces(&self, offset: u64, length: u64, mut show: impl FnMut(&[u8])) -> Result<()> {
        let place = |offset: u64| usize::try_from(offset).map_err(|_| self.mismatch(offset));
        let (mut at, end) = (place(offset)?, place(offset.saturating_add(length))?);
        while at < end {
            let stop = end.min(self.file.chunk_end(at));
            if intact(self.file.check(at, stop))?.is_some() {
                show(self.file.bytes().get(at..stop).unwrap_or_default());
            }
            at = stop;
        }
        Ok(())
    }

    /// The sparse index of a section; verified as a whole by its first use.
    #[inline]
    pub(crate) fn sparse(&self, section: usize) -> Result<Sparse<'_>> {
        let at = section;
        let section = self.section(section)?;
        if self.sparse_verified.get(at).is_none_or(|verified| !verified.load(Ordering::Relaxed)) {
            // The two arrays may stand in either order, and apart.
            let arrays = [(section.heads_offset, size_of::<BigU64>()), (section.locators_offset, size_of::<U32>())];
            for (offset, size) in arrays.into_iter().filter(|_| section.sparse_count > 0) {
                let start = usize::try_from(offset).map_err(|_| self.mismatch(offset))?;
                let end = offset.saturating_add(section.sparse_count.saturating_mul(size as u64));
                self.file.check(start, usize::try_from(end).map_err(|_| self.mismatch(end))?)?;
            }
            if let Some(verified) = self.sparse_verified.get(at) {
                verified.store(true, Ordering::Relaxed);
            }
        }
        let file = self.file.bytes();
        Ok(Sparse {
            common_prefix: &section.common_prefix,
            heads: bytes::array(file, section.heads_offset, section.sparse_count)
                .map_err(self.at(section.heads_offset))?,
            locators: bytes::array(file, section.locators_offset, section.sparse_count)
                .map_err(self.at(section.locators_offset))?,
        })
    }
}

/// What the smallest and the largest key, and so all keys of a section, begin with.
fn common_prefix<'k>(min_key: &'k [u8], max_key: &[u8]) -> &'k [u8] {
    let common = min_key.iter().zip(max_key).take_while(|(a, b)| a == b).count();
    min_key.get(..common).unwrap_or_default()
}

fn decode_directory(file: &ChunkedFile) -> Result<Vec<IndexSection>, Fault> {
    let frame = file.frame();
    let mut rest = frame.directory(file.tail())?;
    let mut sections: Vec<IndexSection> = Vec::new();
    for _ in 0..frame.section_count {
        let (section, tail) = IndexSection::decode(rest, frame.body_end)?;
        if sections.last().is_some_and(|last| last.keyspace >= section.keyspace) {
            return Err(Damage::OutOfOrder.into());
        }
        sections.push(section);
        rest = tail;
    }
    if rest.is_empty() { Ok(sections) } else { Err(Damage::OutOfBounds.into()) }
}

impl Bucket {
    /// Puts a key into the next slot; if there is none, says so to lookups, and answers false.
    #[inline]
    fn put(&mut self, hash: u64, locator: u32) -> bool {
        let slot = usize::from(self.count);
        let (Some(print), Some(place)) = (self.fingerprints.get_mut(slot), self.locators.get_mut(slot)) else {
            self.overflow = 1;
            return false;
        };
        *print = U16::new(fingerprint(hash));
        *place = U32::new(locator);
        self.count += 1;
        true
    }

    /// A bit for each used slot with this fingerprint. Without branches, so that lookups overlap.
    #[inline]
    fn matches(&self, print: u16) -> u32 {
        let used = (1u32 << (self.count & 15)) - 1;
        let mut bits = 0;
        for (slot, candidate) in self.fingerprints.iter().enumerate() {
            bits |= u32::from(candidate.get() == print) << slot;
        }
        bits & used
    }
}

/// What a point index says about a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Point<T> {
    /// It is here.
    Found(T),
    /// It is not in the section.
    Absent,
    /// It may be; the sparse index knows where.
    Maybe,
}

/// The sparse index of one section, in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sparse<'a> {
    common_prefix: &'a [u8],
    heads: &'a [BigU64],
    locators: &'a [U32],
}

impl Sparse<'_> {
    /// How many sparse entries have a key below `key`, or, with `or_equal`, not above it. `order_at` compares the key at a
    /// place with `key`, which is needed only where eight bytes behind the common prefix do not decide.
    #[inline]
    pub(crate) fn rank(
        &self,
        key: &[u8],
        or_equal: bool,
        mut order_at: impl FnMut(usize) -> Result<std::cmp::Ordering>,
    ) -> Result<usize> {
        let shared = key.len().min(self.common_prefix.len());
        let (start, rest) = key.split_at(shared);
        match start.cmp(self.common_prefix.get(..shared).unwrap_or_default()) {
            std::cmp::Ordering::Less => return Ok(0),
            std::cmp::Ordering::Greater => return Ok(self.heads.len()),
            std::cmp::Ordering::Equal if shared < self.common_prefix.len() => return Ok(0),
            std::cmp::Ordering::Equal => {}
        }
        let head = key_head(rest);
        let mut low = self.heads.partition_point(|other| other.get() < head);
        let ties = self.heads.get(low..).unwrap_or_default().partition_point(|other| other.get() == head);
        let mut high = low + ties;
        while low < high {
            let middle = usize::midpoint(low, high);
            let order = order_at(self.place(middle))?;
            if order.is_lt() || (or_equal && order.is_eq()) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The place of sparse entry `at`.
    #[inline]
    pub(crate) fn place(&self, at: usize) -> usize {
        self.locators.get(at).map_or(0, |locator| locator.get() as usize * 8)
    }

    /// Whether entry `at` names a key and its place.
    #[inline]
    pub(crate) fn names(&self, at: usize, key: &[u8], place: usize) -> bool {
        let head = key.strip_prefix(self.common_prefix).map(key_head);
        self.heads.get(at).map(|stored| stored.get()) == head
            && self.locators.get(at).is_some_and(|stored| stored.get() as usize * 8 == place)
    }

    /// How many sparse entries there are.
    pub(crate) fn len(&self) -> usize {
        self.locators.len()
    }

    /// The last sparse entry in front of `place`.
    pub(crate) fn before(&self, place: usize) -> Option<usize> {
        self.locators.partition_point(|locator| (locator.get() as usize * 8) < place).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::alignment::Alignment;
    use crate::format::range::Edge;
    use crate::format::section::Codec;
    use crate::format::{Sequence, key_hash};

    fn key(i: u64) -> Vec<u8> {
        format!("user:{i:08}").into_bytes()
    }

    fn section(keys: u64) -> Section {
        Section {
            keyspace: KeyspaceId(0),
            start: 64,
            end: 64 + keys * 16,
            entries: keys,
            keys,
            tombstones: 0,
            min_sequence: Sequence(1),
            max_sequence: Sequence(1),
            interval: 16,
            range_tombstones: 0,
            range_tombstones_bytes: 0,
            lower: Edge::Before(key(0)),
            upper: Edge::After(key(keys - 1)),
            codec: Codec::None,
            blocks: 0,
            block_log2: 0,
            alignment: Alignment::None,
            takes_global_sequence: false,
            value_files: Vec::new(),
        }
    }

    fn build(keys: u32, point_index: PointIndex) -> Index {
        let options = TableOptions {
            section: SectionOptions { interval: 16, point_index, ..SectionOptions::default() },
            ..TableOptions::default()
        };
        let mut builder = IndexBuilder::new(options, [1; 16]);
        let key = |i: u32| format!("user:{i:08}").into_bytes();
        for i in 0..keys {
            builder.add(&key(i), key_hash(KeyspaceId(0), &key(i)), 8 + i * 2);
        }
        builder.finish_section(KeyspaceId(0), &key(0), &key(keys - 1)).unwrap();
        let file = builder.finish();
        Index::open("x.idx".into(), Mapping::heap(file), &[1; 16], &[section(u64::from(keys))], false).unwrap()
    }

    #[test]
    fn every_key_is_found_by_hash_and_few_others() {
        for keys in [1, 2, 10, 69, 1000, 50_000] {
            let index = build(keys, PointIndex::Hash);
            for i in 0..keys {
                let hash = key_hash(KeyspaceId(0), format!("user:{i:08}").as_bytes());
                let found = index.find(0, hash, |locator| Ok((locator == 8 + i * 2).then_some(locator))).unwrap();
                assert_eq!(found, Point::Found(8 + i * 2));
            }
            let mut candidates = 0;
            for i in 0..10_000u64 {
                let hash = key_hash(KeyspaceId(0), &i.to_le_bytes());
                let found = index.find(0, hash, |_| {
                    candidates += 1;
                    Ok(None::<()>)
                });
                assert_eq!(found.unwrap(), Point::Absent);
            }
            assert!(candidates < 20, "{candidates} false candidates in 10,000 lookups");
        }
    }

    #[test]
    fn filters_have_no_false_negatives_and_ranks_are_exact() {
        let keys = 3000;
        let index = build(keys, PointIndex::Bloom { error_rate: 0.01 });
        let key = |i: usize| format!("user:{i:08}").into_bytes();
        for i in 0..keys as usize {
            assert_eq!(index.find(0, key_hash(KeyspaceId(0), &key(i)), |_| Ok(None::<()>)).unwrap(), Point::Maybe);
        }
        let sparse = index.sparse(0).unwrap();
        let stored: Vec<Vec<u8>> = (0..keys as usize).map(key).collect();
        let stored = &stored;
        let order_at = |to: &[u8]| {
            let to = to.to_vec();
            move |place: usize| Ok(stored[(place / 8 - 8) / 2].cmp(&to))
        };
        for i in (0..keys as usize).step_by(7) {
            assert_eq!(sparse.rank(&key(i), false, order_at(&key(i))).unwrap(), i.div_ceil(16));
            assert_eq!(sparse.rank(&key(i), true, order_at(&key(i))).unwrap(), i / 16 + 1);
        }
        for (other, expected) in
            [(&b"a"[..], 0), (b"user:0000", 0), (b"user:1", sparse.locators.len()), (b"zz", sparse.locators.len())]
        {
            assert_eq!(sparse.rank(other, false, order_at(other)).unwrap(), expected);
        }
    }
}
