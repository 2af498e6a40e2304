//! Reading one table: single keys, and the bytes that cursors walk over.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::file::ChunkedFile;
use super::index::{Index, IndexBuilder, Point};
use crate::error::{Damage, Error, Result};
use crate::format::edit::TableMeta;
use crate::format::entry::{Entry, header_at};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::section::Section;
use crate::format::{KeyspaceId, Sequence, key_hash};
use crate::options::{PointIndex, SectionOptions, TableOptions};
use crate::sys::OnceLock;
use crate::sys::{Block, Dir, Mapping};
use crate::visibility::Fragments;

/// An open table.
#[derive(Debug)]
pub(crate) struct Reader {
    file: ChunkedFile,
    sections: Vec<Section>,
    /// The range tombstones of each section.
    ranges: Vec<Arc<Fragments>>,
    options: TableOptions,
    points: Vec<PointIndex>,
    index: Index,
    /// Made from the entries when `index` turns out to be damaged.
    rebuilt: OnceLock<Index>,
    /// Whether the index in use is not the one on disk.
    index_lost: AtomicBool,
}

impl Reader {
    /// Maps the table that `meta` describes, and its index. A lost or damaged index is made again in memory, O(size), with
    /// the kind that `points` has for each section, or else that of the options.
    pub(crate) fn open(
        dir: &Arc<dyn Dir>,
        meta: &TableMeta,
        options: TableOptions,
        points: &[PointIndex],
    ) -> Result<Self> {
        let name = FileKind::Table.name(meta.number);
        let path = dir.path().join(&name);
        let mapping = dir.open(&name).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::corrupt(&path, 0, Damage::Missing),
            _ => Error::io("map", &path, e),
        })?;
        let file = ChunkedFile::open(path, mapping, Magic::TABLE, options.verify_always)?;
        let frame = file.frame();
        if file.bytes().len() as u64 != meta.file_bytes || frame.id != meta.id {
            return Err(file.corrupt(0, Damage::WrongFile));
        }
        let mut sections = decode_sections(&file)?;
        for section in &mut sections {
            let numbered = section.set_global_sequence(meta.global_sequence());
            numbered.map_err(|damage| file.corrupt(frame.directory_offset, damage))?;
        }
        if frame.footer_checksum != meta.footer_checksum || sections != meta.sections {
            return Err(file.corrupt(frame.directory_offset, Damage::ManifestMismatch));
        }
        let ranges = sections.iter().map(|section| read_ranges(&file, section)).collect::<Result<_>>()?;
        let index_name = FileKind::Index.name(meta.number);
        let index_path = dir.path().join(&index_name);
        let on_disk = dir.open(&index_name).ok().and_then(|mapping| {
            mapping.populate();
            Index::open(index_path.clone(), mapping, &meta.id, &sections, options.verify_always).ok()
        });
        let index_lost = AtomicBool::new(on_disk.is_none());
        let index = match on_disk {
            Some(index) => index,
            None => rebuild_index(&file, &sections, options, points, index_path)?,
        };
        let (points, rebuilt) = (points.to_vec(), OnceLock::new());
        Ok(Self { file, sections, ranges, options, points, index, rebuilt, index_lost })
    }

    /// Reads back a table that this process has just written: every checksum of table and index, the counts, and the order
    /// of the keys that the sparse index names. `stop` is asked from time to time and ends it with [`Error::Closed`].
    pub(crate) fn verify_written(&self, stop: &AtomicBool) -> Result<()> {
        if self.index_lost.load(Ordering::Relaxed) {
            return Err(self.index.file().corrupt(0, Damage::Missing));
        }
        self.file.verify(stop)?;
        self.index.file().verify(stop)?;
        let mut entries = 0;
        for (number, section) in self.sections.iter().enumerate() {
            entries += section.entries;
            let sparse = self.index.sparse(number)?;
            if sparse.len() as u64 != section.keys.div_ceil(u64::from(section.interval)) {
                return Err(self.index.file().corrupt(0, Damage::IndexMismatch));
            }
            let mut last: Option<&[u8]> = None;
            for at in 0..sparse.len() {
                let key = self.indexed_entry(&self.index, section, sparse.offset(at))?.key(self.bytes());
                if last.is_some_and(|last| last >= key) {
                    return Err(self.file.corrupt(sparse.offset(at) as u64, Damage::OutOfOrder));
                }
                last = Some(key);
            }
            if last.is_some_and(|last| section.upper.is_in_front_of(last)) {
                return Err(self.file.corrupt(section.end, Damage::OutOfOrder));
            }
        }
        if entries != self.file.frame().totals.entries {
            return Err(self.file.corrupt(self.file.frame().directory_offset, Damage::ManifestMismatch));
        }
        Ok(())
    }

    /// For the sections of a table that the manifest gives a sequence number: see [`Section::set_global_sequence`].
    pub(super) fn set_sections(&mut self, sections: Vec<Section>) {
        self.sections = sections;
    }

    pub(crate) fn file(&self) -> &ChunkedFile {
        &self.file
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.file.bytes()
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        self.file.mapping()
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    #[inline]
    pub(crate) fn section(&self, at: usize) -> Result<&Section> {
        self.sections.get(at).ok_or_else(|| self.file.corrupt(0, Damage::OutOfBounds))
    }

    /// Which section belongs to a keyspace.
    #[inline]
    pub(crate) fn section_of(&self, keyspace: KeyspaceId) -> Option<usize> {
        self.sections.binary_search_by_key(&keyspace, |section| section.keyspace).ok()
    }

    #[inline]
    pub(crate) fn index(&self) -> &Index {
        self.rebuilt.get().unwrap_or(&self.index)
    }

    /// The bytes of an index that is not on disk and should be.
    pub(crate) fn lost_index(&self) -> Option<&[u8]> {
        self.index_lost.load(Ordering::Relaxed).then(|| self.index().file().bytes())
    }

    pub(crate) fn index_restored(&self) {
        self.index_lost.store(false, Ordering::Relaxed);
    }

    /// Runs `read` over the index; if that finds damage in it, makes the index again from the entries and runs it over that.
    #[inline]
    pub(crate) fn with_index<'a, T>(&'a self, read: impl Fn(&'a Index) -> Result<T>) -> Result<T> {
        match read(self.index()) {
            Err(e) if self.is_index_damage(&e) => self.with_rebuilt_index(read),
            other => other,
        }
    }

    #[cold]
    fn is_index_damage(&self, error: &Error) -> bool {
        self.rebuilt.get().is_none() && error.corruption().is_some_and(|c| c.path == self.index.file().path())
    }

    #[cold]
    fn with_rebuilt_index<'a, T>(&'a self, read: impl Fn(&'a Index) -> Result<T>) -> Result<T> {
        let path = self.index.file().path().to_owned();
        let index = rebuild_index(&self.file, &self.sections, self.options, &self.points, path)?;
        if self.rebuilt.set(index).is_ok() {
            self.index_lost.store(true, Ordering::Relaxed);
        }
        read(self.index())
    }

    /// The verified entry at `start` of a section.
    #[inline]
    pub(crate) fn entry(&self, section: &Section, start: usize) -> Result<Entry> {
        read_entry(&self.file, section, start)
    }

    /// The entry at a place that the index has named. If it is intact but no entry, the index is to blame.
    #[inline]
    fn indexed_entry(&self, index: &Index, section: &Section, start: usize) -> Result<Entry> {
        self.entry(section, start).map_err(|e| match e.corruption() {
            Some(corruption) if corruption.what == Damage::BadChecksum => e,
            _ => index.file().corrupt(start as u64, Damage::IndexMismatch),
        })
    }

    /// What the table says about a key at `at`. `hash` is the key's hash in its keyspace. Expected O(1) with a hash index,
    /// O(log n) with a bloom filter.
    #[inline]
    pub(crate) fn get(&self, keyspace: KeyspaceId, hash: u64, key: &[u8], at: Sequence) -> Result<Answer> {
        let Some(number) = self.section_of(keyspace) else { return Ok(Answer::Missing) };
        let section = self.section(number)?;
        let found = self.newest(number, section, hash, key, at)?;
        let removed = if section.range_tombstones == 0 { None } else { self.removed(number, key, at) };
        Ok(match (found, removed) {
            (Some(entry), Some(removed)) if entry.sequence < removed => Answer::Removed,
            (Some(entry), _) => Answer::Entry(entry, None),
            (None, Some(_)) => Answer::Removed,
            (None, None) => Answer::Missing,
        })
    }

    #[cold]
    fn removed(&self, number: usize, key: &[u8], at: Sequence) -> Option<Sequence> {
        self.ranges.get(number)?.newest(key, at)
    }

    /// The range tombstones of a keyspace.
    pub(crate) fn ranges(&self, keyspace: KeyspaceId) -> Option<&Arc<Fragments>> {
        self.ranges.get(self.section_of(keyspace)?)
    }

    /// The newest version of a key at or below `at`; it may be a tombstone.
    #[inline]
    fn newest(&self, number: usize, section: &Section, hash: u64, key: &[u8], at: Sequence) -> Result<Option<Entry>> {
        let point = self.with_index(|index| {
            index.find(number, hash, |locator| {
                let start = locator as usize * 8;
                if !contains(section, start) {
                    return Err(index.file().corrupt(start as u64, Damage::IndexMismatch));
                }
                let entry = self.indexed_entry(index, section, start)?;
                Ok((entry.key(self.bytes()) == key).then_some(entry))
            })
        })?;
        let newest = match point {
            Point::Found(entry) => entry,
            Point::Absent => return Ok(None),
            Point::Maybe => match self.seek(number, key)? {
                Some(entry) if entry.key(self.bytes()) == key => entry,
                _ => return Ok(None),
            },
        };
        self.version(section, newest, at)
    }

    /// The newest version at or below `at`, given the newest one of all: older ones stand right behind it.
    #[inline]
    fn version(&self, section: &Section, newest: Entry, at: Sequence) -> Result<Option<Entry>> {
        let mut entry = newest;
        while entry.sequence > at {
            if entry.next() as u64 >= section.end {
                return Ok(None);
            }
            let older = self.entry(section, entry.next())?;
            if older.key(self.bytes()) != newest.key(self.bytes()) {
                return Ok(None);
            }
            entry = older;
        }
        Ok(Some(entry))
    }

    /// The first entry of a section at or behind `key`.
    fn seek(&self, number: usize, key: &[u8]) -> Result<Option<Entry>> {
        let section = self.section(number)?;
        let mut start = self.interval_start(number, key, false)?;
        while (start as u64) < section.end {
            let entry = self.entry(section, start)?;
            if entry.key(self.bytes()) >= key {
                return Ok(Some(entry));
            }
            start = entry.next();
        }
        Ok(None)
    }

    /// Where to begin to look for the first key at or behind `key` (behind it, if `past`): a place in front of it by less
    /// than an interval.
    #[inline]
    pub(crate) fn interval_start(&self, number: usize, key: &[u8], past: bool) -> Result<usize> {
        let section = self.section(number)?;
        self.with_index(|index| {
            let sparse = index.sparse(number)?;
            let key_at = |start: usize| {
                if !contains(section, start) {
                    return Err(index.file().corrupt(start as u64, Damage::IndexMismatch));
                }
                Ok(self.indexed_entry(index, section, start)?.key(self.bytes()))
            };
            let rank = sparse.rank(key, past, key_at)?;
            let start = rank.checked_sub(1).map_or(section.start, |at| sparse.offset(at) as u64);
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            if !contains(section, start) {
                return Err(index.file().corrupt(start as u64, Damage::IndexMismatch));
            }
            Ok(start)
        })
    }

    /// Up to `parts - 1` keys, ascending, that cut the section of a keyspace into pieces of about equal size.
    pub(crate) fn split_keys(&self, keyspace: KeyspaceId, parts: usize) -> Result<Vec<Vec<u8>>> {
        let Some(number) = self.section_of(keyspace) else { return Ok(Vec::new()) };
        let section = self.section(number)?;
        self.with_index(|index| {
            let sparse = index.sparse(number)?;
            let mut keys: Vec<Vec<u8>> = Vec::new();
            for part in 1..parts {
                let start = sparse.offset(sparse.len() * part / parts);
                if !contains(section, start) {
                    return Err(index.file().corrupt(start as u64, Damage::IndexMismatch));
                }
                keys.push(self.indexed_entry(index, section, start)?.key(self.bytes()).to_vec());
            }
            keys.dedup();
            Ok(keys)
        })
    }

    /// Where the interval with the entry in front of `offset` begins.
    pub(crate) fn interval_before(&self, number: usize, offset: usize) -> Result<usize> {
        let section = self.section(number)?;
        self.with_index(|index| {
            let sparse = index.sparse(number)?;
            let start = sparse.before(offset).map_or(section.start, |at| sparse.offset(at) as u64);
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            if !contains(section, start) || start >= offset {
                return Err(index.file().corrupt(start as u64, Damage::IndexMismatch));
            }
            Ok(start)
        })
    }

    /// Checks every byte of the table and its index, the order of the entries, their counts and sequence numbers, and that
    /// the index leads to every key. Answers how many entries there are.
    pub(crate) fn verify(&self) -> Result<u64> {
        let never = AtomicBool::new(false);
        self.file.verify(&never)?;
        self.index().file().verify(&never)?;
        let mut total = 0;
        for (number, section) in self.sections.iter().enumerate() {
            let mut previous: Option<Entry> = None;
            let (mut entries, mut keys, mut tombstones) = (0u64, 0u64, 0u64);
            walk(&self.file, section, |entry, is_new_key| {
                let bytes = self.bytes();
                entries += 1;
                tombstones += u64::from(entry.kind == crate::format::entry::Kind::Delete);
                let damaged = |what| Err(self.file.corrupt(entry.start as u64, what));
                let in_order = previous.is_none_or(|p| match p.key(bytes).cmp(entry.key(bytes)) {
                    std::cmp::Ordering::Less => true,
                    std::cmp::Ordering::Equal => p.sequence > entry.sequence,
                    std::cmp::Ordering::Greater => false,
                });
                if !in_order {
                    return damaged(Damage::OutOfOrder);
                }
                let marked = header_at(bytes, entry.start).is_ok_and(|header| header.is_marked_oldest());
                let numbered = marked || (entry.sequence >= section.min_sequence && !section.takes_global_sequence);
                if !numbered || entry.sequence > section.max_sequence {
                    return damaged(Damage::BadSequence);
                }
                previous = Some(entry);
                if is_new_key {
                    keys += 1;
                    let key = entry.key(bytes);
                    let hash = key_hash(section.keyspace, key);
                    let found =
                        self.index().find(number, hash, |l| Ok((l as usize * 8 == entry.start).then_some(())))?;
                    let interval = self.interval_start(number, key, true)?;
                    if found == Point::Absent || interval > entry.start {
                        return Err(self.index().file().corrupt(0, Damage::IndexMismatch));
                    }
                }
                Ok(())
            })?;
            if (entries, keys, tombstones) != (section.entries, section.keys, section.tombstones) {
                return Err(self.file.corrupt(self.file.frame().directory_offset, Damage::ManifestMismatch));
            }
            total += entries;
        }
        Ok(total)
    }
}

