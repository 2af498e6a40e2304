//! Reading a chain of segments after a crash or a clean close: where it ends, and whether anything durable is damaged.

use crate::error::{Damage, Fault};
use crate::format::checksum::{Id, Seed};
use crate::format::entry::Entry;
use crate::format::group::{
    GROUP_HEADER_BYTES, Group, GroupHeader, GroupKind, RUN_HEADER_BYTES, RunHeader, may_start_group,
};
use crate::format::prefix::Magic;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FileNumber, KeyspaceId, NUMBER_MAX, Position, Sequence, UNIT, bytes};

/// A segment to read.
pub(crate) struct Input<'a> {
    pub(crate) number: FileNumber,
    pub(crate) bytes: &'a [u8],
    /// Where the manifest says that the segment ends; all of it is then known to be durable.
    pub(crate) end: Option<u64>,
}

/// Bytes behind the last good group of a crashed log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The first byte that is not part of the log any more.
    pub(crate) start: Position,
    /// Bytes from there on that are not zero padding, to the last byte that is not zero, over all later segments.
    pub(crate) bytes: u64,
}

/// The outcome of a scan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LogScan {
    /// The segments that are part of the log, and where each ends; a close mark that ends it is not part of it.
    pub(crate) ends: Vec<(FileNumber, u64)>,
    /// Whether the log ends with a close mark or at a recorded end.
    pub(crate) clean: bool,
    /// Everything before this place is known to be on disk.
    pub(crate) durable: Option<Position>,
    /// What was cut off.
    pub(crate) dropped: Option<Tail>,
    /// Data groups found.
    pub(crate) groups: u64,
    /// The sequence number that follows the last entry.
    pub(crate) next_sequence: Option<Sequence>,
}

/// Damage below the durable position, or a format that is not understood: where, and what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ScanError {
    pub(crate) segment: FileNumber,
    pub(crate) offset: u64,
    pub(crate) fault: Fault,
}

/// What is known of a chain of segments from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// The lowest number that a segment of the chain may have.
    pub(crate) first: FileNumber,
    /// Everything in front of this place was durable.
    pub(crate) durable: Option<Position>,
    /// The highest sequence number of what is not in the log.
    pub(crate) last_sequence: Sequence,
}

impl Known {
    /// For a chain of which nothing else is known.
    pub(crate) fn nothing(first: FileNumber) -> Self {
        Self { first, durable: None, last_sequence: Sequence(NUMBER_MAX) }
    }
}

struct Scanner<'a> {
    magic: Magic,
    database: &'a Id,
    known: Known,
    out: LogScan,
    /// A skip has given a sequence number to something that is not there.
    skipped: bool,
    /// A close mark has ended the log.
    closed: bool,
}

