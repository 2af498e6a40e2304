//! Reading a key whose newest version is an operand of a merge.

use std::sync::Arc;

use super::read_state::ReadState;
use super::readers::Readers;
use super::registry::Registration;
use crate::error::{Result, bug};
use crate::format::range::Edge;
use crate::format::{KeyspaceId, key_hash};
use crate::memtable::Memtable;
use crate::merge::{Chain, ChainStep, Merge, Place};
use crate::sys::{Block, Pinned};
use crate::visibility::Cover;

impl Readers {
    /// What the operator makes of the operands of a key, which a registered reader sees.
    #[cold]
    pub(super) fn made(&self, keyspace: KeyspaceId, key: &[u8], at: &Registration) -> Result<Pinned> {
        // The tables that it has stay for as long as it is held, and nobody waits for that.
        let read_state = self.read_state();
        let hash = key_hash(keyspace, key);
        let chain = read_state.chain((keyspace, hash, key), at)?;
        let operator = read_state.operators.of(keyspace).ok_or_else(|| bug("operands are read without an operator"))?;
        let made = chain.merge(&operator, key)?;
        if let Some(newest) = chain.newest() {
            read_state.operators.keep((keyspace, hash, key), chain.len(), newest, &made);
        }
        self.health.check_found(&made)?;
        let block = Block::copy_of(&made).map_err(|e| self.health.no_memory("make a value of", e))?;
        Ok(block.pin(0..made.len()))
    }

    /// Something has been merged into a key. After many of those, the key is read, so that its next readers have less to do.
    pub(super) fn note_merge(&self, keyspace: KeyspaceId, key: &[u8]) {
        if self.operators.note_merge(key_hash(keyspace, key)) {
            // Who reads it is told what is wrong.
            let _ = self.get_at(keyspace, key, &self.register());
        }
    }
}

impl ReadState {
    /// The operands of a key that a registered reader sees, and what they work on.
    fn chain(&self, (keyspace, hash, key): (KeyspaceId, u64, &[u8]), at: &Registration) -> Result<Chain> {
        let mut cover = Cover::default();
        for memtable in &self.memtables {
            cover.add(memtable.ranges(keyspace).iter().flat_map(|lists| lists.iter()), 0);
        }
        let mut sources = Vec::new();
        let within = (Edge::Before(key), Edge::After(key));
        self.add_tables(keyspace, within, &mut sources, &mut cover)?;
        let removed = cover.removed(key, at.at).map(|(removal, _)| removal);
        let mut chain = Chain::new(at.at, removed.unwrap_or_default());
        if let Some(made) = self.operators.made((keyspace, hash, key)) {
            chain.know(made.at, &made.value);
        }
        let mut shown = ChainStep::More;
        for memtable in self.memtables.iter().map(Arc::as_ref) {
            let memtable: &Memtable = memtable;
            memtable.visit_versions((keyspace, hash, key), chain.upto(), |entry| {
                shown = chain.show(entry);
                shown == ChainStep::More
            });
            if shown != ChainStep::More {
                return Ok(chain);
            }
        }
        let mut merge = Merge::new(sources);
        merge.go(Place::AtOrBehind(key))?;
        while let Some(top) = merge.top().filter(|top| merge.key(top) == key) {
            match chain.show(merge.entry(&top)) {
                ChainStep::More => merge.advance()?,
                ChainStep::Complete => break,
                ChainStep::Pointer => {
                    let (pointer, file) = merge.find_value(&top, self.version.values())?;
                    chain.show_value(file.value(pointer)?.bytes());
                    break;
                }
            }
        }
        Ok(chain)
    }
}
