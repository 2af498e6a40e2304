//! Iterators over the keys alone, and over the values alone.

use std::iter::FusedIterator;

use super::{Entry, Iter};
use crate::error::Result;
use crate::slice::Slice;

/// The keys of a range in order, from both ends: an iterator over entries that returns their keys, without a copy.
#[derive(Debug)]
pub struct KeyIter<I = Iter>(I);

/// The values of a range in the order of their keys, from both ends: an iterator over entries that returns their values,
/// without a copy.
#[derive(Debug)]
pub struct ValueIter<I = Iter>(I);

impl<I> KeyIter<I> {
    pub(crate) fn new(entries: I) -> Self {
        Self(entries)
    }
}

impl<I> ValueIter<I> {
    pub(crate) fn new(entries: I) -> Self {
        Self(entries)
    }
}

impl KeyIter {
    /// See [`Iter::seek`].
    pub fn seek(&mut self, key: impl AsRef<[u8]>) {
        self.0.seek(key);
    }
}

impl ValueIter {
    /// See [`Iter::seek`].
    pub fn seek(&mut self, key: impl AsRef<[u8]>) {
        self.0.seek(key);
    }
}

impl<I: Iterator<Item = Result<Entry>>> Iterator for KeyIter<I> {
    type Item = Result<Slice>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| entry.map(Entry::into_key))
    }
}

impl<I: DoubleEndedIterator<Item = Result<Entry>>> DoubleEndedIterator for KeyIter<I> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|entry| entry.map(Entry::into_key))
    }
}

impl<I: FusedIterator<Item = Result<Entry>>> FusedIterator for KeyIter<I> {}

impl<I: Iterator<Item = Result<Entry>>> Iterator for ValueIter<I> {
    type Item = Result<Slice>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| entry.map(Entry::into_value))
    }
}

impl<I: DoubleEndedIterator<Item = Result<Entry>>> DoubleEndedIterator for ValueIter<I> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|entry| entry.map(Entry::into_value))
    }
}

impl<I: FusedIterator<Item = Result<Entry>>> FusedIterator for ValueIter<I> {}
