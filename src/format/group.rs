//! FORMAT.md, section 8.
//!
//! Groups: the unit of atomicity of the log and of the manifest.
//!
//! A group is a header with its own checksum and a body. In a segment, the body is a list of runs, each a keyspace and its
//! entries; in a manifest, a list of edit records.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::alignment::Alignment;
use super::checksum::Seed;
use super::{FILE_BYTES_MAX, FileNumber, KeyspaceId, Position, UNIT, bytes};
use crate::error::{Bug, Damage, Fault, Feature, must};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupKind {
    /// A batch of entries in runs, or an edit of the manifest.
    Data = 1,
    /// Written when the log has been synced and nothing followed: everything before it is durable.
    Idle = 2,
    /// Written by a clean close: everything before it is durable and nothing follows.
    Close = 3,
    /// Entries of the default keyspace without a run header: what a commit of one entry writes.
    Plain = 4,
    /// Sequence numbers that no entry of the log has: those of tables that were loaded beside it.
    Skip = 5,
}

impl GroupKind {
    /// Whether the group has entries or an edit.
    pub(crate) fn is_data(self) -> bool {
        matches!(self, Self::Data | Self::Plain)
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct GroupHeader {
    magic: u8,
    kind: u8,
    /// The durable position when this header was written: its segment as a distance back from this one, ...
    durable_back: U16,
    body_units: U32,
    /// ... its offset in units. Zero means that nothing is known to be durable.
    durable_units: U32,
    count: U32,
    body_checksum: U32,
    checksum: U32,
}

const MAGIC: u8 = 0x96;
pub(crate) const GROUP_HEADER_BYTES: u64 = 24;
const CHECKED: u64 = 20;
const _: () = assert!(size_of::<GroupHeader>() == 24 && align_of::<GroupHeader>() == 1);

/// The header of a run of entries of one keyspace.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RunHeader {
    keyspace: U32,
    units: U32,
}

pub(crate) const RUN_HEADER_BYTES: u64 = 8;
const _: () = assert!(size_of::<RunHeader>() == 8 && align_of::<RunHeader>() == 1);

impl RunHeader {
    /// A header for `length` bytes of entries, a multiple of [`UNIT`].
    #[expect(clippy::cast_possible_truncation, reason = "a body is shorter than FILE_BYTES_MAX")]
    pub(crate) fn new(keyspace: KeyspaceId, length: u64) -> Self {
        Self { keyspace: U32::new(keyspace.0), units: U32::new((length / UNIT) as u32) }
    }

    /// A padding run, which has no entries: it brings those of the run behind it to a multiple of 16.
    pub(crate) fn padding() -> Self {
        Self::new(KeyspaceId::LAST, 0)
    }

    /// Whether it belongs to no keyspace and has no entries.
    pub(crate) fn is_padding(self) -> bool {
        self.keyspace() == KeyspaceId::LAST && self.length() == 0
    }

    pub(crate) fn keyspace(self) -> KeyspaceId {
        KeyspaceId(self.keyspace.get())
    }

    pub(crate) fn length(self) -> u64 {
        u64::from(self.units.get()) * UNIT
    }
}

/// Bytes of padding runs in front of a run at `offset` whose entries have this alignment.
#[inline]
#[expect(clippy::arithmetic_side_effects, reason = "offsets below FILE_BYTES_MAX")]
pub(crate) fn padding_before_run(offset: u64, alignment: Alignment) -> u64 {
    let entries = offset + RUN_HEADER_BYTES;
    alignment.entry_start(entries) - entries
}

/// What a header says, apart from its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) kind: GroupKind,
    /// Length of the body in bytes, a multiple of [`UNIT`].
    pub(crate) body_bytes: u64,
    /// Entries (edit records in a manifest) in the body; or the sequence numbers that are skipped.
    pub(crate) count: u32,
    /// Everything before this place was durable when the header was written.
    pub(crate) durable: Option<Position>,
}

impl Group {
    /// Encodes the header of the group at `offset` of the segment `number`.
    pub(crate) fn seal(&self, seed: Seed, number: FileNumber, offset: u64, body: &[u8]) -> Result<GroupHeader, Bug> {
        must(body.len() as u64 == self.body_bytes, "a group is to be sealed over another body than its own")?;
        let in_units = self.body_bytes.is_multiple_of(UNIT) && offset.is_multiple_of(UNIT);
        must(in_units && self.body_bytes < FILE_BYTES_MAX, "the body of a group is no list of units")?;
        let here = Position { segment: number, offset };
        must(self.durable.is_none_or(|durable| durable <= here), "what follows a group is durable before it")?;
        Ok(self.header(seed, number, offset, body))
    }

    /// The same of a group that nobody has looked at.
    #[expect(clippy::cast_possible_truncation, reason = "bodies and offsets are below FILE_BYTES_MAX")]
    pub(super) fn header(&self, seed: Seed, number: FileNumber, offset: u64, body: &[u8]) -> GroupHeader {
        // A position that is too far back is left out: a header may know of no durable place.
        let back = self.durable.and_then(|durable| u16::try_from(number.0.wrapping_sub(durable.segment.0)).ok());
        let units = self.durable.filter(|_| back.is_some()).map_or(0, |durable| (durable.offset / UNIT) as u32);
        let mut header = GroupHeader {
            magic: MAGIC,
            kind: self.kind as u8,
            durable_back: U16::new(back.unwrap_or(0)),
            body_units: U32::new((self.body_bytes / UNIT) as u32),
            durable_units: U32::new(units),
            count: U32::new(self.count),
            body_checksum: U32::new(seed.sum(offset.wrapping_add(GROUP_HEADER_BYTES), body)),
            checksum: U32::ZERO,
        };
        header.checksum = U32::new(header.sum(seed, offset));
        header
    }

