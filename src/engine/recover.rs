//! Opening: from the names in a directory to an engine that goes on where the last one ended.
//!
//! Nothing is changed before everything that the manifest names has been found. What a crash has left of the log is
//! [written anew](super::log_copies) before anything of it is shown.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Damage, Error, InUse, Result};
use crate::event::Event;
use crate::format::checksum::Id;
use crate::format::names::{self, FileKind, numbered};
use crate::format::prefix::Magic;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FileNumber, NUMBER_MAX, Sequence};
use crate::log::{self, LogScan};
use crate::memtable::{Memtable, Wanted};
use crate::options::Options;
use crate::sys::{Dir, Fs, HeldLock, Lock, LockMode, Mapping};
use crate::table::TableCache;
use crate::version::{Handles, State, Version, read_manifest};

/// What an open found in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the last run ended with [`Db::close`](crate::Db::close), or there was nothing in the log.
    pub clean: bool,
    /// Log segments replayed.
    pub segments: usize,
    /// Commits replayed.
    pub groups: u64,
    /// Entries replayed.
    pub entries: u64,
    /// What was cut off: bytes behind the last whole commit that were never acknowledged as durable.
    pub dropped: Option<DroppedTail>,
}

impl RecoveryReport {
    pub(super) fn to_event(&self) -> Event {
        let Self { clean, groups, entries, .. } = *self;
        Event::Recovered { clean, groups, entries, dropped_bytes: self.dropped.as_ref().map_or(0, |tail| tail.bytes) }
    }
}

/// The torn end of the log of a crashed run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DroppedTail {
    /// The segment in which the log ends.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::path"))]
    pub path: PathBuf,
    /// Where it ends, in bytes from the segment's start.
    pub offset: u64,
    /// Bytes from there to the last one that is not zero, later segments included.
    pub bytes: u64,
}

/// What there is in a directory.
pub(super) struct Found {
    pub(super) database: Id,
    pub(super) manifest: Option<FileNumber>,
    /// Whether every edit of the manifest is known to be on disk.
    pub(super) manifest_durable: bool,
    pub(super) state: State,
    pub(super) version: Version,
}

/// The log of the last run.
pub(super) struct Replayed {
    /// Newest first.
    pub(super) memtables: Vec<Arc<Memtable>>,
    pub(super) ends: Vec<(FileNumber, u64)>,
    pub(super) next_sequence: Sequence,
    pub(super) report: RecoveryReport,
}

/// Opens the directory of a database, or of backups; makes it, if it is missing and that is wanted.
pub(super) fn open_dir(options: &Options, path: &Path, create: bool) -> Result<Arc<dyn Dir>> {
    options.file_system.0.open_dir(path, create, options.access()).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotFound(Arc::new(path.to_owned())),
        _ => Error::io("open", path, e),
    })
}

/// Locks a directory; without a lock file it is no database, or a damaged one.
pub(super) fn take_lock(dir: &dyn Dir, read_only: bool, create: bool) -> Result<Box<dyn HeldLock>> {
    if let Some(lock) = lock_if_there(dir, read_only, create)? {
        return Ok(lock);
    }
    let path = dir.path();
    let names = dir.list().map_err(|e| Error::io("list", path, e))?;
    // A copy that has left it out is no empty place.
    let has_files = names.iter().any(|name| name == names::CURRENT) || numbered(&names).next().is_some();
    if has_files {
        return Err(Error::corrupt(&path.join(names::LOCK), 0, Damage::Missing));
    }
    Err(Error::NotFound(Arc::new(path.to_owned())))
}

/// Locks a directory, if there is a lock file.
pub(super) fn lock_if_there(dir: &dyn Dir, read_only: bool, create: bool) -> Result<Option<Box<dyn HeldLock>>> {
    let mode = if read_only { LockMode::Shared } else { LockMode::Exclusive { create } };
    let path = dir.path();
    match dir.lock(names::LOCK, mode).map_err(|e| Error::io("lock", &path.join(names::LOCK), e))? {
        Lock::Held(guard) => Ok(Some(guard)),
        busy @ (Lock::Busy | Lock::BusyHere) => {
            let by_this_process = matches!(busy, Lock::BusyHere);
            Err(Error::Locked(Arc::new(InUse { path: path.to_owned(), by_this_process })))
        }
        Lock::Absent => Ok(None),
    }
}

/// The number after every one that a file in the directory has.
pub(super) fn number_after(names: &[String], at_least: FileNumber) -> Result<u64> {
    let highest = numbered(names).map(|(_, number)| number.0).max().unwrap_or(0);
    let next = at_least.0.max(highest.saturating_add(1)).max(1);
    if next < NUMBER_MAX { Ok(next) } else { Err(Error::NumbersExhausted) }
}

