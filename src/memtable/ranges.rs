//! The range tombstones of a keyspace in a memtable.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::format::Sequence;
use crate::sys::atomic::{AtomicBool, Ordering};
use crate::visibility::{Fragments, Visibility};

/// Lists of fragments, each at least twice as long as the next one, so that there are about
/// log2(n) of them and writing a tombstone costs O(log n) amortised.
#[derive(Default)]
pub(super) struct Ranges {
    /// Lets the many lookups in memtables without range tombstones skip the list.
    any: AtomicBool,
    lists: ArcSwap<Vec<Arc<Fragments>>>,
}

impl Ranges {
    /// Only the writer calls this. Leaves out what nobody in `rule` sees.
    pub(super) fn push(&self, new: Fragments, rule: &mut Visibility) {
        let mut lists = Vec::clone(&self.lists.load());
        lists.push(Arc::new(new));
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

    /// The newest removal of a key that a reader at `at` sees; an error if an unregistered one may have missed it.
    #[inline]
    pub(super) fn newest(&self, key: &[u8], at: Sequence, registered: bool) -> Result<Option<Sequence>, ()> {
        if self.any() { self.search(key, at, registered) } else { Ok(None) }
    }

    #[cold]
    fn search(&self, key: &[u8], at: Sequence, registered: bool) -> Result<Option<Sequence>, ()> {
        let lists = self.lists.load();
        if !registered && lists.iter().any(|list| at < list.floor()) {
            return Err(());
        }
        Ok(lists.iter().filter_map(|list| list.newest(key, at)).max())
    }
}
