//! Cases that cannot happen, on a path that writes.
//!
//! What does not fit into the types is one of three things there:
//!
//! 1. An input: an argument, the answer of the operating system, the bytes of a file. It is refused with a typed error of its
//!    own, and nothing here is for it: what a *reader* finds in a file is damage, whoever is to blame.
//! 2. Impossible: [`bug`] or [`must`]. With debug assertions, and so in all tests, it panics. In a release it is an
//!    [`Error::Bug`](crate::Error::Bug), and the store takes no more writes: what would follow is a table without an entry or a
//!    log that no open accepts, and both are worse than an error.
//! 3. Harmless by definition. A comment says why.
//!
//! It is never passed over: no default value, no saturated number, no early `Ok`.

use std::fmt;
use std::io;

/// The case that cannot happen behind [`Error::Bug`](crate::Error::Bug).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// What was found.
    pub what: &'static str,
    /// The source file of this crate that found it, ...
    pub file: &'static str,
    /// ... and the line.
    pub line: u32,
}

impl Bug {
    /// The error without the panic, for those who are unwinding already.
    #[cold]
    #[track_caller]
    pub(crate) fn here(what: &'static str) -> Self {
        let place = std::panic::Location::caller();
        Self { what, file: place.file(), line: place.line() }
    }
}

/// What cannot happen has: panics with debug assertions, and returns the error otherwise.
#[cold]
#[track_caller]
#[allow(clippy::assertions_on_constants)]
pub(crate) fn bug(what: &'static str) -> Bug {
    assert!(!cfg!(debug_assertions), "{}", Bug::here(what));
    Bug::here(what)
}

/// Returns a [`bug`] unless `holds`.
#[inline]
#[track_caller]
pub(crate) fn must(holds: bool, what: &'static str) -> Result<(), Bug> {
    if holds { Ok(()) } else { Err(bug(what)) }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this cannot happen, please report it: {} ({}:{})", self.what, self.file, self.line)
    }
}

impl std::error::Error for Bug {}

/// Wherever an error of the operating system is expected; `Error::io` takes it out again.
impl From<Bug> for io::Error {
    fn from(bug: Bug) -> Self {
        Self::other(bug)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::Error;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// What `attempt`, which must come to a bug, says of it: by a panic with debug assertions, by its error without.
    pub(crate) fn found_by<T>(attempt: impl FnOnce() -> Result<T, Error>) -> String {
        match catch_unwind(AssertUnwindSafe(attempt)) {
            Err(panic) if cfg!(debug_assertions) => *panic.downcast::<String>().expect("a message"),
            Ok(Err(Error::Bug(bug))) if !cfg!(debug_assertions) => bug.to_string(),
            Ok(Err(other)) => panic!("an error that is no bug: {other}"),
            Ok(Ok(_)) => panic!("not noticed"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    #[test]
    fn bugs_say_where_they_are_and_pass_through_errors_of_the_system() {
        let bug = Bug::here("two and two are five");
        let line = line!() - 1;
        assert_eq!((bug.file, bug.line), (file!(), line));
        assert!(bug.to_string().contains(&format!("two and two are five ({}:{line})", file!())), "{bug}");
        let error = Error::io("write", std::path::Path::new("/a/file"), bug.into());
        assert!(matches!(error, Error::Bug(found) if found == bug), "{error}");
        assert_eq!(error.kind(), crate::ErrorKind::Bug);
        assert!(must(true, "nothing").is_ok());
    }

    #[test]
    fn builds_with_debug_assertions_panic_and_others_answer() {
        let found = found_by(|| Ok(must(false, "planted")?));
        assert!(found.starts_with("this cannot happen, please report it: planted (src/error/bug.rs:"), "{found}");
    }
}
