//! How a database is opened.

use maplsm::operators::Append;
use maplsm::{Compression, Durability, IoMode, Options, PointIndex};

use super::source::Source;

/// What changes the bytes of files, or the way they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// The threshold of large values.
    pub(crate) large: Option<u32>,
    pub(crate) bloom: bool,
    pub(crate) interval: u16,
    pub(crate) chunk: u32,
    pub(crate) read: bool,
    pub(crate) verify_always: bool,
}

impl Format {
    /// How many there are.
    pub(crate) const COUNT: u64 = 3 * 2 * 4 * 3 * 2 * 2;

    /// The `number`-th one, modulo their count.
    pub(crate) fn of(number: u64) -> Self {
        let mut left = usize::try_from(number % Self::COUNT).unwrap_or(0);
        let mut choose = |count: usize| {
            let chosen = left % count;
            left /= count;
            chosen
        };
        Self {
            large: [Some(64), None, Some(150)][choose(3)],
            bloom: choose(2) == 1,
            interval: [1, 3, 16, 256][choose(4)],
            chunk: [4 << 10, 64 << 10, 1 << 20][choose(3)],
            read: choose(2) == 1,
            verify_always: choose(2) == 1,
        }
    }
}

/// How a database is opened: small limits, so that few operations reach every level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) format: Format,
    pub(crate) memtable_bytes: usize,
    pub(crate) memtable_entries: Option<usize>,
    pub(crate) table_bytes: u64,
    pub(crate) level_bytes_base: u64,
    pub(crate) level_multiplier: u32,
    pub(crate) l0_tables: usize,
    pub(crate) durability: Durability,
    pub(crate) threads: usize,
    pub(crate) compression: Compression,
    pub(crate) compressed_from: u8,
    pub(crate) block_bytes: u32,
    pub(crate) cache_bytes: u64,
    /// Of the values, if not 1: they are then in a keyspace of their own. Decided when the database is made.
    pub(crate) alignment: usize,
}

/// No compression, and what this build has.
const COMPRESSIONS: &[Compression] = &[
    Compression::None,
    #[cfg(feature = "lz4")]
    Compression::Lz4,
    #[cfg(feature = "zstd")]
    Compression::Zstd(1),
];

impl Setup {
    /// Small everywhere, and the format of this number.
    pub(crate) fn small(format: u64) -> Self {
        Self {
            format: Format::of(format),
            memtable_bytes: 4 << 10,
            memtable_entries: None,
            table_bytes: 4 << 10,
            level_bytes_base: 8 << 10,
            level_multiplier: 2,
            l0_tables: 2,
            durability: Durability::Buffered,
            threads: 0,
            compression: COMPRESSIONS[usize::try_from(format).unwrap_or(0) % COMPRESSIONS.len()],
            compressed_from: u8::from(format % 2 == 1),
            block_bytes: 4 << 10,
            cache_bytes: 16 << 10,
            alignment: 1,
        }
    }

    pub(crate) fn draw(source: &mut Source<'_>, format: Format, threads: usize) -> Self {
        Self {
            format,
            memtable_bytes: source.pick(&[4 << 10, 4 << 10, 16 << 10, 64 << 10]),
            memtable_entries: source.pick(&[None, None, Some(5), Some(60)]),
            table_bytes: source.pick(&[4 << 10, 4 << 10, 16 << 10]),
            level_bytes_base: source.pick(&[4 << 10, 16 << 10, 40 << 10]),
            level_multiplier: source.pick(&[2, 2, 4]),
            l0_tables: source.pick(&[1, 2, 4]),
            durability: source.pick(&[Durability::Buffered, Durability::Buffered, Durability::Sync]),
            threads,
            compression: source.pick(COMPRESSIONS),
            compressed_from: source.pick(&[0, 1, 2]),
            block_bytes: source.pick(&[4 << 10, 16 << 10]),
            cache_bytes: source.pick(&[0, 16 << 10, 1 << 20]),
            alignment: 1,
        }
    }

    pub(crate) fn options(&self) -> Options {
        let format = &self.format;
        let mut options = Options::new();
        options
            .merge_operator(Append)
            .memtable_bytes(self.memtable_bytes)
            .memtable_entries(self.memtable_entries)
            .table_bytes(self.table_bytes)
            .level_bytes_base(self.level_bytes_base)
            .level_multiplier(self.level_multiplier)
            .l0_tables(self.l0_tables)
            .durability(self.durability)
            .background_threads(self.threads)
            .point_index(if format.bloom { PointIndex::Bloom { error_rate: 0.01 } } else { PointIndex::Hash })
            .index_interval(format.interval)
            .large_value_bytes(format.large)
            .checksum_chunk_bytes(format.chunk)
            .io_mode(if format.read { IoMode::Read } else { IoMode::Map })
            .verify_always(format.verify_always)
            .compression(self.compression)
            .compressed_from_level(self.compressed_from)
            .block_bytes(self.block_bytes)
            .cache_bytes(self.cache_bytes);
        options
    }
}