/// What a table says about a key.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The newest version at or below the sequence asked for; it may be a tombstone. It is in the block, if there is one, or
    /// else in the mapping.
    Entry(Entry, Option<Block>),
    /// A range tombstone covers the key, and no version is newer.
    Removed,
    Missing,
}

#[inline]
fn contains(section: &Section, start: usize) -> bool {
    (section.start..section.end).contains(&(start as u64))
}

fn decode_sections(file: &ChunkedFile) -> Result<Vec<Section>> {
    let frame = file.frame();
    let directory = frame.directory(file.bytes()).map_err(|damage| file.corrupt(frame.directory_offset, damage))?;
    Section::decode_directory(frame, directory).map_err(|fault| fault.at(file.path(), frame.directory_offset))
}

fn read_ranges(file: &ChunkedFile, section: &Section) -> Result<Arc<Fragments>> {
    if section.range_tombstones == 0 {
        return Ok(Arc::default());
    }
    let place = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
    file.check(place(section.end), place(section.ranges_end()))?;
    let fragments = section.fragments(file.bytes()).map_err(|damage| file.corrupt(section.end, damage))?;
    Ok(Arc::new(Fragments::from_sorted(fragments)))
}

/// Verifies the chunk of the header, reads the lengths, then verifies every chunk that the entry covers.
#[inline]
fn read_entry(file: &ChunkedFile, section: &Section, start: usize) -> Result<Entry> {
    let limit = usize::try_from(section.end).unwrap_or(usize::MAX);
    file.check(start, limit.min(start.saturating_add(12)))?;
    let entry = Entry::parse_in_table(file.bytes(), start, limit, section.base())
        .map_err(|fault| fault.at(file.path(), start as u64))?;
    if entry.end > file.chunk_end(start) {
        file.check(start, entry.end)?;
    }
    Ok(entry)
}

