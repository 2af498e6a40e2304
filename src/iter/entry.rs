//! A key and its value.

use std::fmt;
use std::io;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::error::Result;
use crate::format::alignment::Alignment;
use crate::merge::PinnedEntry;
use crate::slice::{Slice, view_as, view_as_slice};
use crate::sys::BlockBuffer;

/// A key and its value, read in place; keeps the file that they are in mapped, like [`Slice`].
///
/// The entries of an iterator cost it one reference count for many of them, and one each when they are dropped.
#[derive(Clone)]
pub struct Entry(pub(super) PinnedEntry);

impl Entry {
    /// An entry that is in no file yet. An error if there is no memory for it.
    pub(crate) fn new(key: &[u8], value: &[u8], alignment: Alignment) -> io::Result<Self> {
        let value_start = usize::try_from(alignment.value_start(key.len() as u64)).unwrap_or(usize::MAX);
        let length = value_start + value.len();
        let mut bytes = BlockBuffer::new(length)?;
        let (to_key, to_value) = bytes.bytes_mut().split_at_mut(value_start);
        to_key[..key.len()].copy_from_slice(key);
        to_key[key.len()..].fill(0);
        to_value.copy_from_slice(value);
        let bytes = bytes.into_block().pin(0..length);
        Ok(Self(PinnedEntry { bytes, key_end: key.len(), value_start, value: None }))
    }

    pub(crate) fn of_pinned(pinned: PinnedEntry) -> Self {
        Self(pinned)
    }

    /// The value, kept alive on its own.
    pub(crate) fn value_slice(&self) -> Slice {
        Slice(self.0.value.clone().unwrap_or_else(|| self.0.bytes.part(self.value_range())))
    }

    /// Where the value is, unless it stands apart.
    fn value_range(&self) -> std::ops::Range<usize> {
        self.0.value_start..self.0.bytes.len()
    }

    /// The key alone, without a copy.
    pub fn into_key(self) -> Slice {
        Slice(self.0.bytes.into_part(0..self.0.key_end))
    }

    /// The value alone, without a copy: what [`Db::get`](crate::Db::get) returns.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.insert("key", "value")?;
    /// let first = db.first()?.expect("inserted above");
    /// assert_eq!(first.clone().into_value(), "value");
    /// let (key, value) = first.into_parts();
    /// assert!(key == "key" && value == "value");
    /// # db.close()
    /// # }
    /// ```
    pub fn into_value(self) -> Slice {
        let range = self.value_range();
        Slice(self.0.value.unwrap_or_else(|| self.0.bytes.into_part(range)))
    }

    /// Key and value, without a copy. Costs a reference count more than one of them does.
    pub fn into_parts(self) -> (Slice, Slice) {
        let key = Slice(self.0.bytes.part(0..self.0.key_end));
        (key, self.into_value())
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.0.bytes.get(..self.0.key_end).unwrap_or_default()
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match &self.0.value {
            Some(value) => value,
            None => self.0.bytes.get(self.0.value_start..).unwrap_or_default(),
        }
    }

    /// The value as a `T`, in place; see [`Slice::get_as`].
    pub fn value_as<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&T> {
        view_as(self.value())
    }

    /// The value as a list of `T`, in place; see [`Slice::get_as_slice`].
    ///
    /// # Panics
    /// If `T` has no size.
    pub fn value_as_slice<T: FromBytes + Immutable>(&self) -> Result<&[T]> {
        view_as_slice(self.value())
    }
}

/// Key and value, without a copy.
impl From<Entry> for (Slice, Slice) {
    fn from(entry: Entry) -> Self {
        entry.into_parts()
    }
}

/// Copies of key and value, for what is to live long.
impl From<Entry> for (Vec<u8>, Vec<u8>) {
    fn from(entry: Entry) -> Self {
        (entry.key().to_vec(), entry.value().to_vec())
    }
}

/// Copies of key and value that can be shared.
impl From<Entry> for (Arc<[u8]>, Arc<[u8]>) {
    fn from(entry: Entry) -> Self {
        (entry.key().into(), entry.value().into())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\" => b\"{}\"", self.key().escape_ascii(), self.value().escape_ascii())
    }
}
