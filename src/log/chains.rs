//! Every short history of a log, with every combination of its files lost and one of them cut, against what must come of it.

use std::collections::BTreeMap;

use super::reader::tests::{DATABASE, at, push, segment};
use super::{Input, Known, scan};
use crate::format::group::GroupKind;
use crate::format::prefix::Magic;
use crate::format::{FileNumber, NUMBER_MAX, Position, Sequence};

/// What may happen to a log.
const STEPS: [Step; 5] = [Step::Group, Step::Rotate, Step::Sync, Step::Flush, Step::Close];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Group,
    Rotate,
    Sync,
    /// The oldest frozen segment becomes a table, and its file goes.
    Flush,
    /// And an open; its log goes on in a segment of its own.
    Close,
}

#[derive(Debug, Clone)]
struct Segment {
    number: u64,
    file: Vec<u8>,
    /// Where each group begins, and the durable position that it carries.
    groups: Vec<(usize, Option<Position>)>,
}

impl Segment {
    fn end(&self) -> Position {
        at(self.number, self.file.len())
    }
}

/// A log and what its manifest knows of it.
#[derive(Debug, Clone, Default)]
struct Log {
    segments: Vec<Segment>,
    growing: bool,
    first: u64,
    next_number: u64,
    last_end: Position,
    groups: u64,
    flushed: u64,
    /// What group headers carry, and what is true.
    carried: Option<Position>,
    durable: Option<Position>,
    ends: BTreeMap<u64, u64>,
    /// Whether the manifest gets to know of each segment that is durable, and what it knows.
    records: bool,
    recorded: Option<Position>,
}

impl Log {
    fn new(records: bool) -> Self {
        Self { first: 3, next_number: 3, records, ..Self::default() }
    }

    fn rotate(&mut self) {
        let number = self.next_number;
        // Tables and manifests take numbers as well.
        self.next_number += 2;
        let file = segment(number, self.last_end, self.groups + 1);
        self.segments.push(Segment { number, file, groups: Vec::new() });
        self.growing = true;
        self.last_end = self.segments.last().unwrap().end();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Group => {
                if !self.growing {
                    self.rotate();
                }
                let last = self.segments.last_mut().unwrap();
                last.groups.push((last.file.len(), self.carried));
                push(&mut last.file, last.number, GroupKind::Data, self.groups + 1, 1, self.carried);
                self.groups += 1;
                self.last_end = last.end();
            }
            Step::Rotate => self.rotate(),
            Step::Sync => {
                self.carried = Some(self.last_end);
                self.durable = self.carried;
                if self.records && self.recorded.is_none_or(|known| known.segment < self.last_end.segment) {
                    self.recorded = self.durable;
                }
            }
            Step::Flush => {
                let frozen = self.segments.len() - usize::from(self.growing);
                if frozen == 0 {
                    return;
                }
                let gone = self.segments.remove(0);
                self.flushed += gone.groups.len() as u64;
                self.first = self.segments.first().map_or(gone.number + 1, |next| next.number);
            }
            Step::Close => {
                self.ends = self.segments.iter().map(|s| (s.number, s.file.len() as u64)).collect();
                (self.growing, self.carried, self.durable) = (false, None, Some(self.last_end));
            }
        }
        self.ends.retain(|number, _| *number >= self.first);
        self.recorded = self.recorded.filter(|known| known.segment.0 >= self.first);
    }

    /// How many groups lie in front of a place, those in tables included.
    fn groups_before(&self, place: Option<Position>) -> u64 {
        let starts = self.segments.iter().flat_map(|s| s.groups.iter().map(|(start, _)| at(s.number, *start)));
        self.flushed + starts.filter(|start| Some(*start) < place).count() as u64
    }

    /// Reads the log with these files, the last of a tuple being what is left of one.
    fn check(&self, there: &[bool], cut: Option<(usize, usize)>, script: &[Step]) {
        let files: Vec<(&Segment, Vec<u8>)> = (self.segments.iter().enumerate().zip(there))
            .filter(|(_, there)| **there)
            .map(|((index, segment), _)| {
                let length = cut.filter(|(of, _)| *of == index).map_or(segment.file.len(), |(_, length)| length);
                (segment, segment.file[..length].to_vec())
            })
            .collect();
        let inputs: Vec<Input<'_>> = files
            .iter()
            .map(|(s, bytes)| Input { number: FileNumber(s.number), bytes, end: self.ends.get(&s.number).copied() })
            .collect();
        let known =
            Known { first: FileNumber(self.first), durable: self.recorded, last_sequence: Sequence(NUMBER_MAX) };
        let listed = self.ends.keys().all(|number| inputs.iter().any(|input| input.number.0 == *number));
        let found = if listed { scan(Magic::SEGMENT, &DATABASE, known, &inputs).ok() } else { None };

        let is_durable = |place: Position| Some(place) < self.durable;
        let lost = (self.segments.iter().zip(there)).any(|(s, there)| !there && is_durable(at(s.number, 0)));
        let cut_below = cut.is_some_and(|(of, length)| there[of] && is_durable(at(self.segments[of].number, length)));
        let is_crash = !lost && !cut_below;
        let state = || format!("{script:?}, files {there:?}, cut {cut:?}: {self:?}");
        let Some(found) = found else {
            assert!(!is_crash, "a crash is refused: {}", state());
            return;
        };
        // Whatever any header or the manifest says was durable is there.
        let carried = files.iter().flat_map(|(segment, bytes)| {
            segment.groups.iter().filter(|(start, _)| *start < bytes.len()).map(|(_, durable)| *durable)
        });
        let ends = self.ends.iter().map(|(number, end)| Some(Position { segment: FileNumber(*number), offset: *end }));
        let evidence = carried.chain(ends).max().flatten().max(self.recorded);
        let groups = self.flushed + found.groups;
        assert!(groups >= self.groups_before(evidence), "{groups} groups with evidence of {evidence:?}: {}", state());
        if is_crash {
            assert!(groups >= self.groups_before(self.durable), "{groups} groups: {}", state());
        }
    }

    /// Checks every subset of the files, with each of them cut in front of each of its groups, or emptied.
    fn check_all(&self, script: &[Step]) {
        let count = self.segments.len();
        for mask in 0..1u32 << count {
            let there: Vec<bool> = (0..count).map(|index| mask & (1 << index) != 0).collect();
            self.check(&there, None, script);
            for (index, segment) in self.segments.iter().enumerate().filter(|(index, _)| there[*index]) {
                for length in segment.groups.iter().map(|(start, _)| *start).chain([0]) {
                    self.check(&there, Some((index, length)), script);
                }
            }
        }
    }
}

fn go_on(log: &Log, script: &mut Vec<Step>, left: usize) {
    log.check_all(script);
    if left == 0 {
        return;
    }
    for step in STEPS {
        let mut next = log.clone();
        next.take(step);
        script.push(step);
        go_on(&next, script, left - 1);
        script.pop();
    }
}

#[test]
fn no_crash_is_refused_and_nothing_that_is_said_to_be_durable_is_missing() {
    for records in [false, true] {
        let mut log = Log::new(records);
        log.take(Step::Group);
        go_on(&log, &mut vec![Step::Group], 5);
    }
}
