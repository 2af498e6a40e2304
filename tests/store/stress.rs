//! Everything at once, for as long as `STRESS_SECONDS` says: writers, readers, scanners in both directions, short and long
//! snapshots, flushes, compactions, keyspaces that come and go, power cuts and reopenings, on a real disk and on the one in
//! memory.
//!
//! Each writer owns a stripe of keys and writes values that say who wrote them, for which key and as its how-manieth commit.
//! It tells the others what it is about to write and what has been acknowledged, so whoever reads knows from two looks, one
//! before and one after, what may be found. `STRESS_SEED` (printed on failure) gives the operations of every thread; their
//! interleaving is the machine's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use maplsm::{Db, Durability, Error, FileSystem, IoMode, Options, PointIndex, SimFs, Snapshot, WriteBatch};

use crate::support::model::{Map, Source, read_all};

const WRITERS: usize = 3;
/// Keys of a stripe, of which the last ones form groups.
const KEYS: usize = 64;
/// Keys that are always written together.
const GROUP: usize = 8;
const GROUPS: usize = 2;

const ROUND: Duration = Duration::from_millis(500);

/// What a commit does to a key: the number of the commit, and whether the key is there afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct State {
    commit: u64,
    present: bool,
}

impl State {
    fn pack(self) -> u64 {
        self.commit << 1 | u64::from(self.present)
    }

    fn unpack(packed: u64) -> Self {
        Self { commit: packed >> 1, present: packed & 1 == 1 }
    }
}

/// One state for each key.
struct States(Vec<AtomicU64>);

impl States {
    fn new() -> Self {
        Self((0..WRITERS * KEYS).map(|_| AtomicU64::new(0)).collect())
    }

    fn set(&self, key: usize, state: State) {
        self.0[key].store(state.pack(), Ordering::SeqCst);
    }

    fn get(&self, key: usize) -> State {
        State::unpack(self.0[key].load(Ordering::SeqCst))
    }

    fn all(&self) -> Vec<State> {
        (0..self.0.len()).map(|key| self.get(key)).collect()
    }
}

/// What the threads of a run share.
struct Shared {
    seed: u64,
    /// About to be committed.
    begun: States,
    acknowledged: States,
    /// Acknowledged, and on disk since then.
    durable: States,
    stop: AtomicBool,
}

fn name(key: usize) -> Vec<u8> {
    format!("stripe {} key {:03}", key / KEYS, key % KEYS).into_bytes()
}

fn number(name: &[u8]) -> usize {
    let text = std::str::from_utf8(name).unwrap();
    let mut words = text.split(' ').filter_map(|word| word.parse::<usize>().ok());
    words.next().unwrap() * KEYS + words.next().unwrap()
}

