//! The bytes of a key on their way back to values.

use std::fmt;

use crate::error::Error;

/// What is left of a key while it is decoded.
#[derive(Debug)]
pub struct KeyInput<'k> {
    key: &'k [u8],
    at: usize,
    /// What each byte is combined with: inside of a [`Reverse`](std::cmp::Reverse), all bits are flipped.
    flip: u8,
}

/// Why bytes are no key of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The key ends too early.
    Short {
        /// Its length.
        bytes: usize,
    },
    /// Something is left over behind the value.
    Long {
        /// Where the value ends.
        at: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Something else is in its place.
    Unexpected {
        /// Where it ends.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { bytes } => write!(f, "it ends too early, after {bytes} bytes"),
            Self::Long { at, left } => write!(f, "it ends after {at} bytes, and {left} more follow"),
            Self::Unexpected { at, expected } => write!(f, "what ends after {at} bytes is not {expected}"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Codec { call: "decode", what: "key", problem: error.to_string().into() }
    }
}

impl<'k> KeyInput<'k> {
    pub(super) fn new(key: &'k [u8]) -> Self {
        Self { key, at: 0, flip: 0 }
    }

    /// Takes `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] if there are fewer.
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.key.get(self.at..).and_then(|left| left.first_chunk::<N>());
        let bytes = bytes.ok_or(DecodeError::Short { bytes: self.key.len() })?;
        self.at += N;
        Ok(bytes.map(|byte| byte ^ self.flip))
    }

    /// The error that says that something else stands in front of here than what is expected: `a subject`.
    pub fn refuse(&self, expected: &'static str) -> DecodeError {
        DecodeError::Unexpected { at: self.at, expected }
    }

    /// Flips all bits of what comes, or no longer.
    pub(super) fn turn(&mut self) {
        self.flip = !self.flip;
    }

    /// Demands that nothing is left.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.key.len() - self.at {
            0 => Ok(()),
            left => Err(DecodeError::Long { at: self.at, left }),
        }
    }
}
