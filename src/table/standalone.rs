//! One table, read from its bytes alone: without the engine, a mapping or any I/O.

use std::borrow::Cow;
use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::position;
use crate::error::{Damage, Error, Fault, Result};
use crate::format::block::{BlockPlace, check_blocks};
use crate::format::bytes::{self, Part};
use crate::format::entry::{ENTRY_HEADER_BYTES, Entry as RawEntry, Kind};
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
        let ranges = self.verified(section.end, section.range_tombstones_bytes)?;
        let ranges = section.fragments(ranges).map_err(|damage| damaged(section.end, damage))?;
        let blocks = self.verified(section.blocks_offset(), section.blocks_bytes())?;
        if section.blocks > 0 {
            check_blocks(blocks, &section).map_err(|(_, damage)| damaged(section.blocks_offset(), damage))?;
        }
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
        Entries { reader: self, space: self.of(keyspace), piece: 0, bytes: Cow::Borrowed(&[]), at: 0 }
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

    /// Checks every byte, and the order and the number of the entries. O(n).
    pub fn verify(&self) -> Result<()> {
        for chunk in 0..self.frame.chunks() {
            self.check_chunk(chunk)?;
        }
        self.frame.check_padding(Part::whole(self.file)).map_err(|(offset, damage)| damaged(offset, damage))?;
        for space in &self.sections {
            let mut count = 0;
            let mut last: Option<Entry<'a>> = None;
            for entry in self.entries(space.section.keyspace.0) {
                let entry = entry?;
                let ordered = last
                    .as_ref()
                    .is_none_or(|last| last.key < entry.key || last.key == entry.key && last.sequence > entry.sequence);
                if !ordered {
                    return Err(damaged(space.section.start, Damage::OutOfOrder));
                }
                count += 1;
                last = Some(entry);
            }
            if count != space.section.entries {
                return Err(damaged(self.frame.directory_offset, Damage::ManifestMismatch));
            }
        }
        Ok(())
    }

    fn of(&self, keyspace: u32) -> Option<&Space<'a>> {
        let place = self.sections.binary_search_by_key(&KeyspaceId(keyspace), |space| space.section.keyspace).ok()?;
        self.sections.get(place)
    }

    /// `length` bytes of the body from `start`, verified.
    fn verified(&self, start: u64, length: u64) -> Result<&'a [u8]> {
        let found = bytes::slice(self.file, start, length).map_err(|damage| damaged(start, damage))?;
        if length > 0 {
            let end = start.saturating_add(length);
            for chunk in start >> self.frame.chunk_log2..=end.saturating_sub(1) >> self.frame.chunk_log2 {
                let word = self.verified.get(position(chunk / 64));
                if word.is_none_or(|word| word.load(Ordering::Relaxed) >> (chunk % 64) & 1 == 0) {
                    self.check_chunk(chunk)?;
                }
            }
        }
        Ok(found)
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

    /// The newest version of a key among the entries, by a binary search for the piece that it begins in.
    fn find(&self, space: &Space<'a>, key: &[u8], at: Sequence) -> Result<Option<Entry<'a>>> {
        let (mut low, mut high) = (0, self.pieces(space)?);
        while low < high {
            let middle = usize::midpoint(low, high);
            let first = self.walk(space, middle)?.next().transpose()?;
            if first.is_some_and(|first| *first.key < *key) { low = middle + 1 } else { high = middle }
        }
        for entry in self.walk(space, low.saturating_sub(1))? {
            let entry = entry?;
            match (*entry.key).cmp(key) {
                std::cmp::Ordering::Equal if entry.sequence <= at.0 => return Ok(Some(entry)),
                std::cmp::Ordering::Greater => break,
                _ => {}
            }
        }
        Ok(None)
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
        let (mut at, end) = (position(space.section.start), position(space.section.end));
        let mut count = 0usize;
        while at < end {
            if count.is_multiple_of(STRIDE) {
                stops.push(at);
            }
            at = self.plain_entry(&space.section, at)?.next();
            count += 1;
        }
        let _ = space.stops.set(stops);
        Ok(space.stops.get().map_or(0, Vec::len))
    }

    /// The entries from the beginning of a piece on.
    fn walk<'r>(&'r self, space: &'r Space<'a>, piece: usize) -> Result<Entries<'r, 'a>> {
        let mut entries = Entries { reader: self, space: Some(space), piece, bytes: Cow::Borrowed(&[]), at: 0 };
        if space.section.blocks == 0 {
            let stop = space.stops.get().and_then(|stops| stops.get(piece)).copied();
            entries.load_plain(&space.section, stop.unwrap_or(position(space.section.end)))?;
        }
        Ok(entries)
    }

    /// The entry at an offset of the file.
    fn plain_entry(&self, section: &Section, at: usize) -> Result<RawEntry> {
        let limit = position(section.end);
        self.verified(at as u64, ENTRY_HEADER_BYTES.min(section.end.saturating_sub(at as u64)))?;
        let parsed = RawEntry::parse_in_table(self.file, at, limit, section.base());
        let entry = parsed.map_err(|fault| damaged(at as u64, fault))?;
        self.verified(at as u64, entry.next() as u64 - at as u64)?;
        Ok(entry)
    }

    /// The verified and unpacked block `number` of a section.
    fn block(&self, space: &Space<'a>, number: u32) -> Result<Cow<'a, [u8]>> {
        let section = &space.section;
        let place = BlockPlace::read(space.blocks, number, section).map_err(|d| damaged(section.blocks_offset(), d))?;
        let stored = self.verified(place.start, place.stored)?;
        place.unpacked(section.codec, stored).map_err(|fault| damaged(place.start, fault))
    }
}

