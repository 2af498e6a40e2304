//! Iterating over what a transaction sees: the store as it was, under the transaction's own changes.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use super::Transaction;
use super::changes::{Changes, Word, between};
use crate::error::Result;
use crate::format::range::Edge;
use crate::iter::{Entry, Iter, KeyRange};
use crate::keyspace::Keyspace;
use crate::keyspace_state::KeyspaceState;

/// The entries of a range as a [`Transaction`] sees them, in order of key, from both ends.
///
/// They are those of the moment at which the iterator was made: what the transaction writes later does not show, and may be
/// written into what is iterated over. The first write after that into a keyspace with k keys changed by the transaction takes
/// O(k) for each iterator over it.
///
/// What it passes counts as read by the transaction: from the start of the range to the last key it has shown, or to the end
/// if there was no more. After an error it ends.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// # db.insert("a", "1")?;
/// # db.insert("b", "2")?;
/// let tx = db.transaction();
/// for entry in &tx {
///     let (key, value) = entry?.into_parts();
///     tx.remove(&key)?;
///     tx.insert([b"new ", &key[..]].concat(), value)?;
/// }
/// tx.commit()?;
/// assert_eq!(db.range("n"..).count(), 2);
/// # db.close()
/// # }
/// ```
pub struct TransactionIter<'t> {
    transaction: &'t Transaction,
    keyspace: Arc<KeyspaceState>,
    /// What the transaction had written when this was made.
    changes: Option<Arc<Changes>>,
    /// What the store had when the transaction began.
    stored: Iter,
    /// Entries taken from the front and the back of `stored`, whose turn has not come yet.
    peeked: [Option<Entry>; 2],
    own: [Own; 2],
    range: [Edge; 2],
    /// What neither end has passed.
    left: [Edge; 2],
    ended: bool,
}

/// The next entry at one end that the transaction has written itself. In front of it may be any number of keys that it has
/// removed, so it is looked for once.
enum Own {
    Unknown,
    Nothing,
    Next(Entry),
}

const FRONT: usize = 0;
const BACK: usize = 1;

impl Transaction {
    /// All entries, in order of key.
    pub fn iter(&self) -> TransactionIter<'_> {
        self.iterate(self.engine.default_keyspace(), KeyRange::all())
    }

    /// All entries of a keyspace, in order of key.
    pub fn iter_of(&self, keyspace: &Keyspace) -> TransactionIter<'_> {
        self.iterate(keyspace.state(), KeyRange::all())
    }

    /// The entries of a range of keys, in order; what is passed of it counts as read, keys that are not there included.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> TransactionIter<'_> {
        self.iterate(self.engine.default_keyspace(), KeyRange::new(&range))
    }

    /// The entries of a range of keys of a keyspace.
    pub fn range_of<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> TransactionIter<'_> {
        self.iterate(keyspace.state(), KeyRange::new(&range))
    }

    /// The entries whose keys begin with `prefix`, in order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> TransactionIter<'_> {
        self.iterate(self.engine.default_keyspace(), KeyRange::prefix(prefix.as_ref()))
    }

    /// The entries of a keyspace whose keys begin with `prefix`.
    pub fn prefix_of(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> TransactionIter<'_> {
        self.iterate(keyspace.state(), KeyRange::prefix(prefix.as_ref()))
    }

    pub(super) fn iterate(&self, keyspace: &Arc<KeyspaceState>, range: KeyRange) -> TransactionIter<'_> {
        let (start, end) = (range.start.clone(), range.end.clone());
        let stored = Iter::new(self.engine.reading(keyspace, self.at.clone()), range);
        TransactionIter::new(self, keyspace, stored, [start, end])
    }
}

impl<'t> IntoIterator for &'t Transaction {
    type Item = Result<Entry>;
    type IntoIter = TransactionIter<'t>;

    fn into_iter(self) -> TransactionIter<'t> {
        self.iter()
    }
}

impl fmt::Debug for TransactionIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionIter({:?} of {:?})", self.left, self.transaction)
    }
}

