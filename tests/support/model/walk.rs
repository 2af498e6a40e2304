//! Iterators and cursors, each beside what it has to show.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use maplsm::{Cursor, Error, Iter};

use super::Map;
use super::operation::{Bytes, Move};

/// Every value must begin at a multiple of this, wherever it is read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aligned(pub(super) usize);

impl Aligned {
    pub(super) fn check(self, value: &[u8]) {
        let at = value.as_ptr().addr();
        assert!(value.is_empty() || at.is_multiple_of(self.0), "a value at {at:#x} is not aligned to {}", self.0);
    }
}

/// An iterator and what it still has to show.
pub(super) struct Walk {
    pub(super) iter: Iter,
    pub(super) aligned: Aligned,
    /// Its database has been closed: it ends where a table that it needs has been let go and is gone.
    pub(super) outlives: bool,
    pub(super) left: VecDeque<(Vec<u8>, Vec<u8>)>,
}

impl Walk {
    pub(super) fn new(iter: Iter, aligned: Aligned, over: &Map, range: &impl RangeBounds<Vec<u8>>) -> Self {
        let within = over.iter().filter(|(key, _)| range.contains(*key));
        Self { iter, aligned, outlives: false, left: within.map(|(key, value)| (key.clone(), value.clone())).collect() }
    }

    pub(super) fn step(&mut self, back: bool) {
        let (found, expected) = if back {
            (self.iter.next_back(), self.left.pop_back())
        } else {
            (self.iter.next(), self.left.pop_front())
        };
        if self.outlives && matches!(found, Some(Err(Error::Closed))) {
            self.left.clear();
            return;
        }
        let found = found.map(|entry| {
            let entry = entry.expect("an iterator goes on");
            self.aligned.check(entry.value());
            (Bytes(entry.key().to_vec()), Bytes(entry.value().to_vec()))
        });
        let expected = expected.map(|(key, value)| (Bytes(key), Bytes(value)));
        assert!(found == expected, "an iterator shows {found:?} and not {expected:?} (back: {back})");
    }

    /// Takes these steps and then all that are left.
    pub(super) fn run(mut self, moves: &[bool]) {
        for back in moves {
            self.step(*back);
        }
        let back = moves.first().is_some_and(|first| *first);
        for _ in 0..=self.left.len() {
            self.step(back);
        }
    }
}

/// A cursor and where it must be.
pub(super) struct Position {
    pub(super) cursor: Cursor,
    pub(super) aligned: Aligned,
    /// See [`Walk::outlives`].
    pub(super) outlives: bool,
    pub(super) over: Map,
    pub(super) at: Option<Vec<u8>>,
}

impl Position {
    /// Moves it; returns whether it may be moved again.
    pub(super) fn step(&mut self, to: Move, key: &[u8]) -> bool {
        let after = |bound: Bound<&[u8]>| self.over.range::<[u8], _>((bound, Bound::Unbounded)).next();
        let before = |bound: Bound<&[u8]>| self.over.range::<[u8], _>((Bound::Unbounded, bound)).next_back();
        let (moved, expected) = match (to, &self.at) {
            (Move::First, _) => (self.cursor.seek_first(), self.over.first_key_value()),
            (Move::Last, _) => (self.cursor.seek_last(), self.over.last_key_value()),
            (Move::Seek, _) => (self.cursor.seek(key), after(Bound::Included(key))),
            (Move::SeekBack, _) => (self.cursor.seek_back(key), before(Bound::Included(key))),
            (Move::Next, Some(at)) => (self.cursor.next(), after(Bound::Excluded(at))),
            (Move::Prev, Some(at)) => (self.cursor.prev(), before(Bound::Excluded(at))),
            (Move::Next, None) => (self.cursor.next(), None),
            (Move::Prev, None) => (self.cursor.prev(), None),
        };
        if self.outlives && matches!(moved, Err(Error::Closed)) {
            return false;
        }
        let moved = moved.expect("a cursor moves");
        assert_eq!(
            (moved, self.cursor.is_valid()),
            (expected.is_some(), expected.is_some()),
            "{to:?} from {:?}",
            self.at
        );
        let short = |bytes: &[u8]| Bytes(bytes.to_vec());
        let (key, value) = expected.map_or((&[][..], &[][..]), |(key, value)| (key, value));
        self.aligned.check(self.cursor.value());
        assert_eq!(short(self.cursor.key()), short(key), "{to:?} from {:?}", self.at);
        assert_eq!(short(self.cursor.value()), short(value), "{to:?} from {:?}", self.at);
        let entry = self.cursor.entry().map(|entry| (entry.key().to_vec(), entry.value().to_vec()));
        assert!(entry == expected.map(|(key, value)| (key.clone(), value.clone())), "{to:?} from {:?}", self.at);
        self.at = expected.map(|(key, _)| key.clone());
        true
    }
}
