//! Are the answers right?

use std::ops::RangeInclusive;

use crate::data::{Key, head, key, value};
use crate::store::{Reader, Result};

/// An error unless `is_right`.
pub(crate) fn require(is_right: bool, workload: &str, what: &str) -> Result<()> {
    if is_right { Ok(()) } else { Err(format!("{workload}: wrong answer ({what})").into()) }
}

/// Scans the store and compares every byte: `count` entries in order, all of them with a number that may be there, and with
/// their own values in one of these versions.
pub(crate) fn all(
    reader: &mut impl Reader,
    count: u32,
    may_be_there: impl Fn(u32) -> bool,
    versions: RangeInclusive<u32>,
) -> Result<()> {
    let mut walk = Walk::forward();
    let mut wrong = 0;
    reader.forward(None, usize::MAX, |found_key, found_value| {
        walk.see(found_key, found_value);
        let is_right = head(found_value).is_some_and(|head| {
            may_be_there(head.number)
                && versions.contains(&head.version)
                && key(head.number) == found_key
                && *value(head) == *found_value
        });
        wrong += u32::from(!is_right);
    })?;
    require(wrong == 0, "scan", "keys and values")?;
    require(walk.is_right(), "scan", "order")?;
    require(walk.count == count as usize, "scan", "count")
}

/// A scan, checked as it goes at the cost of about two nanoseconds an entry: the keys must follow each other, and the sum of
/// the numbers in the values tells whether they are the right ones.
pub(crate) struct Walk {
    is_forward: bool,
    is_right: bool,
    last: Option<Key>,
    pub(crate) first: Option<Key>,
    pub(crate) count: usize,
    pub(crate) sum: u64,
}

impl Walk {
    pub(crate) fn forward() -> Self {
        Self { is_forward: true, is_right: true, last: None, first: None, count: 0, sum: 0 }
    }

    pub(crate) fn backward() -> Self {
        Self { is_forward: false, ..Self::forward() }
    }

    #[inline]
    pub(crate) fn see(&mut self, key: &[u8], value: &[u8]) {
        let (Ok(key), Some(head)) = (Key::try_from(key), head(value)) else {
            self.is_right = false;
            return;
        };
        match self.last {
            Some(last) => self.is_right &= last != key && (last < key) == self.is_forward,
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.count += 1;
        self.sum += u64::from(head.number);
    }

    pub(crate) fn is_right(&self) -> bool {
        self.is_right
    }
}
