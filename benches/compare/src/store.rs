//! What a store must be able to do here.

use std::error::Error;
use std::path::Path;

use clap::ValueEnum;

use crate::data::{Key, LARGE_VALUE_BYTES, Value};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Memory and threads, the same for every store that has such a setting.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) durability: Durability,
    /// Bytes of a memtable.
    pub(crate) write_buffer_bytes: usize,
    /// Bytes of the store's own cache, if it does not rely on the kernel's.
    pub(crate) cache_bytes: usize,
    pub(crate) background_threads: usize,
    pub(crate) compression: Compression,
    /// Bytes that are compressed together; the store's own choice if there is none.
    pub(crate) block_bytes: Option<u32>,
    pub(crate) value_bytes: usize,
}

impl Settings {
    /// Whether values are of a size to be kept apart from their keys.
    pub(crate) fn has_large_values(&self) -> bool {
        self.value_bytes >= LARGE_VALUE_BYTES
    }
}

/// How tables are compressed, where a store can do that.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    None,
    Lz4,
    /// Of level 3.
    Zstd,
}

/// What has happened when a write returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The kernel has it, where the store can do that.
    Buffered,
    /// `fdatasync` has returned.
    Sync,
}

/// A store under comparison. Methods do what a program that knows the store would do; they copy nothing that it need not
/// copy.
pub(crate) trait Store: Sized + Sync {
    type Reader<'a>: Reader
    where
        Self: 'a;

    /// Opens the store in an existing directory, which is empty the first time.
    fn open(directory: &Path, settings: Settings) -> Result<Self>;

    fn put(&self, key: &Key, value: &[u8]) -> Result<()>;

    /// Puts all entries or none.
    fn batch(&self, entries: &[(Key, Value)]) -> Result<()>;

    fn delete(&self, key: &Key) -> Result<()>;

    /// Loads entries in order of key into the empty store, which was opened with [`Durability::Sync`], and makes them durable.
    /// False if the store has no way of its own to do that.
    fn ingest(&self, _entries: impl Iterator<Item = (Key, Value)>) -> Result<bool> {
        Ok(false)
    }

    /// The present state, to read from. Stores whose reads need a transaction begin one here; the others may answer from
    /// newer states.
    fn reader(&self) -> Result<Self::Reader<'_>>;

    /// Makes everything durable.
    fn sync(&self) -> Result<()>;

    /// Makes everything durable and waits until the store has no work left to do in the background.
    fn settle(&self) -> Result<()>;

    fn close(self) -> Result<()>;
}

/// Reads, each of which lends what it finds to `see`.
pub(crate) trait Reader {
    fn get<T>(&mut self, key: &Key, see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>>;

    /// At most `limit` entries in order of key, from the first one at or behind `from`, or from the very first.
    fn forward(&mut self, from: Option<&Key>, limit: usize, see: impl FnMut(&[u8], &[u8])) -> Result<()>;

    /// All entries in reverse order.
    fn backward(&mut self, see: impl FnMut(&[u8], &[u8])) -> Result<()>;
}
