//! How fields of statistics, events and reports are serialized whose types have no form of their own, or one that readers of
//! JSON have no use for.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A duration as a number of seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

/// A path as text; what is not Unicode in it stands as U+FFFD.
#[expect(clippy::ptr_arg, reason = "the type of the field")]
pub(crate) fn path<S: Serializer>(path: &PathBuf, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

/// Paths as a list of texts.
pub(crate) fn paths<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().serialize(to)
}

/// Bytes as text in which all that is not printable ASCII stands as an escape.
pub(crate) fn bytes<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&bytes.escape_ascii())
}
