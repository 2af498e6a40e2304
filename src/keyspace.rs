//! Keyspaces: several ordered maps in one database.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::batch::WriteBatch;
use crate::engine::{Engine, Explanation, Ingested, KeyspaceEnd};
use crate::error::{Error, Result};
use crate::format::entry::Kind;
use crate::format::range::{Edge, edges};
use crate::handle::Handle;
use crate::iter::{Cursor, Entry, Iter, KeyIter, KeyRange, ValueIter};
use crate::keyspace_state::KeyspaceState;
use crate::options::Durability;
use crate::slice::Slice;
use crate::snapshot::Snapshot;
use crate::update::{CompareError, compare_and_swap, insert_if_absent, pop, update};

/// An ordered map of its own in a database, with the log, the memory and the files of the database: a thousand of them cost
/// little more than one, and one [`WriteBatch`] may change several.
///
/// A handle is cheap to clone, may be used from any number of threads, and keeps the database open. When the keyspace is
/// [dropped](crate::Db::drop_keyspace), all its handles answer [`KeyspaceDropped`](crate::Error::KeyspaceDropped).
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// use maplsm::WriteBatch;
///
/// let (users, by_mail) = (db.keyspace("users")?, db.keyspace("users by mail")?);
/// let mut batch = WriteBatch::new();
/// batch.insert_into(&users, "7", "ada@example.org").insert_into(&by_mail, "ada@example.org", "7");
/// db.write(&batch)?; // both or none
///
/// let snapshot = users.snapshot();
/// users.remove("7")?;
/// assert!(snapshot.contains_key("7")? && snapshot.keyspace(&by_mail).contains_key("ada@example.org")?);
/// assert_eq!(db.keyspaces(), ["users", "users by mail"]);
/// db.drop_keyspace("users")?;
/// assert!(users.get("7").is_err());
/// # db.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Keyspace {
    db: Handle,
    state: Arc<KeyspaceState>,
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyspace({:?} of {:?})", self.state.name, self.db)
    }
}

impl Keyspace {
    pub(crate) fn new(db: &Handle, state: Arc<KeyspaceState>) -> Self {
        Self { db: db.clone(), state }
    }

    pub(crate) fn state(&self) -> &Arc<KeyspaceState> {
        &self.state
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.db.engine()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// See [`Db::get`](crate::Db::get).
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        let found = self.db.engine().readers.get(self.state.id, key.as_ref())?;
        self.state.checked(found.map(Slice))
    }

    /// See [`Db::explain`](crate::Db::explain).
    pub fn explain(&self, key: impl AsRef<[u8]>) -> Result<Explanation> {
        let readers = &self.db.engine().readers;
        self.state.checked(readers.explain(self.state.id, key.as_ref(), &readers.register())?)
    }

