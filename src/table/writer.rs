//! Writing a table: entries in order, copied as they are; checksums, directory and index follow from them.

use std::cmp::Ordering;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use zerocopy::IntoBytes;

use super::Table;
use super::block_builder::BlockBuilder;
use super::chunked::ChunkedWriter;
use super::digest::RunningDigest;
use super::file::ChunkedFile;
use super::index::IndexBuilder;
use super::kept::Kept;
use super::reader::TableReader;
use super::table_cache::TableCache;
use crate::error::{Bug, Damage, Error, Result, bug, must};
use crate::format::alignment::Alignment;
use crate::format::checksum::{Id, Seed};
use crate::format::codec::Codec;
use crate::format::edit::TableMeta;
use crate::format::entry::Kind;
use crate::format::entry_ref::EntryRef;
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::range::Edge;
use crate::format::section::{Later, Section, count_value};
use crate::format::table::{TableHeader, Totals, encode_tail};
use crate::format::{FILE_BYTES_MAX, FileNumber, KeyspaceId, SEQUENCE_SPAN, Sequence, UNIT, key_hash};
use crate::options::{PointIndex, SectionOptions, TableOptions};
use crate::sys::{Dir, write_file};
use crate::visibility::Fragments;

/// A table that is on disk (its directory entry may not be durable yet) and has been read back.
#[derive(Debug)]
pub(crate) struct WrittenTable {
    pub(crate) meta: TableMeta,
    /// Open, unless it was let go.
    pub(crate) reader: Option<TableReader>,
    kept: Kept,
    points: Vec<PointIndex>,
}

impl WrittenTable {
    pub(crate) fn into_table(self, table_cache: Arc<TableCache>) -> Arc<Table> {
        let table = Table::known(self.meta, table_cache, self.points, Some(self.kept));
        match self.reader {
            Some(reader) => table.with_reader(reader),
            None => Arc::new(table),
        }
    }

    /// Lets go of the open files; what was verified stays known.
    pub(crate) fn let_go(&mut self) {
        self.reader = None;
    }

    /// Gives a table that takes a global sequence number this one, which is above those that were given before it was begun.
    pub(crate) fn with_global_sequence(mut self, sequence: Sequence) -> Self {
        for section in self.meta.sections.iter_mut().filter(|section| section.takes_global_sequence) {
            (section.min_sequence, section.max_sequence) = (sequence, sequence);
        }
        if let Some(reader) = &mut self.reader {
            reader.set_sections(self.meta.sections.clone());
        }
        self
    }
}

/// Writes one table. Entries come in order of (keyspace, key ascending, sequence descending).
#[derive(Debug)]
pub(crate) struct TableWriter {
    table_cache: Arc<TableCache>,
    number: FileNumber,
    id: Id,
    options: TableOptions,
    out: ChunkedWriter,
    index: IndexBuilder,
    directory: Vec<u8>,
    sections: Vec<Section>,
    /// The kind of point index of each section.
    points: Vec<PointIndex>,
    totals: Totals,
    current: Option<Section>,
    /// The blocks of the current section, if it is to have any.
    builder: Option<BlockBuilder>,
    /// The newest entry of the current section: its key, the hash of that, and its sequence number.
    last_key: Vec<u8>,
    last_hash: u64,
    last_sequence: Sequence,
    /// Of the entries and range tombstones of each section, the current one included.
    digests: Vec<RunningDigest>,
    /// See [`take_global_sequence`](Self::take_global_sequence).
    loaded_behind: Option<Sequence>,
}

impl TableWriter {
    /// Makes the file. Once `stop` is set, adding and finishing end with [`Error::Closed`] sooner or later.
    pub(crate) fn create(
        table_cache: &Arc<TableCache>,
        number: FileNumber,
        id: Id,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let options = table_cache.options;
        let file = table_cache.create(FileKind::Table, number)?;
        let mut out = ChunkedWriter::new(file, Seed::of_table(&id), options.chunk_log2, Arc::clone(stop));
        let header = TableHeader::new(Magic::TABLE, id, options.chunk_log2);
        let path = || table_cache.dir.path().join(FileKind::Table.name(number));
        out.push(header.as_bytes()).map_err(|e| Error::io("write", &path(), e))?;
        Ok(Self {
            table_cache: Arc::clone(table_cache),
            number,
            id,
            options,
            out,
            index: IndexBuilder::new(options, id),
            directory: Vec::new(),
            sections: Vec::new(),
            points: Vec::new(),
            totals: Totals { min_sequence: Sequence(u64::MAX), ..Totals::default() },
            current: None,
            builder: None,
            last_key: Vec::new(),
            last_hash: 0,
            last_sequence: Sequence(0),
            digests: Vec::new(),
            loaded_behind: None,
        })
    }

