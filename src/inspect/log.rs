//! Log segments and manifests: groups, and what is in them.

use super::item::{Sink, Value, position, version};
use super::table::{codec, entry_fields, show_section};
use crate::error::{Damage, Result};
use crate::format::checksum::Seed;
use crate::format::codec::Codec;
use crate::format::edit::{self, Edit};
use crate::format::entry::Entry;
use crate::format::group::{GROUP_HEADER_BYTES, Group, GroupHeader, GroupKind, RUN_HEADER_BYTES};
use crate::format::prefix::Magic;
use crate::format::section_options::PointIndex;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FileNumber, KeyspaceId, NUMBER_MAX, Sequence};
use crate::log::{self, LogScan};

pub(super) fn show(sink: &mut Sink<'_>, file: &[u8], magic: Magic) -> Result<()> {
    let header = SegmentHeader::parse_any(file, magic).map_err(|fault| sink.damaged(0, fault))?;
    let is_manifest = magic == Magic::MANIFEST;
    let fields = vec![
        ("version", version()),
        ("database", Value::Id(header.database())),
        ("number", Value::Number(header.number().0)),
        ("predecessor", Value::Number(header.predecessor().segment.0)),
        ("predecessor_end", Value::Number(header.predecessor().offset)),
        ("base_sequence", Value::Number(header.base().0)),
    ];
    sink.item(0, if is_manifest { "manifest" } else { "segment" }, fields)?;

    // The rules of recovery, for a log that consists of this file: any predecessor will do, no end is recorded.
    let input = log::Input { number: header.number(), bytes: file, end: None };
    let scan = log::scan(magic, &header.database(), log::Known::nothing(FileNumber(NUMBER_MAX)), &[input]);
    let end = match &scan {
        // The mark of a clean close stands behind the end.
        Ok(scan) if scan.clean => scan.ends.first().map_or(0, |(_, end)| *end + GROUP_HEADER_BYTES),
        Ok(scan) => scan.ends.first().map_or(SEGMENT_HEADER_BYTES, |(_, end)| *end),
        Err(damage) => damage.offset,
    };
    let mut offset = SEGMENT_HEADER_BYTES;
    let seed = Seed::of_file(&header.database(), header.number());
    let mut sequence = header.base();
    while offset < end {
        let (group, body) = match GroupHeader::parse(file, seed, header.number(), offset) {
            Ok(group) => group,
            // The scan found something behind this place that it cannot leave at that.
            Err(_) if scan.is_err() => break,
            Err(fault) => return Err(sink.damaged(offset, fault)),
        };
        sink.item(offset, "group", group_fields(&group))?;
        match group.kind {
            GroupKind::Plain | GroupKind::Skip if is_manifest => return Err(sink.damaged(offset, Damage::BadField)),
            GroupKind::Data if is_manifest => show_records(sink, offset + GROUP_HEADER_BYTES, body, &group)?,
            _ if is_manifest => {}
            GroupKind::Skip => sequence.0 += u64::from(group.count),
            _ => show_runs(sink, file, offset, body, &group, header.base(), &mut sequence)?,
        }
        offset += group.span();
    }
    let scan = scan.map_err(|damage| sink.damaged(damage.offset, damage.fault))?;
    show_end(sink, end, &scan)
}

fn group_fields(group: &Group) -> Vec<(&'static str, Value<'static>)> {
    let kind = match group.kind {
        GroupKind::Data => "data",
        GroupKind::Idle => "idle",
        GroupKind::Close => "close",
        GroupKind::Plain => "plain",
        GroupKind::Skip => "skip",
    };
    let mut fields = vec![
        ("kind", Value::Text(kind)),
        ("count", Value::Number(group.count.into())),
        ("body_bytes", Value::Number(group.body_bytes)),
    ];
    if let Some(durable) = group.durable {
        fields.push(("durable_segment", Value::Number(durable.segment.0)));
        fields.push(("durable_offset", Value::Number(durable.offset)));
    }
    fields
}

fn show_runs(
    sink: &mut Sink<'_>,
    file: &[u8],
    offset: u64,
    body: &[u8],
    group: &Group,
    base: Sequence,
    next: &mut Sequence,
) -> Result<()> {
    let body_start = offset + GROUP_HEADER_BYTES;
    let first = *next;
    let mut shown = body_start;
    for run in log::runs(group.kind, body) {
        let (keyspace, start, entries) = run.map_err(|damage| sink.damaged(offset, damage))?;
        let start = body_start + start;
        while shown + RUN_HEADER_BYTES < start {
            sink.item(shown, "padding", Vec::new())?;
            shown += RUN_HEADER_BYTES;
        }
        shown = start + entries.len() as u64;
        if group.kind == GroupKind::Data {
            let fields =
                vec![("keyspace", Value::Number(keyspace.0.into())), ("bytes", Value::Number(entries.len() as u64))];
            sink.item(start - RUN_HEADER_BYTES, "run", fields)?;
        }
        let (mut at, end) = (position(start), position(start) + entries.len());
        while at < end {
            let entry = Entry::parse(file, at, end, base).map_err(|fault| sink.damaged(at as u64, fault))?;
            if entry.sequence != *next {
                return Err(sink.damaged(at as u64, Damage::BadSequence));
            }
            sink.item(at as u64, "entry", entry_fields(entry.in_bytes(file)))?;
            next.0 += 1;
            at = entry.next();
        }
    }
    if next.0 - first.0 == u64::from(group.count) { Ok(()) } else { Err(sink.damaged(offset, Damage::BadField)) }
}

