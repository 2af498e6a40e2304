//! Snapshots: a keyspace as it was at one moment.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, RangeBounds};
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::digest::Digest;
use crate::engine::{Engine, Explanation, Reading, Registration};
use crate::error::Result;
use crate::iter::{Cursor, Entry, Iter, KeyIter, KeyRange, ValueIter};
use crate::keyspace_state::KeyspaceState;
use crate::slice::{Slice, view_as, view_as_slice};
use crate::sys::Pinned;

/// The default keyspace as it was when [`Db::snapshot`](crate::Db::snapshot) was called, or another one as it was when
/// [`Keyspace::snapshot`](crate::Keyspace::snapshot) was: later writes do not show. [`keyspace`](Self::keyspace) returns the
/// other keyspaces at the same moment.
///
/// It does not keep a keyspace from being dropped: reads then answer
/// [`KeyspaceDropped`](crate::Error::KeyspaceDropped). Iterators, cursors and values got before stay valid.
///
/// Cheap to make and to drop, may be kept for as long as needed, and may be cloned and sent to other threads. While it lives,
/// the versions that it sees are not dropped by compaction.
#[derive(Clone)]
pub struct Snapshot {
    engine: Arc<Engine>,
    keyspace: Arc<KeyspaceState>,
    at: Registration,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({:?} of {:?})", self.at.at, self.engine)
    }
}

/// A value that lives no longer than its snapshot. Like a [`Slice`], it keeps the table that it is in open.
#[derive(Clone)]
pub struct Ref<'s> {
    bytes: Pinned,
    snapshot: PhantomData<&'s Snapshot>,
}

impl Ref<'_> {
    /// The value as a `T`, in place; see [`Slice::get_as`].
    pub fn get_as<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&T> {
        view_as(self)
    }

    /// The value as a list of `T`, in place; see [`Slice::get_as_slice`].
    ///
    /// # Panics
    /// If `T` has no size.
    pub fn get_as_slice<T: FromBytes + Immutable>(&self) -> Result<&[T]> {
        view_as_slice(self)
    }
}

impl Deref for Ref<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Ref<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Ref<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl Snapshot {
    pub(crate) fn new(engine: &Arc<Engine>, keyspace: &Arc<KeyspaceState>) -> Self {
        Self { at: engine.readers.register(), engine: Arc::clone(engine), keyspace: Arc::clone(keyspace) }
    }

    /// The same moment of another keyspace.
    pub(crate) fn of(&self, keyspace: &Arc<KeyspaceState>) -> Self {
        Self { keyspace: Arc::clone(keyspace), ..self.clone() }
    }

    /// Passes on what has been read, unless the keyspace is gone or belongs to another database.
    fn checked<T>(&self, read: T) -> Result<T> {
        self.engine.check_owner(&self.keyspace)?;
        self.keyspace.checked(read)
    }

    /// The number of the last commit's last entry that the snapshot sees.
    pub fn sequence(&self) -> u64 {
        self.at.at.0
    }

