//! The range tombstones of a keyspace in a memtable.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::Damage;
use crate::format::entry_ref::EntryRef;
use crate::format::fragment::FragmentList;
use crate::format::range::range_of;
use crate::format::{KeyspaceId, Sequence};
use crate::sys::atomic::{AtomicBool, Ordering};
use crate::visibility::{Fragments, Visibility};

/// Range tombstones on their way into a memtable: those of one commit, or of one replay. One merge of all takes a small part
/// of the time of one after each.
///
/// Most commits have none, and dropping even an empty map takes 80 of the 1,800 instructions of a commit.
#[derive(Debug, Default)]
pub(crate) struct Removals(Option<BTreeMap<KeyspaceId, FragmentList>>);

impl Removals {
    /// Adds a range delete.
    #[cold]
    pub(super) fn add(&mut self, keyspace: KeyspaceId, entry: EntryRef<'_>) -> Result<(), Damage> {
        let (start, end) = range_of(entry.key(), entry.value())?;
        self.0.get_or_insert_default().entry(keyspace).or_default().push(start, end, &[entry.sequence]);
        Ok(())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn into_lists(self) -> impl Iterator<Item = (KeyspaceId, FragmentList)> {
        self.0.into_iter().flatten()
    }
}

/// Lists of fragments, oldest first: all sequence numbers of one are below those of the next one. Each is at least twice as
/// long as the next one, so that there are about log2(n) of them and writing a tombstone costs O(log n) amortised.
#[derive(Default)]
pub(super) struct Ranges {
    /// Lets the many lookups in memtables without range tombstones skip the list.
    any: AtomicBool,
    lists: ArcSwap<Vec<Arc<Fragments>>>,
}

impl Ranges {
    /// Adds ranges that are all newer than those that are there, in any order. Only the writer calls this. Leaves out what
    /// nobody in `rule` sees.
    pub(super) fn push(&self, ranges: FragmentList, rule: &mut Visibility) {
        let mut lists = Vec::clone(&self.lists.load());
        lists.push(Arc::new(Fragments::of_ranges(ranges, rule)));
        while let [.., older, younger] = &lists[..] {
            if younger.list().len() * 2 < older.list().len() {
                break;
            }
            let merged = Fragments::merge([&**older, &**younger], rule);
            lists.truncate(lists.len() - 2);
            lists.push(Arc::new(merged));
        }
        self.lists.store(Arc::new(lists));
        self.any.store(true, Ordering::Release);
    }

    #[inline]
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn all(&self) -> Arc<Vec<Arc<Fragments>>> {
        self.lists.load_full()
    }

    /// The newest removal of a key that a reader at `at` sees, if it is newer than `version`, which that reader sees as
    /// well; an error if an unregistered one may have missed it.
    #[inline]
    pub(super) fn newest(
        &self,
        key: &[u8],
        at: Sequence,
        version: Sequence,
        registered: bool,
    ) -> Result<Option<Sequence>, ()> {
        if self.any() { self.search(key, at, version, registered) } else { Ok(None) }
    }

    #[cold]
    fn search(&self, key: &[u8], at: Sequence, version: Sequence, registered: bool) -> Result<Option<Sequence>, ()> {
        // From the newest on: what is found first is newer than all that follows.
        for list in self.lists.load().iter().rev().take_while(|list| list.newest() > version) {
            if !registered && at < list.floor() {
                return Err(());
            }
            if let Some(removed) = list.newest_of(key, at) {
                return Ok((removed > version).then_some(removed));
            }
        }
        Ok(None)
    }
}
