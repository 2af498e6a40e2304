//! FORMAT.md, section 12.
//!
//! Version edits: what a manifest records. One group is one edit, applied whole or not at all.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::alignment::Alignment;
use super::checksum::Id;
use super::codec::Codec;
use super::section::{Later, Section};
use super::section_options::{PointIndex, SectionOptions};
use super::values::ValuesMeta;
use super::{FILE_BYTES_MAX, FileNumber, KeyspaceId, NUMBER_MAX, Position, Sequence, bytes};
use crate::error::{Bug, Damage, Fault, Feature, bug};

pub(crate) use super::LEVELS;

/// Longest name of a keyspace in bytes.
pub(crate) const KEYSPACE_NAME_MAX: usize = 255;

/// What the manifest knows of a keyspace other than the default one. Nothing of it ever changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyspaceMeta {
    pub(crate) id: KeyspaceId,
    pub(crate) options: SectionOptions,
    pub(crate) name: String,
    /// The name of its merge operator, if it has one.
    pub(crate) operator: Option<String>,
    pub(crate) later: Later,
}

/// What is wrong with the name of a keyspace, or of a merge operator, if anything is.
pub(crate) fn check_keyspace_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > KEYSPACE_NAME_MAX {
        return Err("it has more than 255 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    Ok(())
}

/// What the manifest knows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableMeta {
    pub(crate) number: FileNumber,
    pub(crate) id: Id,
    pub(crate) file_bytes: u64,
    pub(crate) footer_checksum: u32,
    /// In order of keyspace; tables of level 1 and below have exactly one.
    pub(crate) sections: Vec<Section>,
}

impl TableMeta {
    /// The sequence number of all entries of a table that was loaded; 0 for others.
    pub(crate) fn global_sequence(&self) -> Sequence {
        let section = self.sections.iter().find(|section| section.takes_global_sequence);
        section.map_or(Sequence(0), |section| section.max_sequence)
    }
}

/// A durable change of the state of the database.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Edit {
    /// Every file made from now on has this number or a higher one.
    pub(crate) next_number: Option<FileNumber>,
    /// No entry of a table has a higher sequence number.
    pub(crate) last_sequence: Option<Sequence>,
    /// Log segments with a lower number are obsolete.
    pub(crate) first_segment: Option<FileNumber>,
    /// Segments of earlier runs that are still needed, and where they end.
    pub(crate) segment_ends: Vec<(FileNumber, u64)>,
    /// The log was durable up to this place before the edit was made.
    pub(crate) log_durable: Option<Position>,
    /// Value files. One that no table of the version refers to is not part of it any more.
    pub(crate) add_values: Vec<ValuesMeta>,
    pub(crate) add: Vec<(u8, TableMeta)>,
    /// Moves to another level without a rewrite.
    pub(crate) moves: Vec<(FileNumber, u8)>,
    pub(crate) remove: Vec<FileNumber>,
    /// Sections of level-0 tables that have been compacted into their keyspace's tree.
    pub(crate) consume: Vec<(FileNumber, KeyspaceId)>,
    /// Every keyspace created from now on has this id or a higher one.
    pub(crate) next_keyspace: Option<KeyspaceId>,
    pub(crate) create: Vec<KeyspaceMeta>,
    /// The name of the merge operator of the default keyspace.
    pub(crate) default_operator: Option<String>,
    /// Keyspaces that are gone, with all their tables and sections.
    pub(crate) drop: Vec<KeyspaceId>,
}

