//! Entries with types.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use crate::codec::ValueCodec;
use crate::error::Result;
use crate::iter::Entry;
use crate::key::{self, Decode};

/// The entries of a range of a [`Typed`](crate::Typed), in the order of their keys, from both ends. One that is of other types
/// is an error, and the next one follows; after other errors it ends.
pub struct TypedIter<K, V, I> {
    entries: I,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V, I: fmt::Debug> fmt::Debug for TypedIter<K, V, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypedIter({:?})", self.entries)
    }
}

impl<K, V, I> TypedIter<K, V, I> {
    pub(super) fn new(entries: I) -> Self {
        Self { entries, types: PhantomData }
    }
}

fn decoded<K: Decode, V: ValueCodec>(entry: Entry) -> Result<(K, V::Out)> {
    let key = key::decode(entry.key())?;
    let value = V::from_bytes(entry.into_value()).map_err(|e| e.of("decode"))?;
    Ok((key, value))
}

impl<K: Decode, V: ValueCodec, I: Iterator<Item = Result<Entry>>> Iterator for TypedIter<K, V, I> {
    type Item = Result<(K, V::Out)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next().map(|entry| entry.and_then(decoded::<K, V>))
    }
}

impl<K: Decode, V: ValueCodec, I: DoubleEndedIterator<Item = Result<Entry>>> DoubleEndedIterator
    for TypedIter<K, V, I>
{
    fn next_back(&mut self) -> Option<Self::Item> {
        self.entries.next_back().map(|entry| entry.and_then(decoded::<K, V>))
    }
}

impl<K: Decode, V: ValueCodec, I: FusedIterator<Item = Result<Entry>>> FusedIterator for TypedIter<K, V, I> {}
