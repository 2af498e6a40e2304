//! Tables: sections and their entries.

use super::frame::Framed;
use super::item::{Sink, Value};
use crate::error::{Error, Fault, Result};
use crate::format::alignment::Alignment;
use crate::format::bytes::{self, Part};
use crate::format::codec::Codec;
use crate::format::entry::Kind;
use crate::format::entry_ref::EntryRef;
use crate::format::extension::Extension;
use crate::format::fragment::FRAGMENT_HEADER_BYTES;
use crate::format::prefix::Magic;
use crate::format::range::{Edge, range_of};
use crate::format::section::Section;
use crate::format::values::Pointer;
use crate::table::{InBytes, TableBytes, Walk};

pub(super) fn show(sink: &mut Sink<'_>, file: &[u8]) -> Result<()> {
    let mut table = Framed::open(sink, file, Magic::TABLE, "table")?;
    let at = table.frame.directory_offset;
    let mut rest = table.frame.directory(Part::whole(file)).map_err(|damage| sink.damaged(at, damage))?;
    let sections = Section::decode_directory(&table.frame, rest).map_err(|fault| sink.damaged(at, fault))?;
    for section in &sections {
        show_section(sink, table.directory_position(rest), section)?;
        (_, rest) = Section::decode(rest).map_err(|fault| sink.damaged(at, fault))?;
    }
    for section in &sections {
        show_entries(sink, &mut table, section)?;
    }
    table.finish(sink)
}

fn show_entries(sink: &mut Sink<'_>, table: &mut Framed<'_>, section: &Section) -> Result<()> {
    let mut shown = Shown { sink, table };
    let blocks = shown.blocks(section)?;
    let mut walk = InBytes::new(shown, section, blocks);
    let mut place = walk.first();
    while place < walk.end() {
        let block = walk.block(place)?.map(|(start, block)| (start, *block));
        // The entries of a block stand where it does, with their offset in it.
        if let Some((start, block)) = block
            && start == place
        {
            let fields = vec![
                ("number", Value::Number((start >> section.block_log2) as u64)),
                ("stored", Value::Text(if block.is_plain() { "plain" } else { "packed" })),
                ("stored_bytes", Value::Number(block.stored)),
                ("raw_bytes", Value::Number(block.raw)),
            ];
            walk.of.sink.item(block.start, "block", fields)?;
        }
        let entry = walk.entry(place)?;
        let (shown, bytes) = walk.parts();
        let mut fields = entry_fields(entry.in_bytes(bytes));
        fields.extend(block.map(|(start, _)| ("offset_in_block", Value::Number((place - start) as u64))));
        shown.sink.item(block.map_or(place as u64, |(_, block)| block.start), "entry", fields)?;
        place = walk.behind(place, &entry);
    }
    let Shown { sink, table } = walk.of;
    show_ranges(sink, table, section)
}

/// A table as far as it has been shown.
struct Shown<'x, 's, 'a> {
    sink: &'x mut Sink<'s>,
    table: &'x mut Framed<'a>,
}

impl<'a> TableBytes<'a> for Shown<'_, '_, 'a> {
    fn all(&self) -> &'a [u8] {
        self.table.file
    }

    fn verify(&mut self, _start: u64, end: u64) -> Result<()> {
        self.table.verify_to(self.sink, end)
    }

    fn damaged(&self, offset: u64, fault: Fault) -> Error {
        self.sink.damaged(offset, fault)
    }
}

fn show_ranges(sink: &mut Sink<'_>, table: &mut Framed<'_>, section: &Section) -> Result<()> {
    if section.range_tombstones > 0 {
        table.verify_to(sink, section.ranges_end())?;
        let bytes = bytes::slice(table.file, section.end, section.range_tombstones_bytes);
        let fragments = bytes.and_then(|bytes| section.fragments(bytes));
        let fragments = fragments.map_err(|damage| sink.damaged(section.end, damage))?;
        let mut at = section.end;
        for fragment in fragments.iter() {
            let fields = vec![
                ("start_side", side(&fragment.start)),
                ("start_key", Value::Bytes(fragment.start.key())),
                ("end_side", side(&fragment.end)),
                ("end_key", Value::Bytes(fragment.end.key())),
                ("count", Value::Number(fragment.sequences.len() as u64)),
            ];
            sink.item(at, "fragment", fields)?;
            for (sequence, number) in fragment.sequences.iter().zip(0..) {
                let offset = at + FRAGMENT_HEADER_BYTES + number * 8;
                sink.item(offset, "removal", vec![("sequence", Value::Number(sequence.0))])?;
            }
            at += fragment.bytes();
        }
    }
    Ok(())
}

