//! Examining and repairing a database that may not open.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::ops::Bound;
use std::path::Path;

use maplsm::{Finding, LostRange, Options, Outcome};
use serde_json::{Value, json};

use crate::escape::{Escaped, Quoted};
use crate::failure::{Failure, Status};
use crate::interrupt;

/// Names all that is wrong, and what would be lost.
pub(crate) fn examine(path: &Path, json: bool) -> Result<Status, Failure> {
    let findings = interrupt::during(|| maplsm::examine(path, &Options::new()))??;
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        let verdict = if findings.is_empty() { "ok" } else { "damaged" };
        writeln!(out, "{}", json!({ "verdict": verdict, "findings": to_json(&findings) }))?;
        out.flush()?;
        return Ok(if findings.is_empty() { Status::Success } else { Status::Damaged });
    }
    write(&mut out, &findings)?;
    writeln!(out, "{}", if findings.is_empty() { "ok" } else { "damaged" })?;
    out.flush()?;
    Ok(if findings.is_empty() { Status::Success } else { Status::Damaged })
}

pub(crate) fn run(path: &Path, json: bool) -> Result<Status, Failure> {
    let report = interrupt::during(|| maplsm::repair(path, &Options::new()))??;
    let status = if report.has_losses() { Status::Damaged } else { Status::Success };
    let verdict = match (report.is_intact(), report.has_losses()) {
        (true, _) => "ok, nothing to repair",
        (false, false) => "repaired, nothing is lost",
        (false, true) => "repaired, with losses",
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        let object = json!({
            "verdict": verdict,
            "findings": to_json(&report.findings),
            "renamed_keyspaces": report.renamed_keyspaces,
            "rebuilt": report.rebuilt,
            "entries": report.entries,
            "originals": report.originals,
            "lost_list": report.lost_list,
            "may_bring_back": report.may_bring_back(),
        });
        writeln!(out, "{object}")?;
        out.flush()?;
        return Ok(status);
    }
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
    writeln!(out, "{verdict}")?;
    out.flush()?;
    Ok(status)
}

fn to_json(findings: &[Finding]) -> Vec<Value> {
    let object = |finding: &Finding| {
        let keys = finding.lost_keys.iter();
        let keys = keys.map(|lost| json!({ "keyspace": lost.keyspace, "key": Escaped(&lost.key).to_string() }));
        let ranges = finding.lost_ranges.iter();
        let ranges = ranges.map(|lost| json!({ "keyspace": lost.keyspace, "range": Range(lost).to_string() }));
        let (outcome, entries, lost) = match finding.outcome {
            Outcome::Restored => ("restored", None, Some(0)),
            Outcome::Salvaged { entries, lost } => ("salvaged", Some(entries), lost),
            Outcome::Lost { entries } => ("lost", Some(0), entries),
            Outcome::Gap { entries, .. } => ("gap", None, entries),
            Outcome::Inferred => ("inferred", None, None),
            _ => ("unknown", None, None),
        };
        json!({
            "problem": finding.problem.to_string(),
            "outcome": outcome,
            "entries_read": entries,
            "entries_lost": lost,
            "lost_key_count": finding.lost_key_count,
            "lost_keys": keys.collect::<Vec<_>>(),
            "lost_range_count": finding.lost_range_count,
            "lost_ranges": ranges.collect::<Vec<_>>(),
        })
    };
    findings.iter().map(object).collect()
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
                writeln!(out, "    {} {}", Quoted(lost.keyspace.as_bytes()), Range(lost))?;
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

/// A range in which keys are lost, with brackets that say whether its ends are in it.
struct Range<'a>(&'a LostRange);

impl fmt::Display for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.start {
            Bound::Included(key) => write!(f, "[{}", Quoted(key))?,
            Bound::Excluded(key) => write!(f, "({}", Quoted(key))?,
            Bound::Unbounded => write!(f, "(")?,
        }
        write!(f, " .. ")?;
        match &self.0.end {
            Bound::Included(key) => write!(f, "{}]", Quoted(key)),
            Bound::Excluded(key) => write!(f, "{})", Quoted(key)),
            Bound::Unbounded => write!(f, ")"),
        }
    }
}
