//! Reading one table: single keys, and the bytes that cursors walk over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::body::{Body, Verify, contains, end, first};
use super::budget::Share;
use super::file::ChunkedFile;
use super::index::{Index, Point, Side, Start};
use super::kept::{Kept, open_index};
use super::rebuild::rebuild_index;
use super::table_cache::TableCache;
use super::walk::{InPlace, InWindows, Keep, Walk, Walked};
use super::witness::Witness;
use crate::error::{Damage, Error, Result, bug};
use crate::format::edit::TableMeta;
use crate::format::entry::Entry;
use crate::format::index::VERSIONS_INTERVAL;
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::section::Section;
use crate::format::{KeyspaceId, Sequence};
use crate::options::{PointIndex, TableOptions};
use crate::sys::OnceLock;
use crate::sys::{Advice, Block, Mapping, is_shortage};
use crate::visibility::Fragments;

/// An open table.
#[derive(Debug)]
pub(crate) struct TableReader {
    pub(super) body: Body,
    /// The range tombstones of each section.
    pub(super) ranges: Vec<Arc<Fragments>>,
    options: TableOptions,
    points: Vec<PointIndex>,
    pub(super) index: Index,
    /// Made from the entries when `index` turns out to be damaged.
    rebuilt: OnceLock<Index>,
    /// Whether the index in use is not the one on disk.
    pub(super) index_lost: AtomicBool,
    /// Why the one on disk could not be used when the table was opened. Nothing that reads needs to know.
    pub(super) index_refused: Option<Error>,
    /// Of the memory for mapped indexes.
    pub(super) index_share: OnceLock<Share>,
}

impl TableReader {
    /// Opens the table that `meta` describes, and its index: maps both, or, where nothing is mapped, reads the index and the
    /// end of the table. A lost or damaged index is made again in memory, O(size), with
    /// the kind that `points` has for each section, or else that of the options. `kept` is what is known from an earlier time.
    pub(super) fn open(
        table_cache: &Arc<TableCache>,
        meta: &TableMeta,
        points: &[PointIndex],
        kept: Option<&Kept>,
    ) -> Result<Self> {
        let options = table_cache.options;
        let mut file = table_cache.file(FileKind::Table, Magic::TABLE, meta.number)?;
        let frame = file.frame();
        if file.length() != meta.file_bytes || frame.id != meta.id {
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
        let ranges = match kept {
            Some(kept) => kept.ranges.clone(),
            None => sections.iter().map(|section| read_ranges(&file, section)).collect::<Result<_>>()?,
        };
        if let Some(kept) = kept {
            file.recall(&kept.file);
        }
        let body = Body::new(file, sections, meta.number, Arc::clone(table_cache))?;
        let index_path = table_cache.dir.path().join(FileKind::Index.name(meta.number));
        let found = open_index(table_cache, meta, kept, &index_path).and_then(|mapping| {
            Index::open(index_path.clone(), mapping, &meta.id, &body.sections, options.verify_always)
        });
        let (mut index, index_refused) = match found {
            Ok(index) => (index, None),
            // The index may be as good as new: it is the process that lacks something.
            Err(Error::Io(e)) if is_shortage(&e.source) => return Err(Error::Io(e)),
            Err(e) => (rebuild_index(&body, options, points, index_path)?, Some(e)),
        };
        if let Some(kept) = kept {
            index.file.recall(&kept.index_file);
        }
        let index_lost = AtomicBool::new(index_refused.is_some() || kept.is_some_and(|kept| kept.index_lost));
        let (points, rebuilt, index_share) = (points.to_vec(), OnceLock::new(), OnceLock::new());
        let reader = Self { body, ranges, options, points, index, rebuilt, index_lost, index_refused, index_share };
        reader.take_index_memory(table_cache);
        Ok(reader)
    }

    /// For the sections of a table that the manifest gives a sequence number: see [`Section::set_global_sequence`].
    pub(super) fn set_sections(&mut self, sections: Vec<Section>) {
        self.body.sections = sections;
    }

    pub(crate) fn file(&self) -> &ChunkedFile {
        &self.body.file
    }

    /// The mapped bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.body.file.bytes()
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        self.body.file.mapping()
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.body.sections
    }

    #[inline]
    pub(crate) fn section(&self, at: usize) -> Result<&Section> {
        self.body.sections.get(at).ok_or_else(|| self.file().corrupt(0, Damage::OutOfBounds))
    }

    /// Which section belongs to a keyspace.
    #[inline]
    pub(crate) fn section_of(&self, keyspace: KeyspaceId) -> Option<usize> {
        self.sections().binary_search_by_key(&keyspace, |section| section.keyspace).ok()
    }

    #[inline]
    pub(crate) fn index(&self) -> &Index {
        self.rebuilt.get().unwrap_or(&self.index)
    }

