//! Embedded ordered key-value store: an LSM-tree over memory-mapped, zero-copy file formats.

mod batch;
mod db;
mod engine;
mod error;
mod format;
pub mod inspect;
mod iter;
mod log;
mod memtable;
mod merge;
mod options;
mod slice;
mod snapshot;
mod stats;
mod sys;
mod table;
mod version;
mod visibility;

pub use batch::WriteBatch;
pub use db::Db;
pub use engine::{DroppedTail, RecoveryReport, Report};
pub use error::{Corruption, Damage, Error, ErrorKind, Feature, IoError, Result, Unsupported};
pub use iter::{Cursor, Entry, Iter};
pub use options::{Compression, Durability, IoMode, Options, PointIndex};
pub use slice::Slice;
pub use snapshot::{Ref, Snapshot};
pub use stats::{LevelStats, Stats, TableStats};
pub use sys::FileSystem;
pub use sys::sim::{Fault, SimFs};
