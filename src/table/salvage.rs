//! What can be had of a table or value file that is damaged, or of which no manifest tells.

use std::path::Path;
use std::sync::Arc;

use super::body::{Body, Verify, contains, end, first};
use super::file::{ChunkedFile, intact, position};
use super::index::Index;
use super::reader::{TableReader, decode_sections, read_ranges};
use super::table_cache::TableCache;
use super::values::ValueFile;
use super::walk::{InWindows, Walk};
use crate::error::{Damage, Error, Result};
use crate::format::checksum::Id;
use crate::format::codec::Codec;
use crate::format::edit::TableMeta;
use crate::format::entry::{Entry, EntryHeader};
use crate::format::mend::{Expected, frame_id, mend_frame};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::section::Section;
use crate::format::values::ValuesMeta;
use crate::format::{FileNumber, KeyspaceId, Sequence};
use crate::sys::Mapping;
use crate::visibility::Fragments;

/// A damaged table, of which everything that is intact can be read: header, footer, directory and checksums are mended as far
/// as that can be proven, and each entry is read whose chunks match their checksums.
#[derive(Debug)]
pub(crate) struct Salvage {
    body: Body,
    /// Where entries begin behind a damaged chunk.
    index: Option<Index>,
    /// The range tombstones of each section, if they can be read.
    ranges: Vec<Option<Arc<Fragments>>>,
}

/// What a walk over a damaged section comes to.
#[derive(Debug)]
pub(crate) enum Piece<'s> {
    /// An entry, and the bytes that it is in.
    Entry(&'s Entry, &'s [u8]),
    /// One whose key is intact and whose value is not.
    WithoutValue(&'s Entry, &'s [u8]),
    /// Here may have been entries of which nothing is known. The keys on both sides may have had more versions.
    Gap,
}

impl Salvage {
    /// Opens the table that `known` describes, or, without it, what stands under this number; see [`read_meta`] for
    /// `global_sequence`. Corruption is an error if nothing of it can be had.
    pub(crate) fn open(
        table_cache: &Arc<TableCache>,
        number: FileNumber,
        known: Option<&TableMeta>,
        global_sequence: impl FnOnce(&Id) -> Option<Sequence>,
    ) -> Result<Self> {
        let file = open_mended(
            table_cache,
            FileKind::Table,
            Magic::TABLE,
            number,
            known.map_or(Expected::Nothing, Expected::Table),
        )?;
        let frame = *file.frame();
        let sections = numbered_sections(&file, global_sequence)?;
        if known.is_some_and(|meta| frame.footer_checksum != meta.footer_checksum || sections != meta.sections) {
            return Err(file.corrupt(frame.directory_offset, Damage::ManifestMismatch));
        }
        let index = open_mended(table_cache, FileKind::Index, Magic::INDEX, number, Expected::Index(&frame.id));
        let index = match index.and_then(|file| Index::of_file(file, &frame.id, &sections)) {
            // One of another version counts like a damaged one.
            Err(Error::UnsupportedFormat(_)) => None,
            index => intact(index)?,
        };
        let ranges = sections.iter().map(|section| intact(read_ranges(&file, section))).collect::<Result<_>>()?;
        Ok(Self { body: Body::of_damaged(file, sections, number, Arc::clone(table_cache)), index, ranges })
    }

    pub(crate) fn path(&self) -> &Path {
        self.body.file.path()
    }

