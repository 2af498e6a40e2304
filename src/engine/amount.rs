//! How much is in a range, by what indexes and metadata say.

use std::sync::Arc;

use super::readers::Readers;
use super::registry::Registration;
use crate::error::Result;
use crate::format::KeyspaceId;
use crate::format::range::Range;
use crate::keyspace_state::KeyspaceState;
use crate::memtable::Memtable;
use crate::table::{Amount, Table};

impl Readers {
    /// What a keyspace has between two edges, counted where it is stored: tables that lie between them as a whole by what the
    /// manifest says of them, others and memtables by their indexes.
    pub(super) fn amount(&self, keyspace: &KeyspaceState, within: Range<'_>) -> Result<Amount> {
        let at = self.register();
        let read_state = self.read_state();
        keyspace.checked(())?;
        let mut amount = Amount::default();
        if within.0 < within.1 {
            for memtable in &read_state.memtables {
                amount.add(of_memtable(memtable, keyspace.id, &at, within)?);
            }
            for (_, table) in read_state.version.of_keyspace(keyspace.id) {
                amount.add(self.health.events.noted(of_table(table, keyspace.id, within))?);
            }
        }
        self.mapped(None)?;
        Ok(amount)
    }
}

fn of_memtable(memtable: &Memtable, keyspace: KeyspaceId, at: &Registration, within: Range<'_>) -> Result<Amount> {
    let entries = memtable.count_between(keyspace, within, || at.retain())?;
    // The entries of a memtable are taken to be of one size.
    let bytes = memtable.log_bytes().saturating_mul(entries) / memtable.entries().max(1);
    Ok(Amount { entries, bytes })
}

fn of_table(table: &Arc<Table>, keyspace: KeyspaceId, (start, end): Range<'_>) -> Result<Amount> {
    let Some(section) = table.section(keyspace) else { return Ok(Amount::default()) };
    let (lower, upper) = (section.lower.as_ref(), section.upper.as_ref());
    if upper <= start || end <= lower {
        return Ok(Amount::default());
    }
    if start <= lower && upper <= end {
        return Ok(Amount::of(section));
    }
    table.pin()?.amount(keyspace, (start, end))
}
