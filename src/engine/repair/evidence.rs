//! What the manifests of a directory say, whole or damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Fault, Result};
use crate::format::checksum::{Id, Seed};
use crate::format::edit::{Edit, KeyspaceMeta, TableMeta};
use crate::format::group::{GroupHeader, GroupKind, may_start_group};
use crate::format::mend::find_owner;
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::format::values::ValuesMeta;
use crate::format::{FileNumber, KeyspaceId, Sequence};
use crate::sys::{Dir, Mapping};

/// The sum of all edits that can be read.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) keyspaces: BTreeMap<KeyspaceId, KeyspaceMeta>,
    pub(super) dropped: BTreeSet<KeyspaceId>,
    pub(super) tables: BTreeMap<Id, TableMeta>,
    pub(super) values: BTreeMap<FileNumber, ValuesMeta>,
    pub(super) removed: BTreeSet<FileNumber>,
    pub(super) consumed: BTreeSet<(FileNumber, KeyspaceId)>,
    pub(super) first_segment: FileNumber,
    /// The highest sequence number that is mentioned.
    pub(super) last_sequence: Sequence,
}

/// Opens a manifest that has been listed. That this fails says nothing about what is in it: to go on without it would bring
/// back what it says is gone.
pub(super) fn open_manifest(dir: &Arc<dyn Dir>, number: FileNumber) -> Result<Mapping> {
    let name = FileKind::Manifest.name(number);
    dir.open(&name).map_err(|e| Error::io("map", &dir.path().join(&name), e))
}

impl Evidence {
    /// Reads every intact group of these manifests, oldest first, each of one of these databases.
    pub(super) fn gather(dir: &Arc<dyn Dir>, manifests: &[FileNumber], databases: &[Id]) -> Result<Self> {
        let mut evidence = Self::default();
        for number in manifests {
            let file = open_manifest(dir, *number)?;
            match find_owner(file.bytes(), Magic::MANIFEST, *number, databases) {
                Ok(owner) => evidence.read(file.bytes(), *number, owner.database()),
                // What is said of it says that nothing can be read from it.
                Err(Fault::Damage(_)) => {}
                Err(fault) => return Err(fault.at(&dir.path().join(FileKind::Manifest.name(*number)), 0)),
            }
        }
        Ok(evidence)
    }

    /// What the manifest says of the table that stands under a number.
    pub(super) fn table(&self, number: FileNumber) -> Option<&TableMeta> {
        self.tables.values().find(|meta| meta.number == number)
    }

    fn read(&mut self, file: &[u8], number: FileNumber, database: Id) {
        let seed = Seed::of_file(&database, number);
        let mut offset = SEGMENT_HEADER_BYTES;
        while offset < file.len() as u64 {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let candidate = may_start_group(file.get(start..).unwrap_or_default());
            match candidate.then(|| GroupHeader::parse(file, seed, number, offset)) {
                Some(Ok((group, body))) => {
                    if group.kind == GroupKind::Data
                        && let Ok(edit) = Edit::decode(body, group.count)
                    {
                        self.apply(edit);
                    }
                    offset += group.span();
                }
                _ => offset += 8,
            }
        }
    }

    fn apply(&mut self, edit: Edit) {
        self.keyspaces.extend(edit.create.into_iter().map(|meta| (meta.id, meta)));
        for keyspace in edit.drop {
            self.keyspaces.remove(&keyspace);
            self.dropped.insert(keyspace);
        }
        self.values.extend(edit.add_values.into_iter().map(|meta| (meta.number, meta)));
        self.last_sequence = self.last_sequence.max(edit.last_sequence.unwrap_or_default());
        self.removed.extend(edit.remove);
        self.consumed.extend(edit.consume);
        self.tables.extend(edit.add.into_iter().map(|(_, meta)| (meta.id, meta)));
        self.first_segment = self.first_segment.max(edit.first_segment.unwrap_or_default());
    }
}
