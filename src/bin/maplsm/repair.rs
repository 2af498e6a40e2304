//! Examining and repairing a database that may not open.

use std::io::{self, BufWriter, Write};
use std::ops::Bound;
use std::path::Path;

use maplsm::{Finding, LostRange, Options, Outcome};

use crate::escape::Quoted;
use crate::failure::{Failure, Status};

/// Names all that is wrong, and what would be lost.
pub(crate) fn examine(path: &Path) -> Result<Status, Failure> {
    let findings = maplsm::examine(path, &Options::new())?;
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out, &findings)?;
    writeln!(out, "{}", if findings.is_empty() { "ok" } else { "damaged" })?;
    out.flush()?;
    Ok(if findings.is_empty() { Status::Success } else { Status::Damaged })
}

pub(crate) fn run(path: &Path) -> Result<Status, Failure> {
    let report = maplsm::repair(path, &Options::new())?;
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out, &report.findings)?;
    for name in &report.renamed_keyspaces {
        writeln!(out, "a keyspace has lost its name and is `{name}` now")?;
    }
    if let Some(originals) = &report.originals {
        writeln!(out, "written anew with {} entries; the old files are in {}", report.entries, originals.display())?;
    }
    if let Some(list) = &report.lost_list {
        writeln!(out, "all that is lost is named in {}", list.display())?;
    }
    if report.may_bring_back() {
        writeln!(out, "older values, and keys that had been removed, may be visible again")?;
    }
    let verdict = match (report.is_intact(), report.has_losses()) {
        (true, _) => "ok, nothing to repair",
        (false, false) => "repaired, nothing is lost",
        (false, true) => "repaired, with losses",
    };
    writeln!(out, "{verdict}")?;
    out.flush()?;
    Ok(if report.has_losses() { Status::Damaged } else { Status::Success })
}

fn write(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    let number = |entries: Option<u64>| entries.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
    for finding in findings {
        write!(out, "{}: ", finding.problem)?;
        match finding.outcome {
            Outcome::Restored => writeln!(out, "nothing is lost, it can be made again")?,
            Outcome::Salvaged { entries, lost: Some(lost) } => {
                writeln!(out, "{entries} entries can be read, {lost} are lost")?;
            }
            Outcome::Salvaged { entries, .. } => {
                writeln!(out, "of {entries} entries, those that the damage does not touch can be read")?;
            }
            Outcome::Lost { entries } => writeln!(out, "{} entries are lost", number(entries))?,
            Outcome::Gap { bytes, entries } => {
                writeln!(out, "{bytes} bytes of the log with {} entries are lost", number(entries))?;
            }
            Outcome::Inferred => {
                writeln!(out, "the tables tell what it said; names may be lost, and what was removed may be back")?;
            }
            _ => writeln!(out)?,
        }
        if finding.lost_key_count > 0 {
            writeln!(out, "  keys that have lost their values and are absent: {}", finding.lost_key_count)?;
            for lost in &finding.lost_keys {
                writeln!(out, "    {} {}", Quoted(lost.keyspace.as_bytes()), Quoted(&lost.key))?;
            }
            write_more(out, finding.lost_key_count, finding.lost_keys.len())?;
        }
        if finding.lost_range_count > 0 {
            writeln!(out, "  ranges in which unknown keys are lost: {}", finding.lost_range_count)?;
            for lost in &finding.lost_ranges {
                write!(out, "    {} ", Quoted(lost.keyspace.as_bytes()))?;
                write_range(out, lost)?;
            }
            write_more(out, finding.lost_range_count, finding.lost_ranges.len())?;
        }
    }
    Ok(())
}

fn write_more(out: &mut impl Write, count: u64, shown: usize) -> io::Result<()> {
    let more = count.saturating_sub(shown as u64);
    if more > 0 { writeln!(out, "    and {more} more") } else { Ok(()) }
}

fn write_range(out: &mut impl Write, range: &LostRange) -> io::Result<()> {
    match &range.start {
        Bound::Included(key) => write!(out, "[{}", Quoted(key))?,
        Bound::Excluded(key) => write!(out, "({}", Quoted(key))?,
        Bound::Unbounded => write!(out, "(")?,
    }
    write!(out, " .. ")?;
    match &range.end {
        Bound::Included(key) => writeln!(out, "{}]", Quoted(key)),
        Bound::Excluded(key) => writeln!(out, "{})", Quoted(key)),
        Bound::Unbounded => writeln!(out, ")"),
    }
}
