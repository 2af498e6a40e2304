//! Options: few, flat, checked once at open.

mod io;
mod memtable;
mod merging;
mod operators;
mod reading;
mod section;
mod watch;
mod write;

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::Listener;
pub(crate) use crate::format::section_options::SectionOptions;
pub use crate::format::section_options::{Compression, PointIndex};
use crate::format::table::CHUNK_LOG2;
use crate::sys::FileSystem;
pub use io::IoMode;
use operators::MergeOptions;
pub use section::KeyspaceOptions;
use section::{exact_log2, threshold};

/// When a write counts as done.
///
/// Whatever the choice, the state after any crash is a prefix of the history of commits, and a batch is there whole or not
/// at all. A write is visible to other readers before its sync has completed; after a failed sync they may still see writes
/// whose commit returned an error, until the store is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// On disk before the call returns (one `fdatasync`, shared by everyone who waits for one): survives power loss.
    #[default]
    Sync,
    /// In the kernel's page cache before the call returns: survives the death of the process, not of the machine.
    Buffered,
}

/// What a [`Transaction`](crate::Transaction) relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// On everything that it has read: committed transactions are equivalent to running one after another.
    #[default]
    Serializable,
    /// On what it has written: nobody else may have written the same keys since it began. Remembers no reads and so costs
    /// less, but two transactions that each read what the other writes may both commit (write skew).
    Snapshot,
}

/// What a compaction filter is asked about: an entry that everyone who reads the store sees, and that nothing older hides
/// behind.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct FilterEntry<'e> {
    /// Its key.
    pub key: &'e [u8],
    /// Its value.
    pub value: &'e [u8],
}

/// What a compaction filter returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The entry stays.
    Keep,
    /// The entry goes, as if it had been removed.
    Remove,
}

#[derive(Clone)]
pub(crate) struct Filter(pub(crate) Arc<dyn Fn(FilterEntry<'_>) -> Verdict + Send + Sync>);

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

/// How to open a database.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use maplsm::{Durability, Options};
///
/// let db = Options::new().memtable_bytes(16 << 20).durability(Durability::Buffered).open(dir.path().join("db"))?;
/// db.insert("key", "value")?;
/// # db.close()
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) create_if_missing: bool,
    pub(crate) read_only: bool,
    pub(crate) durability: Durability,
    pub(crate) io_mode: IoMode,
    pub(crate) memtable_bytes: usize,
    pub(crate) memtable_entries: Option<usize>,
    pub(crate) max_batch_bytes: u64,
    max_frozen_bytes: Option<u64>,
    pub(crate) background_threads: usize,
    pub(crate) table: TableOptions,
    pub(crate) table_bytes: u64,
    pub(crate) level_bytes_base: u64,
    pub(crate) level_multiplier: u32,
    pub(crate) l0_tables: usize,
    pub(crate) cache_bytes: u64,
    pub(crate) max_open_tables: Option<usize>,
    pub(crate) reserve_bytes: u64,
    pub(crate) compaction_filter: Option<Filter>,
    pub(crate) statistics: bool,
    pub(crate) listener: Option<Listener>,
    pub(crate) operators: MergeOptions,
    pub(crate) file_system: FileSystem,
}

/// How tables are written and read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TableOptions {
    /// Of the default keyspace; other keyspaces have their own.
    pub(crate) section: SectionOptions,
    pub(crate) chunk_log2: u8,
    pub(crate) verify_always: bool,
    pub(crate) advise_random: bool,
    pub(crate) readahead_bytes: usize,
    /// For the indexes of mapped tables; a half of what there is if it is not said.
    pub(crate) index_memory_bytes: Option<u64>,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            section: SectionOptions::default(),
            chunk_log2: *CHUNK_LOG2.start(),
            verify_always: false,
            advise_random: true,
            readahead_bytes: 512 << 10,
            index_memory_bytes: None,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create_if_missing: true,
            read_only: false,
            durability: Durability::default(),
            io_mode: IoMode::default(),
            memtable_bytes: memtable::default_memtable_bytes(),
            memtable_entries: None,
            max_batch_bytes: 8 << 30,
            max_frozen_bytes: None,
            background_threads: 2,
            table: TableOptions::default(),
            table_bytes: 64 << 20,
            level_bytes_base: 256 << 20,
            level_multiplier: 10,
            l0_tables: 8,
            cache_bytes: 64 << 20,
            max_open_tables: None,
            reserve_bytes: 96 << 20,
            compaction_filter: None,
            statistics: true,
            listener: None,
            operators: MergeOptions::default(),
            file_system: FileSystem::default(),
        }
    }
}

