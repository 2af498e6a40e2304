//! Applies operations to a database and to its history.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use maplsm::operators::Append;
use maplsm::{Db, Durability, Entry, Error, Keyspace, KeyspaceOptions, SimFs, Slice, Snapshot, WriteBatch};

use super::Map;
use super::history::{Doubt, History, State, difference, state_difference};
use super::operation::{Change, Commit, How, Op, Space};
use super::place::{Place, SECOND, keyspace, read_all, read_state, second};
use super::setup::Setup;
use super::submitted::Submitted;
use super::walk::{Aligned, Position, Walk};

/// Applies operations to both.
pub(crate) struct Driver {
    pub(super) place: Place,
    pub(super) db: Option<Db>,
    pub(super) keyspace: Option<Keyspace>,
    pub(super) second: Option<Keyspace>,
    pub(super) aligned: Aligned,
    pub(super) setup: Setup,
    pub(crate) history: History,
    /// Checkpoints that have been made on the simulated disk, and what is in them.
    pub(crate) checkpoints: Vec<(PathBuf, State)>,
    pub(super) snapshots: Vec<(Snapshot, Map)>,
    pub(super) walks: Vec<Walk>,
    pub(super) positions: Vec<Position>,
    pub(super) held: Vec<(Slice, Vec<u8>)>,
    pub(super) submitted: Submitted,
    /// Numbers values and copies; whoever goes on with a disk of another driver begins at another one.
    pub(crate) stamp: u64,
    pub(super) step: u64,
    pub(super) trace: VecDeque<Op>,
    /// How to see a failure again.
    pub(super) replay: String,
    /// Whether most checks are short: a fuzzer finds more in many small runs.
    pub(super) quick: bool,
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
            submitted: Submitted::default(),
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

    pub(super) fn keyspace(&self) -> &Keyspace {
        self.keyspace.as_ref().expect("the database is open")
    }

    pub(super) fn sim(&self) -> Option<&SimFs> {
        match &self.place {
            Place::Memory(fs) => Some(fs),
            Place::Disk(_) => None,
        }
    }

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
            | Op::Sync
            | Op::Await(_) => {
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
        let done = self.do_it(op);
        self.submitted.hear(&mut self.history);
        if done.is_ok() && self.setup.threads == 0 && matches!(op, Op::Sync | Op::Maintain) {
            self.submitted.check_all_heard();
        }
        done
    }

