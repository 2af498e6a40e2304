//! maplsm, this project.

use std::path::Path;

use maplsm::{Cursor, Db, IoMode, Options, PointIndex, WriteBatch};

use crate::data::{Key, Value};
use crate::store::{Compression, Durability, Reader, Result, Settings, Store};

pub(crate) const MEANING: &str = "Buffered: in the log, in the page cache. Sync: `fdatasync` of the log, shared by \
    concurrent commits. Plain tables: no cache of its own, reads go to the mapped files; hash index (9.1 bytes a key) in \
    place of bloom filters. Compressed ones: a cache of unpacked blocks, bloom filters of 1 %, on all levels.";

pub(crate) const LARGE_MEANING: &str = " Values stand in value files, as by default.";

pub(crate) const READ_MEANING: &str = "The same with `IoMode::Read`: nothing is mapped, the cache is its own, every read \
    verifies checksums. Runs if it is asked for.";

pub(crate) const BLOOM_MEANING: &str = "The same with `PointIndex::Bloom` for plain tables as well: indexes are a seventh as \
    large. Runs if it is asked for.";

/// With this mode and point index.
pub(crate) struct Maplsm<const MAPPED: bool, const BLOOM: bool>(Db);

/// Reads the present state; the cursor, made when the first scan needs it, is of that moment.
pub(crate) struct MaplsmReader<'a> {
    db: &'a Db,
    cursor: Option<Cursor>,
}

impl<const MAPPED: bool, const BLOOM: bool> Store for Maplsm<MAPPED, BLOOM> {
    type Reader<'a> = MaplsmReader<'a>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let durability = match settings.durability {
            Durability::Buffered => maplsm::Durability::Buffered,
            Durability::Sync => maplsm::Durability::Sync,
        };
        let mut options = Options::new();
        options
            .durability(durability)
            .io_mode(if MAPPED { IoMode::Map } else { IoMode::Read })
            .memtable_bytes(settings.write_buffer_bytes)
            .background_threads(settings.background_threads)
            .cache_bytes(settings.cache_bytes as u64);
        let compression = match settings.compression {
            Compression::None => maplsm::Compression::None,
            Compression::Lz4 => maplsm::Compression::Lz4,
            Compression::Zstd => maplsm::Compression::Zstd(3),
        };
        if settings.compression != Compression::None {
            options.compression(compression).compressed_from_level(0);
        }
        if BLOOM || settings.compression != Compression::None {
            options.point_index(PointIndex::Bloom { error_rate: 0.01 });
        }
        if let Some(bytes) = settings.block_bytes {
            options.block_bytes(bytes);
        }
        Ok(Self(options.open(directory)?))
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.0.insert(key, value)?)
    }

    fn batch(&self, entries: &[(Key, Value)]) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (key, value) in entries {
            batch.insert(key, value);
        }
        Ok(self.0.write(batch)?)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.0.remove(key)?)
    }

    fn ingest(&self, entries: impl Iterator<Item = (Key, Value)>) -> Result<bool> {
        self.0.ingest(entries)?;
        Ok(true)
    }

    fn reader(&self) -> Result<MaplsmReader<'_>> {
        Ok(MaplsmReader { db: &self.0, cursor: None })
    }

    fn sync(&self) -> Result<()> {
        Ok(self.0.sync()?)
    }

    fn settle(&self) -> Result<()> {
        self.0.flush()?;
        Ok(self.0.wait_for_background()?)
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}

impl MaplsmReader<'_> {
    fn cursor(&mut self) -> &mut Cursor {
        self.cursor.get_or_insert_with(|| self.db.cursor())
    }
}

impl Reader for MaplsmReader<'_> {
    #[inline]
    fn get<T>(&mut self, key: &Key, see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.db.get(key)?.map(|value| see(&value)))
    }

    fn forward(&mut self, from: Option<&Key>, limit: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let cursor = self.cursor();
        let mut more = match from {
            Some(key) => cursor.seek(key)?,
            None => cursor.seek_first()?,
        };
        let mut left = limit;
        while more && left > 0 {
            see(cursor.key(), cursor.value());
            left -= 1;
            more = left > 0 && cursor.next()?;
        }
        Ok(())
    }

    fn backward(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let cursor = self.cursor();
        let mut more = cursor.seek_last()?;
        while more {
            see(cursor.key(), cursor.value());
            more = cursor.prev()?;
        }
        Ok(())
    }
}