    /// See [`Db::contains_key`](crate::Db::contains_key).
    #[inline]
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// See [`Db::insert`](crate::Db::insert).
    #[inline]
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.db.engine().committer.commit_one(&self.state, Kind::Put, key.as_ref(), value.as_ref())
    }

    /// See [`Db::merge`](crate::Db::merge).
    #[inline]
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.db.engine().committer.commit_one(&self.state, Kind::Merge, key.as_ref(), operand.as_ref())
    }

    /// See [`Db::merge_with`](crate::Db::merge_with).
    #[inline]
    pub fn merge_with(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        self.db.engine().committer.commit_one_with(&self.state, Kind::Merge, key.as_ref(), operand.as_ref(), durability)
    }

    /// See [`Db::remove`](crate::Db::remove).
    #[inline]
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.db.engine().committer.commit_one(&self.state, Kind::Delete, key.as_ref(), &[])
    }

    /// See [`Db::insert_with`](crate::Db::insert_with).
    #[inline]
    pub fn insert_with(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        self.db.engine().committer.commit_one_with(&self.state, Kind::Put, key.as_ref(), value.as_ref(), durability)
    }

    /// See [`Db::remove_with`](crate::Db::remove_with).
    #[inline]
    pub fn remove_with(&self, key: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        self.db.engine().committer.commit_one_with(&self.state, Kind::Delete, key.as_ref(), &[], durability)
    }

    /// See [`Db::remove_range`](crate::Db::remove_range).
    pub fn remove_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.db.engine().committer.remove_range(&self.state, edges(&range))
    }

    /// See [`Db::remove_prefix`](crate::Db::remove_prefix).
    pub fn remove_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<()> {
        let KeyRange { start, end } = KeyRange::prefix(prefix.as_ref());
        self.db.engine().committer.remove_range(&self.state, (start, end))
    }

    /// Removes all keys of the keyspace, which stays: what [`remove_range`](Self::remove_range) of everything does, in the time
    /// of one write. Snapshots, iterators and cursors from before see what they saw.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let sessions = db.keyspace("sessions")?;
    /// sessions.insert("7", "ada")?;
    /// sessions.clear()?;
    /// assert!(sessions.is_empty()?);
    /// # db.close()
    /// # }
    /// ```
    pub fn clear(&self) -> Result<()> {
        self.db.engine().committer.remove_range(&self.state, (Edge::START.to_owned(), Edge::End))
    }

    /// See [`Db::update`](crate::Db::update).
    pub fn update<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        new: impl FnMut(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<V>> {
        Ok(update(self.db.engine(), &self.state, key.as_ref(), new)?.1)
    }

    /// See [`Db::fetch_update`](crate::Db::fetch_update).
    pub fn fetch_update<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        new: impl FnMut(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<Slice>> {
        Ok(update(self.db.engine(), &self.state, key.as_ref(), new)?.0)
    }

    /// See [`Db::compare_and_swap`](crate::Db::compare_and_swap).
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CompareError>> {
        compare_and_swap(self.db.engine(), &self.state, key.as_ref(), old, new)
    }

    /// See [`Db::insert_if_absent`](crate::Db::insert_if_absent).
    pub fn insert_if_absent(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        insert_if_absent(self.db.engine(), &self.state, key.as_ref(), value.as_ref())
    }

    /// See [`Db::take`](crate::Db::take).
    pub fn take(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.fetch_update(key, |_| None::<&[u8]>)
    }

    /// See [`Db::pop_first`](crate::Db::pop_first).
    pub fn pop_first(&self) -> Result<Option<Entry>> {
        pop(self.db.engine(), &self.state, KeyspaceEnd::First)
    }

    /// See [`Db::pop_last`](crate::Db::pop_last).
    pub fn pop_last(&self) -> Result<Option<Entry>> {
        pop(self.db.engine(), &self.state, KeyspaceEnd::Last)
    }

    /// See [`Db::ingest`](crate::Db::ingest).
    pub fn ingest<K, V>(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<Ingested>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        self.try_ingest(entries.into_iter().map(Ok::<_, Error>))
    }

    /// See [`Db::try_ingest`](crate::Db::try_ingest).
    pub fn try_ingest<K, V, E>(&self, entries: impl IntoIterator<Item = Result<(K, V), E>>) -> Result<Ingested, E>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
        E: From<Error>,
    {
        self.db.engine().loader.ingest(&self.state, entries)
    }

    /// See [`Db::iter`](crate::Db::iter).
    pub fn iter(&self) -> Iter {
        Iter::now(self.db.engine(), &self.state, KeyRange::all())
    }

    /// See [`Db::range`](crate::Db::range).
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        Iter::now(self.db.engine(), &self.state, KeyRange::new(&range))
    }

    /// See [`Db::first`](crate::Db::first).
    pub fn first(&self) -> Result<Option<Entry>> {
        self.iter().first()
    }

    /// See [`Db::last`](crate::Db::last).
    pub fn last(&self) -> Result<Option<Entry>> {
        self.iter().last_entry()
    }

    /// See [`Db::is_empty`](crate::Db::is_empty).
    pub fn is_empty(&self) -> Result<bool> {
        self.iter().has_none()
    }

    /// See [`Db::keys`](crate::Db::keys).
    pub fn keys(&self) -> KeyIter {
        KeyIter::new(self.iter())
    }

    /// See [`Db::values`](crate::Db::values).
    pub fn values(&self) -> ValueIter {
        ValueIter::new(self.iter())
    }

    /// See [`Db::size_of`](crate::Db::size_of).
    pub fn size_of(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>> {
        self.snapshot().size_of(key)
    }

    /// See [`Db::multi_get`](crate::Db::multi_get).
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        self.snapshot().multi_get(keys)
    }

    /// See [`Db::approximate_len`](crate::Db::approximate_len).
    pub fn approximate_len<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        let (start, end) = edges(&range);
        Ok(self.db.engine().amount(&self.state, (start.as_ref(), end.as_ref()))?.entries)
    }

    /// See [`Db::approximate_size`](crate::Db::approximate_size).
    pub fn approximate_size<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        let (start, end) = edges(&range);
        Ok(self.db.engine().amount(&self.state, (start.as_ref(), end.as_ref()))?.bytes)
    }

    /// See [`Db::prefix`](crate::Db::prefix).
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        Iter::now(self.db.engine(), &self.state, KeyRange::prefix(prefix.as_ref()))
    }

    /// See [`Db::cursor`](crate::Db::cursor).
    pub fn cursor(&self) -> Cursor {
        Cursor::now(self.db.engine(), &self.state)
    }

    /// This keyspace as it is now, to read from later.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.db.engine(), &self.state)
    }

    /// See [`Db::memtable_keys`](crate::Db::memtable_keys).
    pub fn memtable_keys(&self) -> Result<Vec<Vec<u8>>> {
        let keys = self.db.engine().readers.memtable_keys(self.state.id)?;
        self.state.checked(keys)
    }

    /// See [`Db::compact`](crate::Db::compact). Flushes all keyspaces and merges the tables of this one.
    pub fn compact(&self) -> Result<()> {
        self.state.checked(())?;
        self.db.engine().maintenance.compact_range(self.state.id, (Edge::START, Edge::End))?;
        self.state.checked(())
    }

    /// See [`Db::compact_range`](crate::Db::compact_range).
    pub fn compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.state.checked(())?;
        let (start, end) = edges(&range);
        self.db.engine().maintenance.compact_range(self.state.id, (start.as_ref(), end.as_ref()))?;
        self.state.checked(())
    }
}

