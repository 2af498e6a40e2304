//! What the files of a store take, and what is written and kept beyond what it holds.

use std::collections::BTreeMap;

use crate::engine::{Engine, ReadState};
use crate::format::KeyspaceId;
use crate::format::names::FileKind;
use crate::format::section::Section;

/// The lengths of the files in the directory, by kind: those that are obsolete and wait for their last reader as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FileBytes {
    /// Segments of the log, with the space that they have taken ahead.
    pub log: u64,
    /// Tables.
    pub tables: u64,
    /// Their indexes.
    pub indexes: u64,
    /// Value files.
    pub values: u64,
    /// Manifests.
    pub manifest: u64,
    /// `CURRENT`, `LOCK`, [what is reserved](crate::Options::reserve_bytes), and what is no part of a database.
    pub other: u64,
}

impl FileBytes {
    /// All of them together.
    pub fn total(&self) -> u64 {
        let kinds = [self.log, self.tables, self.indexes, self.values, self.manifest, self.other];
        kinds.into_iter().fold(0, u64::saturating_add)
    }
}

/// What has been written since the open, in bytes, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WrittenBytes {
    /// Keys and values of commits and [loads](crate::Db::ingest): what has been asked for.
    pub by_users: u64,
    /// Into the log.
    pub log: u64,
    /// Tables and value files of loads, with their indexes.
    pub loads: u64,
    /// Those of flushes.
    pub flushes: u64,
    /// Those of compactions.
    pub compactions: u64,
}

impl Engine {
    /// The lengths of the files in the directory; none of a closed store, whose directory may be somebody else's.
    pub(super) fn file_bytes(&self) -> FileBytes {
        let mut bytes = FileBytes::default();
        if !self.is_open() {
            return bytes;
        }
        let dir = &self.files.table_cache.dir;
        for name in dir.list().unwrap_or_default() {
            let sum = match FileKind::parse(&name) {
                Some((FileKind::Segment, _)) => &mut bytes.log,
                Some((FileKind::Table, _)) => &mut bytes.tables,
                Some((FileKind::Index, _)) => &mut bytes.indexes,
                Some((FileKind::Values, _)) => &mut bytes.values,
                Some((FileKind::Manifest, _)) => &mut bytes.manifest,
                None => &mut bytes.other,
            };
            *sum = sum.saturating_add(dir.length(&name).unwrap_or(0));
        }
        bytes
    }
}

/// The share of a section that is older than the newest version of its key.
pub(super) fn hidden_bytes(section: &Section) -> u64 {
    let hidden = u128::from(section.entries.saturating_sub(section.keys));
    let bytes = u128::from(section.end.saturating_sub(section.start));
    u64::try_from(bytes * hidden / u128::from(section.entries.max(1))).unwrap_or(u64::MAX)
}

/// What the newest versions of all keys take, by estimate: see [`Stats::live_bytes`](crate::Stats::live_bytes).
pub(super) fn live_bytes(read_state: &ReadState, memtable_bytes: u64, value_bytes: u64) -> u64 {
    let mut levels: BTreeMap<KeyspaceId, BTreeMap<u8, u64>> = BTreeMap::new();
    for keyspace in read_state.version.keyspaces() {
        for (level, table) in read_state.version.of_keyspace(keyspace) {
            let Some(section) = table.section(keyspace) else { continue };
            let bytes = section.end.saturating_sub(section.start).saturating_sub(hidden_bytes(section));
            *levels.entry(keyspace).or_default().entry(level).or_default() += bytes;
        }
    }
    if levels.is_empty() {
        return memtable_bytes;
    }
    let largest = levels.values().filter_map(|levels| levels.values().max());
    largest.fold(value_bytes, |sum, bytes| sum.saturating_add(*bytes))
}
