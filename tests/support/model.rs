//! The store against a model: one driver for the tests and for the fuzz targets, which include this file by its path.
//!
//! A [`Source`] decides on a sequence of operations. A [`Driver`] applies them to a database and to a [`History`], which is
//! nothing but a map and the commits that led to it, and compares what both answer. Everything follows from the source, so a
//! failure is replayed by its seed or its bytes.
#![allow(dead_code, reason = "each of those who include it uses a part")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};

use maplsm::{
    Compression, Cursor, Db, Durability, Error, ErrorKind, Fault, IoMode, Iter, Keyspace, KeyspaceOptions, Options,
    PointIndex, SimFs, Slice, Snapshot, WriteBatch,
};

pub(crate) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Insert(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    RemoveRange(Range),
}

/// Which keyspace a change is made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// The one of the run, which is always there.
    First,
    /// The other one, which is made and dropped on the way.
    Second,
}

/// Changes in order.
pub(crate) type Commit = Vec<(Space, Change)>;

/// The keyspace with aligned values.
const ALIGNED: &str = "aligned";

/// The other keyspace.
const SECOND: &str = "second";

/// Where the database is on a simulated disk.
const DIR: &str = "/db";

/// Of the checks of a fuzzer's run, one in so many is a thorough one.
const QUICK: u64 = 8;

/// Operations that a failure prints.
const TRACE: usize = 16;

/// What decides: a random number generator, or bytes from a fuzzer until there are none left.
pub(crate) enum Source<'a> {
    Random(u64),
    Bytes(&'a [u8]),
}

impl Source<'_> {
    fn byte(&mut self) -> Option<u8> {
        let Self::Bytes(bytes) = self else { return None };
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(*first)
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Bytes([]))
    }

    /// A number below `limit`; 0 once the bytes are used up.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let number = match self {
            Self::Random(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
            Self::Bytes(_) => {
                let low = u64::from(self.byte().unwrap_or(0));
                if limit > 256 { low | u64::from(self.byte().unwrap_or(0)) << 8 } else { low }
            }
        };
        usize::try_from(number % (limit as u64).max(1)).unwrap_or(0)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Bytes that are printed short.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..16).unwrap_or(&self.0);
        write!(f, "b\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() { write!(f, "..[{}]", self.0.len()) } else { Ok(()) }
    }
}

/// A key out of a few hundred, so that operations meet: of every length, with shared prefixes, neighbours and extreme bytes.
fn key(source: &mut Source<'_>) -> Vec<u8> {
    const ODD: [&[u8]; 16] = [
        b"",
        b"\0",
        b"\0\0",
        b"\xff",
        b"\xff\xff",
        b"a",
        b"a\0",
        b"a\0\0",
        b"a\xff",
        b"aa",
        b"aaaaaaa",
        b"aaaaaaaa",
        b"aaaaaaaa\0",
        b"aaaaaaaaa",
        b"aaaaaaab",
        b"b",
    ];
    match source.below(16) {
        0..=2 => source.pick(&ODD).to_vec(),
        3..=8 => format!("k{:03}", source.below(150)).into_bytes(),
        9..=10 => {
            let mut key = vec![b'p'; 80 + 70 * source.below(4)];
            key.push(u8::try_from(source.below(8)).unwrap_or(0));
            key
        }
        11..=13 => format!("shared/prefix/{}", source.below(60)).into_bytes(),
        14 => vec![u8::try_from(source.below(4)).unwrap_or(0) * 85, u8::try_from(source.below(256)).unwrap_or(0)],
        _ if source.one_in(12) => vec![b'q'; 3000 + source.below(3)],
        _ => format!("k{:03}x", source.below(150)).into_bytes(),
    }
}

/// A value that no other write has, unless it is empty.
fn value(source: &mut Source<'_>, stamp: u64) -> Vec<u8> {
    let length = match source.below(16) {
        0 => return Vec::new(),
        1..=9 => 8 + source.below(24),
        10..=13 => 80 + source.below(100),
        14 => 400 + source.below(900),
        _ if source.one_in(10) => 5000 + source.below(30_000),
        _ => 8,
    };
    let mut value = stamp.to_le_bytes().to_vec();
    value.resize(length, stamp.to_le_bytes()[0]);
    value
}

fn range(source: &mut Source<'_>) -> Range {
    let mut bound = || match source.below(5) {
        0 => Bound::Unbounded,
        1..=2 => Bound::Excluded(key(source)),
        _ => Bound::Included(key(source)),
    };
    (bound(), bound())
}

/// Mostly a narrow one, or there would soon be nothing left.
fn removed_range(source: &mut Source<'_>) -> Range {
    if source.one_in(6) {
        return range(source);
    }
    let first = source.below(150);
    let last = first + source.below(12);
    let name = |number: usize| format!("k{number:03}").into_bytes();
    let end = if source.one_in(2) { Bound::Included(name(last)) } else { Bound::Excluded(name(last)) };
    (if source.one_in(3) { Bound::Excluded(name(first)) } else { Bound::Included(name(first)) }, end)
}

/// What changes the bytes of files, or the way they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// The threshold of large values.
    pub(crate) large: Option<u32>,
    pub(crate) bloom: bool,
    pub(crate) interval: u16,
    pub(crate) chunk: u32,
    pub(crate) read: bool,
    pub(crate) verify_always: bool,
}

impl Format {
    /// How many there are.
    pub(crate) const COUNT: u64 = 3 * 2 * 4 * 3 * 2 * 2;

    /// The `number`-th one, modulo their count.
    pub(crate) fn of(number: u64) -> Self {
        let mut left = usize::try_from(number % Self::COUNT).unwrap_or(0);
        let mut choose = |count: usize| {
            let chosen = left % count;
            left /= count;
            chosen
        };
        Self {
            large: [Some(64), None, Some(150)][choose(3)],
            bloom: choose(2) == 1,
            interval: [1, 3, 16, 256][choose(4)],
            chunk: [4 << 10, 64 << 10, 1 << 20][choose(3)],
            read: choose(2) == 1,
            verify_always: choose(2) == 1,
        }
    }
}

/// How a database is opened: small limits, so that few operations reach every level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) format: Format,
    pub(crate) memtable_bytes: usize,
    pub(crate) memtable_entries: Option<usize>,
    pub(crate) table_bytes: u64,
    pub(crate) level_bytes_base: u64,
    pub(crate) level_multiplier: u32,
    pub(crate) l0_tables: usize,
    pub(crate) durability: Durability,
    pub(crate) threads: usize,
    pub(crate) compression: Compression,
    pub(crate) compressed_from: u8,
    pub(crate) block_bytes: u32,
    pub(crate) cache_bytes: u64,
    /// Of the values, if not 1: they are then in a keyspace of their own. Decided when the database is made.
    pub(crate) alignment: usize,
}

