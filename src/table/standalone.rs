//! One table, read from its bytes alone: without the engine, a mapping or any I/O.

use std::borrow::Cow;
use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::position;
use super::in_bytes::{InBytes, TableBytes};
use super::walk::{Walk, Walked};
use crate::error::{Damage, Error, Fault, Result};
use crate::format::bytes::Part;
use crate::format::entry::{Entry as RawEntry, Kind};
use crate::format::fragment::Fragment;
use crate::format::prefix::Magic;
use crate::format::range::Edge;
use crate::format::section::Section;
use crate::format::table::Frame;
use crate::format::{KeyspaceId, Sequence};
use crate::sys::OnceLock;
use crate::visibility::Fragments;

/// What stands for the path of the bytes in errors.
const NAME: &str = "table";

/// Entries of a plain section that a lookup walks through at most.
const STRIDE: usize = 16;

/// A table (`N.sst`), read in place from any bytes that hold all of it: a file read into memory, a mapping of your own, a part
/// of an archive.
///
/// Opening checks header, footer and directory. Bytes of entries are verified when they are first touched, and every access is
/// checked against the length of the bytes: damaged or hostile bytes are an error and never a panic, and take no more memory
/// than a small multiple of their length (of one block, for compressed tables).
///
/// A table knows nothing of the database around it: tables above it may have newer versions of its keys, and its large values
/// are in other files ([`EntryKind::Pointer`]). The [`Db`](crate::Db) puts all that together.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("db");
/// # let db = maplsm::Db::open(&path)?;
/// # db.insert("apple", "red")?;
/// # db.insert("pear", "green")?;
/// # db.flush()?;
/// # db.close()?;
/// # let is_table = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "sst");
/// # let path = std::fs::read_dir(&path)?.filter_map(|file| Some(file.ok()?.path())).find(is_table).unwrap();
/// let bytes = std::fs::read(path)?;
/// let table = maplsm::table::Reader::new(&bytes)?;
/// for entry in table.entries(0) {
///     let entry = entry?;
///     println!("{} = {} at {}", entry.key.escape_ascii(), entry.value.escape_ascii(), entry.sequence);
/// }
/// assert_eq!(table.get(0, b"pear", u64::MAX)?.unwrap().value, &b"green"[..]);
/// # Ok(())
/// # }
/// ```
pub struct Reader<'a> {
    file: &'a [u8],
    frame: Frame,
    sections: Vec<Space<'a>>,
    /// One bit a chunk: its checksum has matched.
    verified: Vec<AtomicU64>,
}

/// A section with what is needed to find its entries.
struct Space<'a> {
    section: Section,
    /// Its directory of blocks; empty if it has none.
    blocks: &'a [u8],
    ranges: Fragments,
    /// Where every [`STRIDE`]-th entry of a plain section begins; made by the first lookup.
    stops: OnceLock<Vec<usize>>,
}

/// What an entry says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// The key has this value.
    Put,
    /// The key has no value.
    Delete,
    /// The key was in a range that was removed, and no version of it in the table is newer.
    RangeDelete,
    /// The value is an operand for what older versions of the key have; see FORMAT.md.
    Merge,
    /// The key has a value that stands in a value file; the `value` of the entry says where, as FORMAT.md describes.
    Pointer,
}

/// A version of a key in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// The key; borrowed from the table unless that is compressed.
    pub key: Cow<'a, [u8]>,
    /// The value; empty for deletions.
    pub value: Cow<'a, [u8]>,
    /// What the entry says.
    pub kind: EntryKind,
    /// Its place in the history of the database; 0 if it is older than all that have one, or if the manifest says which number
    /// all entries of the table have.
    pub sequence: u64,
}

/// A range of keys that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangeTombstone {
    /// Where it begins.
    pub start: Bound<Vec<u8>>,
    /// Where it ends.
    pub end: Bound<Vec<u8>>,
    /// When it was removed: sequence numbers, newest first.
    pub sequences: Vec<u64>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({} bytes, {} entries)", self.file.len(), self.frame.totals.entries)
    }
}

impl<'a> Reader<'a> {
    /// Checks header, footer, directory and range tombstones. O(size of these).
    pub fn new(file: &'a [u8]) -> Result<Self> {
        let frame = Frame::parse(file, Magic::TABLE).map_err(|(offset, fault)| damaged(offset, fault))?;
        let at = frame.directory_offset;
        let directory = frame.directory(Part::whole(file)).map_err(|damage| damaged(at, damage))?;
        let sections = Section::decode_directory(&frame, directory).map_err(|fault| damaged(at, fault))?;
        let verified = (0..frame.chunks().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let mut reader = Self { file, frame, sections: Vec::new(), verified };
        for section in sections {
            let space = reader.space(section)?;
            reader.sections.push(space);
        }
        Ok(reader)
    }

    fn space(&self, section: Section) -> Result<Space<'a>> {
        let mut bytes = self;
        let ranges = bytes.verified(section.end, section.range_tombstones_bytes)?;
        let ranges = section.fragments(ranges).map_err(|damage| damaged(section.end, damage))?;
        let blocks = bytes.blocks(&section)?;
        Ok(Space { section, blocks, ranges: Fragments::from_sorted(ranges), stops: OnceLock::new() })
    }