    /// Length of the file, made good.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.body.file.length()
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.body.sections
    }

    fn section(&self, keyspace: KeyspaceId) -> Option<(usize, &Section)> {
        self.sections().iter().enumerate().find(|(_, section)| section.keyspace == keyspace)
    }

    /// The range tombstones of a keyspace; none if they are lost.
    pub(crate) fn ranges(&self, keyspace: KeyspaceId) -> Option<&Arc<Fragments>> {
        self.ranges.get(self.section(keyspace)?.0)?.as_ref()
    }

    /// Shows everything that there is of a keyspace, in order.
    pub(crate) fn walk(&self, keyspace: KeyspaceId, mut visit: impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        let Some((number, section)) = self.section(keyspace) else { return Ok(()) };
        if intact(self.body.check_directory(section))?.is_none() {
            return visit(Piece::Gap);
        }
        let mut walk = InWindows::new(&self.body, section, Verify::Again);
        let mut place = first(section);
        let mut starts: Option<Vec<usize>> = None;
        while place < walk.end() {
            if let Some(entry) = intact(walk.entry(place))? {
                // One that is newer than all that there are was never written.
                let known = entry.sequence <= section.max_sequence;
                visit(if known { Piece::Entry(&entry, walk.bytes()) } else { Piece::Gap })?;
                place = walk.behind(place, &entry);
            } else if let Some(entry) = self.without_value(section, place)? {
                visit(Piece::WithoutValue(&entry, self.body.file.bytes()))?;
                place = entry.next();
            } else {
                visit(Piece::Gap)?;
                if starts.is_none() {
                    starts = Some(self.starts(number, section)?);
                }
                place = start_behind(section, place, starts.as_deref().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Where entries of a plain section are known to begin, ascending: the index names the newest version of every key, or,
    /// with a bloom filter, every so many keys.
    fn starts(&self, number: usize, section: &Section) -> Result<Vec<usize>> {
        match &self.index {
            Some(index) if section.codec == Codec::None => index.intact_places(number),
            _ => Ok(Vec::new()),
        }
    }

    /// The entry at a place if everything in front of its value is intact. Its header then says where the next one begins.
    fn without_value(&self, section: &Section, place: usize) -> Result<Option<Entry>> {
        if section.codec != Codec::None {
            return Ok(None);
        }
        let (file, limit) = (&self.body.file, position(section.end));
        // The length of an extension stands right behind the header; no entry is shorter than that.
        if intact(file.check(place, limit.min(place.saturating_add(size_of::<EntryHeader>() + 1))))?.is_none() {
            return Ok(None);
        }
        let parsed = Entry::parse_in_table(file.bytes(), place, limit, section.base());
        let entry = intact(parsed.map_err(|fault| fault.at(file.path(), place as u64)))?;
        let fits = |entry: &Entry| entry.alignment() == section.alignment && entry.sequence <= section.max_sequence;
        let Some(entry) = entry.filter(fits) else { return Ok(None) };
        Ok(intact(file.check(place, entry.value_start()))?.map(|()| entry))
    }
}

/// The first place behind `place` at which an entry is known to begin: that of the next block, or the next one of `starts`.
/// The end of the section if there is none.
fn start_behind(section: &Section, place: usize, starts: &[usize]) -> usize {
    if section.codec != Codec::None {
        return ((place >> section.block_log2) + 1) << section.block_log2;
    }
    let next = starts.get(starts.partition_point(|start| *start <= place)).copied();
    next.filter(|start| contains(section, *start)).unwrap_or(end(section))
}

/// Opens a file with a frame whose frame may be damaged. All of it is in memory then.
fn open_mended(
    table_cache: &TableCache,
    kind: FileKind,
    magic: Magic,
    number: FileNumber,
    known: Expected<'_>,
) -> Result<ChunkedFile> {
    let name = kind.name(number);
    let path = table_cache.dir.path().join(&name);
    let mapping = table_cache.dir.open(&name).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::corrupt(&path, 0, Damage::Missing),
        _ => Error::io("read", &path, e),
    })?;
    let mended = mend_frame(mapping.bytes(), magic, known).map_err(|(offset, fault)| fault.at(&path, offset))?;
    ChunkedFile::open(path, mended.map_or(mapping, Mapping::heap), magic, false)
}

/// The sections of a table that no manifest tells of.
fn numbered_sections(
    file: &ChunkedFile,
    global_sequence: impl FnOnce(&Id) -> Option<Sequence>,
) -> Result<Vec<Section>> {
    let frame = file.frame();
    let mut sections = decode_sections(file)?;
    let global = global_sequence(&frame.id).unwrap_or_default();
    for section in sections.iter_mut().filter(|section| section.takes_global_sequence) {
        let first = Sequence(section.max_sequence.0.saturating_add(1));
        let numbered = section.set_global_sequence(global.max(first));
        numbered.map_err(|damage| file.corrupt(frame.directory_offset, damage))?;
    }
    Ok(sections)
}

impl TableReader {
    /// Makes the index again from the entries, whatever there is on disk.
    pub(crate) fn forget_index(&self) -> Result<()> {
        self.with_rebuilt_index(|_| Ok(()))
    }
}

/// What a table says of itself: the record that its manifest has, or had. `global_sequence` gives the number that the table
/// with this id has taken; without one, it is the first possible one.
pub(crate) fn read_meta(
    table_cache: &TableCache,
    number: FileNumber,
    global_sequence: impl FnOnce(&Id) -> Option<Sequence>,
) -> Result<TableMeta> {
    let file = table_cache.file(FileKind::Table, Magic::TABLE, number)?;
    let frame = file.frame();
    let sections = numbered_sections(&file, global_sequence)?;
    let (id, footer_checksum) = (frame.id, frame.footer_checksum);
    Ok(TableMeta { number, id, file_bytes: file.length(), footer_checksum, sections })
}

/// The id of a table or value file, if what is intact of its header and footer says it.
pub(crate) fn read_id(table_cache: &TableCache, kind: FileKind, number: FileNumber) -> Result<Option<Id>> {
    let magic = if kind == FileKind::Values { Magic::VALUES } else { Magic::TABLE };
    let name = kind.name(number);
    let file = table_cache.dir.open(&name).map_err(|e| Error::io("read", &table_cache.dir.path().join(&name), e))?;
    Ok(frame_id(file.bytes(), magic))
}

/// What a value file says of itself: the record that its manifest has, or had.
pub(crate) fn read_values_meta(table_cache: &TableCache, number: FileNumber) -> Result<ValuesMeta> {
    let file = table_cache.file(FileKind::Values, Magic::VALUES, number)?;
    Ok(ValuesMeta::of(number, file.frame(), file.length()))
}

/// A value file whose frame may be damaged: the one that `known` describes, or what stands under this number.
pub(crate) fn mend_values(
    table_cache: &Arc<TableCache>,
    number: FileNumber,
    known: Option<&ValuesMeta>,
) -> Result<Arc<ValueFile>> {
    let file = open_mended(
        table_cache,
        FileKind::Values,
        Magic::VALUES,
        number,
        known.map_or(Expected::Nothing, Expected::Values),
    )?;
    let meta = known.copied().unwrap_or_else(|| ValuesMeta::of(number, file.frame(), file.length()));
    ValueFile::with_file(meta, Arc::clone(table_cache), file)
}
