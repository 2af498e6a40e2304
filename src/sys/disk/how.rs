//! How files are opened.

use std::io;

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Read,
    /// To read and to write, made if it is missing and `create` is set.
    Write {
        create: bool,
    },
    /// To read and to write, and it must not be there.
    New,
}

pub(super) fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}