/// Scans a chain of segments in order.
///
/// A group that does not verify ends the log. Whether that is a torn tail, which was never acknowledged, or damage to
/// acknowledged data is decided by the durable positions that intact groups carry, in front of and behind the bad place:
/// damage below the highest of them is an error.
pub(crate) fn scan(magic: Magic, database: &Id, known: Known, segments: &[Input<'_>]) -> Result<LogScan, ScanError> {
    let Known { first, durable, .. } = known;
    // An end that is recorded was durable when it was; the log must not end in front of it, with or without a mark.
    let recorded = segments.iter().filter_map(|s| Some(Position { segment: s.number, offset: s.end? })).max();
    let durable = durable.filter(|durable| durable.segment >= first).max(recorded);
    let out = LogScan { ends: Vec::new(), clean: true, durable, dropped: None, groups: 0, next_sequence: None };
    let mut scanner = Scanner { magic, database, known, out, skipped: false, closed: false };
    let mut previous: Option<Position> = None;
    for (index, segment) in segments.iter().enumerate() {
        let successor = segments.get(index.saturating_add(1));
        match scanner.segment(first, previous, segment, successor) {
            Ok(end) => {
                previous = Some(Position { segment: segment.number, offset: end });
                scanner.out.ends.push((segment.number, end));
                if scanner.closed {
                    break;
                }
            }
            Err((offset, fault)) => {
                // Of a segment that is not linked nothing was read, and others may be missing in front of it.
                let read = previous.unwrap_or(Position { segment: first, offset: 0 });
                let read = if offset > 0 { Position { segment: segment.number, offset } } else { read };
                let cut = scanner.cut(segments, index, offset, read, fault);
                cut.map_err(|error| missing(&scanner, segments, &error).unwrap_or(error))?;
                break;
            }
        }
    }
    // Each segment has all that is said to be durable in it; a whole one may be missing behind them.
    let end = scanner.out.ends.last().map(|(segment, offset)| Position { segment: *segment, offset: *offset });
    match durable {
        Some(durable) if end < Some(durable) => {
            Err(ScanError { segment: durable.segment, offset: 0, fault: Damage::Missing.into() })
        }
        _ => Ok(scanner.out),
    }
}

/// Whether bytes with this fault may be a torn write. What verifies but breaks a rule was written that way.
fn may_be_torn(fault: Fault) -> bool {
    matches!(fault, Fault::Damage(damage) if damage != Damage::BadField && damage != Damage::BadSequence)
}

/// The segment that is not there, if that is where an error comes from: the one that the next one of the chain names, or the
/// one that something durable was in.
fn missing(scanner: &Scanner<'_>, segments: &[Input<'_>], error: &ScanError) -> Option<ScanError> {
    let stopped_at = segments.iter().find(|segment| segment.number == error.segment && error.offset == 0);
    let named = stopped_at.and_then(|next| {
        let header = SegmentHeader::parse(next.bytes, scanner.magic, scanner.database, next.number).ok()?;
        Some(header.predecessor().segment)
    });
    let durable = scanner.out.durable.map(|durable| durable.segment);
    let is_absent = |number: &FileNumber| {
        *number >= scanner.known.first && segments.iter().all(|segment| segment.number != *number)
    };
    let absent = named.into_iter().chain(durable).find(is_absent).filter(|_| may_be_torn(error.fault))?;
    Some(ScanError { segment: absent, offset: 0, fault: Damage::Missing.into() })
}