    fn error(&self, operation: &'static str, e: io::Error) -> Error {
        if e.kind() == io::ErrorKind::Interrupted && self.out.is_stopped() {
            return Error::Closed;
        }
        Error::io(operation, &self.path(), e)
    }

    fn path(&self) -> PathBuf {
        self.table_cache.dir.path().join(FileKind::Table.name(self.number))
    }

    /// Whether nothing has been added.
    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_none() && self.sections.is_empty()
    }

    /// Different keys in the current section, if it is that of this keyspace.
    pub(crate) fn keys_of(&self, keyspace: KeyspaceId) -> u64 {
        self.current.as_ref().filter(|section| section.keyspace == keyspace).map_or(0, |section| section.keys)
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.out.end()
    }

    /// Whether an entry with this sequence number still fits into the span of the current section.
    pub(crate) fn spans(&self, sequence: Sequence) -> bool {
        let Some(section) = &self.current else { return true };
        let (min, max) = (section.min_sequence.min(sequence), section.max_sequence.max(sequence));
        max.0 - min.0 < SEQUENCE_SPAN
    }

    /// Says that the manifest will give all entries their sequence number, one above `last`: sections that begin from now on
    /// say so. Entries are added as oldest ones.
    pub(crate) fn take_global_sequence(&mut self, last: Sequence) {
        self.loaded_behind = Some(last);
    }

    /// Whether the current section can take no further block.
    pub(crate) fn is_full(&self) -> bool {
        self.builder.as_ref().is_some_and(BlockBuilder::is_full)
    }

    /// Begins the section of the next keyspace. The default one needs no call.
    pub(crate) fn start_section(&mut self, options: SectionOptions) -> Result<()> {
        self.finish_section()?;
        self.options.section = options;
        self.index.start_section(options);
        Ok(())
    }

    /// The same, unless the section of this keyspace is the one that is being written.
    pub(crate) fn start_section_of(&mut self, keyspace: KeyspaceId, options: SectionOptions) -> Result<()> {
        let is_current = self.current.as_ref().is_some_and(|section| section.keyspace == keyspace);
        if is_current { Ok(()) } else { self.start_section(options) }
    }

    /// Appends an entry as it stands in its bytes, behind those in front of it. With `oldest`, the copy is marked as seen by
    /// everyone and followed by no older version, and gives up its sequence number.
    pub(crate) fn add(&mut self, keyspace: KeyspaceId, entry: EntryRef<'_>, oldest: bool) -> Result<()> {
        let key = entry.key();
        if self.current.as_ref().is_none_or(|section| section.keyspace != keyspace) {
            self.finish_section()?;
            self.begin_entries(entry.alignment()).map_err(|e| self.error("write", e))?;
            let (start, interval) = (self.out.end(), self.options.section.interval);
            let mut section = new_section(keyspace, start, key, interval, entry.alignment());
            if let Some(last) = self.loaded_behind {
                section.takes_global_sequence = true;
                (section.min_sequence, section.max_sequence) = (last, last);
            }
            self.begin(section);
            self.builder = BlockBuilder::new(self.options.section).map_err(|e| self.error("compress", e))?;
        }
        let raw = entry.raw();
        must(raw.len() == entry.next() - entry.start, "an entry is not in its bytes")?;
        let place = self.place_for(raw.len()).map_err(|e| self.error("write", e))?;
        // Its checksum was right, so it was written that way.
        let pointer = entry.any_pointer().map_err(|fault| fault.at(&self.path(), place))?;
        let sequence = if oldest { Sequence(0) } else { entry.sequence };
        let section = self.current.as_mut().ok_or_else(no_section)?;
        let order = if section.entries == 0 { Ordering::Less } else { self.last_key.as_slice().cmp(key) };
        let locator = u32::try_from(place / UNIT).map_err(|_| too_large(&self.table_cache, self.number))?;
        let indexed = match order {
            Ordering::Less => {
                self.last_hash = key_hash(keyspace, key);
                self.last_key.clear();
                self.last_key.extend_from_slice(key);
                section.keys += 1;
                self.index.add(key, self.last_hash, locator)
            }
            Ordering::Equal if sequence < self.last_sequence => self.index.add_version(key, locator),
            // Someone has forged what this is copied from.
            _ => return Err(Error::corrupt(&self.path(), place, Damage::OutOfOrder)),
        };
        indexed.map_err(|_| bug("a key stands in front of one that was added before it"))?;
        self.last_sequence = sequence;
        let digest = self.digests.last_mut().ok_or_else(no_section)?;
        digest.add(self.last_hash, sequence, entry.place(), pointer);
        section.entries += 1;
        section.tombstones += u64::from(entry.kind() == Kind::Delete);
        if let Some(pointer) = pointer {
            count_value(&mut section.value_files, pointer, key.len());
        }
        if sequence != Sequence(0) {
            section.min_sequence = section.min_sequence.min(sequence);
            section.max_sequence = section.max_sequence.max(sequence);
            if section.max_sequence.0 - section.min_sequence.0 >= SEQUENCE_SPAN {
                // Whoever fills tables cuts them in front of this; one memtable alone never gets here, but for forged ones.
                return Err(Error::NumbersExhausted);
            }
        }
        // The number of an entry that was loaded is not in its header.
        let unnumbered = entry.sequence != Sequence(0) && entry.header().is_ok_and(|h| h.is_marked_oldest());
        let pushed = if oldest || unnumbered { self.push_changed(entry, oldest) } else { self.push(raw) };
        pushed.map_err(|e| self.error("write", e))
    }

    /// The place of an entry of `length` bytes that is about to be added. If it does not fit into the block that is being
    /// filled, that is written and the next one begun.
    #[inline]
    fn place_for(&mut self, length: usize) -> io::Result<u64> {
        match &mut self.builder {
            None => Ok(self.out.end()),
            Some(builder) => {
                if !builder.has_room(length) {
                    builder.write_block(&mut self.out)?;
                }
                Ok(builder.place())
            }
        }
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.builder {
            None => self.out.push(bytes),
            Some(builder) => {
                builder.push(bytes);
                Ok(())
            }
        }
    }

    /// Brings the end of the file to where entries of this alignment can begin.
    fn begin_entries(&mut self, alignment: Alignment) -> io::Result<()> {
        let gap = alignment.entry_start(self.out.end()) - self.out.end();
        let zeros = usize::try_from(gap).ok().and_then(|gap| [0; 16].get(..gap));
        self.out.push(zeros.ok_or_else(|| bug("entries begin too far behind the end of the file"))?)
    }

    fn push_changed(&mut self, entry: EntryRef<'_>, oldest: bool) -> io::Result<()> {
        let mut header = entry.header().map_err(|_| bug("an entry has no header"))?;
        if oldest {
            header.mark_oldest();
        } else {
            header.unmark_oldest(entry.sequence);
        }
        self.push(header.as_bytes())?;
        self.push(entry.raw().get(header.as_bytes().len()..).ok_or_else(|| bug("an entry is shorter than its header"))?)
    }

    fn begin(&mut self, section: Section) {
        debug_assert!(self.current.is_none(), "sections end before the next one begins");
        debug_assert!(section.start == self.out.end(), "a section begins where the file ends");
        self.current = Some(section);
        self.digests.push(RunningDigest::default());
    }

    /// Adds the range tombstones of a keyspace, behind all its entries, and ends its section.
    pub(crate) fn add_ranges(&mut self, keyspace: KeyspaceId, ranges: &Fragments) -> Result<()> {
        let (Some(first), Some(last)) = (ranges.list().first(), ranges.list().last()) else { return Ok(()) };
        if self.current.as_ref().is_none_or(|section| section.keyspace != keyspace) {
            self.finish_section()?;
            let mut section =
                new_section(keyspace, self.out.end(), &[], self.options.section.interval, Alignment::None);
            (section.lower, section.upper) = (first.start.to_owned(), last.end.to_owned());
            self.begin(section);
        }
        self.end_entries()?;
        let section = self.current.as_mut().ok_or_else(no_section)?;
        let digest = self.digests.last_mut().ok_or_else(no_section)?;
        section.lower = section.lower.as_ref().min(first.start).to_owned();
        section.upper = section.upper.as_ref().max(last.end).to_owned();
        let mut records = Vec::new();
        for fragment in ranges.list().iter() {
            fragment.encode(&mut records);
            digest.add_range(fragment);
            section.range_tombstones += 1;
            let newest = fragment.sequences.first().ok_or_else(|| bug("a range tombstone has no sequence number"))?;
            section.max_sequence = section.max_sequence.max(*newest);
        }
        section.range_tombstones_bytes = records.len() as u64;
        self.out.push(&records).map_err(|e| self.error("write", e))?;
        self.finish_section()
    }

    /// The entries of the current section are complete.
    fn end_entries(&mut self) -> Result<()> {
        let written = self.builder.as_mut().map(|builder| builder.write_block(&mut self.out)).transpose();
        written.map_err(|e| self.error("write", e))?;
        // There need not be one, in front of the first.
        let Some(section) = &mut self.current else { return Ok(()) };
        section.end = self.out.end();
        section.min_sequence = section.min_sequence.min(section.max_sequence);
        if section.entries > 0 {
            section.upper = Edge::After(self.last_key.clone());
        }
        Ok(())
    }

    fn finish_section(&mut self) -> Result<()> {
        if self.current.as_ref().is_some_and(|section| section.range_tombstones == 0) {
            self.end_entries()?;
        }
        let builder = self.builder.take().filter(|builder| builder.blocks() > 0);
        // There need not be one, in front of the first.
        let Some(mut section) = self.current.take() else { return Ok(()) };
        if let Some(builder) = builder {
            (section.codec, section.blocks, section.block_log2) =
                (builder.codec(), builder.blocks(), self.options.section.block_log2);
            self.out.push(builder.directory()).map_err(|e| self.error("write", e))?;
        }
        section.min_sequence = section.min_sequence.min(section.max_sequence);
        section.encode(&mut self.directory);
        let finished = self.index.finish_section(section.keyspace, section.lower.key(), section.upper.key());
        finished.map_err(|_| bug("the keys of a section do not lie between its bounds"))?;
        self.totals.entries += section.entries;
        self.totals.min_sequence = self.totals.min_sequence.min(section.min_sequence);
        self.totals.max_sequence = self.totals.max_sequence.max(section.max_sequence);
        if let Some(last) = self.loaded_behind {
            // Reads back with the first number that it can get.
            let first = Sequence(last.0 + 1);
            (section.min_sequence, section.max_sequence) = (first, first);
        }
        debug_assert!(
            self.sections.last().is_none_or(|last| last.keyspace < section.keyspace),
            "sections have an order"
        );
        debug_assert!(section.entries + section.range_tombstones > 0, "a section is not empty");
        debug_assert!(section.lower < section.upper, "a section has keys between its bounds");
        self.sections.push(section);
        self.points.push(self.options.section.point_index);
        Ok(())
    }

    /// Completes table and index, makes both durable (not their directory entries), and reads them back through the mapping
    /// that readers will use: the reader that comes out has checked what the writer has done.
    pub(crate) fn finish(mut self) -> Result<WrittenTable> {
        self.finish_section()?;
        if self.out.end() > FILE_BYTES_MAX {
            return Err(too_large(&self.table_cache, self.number));
        }
        let sections = u32::try_from(self.sections.len()).map_err(|_| bug("a table has a section for no keyspace"))?;
        let path = self.table_cache.dir.path().join(FileKind::Table.name(self.number));
        let stop = self.out.stop();
        if stop.load(Relaxed) {
            return Err(Error::Closed);
        }
        let tail = |body_end, sums: &[u32]| {
            encode_tail(Magic::TABLE, self.id, body_end, sums, &self.directory, sections, self.totals)
        };
        let mut written = self.out.finish(tail).map_err(|e| Error::io("write", &path, e))?;
        written.sync().map_err(|e| Error::io("sync", &path, e))?;
        write_index(&*self.table_cache.dir, self.number, self.index.finish().pieces())?;

        let contents = self.table_cache.contents(&FileKind::Table.name(self.number));
        let contents = contents.map_err(|e| Error::io("open", &path, e))?;
        let file = ChunkedFile::open_contents(path, contents, Magic::TABLE, true)?;
        let meta = TableMeta {
            number: self.number,
            id: self.id,
            file_bytes: file.length(),
            footer_checksum: file.frame().footer_checksum,
            sections: self.sections,
        };
        let reader = TableReader::open(&self.table_cache, &meta, &self.points, None)?;
        reader.verify_written(&self.digests, self.totals, &stop)?;
        let kept = reader.kept();
        Ok(WrittenTable { meta, reader: Some(reader), kept, points: self.points })
    }
}