fn show_records(sink: &mut Sink<'_>, body_start: u64, body: &[u8], group: &Group) -> Result<()> {
    let mut count = 0;
    for record in edit::records(body) {
        let (offset, record) = record.map_err(|damage| sink.damaged(body_start, damage))?;
        let offset = body_start + offset;
        let edit = Edit::decode(record, 1).map_err(|fault| sink.damaged(offset, fault))?;
        show_record(sink, offset, &edit)?;
        count += 1;
    }
    if count == u64::from(group.count) { Ok(()) } else { Err(sink.damaged(body_start, Damage::BadField)) }
}

/// Shows an edit with one record.
fn show_record(sink: &mut Sink<'_>, offset: u64, edit: &Edit) -> Result<()> {
    let number = |name, number: FileNumber| (name, Value::Number(number.0));
    let id = |keyspace: KeyspaceId| ("keyspace", Value::Number(keyspace.0.into()));
    if let Some(next) = edit.next_number {
        sink.item(offset, "next-number", vec![number("number", next)])?;
    }
    if let Some(last) = edit.last_sequence {
        sink.item(offset, "last-sequence", vec![("sequence", Value::Number(last.0))])?;
    }
    if let Some(first) = edit.first_segment {
        sink.item(offset, "first-segment", vec![number("segment", first)])?;
    }
    for (segment, end) in &edit.segment_ends {
        sink.item(offset, "segment-end", vec![number("segment", *segment), ("end", Value::Number(*end))])?;
    }
    if let Some(durable) = edit.log_durable {
        let fields = vec![number("segment", durable.segment), ("offset", Value::Number(durable.offset))];
        sink.item(offset, "log-durable", fields)?;
    }
    for values in &edit.add_values {
        let fields = vec![
            number("value_file", values.number),
            ("id", Value::Id(values.id)),
            ("bytes", Value::Number(values.file_bytes)),
            ("footer_checksum", Value::Number(values.footer_checksum.into())),
            ("records", Value::Number(values.records)),
            ("record_bytes", Value::Number(values.record_bytes)),
        ];
        sink.item(offset, "add-values", fields)?;
    }
    for (level, table) in &edit.add {
        let mut fields = vec![
            number("table", table.number),
            ("level", Value::Number((*level).into())),
            ("id", Value::Id(table.id)),
            ("bytes", Value::Number(table.file_bytes)),
            ("footer_checksum", Value::Number(table.footer_checksum.into())),
            ("sections", Value::Number(table.sections.len() as u64)),
        ];
        let global = table.global_sequence();
        fields.extend((global != Sequence(0)).then_some(("global_sequence", Value::Number(global.0))));
        sink.item(offset, "add-table", fields)?;
        for section in &table.sections {
            show_section(sink, offset, section)?;
        }
    }
    for (table, level) in &edit.moves {
        sink.item(offset, "move-table", vec![number("table", *table), ("level", Value::Number((*level).into()))])?;
    }
    for table in &edit.remove {
        sink.item(offset, "remove-table", vec![number("table", *table)])?;
    }
    for (table, keyspace) in &edit.consume {
        let fields = vec![number("table", *table), id(*keyspace)];
        sink.item(offset, "consume-section", fields)?;
    }
    if let Some(next) = edit.next_keyspace {
        sink.item(offset, "next-keyspace", vec![id(next)])?;
    }
    for keyspace in &edit.create {
        let options = &keyspace.options;
        let (point_index, error_rate) = match options.point_index {
            PointIndex::Hash => ("hash", None),
            PointIndex::Bloom { error_rate } => ("bloom", Some(error_rate.to_bits())),
        };
        let large = options.large_value_bytes().unwrap_or(0);
        let mut fields = vec![
            id(keyspace.id),
            ("name", Value::Bytes(keyspace.name.as_bytes())),
            ("interval", Value::Number(options.interval.into())),
            ("point_index", Value::Text(point_index)),
            ("large_value_bytes", Value::Number(large.into())),
            ("alignment_log2", Value::Number(options.alignment.log2().into())),
        ];
        fields.extend(keyspace.operator.as_ref().map(|operator| ("operator", Value::Bytes(operator.as_bytes()))));
        fields.extend(error_rate.map(|bits| ("error_rate_bits", Value::Number(bits))));
        let (packed, level) = options.codec();
        if packed != Codec::None {
            fields.extend([
                ("codec", Value::Text(codec(packed))),
                ("zstd_level_byte", Value::Number(level.cast_unsigned().into())),
                ("compressed_from", Value::Number(options.compressed_from.into())),
                ("block_bytes", Value::Number(1 << options.block_log2)),
            ]);
        }
        sink.item(offset, "create-keyspace", fields)?;
    }
    if let Some(operator) = &edit.default_operator {
        let fields = vec![id(KeyspaceId::DEFAULT), ("operator", Value::Bytes(operator.as_bytes()))];
        sink.item(offset, "alter-keyspace", fields)?;
    }
    for keyspace in &edit.drop {
        sink.item(offset, "drop-keyspace", vec![id(*keyspace)])?;
    }
    Ok(())
}

fn show_end(sink: &mut Sink<'_>, end: u64, scan: &LogScan) -> Result<()> {
    // Behind the end there is space for more, or what a crash has left of a group.
    match scan.dropped {
        _ if scan.clean => sink.item(end, "end", end_fields("closed", 0)),
        Some(tail) => sink.item(end, "end", end_fields("torn", tail.bytes)),
        None => sink.item(end, "end", end_fields("open", 0)),
    }
}

/// Shows a file whose header was never written.
pub(super) fn show_unwritten(sink: &mut Sink<'_>) -> Result<()> {
    sink.item(0, "end", end_fields("open", 0))
}

fn end_fields(state: &'static str, bytes: u64) -> Vec<(&'static str, Value<'static>)> {
    vec![("state", Value::Text(state)), ("bytes", Value::Number(bytes))]
}
