//! Transactions: reads and writes that take effect as if they had happened at one moment.

mod attempts;
mod iter;
mod reading;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::batch::{WriteBatch, check_lengths};
use crate::commit::Commit;
use crate::engine::{Engine, ReadSet, Registration, ValidatedUpTo};
use crate::error::{Error, Result};
use crate::format::entry::Kind;
use crate::format::range::{Edge, edges};
use crate::format::{KeyspaceId, Position};
use crate::iter::Entry;
use crate::keyspace::Keyspace;
use crate::keyspace_state::KeyspaceState;
use crate::options::{Durability, Isolation};
use crate::slice::Slice;
use crate::visibility::{Joined, RangeSet};

pub(crate) use attempts::Attempts;
pub use iter::TransactionIter;

/// A transaction: reads the store as it was when it began, and its own changes; commits them if nothing that it relies on has
/// changed since, whole or not at all.
///
/// Nothing is locked while it runs, and others see nothing of it before its commit. What it has read (keys, ranges, also
/// what it did not find) and what it will write is kept in memory. With [`Isolation::Serializable`] a commit is refused with
/// [`Error::Conflict`] if anything read was written by someone else since the begin, phantoms and removed ranges included:
/// all committed transactions are then equivalent to running one after another. The look at what others have committed costs
/// O(m log n) for m of their changes and n keys and ranges read. A transaction without changes always commits.
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
    began: ValidatedUpTo,
    isolation: Isolation,
    reads: RefCell<BTreeMap<KeyspaceId, (Arc<KeyspaceState>, RangeSet)>>,
    changes: BTreeMap<KeyspaceId, (Arc<KeyspaceState>, Changes)>,
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

/// Operands of a key that are put together to one, if the operator can.
const OPERANDS_MAX: usize = 64;

/// A transaction's last word on a key.
#[derive(Debug, Clone)]
enum Word {
    Value(Entry),
    Removed,
    /// Oldest first, to be merged into what is stored; at least one.
    Operands(Vec<Vec<u8>>),
}

impl Word {
    fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Value(entry) => Some(entry),
            Self::Removed | Self::Operands(_) => None,
        }
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
fn between<'e>(start: &'e Edge, end: &'e Edge) -> Option<Between<'e>> {
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

/// A point in a transaction to which its changes can be taken back; see [`Transaction::savepoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    changes: usize,
    number: u64,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: usize = self.changes.values().map(|(_, changes)| changes.keys.len()).sum();
        write!(f, "Transaction(at {:?}, {changes} keys changed)", self.at.at)
    }
}

impl Transaction {
    pub(crate) fn new(engine: &Arc<Engine>, isolation: Isolation) -> Self {
        let (at, began) = engine.readers.begin();
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
        self.get_of(self.engine.default_keyspace(), key.as_ref())
    }

    /// The value of a key of a keyspace.
    pub fn get_from(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.get_of(keyspace.state(), key.as_ref())
    }