/// No compression, and what this build has.
const COMPRESSIONS: &[Compression] = &[
    Compression::None,
    #[cfg(feature = "lz4")]
    Compression::Lz4,
    #[cfg(feature = "zstd")]
    Compression::Zstd(1),
];

impl Setup {
    /// Small everywhere, and the format of this number.
    pub(crate) fn small(format: u64) -> Self {
        Self {
            format: Format::of(format),
            memtable_bytes: 4 << 10,
            memtable_entries: None,
            table_bytes: 4 << 10,
            level_bytes_base: 8 << 10,
            level_multiplier: 2,
            l0_tables: 2,
            durability: Durability::Buffered,
            threads: 0,
            compression: COMPRESSIONS[usize::try_from(format).unwrap_or(0) % COMPRESSIONS.len()],
            compressed_from: u8::from(format % 2 == 1),
            block_bytes: 4 << 10,
            cache_bytes: 16 << 10,
            alignment: 1,
        }
    }

    pub(crate) fn draw(source: &mut Source<'_>, format: Format, threads: usize) -> Self {
        Self {
            format,
            memtable_bytes: source.pick(&[4 << 10, 4 << 10, 16 << 10, 64 << 10]),
            memtable_entries: source.pick(&[None, None, Some(5), Some(60)]),
            table_bytes: source.pick(&[4 << 10, 4 << 10, 16 << 10]),
            level_bytes_base: source.pick(&[4 << 10, 16 << 10, 40 << 10]),
            level_multiplier: source.pick(&[2, 2, 4]),
            l0_tables: source.pick(&[1, 2, 4]),
            durability: source.pick(&[Durability::Buffered, Durability::Buffered, Durability::Sync]),
            threads,
            compression: source.pick(COMPRESSIONS),
            compressed_from: source.pick(&[0, 1, 2]),
            block_bytes: source.pick(&[4 << 10, 16 << 10]),
            cache_bytes: source.pick(&[0, 16 << 10, 1 << 20]),
            alignment: 1,
        }
    }

    pub(crate) fn options(&self) -> Options {
        let format = &self.format;
        let mut options = Options::new();
        options
            .memtable_bytes(self.memtable_bytes)
            .memtable_entries(self.memtable_entries)
            .table_bytes(self.table_bytes)
            .level_bytes_base(self.level_bytes_base)
            .level_multiplier(self.level_multiplier)
            .l0_tables(self.l0_tables)
            .durability(self.durability)
            .background_threads(self.threads)
            .point_index(if format.bloom { PointIndex::Bloom { error_rate: 0.01 } } else { PointIndex::Hash })
            .index_interval(format.interval)
            .large_value_bytes(format.large)
            .checksum_chunk_bytes(format.chunk)
            .io_mode(if format.read { IoMode::Read } else { IoMode::Map })
            .verify_always(format.verify_always)
            .compression(self.compression)
            .compressed_from_level(self.compressed_from)
            .block_bytes(self.block_bytes)
            .cache_bytes(self.cache_bytes);
        options
    }
}

/// How a commit is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// `insert` or `remove`, with the durability of the options.
    Single,
    /// A batch with the durability of the options.
    Batch,
    /// A batch with its own.
    With(Durability),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Move {
    First,
    Last,
    Seek,
    SeekBack,
    Next,
    Prev,
}

/// One operation.
#[derive(Clone)]
pub(crate) enum Op {
    Write(Commit, How),
    Ingest(Space, Map),
    /// Makes the second keyspace, or drops it, if it is not so already.
    CreateSecond,
    DropSecond,
    Get(Vec<u8>),
    /// Keeps the value to look at it again later.
    Hold(Vec<u8>),
    Scan(Range, Vec<bool>),
    Prefix(Vec<u8>, Vec<bool>),
    IterOpen(Range),
    /// Bits say which end moves.
    IterMove(usize, Vec<bool>),
    CursorOpen,
    CursorMove(usize, Vec<(Move, Vec<u8>)>),
    Take,
    Look(usize, Vec<u8>),
    LookAll(usize),
    Release(usize),
    Flush,
    Maintain,
    Wait,
    Compact,
    CompactRange(Range),
    Sync,
    Checkpoint,
    Check,
    Reopen(Setup),
    Kill(Setup),
    PowerCut(u64, Setup),
    ReadOnly,
    Crash(Crash),
}

/// Something goes wrong while operations go on.
#[derive(Debug, Clone)]
pub(crate) struct Crash {
    fault: Fault,
    work: Vec<Op>,
    /// The seed of a power cut, or the death of the process.
    power_cut: Option<u64>,
    /// The disk stops again in the recovery.
    again: Option<(u64, u64)>,
    setup: Setup,
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |bytes: &Vec<u8>| Bytes(bytes.clone());
        let ends = |range: &Range| (range.0.as_ref().map(short), range.1.as_ref().map(short));
        match self {
            Self::Write(commit, how) => {
                let first: Vec<_> = commit
                    .iter()
                    .take(3)
                    .map(|(space, change)| match change {
                        Change::Insert(key, value) => format!("{space:?} {:?} = {} bytes", short(key), value.len()),
                        Change::Remove(key) => format!("{space:?} {:?} removed", short(key)),
                        Change::RemoveRange(range) => format!("{space:?} {:?} removed", ends(range)),
                    })
                    .collect();
                write!(f, "Write({how:?}, {} changes: {first:?})", commit.len())
            }
            Self::Ingest(space, entries) => {
                let keys: Vec<_> = entries.keys().take(3).map(short).collect();
                write!(f, "Ingest({space:?}, {} entries: {keys:?})", entries.len())
            }
            Self::CreateSecond => write!(f, "CreateSecond"),
            Self::DropSecond => write!(f, "DropSecond"),
            Self::Get(key) => write!(f, "Get({:?})", short(key)),
            Self::Hold(key) => write!(f, "Hold({:?})", short(key)),
            Self::Scan(range, moves) => write!(f, "Scan({:?}, {} moves)", ends(range), moves.len()),
            Self::Prefix(prefix, moves) => write!(f, "Prefix({:?}, {} moves)", short(prefix), moves.len()),
            Self::IterOpen(range) => write!(f, "IterOpen({:?})", ends(range)),
            Self::IterMove(slot, moves) => write!(f, "IterMove({slot}, {moves:?})"),
            Self::CursorOpen => write!(f, "CursorOpen"),
            Self::CursorMove(slot, moves) => {
                let moves: Vec<_> = moves.iter().map(|(to, key)| (to, short(key))).collect();
                write!(f, "CursorMove({slot}, {moves:?})")
            }
            Self::Take => write!(f, "Take"),
            Self::Look(slot, key) => write!(f, "Look({slot}, {:?})", short(key)),
            Self::LookAll(slot) => write!(f, "LookAll({slot})"),
            Self::Release(slot) => write!(f, "Release({slot})"),
            Self::Flush => write!(f, "Flush"),
            Self::Maintain => write!(f, "Maintain"),
            Self::Wait => write!(f, "Wait"),
            Self::Compact => write!(f, "Compact"),
            Self::CompactRange(range) => write!(f, "CompactRange({:?})", ends(range)),
            Self::Sync => write!(f, "Sync"),
            Self::Checkpoint => write!(f, "Checkpoint"),
            Self::Check => write!(f, "Check"),
            Self::Reopen(setup) => write!(f, "Reopen({setup:?})"),
            Self::Kill(setup) => write!(f, "Kill({setup:?})"),
            Self::PowerCut(seed, setup) => write!(f, "PowerCut({seed}, {setup:?})"),
            Self::ReadOnly => write!(f, "ReadOnly"),
            Self::Crash(crash) => crash.fmt(f),
        }
    }
}