    /// The table's identity.
    pub fn id(&self) -> [u8; 16] {
        self.frame.id
    }

    /// How many entries there are, of all keyspaces and kinds.
    pub fn len(&self) -> u64 {
        self.frame.totals.entries
    }

    /// Whether there are no entries: the table has range tombstones only.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of the keyspaces that the table has something of, ascending; 0 is the default one.
    pub fn keyspaces(&self) -> impl Iterator<Item = u32> {
        self.sections.iter().map(|space| space.section.keyspace.0)
    }

    /// All entries of a keyspace in order: by key, and the newest version of a key first. Ends after an error.
    pub fn entries(&self, keyspace: u32) -> Entries<'_, 'a> {
        let walk = self.of(keyspace).map(|space| self.walk(space));
        Entries { reader: self, place: walk.as_ref().map_or(0, InBytes::first), walk }
    }

    /// The newest version of a key at or below a sequence number (`u64::MAX` for the newest of all), deletions included, and
    /// those by a range tombstone as well. O(log n) pieces are looked at; the first lookup in a keyspace that is not
    /// compressed walks over all of it once.
    pub fn get(&self, keyspace: u32, key: impl AsRef<[u8]>, at: u64) -> Result<Option<Entry<'a>>> {
        let (key, Some(space)) = (key.as_ref(), self.of(keyspace)) else { return Ok(None) };
        let found = self.find(space, key, Sequence(at))?;
        let removed = space.ranges.newest_of(key, Sequence(at)).map(|sequence| sequence.0);
        Ok(match (found, removed) {
            (Some(entry), Some(removed)) if entry.sequence > removed => Some(entry),
            (_, Some(sequence)) => Some(Entry {
                key: Cow::Owned(key.to_vec()),
                value: Cow::Borrowed(&[]),
                kind: EntryKind::RangeDelete,
                sequence,
            }),
            (found, None) => found,
        })
    }

    /// The ranges of a keyspace that were removed, in order and without overlaps.
    pub fn range_tombstones(&self, keyspace: u32) -> Vec<RangeTombstone> {
        let fragments = self.of(keyspace).into_iter().flat_map(|space| space.ranges.list().iter());
        let tombstone = |fragment: Fragment<'_>| RangeTombstone {
            start: match fragment.start {
                Edge::Before(key) => Bound::Included(key.to_vec()),
                Edge::After(key) => Bound::Excluded(key.to_vec()),
                Edge::End => Bound::Unbounded,
            },
            end: match fragment.end {
                Edge::Before(key) => Bound::Excluded(key.to_vec()),
                Edge::After(key) => Bound::Included(key.to_vec()),
                Edge::End => Bound::Unbounded,
            },
            sequences: fragment.sequences.iter().map(|sequence| sequence.0).collect(),
        };
        fragments.map(tombstone).collect()
    }

    /// Checks every byte, and the order of the entries and how many there are, of how many keys, and how many deletions. O(n).
    pub fn verify(&self) -> Result<()> {
        for chunk in 0..self.frame.chunks() {
            self.check_chunk(chunk)?;
        }
        self.frame.check_padding(Part::whole(self.file)).map_err(|(offset, damage)| damaged(offset, damage))?;
        for space in &self.sections {
            let section = &space.section;
            let (mut entries, mut keys, mut tombstones) = (0, 0, 0);
            let mut last: Option<Entry<'a>> = None;
            for entry in self.entries(section.keyspace.0) {
                let entry = entry?;
                let ordered = last
                    .as_ref()
                    .is_none_or(|last| last.key < entry.key || last.key == entry.key && last.sequence > entry.sequence);
                if !ordered {
                    return Err(damaged(section.start, Damage::OutOfOrder));
                }
                entries += 1;
                keys += u64::from(last.is_none_or(|last| last.key != entry.key));
                tombstones += u64::from(entry.kind == EntryKind::Delete);
                last = Some(entry);
            }
            if (entries, keys, tombstones) != (section.entries, section.keys, section.tombstones) {
                return Err(damaged(self.frame.directory_offset, Damage::ManifestMismatch));
            }
        }
        Ok(())
    }

    fn of(&self, keyspace: u32) -> Option<&Space<'a>> {
        let place = self.sections.binary_search_by_key(&KeyspaceId(keyspace), |space| space.section.keyspace).ok()?;
        self.sections.get(place)
    }

    #[cold]
    fn check_chunk(&self, chunk: u64) -> Result<()> {
        let whole = Part::whole(self.file);
        let checked = self.frame.check_chunk(whole, whole, chunk, true);
        checked.map_err(|(offset, damage)| damaged(offset, damage))?;
        if let Some(word) = self.verified.get(position(chunk / 64)) {
            word.fetch_or(1 << (chunk % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    fn walk<'r>(&'r self, space: &'r Space<'a>) -> InBytes<'a, 'r, &'r Self> {
        InBytes::new(self, &space.section, space.blocks)
    }

    /// The newest version of a key among the entries, by a binary search for the piece that it begins in.
    fn find(&self, space: &Space<'a>, key: &[u8], at: Sequence) -> Result<Option<Entry<'a>>> {
        let mut walk = self.walk(space);
        let (mut low, mut high) = (0, self.pieces(space)?);
        while low < high {
            let middle = usize::midpoint(low, high);
            let first = walk.entry(space.piece(middle, walk.end()))?;
            if first.key(walk.bytes()) < key { low = middle + 1 } else { high = middle }
        }
        let Some((place, entry)) = walk.seek(space.piece(low.saturating_sub(1), walk.end()), key)? else {
            return Ok(None);
        };
        if entry.key(walk.bytes()) != key {
            return Ok(None);
        }
        match walk.version((place, entry), key, at, u64::MAX)? {
            Walked::To(entry) => Ok(Some(shown(&walk, &entry))),
            Walked::Missing | Walked::NotSoFar => Ok(None),
        }
    }

    /// How many pieces there are to search in: blocks, or runs of [`STRIDE`] entries.
    fn pieces(&self, space: &Space<'a>) -> Result<usize> {
        if space.section.blocks > 0 {
            return Ok(position(space.section.blocks.into()));
        }
        if let Some(stops) = space.stops.get() {
            return Ok(stops.len());
        }
        let mut stops = Vec::new();
        let mut walk = self.walk(space);
        let (mut place, mut count) = (walk.first(), 0usize);
        while place < walk.end() {
            if count.is_multiple_of(STRIDE) {
                stops.push(place);
            }
            let entry = walk.entry(place)?;
            place = walk.behind(place, &entry);
            count += 1;
        }
        let _ = space.stops.set(stops);
        Ok(space.stops.get().map_or(0, Vec::len))
    }
}

impl Space<'_> {
    /// Where a piece begins; `end` if there is no such piece.
    fn piece(&self, number: usize, end: usize) -> usize {
        if self.section.blocks > 0 {
            return number.checked_shl(self.section.block_log2.into()).unwrap_or(end);
        }
        self.stops.get().and_then(|stops| stops.get(number)).copied().unwrap_or(end)
    }
}

impl<'a> TableBytes<'a> for &Reader<'a> {
    fn all(&self) -> &'a [u8] {
        self.file
    }

    fn verify(&mut self, start: u64, end: u64) -> Result<()> {
        for chunk in start >> self.frame.chunk_log2..=end.saturating_sub(1) >> self.frame.chunk_log2 {
            let word = self.verified.get(position(chunk / 64));
            if word.is_none_or(|word| word.load(Ordering::Relaxed) >> (chunk % 64) & 1 == 0) {
                self.check_chunk(chunk)?;
            }
        }
        Ok(())
    }

    fn damaged(&self, offset: u64, fault: Fault) -> Error {
        damaged(offset, fault)
    }
}