/// The state of a database that does not exist yet, if there is to be one. Without `CURRENT` a directory must not have data: a
/// manifest alone is left by an interrupted creation, but tables, value files and segments without `CURRENT` are a database
/// that has lost it. To call that empty, or no database, would be to give the data up.
pub(super) fn no_state(fs: &dyn Fs, dir: &dyn Dir, create: bool, names: &[String]) -> Result<Found> {
    let path = dir.path();
    if numbered(names).any(|(kind, _)| kind != FileKind::Manifest) {
        return Err(Error::corrupt(&path.join(names::CURRENT), 0, Damage::Missing));
    }
    if !create {
        return Err(Error::NotFound(Arc::new(path.to_owned())));
    }
    let mut database = Id::default();
    fs.random(&mut database).map_err(|e| Error::io("get random bytes for", path, e))?;
    let first_segment = FileNumber(number_after(names, FileNumber(1))?);
    let state = State { first_segment, ..State::default() };
    Ok(Found { database, manifest: None, manifest_durable: false, state, version: Version::default() })
}

/// Replays the manifest and checks that every table and value file it names is there, with its length.
pub(super) fn read_state(table_cache: &Arc<TableCache>, database: Id, manifest: FileNumber) -> Result<Found> {
    let dir = &*table_cache.dir;
    let found = read_found(table_cache, database, manifest)?;
    for (_, table) in found.version.tables() {
        check_length(dir, &FileKind::Table.name(table.number()), table.meta.file_bytes)?;
    }
    for stored in found.version.values().iter() {
        check_length(dir, &FileKind::Values.name(stored.file.number()), stored.file.meta.file_bytes)?;
    }
    Ok(found)
}

/// Replays the manifest.
pub(super) fn read_found(table_cache: &Arc<TableCache>, database: Id, manifest: FileNumber) -> Result<Found> {
    let recovered = read_manifest(&*table_cache.dir, &database, manifest, &Handles::new(table_cache))?;
    Ok(Found {
        database,
        manifest: Some(recovered.number),
        manifest_durable: recovered.clean,
        state: recovered.state,
        version: recovered.version,
    })
}

fn check_length(dir: &dyn Dir, name: &str, expected: u64) -> Result<()> {
    let path = dir.path().join(name);
    match dir.length(name) {
        Ok(length) if length == expected => Ok(()),
        Ok(length) => Err(Error::corrupt(&path, length, Damage::WrongLength)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::corrupt(&path, 0, Damage::Missing)),
        Err(e) => Err(Error::io("examine", &path, e)),
    }
}

/// Segments, and where the log in them ends.
pub(super) struct FoundLog {
    /// In order of number, those behind the end of the log included.
    segments: Vec<FoundSegment>,
    scan: LogScan,
}

struct FoundSegment {
    number: FileNumber,
    /// The segment that it is a copy of, at whose name an error in an entry is to be looked for; or its own.
    of: FileNumber,
    mapping: Mapping,
}

/// A copy of a segment, as long as that.
#[derive(Debug, Clone, Copy)]
pub(super) struct CopiedSegment {
    pub(super) number: FileNumber,
    pub(super) of: FileNumber,
    pub(super) end: u64,
}

impl FoundLog {
    /// Maps the segments of the last run's log, and decides where it ends.
    pub(super) fn of(dir: &dyn Dir, found: &Found, names: &[String]) -> Result<Self> {
        let mut numbers: Vec<FileNumber> = numbered(names)
            .filter(|(kind, number)| *kind == FileKind::Segment && *number >= found.state.first_segment)
            .map(|(_, number)| number)
            .collect();
        numbers.sort_unstable();
        for number in found.state.segment_ends.keys() {
            if !numbers.contains(number) {
                return Err(Error::corrupt(&path_of(dir, *number), 0, Damage::Missing));
            }
        }
        let segments = numbers.iter().map(|number| FoundSegment::map(dir, *number, *number));
        let State { first_segment: first, log_durable: durable, last_sequence, .. } = found.state;
        let known = log::Known { first, durable, last_sequence };
        Self::scan(dir, &found.database, known, segments.collect::<Result<_>>()?, |number| {
            found.state.segment_ends.get(&number).copied()
        })
    }

    /// Reads copies back, which are all of a log.
    pub(super) fn of_copies(dir: &dyn Dir, database: &Id, copies: &[CopiedSegment]) -> Result<Self> {
        let segments = copies.iter().map(|copy| FoundSegment::map(dir, copy.number, copy.of));
        let known = log::Known::nothing(copies.first().map(|copy| copy.number).unwrap_or_default());
        let end_of = |number| copies.iter().find(|copy| copy.number == number).map(|copy| copy.end);
        Self::scan(dir, database, known, segments.collect::<Result<_>>()?, end_of)
    }

