//! Registers by name: the state machine of the tests.

use std::error::Error;
use std::path::Path;

use maplsm::{Db, Options};
use maplsm_openraft::{Apply, Group, LogStore, SnapshotFile, StateMachine, StateTransaction};
use openraft::storage::RaftLogStorageExt;
use openraft::{BasicNode, CommittedLeaderId, Entry, EntryPayload, LogId};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Request,
        R = Response,
        NodeId = u64,
        Node = BasicNode,
        SnapshotData = SnapshotFile,
);

/// What a client may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    Set { key: String, value: u64 },
    Swap { key: String, from: Option<u64>, to: u64 },
    Fail,
}

/// The value before, and whether it was replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) before: Option<u64>,
    pub(crate) done: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Registers;

pub(crate) fn number(bytes: &[u8]) -> Result<u64, Box<dyn Error + Send + Sync>> {
    Ok(u64::from_be_bytes(bytes.try_into()?))
}

impl Apply<Types> for Registers {
    fn apply(
        &self,
        state: &mut StateTransaction<'_>,
        entry: Entry<Types>,
    ) -> Result<Response, Box<dyn Error + Send + Sync>> {
        let EntryPayload::Normal(request) = entry.payload else { return Ok(Response::default()) };
        let (key, only_if, value) = match request {
            Request::Set { key, value } => (key, None, value),
            Request::Swap { key, from, to } => (key, Some(from), to),
            Request::Fail => return Err("told to fail".into()),
        };
        let before = state.get(&key)?.map(|value| number(&value)).transpose()?;
        let done = only_if.is_none_or(|expected| expected == before);
        if done {
            state.insert(&key, value.to_be_bytes())?;
        }
        Ok(Response { before, done })
    }
}

pub(crate) type Log = LogStore<Types>;
pub(crate) type Machine = StateMachine<Types, Registers>;

/// A directory in memory where there is one, since what is on the simulated disk needs no other.
pub(crate) fn temp_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// As many seeds, or the one of `MAPLSM_SEED`; printed, so that a failure shows which one it was.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let given = std::env::var("MAPLSM_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = given.map_or(1..=count, |seed| seed..=seed);
    seeds.inspect(|seed| println!("MAPLSM_SEED={seed}"))
}

/// No background threads and small memtables: what happens is the same each time, and much of it.
pub(crate) fn small() -> Options {
    Options::new().background_threads(0).memtable_bytes(64 << 10).clone()
}

pub(crate) fn open(db: &Db, dir: &Path) -> (Log, Machine) {
    Group::new("group", dir.join("snapshots")).open(db, Registers).unwrap()
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(term, 0), index)
}

pub(crate) fn blank(term: u64, index: u64) -> Entry<Types> {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Blank }
}

pub(crate) fn set(term: u64, index: u64, key: &str, value: u64) -> Entry<Types> {
    let payload = EntryPayload::Normal(Request::Set { key: key.to_owned(), value });
    Entry { log_id: log_id(term, index), payload }
}

pub(crate) async fn append(log: &mut Log, entries: impl IntoIterator<Item = Entry<Types>>) {
    log.blocking_append(entries.into_iter().collect::<Vec<_>>()).await.unwrap();
}

/// Splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