    /// Whether the key has a value.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let keyspace = Arc::clone(self.engine.default_keyspace());
        self.put(&keyspace, key.as_ref(), value.as_ref())
    }

    /// Sets the value of a key of a keyspace.
    pub fn insert_into(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put(keyspace.state(), key.as_ref(), value.as_ref())
    }

    /// Merges an operand into the value of a key: see [`Db::merge`](crate::Db::merge). That is no read: whatever others make of
    /// the key meanwhile, also by merges of their own, is no conflict, and the operand comes behind it. To
    /// [get](Self::get) the key is a read as ever. Merged into what the transaction has written itself, it becomes a value at
    /// once, and an operator that refuses it is an error of this call.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// use maplsm::{Options, operators::Counter};
    ///
    /// let db = Options::new().merge_operator(Counter).open(dir.path().join("db"))?;
    /// let one = 1u64.to_le_bytes();
    /// let mut tx = db.transaction();
    /// tx.merge("visits", one)?;
    /// db.merge("visits", one)?; // somebody else
    /// tx.commit()?;
    /// assert_eq!(db.get("visits")?.unwrap(), 2u64.to_le_bytes());
    /// # db.close()
    /// # }
    /// ```
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        let keyspace = Arc::clone(self.engine.default_keyspace());
        self.merge_operand(&keyspace, key.as_ref(), operand.as_ref())
    }

    /// Merges an operand into the value of a key of a keyspace.
    pub fn merge_into(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.merge_operand(keyspace.state(), key.as_ref(), operand.as_ref())
    }

    /// Removes a key, whether it is there or not.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let keyspace = Arc::clone(self.engine.default_keyspace());
        self.delete(&keyspace, key.as_ref())
    }

    /// Removes a key of a keyspace, whether it is there or not.
    pub fn remove_from(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete(keyspace.state(), key.as_ref())
    }

    /// Removes all keys of a range, also those that others insert into it before the commit.
    pub fn remove_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> Result<()> {
        let keyspace = Arc::clone(self.engine.default_keyspace());
        self.delete_range(&keyspace, edges(&range))
    }

    /// Removes all keys of a range of a keyspace.
    pub fn remove_range_from<K: AsRef<[u8]>>(&mut self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Result<()> {
        self.delete_range(keyspace.state(), edges(&range))
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
            let (Undo::Key(keyspace, ..) | Undo::Range(keyspace, ..)) = &undo;
            let Some((_, changes)) = self.changes.get_mut(keyspace) else { continue };
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

    /// Commits the changes with the durability of [`Options::durability`](crate::Options::durability), or returns
    /// [`Error::Conflict`] and has changed nothing. Other errors are those of [`Db::write`](crate::Db::write).
    pub fn commit(self) -> Result<()> {
        let durability = self.engine.options.durability;
        self.commit_with(durability)
    }

    /// Commits the changes with this durability.
    pub fn commit_with(self, durability: Durability) -> Result<()> {
        self.commit_upto(durability).map(|_| ())
    }

    /// Commits the changes without waiting for the disk, and returns what tells when they are durable: see [`Commit`]. Of a
    /// transaction without changes, that is when everything committed before is.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit) and [`Db::submit`](crate::Db::submit).
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let mut tx = db.transaction();
    /// tx.insert("a", "1")?;
    /// let commit = tx.submit()?;
    /// assert!(db.contains_key("a")?);
    /// commit.wait()?;
    /// # db.close()
    /// # }
    /// ```
    pub fn submit(self) -> Result<Commit> {
        let engine = Arc::clone(&self.engine);
        engine.teller.start()?;
        let end = self.commit_upto(Durability::Buffered)?;
        engine.teller.want(end);
        Ok(Commit::new(&engine.teller, end))
    }

    /// Commits the changes; returns where that ends in the log.
    fn commit_upto(self, durability: Durability) -> Result<Position> {
        let mut batch = WriteBatch::new();
        let mut written = ReadSet::new();
        for (keyspace, changes) in self.changes.values() {
            for (start, end) in changes.removed.iter() {
                batch.remove_between(keyspace, start, end);
            }
            for (key, word) in &changes.keys {
                match word {
                    Word::Value(entry) => batch.push_into(keyspace, Kind::Put, key, entry.value()),
                    Word::Removed => batch.push_into(keyspace, Kind::Delete, key, &[]),
                    Word::Operands(operands) => {
                        for operand in operands {
                            batch.push_into(keyspace, Kind::Merge, key, operand);
                        }
                        continue;
                    }
                };
            }
            if self.isolation == Isolation::Snapshot {
                let written = written.entry(keyspace.id).or_default();
                changes.removed.iter().for_each(|(start, end)| _ = written.insert(start.clone(), end.clone()));
                // What others merge as well is in nobody's way.
                let is_set = |(_, word): &(&Vec<u8>, &Word)| !matches!(word, Word::Operands(_));
                changes.keys.iter().filter(is_set).for_each(|(key, _)| written.insert_key(key));
            }
        }
        let reads = self.reads.into_inner();
        let keyspaces: Vec<_> = reads.values().map(|(keyspace, _)| Arc::clone(keyspace)).collect();
        let read_set = match self.isolation {
            Isolation::Serializable => reads.into_iter().map(|(id, (_, reads))| (id, reads)).collect(),
            Isolation::Snapshot => written,
        };
        self.engine.committer.commit_if_untouched(&batch, &read_set, self.began, &keyspaces, durability)
    }

    /// Forgets the changes, as a drop does.
    pub fn rollback(self) {}

    fn note_read(&self, keyspace: &Arc<KeyspaceState>, note: impl FnOnce(&mut RangeSet)) {
        if self.isolation == Isolation::Serializable {
            let mut reads = self.reads.borrow_mut();
            note(&mut reads.entry(keyspace.id).or_insert_with(|| (Arc::clone(keyspace), RangeSet::default())).1);
        }
    }

    fn own(&self, keyspace: KeyspaceId) -> Option<&Changes> {
        self.changes.get(&keyspace).map(|(_, changes)| changes)
    }

    /// The transaction's own word on a key, if it has one.
    fn own_word(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&Word> {
        let changes = self.own(keyspace)?;
        changes.keys.get(key).or_else(|| changes.removed.contains(key).then_some(&Word::Removed))
    }

    fn get_of(&self, keyspace: &Arc<KeyspaceState>, key: &[u8]) -> Result<Option<Slice>> {
        self.engine.check_owner(keyspace)?;
        let operands = match self.own_word(keyspace.id, key) {
            Some(Word::Operands(operands)) => Some(operands),
            Some(own) => return Ok(own.entry().map(Entry::value_slice)),
            None => None,
        };
        self.note_read(keyspace, |reads| reads.insert_key(key));
        let found = self.engine.readers.get_at(keyspace.id, key, &self.at)?;
        let found = keyspace.checked(found.map(Slice))?;
        let Some(operands) = operands else { return Ok(found) };
        let operands: Vec<&[u8]> = operands.iter().map(Vec::as_slice).collect();
        let made = self.engine.operator(keyspace)?.merge(key, found.as_deref(), &operands)?;
        Ok(Some(self.entry(keyspace, key, &made)?.value_slice()))
    }

    /// An entry of its own.
    fn entry(&self, keyspace: &KeyspaceState, key: &[u8], value: &[u8]) -> Result<Entry> {
        let entry = Entry::new(key, value, keyspace.alignment);
        entry.map_err(|e| Error::io("keep an entry of", self.engine.path(), e))
    }

    fn put(&mut self, keyspace: &Arc<KeyspaceState>, key: &[u8], value: &[u8]) -> Result<()> {
        check_lengths(key, value)?;
        let entry = self.entry(keyspace, key, value)?;
        self.change(keyspace, key, Word::Value(entry))
    }

    /// What is merged into a value that is known is a value.
    fn merge_operand(&mut self, keyspace: &Arc<KeyspaceState>, key: &[u8], operand: &[u8]) -> Result<()> {
        check_lengths(key, operand)?;
        self.engine.check_owner(keyspace)?;
        let operator = self.engine.operator(keyspace)?;
        let value = match self.own_word(keyspace.id, key) {
            Some(Word::Value(entry)) => Some(entry.value()),
            Some(Word::Removed) => None,
            other => {
                let before = if let Some(Word::Operands(operands)) = other { operands.as_slice() } else { &[] };
                if before.len() % OPERANDS_MAX == OPERANDS_MAX - 1 {
                    let all: Vec<&[u8]> = before.iter().map(Vec::as_slice).chain([operand]).collect();
                    if let Some(combined) = operator.combine(key, &all) {
                        return self.change(keyspace, key, Word::Operands(vec![combined]));
                    }
                }
                if self.savepoints > 0 || before.is_empty() {
                    let operands = before.iter().cloned().chain([operand.to_vec()]).collect();
                    return self.change(keyspace, key, Word::Operands(operands));
                }
                if let Some(Word::Operands(operands)) = self.changes_of(keyspace)?.keys.get_mut(key) {
                    operands.push(operand.to_vec());
                }
                return Ok(());
            }
        };
        let made = operator.merge(key, value, &[operand])?;
        self.put(keyspace, key, &made)
    }

    fn delete(&mut self, keyspace: &Arc<KeyspaceState>, key: &[u8]) -> Result<()> {
        check_lengths(key, &[])?;
        self.change(keyspace, key, Word::Removed)
    }

    fn changes_of(&mut self, keyspace: &Arc<KeyspaceState>) -> Result<&mut Changes> {
        self.engine.check_owner(keyspace)?;
        keyspace.checked(())?;
        let new = || (Arc::clone(keyspace), Changes::default());
        Ok(&mut self.changes.entry(keyspace.id).or_insert_with(new).1)
    }

    fn change(&mut self, keyspace: &Arc<KeyspaceState>, key: &[u8], word: Word) -> Result<()> {
        let before = self.changes_of(keyspace)?.keys.insert(key.to_vec(), word);
        self.note(Undo::Key(keyspace.id, key.to_vec(), before));
        Ok(())
    }

    fn delete_range(&mut self, keyspace: &Arc<KeyspaceState>, (start, end): (Edge, Edge)) -> Result<()> {
        check_lengths(start.key(), &[])?;
        check_lengths(end.key(), &[])?;
        let changes = self.changes_of(keyspace)?;
        let Some(inside) = between(&start, &end) else { return Ok(()) };
        let written: Vec<Vec<u8>> = changes.keys.range::<Vec<u8>, _>(inside).map(|(key, _)| key.clone()).collect();
        let gone = written.into_iter().filter_map(|key| changes.keys.remove_entry(&key)).collect();
        let joined = changes.removed.insert(start, end);
        self.note(Undo::Range(keyspace.id, joined, gone));
        Ok(())
    }

    fn note(&mut self, undo: Undo) {
        // Without a savepoint, there is no way back.
        if self.savepoints > 0 {
            self.undo.push(undo);
        }
    }
}