    fn scan(
        dir: &dyn Dir,
        database: &Id,
        known: log::Known,
        segments: Vec<FoundSegment>,
        end_of: impl Fn(FileNumber) -> Option<u64>,
    ) -> Result<Self> {
        let inputs = segments.iter().map(|segment| log::Input {
            number: segment.number,
            bytes: segment.mapping.bytes(),
            end: end_of(segment.number),
        });
        let scan = log::scan(Magic::SEGMENT, database, known, &inputs.collect::<Vec<_>>())
            .map_err(|error| error.fault.at(&path_of(dir, error.segment), error.offset))?;
        Ok(Self { segments, scan })
    }

    /// Whether a crash has left it: what is behind the last durable mark may exist in the page cache only.
    pub(super) fn is_of_crash(&self) -> bool {
        !self.scan.clean && !self.segments.is_empty()
    }

    /// The segments that are part of the log, and their bytes up to where it ends.
    pub(super) fn parts(&self) -> impl Iterator<Item = (FileNumber, &[u8])> {
        self.ended().map(|(segment, end)| {
            let bytes = segment.mapping.bytes();
            (segment.number, usize::try_from(end).ok().and_then(|end| bytes.get(..end)).unwrap_or(bytes))
        })
    }

    /// The segments that are part of the log, and where each ends.
    fn ended(&self) -> impl Iterator<Item = (&FoundSegment, u64)> {
        let mut segments = self.segments.iter();
        // Both are in order of number.
        self.scan.ends.iter().filter_map(move |(number, end)| {
            segments.find(|segment| segment.number == *number).map(|segment| (segment, *end))
        })
    }

    /// Whether another log has as many groups, and ends with the same sequence number.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        (self.scan.groups, self.scan.next_sequence) == (other.scan.groups, other.scan.next_sequence)
    }

    /// Indexes what is in it. The report is that of the log that was found; this one may be its copy.
    pub(super) fn index(&self, dir: &dyn Dir, found: &Found, of: &Self) -> Result<Replayed> {
        let mut memtables = Vec::new();
        let mut entries = 0;
        for (segment, end) in self.ended() {
            let path = || path_of(dir, segment.of);
            let memtable = index_segment(found, segment, end)
                .map_err(|(offset, fault)| fault.at(&path(), offset))?
                .ok_or_else(|| Error::io("index", &path(), io::ErrorKind::OutOfMemory.into()))?;
            entries += memtable.entries();
            memtables.insert(0, Arc::new(memtable));
        }
        Ok(Replayed {
            memtables,
            ends: self.scan.ends.clone(),
            next_sequence: of.scan.next_sequence.unwrap_or_default(),
            report: report(&of.scan, entries, &|number| path_of(dir, number)),
        })
    }
}

impl FoundSegment {
    fn map(dir: &dyn Dir, number: FileNumber, of: FileNumber) -> Result<Self> {
        let mapping = dir.open(&FileKind::Segment.name(number));
        Ok(Self { number, of, mapping: mapping.map_err(|e| Error::io("map", &path_of(dir, number), e))? })
    }
}

fn path_of(dir: &dyn Dir, number: FileNumber) -> PathBuf {
    dir.path().join(FileKind::Segment.name(number))
}

/// The memtable of one segment; none if there is no memory for it.
fn index_segment(
    found: &Found,
    FoundSegment { number, mapping, .. }: &FoundSegment,
    end: u64,
) -> Result<Option<Memtable>, (u64, crate::error::Fault)> {
    let header =
        SegmentHeader::parse(mapping.bytes(), Magic::SEGMENT, &found.database, *number).map_err(|fault| (0, fault))?;
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    let memtable = Memtable::new(mapping.prefix(end), found.database, *number, header.base(), 0);
    let keyspaces = found.version.named();
    let indexed = memtable.replay(SEGMENT_HEADER_BYTES..memtable.log_bytes(), |keyspace| {
        match keyspaces.alignment(keyspace) {
            None if !keyspaces.was_created(keyspace) => Err(Damage::UnknownKeyspace),
            None => Ok(Wanted::None),
            Some(alignment) => Ok(Wanted::Aligned(alignment)),
        }
    })?;
    Ok(indexed.then_some(memtable))
}

fn report(scan: &LogScan, entries: u64, path: &impl Fn(FileNumber) -> PathBuf) -> RecoveryReport {
    let dropped = scan.dropped.map(|tail| DroppedTail {
        path: path(tail.start.segment),
        offset: tail.start.offset,
        bytes: tail.bytes,
    });
    RecoveryReport { clean: scan.clean, segments: scan.ends.len(), groups: scan.groups, entries, dropped }
}
