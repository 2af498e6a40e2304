//! What one file of the format holds, item by item.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use maplsm::inspect::{self, Item, Value};
use maplsm::{Damage, Error};

use crate::args::DumpArgs;
use crate::escape::{Escaped, Hex, Quoted};
use crate::failure::{Failure, Status};
use crate::interrupt;

pub(crate) fn run(args: &DumpArgs) -> Result<Status, Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut items_left = args.limit.map(Into::<u64>::into);
    // Why the sink ended the inspection: the limit, or the output refused a write.
    let mut end: Option<Result<(), Failure>> = None;
    let outcome = inspect::file(&args.file, &mut |item| {
        if let Err(failure) = interrupt::check() {
            end = Some(Err(failure));
            return Err(io::Error::other("interrupt"));
        }
        if items_left == Some(0) {
            end = Some(Ok(()));
            return Err(io::Error::other("limit"));
        }
        items_left = items_left.map(|items| items - 1);
        let written = if args.json { write_json(&mut out, &item) } else { write_text(&mut out, &item) };
        written.map_err(|error| {
            let copy = io::Error::from(error.kind());
            end = Some(Err(error.into()));
            copy
        })
    });
    // What was found before the damage is worth showing, so the output comes first.
    if let Some(end) = end {
        end?;
    } else {
        out.flush()?;
        outcome.map_err(|error| if is_of_another_format(&error) { not_of_format(&args.file) } else { error.into() })?;
    }
    out.flush()?;
    Ok(Status::Success)
}

/// Whether a file does not begin as those of the format do, and has none of their names either.
fn is_of_another_format(error: &Error) -> bool {
    error.corruption().is_some_and(|corruption| {
        let name = corruption.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        corruption.offset == 0 && corruption.what == Damage::BadMagic && !inspect::is_name(name)
    })
}

fn not_of_format(path: &Path) -> Failure {
    Failure::new(format_args!("{} is not a file of this format", path.display()))
}

fn write_text(out: &mut impl Write, item: &Item<'_>) -> io::Result<()> {
    write!(out, "{:08x}  {}", item.offset, item.kind)?;
    for (position, (name, value)) in item.fields.iter().enumerate() {
        let gap = if position == 0 { "  " } else { " " };
        write!(out, "{gap}{name}=")?;
        match value {
            Value::Number(number) => write!(out, "{number}")?,
            Value::Text(text) => out.write_all(text.as_bytes())?,
            Value::Bytes(bytes) => write!(out, "{}", Quoted(bytes))?,
            Value::Id(id) => write!(out, "{}", Hex(id))?,
            _ => out.write_all(b"?")?,
        }
    }
    out.write_all(b"\n")
}

/// One object a line. Written piece by piece, so that fields keep their order.
fn write_json(out: &mut impl Write, item: &Item<'_>) -> io::Result<()> {
    write!(out, "{{\"offset\":{},\"kind\":", item.offset)?;
    write_string(out, &item.kind)?;
    out.write_all(b",\"fields\":{")?;
    for (position, (name, value)) in item.fields.iter().enumerate() {
        if position > 0 {
            out.write_all(b",")?;
        }
        write_string(out, name)?;
        out.write_all(b":")?;
        match value {
            Value::Number(number) => write!(out, "{number}")?,
            Value::Text(text) => write_string(out, text)?,
            Value::Bytes(bytes) => write_string(out, &Escaped(bytes))?,
            Value::Id(id) => write_string(out, &Hex(id))?,
            _ => out.write_all(b"null")?,
        }
    }
    out.write_all(b"}}\n")
}

fn write_string(out: &mut impl Write, text: &dyn fmt::Display) -> io::Result<()> {
    serde_json::to_writer(out, &text.to_string()).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item<'static> {
        Item {
            offset: 4096,
            kind: "entry",
            fields: vec![
                ("sequence", Value::Number(u64::MAX)),
                ("kind", Value::Text("put")),
                ("key", Value::Bytes(b"a \"b\"\n")),
                ("id", Value::Id([0xab; 16])),
            ],
        }
    }

    #[test]
    fn text_is_one_line_with_fields_in_order() {
        let mut out = Vec::new();
        write_text(&mut out, &item()).unwrap();
        let expected = r#"00001000  entry  sequence=18446744073709551615 kind=put key="a \x22b\x22\n" id=abababababababababababababababab"#;
        assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let mut out = Vec::new();
        write_json(&mut out, &item()).unwrap();
        assert_eq!(out.split_last().map(|(last, line)| (*last, line.contains(&b'\n'))), Some((b'\n', false)));
        let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(object["offset"], 4096);
        assert_eq!(object["fields"]["sequence"], u64::MAX);
        assert_eq!(object["fields"]["key"], "a \"b\"\\n");
        assert_eq!(object["fields"]["id"], "ab".repeat(16));
    }
}
