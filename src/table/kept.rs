//! What stays of a table that has been let go, and how it is opened again.

use std::path::Path;
use std::sync::Arc;

use super::file::KnownFile;
use super::table_cache::{TableCache, not_opened};
use crate::error::Result;
use crate::format::edit::TableMeta;
use crate::format::names::FileKind;
use crate::sys::{Advice, Contents, Mapping};
use crate::visibility::Fragments;

/// What stays known of a table while it is not open.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) file: KnownFile,
    pub(super) index_file: KnownFile,
    pub(super) ranges: Vec<Arc<Fragments>>,
    /// The index, if it is in memory anyway: read into it, or made again because the one on disk was lost.
    pub(super) index: Option<Mapping>,
    /// Whether it is not on disk and should be.
    pub(super) index_lost: bool,
}

/// The bytes of a table's index: those that are in memory, or those on disk.
pub(super) fn open_index(
    table_cache: &TableCache,
    meta: &TableMeta,
    kept: Option<&Kept>,
    path: &Path,
) -> Result<Mapping> {
    if let Some(mapping) = kept.and_then(|kept| kept.index.as_ref()) {
        return Ok(mapping.clone());
    }
    let name = FileKind::Index.name(meta.number);
    let opened = match table_cache.dir.contents(&name, Advice::Normal) {
        // What was used of it before is made present when it is used again.
        Ok(Contents::Mapped(mapping)) if kept.is_some() => Ok(mapping),
        Ok(Contents::Mapped(mapping)) => mapping.bring_in().map(|()| mapping),
        Ok(Contents::Random(..)) => table_cache.dir.open(&name),
        Err(e) => Err(e),
    };
    opened.map_err(|e| not_opened(path, e))
}
