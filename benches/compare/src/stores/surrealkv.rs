//! `surrealkv`, an LSM-tree in Rust whose commits are futures.

use std::collections::BTreeSet;
use std::fs::read_dir;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use surrealkv::{CompactRangeOptions, LSMIterator, Mode, Transaction, Tree, TreeBuilder};
use tokio::runtime::{Builder, Runtime};

use crate::data::{Key, Value};
use crate::store::{Durability, Reader, Result, Settings, Store};

pub(crate) const MEANING: &str = "Each write is a transaction, whose commit a runtime of `tokio` with as many threads is \
    blocked on. Buffered: `Durability::Eventual`, written to the page cache. Sync: `Durability::Immediate`. Bloom filters as \
    by default. What counts as settled: memtables flushed, and no file come or gone for 100 ms, which are part of the time.";

pub(crate) const LARGE_MEANING: &str = " `with_enable_vlog`: values of more than 1 KiB in a log of their own.";

/// Looks at the files, a millisecond apart, between which none may come or go.
const CALM_LOOKS: u32 = 100;

pub(crate) struct SurrealKv {
    tree: Tree,
    runtime: Runtime,
    directory: PathBuf,
    durability: surrealkv::Durability,
}

impl SurrealKv {
    /// Commits what `write` does.
    fn commit(&self, write: impl FnOnce(&mut Transaction) -> surrealkv::Result<()>) -> Result<()> {
        let mut transaction = self.tree.begin_with_mode(Mode::WriteOnly)?.with_durability(self.durability);
        write(&mut transaction)?;
        Ok(self.runtime.block_on(transaction.commit())?)
    }

    fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let (mut files, mut directories) = (BTreeSet::new(), vec![self.directory.clone()]);
        while let Some(directory) = directories.pop() {
            for entry in read_dir(directory)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    directories.push(entry.path());
                } else {
                    files.insert(entry.path());
                }
            }
        }
        Ok(files)
    }
}

impl Store for SurrealKv {
    type Reader<'a> = SurrealKvReader;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(settings.background_threads).enable_all().build()?;
        let mut builder = TreeBuilder::new()
            .with_path(directory.to_owned())
            .with_max_memtable_size(settings.write_buffer_bytes)
            .with_block_cache_capacity(settings.cache_bytes as u64)
            .with_enable_vlog(settings.has_large_values())
            .without_compression();
        if let Some(bytes) = settings.block_bytes {
            builder = builder.with_block_size(usize::try_from(bytes)?);
        }
        let tree = {
            let _entered = runtime.enter();
            builder.build()?
        };
        let durability = match settings.durability {
            Durability::Buffered => surrealkv::Durability::Eventual,
            Durability::Sync => surrealkv::Durability::Immediate,
        };
        Ok(Self { tree, runtime, directory: directory.to_owned(), durability })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.commit(|transaction| transaction.set(key.as_slice(), value))
    }

    fn batch(&self, entries: &[(Key, Value)]) -> Result<()> {
        self.commit(|transaction| entries.iter().try_for_each(|(key, value)| transaction.set(key.as_slice(), &**value)))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.commit(|transaction| transaction.delete(key.as_slice()))
    }

    fn reader(&self) -> Result<SurrealKvReader> {
        Ok(SurrealKvReader(self.tree.begin_with_mode(Mode::ReadOnly)?))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.tree.flush_wal(true)?)
    }

    fn settle(&self) -> Result<()> {
        self.sync()?;
        {
            // Flushes, and compacts nothing.
            let _entered = self.runtime.enter();
            let mut options = CompactRangeOptions::default();
            (options.target_level, options.rewrite_bottommost) = (Some(0), false);
            self.tree.compact_range(None, None, &options)?;
        }
        // There is no call that waits for compactions.
        let (mut files, mut looks) = (self.files()?, 0);
        while looks < CALM_LOOKS {
            sleep(Duration::from_millis(1));
            let now = self.files()?;
            looks = if now == files { looks + 1 } else { 0 };
            files = now;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}

/// A transaction, which stays at the state in which it has begun.
pub(crate) struct SurrealKvReader(Transaction);

impl Reader for SurrealKvReader {
    #[inline]
    fn get<T>(&mut self, key: &Key, see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.0.get(key.as_slice())?.map(|value| see(&value)))
    }

    fn forward(&mut self, from: Option<&Key>, limit: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut entries = self.0.scan(from.map_or(&[][..], |key| key.as_slice())..)?;
        let mut found = entries.seek_first()?;
        for left in (0..limit).rev() {
            if !found {
                break;
            }
            see(entries.key().user_key(), &entries.value_ref()?);
            found = left > 0 && entries.next()?;
        }
        Ok(())
    }

    fn backward(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut entries = self.0.iter()?;
        let mut found = entries.seek_last()?;
        while found {
            see(entries.key().user_key(), &entries.value_ref()?);
            found = entries.prev()?;
        }
        Ok(())
    }
}
