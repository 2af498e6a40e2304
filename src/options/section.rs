//! Options of one keyspace.

use super::operators::check_name;
use crate::error::{Error, Result};
use crate::format::KeyspaceId;
use crate::format::alignment::Alignment;
use crate::format::edit::KeyspaceMeta;
use crate::format::section::Later;
use crate::format::section_options::{Compression, PointIndex, SectionOptions};
use crate::operator::{MergeOperator, Operator};

/// Refuses what is out of its limits, and what this build cannot do.
pub(super) fn check(options: SectionOptions) -> Result<()> {
    let refuse = |(option, problem)| Error::InvalidOptions { option, problem };
    options.check().map_err(refuse)?;
    match (options.compression, options.codec().0.check_built()) {
        (Compression::None, _) | (_, Ok(())) => Ok(()),
        (Compression::Lz4, Err(_)) => Err(refuse(("compression", "this build has no LZ4: it needs feature `lz4`"))),
        (Compression::Zstd(_), Err(_)) => {
            Err(refuse(("compression", "this build has no Zstandard: it needs feature `zstd`")))
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
    operator: Option<Operator>,
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

    /// What [`Keyspace::merge`](crate::Keyspace::merge) does in the keyspace. Its name is recorded, and each later open needs an
    /// operator of that name: see [`Options::known_operator`](crate::Options::known_operator). Default: none, also if the
    /// default keyspace has one.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// use maplsm::{KeyspaceOptions, operators::Counter};
    ///
    /// let visits = db.create_keyspace("visits", KeyspaceOptions::new().merge_operator(Counter))?;
    /// visits.merge("home", 1u64.to_le_bytes())?;
    /// assert_eq!(visits.get("home")?.unwrap(), 1u64.to_le_bytes());
    /// # db.close()
    /// # }
    /// ```
    pub fn merge_operator(&mut self, operator: impl MergeOperator) -> &mut Self {
        self.operator = Some(Operator::new(operator));
        self
    }

    /// The operator that the keyspace is to have.
    pub(crate) fn operator(&self) -> Option<&Operator> {
        self.operator.as_ref()
    }

    /// The record of a new keyspace in a database with these options.
    pub(crate) fn record(&self, database: SectionOptions, id: KeyspaceId, name: &str) -> Result<KeyspaceMeta> {
        let problem = "must be 1, 8 or 16";
        let alignment = match self.value_alignment {
            None | Some(1) => Alignment::None,
            Some(8) => Alignment::Eight,
            Some(16) => Alignment::Sixteen,
            Some(_) => return Err(Error::InvalidOptions { option: "value_alignment", problem }),
        };
        let options = SectionOptions {
            interval: self.interval.unwrap_or(database.interval),
            point_index: self.point_index.unwrap_or(database.point_index),
            compression: self.compression.unwrap_or(database.compression),
            compressed_from: self.compressed_from.unwrap_or(database.compressed_from),
            block_log2: self.block_log2.unwrap_or(database.block_log2),
            threshold: self.threshold.or(database.threshold),
            alignment,
        };
        check(options)?;
        let threshold = Some(options.large_value_bytes().unwrap_or(0));
        let options = SectionOptions { threshold, ..options };
        self.operator.iter().try_for_each(|operator| check_name("merge_operator", operator))?;
        let operator = self.operator.as_ref().map(|operator| operator.name().to_owned());
        Ok(KeyspaceMeta { id, options, name: name.to_owned(), operator, later: Later::default() })
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
