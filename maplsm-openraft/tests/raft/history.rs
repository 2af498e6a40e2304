//! Whether what clients have seen of a register is what it would have been with one operation after the other: each at some
//! moment between its call and its return (Wing and Gong's search, with the states that were seen kept, as Lowe does).

use std::collections::{BTreeMap, HashSet};

/// What was asked of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Get,
    Set(u64),
    Swap { from: Option<u64>, to: u64 },
}

/// An operation of a client. Moments are numbers that go up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) ask: Ask,
    pub(crate) called: u64,
    /// When it returned, and the value that the register had before; nothing if the client does not know what became of it,
    /// which may be anything, at any time after the call.
    pub(crate) returned: Option<(u64, Option<u64>)>,
}

impl Ask {
    /// The value after it.
    fn after(self, before: Option<u64>) -> Option<u64> {
        match self {
            Self::Get => before,
            Self::Set(value) => Some(value),
            Self::Swap { from, to } => {
                if from == before {
                    Some(to)
                } else {
                    before
                }
            }
        }
    }

    /// What it writes. No two operations write the same.
    fn value(self) -> Option<u64> {
        match self {
            Self::Get => None,
            Self::Set(value) | Self::Swap { to: value, .. } => Some(value),
        }
    }
}

/// Operations done, and the value after them.
type Reached = (Vec<u64>, Option<u64>);

struct Search<'o> {
    operations: &'o [Operation],
    reached: HashSet<Reached>,
}

impl Search<'_> {
    /// Whether the rest can be put into an order, from this state on.
    fn search(&mut self, done: &mut Vec<u64>, value: Option<u64>) -> bool {
        let is_done = |done: &[u64], i: usize| done[i / 64] & (1 << (i % 64)) != 0;
        let left = || (0..self.operations.len()).filter(|i| !is_done(done, *i));
        // Nothing that is called after another one has returned can come before it.
        let Some(first_return) = left().filter_map(|i| Some(self.operations[i].returned?.0)).min() else { return true };
        if !self.reached.insert((done.clone(), value)) {
            return false;
        }
        let candidates: Vec<_> = left().filter(|i| self.operations[*i].called < first_return).collect();
        for i in candidates {
            let operation = self.operations[i];
            if operation.returned.is_some_and(|(_, before)| before != value) {
                continue;
            }
            done[i / 64] |= 1 << (i % 64);
            if self.search(done, operation.ask.after(value)) {
                return true;
            }
            done[i / 64] &= !(1 << (i % 64));
        }
        false
    }
}

/// Whether there is an order for the operations on a register that had no value at first.
pub(crate) fn is_linearizable(operations: &[Operation]) -> bool {
    // A write of unknown outcome that nobody has seen anything of is one that may as well not have happened.
    let was_seen = |value: Option<u64>| {
        let seen = |other: &Operation| {
            let asked = matches!(other.ask, Ask::Swap { from, .. } if from == value);
            asked || other.returned.is_some_and(|(_, before)| before == value)
        };
        operations.iter().any(seen)
    };
    let counts = |o: &&Operation| o.returned.is_some() || o.ask.value().is_some_and(|value| was_seen(Some(value)));
    let mut operations: Vec<_> = operations.iter().filter(counts).copied().collect();
    operations.sort_by_key(|operation| operation.called);
    let mut done = vec![0; operations.len().div_ceil(64)];
    Search { operations: &operations, reached: HashSet::new() }.search(&mut done, None)
}

/// Checks each register for itself, which is enough (linearizability is local).
pub(crate) fn check(history: &[(String, Operation)]) {
    let mut registers: BTreeMap<&str, Vec<Operation>> = BTreeMap::new();
    for (key, operation) in history {
        registers.entry(key).or_default().push(*operation);
    }
    for (key, operations) in registers {
        assert!(is_linearizable(&operations), "{key}: {operations:#?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(ask: Ask, called: u64, returned: u64, before: Option<u64>) -> Operation {
        Operation { ask, called, returned: Some((returned, before)) }
    }

    fn lost(ask: Ask, called: u64) -> Operation {
        Operation { ask, called, returned: None }
    }

    #[test]
    fn histories_are_told_apart() {
        let (set, get) = (Ask::Set(1), Ask::Get);
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[done(set, 1, 2, None), done(get, 3, 4, Some(1))]));
        assert!(!is_linearizable(&[done(set, 1, 2, None), done(get, 3, 4, None)]), "a stale read");
        assert!(is_linearizable(&[done(set, 1, 4, None), done(get, 2, 3, None)]), "at once, the read first");
        assert!(is_linearizable(&[done(set, 1, 4, None), done(get, 2, 3, Some(1))]), "at once, the write first");
        let back = [done(set, 1, 9, None), done(get, 2, 3, Some(1)), done(get, 4, 5, None)];
        assert!(!is_linearizable(&back), "a read that goes back");
        assert!(!is_linearizable(&[done(set, 1, 2, None), done(Ask::Set(2), 3, 4, None)]), "a lost write");
    }

    #[test]
    fn what_has_an_unknown_outcome_may_happen_late_or_never() {
        let (set, get) = (Ask::Set(1), Ask::Get);
        assert!(is_linearizable(&[lost(set, 1), done(get, 2, 3, None), done(get, 4, 5, Some(1))]));
        assert!(is_linearizable(&[lost(set, 1), done(get, 2, 3, None)]));
        let twice =
            [lost(set, 1), done(get, 2, 3, Some(1)), done(Ask::Set(2), 4, 5, Some(1)), done(get, 6, 7, Some(1))];
        assert!(!is_linearizable(&twice), "it does not happen twice");
        let swap = Ask::Swap { from: Some(1), to: 2 };
        assert!(is_linearizable(&[lost(set, 1), done(swap, 2, 3, Some(1)), done(get, 4, 5, Some(2))]));
        assert!(!is_linearizable(&[done(set, 1, 2, None), done(swap, 3, 4, Some(7))]));
        assert!(is_linearizable(&[done(set, 5, 6, Some(2)), lost(Ask::Swap { from: None, to: 2 }, 1)]));
    }
}
