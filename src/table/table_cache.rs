//! Where the tables of a database stand.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::budget::Budget;
use super::cache::BlockCache;
use super::file::ChunkedFile;
use super::open::OpenTables;
use crate::error::{Damage, Error, Result};
use crate::format::FileNumber;
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::options::TableOptions;
use crate::sys::{Advice, AppendFile, Contents, Dir, memory_allowed};

/// What the tables of a database have in common: where they are, how they are read, and the cache of their blocks.
#[derive(Debug)]
pub(crate) struct TableCache {
    pub(crate) dir: Arc<dyn Dir>,
    pub(crate) options: TableOptions,
    pub(super) cache: BlockCache,
    pub(crate) open: OpenTables,
    /// For indexes that are mapped.
    pub(crate) index_memory: Budget,
    /// The directory may be another database's.
    given_up: AtomicBool,
}

/// Why a file that must be there cannot be opened: only its absence is damage.
pub(super) fn not_opened(path: &Path, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound => Error::corrupt(path, 0, Damage::Missing),
        _ => Error::io("open", path, e),
    }
}

impl TableCache {
    /// With a cache of at most `cache_bytes`, and at most `max_open` tables and value files open, or as many as suits the
    /// system.
    pub(crate) fn new(
        dir: Arc<dyn Dir>,
        options: TableOptions,
        cache_bytes: u64,
        max_open: Option<usize>,
    ) -> Arc<Self> {
        let open = OpenTables::new(max_open, dir.open_files().clone());
        let index_memory = Budget::new(options.index_memory_bytes.unwrap_or_else(|| memory_allowed() / 2));
        let (cache, given_up) = (BlockCache::new(cache_bytes), AtomicBool::new(false));
        Arc::new(Self { dir, options, cache, open, index_memory, given_up })
    }

    /// To be called before others can get at the directory: what files are there from then on, says nothing about this
    /// database.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// What a look at a file has come to. The flag is up before a file can be another one, or gone; so if it is not up behind
    /// the look, what was seen is this database's.
    pub(super) fn looked<T>(&self, look: Result<T>) -> Result<T> {
        look.map_err(|e| {
            fence(Ordering::SeqCst);
            if self.given_up.load(Ordering::SeqCst) { Error::Closed } else { e }
        })
    }

    /// What a table or value file holds.
    pub(super) fn contents(&self, name: &str) -> io::Result<Contents> {
        let advice = if self.options.advise_random { Advice::Random } else { Advice::Normal };
        self.dir.contents(name, advice)
    }

    /// Opens a table or value file.
    pub(super) fn file(&self, kind: FileKind, magic: Magic, number: FileNumber) -> Result<ChunkedFile> {
        let name = kind.name(number);
        let path = self.dir.path().join(&name);
        let contents = self.contents(&name).map_err(|e| not_opened(&path, e))?;
        ChunkedFile::open_contents(path, contents, magic, self.options.verify_always)
    }

    /// Makes a table or value file.
    pub(super) fn create(&self, kind: FileKind, number: FileNumber) -> Result<Box<dyn AppendFile>> {
        let name = kind.name(number);
        self.dir.create(&name).map_err(|e| Error::io("create", &self.dir.path().join(&name), e))
    }

    /// Bytes that unpacked blocks take in the cache.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// How often a read found its block in the cache, and how often not.
    pub(crate) fn cache_hits_and_misses(&self) -> (u64, u64) {
        self.cache.hits_and_misses()
    }
}
