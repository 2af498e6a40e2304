//! Entries as lines that `import` reads back.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use maplsm::Keyspace;

use crate::args::ExportArgs;
use crate::escape::Escaped;
use crate::failure::{Failure, Status, say};
use crate::progress;
use crate::span::Span;
use crate::tsv::{self, Form};

pub(crate) fn run(keyspace: &Keyspace, args: ExportArgs) -> Result<Status, Failure> {
    let form = Form::new(args.raw);
    let span = Span::from(args.range);
    let entries = if args.file == Path::new("-") {
        write(keyspace, span, form, &mut io::stdout().lock(), &|error| error.into())?.1
    } else {
        let path = &args.file;
        let fail = |error: io::Error| Failure::file("write", path, &error);
        let file = File::create(path).map_err(fail)?;
        let (file, entries) = write(keyspace, span, form, file, &fail)
            .map_err(|failure| failure.with_note(format_args!("{} is not complete", path.display())))?;
        if file.metadata().map_err(fail)?.is_file() {
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
    form: Form,
    out: W,
    fail: &dyn Fn(io::Error) -> Failure,
) -> Result<(W, u64), Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let bar = progress::of_entries(true);
    for entry in span.iter(keyspace) {
        let entry = entry?;
        let (key, value) = (entry.key(), entry.value());
        if form == Form::Raw && !tsv::fits_raw(key, value) {
            let part = if tsv::fits_raw(key, b"") { "the value of the key" } else { "the key" };
            return Err(Failure::new(format_args!(
                "{part} `{}` has no raw line, as it holds a tab or newline; export without --raw",
                Escaped(key)
            )));
        }
        tsv::write(&mut out, key, value, form).map_err(fail)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let entries = bar.position();
    let out = out.into_inner().map_err(|error| fail(error.into_error()))?;
    Ok((out, entries))
}
