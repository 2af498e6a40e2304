//! What any bytes are as keys: the target `keys`, and the values that the tests draw.

use std::cmp::{Ordering, Reverse};
use std::fmt::Debug;

use maplsm::key::{self, Decode, Encode};

/// Types of keys, by the first byte of an input.
const TYPES: [fn(&[u8]); 12] = [
    check::<u64>,
    check::<i128>,
    check::<Floats>,
    check::<(bool, char)>,
    check::<String>,
    check::<Vec<u8>>,
    check::<Option<Option<Vec<u8>>>>,
    check::<[Vec<u8>; 3]>,
    check::<(Vec<u8>, i8, Vec<u8>)>,
    check::<(Reverse<(Vec<u8>, Reverse<Vec<u8>>)>, [u8; 2])>,
    check::<((), String, (char, Reverse<Option<i16>>), Vec<u8>)>,
    check::<(u8, i16, u32, i64, u128, bool, Reverse<String>, Option<bool>)>,
];

/// Floats in their total order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floats(pub(crate) f32, pub(crate) f64);

impl PartialEq for Floats {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Floats {}

impl PartialOrd for Floats {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Floats {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.total_cmp(&other.1))
    }
}

impl Encode for Floats {
    fn encode(&self, to: &mut Vec<u8>) {
        (self.0, self.1).encode(to);
    }
}

impl Decode for Floats {
    fn decode(from: &mut key::KeyInput<'_>) -> Result<Self, key::DecodeError> {
        Decode::decode(from).map(|(single, double)| Self(single, double))
    }
}

/// Two keys that may be any bytes: what is a value has one encoding, and the order of the bytes is that of the values.
fn check<T: Encode + Decode + Ord + Debug>(bytes: &[u8]) {
    let (left, right) = bytes.split_at(bytes.len() / 2);
    let [left_value, right_value, _] = [left, right, bytes].map(|bytes| {
        let value = key::decode::<T>(bytes).ok()?;
        assert_eq!(key::encode(&value), bytes, "{value:?}");
        Some(value)
    });
    if let (Some(a), Some(b)) = (left_value, right_value) {
        assert_eq!(left.cmp(right), a.cmp(&b), "{a:?} and {b:?}");
    }
}

pub(crate) fn run(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    TYPES[usize::from(*first) % TYPES.len()](bytes);
}
