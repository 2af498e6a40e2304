//! What the store consists of, for people and for programs.

mod measured;

use std::fmt;
use std::io::{self, BufWriter, Write};

use maplsm::{Stats, ValueFileStats};
use serde_json::Value;

use crate::args::Target;
use crate::escape::Escaped;
use crate::failure::{Failure, Status};
use crate::open;

pub(crate) fn print(target: &Target, json: bool) -> Result<Status, Failure> {
    let stats = open::to_read(target)?.stats();
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        writeln!(out, "{}", to_json(&stats)?)?;
    } else {
        row(&mut out, "directory", target.db.display())?;
        write_text(&mut out, &stats)?;
    }
    out.flush()?;
    Ok(Status::Success)
}

/// The tables, those of level 0 first.
pub(crate) fn ls(target: &Target, json: bool) -> Result<Status, Failure> {
    let mut stats = open::to_read(target)?.stats();
    stats.tables.sort_by_key(|table| (table.level, table.number));
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        for table in &stats.tables {
            writeln!(out, "{}", serde_json::to_string(table).map_err(Failure::new)?)?;
        }
    } else {
        write_tables(&mut out, &stats)?;
    }
    out.flush()?;
    Ok(Status::Success)
}

/// Lines of names and numbers, then a line for each level and each table.
pub(crate) fn write_text(out: &mut (impl Write + ?Sized), stats: &Stats) -> io::Result<()> {
    let bytes = stats.tables.iter().map(|table| table.bytes.saturating_add(table.index_bytes));
    let bytes = Size(bytes.fold(0, u64::saturating_add));
    row(out, "memtable", format_args!("{} entries, {}", stats.memtable_entries, Size(stats.memtable_bytes)))?;
    row(out, "frozen memtables", stats.frozen_memtables)?;
    row(out, "SSTable files", format_args!("{}, {bytes}", stats.tables.len()))?;
    let values = |of: fn(&ValueFileStats) -> u64| Size(stats.value_files.iter().map(of).fold(0, u64::saturating_add));
    let (size, garbage) = (values(|file| file.bytes), values(|file| file.garbage_bytes));
    let indexes = stats.tables.iter().map(|table| table.index_bytes).fold(0, u64::saturating_add);
    row(
        out,
        "indexes",
        format_args!("{}, of open tables kept in memory {}", Size(indexes), Size(stats.kept_index_bytes)),
    )?;
    row(out, "value files", format_args!("{}, {size}, of it garbage {garbage}", stats.value_files.len()))?;
    row(out, "log segments", stats.log_segments)?;
    row(out, "last sequence", stats.last_sequence)?;
    row(out, "snapshots", stats.snapshots)?;
    row(out, "hidden versions", Size(stats.hidden_bytes))?;
    row(out, "write pressure", format_args!("{:.2}", stats.write_pressure))?;
    measured::write_text(out, stats)?;
    writeln!(out, "\n{:>12}  {:>12}  {:>7}  {:>10}  keyspace", "in memtables", "in tables", "tables", "size")?;
    for keyspace in &stats.keyspaces {
        let (size, name) = (Size(keyspace.bytes).to_string(), Escaped(keyspace.name.as_bytes()));
        write!(out, "{:>12}  {:>12}  {:>7}", keyspace.memtable_entries, keyspace.entries, keyspace.tables)?;
        writeln!(out, "  {size:>10}  {name}")?;
    }
    for (what, compactions) in [("under way", &stats.compactions_running), ("due", &stats.compactions_due)] {
        for compaction in compactions {
            let (size, names) = (Size(compaction.bytes), compaction.keyspaces.join(", "));
            write!(out, "compaction {what}: {:?}, score {:.2}, ", compaction.reason, compaction.score)?;
            write!(out, "{} tables, {size}, ", compaction.tables)?;
            let names = Escaped(names.as_bytes());
            writeln!(out, "level {} to {}, of {names}", compaction.level, compaction.output_level)?;
        }
    }
    if !stats.levels.is_empty() {
        writeln!(out, "\n{:>5}  {:>7}  {:>10}  {:>12}  {:>12}", "level", "tables", "size", "entries", "tombstones")?;
    }
    for level in &stats.levels {
        let (size, entries) = (Size(level.bytes).to_string(), level.entries);
        writeln!(out, "{:>5}  {:>7}  {size:>10}  {entries:>12}  {:>12}", level.level, level.tables, level.tombstones)?;
    }
    if !stats.tables.is_empty() {
        writeln!(out)?;
        write_tables(out, stats)?;
    }
    Ok(())
}

fn write_tables(out: &mut (impl Write + ?Sized), stats: &Stats) -> io::Result<()> {
    if !stats.tables.is_empty() {
        write!(out, "{:>9}  {:>5}  {:>10}  {:>10}", "table", "level", "size", "index")?;
        writeln!(out, "  {:>12}  {:>12}", "entries", "tombstones")?;
    }
    for table in &stats.tables {
        let (size, index) = (Size(table.bytes).to_string(), Size(table.index_bytes).to_string());
        write!(out, "{:>9}  {:>5}  {size:>10}  {index:>10}", table.number, table.level)?;
        writeln!(out, "  {:>12}  {:>12}", table.entries, table.tombstones)?;
    }
    Ok(())
}

/// A name and what it is, in columns.
pub(crate) fn row(out: &mut (impl Write + ?Sized), name: &str, value: impl fmt::Display) -> io::Result<()> {
    writeln!(out, "{name:<18}{value}")
}

/// One object with the names of [`Stats`], and what follows from its numbers.
pub(crate) fn to_json(stats: &Stats) -> Result<Value, Failure> {
    let mut object = serde_json::to_value(stats).map_err(Failure::new)?;
    object["write_amplification"] = stats.write_amplification().into();
    object["space_amplification"] = stats.space_amplification().into();
    Ok(object)
}

/// A number of bytes with a unit and one decimal.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut tenths = u128::from(self.0) * 10;
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut unit = "";
        for name in UNITS {
            tenths /= 1024;
            unit = name;
            if tenths < 10_240 {
                break;
            }
        }
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_keeps_them_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 40, "5.0 TiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