fn side<K: AsRef<[u8]>>(edge: &Edge<K>) -> Value<'static> {
    Value::Text(match edge {
        Edge::Before(_) => "before",
        Edge::After(_) => "after",
        Edge::End => "end",
    })
}

pub(super) fn entry_fields(entry: EntryRef<'_>) -> Vec<(&'static str, Value<'_>)> {
    let kind = match entry.kind() {
        Kind::Put => "put",
        Kind::Delete => "delete",
        Kind::RangeDelete => "range delete",
        Kind::Merge => "merge operand",
        Kind::Pointer => "pointer",
    };
    let mut fields = vec![
        ("sequence", Value::Number(entry.sequence.0)),
        ("kind", Value::Text(kind)),
        ("key", Value::Bytes(entry.key())),
    ];
    if entry.alignment() != Alignment::None {
        fields.push(("alignment", Value::Number(1 << entry.alignment().log2())));
    }
    match entry.extension() {
        Some(Extension::FoldedFrom(distance)) => fields.push(("folded_from", Value::Number(distance))),
        Some(Extension::Expiry(seconds)) => fields.push(("expiry", Value::Number(seconds))),
        Some(Extension::Ignored(kind)) => fields.push(("extension", Value::Number(kind.into()))),
        None => {}
    }
    match (entry.kind(), range_of(entry.key(), entry.value())) {
        (Kind::Put | Kind::Merge, _) => fields.push(("value", Value::Bytes(entry.value()))),
        (Kind::RangeDelete, Ok((start, end))) => fields.extend([
            ("start_side", side(&start)),
            ("end_side", side(&end)),
            ("end_key", Value::Bytes(end.into_key())),
        ]),
        (Kind::Pointer, _) => {
            // One that names no place is shown without.
            let fields_of = |pointer: Pointer| {
                [
                    ("value_file", Value::Number(pointer.file.0)),
                    ("value_offset", Value::Number(pointer.offset)),
                    ("value_bytes", Value::Number(pointer.length.into())),
                ]
            };
            fields.extend(entry.pointer().ok().into_iter().flat_map(fields_of));
        }
        (Kind::Delete | Kind::RangeDelete, _) => {}
    }
    fields
}

pub(super) fn codec(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "none",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
    }
}

/// A section record, and what the section has in value files.
pub(super) fn show_section(sink: &mut Sink<'_>, offset: u64, section: &Section) -> Result<()> {
    sink.item(offset, "section", section_fields(section))?;
    for share in &section.value_files {
        let fields = vec![
            ("value_file", Value::Number(share.file.0)),
            ("values", Value::Number(share.values)),
            ("bytes", Value::Number(share.bytes)),
        ];
        sink.item(offset, "value-file", fields)?;
    }
    Ok(())
}

fn section_fields(section: &Section) -> Vec<(&'static str, Value<'_>)> {
    let mut fields = vec![
        ("keyspace", Value::Number(section.keyspace.0.into())),
        ("start", Value::Number(section.start)),
        ("end", Value::Number(section.end)),
        ("entries", Value::Number(section.entries)),
        ("keys", Value::Number(section.keys)),
        ("tombstones", Value::Number(section.tombstones)),
        ("range_tombstones", Value::Number(section.range_tombstones)),
        ("range_tombstones_bytes", Value::Number(section.range_tombstones_bytes)),
        ("min_sequence", Value::Number(section.min_sequence.0)),
        ("max_sequence", Value::Number(section.max_sequence.0)),
        ("interval", Value::Number(section.interval.into())),
        ("alignment_log2", Value::Number(section.alignment.log2().into())),
        ("lower_side", side(&section.lower)),
        ("lower_key", Value::Bytes(section.lower.key())),
        ("upper_side", side(&section.upper)),
        ("upper_key", Value::Bytes(section.upper.key())),
    ];
    fields.extend(section.takes_global_sequence.then_some(("global_sequence", Value::Number(1))));
    if section.blocks > 0 {
        fields.extend([
            ("codec", Value::Text(codec(section.codec))),
            ("blocks", Value::Number(section.blocks.into())),
            ("block_bytes", Value::Number(1 << section.block_log2)),
        ]);
    }
    fields
}
