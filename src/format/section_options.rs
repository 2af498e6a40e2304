//! FORMAT.md, section 12.4.
//!
//! What a keyspace has been told about its bytes.

use super::LEVELS;
use super::alignment::Alignment;
use super::block::BLOCK_LOG2;
use super::codec::Codec;
use super::entry::{Entry, Kind};
use crate::error::Damage;

/// Smallest and largest error rate of a bloom filter.
const ERROR_RATE: std::ops::RangeInclusive<f64> = 0.000_001..=0.5;

/// Levels of Zstandard.
const ZSTD_LEVEL: std::ops::RangeInclusive<i32> = -7..=22;

/// Keys for each locator of an order index that has those of some keys.
const INTERVAL: std::ops::RangeInclusive<u16> = 1..=256;

/// Shorter values never go into a value file: a pointer would save nothing.
const LARGE_VALUE_BYTES_MIN: u32 = 64;

/// The default of [`Options::large_value_bytes`](crate::Options::large_value_bytes) without compression.
const LARGE_VALUE_BYTES: u32 = 4 << 10;

/// Compression of the entries of a table, block by block.
///
/// Entries of compressed tables are read from unpacked blocks, which are kept in a cache of
/// [`Options::cache_bytes`](crate::Options::cache_bytes). A block that does not shrink by an eighth is stored as it is, and
/// read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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

/// The options of one keyspace: what decides the bytes of its section of a table, and of its index. Options of a database
/// have those of the default keyspace, which others have as well that are made without their own; the manifest has those of
/// each other one, whose threshold is decided.
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
    /// Of its values.
    pub(crate) alignment: Alignment,
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
            alignment: Alignment::None,
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

    /// With this codec, and, for Zstandard, this level; an error if the level belongs to another codec.
    pub(super) fn compression_of(codec: Codec, level: i8) -> Result<Compression, Damage> {
        match (codec, level) {
            (Codec::None, 0) => Ok(Compression::None),
            (Codec::Lz4, 0) => Ok(Compression::Lz4),
            (Codec::Zstd, level) => Ok(Compression::Zstd(level.into())),
            (Codec::None | Codec::Lz4, _) => Err(Damage::BadField),
        }
    }

    /// Whether all of them are within their limits; if not, the name of an option, and what it must be.
    pub(crate) fn check(self) -> Result<(), (&'static str, &'static str)> {
        if let Compression::Zstd(level) = self.compression
            && !ZSTD_LEVEL.contains(&level)
        {
            return Err(("compression", "the level of Zstandard must be between -7 and 22"));
        }
        if self.compressed_from >= LEVELS {
            return Err(("compressed_from_level", "must be at most 6"));
        }
        if !BLOCK_LOG2.contains(&self.block_log2) {
            return Err(("block_bytes", "must be a power of two from 4 KiB to 1 MiB"));
        }
        if self.threshold.is_some_and(|bytes| bytes != 0 && bytes < LARGE_VALUE_BYTES_MIN) {
            return Err(("large_value_bytes", "must be at least 64"));
        }
        if !INTERVAL.contains(&self.interval) {
            return Err(("index_interval", "must be between 1 and 256"));
        }
        match self.point_index {
            PointIndex::Bloom { error_rate } if !ERROR_RATE.contains(&error_rate) => {
                Err(("point_index", "error_rate must be in 0.000001..=0.5"))
            }
            _ => Ok(()),
        }
    }
}
