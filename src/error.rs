//! What can go wrong, by who must act.

mod as_io;
mod bug;
mod damage;
#[cfg(feature = "serde")]
mod serialize;
mod text;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use bug::Bug;
#[cfg(test)]
pub(crate) use bug::tests;
pub(crate) use bug::{bug, must};
pub use damage::{Damage, Feature};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what it was asked for.
///
/// Every variant says what to do about it; [`Error::kind`] groups them for callers that only branch, and
/// [`Error::corruption`] gives file, offset and cause of damage. No input makes the crate panic: bad arguments,
/// damaged files and a full disk all end here.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum Error {
    /// The operating system refused an operation. The store goes on; retry or mend the cause.
    Io(Arc<IoError>),
    /// A file does not hold what was written to it, or is gone. Restore it from a copy; what it held is not guessed.
    /// [`repair`](crate::repair()) makes a database of the rest, and loses nothing if it is only `CURRENT` that is gone.
    Corruption(Arc<Corruption>),
    /// A mapped file was truncated by another program, or the disk failed to read a part of it, after
    /// [`guard_mappings`](crate::guard_mappings) was called. Restore the file, if need be, and open the database again.
    MappingLost(Arc<PathBuf>),
    /// A file was written by a newer version or with a feature that this build does not have. Nothing was changed.
    UnsupportedFormat(Arc<Unsupported>),
    /// Another process, or another [`Db`](crate::Db) of this process, holds the directory. Within a process, clones of one
    /// handle share a database.
    Locked(Arc<InUse>),
    /// The file `LOCK` of an open database, which is named here, was removed or replaced by another program, so somebody else
    /// may have locked the new one and write as well. The store takes no more writes, and reads go on. What was acknowledged
    /// as `Sync` before is on disk. Keep whatever cleans up there away from the directory, make sure that nobody else has the
    /// database open, and open it again.
    LockLost(Arc<PathBuf>),
    /// There is no database at this path, and it was not to be created.
    NotFound(Arc<PathBuf>),
    /// The store was opened with [`Options::read_only`](crate::Options::read_only).
    ReadOnly,
    /// The store was closed with [`Db::close`](crate::Db::close), or this process is a forked child of the one that opened it.
    Closed,
    /// A write to the log or the manifest could not be made durable, or the directory may be somebody else's by now
    /// ([`Error::LockLost`]). What the kernel still shows may never have reached the disk, so the store takes no more writes
    /// until it is opened again. The first cause is kept. Reads go on; whatever promises more than to read says what the store
    /// knows, also if there is nothing to do:
    ///
    /// | call | answer of a poisoned store |
    /// |---|---|
    /// | `insert`, `merge`, `merge_with`, `insert_with`, `remove`, `remove_with`, `remove_range`, `write`, `write_with`, `try_write`, `submit`, `ingest`, `try_ingest`, `transact`, `try_transact`, `transact_with`, and the `commit` and `commit_with` of a transaction | this error |
    /// | `update`, `fetch_update`, `compare_and_swap`, `insert_if_absent`, `take`, `pop_first`, `pop_last`, `remove_prefix`, and the `clear` of a keyspace | this error |
    /// | `sync`, `flush`, `maintain`, `wait_for_background`, `compact`, `compact_range`, `create_keyspace`, `drop_keyspace` | this error |
    /// | `Commit::wait`, `Commit::on_durable`, awaiting a `Commit` | this error, unless it was durable before |
    /// | `checkpoint`, `backup` | this error, and no copy: it would have commits that were refused |
    /// | `close` | this error, each time; the directory is free and the threads have ended all the same |
    /// | `verify` | a report with this error |
    /// | `keyspace` | this error if there is none of the name yet |
    /// | `first`, `last`, `is_empty`, `keys`, `values`, `multi_get`, `size_of`, `explain`, `approximate_len`, `approximate_size`, `path` | as ever |
    /// | `get`, `contains_key`, `iter`, `range`, `prefix`, `cursor`, `snapshot`, `transaction`, `transaction_with`, `memtable_keys`, `keyspaces`, `stats`, `recovery_report` | as ever; also of commits that were refused |
    Poisoned(Arc<Error>),
    /// Something that cannot happen has happened on the way to the disk: a fault in the code of this crate, or of the memory
    /// that it works in. Please report it, with the text of the error. Nothing is written any more, as after
    /// [`Poisoned`](Self::Poisoned), until the store is opened again; reads go on. Builds with debug assertions panic instead.
    Bug(Bug),
    /// Background work keeps failing and writers have to wait for it. Writes go on once the cause is mended.
    Background(Arc<Error>),
    /// A write that was not to wait ([`Db::try_write`](crate::Db::try_write)) would have been slowed down. Nothing was
    /// written; try again later.
    WouldBlock,
    /// A callback has made a call that waits for the work which the callback is part of, and so would never return: a
    /// [compaction filter](crate::Options::compaction_filter) that compacts, for example, what a
    /// [commit](crate::Commit::on_durable) calls back and that syncs, or a [listener](crate::Options::listener) that closes.
    /// Nothing was done; make the call when the callback has returned. The documentation of the [crate](crate#callbacks) lists
    /// what may be called where.
    Reentrant {
        /// The call, by its name in [`Db`](crate::Db).
        call: &'static str,
        /// The callback that it was made in.
        callback: &'static str,
    },
    /// Another commit has changed what this transaction has read. Nothing was written; run it again, or use
    /// [`Db::transact`](crate::Db::transact), which does.
    Conflict,
    /// A key has more than 65,535 bytes.
    KeyTooLong {
        /// Length of the refused key in bytes.
        bytes: usize,
    },
    /// A value has more than 4 GiB - 1 bytes.
    ValueTooLong {
        /// Length of the refused value in bytes.
        bytes: usize,
    },
    /// A directory is not one for backups of this database. Nothing in it was changed; use another one, that of the database's
    /// own backups or an empty one. (A restored database is another one than that which its backup is of.)
    ForeignBackup {
        /// The directory.
        path: Arc<PathBuf>,
        /// Why it is not.
        problem: &'static str,
    },
    /// A directory was to be a checkpoint, and is another database.
    InvalidCheckpoint {
        /// The directory.
        path: Arc<PathBuf>,
        /// Why it is none.
        problem: &'static str,
    },
    /// A batch is larger than [`Options::max_batch_bytes`](crate::Options::max_batch_bytes). No byte of it was written.
    BatchTooLarge {
        /// Size of the refused batch in the log, in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The keys of a load ([`Db::ingest`](crate::Db::ingest)) do not ascend. Nothing of it was stored.
    NotAscending {
        /// Which entry is refused, counted from 0.
        position: u64,
        /// Whether it has the same key as the one in front of it; else its key is smaller.
        duplicate: bool,
    },
    /// There is no keyspace of this name, and it was not to be created.
    KeyspaceNotFound {
        /// The name.
        name: Arc<str>,
    },
    /// A keyspace that was to be created is there already. Open it with [`Db::keyspace`](crate::Db::keyspace).
    KeyspaceExists {
        /// Its name.
        name: Arc<str>,
    },
    /// The keyspace of this handle has been dropped. [`Db::keyspace`](crate::Db::keyspace) opens or makes the one that has
    /// its name now.
    KeyspaceDropped {
        /// The name that it had.
        name: Arc<str>,
    },
    /// A batch or a snapshot was used with a keyspace of another database, or of an earlier open of the same one.
    ForeignKeyspace {
        /// The name of the keyspace.
        name: Arc<str>,
    },
    /// A keyspace cannot have this name, or the keyspace of this name cannot be dropped.
    InvalidKeyspaceName {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The operator of a keyspace makes no value of what has been [merged](crate::Db::merge) into a key. The operands are kept,
    /// and may be removed or overwritten with the key; other keys are not concerned.
    MergeFailed {
        /// The name of the operator.
        operator: Arc<str>,
        /// The key.
        key: Arc<[u8]>,
        /// What it says.
        problem: Arc<str>,
    },
    /// Something was to be merged into a key of a keyspace that has no operator, or of which the program has none. It gets one
    /// from [`KeyspaceOptions::merge_operator`](crate::KeyspaceOptions::merge_operator) when it is created, the default one from
    /// [`Options::merge_operator`](crate::Options::merge_operator).
    NoOperator {
        /// The name of the keyspace.
        keyspace: Arc<str>,
    },
    /// The values of a keyspace need an operator that the open was not given, or were made by another one than it was given.
    /// Nothing was changed. Set [`Options::merge_operator`](crate::Options::merge_operator) for the default keyspace,
    /// [`Options::known_operator`](crate::Options::known_operator) for others.
    OtherOperator {
        /// The name of the keyspace.
        keyspace: Arc<str>,
        /// The name of the operator that it has.
        operator: Arc<str>,
        /// The option to set.
        option: &'static str,
    },
    /// An option has a value that makes no sense, or that this build does not support.
    InvalidOptions {
        /// The option, by its name in [`Options`](crate::Options) or [`KeyspaceOptions`](crate::KeyspaceOptions).
        option: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A value is not what a type looks like in memory: it was to be read in place with
    /// [`Slice::get_as`](crate::Slice::get_as) or the like, and has another length or a place that is not a multiple of the
    /// type's alignment. Values are aligned in keyspaces created with
    /// [`KeyspaceOptions::value_alignment`](crate::KeyspaceOptions::value_alignment).
    WrongLayout {
        /// The name of the type; of a list, that of an element.
        of: &'static str,
        /// The size of the type in bytes. A list takes a multiple of it.
        size: usize,
        /// The alignment of the type in bytes.
        alignment: usize,
        /// Length of the value in bytes.
        bytes: usize,
        /// The value begins at a multiple of this many bytes, a power of two. 4,096 stands for more.
        aligned_to: usize,
    },
    /// Bytes are no key or no value of the type that they were to be read as, or a value cannot be kept as bytes: see
    /// [`key::decode`](crate::key::decode). Nothing was changed.
    Codec {
        /// What failed: `encode` or `decode`.
        call: &'static str,
        /// Of what: `key` or `value`.
        what: &'static str,
        /// Why.
        problem: Arc<str>,
    },
    /// A table has to be opened, and the process has as many open as the system lets it: they are in use by slices,
    /// iterators and cursors, of this database or others, so that none can be let go. Drop some of those, or raise
    /// `vm.max_map_count`, or, with [`IoMode::Read`](crate::IoMode::Read), `RLIMIT_NOFILE`. Nothing is lost; the call may be
    /// repeated.
    TooManyOpenTables {
        /// Files of tables that are mapped or open in the process; a table that is mapped has two.
        open: usize,
        /// How many there may be: three quarters of what the system allows.
        limit: usize,
        /// [`Options::max_open_tables`](crate::Options::max_open_tables) of the database.
        max_open_tables: usize,
    },
    /// File numbers or sequence numbers (2^63 of them) or ids of keyspaces (2^32) are used up.
    NumbersExhausted,
}

/// The failed operation behind [`Error::Io`].
#[derive(Debug)]
pub struct IoError {
    /// What was tried, as a verb: `create`, `sync`, `map`, ...
    pub operation: &'static str,
    /// The file or directory it was tried on.
    pub path: PathBuf,
    /// The operating system's answer.
    pub source: io::Error,
}

/// Damage found in a file: where, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// The damaged file.
    pub path: PathBuf,
    /// Offset of the damage in bytes from the file's start.
    pub offset: u64,
    /// What is wrong.
    pub what: Damage,
}

/// The directory behind [`Error::Locked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// The directory.
    pub path: PathBuf,
    /// Whether this process has it open: the program opens it twice. It is known on Unix, of opens by this crate.
    pub by_this_process: bool,
}