    /// Runs `read` over the index; if that finds damage in it, makes the index again from the entries and runs it over that.
    #[inline]
    pub(crate) fn with_index<'a, T>(&'a self, mut read: impl FnMut(&'a Index) -> Result<T>) -> Result<T> {
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
    pub(super) fn with_rebuilt_index<'a, T>(&'a self, mut read: impl FnMut(&'a Index) -> Result<T>) -> Result<T> {
        let path = self.index.file().path().to_owned();
        let index = rebuild_index(&self.body, self.options, &self.points, path)?;
        if self.rebuilt.set(index).is_ok() {
            self.index_lost.store(true, Ordering::Relaxed);
        }
        read(self.index())
    }

    /// Asks for what [`get`](Self::get) looks at first, for when other tables are looked at before this one.
    #[inline]
    pub(crate) fn prefetch(&self, keyspace: KeyspaceId, hash: u64) {
        if let Some(number) = self.section_of(keyspace) {
            self.index().prefetch(number, hash);
        }
    }

    /// Whether the table can be passed over: a quick answer for most of the lookups that miss. `false` says nothing.
    #[inline]
    pub(crate) fn excludes(&self, keyspace: KeyspaceId, hash: u64) -> bool {
        let Some(number) = self.section_of(keyspace) else { return true };
        let has_ranges = self.sections().get(number).is_none_or(|section| section.range_tombstones > 0);
        !has_ranges && self.index().excludes(number, hash)
    }

    /// What the table says about a key at `at`, while `look` looks on. `hash` is the key's hash in its keyspace. Expected O(1)
    /// with a hash index, O(log n) with a bloom filter.
    #[inline]
    pub(crate) fn get(
        &self,
        keyspace: KeyspaceId,
        (hash, key): (u64, &[u8]),
        at: Sequence,
        look: &mut impl Witness,
    ) -> Result<Answer> {
        let Some(number) = self.section_of(keyspace) else { return Ok(Answer::Missing) };
        let section = self.section(number)?;
        look.line(|| self.index().first_offset(number, hash));
        if self.body.is_in_place(section) {
            self.get_by(|| InPlace::new(&self.body, section), (number, section), (hash, key), at, look)
        } else {
            self.get_in_windows((number, section), (hash, key), at, look)
        }
    }

    /// [`get`](Self::get) in a section whose entries may be in blocks.
    #[inline(never)]
    fn get_in_windows(
        &self,
        (number, section): (usize, &Section),
        hashed: (u64, &[u8]),
        at: Sequence,
        look: &mut impl Witness,
    ) -> Result<Answer> {
        let walk = || InWindows::new(&self.body, section, Verify::Once);
        self.get_by(walk, (number, section), hashed, at, look)
    }

    /// [`get`](Self::get) with walks that `walk` makes.
    #[inline]
    fn get_by<W: Keep>(
        &self,
        walk: impl Fn() -> W,
        (number, section): (usize, &Section),
        (hash, key): (u64, &[u8]),
        at: Sequence,
        look: &mut impl Witness,
    ) -> Result<Answer> {
        let found = self.newest(walk, (number, section), (hash, key), at, look)?;
        let removed = if section.range_tombstones == 0 { None } else { self.removed(number, key, at) };
        Ok(match (found, removed) {
            (Some((_, entry)), Some(removed)) if entry.sequence < removed => Answer::Removed,
            (Some((walk, entry)), _) => match walk.into_block() {
                Some(block) => Answer::InBlock(Box::new((entry, block))),
                None => Answer::Entry(entry),
            },
            (None, Some(_)) => Answer::Removed,
            (None, None) => Answer::Missing,
        })
    }

    #[cold]
    fn removed(&self, number: usize, key: &[u8], at: Sequence) -> Option<Sequence> {
        self.ranges.get(number)?.newest_of(key, at)
    }

    /// The range tombstones of a keyspace.
    pub(crate) fn ranges(&self, keyspace: KeyspaceId) -> Option<&Arc<Fragments>> {
        self.ranges.get(self.section_of(keyspace)?)
    }

    /// The newest version of a key at or below `at`, and the walk that has come to it; it may be a tombstone.
    #[inline]
    fn newest<W: Walk>(
        &self,
        walk: impl Fn() -> W,
        (number, section): (usize, &Section),
        (hash, key): (u64, &[u8]),
        at: Sequence,
        look: &mut impl Witness,
    ) -> Result<Option<(W, Entry)>> {
        let point = self.with_index(|index| {
            index.find(number, hash, |locator| {
                let (mut walk, place) = (walk(), locator as usize * 8);
                let entry = indexed_entry(index, section, &mut walk, place)?;
                let is_of_key = look.shown(place, &entry, entry.key(walk.bytes()) == key);
                Ok(is_of_key.then_some((walk, place, entry)))
            })
        })?;
        let (mut walk, place, newest) = match point {
            Point::Found(found) => found,
            Point::Absent => return Ok(None),
            Point::Maybe => match self.seek(walk(), (number, section), key)? {
                Some((walk, place, entry)) if look.shown(place, &entry, entry.key(walk.bytes()) == key) => {
                    (walk, place, entry)
                }
                Some(_) => return Ok(None),
                None => {
                    look.none_behind();
                    return Ok(None);
                }
            },
        };
        match walk.version((place, newest), key, at, VERSIONS_INTERVAL)? {
            Walked::To(entry) => Ok(Some((walk, entry))),
            Walked::Missing => Ok(None),
            Walked::NotSoFar => self.far_version(walk, (number, section), (place, newest), key, at),
        }
    }

    /// The newest version of a key at or below `at`, which is further behind the newest one of all than a landmark is.
    #[cold]
    fn far_version<W: Walk>(
        &self,
        mut walk: W,
        (number, section): (usize, &Section),
        mut from: (usize, Entry),
        key: &[u8],
        at: Sequence,
    ) -> Result<Option<(W, Entry)>> {
        let newer = self.with_index(|index| {
            let order = index.order(number)?;
            order.search(key, Side::InFront, &mut 0, |place| {
                let entry = indexed_entry(index, section, &mut walk, place)?;
                let order = entry.key(walk.bytes()).cmp(key);
                Ok(order.is_lt() || (order.is_eq() && entry.sequence > at))
            })
        })?;
        // A sparse index may know none that is nearer.
        if let Start::At(place) = newer
            && place > from.0
        {
            from = self.with_index(|index| Ok((place, indexed_entry(index, section, &mut walk, place)?)))?;
        }
        match walk.version(from, key, at, u64::MAX)? {
            Walked::To(entry) => Ok(Some((walk, entry))),
            Walked::Missing => Ok(None),
            Walked::NotSoFar => Err(bug("a walk as far as there are entries has ended before").into()),
        }
    }

    /// The first entry of a section at or behind `key`, and its place.
    fn seek<W: Walk>(
        &self,
        mut walk: W,
        (number, section): (usize, &Section),
        key: &[u8],
    ) -> Result<Option<(W, usize, Entry)>> {
        let start = self.start_by(&mut walk, (number, section), key, false, &mut 0)?;
        Ok(walk.seek(start, key)?.map(|(place, entry)| (walk, place, entry)))
    }

    /// Makes the next [`start`](Self::start) with this key short, and brings what it looks at into the cache.
    #[inline]
    pub(super) fn aim(&self, number: usize, key: &[u8], near: &mut usize) -> Result<()> {
        self.with_index(|index| index.order(number)?.aim(key, near))
    }

    /// Where to begin to look for the first key at or behind `key` (behind it, if `past`): see
    /// `Order::search` of the index.
    #[inline]
    pub(super) fn start(
        &self,
        number: usize,
        key: &[u8],
        past: bool,
        verify: Verify,
        near: &mut usize,
    ) -> Result<usize> {
        let section = self.section(number)?;
        if self.body.is_in_place(section) {
            self.start_by(&mut InPlace::new(&self.body, section), (number, section), key, past, near)
        } else {
            self.start_by(&mut InWindows::new(&self.body, section, verify), (number, section), key, past, near)
        }
    }

    /// The same with a walk.
    #[inline]
    fn start_by(
        &self,
        walk: &mut impl Walk,
        (number, section): (usize, &Section),
        key: &[u8],
        past: bool,
        near: &mut usize,
    ) -> Result<usize> {
        self.with_index(|index| {
            let start = index.order(number)?.search(key, Side::Behind, near, |place| {
                let entry = indexed_entry(index, section, walk, place)?;
                let order = entry.key(walk.bytes()).cmp(key);
                Ok(order.is_lt() || (past && order.is_eq()))
            })?;
            match start {
                Start::First => Ok(first(section)),
                Start::End => Ok(end(section)),
                Start::At(place) if contains(section, place) => Ok(place),
                Start::At(place) => Err(index.file().corrupt(place as u64, Damage::IndexMismatch)),
            }
        })
    }

    /// Up to `parts - 1` keys, ascending, that cut the section of a keyspace into pieces of about equal size.
    pub(crate) fn split_keys(&self, keyspace: KeyspaceId, parts: usize) -> Result<Vec<Vec<u8>>> {
        let Some(number) = self.section_of(keyspace) else { return Ok(Vec::new()) };
        let section = self.section(number)?;
        self.with_index(|index| {
            let order = index.order(number)?;
            let mut keys: Vec<Vec<u8>> = Vec::new();
            let mut walk = InWindows::new(&self.body, section, Verify::Apart);
            for part in 1..parts {
                let place = order.at_share(part, parts)?;
                let entry = indexed_entry(index, section, &mut walk, place)?;
                keys.push(entry.key(walk.bytes()).to_vec());
            }
            keys.dedup();
            Ok(keys)
        })
    }

    /// Fills in the places of landmarks in front of `place` and near it, at least one: see
    /// `Order::before` of the index.
    pub(super) fn before(&self, number: usize, place: usize, near: &mut usize, places: &mut Vec<usize>) -> Result<()> {
        let section = self.section(number)?;
        self.with_index(|index| {
            // What an index has said that turned out to be damaged is gone.
            places.clear();
            index.order(number)?.before(place, near, places)?;
            if places.is_empty() {
                places.push(first(section));
            }
            let ascend = places.is_sorted_by(|a, b| a < b);
            match &places[..] {
                [first, .., last] | [first @ last] if ascend && contains(section, *first) && *last < place => {}
                _ => return Err(index.file().corrupt(place as u64, Damage::IndexMismatch)),
            }
            Ok(())
        })
    }

    /// The bytes of an index that is not on disk and should be.
    pub(super) fn lost_index(&self) -> Option<Mapping> {
        self.index_lost.load(Ordering::Relaxed).then(|| self.index().file().mapping().clone())
    }

    /// See `is_pinned` of the file.
    pub(super) fn is_pinned(&self) -> bool {
        self.body.file.is_pinned()
    }

    /// What stays known of the table when it is let go.
    pub(super) fn kept(&self) -> Kept {
        let index_file = self.index().file();
        Kept {
            file: self.body.file.known(),
            index_file: index_file.known(),
            ranges: self.ranges.clone(),
            index: (!index_file.mapping().is_of_file()).then(|| index_file.mapping().clone()),
            index_lost: self.index_lost.load(Ordering::Relaxed),
        }
    }

    /// Takes a share of the memory for mapped indexes, unless it has one; without, the index is not to stay in memory.
    pub(super) fn take_index_memory(&self, table_cache: &TableCache) {
        let mapping = self.index.file.mapping();
        if !mapping.is_of_file() || self.index_share.get().is_some() {
            return;
        }
        let share = table_cache.index_memory.take(mapping.bytes().len() as u64);
        if table_cache.options.advise_random {
            mapping.advise(if share.is_some() { Advice::Normal } else { Advice::Random });
        }
        if let Some(share) = share {
            // Whoever was faster has taken the same; this one goes back.
            let _ = self.index_share.set(share);
        }
    }

    pub(super) fn index_restored(&self) {
        self.index_lost.store(false, Ordering::Relaxed);
    }
}

/// What a table says about a key.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The newest version at or below the sequence asked for, in the mapping; it may be a tombstone.
    Entry(Entry),
    /// The same in a block; boxed, so that lookups in mappings hand on no more than they need.
    InBlock(Box<(Entry, Block)>),
    /// A range tombstone covers the key, and no version is newer.
    Removed,
    Missing,
}

