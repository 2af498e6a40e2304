//! A Raft group: what it is called, where it is, and how it is opened and removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use maplsm::{Db, Durability, Keyspace, KeyspaceOptions, WriteBatch};
use openraft::RaftTypeConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::apply::Apply;
use crate::error::{Error, Result};
use crate::log::LogStore;
use crate::machine::StateMachine;
use crate::record::Record;
use crate::snapshot::{Directory, SnapshotFile};
use crate::state::{GenerationRecord, States};

/// What is open of a group: shared by its log, its state machine and their readers.
pub(crate) struct Shared {
    pub(crate) db: Db,
    pub(crate) log: Keyspace,
    pub(crate) meta: Keyspace,
    pub(crate) apply_durability: Durability,
}

impl Shared {
    /// A record of `meta` as it is in a snapshot of it.
    pub(crate) fn read_at<T: DeserializeOwned>(meta: &maplsm::Snapshot, record: Record) -> Result<Option<T>> {
        meta.get(record.key())?.map(|bytes| record.decode(&bytes)).transpose()
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, record: Record) -> Result<Option<T>> {
        self.meta.get(record.key())?.map(|bytes| record.decode(&bytes)).transpose()
    }

    pub(crate) fn put(&self, batch: &mut WriteBatch, record: Record, value: &impl Serialize) -> Result<()> {
        batch.insert_into(&self.meta, record.key(), record.encode(value)?);
        Ok(())
    }

    pub(crate) fn write(&self, record: Record, value: &impl Serialize, durability: Durability) -> Result<()> {
        let mut batch = WriteBatch::new();
        self.put(&mut batch, record, value)?;
        Ok(self.db.write_with(&batch, durability)?)
    }
}

/// A Raft group in a database: its name, the directory of its snapshots, and options. One database holds any number of them,
/// which share its log and so its syncs.
///
/// The name begins the names of the group's keyspaces, `NAME/log`, `NAME/meta` and `NAME/state/0` (another number after each
/// snapshot that was installed); nothing else may touch those. Snapshots are files in a directory of the group's own, which
/// is made in the one given here: several groups may be given the same. It belongs on the file system of the database, but not
/// into its directory, which is the database's alone.
///
/// ```no_run
/// # use maplsm_openraft::{Apply, Group, SnapshotFile, StateTransaction};
/// # openraft::declare_raft_types!(pub Types: D = u64, R = u64, SnapshotData = SnapshotFile);
/// # struct Sum;
/// # impl Apply<Types> for Sum {
/// #     fn apply(&self, _: &mut StateTransaction<'_>, _: openraft::Entry<Types>)
/// #         -> Result<u64, Box<dyn std::error::Error + Send + Sync>> { Ok(0) }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let db = maplsm::Db::open("node-1/db")?;
/// let (log, state) = Group::new("orders", "node-1/snapshots").open::<Types, _>(&db, Sum)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Group {
    name: String,
    snapshots: PathBuf,
    apply_durability: Durability,
    log_options: KeyspaceOptions,
    state_options: KeyspaceOptions,
}

