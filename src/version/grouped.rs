//! A map by keyspace of which versions share what they have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::KeyspaceId;

/// Keyspaces of neighbouring ids that are copied together.
const GROUP: u32 = 64;

/// A map from keyspaces, in groups of neighbouring ids: a copy shares all groups with the original until one of them is
/// changed. To copy takes O(n / 64) for n keyspaces, and to change O(log n).
#[derive(Debug, Clone)]
pub(super) struct Grouped<V> {
    groups: BTreeMap<u32, Arc<BTreeMap<KeyspaceId, V>>>,
    len: usize,
}

impl<V> Default for Grouped<V> {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), len: 0 }
    }
}

fn group_of(keyspace: KeyspaceId) -> u32 {
    keyspace.0 / GROUP
}

impl<V: Clone> Grouped<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, keyspace: KeyspaceId) -> Option<&V> {
        self.groups.get(&group_of(keyspace))?.get(&keyspace)
    }

    /// In order of the ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyspaceId, &V)> {
        self.groups.values().flat_map(|group| group.iter().map(|(keyspace, value)| (*keyspace, value)))
    }

    /// Returns what was there.
    pub(super) fn insert(&mut self, keyspace: KeyspaceId, value: V) -> Option<V> {
        let group = self.groups.entry(group_of(keyspace)).or_default();
        let before = Arc::make_mut(group).insert(keyspace, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Returns what was there.
    pub(super) fn remove(&mut self, keyspace: KeyspaceId) -> Option<V> {
        let group = self.groups.get_mut(&group_of(keyspace)).filter(|group| group.contains_key(&keyspace))?;
        let removed = Arc::make_mut(group).remove(&keyspace);
        if group.is_empty() {
            self.groups.remove(&group_of(keyspace));
        }
        self.len -= usize::from(removed.is_some());
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_and_do_not_change_each_other() {
        let mut map = Grouped::default();
        let mut model = BTreeMap::new();
        let mut versions = Vec::new();
        for step in 0..2000u32 {
            let keyspace = KeyspaceId(step.wrapping_mul(2_654_435_761) >> 23);
            if step % 3 == 0 {
                assert_eq!(map.remove(keyspace), model.remove(&keyspace));
            } else {
                assert_eq!(map.insert(keyspace, step), model.insert(keyspace, step));
            }
            assert_eq!((map.len(), map.get(keyspace)), (model.len(), model.get(&keyspace)));
            if step % 97 == 0 {
                versions.push((map.clone(), model.clone()));
            }
        }
        for (map, model) in versions {
            assert!(map.iter().map(|(keyspace, value)| (keyspace, *value)).eq(model));
        }
    }
}
