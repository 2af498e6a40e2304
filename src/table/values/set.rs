//! Which value files there are, and how much of them is in use: derived from what the tables say, and kept nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::ValueFile;
use crate::error::{Damage, Fault, Result};
use crate::format::FileNumber;
use crate::format::entry_ref::EntryRef;
use crate::format::section::Section;
use crate::format::values::Pointer;

/// The value files that the tables of a version refer to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    files: BTreeMap<FileNumber, Stored>,
}

/// A value file, and what the sections of the version have in it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) file: Arc<ValueFile>,
    /// Records that an entry points to, and the bytes that they take.
    pub(crate) live: u64,
    pub(crate) live_bytes: u64,
}

impl Stored {
    /// Bytes of records that nothing points to.
    pub(crate) fn garbage_bytes(&self) -> u64 {
        self.file.meta.record_bytes.saturating_sub(self.live_bytes)
    }
}

impl Values {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.files.values()
    }

    /// The file of a pointer.
    #[inline]
    pub(crate) fn file(&self, pointer: Pointer) -> Option<&Arc<ValueFile>> {
        self.files.get(&pointer.file).map(|stored| &stored.file)
    }

    /// Where the value of an entry stands that is a pointer, in the table at `path`: its place and its file.
    #[inline]
    pub(crate) fn find(&self, entry: EntryRef<'_>, path: impl Fn() -> PathBuf) -> Result<(Pointer, &Arc<ValueFile>)> {
        let refused = |fault: Fault| fault.at(&path(), entry.start as u64);
        let pointer = entry.pointer().map_err(refused)?;
        Ok((pointer, self.file(pointer).ok_or_else(|| refused(Damage::BadPointer.into()))?))
    }

    pub(crate) fn contains(&self, number: FileNumber) -> bool {
        self.files.contains_key(&number)
    }

    pub(crate) fn get(&self, number: FileNumber) -> Option<&Stored> {
        self.files.get(&number)
    }

    /// Files of which nothing is known but that they are there.
    pub(crate) fn found(files: impl IntoIterator<Item = Arc<ValueFile>>) -> Self {
        let stored = files.into_iter().map(|file| (file.number(), Stored { file, live: 0, live_bytes: 0 }));
        Self { files: stored.collect() }
    }

    /// The files in use: those of `candidates` that the live sections refer to, each of which must be there.
    pub(crate) fn in_use<'s>(
        candidates: &BTreeMap<FileNumber, Arc<ValueFile>>,
        sections: impl Iterator<Item = &'s Section>,
    ) -> Result<Self, Damage> {
        let mut files: BTreeMap<FileNumber, Stored> = BTreeMap::new();
        for share in sections.flat_map(|section| &section.value_files) {
            let file = candidates.get(&share.file).ok_or(Damage::BadPointer)?;
            let new = || Stored { file: Arc::clone(file), live: 0, live_bytes: 0 };
            let stored = files.entry(share.file).or_insert_with(new);
            stored.live = stored.live.saturating_add(share.values);
            stored.live_bytes = stored.live_bytes.saturating_add(share.bytes);
        }
        Ok(Self { files })
    }
}
