//! Transactions: reads and writes that take effect as if they had happened at one moment.

mod attempts;
mod changes;
mod iter;
mod reading;
mod view;

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::batch::{WriteBatch, check_lengths};
use crate::commit::Commit;
use crate::engine::{Engine, ReadSet, Registration, ValidatedUpTo};
use crate::error::{Error, Result};
use crate::format::Position;
use crate::format::entry::Kind;
use crate::format::range::{Edge, edges};
use crate::iter::Entry;
use crate::keyspace::Keyspace;
use crate::keyspace_state::KeyspaceState;
use crate::options::{Durability, Isolation};
use crate::slice::Slice;
use crate::sys::{LockRank, Mutex};
use crate::visibility::RangeSet;
use changes::{Changes, Progress, Word};

pub(crate) use attempts::Attempts;
pub use changes::Savepoint;
pub use iter::TransactionIter;
pub use view::TransactionKeyspace;

/// A transaction: reads the store as it was when it began, and its own changes; commits them if nothing that it relies on has
/// changed since, whole or not at all.
///
/// Nobody is kept from anything while it runs, and others see nothing of it before its commit. What it has read (keys, ranges, also
/// what it did not find) and what it will write is kept in memory. With [`Isolation::Serializable`] a commit is refused with
/// [`Error::Conflict`] if anything read was written by someone else since the begin, phantoms and removed ranges included:
/// all committed transactions are then equivalent to running one after another. The look at what others have committed costs
/// O(m log n) for m of their changes and n keys and ranges read. A transaction without changes always commits.
///
/// Several threads may read and write in one transaction; each call is whole. Dropping it forgets its changes.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// db.insert("alice", "90")?;
/// let tx = db.transaction();
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
    progress: Mutex<Progress>,
}

