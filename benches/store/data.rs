//! The entries, and orders in which they are asked for. Fixed seeds: every run sees the same.

pub(crate) const KEY_BYTES: usize = 16;
pub(crate) const VALUE_BYTES: usize = 100;
/// With its header, an entry in a table or in the log.
pub(crate) const ENTRY_BYTES: usize = 12 + KEY_BYTES + VALUE_BYTES;

pub(crate) type Key = [u8; KEY_BYTES];
pub(crate) type Value = [u8; VALUE_BYTES];

/// Entries with numbers from 0; keys of higher numbers are absent.
pub(crate) struct Data {
    pub(crate) entries: u32,
    /// All numbers, shuffled.
    order: Vec<u32>,
    /// Numbers drawn by Zipf's law with exponent 0.99.
    zipf: Vec<u32>,
}

impl Data {
    pub(crate) fn new(entries: u32) -> Self {
        let order = shuffled(entries);
        let zipf = zipf(&order);
        Self { entries, order, zipf }
    }

    /// All numbers in random order, over and over.
    pub(crate) fn shuffled(&self) -> impl Iterator<Item = u32> {
        self.order.iter().copied().cycle()
    }

    /// Numbers of which few come often, without end.
    pub(crate) fn skewed(&self) -> impl Iterator<Item = u32> {
        self.zipf.iter().copied().cycle()
    }

    /// All numbers in the order of their keys.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.entries).collect();
        numbers.sort_unstable_by_key(|number| key(*number));
        numbers
    }

    /// Bytes of all entries as they stand in a table or in the log, headers of groups not counted.
    pub(crate) fn entry_bytes(&self) -> u64 {
        u64::from(self.entries) * ENTRY_BYTES as u64
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.entries) * (KEY_BYTES + VALUE_BYTES) as u64
    }
}

/// A permutation of the 64-bit numbers (the finalizer of `SplitMix64`).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of entry `number`: consecutive numbers have unrelated keys.
#[inline]
pub(crate) fn key(number: u32) -> Key {
    let [a, b] = [mix(u64::from(number)), mix(!u64::from(number))];
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&a.to_be_bytes());
    key[8..].copy_from_slice(&b.to_be_bytes());
    key
}

/// The value of entry `number`, which [`number_in`] finds again.
#[inline]
pub(crate) fn value(number: u32) -> Value {
    let mut value = [b'.'; VALUE_BYTES];
    value[..4].copy_from_slice(&number.to_le_bytes());
    value
}

/// The number of the entry with this value; `u32::MAX` if it is none.
#[inline]
pub(crate) fn number_in(value: &[u8]) -> u32 {
    match value.first_chunk() {
        Some(number) if value.len() == VALUE_BYTES => u32::from_le_bytes(*number),
        _ => u32::MAX,
    }
}

/// A uniform number below `below`.
fn below(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(1);
    mix(*state) % below
}

fn shuffled(entries: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..entries).collect();
    let mut state = 1 << 40;
    for last in (1..order.len()).rev() {
        let other = below(&mut state, last as u64 + 1);
        order.swap(last, usize::try_from(other).expect("an index"));
    }
    order
}

/// As many draws as there are entries; the popular ones are spread over the keys by `order`.
fn zipf(order: &[u32]) -> Vec<u32> {
    let mut total = 0.0;
    let mut sums = Vec::with_capacity(order.len());
    for rank in 1..=u32::try_from(order.len()).expect("a count") {
        total += f64::from(rank).powf(-0.99);
        sums.push(total);
    }
    let mut state = 2 << 40;
    let mut draw = || {
        let share = f64::from(u32::try_from(below(&mut state, 1 << 32)).expect("32 bits")) / f64::from(u32::MAX);
        let rank = sums.partition_point(|sum| *sum < share * total);
        order[rank.min(order.len() - 1)]
    };
    (0..order.len()).map(|_| draw()).collect()
}
