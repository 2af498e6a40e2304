//! Options of one keyspace.

use crate::error::{Error, Result};
use crate::format::KeyspaceId;
use crate::format::alignment::Alignment;
use crate::format::block::BLOCK_LOG2;
use crate::format::codec::Codec;
use crate::format::edit::{ERROR_RATE, INTERVAL, KeyspaceMeta, LARGE_VALUE_BYTES_MIN, LEVELS, ZSTD_LEVEL};
use crate::format::entry::{Entry, Kind};
use crate::format::section::Later;

/// The default of [`Options::large_value_bytes`](crate::Options::large_value_bytes) without compression.
const LARGE_VALUE_BYTES: u32 = 4 << 10;

/// Compression of the entries of a table, block by block.
///
/// Entries of compressed tables are read from unpacked blocks, which are kept in a cache of
/// [`Options::cache_bytes`](crate::Options::cache_bytes). A block that does not shrink by an eighth is stored as it is, and
/// read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Entries are stored as they are and read in place.
    #[default]
    None,
    /// LZ4: fast, about half of what Zstandard saves. Needs the feature `lz4`.
    Lz4,
    /// Zstandard of the given level, -7 to 22; 3 is its own default. Needs the feature `zstd`.
    Zstd(i32),
}

/// How a table answers whether a key is in it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum PointIndex {
    /// A hash index from keys to entries: 9.1 bytes a key, about two cache misses a lookup, and it is the filter as well. Seeks
    /// find their entry in groups of 31 keys, 4.4 bytes a key. For what is read much and mostly fits into memory.
    #[default]
    Hash,
    /// A bloom filter, about 1.3 bytes a key at 1 %, in front of a sparse index, which has the place of every so many keys; see
    /// [`Options::index_interval`](crate::Options::index_interval). For data much larger than memory.
    Bloom {
        /// The share of lookups for absent keys that the filter lets pass: 0.000001 to 0.5; the textbook value is 0.01.
        error_rate: f64,
    },
}

/// What decides the bytes of one keyspace's section of a table, and of its index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SectionOptions {
    pub(crate) interval: u16,
    pub(crate) point_index: PointIndex,
    pub(crate) compression: Compression,
    /// The first level that is compressed.
    pub(crate) compressed_from: u8,
    pub(crate) block_log2: u8,
    /// Values of at least this many bytes go into value files, 0 for none; see [`large_value_bytes`](Self::large_value_bytes).
    pub(crate) threshold: Option<u32>,
}

impl Default for SectionOptions {
    fn default() -> Self {
        Self {
            interval: 16,
            point_index: PointIndex::Hash,
            compression: Compression::None,
            compressed_from: 1,
            block_log2: 14,
            threshold: None,
        }
    }
}

impl SectionOptions {
    /// The options for sections on `level`.
    pub(crate) fn at_level(self, level: u8) -> Self {
        let threshold = Some(self.large_value_bytes().unwrap_or(0));
        let compression = if level < self.compressed_from { Compression::None } else { self.compression };
        Self { compression, threshold, ..self }
    }

    /// The length from which on values go into value files. Without a choice that depends on whether they would be compressed
    /// elsewhere.
    pub(crate) fn large_value_bytes(self) -> Option<u32> {
        let default = if self.compression == Compression::None { LARGE_VALUE_BYTES } else { 0 };
        Some(self.threshold.unwrap_or(default)).filter(|bytes| *bytes > 0)
    }

    /// Whether the value of an entry belongs into a value file. The options are those of a level.
    #[inline]
    pub(crate) fn stands_apart(&self, entry: &Entry) -> bool {
        let large = |bytes: u32| bytes > 0 && entry.value_bytes() >= bytes as usize;
        entry.kind() == Kind::Put && self.threshold.is_some_and(large)
    }

    /// The codec and, for Zstandard, its level.
    pub(crate) fn codec(self) -> (Codec, i8) {
        match self.compression {
            Compression::None => (Codec::None, 0),
            Compression::Lz4 => (Codec::Lz4, 0),
            Compression::Zstd(level) => (Codec::Zstd, i8::try_from(level).unwrap_or(i8::MAX)),
        }
    }

    pub(super) fn check(self) -> Result<()> {
        let refuse = |option, problem| Err(Error::InvalidOptions { option, problem });
        match (self.compression, self.codec().0.check_built()) {
            (Compression::Zstd(level), _) if !ZSTD_LEVEL.contains(&level) => {
                return refuse("compression", "the level of Zstandard must be between -7 and 22");
            }
            (Compression::Lz4, Err(_)) => {
                return refuse("compression", "this build has no LZ4: it needs feature `lz4`");
            }
            (_, Err(_)) => return refuse("compression", "this build has no Zstandard: it needs feature `zstd`"),
            _ => {}
        }
        if self.compressed_from >= LEVELS {
            return refuse("compressed_from_level", "must be at most 6");
        }
        if !BLOCK_LOG2.contains(&self.block_log2) {
            return refuse("block_bytes", "must be a power of two from 4 KiB to 1 MiB");
        }
        if self.threshold.is_some_and(|bytes| bytes != 0 && bytes < LARGE_VALUE_BYTES_MIN) {
            return refuse("large_value_bytes", "must be at least 64");
        }
        if !INTERVAL.contains(&self.interval) {
            return Err(Error::InvalidOptions { option: "index_interval", problem: "must be between 1 and 256" });
        }
        match self.point_index {
            PointIndex::Bloom { error_rate } if !ERROR_RATE.contains(&error_rate) => {
                Err(Error::InvalidOptions { option: "point_index", problem: "error_rate must be in 0.000001..=0.5" })
            }
            _ => Ok(()),
        }
    }
}

