//! Options of databases and keyspaces that are made.

use maplsm::{Compression, KeyspaceOptions, Options, PointIndex};

use crate::args::typed::{Size, size};

/// Options that count where a database or keyspace is made.
#[derive(Debug, Default, Clone, clap::Args)]
#[command(
    next_help_heading = "Options of what is made (kept with a new keyspace; of the default one, they count for what \
is written now)"
)]
pub(crate) struct CreationArgs {
    /// Compression of tables: none, lz4, zstd or zstd:LEVEL
    #[arg(long, value_name = "CODEC", value_parser = compression)]
    compression: Option<Compression>,
    /// How keys are found: hash, bloom or bloom:RATE, the share of false positives
    #[arg(long, value_name = "INDEX", value_parser = index)]
    index: Option<PointIndex>,
    /// Keep values from this size on apart from their keys; `none` keeps all beside them
    #[arg(long, value_name = "BYTES", value_parser = threshold)]
    large_values: Option<Threshold>,
    /// Size of the log at which it is flushed into a table
    #[arg(long, value_name = "BYTES", value_parser = size)]
    memtable: Option<Size>,
    /// Make a database in a directory that has files of something else
    #[arg(long)]
    pub(crate) force: bool,
}

/// A number of bytes, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Threshold(Option<u32>);

impl CreationArgs {
    /// These, and where one is not given, that of `others`.
    pub(crate) fn or(self, others: &Self) -> Self {
        Self {
            compression: self.compression.or(others.compression),
            index: self.index.or(others.index),
            large_values: self.large_values.or(others.large_values),
            memtable: self.memtable.or(others.memtable),
            force: self.force || others.force,
        }
    }

    /// Sets what is given.
    pub(crate) fn apply(&self, options: &mut Options) {
        if let Some(compression) = self.compression {
            options.compression(compression);
        }
        if let Some(index) = self.index {
            options.point_index(index);
        }
        if let Some(Threshold(bytes)) = self.large_values {
            options.large_value_bytes(bytes);
        }
        if let Some(Size(bytes)) = self.memtable {
            options.memtable_bytes(bytes);
        }
    }

    /// The same for a keyspace.
    pub(crate) fn of_keyspace(&self) -> KeyspaceOptions {
        let mut options = KeyspaceOptions::new();
        if let Some(compression) = self.compression {
            options.compression(compression);
        }
        if let Some(index) = self.index {
            options.point_index(index);
        }
        if let Some(Threshold(bytes)) = self.large_values {
            options.large_value_bytes(bytes);
        }
        options
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text.split_once(':') {
        None if text == "none" => Ok(Compression::None),
        None if text == "lz4" => Ok(Compression::Lz4),
        None if text == "zstd" => Ok(Compression::Zstd(3)),
        Some(("zstd", level)) => level.parse().map(Compression::Zstd).map_err(|_| "the level is a number".to_owned()),
        _ => Err("there are none, lz4, zstd and zstd:LEVEL".to_owned()),
    }
}

fn index(text: &str) -> Result<PointIndex, String> {
    match text.split_once(':') {
        None if text == "hash" => Ok(PointIndex::Hash),
        None if text == "bloom" => Ok(PointIndex::Bloom { error_rate: 0.01 }),
        Some(("bloom", rate)) => {
            let error_rate = rate.parse().map_err(|_| "the rate is a number such as 0.01".to_owned())?;
            Ok(PointIndex::Bloom { error_rate })
        }
        _ => Err("there are hash, bloom and bloom:RATE".to_owned()),
    }
}

fn threshold(text: &str) -> Result<Threshold, String> {
    if text == "none" {
        return Ok(Threshold(None));
    }
    let Size(bytes) = size(text)?;
    u32::try_from(bytes).map(|bytes| Threshold(Some(bytes))).map_err(|_| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_and_indexes_are_named() {
        assert_eq!(compression("zstd:19"), Ok(Compression::Zstd(19)));
        assert_eq!(compression("lz4"), Ok(Compression::Lz4));
        assert!(compression("gzip").is_err() && compression("zstd:x").is_err() && compression("lz4:3").is_err());
        assert_eq!(index("bloom:0.001"), Ok(PointIndex::Bloom { error_rate: 0.001 }));
        assert!(index("tree").is_err() && index("bloom:x").is_err());
        assert_eq!((threshold("none"), threshold("4K")), (Ok(Threshold(None)), Ok(Threshold(Some(4096)))));
    }
}