/// Shows every entry of a section in order, and whether it is the first of its key.
fn walk(file: &ChunkedFile, section: &Section, mut visit: impl FnMut(Entry, bool) -> Result<()>) -> Result<()> {
    let mut start = usize::try_from(section.start).unwrap_or(usize::MAX);
    let mut previous: Option<Entry> = None;
    while (start as u64) < section.end {
        let entry = read_entry(file, section, start)?;
        let same = previous.is_some_and(|previous| previous.key(file.bytes()) == entry.key(file.bytes()));
        visit(entry, !same)?;
        previous = Some(entry);
        start = entry.next();
    }
    Ok(())
}

/// Makes an index from the entries of a table.
fn rebuild_index(
    file: &ChunkedFile,
    sections: &[Section],
    options: TableOptions,
    points: &[PointIndex],
    path: PathBuf,
) -> Result<Index> {
    let mut builder = IndexBuilder::new(options);
    for (place, section) in sections.iter().enumerate() {
        let point_index = points.get(place).copied().unwrap_or(options.section.point_index);
        builder.start_section(SectionOptions { interval: section.interval, point_index });
        let mut keys = 0;
        walk(file, section, |entry, is_new_key| {
            if is_new_key {
                let key = entry.key(file.bytes());
                keys += 1;
                builder.add(key, key_hash(section.keyspace, key), u32::try_from(entry.start / 8).unwrap_or(u32::MAX));
            }
            Ok(())
        })?;
        if keys != section.keys {
            return Err(file.corrupt(section.start, Damage::ManifestMismatch));
        }
        builder.finish_section(section.keyspace, section.lower.key(), section.upper.key());
    }
    let id = file.frame().id;
    let index = Index::open(path, Mapping::heap(builder.finish(id)), &id, sections, options.verify_always)?;
    index.mark_verified();
    Ok(index)
}
