//! What is shown, and where it goes.

use std::io;
use std::path::Path;

use crate::error::{Error, Fault, Result};
use crate::format::prefix::VERSION;

/// A structure found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<'a> {
    /// Where it stands, in bytes from the start of the file.
    pub offset: u64,
    /// What it is: `table`, `group`, `entry`, ...
    pub kind: &'static str,
    /// What it says, in order; each name occurs once.
    pub fields: Vec<(&'static str, Value<'a>)>,
}

/// The value of a field.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, length or offset.
    Number(u64),
    /// One of a few names.
    Text(&'static str),
    /// Bytes of the user: a key or a value.
    Bytes(&'a [u8]),
    /// The id of a database or table.
    Id([u8; 16]),
}

/// Where items go, and how their file is named in errors.
pub(super) struct Sink<'s> {
    pub(super) path: &'s Path,
    pub(super) show: &'s mut dyn FnMut(Item<'_>) -> io::Result<()>,
}

impl Sink<'_> {
    pub(super) fn item(
        &mut self,
        offset: u64,
        kind: &'static str,
        fields: Vec<(&'static str, Value<'_>)>,
    ) -> Result<()> {
        (self.show)(Item { offset, kind, fields }).map_err(|e| Error::io("show", self.path, e))
    }

    pub(super) fn damaged(&self, offset: u64, fault: impl Into<Fault>) -> Error {
        fault.into().at(self.path, offset)
    }
}

/// The version of the format; checked by whoever parses a header.
pub(super) fn version() -> Value<'static> {
    Value::Number(u64::from(VERSION))
}

pub(super) fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
