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
//! Keys are byte strings of up to 65,535 bytes, ordered bytewise; encode integers big-endian to keep their order. Values have
//! up to 4 GiB - 1 bytes. One process at a time writes a database, from any number of threads; other processes may open it
//! [read-only](Options::read_only) while no writer has it.
//!
//! # Durability
//! | [`Durability`] | done means | survives |
//! |---|---|---|
//! | `Sync`, the default | `fdatasync` has returned; concurrent commits share one | power loss |
//! | `Buffered` | the kernel's page cache has it | the end of the process, also by `kill -9` |
//!
//! After any crash the store is as it was after some prefix of the commits, and that prefix has every acknowledged `Sync`
//! commit; a batch is there whole or not at all. [`Db::sync`] makes everything committed before it durable.
//! A commit that answered an I/O error may be there or not; if its sync failed, the store takes no more writes until it is
//! opened again, because a second `fdatasync` may answer success for pages that never reached the disk. Reads go on.
//!
//! Every byte of every file is covered by a checksum over the bytes, their offset and the identity of the file. In the log, a
//! torn end, which was never acknowledged, is cut off and [reported](Db::recovery_report); damage in front of a durable mark
//! refuses to open. Chunks of tables are verified when they are first touched; [`Db::verify`] checks everything.
//! What is not covered: a page that is evicted and read again after its first check (use [`Options::verify_always`], or
//! [`Db::verify`] from time to time), a disk that acknowledges what it has not written, and network file systems.
//!
//! # Mapped files
//! Files are written once, mapped, never changed, only unlinked; that makes it sound to hand out slices of them. It rests on
//! the rule that no other process changes files in the database's directory, which has mode 0700 and is locked. An I/O error
//! under a mapping is delivered as `SIGBUS`. [`IoMode::Read`] maps nothing and has neither condition.
//!
//! # Map of the code
//! Imports point down this list, which a test checks.
//!
//! - `db`, `keyspace`, `transaction`, `snapshot`, `iter`, `stats`, [`inspect`]: the public face; short methods.
//! - `engine`: the parts in motion. Committing, syncing, flushing, compacting, recovering; threads and locks live here only.
//! - `version`: which tables stand on which level; applying an edit and picking a compaction are pure functions.
//! - `merge`: many sorted sources as one.
//! - `memtable`: a hash index and sorted runs over a log segment. It has no copy of the entries.
//! - `table`: writing, reading and indexing of tables.
//! - `log`: appending groups, and finding out where a log ends.
//! - `options`, `batch`, `slice`, `keyspace_state`: what callers hold and hand in.
//! - `sys`: the file system seam, with its twin in memory ([`SimFs`]); mappings; the only `unsafe` code of the crate, in two
//!   files: one for memory, and one for the signal that a lost mapping causes.
//! - `visibility`: the one rule that says which versions of a key matter.
//! - `format`: what bytes mean. No I/O; its files follow the sections of FORMAT.md.
//!
//! What is absent, on purpose: nothing below `engine` starts a thread or knows of another one; nothing outside `sys` calls
//! `std::fs` or makes a system call; nothing outside `format` knows an offset; no file is ever truncated, rewritten or
//! recycled; no wall clock is read.

mod batch;
mod db;
mod engine;
mod error;
mod format;
pub mod inspect;
mod iter;
mod keyspace;
mod keyspace_state;
mod log;
mod memtable;
mod merge;
mod options;
mod slice;
mod snapshot;
mod stats;
mod sys;
mod table;
mod transaction;
mod version;
mod visibility;

pub use batch::WriteBatch;
pub use db::Db;
pub use engine::{DroppedTail, Ingested, RecoveryReport, Report};
pub use error::{Corruption, Damage, Error, ErrorKind, Feature, IoError, Result, Unsupported};
pub use iter::{Cursor, Entry, Iter};
pub use keyspace::Keyspace;
pub use options::{
    Compression, Durability, FilterEntry, IoMode, Isolation, KeyspaceOptions, Options, PointIndex, Verdict,
};
pub use slice::Slice;
pub use snapshot::{Ref, Snapshot};
pub use stats::{KeyspaceStats, LevelStats, Stats, TableStats};
pub use sys::sim::{Fault, SimFs};
pub use sys::{FileSystem, guard_mappings};
pub use transaction::{Savepoint, Transaction, TransactionIter};