/// What a database holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) first: Map,
    /// The second keyspace, if there is one.
    pub(crate) second: Option<Map>,
}

impl State {
    /// Changes of a keyspace that is not there change nothing.
    fn apply(&mut self, commit: &Commit) {
        for (space, change) in commit {
            let Some(map) = self.space(*space) else { continue };
            match change {
                Change::Insert(key, value) => {
                    map.insert(key.clone(), value.clone());
                }
                Change::Remove(key) => {
                    map.remove(key);
                }
                Change::RemoveRange(range) => map.retain(|key, _| !range.contains(key)),
            }
        }
    }

    fn space(&mut self, space: Space) -> Option<&mut Map> {
        match space {
            Space::First => Some(&mut self.first),
            Space::Second => self.second.as_mut(),
        }
    }

    /// The same with another second keyspace, or without.
    fn with_second(&self, second: Option<Map>) -> Self {
        Self { first: self.first.clone(), second }
    }
}

/// Something that was answered by an error: it has happened or not.
#[derive(Debug, Clone)]
enum Doubt {
    Commit(Commit),
    Created,
    Dropped,
}

/// What the database must hold, and what it may have lost after a power cut.
#[derive(Debug, Default, Clone)]
pub(crate) struct History {
    now: State,
    /// What no crash may take back.
    durable: State,
    /// The commits from `durable` to `now`.
    pending: Vec<Commit>,
    doubtful: Option<Doubt>,
}

impl History {
    pub(crate) fn now(&self) -> &State {
        &self.now
    }

    pub(crate) fn committed(&mut self, commit: Commit, durable: bool) {
        // Whatever was left in doubt has not happened if something later was accepted.
        self.doubtful = None;
        self.now.apply(&commit);
        self.pending.push(commit);
        if durable {
            self.synced();
        }
    }

    fn failed(&mut self, doubt: Doubt) {
        self.doubtful.get_or_insert(doubt);
    }

    pub(crate) fn synced(&mut self) {
        for commit in self.pending.drain(..) {
            self.durable.apply(&commit);
        }
    }

    /// The second keyspace was made, which is durable, whatever happens to the commits before.
    fn created(&mut self) {
        self.doubtful = None;
        self.now.second = Some(Map::new());
        self.durable.second = Some(Map::new());
    }

    /// It was dropped, and every commit before that is durable.
    fn dropped(&mut self) {
        self.doubtful = None;
        self.synced();
        self.now.second = None;
        self.durable.second = None;
    }

    /// The database was opened again and holds this.
    pub(crate) fn reopened(&mut self, found: State) {
        *self = Self { now: found.clone(), durable: found, pending: Vec::new(), doubtful: None };
    }

    /// Every state that a crash at this moment may leave, the last durable one first.
    pub(crate) fn states(&self) -> Vec<State> {
        let mut states = vec![self.durable.clone()];
        let doubtful = match &self.doubtful {
            Some(Doubt::Commit(commit)) => Some(commit),
            _ => None,
        };
        for commit in self.pending.iter().chain(doubtful) {
            let mut next = states.last().cloned().unwrap_or_default();
            next.apply(commit);
            states.push(next);
        }
        match &self.doubtful {
            Some(Doubt::Created) => {
                let with: Vec<State> = states.iter().map(|state| state.with_second(Some(Map::new()))).collect();
                states.extend(with);
            }
            Some(Doubt::Dropped) => states.push(self.now.with_second(None)),
            _ => {}
        }
        states
    }

    /// Every state of a database that has lost nothing.
    pub(crate) fn complete_states(&self) -> Vec<State> {
        let mut states = vec![self.now.clone()];
        states.extend(self.doubtful.as_ref().map(|doubt| match doubt {
            Doubt::Commit(commit) => {
                let mut with = self.now.clone();
                with.apply(commit);
                with
            }
            Doubt::Created => self.now.with_second(Some(Map::new())),
            Doubt::Dropped => self.now.with_second(None),
        }));
        states
    }

    /// Whether a database that has lost nothing can hold this.
    pub(crate) fn is_complete(&self, found: &State) -> bool {
        *found == self.now || self.complete_states().contains(found)
    }

    /// Whether this is the state after some commit, at least the last durable one.
    pub(crate) fn is_prefix(&self, found: &State) -> bool {
        *found == self.durable || self.states().contains(found)
    }
}

/// What an iterator has left.
pub(crate) fn read_all(iter: Iter) -> maplsm::Result<Map> {
    iter.map(|entry| entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec()))).collect()
}

/// What is in the keyspaces of the model.
pub(crate) fn read_state(db: &Db, alignment: usize) -> maplsm::Result<State> {
    let first = read_all(keyspace(db, alignment)?.iter())?;
    let second = second(db)?.map(|keyspace| read_all(keyspace.iter())).transpose()?;
    Ok(State { first, second })
}

/// What two states differ in, for a message.
pub(crate) fn state_difference(found: &State, expected: &State) -> String {
    let first = difference(&found.first, &expected.first);
    match (&found.second, &expected.second) {
        (None, None) => first,
        (Some(found), Some(expected)) => format!("{first}; in the second keyspace, {}", difference(found, expected)),
        (Some(_), None) => format!("{first}; and there is a second keyspace"),
        (None, Some(_)) => format!("{first}; and there is no second keyspace"),
    }
}

/// What two maps differ in, for a message.
pub(crate) fn difference(found: &Map, expected: &Map) -> String {
    let missing = expected.iter().filter(|(key, value)| found.get(*key) != Some(value));
    let foreign = found.keys().filter(|key| !expected.contains_key(*key));
    let short = |key: &Vec<u8>| Bytes(key.clone());
    format!(
        "of {} entries missing or wrong: {:?}; foreign: {:?}",
        expected.len(),
        missing.map(|(key, _)| short(key)).take(5).collect::<Vec<_>>(),
        foreign.map(short).take(5).collect::<Vec<_>>(),
    )
}

/// Where the database is.
#[derive(Clone)]
pub(crate) enum Place {
    Memory(SimFs),
    Disk(PathBuf),
}

impl Place {
    pub(crate) fn open(&self, mut options: Options) -> maplsm::Result<Db> {
        match self {
            Self::Memory(fs) => options.file_system(fs.clone()).open(DIR),
            Self::Disk(path) => options.open(path),
        }
    }
}

