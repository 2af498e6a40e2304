//! What is replicated: keys and values, and the changes of them.

use std::error::Error;

use maplsm_openraft::{Apply, SnapshotFile, StateTransaction};
use openraft::{BasicNode, Entry, EntryPayload};
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// The types of this service.
    pub(crate) Types:
        D = Change,
        R = bool,
        NodeId = u64,
        Node = BasicNode,
        SnapshotData = SnapshotFile,
);

/// A change, as it stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Change {
    Set { key: String, value: String },
    Remove { key: String },
}

/// Applies changes; the response says whether the key was there before.
pub(crate) struct KeysAndValues;

impl Apply<Types> for KeysAndValues {
    fn apply(
        &self,
        state: &mut StateTransaction<'_>,
        entry: Entry<Types>,
    ) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let EntryPayload::Normal(change) = entry.payload else { return Ok(false) };
        let (Change::Set { key, .. } | Change::Remove { key }) = &change;
        let was_there = state.contains_key(key)?;
        match &change {
            Change::Set { key, value } => state.insert(key, value)?,
            Change::Remove { key } => state.remove(key)?,
        }
        Ok(was_there)
    }
}