impl Edit {
    /// Whether it makes the database larger and takes nothing away: keyspaces that are made, tables that are loaded.
    /// Everything else either frees space sooner or later, or must not be in the way of what does.
    pub(crate) fn only_adds(&self) -> bool {
        let removes = self.first_segment.is_some()
            || !(self.remove.is_empty() && self.consume.is_empty() && self.drop.is_empty());
        !(removes || self.create.is_empty() && self.add.is_empty())
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RecordHeader {
    kind: U16,
    reserved: [u8; 2],
    /// Bytes behind this header, a multiple of 8.
    length: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TableRecord {
    number: U64,
    id: Id,
    file_bytes: U64,
    global_sequence: U64,
    footer_checksum: U32,
    level: u8,
    reserved: [u8; 3],
    section_count: U32,
    reserved_tail: [u8; 4],
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct KeyspaceRecord {
    /// Length of this structure, further fields of a later version included.
    record_bytes: U16,
    interval: U16,
    id: U32,
    error_rate: U64,
    key_order: u8,
    hash: u8,
    compression: u8,
    encryption: u8,
    alignment_log2: u8,
    zstd_level: i8,
    compressed_from: u8,
    block_log2: u8,
    required: U32,
    optional: U32,
    large_value_bytes: U32,
    point_kind: u8,
    name_bytes: u8,
    /// The length of the name of its merge operator, which stands behind its own; 0 without one.
    operator_bytes: u8,
    reserved: u8,
}

const RECORD_HEADER_BYTES: u64 = 8;
const _: () = assert!(size_of::<RecordHeader>() == 8 && size_of::<TableRecord>() == 56);
const KEYSPACE_RECORD_BYTES: u16 = 40;
const _: () = assert!(size_of::<KeyspaceRecord>() == KEYSPACE_RECORD_BYTES as usize);

const NEXT_NUMBER: u16 = 1;
const LAST_SEQUENCE: u16 = 2;
const FIRST_SEGMENT: u16 = 3;
const SEGMENT_END: u16 = 4;
const ADD_TABLE: u16 = 5;
const MOVE_TABLE: u16 = 6;
const REMOVE_TABLE: u16 = 7;
const CONSUME_SECTION: u16 = 8;
const CREATE_KEYSPACE: u16 = 9;
const DROP_KEYSPACE: u16 = 10;
const NEXT_KEYSPACE: u16 = 11;
const LOG_DURABLE: u16 = 12;
const ADD_VALUES: u16 = 13;
const ALTER_KEYSPACE: u16 = 14;

const POINT_HASH: u8 = 1;
const POINT_BLOOM: u8 = 2;

fn push_record(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(RecordHeader { kind: U16::new(kind), reserved: [0; 2], length: U32::new(length) }.as_bytes());
    out.extend_from_slice(payload);
}

fn push_numbers(out: &mut Vec<u8>, kind: u16, numbers: &[u64]) {
    let payload: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    push_record(out, kind, &payload);
}

/// Splits the body of a group into records: `(offset in the body, the record with its header)`.
pub(crate) fn records(body: &[u8]) -> impl Iterator<Item = Result<(u64, &[u8]), Damage>> {
    let mut at = 0u64;
    std::iter::from_fn(move || {
        let end = u64::try_from(body.len()).unwrap_or(u64::MAX);
        if at == end {
            return None;
        }
        let record = bytes::read::<RecordHeader>(body, at).and_then(|header| {
            let payload_bytes = u64::from(header.length.get());
            let record = bytes::slice(body, at, RECORD_HEADER_BYTES.saturating_add(payload_bytes))?;
            if header.reserved != [0; 2] || !payload_bytes.is_multiple_of(8) {
                return Err(Damage::BadField);
            }
            Ok((at, record))
        });
        at = record.map_or(end, |(start, record)| start.saturating_add(record.len() as u64));
        Some(record)
    })
}

impl Edit {
    /// The body of the group, and the count of its records. Whoever writes it reads it back before: what does not fit into a
    /// field shows then.
    pub(crate) fn encode(&self) -> Result<(Vec<u8>, u32), Bug> {
        let mut out = Vec::new();
        if let Some(number) = self.next_number {
            push_numbers(&mut out, NEXT_NUMBER, &[number.0]);
        }
        if let Some(sequence) = self.last_sequence {
            push_numbers(&mut out, LAST_SEQUENCE, &[sequence.0]);
        }
        if let Some(number) = self.first_segment {
            push_numbers(&mut out, FIRST_SEGMENT, &[number.0]);
        }
        for (number, end) in &self.segment_ends {
            push_numbers(&mut out, SEGMENT_END, &[number.0, *end]);
        }
        if let Some(position) = self.log_durable {
            push_numbers(&mut out, LOG_DURABLE, &[position.segment.0, position.offset]);
        }
        for values in &self.add_values {
            push_record(&mut out, ADD_VALUES, &values.encode());
        }
        for (level, table) in &self.add {
            push_record(&mut out, ADD_TABLE, &encode_table(*level, table));
        }
        for (number, level) in &self.moves {
            push_numbers(&mut out, MOVE_TABLE, &[number.0, u64::from(*level)]);
        }
        for number in &self.remove {
            push_numbers(&mut out, REMOVE_TABLE, &[number.0]);
        }
        for (number, keyspace) in &self.consume {
            push_numbers(&mut out, CONSUME_SECTION, &[number.0, u64::from(keyspace.0)]);
        }
        for keyspace in &self.create {
            push_record(&mut out, CREATE_KEYSPACE, &encode_keyspace(keyspace));
        }
        if let Some(operator) = &self.default_operator {
            let (id, name) = (KeyspaceId::DEFAULT, KeyspaceId::DEFAULT_NAME.to_owned());
            let (options, operator) = (SectionOptions::default(), Some(operator.clone()));
            let default = KeyspaceMeta { id, options, name, operator, later: Later::default() };
            push_record(&mut out, ALTER_KEYSPACE, &encode_keyspace(&default));
        }
        for keyspace in &self.drop {
            push_numbers(&mut out, DROP_KEYSPACE, &[u64::from(keyspace.0)]);
        }
        if let Some(keyspace) = self.next_keyspace {
            push_numbers(&mut out, NEXT_KEYSPACE, &[u64::from(keyspace.0)]);
        }
        let count = records(&out).count();
        Ok((out, u32::try_from(count).map_err(|_| bug("an edit has too many records"))?))
    }

    /// Decodes the body of a group with `count` records.
    pub(crate) fn decode(body: &[u8], count: u32) -> Result<Self, Fault> {
        let mut edit = Self::default();
        let mut decoded = 0u32;
        for record in records(body) {
            let (_, record) = record?;
            let (header, payload) = RecordHeader::read_from_prefix(record).map_err(|_| Damage::OutOfBounds)?;
            edit.decode_record(header.kind.get(), payload)?;
            decoded = decoded.saturating_add(1);
        }
        if decoded != count {
            return Err(Damage::BadField.into());
        }
        Ok(edit)
    }

    fn decode_record(&mut self, kind: u16, payload: &[u8]) -> Result<(), Fault> {
        match kind {
            NEXT_NUMBER => self.next_number = Some(FileNumber(one(payload)?)),
            LAST_SEQUENCE => self.last_sequence = Some(Sequence(one(payload)?)),
            FIRST_SEGMENT => self.first_segment = Some(FileNumber(one(payload)?)),
            SEGMENT_END => {
                let (number, end) = two(payload)?;
                self.segment_ends.push((FileNumber(number), end));
            }
            LOG_DURABLE => {
                let (number, offset) = two(payload)?;
                self.log_durable = Some(Position { segment: FileNumber(number), offset });
            }
            ADD_TABLE => self.add.push(decode_table(payload)?),
            MOVE_TABLE => {
                let (number, level) = two(payload)?;
                self.moves.push((FileNumber(number), check_level(level)?));
            }
            REMOVE_TABLE => self.remove.push(FileNumber(one(payload)?)),
            CONSUME_SECTION => {
                let (number, keyspace) = two(payload)?;
                self.consume.push((FileNumber(number), check_keyspace(keyspace)?));
            }
            CREATE_KEYSPACE => {
                let keyspace = decode_keyspace(payload)?;
                if keyspace.id == KeyspaceId::DEFAULT {
                    return Err(Damage::BadField.into());
                }
                self.create.push(keyspace);
            }
            ALTER_KEYSPACE => {
                let keyspace = decode_keyspace(payload)?;
                // Others are as they were made.
                if keyspace.id != KeyspaceId::DEFAULT {
                    return Err(Feature::RecordKind(kind).into());
                }
                if keyspace.name != KeyspaceId::DEFAULT_NAME || keyspace.operator.is_none() {
                    return Err(Damage::BadField.into());
                }
                self.default_operator = keyspace.operator;
            }
            DROP_KEYSPACE => self.drop.push(check_keyspace(one(payload)?)?),
            NEXT_KEYSPACE => self.next_keyspace = Some(check_keyspace(one(payload)?)?),
            ADD_VALUES => self.add_values.push(ValuesMeta::decode(payload)?),
            other => return Err(Feature::RecordKind(other).into()),
        }
        Ok(())
    }
}

fn check_level(level: u64) -> Result<u8, Damage> {
    u8::try_from(level).ok().filter(|level| *level < LEVELS).ok_or(Damage::BadField)
}

fn check_keyspace(keyspace: u64) -> Result<KeyspaceId, Damage> {
    u32::try_from(keyspace).map(KeyspaceId).map_err(|_| Damage::BadField)
}

fn one(payload: &[u8]) -> Result<u64, Damage> {
    let number = U64::read_from_bytes(payload).map_err(|_| Damage::BadField)?.get();
    if number < NUMBER_MAX { Ok(number) } else { Err(Damage::BadField) }
}

fn two(payload: &[u8]) -> Result<(u64, u64), Damage> {
    let [a, b] = <[U64; 2]>::read_from_bytes(payload).map_err(|_| Damage::BadField)?;
    if a.get() < NUMBER_MAX && b.get() < NUMBER_MAX { Ok((a.get(), b.get())) } else { Err(Damage::BadField) }
}

fn encode_table(level: u8, table: &TableMeta) -> Vec<u8> {
    let record = TableRecord {
        number: U64::new(table.number.0),
        id: table.id,
        file_bytes: U64::new(table.file_bytes),
        global_sequence: U64::new(table.global_sequence().0),
        footer_checksum: U32::new(table.footer_checksum),
        level,
        reserved: [0; 3],
        section_count: U32::new(u32::try_from(table.sections.len()).unwrap_or(u32::MAX)),
        reserved_tail: [0; 4],
    };
    let mut out = record.as_bytes().to_vec();
    for section in &table.sections {
        section.encode(&mut out);
    }
    out
}

fn decode_table(payload: &[u8]) -> Result<(u8, TableMeta), Fault> {
    let (record, mut rest) = TableRecord::read_from_prefix(payload).map_err(|_| Damage::OutOfBounds)?;
    let level = check_level(u64::from(record.level))?;
    let global = record.global_sequence.get();
    let reserved = record.reserved == [0; 3] && record.reserved_tail == [0; 4];
    let lengths = record.file_bytes.get() <= FILE_BYTES_MAX && record.number.get() < NUMBER_MAX;
    if !reserved || !lengths || (level > 0 && record.section_count.get() != 1) {
        return Err(Damage::BadField.into());
    }
    let mut sections: Vec<Section> = Vec::new();
    for _ in 0..record.section_count.get() {
        let (section, tail) = Section::decode(rest)?;
        if sections.last().is_some_and(|last| last.keyspace >= section.keyspace) {
            return Err(Damage::OutOfOrder.into());
        }
        let numbered =
            section.takes_global_sequence == (global != 0) && (global == 0 || section.max_sequence.0 == global);
        if !numbered {
            return Err(Damage::BadSequence.into());
        }
        // Sums over all sections then stay far below 2^64, also where nobody has looked at the table yet.
        if section.ranges_end() > record.file_bytes.get() {
            return Err(Damage::BadField.into());
        }
        sections.push(section);
        rest = tail;
    }
    if sections.is_empty() || !rest.is_empty() {
        return Err(Damage::BadField.into());
    }
    let table = TableMeta {
        number: FileNumber(record.number.get()),
        id: record.id,
        file_bytes: record.file_bytes.get(),
        footer_checksum: record.footer_checksum.get(),
        sections,
    };
    Ok((level, table))
}

fn encode_keyspace(keyspace: &KeyspaceMeta) -> Vec<u8> {
    let options = &keyspace.options;
    let operator = keyspace.operator.as_deref().unwrap_or_default();
    let (codec, zstd_level) = options.codec();
    let (point_kind, error_rate) = match options.point_index {
        PointIndex::Hash => (POINT_HASH, 0),
        PointIndex::Bloom { error_rate } => (POINT_BLOOM, error_rate.to_bits()),
    };
    let record = KeyspaceRecord {
        record_bytes: keyspace.later.record_bytes(KEYSPACE_RECORD_BYTES),
        interval: U16::new(options.interval),
        id: U32::new(keyspace.id.0),
        error_rate: U64::new(error_rate),
        key_order: 0,
        hash: 0,
        compression: codec as u8,
        encryption: 0,
        alignment_log2: options.alignment.log2(),
        zstd_level,
        compressed_from: options.compressed_from,
        block_log2: options.block_log2,
        required: U32::ZERO,
        optional: U32::new(keyspace.later.optional),
        large_value_bytes: U32::new(options.large_value_bytes().unwrap_or(0)),
        point_kind,
        name_bytes: u8::try_from(keyspace.name.len()).unwrap_or(u8::MAX),
        operator_bytes: u8::try_from(operator.len()).unwrap_or(u8::MAX),
        reserved: 0,
    };
    let mut out = record.as_bytes().to_vec();
    out.extend_from_slice(&keyspace.later.fields);
    out.extend_from_slice(keyspace.name.as_bytes());
    out.extend_from_slice(operator.as_bytes());
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn decode_keyspace(payload: &[u8]) -> Result<KeyspaceMeta, Fault> {
    let (record, rest) = KeyspaceRecord::read_from_prefix(payload).map_err(|_| Damage::OutOfBounds)?;
    let (later, rest) = Later::split(record.record_bytes, KEYSPACE_RECORD_BYTES, record.optional.get(), rest)?;
    if record.required.get() != 0 {
        return Err(Feature::RequiredBits(record.required.get()).into());
    }
    for algorithm in [record.key_order, record.hash, record.encryption] {
        if algorithm != 0 {
            return Err(Feature::Algorithm(algorithm).into());
        }
    }
    let log2 = record.alignment_log2;
    let alignment = Alignment::of_log2(log2).ok_or(Feature::Algorithm(log2))?;
    let point_index = match (record.point_kind, record.error_rate.get()) {
        (POINT_HASH, 0) => PointIndex::Hash,
        (POINT_BLOOM, bits) => PointIndex::Bloom { error_rate: f64::from_bits(bits) },
        (POINT_HASH, _) => return Err(Damage::BadField.into()),
        (other, _) => return Err(Feature::Algorithm(other).into()),
    };
    let codec = Codec::decode(record.compression)?;
    codec.check_built()?;
    let options = SectionOptions {
        interval: record.interval.get(),
        point_index,
        compression: SectionOptions::compression_of(codec, record.zstd_level)?,
        compressed_from: record.compressed_from,
        block_log2: record.block_log2,
        threshold: Some(record.large_value_bytes.get()),
        alignment,
    };
    options.check().map_err(|_| Damage::BadField)?;
    if record.reserved != 0 {
        return Err(Damage::BadField.into());
    }
    let (name, rest) = rest.split_at_checked(usize::from(record.name_bytes)).ok_or(Damage::OutOfBounds)?;
    let (operator, padding) = rest.split_at_checked(usize::from(record.operator_bytes)).ok_or(Damage::OutOfBounds)?;
    if padding.len() >= 8 || padding.iter().any(|byte| *byte != 0) {
        return Err(Damage::BadField.into());
    }
    let read_name = |name| {
        let name = str::from_utf8(name).map_err(|_| Damage::BadField)?;
        check_keyspace_name(name).map_err(|_| Damage::BadField).map(|()| name.to_owned())
    };
    let name = read_name(name)?;
    let operator = (!operator.is_empty()).then(|| read_name(operator)).transpose()?;
    Ok(KeyspaceMeta { id: KeyspaceId(record.id.get()), options, name, operator, later })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::range::Edge;

    pub(crate) fn section(keyspace: u32, min: &[u8], max: &[u8]) -> Section {
        Section {
            keyspace: KeyspaceId(keyspace),
            start: 64,
            end: 128,
            entries: 2,
            keys: 2,
            tombstones: 1,
            range_tombstones: 0,
            range_tombstones_bytes: 0,
            min_sequence: Sequence(5),
            max_sequence: Sequence(6),
            interval: 16,
            lower: Edge::Before(min.to_vec()),
            upper: Edge::After(max.to_vec()),
            codec: Codec::None,
            blocks: 0,
            block_log2: 0,
            alignment: Alignment::None,
            takes_global_sequence: false,
            value_files: Vec::new(),
            later: Later::default(),
        }
    }

    #[test]
    fn a_section_beyond_its_file_is_refused() {
        let sections = vec![section(0, b"a", b"b")];
        let end = sections[0].ranges_end();
        for (file_bytes, fits) in [(end, true), (end - 1, false)] {
            let sections = sections.clone();
            let table = TableMeta { number: FileNumber(1), id: [1; 16], file_bytes, footer_checksum: 0, sections };
            let (body, count) = Edit { add: vec![(0, table)], ..Edit::default() }.encode().unwrap();
            assert_eq!(Edit::decode(&body, count).is_ok(), fits, "{file_bytes} bytes");
        }
    }

    #[test]
    fn edits_round_trip_and_cut_ones_are_refused() {
        let table = TableMeta {
            number: FileNumber(12),
            id: [1; 16],
            file_bytes: 4096,
            footer_checksum: 99,
            sections: vec![section(0, b"a", b"b"), section(3, b"", b"zzz")],
        };
        let values = ValuesMeta {
            number: FileNumber(14),
            id: [2; 16],
            file_bytes: 9999,
            record_bytes: 4096,
            records: 1,
            footer_checksum: 77,
        };
        let edit = Edit {
            next_number: Some(FileNumber(13)),
            last_sequence: Some(Sequence(6)),
            first_segment: Some(FileNumber(11)),
            segment_ends: vec![(FileNumber(11), 4096)],
            log_durable: Some(Position { segment: FileNumber(11), offset: 4096 }),
            add_values: vec![values],
            add: vec![(0, table)],
            moves: vec![(FileNumber(4), 3)],
            remove: vec![FileNumber(5)],
            consume: vec![(FileNumber(12), KeyspaceId(3))],
            next_keyspace: Some(KeyspaceId(7)),
            create: vec![
                keyspace(3, "caf\u{e9}", None),
                keyspace(4, "x", Some(0.01)),
                keyspace(5, &"n".repeat(255), None),
            ],
            default_operator: Some("maplsm.counter".to_owned()),
            drop: vec![KeyspaceId(4), KeyspaceId(6)],
        };
        let (body, count) = edit.encode().unwrap();
        assert_eq!((count, body.len() % 8), (17, 0));
        assert_eq!(Edit::decode(&body, count), Ok(edit));
        for length in 0..body.len() {
            assert!(Edit::decode(&body[..length], count).is_err(), "{length}");
        }
        assert_eq!(Edit::decode(&[15, 0, 0, 0, 0, 0, 0, 0], 1), Err(Feature::RecordKind(15).into()));
    }

    fn keyspace(id: u32, name: &str, bloom: Option<f64>) -> KeyspaceMeta {
        let options = SectionOptions {
            point_index: bloom.map_or(PointIndex::Hash, |error_rate| PointIndex::Bloom { error_rate }),
            threshold: Some(if id == 3 { 4096 } else { 0 }),
            alignment: if id == 5 { Alignment::Sixteen } else { Alignment::None },
            ..SectionOptions::default()
        };
        let operator = (id == 4).then(|| "an operator".to_owned());
        KeyspaceMeta { id: KeyspaceId(id), options, name: name.to_owned(), operator, later: Later::default() }
    }

    #[test]
    fn keyspace_records_are_checked() {
        let good = encode_keyspace(&keyspace(7, "users", None));
        assert_eq!(decode_keyspace(&good), Ok(keyspace(7, "users", None)));
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            decode_keyspace(&bad)
        };
        let damaged: Result<KeyspaceMeta, Fault> = Err(Damage::BadField.into());
        // A record of no length, or of none in units; intervals 0 and 272; an error rate without a filter, and a filter
        // without one; a level of Zstandard without it; levels and block sizes that there are not; a threshold below the least;
        // name lengths; reserved bytes; names with a control character and a lone continuation byte; padding.
        let changes = [
            (0, 0),
            (0, 41),
            (2, 0),
            (3, 1),
            (8, 1),
            (36, 2),
            (21, 1),
            (22, 7),
            (23, 11),
            (23, 21),
            (32, 63),
            (37, 0),
            (37, 4),
            (37, 6),
            (39, 1),
            (40, 7),
            (42, 0x80),
            (47, 1),
        ];
        for (at, byte) in changes {
            assert_eq!(with(at, byte), damaged, "byte {at} = {byte}");
        }
        for (at, byte) in [(37, 9), (0, 56)] {
            assert_eq!(with(at, byte), Err(Damage::OutOfBounds.into()), "byte {at} = {byte}");
        }
        for at in [16, 17, 19, 20] {
            assert_eq!(with(at, 1), Err(Feature::Algorithm(1).into()));
        }
        assert_eq!(with(18, 3), Err(Feature::Algorithm(3).into()));
        assert_eq!(with(36, 3), Err(Feature::Algorithm(3).into()));
        // The name of an operator would be a zero, or end behind the record.
        assert_eq!(with(38, 1), damaged);
        assert_eq!(with(38, 4), Err(Damage::OutOfBounds.into()));
        assert_eq!(with(25, 1), Err(Feature::RequiredBits(256).into()));
    }

    #[test]
    fn what_a_later_version_has_added_is_kept() {
        let later = || Later { optional: 0x8000, fields: vec![7; 16] };
        let keyspace = KeyspaceMeta { later: later(), ..keyspace(7, "users", None) };
        assert_eq!(decode_keyspace(&encode_keyspace(&keyspace)), Ok(keyspace));
        let section = Section { later: later(), ..section(3, b"a", b"b") };
        let mut record = Vec::new();
        section.encode(&mut record);
        assert_eq!(Section::decode(&record), Ok((section, &[][..])));
        for length in 0..record.len() {
            assert!(Section::decode(&record[..length]).is_err(), "{length}");
        }
        // Lengths below what is known, and no list of units.
        for bytes in [0, 96, 105] {
            record[0] = bytes;
            assert_eq!(Section::decode(&record), Err(Damage::BadField.into()), "{bytes}");
        }
    }

    #[test]
    fn kinds_that_are_kept_for_later_are_refused() {
        for kind in 15..=17 {
            let mut body = Vec::new();
            push_numbers(&mut body, kind, &[1, 2]);
            assert_eq!(Edit::decode(&body, 1), Err(Feature::RecordKind(kind).into()));
        }
        // Nothing but the operator of the default keyspace is altered.
        let decode = |kind, keyspace: &KeyspaceMeta| {
            let mut body = Vec::new();
            push_record(&mut body, kind, &encode_keyspace(keyspace));
            Edit::decode(&body, 1)
        };
        let default = KeyspaceMeta { id: KeyspaceId::DEFAULT, ..keyspace(4, "default", None) };
        let altered = decode(ALTER_KEYSPACE, &default).unwrap();
        assert_eq!(altered.default_operator.as_deref(), Some("an operator"));
        let other = keyspace(4, "default", None);
        assert_eq!(decode(ALTER_KEYSPACE, &other), Err(Feature::RecordKind(ALTER_KEYSPACE).into()));
        let renamed = KeyspaceMeta { name: "other".to_owned(), ..default.clone() };
        let without = KeyspaceMeta { operator: None, ..default.clone() };
        for damaged in
            [decode(ALTER_KEYSPACE, &renamed), decode(ALTER_KEYSPACE, &without), decode(CREATE_KEYSPACE, &default)]
        {
            assert_eq!(damaged, Err(Damage::BadField.into()));
        }
    }
}
