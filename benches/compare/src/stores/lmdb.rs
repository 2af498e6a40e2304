//! LMDB through heed: a copy-on-write B+tree in one mapped file, in C.

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, RwTxn, WithTls};

use crate::data::{Key, Value};
use crate::store::{Durability, Reader, Result, Settings, Store};

pub(crate) const MEANING: &str = "Buffered: `MDB_NOSYNC`, a transaction per write: survives the death of the process, but a \
    power cut may **destroy the database** (weaker than the LSM-trees, which lose only the end of the log). Sync: default \
    flags. Ingestion: one transaction of `MDB_APPEND`. No cache of its own, no background threads, no filters, no checksums. Reads of one workload share a \
    transaction, those beside writes have one each.";

/// The largest size of the file; address space, no memory.
const MAP_BYTES: usize = 64 << 30;

pub(crate) struct Lmdb {
    env: Env,
    database: Database<'static, Bytes, Bytes>,
}

impl Lmdb {
    fn write(&self, change: impl FnOnce(&mut RwTxn<'_>) -> heed::Result<()>) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        change(&mut transaction)?;
        Ok(transaction.commit()?)
    }
}

impl Store for Lmdb {
    type Reader<'a> = LmdbReader<'a>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        if settings.durability == Durability::Buffered {
            // SAFETY: without syncs, a crash of the machine may leave a broken file; the file does not outlive the run.
            #[expect(unsafe_code, reason = "the only way to set a flag")]
            unsafe {
                options.flags(EnvFlags::NO_SYNC);
            }
        }
        // SAFETY: the directory is this run's own; nobody else opens or changes the file.
        #[expect(unsafe_code, reason = "the only way to open")]
        let env = unsafe { options.open(directory)? };
        let transaction = env.write_txn()?;
        let created = env.create_databases_and_commit(transaction, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        match created {
            CommitOrAbort::Commit(database) => Ok(Self { env, database }),
            CommitOrAbort::Abort(()) => Err("LMDB made no database".into()),
        }
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write(|transaction| self.database.put(transaction, key, value))
    }

    fn batch(&self, entries: &[(Key, Value)]) -> Result<()> {
        self.write(|transaction| entries.iter().try_for_each(|(key, value)| self.database.put(transaction, key, value)))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.write(|transaction| self.database.delete(transaction, key).map(|_| ()))
    }

    fn ingest(&self, mut entries: impl Iterator<Item = (Key, Value)>) -> Result<bool> {
        self.write(|transaction| {
            entries
                .try_for_each(|(key, value)| self.database.put_with_flags(transaction, PutFlags::APPEND, &key, &value))
        })?;
        Ok(true)
    }

    fn reader(&self) -> Result<LmdbReader<'_>> {
        Ok(LmdbReader { transaction: self.env.read_txn()?, database: self.database })
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn settle(&self) -> Result<()> {
        self.sync()
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

/// A read transaction.
pub(crate) struct LmdbReader<'a> {
    transaction: RoTxn<'a, WithTls>,
    database: Database<'static, Bytes, Bytes>,
}

impl Reader for LmdbReader<'_> {
    #[inline]
    fn get<T>(&mut self, key: &Key, see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.database.get(&self.transaction, key)?.map(see))
    }

    fn forward(&mut self, from: Option<&Key>, limit: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let start = from.map_or(Bound::Unbounded, |key| Bound::Included(key.as_slice()));
        for entry in self.database.range(&self.transaction, &(start, Bound::Unbounded))?.take(limit) {
            let (key, value) = entry?;
            see(key, value);
        }
        Ok(())
    }

    fn backward(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        for entry in self.database.rev_iter(&self.transaction)? {
            let (key, value) = entry?;
            see(key, value);
        }
        Ok(())
    }
}