fn damaged(offset: u64, fault: impl Into<Fault>) -> Error {
    fault.into().at(Path::new(NAME), offset)
}

/// An entry that a walk has read, as it is shown.
fn shown<'a>(walk: &InBytes<'a, '_, &Reader<'a>>, entry: &RawEntry) -> Entry<'a> {
    let kind = match entry.kind() {
        Kind::Put => EntryKind::Put,
        Kind::Delete => EntryKind::Delete,
        Kind::RangeDelete => EntryKind::RangeDelete,
        Kind::Merge => EntryKind::Merge,
        Kind::Pointer => EntryKind::Pointer,
    };
    let (key, value) = (entry.key_start..entry.key_end, entry.value_start()..entry.end);
    Entry { key: walk.part(key), value: walk.part(value), kind, sequence: entry.sequence.0 }
}

/// The entries of a keyspace; made by [`Reader::entries`].
pub struct Entries<'r, 'a> {
    reader: &'r Reader<'a>,
    walk: Option<InBytes<'a, 'r, &'r Reader<'a>>>,
    /// Where the next one is.
    place: usize,
}

impl fmt::Debug for Entries<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entries(of {:?})", self.reader)
    }
}

impl<'a> Iterator for Entries<'_, 'a> {
    type Item = Result<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let walk = self.walk.as_mut().filter(|walk| self.place < walk.end())?;
        let read = walk.entry(self.place).map(|entry| {
            self.place = walk.behind(self.place, &entry);
            shown(walk, &entry)
        });
        if read.is_err() {
            self.walk = None;
        }
        Some(read)
    }
}
