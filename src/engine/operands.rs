//! Reading a key whose newest version is an operand of a merge.

use std::sync::Arc;

use super::onlooker::{Onlooker, Stored};
use super::read_state::ReadState;
use super::readers::Readers;
use super::registry::Registration;
use crate::error::{Result, bug};
use crate::format::entry_ref::EntryRef;
use crate::format::range::Edge;
use crate::format::{KeyspaceId, key_hash};
use crate::merge::{Chain, ChainStep, Merge, Place};
use crate::operator::{HashedKey, KeptValue};
use crate::sys::{Block, Pinned};
use crate::visibility::Cover;

impl Readers {
    /// What the operator makes of the operands of a key, which a registered reader sees, while `look` looks on.
    #[cold]
    pub(super) fn made(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: &Registration,
        look: &mut impl Onlooker,
    ) -> Result<Pinned> {
        // The tables that it has stay for as long as it is held, and nobody waits for that.
        let read_state = self.read_state();
        let hashed = (keyspace, key_hash(keyspace, key), key);
        let chain = read_state.chain(hashed, at, look).map_err(|e| self.noted(e))?;
        let operator = read_state.operators.of(keyspace).ok_or_else(|| bug("operands are read without an operator"))?;
        let made = chain.merge(&operator, key)?;
        if let Some(newest) = chain.newest() {
            read_state.kept.keep(hashed, chain.len(), newest, &made);
        }
        self.health.check_found(&made)?;
        let block = Block::copy_of(&made).map_err(|e| self.health.no_memory("make a value of", e))?;
        Ok(block.pin(0..made.len()))
    }

    /// Something has been merged into a key. After many of those, the key is read, so that its next readers have less to do.
    pub(super) fn note_merge(&self, keyspace: KeyspaceId, key: &[u8]) {
        let is_due = self.load().kept.note_merge((keyspace, key_hash(keyspace, key), key));
        if is_due {
            // Who reads it is told what is wrong.
            let _ = self.get_at(keyspace, key, &self.register());
        }
    }
}

impl ReadState {
    /// The operands of a key that a registered reader sees, and what they work on.
    fn chain(&self, key: HashedKey<'_>, at: &Registration, look: &mut impl Onlooker) -> Result<Chain> {
        let (keyspace, _, key_bytes) = key;
        let mut cover = Cover::default();
        for memtable in &self.memtables {
            cover.add(memtable.ranges(keyspace).iter().flat_map(|lists| lists.iter()), 0);
        }
        let mut sources = Vec::new();
        let within = (Edge::Before(key_bytes), Edge::After(key_bytes));
        self.add_tables(keyspace, within, &mut sources, &mut cover)?;
        let removed = cover.removed(key_bytes, at.at).map(|(removal, _)| removal);
        let chain = Chain::new(at.at, removed.unwrap_or_default());
        let mut chain = Shown { chain, kept: self.kept.get(key) };
        if let Some(kept) = &chain.kept {
            chain.chain.know(kept.at, &kept.value);
        }
        let mut shown = ChainStep::More;
        for memtable in self.memtables.iter().map(Arc::as_ref) {
            memtable.visit_versions(key, chain.chain.upto(), |entry| {
                shown = chain.show(entry, (look, || Some(Stored::Memtable(memtable))));
                shown == ChainStep::More
            });
            if shown != ChainStep::More {
                return Ok(chain.chain);
            }
        }
        let mut merge = Merge::new(sources);
        merge.go(Place::AtOrBehind(key_bytes))?;
        while let Some(top) = merge.top().filter(|top| merge.key(top) == key_bytes) {
            let table =
                || merge.table(&top).and_then(|table| Some(Stored::Table(self.version.level_of(table)?, table)));
            match chain.show(merge.entry(&top), (look, table)) {
                ChainStep::More => merge.advance()?,
                ChainStep::Pointer => {
                    let (pointer, file) = merge.find_value(&top, self.version.values())?;
                    look.value_file(pointer.file, pointer);
                    chain.chain.show_value(file.value(pointer)?.bytes());
                    break;
                }
                ChainStep::Complete | ChainStep::Removed | ChainStep::Known => break,
            }
        }
        Ok(chain.chain)
    }
}

/// A chain, with somebody who looks on while it is made.
struct Shown {
    chain: Chain,
    kept: Option<KeptValue>,
}

impl Shown {
    /// Shows it the next older version.
    fn show<'a>(
        &mut self,
        entry: EntryRef<'_>,
        (look, stored): (&mut impl Onlooker, impl FnOnce() -> Option<Stored<'a>>),
    ) -> ChainStep {
        let taken = self.chain.len();
        let step = self.chain.show(entry);
        match (step, &self.kept) {
            (ChainStep::Known, Some(kept)) => look.kept(kept),
            // A newer one that has been passed over.
            (ChainStep::More, _) if self.chain.len() == taken => {}
            _ => look.below_operands(stored, entry.place(), step == ChainStep::Removed),
        }
        step
    }
}
