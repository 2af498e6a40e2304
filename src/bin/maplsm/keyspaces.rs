//! Keyspaces: which there are, one more, one less.

use std::fmt;
use std::io::{self, BufWriter, Write as _};

use maplsm::{Compression, PointIndex};
use serde_json::json;

use crate::args::{CreationArgs, Target};
use crate::escape::Escaped;
use crate::failure::{Failure, Status};
use crate::open;

pub(crate) fn list(target: &Target, json: bool) -> Result<Status, Failure> {
    let stats = open::to_read(target)?.stats();
    let mut out = BufWriter::new(io::stdout().lock());
    for keyspace in &stats.keyspaces {
        if json {
            let object = json!({
                "name": keyspace.name,
                "compression": Codec(keyspace.compression).to_string(),
                "index": Index(keyspace.point_index).to_string(),
                "large_value_bytes": keyspace.large_value_bytes,
                "memtable_entries": keyspace.memtable_entries,
                "entries": keyspace.entries,
                "bytes": keyspace.bytes,
            });
            writeln!(out, "{object}")?;
        } else {
            writeln!(out, "{}", Escaped(keyspace.name.as_bytes()))?;
        }
    }
    out.flush()?;
    Ok(Status::Success)
}

pub(crate) fn create(target: &Target, name: &str, options: &CreationArgs) -> Result<Status, Failure> {
    let target = Target { options: CreationArgs::default(), ..target.clone() };
    let db = open::to_change(&target)?;
    db.create_keyspace(name, &options.of_keyspace())?;
    db.close()?;
    Ok(Status::Success)
}

pub(crate) fn drop(target: &Target, name: &str) -> Result<Status, Failure> {
    let db = open::to_change(target)?;
    db.drop_keyspace(name)?;
    db.close()?;
    Ok(Status::Success)
}

/// A codec as `--compression` names it.
struct Codec(Compression);

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Compression::None => f.write_str("none"),
            Compression::Lz4 => f.write_str("lz4"),
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// An index as `--index` names it.
struct Index(PointIndex);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PointIndex::Hash => f.write_str("hash"),
            PointIndex::Bloom { error_rate } => write!(f, "bloom:{error_rate}"),
        }
    }
}
