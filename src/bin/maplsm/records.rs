//! Entries from a text, in any of its formats.

use std::borrow::Cow;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Once;

use indicatif::ProgressBar;

use crate::args::{Format, InputArgs};
use crate::failure::{Failure, say};
use crate::input;
use crate::interrupt;
use crate::json;
use crate::tsv::{self, Entry, Form};

/// What stands at the head of every CSV file of ours.
pub(crate) const CSV_HEADER: [&str; 2] = ["key", "value"];

/// The format that the name of a file tells, with or without that of a compression behind.
pub(crate) fn format_of(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    match Path::new(name).extension()?.to_str()? {
        "csv" => Some(Format::Csv),
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        "tsv" => Some(Format::Tsv),
        _ => None,
    }
}

/// The entries of an input.
pub(crate) struct Records {
    source: Source,
    path: PathBuf,
    /// Of the record that was read last: its line, or in CSV, where a value may have several, its row.
    number: u64,
    pub(crate) bar: ProgressBar,
}

enum Source {
    Lines { input: Box<dyn BufRead>, shape: Shape, line: Vec<u8> },
    Csv { rows: csv::Reader<Box<dyn BufRead>>, row: csv::ByteRecord },
}

/// What a line is.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Tsv { form: Form, crlf: bool },
    Json,
}

impl Records {
    pub(crate) fn open(path: &Path, args: &InputArgs) -> Result<Self, Failure> {
        let format = args.format.or_else(|| format_of(path)).unwrap_or(Format::Tsv);
        if (args.raw || args.crlf) && format != Format::Tsv {
            return Err(Failure::new("--raw and --crlf are for lines with tabs: --format tsv"));
        }
        let (input, bar) = input::open(path)?;
        let lines = |input, shape| Source::Lines { input, shape, line: Vec::new() };
        let source = match format {
            Format::Tsv => lines(input, Shape::Tsv { form: Form::new(args.raw), crlf: args.crlf }),
            Format::Jsonl => lines(input, Shape::Json),
            Format::Csv => {
                let rows = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
                Source::Csv { rows, row: csv::ByteRecord::new() }
            }
        };
        let mut records = Self { source, path: path.to_owned(), number: 0, bar };
        if let Source::Csv { row, .. } = &mut records.source {
            row.clear();
            records.read_header()?;
        }
        Ok(records)
    }

    fn read_header(&mut self) -> Result<(), Failure> {
        let is_there = self.advance()?;
        if let Source::Csv { row, .. } = &self.source
            && (!is_there || row.iter().ne(CSV_HEADER.map(str::as_bytes)))
        {
            return Err(Failure::new("the first row of a CSV file is the header `key,value`"));
        }
        self.number = 0;
        Ok(())
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Goes to the next record, which need not be an entry; false at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, Failure> {
        interrupt::check()?;
        let found = match &mut self.source {
            Source::Lines { input, line, .. } => {
                line.clear();
                input.read_until(b'\n', line).map(|length| length > 0)
            }
            Source::Csv { rows, row } => rows.read_byte_record(row).map_err(Into::into),
        };
        self.number += 1;
        found.map_err(|error| self.at(Failure::file("read", &self.path, &error)))
    }

    /// The entry of the record.
    pub(crate) fn entry(&self) -> Result<Entry<'_>, Failure> {
        let entry = match &self.source {
            Source::Lines { line, shape, .. } => {
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                match shape {
                    Shape::Json => json::parse(text).map_err(Failure::new),
                    Shape::Tsv { form, crlf } => tsv::parse(without_return(text, *crlf), *form).map_err(Failure::new),
                }
            }
            Source::Csv { row, .. } if row.len() == 2 => Ok((Cow::Borrowed(&row[0]), Cow::Borrowed(&row[1]))),
            Source::Csv { row, .. } => Err(Failure::new(format_args!("{} columns, not key and value", row.len()))),
        };
        entry.and_then(|(key, value)| tsv::check(key, value).map_err(Failure::new)).map_err(|failure| self.at(failure))
    }

    fn at(&self, failure: Failure) -> Failure {
        if failure.is_interrupt() {
            return failure;
        }
        match &self.source {
            Source::Lines { .. } => failure.at(format_args!("line {}", self.number)),
            Source::Csv { rows, .. } => {
                failure.at(format_args!("row {}, line {}", self.number, rows.position().line().saturating_sub(1)))
            }
        }
    }
}

/// Takes off the carriage return if it is said to be one of the line; says how to say so otherwise.
fn without_return(text: &[u8], crlf: bool) -> &[u8] {
    static NOTE: Once = Once::new();
    match text.strip_suffix(b"\r") {
        Some(text) if crlf => text,
        Some(_) => {
            NOTE.call_once(|| {
                say(format_args!(
                    "note: lines end in \\r\\n; the \\r becomes part of the value, unless --crlf is given"
                ));
            });
            text
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        for (name, format) in [
            ("a.csv", Some(Format::Csv)),
            ("a.CSV.gz", Some(Format::Csv)),
            ("b/a.jsonl.zst", Some(Format::Jsonl)),
            ("a.ndjson", Some(Format::Jsonl)),
            ("a.tsv", Some(Format::Tsv)),
            ("a.txt", None),
            ("csv", None),
            ("-", None),
        ] {
            assert_eq!(format_of(Path::new(name)), format, "{name}");
        }
    }
}
