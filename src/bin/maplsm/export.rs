//! Entries as text that `import` reads back.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use maplsm::Keyspace;

use crate::args::{ExportArgs, Format};
use crate::escape::Escaped;
use crate::failure::{Failure, Status, say};
use crate::interrupt;
use crate::json;
use crate::progress;
use crate::records::{self, CSV_HEADER};
use crate::span::Span;
use crate::tsv::{self, Form};

pub(crate) fn run(keyspace: &Keyspace, args: ExportArgs) -> Result<Status, Failure> {
    let format = args.format.or_else(|| records::format_of(&args.file)).unwrap_or(Format::Tsv);
    if args.raw && format != Format::Tsv {
        return Err(Failure::new("--raw is for lines with tabs: --format tsv"));
    }
    let (shape, span) = ((format, Form::new(args.raw)), Span::from(args.range));
    let entries = if args.file == Path::new("-") {
        write(keyspace, span, shape, &mut io::stdout().lock(), &|error| error.into())?.1
    } else {
        let path = &args.file;
        let fail = |error: io::Error| Failure::file("write", path, &error);
        let file = File::create(path).map_err(fail)?;
        let is_file = file.metadata().map_err(fail)?.is_file();
        let (file, entries) = write(keyspace, span, shape, file, &fail).map_err(|failure| {
            if failure.is_interrupt() && is_file && fs::remove_file(path).is_ok() {
                return failure.with_note(format_args!("{} is removed", path.display()));
            }
            failure.with_note(format_args!("{} is not complete", path.display()))
        })?;
        if is_file {
            file.sync_all().map_err(fail)?;
        }
        entries
    };
    say(format_args!("exported {entries} entries"));
    Ok(Status::Success)
}

/// Writes all entries of the span to `out`, and gives it back with their number.
fn write<W: Write>(
    keyspace: &Keyspace,
    span: Span,
    (format, form): (Format, Form),
    out: W,
    fail: &dyn Fn(io::Error) -> Failure,
) -> Result<(W, u64), Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let bar = progress::of_entries(true);
    if format == Format::Csv {
        write_row(&mut out, CSV_HEADER.map(str::as_bytes)).map_err(fail)?;
    }
    for entry in span.iter(keyspace) {
        interrupt::check()?;
        let entry = entry?;
        let (key, value) = (entry.key(), entry.value());
        match format {
            Format::Tsv => {
                check_raw(key, value, form)?;
                tsv::write(&mut out, key, value, form)
            }
            Format::Csv => write_row(&mut out, [key, value]),
            Format::Jsonl => json::write(&mut out, key, Some(value)),
        }
        .map_err(fail)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let entries = bar.position();
    let out = out.into_inner().map_err(|error| fail(error.into_error()))?;
    Ok((out, entries))
}

/// Refuses an entry whose raw line would not read back.
fn check_raw(key: &[u8], value: &[u8], form: Form) -> Result<(), Failure> {
    if form != Form::Raw || tsv::fits_raw(key, value) {
        return Ok(());
    }
    let part = if tsv::fits_raw(key, b"") { "the value of the key" } else { "the key" };
    Err(Failure::new(format_args!(
        "{part} `{}` has no raw line, as it holds a tab or newline; export without --raw",
        Escaped(key)
    )))
}

/// A row of CSV: fields in quotes where a comma, a quote or the end of a line is in them.
fn write_row(out: &mut impl Write, fields: [&[u8]; 2]) -> io::Result<()> {
    for (position, field) in fields.into_iter().enumerate() {
        if position > 0 {
            out.write_all(b",")?;
        }
        if field.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
            out.write_all(b"\"")?;
            for (position, part) in field.split(|&byte| byte == b'"').enumerate() {
                out.write_all(if position > 0 { b"\"\"" } else { b"" })?;
                out.write_all(part)?;
            }
            out.write_all(b"\"")?;
        } else {
            out.write_all(field)?;
        }
    }
    out.write_all(b"\n")
}
