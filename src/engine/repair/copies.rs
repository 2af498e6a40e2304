//! Copies of what can be read of damaged tables, so that the rest of the work meets no damage but lost values.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use crate::error::Result;
use crate::format::checksum::Id;
use crate::format::entry::Entry;
use crate::format::range::Edge;
use crate::format::section::Section;
use crate::format::values::Pointer;
use crate::format::{FileNumber, KeyspaceId, Sequence};
use crate::table::{Piece, Salvage, Table, TableCache, TableWriter};

/// What could be had of a damaged table.
#[derive(Default)]
pub(super) struct Copy {
    /// One, or another one beside it for entries that are out of order.
    pub(super) tables: Vec<Arc<Table>>,
    /// Entries that were copied.
    pub(super) entries: u64,
    /// Where entries are missing.
    pub(super) ranges: Vec<(KeyspaceId, Edge, Edge)>,
    /// Whether entries stood out of order.
    pub(super) is_out_of_order: bool,
}

/// Entries out of order are kept in memory until they have been sorted: as many bytes as the table has, or this many.
const STRAY_BYTES_MIN: u64 = 64 << 20;

/// An entry that does not stand behind those in front of it.
struct Stray {
    keyspace: KeyspaceId,
    entry: Entry,
    bytes: Vec<u8>,
}

impl Stray {
    fn order(&self) -> (KeyspaceId, &[u8], Reverse<Sequence>) {
        (self.keyspace, self.entry.key(&self.bytes), Reverse(self.entry.sequence))
    }
}

struct Copier<'c> {
    table_cache: &'c Arc<TableCache>,
    salvage: &'c Salvage,
    writer: TableWriter,
    /// What stands for the file of a value that is lost.
    nowhere: FileNumber,
    copy: Copy,
    strays: Vec<Stray>,
    stray_bytes: u64,
}

impl Copy {
    /// Copies every entry of a damaged table that can be read, and its range tombstones. An entry whose value is lost
    /// becomes a pointer that leads nowhere: it hides older versions as before, and the merge tells if its value is missed.
    /// The two names are for the tables that may be made.
    pub(super) fn make(
        table_cache: &Arc<TableCache>,
        names: [(FileNumber, Id); 2],
        salvage: &Salvage,
        serves: &[KeyspaceId],
    ) -> Result<Self> {
        let [(number, id), (second_number, second_id)] = names;
        let writer = TableWriter::create(table_cache, number, id, &Arc::default())?;
        let (copy, strays) = (Self::default(), Vec::new());
        let mut copier = Copier { table_cache, salvage, writer, nowhere: number, copy, strays, stray_bytes: 0 };
        for section in salvage.sections().iter().filter(|section| serves.contains(&section.keyspace)) {
            copier.section(section)?;
        }
        let Copier { writer, mut copy, mut strays, .. } = copier;
        copy.keep(table_cache, writer)?;
        strays.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        strays.dedup_by(|a, b| a.order() == b.order());
        if !strays.is_empty() {
            let mut writer = TableWriter::create(table_cache, second_number, second_id, &Arc::default())?;
            for stray in &strays {
                writer.start_section_of(stray.keyspace, table_cache.options.section.at_level(0))?;
                writer.add(stray.keyspace, stray.entry.in_bytes(&stray.bytes), false)?;
            }
            copy.keep(table_cache, writer)?;
        }
        Ok(copy)
    }

    fn keep(&mut self, table_cache: &Arc<TableCache>, writer: TableWriter) -> Result<()> {
        if !writer.is_empty() {
            self.tables.push(writer.finish()?.into_table(Arc::clone(table_cache)));
        }
        Ok(())
    }
}

impl Copier<'_> {
    fn section(&mut self, section: &Section) -> Result<()> {
        let (keyspace, salvage) = (section.keyspace, self.salvage);
        self.writer.start_section(self.table_cache.options.section.at_level(0))?;
        // The last entry that could be read, the place behind its key, and whether anything is lost there.
        let mut last: Option<(Vec<u8>, Sequence)> = None;
        let (mut behind, mut is_gap) = (section.lower.clone(), false);
        let (strays, ranges) = (self.strays.len(), self.copy.ranges.len());
        let mut all_lost = salvage.ranges(keyspace).is_none();
        let mut pointed = Vec::new();
        salvage.walk(keyspace, |piece| {
            let (mut entry, mut bytes, has_value) = match &piece {
                Piece::Entry(entry, bytes) => (**entry, *bytes, true),
                Piece::WithoutValue(entry, bytes) => (**entry, *bytes, false),
                Piece::Gap => {
                    is_gap = true;
                    return Ok(());
                }
            };
            if !has_value {
                let nowhere = Pointer { file: self.nowhere, offset: 0, length: 0 };
                entry = entry.in_bytes(bytes).copy_with_pointer(&mut pointed, nowhere)?;
                bytes = &pointed;
            }
            let (key, sequence) = (entry.key(bytes), entry.sequence);
            let follows = last.as_ref().is_none_or(|(last, of_last)| match last.as_slice().cmp(key) {
                Ordering::Less => true,
                Ordering::Equal => *of_last > sequence,
                Ordering::Greater => false,
            });
            if !follows {
                let kept = self.stray(keyspace, &entry, bytes);
                self.copy.entries += u64::from(kept && has_value);
                all_lost |= !kept;
                return Ok(());
            }
            let place = Edge::After(key.to_vec());
            if std::mem::take(&mut is_gap) {
                self.copy.ranges.push((keyspace, behind.clone(), place.clone()));
            }
            behind = place;
            let last = last.get_or_insert_default();
            last.0.clear();
            last.0.extend_from_slice(key);
            last.1 = sequence;
            self.copy.entries += u64::from(has_value);
            self.writer.add(keyspace, entry.in_bytes(bytes), false)
        })?;
        if is_gap {
            self.copy.ranges.push((keyspace, behind, section.upper.clone()));
        }
        // Nobody knows what stands between two keys if they are not in order.
        if all_lost || self.strays.len() > strays && self.copy.ranges.len() > ranges {
            self.copy.ranges.truncate(ranges);
            self.copy.ranges.push((keyspace, section.lower.clone(), section.upper.clone()));
        }
        match salvage.ranges(keyspace) {
            Some(ranges) => self.writer.add_ranges(keyspace, ranges),
            None => Ok(()),
        }
    }

    /// Keeps an entry that is out of order, if there is room for it.
    fn stray(&mut self, keyspace: KeyspaceId, entry: &Entry, bytes: &[u8]) -> bool {
        self.copy.is_out_of_order = true;
        self.stray_bytes += (entry.next() - entry.start) as u64;
        let has_room = self.stray_bytes <= self.salvage.file_bytes().max(STRAY_BYTES_MIN);
        if has_room {
            let (entry, bytes) = entry.detached(bytes);
            self.strays.push(Stray { keyspace, entry, bytes });
        }
        has_room
    }
}