    /// The value of a key. Expected O(1) for each memtable and level.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        let found = self.engine.readers.get_at(self.keyspace.id, key.as_ref(), &self.at)?;
        self.checked(found.map(Slice))
    }

    /// The value of a key, for as long as the snapshot lives: [`get`](Self::get) for those who want to be told by the compiler
    /// when they keep a value, and with it a table, for longer.
    pub fn get_ref(&self, key: impl AsRef<[u8]>) -> Result<Option<Ref<'_>>> {
        let found = self.engine.readers.get_at(self.keyspace.id, key.as_ref(), &self.at)?;
        self.checked(found.map(|bytes| Ref { bytes, snapshot: PhantomData }))
    }

    /// How [`get`](Self::get) finds the value of a key; see [`Db::explain`](crate::Db::explain).
    pub fn explain(&self, key: impl AsRef<[u8]>) -> Result<Explanation> {
        self.checked(self.engine.readers.explain(self.keyspace.id, key.as_ref(), &self.at)?)
    }

    /// Whether the key has a value.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_ref(key)?.is_some())
    }

    /// The length of the value of a key; see [`Db::size_of`](crate::Db::size_of).
    pub fn size_of(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>> {
        let found = self.engine.readers.size_at(self.keyspace.id, key.as_ref(), &self.at)?;
        self.checked(found)
    }

    /// The values of several keys; see [`Db::multi_get`](crate::Db::multi_get).
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        // The caller's code, before anything is held.
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        self.get_all(&keys)
    }

    fn get_all(&self, keys: &[&[u8]]) -> Result<Vec<Option<Slice>>> {
        let found = self.engine.readers.get_many_at(self.keyspace.id, keys, &self.at)?;
        self.checked(found.into_iter().map(|value| value.map(Slice)).collect())
    }

    /// The entry with the smallest key, if there is one; see [`Db::first`](crate::Db::first).
    pub fn first(&self) -> Result<Option<Entry>> {
        self.iter().first()
    }

    /// The entry with the greatest key, if there is one; see [`Db::last`](crate::Db::last).
    pub fn last(&self) -> Result<Option<Entry>> {
        self.iter().last_entry()
    }

    /// Whether there is no entry; see [`Db::is_empty`](crate::Db::is_empty).
    pub fn is_empty(&self) -> Result<bool> {
        self.iter().has_none()
    }

    /// All keys, in order.
    pub fn keys(&self) -> KeyIter {
        KeyIter::new(self.iter())
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> ValueIter {
        ValueIter::new(self.iter())
    }

    /// All entries, in order of key.
    pub fn iter(&self) -> Iter {
        self.iterate(KeyRange::all())
    }

    /// The entries of a range of keys, in order.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        self.iterate(KeyRange::new(&range))
    }

    /// The entries whose keys begin with `prefix`, in order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.iterate(KeyRange::prefix(prefix.as_ref()))
    }

    fn iterate(&self, range: KeyRange) -> Iter {
        Iter::new(self.reading(), range)
    }

    /// A cursor, at first nowhere.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.reading())
    }

    /// A digest of all entries: equal on replicas that hold the same, whatever their files look like. Reads all of them, O(n).
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// # let replica = maplsm::Db::open(dir.path().join("replica"))?;
    /// db.insert("a", "1")?;
    /// db.insert("b", "2")?;
    /// replica.insert("b", "other")?;
    /// replica.insert("a", "1")?;
    /// assert_ne!(db.snapshot().digest()?, replica.snapshot().digest()?);
    /// replica.insert("b", "2")?;
    /// replica.compact()?;
    /// assert_eq!(db.snapshot().digest()?, replica.snapshot().digest()?);
    /// # db.close()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn digest(&self) -> Result<Digest> {
        self.digest_within(KeyRange::all())
    }

    /// A digest of the entries of a range of keys. The digests of the parts of a range add up to that of the range.
    ///
    /// Whoever has two replicas that differ halves the range until what is left is worth sending:
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// # let replica = maplsm::Db::open(dir.path().join("replica"))?;
    /// # for db in [&db, &replica] {
    /// #     for number in 0..1000_u16 {
    /// #         db.insert(number.to_be_bytes(), "value")?;
    /// #     }
    /// # }
    /// replica.remove(700_u16.to_be_bytes())?;
    /// let (ours, theirs) = (db.snapshot(), replica.snapshot());
    /// let (mut low, mut high) = (0_u16, 1000_u16);
    /// while high - low > 1 {
    ///     let middle = low.midpoint(high);
    ///     let half = low.to_be_bytes()..middle.to_be_bytes();
    ///     if ours.digest_range(half.clone())? == theirs.digest_range(half)? {
    ///         low = middle;
    ///     } else {
    ///         high = middle;
    ///     }
    /// }
    /// assert_eq!(low, 700);
    /// # db.close()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn digest_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Digest> {
        self.digest_within(KeyRange::new(&range))
    }

    fn digest_within(&self, range: KeyRange) -> Result<Digest> {
        let (mut digest, mut buffer) = (Digest::default(), Vec::new());
        for entry in self.iterate(range) {
            let entry = entry?;
            digest += Digest::of(entry.key(), entry.value(), &mut buffer);
        }
        Ok(digest)
    }

    fn reading(&self) -> Result<Reading> {
        self.engine.reading(&self.keyspace, self.at.clone())
    }
}

impl IntoIterator for &Snapshot {
    type Item = Result<Entry>;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}
