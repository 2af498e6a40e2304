//! Operands of a key that a compaction makes one entry of.

use crate::error::{Result, bug};
use crate::format::Sequence;
use crate::format::alignment::Alignment;
use crate::format::entry::{Base, Entry, Kind, push_entry};
use crate::format::entry_ref::EntryRef;
use crate::format::folded::push_folded;
use crate::merge::{Located, Merge};
use crate::operator::Operator;

/// Operands, and bytes of them, that are put together to one before more of them are taken, if the operator can.
const OPERANDS_MAX: usize = 4096;
const BYTES_MAX: usize = 1 << 20;

/// Bytes of operands that cannot be put together: a compaction keeps more of them as they are.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// An entry that is not in a file.
pub(super) struct OwnEntry {
    entry: Entry,
    bytes: Vec<u8>,
}

impl OwnEntry {
    fn as_ref(&self) -> EntryRef<'_> {
        self.entry.in_bytes(&self.bytes)
    }
}

/// An entry that is to be written.
pub(super) enum Written {
    /// As it stands in an input.
    Copied(Located),
    /// Made of operands, or one of these.
    Own(OwnEntry),
}

/// The next version to write.
pub(super) struct Next {
    pub(super) what: Written,
    /// Whether it is the first one of its key.
    pub(super) first: bool,
    /// Whether it is there for the sake of an operand in front of it.
    pub(super) below_operand: bool,
}

impl Next {
    pub(super) fn entry(&self) -> &Entry {
        match &self.what {
            Written::Copied(found) => &found.entry,
            Written::Own(own) => &own.entry,
        }
    }

    pub(super) fn in_bytes<'m>(&'m self, merge: &'m Merge) -> EntryRef<'m> {
        match &self.what {
            Written::Copied(found) => merge.entry(found),
            Written::Own(own) => own.as_ref(),
        }
    }
}

/// Operands of a key, one behind the other, with nobody who sees some of them and not the others.
pub(super) struct OperandRun {
    key: Vec<u8>,
    alignment: Alignment,
    bytes: Vec<u8>,
    /// Newest first, in `bytes`.
    entries: Vec<Entry>,
    newest: Sequence,
    oldest: Sequence,
}

impl OperandRun {
    /// Begins with the newest one.
    pub(super) fn of(newest: EntryRef<'_>) -> Self {
        let (key, alignment) = (newest.key().to_vec(), newest.alignment());
        let (bytes, entries) = (Vec::new(), Vec::new());
        let mut run = Self { key, alignment, bytes, entries, newest: newest.sequence, oldest: newest.sequence };
        run.add(newest);
        run
    }

    /// Adds the next older one.
    pub(super) fn add(&mut self, operand: EntryRef<'_>) {
        self.entries.push(operand.moved_to(self.bytes.len()));
        self.bytes.extend_from_slice(operand.raw());
        self.oldest = operand.folded_from();
    }

    /// The sequence number of the oldest operand that is in it.
    pub(super) fn oldest(&self) -> Sequence {
        self.oldest
    }

    /// Makes room for more, if there is none; returns whether there is.
    pub(super) fn make_room(&mut self, operator: &Operator) -> bool {
        let is_long = self.entries.len() >= OPERANDS_MAX || self.bytes.len() >= BYTES_MAX;
        // Longer ones than that are tried once each time they have doubled: a mean operator is not asked for each operand.
        let is_due = is_long && self.entries.len().is_power_of_two();
        (is_due && self.combine(operator)) || self.bytes.len() < KEPT_BYTES_MAX
    }

    /// Oldest first.
    fn values(&self) -> Vec<&[u8]> {
        self.entries.iter().rev().map(|entry| entry.value(&self.bytes)).collect()
    }

    /// Puts all together to one operand, if there are several and the operator can do that.
    pub(super) fn combine(&mut self, operator: &Operator) -> bool {
        if self.entries.len() < 2 {
            return false;
        }
        let Some(value) = operator.combine(&self.key, &self.values()) else { return false };
        let mut bytes = Vec::new();
        if !push_folded(&mut bytes, (self.oldest, self.newest), &self.key, &value, self.alignment) {
            return false;
        }
        let Ok(entry) = parse(&bytes, self.newest) else { return false };
        (self.bytes, self.entries) = (bytes, vec![entry]);
        true
    }

    /// The entry of the value that the operator makes of it. `None` if it does not, and the operands are to be kept.
    pub(super) fn merge(&self, operator: &Operator, value: Option<&[u8]>) -> Result<Option<OwnEntry>> {
        let Ok(made) = operator.merge(&self.key, value, &self.values()) else { return Ok(None) };
        let mut bytes = Vec::new();
        push_entry(&mut bytes, Kind::Put, self.newest, &self.key, &made, self.alignment);
        let entry = parse(&bytes, self.newest)?;
        Ok(Some(OwnEntry { entry, bytes }))
    }

    /// What there is, newest first.
    pub(super) fn into_entries(self) -> impl Iterator<Item = OwnEntry> {
        let Self { bytes, entries, .. } = self;
        entries.into_iter().map(move |entry| {
            let (entry, bytes) = entry.detached(&bytes);
            OwnEntry { entry, bytes }
        })
    }
}

/// An entry that has just been made.
fn parse(bytes: &[u8], sequence: Sequence) -> Result<Entry> {
    let entry = Entry::parse_in_table(bytes, 0, bytes.len(), Base::from(sequence));
    Ok(entry.map_err(|_| bug("an entry that was made of operands is none"))?)
}
