//! What can be read of a damaged log.

use std::sync::Arc;

use crate::error::{Damage, Error, Result};
use crate::format::checksum::Seed;
use crate::format::group::{GroupHeader, may_start_group};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FileNumber, KeyspaceId};
use crate::memtable::{Memtable, Wanted};
use crate::sys::{Dir, Mapping};

/// The intact stretches of a segment, each as a memtable, and the bytes in front of and between them that are none.
pub(super) struct Stretches {
    pub(super) memtables: Vec<Arc<Memtable>>,
    pub(super) entries: u64,
    pub(super) lost_bytes: u64,
}

/// Reads every intact group of a segment; entries of keyspaces for which `is_dropped` holds are left out.
pub(super) fn read_segment(
    dir: &Arc<dyn Dir>,
    number: FileNumber,
    is_dropped: &dyn Fn(KeyspaceId) -> bool,
) -> Result<Stretches> {
    let name = FileKind::Segment.name(number);
    let path = dir.path().join(&name);
    let mapping = dir.open(&name).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::corrupt(&path, 0, Damage::Missing),
        _ => Error::io("map", &path, e),
    })?;
    let header = SegmentHeader::parse_any(mapping.bytes(), Magic::SEGMENT).map_err(|fault| fault.at(&path, 0))?;
    if header.number() != number {
        return Err(Error::corrupt(&path, 0, Damage::WrongFile));
    }
    let mut found = Stretches { memtables: Vec::new(), entries: 0, lost_bytes: 0 };
    let seed = Seed::of_file(&header.database(), number);
    let mut offset = SEGMENT_HEADER_BYTES;
    let length = mapping.bytes().len() as u64;
    while offset < length {
        let end = stretch_end(mapping.bytes(), seed, number, offset);
        if end > offset {
            found.add(&mapping, &header, offset..end, is_dropped);
        }
        let next = (end..length).step_by(8).find(|at| is_group(mapping.bytes(), seed, number, *at));
        found.lost_bytes += next.map_or(0, |next| next - end);
        offset = next.unwrap_or(length);
    }
    Ok(found)
}

impl Stretches {
    fn add(
        &mut self,
        mapping: &Mapping,
        header: &SegmentHeader,
        range: std::ops::Range<u64>,
        is_dropped: &dyn Fn(KeyspaceId) -> bool,
    ) {
        let prefix = mapping.prefix(usize::try_from(range.end).unwrap_or(usize::MAX));
        let memtable = Memtable::new(prefix, header.database(), header.number(), header.base(), 0);
        // Groups that verify and make no sense were written that way; there is nothing to be had from them.
        let wanted = |keyspace| Ok(if is_dropped(keyspace) { Wanted::None } else { Wanted::Any });
        if memtable.replay(range, wanted).is_ok_and(|indexed| indexed) {
            self.entries += memtable.entries();
            self.memtables.push(Arc::new(memtable));
        }
    }
}

fn is_group(file: &[u8], seed: Seed, number: FileNumber, offset: u64) -> bool {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    may_start_group(file.get(start..).unwrap_or_default()) && GroupHeader::parse(file, seed, number, offset).is_ok()
}

/// Where the first group at or behind `offset` begins that is not intact.
fn stretch_end(file: &[u8], seed: Seed, number: FileNumber, mut offset: u64) -> u64 {
    while let Ok((group, _)) = GroupHeader::parse(file, seed, number, offset) {
        offset += group.span();
    }
    offset
}
