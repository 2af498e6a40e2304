//! Transactions: reads and writes that take effect as if they had happened at one moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{WriteBatch, check_lengths};
use crate::engine::{Engine, Footprint, Moment, Registration};
use crate::error::Result;
use crate::format::KeyspaceId;
use crate::format::range::{Edge, edges};
use crate::iter::{Entry, Iter, KeyRange};
use crate::options::{Durability, Isolation};
use crate::slice::Slice;
use crate::visibility::RangeSet;

/// Attempts of [`Db::transact`](crate::Db::transact), and the first and the longest pause between two.
const ATTEMPTS: u32 = 64;
const PAUSE_MIN: Duration = Duration::from_micros(20);
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// The pauses between attempts: each up to twice as long as the one before, and of different length in different threads, so
/// that those who have met once do not meet again.
pub(crate) struct Pauses {
    attempt: u32,
    random: RandomState,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self { attempt: 0, random: RandomState::new() }
    }

    /// Waits; answers false if there were enough attempts.
    pub(crate) fn next(&mut self) -> bool {
        self.attempt += 1;
        if self.attempt >= ATTEMPTS {
            return false;
        }
        let longest = PAUSE_MIN.saturating_mul(1 << self.attempt.min(16)).min(PAUSE_MAX);
        let share = u32::try_from(self.random.hash_one(self.attempt) % 1024).unwrap_or(0);
        std::thread::sleep(longest / 1024 * share);
        true
    }
}

/// A transaction: reads the store as it was when it began, and its own changes; commits them if nothing that it relies on has
/// changed since, whole or not at all.
///
/// Nothing is locked while it runs, and others see nothing of it before its commit. What it has read (keys, ranges, also what it
/// did not find) and what it will write is kept in memory. With [`Isolation::Serializable`] a commit is refused with
/// [`Error::Conflict`](crate::Error::Conflict) if anything read was written by someone else since the begin, phantoms and removed ranges included:
/// all committed transactions are then equivalent to running one after another. The look at what others have committed
/// costs O(m log n) for m of their changes and n keys and ranges read. A transaction without changes always commits.
///
/// Dropping it forgets its changes.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// db.insert("alice", "90")?;
/// let mut tx = db.transaction();
/// if tx.get("alice")?.is_some() {
///     tx.insert("bob", "110")?;
/// }
/// db.insert("alice", "80")?; // somebody else
/// assert!(matches!(tx.commit(), Err(maplsm::Error::Conflict)));
/// # db.close()
/// # }
/// ```
pub struct Transaction {
    engine: Arc<Engine>,
    at: Registration,
    began: Moment,
    isolation: Isolation,
    reads: RefCell<Footprint>,
    changes: BTreeMap<KeyspaceId, Changes>,
    undo: Vec<Undo>,
    savepoints: u64,
}

/// What a transaction has written in a keyspace.
#[derive(Debug, Default)]
struct Changes {
    keys: BTreeMap<Vec<u8>, Word>,
    /// Ranges removed; `keys` has what was written into them later.
    removed: RangeSet,
}

/// A transaction's last word on a key.
#[derive(Debug, Clone)]
enum Word {
    Value(Entry),
    Removed,
}

impl Word {
    fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Value(entry) => Some(entry),
            Self::Removed => None,
        }
    }
}

/// How to take back a change: the word on a key that was there before, or what a removed range has replaced.
#[derive(Debug)]
enum Undo {
    Key(KeyspaceId, Vec<u8>, Option<Word>),
    Range(KeyspaceId, RangeSet, Vec<(Vec<u8>, Word)>),
}

/// A point in a transaction to which its changes can be taken back; see [`Transaction::savepoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    changes: usize,
    number: u64,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: usize = self.changes.values().map(|changes| changes.keys.len()).sum();
        write!(f, "Transaction(at {:?}, {changes} keys changed)", self.at.at)
    }
}

impl Transaction {
    pub(crate) fn new(engine: &Arc<Engine>, isolation: Isolation) -> Self {
        let (at, began) = engine.begin();
        Self {
            engine: Arc::clone(engine),
            at,
            began,
            isolation,
            reads: RefCell::default(),
            changes: BTreeMap::new(),
            undo: Vec::new(),
            savepoints: 0,
        }
    }

