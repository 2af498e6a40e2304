//! What can be read of a damaged log, and what is missing in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use super::findings::{Finding, Outcome};
use crate::error::{Damage, Error, Result};
use crate::format::checksum::{Id, Seed};
use crate::format::entry::sequence_at;
use crate::format::group::{GroupHeader, GroupKind};
use crate::format::mend::{LogOwner, find_owner, next_group};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::format::{FileNumber, KeyspaceId, Position, SEQUENCE_SPAN, Sequence};
use crate::log;
use crate::memtable::{Memtable, Wanted};
use crate::sys::{Dir, Mapping};

/// What is known of the log from elsewhere.
pub(super) struct Chain<'c> {
    /// Those that it may belong to; none if that is not known.
    pub(super) databases: Vec<Id>,
    /// Segments in front of this one are no part of it.
    pub(super) first: FileNumber,
    /// Whether all from there on are.
    pub(super) is_known: bool,
    /// Where segments end, as far as that was recorded.
    pub(super) ends: BTreeMap<FileNumber, u64>,
    /// A sequence number that its own are not far from: less than half of what a segment spans.
    pub(super) near: Sequence,
    /// Keyspaces that are gone.
    pub(super) is_dropped: &'c dyn Fn(KeyspaceId) -> bool,
}

/// Reads every intact group of a chain of segments.
pub(super) struct LogReader<'l> {
    dir: &'l Arc<dyn Dir>,
    chain: &'l Chain<'l>,
    /// The intact stretches, each as a memtable.
    pub(super) memtables: Vec<Arc<Memtable>>,
    pub(super) findings: Vec<Finding>,
    /// Where the intact part of the segment in front ends.
    end: Option<Position>,
    /// The sequence number behind the last one that is accounted for.
    next: Option<Sequence>,
}

/// A stretch of intact groups.
struct Stretch {
    range: Range<u64>,
    /// The sequence numbers that it takes, from the first to in front of the last; none without entries.
    numbers: Option<(Sequence, Sequence)>,
    /// How many these are.
    total: u64,
    /// Whether a close mark ends it.
    closed: bool,
}

