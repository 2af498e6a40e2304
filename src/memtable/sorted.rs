//! The sorted view of a memtable, made when somebody asks for order.
//!
//! Immutable runs of (key head, locator), sorted by key and, within a key, newest first. What was written since the last run
//! is sorted by the first scan that needs it and kept for the next ones. Runs are merged when a younger one has grown to half
//! the size of the older, so there are at most about log2(n) of them and each entry is merged log2(n) times at the most; and
//! earlier, once readers have paid for it: a seek in one more run takes as long as [`SEEK_ITEMS`] items of a merge. That costs
//! at most as much again as not to do it would have, by the argument with which level 0 is merged away for its readers.

use std::cmp::Ordering;
use std::sync::Arc;

use super::run::{Run, RunItem, shorten};
use crate::format::entry::{Entry, Kind};
use crate::format::{Sequence, key_head};
use crate::sys::{LockRank, Mutex, MutexGuard};
use crate::visibility::Visibility;

/// While a seek looks into one more run, so many items are merged: some 100 ns at 10 ns each.
const SEEK_ITEMS: usize = 10;

pub(super) struct Sorted {
    state: Mutex<State>,
}

impl Default for Sorted {
    fn default() -> Self {
        Self { state: Mutex::new(LockRank::Sorted, State::default()) }
    }
}

#[derive(Default)]
struct State {
    /// Oldest and largest first.
    runs: Vec<Arc<Run>>,
    /// Entries that are in no run yet, in the order of the segment, with the heads of whole keys.
    pending: Vec<RunItem>,
    /// What all their keys begin with.
    prefix: Vec<u8>,
    /// Items that readers have paid the merging of.
    paid: usize,
}

/// Access to the entries that are in no run yet.
pub(super) struct Pending<'a>(MutexGuard<'a, State>);

impl Pending<'_> {
    #[inline]
    #[expect(clippy::cast_possible_truncation)]
    pub(super) fn push(&mut self, entry: &Entry, key: &[u8]) {
        // Below 2^32: whoever has indexed the entry has seen to it.
        let locator = (entry.start / 8) as u32;
        let State { pending, prefix, .. } = &mut *self.0;
        if pending.is_empty() {
            prefix.extend_from_slice(key);
        }
        shorten(prefix, key);
        pending.push(RunItem { head: key_head(key), locator });
    }
}

/// How runs read the entries they point to.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) base: Sequence,
}

impl Entries<'_> {
    fn entry(&self, item: RunItem) -> Option<Entry> {
        Entry::parse(self.bytes, item.locator as usize * 8, self.bytes.len(), self.base).ok()
    }

    fn key(&self, item: RunItem) -> &[u8] {
        item.key(self.bytes)
    }

    /// Key ascending, then newest first: within a segment a later place is a newer entry.
    fn compare(&self, a: RunItem, b: RunItem) -> Ordering {
        let by_key = a.head.cmp(&b.head).then_with(|| self.key(a).cmp(self.key(b)));
        by_key.then_with(|| b.locator.cmp(&a.locator))
    }

    fn same_key(&self, a: RunItem, b: RunItem) -> bool {
        a.head == b.head && self.key(a) == self.key(b)
    }
}

impl Sorted {
    /// For adding entries, in the order of the segment.
    pub(super) fn pending(&self) -> Pending<'_> {
        Pending(self.state.lock())
    }

    /// Runs that together hold every entry added so far that someone in `rule` sees. `entries` is called once no more can be
    /// added: bytes taken before that may end in front of an entry that another thread has added since. So is `rule`, if there
    /// is anything to sort: whoever reads is registered by then, or at a sequence at or above the cut that it fixes.
    pub(super) fn runs<'e>(
        &self,
        entries: impl FnOnce() -> Entries<'e>,
        rule: impl FnOnce() -> Visibility,
    ) -> Vec<Arc<Run>> {
        let mut state = self.state.lock();
        state.paid = state.paid.saturating_add(state.runs.len().saturating_sub(1) * SEEK_ITEMS);
        if !state.pending.is_empty() || state.is_paid() {
            let (entries, rule) = (entries(), &mut rule());
            state.sort(entries, rule);
            state.settle(entries, rule);
        }
        state.runs.clone()
    }
}

