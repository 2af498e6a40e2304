//! The merge operators of an open database.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::{Error, Result};
use crate::format::KeyspaceId;
use crate::operator::Operator;
use crate::options::Options;
use crate::version::Keyspaces;

/// The operators of keyspaces that have one, as the options give them; an error if one is missing.
pub(super) fn operators_of(options: &Options, named: &Keyspaces) -> Result<BTreeMap<KeyspaceId, Operator>> {
    let given = &options.operators;
    let mut operators = BTreeMap::new();
    let others = named.iter().map(|meta| (meta.id, meta.name.as_str()));
    for (id, keyspace) in std::iter::once((KeyspaceId::DEFAULT, KeyspaceId::DEFAULT_NAME)).chain(others) {
        let of_default = given.default.as_ref().filter(|_| id == KeyspaceId::DEFAULT);
        let found = match (named.operator(id), of_default) {
            (None, None) => continue,
            // What has none yet gets it with the first change.
            (None, Some(operator)) => (!options.read_only).then(|| operator.clone()),
            (Some(name), Some(operator)) if operator.is_named(name) => Some(operator.clone()),
            (Some(name), other) => {
                let found = given.find(name).filter(|_| other.is_none());
                if found.is_none() && (other.is_some() || !given.may_be_missing) {
                    let option = if id == KeyspaceId::DEFAULT { "merge_operator" } else { "known_operator" };
                    return Err(Error::OtherOperator { keyspace: keyspace.into(), operator: name.into(), option });
                }
                found
            }
        };
        operators.extend(found.map(|operator| (id, operator)));
    }
    Ok(operators)
}

/// The operators by keyspace.
#[derive(Debug)]
pub(crate) struct Operators {
    by_keyspace: ArcSwap<BTreeMap<KeyspaceId, Operator>>,
}

impl Operators {
    pub(super) fn new(by_keyspace: BTreeMap<KeyspaceId, Operator>) -> Self {
        Self { by_keyspace: ArcSwap::from_pointee(by_keyspace) }
    }

    /// The operator of a keyspace, if it has one and the program as well.
    pub(crate) fn of(&self, keyspace: KeyspaceId) -> Option<Operator> {
        self.by_keyspace.load().get(&keyspace).cloned()
    }

    /// Whether there is one.
    pub(crate) fn has(&self, keyspace: KeyspaceId) -> bool {
        self.by_keyspace.load().contains_key(&keyspace)
    }

    /// A keyspace has been created, and nobody reads it yet. Only whoever has the right to create one calls this.
    pub(super) fn add(&self, keyspace: KeyspaceId, operator: &Operator) {
        let mut changed = BTreeMap::clone(&self.by_keyspace.load());
        changed.insert(keyspace, operator.clone());
        self.by_keyspace.store(Arc::new(changed));
    }
}
