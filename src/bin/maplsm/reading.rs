//! Commands that print entries.

use std::io::{self, BufWriter, Write};

use maplsm::Entry;

use crate::args::{FindArgs, GetArgs, RangeArgs, ScanArgs, ShapeArgs, Target, Typed};
use crate::escape::{Escaped, Hex};
use crate::failure::{Failure, Status, say};
use crate::interrupt;
use crate::json;
use crate::open;
use crate::span::Span;
use crate::tsv::{self, Form};

pub(crate) fn get(target: &Target, args: &GetArgs) -> Result<Status, Failure> {
    let Typed(key) = &args.key;
    let Some(value) = open::existing(&open::to_read(target)?, target)?.get(key)? else {
        say(format_args!("(nil)"));
        return Ok(Status::Failed);
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if args.raw {
        out.write_all(&value)?;
    } else if args.hex {
        writeln!(out, "{}", Hex(&value))?;
    } else if args.json {
        json::write(&mut out, key, Some(&value))?;
    } else {
        writeln!(out, "{}", Escaped(&value))?;
    }
    out.flush()?;
    Ok(Status::Success)
}

/// Prints how a key is found, or that it is not.
pub(crate) fn explain(target: &Target, key: &[u8], json: bool) -> Result<Status, Failure> {
    let explanation = open::existing(&open::to_read(target)?, target)?.explain(key)?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&explanation).map_err(Failure::new)?)?;
    } else {
        writeln!(out, "{explanation}")?;
    }
    Ok(if explanation.value_bytes.is_some() { Status::Success } else { Status::Failed })
}

/// Prints those entries of a range that `wanted` lets pass.
pub(crate) fn scan(target: &Target, args: ScanArgs, wanted: impl Fn(&Entry) -> bool) -> Result<Status, Failure> {
    let keyspace = open::existing(&open::to_read(target)?, target)?;
    let ScanArgs { range, limit, reverse, keys_only, shape: ShapeArgs { hex, json } } = args;
    let entries = Span::from(range).iter(&keyspace);
    let mut entries: Box<dyn Iterator<Item = _>> = if reverse { Box::new(entries.rev()) } else { Box::new(entries) };
    let mut left = limit.unwrap_or(u64::MAX);
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    while left > 0
        && let Some(entry) = entries.next()
    {
        interrupt::check()?;
        let entry = entry?;
        if !wanted(&entry) {
            continue;
        }
        left -= 1;
        let (key, value) = (entry.key(), Some(entry.value()).filter(|_| !keys_only));
        match (json, hex, value) {
            (true, ..) => json::write(&mut out, key, value)?,
            (_, true, Some(value)) => writeln!(out, "{}\t{}", Hex(key), Hex(value))?,
            (_, true, None) => writeln!(out, "{}", Hex(key))?,
            (_, _, Some(value)) => tsv::write(&mut out, key, value, Form::Escaped)?,
            (_, _, None) => writeln!(out, "{}", Escaped(key))?,
        }
    }
    out.flush()?;
    Ok(Status::Success)
}

/// Prints the entries that hold a piece of text.
pub(crate) fn find(target: &Target, args: FindArgs) -> Result<Status, Failure> {
    let FindArgs { text: Typed(text), values, scan: range } = args;
    let holds = |bytes: &[u8]| text.is_empty() || bytes.windows(text.len()).any(|window| window == text);
    scan(target, range, |entry| holds(entry.key()) || values && holds(entry.value()))
}

pub(crate) fn count(target: &Target, range: RangeArgs) -> Result<Status, Failure> {
    let keyspace = open::existing(&open::to_read(target)?, target)?;
    writeln!(io::stdout(), "{}", Span::from(range).count(&keyspace)?)?;
    Ok(Status::Success)
}
