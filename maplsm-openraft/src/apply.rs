//! What the program supplies: how an entry changes the state.

use std::ops::RangeBounds;

use maplsm::{Keyspace, Slice, Transaction, TransactionIter};
use openraft::RaftTypeConfig;

/// The program's part of the state machine: how a committed entry changes the state, and what its client is told.
///
/// It must be deterministic: every node applies the same entries in the same order, perhaps some of them again after a
/// crash (from a state without them), and must come to the same state. So it depends on the state and the entry alone, not
/// on time, chance, or the order of a hash map.
///
/// ```
/// use maplsm_openraft::{Apply, SnapshotFile, StateTransaction};
/// use openraft::{Entry, EntryPayload};
///
/// openraft::declare_raft_types!(pub Types: D = (String, u64), R = Option<u64>, SnapshotData = SnapshotFile);
///
/// /// Counters that entries add to; the response is the new count.
/// struct Counters;
///
/// impl Apply<Types> for Counters {
///     fn apply(
///         &self,
///         state: &mut StateTransaction<'_>,
///         entry: Entry<Types>,
///     ) -> Result<Option<u64>, Box<dyn std::error::Error + Send + Sync>> {
///         let EntryPayload::Normal((name, add)) = entry.payload else { return Ok(None) };
///         let before = state.get(&name)?.map_or(Ok(0), |count| count[..].try_into().map(u64::from_be_bytes))?;
///         let count = before.wrapping_add(add);
///         state.insert(&name, count.to_be_bytes())?;
///         Ok(Some(count))
///     }
/// }
/// ```
pub trait Apply<C: RaftTypeConfig>: Send + Sync + 'static {
    /// Applies an entry, also one that is blank or changes the membership, for which most programs return a response that
    /// says nothing: what the membership is, the storage has noted already. Runs on a thread that may block.
    ///
    /// # Errors
    /// Those of the state, and what else makes it impossible to go on. The node stops: what a request may do wrong belongs
    /// into the response.
    fn apply(
        &self,
        state: &mut StateTransaction<'_>,
        entry: C::Entry,
    ) -> std::result::Result<C::R, Box<dyn std::error::Error + Send + Sync>>;
}

/// The state while entries are applied: as it was, with all that the entries of the same call before this one have changed.
///
/// It is committed after the last of them, whole or not at all, together with what says how far the log has been applied.
/// Until then, the changes are kept in memory.
#[derive(Debug)]
pub struct StateTransaction<'t> {
    transaction: &'t mut Transaction,
    state: &'t Keyspace,
}

impl<'t> StateTransaction<'t> {
    pub(crate) fn new(transaction: &'t mut Transaction, state: &'t Keyspace) -> Self {
        Self { transaction, state }
    }

    /// The value of a key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> maplsm::Result<Option<Slice>> {
        self.transaction.get_from(self.state, key)
    }

    /// Whether the key has a value.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> maplsm::Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// The entries of a range of keys, in order, from both ends.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> TransactionIter<'_> {
        self.transaction.range_of(self.state, range)
    }

    /// The entries whose keys begin with `prefix`, in order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> TransactionIter<'_> {
        self.transaction.prefix_of(self.state, prefix)
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> maplsm::Result<()> {
        self.transaction.insert_into(self.state, key, value)
    }

    /// Removes a key, whether it is there or not.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> maplsm::Result<()> {
        self.transaction.remove_from(self.state, key)
    }

    /// Removes all keys of a range.
    pub fn remove_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> maplsm::Result<()> {
        self.transaction.remove_range_from(self.state, range)
    }
}
