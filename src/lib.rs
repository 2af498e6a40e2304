//! An embedded, ordered key-value store: an LSM-tree whose log, tables and indexes are fixed binary layouts, mapped into
//! memory and read in place.
//!
//! ```
//! # fn main() -> maplsm::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("db");
//! use maplsm::{Db, WriteBatch};
//!
//! let db = Db::open(path)?;
//! db.insert("berlin", "3.9 million")?; // on disk when this returns
//! db.write(WriteBatch::new().insert("hamburg", "1.9 million").insert("munich", "1.5 million"))?; // whole or not at all
//!
//! let population = db.get("hamburg")?; // Option<Slice>: a view into the mapped file, no copy
//! assert_eq!(population.as_deref(), Some(&b"1.9 million"[..]));
//!
//! let snapshot = db.snapshot();
//! db.remove("berlin")?;
//! for entry in &snapshot {
//!     let entry = entry?; // in order of key, as it was when the snapshot was taken
//!     println!("{} has {}", entry.key().escape_ascii(), entry.value().escape_ascii());
//! }
//! assert_eq!(snapshot.iter().count(), 3);
//! assert_eq!(db.range("b".."i").rev().count(), 1);
//! db.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! Keys are byte strings of up to 65,535 bytes, ordered bytewise; [`key`] makes them of numbers, strings and tuples, in the order
//! of these. Values have up to 4 GiB - 1 bytes. One process at a time writes a database, from any number of threads; other
//! processes may open it [read-only](Options::read_only) while no writer has it.
//!
//! # Keys and values of types
//! [`Typed`] is a keyspace whose keys are numbers, strings, tuples or one's own types, in the order of these ([`key`]), and
//! whose values are those of a [codec](ValueCodec): strings, numbers, types of [`zerocopy`], with the feature `serde` types of
//! that, or what one says. It is the same over a keyspace, a snapshot and in a transaction.
//!
//! ```
//! # fn main() -> maplsm::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let db = maplsm::Db::open(dir.path().join("db"))?;
//! let population: maplsm::Typed<(String, u16), u64> = maplsm::Typed::new(db.keyspace("population")?);
//! population.insert(("berlin", 1990), &3_433_695)?;
//! population.insert(("berlin", 2020), &3_664_088)?;
//! population.insert(("hamburg", 2020), &1_852_478)?;
//! let berlin: Vec<_> = population.prefix(("berlin",)).collect::<maplsm::Result<_>>()?;
//! assert_eq!(berlin.last(), Some(&(("berlin".to_owned(), 2020), 3_664_088)));
//! # db.close()
//! # }
//! ```
//!
//! The [guide] goes through all of it chapter by chapter: what to begin with, [merge operators](guide::merge_operators),
//! [tuning](guide::tuning), [memory](guide::memory) and containers, [mapped files](guide::mapped_files), asynchronous programs, and
//! what calls of other stores are called here.
//!
//! # Durability
//! | [`Durability`] | done means | survives |
//! |---|---|---|
//! | `Sync`, the default | `fdatasync` has returned; concurrent commits share one | power loss |
//! | `Buffered` | the kernel's page cache has it | the end of the process, also by `kill -9` |
//!
//! - **Prefix.** After any crash the store is as it was after some prefix of the commits, and that prefix has every commit
//!   that was acknowledged as `Sync`, and everything before it; a batch is there whole or not at all. [`Db::sync`], like
//!   an empty `Sync` commit, makes everything committed before it durable. Other threads see a commit before its sync is
//!   done, and may see one whose sync then fails.
//! - **Errors.** A commit that returned an I/O error may be there or not after the next open; nothing after it was accepted
//!   if it was the sync that failed. A full disk refuses a commit before any byte of it counts, and the store goes on; commits
//!   that only remove, flushes and compactions go on with [what is reserved](Options::reserve_bytes) for them, and make space.
//! - **Poisoning.** After a failed sync of the log, a manifest append that may have happened or not, or the loss of its lock
//!   file, the store takes no more writes until it is opened again ([`Error::Poisoned`], which says what each call returns
//!   then, [`Db::close`] too): a second `fdatasync` may answer success for pages that never reached the disk. Reads go on. The
//!   next open trusts nothing of the log but what was known to be durable, and writes the rest anew before it shows it.
//! - **Torn end or damage.** Every byte of every file is covered by a checksum over the bytes, their offset and the identity of
//!   the file. The log says in each group how far it was known to be on disk. What does not verify after that is the torn
//!   end of a crash: it was never acknowledged, is cut off, and [reported](Db::recovery_report). In front of it, it is damage:
//!   the open is refused, with file and offset. So it is if a segment of the log is gone, empty or without its beginning: the
//!   manifest knows of it before the first commit in it is acknowledged. One window remains: of a run that crashed, damage
//!   after the last place that the log or the manifest says was durable looks like a torn end, which can take synced commits
//!   with it until the next one, the mark that follows 100 ms without any, or [`Db::close`] says that they were.
//! - **Tables.** A chunk is verified when it is first read, and everything by compactions and [`Db::verify`]. A page that the
//!   kernel evicts and reads again later is not verified again, unless with [`Options::verify_always`].
//! - **What it rests on.** `fdatasync` and `fsync` do what they say, a sector of 512 bytes is written whole or not at all, and
//!   what was synced stays. A disk that acknowledges what it has not written breaks every promise here. So do network file
//!   systems, whose locks and mappings mean something else, and two machines that mount one disk.
//!
//! # The directory
//! A path is looked up once, by the call that is given it. From then on, files are made, opened, renamed and removed through
//! the open directory: a relative path means what it meant then whatever becomes of the working directory, and a directory
//! that is moved or whose parents are stays open. Messages and reports go on calling it as the opener did. Elsewhere than on
//! Unix, the absolute path at the time of the open stands for the directory, which must stay where it is.
//!
//! Who has it open holds a lock of the directory and one of the file `LOCK` in it. (Where the file system cannot lock
//! directories, as some network file systems, it is that file alone.) If the file is removed or replaced meanwhile, nobody can
//! be kept from locking its successor who does not know of the first lock, so the store acknowledges no sync and no flush
//! from then on, begins no new file, and returns [`Error::LockLost`] and then [`Error::Poisoned`].
//!
//! A child that is **forked** while a database is open, without `exec`, has no use of it: every call returns
//! [`Error::Closed`], dropping the handle does nothing, and the parent keeps its lock until it closes the database itself.
//! On Linux this is sure, also for a child in another PID namespace; elsewhere, do not touch the handle in a child. Slices,
//! iterators and snapshots that the child inherits must not be read, since the log is not mapped there. Nor may it open
//! databases of its own before `exec`: a forked child of a process with threads may only call what is async-signal-safe
//! ([POSIX, `fork`](https://pubs.opengroup.org/onlinepubs/9799919799/functions/fork.html)), and the queues of this crate's
//! locks are among the things that such a child finds in the middle of something.
//!
//! # Callbacks
//! The store calls the program's code in seven places, and holds no lock meanwhile: the [compaction
//! filter](Options::compaction_filter), a [merge operator](MergeOperator), what is [called back](Commit::on_durable) when a
//! commit is durable, the iterator given to [`ingest`](Db::ingest) and [`try_ingest`](Db::try_ingest), the body of
//! [`transact`](Db::transact) and what decides in [`update`](Db::update), `as_ref` (or `borrow`, or the bounds of a range) of
//! what is given as a key, a value, a name or a batch, and the [listener](Options::listener). What such code may call of the
//! same database, on [`Db`], [`Keyspace`], [`Snapshot`] and [`Transaction`] alike:
//!
//! | call | in a filter | of a commit | in an iterator | in a body | in `as_ref` | in a listener |
//! |---|---|---|---|---|---|---|
//! | `get`, `contains_key`, `iter`, `range`, `prefix`, `cursor`, `snapshot`, `memtable_keys` | yes | yes | yes | yes | yes | yes |
//! | `first`, `last`, `is_empty`, `keys`, `values`, `multi_get`, `size_of`, `explain` | yes | yes | yes | yes | yes | yes |
//! | `approximate_len`, `approximate_size`, `path` | yes | yes | yes | yes | yes | yes |
//! | `update`, `fetch_update`, `compare_and_swap`, `insert_if_absent`, `take` | yes | yes | yes | yes | yes | yes |
//! | `pop_first`, `pop_last`, `remove_prefix` | yes | yes | yes | yes | yes | yes |
//! | `insert`, `insert_with`, `merge`, `merge_with`, `remove`, `remove_with`, `remove_range`, `write`, `write_with`, `try_write`, `submit` | yes | yes | yes | yes | yes | yes |
//! | `sync` | yes | [`Reentrant`](Error::Reentrant) | yes | yes | yes | yes |
//! | `transaction`, `transaction_with`, `transact`, `try_transact`, `transact_with` | yes | yes | yes | yes | yes | yes |
//! | `ingest`, `try_ingest`, `flush`, `checkpoint`, `backup` | yes | yes | yes | yes | yes | yes |
//! | `keyspace`, `create_keyspace`, `keyspaces`, `drop_keyspace` | yes | yes | yes | yes | yes | yes |
//! | `stats`, `verify`, `recovery_report` | yes | yes | yes | yes | yes | yes |
//! | `compact`, `compact_range`, `wait_for_background`, `maintain`, `close` | [`Reentrant`](Error::Reentrant) | [`Reentrant`](Error::Reentrant) | yes | yes | yes | [`Reentrant`](Error::Reentrant) |
//!
//! The calls of the last row wait for compactions, and so for the one that the filter is a part of, or for callbacks; they say
//! so at once; in a listener, they would wait for it, or go on with the work that it is told of, and so tell it of more. So do
//! `sync`, and [`wait`](Commit::wait) of any commit, in what a commit calls back: without background threads,
//! they are what calls back. A synced write in there waits for its sync and for no callback.
//! This holds for the thread that a filter runs on, also where it has gone through callbacks of other databases, whose calls
//! are free. What a filter hands to another thread and waits for, the store cannot know: a filter that waits for a thread that
//! compacts waits for ever. Writes in a filter are never held up by the work that the filter is a part of; they flush
//! themselves where that is due. A load whose iterator closes the database, or drops the keyspace, returns
//! [`Closed`](Error::Closed) or [`KeyspaceDropped`](Error::KeyspaceDropped), and so does the commit of a body that does.
//!
//! A merge operator is called by reads, on the thread that reads, and by compactions, where the column of a filter is its own.
//! It is given all that it needs: one that reads the key that it is asked about asks itself.
//!
//! If a filter drops the last handle, the compaction is cancelled, and a thread of its own closes the database as soon as it
//! has ended, and as soon as the callback has returned if that drops the last one; until then the directory is
//! [locked](Error::Locked). Nobody learns the result of that close.
//!
//! # How it is made
//! `ARCHITECTURE.md`, beside the sources, is the map of the code, `FORMAT.md` specifies the files, and `CONTRIBUTING.md` says
//! how to work on it.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod codec;
mod commit;
mod db;
mod digest;
mod engine;
mod error;
mod event;
mod format;
pub mod guide;
mod handle;
pub mod inspect;
mod iter;
pub mod key;
mod keyspace;
mod keyspace_state;
mod log;
mod memtable;
mod merge;
mod meter;
mod offline;
mod operator;
mod options;
#[cfg(feature = "serde")]
mod serial;
mod slice;
mod snapshot;
mod stats;
mod sys;
pub mod table;
mod transaction;
mod typed;
mod unwind;
mod update;
mod version;
mod visibility;

