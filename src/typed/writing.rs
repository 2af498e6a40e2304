//! Changes through a view with types.

use std::borrow::Borrow;
use std::ops::RangeBounds;

use super::{Typed, TypedWrite, decoded};
use crate::batch::WriteBatch;
use crate::codec::ValueCodec;
use crate::engine::Decision;
use crate::error::Result;
use crate::key::{self, EncodeAs, PrefixOf};
use crate::slice::Slice;
use crate::update::decide;

/// The bytes of a value.
fn encoded<V: ValueCodec>(value: &V::Item) -> Result<impl AsRef<[u8]>> {
    V::to_bytes(value).map_err(|e| e.of("encode"))
}

impl<K, V: ValueCodec, S: TypedWrite> Typed<K, V, S> {
    /// Sets the value of a key.
    pub fn insert(&self, key: impl EncodeAs<K>, value: &V::Item) -> Result<()> {
        self.store.put(&key::encode(&key), encoded::<V>(value)?.as_ref())
    }

    /// Merges an operand, encoded as values are, into the value of a key: see [`Keyspace::merge`](crate::Keyspace::merge). With
    /// the operators [`Counter`](crate::operators::Counter) and [`Append`](crate::operators::Append), operands are values.
    pub fn merge(&self, key: impl EncodeAs<K>, operand: &V::Item) -> Result<()> {
        self.store.add(&key::encode(&key), encoded::<V>(operand)?.as_ref())
    }

    /// Removes a key, whether it is there or not.
    pub fn remove(&self, key: impl EncodeAs<K>) -> Result<()> {
        self.store.delete(&key::encode(&key))
    }

    /// Removes all keys of a range.
    pub fn remove_range<Q: EncodeAs<K>>(&self, range: impl RangeBounds<Q>) -> Result<()> {
        self.store.delete_range(key::range(range))
    }

    /// Removes all keys that begin with these parts.
    pub fn remove_prefix(&self, first: impl PrefixOf<K>) -> Result<()> {
        self.store.delete_range(key::prefix(&first))
    }
}

impl<K, V: ValueCodec> Typed<K, V> {
    /// Changes a value to what `new` makes of it, or removes the key if that is none, without another write coming between;
    /// returns the new value. See [`Db::update`](crate::Db::update). A value that is not of the type is left as it is, and an
    /// error.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let visits: maplsm::Typed<String, u64> = maplsm::Typed::new(db.keyspace("visits")?);
    /// visits.update("home", |visits| Some(visits.unwrap_or(0) + 1))?;
    /// assert_eq!(visits.get("home")?, Some(1));
    /// # db.close()
    /// # }
    /// ```
    pub fn update<N: Borrow<V::Item>>(
        &self,
        key: impl EncodeAs<K>,
        mut new: impl FnMut(Option<V::Out>) -> Option<N>,
    ) -> Result<Option<N>> {
        let mut made = None;
        self.change(key, |old| {
            let is_there = old.is_some();
            made = new(old);
            match &made {
                Some(value) => Ok(Decision::Put(encoded::<V>(value.borrow())?.as_ref().to_vec())),
                None if is_there => Ok(Decision::Remove),
                None => Ok(Decision::Keep),
            }
        })?;
        Ok(made)
    }

    /// Sets the value of a key that has none; returns the one that is there already. See
    /// [`Db::insert_if_absent`](crate::Db::insert_if_absent).
    pub fn insert_if_absent(&self, key: impl EncodeAs<K>, value: &V::Item) -> Result<Option<V::Out>> {
        let new = encoded::<V>(value)?;
        let mut there = None;
        self.change(key, |old| {
            let decision = if old.is_some() { Decision::Keep } else { Decision::Put(new.as_ref()) };
            there = old;
            Ok(decision)
        })?;
        Ok(there)
    }

    /// Removes a key and returns its value. One that is not of the type is left as it is, and an error.
    pub fn take(&self, key: impl EncodeAs<K>) -> Result<Option<V::Out>> {
        let mut taken = None;
        self.change(key, |old| {
            let decision: Decision<&[u8]> = if old.is_some() { Decision::Remove } else { Decision::Keep };
            taken = old;
            Ok(decision)
        })?;
        Ok(taken)
    }

    fn change<B: AsRef<[u8]>>(
        &self,
        key: impl EncodeAs<K>,
        mut change: impl FnMut(Option<V::Out>) -> Result<Decision<B>>,
    ) -> Result<()> {
        let mut outcome = Ok(());
        let keyspace = &self.store;
        decide(keyspace.engine(), keyspace.state(), &key::encode(&key), |old| {
            let decision = decoded::<V>(old.cloned().map(Slice)).and_then(&mut change);
            outcome = decision.as_ref().map(|_| ()).map_err(Clone::clone);
            decision.unwrap_or(Decision::Keep)
        })?;
        outcome
    }

    /// Sets the value of a key, with a batch.
    ///
    /// # Errors
    /// [`Error::Codec`](crate::Error::Codec) if the value has no bytes; the batch is as it was. Others come with the commit.
    pub fn insert_into(&self, batch: &mut WriteBatch, key: impl EncodeAs<K>, value: &V::Item) -> Result<()> {
        batch.insert_into(&self.store, key::encode(&key), encoded::<V>(value)?);
        Ok(())
    }

    /// Removes a key, with a batch.
    pub fn remove_from(&self, batch: &mut WriteBatch, key: impl EncodeAs<K>) {
        batch.remove_from(&self.store, key::encode(&key));
    }

    /// Removes all keys that begin with these parts, with a batch.
    pub fn remove_prefix_from(&self, batch: &mut WriteBatch, first: impl PrefixOf<K>) {
        batch.remove_range_from(&self.store, key::prefix(&first));
    }
}
