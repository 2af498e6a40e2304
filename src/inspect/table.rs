//! Tables: sections and their entries.

use super::frame::Framed;
use super::{Sink, Value, position};
use crate::error::Result;
use crate::format::entry::{ENTRY_HEADER_BYTES, Entry, Kind};
use crate::format::prefix::Magic;
use crate::format::table::Section;

pub(super) fn show(sink: &mut Sink<'_>, file: &[u8]) -> Result<()> {
    let mut table = Framed::open(sink, file, Magic::TABLE, "table")?;
    let at = table.frame.directory_offset;
    let mut rest = table.frame.directory(file).map_err(|damage| sink.damaged(at, damage))?;
    let sections = Section::decode_directory(&table.frame, rest).map_err(|fault| sink.damaged(at, fault))?;
    for section in &sections {
        sink.item(table.directory_position(rest), "section", section_fields(section))?;
        (_, rest) = Section::decode(rest).map_err(|fault| sink.damaged(at, fault))?;
    }
    for section in &sections {
        show_entries(sink, &mut table, section)?;
    }
    table.finish(sink)
}

fn show_entries(sink: &mut Sink<'_>, table: &mut Framed<'_>, section: &Section) -> Result<()> {
    let (mut at, end) = (position(section.start), position(section.end));
    while at < end {
        table.verify_to(sink, section.end.min(at as u64 + ENTRY_HEADER_BYTES))?;
        let entry =
            Entry::parse(table.file, at, end, section.min_sequence).map_err(|fault| sink.damaged(at as u64, fault))?;
        table.verify_to(sink, entry.next() as u64)?;
        sink.item(at as u64, "entry", entry_fields(&entry, table.file))?;
        at = entry.next();
    }
    Ok(())
}

pub(super) fn entry_fields<'a>(entry: &Entry, file: &'a [u8]) -> Vec<(&'static str, Value<'a>)> {
    let kind = match entry.kind {
        Kind::Put => "put",
        Kind::Delete => "delete",
    };
    let mut fields = vec![
        ("sequence", Value::Number(entry.sequence.0)),
        ("kind", Value::Text(kind)),
        ("key", Value::Bytes(entry.key(file))),
    ];
    if entry.kind == Kind::Put {
        fields.push(("value", Value::Bytes(entry.value(file))));
    }
    fields
}

pub(super) fn section_fields(section: &Section) -> Vec<(&'static str, Value<'_>)> {
    vec![
        ("keyspace", Value::Number(section.keyspace.0.into())),
        ("start", Value::Number(section.start)),
        ("end", Value::Number(section.end)),
        ("entries", Value::Number(section.entries)),
        ("keys", Value::Number(section.keys)),
        ("tombstones", Value::Number(section.tombstones)),
        ("min_sequence", Value::Number(section.min_sequence.0)),
        ("max_sequence", Value::Number(section.max_sequence.0)),
        ("interval", Value::Number(section.interval.into())),
        ("min_key", Value::Bytes(&section.min_key)),
        ("max_key", Value::Bytes(&section.max_key)),
    ]
}