impl Options {
    /// The defaults, which suit most programs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the database if there is none. Default: true.
    pub fn create_if_missing(&mut self, create: bool) -> &mut Self {
        self.create_if_missing = create;
        self
    }

    /// Opens for reading only: takes a shared lock, replays the log in memory, and creates, changes and removes nothing.
    /// Refused with [`Error::Locked`] while a writer has the database. Default: false.
    pub fn read_only(&mut self, read_only: bool) -> &mut Self {
        self.read_only = read_only;
        self
    }

    /// When a write counts as done, unless it says otherwise itself. Default: [`Durability::Sync`].
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = durability;
        self
    }

    /// Threads that flush and compact. With 0, that happens in [`Db::maintain`](crate::Db::maintain), and in writes that
    /// would otherwise have to be slowed down for it. Default: 2.
    pub fn background_threads(&mut self, threads: usize) -> &mut Self {
        self.background_threads = threads;
        self
    }

    /// Keys per entry of the sparse index ("sparsity"), 1 to 256, which tables with [`PointIndex::Bloom`] have. Fewer make
    /// lookups and seeks shorter and the index larger (12 bytes an entry). Tables with [`PointIndex::Hash`] have a place for
    /// each key and no use for it. For the default keyspace, and for others that are created without their own. Default: 16.
    pub fn index_interval(&mut self, keys: u16) -> &mut Self {
        self.table.section.interval = keys;
        self
    }

    /// How tables find single keys. For the default keyspace, and for others that are created without their own. Default:
    /// [`PointIndex::Hash`].
    pub fn point_index(&mut self, index: PointIndex) -> &mut Self {
        self.table.section.point_index = index;
        self
    }

    /// Values of at least this many bytes stand apart from their entries, in value files: a flush, a load or the first
    /// compaction writes them there once, and compactions after that copy pointers to them. A read hands out the mapped value
    /// as ever, at an address that is a multiple of 16. `None` for no such values; at least 64. For the default keyspace, and
    /// for others that are created without their own. Default: 4 KiB; none where there is [compression](Self::compression),
    /// since values in value files are not compressed.
    ///
    /// Measured on two cores, values loaded and half of them overwritten, apart against inside (`cargo bench --bench values`):
    ///
    /// | value | overwrite, MB/s | written for each byte put | get, ns | scan, ns an entry |
    /// |---:|---:|---:|---:|---:|
    /// | 1 KiB | 498 : 277 | 2.7 : 3.6 | 593 : 438 | 223 : 66 |
    /// | 2 KiB | 412 : 286 | 2.5 : 3.6 | 525 : 365 | 358 : 78 |
    /// | 4 KiB | 644 : 260 | 2.5 : 3.6 | 642 : 477 | 594 : 431 |
    /// | 16 KiB | 770 : 535 | 2.4 : 3.6 | 422 : 625 | 1301 : 1219 |
    /// | 64 KiB | 835 : 575 | 2.4 : 3.5 | 450 : 420 | 3155 : 2941 |
    ///
    /// What it costs is a second place to look at in each read, and space: values that were overwritten or removed stay in
    /// their files as garbage until that is collected. While the store is busy, garbage may take as much as the values that
    /// tables refer to, so that value files take up to twice their size; once it has settled
    /// ([`wait_for_background`](crate::Db::wait_for_background), or a second without a commit), a quarter of it. What is
    /// being collected comes on top until it is done, and so do files that snapshots and iterators hold.
    /// [`Db::compact`](crate::Db::compact) leaves no garbage. [`Stats::value_files`](crate::Stats::value_files) shows it.
    pub fn large_value_bytes(&mut self, bytes: Option<u32>) -> &mut Self {
        self.table.section.threshold = Some(threshold(bytes));
        self
    }

    /// Compression of tables. For the default keyspace, and for others that are created without their own. What is there is
    /// compressed anew when it is compacted, so this may differ from open to open. Default: [`Compression::None`].
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// use maplsm::{Compression, Options, PointIndex};
    ///
    /// let mut options = Options::new();
    /// options.point_index(PointIndex::Bloom { error_rate: 0.01 }); // a small index for small tables
    /// if cfg!(feature = "lz4") {
    ///     options.compression(Compression::Lz4);
    /// }
    /// let db = options.open(dir.path().join("db"))?;
    /// db.insert("key", "value ".repeat(1000))?;
    /// db.compact()?; // settled data is compressed
    /// assert_eq!(db.get("key")?.map(|value| value.len()), Some(6000));
    /// # db.close()
    /// # }
    /// ```
    pub fn compression(&mut self, compression: Compression) -> &mut Self {
        self.table.section.compression = compression;
        self
    }

    /// The first level whose tables are compressed, 0 to 6; those above are plain. Level 0 has what was flushed lately, and
    /// all settled data is below it. With 0, a flush compresses as well, which costs it time and saves little space. For the
    /// default keyspace, and for others that are created without their own. Default: 1.
    pub fn compressed_from_level(&mut self, level: u8) -> &mut Self {
        self.table.section.compressed_from = level;
        self
    }

    /// Bytes of entries that are compressed together, a power of two from 4 KiB to 1 MiB. A larger block shrinks further, and
    /// costs more to unpack for one key. An entry that is larger is a block of its own. For the default keyspace, and for
    /// others that are created without their own. Default: 16 KiB.
    pub fn block_bytes(&mut self, bytes: u32) -> &mut Self {
        self.table.section.block_log2 = exact_log2(bytes);
        self
    }

    /// Memory for unpacked blocks of compressed tables and, in [`IoMode::Read`], for pages of plain ones, in bytes, for the
    /// whole database. Blocks that a [`Slice`](crate::Slice) or an iterator holds on to after they have left the cache come
    /// on top, as do memtables and, in [`IoMode::Read`], indexes. Plain tables that are mapped need no cache but the
    /// operating system's. 0: every read unpacks its block. At most 1 TiB; default: 64 MiB, taken as it is needed.
    pub fn cache_bytes(&mut self, bytes: u64) -> &mut Self {
        self.cache_bytes = bytes;
        self
    }

    /// Tables, and value files, that the database keeps open. One more lets go of one that has not been used for the longest
    /// time, and opening it again takes some 50 us, as much as 100 lookups. At least 1. Default: a quarter of what the
    /// system gives the process, at most 8,192.
    ///
    /// An open table takes two mappings of `vm.max_map_count` (so that the default is 8,191 where that is 65,530), a value
    /// file one; with [`IoMode::Read`], each takes one descriptor of `RLIMIT_NOFILE`. All databases of a process together
    /// begin to let go at a half of either. What [slices](crate::Slice), iterators and cursors use, and what is being
    /// compacted, stays open whatever the limit is, up to three quarters of what the system gives: then whatever would have
    /// to open a table returns [`Error::TooManyOpenTables`]. Threads that open tables at one moment may each be one over the
    /// limit. The log, the manifest and tables that are being written are not counted; they are few.
    ///
    /// What is known of a table that was let go stays in memory: about 1 KiB, and a bit for each chunk that was verified;
    /// and, with [`IoMode::Read`], its index. [`Stats::open_tables`](crate::Stats::open_tables) and
    /// [`Stats::table_openings`](crate::Stats::table_openings) tell whether the limit is a good one.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = maplsm::Options::new().max_open_tables(100).open(dir.path().join("db"))?;
    /// db.insert("key", "value")?;
    /// db.flush()?;
    /// assert!(db.get("key")?.is_some());
    /// assert_eq!(db.stats().open_tables, 1);
    /// # db.close()
    /// # }
    /// ```
    pub fn max_open_tables(&mut self, tables: usize) -> &mut Self {
        self.max_open_tables = Some(tables);
        self
    }

    /// Bytes covered by one checksum, a power of two from 4 KiB to 1 MiB. Larger ones take less space and make the first
    /// touch of a page dearer. Default: 4 KiB.
    pub fn checksum_chunk_bytes(&mut self, bytes: u32) -> &mut Self {
        self.table.chunk_log2 = exact_log2(bytes);
        self
    }

    /// Verifies checksums at every read, not only at the first one of each chunk. Default: false.
    pub fn verify_always(&mut self, verify: bool) -> &mut Self {
        self.table.verify_always = verify;
        self
    }

    /// Size at which compaction starts a new table, in bytes. At least 4 KiB, at most 16 GiB; default: 64 MiB.
    pub fn table_bytes(&mut self, bytes: u64) -> &mut Self {
        self.table_bytes = bytes;
        self
    }

    /// The unit of level sizes in bytes. All data below level 0 is on one level up to
    /// [`level_multiplier`](Self::level_multiplier) times this size, and on `n` levels up to that many times its `n`-th power.
    /// Default: 256 MiB.
    pub fn level_bytes_base(&mut self, bytes: u64) -> &mut Self {
        self.level_bytes_base = bytes;
        self
    }

    /// How much larger each level may be than the one above, 2 to 100. Default: 10. More means fewer levels, which reads
    /// search, and more rewriting. A store that has not been written to for a second, or that somebody waits for, is merged
    /// until the deepest level is this many times as large as all above it together; but what level 0 has stays there while it
    /// is less than an eighth of level 1.
    pub fn level_multiplier(&mut self, times: u32) -> &mut Self {
        self.level_multiplier = times;
        self
    }

    /// Tables of level 0 at which they are merged into level 1; twice as many where level 1 is larger than half of them. They
    /// are merged earlier once seeks and scans have spent as much time in them as that takes. Fewer make reads faster and
    /// writes rewrite more. From three times as many on, writers are slowed down. Default: 8.
    pub fn l0_tables(&mut self, tables: usize) -> &mut Self {
        self.l0_tables = tables;
        self
    }

    /// Space that is kept for a full disk, in bytes at most, so that deleting is possible on it and gives space back: once
    /// ordinary commits are refused, commits that only remove, flushes and compactions go on, with what the reserve gives up.
    /// It is made whole again when there is space, and until then ordinary commits are refused. A commit that only removes, a
    /// flush, a compaction or the drop of a keyspace that finds no space even so waits for flushes and compactions under way,
    /// which may give some back: 10 seconds at most, [`Db::try_write`](crate::Db::try_write) and calls of a
    /// [compaction filter](Self::compaction_filter) not at all.
    ///
    /// It is a file `RESERVE` in the directory, preallocated, never written, and no larger than what a flush of the log as
    /// it is, or a compaction of the largest table, may need: one and a half times the largest log segment, or nine eighths
    /// of the table, and 256 KiB. A segment also keeps a sixteenth of its size, at most 256 KiB, for removals, and the
    /// manifest 64 KiB. A limit below one and a half times [`memtable_bytes`](Self::memtable_bytes) may leave a full disk
    /// with a flush that fits only after enough of what is in the log has been removed as well. Where the file system cannot
    /// preallocate, there is no reserve. It does not count against other programs, which may take what it gives up. 0: none;
    /// at most 1 TiB; default: 96 MiB.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// use maplsm::{Options, SimFs};
    ///
    /// let disk = SimFs::new();
    /// let db = Options::new().file_system(disk.clone()).background_threads(0).open("/db")?;
    /// db.insert("large", vec![0; 1 << 20])?;
    /// disk.set_capacity(Some(disk.space())); // full
    /// while db.insert("more", vec![0; 1 << 10]).is_ok() {}
    /// db.remove_range::<&str>(..)?;
    /// db.flush()?;
    /// db.insert("again", "there is space")?;
    /// # db.close()
    /// # }
    /// ```
    pub fn reserve_bytes(&mut self, bytes: u64) -> &mut Self {
        self.reserve_bytes = bytes;
        self
    }

    /// Asks `filter` about entries that a compaction copies, and drops those that it wants removed: for data that expires.
    /// Default: none.
    ///
    /// It is asked when a compaction brings an entry to the deepest place of its key, so an entry that nobody compacts stays;
    /// [`Db::compact`](crate::Db::compact) asks about every one. While there are snapshots, iterators or cursors when the
    /// compaction begins, it is not asked; those that begin later may see an entry once and not again. A removed entry is back
    /// if a crash undoes the compaction, so a filter should go by what is in the entry, and not change its mind.
    /// It runs on background threads, for each entry: fast ones cost little. If it panics, the compaction fails with an error
    /// and is tried again. It may read and write the database, and must not wait for a compaction: see
    /// [callbacks](crate#callbacks).
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// use maplsm::{Options, Verdict};
    ///
    /// let mut options = Options::new();
    /// options.compaction_filter(|entry| if entry.value == b"expired" { Verdict::Remove } else { Verdict::Keep });
    /// let db = options.open(dir.path().join("db"))?;
    /// db.insert("old", "expired")?;
    /// db.insert("new", "fresh")?;
    /// db.compact()?;
    /// assert!(db.get("old")?.is_none() && db.get("new")?.is_some());
    /// # db.close()
    /// # }
    /// ```
    pub fn compaction_filter(
        &mut self,
        filter: impl Fn(FilterEntry<'_>) -> Verdict + Send + Sync + 'static,
    ) -> &mut Self {
        self.compaction_filter = Some(Filter(Arc::new(filter)));
        self
    }

    /// Where files live: the disk, or memory in tests. Default: the disk.
    pub fn file_system(&mut self, file_system: impl Into<FileSystem>) -> &mut Self {
        self.file_system = file_system.into();
        self
    }

    /// Refuses values that make no sense; nothing is corrected silently.
    pub(crate) fn check(&self) -> Result<()> {
        let limits = 4 << 10..=16u64 << 30;
        let checks = [
            ("memtable_bytes", limits.contains(&(self.memtable_bytes as u64)), "must be between 4 KiB and 16 GiB"),
            ("memtable_entries", self.memtable_entries != Some(0), "must be at least 1"),
            ("max_batch_bytes", self.max_batch_bytes <= 16 << 30, "must be at most 16 GiB"),
            (
                "max_frozen_bytes",
                self.most_frozen_bytes() >= self.memtable_bytes as u64,
                "must be at least `memtable_bytes`",
            ),
            ("background_threads", self.background_threads <= 64, "must be at most 64"),
            ("max_open_tables", self.max_open_tables != Some(0), "must be at least 1"),
            ("cache_bytes", self.cache_bytes <= 1 << 40, "must be at most 1 TiB"),
            ("max_readahead_bytes", self.table.readahead_bytes <= 1 << 30, "must be at most 1 GiB"),
            ("reserve_bytes", self.reserve_bytes <= 1 << 40, "must be at most 1 TiB"),
            (
                "checksum_chunk_bytes",
                CHUNK_LOG2.contains(&self.table.chunk_log2),
                "must be a power of two from 4 KiB to 1 MiB",
            ),
            ("table_bytes", limits.contains(&self.table_bytes), "must be between 4 KiB and 16 GiB"),
            ("level_bytes_base", self.level_bytes_base >= 4 << 10, "must be at least 4 KiB"),
            ("level_multiplier", (2..=100).contains(&self.level_multiplier), "must be between 2 and 100"),
            ("l0_tables", (1..=1000).contains(&self.l0_tables), "must be between 1 and 1000"),
        ];
        for (option, good, problem) in checks {
            if !good {
                return Err(Error::InvalidOptions { option, problem });
            }
        }
        self.operators.check()?;
        section::check(self.table.section)
    }
}