impl Scanner<'_> {
    fn seed(&self, number: FileNumber) -> Seed {
        Seed::of_file(self.database, number)
    }

    /// Reads one segment; returns where it ends, or where and why it cannot be followed further.
    fn segment(
        &mut self,
        first: FileNumber,
        previous: Option<Position>,
        segment: &Input<'_>,
        successor: Option<&Input<'_>>,
    ) -> Result<u64, (u64, Fault)> {
        let header = SegmentHeader::parse(segment.bytes, self.magic, self.database, segment.number)
            .map_err(|fault| (0, fault))?;
        let predecessor = header.predecessor();
        let linked = match previous {
            Some(previous) => predecessor == previous,
            None => predecessor.segment < first || predecessor.segment.0 == 0,
        };
        if !linked {
            return Err((0, Damage::Missing.into()));
        }
        if self.out.next_sequence.is_some_and(|next| next != header.base()) {
            return Err((0, Damage::BadSequence.into()));
        }
        self.out.next_sequence = Some(header.base());

        let mut offset = SEGMENT_HEADER_BYTES;
        // The next segment's header says where this one ended, a link of the chain and not a durable mark.
        let link_end = || {
            let next = successor?;
            let header = SegmentHeader::parse(next.bytes, self.magic, self.database, next.number).ok()?;
            (header.predecessor().segment == segment.number).then(|| header.predecessor().offset)
        };
        let end = segment.end.or_else(link_end);
        while end.is_none_or(|end| offset < end) {
            let parsed = GroupHeader::parse(segment.bytes, self.seed(segment.number), segment.number, offset);
            let (group, _) = parsed.map_err(|fault| (offset, fault))?;
            self.follow(&group).map_err(|fault| (offset, fault))?;
            if group.kind == GroupKind::Close && end.is_none() {
                // What is in front of the mark was synced before it was written; whether the mark was, it does not say.
                self.durable(Position { segment: segment.number, offset });
                self.closed = true;
                break;
            }
            offset = offset.saturating_add(group.span());
        }
        if end.is_some_and(|end| offset != end) {
            return Err((offset, Damage::WrongLength.into()));
        }
        self.out.clean = self.closed || segment.end.is_some();
        Ok(offset)
    }

    fn follow(&mut self, group: &Group) -> Result<(), Fault> {
        let next = self.out.next_sequence.unwrap_or_default().0.saturating_add(u64::from(group.count));
        if next >= NUMBER_MAX {
            return Err(Damage::BadSequence.into());
        }
        // Nothing is committed behind a skip before what it is for is durable in the manifest.
        if self.skipped && group.kind.is_data() {
            return Err(Damage::BadSequence.into());
        }
        self.skipped |= group.kind == GroupKind::Skip && next.saturating_sub(1) > self.known.last_sequence.0;
        self.out.next_sequence = Some(Sequence(next));
        self.out.groups = self.out.groups.saturating_add(u64::from(group.kind.is_data()));
        if let Some(durable) = group.durable {
            self.durable(durable);
        }
        Ok(())
    }

    fn durable(&mut self, position: Position) {
        self.out.durable = self.out.durable.max(Some(position));
    }

    /// Ends the log at `offset` of segment `index`, unless anything behind `read`, up to where it has been read, is known to
    /// have been durable.
    fn cut(
        &mut self,
        segments: &[Input<'_>],
        index: usize,
        offset: u64,
        read: Position,
        fault: Fault,
    ) -> Result<(), ScanError> {
        let rest = segments.get(index..).unwrap_or_default();
        let Some(bad) = rest.first() else { return Ok(()) };
        let error = ScanError { segment: bad.number, offset, fault };
        if bad.end.is_some() || !may_be_torn(fault) {
            return Err(error);
        }
        let start = Position { segment: bad.number, offset };
        let mut dropped = 0u64;
        let mut copied = false;
        for (index, segment) in rest.iter().enumerate() {
            let from = if index == 0 { offset } else { 0 };
            self.probe(segment, from)?;
            copied |= from == 0 && self.begins_a_log(segment);
            if !copied {
                dropped = dropped.saturating_add(used_bytes(segment.bytes, from));
            }
        }
        if self.out.durable > Some(read) {
            return Err(error);
        }
        self.out.clean = false;
        if offset >= SEGMENT_HEADER_BYTES {
            self.out.ends.push((bad.number, offset));
        }
        if dropped > 0 {
            self.out.dropped = Some(Tail { start, bytes: dropped });
        }
        Ok(())
    }

    /// Whether a segment has no predecessor. Behind others it is the first of the copies that an earlier open has made of them,
    /// and did not live to have named by the manifest; so nothing is lost with it.
    fn begins_a_log(&self, segment: &Input<'_>) -> bool {
        SegmentHeader::parse(segment.bytes, self.magic, self.database, segment.number)
            .is_ok_and(|header| header.predecessor().segment.0 == 0)
    }

    /// Tries every unit of a damaged segment for a group header and remembers the durable positions found. A probe reads a
    /// header of fixed size, so this is linear.
    fn probe(&mut self, segment: &Input<'_>, from: u64) -> Result<(), ScanError> {
        let seed = self.seed(segment.number);
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        let rest = segment.bytes.get(start..).unwrap_or_default();
        for (unit, bytes) in rest.chunks_exact(8).enumerate() {
            if !may_start_group(bytes) {
                continue;
            }
            let offset = from.saturating_add(unit as u64 * UNIT);
            match GroupHeader::probe(segment.bytes, seed, segment.number, offset) {
                Ok((_, group)) => {
                    self.out.durable = self.out.durable.max(group.durable);
                    if group.kind == GroupKind::Close {
                        self.durable(Position { segment: segment.number, offset });
                    }
                }
                Err(fault @ Fault::Unsupported(_)) => {
                    return Err(ScanError { segment: segment.number, offset, fault });
                }
                Err(Fault::Damage(_)) => {}
            }
        }
        Ok(())
    }
}

