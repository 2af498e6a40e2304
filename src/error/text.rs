//! What errors say.

use std::fmt;

use super::{Corruption, Error};

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "cannot {} {}: {}", e.operation, e.path.display(), e.source),
            Self::Corruption(c) => c.fmt(f),
            Self::UnsupportedFormat(u) => write!(f, "{}: {}", u.path.display(), u.what),
            Self::MappingLost(path) => write!(f, "{} could not be read any more while it was mapped", path.display()),
            Self::Locked(held) if held.by_this_process => write!(
                f,
                "{} is opened by two handles in one process, which can share one: `Db::clone`",
                held.path.display()
            ),
            Self::Locked(held) => write!(f, "{} is in use by another process", held.path.display()),
            Self::LockLost(path) => write!(
                f,
                "{} is not the file that was locked at open: it was removed or replaced, and another process may write here",
                path.display()
            ),
            Self::NotFound(path) => write!(f, "there is no database at {}", path.display()),
            Self::ReadOnly => f.write_str("the store was opened read-only"),
            Self::Closed => f.write_str("the store is closed"),
            Self::Conflict => f.write_str("another commit has changed what this transaction has read; run it again"),
            Self::Poisoned(cause) => {
                write!(f, "the store takes no writes until it is opened again, because an earlier one failed: {cause}")
            }
            Self::Bug(bug) => bug.fmt(f),
            Self::Background(cause) => write!(f, "background work that writes wait for keeps failing: {cause}"),
            Self::Reentrant { call, callback } => {
                write!(f, "`{call}` inside of a {callback} would wait for the work that the {callback} is part of")
            }
            Self::WouldBlock => f.write_str("the write would have to wait for background work; try again later"),
            Self::KeyTooLong { bytes } => write!(f, "a key of {bytes} bytes is longer than 65535"),
            Self::ValueTooLong { bytes } => write!(f, "a value of {bytes} bytes is longer than 4294967295"),
            Self::BatchTooLarge { bytes, limit } => {
                write!(f, "a batch of {bytes} bytes is larger than max_batch_bytes = {limit}")
            }
            Self::NotAscending { position, duplicate: true } => {
                write!(f, "entry {position} of the load has the same key as the one in front of it")
            }
            Self::NotAscending { position, duplicate: false } => {
                write!(f, "entry {position} of the load has a smaller key than the one in front of it")
            }
            Self::KeyspaceNotFound { name } => write!(f, "there is no keyspace `{name}`"),
            Self::KeyspaceExists { name } => write!(f, "there is a keyspace `{name}` already"),
            Self::KeyspaceDropped { name } => write!(f, "the keyspace `{name}` of this handle has been dropped"),
            Self::ForeignKeyspace { name } => {
                write!(f, "the handle of keyspace `{name}` belongs to another database or an earlier open of this one")
            }
            Self::ForeignBackup { path, problem } => {
                write!(f, "{} is no directory for backups of this database: {problem}", path.display())
            }
            Self::InvalidCheckpoint { path, problem } => write!(f, "{} is no checkpoint: {problem}", path.display()),
            Self::InvalidKeyspaceName { problem } => write!(f, "the name of a keyspace is refused: {problem}"),
            Self::MergeFailed { operator, key, problem } => {
                write!(f, "the merge operator `{operator}` makes no value of key `{}`: {problem}", key.escape_ascii())
            }
            Self::NoOperator { keyspace } => write!(f, "the keyspace `{keyspace}` has no merge operator"),
            Self::OtherOperator { keyspace, operator, option } => {
                write!(f, "the keyspace `{keyspace}` needs the merge operator `{operator}`: set `Options::{option}`")
            }
            Self::InvalidOptions { option, problem } => write!(f, "option {option}: {problem}"),
            Self::WrongLayout { of, size, alignment, bytes, aligned_to } => {
                write!(
                    f,
                    "a value of {bytes} bytes at a multiple of {aligned_to} cannot be read as {of}, \
                     which takes {size} bytes at a multiple of {alignment}"
                )?;
                let option = (*alignment).max(8);
                if aligned_to < alignment && option <= 16 {
                    write!(f, "; values of a keyspace with `KeyspaceOptions::value_alignment({option})` are")?;
                }
                Ok(())
            }
            Self::Codec { call, what, problem } => write!(f, "cannot {call} a {what}: {problem}"),
            Self::TooManyOpenTables { open, limit, max_open_tables } => write!(
                f,
                "no more tables can be opened: {open} files of tables are mapped or open in this process, in use by slices, \
                 iterators and cursors, of {limit} (three quarters of vm.max_map_count or RLIMIT_NOFILE); \
                 max_open_tables = {max_open_tables} bounds only those that nobody uses"
            ),
            Self::NumbersExhausted => f.write_str("all file numbers, sequence numbers or keyspace ids are used up"),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at offset {}: {}", self.path.display(), self.offset, self.what)
    }
}