impl From<&KeyspaceMeta> for SectionOptions {
    fn from(meta: &KeyspaceMeta) -> Self {
        let bloom = |bits| PointIndex::Bloom { error_rate: f64::from_bits(bits) };
        let compression = match meta.codec {
            Codec::None => Compression::None,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd(meta.zstd_level.into()),
        };
        Self {
            interval: meta.interval,
            point_index: meta.bloom.map_or(PointIndex::Hash, bloom),
            compression,
            compressed_from: meta.compressed_from,
            block_log2: meta.block_log2,
            threshold: Some(meta.large_value_bytes),
        }
    }
}

/// How to create a keyspace, with [`Db::create_keyspace`](crate::Db::create_keyspace).
///
/// What is not set is taken from the [`Options`](crate::Options) that the database is open with. All of it is recorded when
/// the keyspace is created, holds for as long as it is there, and needs not be given again.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// use maplsm::{KeyspaceOptions, PointIndex};
///
/// let options = KeyspaceOptions::new().point_index(PointIndex::Bloom { error_rate: 0.01 }).clone();
/// let archive = db.create_keyspace("archive", &options)?;
/// archive.insert("key", "value")?;
/// # db.close()
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct KeyspaceOptions {
    interval: Option<u16>,
    point_index: Option<PointIndex>,
    compression: Option<Compression>,
    compressed_from: Option<u8>,
    block_log2: Option<u8>,
    threshold: Option<u32>,
    value_alignment: Option<usize>,
}

impl KeyspaceOptions {
    /// Everything as in the options of the database.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`Options::index_interval`](crate::Options::index_interval).
    pub fn index_interval(&mut self, keys: u16) -> &mut Self {
        self.interval = Some(keys);
        self
    }

    /// See [`Options::point_index`](crate::Options::point_index).
    pub fn point_index(&mut self, index: PointIndex) -> &mut Self {
        self.point_index = Some(index);
        self
    }

    /// See [`Options::compression`](crate::Options::compression).
    pub fn compression(&mut self, compression: Compression) -> &mut Self {
        self.compression = Some(compression);
        self
    }

    /// See [`Options::compressed_from_level`](crate::Options::compressed_from_level).
    pub fn compressed_from_level(&mut self, level: u8) -> &mut Self {
        self.compressed_from = Some(level);
        self
    }

    /// See [`Options::block_bytes`](crate::Options::block_bytes).
    pub fn block_bytes(&mut self, bytes: u32) -> &mut Self {
        self.block_log2 = Some(exact_log2(bytes));
        self
    }

    /// See [`Options::large_value_bytes`](crate::Options::large_value_bytes).
    pub fn large_value_bytes(&mut self, bytes: Option<u32>) -> &mut Self {
        self.threshold = Some(threshold(bytes));
        self
    }

    /// Aligns every value to 8 or 16 bytes in memory, so that [`Slice::get_as`](crate::Slice::get_as) reads numbers and
    /// structures of such an alignment in place. Costs up to 7 or 15 bytes for each entry, and with 16 as much again on
    /// average as the size of an entry is no multiple of 16. 1, 8 or 16; default: 1, no alignment, whatever the options of
    /// the database.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// use maplsm::KeyspaceOptions;
    ///
    /// let vectors = db.create_keyspace("vectors", KeyspaceOptions::new().value_alignment(16))?;
    /// vectors.insert("unit", [1.0f32, 0.0].map(f32::to_ne_bytes).as_flattened())?;
    /// let vector = vectors.get("unit")?.expect("inserted above");
    /// assert_eq!(vector.get_as::<[f32; 2]>()?, &[1.0, 0.0]);
    /// # db.close()
    /// # }
    /// ```
    pub fn value_alignment(&mut self, bytes: usize) -> &mut Self {
        self.value_alignment = Some(bytes);
        self
    }

    /// The record of a new keyspace in a database with these options.
    pub(crate) fn record(&self, database: SectionOptions, id: KeyspaceId, name: &str) -> Result<KeyspaceMeta> {
        let options = SectionOptions {
            interval: self.interval.unwrap_or(database.interval),
            point_index: self.point_index.unwrap_or(database.point_index),
            compression: self.compression.unwrap_or(database.compression),
            compressed_from: self.compressed_from.unwrap_or(database.compressed_from),
            block_log2: self.block_log2.unwrap_or(database.block_log2),
            threshold: self.threshold.or(database.threshold),
        };
        options.check()?;
        let bloom = match options.point_index {
            PointIndex::Hash => None,
            PointIndex::Bloom { error_rate } => Some(error_rate.to_bits()),
        };
        let problem = "must be 1, 8 or 16";
        let alignment = match self.value_alignment {
            None | Some(1) => Alignment::None,
            Some(8) => Alignment::Eight,
            Some(16) => Alignment::Sixteen,
            Some(_) => return Err(Error::InvalidOptions { option: "value_alignment", problem }),
        };
        let (codec, zstd_level) = options.codec();
        Ok(KeyspaceMeta {
            id,
            interval: options.interval,
            bloom,
            codec,
            zstd_level,
            compressed_from: options.compressed_from,
            block_log2: options.block_log2,
            large_value_bytes: options.large_value_bytes().unwrap_or(0),
            alignment,
            name: name.to_owned(),
            later: Later::default(),
        })
    }
}

/// How a threshold is kept: 0 for none, and 1, which [`SectionOptions::check`] refuses, for 0.
pub(super) fn threshold(bytes: Option<u32>) -> u32 {
    bytes.map_or(0, |bytes| bytes.max(1))
}

/// The exponent of a power of two; 0, which no option allows, for other numbers.
pub(super) fn exact_log2(number: u32) -> u8 {
    if number.is_power_of_two() { u8::try_from(number.ilog2()).unwrap_or(0) } else { 0 }
}
