//! Opening: from the names in a directory to an engine that goes on where the last one ended.
//!
//! Nothing is changed before everything that the manifest names has been found. After a crash, groups beyond the highest
//! durable mark may exist in the page cache only, and an `fdatasync` that failed once may answer success for them; so what a
//! crash has left is written anew into tables of level 0, and the old segments are kept until a fresh manifest says that
//! they are not needed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::health::Health;
use super::keyspaces::Keyspaces;
use super::log::{LogEnd, Writer};
use super::outputs::Outputs;
use super::reserve::Reserve;
use super::scheduler::Scheduler;
use super::stall::Stalls;
use super::{Background, Counters, Engine, Files, Installed, Pressure, ReadState, Readers};
use crate::error::{Damage, Error, Result, must};
use crate::format::checksum::Id;
use crate::format::edit::Edit;
use crate::format::names::{self, FileKind};
use crate::format::prefix::Magic;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FileNumber, NUMBER_MAX, Position, Sequence};
use crate::log::{self, LogScan};
use crate::memtable::{Memtable, Wanted};
use crate::merge::Learned;
use crate::options::Options;
use crate::sys::{Dir, Flag, Fs, HeldLock, Lock, LockMode, LockRank, Mapping, Mappings, Mutex};
use crate::table::TableCache;
use crate::version::{Handles, Manifest, State, Version, read_current, read_manifest};

/// What an open found in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// The torn end of the log of a crashed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTail {
    /// The segment in which the log ends.
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
    ends: Vec<(FileNumber, u64)>,
    pub(super) next_sequence: Sequence,
    pub(super) report: RecoveryReport,
    segment_files: usize,
}

impl Engine {
    pub(crate) fn open(options: &Options, path: &Path) -> Result<Arc<Self>> {
        let create = options.create_if_missing && !options.read_only;
        let dir = options.file_system.0.open_dir(path, create, options.access()).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound(Arc::new(path.to_owned())),
            _ => Error::io("open", path, e),
        })?;
        Self::open_in(options, &dir)
    }

    /// Opens the database in a directory that is open already.
    pub(super) fn open_in(options: &Options, dir: &Arc<dyn Dir>) -> Result<Arc<Self>> {
        let fs = &*options.file_system.0;
        let path = dir.path();
        let create = options.create_if_missing && !options.read_only;
        let lock = take_lock(&**dir, options.read_only, create)?;
        let table_cache = TableCache::new(Arc::clone(dir), options.table, options.cache_bytes, options.max_open_tables);
        let names = dir.list().map_err(|e| Error::io("list", path, e))?;
        let found = match read_current(&**dir)? {
            Some((database, manifest)) => read_state(&table_cache, database, manifest)?,
            None => no_state(fs, &**dir, create, &names)?,
        };
        let next_number = number_after(&names, found.state.next_number)?;
        let replayed = replay(&**dir, &found, &names)?;
        let manifest_durable = found.manifest_durable;
        let open = Flag::raised().map_err(|e| Error::io("open", path, e))?;
        let engine = Arc::new(Self::assemble(options, table_cache, lock, open, next_number, found, &replayed));
        engine.health.check_mapped()?;
        if !options.read_only && !replayed.report.clean && replayed.segment_files > 0 {
            engine.with_reserve(|| engine.rewrite_log())?;
        } else if !options.read_only && !manifest_durable {
            // Whatever the manifest says beyond its last sync must not be shown before it is on disk.
            engine.with_reserve(|| engine.install_edit(Edit::default()))?;
        }
        if !options.read_only && options.reserve_bytes == 0 {
            // Kept by an earlier run that had other options.
            let _ = engine.files.dir.remove(names::RESERVE);
        }
        // Those that have been started hold the engine, and with it the directory.
        engine.start_threads().inspect_err(|_| drop(engine.close()))?;
        Ok(engine)
    }

    fn assemble(
        options: &Options,
        table_cache: Arc<TableCache>,
        lock: Box<dyn HeldLock>,
        open: Flag,
        next_number: u64,
        found: Found,
        replayed: &Replayed,
    ) -> Self {
        let dir = Arc::clone(&table_cache.dir);
        let mut state = found.state;
        if replayed.report.clean {
            // Only then is all of it known to be on disk, which is what a recorded end says.
            state.segment_ends = replayed.ends.iter().copied().collect();
        }
        let keyspaces = Keyspaces::new(&found.version);
        let next_sequence = replayed.next_sequence.max(Sequence(state.last_sequence.0 + 1));
        let learned = Arc::new(Learned::new(Sequence(next_sequence.0 - 1)));
        let mappings = Mappings::of(&dir);
        let read_state = ReadState {
            memtables: replayed.memtables.clone(),
            growing: false,
            version: Arc::new(found.version),
            learned,
            mappings: mappings.clone(),
        };
        let last_end = replayed.ends.last().map(|(segment, offset)| Position { segment: *segment, offset: *offset });
        let manifest = Manifest::new(Arc::clone(&dir), found.database, state, found.manifest);
        let background = Arc::new(Background::default());
        let path = dir.path().to_owned();
        let health = Health::new(path, options.read_only, open, mappings, Arc::clone(&background));
        let fs = Arc::clone(&options.file_system.0);
        let cancelled = Arc::clone(health.cancelled());
        let readers = Readers::new(read_state, Sequence(next_sequence.0 - 1), &table_cache);
        let files = Files::new(fs, table_cache, found.database, lock, next_number, cancelled);
        let engine = Self {
            options: options.clone(),
            recovery: replayed.report.clone(),
            health,
            files,
            readers,
            background,
            pressure: Pressure::default(),
            stalls: Stalls::new(options.most_frozen_bytes(), options.reserve_bytes),
            reserve: Reserve::new(options.reserve_bytes),
            scheduler: Scheduler::default(),
            ended: Mutex::new(LockRank::Close, None),
            counters: Counters::default(),
            keyspaces,
            log: LogEnd::new(Writer::new(next_sequence, last_end.unwrap_or_default())),
            manifest: Mutex::new(LockRank::Manifest, manifest),
        };
        engine.note_debt(&engine.readers.read_state());
        engine
    }

    /// Writes everything that a crashed run has left in its log into tables, and forgets the segments, in one edit: a part of
    /// the log must not count as durable before all of it is.
    fn rewrite_log(&self) -> Result<()> {
        let read_state = self.readers.read_state();
        let mut outputs = Outputs::default();
        for memtable in read_state.memtables.iter().rev().filter(|memtable| memtable.entries() > 0) {
            match self.flusher().write(std::slice::from_ref(memtable)) {
                Ok(written) => outputs.extend(written),
                Err(e) => {
                    self.files.discard(&outputs);
                    return Err(e);
                }
            }
        }
        let mut edit = Edit {
            first_segment: Some(self.files.next_number()),
            last_sequence: Some(self.readers.visible()),
            ..Edit::default()
        };
        outputs.add_to(&mut edit, 0);
        let flushed: Vec<FileNumber> = read_state.memtables.iter().map(|memtable| memtable.number()).collect();
        let installed = self.install_new(edit, &outputs, &flushed)?;
        Ok(must(installed == Installed::Done, "the log of the last run has been refused as if it took something away")?)
    }
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
        Lock::Busy => Err(Error::Locked(Arc::new(path.to_owned()))),
        Lock::Absent => Ok(None),
    }
}

