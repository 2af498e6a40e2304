//! What can go wrong, and how openraft is told.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use openraft::{AnyError, ErrorSubject, ErrorVerb, NodeId, StorageError, StorageIOError};

use crate::record::Record;

/// The result of every fallible call of this crate that is not one of openraft's traits.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the storage did not do what it was asked for.
///
/// Openraft gets it as the cause of a [`StorageError`], and stops the node: none of these may be passed over.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] maplsm::Error),
    /// The operating system refused an operation on a file of snapshots.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A record does not decode as the type that this program has for it. The types of the program have changed in a way
    /// that postcard does not allow, or the record was written by another program.
    #[error("the record of {record} does not decode")]
    Undecodable {
        /// Which record.
        record: Record,
        /// What postcard says.
        source: postcard::Error,
    },
    /// A value does not encode.
    #[error("the record of {record} does not encode")]
    Unencodable {
        /// Which record.
        record: Record,
        /// What postcard says.
        source: postcard::Error,
    },
    /// A record is not as this crate writes it.
    #[error("the record of {record} is malformed: {problem}")]
    Malformed {
        /// Which record.
        record: Record,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A record was written by a newer version of this crate.
    #[error("the record of {record} has version {version}, which this version does not know")]
    UnknownVersion {
        /// Which record.
        record: Record,
        /// The version that it has.
        version: u8,
    },
    /// An entry is missing in the middle of the log, or would be if what was to be appended were.
    #[error("the log has a hole: entry {missing} is not there, and one after it is")]
    Hole {
        /// The index of the first entry that is missing.
        missing: u64,
    },
    /// A keyspace of the group is gone: somebody else has dropped it.
    #[error("the keyspace {name:?} of the group is gone")]
    KeyspaceGone {
        /// Its name.
        name: String,
    },
    /// The bytes of a snapshot are not those that were written. The state is what it was; the leader sends another one.
    #[error("the snapshot is damaged at byte {offset}: {problem}")]
    SnapshotDamaged {
        /// Where, from the start of the snapshot.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// [`Apply::apply`](crate::Apply::apply) has failed. Nothing of the entries that were to be applied together with this
    /// one is stored.
    #[error("entry {index} cannot be applied")]
    Apply {
        /// The index of the entry.
        index: u64,
        /// The error that it returned.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The runtime has ended before the work was done.
    #[error("the runtime has ended")]
    RuntimeEnded,
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

/// Tells openraft of an error, with what was being done to what.
pub(crate) fn failed<N: NodeId>(subject: ErrorSubject<N>, verb: ErrorVerb) -> impl FnOnce(Error) -> StorageError<N> {
    move |error| StorageIOError::new(subject, verb, AnyError::new(&error)).into()
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("the format"),
            Self::Vote => f.write_str("the vote"),
            Self::Committed => f.write_str("what is committed"),
            Self::Purged => f.write_str("what is purged"),
            Self::Applied => f.write_str("what is applied"),
            Self::Membership => f.write_str("the membership"),
            Self::Generation => f.write_str("the generation of the state"),
            Self::Snapshot => f.write_str("the current snapshot"),
            Self::Entry(index) => write!(f, "log entry {index}"),
        }
    }
}
