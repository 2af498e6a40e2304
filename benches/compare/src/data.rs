//! The entries, and the orders in which they are asked for. Fixed seeds: every run and every store sees the same.

use std::hint::black_box;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::ValueEnum;

pub(crate) const KEY_BYTES: usize = 16;
/// The size of values unless another one is asked for.
pub(crate) const VALUE_BYTES: usize = 100;
/// From this size on, stores that can keep values apart from their keys do so.
pub(crate) const LARGE_VALUE_BYTES: usize = 4096;

pub(crate) type Key = [u8; KEY_BYTES];

/// Those of the usual size need no allocation, which would be a large part of what a put takes.
pub(crate) enum Value {
    Usual([u8; VALUE_BYTES]),
    Other(Vec<u8>),
}

impl Value {
    fn filled_with(byte: u8) -> Self {
        match value_bytes() {
            VALUE_BYTES => Self::Usual([byte; VALUE_BYTES]),
            bytes => Self::Other(vec![byte; bytes]),
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Usual(bytes) => bytes,
            Self::Other(bytes) => bytes,
        }
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Usual(bytes) => bytes,
            Self::Other(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Value {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Entries with numbers from 0. Keys of numbers from `entries` on are absent until a workload inserts them; those of
/// [`MISSING`] and beyond always are.
pub(crate) struct Data {
    pub(crate) entries: u32,
    /// All numbers, shuffled, twice: for writing, and for reading in an order that is unrelated to it.
    written: Vec<u32>,
    read: Vec<u32>,
    /// Numbers drawn by Zipf's law with exponent 0.99.
    skewed: Vec<u32>,
    /// How many keys are in front of that of each number.
    ranks: Vec<u32>,
}

/// The first number that is never inserted.
pub(crate) const MISSING: u32 = 1 << 31;

impl Data {
    pub(crate) fn new(entries: u32) -> Self {
        let written = shuffled(entries, 1 << 40);
        let read = shuffled(entries, 3 << 40);
        let skewed = skewed(&read);
        let mut sorted: Vec<u32> = (0..entries).collect();
        sorted.sort_unstable_by_key(|number| key(*number));
        let mut ranks = vec![0; sorted.len()];
        for (rank, number) in (0..).zip(sorted) {
            ranks[number as usize] = rank;
        }
        Self { entries, written, read, skewed, ranks }
    }

    /// All numbers in the order of writing, over and over.
    pub(crate) fn written(&self) -> impl Iterator<Item = u32> {
        self.written.iter().copied().cycle()
    }

    /// All numbers in order of their keys.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut sorted = vec![0; self.ranks.len()];
        for (number, rank) in (0..).zip(&self.ranks) {
            sorted[*rank as usize] = number;
        }
        sorted
    }

    /// All numbers in the order of reading, over and over.
    pub(crate) fn read(&self) -> impl Iterator<Item = u32> {
        self.read.iter().copied().cycle()
    }

    /// Numbers of which few come often, without end.
    pub(crate) fn skewed(&self) -> impl Iterator<Item = u32> {
        self.skewed.iter().copied().cycle()
    }

    /// How many of the entries are at or behind that of this number.
    pub(crate) fn at_or_behind(&self, number: u32) -> usize {
        (self.entries - self.ranks[number as usize]) as usize
    }
}

/// A permutation of the 64-bit numbers (the finalizer of `SplitMix64`).
pub(crate) fn mix(number: u64) -> u64 {
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

/// What a value begins with: whose it is, and which of the values that the entry has had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: u32,
    pub(crate) version: u32,
}

impl Head {
    /// Of the first value of entry `number`.
    pub(crate) fn new(number: u32) -> Self {
        Self { number, version: 0 }
    }
}

/// What values are made of, behind their head.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Values {
    /// A part of the same noise, 32 KiB longer than a value.
    Noise,
    /// Half noise of its own, half the same byte: compressible to half.
    Half,
}

static HALF: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicUsize = AtomicUsize::new(VALUE_BYTES);

/// Before the first value is made; of at least 16 bytes.
pub(crate) fn set_values(values: Values, bytes: usize) {
    HALF.store(values == Values::Half, Ordering::Relaxed);
    BYTES.store(bytes, Ordering::Relaxed);
}

fn value_bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

fn half(head: Head) -> Value {
    let mut made = Value::filled_with(b'x');
    let value = made.bytes();
    value[..4].copy_from_slice(&head.number.to_le_bytes());
    value[4..8].copy_from_slice(&head.version.to_le_bytes());
    let seed = u64::from(head.number) << 32 | u64::from(head.version) << 24;
    for (part, at) in value[8..value_bytes() / 2].chunks_mut(8).zip(0..) {
        part.copy_from_slice(&mix(seed + at).to_le_bytes()[..part.len()]);
    }
    made
}

/// The value of entry `number`: its head, and noise that follows from it.
#[inline]
pub(crate) fn value(head: Head) -> Value {
    if HALF.load(Ordering::Relaxed) {
        return half(head);
    }
    let noise = noise();
    let from = (head.number.wrapping_mul(31).wrapping_add(head.version) as usize * 8) % (noise.len() - value_bytes());
    let mut made = Value::filled_with(0);
    let value = made.bytes();
    value[..4].copy_from_slice(&head.number.to_le_bytes());
    value[4..8].copy_from_slice(&head.version.to_le_bytes());
    let rest = &mut value[8..];
    rest.copy_from_slice(&noise[from..from + rest.len()]);
    made
}

/// The head of a value of the right length. Of a large one, some of each cache line is read: a store that lends mapped values
/// would not have to fetch them otherwise.
#[inline]
pub(crate) fn head(value: &[u8]) -> Option<Head> {
    if value.len() != value_bytes() {
        return None;
    }
    if value.len() >= LARGE_VALUE_BYTES {
        black_box(value.iter().step_by(64).fold(0, |all, byte| all ^ byte));
    }
    let [number, version] = [value.first_chunk()?, value[4..].first_chunk()?].map(|bytes| u32::from_le_bytes(*bytes));
    Some(Head { number, version })
}

/// Bytes in which no store finds a pattern.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let numbers = (1 << 12) + value_bytes().div_ceil(8);
    NOISE.get_or_init(|| (5 << 40..).take(numbers).flat_map(|number| mix(number).to_le_bytes()).collect())
}

/// Uniform numbers, from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(1);
        u32::try_from(mix(self.0) % u64::from(bound)).unwrap_or_default()
    }
}

fn shuffled(entries: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..entries).collect();
    let mut random = Random(seed);
    for last in (1..entries).rev() {
        order.swap(last as usize, random.below(last + 1) as usize);
    }
    order
}

/// As many draws as there are entries; `order` spreads the popular ones over the keys.
fn skewed(order: &[u32]) -> Vec<u32> {
    let mut total = 0.0;
    let mut sums = Vec::with_capacity(order.len());
    for (rank, _) in (1u32..).zip(order) {
        total += f64::from(rank).powf(-0.99);
        sums.push(total);
    }
    let mut random = Random(2 << 40);
    let mut draw = || {
        let share = f64::from(random.below(u32::MAX)) / f64::from(u32::MAX);
        let rank = sums.partition_point(|sum| *sum < share * total);
        order[rank.min(order.len() - 1)]
    };
    order.iter().map(|_| draw()).collect()
}