pub(super) fn numbered(names: &[String]) -> impl Iterator<Item = (FileKind, FileNumber)> {
    names.iter().filter_map(|name| FileKind::parse(name))
}

/// The number after every one that a file in the directory has.
fn number_after(names: &[String], at_least: FileNumber) -> Result<u64> {
    let highest = numbered(names).map(|(_, number)| number.0).max().unwrap_or(0);
    let next = at_least.0.max(highest.saturating_add(1)).max(1);
    if next < NUMBER_MAX { Ok(next) } else { Err(Error::NumbersExhausted) }
}

/// The state of a database that does not exist yet, if there is to be one. Without `CURRENT` a directory must not have data: a
/// manifest alone is left by an interrupted creation, but tables, value files and segments without `CURRENT` are a database
/// that has lost it. To call that empty, or no database, would be to give the data up.
fn no_state(fs: &dyn Fs, dir: &dyn Dir, create: bool, names: &[String]) -> Result<Found> {
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
fn read_state(table_cache: &Arc<TableCache>, database: Id, manifest: FileNumber) -> Result<Found> {
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

/// Maps the segments, decides where the log ends, and indexes what is in it.
pub(super) fn replay(dir: &dyn Dir, found: &Found, names: &[String]) -> Result<Replayed> {
    let mut numbers: Vec<FileNumber> = numbered(names)
        .filter(|(kind, number)| *kind == FileKind::Segment && *number >= found.state.first_segment)
        .map(|(_, number)| number)
        .collect();
    numbers.sort_unstable();
    for number in found.state.segment_ends.keys() {
        if !numbers.contains(number) {
            let path = dir.path().join(FileKind::Segment.name(*number));
            return Err(Error::corrupt(&path, 0, Damage::Missing));
        }
    }
    let path = |number: FileNumber| dir.path().join(FileKind::Segment.name(number));
    let map = |number: &FileNumber| {
        dir.open(&FileKind::Segment.name(*number)).map_err(|e| Error::io("map", &path(*number), e))
    };
    let mappings: Vec<Mapping> = numbers.iter().map(map).collect::<Result<_>>()?;
    let end_of = |number: &FileNumber| found.state.segment_ends.get(number).copied();
    let inputs: Vec<log::Input<'_>> = numbers
        .iter()
        .zip(&mappings)
        .map(|(number, mapping)| log::Input { number: *number, bytes: mapping.bytes(), end: end_of(number) })
        .collect();
    let State { first_segment: first, log_durable: durable, last_sequence, .. } = found.state;
    let known = log::Known { first, durable, last_sequence };
    let scan = log::scan(Magic::SEGMENT, &found.database, known, &inputs)
        .map_err(|error| error.fault.at(&path(error.segment), error.offset))?;

    let mut memtables = Vec::new();
    let mut entries = 0;
    for (number, end) in &scan.ends {
        let Some(at) = numbers.iter().position(|n| n == number) else { continue };
        let memtable = index_segment(found, *number, &mappings[at], *end)
            .map_err(|(offset, fault)| fault.at(&path(*number), offset))?
            .ok_or_else(|| Error::io("index", &path(*number), io::ErrorKind::OutOfMemory.into()))?;
        entries += memtable.entries();
        memtables.insert(0, Arc::new(memtable));
    }
    let report = report(&scan, entries, &path);
    Ok(Replayed {
        memtables,
        ends: scan.ends,
        next_sequence: scan.next_sequence.unwrap_or_default(),
        report,
        segment_files: numbers.len(),
    })
}

/// The memtable of one segment; none if there is no memory for it.
fn index_segment(
    found: &Found,
    number: FileNumber,
    mapping: &Mapping,
    end: u64,
) -> Result<Option<Memtable>, (u64, crate::error::Fault)> {
    let header =
        SegmentHeader::parse(mapping.bytes(), Magic::SEGMENT, &found.database, number).map_err(|fault| (0, fault))?;
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    let memtable = Memtable::new(mapping.prefix(end), found.database, number, header.base(), 0);
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