impl Group {
    /// A group with the default options. See the type for what name and directory are.
    pub fn new(name: impl Into<String>, snapshots: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            snapshots: snapshots.into(),
            apply_durability: Durability::Buffered,
            log_options: KeyspaceOptions::new(),
            state_options: KeyspaceOptions::new(),
        }
    }

    /// How durable applied entries are when they are acknowledged. Default: `Buffered`, which loses nothing: entries that
    /// are applied are durable in the log, which keeps them at least until the state that has them is durable, as both are in
    /// one database. After a power cut the state may have gone back by a few entries, which openraft applies again when the
    /// node starts. With `Sync`, a node that has shown a state without asking the leader (a read that is not linearizable)
    /// never goes back behind it, for one sync each time that entries are applied.
    pub fn apply_durability(&mut self, durability: Durability) -> &mut Self {
        self.apply_durability = durability;
        self
    }

    /// Options of the keyspace that has the log. They count when the group is made.
    pub fn log_options(&mut self, options: &KeyspaceOptions) -> &mut Self {
        self.log_options = options.clone();
        self
    }

    /// Options of the keyspace that has the state. They count when the group is made, and each time that a snapshot is
    /// installed, which makes a new one.
    pub fn state_options(&mut self, options: &KeyspaceOptions) -> &mut Self {
        self.state_options = options.clone();
        self
    }

    /// Opens the group, and makes it if it is not there: what [`openraft::Raft::new`] takes. Removes what a crash has left of
    /// an installation or a snapshot that was not finished.
    ///
    /// A group may be open once at a time. Blocks for a few syncs if the group is made, and otherwise for a few reads.
    ///
    /// # Errors
    /// [`Error::Store`] and [`Error::Io`]; [`Error::KeyspaceGone`], [`Error::Undecodable`], [`Error::Malformed`] and
    /// [`Error::UnknownVersion`] for a group that is not as this crate and this program have left it.
    pub fn open<C, A>(&self, db: &Db, apply: A) -> Result<(LogStore<C>, StateMachine<C, A>)>
    where
        C: RaftTypeConfig<SnapshotData = SnapshotFile>,
        C::Entry: Serialize + DeserializeOwned,
        A: Apply<C>,
    {
        let mut shared = self.open_keyspaces(db)?;
        let states = if shared.read::<()>(Record::Format)?.is_some() {
            States::open(&shared, &self.name, &self.state_options)?
        } else {
            if shared.read::<GenerationRecord>(Record::Generation)?.is_some() {
                // Never finished, or half removed.
                self.remove_keyspaces(db, &shared)?;
                shared = self.open_keyspaces(db)?;
            }
            let states = States::create(&shared, &self.name, &self.state_options)?;
            shared.write(Record::Format, &(), Durability::Sync)?;
            states
        };
        let shared = Arc::new(shared);
        let directory = Directory::open::<C>(Arc::clone(&shared), &self.directory())?;
        let log = LogStore::new(Arc::clone(&shared));
        Ok((log, StateMachine::new(shared, apply, Arc::new(states), Arc::new(directory))))
    }

    /// Removes the group with all that it has, durably: for a node that has left the group for good. It must not be open.
    /// If this is interrupted, the next open makes the group anew, and another removal goes on.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Io`], and those of an [`open`](Self::open) for records that do not decode.
    pub fn remove(&self, db: &Db) -> Result<()> {
        let shared = self.open_keyspaces(db)?;
        let mut batch = WriteBatch::new();
        batch.remove_from(&shared.meta, Record::Format.key());
        db.write_with(&batch, Durability::Sync)?;
        self.remove_keyspaces(db, &shared)?;
        let directory = self.directory();
        match std::fs::remove_dir_all(&directory) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &directory)(e)),
            _ => Ok(()),
        }
    }

    fn open_keyspaces(&self, db: &Db) -> Result<Shared> {
        let meta = existing_or_new(db, &format!("{}/meta", self.name), &KeyspaceOptions::new())?;
        let log = existing_or_new(db, &format!("{}/log", self.name), &self.log_options)?;
        Ok(Shared { db: db.clone(), log, meta, apply_durability: self.apply_durability })
    }

    /// `meta` goes last: it knows which other ones there are.
    fn remove_keyspaces(&self, db: &Db, shared: &Shared) -> Result<()> {
        let generations = shared.read::<GenerationRecord>(Record::Generation)?.unwrap_or_default();
        for number in generations.oldest..=generations.current.saturating_add(1) {
            drop_if_there(db, &States::keyspace_name(&self.name, number))?;
        }
        drop_if_there(db, shared.log.name())?;
        drop_if_there(db, shared.meta.name())
    }

    /// No name of a group is a path.
    fn directory(&self) -> PathBuf {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let name = self.name.bytes();
        let name: String =
            name.map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }).collect();
        Path::new(&self.snapshots).join(name)
    }
}

pub(crate) fn existing_or_new(db: &Db, name: &str, options: &KeyspaceOptions) -> Result<Keyspace> {
    match db.create_keyspace(name, options) {
        Err(maplsm::Error::KeyspaceExists { .. }) => Ok(db.keyspace(name)?),
        created => Ok(created?),
    }
}

pub(crate) fn drop_if_there(db: &Db, name: &str) -> Result<()> {
    match db.drop_keyspace(name) {
        Ok(()) | Err(maplsm::Error::KeyspaceNotFound { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
