//! The spaces of a memtable by keyspace: a hash table from ids to spaces that grows beside its readers.
//!
//! One writer, any number of readers without locks. A slot is set once and never changes; growing fills a table of double
//! size and then publishes it. Readers of the old one miss nothing that was visible when they began.

use std::sync::Arc;

use super::space::Space;
use crate::format::KeyspaceId;
use crate::sys::OnceLock;
use crate::sys::atomic::{AtomicUsize, Ordering};

const BITS_MIN: u32 = 3;
const TABLES: usize = 28;

type Slot = OnceLock<Arc<Space>>;

/// The spaces of keyspaces other than the default one.
#[derive(Default)]
pub(super) struct Spaces {
    tables: [OnceLock<Box<[Slot]>>; TABLES],
    /// Which of `tables` is in use.
    current: AtomicUsize,
    /// Slots in use. Written by the writer only.
    used: AtomicUsize,
}

impl Spaces {
    #[inline]
    fn slots(&self) -> &[Slot] {
        self.tables.get(self.current.load(Ordering::Acquire)).and_then(OnceLock::get).map_or(&[], |slots| slots)
    }

    #[inline]
    pub(super) fn get(&self, keyspace: KeyspaceId) -> Option<&Space> {
        let slots = self.slots();
        probe(slots, keyspace)?.get().map(|space| &**space)
    }

    /// The space of a keyspace, made if there is none; `None` if there is no room. Only the writer calls this.
    #[inline]
    pub(super) fn get_or_add(&self, keyspace: KeyspaceId) -> Option<&Space> {
        if self.get(keyspace).is_none() {
            self.add(keyspace);
        }
        self.get(keyspace)
    }

    #[cold]
    fn add(&self, keyspace: KeyspaceId) {
        let used = self.used.load(Ordering::Relaxed);
        if (used + 1) * 2 > self.slots().len() {
            self.grow();
        }
        if let Some(slot) = probe(self.slots(), keyspace) {
            let _ = slot.set(Arc::new(Space::new(keyspace, 0)));
            self.used.store(used + 1, Ordering::Relaxed);
        }
    }

    fn grow(&self) {
        let old = self.slots();
        let next = if old.is_empty() { 0 } else { self.current.load(Ordering::Relaxed) + 1 };
        let Some(table) = self.tables.get(next) else { return };
        let new: Box<[Slot]> = (0..1usize << (BITS_MIN as usize + next)).map(|_| Slot::new()).collect();
        for space in old.iter().filter_map(OnceLock::get) {
            if let Some(slot) = probe(&new, space.keyspace) {
                let _ = slot.set(Arc::clone(space));
            }
        }
        let _ = table.set(new);
        self.current.store(next, Ordering::Release);
    }

    /// All of them, in order of their ids.
    pub(super) fn sorted(&self) -> Vec<&Space> {
        let mut spaces: Vec<&Space> = self.slots().iter().filter_map(|slot| slot.get().map(|space| &**space)).collect();
        spaces.sort_unstable_by_key(|space| space.keyspace);
        spaces
    }
}

/// The slot with a keyspace, or the empty one where it belongs; none if every slot is taken.
#[inline]
fn probe(slots: &[Slot], keyspace: KeyspaceId) -> Option<&Slot> {
    // Ids are given in order, so their low bits spread them evenly; a prime step would do no better.
    let mask = slots.len().checked_sub(1)?;
    let start = keyspace.0 as usize;
    let places = (0..=mask).filter_map(|step| slots.get((start + step) & mask));
    places.into_iter().find(|slot| slot.get().is_none_or(|space| space.keyspace == keyspace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_found_while_the_table_grows() {
        let spaces = Spaces::default();
        assert!(spaces.get(KeyspaceId(1)).is_none() && spaces.sorted().is_empty());
        let ids: Vec<u32> = (1..=1000).map(|i| i * 64 % 1009 + (i % 3) * (1 << 20)).collect();
        for (count, id) in ids.iter().enumerate() {
            let made: *const Space = spaces.get_or_add(KeyspaceId(*id)).unwrap();
            assert!(std::ptr::eq(spaces.get_or_add(KeyspaceId(*id)).unwrap(), made));
            assert_eq!(spaces.sorted().len(), count + 1);
        }
        for id in &ids {
            assert_eq!(spaces.get(KeyspaceId(*id)).unwrap().keyspace, KeyspaceId(*id));
            assert!(spaces.get(KeyspaceId(id + (1 << 25))).is_none());
        }
        assert!(spaces.sorted().is_sorted_by(|a, b| a.keyspace < b.keyspace));
    }
}
