//! The hash index of a memtable: which entries of the log belong to a key, newest first.
//!
//! Open addressing with linear probing. A slot is a head word (32 bits of the key's hash, 32-bit locator of its newest entry)
//! and a link to older versions. One writer, any number of readers without locks:
//!
//! 1. A head is never zero once set, and its hash bits never change, so a probe that meets zero may stop.
//! 2. The writer stores a slot's link before its head (both release), so a reader that loads the head first (acquire) finds a
//!    link that is as new as the head or newer; a newer one only leads past versions it has seen.
//! 3. Growing fills a table of double size and then publishes it; readers of the old one miss nothing that was visible when
//!    they began. Outgrown tables live until the memtable is dropped.
//!
//! Versions of a key are a list, and an old one of very many is found in O(log n) steps: every 16th node has a link to one far
//! behind it, chosen as in a skew-binary list (Myers, "An applicative random-access stack", Information Processing Letters 17,
//! 1983), and the others link to the next such node. Of 20,000 versions, a lookup passes 60 instead of 10,000.
//!
//! The position of a key is taken from the upper bits of its hash, so growing moves the slots in order, without a look at
//! the keys.

use crate::sys::OnceLock;
use crate::sys::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sys::{ZeroedArray, prefetch};

#[cfg(all(test, loom))]
mod models;

/// A locator: offset of an entry in the segment, in units of 8 bytes. Never 0, where the segment's header is.
pub(super) type Locator = u32;

/// Models explore small tables.
const BITS_MIN: u32 = if cfg!(loom) { 2 } else { 3 };
const BITS_MAX: u32 = 30;
const TABLES: usize = (BITS_MAX - BITS_MIN + 1) as usize;

/// Set in a link when versions between its holder and its target have been left out.
const PRUNED: u32 = 1 << 31;

struct Slots {
    heads: ZeroedArray<AtomicU64>,
    links: ZeroedArray<AtomicU32>,
    shift: u32,
}

impl Slots {
    /// `None` if there is no memory for it.
    fn new(bits: u32) -> Option<Self> {
        let heads = ZeroedArray::new(1 << bits).ok()?;
        let links = ZeroedArray::new(1 << bits).ok()?;
        Some(Self { heads, links, shift: 32 - bits })
    }

    #[inline]
    fn mask(&self) -> usize {
        self.heads.len() - 1
    }
}

pub(super) struct HashIndex {
    /// In place: a box around each would cost a lookup one more dependent load, 1 of 32 ns, and save a keyspace 1.5 KB.
    tables: [OnceLock<Slots>; TABLES],
    /// Which of `tables` is in use.
    current: AtomicUsize,
    /// Slots in use. Written by the writer only.
    used: AtomicUsize,
    nodes: Nodes,
}

/// Where a lookup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Entry(Locator),
    Missing,
    /// The version asked for may have been left out, because nobody had registered for it.
    Pruned,
}

impl HashIndex {
    /// An index that starts with room for about `expected` keys.
    pub(super) fn new(expected: usize) -> Self {
        let bits = (expected * 2).next_power_of_two().ilog2().clamp(BITS_MIN, BITS_MAX - 4);
        let index = Self {
            tables: std::array::from_fn(|_| OnceLock::new()),
            current: AtomicUsize::new((bits - BITS_MIN) as usize),
            used: AtomicUsize::new(0),
            nodes: Nodes::new(),
        };
        if let Some(slots) = Slots::new(bits) {
            let _ = index.tables[(bits - BITS_MIN) as usize].set(slots);
        }
        index
    }

    #[inline]
    fn slots(&self) -> Option<&Slots> {
        self.tables[self.current.load(Ordering::Acquire)].get()
    }