/// The unknown feature behind [`Error::UnsupportedFormat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The file that uses it.
    pub path: PathBuf,
    /// Which feature.
    pub what: Feature,
}

/// A coarse grouping of [`Error`]s.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The operating system failed.
    Io,
    /// A file is damaged.
    Corruption,
    /// A file needs a newer version of this crate.
    UnsupportedFormat,
    /// Another process has the database, or may have it.
    Locked,
    /// No database there, or no keyspace of this name.
    NotFound,
    /// Not possible in the state of this handle: read-only, closed, poisoned, of a dropped keyspace, or in the middle of the
    /// work that it would wait for.
    State,
    /// The arguments are refused.
    InvalidInput,
    /// The crate is at fault, or the memory of the machine.
    Bug,
    /// Background work fails.
    Background,
    /// Not now: the call would have had to wait, or the process has too many tables open.
    Busy,
    /// A transaction must be run again.
    Conflict,
    /// A merge operator of the program has failed.
    Operator,
}

/// Whether an operation failed because the disk, or the share that one may have of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<Bug> for Error {
    fn from(bug: Bug) -> Self {
        Self::Bug(bug)
    }
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        if let Some(bug) = source.get_ref().and_then(|inner| inner.downcast_ref::<Bug>()) {
            return Self::Bug(*bug);
        }
        Self::Io(Arc::new(IoError { operation, path: path.to_owned(), source }))
    }

    /// Whether it says that the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io(e) if is_full(&e.source))
    }

    /// Whether work has failed, here or in the background, because the disk is full.
    pub(crate) fn is_lack_of_space(&self) -> bool {
        matches!(self, Self::Background(cause) if cause.is_full()) || self.is_full()
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, what: Damage) -> Self {
        Self::Corruption(Arc::new(Corruption { path: path.to_owned(), offset, what }))
    }

    /// The group this error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(_) | Self::MappingLost(_) => ErrorKind::Io,
            Self::Corruption(_) => ErrorKind::Corruption,
            Self::UnsupportedFormat(_) => ErrorKind::UnsupportedFormat,
            Self::Locked(_) | Self::LockLost(_) => ErrorKind::Locked,
            Self::NotFound(_) | Self::KeyspaceNotFound { .. } => ErrorKind::NotFound,
            Self::ReadOnly
            | Self::Closed
            | Self::Poisoned(_)
            | Self::KeyspaceDropped { .. }
            | Self::Reentrant { .. } => ErrorKind::State,
            Self::Bug(_) => ErrorKind::Bug,
            Self::Background(_) => ErrorKind::Background,
            Self::WouldBlock | Self::TooManyOpenTables { .. } => ErrorKind::Busy,
            Self::Conflict => ErrorKind::Conflict,
            Self::MergeFailed { .. } => ErrorKind::Operator,
            Self::KeyTooLong { .. }
            | Self::ValueTooLong { .. }
            | Self::BatchTooLarge { .. }
            | Self::NotAscending { .. }
            | Self::KeyspaceExists { .. }
            | Self::ForeignKeyspace { .. }
            | Self::ForeignBackup { .. }
            | Self::InvalidCheckpoint { .. }
            | Self::InvalidKeyspaceName { .. }
            | Self::InvalidOptions { .. }
            | Self::NoOperator { .. }
            | Self::OtherOperator { .. }
            | Self::WrongLayout { .. }
            | Self::Codec { .. }
            | Self::NumbersExhausted => ErrorKind::InvalidInput,
        }
    }

    /// Whether a damaged file is the cause, directly or as the first cause of a poisoned store.
    pub fn is_corruption(&self) -> bool {
        self.corruption().is_some()
    }

    /// File, offset and cause of the damage, if a damaged file is the cause.
    pub fn corruption(&self) -> Option<&Corruption> {
        match self {
            Self::Corruption(corruption) => Some(corruption),
            Self::Poisoned(cause) | Self::Background(cause) => cause.corruption(),
            _ => None,
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(e) => Some(&e.source),
            Self::Poisoned(cause) | Self::Background(cause) => Some(cause),
            Self::Bug(bug) => Some(bug),
            _ => None,
        }
    }
}

/// What a decoder that sees only bytes found, before anyone has added the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes are damaged.
    Damage(Damage),
    /// The bytes need a newer reader.
    Unsupported(Feature),
}

impl Fault {
    /// Adds the place.
    pub(crate) fn at(self, path: &Path, offset: u64) -> Error {
        match self {
            Self::Damage(what) => Error::corrupt(path, offset, what),
            Self::Unsupported(what) => Error::UnsupportedFormat(Arc::new(Unsupported { path: path.to_owned(), what })),
        }
    }
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<Feature> for Fault {
    fn from(feature: Feature) -> Self {
        Self::Unsupported(feature)
    }
}
