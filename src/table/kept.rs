//! What stays of a table that has been let go, and how it is opened again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::file::Known;
use super::reader::TableReader;
use super::{Shelf, not_opened};
use crate::error::Result;
use crate::format::edit::TableMeta;
use crate::format::names::FileKind;
use crate::sys::{Advice, Contents, Mapping};
use crate::visibility::Fragments;

/// What stays known of a table while it is not open.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) file: Known,
    pub(super) index_file: Known,
    pub(super) ranges: Vec<Arc<Fragments>>,
    /// The index, if it is in memory anyway: read into it, or made again because the one on disk was lost.
    pub(super) index: Option<Mapping>,
    /// Whether it is not on disk and should be.
    pub(super) index_lost: bool,
}

impl TableReader {
    /// The bytes of an index that is not on disk and should be.
    pub(super) fn lost_index(&self) -> Option<Mapping> {
        self.index_lost.load(Ordering::Relaxed).then(|| self.index().file().mapping().clone())
    }

    /// See `is_pinned` of the file.
    pub(super) fn is_pinned(&self) -> bool {
        self.body.file.is_pinned()
    }

    /// What stays known of the table when it is let go.
    pub(super) fn kept(&self) -> Kept {
        let index_file = self.index().file();
        Kept {
            file: self.body.file.known(),
            index_file: index_file.known(),
            ranges: self.ranges.clone(),
            index: (!index_file.mapping().is_of_file()).then(|| index_file.mapping().clone()),
            index_lost: self.index_lost.load(Ordering::Relaxed),
        }
    }

    /// Takes a share of the memory for mapped indexes, unless it has one; without, the index is not to stay in memory.
    pub(super) fn take_index_memory(&self, shelf: &Shelf) {
        let mapping = self.index.file.mapping();
        if !mapping.is_of_file() || self.index_share.get().is_some() {
            return;
        }
        let share = shelf.index_memory.take(mapping.bytes().len() as u64);
        if shelf.options.advise_random {
            mapping.advise(if share.is_some() { Advice::Normal } else { Advice::Random });
        }
        if let Some(share) = share {
            // Whoever was faster has taken the same; this one goes back.
            let _ = self.index_share.set(share);
        }
    }

    pub(super) fn index_restored(&self) {
        self.index_lost.store(false, Ordering::Relaxed);
    }
}

/// The bytes of a table's index: those that are in memory, or those on disk.
pub(super) fn open_index(shelf: &Shelf, meta: &TableMeta, kept: Option<&Kept>, path: &Path) -> Result<Mapping> {
    if let Some(mapping) = kept.and_then(|kept| kept.index.as_ref()) {
        return Ok(mapping.clone());
    }
    let name = FileKind::Index.name(meta.number);
    let opened = match shelf.dir.contents(&name, Advice::Normal) {
        // What was used of it before is made present when it is used again.
        Ok(Contents::Mapped(mapping)) if kept.is_some() => Ok(mapping),
        Ok(Contents::Mapped(mapping)) => mapping.bring_in().map(|()| mapping),
        Ok(Contents::Random(..)) => shelf.dir.open(&name),
        Err(e) => Err(e),
    };
    opened.map_err(|e| not_opened(path, e))
}