/// The keyspace of a run: one of its own if values are aligned, made if it is not there.
fn keyspace(db: &Db, alignment: usize) -> maplsm::Result<Keyspace> {
    if alignment == 1 {
        return db.keyspace("default");
    }
    if db.keyspaces().iter().any(|name| name == ALIGNED) {
        return db.keyspace(ALIGNED);
    }
    db.create_keyspace(ALIGNED, KeyspaceOptions::new().value_alignment(alignment))
}

/// The second keyspace, if there is one.
pub(crate) fn second(db: &Db) -> maplsm::Result<Option<Keyspace>> {
    let there = db.keyspaces().iter().any(|name| name == SECOND);
    there.then(|| db.keyspace(SECOND)).transpose()
}

/// Every value must begin at a multiple of this, wherever it is read from.
#[derive(Debug, Clone, Copy)]
struct Aligned(usize);

impl Aligned {
    fn check(self, value: &[u8]) {
        let at = value.as_ptr().addr();
        assert!(value.is_empty() || at.is_multiple_of(self.0), "a value at {at:#x} is not aligned to {}", self.0);
    }
}

/// An iterator and what it still has to show.
struct Walk {
    iter: Iter,
    aligned: Aligned,
    /// Its database has been closed: it ends where a table that it needs has been let go and is gone.
    outlives: bool,
    left: VecDeque<(Vec<u8>, Vec<u8>)>,
}

impl Walk {
    fn new(iter: Iter, aligned: Aligned, over: &Map, range: &impl RangeBounds<Vec<u8>>) -> Self {
        let within = over.iter().filter(|(key, _)| range.contains(*key));
        Self { iter, aligned, outlives: false, left: within.map(|(key, value)| (key.clone(), value.clone())).collect() }
    }

    fn step(&mut self, back: bool) {
        let (found, expected) = if back {
            (self.iter.next_back(), self.left.pop_back())
        } else {
            (self.iter.next(), self.left.pop_front())
        };
        if self.outlives && matches!(found, Some(Err(Error::Closed))) {
            self.left.clear();
            return;
        }
        let found = found.map(|entry| {
            let entry = entry.expect("an iterator goes on");
            self.aligned.check(entry.value());
            (Bytes(entry.key().to_vec()), Bytes(entry.value().to_vec()))
        });
        let expected = expected.map(|(key, value)| (Bytes(key), Bytes(value)));
        assert!(found == expected, "an iterator shows {found:?} and not {expected:?} (back: {back})");
    }

    /// Takes these steps and then all that are left.
    fn run(mut self, moves: &[bool]) {
        for back in moves {
            self.step(*back);
        }
        let back = moves.first().is_some_and(|first| *first);
        for _ in 0..=self.left.len() {
            self.step(back);
        }
    }
}

/// A cursor and where it must be.
struct Position {
    cursor: Cursor,
    aligned: Aligned,
    /// See [`Walk::outlives`].
    outlives: bool,
    over: Map,
    at: Option<Vec<u8>>,
}

impl Position {
    /// Moves it; returns whether it may be moved again.
    fn step(&mut self, to: Move, key: &[u8]) -> bool {
        let after = |bound: Bound<&[u8]>| self.over.range::<[u8], _>((bound, Bound::Unbounded)).next();
        let before = |bound: Bound<&[u8]>| self.over.range::<[u8], _>((Bound::Unbounded, bound)).next_back();
        let (moved, expected) = match (to, &self.at) {
            (Move::First, _) => (self.cursor.seek_first(), self.over.first_key_value()),
            (Move::Last, _) => (self.cursor.seek_last(), self.over.last_key_value()),
            (Move::Seek, _) => (self.cursor.seek(key), after(Bound::Included(key))),
            (Move::SeekBack, _) => (self.cursor.seek_back(key), before(Bound::Included(key))),
            (Move::Next, Some(at)) => (self.cursor.next(), after(Bound::Excluded(at))),
            (Move::Prev, Some(at)) => (self.cursor.prev(), before(Bound::Excluded(at))),
            (Move::Next, None) => (self.cursor.next(), None),
            (Move::Prev, None) => (self.cursor.prev(), None),
        };
        if self.outlives && matches!(moved, Err(Error::Closed)) {
            return false;
        }
        let moved = moved.expect("a cursor moves");
        assert_eq!(
            (moved, self.cursor.is_valid()),
            (expected.is_some(), expected.is_some()),
            "{to:?} from {:?}",
            self.at
        );
        let short = |bytes: &[u8]| Bytes(bytes.to_vec());
        let (key, value) = expected.map_or((&[][..], &[][..]), |(key, value)| (key, value));
        self.aligned.check(self.cursor.value());
        assert_eq!(short(self.cursor.key()), short(key), "{to:?} from {:?}", self.at);
        assert_eq!(short(self.cursor.value()), short(value), "{to:?} from {:?}", self.at);
        let entry = self.cursor.entry().map(|entry| (entry.key().to_vec(), entry.value().to_vec()));
        assert!(entry == expected.map(|(key, value)| (key.clone(), value.clone())), "{to:?} from {:?}", self.at);
        self.at = expected.map(|(key, _)| key.clone());
        true
    }
}

/// Applies operations to both.
pub(crate) struct Driver {
    place: Place,
    db: Option<Db>,
    keyspace: Option<Keyspace>,
    second: Option<Keyspace>,
    aligned: Aligned,
    setup: Setup,
    pub(crate) history: History,
    /// Checkpoints that have been made on the simulated disk, and what is in them.
    pub(crate) checkpoints: Vec<(PathBuf, State)>,
    snapshots: Vec<(Snapshot, Map)>,
    walks: Vec<Walk>,
    positions: Vec<Position>,
    held: Vec<(Slice, Vec<u8>)>,
    /// Numbers values and copies; whoever goes on with a disk of another driver begins at another one.
    pub(crate) stamp: u64,
    step: u64,
    trace: VecDeque<Op>,
    /// How to see a failure again.
    replay: String,
    /// Whether most checks are short: a fuzzer finds more in many small runs.
    quick: bool,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for op in &self.trace {
                eprintln!("  {op:?}");
            }
            eprintln!("failed at step {}; to replay: {}", self.step, self.replay);
        }
    }
}

/// Runs `steps` operations of a seed against a simulated disk. The seed decides about everything, also about the format.
pub(crate) fn run_seed(seed: u64, steps: u64, replay: &str) {
    let replay = format!("MAPLSM_SEED={seed} {replay}");
    let format = Format::of(seed);
    run(Source::Random(seed ^ 0x6d61_706c), Place::Memory(SimFs::with_seed(seed)), format, 0, steps, replay);
}

