//! Snapshots as files: what openraft streams, what is in them, and where they are.

mod directory;
mod file;
mod format;

pub(crate) use directory::{Directory, SnapshotRecord};
pub use file::SnapshotFile;
pub(crate) use file::Unfinished;
pub(crate) use format::{Reader, Writer};
