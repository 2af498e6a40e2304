//! Every byte of a database that opens, read and checked.

use std::io::{self, BufWriter, Write as _};

use serde_json::json;

use crate::args::Target;
use crate::failure::{Failure, Status, say};
use crate::stats::Size;
use crate::{interrupt, open};

pub(crate) fn run(target: &Target, json: bool) -> Result<Status, Failure> {
    let db = open::to_read(target)?;
    let report = interrupt::during(|| db.verify())?;
    let problems: Vec<Failure> = report.problems.iter().cloned().map(Failure::from).collect();
    let status = problems.iter().map(Failure::status).max().unwrap_or(Status::Success);
    for problem in &problems {
        say(format_args!("error: {problem}"));
    }
    let verdict = match status {
        Status::Success => "ok",
        Status::Damaged => "damaged",
        Status::Failed | Status::Interrupted => "not verified",
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        let object = json!({
            "verdict": verdict,
            "tables": report.tables,
            "value_files": report.value_files,
            "entries": report.entries,
            "bytes": report.bytes,
            "problems": problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "leftovers": report.leftovers,
            "kept": report.kept,
            "foreign": report.foreign,
        });
        writeln!(out, "{object}")?;
        out.flush()?;
        return Ok(status);
    }
    let (tables, value_files, entries) = (report.tables, report.value_files, report.entries);
    writeln!(out, "{verdict}: {tables} tables, {value_files} value files, {entries} entries, {}", Size(report.bytes))?;
    for path in &report.leftovers {
        writeln!(out, "left over, removed by the next write: {}", path.display())?;
    }
    for path in &report.kept {
        writeln!(out, "kept by a repair, no part of the database: {}", path.display())?;
    }
    if report.foreign > 0 {
        writeln!(out, "files that are none of the database's: {}", report.foreign)?;
    }
    out.flush()?;
    Ok(status)
}