pub use batch::WriteBatch;
#[cfg(feature = "serde")]
pub use codec::Postcard;
pub use codec::{CodecError, Layout, ValueCodec};
pub use commit::Commit;
pub use db::Db;
pub use digest::Digest;
pub use engine::{
    Backup, BackupReport, Checkpoint, CheckpointFile, DroppedTail, EntryLookedAt, Explanation, Finding, Ingested,
    LookupAnswer, LookupPlace, LookupStep, LostKey, LostRange, Outcome, RecoveryReport, RepairReport, Report,
    StallStats,
};
pub use error::{Bug, Corruption, Damage, Error, ErrorKind, Feature, InUse, IoError, Result, Unsupported};
pub use event::{CompactionReason, Event, StallReason};
pub use iter::{Cursor, Entry, Iter, KeyIter, ValueIter};
pub use keyspace::Keyspace;
pub use meter::{Histogram, Latencies, LookupStats};
pub use offline::{backups, examine, prune_backups, repair, restore};
pub use operator::{MergeError, MergeOperator, operators};
pub use options::{
    Compression, Durability, FilterEntry, IoMode, Isolation, KeyspaceOptions, Options, PointIndex, Verdict,
};
pub use slice::Slice;
pub use snapshot::{Ref, Snapshot};
pub use stats::{
    CompactionStats, FileBytes, KeyspaceStats, LevelStats, Stats, TableStats, ValueFileStats, WrittenBytes,
};
pub use sys::sim::{Fault, SimFs};
pub use sys::{FileSystem, guard_mappings};
pub use transaction::{Savepoint, Transaction, TransactionIter, TransactionKeyspace};
pub use typed::{Typed, TypedIter, TypedStore, TypedWrite};
pub use update::CompareError;
/// The crate whose traits [`Slice::get_as`] asks for, in the version that it needs.
pub use zerocopy;
