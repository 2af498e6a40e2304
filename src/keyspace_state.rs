//! What everyone who uses a keyspace shares: handles, batches, snapshots and the engine.

use crate::sys::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::KeyspaceId;
use crate::format::alignment::Alignment;

/// Tells the open databases of a process apart: those with the same one are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owner(Arc<()>);

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The right to commit, as far as keyspaces know of it: whoever has this at hand keeps all of them from being dropped. There is
/// one for each open database, with whoever appends to its log.
#[derive(Debug, Default)]
pub(crate) struct Committing(());

/// A keyspace of an open database. There is one of these for each, so that all who have it notice when it is dropped.
#[derive(Debug)]
pub(crate) struct KeyspaceState {
    pub(crate) id: KeyspaceId,
    pub(crate) name: Arc<str>,
    /// Of its values.
    pub(crate) alignment: Alignment,
    /// Whether operands may be merged into its keys: it has an operator, and so has the program.
    has_operator: bool,
    owner: Owner,
    /// It is gone. Set by whoever has [`Committing`] to himself, and before a read state without its data is published.
    dropped: AtomicBool,
}

impl KeyspaceState {
    pub(crate) fn new(id: KeyspaceId, name: &str, alignment: Alignment, has_operator: bool, owner: &Owner) -> Self {
        Self { id, name: name.into(), alignment, has_operator, owner: owner.clone(), dropped: AtomicBool::new(false) }
    }

    /// Refuses a merge where there is no operator.
    pub(crate) fn check_operator(&self) -> Result<()> {
        if self.has_operator { Ok(()) } else { Err(Error::NoOperator { keyspace: Arc::clone(&self.name) }) }
    }

    pub(crate) fn belongs_to(&self, owner: &Owner) -> Result<()> {
        if self.owner == *owner { Ok(()) } else { Err(Error::ForeignKeyspace { name: Arc::clone(&self.name) }) }
    }

    pub(crate) fn belongs_with(&self, other: &Self) -> Result<()> {
        self.belongs_to(&other.owner)
    }

    /// Passes on what has been read from a read state, unless the keyspace is gone: then the read state may have been without
    /// it.
    #[inline]
    pub(crate) fn checked<T>(&self, read: T) -> Result<T> {
        if self.dropped.load(Ordering::Acquire) { Err(self.gone()) } else { Ok(read) }
    }

    /// Whether a commit may name the keyspace.
    #[inline]
    pub(crate) fn check_open(&self, _committing: &Committing) -> Result<()> {
        if self.dropped.load(Ordering::Relaxed) { Err(self.gone()) } else { Ok(()) }
    }

    #[cold]
    pub(crate) fn gone(&self) -> Error {
        Error::KeyspaceDropped { name: Arc::clone(&self.name) }
    }

    pub(crate) fn set_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }
}