/// Whether a key of a stripe is one of the last ones, and the keys that are written with it.
fn group_of(key: usize) -> Option<std::ops::Range<usize>> {
    let (stripe, inside) = (key / KEYS * KEYS, key % KEYS);
    let group = (inside + GROUPS * GROUP).checked_sub(KEYS)? / GROUP;
    let start = stripe + KEYS - GROUPS * GROUP + group * GROUP;
    Some(start..start + GROUP)
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn value(key: usize, commit: u64, length: usize) -> Vec<u8> {
    let mut value = (key as u64).to_be_bytes().to_vec();
    value.extend(commit.to_be_bytes());
    value.resize(16 + length, commit.to_le_bytes()[0]);
    value.extend(checksum(&value).to_be_bytes());
    value
}

/// The commit that wrote a value of this key.
fn commit_of(key: usize, value: &[u8]) -> u64 {
    let (body, sum) = value.split_at(value.len() - 8);
    assert_eq!(checksum(body).to_be_bytes(), sum, "a damaged value of key {key}");
    assert_eq!(body[..8], (key as u64).to_be_bytes(), "the value of another key at {key}");
    u64::from_be_bytes(body[8..16].try_into().unwrap())
}

/// A key was in state `from` or later, and in state `to` or earlier.
fn check(key: usize, found: Option<u64>, from: State, to: State) {
    let possible = match found {
        _ if from == to => found == from.present.then_some(from.commit),
        Some(commit) => (from.commit + u64::from(!from.present)..=to.commit).contains(&commit),
        // Some commit in between may have removed it.
        None => true,
    };
    assert!(possible, "key {key}: found {found:?}, which is not between {from:?} and {to:?}");
}

/// Everything that was found at one moment.
fn check_all(found: &Map, from: &[State], to: &[State]) {
    let commits: BTreeMap<usize, u64> =
        found.iter().map(|(name, value)| (number(name), commit_of(number(name), value))).collect();
    for key in 0..WRITERS * KEYS {
        check(key, commits.get(&key).copied(), from[key], to[key]);
        if let Some(group) = group_of(key) {
            assert_eq!(commits.get(&key), commits.get(&group.start), "half of a batch, key {key}");
        }
    }
}

/// A writer, which keeps its commits from round to round.
struct Writer {
    stripe: usize,
    commits: u64,
    source: Source<'static>,
}

impl Writer {
    fn run(&mut self, db: &Db, shared: &Shared) {
        while !shared.stop.load(Ordering::Relaxed) {
            self.commit(db, shared);
        }
    }

    fn commit(&mut self, db: &Db, shared: &Shared) {
        self.commits += 1;
        let commit = self.commits;
        let durability = if self.source.below(12) == 0 { Durability::Sync } else { Durability::Buffered };
        let singles = KEYS - GROUPS * GROUP;
        let first = self.stripe * KEYS;
        let mut batch = WriteBatch::new();
        let mut changes = Vec::new();
        let mut put = |key: usize, present: bool, source: &mut Source<'_>| {
            changes.push((key, State { commit, present }));
            if present {
                let length = if source.below(40) == 0 { 5000 } else { source.below(200) };
                batch.insert(name(key), value(key, commit, length));
            } else {
                batch.remove(name(key));
            }
        };
        match self.source.below(16) {
            0..=7 => put(first + self.source.below(singles), true, &mut self.source),
            // A key that is overwritten all the time.
            8 | 9 => put(first, true, &mut self.source),
            10 => put(first + self.source.below(singles), false, &mut self.source),
            11 | 12 => {
                let from = self.source.below(singles);
                for key in from..(from + 1 + self.source.below(12)).min(singles) {
                    let present = self.source.below(4) != 0;
                    put(first + key, present, &mut self.source);
                }
            }
            13 | 14 => {
                let group = group_of(first + KEYS - 1 - GROUP * self.source.below(GROUPS)).unwrap();
                let present = self.source.below(4) != 0;
                for key in group {
                    put(key, present, &mut self.source);
                }
            }
            _ => {
                // Singles only, or everything.
                let range = if self.source.below(4) == 0 {
                    0..KEYS
                } else {
                    let from = self.source.below(singles);
                    from..(from + 1 + self.source.below(16)).min(singles)
                };
                batch.remove_range(name(first + range.start)..=name(first + range.end - 1));
                changes.extend(range.map(|key| (first + key, State { commit, present: false })));
            }
        }
        for (key, state) in &changes {
            shared.begun.set(*key, *state);
        }
        db.write_with(&batch, durability).unwrap();
        for (key, state) in &changes {
            shared.acknowledged.set(*key, *state);
        }
        if durability == Durability::Sync {
            for key in first..first + KEYS {
                shared.durable.set(key, shared.acknowledged.get(key));
            }
        }
    }
}

/// The one who makes, fills and drops keyspaces; what is in them lasts from round to round.
struct Tenants {
    made: usize,
    contents: BTreeMap<String, Map>,
    source: Source<'static>,
}

impl Tenants {
    fn run(&mut self, db: &Db, shared: &Shared) {
        while !shared.stop.load(Ordering::Relaxed) {
            self.change(db);
        }
    }

    fn change(&mut self, db: &Db) {
        let source = &mut self.source;
        let chosen = self.contents.keys().nth(source.below(self.contents.len().max(1))).cloned();
        let Some(name) = chosen.filter(|_| self.contents.len() >= 6 || source.below(60) > 0) else {
            self.made += 1;
            let name = format!("tenant {}", self.made);
            assert!(db.keyspace(&name).unwrap().iter().next().is_none(), "a new keyspace is empty");
            self.contents.insert(name, Map::new());
            return;
        };
        let keyspace = db.keyspace(&name).unwrap();
        let content = self.contents.get_mut(&name).unwrap();
        match source.below(80) {
            0 => {
                let opened_before = keyspace.iter();
                db.drop_keyspace(&name).unwrap();
                let refused = keyspace.insert("late", "");
                assert!(matches!(refused, Err(Error::KeyspaceDropped { .. })), "{refused:?}");
                assert!(!db.keyspaces().contains(&name));
                assert!(read_all(opened_before).unwrap() == *content, "an iterator over {name} has changed");
                self.contents.remove(&name);
            }
            1 | 2 => assert!(read_all(keyspace.iter()).unwrap() == *content, "{name} has changed"),
            3 => {
                let from = source.below(40);
                let range = self::name(from)..self::name(from + source.below(20));
                keyspace.remove_range(range.clone()).unwrap();
                content.retain(|key, _| !range.contains(key));
            }
            4..=9 => {
                let key = self::name(source.below(60));
                keyspace.remove(&key).unwrap();
                content.remove(&key);
            }
            _ => {
                let mut batch = WriteBatch::new();
                for _ in 0..=source.below(6) {
                    let key = source.below(60);
                    let value = value(key, self.made as u64, source.below(100));
                    batch.insert_into(&keyspace, self::name(key), &value);
                    content.insert(self::name(key), value);
                }
                db.write_with(&batch, Durability::Buffered).unwrap();
            }
        }
    }

