//! What decides, and what is made of it: keys, values and ranges.

use std::ops::Bound;

use super::operation::{Move, Range};

/// What decides: a random number generator, or bytes from a fuzzer until there are none left.
pub(crate) enum Source<'a> {
    Random(u64),
    Bytes(&'a [u8]),
}

impl Source<'_> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let Self::Bytes(bytes) = self else { return None };
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(*first)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Bytes([]))
    }

    /// A number below `limit`; 0 once the bytes are used up.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let number = match self {
            Self::Random(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
            Self::Bytes(_) => {
                let low = u64::from(self.byte().unwrap_or(0));
                if limit > 256 { low | u64::from(self.byte().unwrap_or(0)) << 8 } else { low }
            }
        };
        usize::try_from(number % (limit as u64).max(1)).unwrap_or(0)
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A key out of a few hundred, so that operations meet: of every length, with shared prefixes, neighbours and extreme bytes.
pub(super) fn key(source: &mut Source<'_>) -> Vec<u8> {
    const ODD: [&[u8]; 16] = [
        b"",
        b"\0",
        b"\0\0",
        b"\xff",
        b"\xff\xff",
        b"a",
        b"a\0",
        b"a\0\0",
        b"a\xff",
        b"aa",
        b"aaaaaaa",
        b"aaaaaaaa",
        b"aaaaaaaa\0",
        b"aaaaaaaaa",
        b"aaaaaaab",
        b"b",
    ];
    match source.below(16) {
        0..=2 => source.pick(&ODD).to_vec(),
        3..=8 => format!("k{:03}", source.below(150)).into_bytes(),
        9..=10 => {
            let mut key = vec![b'p'; 80 + 70 * source.below(4)];
            key.push(u8::try_from(source.below(8)).unwrap_or(0));
            key
        }
        11..=13 => format!("shared/prefix/{}", source.below(60)).into_bytes(),
        14 => vec![u8::try_from(source.below(4)).unwrap_or(0) * 85, u8::try_from(source.below(256)).unwrap_or(0)],
        _ if source.one_in(12) => vec![b'q'; 3000 + source.below(3)],
        _ => format!("k{:03}x", source.below(150)).into_bytes(),
    }
}

/// A value that no other write has, unless it is empty.
pub(super) fn value(source: &mut Source<'_>, stamp: u64) -> Vec<u8> {
    let length = match source.below(16) {
        0 => return Vec::new(),
        1..=9 => 8 + source.below(24),
        10..=13 => 80 + source.below(100),
        14 => 400 + source.below(900),
        _ if source.one_in(10) => 5000 + source.below(30_000),
        _ => 8,
    };
    let mut value = stamp.to_le_bytes().to_vec();
    value.resize(length, stamp.to_le_bytes()[0]);
    value
}

pub(super) fn range(source: &mut Source<'_>) -> Range {
    let mut bound = || match source.below(5) {
        0 => Bound::Unbounded,
        1..=2 => Bound::Excluded(key(source)),
        _ => Bound::Included(key(source)),
    };
    (bound(), bound())
}

/// Mostly a narrow one, or there would soon be nothing left.
pub(super) fn removed_range(source: &mut Source<'_>) -> Range {
    if source.one_in(6) {
        return range(source);
    }
    let first = source.below(150);
    let last = first + source.below(12);
    let name = |number: usize| format!("k{number:03}").into_bytes();
    let end = if source.one_in(2) { Bound::Included(name(last)) } else { Bound::Excluded(name(last)) };
    (if source.one_in(3) { Bound::Excluded(name(first)) } else { Bound::Included(name(first)) }, end)
}

pub(super) fn moves(source: &mut Source<'_>) -> Vec<bool> {
    let count = source.below(20);
    let style = source.below(3);
    (0..count).map(|_| if style == 2 { source.below(2) == 1 } else { style == 1 }).collect()
}

pub(super) fn cursor_move(source: &mut Source<'_>) -> (Move, Vec<u8>) {
    use Move::{First, Last, Next, Prev, Seek, SeekBack};
    let to =
        source.pick(&[First, Last, Seek, Seek, SeekBack, SeekBack, Next, Next, Next, Next, Prev, Prev, Prev, Prev]);
    let key = if matches!(to, Seek | SeekBack) { key(source) } else { Vec::new() };
    (to, key)
}