impl State {
    /// Makes a run of what is in none.
    fn sort(&mut self, entries: Entries<'_>, rule: &mut Visibility) {
        let (mut items, prefix) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.prefix));
        if items.is_empty() {
            return;
        }
        if !prefix.is_empty() {
            // In the order of the segment: no misses.
            for item in &mut items {
                item.head = key_head(entries.key(*item).get(prefix.len()..).unwrap_or_default());
            }
        }
        items.sort_unstable_by(|a, b| entries.compare(*a, *b));
        keep_visible(entries, &mut items, rule);
        debug_assert!(items.is_sorted_by(|a, b| entries.compare(*a, *b).is_lt()), "a run has an order");
        self.runs.push(Arc::new(Run::new(prefix, items)));
    }

    /// Whether readers have paid for the two youngest runs to be merged.
    fn is_paid(&self) -> bool {
        matches!(&self.runs[..], [.., older, younger] if self.paid >= older.len() + younger.len())
    }

    /// Merges the youngest runs while they are not at least twice as small as their elders, or that has been paid for.
    fn settle(&mut self, entries: Entries<'_>, rule: &mut Visibility) {
        while let [.., older, younger] = &self.runs[..] {
            if younger.len() * 2 < older.len() {
                if !self.is_paid() {
                    return;
                }
                self.paid -= older.len() + younger.len();
            }
            let mut prefix = older.prefix().to_vec();
            shorten(&mut prefix, younger.prefix());
            let mut merged = merge(entries, older.items_behind(&prefix), younger.items_behind(&prefix));
            keep_visible(entries, &mut merged, rule);
            debug_assert!(merged.is_sorted_by(|a, b| entries.compare(*a, *b).is_lt()), "a merge keeps the order");
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(Arc::new(Run::new(prefix, merged)));
        }
        self.paid = 0;
    }
}

fn merge(
    entries: Entries<'_>,
    older: impl Iterator<Item = RunItem>,
    younger: impl Iterator<Item = RunItem>,
) -> Vec<RunItem> {
    let (mut older, mut younger) = (older.peekable(), younger.peekable());
    let mut merged = Vec::with_capacity(older.size_hint().0 + younger.size_hint().0);
    while let (Some(a), Some(b)) = (older.peek(), younger.peek()) {
        let source = if entries.compare(*a, *b).is_lt() { older.next() } else { younger.next() };
        merged.extend(source);
    }
    merged.extend(older);
    merged.extend(younger);
    merged
}

/// Leaves out the versions that nobody sees, so that a scan does not step over the history of a hot key.
fn keep_visible(entries: Entries<'_>, items: &mut Vec<RunItem>, rule: &mut Visibility) {
    let mut previous: Option<RunItem> = None;
    let mut in_key = false;
    // Whether the version in front stays and is a merge operand: what it works on is seen with it.
    let mut operand = false;
    items.retain(|item| {
        let same = previous.is_some_and(|previous| entries.same_key(previous, *item));
        if same && !in_key {
            // The second version of a key: only now is the rule needed, and it starts with the first.
            rule.start_key();
            if let Some(first) = previous.and_then(|previous| entries.entry(previous)) {
                rule.admits(first.sequence);
                operand = first.kind() == Kind::Merge;
            }
        }
        in_key = same;
        previous = Some(*item);
        // The first version of a key stays: to read it, and most are that, would be a miss for each.
        let Some(entry) = same.then(|| entries.entry(*item)).flatten() else { return true };
        let stays = rule.admits(entry.sequence) || operand;
        operand = stays && entry.kind() == Kind::Merge;
        stays
    });
}
