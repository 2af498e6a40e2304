//! What a transaction has read and written so far.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::format::KeyspaceId;
use crate::format::range::Edge;
use crate::iter::Entry;
use crate::keyspace_state::KeyspaceState;
use crate::visibility::{Joined, RangeSet};

/// What a transaction has written in a keyspace.
#[derive(Debug, Default, Clone)]
pub(super) struct Changes {
    pub(super) keys: BTreeMap<Vec<u8>, Word>,
    /// Ranges removed; `keys` has what was written into them later.
    pub(super) removed: RangeSet,
}

/// A transaction's last word on a key.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Value(Entry),
    Removed,
    /// Oldest first, to be merged into what is stored; at least one.
    Operands(Vec<Vec<u8>>),
}

impl Word {
    pub(super) fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Value(entry) => Some(entry),
            Self::Removed | Self::Operands(_) => None,
        }
    }
}

impl Changes {
    /// The last word on a key, if there is one.
    fn word(&self, key: &[u8]) -> Option<&Word> {
        self.keys.get(key).or_else(|| self.removed.contains(key).then_some(&Word::Removed))
    }
}

/// How to take back a change: the word on a key that was there before, or what a removed range has replaced.
#[derive(Debug)]
enum Undo {
    Key(KeyspaceId, Vec<u8>, Option<Word>),
    Range(KeyspaceId, Option<Joined>, Vec<(Vec<u8>, Word)>),
}

/// The keys between two places, as maps have it.
type Between<'e> = (Bound<&'e Vec<u8>>, Bound<&'e Vec<u8>>);

/// The keys between two edges, unless there can be none.
pub(super) fn between<'e>(start: &'e Edge, end: &'e Edge) -> Option<Between<'e>> {
    if start >= end {
        return None;
    }
    let start = match start {
        Edge::Before(key) => Bound::Included(key),
        Edge::After(key) => Bound::Excluded(key),
        Edge::End => return None,
    };
    let end = match end {
        Edge::Before(key) => Bound::Excluded(key),
        Edge::After(key) => Bound::Included(key),
        Edge::End => Bound::Unbounded,
    };
    Some((start, end))
}

/// A point in a transaction to which its changes can be taken back; see [`Transaction::savepoint`](crate::Transaction::savepoint).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    changes: usize,
    number: u64,
}

/// What a transaction has read and written, by keyspace.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) reads: BTreeMap<KeyspaceId, (Arc<KeyspaceState>, RangeSet)>,
    /// Iterators share what had been written when they began, so what is shared is copied before it changes.
    pub(super) changes: BTreeMap<KeyspaceId, (Arc<KeyspaceState>, Arc<Changes>)>,
    undo: Vec<Undo>,
    savepoints: u64,
    steps: u64,
}

impl Progress {
    /// How often anything has changed: as long as this is the same, nothing has.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn own(&self, keyspace: KeyspaceId) -> Option<&Arc<Changes>> {
        self.changes.get(&keyspace).map(|(_, changes)| changes)
    }

    /// The transaction's own word on a key, if it has one.
    pub(super) fn own_word(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&Word> {
        self.own(keyspace)?.word(key)
    }

    pub(super) fn reads_of(&mut self, keyspace: &Arc<KeyspaceState>) -> &mut RangeSet {
        &mut self.reads.entry(keyspace.id).or_insert_with(|| (Arc::clone(keyspace), RangeSet::default())).1
    }

    fn changes_of(&mut self, keyspace: &Arc<KeyspaceState>) -> &mut Changes {
        self.steps += 1;
        let new = || (Arc::clone(keyspace), Arc::default());
        Arc::make_mut(&mut self.changes.entry(keyspace.id).or_insert_with(new).1)
    }

    pub(super) fn change(&mut self, keyspace: &Arc<KeyspaceState>, key: &[u8], word: Word) {
        let before = self.changes_of(keyspace).keys.insert(key.to_vec(), word);
        self.note(|| Undo::Key(keyspace.id, key.to_vec(), before));
    }

    /// Adds an operand to a key that has no other word than operands.
    pub(super) fn push_operand(&mut self, keyspace: &Arc<KeyspaceState>, key: &[u8], operand: &[u8]) {
        let has_savepoints = self.savepoints > 0;
        match self.changes_of(keyspace).keys.get_mut(key) {
            Some(Word::Operands(operands)) if !has_savepoints => operands.push(operand.to_vec()),
            other => {
                let before = if let Some(Word::Operands(operands)) = other { operands.as_slice() } else { &[] };
                let operands = before.iter().cloned().chain([operand.to_vec()]).collect();
                self.change(keyspace, key, Word::Operands(operands));
            }
        }
    }

    pub(super) fn remove_range(&mut self, keyspace: &Arc<KeyspaceState>, (start, end): (Edge, Edge)) {
        let changes = self.changes_of(keyspace);
        let Some(inside) = between(&start, &end) else { return };
        let written: Vec<Vec<u8>> = changes.keys.range::<Vec<u8>, _>(inside).map(|(key, _)| key.clone()).collect();
        let gone = written.into_iter().filter_map(|key| changes.keys.remove_entry(&key)).collect();
        let joined = changes.removed.insert(start, end);
        self.note(|| Undo::Range(keyspace.id, joined, gone));
    }

    fn note(&mut self, undo: impl FnOnce() -> Undo) {
        // Without a savepoint, there is no way back.
        if self.savepoints > 0 {
            self.undo.push(undo());
        }
    }

    pub(super) fn savepoint(&mut self) -> Savepoint {
        self.savepoints += 1;
        Savepoint { changes: self.undo.len(), number: self.savepoints }
    }

    pub(super) fn rollback_to(&mut self, savepoint: Savepoint) -> bool {
        if savepoint.number > self.savepoints || savepoint.changes > self.undo.len() {
            return false;
        }
        self.savepoints = savepoint.number;
        self.steps += 1;
        for undo in self.undo.drain(savepoint.changes..).rev() {
            let (Undo::Key(keyspace, ..) | Undo::Range(keyspace, ..)) = &undo;
            let Some((_, changes)) = self.changes.get_mut(keyspace) else { continue };
            let changes = Arc::make_mut(changes);
            match undo {
                Undo::Key(_, key, Some(before)) => _ = changes.keys.insert(key, before),
                Undo::Key(_, key, None) => _ = changes.keys.remove(&key),
                Undo::Range(_, joined, keys) => {
                    if let Some(joined) = joined {
                        changes.removed.take_back(joined);
                    }
                    changes.keys.extend(keys);
                }
            }
        }
        true
    }
}
