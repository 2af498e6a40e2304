//! Indexes: sections, what is in their buckets or blocks, and sparse entries.

use zerocopy::little_endian::U32;

use super::frame::Framed;
use super::{Sink, Value};
use crate::error::{Damage, Result};
use crate::format::UNIT;
use crate::format::bytes::{self, Part};
use crate::format::index::{BUCKET_BYTES, BUCKET_SLOTS, Block, Bucket, IndexSection, PointKind};
use crate::format::prefix::Magic;

pub(super) fn show(sink: &mut Sink<'_>, file: &[u8]) -> Result<()> {
    let mut index = Framed::open(sink, file, Magic::INDEX, "index")?;
    let at = index.frame.directory_offset;
    let mut rest = index.frame.directory(Part::whole(file)).map_err(|damage| sink.damaged(at, damage))?;
    let mut sections: Vec<IndexSection> = Vec::new();
    for _ in 0..index.frame.section_count {
        let offset = index.directory_position(rest);
        let (section, tail) =
            IndexSection::decode(rest, index.frame.body_end).map_err(|fault| sink.damaged(offset, fault))?;
        if sections.last().is_some_and(|last| last.keyspace >= section.keyspace) {
            return Err(sink.damaged(offset, Damage::OutOfOrder));
        }
        sink.item(offset, "index-section", section_fields(&section))?;
        sections.push(section);
        rest = tail;
    }
    if !rest.is_empty() {
        return Err(sink.damaged(index.directory_position(rest), Damage::OutOfBounds));
    }
    for section in &sections {
        match section.point {
            PointKind::Hash => show_buckets(sink, &mut index, section)?,
            PointKind::Bloom { probes } => show_blocks(sink, &mut index, section, probes)?,
        }
        show_sparse(sink, &mut index, section)?;
    }
    index.finish(sink)
}

fn section_fields(section: &IndexSection) -> Vec<(&'static str, Value<'_>)> {
    let point = match section.point {
        PointKind::Hash => "hash",
        PointKind::Bloom { .. } => "bloom",
    };
    vec![
        ("keyspace", Value::Number(section.keyspace.0.into())),
        ("point_index", Value::Text(point)),
        ("keys", Value::Number(section.keys)),
        ("point_offset", Value::Number(section.point_offset)),
        ("point_count", Value::Number(section.point_count.into())),
        ("heads_offset", Value::Number(section.heads_offset)),
        ("locators_offset", Value::Number(section.locators_offset)),
        ("sparse_count", Value::Number(section.sparse_count)),
        ("interval", Value::Number(section.interval.into())),
        ("common_prefix", Value::Bytes(&section.common_prefix)),
    ]
}

/// The lines of the point index, verified.
fn lines<'a, T: zerocopy::FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned>(
    sink: &Sink<'_>,
    index: &mut Framed<'a>,
    section: &IndexSection,
) -> Result<&'a [T]> {
    let (offset, count) = (section.point_offset, u64::from(section.point_count));
    index.verify_to(sink, offset + count * BUCKET_BYTES)?;
    bytes::array(index.file, offset, count).map_err(|damage| sink.damaged(offset, damage))
}

fn show_buckets(sink: &mut Sink<'_>, index: &mut Framed<'_>, section: &IndexSection) -> Result<()> {
    let buckets: &[Bucket] = lines(sink, index, section)?;
    let (mut used, mut full, mut overflowing) = (0, 0, 0);
    for (bucket, offset) in buckets.iter().zip((section.point_offset..).step_by(size_of::<Bucket>())) {
        let slots = usize::from(bucket.count);
        if slots > BUCKET_SLOTS {
            return Err(sink.damaged(offset, Damage::BadField));
        }
        used += u64::from(bucket.count);
        full += u64::from(slots == BUCKET_SLOTS);
        overflowing += u64::from(bucket.overflow != 0);
    }
    let fields = vec![
        ("count", Value::Number(buckets.len() as u64)),
        ("slots", Value::Number((buckets.len() * BUCKET_SLOTS) as u64)),
        ("used_slots", Value::Number(used)),
        ("full", Value::Number(full)),
        ("overflowing", Value::Number(overflowing)),
    ];
    sink.item(section.point_offset, "buckets", fields)
}

fn show_blocks(sink: &mut Sink<'_>, index: &mut Framed<'_>, section: &IndexSection, probes: u8) -> Result<()> {
    let blocks: &[Block] = lines(sink, index, section)?;
    let ones = blocks.as_flattened().iter().map(|byte| u64::from(byte.count_ones())).sum();
    let fields = vec![
        ("count", Value::Number(blocks.len() as u64)),
        ("probes", Value::Number(probes.into())),
        ("bits", Value::Number(blocks.as_flattened().len() as u64 * 8)),
        ("set_bits", Value::Number(ones)),
    ];
    sink.item(section.point_offset, "blocks", fields)
}

fn show_sparse(sink: &mut Sink<'_>, index: &mut Framed<'_>, section: &IndexSection) -> Result<()> {
    let (heads_offset, locators_offset, count) = (section.heads_offset, section.locators_offset, section.sparse_count);
    index.verify_to(sink, heads_offset + count * 8)?;
    index.verify_to(sink, locators_offset + count * 4)?;
    let heads: &[[u8; 8]] =
        bytes::array(index.file, heads_offset, count).map_err(|damage| sink.damaged(heads_offset, damage))?;
    let locators: &[U32] =
        bytes::array(index.file, locators_offset, count).map_err(|damage| sink.damaged(locators_offset, damage))?;
    for ((head, locator), offset) in heads.iter().zip(locators).zip((heads_offset..).step_by(8)) {
        let fields = vec![("head", Value::Bytes(head)), ("entry", Value::Number(u64::from(locator.get()) * UNIT))];
        sink.item(offset, "sparse", fields)?;
    }
    Ok(())
}
