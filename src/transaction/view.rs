//! One keyspace, as a transaction sees it.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use super::{Transaction, TransactionIter};
use crate::error::Result;
use crate::format::range::edges;
use crate::iter::{Entry, KeyIter, KeyRange, ValueIter};
use crate::keyspace::Keyspace;
use crate::keyspace_state::KeyspaceState;
use crate::slice::Slice;

/// One keyspace in a [`Transaction`]: its methods are those of the transaction, for this keyspace.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// let (users, by_mail) = (db.keyspace("users")?, db.keyspace("users by mail")?);
/// db.transact(|tx| {
///     let (users, by_mail) = (tx.keyspace(&users), tx.keyspace(&by_mail));
///     if !by_mail.contains_key("ada@example.org")? {
///         users.insert("7", "ada@example.org")?;
///         by_mail.insert("ada@example.org", "7")?;
///     }
///     Ok(())
/// })?;
/// assert_eq!(by_mail.get("ada@example.org")?.unwrap(), "7");
/// # db.close()
/// # }
/// ```
#[derive(Clone)]
pub struct TransactionKeyspace<'t> {
    transaction: &'t Transaction,
    keyspace: Arc<KeyspaceState>,
}

impl fmt::Debug for TransactionKeyspace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionKeyspace({:?} of {:?})", self.keyspace.name, self.transaction)
    }
}

impl Transaction {
    /// One keyspace in this transaction. One of another database is refused by every call, with
    /// [`ForeignKeyspace`](crate::Error::ForeignKeyspace).
    pub fn keyspace(&self, keyspace: &Keyspace) -> TransactionKeyspace<'_> {
        TransactionKeyspace { transaction: self, keyspace: Arc::clone(keyspace.state()) }
    }
}

impl<'t> TransactionKeyspace<'t> {
    /// See [`Transaction::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.transaction.get_of(&self.keyspace, key.as_ref())
    }

    /// See [`Transaction::contains_key`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// See [`Transaction::multi_get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        self.transaction.multi_get_of(&self.keyspace, keys)
    }

    /// See [`Transaction::insert`].
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.transaction.put(&self.keyspace, key.as_ref(), value.as_ref())
    }

    /// See [`Transaction::merge`].
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.transaction.merge_operand(&self.keyspace, key.as_ref(), operand.as_ref())
    }

    /// See [`Transaction::remove`].
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.transaction.delete(&self.keyspace, key.as_ref())
    }

    /// See [`Transaction::remove_range`].
    pub fn remove_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.transaction.delete_range(&self.keyspace, edges(&range))
    }

    /// See [`Transaction::iter`].
    pub fn iter(&self) -> TransactionIter<'t> {
        self.transaction.iterate(&self.keyspace, KeyRange::all())
    }

    /// See [`Transaction::range`].
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> TransactionIter<'t> {
        self.transaction.iterate(&self.keyspace, KeyRange::new(&range))
    }

    /// See [`Transaction::prefix`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> TransactionIter<'t> {
        self.transaction.iterate(&self.keyspace, KeyRange::prefix(prefix.as_ref()))
    }

    /// See [`Transaction::first`].
    pub fn first(&self) -> Result<Option<Entry>> {
        self.iter().next().transpose()
    }

    /// See [`Transaction::last`].
    pub fn last(&self) -> Result<Option<Entry>> {
        self.iter().next_back().transpose()
    }

    /// See [`Transaction::is_empty`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.first()?.is_none())
    }

    /// See [`Transaction::keys`].
    pub fn keys(&self) -> KeyIter<TransactionIter<'t>> {
        KeyIter::new(self.iter())
    }

    /// See [`Transaction::values`].
    pub fn values(&self) -> ValueIter<TransactionIter<'t>> {
        ValueIter::new(self.iter())
    }
}

impl<'t> IntoIterator for &TransactionKeyspace<'t> {
    type Item = Result<Entry>;
    type IntoIter = TransactionIter<'t>;

    fn into_iter(self) -> TransactionIter<'t> {
        self.iter()
    }
}
