//! A sorted run of a memtable's entries, and how a key is found in it.

use crate::format::entry::key_at;
use crate::format::{common_prefix, key_head};
use crate::sys::prefetch;

/// An entry of a sorted run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunItem {
    /// The first eight bytes of the key, behind what all keys of the run begin with.
    pub(super) head: u64,
    /// Offset of the entry in units of 8 bytes.
    pub(super) locator: u32,
}

impl RunItem {
    /// Its key. Only what has been read is in a run, so there is one; if not, whoever comes to the entry gets a bug.
    #[inline]
    pub(super) fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let key = key_at(bytes, self.locator as usize * 8);
        debug_assert!(key.is_some(), "an entry of a run is readable");
        key.unwrap_or_default()
    }
}

/// Of so many items, the head of the first is a sample: they are eight cache lines, which are asked for at once.
const SAMPLED: usize = 32;

/// Items in a cache line.
const LINE: usize = 64 / size_of::<RunItem>();

/// Entries in order: by key, and within a key the newest first.
///
/// A binary search over all heads takes a cache miss for each of its last steps, and again for the end of those that are equal.
/// The samples of a million items are 250 KB, which stay in the cache, and behind them there is one miss. In a memtable of
/// 1,000,000 entries, a seek takes 0.3 us, and took 3.4 without samples. With eighteen bytes that all keys begin with, the
/// first look in order, which sorts, takes 148 ms, and took 637 with the heads of whole keys (`cargo bench --bench limits --
/// prefixes`).
#[derive(Debug)]
pub(crate) struct Run {
    /// What all keys begin with: heads that do not decide cost two misses a comparison, in sorting as in searching.
    prefix: Vec<u8>,
    // Without room to grow: runs stay as they are for as long as their memtable.
    items: Box<[RunItem]>,
    samples: Box<[u64]>,
}

impl Run {
    /// Of items in order, whose keys all begin with `prefix`.
    pub(super) fn new(prefix: Vec<u8>, items: Vec<RunItem>) -> Self {
        let samples = items.iter().step_by(SAMPLED).map(|item| item.head).collect();
        Self { prefix, items: items.into_boxed_slice(), samples }
    }

    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&RunItem> {
        self.items.get(at)
    }

    /// The items with their heads behind `prefix`, which is this run's own one or begins it.
    pub(super) fn items_behind(&self, prefix: &[u8]) -> impl Iterator<Item = RunItem> {
        let between = self.prefix.get(prefix.len()..).unwrap_or_default();
        let front = key_head(between);
        let shift = u32::try_from(8 * between.len()).unwrap_or(u32::MAX);
        self.items.iter().map(move |item| RunItem { head: front | item.head.checked_shr(shift).unwrap_or(0), ..*item })
    }

    /// How many items have a key below `key`, or, with `or_equal`, not above it.
    pub(super) fn rank<'k>(&self, key: &[u8], or_equal: bool, key_of: impl Fn(&RunItem) -> &'k [u8]) -> usize {
        let Some(rest) = key.strip_prefix(&self.prefix[..]) else {
            return if key < &self.prefix[..] { 0 } else { self.len() };
        };
        let head = key_head(rest);
        let mut low = self.below(head);
        let is_tie = |at: usize| self.items.get(at).is_some_and(|item| item.head == head);
        let mut high = match (is_tie(low), is_tie(low + 1)) {
            (false, _) => low,
            (true, false) => low + 1,
            (true, true) => head.checked_add(1).map_or(self.len(), |head| self.below(head)),
        };
        while low < high {
            let middle = usize::midpoint(low, high);
            let order = self.items.get(middle).map(|item| key_of(item).cmp(key));
            let is_below = order.is_some_and(|order| order.is_lt() || (or_equal && order.is_eq()));
            if is_below { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// How many items have a head below this one.
    fn below(&self, head: u64) -> usize {
        let behind = self.samples.partition_point(|sample| *sample < head);
        let from = behind.saturating_sub(1) * SAMPLED;
        let items = self.items.get(from..self.len().min(behind * SAMPLED)).unwrap_or_default();
        items.iter().step_by(LINE).for_each(prefetch);
        from + items.partition_point(|item| item.head < head)
    }
}

/// Cuts `prefix` to what `key` begins with as well.
#[inline]
pub(super) fn shorten(prefix: &mut Vec<u8>, key: &[u8]) {
    if !key.starts_with(prefix) {
        prefix.truncate(common_prefix(prefix, key).len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys in order, and a run of them, each with its number as its locator.
    fn run(prefix: &[u8], mut keys: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Run) {
        keys.sort();
        let mut common = keys.first().cloned().unwrap_or_default();
        for key in &keys {
            shorten(&mut common, key);
        }
        assert!(common.starts_with(prefix), "as the test means it");
        let head = |key: &Vec<u8>| key_head(&key[prefix.len()..]);
        let items = (0..).zip(&keys).map(|(locator, key)| RunItem { head: head(key), locator }).collect();
        (keys, Run::new(prefix.to_vec(), items))
    }

    /// Keys behind a prefix that differ early, late, and not at all, some of them shorter than a head.
    fn keys(prefix: &[u8], count: u32) -> Vec<Vec<u8>> {
        let rest = |i: u32| match i % 5 {
            0 => [&(i * 7919 % 1000).to_be_bytes()[2..], b"same tail"].concat(),
            1 => [b"same head", &(i % 90).to_be_bytes()[3..]].concat(),
            2 => vec![b'h'; i as usize % 11],
            3 => vec![0; i as usize % 7],
            _ => vec![u8::MAX; i as usize % 13],
        };
        (0..count).map(|i| [prefix, &rest(i)].concat()).collect()
    }

    #[test]
    fn a_key_is_found_whatever_all_begin_with() {
        for prefix in [&b""[..], b"p", b"prefix", b"a prefix longer than a head"] {
            for count in [0, 1, 2, 31, 32, 33, 64, 65, 500] {
                let (keys, run) = run(if count == 0 { b"" } else { prefix }, keys(prefix, count));
                let mut wanted = keys.clone();
                wanted.extend([
                    vec![],
                    vec![0],
                    vec![u8::MAX; 40],
                    b"prefix".to_vec(),
                    b"prefiw".to_vec(),
                    b"q".to_vec(),
                ]);
                wanted.extend(keys.iter().map(|key| [&key[..], &[0]].concat()));
                wanted.extend(keys.iter().filter_map(|key| Some(key.split_last()?.1.to_vec())));
                for key in &wanted {
                    for or_equal in [false, true] {
                        let found = run.rank(key, or_equal, |item| &keys[item.locator as usize]);
                        let expected = keys.partition_point(|other| other < key || (or_equal && other == key));
                        assert_eq!(found, expected, "{key:?} of {count} behind {prefix:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn heads_behind_a_shorter_prefix_are_those_of_the_keys() {
        let prefix = b"a prefix longer than a head";
        let (keys, run) = run(prefix, keys(prefix, 300));
        for length in 0..=prefix.len() {
            let heads: Vec<u64> = run.items_behind(&prefix[..length]).map(|item| item.head).collect();
            let expected: Vec<u64> = keys.iter().map(|key| key_head(&key[length..])).collect();
            assert_eq!(heads, expected, "behind {length} bytes");
        }
    }
}
