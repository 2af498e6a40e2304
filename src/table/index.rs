//! Index files: point index or bloom filter, and the order index of each section.

mod build;
mod intact;
mod order;
mod points;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use zerocopy::{FromBytes, Immutable, KnownLayout};

pub(crate) use build::IndexBuilder;
pub(super) use order::{Side, Start};
pub(crate) use points::Point;

use super::file::ChunkedFile;
use crate::error::{Damage, Error, Fault, Result};
use crate::format::bytes;
use crate::format::checksum::Id;
use crate::format::common_prefix;
use crate::format::index::IndexSection;
use crate::format::prefix::Magic;
use crate::format::section::Section;
use crate::sys::Mapping;

/// An open index file.
#[derive(Debug)]
pub(crate) struct Index {
    pub(super) file: ChunkedFile,
    sections: Vec<IndexSection>,
    /// For each section, whether the heads of its order index have been verified as a whole.
    heads_verified: Vec<AtomicBool>,
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
            let common = common_prefix(section.lower.key(), section.upper.key());
            (index.keyspace, index.keys) == (section.keyspace, section.keys)
                && index.landmarks <= section.entries
                && index.common_prefix == common
        };
        if sections.len() != table.len() || !sections.iter().zip(table).all(fits) {
            return Err(file.corrupt(file.frame().directory_offset, Damage::IndexMismatch));
        }
        let heads_verified = sections.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { file, sections, heads_verified })
    }

    /// For an index whose bytes this process has just made.
    pub(crate) fn mark_verified(&self) {
        self.file.mark_verified();
    }

    #[inline]
    pub(crate) fn file(&self) -> &ChunkedFile {
        &self.file
    }

    pub(super) fn section(&self, section: usize) -> Result<&IndexSection> {
        self.sections.get(section).ok_or_else(|| self.mismatch(0))
    }

    fn mismatch(&self, offset: u64) -> Error {
        self.file.corrupt(offset, Damage::IndexMismatch)
    }

    fn at(&self, offset: u64) -> impl Fn(Damage) -> Error {
        move |damage| self.file.corrupt(offset, damage)
    }

    /// The verified line at an offset: a bucket, a block or a group, which all lie in one chunk.
    #[inline]
    fn line<T: FromBytes + KnownLayout + Immutable>(&self, offset: u64) -> Result<&T> {
        let start = usize::try_from(offset).map_err(|_| self.mismatch(offset))?;
        self.file.check(start, start.saturating_add(size_of::<T>()))?;
        let line = bytes::slice(self.file.bytes(), offset, size_of::<T>() as u64).map_err(self.at(offset))?;
        T::ref_from_bytes(line).map_err(|_| self.mismatch(offset))
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::format::alignment::Alignment;
    use crate::format::codec::Codec;
    use crate::format::range::Edge;
    use crate::format::section::Later;
    use crate::format::{KeyspaceId, Sequence, key_hash};
    use crate::options::{PointIndex, SectionOptions, TableOptions};

    const BLOOM: PointIndex = PointIndex::Bloom { error_rate: 0.01 };

    fn section(keys: &[Vec<u8>]) -> Section {
        let count = keys.len() as u64;
        let mut different = keys.to_vec();
        different.dedup();
        Section {
            keyspace: KeyspaceId(0),
            start: 64,
            end: 64 + count * 16,
            entries: count,
            keys: different.len() as u64,
            tombstones: 0,
            min_sequence: Sequence(1),
            max_sequence: Sequence(1),
            interval: 16,
            range_tombstones: 0,
            range_tombstones_bytes: 0,
            lower: Edge::Before(keys[0].clone()),
            upper: Edge::After(keys[keys.len() - 1].clone()),
            codec: Codec::None,
            blocks: 0,
            block_log2: 0,
            alignment: Alignment::None,
            takes_global_sequence: false,
            value_files: Vec::new(),
            later: Later::default(),
        }
    }

    /// The index of entries, each by its key and its locator: one of the same key again is an older version.
    fn build(keys: &[Vec<u8>], locators: &[u32], point_index: PointIndex) -> Index {
        let options = TableOptions {
            section: SectionOptions { interval: 16, point_index, ..SectionOptions::default() },
            ..TableOptions::default()
        };
        let mut builder = IndexBuilder::new(options, [1; 16]);
        for (at, (key, locator)) in keys.iter().zip(locators).enumerate() {
            let added = if at > 0 && keys[at - 1] == *key {
                builder.add_version(key, *locator)
            } else {
                builder.add(key, key_hash(KeyspaceId(0), key), *locator)
            };
            added.unwrap();
        }
        builder.finish_section(KeyspaceId(0), &keys[0], &keys[keys.len() - 1]).unwrap();
        let file = builder.finish().to_vec();
        Index::open("x.idx".into(), Mapping::heap(file), &[1; 16], &[section(keys)], false).unwrap()
    }

    fn numbered(keys: u32) -> (Vec<Vec<u8>>, Vec<u32>) {
        ((0..keys).map(|i| format!("user:{i:08}").into_bytes()).collect(), (0..keys).map(|i| 8 + i * 2).collect())
    }

    #[test]
    fn every_key_is_found_by_hash_and_few_others() {
        for count in [1, 2, 10, 69, 1000, 50_000] {
            let (keys, locators) = numbered(count);
            let index = build(&keys, &locators, PointIndex::Hash);
            for (key, expected) in keys.iter().zip(locators) {
                let hash = key_hash(KeyspaceId(0), key);
                let found = index.find(0, hash, |locator| Ok((locator == expected).then_some(locator))).unwrap();
                assert_eq!(found, Point::Found(expected));
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
    fn filters_have_no_false_negatives() {
        let (keys, locators) = numbered(3000);
        let index = build(&keys, &locators, BLOOM);
        for key in keys {
            assert_eq!(index.find(0, key_hash(KeyspaceId(0), &key), |_| Ok(None::<()>)).unwrap(), Point::Maybe);
        }
    }

    /// Different keys in order, of a kind that an order index may find hard.
    fn hard_keys(kind: u64) -> Vec<Vec<u8>> {
        let mut state = kind;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut byte = move |below: u64| u8::try_from(random(below)).unwrap();
        let keys: BTreeSet<Vec<u8>> = match kind {
            // Of two letters, which begin with each other, the empty one among them.
            0 => (0..400).map(|_| (0..byte(9)).map(|_| byte(2) * 255).collect()).collect(),
            // What is behind a head tells them apart, in groups and among them.
            1 => {
                (0..900).map(|i| format!("a prefix longer than a head/{:03}/and one more/{i}", i / 70).into()).collect()
            }
            // Groups in which the fragments tie.
            2 => (0..300).map(|i| format!("{:02}{}{i:04}", i / 40, "=".repeat(i / 40)).into()).collect(),
            // Zeros where a shorter key ends.
            3 => (0..200).map(|i: usize| [b"key".to_vec(), vec![0; i]].concat()).collect(),
            4 => (0..1).map(|_| b"alone".to_vec()).collect(),
            // Anything.
            _ => (0..700).map(|_| (0..byte(20)).map(|_| byte(256)).collect()).collect(),
        };
        keys.into_iter().collect()
    }

    #[test]
    fn the_order_of_hard_keys_is_known() {
        for (kind, step) in (0..6).flat_map(|kind| [2, 3, 5000, 70_000].map(|step| (kind, step))) {
            let keys = hard_keys(kind);
            // Beyond 65,536 units, each key is a group of its own; with 5,000, thirteen are one.
            let locators: Vec<u32> = (8..).step_by(step).take(keys.len()).collect();
            let place = |at: usize| locators[at] as usize * 8;
            for point_index in [PointIndex::Hash, BLOOM] {
                let index = build(&keys, &locators, point_index);
                let order = index.order(0).unwrap();
                let exact = point_index == PointIndex::Hash;
                let mut wanted = keys.clone();
                for key in &keys {
                    let last = key.last().copied().unwrap_or(7);
                    wanted.extend([[&key[..], b"\0"].concat(), [key, &b"\xff\xff\xff"[..]].concat()]);
                    wanted.extend([
                        key[..key.len() / 2].to_vec(),
                        [&key[..key.len().max(1) - 1], &[last ^ 1][..]].concat(),
                    ]);
                }
                let mut near = 0;
                for (key, past) in wanted.iter().flat_map(|key| [(key, false), (key, true)]) {
                    let rank = keys.partition_point(|other| other < key || (past && other == key));
                    let mut touched = 0;
                    let start = order.search(key, Side::Behind, &mut near, |at| {
                        touched += 1;
                        let other = &keys[index_of(&locators, at)];
                        Ok(other < key || (past && other == key))
                    });
                    let start = start.unwrap();
                    let case = (kind, step, point_index, key.escape_ascii().to_string(), past);
                    match start {
                        Start::First => assert_eq!(rank, 0, "{case:?}"),
                        Start::End => assert_eq!(rank, keys.len(), "{case:?}"),
                        Start::At(found) if exact => assert_eq!(found, place(rank), "{case:?}"),
                        Start::At(found) => {
                            let found = index_of(&locators, found);
                            assert!(found < rank && rank - found <= 16, "{case:?}");
                        }
                    }
                    assert!(touched <= 16, "{touched} entries looked at for {case:?}");
                }
                for at in 0..=keys.len() {
                    // In front of a key, and in front of what may stand between it and the one before.
                    for place_of in [place_or_end(&locators, at), place_or_end(&locators, at).saturating_sub(8)] {
                        let expected = locators.partition_point(|locator| (*locator as usize * 8) < place_of);
                        for mut near in [0, at / 31, at / 13, usize::MAX] {
                            let mut places = Vec::new();
                            order.before(place_of, &mut near, &mut places).unwrap();
                            let known: Vec<usize> = places.iter().map(|found| index_of(&locators, *found)).collect();
                            let Some(before) = expected.checked_sub(1) else {
                                assert_eq!(known, []);
                                continue;
                            };
                            let last = known[known.len() - 1];
                            if exact {
                                assert!(known.iter().copied().eq(known[0]..=before), "{known:?} end at {before}");
                            } else {
                                assert!(known.len() == 1 && last <= before && before - last < 16);
                            }
                        }
                    }
                }
                let mut check = order.check();
                for (key, at) in keys.iter().zip(0..) {
                    assert!(!(exact && check.is_done()) && check.leads_to(key, place(at), true).unwrap());
                }
                assert!(check.is_done());
            }
        }
    }

    #[test]
    fn of_many_versions_some_are_landmarks() {
        let versions = |key: usize| match key % 10 {
            0 => 700,
            1 => 17,
            2 => 16,
            _ => 1,
        };
        let keys: Vec<Vec<u8>> = (0..120).flat_map(|i| vec![format!("key{i:05}").into_bytes(); versions(i)]).collect();
        let locators: Vec<u32> = (8..).step_by(2).take(keys.len()).collect();
        for (point_index, near) in [(PointIndex::Hash, 16), (BLOOM, 256)] {
            let index = build(&keys, &locators, point_index);
            let order = index.order(0).unwrap();
            for at in (0..keys.len()).step_by(7) {
                let mut looked = 0;
                let start = order.search(&keys[at], Side::InFront, &mut 0, |place| {
                    looked += 1;
                    Ok(index_of(&locators, place) < at)
                });
                match start.unwrap() {
                    Start::First => assert_eq!(at, 0),
                    Start::At(place) => {
                        let found = index_of(&locators, place);
                        assert!(found < at && at - found <= near, "{found} in front of {at}");
                    }
                    Start::End => panic!("entry {at} is not found"),
                }
                assert!(looked <= 16, "{looked} entries looked at for {at}");
            }
            let mut check = order.check();
            for (at, key) in keys.iter().enumerate() {
                let is_new_key = at == 0 || keys[at - 1] != *key;
                assert!(check.leads_to(key, locators[at] as usize * 8, is_new_key).unwrap(), "to entry {at}");
            }
            assert!(check.is_done());
        }
    }

    fn index_of(locators: &[u32], place: usize) -> usize {
        locators.binary_search(&u32::try_from(place / 8).unwrap()).unwrap()
    }

    fn place_or_end(locators: &[u32], at: usize) -> usize {
        locators.get(at).map_or(usize::MAX / 2, |locator| *locator as usize * 8)
    }
}
