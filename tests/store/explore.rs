//! Crash points by the hundred thousand: random scripts on the simulated disk, cut off before each of their operations.
//!
//! A script runs once. At each operation the disk hands out a copy, and of each copy a few power cuts and the death of the
//! process are opened and compared with what may be left: every acknowledged `Sync` commit, a prefix of the commits, batches
//! whole, also those that write to two keyspaces, and a keyspace that was made or dropped. Some recoveries are cut off at each
//! of their operations in turn, three deep; after some, the program goes on. Checkpoints that have been made stay what they
//! are whatever happens to the database; one that was being made is whole, or none.
//!
//! `EXPLORE_POINTS=1000000 cargo test --test main store::explore -- --nocapture` goes on until there are so many; half of the
//! scripts follow from fixed seeds, the others from `EXPLORE_BASE`. `MAPLSM_SEED=n` replays one script.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use maplsm::{Db, ErrorKind, SimFs};

use crate::support::DIR;
use crate::support::model::{
    Driver, Format, History, Op, Place, Setup, Source, State, difference, read_state, second, state_difference,
};

/// Crash points of a test run that asks for no number.
const POINTS: u64 = 20_000;

/// Scripts after which there must have been everything that is counted: a run that asks for few crash points goes on until
/// that is so, since a script seldom makes or drops a keyspace.
const SCRIPTS_FOR_ALL: u64 = 100;

/// Operations of the model in a script.
const STEPS: usize = 16;

/// Power cuts of each copy of the disk.
const CUTS: u64 = 4;

/// One recovery in so many is cut off as well, and after one in so many the program goes on.
const NESTED: usize = 60;
const GOES_ON: usize = 60;

/// Of one crash in so many, the checkpoints are opened as well.
const CHECKPOINTS: usize = 8;

/// One image in so many is read in every way, and not only from front to back.
const READ_ALL_WAYS: usize = 12;

/// Of the operations of a recovery within a recovery, one in so many.
const FEW: usize = 4;

/// How often a recovery is cut off in its turn.
const DEPTH: usize = 3;

const REPLAY: &str = "cargo test --test main store::explore";

/// What has been done, for all threads.
#[derive(Default)]
struct Tally {
    scripts: AtomicU64,
    operations: AtomicU64,
    cuts: AtomicU64,
    kills: AtomicU64,
    nested: [AtomicU64; DEPTH],
    went_on: AtomicU64,
    checkpoints: AtomicU64,
    unfinished: AtomicU64,
    /// Crash points with a second keyspace, and those while one was being made or dropped.
    second: AtomicU64,
    naming: AtomicU64,
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

fn count_if(happened: bool, counter: &AtomicU64) {
    if happened {
        count(counter);
    }
}

impl Tally {
    /// Nested ones apart.
    fn points(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed) + self.kills.load(Ordering::Relaxed)
    }