    /// The value of a key: the transaction's own, or the one that it had when the transaction began.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.get_of(KeyspaceId::DEFAULT, key.as_ref())
    }

    /// Whether the key has a value.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// All entries, in order of key.
    pub fn iter(&self) -> TransactionIter<'_> {
        self.iterate(KeyspaceId::DEFAULT, KeyRange::all())
    }

    /// The entries of a range of keys, in order; what it was read of it counts as read, keys that are not there included.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> TransactionIter<'_> {
        self.iterate(KeyspaceId::DEFAULT, KeyRange::new(&range))
    }

    /// The entries whose keys begin with `prefix`, in order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> TransactionIter<'_> {
        self.iterate(KeyspaceId::DEFAULT, KeyRange::prefix(prefix.as_ref()))
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put(KeyspaceId::DEFAULT, key.as_ref(), value.as_ref())
    }

    /// Removes a key, whether it is there or not.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete(KeyspaceId::DEFAULT, key.as_ref())
    }

    /// Removes all keys of a range, also those that others insert into it before the commit.
    pub fn remove_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> Result<()> {
        self.delete_range(KeyspaceId::DEFAULT, edges(&range))
    }

    /// Remembers the changes made so far.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let mut tx = db.transaction();
    /// tx.insert("a", "1")?;
    /// let savepoint = tx.savepoint();
    /// tx.insert("b", "2")?;
    /// assert!(tx.rollback_to(savepoint));
    /// tx.commit()?;
    /// assert!(db.contains_key("a")? && !db.contains_key("b")?);
    /// # db.close()
    /// # }
    /// ```
    pub fn savepoint(&mut self) -> Savepoint {
        self.savepoints += 1;
        Savepoint { changes: self.undo.len(), number: self.savepoints }
    }

    /// Takes back the changes made since a savepoint. What has been read meanwhile counts as read. The savepoint stays, those
    /// set after it are gone; for one that is gone, nothing happens and the answer is false.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> bool {
        if savepoint.number > self.savepoints || savepoint.changes > self.undo.len() {
            return false;
        }
        self.savepoints = savepoint.number;
        for undo in self.undo.drain(savepoint.changes..).rev() {
            match undo {
                Undo::Key(keyspace, key, before) => {
                    let changes = self.changes.entry(keyspace).or_default();
                    match before {
                        Some(before) => changes.keys.insert(key, before),
                        None => changes.keys.remove(&key),
                    };
                }
                Undo::Range(keyspace, removed, keys) => {
                    let changes = self.changes.entry(keyspace).or_default();
                    changes.removed = removed;
                    changes.keys.extend(keys);
                }
            }
        }
        true
    }

    /// Commits the changes with the durability of [`Options::durability`](crate::Options::durability), or answers
    /// [`Error::Conflict`](crate::Error::Conflict) and has changed nothing. Other errors are those of [`Db::write`](crate::Db::write).
    pub fn commit(self) -> Result<()> {
        let durability = self.engine.options.durability;
        self.commit_with(durability)
    }

    /// Commits the changes with this durability.
    pub fn commit_with(self, durability: Durability) -> Result<()> {
        let mut batch = WriteBatch::new();
        let mut written = Footprint::new();
        for (keyspace, changes) in &self.changes {
            for (start, end) in changes.removed.iter() {
                batch.remove_between(*keyspace, start, end);
            }
            for (key, word) in &changes.keys {
                batch.change(*keyspace, key, word.entry().map(Entry::value));
            }
            if self.isolation == Isolation::Snapshot {
                let written = written.entry(*keyspace).or_default();
                changes.removed.iter().for_each(|(start, end)| written.insert(start.clone(), end.clone()));
                changes.keys.keys().for_each(|key| written.insert_key(key));
            }
        }
        let footprint = match self.isolation {
            Isolation::Serializable => self.reads.into_inner(),
            Isolation::Snapshot => written,
        };
        self.engine.commit_if_untouched(&batch, &footprint, self.began, durability)
    }

    /// Forgets the changes, as a drop does.
    pub fn rollback(self) {}

    fn reads(&self, keyspace: KeyspaceId, note: impl FnOnce(&mut RangeSet)) {
        if self.isolation == Isolation::Serializable {
            note(self.reads.borrow_mut().entry(keyspace).or_default());
        }
    }

    fn get_of(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Slice>> {
        if let Some(changes) = self.changes.get(&keyspace) {
            if let Some(own) = changes.keys.get(key) {
                return Ok(own.entry().map(Entry::value_slice));
            }
            if changes.removed.contains(key) {
                return Ok(None);
            }
        }
        self.reads(keyspace, |reads| reads.insert_key(key));
        Ok(self.engine.get_at(keyspace, key, &self.at)?.map(Slice))
    }

    fn iterate(&self, keyspace: KeyspaceId, range: KeyRange) -> TransactionIter<'_> {
        let (start, end) = (range.start.clone(), range.end.clone());
        let stored = Iter::new(self.engine.scan(keyspace, &self.at), self.at.clone(), range);
        TransactionIter {
            transaction: self,
            keyspace,
            stored,
            peeked: [None, None],
            left: [start.clone(), end.clone()],
            range: [start, end],
            ended: false,
        }
    }

    fn put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<()> {
        check_lengths(key, value)?;
        self.change(keyspace, key, Word::Value(Entry::new(key, value)));
        Ok(())
    }

    fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        check_lengths(key, &[])?;
        self.change(keyspace, key, Word::Removed);
        Ok(())
    }

    fn change(&mut self, keyspace: KeyspaceId, key: &[u8], word: Word) {
        let before = self.changes.entry(keyspace).or_default().keys.insert(key.to_vec(), word);
        self.note(Undo::Key(keyspace, key.to_vec(), before));
    }

    fn delete_range(&mut self, keyspace: KeyspaceId, (start, end): (Edge, Edge)) -> Result<()> {
        check_lengths(start.key(), &[])?;
        check_lengths(end.key(), &[])?;
        let changes = self.changes.entry(keyspace).or_default();
        let inside = |key: &[u8]| start.is_in_front_of(key) && !end.is_in_front_of(key);
        let written: Vec<Vec<u8>> = changes.keys.keys().filter(|key| inside(key)).cloned().collect();
        let gone = written.into_iter().filter_map(|key| changes.keys.remove_entry(&key)).collect();
        let before = changes.removed.clone();
        changes.removed.insert(start, end);
        self.note(Undo::Range(keyspace, before, gone));
        Ok(())
    }

    fn note(&mut self, undo: Undo) {
        // Without a savepoint, there is no way back.
        if self.savepoints > 0 {
            self.undo.push(undo);
        }
    }
}

