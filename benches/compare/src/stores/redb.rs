//! redb, a copy-on-write B-tree in Rust.

use std::path::Path;

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition};

use crate::data::{Key, Value};
use crate::store::{Durability, Reader, Result, Settings, Store};

pub(crate) const MEANING: &str = "Buffered: `Durability::None`, a transaction per write, which does **not** survive the \
    death of the process (weaker than the others). Sync: `Durability::Immediate`. No background threads, no filters; its \
    cache is also its write buffer. Reads of one workload share a transaction, those beside writes have one each.";

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("compare");

pub(crate) struct Redb {
    database: Database,
    durability: redb::Durability,
}

impl Redb {
    fn write(&self, change: impl FnOnce(&mut Table<'_, &[u8], &[u8]>) -> Result<()>) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        change(&mut transaction.open_table(TABLE)?)?;
        Ok(transaction.commit()?)
    }
}

impl Store for Redb {
    type Reader<'a> = RedbReader;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let database = Database::builder().set_cache_size(settings.cache_bytes).create(directory.join("redb"))?;
        let durability = match settings.durability {
            Durability::Buffered => redb::Durability::None,
            Durability::Sync => redb::Durability::Immediate,
        };
        let store = Self { database, durability };
        // Makes the table, which readers could not find otherwise.
        store.write(|_| Ok(()))?;
        Ok(store)
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write(|table| {
            table.insert(key.as_slice(), value)?;
            Ok(())
        })
    }

    fn batch(&self, entries: &[(Key, Value)]) -> Result<()> {
        self.write(|table| {
            for (key, value) in entries {
                table.insert(key.as_slice(), &**value)?;
            }
            Ok(())
        })
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.write(|table| {
            table.remove(key.as_slice())?;
            Ok(())
        })
    }

    fn reader(&self) -> Result<RedbReader> {
        Ok(RedbReader(self.database.begin_read()?.open_table(TABLE)?))
    }

    fn sync(&self) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(redb::Durability::Immediate)?;
        Ok(transaction.commit()?)
    }

    fn settle(&self) -> Result<()> {
        self.sync()
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

/// A read transaction.
pub(crate) struct RedbReader(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Reader for RedbReader {
    #[inline]
    fn get<T>(&mut self, key: &Key, see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.0.get(key.as_slice())?.map(|value| see(value.value())))
    }

    fn forward(&mut self, from: Option<&Key>, limit: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let entries = match from {
            Some(key) => self.0.range(key.as_slice()..)?,
            None => self.0.iter()?,
        };
        for entry in entries.take(limit) {
            let (key, value) = entry?;
            see(key.value(), value.value());
        }
        Ok(())
    }

    fn backward(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        for entry in self.0.iter()?.rev() {
            let (key, value) = entry?;
            see(key.value(), value.value());
        }
        Ok(())
    }
}