    fn do_it(&mut self, op: &Op) -> maplsm::Result<()> {
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
            Op::Await(slot) => {
                if let Some((number, commit)) = self.submitted.take(*slot) {
                    commit.wait()?;
                    assert!(commit.is_durable());
                    self.history.synced_through(number);
                }
                return Ok(());
            }
            _ => return Ok(()),
        }
        // Each of them leaves nothing behind that is in the page cache only.
        self.history.synced();
        Ok(())
    }

    /// The keyspace, if it is there.
    pub(super) fn space(&self, space: Space) -> Option<&Keyspace> {
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
        let mut commit: Commit = there.iter().map(|(_, space, change)| (*space, (*change).clone())).collect();
        let mut submitted = None;
        let written = match (how, there.as_slice()) {
            (How::Single, [(keyspace, space, Change::Insert(key, value))]) => {
                self.insert(keyspace, self.history.now.of(*space).get(key), key, value)
            }
            (How::Single, [(keyspace, space, Change::Remove(key))]) => {
                let now = self.history.now.of(*space);
                let (key, removed) = self.remove(keyspace, now, key);
                commit = vec![(*space, Change::Remove(key))];
                removed
            }
            (How::Single, [(keyspace, _, Change::Merge(key, operand))]) => keyspace.merge(key, operand),
            (How::Single, [(keyspace, _, Change::RemoveRange(range))]) => keyspace.remove_range(range.clone()),
            _ => {
                let mut batch = WriteBatch::new();
                for (keyspace, _, change) in there {
                    match change {
                        Change::Insert(key, value) => batch.insert_into(keyspace, key, value),
                        Change::Remove(key) => batch.remove_from(keyspace, key),
                        Change::Merge(key, operand) => batch.merge_into(keyspace, key, operand),
                        Change::RemoveRange(range) => batch.remove_range_from(keyspace, range.clone()),
                    };
                }
                match how {
                    How::With(durability) => db.write_with(&batch, durability),
                    How::Single | How::Batch => db.write(&batch),
                    How::Submitted => db.submit(&batch).map(|commit| submitted = Some(commit)),
                }
            }
        };
        let durable = match how {
            How::With(durability) => durability == Durability::Sync,
            How::Submitted => false,
            How::Single | How::Batch => self.setup.durability == Durability::Sync,
        };
        if commit.is_empty() {
            if durable && written.is_ok() {
                self.history.synced();
            }
            return written;
        }
        match written {
            Ok(()) => {
                self.history.committed(commit, durable);
                if let Some(commit) = submitted {
                    self.submitted.add(self.history.made, commit);
                }
            }
            Err(_) => self.history.failed(Doubt::Commit(commit)),
        }
        written
    }

    /// Sets a value, in one of the ways to do that, each of which sees what is there.
    fn insert(&self, keyspace: &Keyspace, now: Option<&Vec<u8>>, key: &[u8], value: &[u8]) -> maplsm::Result<()> {
        let now = now.map(|now| &now[..]);
        match self.stamp % 8 {
            0 => keyspace
                .update(key, |old| {
                    assert_eq!(old, now, "what an update sees");
                    Some(value)
                })
                .map(|new| assert_eq!(new, Some(value))),
            1 => {
                let old = keyspace.fetch_update(key, |_| Some(value))?;
                assert_eq!(old.as_deref(), now, "what an update returns");
                Ok(())
            }
            2 => {
                assert!(keyspace.compare_and_swap(key, Some(b"none has this value"), Some(value))?.is_err());
                keyspace.compare_and_swap(key, now, Some(value)).map(|swapped| swapped.expect("the value is known"))
            }
            3 if now.is_none() => {
                keyspace.insert_if_absent(key, value).map(|old| assert!(old.is_none(), "an absent key has a value"))
            }
            _ => keyspace.insert(key, value),
        }
    }

    /// Removes a key, or that at one end, in one of the ways to do that; returns which one.
    fn remove(&self, keyspace: &Keyspace, now: &Map, key: &[u8]) -> (Vec<u8>, maplsm::Result<()>) {
        let pop = |expected: Option<(&Vec<u8>, &Vec<u8>)>, popped: maplsm::Result<Option<Entry>>| {
            let (key, value) = expected.expect("the map is not empty");
            let is_it = |entry: Entry| assert!(entry.key() == key && entry.value() == value, "an end: {entry:?}");
            (key.clone(), popped.map(|entry| is_it(entry.expect("the keyspace is not empty"))))
        };
        match self.stamp % 6 {
            0 if !now.is_empty() => pop(now.first_key_value(), keyspace.pop_first()),
            1 if !now.is_empty() => pop(now.last_key_value(), keyspace.pop_last()),
            // What is not there is not removed, and so nothing is made durable.
            2 if now.contains_key(key) => {
                let taken = keyspace.take(key);
                let is_it = |value: Option<Slice>| assert_eq!(value.as_deref(), now.get(key).map(|value| &value[..]));
                (key.to_vec(), taken.map(is_it))
            }
            _ => (key.to_vec(), keyspace.remove(key)),
        }
    }

    pub(super) fn ingest(&mut self, space: Space, entries: &Map) -> maplsm::Result<()> {
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

    pub(super) fn create_second(&mut self) -> maplsm::Result<()> {
        if self.second.is_some() {
            return Ok(());
        }
        let made = match second(self.db()) {
            Ok(None) => self.db().create_keyspace(SECOND, KeyspaceOptions::new().merge_operator(Append)),
            there => there.and_then(|there| there.map_or_else(|| self.db().keyspace(SECOND), Ok)),
        };
        match made {
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

    pub(super) fn drop_second(&mut self) -> maplsm::Result<()> {
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
    pub(super) fn checkpoint(&mut self) -> maplsm::Result<()> {
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
}

/// Adds to a few, in place of the oldest.
pub(super) fn put<T>(to: &mut Vec<T>, item: T, most: usize) {
    if to.len() == most {
        to.remove(0);
    }
    to.push(item);
}