    fn check(&self, db: &Db) {
        let names: Vec<String> = db.keyspaces().into_iter().filter(|name| name.starts_with("tenant")).collect();
        assert!(names.iter().eq(self.contents.keys()), "{names:?}");
        for (name, content) in &self.contents {
            assert!(read_all(db.keyspace(name).unwrap().iter()).unwrap() == *content, "{name} has changed");
        }
    }
}

/// Looks up keys: what was acknowledged is there, and nothing goes back.
fn read(db: &Db, shared: &Shared, mut source: Source<'_>) {
    let mut seen = vec![0; WRITERS * KEYS];
    while !shared.stop.load(Ordering::Relaxed) {
        // Half of the looks at the keys that are overwritten all the time.
        let stripe = source.below(WRITERS) * KEYS;
        let key = if source.below(2) == 0 { stripe } else { stripe + source.below(KEYS) };
        let from = shared.acknowledged.get(key);
        let found = db.get(name(key)).unwrap().map(|value| commit_of(key, &value));
        check(key, found, from, shared.begun.get(key));
        if let Some(commit) = found {
            assert!(commit >= seen[key], "key {key} went back from {} to {commit}", seen[key]);
            seen[key] = commit;
        }
    }
}

/// Takes snapshots, scans them both ways, and keeps some of them, to find them unchanged later.
fn scan(db: &Db, shared: &Shared, mut source: Source<'_>) {
    let mut kept: Vec<(Snapshot, Map)> = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let from = shared.acknowledged.all();
        let snapshot = db.snapshot();
        let to = shared.begun.all();
        let found = scan_both_ways(&snapshot, &mut source);
        check_all(&found, &from, &to);
        for _ in 0..4 {
            let key = name(source.below(WRITERS * KEYS));
            assert_eq!(snapshot.get(&key).unwrap().as_deref(), found.get(&key).map(Vec::as_slice));
        }
        match source.below(8) {
            0 if kept.len() < 12 => kept.push((snapshot, found)),
            1 | 2 if !kept.is_empty() => {
                let (old, before) = &kept[source.below(kept.len())];
                assert_eq!(&scan_both_ways(old, &mut source), before, "a snapshot has changed");
            }
            3 if !kept.is_empty() => drop(kept.swap_remove(source.below(kept.len()))),
            _ => {}
        }
    }
    for (old, before) in kept {
        assert_eq!(scan_both_ways(&old, &mut source), before, "a snapshot has changed");
    }
}

fn scan_both_ways(snapshot: &Snapshot, source: &mut Source<'_>) -> Map {
    let forwards: Vec<_> = snapshot.iter().map(Result::unwrap).collect();
    assert!(forwards.is_sorted_by(|a, b| a.key() < b.key()), "out of order");
    if source.below(2) == 0 {
        let mut backwards: Vec<_> = snapshot.iter().rev().map(Result::unwrap).collect();
        backwards.reverse();
        let both = forwards.iter().zip(&backwards);
        assert!(
            forwards.len() == backwards.len()
                && both.clone().all(|(a, b)| a.key() == b.key() && a.value() == b.value()),
            "the two directions differ"
        );
    }
    if source.below(4) == 0 {
        let mut cursor = snapshot.cursor();
        let key = name(source.below(WRITERS * KEYS));
        let expected = forwards.iter().find(|entry| entry.key() >= &key[..]);
        assert_eq!(cursor.seek(&key).unwrap().then(|| cursor.key()), expected.map(maplsm::Entry::key));
    }
    forwards.into_iter().map(|entry| (entry.key().to_vec(), entry.value().to_vec())).collect()
}

