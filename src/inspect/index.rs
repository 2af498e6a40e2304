//! Indexes: sections, what is in their buckets or blocks, and their order indexes.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::frame::Framed;
use super::item::{Sink, Value};
use crate::error::{Damage, Result};
use crate::format::UNIT;
use crate::format::bytes::{self, Part};
use crate::format::index::{
    BUCKET_SLOTS, Bucket, FilterBlock, GROUP_LANDMARKS, IndexSection, KeyGroup, OrderKind, PointKind,
};
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
        show_order(sink, &mut index, section)?;
    }
    index.finish(sink)
}

fn section_fields(section: &IndexSection) -> Vec<(&'static str, Value<'_>)> {
    let point = match section.point {
        PointKind::Hash => "hash",
        PointKind::Bloom { .. } => "bloom",
    };
    let (order, interval) = match section.order {
        OrderKind::Groups => ("groups", 0),
        OrderKind::Sparse { interval } => ("sparse", interval),
    };
    vec![
        ("keyspace", Value::Number(section.keyspace.0.into())),
        ("point_index", Value::Text(point)),
        ("keys", Value::Number(section.keys)),
        ("landmarks", Value::Number(section.landmarks)),
        ("point_offset", Value::Number(section.point_offset)),
        ("point_count", Value::Number(section.point_count.into())),
        ("order_index", Value::Text(order)),
        ("heads_offset", Value::Number(section.heads_offset)),
        ("order_offset", Value::Number(section.order_offset)),
        ("order_count", Value::Number(section.order_count)),
        ("interval", Value::Number(interval.into())),
        ("common_prefix", Value::Bytes(&section.common_prefix)),
    ]
}

fn show_buckets(sink: &mut Sink<'_>, index: &mut Framed<'_>, section: &IndexSection) -> Result<()> {
    let buckets: &[Bucket] = array(sink, index, section.point_offset, section.point_count.into())?;
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
    let blocks: &[FilterBlock] = array(sink, index, section.point_offset, section.point_count.into())?;
    let ones = blocks.as_flattened().iter().map(|byte| u64::from(byte.count_ones())).sum();
    let fields = vec![
        ("count", Value::Number(blocks.len() as u64)),
        ("probes", Value::Number(probes.into())),
        ("bits", Value::Number(blocks.as_flattened().len() as u64 * 8)),
        ("set_bits", Value::Number(ones)),
    ];
    sink.item(section.point_offset, "blocks", fields)
}

fn show_order(sink: &mut Sink<'_>, index: &mut Framed<'_>, section: &IndexSection) -> Result<()> {
    let (heads, count) = (section.heads_offset, section.order_count);
    let heads: &[U64] = array(sink, index, heads, count)?;
    let head_at = (section.heads_offset..).step_by(size_of::<U64>());
    match section.order {
        OrderKind::Sparse { .. } => {
            let locators: &[U32] = array(sink, index, section.order_offset, count)?;
            for ((head, locator), offset) in heads.iter().zip(locators).zip(head_at) {
                let head = head.get().to_be_bytes();
                let fields = vec![("head", Value::Bytes(&head)), ("entry", entry(locator.get()))];
                sink.item(offset, "sparse", fields)?;
            }
        }
        OrderKind::Groups => {
            let groups: &[KeyGroup] = array(sink, index, section.order_offset, count)?;
            let group_at = (section.order_offset..).step_by(size_of::<KeyGroup>());
            for ((head, group), offset) in heads.iter().zip(groups).zip(group_at) {
                let landmarks = usize::from(group.landmarks);
                if !(1..=GROUP_LANDMARKS).contains(&landmarks) {
                    return Err(sink.damaged(offset, Damage::BadField));
                }
                let head = head.get().to_be_bytes();
                let fields = vec![
                    ("head", Value::Bytes(&head)),
                    ("entry", entry(group.first.get())),
                    ("landmarks", Value::Number(landmarks as u64)),
                    ("shared_bytes", Value::Number(group.shared.get().into())),
                ];
                sink.item(offset, "group", fields)?;
            }
        }
    }
    Ok(())
}

fn entry(locator: u32) -> Value<'static> {
    Value::Number(u64::from(locator) * UNIT)
}

/// A verified array of the body.
fn array<'a, T: FromBytes + KnownLayout + Immutable + Unaligned>(
    sink: &Sink<'_>,
    index: &mut Framed<'a>,
    offset: u64,
    count: u64,
) -> Result<&'a [T]> {
    index.verify_to(sink, offset.saturating_add(count.saturating_mul(size_of::<T>() as u64)))?;
    bytes::array(index.file, offset, count).map_err(|damage| sink.damaged(offset, damage))
}