#[cold]
fn too_large(table_cache: &TableCache, number: FileNumber) -> Error {
    Error::io("write", &table_cache.dir.path().join(FileKind::Table.name(number)), io::ErrorKind::FileTooLarge.into())
}

#[cold]
fn no_section() -> Bug {
    bug("a section has been begun and is not there")
}

fn new_section(keyspace: KeyspaceId, start: u64, key: &[u8], interval: u16, alignment: Alignment) -> Section {
    Section {
        keyspace,
        start,
        end: start,
        entries: 0,
        keys: 0,
        tombstones: 0,
        range_tombstones: 0,
        range_tombstones_bytes: 0,
        min_sequence: Sequence(u64::MAX),
        max_sequence: Sequence(0),
        interval,
        lower: Edge::Before(key.to_vec()),
        upper: Edge::End,
        codec: Codec::None,
        blocks: 0,
        block_log2: 0,
        alignment,
        takes_global_sequence: false,
        value_files: Vec::new(),
        later: Later::default(),
    }
}

/// Writes the index file of table `number`, and makes its contents durable.
pub(crate) fn write_index<'b>(
    dir: &dyn Dir,
    number: FileNumber,
    bytes: impl IntoIterator<Item = &'b [u8]>,
) -> Result<()> {
    write_file(dir, &FileKind::Index.name(number), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::tests::found_by;
    use crate::format::entry::{Entry, push_entry};
    use crate::options::Compression;
    use crate::sys::{Access, Fs, disk::DiskFs};
    use crate::table::body::first;
    use crate::table::walk::{InWindows, Walk};
    use crate::table::{Answer, Nobody, TableCursor, Values, Verify};

    struct Fixture {
        _temp: tempfile::TempDir,
        table_cache: Arc<TableCache>,
        meta: TableMeta,
        digests: Vec<RunningDigest>,
        totals: Totals,
    }

    fn table_cache(path: &std::path::Path, options: TableOptions) -> Arc<TableCache> {
        let dir = DiskFs.open_dir(path, false, Access::Map).unwrap();
        TableCache::new(dir, options, 64 << 10, None)
    }

    fn key(i: u64) -> Vec<u8> {
        format!("key{i:06}").into_bytes()
    }

    /// Keys 0, 2, 4, ... with three versions each in keyspaces 0 and 5.
    fn write(keys: u64, options: TableOptions) -> Fixture {
        let temp = tempfile::tempdir().unwrap();
        let table_cache = table_cache(temp.path(), options);
        let mut writer = TableWriter::create(&table_cache, FileNumber(1), [8; 16], &Arc::default()).unwrap();
        for keyspace in [0, 5] {
            for i in 0..keys {
                for version in (0..3u64).rev() {
                    let kind = if version == 1 { Kind::Delete } else { Kind::Put };
                    let mut bytes = Vec::new();
                    push_entry(
                        &mut bytes,
                        kind,
                        Sequence(10 + i * 3 + version),
                        &key(i * 2),
                        &i.to_le_bytes(),
                        Alignment::None,
                    );
                    let entry = Entry::parse(&bytes, 0, bytes.len(), Sequence(10)).unwrap();
                    writer.add(KeyspaceId(keyspace), entry.in_bytes(&bytes), false).unwrap();
                }
            }
        }
        writer.finish_section().unwrap();
        let (digests, totals) = (writer.digests.clone(), writer.totals);
        let meta = writer.finish().unwrap().meta;
        Fixture { _temp: temp, table_cache, meta, digests, totals }
    }

    fn kinds() -> Vec<(u16, u8, Compression)> {
        let mut kinds: Vec<_> =
            [(1, 12), (16, 12), (16, 16), (256, 12)].map(|(i, chunk)| (i, chunk, Compression::None)).into();
        if cfg!(feature = "lz4") {
            kinds.extend([(1, 16, Compression::Lz4), (16, 12, Compression::Lz4)]);
        }
        if cfg!(feature = "zstd") {
            kinds.extend([(16, 12, Compression::Zstd(3)), (256, 16, Compression::Zstd(-1))]);
        }
        kinds
    }

    fn shapes() -> Vec<TableOptions> {
        let mut shapes = Vec::new();
        for point_index in [PointIndex::Hash, PointIndex::Bloom { error_rate: 0.01 }] {
            for (interval, chunk_log2, compression) in kinds() {
                shapes.push(TableOptions {
                    section: SectionOptions {
                        interval,
                        point_index,
                        compression,
                        block_log2: 12,
                        ..SectionOptions::default()
                    },
                    chunk_log2,
                    ..TableOptions::default()
                });
            }
        }
        shapes
    }

    impl Answer {
        fn entry(self) -> Option<Entry> {
            match self {
                Self::Entry(entry) => Some(entry),
                Self::InBlock(found) => Some(found.0),
                Self::Removed | Self::Missing => None,
            }
        }
    }

    #[test]
    fn every_version_is_found_and_nothing_else() {
        for options in shapes() {
            let fixture = write(700, options);
            let reader = TableReader::open(&fixture.table_cache, &fixture.meta, &[], None).unwrap();
            assert_eq!(reader.verify(&Values::default(), |_| true).unwrap(), 700 * 3 * 2);
            assert!(reader.lost_index().is_none());
            let get = |keyspace: u32, key: &[u8], at: u64| {
                let keyspace = KeyspaceId(keyspace);
                let hashed = (key_hash(keyspace, key), key);
                let found = reader.get(keyspace, hashed, Sequence(at), &mut Nobody).unwrap();
                found.entry().map(|entry| (entry.sequence.0, entry.kind()))
            };
            for i in 0..700 {
                let newest = 10 + i * 3 + 2;
                assert_eq!(get(5, &key(i * 2), u64::MAX), Some((newest, Kind::Put)));
                assert_eq!(get(0, &key(i * 2), newest - 1), Some((newest - 1, Kind::Delete)));
                assert_eq!(get(0, &key(i * 2), newest - 3), None);
                assert_eq!(get(0, &key(i * 2 + 1), u64::MAX), None);
                assert_eq!(get(3, &key(i * 2), u64::MAX), None);
            }
        }
    }

    fn seek(cursor: &mut TableCursor, key: &[u8], back: bool) {
        cursor.find(key, back).unwrap();
        if back { cursor.arrive_back(key) } else { cursor.arrive(key) }.unwrap();
    }

    #[test]
    fn cursors_walk_and_seek_both_ways() {
        for options in shapes() {
            let fixture = write(300, options);
            let reader = Arc::new(TableReader::open(&fixture.table_cache, &fixture.meta, &[], None).unwrap());
            let mut cursor = TableCursor::new(Arc::clone(&reader), KeyspaceId(5), Verify::Again).unwrap();
            let here = |c: &TableCursor| c.entry().map(|e| (e.key().to_vec(), e.sequence.0));
            cursor.seek_first().unwrap();
            let mut forward = Vec::new();
            while let Some(at) = here(&cursor) {
                forward.push(at);
                cursor.next().unwrap();
            }
            assert_eq!(forward.len(), 900);
            cursor.seek_last().unwrap();
            let mut backward = Vec::new();
            while let Some(at) = here(&cursor) {
                backward.push(at);
                cursor.prev().unwrap();
            }
            backward.reverse();
            assert_eq!(forward, backward);
            for i in 0..602 {
                seek(&mut cursor, &key(i), false);
                let first = forward.iter().find(|(k, _)| *k >= key(i));
                assert_eq!(here(&cursor).as_ref(), first);
                seek(&mut cursor, &key(i), true);
                let at = forward.iter().rposition(|(k, _)| *k <= key(i)).unwrap();
                assert_eq!(here(&cursor).as_ref(), Some(&forward[at]));
                cursor.prev().unwrap();
                assert_eq!(here(&cursor), at.checked_sub(1).map(|at| forward[at].clone()));
                cursor.next().unwrap();
                assert_eq!(here(&cursor).as_ref(), at.checked_sub(1).map(|_| &forward[at]));
            }
            seek(&mut cursor, b"a", true);
            assert_eq!(here(&cursor), None);
            // What it has come to from the end on is of no use further in front.
            for i in (0..602).step_by(37) {
                cursor.seek_last().unwrap();
                cursor.prev().unwrap();
                seek(&mut cursor, &key(i), true);
                let at = forward.iter().rposition(|(k, _)| *k <= key(i)).unwrap();
                assert_eq!(here(&cursor).as_ref(), Some(&forward[at]));
            }
            // Turned round anywhere, it shows what stands there.
            cursor.seek_last().unwrap();
            let mut at = forward.len() - 1;
            for back in 1..58 {
                for _ in 0..back {
                    cursor.prev().unwrap();
                }
                for _ in 0..back / 2 {
                    cursor.next().unwrap();
                }
                at -= back - back / 2;
                assert_eq!(here(&cursor).as_ref(), Some(&forward[at]));
            }
        }
    }

    #[test]
    fn lost_and_damaged_indexes_are_rebuilt_and_other_damage_is_found() {
        for options in shapes() {
            let fixture = write(200, options);
            let path = fixture.table_cache.dir.path().join("000001.idx");
            let good = std::fs::read(&path).unwrap();
            let mut damaged = good.clone();
            damaged[64] ^= 1;
            for bytes in [None, Some(&damaged[..]), Some(b"short"), Some(&[])] {
                std::fs::remove_file(&path).unwrap();
                if let Some(bytes) = bytes {
                    std::fs::write(&path, bytes).unwrap();
                } else {
                    std::fs::write(&path, b"").unwrap();
                }
                let reader = TableReader::open(&fixture.table_cache, &fixture.meta, &[], None).unwrap();
                for i in 0..200 {
                    let hashed = (key_hash(KeyspaceId(0), &key(i * 2)), &key(i * 2)[..]);
                    let found = reader.get(KeyspaceId(0), hashed, Sequence(u64::MAX), &mut Nobody).unwrap();
                    assert!(found.entry().is_some());
                }
                let lost = reader.lost_index().unwrap();
                assert_eq!(lost.bytes(), &good[..], "the index is a function of the table");
            }
        }
    }

    /// Changes the key, hash and locator that an index has of key number `n`.
    type Forgery = fn(u64, &mut (Vec<u8>, u64, u32));

    /// Writes an index of its own for a table; `change` may forge what it says of key number `n`.
    fn forge_index(fixture: &Fixture, options: TableOptions, change: Forgery) {
        let reader = TableReader::open(&fixture.table_cache, &fixture.meta, &[], None).unwrap();
        let mut builder = IndexBuilder::new(options, fixture.meta.id);
        for section in reader.sections() {
            let mut n = 0;
            let mut walk = InWindows::new(&reader.body, section, Verify::Once);
            let walked = walk.visit(first(section), |place, entry, is_new_key| {
                if is_new_key {
                    let key = entry.key().to_vec();
                    let hash = key_hash(section.keyspace, &key);
                    let mut point = (key, hash, u32::try_from(place / 8).unwrap());
                    change(n, &mut point);
                    builder.add(&point.0, point.1, point.2).unwrap();
                    n += 1;
                }
                Ok(())
            });
            walked.unwrap();
            builder.finish_section(section.keyspace, section.lower.key(), section.upper.key()).unwrap();
        }
        fixture.table_cache.dir.remove("000001.idx").unwrap();
        write_index(&*fixture.table_cache.dir, FileNumber(1), builder.finish().pieces()).unwrap();
    }

    #[test]
    fn what_is_read_back_is_compared_with_all_that_was_added() {
        for options in shapes() {
            let fixture = write(200, options);
            let read_back = |digests: &[RunningDigest], totals| {
                let reader = TableReader::open(&fixture.table_cache, &fixture.meta, &[], None).unwrap();
                reader.verify_written(digests, totals, &AtomicBool::new(false))
            };
            let (digests, totals) = (&fixture.digests[..], fixture.totals);
            read_back(digests, totals).unwrap();
            let mut other = digests.to_vec();
            other[1].step(0);
            let found = found_by(|| read_back(&other, totals));
            assert!(found.contains("other entries than were added"), "{found}");
            let fewer = Totals { entries: totals.entries - 1, ..totals };
            for (digests, totals) in [(&digests[1..], totals), (digests, fewer)] {
                let found = found_by(|| read_back(digests, totals));
                assert!(found.contains("other sections than it was given"), "{found}");
            }

            let forgeries: [(&str, Forgery); 6] = [
                ("", |_, _| {}),
                ("an order index does not lead to its key", |n, point| point.0[8] ^= u8::from(n == 0)),
                ("an order index does not lead to its key", |n, point| point.2 += u32::from(n == 0)),
                ("an order index does not lead to its key", |n, point| point.0[6] ^= u8::from(n % 16 == 0)),
                ("an order index does not lead to its key", |n, point| point.2 += u32::from(n % 16 == 0)),
                ("an index does not lead to a key", |n, point| point.1 ^= u64::from(n == 77) * u64::MAX),
            ];
            for (expected, forgery) in forgeries {
                forge_index(&fixture, options, forgery);
                if expected.is_empty() {
                    read_back(digests, totals).unwrap();
                } else {
                    let found = found_by(|| read_back(digests, totals));
                    assert!(found.contains(expected), "{found}");
                }
            }
        }
    }

    /// What the order index has said before it is found to be wrong is not believed either.
    #[test]
    fn on_the_way_back_a_wrong_index_is_made_again() {
        let options = TableOptions::default();
        let fixture = write(300, options);
        forge_index(&fixture, options, |n, point| point.2 -= u32::from(n == 51) * 40);
        let reader = Arc::new(TableReader::open(&fixture.table_cache, &fixture.meta, &[], None).unwrap());
        let mut cursor = TableCursor::new(Arc::clone(&reader), KeyspaceId(0), Verify::Once).unwrap();
        let mut found = Vec::new();
        cursor.seek_last().unwrap();
        while let Some(entry) = cursor.entry() {
            found.push((entry.key().to_vec(), entry.sequence.0));
            cursor.prev().unwrap();
        }
        assert!(reader.index_lost.load(std::sync::atomic::Ordering::Relaxed), "the index was not found to be wrong");
        found.reverse();
        let expected = (0..300).flat_map(|i| (0..3).rev().map(move |version| (key(i * 2), 10 + i * 3 + version)));
        assert!(found.iter().cloned().eq(expected), "{found:?}");
    }

    #[test]
    fn entries_out_of_order_or_of_too_many_times_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let table_cache = table_cache(temp.path(), TableOptions::default());
        let add = |number: u64, entries: &[(&[u8], u64)]| {
            let mut writer = TableWriter::create(&table_cache, FileNumber(number), [8; 16], &Arc::default()).unwrap();
            entries.iter().try_for_each(|(key, sequence)| {
                let mut bytes = Vec::new();
                push_entry(&mut bytes, Kind::Put, Sequence(*sequence), key, b"v", Alignment::None);
                let entry = Entry::parse(&bytes, 0, bytes.len(), Sequence(*sequence)).unwrap();
                writer.add(KeyspaceId(0), entry.in_bytes(&bytes), false)
            })
        };
        for (number, wrong) in
            [[(&b"b"[..], 1), (b"a", 2)], [(b"a", 1), (b"a", 2)], [(b"a", 1), (b"a", 1)]].iter().enumerate()
        {
            let refused = add(number as u64, wrong).unwrap_err();
            assert_eq!(refused.corruption().map(|corruption| corruption.what), Some(Damage::OutOfOrder));
        }
        add(10, &[(b"a", 2), (b"a", 1), (b"b", SEQUENCE_SPAN)]).unwrap();
        assert!(matches!(add(11, &[(b"a", 1), (b"b", SEQUENCE_SPAN + 1)]), Err(Error::NumbersExhausted)));
    }

    #[test]
    fn marked_entries_read_as_sequence_zero() {
        let temp = tempfile::tempdir().unwrap();
        let table_cache = table_cache(temp.path(), TableOptions::default());
        let mut writer = TableWriter::create(&table_cache, FileNumber(1), [8; 16], &Arc::default()).unwrap();
        let mut bytes = Vec::new();
        push_entry(&mut bytes, Kind::Put, Sequence(5), b"old", b"v", Alignment::None);
        let entry = Entry::parse(&bytes, 0, bytes.len(), Sequence(5)).unwrap();
        assert!(writer.spans(Sequence(5)));
        writer.add(KeyspaceId(0), entry.in_bytes(&bytes), true).unwrap();
        let far = 5 + SEQUENCE_SPAN + 100;
        let mut bytes = Vec::new();
        push_entry(&mut bytes, Kind::Put, Sequence(far), b"recent", b"v", Alignment::None);
        let entry = Entry::parse(&bytes, 0, bytes.len(), Sequence(far)).unwrap();
        assert!(writer.spans(Sequence(far)), "a marked entry does not count");
        writer.add(KeyspaceId(0), entry.in_bytes(&bytes), false).unwrap();
        assert!(!writer.spans(Sequence(5)));
        let reader = writer.finish().unwrap().reader.unwrap();
        let get = |key: &[u8]| {
            let hashed = (key_hash(KeyspaceId(0), key), key);
            reader.get(KeyspaceId(0), hashed, Sequence(u64::MAX), &mut Nobody).unwrap()
        };
        assert_eq!(get(b"old").entry().unwrap().sequence, Sequence(0));
        assert_eq!(get(b"recent").entry().unwrap().sequence, Sequence(far));
        assert_eq!(reader.verify(&Values::default(), |_| true).unwrap(), 2);
    }
}
