//! FORMAT.md, section 7.
//!
//! The header of log segments and manifests, which share their framing.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::{Id, Seed};
use super::prefix::{Magic, Prefix};
use super::{FileNumber, NUMBER_MAX, Position, Sequence, bytes};
use crate::error::{Damage, Fault};

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SegmentHeader {
    prefix: Prefix,
    database: Id,
    number: U64,
    predecessor: U64,
    predecessor_end: U64,
    base_sequence: U64,
    reserved: [u8; 4],
    checksum: U32,
}

/// Groups begin here.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 80;
const CHECKED: u64 = 76;
const _: () = assert!(size_of::<SegmentHeader>() == 80 && align_of::<SegmentHeader>() == 1);

impl SegmentHeader {
    /// `predecessor` is where the segment before ended when this one was made (zeros for the first): a link of the chain,
    /// never a statement about durability.
    pub(crate) fn new(magic: Magic, database: Id, number: FileNumber, predecessor: Position, base: Sequence) -> Self {
        let mut header = Self {
            prefix: Prefix::new(magic),
            database,
            number: U64::new(number.0),
            predecessor: U64::new(predecessor.segment.0),
            predecessor_end: U64::new(predecessor.offset),
            base_sequence: U64::new(base.0),
            reserved: [0; 4],
            checksum: U32::ZERO,
        };
        header.checksum = U32::new(header.sum());
        header
    }

    /// Parses the header of the file `number` of database `database`.
    pub(crate) fn parse(file: &[u8], magic: Magic, database: &Id, number: FileNumber) -> Result<Self, Fault> {
        let header = Self::parse_any(file, magic)?;
        if header.database != *database || header.number.get() != number.0 {
            return Err(Damage::WrongFile.into());
        }
        Ok(header)
    }

    /// Parses a header without knowing whose file it is.
    pub(crate) fn parse_any(file: &[u8], magic: Magic) -> Result<Self, Fault> {
        let header: Self = bytes::read(file, 0).map_err(|_| Damage::Truncated)?;
        header.prefix.check(magic)?;
        if header.checksum.get() != header.sum() {
            return Err(Damage::BadChecksum.into());
        }
        let numbers = [header.number, header.predecessor, header.predecessor_end, header.base_sequence];
        let reserved = header.prefix.is_reserved_zero() && header.reserved == [0; 4];
        // A manifest takes the place of an older one, and has neither a chain nor entries.
        let is_plausible = magic != Magic::MANIFEST
            || header.predecessor.get() < header.number.get()
                && header.predecessor_end == U64::ZERO
                && header.base_sequence == U64::ZERO;
        if !reserved || !is_plausible || numbers.iter().any(|number| number.get() >= NUMBER_MAX) {
            return Err(Damage::BadField.into());
        }
        Ok(header)
    }

    /// The id of the database in a header that may be damaged: proves nothing.
    pub(crate) fn stated_database(file: &[u8]) -> Option<Id> {
        bytes::read::<Self>(file, 0).ok().map(|header| header.database)
    }

    fn sum(&self) -> u32 {
        let checked = bytes::slice(self.as_bytes(), 0, CHECKED).unwrap_or_default();
        Seed::of_file(&self.database, self.number()).sum(0, checked)
    }

    pub(crate) fn database(&self) -> Id {
        self.database
    }

    pub(crate) fn number(&self) -> FileNumber {
        FileNumber(self.number.get())
    }

    pub(crate) fn predecessor(&self) -> Position {
        Position { segment: FileNumber(self.predecessor.get()), offset: self.predecessor_end.get() }
    }

    /// Sequence numbers of the entries are relative to this one.
    pub(crate) fn base(&self) -> Sequence {
        Sequence(self.base_sequence.get())
    }
}
