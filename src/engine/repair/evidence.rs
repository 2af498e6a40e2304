//! What the manifests of a directory say, whole or damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::checksum::{Id, Seed};
use crate::format::edit::{Edit, KeyspaceMeta, TableMeta};
use crate::format::group::{GroupHeader, GroupKind, may_start_group};
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FileNumber, KeyspaceId};
use crate::sys::{Dir, Mapping};

/// The sum of all edits that can be read.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) keyspaces: BTreeMap<KeyspaceId, KeyspaceMeta>,
    pub(super) dropped: BTreeSet<KeyspaceId>,
    pub(super) tables: BTreeMap<Id, TableMeta>,
    pub(super) removed: BTreeSet<FileNumber>,
    pub(super) consumed: BTreeSet<(FileNumber, KeyspaceId)>,
    pub(super) first_segment: FileNumber,
}

/// Opens a manifest that has been listed. That this fails says nothing about what is in it: to go on without it would bring
/// back what it says is gone.
pub(super) fn open_manifest(dir: &Arc<dyn Dir>, number: FileNumber) -> Result<Mapping> {
    let name = FileKind::Manifest.name(number);
    dir.open(&name).map_err(|e| Error::io("map", &dir.path().join(&name), e))
}

impl Evidence {
    /// Reads every intact group of these manifests, oldest first.
    pub(super) fn gather(dir: &Arc<dyn Dir>, manifests: &[FileNumber]) -> Result<Self> {
        let mut evidence = Self::default();
        for number in manifests {
            evidence.read(open_manifest(dir, *number)?.bytes());
        }
        Ok(evidence)
    }

    fn read(&mut self, file: &[u8]) {
        let Ok(header) = SegmentHeader::parse_any(file, Magic::MANIFEST) else { return };
        let seed = Seed::of_file(&header.database(), header.number());
        let mut offset = SEGMENT_HEADER_BYTES;
        while offset < file.len() as u64 {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let candidate = may_start_group(file.get(start..).unwrap_or_default());
            match candidate.then(|| GroupHeader::parse(file, seed, header.number(), offset)) {
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
        self.removed.extend(edit.remove);
        self.consumed.extend(edit.consume);
        self.tables.extend(edit.add.into_iter().map(|(_, meta)| (meta.id, meta)));
        self.first_segment = self.first_segment.max(edit.first_segment.unwrap_or_default());
    }
}