/// Operands of a key that are put together to one, if the operator can.
const OPERANDS_MAX: usize = 64;

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: usize = self.progress.lock().changes.values().map(|(_, changes)| changes.keys.len()).sum();
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
            progress: Mutex::new(LockRank::Transaction, Progress::default()),
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

    /// Whether the key of a keyspace has a value.
    pub fn contains_key_from(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_from(keyspace, key)?.is_some())
    }

    /// Sets the value of a key.
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put(self.engine.default_keyspace(), key.as_ref(), value.as_ref())
    }

    /// Sets the value of a key of a keyspace.
    pub fn insert_into(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
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
    /// let tx = db.transaction();
    /// tx.merge("visits", one)?;
    /// db.merge("visits", one)?; // somebody else
    /// tx.commit()?;
    /// assert_eq!(db.get("visits")?.unwrap(), 2u64.to_le_bytes());
    /// # db.close()
    /// # }
    /// ```
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.merge_operand(self.engine.default_keyspace(), key.as_ref(), operand.as_ref())
    }

    /// Merges an operand into the value of a key of a keyspace.
    pub fn merge_into(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.merge_operand(keyspace.state(), key.as_ref(), operand.as_ref())
    }

    /// Removes a key, whether it is there or not.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete(self.engine.default_keyspace(), key.as_ref())
    }

    /// Removes a key of a keyspace, whether it is there or not.
    pub fn remove_from(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete(keyspace.state(), key.as_ref())
    }

    /// Removes all keys of a range, also those that others insert into it before the commit.
    pub fn remove_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.delete_range(self.engine.default_keyspace(), edges(&range))
    }

    /// Removes all keys of a range of a keyspace.
    pub fn remove_range_from<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Result<()> {
        self.delete_range(keyspace.state(), edges(&range))
    }

    /// Remembers the changes made so far.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let tx = db.transaction();
    /// tx.insert("a", "1")?;
    /// let savepoint = tx.savepoint();
    /// tx.insert("b", "2")?;
    /// assert!(tx.rollback_to(savepoint));
    /// tx.commit()?;
    /// assert!(db.contains_key("a")? && !db.contains_key("b")?);
    /// # db.close()
    /// # }
    /// ```
    pub fn savepoint(&self) -> Savepoint {
        self.progress.lock().savepoint()
    }

    /// Takes back the changes made since a savepoint. What has been read meanwhile counts as read. The savepoint stays, those
    /// set after it are gone; for one that is gone, nothing happens and the answer is false.
    pub fn rollback_to(&self, savepoint: Savepoint) -> bool {
        self.progress.lock().rollback_to(savepoint)
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
    /// let tx = db.transaction();
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
    fn commit_upto(mut self, durability: Durability) -> Result<Position> {
        let Progress { reads, changes, .. } = std::mem::take(self.progress.get_mut());
        let mut batch = WriteBatch::new();
        let mut written = ReadSet::new();
        for (keyspace, changes) in changes.values() {
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
        let keyspaces: Vec<_> = reads.values().map(|(keyspace, _)| Arc::clone(keyspace)).collect();
        let read_set = match self.isolation {
            Isolation::Serializable => reads.into_iter().map(|(id, (_, reads))| (id, reads)).collect(),
            Isolation::Snapshot => written,
        };
        self.engine.committer.commit_if_untouched(&batch, &read_set, self.began, &keyspaces, durability)
    }

    /// Forgets the changes, as a drop does.
    pub fn rollback(self) {}

    fn counts_reads(&self) -> bool {
        self.isolation == Isolation::Serializable
    }

    fn note_read(&self, keyspace: &Arc<KeyspaceState>, note: impl FnOnce(&mut RangeSet)) {
        if self.counts_reads() {
            note(self.progress.lock().reads_of(keyspace));
        }
    }

    /// What the transaction has written in a keyspace so far.
    fn own(&self, keyspace: &KeyspaceState) -> Option<Arc<Changes>> {
        self.progress.lock().own(keyspace.id).cloned()
    }

    /// Its word on a key, if it has one. The key is read otherwise, or if there is something to be merged into it.
    fn word(&self, progress: &mut Progress, keyspace: &Arc<KeyspaceState>, key: &[u8]) -> Option<Word> {
        let word = progress.own_word(keyspace.id, key).cloned();
        if self.counts_reads() && matches!(word, None | Some(Word::Operands(_))) {
            progress.reads_of(keyspace).insert_key(key);
        }
        word
    }

    fn get_of(&self, keyspace: &Arc<KeyspaceState>, key: &[u8]) -> Result<Option<Slice>> {
        self.engine.check_owner(keyspace)?;
        let word = self.word(&mut self.progress.lock(), keyspace, key);
        match word {
            Some(Word::Value(entry)) => Ok(Some(entry.value_slice())),
            Some(Word::Removed) => Ok(None),
            Some(Word::Operands(operands)) => self.fold(keyspace, key, &operands).map(Some),
            None => self.stored(keyspace, key),
        }
    }

    /// What the store had when the transaction began.
    fn stored(&self, keyspace: &KeyspaceState, key: &[u8]) -> Result<Option<Slice>> {
        let found = self.engine.readers.get_at(keyspace.id, key, &self.at)?;
        keyspace.checked(found.map(Slice))
    }

    /// What operands of its own make of that.
    fn fold(&self, keyspace: &KeyspaceState, key: &[u8], operands: &[Vec<u8>]) -> Result<Slice> {
        let found = self.stored(keyspace, key)?;
        let operands: Vec<&[u8]> = operands.iter().map(Vec::as_slice).collect();
        let made = self.engine.operator(keyspace)?.merge(key, found.as_deref(), &operands)?;
        Ok(self.entry(keyspace, key, &made)?.value_slice())
    }

    /// An entry of its own.
    fn entry(&self, keyspace: &KeyspaceState, key: &[u8], value: &[u8]) -> Result<Entry> {
        let entry = Entry::new(key, value, keyspace.alignment);
        entry.map_err(|e| Error::io("keep an entry of", self.engine.path(), e))
    }

    /// Whether it may write into a keyspace.
    fn check(&self, keyspace: &KeyspaceState) -> Result<()> {
        self.engine.check_owner(keyspace)?;
        keyspace.checked(())
    }

    fn put(&self, keyspace: &Arc<KeyspaceState>, key: &[u8], value: &[u8]) -> Result<()> {
        check_lengths(key, value)?;
        self.check(keyspace)?;
        let entry = self.entry(keyspace, key, value)?;
        self.progress.lock().change(keyspace, key, Word::Value(entry));
        Ok(())
    }

    /// What is merged into a value that is known is a value.
    fn merge_operand(&self, keyspace: &Arc<KeyspaceState>, key: &[u8], operand: &[u8]) -> Result<()> {
        check_lengths(key, operand)?;
        self.check(keyspace)?;
        let operator = self.engine.operator(keyspace)?;
        loop {
            let (own, steps) = {
                let mut progress = self.progress.lock();
                let own = match progress.own_word(keyspace.id, key) {
                    Some(Word::Operands(before)) if before.len() % OPERANDS_MAX != OPERANDS_MAX - 1 => None,
                    own => own.cloned(),
                };
                let Some(own) = own else {
                    progress.push_operand(keyspace, key, operand);
                    return Ok(());
                };
                (own, progress.steps())
            };
            // The program's code, which may use the transaction; other threads may as well.
            let word = if let Word::Operands(mut operands) = own {
                operands.push(operand.to_vec());
                let all: Vec<&[u8]> = operands.iter().map(Vec::as_slice).collect();
                let combined = operator.combine(key, &all);
                Word::Operands(combined.map_or(operands, |combined| vec![combined]))
            } else {
                let made = operator.merge(key, own.entry().map(Entry::value), &[operand])?;
                check_lengths(key, &made)?;
                Word::Value(self.entry(keyspace, key, &made)?)
            };
            let mut progress = self.progress.lock();
            if progress.steps() == steps {
                progress.change(keyspace, key, word);
                return Ok(());
            }
        }
    }

    fn delete(&self, keyspace: &Arc<KeyspaceState>, key: &[u8]) -> Result<()> {
        check_lengths(key, &[])?;
        self.check(keyspace)?;
        self.progress.lock().change(keyspace, key, Word::Removed);
        Ok(())
    }

    fn delete_range(&self, keyspace: &Arc<KeyspaceState>, (start, end): (Edge, Edge)) -> Result<()> {
        check_lengths(start.key(), &[])?;
        check_lengths(end.key(), &[])?;
        self.check(keyspace)?;
        self.progress.lock().remove_range(keyspace, (start, end));
        Ok(())
    }
}
