//! The keyspace that has the state, its generations, and readers of it.
//!
//! A snapshot is installed into a keyspace of the next generation, and one batch says that this is the state from then on. The
//! one before it is retired, and dropped when nobody reads it any more.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use maplsm::{Db, Durability, Keyspace, KeyspaceOptions, Slice};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::group::{Shared, drop_if_there, existing_or_new};
use crate::record::Record;

/// The generations that there may be: these, those between, and the one after `current` if an installation was cut off.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct GenerationRecord {
    pub(crate) oldest: u64,
    pub(crate) current: u64,
}

/// A keyspace that is or was the state, or is to be.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) keyspace: Keyspace,
}

/// The generations of the state.
pub(crate) struct States {
    db: Db,
    group: String,
    options: KeyspaceOptions,
    generations: Mutex<Generations>,
}

struct Generations {
    current: Arc<Generation>,
    /// Kept for those who read them. Nobody gets hold of one anew.
    retired: Vec<Arc<Generation>>,
}

impl States {
    pub(crate) fn keyspace_name(group: &str, number: u64) -> String {
        format!("{group}/state/{number}")
    }

    /// The state of a new group.
    pub(crate) fn create(shared: &Shared, group: &str, options: &KeyspaceOptions) -> Result<Self> {
        let record = GenerationRecord::default();
        shared.write(Record::Generation, &record, Durability::Sync)?;
        let keyspace = existing_or_new(&shared.db, &Self::keyspace_name(group, record.current), options)?;
        Ok(Self::new(shared, group, options, Generation { number: record.current, keyspace }))
    }

    pub(crate) fn open(shared: &Shared, group: &str, options: &KeyspaceOptions) -> Result<Self> {
        let record = shared.read::<GenerationRecord>(Record::Generation)?;
        let record = record.ok_or(Error::Malformed { record: Record::Generation, problem: "it is gone" })?;
        let unfinished = record.current.saturating_add(1);
        for number in (record.oldest..record.current).chain([unfinished]) {
            drop_if_there(&shared.db, &Self::keyspace_name(group, number))?;
        }
        if record.oldest != record.current {
            let record = GenerationRecord { oldest: record.current, ..record };
            shared.write(Record::Generation, &record, Durability::Buffered)?;
        }
        let name = Self::keyspace_name(group, record.current);
        // One that had to be made is none that had the state.
        match shared.db.create_keyspace(&name, options) {
            Err(maplsm::Error::KeyspaceExists { .. }) => {
                let keyspace = shared.db.keyspace(&name)?;
                Ok(Self::new(shared, group, options, Generation { number: record.current, keyspace }))
            }
            Err(e) => Err(e.into()),
            Ok(_) => {
                drop_if_there(&shared.db, &name)?;
                Err(Error::KeyspaceGone { name })
            }
        }
    }

    fn new(shared: &Shared, group: &str, options: &KeyspaceOptions, current: Generation) -> Self {
        let generations = Generations { current: Arc::new(current), retired: Vec::new() };
        Self {
            db: shared.db.clone(),
            group: group.to_owned(),
            options: options.clone(),
            generations: Mutex::new(generations),
        }
    }

    pub(crate) fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.generations.lock().current)
    }

    /// An empty keyspace for the next generation.
    pub(crate) fn begin(&self) -> Result<Generation> {
        let number = self.current().number.saturating_add(1);
        let name = Self::keyspace_name(&self.group, number);
        drop_if_there(&self.db, &name)?;
        Ok(Generation { number, keyspace: self.db.create_keyspace(&name, &self.options)? })
    }

    /// Removes what was begun and has not become the state.
    pub(crate) fn abandon(&self, begun: &Generation) -> Result<()> {
        drop_if_there(&self.db, begun.keyspace.name())
    }

    /// The record that makes a generation the state.
    pub(crate) fn record_of(&self, next: &Generation) -> GenerationRecord {
        let generations = self.generations.lock();
        let oldest = generations.retired.iter().map(|retired| retired.number).min();
        GenerationRecord { oldest: oldest.unwrap_or(generations.current.number), current: next.number }
    }

    /// Shows a generation, whose record has been committed, to readers.
    pub(crate) fn switch(&self, next: Generation) {
        let mut generations = self.generations.lock();
        let before = std::mem::replace(&mut generations.current, Arc::new(next));
        generations.retired.push(before);
    }

    /// Drops retired generations that nobody reads any more.
    pub(crate) fn sweep(&self) -> Result<()> {
        let unread: Vec<_> = {
            let mut generations = self.generations.lock();
            generations.retired.extract_if(.., |retired| Arc::strong_count(retired) == 1).collect()
        };
        unread.iter().try_for_each(|retired| drop_if_there(&self.db, retired.keyspace.name()))
    }
}

/// Reads the state of a group; from [`StateMachine::reader`](crate::StateMachine::reader).
///
/// It reads what this node has applied. For a read that is linearizable, ask openraft first
/// ([`Raft::ensure_linearizable`](openraft::Raft::ensure_linearizable)). Cheap to clone.
#[derive(Clone)]
pub struct StateReader {
    states: Arc<States>,
}

impl fmt::Debug for StateReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateReader({:?})", self.states.current())
    }
}

impl StateReader {
    pub(crate) fn new(states: Arc<States>) -> Self {
        Self { states }
    }

    /// The value of a key in the state as it is now.
    pub fn get(&self, key: impl AsRef<[u8]>) -> maplsm::Result<Option<Slice>> {
        self.states.current().keyspace.get(key)
    }

    /// The state as it is now, to read from as long as this lives: all entries up to one, and nothing of later ones or of a
    /// snapshot that is installed meanwhile.
    pub fn snapshot(&self) -> StateSnapshot {
        let generation = self.states.current();
        StateSnapshot { snapshot: generation.keyspace.snapshot(), _generation: generation }
    }
}

/// The state of a group at one moment. What can be read is what a [`maplsm::Snapshot`] has.
///
/// Versions that it sees, and a state that has been replaced by a snapshot of the leader, are kept on disk while it lives.
#[derive(Clone)]
pub struct StateSnapshot {
    snapshot: maplsm::Snapshot,
    _generation: Arc<Generation>,
}

impl fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot.fmt(f)
    }
}

impl Deref for StateSnapshot {
    type Target = maplsm::Snapshot;

    fn deref(&self) -> &maplsm::Snapshot {
        &self.snapshot
    }
}
