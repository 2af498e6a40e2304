//! Keyspaces whose keys and values are of one type each.

mod iter;
mod store;
mod writing;

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use crate::codec::{CodecError, ValueCodec};
use crate::error::Result;
use crate::key::{self, Decode, EncodeAs, PrefixOf};
use crate::keyspace::Keyspace;
use crate::slice::Slice;
use crate::snapshot::Snapshot;
use crate::transaction::{Transaction, TransactionKeyspace};

pub use iter::TypedIter;
pub use store::{TypedStore, TypedWrite};

/// A keyspace whose keys are `K`, encoded by [`key`](mod@crate::key) in the order of their type, and whose values are those of the
/// [codec](ValueCodec) `V`.
///
/// It is a view: it keeps nothing, costs nothing beyond encoding and decoding, and the [keyspace](Self::store) may be read
/// and written beside it. Whatever is there that is no such key or value is [`Error::Codec`](crate::Error::Codec) of the call
/// that reads it. Calls are those of [`Keyspace`], with the same errors and durability.
///
/// The same view of a snapshot is [`at`](Self::at), in a transaction [`within`](Self::within), and batches are filled with
/// [`insert_into`](Self::insert_into) and [`remove_from`](Self::remove_from).
///
/// Keys may be of any type that [encodes as](EncodeAs) a `K`: `&str` for `String`, also in tuples.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// use maplsm::{Typed, WriteBatch};
///
/// let scores: Typed<(String, u32), i64> = Typed::new(db.keyspace("scores")?);
/// scores.insert(("ada", 1), &90)?;
/// scores.insert(("ada", 2), &-5)?;
/// scores.insert(("bob", 1), &70)?;
/// assert_eq!(scores.get(("ada", 2))?, Some(-5));
/// let of_ada: i64 = scores.prefix(("ada",)).map(|entry| entry.map(|(_, score)| score)).sum::<maplsm::Result<_>>()?;
/// assert_eq!(of_ada, 85);
/// assert_eq!(scores.last()?, Some((("bob".to_owned(), 1), 70)));
///
/// let before = scores.at(&db.snapshot());
/// db.transact(|tx| {
///     let scores = scores.within(tx);
///     let score = scores.get(("bob", 1))?.unwrap_or(0);
///     scores.insert(("bob", 1), &(score + 10))
/// })?;
/// let mut batch = WriteBatch::new();
/// scores.insert_into(&mut batch, ("carol", 1), &60)?;
/// scores.remove_from(&mut batch, ("ada", 2));
/// db.write(&batch)?;
/// assert_eq!(scores.update(("carol", 1), |score| Some(score.unwrap_or(0) + 1))?, Some(61));
/// assert_eq!((before.iter().count(), before.get(("bob", 1))?, scores.get(("bob", 1))?), (3, Some(70), Some(80)));
/// # db.close()
/// # }
/// ```
pub struct Typed<K, V, S = Keyspace> {
    store: S,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V, S: Clone> Clone for Typed<K, V, S> {
    fn clone(&self) -> Self {
        Self::of(self.store.clone())
    }
}

impl<K, V, S: fmt::Debug> fmt::Debug for Typed<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = (std::any::type_name::<K>(), std::any::type_name::<V>());
        write!(f, "Typed({key} => {value} in {:?})", self.store)
    }
}

impl<K, V> Typed<K, V> {
    /// A keyspace with these types; the default one has the name `default`.
    pub fn new(keyspace: Keyspace) -> Self {
        Self::of(keyspace)
    }

    /// The keyspace as it was when the snapshot was taken.
    pub fn at(&self, snapshot: &Snapshot) -> Typed<K, V, Snapshot> {
        Typed::of(snapshot.keyspace(&self.store))
    }

    /// The keyspace in a transaction.
    pub fn within<'t>(&self, transaction: &'t Transaction) -> Typed<K, V, TransactionKeyspace<'t>> {
        Typed::of(transaction.keyspace(&self.store))
    }
}

impl<K, V, S> Typed<K, V, S> {
    fn of(store: S) -> Self {
        Self { store, types: PhantomData }
    }

    /// The keyspace, snapshot or part of a transaction that this is a view of, for what it has and this has not.
    pub fn store(&self) -> &S {
        &self.store
    }
}

impl<K, V: ValueCodec, S: TypedStore> Typed<K, V, S> {
    /// The value of a key.
    pub fn get(&self, key: impl EncodeAs<K>) -> Result<Option<V::Out>> {
        decoded::<V>(self.store.read(&key::encode(&key))?)
    }

    /// Whether the key has a value, which is not looked at.
    pub fn contains_key(&self, key: impl EncodeAs<K>) -> Result<bool> {
        Ok(self.store.read(&key::encode(&key))?.is_some())
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> TypedIter<K, V, S::Entries>
    where
        K: Decode,
    {
        self.iterate(key::prefix(&()))
    }

    /// The entries of a range of keys.
    pub fn range<Q: EncodeAs<K>>(&self, range: impl RangeBounds<Q>) -> TypedIter<K, V, S::Entries> {
        self.iterate(key::range(range))
    }

    /// The entries whose keys begin with these parts.
    pub fn prefix(&self, first: impl PrefixOf<K>) -> TypedIter<K, V, S::Entries> {
        self.iterate(key::prefix(&first))
    }

    /// The entries whose keys begin with parts of a range; see [`key::range`].
    pub fn prefix_range<P: PrefixOf<K>>(&self, range: impl RangeBounds<P>) -> TypedIter<K, V, S::Entries> {
        self.iterate(key::range(range))
    }

    fn iterate(&self, bounds: key::Bounds) -> TypedIter<K, V, S::Entries> {
        TypedIter::new(self.store.entries(bounds))
    }

    /// The entry with the smallest key, if there is one.
    pub fn first(&self) -> Result<Option<(K, V::Out)>>
    where
        K: Decode,
    {
        self.iter().next().transpose()
    }

    /// The entry with the greatest key, if there is one.
    pub fn last(&self) -> Result<Option<(K, V::Out)>>
    where
        K: Decode,
    {
        self.iter().next_back().transpose()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.store.entries(key::prefix(&())).next().transpose()?.is_none())
    }
}

impl<K: Decode, V: ValueCodec, S: TypedStore> IntoIterator for &Typed<K, V, S> {
    type Item = Result<(K, V::Out)>;
    type IntoIter = TypedIter<K, V, S::Entries>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn decoded<V: ValueCodec>(bytes: Option<Slice>) -> Result<Option<V::Out>> {
    bytes.map(V::from_bytes).transpose().map_err(|e: CodecError| e.of("decode"))
}