/// Runs the operations that a fuzzer's bytes stand for.
pub(crate) fn run_bytes(bytes: &[u8]) {
    let mut source = Source::Bytes(bytes);
    let format = Format::of(source.below(256) as u64);
    run(source, Place::Memory(SimFs::new()), format, 0, 1000, "the fuzzer's input".to_owned());
}

/// Runs operations on a real disk, with background threads.
pub(crate) fn run_disk(seed: u64, path: &Path, threads: usize, steps: u64, replay: &str) {
    let replay = format!("MAPLSM_SEED={seed} {replay}");
    let format = Format::of(seed);
    run(Source::Random(seed), Place::Disk(path.to_owned()), format, threads, steps, replay);
}

fn run(mut source: Source<'_>, place: Place, format: Format, threads: usize, steps: u64, replay: String) {
    let mut setup = Setup::draw(&mut source, format, threads);
    setup.alignment = source.pick(&[1, 1, 8, 16]);
    let mut driver = Driver::new(place, setup, replay);
    driver.quick = matches!(source, Source::Bytes(_));
    while driver.step < steps && !source.is_over() {
        driver.step += 1;
        let op = driver.draw(&mut source);
        if driver.trace.len() == TRACE {
            driver.trace.pop_front();
        }
        driver.trace.push_back(op.clone());
        driver.apply(op);
    }
    driver.finish();
}

impl Driver {
    pub(crate) fn new(place: Place, setup: Setup, replay: String) -> Self {
        Self::with_history(place, setup, History::default(), replay).expect("a new database opens")
    }

    /// Goes on with a database that has this history.
    pub(crate) fn with_history(place: Place, setup: Setup, history: History, replay: String) -> maplsm::Result<Self> {
        let db = place.open(setup.options())?;
        Ok(Self {
            place,
            keyspace: Some(keyspace(&db, setup.alignment)?),
            second: second(&db)?,
            aligned: Aligned(setup.alignment),
            db: Some(db),
            setup,
            history,
            checkpoints: Vec::new(),
            snapshots: Vec::new(),
            walks: Vec::new(),
            positions: Vec::new(),
            held: Vec::new(),
            stamp: 0,
            step: 0,
            trace: VecDeque::new(),
            replay,
            quick: false,
        })
    }

    pub(crate) fn db(&self) -> &Db {
        self.db.as_ref().expect("the database is open")
    }

    fn keyspace(&self) -> &Keyspace {
        self.keyspace.as_ref().expect("the database is open")
    }

    fn sim(&self) -> Option<&SimFs> {
        match &self.place {
            Place::Memory(fs) => Some(fs),
            Place::Disk(_) => None,
        }
    }

    // ---- What to do next.

    fn draw(&mut self, source: &mut Source<'_>) -> Op {
        match source.below(100) {
            88 if self.history.now.second.is_none() => Op::CreateSecond,
            88 if source.one_in(3) => Op::DropSecond,
            0..=39 | 85..=88 => self.draw_write(source),
            40..=41 => self.draw_ingest(source),
            42..=49 => Op::Get(key(source)),
            50 => Op::Hold(key(source)),
            51..=53 => Op::Scan(range(source), moves(source)),
            54 => {
                let mut prefix = key(source);
                prefix.truncate(source.below(5));
                Op::Prefix(prefix, moves(source))
            }
            55 => Op::IterOpen(range(source)),
            56..=59 => Op::IterMove(source.below(3), moves(source)),
            60 => Op::CursorOpen,
            61..=66 => {
                let count = 1 + source.below(12);
                Op::CursorMove(source.below(3), (0..count).map(|_| cursor_move(source)).collect())
            }
            67..=68 => Op::Take,
            69..=72 => Op::Look(source.below(4), key(source)),
            73 => Op::LookAll(source.below(4)),
            74 => Op::Release(source.below(4)),
            75..=84 => Self::draw_work(source),
            89 => Op::Check,
            90..=91 => Op::Reopen(self.draw_setup(source)),
            92 => Op::Kill(self.draw_setup(source)),
            93..=94 => Op::PowerCut(source.below(1 << 16) as u64, self.draw_setup(source)),
            95 => Op::ReadOnly,
            _ => self.draw_crash(source),
        }
    }

    /// Mostly the format of the run; sometimes another one.
    fn draw_setup(&self, source: &mut Source<'_>) -> Setup {
        let other = source.one_in(4).then(|| Format::of(source.below(256) as u64));
        Setup::draw(source, other.unwrap_or(self.setup.format), self.setup.threads)
    }

    /// A commit, a load or some work.
    pub(crate) fn draw_change(&mut self, source: &mut Source<'_>) -> Op {
        match source.below(14) {
            0..=2 => Self::draw_work(source),
            3 => self.draw_ingest(source),
            4 if self.history.now.second.is_none() => Op::CreateSecond,
            4 if source.one_in(2) => Op::DropSecond,
            _ => self.draw_write(source),
        }
    }

    /// Keys from everywhere, or neighbours, which nothing may be in between of.
    fn draw_ingest(&mut self, source: &mut Source<'_>) -> Op {
        let narrow = source.one_in(2).then(|| (source.below(150), source.below(4)));
        let count = source.pick(&[1, 3, 30, 0]) + source.below(12);
        let entries = (0..count).map(|i| {
            self.stamp += 1;
            let key = match narrow {
                Some((first, ending)) => format!("k{:03}{}", first + i, &"xyz"[..ending]).into_bytes(),
                None => key(source),
            };
            (key, value(source, self.stamp))
        });
        let entries = entries.collect();
        Op::Ingest(self.draw_space(source), entries)
    }

    fn draw_write(&mut self, source: &mut Source<'_>) -> Op {
        let (count, how) = match source.below(8) {
            0..=4 => (1, How::Single),
            5 => (1 + source.below(6), How::Batch),
            6 => (source.below(40), How::With(Durability::Buffered)),
            _ => (1 + source.below(4), How::With(Durability::Sync)),
        };
        let mut change = || {
            self.stamp += 1;
            let space = self.draw_space(source);
            let change = match source.below(16) {
                0..=2 => Change::Remove(key(source)),
                3 => Change::RemoveRange(removed_range(source)),
                _ => Change::Insert(key(source), value(source, self.stamp)),
            };
            (space, change)
        };
        Op::Write((0..count).map(|_| change()).collect(), how)
    }

    /// The second keyspace only if there is one, so that most operations do something.
    fn draw_space(&self, source: &mut Source<'_>) -> Space {
        if self.history.now.second.is_some() && source.one_in(3) { Space::Second } else { Space::First }
    }

    fn draw_work(source: &mut Source<'_>) -> Op {
        match source.below(11) {
            10 => Op::Checkpoint,
            0..=2 => Op::Flush,
            3..=4 => Op::Maintain,
            5 => Op::Wait,
            6 => Op::Compact,
            7 => Op::CompactRange(range(source)),
            _ => Op::Sync,
        }
    }