impl IntoIterator for &Keyspace {
    type Item = Result<Entry>;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}

impl Snapshot {
    /// The same moment of another keyspace. A keyspace that was made later is empty then; one of another database is refused
    /// by every read, with [`ForeignKeyspace`](crate::Error::ForeignKeyspace).
    #[must_use]
    pub fn keyspace(&self, keyspace: &Keyspace) -> Snapshot {
        self.of(&keyspace.state)
    }
}

impl WriteBatch {
    /// Sets the value of a key of a keyspace. A batch that names keyspaces of different databases is refused by its commit.
    pub fn insert_into(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.push_into(&keyspace.state, Kind::Put, key.as_ref(), value.as_ref())
    }

    /// Merges an operand into the value of a key of a keyspace: see [`Db::merge`](crate::Db::merge). Without an operator, the
    /// commit is refused.
    pub fn merge_into(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> &mut Self {
        self.push_into(&keyspace.state, Kind::Merge, key.as_ref(), operand.as_ref())
    }

    /// Removes a key of a keyspace, whether it is there or not.
    pub fn remove_from(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> &mut Self {
        self.push_into(&keyspace.state, Kind::Delete, key.as_ref(), &[])
    }

    /// Removes all keys of a range of a keyspace, those that this batch has set before included.
    pub fn remove_range_from<K: AsRef<[u8]>>(&mut self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> &mut Self {
        let (start, end) = edges(&range);
        self.remove_between(&keyspace.state, &start, &end)
    }
}