    /// Different keys in the index.
    pub(super) fn len(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether one more key might find no place; the segment must then be frozen.
    pub(super) fn is_full(&self) -> bool {
        let grown = self.current.load(Ordering::Relaxed) == TABLES - 1;
        self.slots().is_none_or(|slots| grown && self.len() * 2 > slots.heads.len())
    }

    /// Finds the newest entry of a key for which `visible` holds. `is_key` compares an entry's key with the one sought.
    /// `registered` says that the caller's sequence is in the registry, so that left-out versions cannot be the one sought.
    #[inline]
    pub(super) fn find(
        &self,
        tag: u32,
        registered: bool,
        mut is_key: impl FnMut(Locator) -> bool,
        mut visible: impl FnMut(Locator) -> bool,
    ) -> Found {
        let Some(slots) = self.slots() else { return Found::Missing };
        let mut at = (tag >> slots.shift) as usize;
        let locator = loop {
            let head = slots.heads[at].load(Ordering::Acquire);
            if head == 0 {
                return Found::Missing;
            }
            let (head_tag, locator) = unpack(head);
            if head_tag == tag && is_key(locator) {
                break locator;
            }
            at = (at + 1) & slots.mask();
        };
        if visible(locator) {
            return Found::Entry(locator);
        }
        // Only now, because most lookups end before: the links are a cache miss of their own.
        let mut link = slots.links[at].load(Ordering::Acquire);
        loop {
            if link & PRUNED != 0 && !registered {
                return Found::Pruned;
            }
            let Some(mut node) = self.nodes.get(link & !PRUNED) else { return Found::Missing };
            if visible(node.locator) {
                return Found::Entry(node.locator);
            }
            // Whatever has been left out on the way to a node that is not visible was not visible either.
            while let Some(far) = self.nodes.get(node.far)
                && !visible(far.locator)
            {
                node = far;
            }
            link = node.next;
        }
    }

    /// Shows the entries of a key, newest first, from the newest one that is `visible` on, until `show` returns false. The
    /// caller's sequence is in the registry.
    pub(super) fn visit(
        &self,
        tag: u32,
        mut is_key: impl FnMut(Locator) -> bool,
        mut visible: impl FnMut(Locator) -> bool,
        mut show: impl FnMut(Locator) -> bool,
    ) {
        let Some(slots) = self.slots() else { return };
        let mut at = (tag >> slots.shift) as usize;
        let newest = loop {
            let head = slots.heads[at].load(Ordering::Acquire);
            if head == 0 {
                return;
            }
            let (head_tag, locator) = unpack(head);
            if head_tag == tag && is_key(locator) {
                break locator;
            }
            at = (at + 1) & slots.mask();
        };
        let mut link = slots.links[at].load(Ordering::Acquire);
        let mut seen = visible(newest);
        if seen && !show(newest) {
            return;
        }
        while let Some(mut node) = self.nodes.get(link & !PRUNED) {
            if !seen {
                while let Some(far) = self.nodes.get(node.far)
                    && !visible(far.locator)
                {
                    node = far;
                }
                seen = visible(node.locator);
            }
            // The link may be newer than the head that led to it, and lead to that again.
            if seen && node.locator < newest && !show(node.locator) {
                return;
            }
            link = node.next;
        }
    }

    /// Starts to bring the slot of a key into the cache, for an insertion that follows.
    #[inline]
    pub(super) fn prefetch(&self, tag: u32) {
        if let Some(slots) = self.slots() {
            prefetch(&slots.heads[(tag >> slots.shift) as usize]);
        }
    }

    /// Makes `locator` the newest entry of its key. `droppable(older, newer)` says that nobody needs `older`, the version
    /// right behind `newer`. Returns false, and has done nothing, if there is no memory for it. Only the writer calls
    /// this.
    pub(super) fn insert(
        &self,
        tag: u32,
        locator: Locator,
        mut is_key: impl FnMut(Locator) -> bool,
        droppable: impl FnMut(Locator, Locator) -> bool,
    ) -> bool {
        if self.slots().is_some_and(|slots| self.len() * 8 >= slots.heads.len() * 5) {
            self.grow();
        }
        let Some(slots) = self.slots() else { return false };
        let mut at = (tag >> slots.shift) as usize;
        loop {
            let head = slots.heads[at].load(Ordering::Relaxed);
            if head == 0 {
                // One slot stays empty, or probes for other keys would not end.
                if self.len() + 1 >= slots.heads.len() {
                    return false;
                }
                self.used.store(self.len() + 1, Ordering::Relaxed);
                break;
            }
            let (head_tag, older) = unpack(head);
            if head_tag == tag && is_key(older) {
                let link = self.pruned_link(older, slots.links[at].load(Ordering::Relaxed), droppable);
                debug_assert!(older < locator, "versions of a key are indexed in their order");
                let Some(link) = self.nodes.push(older, link) else { return false };
                slots.links[at].store(link, Ordering::Release);
                break;
            }
            at = (at + 1) & slots.mask();
        }
        slots.heads[at].store(pack(tag, locator), Ordering::Release);
        true
    }

    /// The link that the node of `holder` gets: as before, minus the versions that nobody needs.
    fn pruned_link(&self, holder: Locator, mut link: u32, mut droppable: impl FnMut(Locator, Locator) -> bool) -> u32 {
        while let Some(target) = self.nodes.get(link & !PRUNED) {
            if !droppable(target.locator, holder) {
                break;
            }
            link = target.next | PRUNED;
        }
        link
    }

    #[cold]
    fn grow(&self) {
        let current = self.current.load(Ordering::Relaxed);
        let Some(old) = self.slots() else { return };
        if current + 1 >= TABLES {
            return;
        }
        let Some(new) = Slots::new(33 - old.shift) else { return };
        for (head, link) in old.heads.iter().zip(old.links.iter()) {
            let head = head.load(Ordering::Relaxed);
            if head == 0 {
                continue;
            }
            let mut at = (unpack(head).0 >> new.shift) as usize;
            while new.heads[at].load(Ordering::Relaxed) != 0 {
                at = (at + 1) & new.mask();
            }
            new.links[at].store(link.load(Ordering::Relaxed), Ordering::Relaxed);
            new.heads[at].store(head, Ordering::Relaxed);
        }
        let _ = self.tables[current + 1].set(new);
        self.current.store(current + 1, Ordering::Release);
    }
}

#[inline]
fn pack(tag: u32, locator: Locator) -> u64 {
    u64::from(tag) << 32 | u64::from(locator)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
fn unpack(head: u64) -> (u32, Locator) {
    ((head >> 32) as u32, head as u32)
}

const CHUNKS: usize = 28;
const FIRST_CHUNK_BITS: u32 = if cfg!(loom) { 1 } else { 4 };

type Chunks = [OnceLock<ZeroedArray<AtomicU64>>; CHUNKS];

/// Nodes of a key from one with a far link to the next.
const FAR_INTERVAL: u32 = if cfg!(loom) { 2 } else { 16 };

/// An older version.
#[derive(Debug, Clone, Copy)]
struct Node {
    locator: Locator,
    /// Link to the next older one that has not been left out.
    next: u32,
    /// How many there are from here on.
    depth: u32,
    /// Link to an older one further behind, or zero: from every [`FAR_INTERVAL`]th node to such a one, from the others to the
    /// nearest.
    far: u32,
}

/// Older versions: an append-only list of nodes. A link is the node's index plus one.
struct Nodes {
    /// Made with the first node: many an index has none.
    chunks: OnceLock<Box<Chunks>>,
    len: AtomicU32,
}

impl Nodes {
    fn new() -> Self {
        Self { chunks: OnceLock::new(), len: AtomicU32::new(0) }
    }

    /// Chunk and place of the first of two words in it: each chunk holds twice as many nodes as the one before.
    fn place(index: u32) -> (u32, usize) {
        let shifted = index as usize + (1 << FIRST_CHUNK_BITS);
        let chunk = shifted.ilog2() - FIRST_CHUNK_BITS;
        (chunk, 2 * (shifted - (1 << (chunk + FIRST_CHUNK_BITS))))
    }

    fn get(&self, link: u32) -> Option<Node> {
        let (chunk, at) = Self::place(link.checked_sub(1)?);
        let words = self.chunks.get()?[chunk as usize].get()?;
        let (next, locator) = unpack(words[at].load(Ordering::Acquire));
        let (depth, far) = unpack(words[at + 1].load(Ordering::Acquire));
        Some(Node { locator, next, depth, far })
    }

    /// Appends a node; returns the link to it, or none if there is no memory for it.
    fn push(&self, locator: Locator, next: u32) -> Option<u32> {
        let index = self.len.load(Ordering::Relaxed);
        let (chunk, at) = Self::place(index);
        let chunk_len = 1usize << (chunk + FIRST_CHUNK_BITS);
        let chunks = self.chunks.get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        if chunks[chunk as usize].get().is_none() {
            let _ = chunks[chunk as usize].set(ZeroedArray::new(2 * chunk_len).ok()?);
        }
        let (depth, far) = self.far_from(next & !PRUNED);
        let words = chunks[chunk as usize].get()?;
        words[at].store(pack(next, locator), Ordering::Release);
        words[at + 1].store(pack(depth, far), Ordering::Release);
        self.len.store(index + 1, Ordering::Relaxed);
        Some(index + 1)
    }

    /// Depth and far link of a node in front of another one.
    fn far_from(&self, next: u32) -> (u32, u32) {
        let Some(behind) = self.get(next) else { return (1, 0) };
        let depth = behind.depth + 1;
        let nearest = if behind.depth.is_multiple_of(FAR_INTERVAL) { next } else { behind.far };
        if !depth.is_multiple_of(FAR_INTERVAL) {
            return (depth, nearest);
        }
        // Two jumps of the same length behind each other become one.
        let depth_of = |node: Option<Node>| node.map_or(0, |node| node.depth);
        let first = self.get(nearest);
        let second = first.and_then(|node| self.get(node.far));
        let third = second.and_then(|node| self.get(node.far));
        let joins = depth_of(first) - depth_of(second) == depth_of(second) - depth_of(third);
        (depth, second.filter(|_| joins).map_or(nearest, |second| second.far))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys are `locator % keys`; a tag with few bits makes collisions.
    fn filled(keys: u32, versions: u32, droppable: impl Fn(u32, u32) -> bool + Copy) -> HashIndex {
        let index = HashIndex::new(0);
        for locator in 1..=keys * versions {
            let key = locator % keys;
            assert!(index.insert(tag(key), locator, |other| other % keys == key, droppable));
        }
        index
    }

    fn tag(key: u32) -> u32 {
        (key / 3).wrapping_mul(0x9e37_79b1)
    }

    #[test]
    fn every_version_of_every_key_is_found_through_growth_and_collisions() {
        let (keys, versions) = (5_000, 4);
        let index = filled(keys, versions, |_, _| false);
        assert_eq!(index.len(), keys as usize);
        for key in 0..keys {
            for limit in [keys * versions, keys * 2, keys] {
                let newest = (1..=limit).rev().find(|locator| locator % keys == key).unwrap();
                let found = index.find(tag(key), false, |l| l % keys == key, |l| l <= limit);
                assert_eq!(found, Found::Entry(newest), "key {key} limit {limit}");
            }
            assert_eq!(index.find(tag(key), false, |l| l % keys == key, |_| false), Found::Missing);
        }
        assert_eq!(index.find(tag(keys + 30_000), false, |l| l % keys == keys + 1, |_| true), Found::Missing);
    }

    #[test]
    fn chains_skip_what_nobody_needs_and_say_so() {
        let index = filled(1, 100, |older, _| older != 40);
        let find = |limit, registered| index.find(tag(0), registered, |_| true, |l| l <= limit);
        assert_eq!(find(100, false), Found::Entry(100));
        assert_eq!(find(99, false), Found::Entry(99), "the version before the newest always stays");
        assert_eq!(find(98, false), Found::Pruned);
        assert_eq!(find(40, true), Found::Entry(40));
        assert_eq!(find(39, true), Found::Missing);
    }

    #[test]
    fn an_old_one_of_many_versions_is_near() {
        let versions = 20_000;
        for left_out in [0, 7] {
            let needed = |l: u32| left_out == 0 || l % left_out != 3;
            let index = filled(1, versions, |older, _| !needed(older));
            for limit in (1..=versions).step_by(97) {
                // The two newest of those that are left out are still there.
                let expected = (1..=limit).rev().find(|l| needed(*l) || l + 1 >= versions);
                let mut looks = 0;
                let found = index.find(
                    tag(0),
                    true,
                    |_| true,
                    |l| {
                        looks += 1;
                        l <= limit
                    },
                );
                assert_eq!(found, expected.map_or(Found::Missing, Found::Entry), "limit {limit}, one of {left_out}");
                assert!(looks < 120, "{looks} versions were looked at for limit {limit}");
            }
        }
    }

    #[test]
    fn readers_run_beside_the_writer() {
        let index = HashIndex::new(0);
        let published = AtomicU32::new(0);
        let keys = 1000;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for locator in 1..=20_000u32 {
                    index.insert(tag(locator % keys), locator, |l| l % keys == locator % keys, |_, _| false);
                    published.store(locator, Ordering::Release);
                }
            });
            let read = || {
                let mut seen = 0;
                while seen < 20_000 {
                    seen = published.load(Ordering::Acquire);
                    for key in [1, seen % keys, 999] {
                        let expected = (seen.saturating_sub(keys - 1)..=seen).rev().find(|l| *l > 0 && l % keys == key);
                        let found = index.find(tag(key), false, |l| l % keys == key, |l| l <= seen);
                        assert_eq!(found, expected.map_or(Found::Missing, Found::Entry));
                    }
                }
            };
            // ThreadSanitizer sees a join, but not how a scope waits.
            for thread in [writer, scope.spawn(read), scope.spawn(read)] {
                thread.join().unwrap();
            }
        });
    }
}