impl<'l> LogReader<'l> {
    pub(super) fn read(dir: &'l Arc<dyn Dir>, chain: &'l Chain<'l>, segments: &BTreeSet<FileNumber>) -> Result<Self> {
        let mut reader = Self { dir, chain, memtables: Vec::new(), findings: Vec::new(), end: None, next: None };
        let listed: BTreeSet<FileNumber> = segments.range(chain.first..).copied().collect();
        let recorded = chain.ends.keys().copied().filter(|number| *number >= chain.first);
        for number in listed.iter().copied().chain(recorded).collect::<BTreeSet<_>>() {
            match reader.segment(number, &listed) {
                Ok(()) => {}
                Err(e) if e.is_corruption() => {
                    reader.findings.push(Finding::new(e, Outcome::Lost { entries: None }));
                    reader.end = None;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(reader)
    }

    fn path(&self, number: FileNumber) -> std::path::PathBuf {
        self.dir.path().join(FileKind::Segment.name(number))
    }

    /// Notes that the bytes of a range are lost, and how many entries are in front of `next`, if there are any of either.
    fn gap(&mut self, number: FileNumber, range: Range<u64>, what: Damage, next: Option<Sequence>) {
        let bytes = range.end.saturating_sub(range.start);
        let entries = self.next.zip(next).map(|(last, next)| next.0.saturating_sub(last.0));
        // Without the header of a segment, what is lost at the end of the one before shows in the numbers alone.
        if bytes > 0 || entries.is_some_and(|entries| entries > 0) {
            let problem = Error::corrupt(&self.path(number), range.start, what);
            self.findings.push(Finding::new(problem, Outcome::Gap { bytes, entries }));
        }
    }

    fn segment(&mut self, number: FileNumber, listed: &BTreeSet<FileNumber>) -> Result<()> {
        let path = self.path(number);
        let mapping = self.dir.open(&FileKind::Segment.name(number)).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::corrupt(&path, 0, Damage::Missing),
            _ => Error::io("map", &path, e),
        })?;
        let owner = find_owner(mapping.bytes(), Magic::SEGMENT, number, &self.chain.databases);
        let owner = owner.map_err(|fault| fault.at(&path, 0))?;
        let near = self.next.unwrap_or(self.chain.near);
        let guess = Sequence(near.0.saturating_sub(SEQUENCE_SPAN / 2));
        let (base, completed_with) = match owner {
            LogOwner::Header(header) => (Some(header.base()), header.base()),
            LogOwner::Proven(_) => (None, guess),
        };
        if let LogOwner::Header(header) = owner {
            self.link(number, header.predecessor(), header.base());
        } else {
            let problem = Error::corrupt(&path, 0, Damage::BadChecksum);
            self.findings.push(Finding::new(problem, Outcome::Restored));
        }
        self.next = base.or(self.next);
        let seed = Seed::of_file(&owner.database(), number);
        let file = mapping.bytes();
        let (mut end, mut closed) = (SEGMENT_HEADER_BYTES, false);
        let mut from = end;
        let next = |from| next_group(file, seed, number, from).map_err(|(at, fault)| fault.at(&path, at));
        while let Some((start, ..)) = next(from)? {
            let stretch = read_stretch(file, seed, number, start, completed_with);
            self.gap(number, end..start, Damage::BadChecksum, stretch.numbers.map(|(first, _)| first));
            let base = base.or(stretch.numbers.map(|(first, _)| first)).unwrap_or(near);
            self.add(&mapping, (owner.database(), number, base), &stretch);
            (end, from, closed) = (stretch.range.end, stretch.range.end, stretch.closed);
            let next = self.next.map(|next| Sequence(next.0.saturating_add(stretch.total)));
            self.next = stretch.numbers.map(|(_, next)| next).or(next);
        }
        self.end = Some(Position { segment: number, offset: end });
        self.tail(file, number, end, closed, listed);
        Ok(())
    }

    /// What must have stood behind the last group of a segment. Where the next segment says where this one ends, that counts.
    fn tail(&mut self, file: &[u8], number: FileNumber, end: u64, closed: bool, listed: &BTreeSet<FileNumber>) {
        let is_last = listed.last() == Some(&number);
        let used = file.iter().rposition(|byte| *byte != 0).map_or(0, |last| (last as u64).saturating_add(1));
        let recorded = self.chain.ends.get(&number).copied().unwrap_or(0);
        let must = if is_last && !closed { used.max(recorded) } else { recorded };
        self.gap(number, end..must, Damage::BadChecksum, None);
        if must > end {
            self.end = Some(Position { segment: number, offset: must });
        }
    }

    /// What is missing in front of a segment, by what its header says.
    fn link(&mut self, number: FileNumber, before: Position, base: Sequence) {
        let is_needed = before.segment.0 > 0 && before.segment >= self.chain.first && before.segment < number;
        let path = self.path(before.segment);
        let is_lost = |finding: &&mut Finding| finding.is_of(&path) && matches!(finding.outcome, Outcome::Lost { .. });
        match self.end {
            Some(end) if end.segment == before.segment => {
                self.gap(end.segment, end.offset..before.offset, Damage::BadChecksum, Some(base));
            }
            _ if !is_needed => {}
            end => match self.findings.iter_mut().find(is_lost) {
                // Nothing of it could be read.
                Some(finding) => {
                    let entries = self.next.map(|next| base.0.saturating_sub(next.0));
                    finding.outcome = Outcome::Lost { entries };
                }
                None if self.chain.is_known || end.is_some() => {
                    self.gap(before.segment, SEGMENT_HEADER_BYTES..before.offset, Damage::Missing, Some(base));
                }
                None => {}
            },
        }
    }

    fn add(&mut self, mapping: &Mapping, (database, number, base): (Id, FileNumber, Sequence), stretch: &Stretch) {
        let prefix = mapping.prefix(usize::try_from(stretch.range.end).unwrap_or(usize::MAX));
        let memtable = Memtable::new(prefix, database, number, base, 0);
        let wanted = |keyspace| Ok(if (self.chain.is_dropped)(keyspace) { Wanted::None } else { Wanted::Any });
        match memtable.replay(stretch.range.clone(), wanted) {
            Ok(true) => self.memtables.push(Arc::new(memtable)),
            // Groups that verify and make no sense were written that way; there is nothing to be had from them.
            _ => self.gap(number, stretch.range.clone(), Damage::BadField, stretch.numbers.map(|(_, next)| next)),
        }
    }
}

/// The intact groups from `start` on, where one stands. Their sequence numbers are completed with `base`.
fn read_stretch(file: &[u8], seed: Seed, number: FileNumber, start: u64, base: Sequence) -> Stretch {
    let (mut end, mut total, mut first, mut closed) = (start, 0u64, None, false);
    while let Ok((group, body)) = GroupHeader::parse(file, seed, number, end) {
        if first.is_none() && group.kind.is_data() {
            let run = log::runs(group.kind, body).next().and_then(Result::ok);
            let at = run.and_then(|(_, at, _)| sequence_at(body, usize::try_from(at).ok()?, base));
            first = at.map(|sequence| Sequence(sequence.0.saturating_sub(total)));
        }
        total = total.saturating_add(u64::from(group.count));
        end = end.saturating_add(group.span());
        closed = group.kind == GroupKind::Close;
    }
    let numbers = first.map(|first| (first, Sequence(first.0.saturating_add(total))));
    Stretch { range: start..end, numbers, total, closed }
}