/// Bytes from `from` to the last one that is not zero.
fn used_bytes(bytes: &[u8], from: u64) -> u64 {
    let start = usize::try_from(from).unwrap_or(usize::MAX);
    let rest = bytes.get(start..).unwrap_or_default();
    rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

/// Splits the body of a group into runs: `(keyspace, offset of the entries in the body, entries)`. Padding is left out.
pub(crate) fn runs(kind: GroupKind, body: &[u8]) -> impl Iterator<Item = Result<(KeyspaceId, u64, &[u8]), Damage>> {
    let mut at = 0u64;
    std::iter::from_fn(move || {
        if kind == GroupKind::Plain && at < body.len() as u64 {
            at = body.len() as u64;
            return Some(Ok((KeyspaceId::DEFAULT, 0, body)));
        }
        while bytes::read::<RunHeader>(body, at).is_ok_and(RunHeader::is_padding) {
            at = at.saturating_add(RUN_HEADER_BYTES);
        }
        if at == body.len() as u64 {
            return None;
        }
        let run = bytes::read::<RunHeader>(body, at).and_then(|header| {
            let start = at.saturating_add(RUN_HEADER_BYTES);
            let entries = bytes::slice(body, start, header.length())?;
            if entries.is_empty() {
                return Err(Damage::BadField);
            }
            at = start.saturating_add(header.length());
            Ok((header.keyspace(), start, entries))
        });
        if run.is_err() {
            at = body.len() as u64;
        }
        Some(run)
    })
}

/// Shows every entry of the groups between two offsets of a segment that a scan has verified, in order. A malformed entry
/// is an error with its offset: a checksum says that bytes are as written, not that they make sense.
pub(crate) fn visit_entries(
    file: &[u8],
    number: FileNumber,
    database: &Id,
    base: Sequence,
    range: std::ops::Range<u64>,
    mut visit: impl FnMut(KeyspaceId, &Entry),
) -> Result<(), (u64, Fault)> {
    let seed = Seed::of_file(database, number);
    let mut offset = range.start;
    // That of the first entry follows from its place only if the range begins where the segment does.
    let mut sequence = (range.start <= SEGMENT_HEADER_BYTES).then_some(base);
    while offset < range.end {
        let at = |fault: Fault| (offset, fault);
        let (_, group) = GroupHeader::probe(file, seed, number, offset).map_err(at)?;
        if group.kind == GroupKind::Skip {
            sequence = sequence.map(|next| Sequence(next.0.saturating_add(u64::from(group.count))));
            offset = offset.saturating_add(group.span());
            continue;
        }
        let body_start = offset.saturating_add(GROUP_HEADER_BYTES);
        let body = bytes::slice(file, body_start, group.body_bytes).map_err(|damage| at(damage.into()))?;
        let mut count = 0;
        for run in runs(group.kind, body) {
            let (keyspace, start, entries) = run.map_err(|damage| at(damage.into()))?;
            let start = body_start.saturating_add(start);
            let end = start.saturating_add(entries.len() as u64);
            count = visit_run(file, keyspace, start..end, base, count, &mut sequence, &mut visit)?;
        }
        if count != u64::from(group.count) {
            return Err(at(Damage::BadField.into()));
        }
        offset = offset.saturating_add(group.span());
    }
    Ok(())
}

/// Returns the number of entries seen in the group so far.
fn visit_run(
    file: &[u8],
    keyspace: KeyspaceId,
    range: std::ops::Range<u64>,
    base: Sequence,
    mut count: u64,
    next: &mut Option<Sequence>,
    visit: &mut impl FnMut(KeyspaceId, &Entry),
) -> Result<u64, (u64, Fault)> {
    let out_of_bounds = |_| (range.start, Fault::from(Damage::OutOfBounds));
    let mut at = usize::try_from(range.start).map_err(out_of_bounds)?;
    let end = usize::try_from(range.end).map_err(out_of_bounds)?;
    while at < end {
        let entry = Entry::parse(file, at, end, base).map_err(|fault| (at as u64, fault))?;
        if next.is_some_and(|next| entry.sequence != next) {
            return Err((at as u64, Damage::BadSequence.into()));
        }
        visit(keyspace, &entry);
        *next = Some(Sequence(entry.sequence.0.wrapping_add(1)));
        count = count.saturating_add(1);
        at = entry.next();
    }
    Ok(count)
}

#[cfg(test)]
pub(super) mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::format::alignment::Alignment;
    use crate::format::entry::{Kind, push_entry};
    use crate::log::encode_group;

    pub(in crate::log) const DATABASE: Id = [4; 16];

    pub(in crate::log) fn segment(number: u64, predecessor: Position, base: u64) -> Vec<u8> {
        let header = SegmentHeader::new(Magic::SEGMENT, DATABASE, FileNumber(number), predecessor, Sequence(base));
        header.as_bytes().to_vec()
    }

    pub(in crate::log) fn push(
        file: &mut Vec<u8>,
        number: u64,
        kind: GroupKind,
        first: u64,
        count: u32,
        durable: Option<Position>,
    ) {
        let mut entries = Vec::new();
        for i in 0..count {
            let sequence = Sequence(first + u64::from(i));
            push_entry(&mut entries, Kind::Put, sequence, b"key", &[b'v'; 30], Alignment::None);
        }
        let mut body = Vec::new();
        if count > 0 {
            body.extend_from_slice(RunHeader::new(KeyspaceId(0), entries.len() as u64).as_bytes());
            body.extend(entries);
        }
        let offset = file.len() as u64;
        file.extend(encode_group(&DATABASE, FileNumber(number), offset, kind, count, durable, &body).unwrap());
    }

    fn run(segments: &[(u64, &[u8])]) -> Result<LogScan, ScanError> {
        let inputs: Vec<Input<'_>> =
            segments.iter().map(|(n, b)| Input { number: FileNumber(*n), bytes: b, end: None }).collect();
        scan(Magic::SEGMENT, &DATABASE, Known::nothing(FileNumber(1)), &inputs)
    }

    pub(in crate::log) fn at(segment: u64, offset: usize) -> Position {
        Position { segment: FileNumber(segment), offset: offset as u64 }
    }

    #[test]
    fn a_closed_log_is_clean_and_every_flipped_bit_in_front_of_the_mark_is_refused() {
        let mut file = segment(1, Position::default(), 1);
        push(&mut file, 1, GroupKind::Data, 1, 2, None);
        push(&mut file, 1, GroupKind::Data, 3, 1, Some(at(1, 80)));
        let end = file.len();
        push(&mut file, 1, GroupKind::Close, 4, 0, Some(at(1, end)));
        let closed = file.len();
        file.resize(closed + 256, 0);
        let found = run(&[(1, &file)]).unwrap();
        assert!(found.clean && found.dropped.is_none());
        assert_eq!((found.groups, found.next_sequence), (2, Some(Sequence(4))));
        assert_eq!((found.durable, &found.ends[..]), (Some(at(1, end)), &[(FileNumber(1), end as u64)][..]));
        for bit in 0..closed * 8 {
            let mut bad = file.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            match run(&[(1, &bad)]) {
                Err(_) => {}
                Ok(scan) => {
                    assert!(bit / 8 >= end && !scan.clean && scan.ends == [(FileNumber(1), end as u64)], "{bit}");
                }
            }
        }
    }

    #[test]
    fn every_cut_of_an_open_log_keeps_the_whole_groups_before_it() {
        let mut file = segment(1, Position::default(), 1);
        let mut ends = vec![file.len()];
        for i in 0..5 {
            push(&mut file, 1, GroupKind::Data, 1 + i * 3, 3, None);
            ends.push(file.len());
        }
        for cut in 80..=file.len() {
            let scan = run(&[(1, &file[..cut])]).unwrap();
            let expected = ends.iter().rev().find(|end| **end <= cut).unwrap();
            assert_eq!(scan.ends, [(FileNumber(1), *expected as u64)]);
            assert!(!scan.clean);
            assert_eq!(scan.dropped.map(|tail| tail.start), (cut > *expected).then(|| at(1, *expected)));
        }
    }

    #[test]
    fn damage_below_a_durable_mark_behind_it_is_an_error() {
        let mut file = segment(1, Position::default(), 1);
        push(&mut file, 1, GroupKind::Data, 1, 1, None);
        let second = file.len();
        push(&mut file, 1, GroupKind::Data, 2, 1, None);
        let third = file.len();
        push(&mut file, 1, GroupKind::Data, 3, 1, Some(at(1, third)));
        let mut bad = file.clone();
        bad[second + 60] ^= 1;
        let error = run(&[(1, &bad)]).unwrap_err();
        assert_eq!((error.offset, error.fault), (second as u64, Damage::BadChecksum.into()));

        // Without a mark behind it the same damage is a torn tail.
        file.truncate(third);
        file[second + 60] ^= 1;
        assert_eq!(run(&[(1, &file)]).unwrap().dropped.map(|tail| tail.start), Some(at(1, second)));
    }

    #[test]
    fn chains_are_followed_and_breaks_are_noticed() {
        let mut one = segment(1, Position::default(), 1);
        push(&mut one, 1, GroupKind::Data, 1, 1, None);
        let end = one.len();
        one.resize(end + 64, 0);
        let mut two = segment(2, at(1, end), 2);
        push(&mut two, 2, GroupKind::Data, 2, 2, None);
        let unmarked = two.clone();
        push(&mut two, 2, GroupKind::Idle, 4, 0, Some(at(2, unmarked.len())));
        let scan = run(&[(1, &one), (2, &two)]).unwrap();
        assert_eq!(scan.ends, [(FileNumber(1), end as u64), (FileNumber(2), two.len() as u64)]);
        assert_eq!(scan.durable, Some(at(2, unmarked.len())));

        assert_eq!(run(&[(2, &two)]).unwrap_err().fault, Damage::Missing.into(), "segment 1 is missing");
        assert!(run(&[(2, &unmarked)]).unwrap().ends.is_empty(), "nothing of it was known to be durable");
        one[100] ^= 1;
        assert!(run(&[(1, &one), (2, &two)]).is_err(), "the mark in segment 2 covers segment 1");
        let cut = run(&[(1, &one), (2, &unmarked)]).unwrap();
        assert_eq!(cut.ends, [(FileNumber(1), 80)], "later segments are dead behind a torn one");
    }

    #[test]
    fn entries_are_visited_in_order() {
        let mut file = segment(1, Position::default(), 1);
        push(&mut file, 1, GroupKind::Data, 1, 2, None);
        push(&mut file, 1, GroupKind::Idle, 3, 0, None);
        push(&mut file, 1, GroupKind::Data, 3, 2, None);
        let mut seen = Vec::new();
        let range = 80..file.len() as u64;
        visit_entries(&file, FileNumber(1), &DATABASE, Sequence(1), range, |_, entry| seen.push(entry.sequence.0))
            .unwrap();
        assert_eq!(seen, [1, 2, 3, 4]);
    }
}