fn damaged(offset: u64, fault: impl Into<Fault>) -> Error {
    fault.into().at(Path::new(NAME), offset)
}

/// The entries of a keyspace; made by [`Reader::entries`].
pub struct Entries<'r, 'a> {
    reader: &'r Reader<'a>,
    space: Option<&'r Space<'a>>,
    /// The block that comes next; of a plain section, 0 until it has begun.
    piece: usize,
    /// What is being walked: the file, or a block.
    bytes: Cow<'a, [u8]>,
    at: usize,
}

impl fmt::Debug for Entries<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entries(of {:?})", self.reader)
    }
}

impl<'a> Entries<'_, 'a> {
    fn load_plain(&mut self, section: &Section, at: usize) -> Result<()> {
        let end = position(section.end);
        let bytes = self.reader.file.get(..end).ok_or_else(|| damaged(section.end, Damage::OutOfBounds))?;
        (self.bytes, self.at, self.piece) = (Cow::Borrowed(bytes), at, 1);
        Ok(())
    }

    /// Goes on to the next piece; answers whether there is one.
    fn load(&mut self, space: &Space<'a>) -> Result<bool> {
        let section = &space.section;
        if section.blocks > 0 {
            let number = u32::try_from(self.piece).ok().filter(|number| *number < section.blocks);
            let Some(number) = number else { return Ok(false) };
            (self.bytes, self.at, self.piece) = (self.reader.block(space, number)?, 0, self.piece + 1);
            return Ok(true);
        }
        if self.piece > 0 || section.entries == 0 {
            return Ok(false);
        }
        self.load_plain(section, position(section.start)).map(|()| true)
    }

    fn step(&mut self, space: &Space<'a>) -> Result<Option<Entry<'a>>> {
        if self.at >= self.bytes.len() && !self.load(space)? {
            return Ok(None);
        }
        let section = &space.section;
        let entry = if section.blocks > 0 {
            RawEntry::parse_in_table(&self.bytes, self.at, self.bytes.len(), section.base())
                .map_err(|fault| damaged(section.start, fault))?
        } else {
            self.reader.plain_entry(section, self.at)?
        };
        self.at = entry.next();
        let (key, value) = match &self.bytes {
            Cow::Borrowed(bytes) => (Cow::Borrowed(entry.key(bytes)), Cow::Borrowed(entry.value(bytes))),
            Cow::Owned(bytes) => (Cow::Owned(entry.key(bytes).to_vec()), Cow::Owned(entry.value(bytes).to_vec())),
        };
        let kind = match entry.kind() {
            Kind::Put => EntryKind::Put,
            Kind::Delete => EntryKind::Delete,
            Kind::RangeDelete => EntryKind::RangeDelete,
            Kind::Merge => EntryKind::Merge,
            Kind::Pointer => EntryKind::Pointer,
        };
        Ok(Some(Entry { key, value, kind, sequence: entry.sequence.0 }))
    }
}

impl<'a> Iterator for Entries<'_, 'a> {
    type Item = Result<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let space = self.space?;
        let item = self.step(space).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.space = None;
        }
        item
    }
}
