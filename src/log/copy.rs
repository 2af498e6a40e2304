//! Copying segments: what a crash has left of the log is written anew, group by group.
//!
//! The copy of a segment has its groups at their offsets, on which the alignment of entries depends, sealed for another file.
//! None carries a durable position, marks become such without one: until a manifest names the copy, it proves nothing about the
//! log that it was made from. The first copy has no predecessor, so a later open that meets it behind that log does not take it
//! for more of it.

use zerocopy::IntoBytes;

use super::reader::Input;
use crate::error::{Error, Result};
use crate::format::checksum::{Id, Seed};
use crate::format::group::{Group, GroupHeader, GroupKind};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FileNumber, Position};
use crate::sys::{AppendFile, Dir};

/// What is written at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Copies a segment, whose `bytes` end where the log does, into a new file `to`, and makes that durable but for its name. Every
/// checksum is checked again on the way: what was damaged in memory must not be sealed.
pub(crate) fn copy_segment(
    dir: &dyn Dir,
    database: &Id,
    from: &Input<'_>,
    to: FileNumber,
    predecessor: Position,
) -> Result<()> {
    let path = || dir.path().join(FileKind::Segment.name(from.number));
    let header = SegmentHeader::parse(from.bytes, Magic::SEGMENT, database, from.number);
    let base = header.map_err(|fault| fault.at(&path(), 0))?.base();
    let (old, new) = (Seed::of_file(database, from.number), Seed::of_file(database, to));
    let mut copy = Copy::create(dir, to, from.bytes.len() as u64)?;
    copy.push(SegmentHeader::new(Magic::SEGMENT, *database, to, predecessor, base).as_bytes())?;
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < from.bytes.len() as u64 {
        let parsed = GroupHeader::parse(from.bytes, old, from.number, offset);
        let (group, body) = parsed.map_err(|fault| fault.at(&path(), offset))?;
        let kind = if group.kind == GroupKind::Close { GroupKind::Idle } else { group.kind };
        let group = Group { kind, durable: None, ..group };
        copy.push(group.seal(new, to, offset, body)?.as_bytes())?;
        copy.push(body)?;
        offset = offset.saturating_add(group.span());
    }
    copy.finish()
}

/// A copy that is being written.
struct Copy<'d> {
    dir: &'d dyn Dir,
    number: FileNumber,
    file: Box<dyn AppendFile>,
    piece: Vec<u8>,
}

impl<'d> Copy<'d> {
    /// Takes the space of a copy of at most `bytes` bytes, so that a disk without room for it says so before it is written.
    fn create(dir: &'d dyn Dir, number: FileNumber, bytes: u64) -> Result<Self> {
        let name = FileKind::Segment.name(number);
        let file = dir.create(&name).map_err(|e| Error::io("create", &dir.path().join(&name), e))?;
        let mut copy = Self { dir, number, file, piece: Vec::with_capacity(PIECE_BYTES) };
        copy.file.make_room(bytes).map_err(|e| copy.error("reserve space for", e))?;
        Ok(copy)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.piece.len().saturating_add(bytes.len()) > PIECE_BYTES {
            self.write_piece()?;
        }
        if bytes.len() > PIECE_BYTES {
            return self.file.append(bytes).map_err(|e| self.error("write", e.into()));
        }
        self.piece.extend_from_slice(bytes);
        Ok(())
    }

    fn write_piece(&mut self) -> Result<()> {
        self.file.append(&self.piece).map_err(|e| self.error("write", e.into()))?;
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.write_piece()?;
        self.file.sync().map_err(|e| self.error("sync", e))
    }

    fn error(&self, operation: &'static str, e: std::io::Error) -> Error {
        Error::io(operation, &self.dir.path().join(FileKind::Segment.name(self.number)), e)
    }
}
