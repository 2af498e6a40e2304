//! Appending groups to a segment.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::error::{Bug, bug, is_full, must};
use crate::format::checksum::{Id, Seed};
use crate::format::group::{GROUP_HEADER_BYTES, Group, GroupHeader, GroupKind};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::segment::SegmentHeader;
use crate::format::{FileNumber, Position, Sequence, UNIT};
use crate::sys::{Ahead, AppendError, Dir, LogFile, Mapping, SyncFile};

/// Bytes of the group header as a buffer length.
const HEADER: usize = size_of::<GroupHeader>();

/// Space that every segment keeps for an idle and a close mark.
const MARK_ROOM: u64 = 4 * GROUP_HEADER_BYTES;

/// What a group is worth on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It leaves the room alone that the segment keeps.
    Ordinary,
    /// It makes space, sooner or later, or must not be in the way of what does: it may take that room.
    Freeing,
}

/// The space of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    /// Bytes of groups that there is to be room for, ...
    pub(crate) payload: u64,
    /// ... and more that only some of them may take.
    pub(crate) kept: u64,
    pub(crate) ahead: Ahead,
}

/// The one writer of a segment.
///
/// A segment keeps room behind its end, whose space has been taken, for removals, skips and marks: so a full disk does not
/// refuse them before it is used up.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    file: Box<dyn LogFile>,
    number: FileNumber,
    seed: Seed,
    base: Sequence,
    capacity: u64,
    /// Bytes of the room that is kept.
    kept: u64,
    /// Up to here, the file system has been asked for space.
    room: usize,
}

impl SegmentWriter {
    /// Makes segment `number`. Nothing is durable yet.
    pub(crate) fn create(
        dir: &dyn Dir,
        database: &Id,
        number: FileNumber,
        Space { payload, kept, ahead }: Space,
        predecessor: Position,
        base: Sequence,
    ) -> io::Result<Self> {
        let header = SegmentHeader::new(Magic::SEGMENT, *database, number, predecessor, base);
        let around = kept.saturating_add(MARK_ROOM).saturating_add(size_of::<SegmentHeader>() as u64);
        let capacity = payload.saturating_add(around);
        let length = usize::try_from(capacity).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut file = dir.create_log(&FileKind::Segment.name(number), length, ahead)?;
        file.reserve(size_of::<SegmentHeader>())?.copy_from_slice(header.as_bytes());
        file.commit(size_of::<SegmentHeader>())?;
        Ok(Self { file, number, seed: Seed::of_file(database, number), base, capacity, kept, room: 0 })
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.number
    }

    pub(crate) fn base(&self) -> Sequence {
        self.base
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        self.file.mapping()
    }

    pub(crate) fn syncer(&self) -> Arc<dyn SyncFile> {
        self.file.syncer()
    }

    /// Where the next group will start.
    pub(crate) fn end(&self) -> u64 {
        self.file.mapping().bytes().len() as u64
    }

    /// Whether a group with a body of `body_bytes` fits, with the marks that may have to follow it.
    pub(crate) fn has_room(&self, body_bytes: u64, for_use: Use) -> bool {
        let needed = self.end().saturating_add(GROUP_HEADER_BYTES).saturating_add(body_bytes);
        let behind = if for_use == Use::Ordinary { MARK_ROOM + self.kept } else { MARK_ROOM };
        needed.saturating_add(behind) <= self.capacity
    }

    /// Appends a group whose body `fill` writes, every byte of it; returns where the body is. The group survives the death of
    /// the process. It takes what space it still needs, and no room to be kept behind it: see [`make_room`](Self::make_room).
    pub(crate) fn append(
        &mut self,
        group: Group,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Bug>,
    ) -> Result<Range<u64>, AppendError> {
        let offset = self.end();
        debug_assert!(offset.is_multiple_of(UNIT), "groups begin at units");
        let too_large = || AppendError::Refused(io::Error::from(io::ErrorKind::FileTooLarge));
        let length = usize::try_from(group.span()).map_err(|_| too_large())?;
        let space = self.file.reserve(length).map_err(AppendError::Refused)?;
        must(space.len() == length, "the log gives less room than it was asked for")?;
        let (header, body) =
            space.split_at_mut_checked(HEADER).ok_or_else(|| bug("a group has no room for its header"))?;
        fill(body)?;
        header.copy_from_slice(group.seal(self.seed, self.number, offset, body)?.as_bytes());
        self.file.commit(length)?;
        let end = offset + group.span();
        // It is in the log; who appends it sees to it that nothing more is written.
        must(self.end() == end, "the log does not end where its last group does")?;
        Ok(offset + GROUP_HEADER_BYTES..end)
    }

    /// Whether a group that takes `span` bytes needs more space than has been taken, with the room that is kept behind it.
    #[inline]
    pub(crate) fn must_grow(&self, span: u64) -> bool {
        self.end().saturating_add(span).saturating_add(self.kept) > self.room as u64
    }

    /// Takes the space of the next `span` bytes and of the room that is kept. A group that frees space goes on without.
    pub(crate) fn make_room(&mut self, span: u64, for_use: Use, ahead: Ahead) -> Result<(), AppendError> {
        let with_kept = usize::try_from(span.saturating_add(self.kept)).unwrap_or(usize::MAX);
        match self.file.make_room(with_kept, ahead) {
            Ok(room) => self.room = room,
            Err(e) if for_use == Use::Freeing && is_full(&e) => {}
            Err(e) => return Err(AppendError::Refused(e)),
        }
        Ok(())
    }

    /// Appends a group that gives `count` sequence numbers away to entries that are not in the log.
    pub(crate) fn skip(&mut self, count: u32, durable: Option<Position>) -> Result<(), AppendError> {
        self.append_empty(Group { kind: GroupKind::Skip, body_bytes: 0, count, durable })
    }

    /// Appends a mark: a group without a body.
    pub(crate) fn mark(&mut self, kind: GroupKind, durable: Position) -> Result<(), AppendError> {
        self.append_empty(Group { kind, body_bytes: 0, count: 0, durable: Some(durable) })
    }

    fn append_empty(&mut self, group: Group) -> Result<(), AppendError> {
        if self.must_grow(group.span()) {
            self.make_room(group.span(), Use::Freeing, Ahead::Needed)?;
        }
        self.append(group, |_| Ok(())).map(|_| ())
    }
}

/// A whole group as bytes, for files that are appended to without an arena.
pub(crate) fn encode_group(
    database: &Id,
    number: FileNumber,
    offset: u64,
    kind: GroupKind,
    count: u32,
    durable: Option<Position>,
    body: &[u8],
) -> Result<Vec<u8>, Bug> {
    let group = Group { kind, body_bytes: body.len() as u64, count, durable };
    let mut out = group.seal(Seed::of_file(database, number), number, offset, body)?.as_bytes().to_vec();
    out.extend_from_slice(body);
    Ok(out)
}