    /// Bytes of header and body.
    #[expect(clippy::arithmetic_side_effects, reason = "a body is shorter than FILE_BYTES_MAX")]
    pub(crate) fn span(&self) -> u64 {
        GROUP_HEADER_BYTES + self.body_bytes
    }
}

impl GroupHeader {
    /// Whether a group header of this file stands at `offset`; looks at nothing but the header.
    pub(crate) fn probe(file: &[u8], seed: Seed, number: FileNumber, offset: u64) -> Result<(Self, Group), Fault> {
        let header: Self = bytes::read(file, offset).map_err(|_| Damage::Truncated)?;
        if header.magic != MAGIC {
            return Err(Damage::BadMagic.into());
        }
        if header.checksum.get() != header.sum(seed, offset) {
            return Err(Damage::BadChecksum.into());
        }
        let kind = match header.kind {
            1 => GroupKind::Data,
            2 => GroupKind::Idle,
            3 => GroupKind::Close,
            4 => GroupKind::Plain,
            5 => GroupKind::Skip,
            other => return Err(Feature::RecordKind(u16::from(other)).into()),
        };
        let counts = kind.is_data() || (kind == GroupKind::Skip) == (header.count.get() != 0);
        if !counts || (!kind.is_data() && header.body_units.get() != 0) {
            return Err(Damage::BadField.into());
        }
        let segment = number.0.checked_sub(u64::from(header.durable_back.get())).ok_or(Damage::BadField)?;
        let durable_offset = units_to_bytes(header.durable_units);
        let group = Group {
            kind,
            body_bytes: units_to_bytes(header.body_units),
            count: header.count.get(),
            durable: (durable_offset != 0).then_some(Position { segment: FileNumber(segment), offset: durable_offset }),
        };
        Ok((header, group))
    }

    /// The checked group at `offset` and its body.
    pub(crate) fn parse(file: &[u8], seed: Seed, number: FileNumber, offset: u64) -> Result<(Group, &[u8]), Fault> {
        let (header, group) = Self::probe(file, seed, number, offset)?;
        Ok((group, header.body(file, seed, offset, &group)?))
    }

    /// The body of the group at `offset`, whose header this is, if it is intact.
    pub(crate) fn body<'f>(&self, file: &'f [u8], seed: Seed, offset: u64, group: &Group) -> Result<&'f [u8], Damage> {
        let body_start = offset.wrapping_add(GROUP_HEADER_BYTES);
        let body = bytes::slice(file, body_start, group.body_bytes).map_err(|_| Damage::Truncated)?;
        if self.body_checksum.get() == seed.sum(body_start, body) { Ok(body) } else { Err(Damage::BadChecksum) }
    }

    fn sum(&self, seed: Seed, offset: u64) -> u32 {
        seed.sum(offset, bytes::slice(self.as_bytes(), 0, CHECKED).unwrap_or_default())
    }
}

fn units_to_bytes(units: U32) -> u64 {
    u64::from(units.get()) * UNIT
}

/// Whether a group could start here at all: a unit that begins with the magic. Recovery tries every unit of a damaged
/// segment, and this keeps that linear.
#[inline]
pub(crate) fn may_start_group(bytes: &[u8]) -> bool {
    bytes.first() == Some(&MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_at_its_place_only() {
        let seed = Seed::of_file(&[3; 16], FileNumber(9));
        let body = [5; 24];
        let group = Group {
            kind: GroupKind::Data,
            body_bytes: 24,
            count: 2,
            durable: Some(Position { segment: FileNumber(7), offset: 4096 }),
        };
        let mut file = vec![0; 80];
        file.extend_from_slice(group.seal(seed, FileNumber(9), 80, &body).unwrap().as_bytes());
        file.extend_from_slice(&body);
        assert_eq!(GroupHeader::parse(&file, seed, FileNumber(9), 80), Ok((group, &body[..])));
        assert!(may_start_group(&file[80..]));

        let moved = [&[0; 8], &file[..]].concat();
        assert_eq!(GroupHeader::parse(&moved, seed, FileNumber(9), 88), Err(Damage::BadChecksum.into()));
        let other = Seed::of_file(&[3; 16], FileNumber(8));
        assert_eq!(GroupHeader::parse(&file, other, FileNumber(9), 80), Err(Damage::BadChecksum.into()));
        for bit in 0..8 * (file.len() - 80) {
            let mut bad = file.clone();
            bad[80 + bit / 8] ^= 1 << (bit % 8);
            assert!(GroupHeader::parse(&bad, seed, FileNumber(9), 80).is_err(), "bit {bit}");
        }
        assert!(GroupHeader::parse(&file[..file.len() - 1], seed, FileNumber(9), 80).is_err());
    }
}
