//! The keyspaces of an open database, by name. [`Catalog`](super::Catalog) creates and drops them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::operators::Operators;
use crate::format::KeyspaceId;
use crate::format::alignment::Alignment;
use crate::format::edit::KeyspaceMeta;
use crate::keyspace_state::{KeyspaceState, Owner};
use crate::sys::{LockRank, Mutex, MutexGuard};
use crate::version::Version;

/// The keyspaces of an open database.
#[derive(Debug)]
pub(crate) struct KeyspaceNames {
    pub(super) owner: Owner,
    pub(super) default: Arc<KeyspaceState>,
    /// The others by name. Held for a moment only.
    named: Mutex<BTreeMap<Arc<str>, Arc<KeyspaceState>>>,
    naming: Mutex<()>,
}

impl KeyspaceNames {
    pub(super) fn new(version: &Version, operators: &Operators) -> Self {
        let owner = Owner::default();
        let (id, name) = (KeyspaceId::DEFAULT, KeyspaceId::DEFAULT_NAME);
        let default = Arc::new(KeyspaceState::new(id, name, Alignment::None, operators.has(id), &owner));
        let keyspaces = Self {
            owner,
            default,
            named: Mutex::new(LockRank::Keyspaces, BTreeMap::new()),
            naming: Mutex::new(LockRank::Naming, ()),
        };
        for meta in version.named().iter() {
            keyspaces.add(meta, operators.has(meta.id));
        }
        keyspaces
    }

    /// Waits for whoever creates or drops one now.
    pub(super) fn naming(&self) -> Naming<'_> {
        Naming { _held: self.naming.lock() }
    }

    pub(super) fn add(&self, meta: &KeyspaceMeta, has_operator: bool) -> Arc<KeyspaceState> {
        let alignment = meta.options.alignment;
        let state = Arc::new(KeyspaceState::new(meta.id, &meta.name, alignment, has_operator, &self.owner));
        self.named.lock().insert(Arc::clone(&state.name), Arc::clone(&state));
        state
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<KeyspaceState>> {
        if name == KeyspaceId::DEFAULT_NAME {
            return Some(Arc::clone(&self.default));
        }
        self.named.lock().get(name).map(Arc::clone)
    }

    /// Marks keyspaces as gone that `named` has. Their edit is durable; a read state without them follows.
    pub(super) fn set_dropped(&self, ids: &[KeyspaceId], named: &crate::version::Keyspaces) {
        for meta in ids.iter().filter_map(|id| named.get(*id)) {
            if let Some(state) = self.named.lock().remove(meta.name.as_str()) {
                state.set_dropped();
            }
        }
    }

    /// Their names, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.named.lock().keys().map(ToString::to_string).collect()
    }
}

/// The right to create and drop keyspaces, until that is durable.
pub(super) struct Naming<'e> {
    _held: MutexGuard<'e, ()>,
}
