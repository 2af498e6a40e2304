//! Which keyspaces there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::grouped::Grouped;
use crate::error::Damage;
use crate::format::KeyspaceId;
use crate::format::alignment::Alignment;
use crate::format::edit::{Edit, KeyspaceMeta, TableMeta};
use crate::options::{PointIndex, SectionOptions};

/// The keyspaces other than the default one.
#[derive(Debug, Clone)]
pub(crate) struct Keyspaces {
    /// Ids below have been used and are never used again.
    next: KeyspaceId,
    metas: Grouped<Arc<KeyspaceMeta>>,
    /// The name of the merge operator of the default one.
    default_operator: Option<Arc<str>>,
}

impl Default for Keyspaces {
    fn default() -> Self {
        Self { next: KeyspaceId(1), metas: Grouped::default(), default_operator: None }
    }
}

impl Keyspaces {
    /// The id that the next keyspace gets.
    pub(crate) fn next(&self) -> KeyspaceId {
        self.next
    }

    /// All of them, in order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<KeyspaceMeta>> {
        self.metas.iter().map(|(_, meta)| meta)
    }

    pub(crate) fn get(&self, keyspace: KeyspaceId) -> Option<&Arc<KeyspaceMeta>> {
        self.metas.get(keyspace)
    }

    /// The name of the merge operator of a keyspace that is there, if it has one.
    pub(crate) fn operator(&self, keyspace: KeyspaceId) -> Option<&str> {
        if keyspace == KeyspaceId::DEFAULT {
            return self.default_operator.as_deref();
        }
        self.get(keyspace)?.operator.as_deref()
    }

    /// Whether a keyspace is there: it has been created, and not dropped.
    #[inline]
    pub(crate) fn is_live(&self, keyspace: KeyspaceId) -> bool {
        keyspace == KeyspaceId::DEFAULT || self.get(keyspace).is_some()
    }

    /// How the values of a keyspace are aligned, if it is there.
    pub(crate) fn alignment(&self, keyspace: KeyspaceId) -> Option<Alignment> {
        if keyspace == KeyspaceId::DEFAULT {
            return Some(Alignment::None);
        }
        self.get(keyspace).map(|meta| meta.options.alignment)
    }

    /// Whether a keyspace is there or was there once.
    pub(crate) fn was_created(&self, keyspace: KeyspaceId) -> bool {
        keyspace < self.next
    }

    /// The options for the sections of a keyspace; `default` are those of the default one, and do for one that is gone.
    pub(crate) fn section_options(&self, keyspace: KeyspaceId, default: SectionOptions) -> SectionOptions {
        self.get(keyspace).map_or(default, |meta| meta.options)
    }

    /// The kinds of point index of a table's sections; none if the table belongs to the default keyspace alone.
    pub(crate) fn point_indexes(&self, table: &TableMeta, default: SectionOptions) -> Vec<PointIndex> {
        if table.sections.iter().all(|section| section.keyspace == KeyspaceId::DEFAULT) {
            return Vec::new();
        }
        table.sections.iter().map(|section| self.section_options(section.keyspace, default).point_index).collect()
    }

    /// Whether every keyspace has a name of its own.
    pub(crate) fn check_names(&self) -> Result<(), Damage> {
        let mut names = BTreeSet::from([KeyspaceId::DEFAULT_NAME]);
        if self.iter().all(|meta| names.insert(&meta.name)) { Ok(()) } else { Err(Damage::BadField) }
    }

    /// Applies the creations of an edit, and what it says of the default one.
    pub(super) fn create(&mut self, edit: &Edit) -> Result<(), Damage> {
        for meta in &edit.create {
            let after = meta.id.0.checked_add(1).ok_or(Damage::BadField)?;
            if meta.id < self.next {
                return Err(Damage::BadField);
            }
            self.metas.insert(meta.id, Arc::new(meta.clone()));
            self.next = KeyspaceId(after);
        }
        if let Some(operator) = &edit.default_operator {
            self.default_operator = Some(operator.as_str().into());
        }
        self.next = self.next.max(edit.next_keyspace.unwrap_or_default());
        Ok(())
    }

    pub(super) fn remove(&mut self, keyspace: KeyspaceId) -> Result<(), Damage> {
        self.metas.remove(keyspace).map(|_| ()).ok_or(Damage::BadField)
    }
}
