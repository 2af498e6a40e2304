//! Why a command ends early, and what the process answers then.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// How a command ended, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Success,
    /// An error, or a key that is not there.
    Failed,
    /// A file of the database is damaged.
    Damaged,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => Self::SUCCESS,
            Status::Failed => Self::from(1),
            Status::Damaged => Self::from(2),
        }
    }
}

/// The end of a command before its work was done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads the output any more.
    Hangup,
    /// Anything the user should be told.
    Reason { status: Status, text: String },
}

impl Failure {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self::Reason { status: Status::Failed, text: text.to_string() }
    }

    /// A file that the user named could not be worked on.
    pub(crate) fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Hangup,
            _ => Self::new(format_args!("cannot {verb} {}: {error}", path.display())),
        }
    }

    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Hangup => Status::Success,
            Self::Reason { status, .. } => *status,
        }
    }

    /// Puts the place where it happened in front of the reason.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        match self {
            Self::Hangup => Self::Hangup,
            Self::Reason { status, text } => Self::Reason { status, text: format!("{place}: {text}") },
        }
    }

    /// Adds what follows from it.
    pub(crate) fn with_note(self, note: impl fmt::Display) -> Self {
        match self {
            Self::Hangup => Self::Hangup,
            Self::Reason { status, text } => Self::Reason { status, text: format!("{text}\n{note}") },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hangup => f.write_str("the output is closed"),
            Self::Reason { text, .. } => f.write_str(text),
        }
    }
}

impl From<maplsm::Error> for Failure {
    fn from(error: maplsm::Error) -> Self {
        let status = if error.is_corruption() { Status::Damaged } else { Status::Failed };
        Self::Reason { status, text: error.to_string() }
    }
}

/// Errors that travel by `?` come from the standard output, or from the store in front of it; others are named by
/// [`Failure::file`].
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.downcast::<maplsm::Error>() {
            Ok(error) => error.into(),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Self::Hangup,
            Err(error) => Self::new(format_args!("cannot write the output: {error}")),
        }
    }
}

/// Writes a message to stderr. A closed stderr is no reason to stop, which is why this is not `eprintln!`.
pub(crate) fn say(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{message}");
}
