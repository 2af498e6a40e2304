//! `RocksDB`, an LSM-tree in C++.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, IngestExternalFileOptions, Options, SstFileWriter,
    WaitForCompactOptions, WriteBatch, WriteOptions,
};

use crate::data::{Key, LARGE_VALUE_BYTES, Value};
use crate::store::{Compression, Durability, Reader, Result, Settings, Store};

pub(crate) const MEANING: &str = "Buffered: in the log, in the page cache. Sync: `WriteOptions::sync`, `fdatasync` of the \
    log, shared by concurrent commits. Block cache, bloom filters of 10 bits a key, levels and block size as by default. \
    Ingestion: `SstFileWriter`, files of 64 MiB, which are then moved.";

pub(crate) const LARGE_MEANING: &str = " BlobDB: `enable_blob_files`, `min_blob_size` 4096, `enable_blob_garbage_collection`, \
    a `blob_cache`, which is the block cache; what is ingested stays in its tables.";

pub(crate) struct RocksDb {
    db: DB,
    write: WriteOptions,
    /// What the database was opened with, for files that are written beside it.
    options: Options,
}

/// Where files to ingest are cut: the default of `target_file_size_base`.
const TABLE_BYTES: u64 = 64 << 20;

impl Store for RocksDb {
    type Reader<'a> = RocksDbReader<'a>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let mut blocks = BlockBasedOptions::default();
        let cache = Cache::new_lru_cache(settings.cache_bytes);
        blocks.set_block_cache(&cache);
        blocks.set_bloom_filter(10.0, false);
        if let Some(bytes) = settings.block_bytes {
            blocks.set_block_size(bytes as usize);
        }
        let mut options = Options::default();
        options.create_if_missing(true);
        let compression = match settings.compression {
            Compression::None => DBCompressionType::None,
            Compression::Lz4 => DBCompressionType::Lz4,
            Compression::Zstd => DBCompressionType::Zstd,
        };
        options.set_compression_type(compression);
        if settings.has_large_values() {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(LARGE_VALUE_BYTES as u64);
            options.set_enable_blob_gc(true);
            options.set_blob_compression_type(compression);
            options.set_blob_cache(&cache);
        }
        options.set_write_buffer_size(settings.write_buffer_bytes);
        options.set_max_background_jobs(i32::try_from(settings.background_threads)?);
        options.set_block_based_table_factory(&blocks);
        let mut write = WriteOptions::default();
        write.set_sync(settings.durability == Durability::Sync);
        Ok(Self { db: DB::open(&options, directory)?, write, options })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    fn batch(&self, entries: &[(Key, Value)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put(key, value);
        }
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.db.delete_opt(key, &self.write)?)
    }

    fn ingest(&self, entries: impl Iterator<Item = (Key, Value)>) -> Result<bool> {
        let mut entries = entries.peekable();
        let mut paths = Vec::new();
        while entries.peek().is_some() {
            let path = self.db.path().join(format!("ingested-{}", paths.len()));
            let mut file = SstFileWriter::create(&self.options);
            file.open(&path)?;
            while file.file_size() < TABLE_BYTES
                && let Some((key, value)) = entries.next()
            {
                file.put(key, value)?;
            }
            file.finish()?;
            paths.push(path);
        }
        let mut options = IngestExternalFileOptions::default();
        // Links instead of copies.
        options.set_move_files(true);
        self.db.ingest_external_file_opts(&options, paths)?;
        Ok(true)
    }

    fn reader(&self) -> Result<RocksDbReader<'_>> {
        Ok(RocksDbReader { db: &self.db, iterator: None })
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn settle(&self) -> Result<()> {
        self.db.flush()?;
        Ok(self.db.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

/// Reads the present state; the iterator, made when the first scan needs it, is of that moment.
pub(crate) struct RocksDbReader<'a> {
    db: &'a DB,
    iterator: Option<DBRawIterator<'a>>,
}

impl<'a> RocksDbReader<'a> {
    fn iterator(&mut self) -> &mut DBRawIterator<'a> {
        self.iterator.get_or_insert_with(|| self.db.raw_iterator())
    }
}

impl Reader for RocksDbReader<'_> {
    #[inline]
    fn get<T>(&mut self, key: &Key, see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.db.get_pinned(key)?.map(|value| see(&value)))
    }

    fn forward(&mut self, from: Option<&Key>, limit: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let iterator = self.iterator();
        match from {
            Some(key) => iterator.seek(key),
            None => iterator.seek_to_first(),
        }
        let mut left = limit;
        while left > 0
            && let Some((key, value)) = iterator.item()
        {
            see(key, value);
            left -= 1;
            if left > 0 {
                iterator.next();
            }
        }
        Ok(iterator.status()?)
    }

    fn backward(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let iterator = self.iterator();
        iterator.seek_to_last();
        while let Some((key, value)) = iterator.item() {
            see(key, value);
            iterator.prev();
        }
        Ok(iterator.status()?)
    }
}