    fn draw_crash(&mut self, source: &mut Source<'_>) -> Op {
        let after = 1 + source.below(60) as u64;
        let fault = match source.below(4) {
            0..=1 => Fault::Halt { after },
            2 => Fault::Error { after, kind: std::io::ErrorKind::Other },
            _ => Fault::Short { after: 1 + after % 16 },
        };
        let count = 1 + source.below(12);
        let work = (0..count).map(|_| self.draw_change(source));
        Op::Crash(Crash {
            fault,
            work: work.collect(),
            power_cut: (source.below(3) > 0).then(|| source.below(1 << 16) as u64),
            again: source.one_in(2).then(|| (1 + source.below(40) as u64, source.below(1 << 16) as u64)),
            setup: self.draw_setup(source),
        })
    }

    // ---- Doing it.

    pub(crate) fn apply(&mut self, op: Op) {
        match op {
            Op::Write(..)
            | Op::Ingest(..)
            | Op::CreateSecond
            | Op::DropSecond
            | Op::Checkpoint
            | Op::Flush
            | Op::Maintain
            | Op::Wait
            | Op::Compact
            | Op::CompactRange(_)
            | Op::Sync => {
                self.attempt(&op).unwrap_or_else(|e| panic!("{op:?} fails: {e}"));
            }
            Op::Get(key) => self.get(&key),
            Op::Hold(key) => {
                let value = self.keyspace().get(&key).expect("a value is read");
                if self.held.len() < 50 {
                    self.held.extend(value.zip(self.history.now.first.get(&key).cloned()));
                }
            }
            Op::Scan(range, moves) => {
                Walk::new(self.keyspace().range(range.clone()), self.aligned, &self.history.now.first, &range)
                    .run(&moves);
            }
            Op::Prefix(prefix, moves) => {
                let over: Map =
                    self.history.now.first.clone().into_iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
                Walk::new(self.keyspace().prefix(&prefix), self.aligned, &over, &(..)).run(&moves);
            }
            Op::IterOpen(range) => {
                let walk =
                    Walk::new(self.keyspace().range(range.clone()), self.aligned, &self.history.now.first, &range);
                put(&mut self.walks, walk, 3);
            }
            Op::IterMove(slot, moves) => {
                if let Some(walk) = self.walks.get_mut(slot) {
                    for back in moves {
                        walk.step(back);
                    }
                }
            }
            Op::CursorOpen => {
                let (cursor, over) = (self.keyspace().cursor(), self.history.now.first.clone());
                let position = Position { cursor, aligned: self.aligned, outlives: false, over, at: None };
                put(&mut self.positions, position, 3);
            }
            Op::CursorMove(slot, moves) => {
                if let Some(position) = self.positions.get_mut(slot)
                    && !moves.into_iter().all(|(to, key)| position.step(to, &key))
                {
                    self.positions.remove(slot);
                }
            }
            Op::Take => {
                let snapshot = (self.keyspace().snapshot(), self.history.now.first.clone());
                put(&mut self.snapshots, snapshot, 4);
            }
            Op::Look(slot, key) => self.look(slot, &key),
            Op::LookAll(slot) => {
                if let Some((snapshot, state)) = self.snapshots.get(slot) {
                    let found = read_all(snapshot.iter()).expect("a snapshot is read");
                    assert!(found == *state, "a snapshot: {}", difference(&found, state));
                    Walk::new(snapshot.iter(), self.aligned, state, &(..)).run(&[true]);
                }
            }
            Op::Release(slot) => {
                if slot < self.snapshots.len() {
                    self.snapshots.swap_remove(slot);
                }
            }
            Op::Check => self.check(),
            Op::Reopen(setup) => self.reopen(setup),
            Op::Kill(setup) => self.kill(setup),
            Op::PowerCut(seed, setup) => self.power_cut(seed, setup),
            Op::ReadOnly => self.read_only(),
            Op::Crash(crash) => self.crash(&crash),
        }
    }

    /// Does something that changes the database or its files. What an error leaves behind is noted.
    pub(crate) fn attempt(&mut self, op: &Op) -> maplsm::Result<()> {
        match op {
            Op::Write(commit, how) => return self.write(commit, *how),
            Op::Ingest(space, entries) => return self.ingest(*space, entries),
            Op::CreateSecond => return self.create_second(),
            Op::DropSecond => return self.drop_second(),
            Op::Checkpoint => return self.checkpoint(),
            Op::Flush => self.db().flush()?,
            Op::Maintain if self.setup.threads == 0 => self.db().maintain()?,
            Op::Maintain | Op::Wait => return self.db().wait_for_background(),
            Op::Compact => {
                self.keyspace().compact()?;
                self.second.as_ref().map(Keyspace::compact).transpose()?;
            }
            Op::CompactRange(range) => self.keyspace().compact_range(range.clone())?,
            Op::Sync => self.db().sync()?,
            _ => return Ok(()),
        }
        // Each of them leaves nothing behind that is in the page cache only.
        self.history.synced();
        Ok(())
    }

    /// The keyspace, if it is there.
    fn space(&self, space: Space) -> Option<&Keyspace> {
        match space {
            Space::First => Some(self.keyspace()),
            Space::Second => self.second.as_ref(),
        }
    }

    /// Leaves out what would change a keyspace that is not there.
    pub(crate) fn write(&mut self, commit: &Commit, how: How) -> maplsm::Result<()> {
        let db = self.db();
        let there = commit.iter().filter_map(|(space, change)| Some((self.space(*space)?, *space, change)));
        let there: Vec<_> = there.collect();
        let commit: Commit = there.iter().map(|(_, space, change)| (*space, (*change).clone())).collect();
        let written = match (how, there.as_slice()) {
            (How::Single, [(keyspace, _, Change::Insert(key, value))]) => keyspace.insert(key, value),
            (How::Single, [(keyspace, _, Change::Remove(key))]) => keyspace.remove(key),
            (How::Single, [(keyspace, _, Change::RemoveRange(range))]) => keyspace.remove_range(range.clone()),
            _ => {
                let mut batch = WriteBatch::new();
                for (keyspace, _, change) in there {
                    match change {
                        Change::Insert(key, value) => batch.insert_into(keyspace, key, value),
                        Change::Remove(key) => batch.remove_from(keyspace, key),
                        Change::RemoveRange(range) => batch.remove_range_from(keyspace, range.clone()),
                    };
                }
                match how {
                    How::With(durability) => db.write_with(&batch, durability),
                    How::Single | How::Batch => db.write(&batch),
                }
            }
        };
        let durable = match how {
            How::With(durability) => durability == Durability::Sync,
            How::Single | How::Batch => self.setup.durability == Durability::Sync,
        };
        if commit.is_empty() {
            if durable && written.is_ok() {
                self.history.synced();
            }
            return written;
        }
        match written {
            Ok(()) => self.history.committed(commit, durable),
            Err(_) => self.history.failed(Doubt::Commit(commit)),
        }
        written
    }

