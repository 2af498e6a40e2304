//! fjall, an LSM-tree in Rust.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use crate::data::{Key, Value};
use crate::store::{Durability, Reader, Result, Settings, Store};

pub(crate) const MEANING: &str = "Buffered: `PersistMode::Buffer`, written to the page cache. Sync: \
    `PersistMode::SyncData`; concurrent commits do not share a sync. Bloom filters as by default: 10 bits a key, on level 0 \
    0.01 % false positives. What counts as settled: neither flushes nor compactions for 20 ms, which are part of the time.";

pub(crate) const LARGE_MEANING: &str = " `KvSeparationOptions` as by default: values in blob files.";

pub(crate) struct Fjall {
    database: Database,
    keyspace: Keyspace,
    /// What a write waits for.
    mode: PersistMode,
}

impl Store for Fjall {
    type Reader<'a> = FjallReader<'a>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let database = Database::builder(directory)
            .cache_size(settings.cache_bytes as u64)
            .worker_threads(settings.background_threads)
            .journal_compression(CompressionType::None)
            .open()?;
        let keyspace = database.keyspace("compare", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(settings.write_buffer_bytes as u64)
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
                .with_kv_separation(settings.has_large_values().then(KvSeparationOptions::default))
        })?;
        let mode = match settings.durability {
            Durability::Buffered => PersistMode::Buffer,
            Durability::Sync => PersistMode::SyncData,
        };
        Ok(Self { database, keyspace, mode })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value)?;
        self.persist()
    }

    fn batch(&self, entries: &[(Key, Value)]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(self.mode));
        for (key, value) in entries {
            batch.insert(&self.keyspace, key, &**value);
        }
        Ok(batch.commit()?)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.keyspace.remove(key)?;
        self.persist()
    }

    fn ingest(&self, entries: impl Iterator<Item = (Key, Value)>) -> Result<bool> {
        let mut ingestion = self.keyspace.start_ingestion()?;
        for (key, value) in entries {
            ingestion.write(key, &*value)?;
        }
        ingestion.finish()?;
        // The tables are synced by now; this is for the keyspace that was made before.
        self.database.persist(PersistMode::SyncData)?;
        Ok(true)
    }

    fn reader(&self) -> Result<FjallReader<'_>> {
        Ok(FjallReader(&self.keyspace))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn settle(&self) -> Result<()> {
        self.sync()?;
        self.keyspace.rotate_memtable_and_wait()?;
        // There is no call that waits for compactions, and a due one may not have begun yet.
        let mut idle = 0;
        while idle < 20 {
            let busy = self.database.active_compactions() > 0
                || self.database.outstanding_flushes() > 0
                || self.keyspace.sealed_memtable_count() > 0;
            idle = if busy { 0 } else { idle + 1 };
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Fjall {
    /// Waits until a single write is as durable as it must be; `insert` and `remove` themselves write to the page cache.
    fn persist(&self) -> Result<()> {
        if self.mode == PersistMode::Buffer { Ok(()) } else { Ok(self.database.persist(self.mode)?) }
    }
}

/// Every read is of the present state.
pub(crate) struct FjallReader<'a>(&'a Keyspace);

impl Reader for FjallReader<'_> {
    #[inline]
    fn get<T>(&mut self, key: &Key, see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.0.get(key)?.map(|value| see(&value)))
    }

    fn forward(&mut self, from: Option<&Key>, limit: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let entries = match from {
            Some(key) => self.0.range::<&Key, _>(key..),
            None => self.0.iter(),
        };
        for guard in entries.take(limit) {
            let (key, value) = guard.into_inner()?;
            see(&key, &value);
        }
        Ok(())
    }

    fn backward(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        for guard in self.0.iter().rev() {
            let (key, value) = guard.into_inner()?;
            see(&key, &value);
        }
        Ok(())
    }
}
