//! The operands of a key, and what they work on.

use std::ops::Range;

use crate::error::Result;
use crate::format::Sequence;
use crate::format::entry::Kind;
use crate::format::entry_ref::EntryRef;
use crate::operator::Operator;

/// What is to be done once a chain has been shown a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainStep {
    /// It is to be shown the next older one, if there is one.
    More,
    /// It has all.
    Complete,
    /// The same: the key was removed after this version.
    Removed,
    /// The same: this version and what is below it are in the value that it knows.
    Known,
    /// The value that this version points to is all that it lacks.
    Pointer,
}

/// The versions of a key that a reader sees, from the newest one, which is an operand, to the value that the operands work on.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// Operands and the value.
    bytes: Vec<u8>,
    /// Newest first.
    operands: Vec<Range<usize>>,
    base: Option<Range<usize>>,
    newest: Option<Sequence>,
    /// What is to come has this sequence number or a lower one: newer ones are not seen, or have been taken.
    upto: Sequence,
    /// The key was removed at this time, and had none of the versions before it any more.
    removed: Sequence,
    /// A value that is known: it was that of the key at a sequence number.
    known: Option<(Sequence, Range<usize>)>,
}

impl Chain {
    /// For a reader at `at`, for whom the key was `removed` last at this time; 0 if it was not.
    pub(crate) fn new(at: Sequence, removed: Sequence) -> Self {
        Self { upto: at, removed, ..Self::default() }
    }

    /// What is sought next has this sequence number or a lower one.
    pub(crate) fn upto(&self) -> Sequence {
        self.upto
    }

    /// The value of the key at a sequence number.
    pub(crate) fn know(&mut self, at: Sequence, value: &[u8]) {
        let value = self.keep(value);
        self.known = Some((at, value));
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Takes the next older version of the key. Newer ones than those sought are passed over.
    pub(crate) fn show(&mut self, entry: EntryRef<'_>) -> ChainStep {
        if entry.sequence > self.upto {
            return ChainStep::More;
        }
        if entry.sequence < self.removed {
            return ChainStep::Removed;
        }
        // Only a value at or below what has been taken counts: an operand may stand for more than is above it.
        if let Some((_, value)) = self.known.take_if(|(at, _)| entry.sequence <= *at && *at <= self.upto) {
            self.base = Some(value);
            return ChainStep::Known;
        }
        match entry.kind() {
            Kind::Put => self.base = Some(self.keep(entry.value())),
            Kind::Pointer => return ChainStep::Pointer,
            Kind::Delete | Kind::RangeDelete => {}
            Kind::Merge => {
                let operand = self.keep(entry.value());
                self.operands.push(operand);
                self.newest.get_or_insert(entry.sequence);
                let Some(below) = entry.folded_from().0.checked_sub(1) else { return ChainStep::Complete };
                self.upto = Sequence(below);
                return ChainStep::More;
            }
        }
        ChainStep::Complete
    }

    /// The value that the last version pointed to.
    pub(crate) fn show_value(&mut self, value: &[u8]) {
        self.base = Some(self.keep(value));
    }

    /// How many operands there are.
    pub(crate) fn len(&self) -> usize {
        self.operands.len()
    }

    /// The sequence number of the newest operand.
    pub(crate) fn newest(&self) -> Option<Sequence> {
        self.newest
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// What the operator makes of it.
    pub(crate) fn merge(&self, operator: &Operator, key: &[u8]) -> Result<Vec<u8>> {
        let operands: Vec<&[u8]> = self.operands.iter().rev().map(|operand| self.part(operand)).collect();
        operator.merge(key, self.base.as_ref().map(|base| self.part(base)), &operands)
    }
}
