//! What can be had of a table that is damaged, or of which no manifest tells.

use super::Shelf;
use super::body::{Verify, Window};
use super::reader::{TableReader, decode_sections};
use crate::error::Result;
use crate::format::checksum::Id;
use crate::format::edit::TableMeta;
use crate::format::names::FileKind;
use crate::format::prefix::Magic;
use crate::format::values::ValuesMeta;
use crate::format::{FileNumber, KeyspaceId, Sequence};

impl TableReader {
    /// The first key of the sparse index, from number `from` on, that can be read and lies behind `last`; and its number.
    pub(crate) fn readable_key(
        &self,
        keyspace: KeyspaceId,
        from: usize,
        last: Option<&[u8]>,
    ) -> Result<Option<(usize, Vec<u8>)>> {
        let Some(number) = self.section_of(keyspace) else { return Ok(None) };
        let section = self.section(number)?;
        self.with_index(|index| {
            let sparse = index.sparse(number)?;
            for at in from..sparse.len() {
                let mut window = Window::default();
                let entry = self.indexed_entry(index, &mut window, section, sparse.place(at), Verify::Again);
                if let Ok(key) = entry.map(|entry| entry.key(self.bytes_of(&window)).to_vec())
                    && last.is_none_or(|last| key.as_slice() > last)
                {
                    return Ok(Some((at, key)));
                }
            }
            Ok(None)
        })
    }

    /// Makes the index again from the entries, whatever there is on disk.
    pub(crate) fn forget_index(&self) -> Result<()> {
        self.with_rebuilt_index(|_| Ok(()))
    }
}

/// What a table says of itself: the record that its manifest has, or had. `global_sequence` gives the number that the table
/// with this id has taken; without one, it is the first possible one.
pub(crate) fn read_meta(
    shelf: &Shelf,
    number: FileNumber,
    global_sequence: impl FnOnce(&Id) -> Option<Sequence>,
) -> Result<TableMeta> {
    let file = shelf.file(FileKind::Table, Magic::TABLE, number)?;
    let frame = file.frame();
    let mut sections = decode_sections(&file)?;
    let global = global_sequence(&frame.id).unwrap_or_default();
    for section in sections.iter_mut().filter(|section| section.takes_global_sequence) {
        let first = Sequence(section.max_sequence.0.saturating_add(1));
        let numbered = section.set_global_sequence(global.max(first));
        numbered.map_err(|damage| file.corrupt(frame.directory_offset, damage))?;
    }
    let (id, footer_checksum) = (frame.id, frame.footer_checksum);
    Ok(TableMeta { number, id, file_bytes: file.length(), footer_checksum, sections })
}

/// What a value file says of itself: the record that its manifest has, or had.
pub(crate) fn read_values_meta(shelf: &Shelf, number: FileNumber) -> Result<ValuesMeta> {
    let file = shelf.file(FileKind::Values, Magic::VALUES, number)?;
    Ok(ValuesMeta::of(number, file.frame(), file.length()))
}