/// The entry at a place that the index has named. If it is intact but no entry, the index is to blame.
#[inline]
fn indexed_entry(index: &Index, section: &Section, walk: &mut impl Walk, place: usize) -> Result<Entry> {
    if !contains(section, place) {
        return Err(index.file().corrupt(place as u64, Damage::IndexMismatch));
    }
    walk.entry(place).map_err(|e| blame(index, place, e))
}

/// An index that leads to something else than an entry is wrong, unless that is damaged.
#[cold]
fn blame(index: &Index, place: usize, error: Error) -> Error {
    let is_of_table = match &error {
        Error::Corruption(corruption) => matches!(corruption.what, Damage::BadChecksum | Damage::BadBlock),
        other => !matches!(other, Error::UnsupportedFormat(_)),
    };
    if is_of_table { error } else { index.file().corrupt(place as u64, Damage::IndexMismatch) }
}

pub(super) fn decode_sections(file: &ChunkedFile) -> Result<Vec<Section>> {
    let frame = file.frame();
    let directory = frame.directory(file.tail()).map_err(|damage| file.corrupt(frame.directory_offset, damage))?;
    Section::decode_directory(frame, directory).map_err(|fault| fault.at(file.path(), frame.directory_offset))
}

pub(super) fn read_ranges(file: &ChunkedFile, section: &Section) -> Result<Arc<Fragments>> {
    if section.range_tombstones == 0 {
        return Ok(Arc::default());
    }
    let bytes = file.verified(section.end, section.ranges_end())?;
    let fragments = section.fragments(&bytes).map_err(|damage| file.corrupt(section.end, damage))?;
    Ok(Arc::new(Fragments::from_sorted(fragments)))
}
