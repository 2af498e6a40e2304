//! Reading beyond one value and one walk, as a transaction sees it.

use std::sync::Arc;

use super::changes::Word;
use super::{Transaction, TransactionIter};
use crate::error::Result;
use crate::iter::{Entry, KeyIter, ValueIter};
use crate::keyspace_state::KeyspaceState;
use crate::slice::Slice;

impl Transaction {
    /// The entry with the smallest key, if there is one. That and everything in front of it counts as read.
    pub fn first(&self) -> Result<Option<Entry>> {
        self.iter().next().transpose()
    }

    /// The entry with the greatest key, if there is one. That and everything behind it counts as read.
    pub fn last(&self) -> Result<Option<Entry>> {
        self.iter().next_back().transpose()
    }

    /// Whether there is no entry; reads what [`first`](Self::first) does.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.first()?.is_none())
    }

    /// All keys, in order; what is passed counts as read.
    pub fn keys(&self) -> KeyIter<TransactionIter<'_>> {
        KeyIter::new(self.iter())
    }

    /// All values, in the order of their keys; what is passed counts as read.
    pub fn values(&self) -> ValueIter<TransactionIter<'_>> {
        ValueIter::new(self.iter())
    }

    /// The values of several keys, in the order of the keys: the transaction's own, or those that they had when it began. See
    /// [`Db::multi_get`](crate::Db::multi_get).
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        self.multi_get_of(self.engine.default_keyspace(), keys)
    }

    pub(super) fn multi_get_of<K: AsRef<[u8]>>(
        &self,
        keyspace: &Arc<KeyspaceState>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>> {
        self.engine.check_owner(keyspace)?;
        let keys: Vec<K> = keys.into_iter().collect();
        // The caller's code, before anything is held.
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let own: Vec<Option<Word>> = {
            let mut progress = self.progress.lock();
            keys.iter().map(|key| self.word(&mut progress, keyspace, key)).collect()
        };
        let strange: Vec<&[u8]> = keys.iter().zip(&own).filter(|(_, own)| own.is_none()).map(|(key, _)| *key).collect();
        let stored = self.engine.readers.get_many_at(keyspace.id, &strange, &self.at)?;
        let mut stored = keyspace.checked(stored)?.into_iter();
        let values = keys.iter().zip(own).map(|(key, own)| match own {
            Some(Word::Operands(operands)) => self.fold(keyspace, key, &operands).map(Some),
            Some(own) => Ok(own.entry().map(Entry::value_slice)),
            None => Ok(stored.next().flatten().map(Slice)),
        });
        values.collect()
    }
}