impl<'t> IntoIterator for &'t Transaction {
    type Item = Result<Entry>;
    type IntoIter = TransactionIter<'t>;

    fn into_iter(self) -> TransactionIter<'t> {
        self.iter()
    }
}

/// The entries of a range as a [`Transaction`] sees them, in order of key, from both ends.
///
/// What it passes counts as read by the transaction: from the start of the range to the last key it has shown, or to the end if
/// there was no more. After an error it ends.
pub struct TransactionIter<'t> {
    transaction: &'t Transaction,
    keyspace: KeyspaceId,
    /// What the store had when the transaction began.
    stored: Iter,
    /// Entries taken from the front and the back of `stored`, whose turn has not come yet.
    peeked: [Option<Entry>; 2],
    range: [Edge; 2],
    /// What neither end has passed.
    left: [Edge; 2],
    ended: bool,
}

const FRONT: usize = 0;
const BACK: usize = 1;

impl fmt::Debug for TransactionIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionIter({:?} of {:?})", self.left, self.transaction)
    }
}

impl TransactionIter<'_> {
    /// Makes sure that the next stored entry at one end is peeked, if there is one that the transaction has not changed.
    fn peek(&mut self, side: usize) -> Result<()> {
        let changes = self.transaction.changes.get(&self.keyspace);
        while self.peeked[side].is_none() {
            let next = if side == FRONT { self.stored.next() } else { self.stored.next_back() };
            let Some(entry) = next.transpose()? else {
                // The other end may have taken what is left.
                self.peeked[side] = self.peeked[1 - side].take();
                break;
            };
            let changed =
                |changes: &Changes| changes.keys.contains_key(entry.key()) || changes.removed.contains(entry.key());
            if !changes.is_some_and(changed) {
                self.peeked[side] = Some(entry);
            }
        }
        Ok(())
    }

    /// The next entry at one end that the transaction has written itself.
    fn own(&self, side: usize) -> Option<Entry> {
        let [start, end] = &self.left;
        let changes = self.transaction.changes.get(&self.keyspace).filter(|_| start < end)?;
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
        let mut within = changes.keys.range::<Vec<u8>, _>((start, end)).filter_map(|(_, word)| word.entry());
        if side == FRONT { within.next().cloned() } else { within.next_back().cloned() }
    }

    fn take(&mut self, side: usize) -> Result<Option<Entry>> {
        self.peek(side)?;
        let own = self.own(side);
        let own_first = match (&own, &self.peeked[side]) {
            (Some(own), Some(stored)) if side == FRONT => own.key() < stored.key(),
            (Some(own), Some(stored)) => own.key() > stored.key(),
            (own, _) => own.is_some(),
        };
        let entry = if own_first { own } else { self.peeked[side].take() };
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
        self.transaction.reads(self.keyspace, |reads| {
            if self.ended {
                reads.insert(start, end);
            } else {
                reads.insert(start, front);
                reads.insert(back, end);
            }
        });
    }
}