    fn ingest(&mut self, space: Space, entries: &Map) -> maplsm::Result<()> {
        let Some(keyspace) = self.space(space) else { return Ok(()) };
        let loaded = keyspace.ingest(entries);
        let insert = |(key, value): (&Vec<u8>, &Vec<u8>)| (space, Change::Insert(key.clone(), value.clone()));
        let commit = entries.iter().map(insert).collect();
        match loaded {
            Ok(loaded) => {
                assert_eq!(loaded.entries, entries.len() as u64);
                if !entries.is_empty() {
                    self.history.committed(commit, true);
                }
                Ok(())
            }
            Err(e) => {
                self.history.failed(Doubt::Commit(commit));
                Err(e)
            }
        }
    }

    fn create_second(&mut self) -> maplsm::Result<()> {
        if self.second.is_some() {
            return Ok(());
        }
        match self.db().keyspace(SECOND) {
            Ok(keyspace) => {
                self.second = Some(keyspace);
                self.history.created();
                Ok(())
            }
            Err(e) => {
                self.history.failed(Doubt::Created);
                Err(e)
            }
        }
    }

    fn drop_second(&mut self) -> maplsm::Result<()> {
        let Some(keyspace) = self.second.clone() else { return Ok(()) };
        if let Err(e) = self.db().drop_keyspace(SECOND) {
            self.history.failed(Doubt::Dropped);
            return Err(e);
        }
        assert!(matches!(keyspace.get(b"a"), Err(Error::KeyspaceDropped { .. })), "a dropped keyspace is read");
        self.second = None;
        self.history.dropped();
        Ok(())
    }