/// Does what the background does, and what only callers do, at any time.
fn maintain(db: &Db, shared: &Shared, mut source: Source<'_>) {
    while !shared.stop.load(Ordering::Relaxed) {
        match source.below(10) {
            0..=2 => db.flush().unwrap(),
            3 => db.compact().unwrap(),
            4 => {
                let from = source.below(WRITERS * KEYS);
                db.compact_range(name(from)..name(from + source.below(KEYS))).unwrap();
            }
            5 => db.sync().unwrap(),
            6 => {
                let report = db.verify();
                assert!(report.is_ok(), "{report:?}");
            }
            7 => db.wait_for_background().unwrap(),
            8 => {
                let stats = db.stats();
                assert!(stats.last_sequence > 0 || stats.levels.is_empty());
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Cuts the power, again and again, and looks at what the next boot finds; the store runs on.
fn cut_power(disk: &SimFs, options: &Options, shared: &Shared, mut source: Source<'_>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let from = shared.durable.all();
        let after = disk.power_cut(source.below(usize::MAX) as u64);
        let to = shared.begun.all();
        let db = options.clone().file_system(after).open(DIR).unwrap();
        check_all(&read_all(db.iter()).unwrap(), &from, &to);
        let report = db.verify();
        assert!(report.is_ok(), "{report:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const DIR: &str = "db";

/// Small memtables, tables and levels, so that flushes and compactions never end.
fn options(source: &mut Source<'_>) -> Options {
    let mut options = Options::new();
    options
        .memtable_bytes(8 << 10 << source.below(5))
        .memtable_entries((source.below(3) == 0).then(|| 50 + source.below(200)))
        .table_bytes(4 << 10 << source.below(5))
        .level_bytes_base(16 << 10 << source.below(4))
        .l0_tables(1 + source.below(4))
        .background_threads(1 + source.below(3))
        .io_mode(if source.below(3) == 0 { IoMode::Read } else { IoMode::Map })
        .point_index(if source.below(3) == 0 { PointIndex::Bloom { error_rate: 0.01 } } else { PointIndex::Hash });
    options
}

fn run(seed: u64, path: &Path, disk: Option<&SimFs>, time: Duration) {
    let shared = Shared {
        seed,
        begun: States::new(),
        acknowledged: States::new(),
        durable: States::new(),
        stop: AtomicBool::new(false),
    };
    let source = |of: u64| Source::Random(seed.wrapping_add(of << 32));
    let mut writers: Vec<Writer> =
        (0..WRITERS).map(|stripe| Writer { stripe, commits: 0, source: source(stripe as u64) }).collect();
    let mut tenants = Tenants { made: 0, contents: BTreeMap::new(), source: source(WRITERS as u64) };
    let start = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < time {
        rounds += 1;
        let mut options = options(&mut source(rounds << 8));
        options.file_system(disk.map_or_else(FileSystem::disk, |disk| disk.clone().into()));
        let db = options.open(path).unwrap();
        check_all(&read_all(db.iter()).unwrap(), &shared.acknowledged.all(), &shared.begun.all());
        tenants.check(&db);
        shared.stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let (db, shared, options) = (&db, &shared, &options);
            let of_round = |thread: u64| source((rounds << 8) + 16 + thread);
            let readers = [of_round(0)].map(|source| beside(shared, move || read(db, shared, source)));
            let scanners = [of_round(1), of_round(2)].map(|source| beside(shared, move || scan(db, shared, source)));
            let maintainer = of_round(3);
            for writer in &mut writers {
                scope.spawn(beside(shared, move || writer.run(db, shared)));
            }
            let tenants = &mut tenants;
            scope.spawn(beside(shared, move || tenants.run(db, shared)));
            for reader in readers {
                scope.spawn(reader);
            }
            for scanner in scanners {
                scope.spawn(scanner);
            }
            scope.spawn(beside(shared, move || maintain(db, shared, maintainer)));
            if let Some(disk) = disk {
                let source = of_round(4);
                scope.spawn(beside(shared, move || cut_power(disk, options, shared, source)));
            }
            let end = Instant::now() + ROUND.min(time);
            while Instant::now() < end && !shared.stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            shared.stop.store(true, Ordering::Relaxed);
        });
        check_all(&read_all(db.iter()).unwrap(), &shared.acknowledged.all(), &shared.begun.all());
        tenants.check(&db);
        let report = db.verify();
        assert!(report.is_ok(), "{report:?}");
        if rounds % 2 == 0 {
            db.close().unwrap();
        }
    }
    let commits: u64 = writers.iter().map(|writer| writer.commits).sum();
    println!("{rounds} rounds, {commits} commits");
}

/// The work of a thread; if it panics, the round ends, and the seed is printed.
fn beside<'s>(shared: &'s Shared, work: impl FnOnce() + 's) -> impl FnOnce() + 's {
    struct StopOnPanic<'s>(&'s Shared);

    impl Drop for StopOnPanic<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("STRESS_SEED={}", self.0.seed);
                self.0.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    move || {
        let _stop = StopOnPanic(shared);
        work();
    }
}

fn setting(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Half of the time for each disk.
fn time() -> Duration {
    Duration::from_millis(setting("STRESS_SECONDS").map_or(1500, |seconds| seconds * 500))
}

#[test]
fn on_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    run(setting("STRESS_SEED").unwrap_or(1), &dir.path().join(DIR), None, time());
}

#[test]
fn in_memory_with_power_cuts() {
    let disk = SimFs::new();
    run(setting("STRESS_SEED").unwrap_or(2), Path::new(DIR), Some(&disk), time());
}
