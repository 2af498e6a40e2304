//! Storage of [openraft] 0.9 on [maplsm]: the log, the vote, the state machine and the snapshots of any number
//! of Raft groups in one database.
//!
//! A program supplies how an entry changes the state ([`Apply`]), and gives what [`Group::open`] returns to
//! [`openraft::Raft::new`]. Its type configuration says `SnapshotData = SnapshotFile`; all else is its own.
//!
//! ```
//! use std::error::Error;
//! use std::sync::Arc;
//!
//! use maplsm::Db;
//! use maplsm_openraft::{Apply, Group, SnapshotFile, StateTransaction};
//! use openraft::{BasicNode, Config, Entry, EntryPayload, Raft};
//!
//! openraft::declare_raft_types!(pub Types: D = (String, String), R = bool, SnapshotData = SnapshotFile);
//!
//! /// Keys and values; the response says whether the key was there before.
//! struct Pairs;
//!
//! impl Apply<Types> for Pairs {
//!     fn apply(
//!         &self,
//!         state: &mut StateTransaction<'_>,
//!         entry: Entry<Types>,
//!     ) -> Result<bool, Box<dyn Error + Send + Sync>> {
//!         let EntryPayload::Normal((key, value)) = entry.payload else { return Ok(false) };
//!         let was_there = state.contains_key(&key)?;
//!         state.insert(key, value)?;
//!         Ok(was_there)
//!     }
//! }
//!
//! # struct NoNetwork;
//! # type Failure<E> = openraft::error::RPCError<u64, BasicNode, openraft::error::RaftError<u64, E>>;
//! # fn nobody<E: Error>() -> Failure<E> {
//! #     let gone = std::io::Error::from(std::io::ErrorKind::NotConnected);
//! #     openraft::error::RPCError::Unreachable(openraft::error::Unreachable::new(&gone))
//! # }
//! # impl openraft::RaftNetworkFactory<Types> for NoNetwork {
//! #     type Network = Self;
//! #     async fn new_client(&mut self, _: u64, _: &BasicNode) -> Self { Self }
//! # }
//! # impl openraft::RaftNetwork<Types> for NoNetwork {
//! #     async fn append_entries(
//! #         &mut self, _: openraft::raft::AppendEntriesRequest<Types>, _: openraft::network::RPCOption,
//! #     ) -> Result<openraft::raft::AppendEntriesResponse<u64>, Failure<openraft::error::Infallible>> { Err(nobody()) }
//! #     async fn install_snapshot(
//! #         &mut self, _: openraft::raft::InstallSnapshotRequest<Types>, _: openraft::network::RPCOption,
//! #     ) -> Result<openraft::raft::InstallSnapshotResponse<u64>, Failure<openraft::error::InstallSnapshotError>> {
//! #         Err(nobody())
//! #     }
//! #     async fn vote(
//! #         &mut self, _: openraft::raft::VoteRequest<u64>, _: openraft::network::RPCOption,
//! #     ) -> Result<openraft::raft::VoteResponse<u64>, Failure<openraft::error::Infallible>> { Err(nobody()) }
//! # }
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! # let network = NoNetwork;
//! let db = Db::open(path.join("db"))?;
//! let (log, machine) = Group::new("pairs", path.join("snapshots")).open(&db, Pairs)?;
//! let state = machine.reader();
//!
//! let raft = Raft::<Types>::new(1, Arc::new(Config::default().validate()?), network, log, machine).await?;
//! raft.initialize([(1, BasicNode::default())].into_iter().collect::<std::collections::BTreeMap<_, _>>()).await?;
//! # raft.wait(None).current_leader(1, "a cluster of one elects itself").await?;
//! raft.client_write(("berlin".to_owned(), "3.9 million".to_owned())).await?;
//! raft.ensure_linearizable().await?;
//! assert_eq!(state.get("berlin")?.unwrap(), "3.9 million");
//! # raft.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The package `replicated_kv` beside this one is a whole service: three processes, with a network.
//!
//! # What is guaranteed
//! | what | how |
//! |---|---|
//! | an entry counts as appended when it is durable | openraft's callback is called after the sync; one thread of the database syncs for all that is appended, and another one calls back |
//! | a vote is durable when it is saved | one synced write |
//! | truncation and purge leave no hole | one range tombstone each, with the mark of what is purged in the same batch |
//! | state, last applied log id and membership agree after any crash | one batch for all entries of a call ([`Group::apply_durability`]) |
//! | a snapshot has the state of one moment, while entries are applied | it is written from a [`maplsm::Snapshot`] |
//! | an installed snapshot replaces the state whole or not at all | it is loaded into a keyspace of its own, which one batch makes the state |
//! | a snapshot that is not what was sent is refused | every byte of it is covered by a checksum |
//! | the current snapshot survives restarts | it is a file that the database knows of |
//! | a log with a hole, a record that does not decode | an [`Error`], which stops the node, with the record that it is about |
//!
//! All groups of a database share its log and its syncs. What is later in that log is never there after a crash without what is
//! before it, so that most writes here need no sync of their own: see [`LogStore`].
//!
//! # What it does not do
//! - Several groups are not snapshotted together, and a group has one state, an ordered map of bytes: parts of it are told apart
//!   by how their keys begin.
//! - A snapshot is sent as a whole, as a file; nothing is shared with what the receiver has already.
//! - The files of snapshots are no part of [`Db::checkpoint`](maplsm::Db::checkpoint). A copy of the database without them is
//!   whole: the current snapshot is built anew.
//!
//! # Encoding
//! Records are encoded with [postcard](https://postcard.jamesmunns.com), whose wire format is specified and stable, and takes a
//! byte where others take eight or a field's name; each has a byte with a version before it. It is not self-describing: in types
//! that stand in the log, a new variant goes to the end of an enum, and fields stay as they are; attributes of serde such as
//! `untagged`, `flatten` or `skip_serializing_if` do not work.
//!
//! # Runtime
//! Everything that may wait for a disk runs on the blocking threads of tokio, in whose runtime openraft must run.

mod apply;
mod blocking;
mod error;
mod group;
mod log;
mod machine;
mod record;
mod snapshot;
mod state;

pub use apply::{Apply, StateTransaction};
pub use error::{Error, Result};
pub use group::Group;
pub use log::LogStore;
pub use machine::{SnapshotBuilder, StateMachine};
pub use record::Record;
pub use snapshot::SnapshotFile;
pub use state::{StateReader, StateSnapshot};