    /// A copy holds what is there now, is there to stay, and goes its own way.
    fn checkpoint(&mut self) -> maplsm::Result<()> {
        self.stamp += 1;
        let name = format!("copy {}", self.stamp);
        let path = match &self.place {
            Place::Memory(_) => Path::new("/").join(name),
            Place::Disk(path) => path.with_extension(name),
        };
        self.db().checkpoint(&path)?;
        let mut options = self.setup.options();
        if let Some(fs) = self.sim() {
            let after = if self.stamp.is_multiple_of(2) { fs.power_cut(self.stamp) } else { fs.kill() };
            options.file_system(after);
        }
        let copy = options.open(&path).expect("a checkpoint opens");
        assert!(copy.recovery_report().clean && copy.verify().is_ok(), "{:?}", copy.verify().problems);
        let found = read_state(&copy, self.aligned.0).expect("a checkpoint is read");
        assert!(self.history.is_complete(&found), "a checkpoint: {}", state_difference(&found, &self.history.now));
        copy.insert("only here", "x").expect("a checkpoint is written");
        copy.compact().expect("a checkpoint is compacted");
        copy.close().expect("a checkpoint closes");
        match self.place {
            Place::Disk(_) => std::fs::remove_dir_all(&path).expect("a checkpoint is removed"),
            Place::Memory(_) => self.checkpoints.push((path, found)),
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) {
        let found = self.keyspace().get(key).expect("a value is read");
        let found = found.map(|value| {
            self.aligned.check(&value);
            Bytes(value.to_vec())
        });
        let expected = self.history.now.first.get(key).cloned().map(Bytes);
        assert_eq!(found, expected, "the value of {:?}", Bytes(key.to_vec()));
        assert_eq!(self.keyspace().contains_key(key).expect("a key is looked up"), expected.is_some());
    }

    fn look(&self, slot: usize, key: &[u8]) {
        let Some((snapshot, state)) = self.snapshots.get(slot) else { return };
        let expected = state.get(key).cloned().map(Bytes);
        let of = Bytes(key.to_vec());
        let read = |value: &[u8]| {
            self.aligned.check(value);
            Bytes(value.to_vec())
        };
        let found = snapshot.get(key).expect("a snapshot is read").map(|value| read(&value));
        assert_eq!(found, expected, "the value of {of:?} in a snapshot");
        if self.stamp.is_multiple_of(2) {
            let found = snapshot.get_ref(key).expect("a snapshot is read").map(|value| read(&value));
            assert_eq!(found, expected, "the borrowed value of {of:?} in a snapshot");
            assert_eq!(snapshot.contains_key(key).expect("a snapshot is read"), expected.is_some());
        }
        let mut cursor = snapshot.cursor();
        let found = cursor.seek(key).expect("a snapshot is read");
        let behind = state.range(key.to_vec()..).next();
        assert_eq!(found, behind.is_some());
        assert_eq!(Bytes(cursor.key().to_vec()), Bytes(behind.map(|(key, _)| key.clone()).unwrap_or_default()));
    }

    /// Compares everything.
    fn check(&self) {
        let (db, keyspace) = (self.db(), self.keyspace());
        let now = &self.history.now.first;
        let found = read_state(db, self.aligned.0).expect("everything is read");
        let expected = &self.history.now;
        assert!(found == *expected, "forwards: {}", state_difference(&found, expected));
        if self.quick && !self.step.is_multiple_of(QUICK) {
            return;
        }
        let found: Map = keyspace
            .iter()
            .rev()
            .map(|entry| entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec())))
            .collect::<maplsm::Result<_>>()
            .expect("everything is read");
        assert!(found == *now, "backwards: {}", difference(&found, now));
        for key in now.keys() {
            self.get(key);
        }
        for i in 0..150 {
            self.get(format!("k{i:03}").as_bytes());
        }
        if let (Some(second), Some(expected)) = (&self.second, &expected.second) {
            for (key, value) in expected {
                let found = second.get(key).expect("a value is read");
                assert!(found.as_deref() == Some(&value[..]), "the value of {:?}", Bytes(key.clone()));
            }
        }
        let report = db.verify();
        assert!(report.is_ok(), "verify: {:?}", report.problems);
        for (slice, expected) in &self.held {
            assert!(*slice == *expected, "a slice that was kept");
        }
        let stats = db.stats();
        assert_eq!(stats.tables.len(), stats.levels.iter().map(|level| level.tables).sum::<usize>());
    }

    /// Opens the database again and compares. All handles on the old one are gone, except iterators, cursors and slices.
    fn open(&mut self, setup: Setup) {
        self.setup = setup;
        self.walks.iter_mut().for_each(|walk| walk.outlives = true);
        self.positions.iter_mut().for_each(|position| position.outlives = true);
        let opened = self.place.open(setup.options());
        let db = self.db.insert(opened.unwrap_or_else(|e| panic!("the database does not open: {e}")));
        self.keyspace = Some(keyspace(db, self.aligned.0).expect("the keyspace opens"));
        self.second = second(db).expect("the keyspace opens");
    }

    fn reopen(&mut self, setup: Setup) {
        (self.keyspace, self.second) = (None, None);
        let db = self.db.take().expect("the database is open");
        if self.stamp.is_multiple_of(3) {
            // The last handle closes as well.
            self.snapshots.clear();
            drop(db);
        } else {
            db.close().expect("the database closes");
            db.close().expect("a second close answers what the first one did");
            assert!(matches!(db.get(b"a"), Err(Error::Closed)));
            assert!(matches!(db.iter().next(), Some(Err(Error::Closed))));
            for (snapshot, _) in self.snapshots.drain(..) {
                assert!(matches!(snapshot.get(b"a"), Err(Error::Closed)));
            }
        }
        self.open(setup);
        assert!(self.db().recovery_report().clean, "{:?}", self.db().recovery_report());
        self.check();
        self.history.synced();
    }

    /// Goes on with a copy of the disk as a crash leaves it.
    fn move_to(&mut self, fs: SimFs) {
        self.snapshots.clear();
        (self.keyspace, self.second, self.db) = (None, None, None);
        self.place = Place::Memory(fs);
    }

    fn kill(&mut self, setup: Setup) {
        let Some(fs) = self.sim() else { return self.reopen(setup) };
        let after = fs.kill();
        self.move_to(after);
        self.recover(setup, true);
    }

    fn power_cut(&mut self, seed: u64, setup: Setup) {
        let Some(fs) = self.sim() else { return self.reopen(setup) };
        let after = fs.power_cut(seed);
        self.move_to(after);
        self.recover(setup, false);
    }

    /// Opens after a crash and compares with what may be there.
    fn recover(&mut self, setup: Setup, complete: bool) {
        let shown = self.look_read_only(setup);
        self.open(setup);
        let found = read_state(self.db(), self.aligned.0).expect("everything is read");
        if let Some(shown) = shown {
            assert!(shown == found, "a read-only open shows something else: {}", state_difference(&shown, &found));
        }
        if complete {
            assert!(self.history.is_complete(&found), "killed: {}", state_difference(&found, &self.history.now));
        } else {
            assert!(
                self.history.is_prefix(&found),
                "no prefix of the history; durable: {}; all: {}",
                state_difference(&found, &self.history.durable),
                state_difference(&found, &self.history.now),
            );
        }
        self.history.reopened(found);
        self.check();
    }

    /// What a read-only open of this disk shows; it changes nothing.
    fn look_read_only(&self, setup: Setup) -> Option<State> {
        let fs = self.sim()?;
        let files = |fs: &SimFs| -> Vec<_> {
            let files = fs.files(Path::new(DIR));
            files.into_iter().map(|(name, _)| (fs.read(&Path::new(DIR).join(&name)), name)).collect()
        };
        let (before, operations) = (files(fs), fs.operations());
        let db = self.place.open(setup.options().read_only(true).clone()).expect("the database opens read-only");
        let shown = read_state(&db, self.aligned.0).expect("everything is read");
        assert!(db.verify().is_ok(), "verify: {:?}", db.verify().problems);
        assert!(matches!(db.insert(b"a", b"b"), Err(Error::ReadOnly)));
        drop(db);
        assert!(files(fs) == before, "a read-only open changes files");
        assert_eq!(fs.operations(), operations, "a read-only open changes the disk");
        Some(shown)
    }

    fn read_only(&mut self) {
        let opened = self.place.open(self.setup.options().read_only(true).clone());
        assert!(matches!(opened, Err(Error::Locked(_))), "a read-only open beside a writer: {opened:?}");
        let Some(fs) = self.sim() else { return };
        let beside = Place::Memory(fs.kill());
        let live = std::mem::replace(&mut self.place, beside);
        let shown = self.look_read_only(self.setup).unwrap_or_default();
        self.place = live;
        assert!(shown == self.history.now, "a read-only open: {}", state_difference(&shown, &self.history.now));
    }

    fn crash(&mut self, crash: &Crash) {
        let Some(fs) = self.sim().cloned() else { return };
        let halts = matches!(crash.fault, Fault::Halt { .. });
        fs.inject(crash.fault);
        let mut failed = false;
        for op in &crash.work {
            match self.attempt(op) {
                Ok(()) => {}
                Err(e) => {
                    failed = true;
                    let kinds = [ErrorKind::Io, ErrorKind::State, ErrorKind::Background];
                    assert!(kinds.contains(&e.kind()), "{op:?} fails: {e}");
                }
            }
            let changes = matches!(op, Op::Ingest(..) | Op::CreateSecond | Op::DropSecond)
                || matches!(op, Op::Write(commit, _) if !commit.is_empty());
            if failed && halts && changes {
                break;
            }
        }
        // Reading goes on whatever has failed.
        let found = read_state(self.db(), self.aligned.0).expect("everything is read");
        assert!(self.history.is_complete(&found), "after a fault: {}", state_difference(&found, &self.history.now));
        let mut after = match crash.power_cut {
            Some(seed) => fs.power_cut(seed),
            None => fs.kill(),
        };
        let mut complete = crash.power_cut.is_none();
        if let Some((operation, seed)) = crash.again {
            after.inject(Fault::Halt { after: operation });
            let opened = Place::Memory(after.clone()).open(crash.setup.options());
            let found = opened.and_then(|db| read_state(&db, self.aligned.0));
            after = after.power_cut(seed);
            // What an open has shown is there to stay.
            if let Ok(found) = found {
                let fine = if complete { self.history.is_complete(&found) } else { self.history.is_prefix(&found) };
                assert!(fine, "the first recovery: {}", state_difference(&found, &self.history.now));
                self.history.reopened(found);
            }
            complete = false;
        }
        self.move_to(after);
        self.recover(crash.setup, complete);
    }

    /// The end of a run: what is still alive is compared, then the database once more, and once more after a close.
    pub(crate) fn finish(&mut self) {
        for walk in self.walks.drain(..) {
            walk.run(&[]);
        }
        for position in &mut self.positions {
            let mut more = position.step(Move::First, b"");
            for _ in 0..position.over.len() {
                more = more && position.step(Move::Next, b"");
            }
        }
        for slot in 0..self.snapshots.len() {
            self.apply(Op::LookAll(slot));
        }
        self.check();
        self.reopen(self.setup);
        self.snapshots.clear();
        self.db().close().expect("the database closes");
    }
}

fn moves(source: &mut Source<'_>) -> Vec<bool> {
    let count = source.below(20);
    let style = source.below(3);
    (0..count).map(|_| if style == 2 { source.below(2) == 1 } else { style == 1 }).collect()
}

fn cursor_move(source: &mut Source<'_>) -> (Move, Vec<u8>) {
    use Move::{First, Last, Next, Prev, Seek, SeekBack};
    let to =
        source.pick(&[First, Last, Seek, Seek, SeekBack, SeekBack, Next, Next, Next, Next, Prev, Prev, Prev, Prev]);
    let key = if matches!(to, Seek | SeekBack) { key(source) } else { Vec::new() };
    (to, key)
}

/// Adds to a few, in place of the oldest.
fn put<T>(to: &mut Vec<T>, item: T, most: usize) {
    if to.len() == most {
        to.remove(0);
    }
    to.push(item);
}
