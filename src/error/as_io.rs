//! Errors of the store as those of `std::io`, for programs whose results have these.

use std::io;

use super::Error;

/// The kind is that of the operation that failed, or the nearest one; the error itself is the inner one
/// ([`io::Error::get_ref`]), with all that it says.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// fn open(path: &std::path::Path) -> std::io::Result<maplsm::Db> {
///     Ok(maplsm::Options::new().create_if_missing(false).open(path)?)
/// }
/// let refused = open(&dir.path().join("db")).unwrap_err();
/// assert_eq!(refused.kind(), std::io::ErrorKind::NotFound);
/// assert!(refused.get_ref().is_some_and(|inner| inner.is::<maplsm::Error>()));
/// # Ok(())
/// # }
/// ```
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io_kind(&error), error)
    }
}

fn io_kind(error: &Error) -> io::ErrorKind {
    match error {
        Error::Io(e) => e.source.kind(),
        Error::Poisoned(cause) | Error::Background(cause) => io_kind(cause),
        Error::Corruption(_) | Error::Codec { .. } => io::ErrorKind::InvalidData,
        Error::UnsupportedFormat(_) => io::ErrorKind::Unsupported,
        Error::Locked(_) | Error::Conflict | Error::TooManyOpenTables { .. } => io::ErrorKind::ResourceBusy,
        Error::NotFound(_) | Error::KeyspaceNotFound { .. } | Error::KeyspaceDropped { .. } => io::ErrorKind::NotFound,
        Error::ReadOnly => io::ErrorKind::PermissionDenied,
        Error::Closed => io::ErrorKind::NotConnected,
        Error::WouldBlock => io::ErrorKind::WouldBlock,
        Error::Reentrant { .. } => io::ErrorKind::Deadlock,
        Error::KeyspaceExists { .. } => io::ErrorKind::AlreadyExists,
        Error::KeyTooLong { .. }
        | Error::ValueTooLong { .. }
        | Error::BatchTooLarge { .. }
        | Error::NotAscending { .. }
        | Error::ForeignKeyspace { .. }
        | Error::ForeignBackup { .. }
        | Error::InvalidCheckpoint { .. }
        | Error::InvalidKeyspaceName { .. }
        | Error::InvalidOptions { .. }
        | Error::NoOperator { .. }
        | Error::OtherOperator { .. }
        | Error::WrongLayout { .. } => io::ErrorKind::InvalidInput,
        Error::MappingLost(_)
        | Error::LockLost(_)
        | Error::Bug(_)
        | Error::MergeFailed { .. }
        | Error::NumbersExhausted => io::ErrorKind::Other,
    }
}