impl<'t> TransactionIter<'t> {
    pub(super) fn new(
        transaction: &'t Transaction,
        keyspace: &Arc<KeyspaceState>,
        stored: Iter,
        range: [Edge; 2],
    ) -> Self {
        let (keyspace, changes) = (Arc::clone(keyspace), transaction.own(keyspace));
        let (peeked, own) = ([None, None], [Own::Unknown, Own::Unknown]);
        Self { transaction, keyspace, changes, stored, peeked, own, left: range.clone(), range, ended: false }
    }

    /// Makes sure that the next stored entry at one end is peeked, if there is one that the transaction has not changed.
    fn peek(&mut self, side: usize) -> Result<()> {
        while self.peeked[side].is_none() {
            let next = if side == FRONT { self.stored.next() } else { self.stored.next_back() };
            let Some(entry) = next.transpose()? else {
                // The other end may have taken what is left.
                self.peeked[side] = self.peeked[1 - side].take();
                break;
            };
            let changed =
                |changes: &Changes| changes.keys.contains_key(entry.key()) || changes.removed.contains(entry.key());
            if !self.changes.as_deref().is_some_and(changed) {
                self.peeked[side] = Some(entry);
            }
        }
        Ok(())
    }

    /// Looks for the next entry at one end that the transaction has written itself.
    fn find_own(&self, side: usize) -> Result<Own> {
        let [start, end] = &self.left;
        let found = between(start, end).and_then(|inside| {
            let mut within = self
                .changes
                .as_ref()?
                .keys
                .range::<Vec<u8>, _>(inside)
                .filter(|(_, word)| !matches!(word, Word::Removed));
            if side == FRONT { within.next() } else { within.next_back() }
        });
        let Some((key, word)) = found else { return Ok(Own::Nothing) };
        let Word::Operands(operands) = word else {
            return Ok(word.entry().map_or(Own::Nothing, |entry| Own::Next(entry.clone())));
        };
        self.transaction.note_read(&self.keyspace, |reads| reads.insert_key(key));
        let made = self.transaction.fold(&self.keyspace, key, operands)?;
        Ok(Own::Next(self.transaction.entry(&self.keyspace, key, &made)?))
    }

    /// That entry, unless the other end has passed it.
    fn own(&self, side: usize) -> Option<&Entry> {
        let Own::Next(entry) = &self.own[side] else { return None };
        let [front, back] = &self.left;
        (front.is_in_front_of(entry.key()) && !back.is_in_front_of(entry.key())).then_some(entry)
    }

    fn take(&mut self, side: usize) -> Result<Option<Entry>> {
        self.peek(side)?;
        if matches!(self.own[side], Own::Unknown) {
            self.own[side] = self.find_own(side)?;
        }
        let own = self.own(side);
        let own_first = match (own, &self.peeked[side]) {
            (Some(own), Some(stored)) if side == FRONT => own.key() < stored.key(),
            (Some(own), Some(stored)) => own.key() > stored.key(),
            (own, _) => own.is_some(),
        };
        let entry = match std::mem::replace(&mut self.own[side], Own::Unknown) {
            Own::Next(entry) if own_first => Some(entry),
            other => {
                self.own[side] = other;
                self.peeked[side].take()
            }
        };
        if let Some(entry) = &entry {
            let key = entry.key().to_vec();
            self.left[side] = if side == FRONT { Edge::After(key) } else { Edge::Before(key) };
        }
        Ok(entry)
    }

    fn step(&mut self, side: usize) -> Option<Result<Entry>> {
        if self.ended {
            return None;
        }
        let taken = self.take(side).transpose();
        if !matches!(taken, Some(Ok(_))) {
            self.ended = true;
            self.left = [Edge::End, Edge::End];
        }
        taken
    }
}

impl Iterator for TransactionIter<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(FRONT)
    }
}

impl DoubleEndedIterator for TransactionIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(BACK)
    }
}

impl std::iter::FusedIterator for TransactionIter<'_> {}

impl Drop for TransactionIter<'_> {
    fn drop(&mut self) {
        let [start, end] = std::mem::replace(&mut self.range, [Edge::End, Edge::End]);
        let [front, back] = std::mem::replace(&mut self.left, [Edge::End, Edge::End]);
        self.transaction.note_read(&self.keyspace, |reads| {
            if self.ended {
                reads.insert(start, end);
            } else {
                reads.insert(start, front);
                reads.insert(back, end);
            }
        });
    }
}
