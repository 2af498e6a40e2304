//! What the manifests of a directory say, whole or damaged.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Fault, Result};
use crate::format::checksum::{Id, Seed};
use crate::format::edit::{Edit, KeyspaceMeta, TableMeta};
use crate::format::group::GroupKind;
use crate::format::mend::{find_owner, next_group};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::format::values::ValuesMeta;
use crate::format::{FileNumber, KeyspaceId, Sequence, bytes};
use crate::sys::{Dir, Mapping};

/// The sum of all edits that can be read.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) keyspaces: BTreeMap<KeyspaceId, KeyspaceMeta>,
    /// The name of the operator of the default one.
    pub(super) default_operator: Option<String>,
    pub(super) dropped: BTreeSet<KeyspaceId>,
    /// The keyspace that had a name last.
    names: BTreeMap<String, KeyspaceId>,
    pub(super) tables: BTreeMap<Id, TableMeta>,
    /// Which table stands under a number.
    numbers: BTreeMap<FileNumber, Id>,
    /// The ids of all tables and value files that are mentioned.
    known: HashSet<Id>,
    pub(super) values: BTreeMap<FileNumber, ValuesMeta>,
    pub(super) removed: BTreeSet<FileNumber>,
    pub(super) consumed: BTreeSet<(FileNumber, KeyspaceId)>,
    pub(super) first_segment: FileNumber,
    /// The highest sequence number that is mentioned.
    pub(super) last_sequence: Sequence,
    /// Whether nothing can be missing: the youngest manifest can be read from its beginning to its close mark.
    is_whole: bool,
    /// What may be an id in the parts of manifests that cannot be read.
    unread: HashSet<Id>,
}

/// Opens a manifest or segment that has been listed. That this fails says nothing about what is in it: to go on without it
/// would bring back what it says is gone.
pub(super) fn open_listed(dir: &Arc<dyn Dir>, kind: FileKind, number: FileNumber) -> Result<Mapping> {
    let name = kind.name(number);
    dir.open(&name).map_err(|e| Error::io("map", &dir.path().join(&name), e))
}

impl Evidence {
    /// Reads every intact group of these manifests, oldest first, each of one of these databases.
    pub(super) fn gather(dir: &Arc<dyn Dir>, manifests: &[FileNumber], databases: &[Id]) -> Result<Self> {
        let mut evidence = Self::default();
        for number in manifests {
            evidence.is_whole = false;
            let file = open_listed(dir, FileKind::Manifest, *number)?;
            let owner = find_owner(file.bytes(), Magic::MANIFEST, *number, databases).map_err(|fault| (0, fault));
            let read = owner.and_then(|owner| evidence.read(file.bytes(), *number, owner.database()));
            match read {
                // What is said of it says that nothing can be read from it.
                Ok(()) | Err((_, Fault::Damage(_))) => {}
                Err((at, fault)) => return Err(fault.at(&dir.path().join(FileKind::Manifest.name(*number)), at)),
            }
        }
        Ok(evidence)
    }

    /// The ids of all tables and value files that are mentioned.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        self.known.iter().copied()
    }

    /// The tables that are part of the database at last, as far as that can be read.
    pub(super) fn live_tables(&self) -> impl Iterator<Item = (FileNumber, Id)> {
        let live = self.tables.values().filter(|meta| !self.removed.contains(&meta.number));
        live.map(|meta| (meta.number, meta.id))
    }

    /// The value files that are mentioned.
    pub(super) fn value_files(&self) -> impl Iterator<Item = (FileNumber, Id)> {
        self.values.values().map(|meta| (meta.number, meta.id))
    }

    /// Whether the file with this id that stands under a number is none of the database's: the manifests know another one
    /// under it, or they are whole and do not know it, or only those of another database name it.
    pub(super) fn excludes(&self, number: FileNumber, id: &Id, claimed: &BTreeSet<Id>) -> bool {
        let known = self.numbers.get(&number).or(self.values.get(&number).map(|meta| &meta.id));
        !self.known.contains(id)
            && (known.is_some() || self.is_whole || claimed.contains(id) && !self.unread.contains(id))
    }

    /// What the manifest says of the table that stands under a number.
    pub(super) fn table(&self, number: FileNumber) -> Option<&TableMeta> {
        self.tables.get(self.numbers.get(&number)?)
    }

    /// Reads the intact groups of a manifest; returns where there is one of a later version.
    fn read(&mut self, file: &[u8], number: FileNumber, database: Id) -> Result<(), (u64, Fault)> {
        let seed = Seed::of_file(&database, number);
        let mut end = SEGMENT_HEADER_BYTES;
        let (mut is_whole, mut is_closed) = (true, false);
        while let Some((at, group, body)) = next_group(file, seed, number, end)? {
            if at > end {
                self.note_unread(file, end..at);
                is_whole = false;
            }
            match Edit::decode(body, group.count) {
                Ok(edit) if group.kind == GroupKind::Data => self.apply(edit),
                Err(_) if group.kind == GroupKind::Data => is_whole = false,
                _ => {}
            }
            (end, is_closed) = (at.saturating_add(group.span()), group.kind == GroupKind::Close);
        }
        self.note_unread(file, end..file.len() as u64);
        self.is_whole = is_whole && is_closed;
        Ok(())
    }

    /// Ids stand at multiples of the unit.
    fn note_unread(&mut self, file: &[u8], range: Range<u64>) {
        let bytes = bytes::slice(file, range.start, range.end.saturating_sub(range.start)).unwrap_or_default();
        self.unread.extend(bytes.windows(size_of::<Id>()).step_by(8).filter_map(|id| Id::try_from(id).ok()));
    }

    fn apply(&mut self, edit: Edit) {
        for meta in edit.create {
            // No two have one name at a time: the one that had it is gone, though the edit that says so may be lost.
            if let Some(before) = self.names.insert(meta.name.clone(), meta.id).filter(|before| *before != meta.id) {
                self.drop_keyspace(before);
            }
            self.keyspaces.insert(meta.id, meta);
        }
        self.default_operator = edit.default_operator.or(self.default_operator.take());
        edit.drop.into_iter().for_each(|keyspace| self.drop_keyspace(keyspace));
        self.known.extend(edit.add_values.iter().map(|meta| meta.id));
        self.values.extend(edit.add_values.into_iter().map(|meta| (meta.number, meta)));
        self.last_sequence = self.last_sequence.max(edit.last_sequence.unwrap_or_default());
        self.removed.extend(edit.remove);
        for (_, meta) in edit.add {
            // An edit may add what it removes.
            self.removed.remove(&meta.number);
            self.numbers.insert(meta.number, meta.id);
            self.known.insert(meta.id);
            self.tables.insert(meta.id, meta);
        }
        self.consumed.extend(edit.consume);
        self.first_segment = self.first_segment.max(edit.first_segment.unwrap_or_default());
    }

    fn drop_keyspace(&mut self, keyspace: KeyspaceId) {
        self.keyspaces.remove(&keyspace);
        self.dropped.insert(keyspace);
    }
}
