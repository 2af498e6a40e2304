//! Who looks on while a key is looked up in a table.

use crate::format::entry::Entry;

/// Is told what a lookup looks at. A lookup is compiled for each kind of witness, so that [`Nobody`] costs nothing.
pub(crate) trait Witness {
    /// The point index or the filter is asked; the line that is looked at first stands at the offset that `at` tells.
    #[inline]
    fn line(&mut self, _at: impl FnOnce() -> Option<u64>) {}

    /// An entry has been looked at, at a place of its section, because the index or the filter did not rule it out; whether it
    /// is one of the key.
    #[inline]
    fn entry(&mut self, _place: usize, _entry: &Entry, _is_of_key: bool) {}

    /// The same; returns whether it is.
    #[inline]
    fn shown(&mut self, place: usize, entry: &Entry, is_of_key: bool) -> bool {
        self.entry(place, entry, is_of_key);
        is_of_key
    }

    /// The filter did not rule the key out, and there is no entry at it or behind it.
    #[inline]
    fn none_behind(&mut self) {}
}

/// The witness of nearly all lookups.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Witness for Nobody {}