    /// Whether there has been everything that must not go untested.
    fn has_all(&self) -> bool {
        let others = [&self.checkpoints, &self.unfinished, &self.second, &self.naming];
        self.nested.iter().chain(others).all(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// The states that a crash may leave, by their fingerprints.
struct Allowed {
    states: HashMap<u64, State>,
    newest: State,
}

impl Allowed {
    fn new(states: impl IntoIterator<Item = State>, newest: &State) -> Self {
        let states = states.into_iter().map(|state| (fingerprint(&state), state)).collect();
        Self { states, newest: newest.clone() }
    }

    /// A prefix of this history, and perhaps what is under way.
    fn prefix(before: &History, after: &History) -> Self {
        Self::new(before.states().into_iter().chain(after.states()), after.now())
    }

    /// Everything, and perhaps what is under way.
    fn complete(before: &History, after: &History) -> Self {
        Self::new([before.now().clone(), after.now().clone()], after.now())
    }
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (key, value) in &state.first {
        (key.as_slice(), value.as_slice()).hash(&mut hasher);
    }
    if let Some(second) = &state.second {
        "second".hash(&mut hasher);
        for (key, value) in second {
            (key.as_slice(), value.as_slice()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The same of what is there, read as it comes.
fn fingerprint_of(db: &Db) -> maplsm::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for entry in db {
        let entry = entry?;
        (entry.key(), entry.value()).hash(&mut hasher);
    }
    if let Some(second) = second(db)? {
        "second".hash(&mut hasher);
        for entry in &second {
            let entry = entry?;
            (entry.key(), entry.value()).hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

/// The checkpoints of a script: those that are there, and one that may be under way.
#[derive(Default)]
struct Checkpoints {
    made: Vec<(PathBuf, State)>,
    under_way: Option<(PathBuf, State)>,
}

/// One script and where it stands.
struct Explorer<'t> {
    tally: &'t Tally,
    seed: u64,
    setup: Setup,
    random: Source<'static>,
    checkpoints: Checkpoints,
    /// What is being looked at, for messages.
    place: String,
}

impl Explorer<'_> {
    fn open(&self, disk: &SimFs) -> Db {
        let opened = Place::Memory(disk.clone()).open(self.setup.options());
        opened.unwrap_or_else(|e| panic!("{} does not open: {e}; {}", self.place, self.replay()))
    }

    fn replay(&self) -> String {
        format!("to replay: MAPLSM_SEED={} {REPLAY}", self.seed)
    }

    fn draw(&mut self) -> u64 {
        self.random.below(1 << 32) as u64
    }

    /// Opens what a crash has left; answers the fingerprint of what is there, which must be allowed.
    fn check(&mut self, disk: &SimFs, allowed: &Allowed) -> u64 {
        let db = self.open(disk);
        let found = fingerprint_of(&db).unwrap_or_else(|e| panic!("{}: {e}; {}", self.place, self.replay()));
        let Some(state) = allowed.states.get(&found) else {
            let shown = state_difference(&read_state(&db, 1).unwrap(), &allowed.newest);
            panic!("{}: no allowed state, but {shown}; {}", self.place, self.replay());
        };
        count_if(state.second.is_some(), &self.tally.second);
        if self.random.below(READ_ALL_WAYS) == 0 {
            self.read_all_ways(&db, state);
        }
        // Nobody looks at the disk again, so closing it well would be a waste of time.
        disk.inject(maplsm::Fault::Halt { after: 1 });
        found
    }

    fn read_all_ways(&self, db: &Db, state: &State) {
        let spaces =
            [Some((db.keyspace("default").unwrap(), &state.first)), second(db).unwrap().zip(state.second.as_ref())];
        for (keyspace, map) in spaces.into_iter().flatten() {
            let back = keyspace.iter().rev().map(|entry| entry.map(|e| (e.key().to_vec(), e.value().to_vec())));
            let back = back.collect::<maplsm::Result<_>>().unwrap();
            assert!(back == *map, "{}, backwards: {}; {}", self.place, difference(&back, map), self.replay());
            for (key, value) in map {
                let read = keyspace.get(key).unwrap();
                assert!(read.as_deref() == Some(&value[..]), "{}: {key:?}; {}", self.place, self.replay());
            }
        }
        let report = db.verify();
        assert!(report.is_ok(), "{}: {:?}; {}", self.place, report.problems, self.replay());
    }

    /// A checkpoint that was made is there and right. One that was being made is right, or it says that it is none.
    fn check_checkpoints(&mut self, disk: &SimFs) {
        let Checkpoints { made, under_way } = std::mem::take(&mut self.checkpoints);
        let options = |disk: SimFs| self.setup.options().file_system(disk).clone();
        for (path, state) in &made {
            count(&self.tally.checkpoints);
            let copy = options(disk.kill()).create_if_missing(false).open(path);
            let copy = copy.unwrap_or_else(|e| panic!("{}: {}: {e}; {}", self.place, path.display(), self.replay()));
            self.compare_checkpoint(&copy, state);
        }
        if let Some((path, state)) = &under_way {
            let looks = options(disk.kill()).create_if_missing(false).open(path);
            match looks {
                Ok(copy) => self.compare_checkpoint(&copy, state),
                Err(e) => {
                    count(&self.tally.unfinished);
                    let none =
                        e.kind() == ErrorKind::NotFound || e.is_corruption() && e.to_string().contains("CURRENT");
                    assert!(none, "{}: {} is not finished: {e}; {}", self.place, path.display(), self.replay());
                }
            }
        }
        self.checkpoints = Checkpoints { made, under_way };
    }

    fn compare_checkpoint(&self, copy: &Db, state: &State) {
        let found = read_state(copy, 1).unwrap_or_else(|e| panic!("{}: {e}; {}", self.place, self.replay()));
        let shown = || format!("{}: a checkpoint: {}; {}", self.place, state_difference(&found, state), self.replay());
        assert!(found == *state, "{}", shown());
        let report = copy.verify();
        assert!(report.is_ok(), "{}: a checkpoint: {:?}; {}", self.place, report.problems, self.replay());
    }

    /// Everything that a crash at one moment may leave, or a few of all.
    fn crash_here(&mut self, copy: &SimFs, prefix: &Allowed, complete: &Allowed) {
        let step = std::mem::take(&mut self.place);
        for _ in 0..CUTS {
            let cut = self.draw();
            self.place = format!("{step}, power cut {cut}");
            count(&self.tally.cuts);
            self.crash(&copy.power_cut(cut), prefix, prefix);
        }
        self.place = format!("{step}, killed");
        count(&self.tally.kills);
        self.crash(copy, complete, prefix);
        self.place = step;
    }

    /// `at_last` is what a power cut in the recovery may leave, which the death of a process does not protect from.
    fn crash(&mut self, disk: &SimFs, allowed: &Allowed, at_last: &Allowed) {
        self.check(&disk.kill(), allowed);
        if self.random.below(CHECKPOINTS) == 0 {
            self.check_checkpoints(disk);
        }
        if self.random.below(NESTED) == 0 {
            self.crash_in_recovery(disk, at_last, 0);
        }
        if self.random.below(GOES_ON) == 0 {
            self.go_on(&disk.kill());
        }
    }

    /// Cuts the recovery of this disk off before each of its operations.
    fn crash_in_recovery(&mut self, disk: &SimFs, allowed: &Allowed, depth: usize) {
        let disk = disk.kill();
        let copies = watch(&disk);
        let db = self.open(&disk);
        let shown = fingerprint_of(&db).unwrap();
        let mut copies = std::mem::take(&mut *copies.lock().unwrap());
        let during = copies.len();
        copies.push(disk.kill());
        disk.inject(maplsm::Fault::Halt { after: 1 });
        drop(db);
        let outer = self.place.clone();
        let chosen = self.random.below(copies.len());
        for (at, copy) in copies.iter().enumerate() {
            // Of the deeper levels a few each, or there would be no end.
            let few = at % FEW == chosen % FEW;
            if depth > 0 && !few && at != during {
                continue;
            }
            let cut = self.draw();
            self.place = format!("{outer}, recovery {depth} stopped at {at}, cut {cut}");
            let left = copy.power_cut(cut);
            count(&self.tally.nested[depth]);
            let found = self.check(&left.kill(), allowed);
            assert!(at < during || found == shown, "{}: what an open has shown is gone; {}", self.place, self.replay());
            if depth + 1 < DEPTH && if depth == 0 { few } else { at == chosen } {
                self.crash_in_recovery(&left, allowed, depth + 1);
            }
        }
        self.place = outer;
    }

    /// The next program writes, and leaves a directory in order.
    fn go_on(&mut self, disk: &SimFs) {
        count(&self.tally.went_on);
        let db = self.open(disk);
        let mut history = History::default();
        history.reopened(read_state(&db, 1).unwrap());
        drop(db);
        let place = Place::Memory(disk.clone());
        let replay = format!("{}; {}", self.place, self.replay());
        let mut driver = Driver::with_history(place, self.setup, history, replay).unwrap();
        driver.stamp = 1_000_000;
        for _ in 0..4 {
            let op = driver.draw_change(&mut self.random);
            driver.apply(op);
        }
        driver.db().insert("one", "more").unwrap();
        driver.apply(Op::Compact);
        let stats = driver.db().stats();
        let (tables, values) = (stats.tables.len(), stats.value_files.len());
        let left = driver.db().verify().leftovers;
        assert!(left.is_empty(), "{}: leftovers: {left:?}; {}", self.place, self.replay());
        driver.db().close().unwrap();
        let names: Vec<String> = disk.files(Path::new(DIR)).into_iter().map(|(name, _)| name).collect();
        let count = |ending: &str| names.iter().filter(|name| name.ends_with(ending)).count();
        let [sst, idx, val] = [".sst", ".idx", ".val"].map(count);
        let found = (sst, idx, val, count(".manifest"), count(".wal"), count("CURRENT.new"));
        assert!(found == (tables, tables, values, 1, 0, 0), "{}: leftovers: {names:?}; {}", self.place, self.replay());
    }
}

/// Collects copies of the disk, one for each of its operations from now on.
pub(super) fn watch(disk: &SimFs) -> Arc<Mutex<Vec<SimFs>>> {
    let copies = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&copies);
    disk.watch(move |copy| to.lock().unwrap().push(copy));
    copies
}

/// Plays one script and all its crash points.
fn explore(seed: u64, tally: &Tally) {
    let mut random = Source::Random(seed ^ 0x6372_6173);
    let setup = Setup::draw(&mut random, Format::of(seed), 0);
    let disk = SimFs::with_seed(seed);
    let copies = watch(&disk);
    let checkpoints = Checkpoints::default();
    let mut explorer = Explorer { tally, seed, setup, random, checkpoints, place: String::new() };
    let mut driver = Driver::new(Place::Memory(disk.clone()), setup, explorer.replay());
    let mut before = History::default();
    let mut last = "opening".to_owned();
    for step in 0..=STEPS {
        let after = driver.history.clone();
        explorer.checkpoints.under_way = driver.checkpoints.get(explorer.checkpoints.made.len()).cloned();
        let naming = before.now().second.is_some() != after.now().second.is_some();
        let taken = std::mem::take(&mut *copies.lock().unwrap());
        if !taken.is_empty() {
            let (prefix, complete) = (Allowed::prefix(&before, &after), Allowed::complete(&before, &after));
            for (at, copy) in taken.iter().enumerate() {
                count(&tally.operations);
                count_if(naming, &tally.naming);
                explorer.place = format!("step {step}, {last}, before operation {at} of {}", taken.len());
                explorer.crash_here(copy, &prefix, &complete);
            }
        }
        before = after;
        explorer.checkpoints = Checkpoints { made: driver.checkpoints.clone(), under_way: None };
        if step < STEPS {
            let source = &mut explorer.random;
            let op = match source.below(20) {
                0 => Op::Take,
                1 => Op::LookAll(source.below(4)),
                2 => Op::Reopen(explorer.setup),
                3 => Op::Checkpoint,
                _ => driver.draw_change(source),
            };
            last = format!("{op:?}");
            driver.apply(op);
        }
    }
    "the end".clone_into(&mut explorer.place);
    let (prefix, complete) = (Allowed::prefix(&before, &before), Allowed::complete(&before, &before));
    explorer.crash_here(&disk.kill(), &prefix, &complete);
    count(&tally.scripts);
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let tally = Tally::default();
    if let Some(seed) = number("MAPLSM_SEED") {
        return explore(seed, &tally);
    }
    let goal = number("EXPLORE_POINTS").unwrap_or(POINTS);
    let base = number("EXPLORE_BASE").unwrap_or(1 << 32);
    let begun = Instant::now();
    let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let is_enough = || tally.points() >= goal;
                while !is_enough() || (!tally.has_all() && value(&next) < SCRIPTS_FOR_ALL) {
                    let script = count(&next);
                    explore(script / 2 + if script.is_multiple_of(2) { 0 } else { base }, &tally);
                }
            });
        }
    });
    let nested: Vec<u64> = tally.nested.iter().map(value).collect();
    println!(
        "crash points: {} ({} power cuts, {} kills) at {} operations of {} scripts; in recovery: {nested:?}; gone on: {}; {} s",
        tally.points(),
        value(&tally.cuts),
        value(&tally.kills),
        value(&tally.operations),
        value(&tally.scripts),
        value(&tally.went_on),
        begun.elapsed().as_secs(),
    );
    let [checkpoints, unfinished] = [&tally.checkpoints, &tally.unfinished].map(value);
    let [second, naming] = [&tally.second, &tally.naming].map(value);
    println!(
        "of them with a second keyspace: {second}; at operations that make or drop it: {naming}; \
         checkpoints opened: {checkpoints}; of unfinished ones, none: {unfinished}",
    );
    assert!(tally.has_all());
}
