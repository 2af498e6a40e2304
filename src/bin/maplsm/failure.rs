//! Why a command ends early, and what the process answers then.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// What a command says that an interrupt has ended.
pub(crate) const INTERRUPTED: &str = "interrupted";

/// How a command ended, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Success,
    /// An error, or a key that is not there.
    Failed,
    /// A file of the database is damaged.
    Damaged,
    /// Somebody has ended it.
    Interrupted,
}

impl Status {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Damaged => 2,
            // As shells have it: 128 and the number of the signal.
            Self::Interrupted => 130,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
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

    pub(crate) fn interrupted() -> Self {
        Self::Reason { status: Status::Interrupted, text: INTERRUPTED.to_owned() }
    }

    pub(crate) fn is_interrupt(&self) -> bool {
        self.status() == Status::Interrupted
    }

    /// A file that the user named could not be worked on.
    pub(crate) fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Hangup,
            _ if is_interrupt(error) => Self::interrupted(),
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

/// An interrupt, as the error of a read that waited for input.
#[derive(Debug)]
pub(crate) struct Interrupt;

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(INTERRUPTED)
    }
}

impl std::error::Error for Interrupt {}

fn is_interrupt(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Interrupt>)
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
            Err(error) if is_interrupt(&error) => Self::interrupted(),
            Err(error) => Self::new(format_args!("cannot write the output: {error}")),
        }
    }
}

/// Writes a message to stderr. A closed stderr is no reason to stop, which is why this is not `eprintln!`.
pub(crate) fn say(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{message}");
}
