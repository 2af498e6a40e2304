//! Keys made of values, in an order that is that of the values.
//!
//! Keys of the store are byte strings, ordered bytewise. Here numbers, strings, tuples and more become such keys, and values
//! again: `a < b` holds if and only if [`encode`]`(&a) < encode(&b)`. Each encoding ends by itself, so that the parts of a
//! tuple stand one behind the other, a tuple is ordered by its first part, then by its second, and all keys with the same
//! first parts stand together:
//!
//! ```
//! # fn main() -> maplsm::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let db = maplsm::Db::open(dir.path().join("db"))?;
//! use maplsm::key;
//!
//! for (sensor, at, degrees) in [("attic", 9, "21"), ("attic", 10, "22"), ("attic2", 9, "18"), ("attic", -1, "19")] {
//!     db.insert(key::encode(&(sensor, at)), degrees)?;
//! }
//! let attic = db.range(key::prefix(&("attic",)));
//! for (entry, time) in attic.zip([-1, 9, 10]) {
//!     assert_eq!(key::decode::<(String, i32)>(entry?.key())?, ("attic".to_owned(), time));
//! }
//! assert_eq!(db.range(key::range(("attic", 0)..=("attic", 9))).count(), 1);
//! db.remove_range(key::prefix(&("attic",)))?;
//! assert_eq!(db.keys().count(), 1);
//! # db.close()
//! # }
//! ```
//!
//! # The encoding
//! It never changes: keys are kept in databases. Nothing in a key says which type it is of; who decodes it knows.
//!
//! | type | bytes |
//! |---|---|
//! | `u8`, `u16`, `u32`, `u64`, `u128` | big-endian |
//! | `i8`, `i16`, `i32`, `i64`, `i128` | big-endian, the highest bit flipped |
//! | `f32`, `f64` | their bits, big-endian: all of them flipped if the highest one is set, else that one; the order is that of [`f64::total_cmp`] |
//! | `bool` | `00` or `01` |
//! | `char` | its number, as a `u32` |
//! | `str`, `String`, `[u8]`, `Vec<u8>` | their bytes, of which `00` becomes `01 01` and `01` becomes `01 02`; then `00` |
//! | `Option<T>` | `00` for none; or `01`, then the value |
//! | `[T; N]` | the elements one behind the other: of `[u8; N]` its `N` bytes |
//! | `()`, tuples of up to eight | the parts one behind the other |
//! | [`Reverse<T>`](std::cmp::Reverse) | the bytes of the value, all bits flipped: descending |
//!
//! `usize` and `isize` are not of the same size everywhere and have none. For the same reason as strings, a `Vec<u8>` is a byte
//! string and no list of numbers. Other types get an encoding by [`Encode`], [`EncodeAs`] and [`Decode`]:
//!
//! ```
//! use maplsm::key::{self, Decode, DecodeError, Encode, EncodeAs, KeyInput};
//!
//! #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
//! enum Subject {
//!     User(u64),
//!     Group(String),
//! }
//!
//! impl Encode for Subject {
//!     fn encode(&self, to: &mut Vec<u8>) {
//!         match self {
//!             Self::User(number) => (0u8, number).encode(to),
//!             Self::Group(name) => (1u8, name).encode(to),
//!         }
//!     }
//! }
//!
//! impl EncodeAs<Self> for Subject {}
//!
//! impl Decode for Subject {
//!     fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
//!         match u8::decode(from)? {
//!             0 => Ok(Self::User(u64::decode(from)?)),
//!             1 => Ok(Self::Group(String::decode(from)?)),
//!             _ => Err(from.refuse("a subject")),
//!         }
//!     }
//! }
//!
//! let (user, group) = (Subject::User(7), Subject::Group("staff".to_owned()));
//! assert!(key::encode(&user) < key::encode(&group));
//! assert_eq!(key::decode::<Subject>(&key::encode(&group)), Ok(group));
//! ```
//!
//! That the parts of a tuple escape a byte, end by one that is smaller than all others, and so need no lengths, is the idea of
//! the [tuple layer of `FoundationDB`](https://github.com/apple/foundationdb/blob/main/design/tuple.md), whose encoding is
//! another one: there, each part begins with its type.

mod input;
mod numbers;
mod parts;
mod strings;
mod tuples;

use std::ops::{Bound, RangeBounds};

use crate::format::range::behind_prefix;

pub use input::{DecodeError, KeyInput};

/// What can be a key, or a part of one.
///
/// Its encodings are ordered as the values are, and none is the beginning of another one: both matter in tuples and ranges. An
/// implementation that encodes parts by theirs, always in the same order or after a number that says which follow, has both.
pub trait Encode {
    /// Appends the encoding.
    fn encode(&self, to: &mut Vec<u8>);
}

/// What encodes as the equal `K` does: a `&str` as a `String`, a tuple with a `&str` as one with a `String`, each type as
/// itself.
///
/// [`Typed`](crate::Typed) takes keys of all these types. Of a type with an [`Encode`] of its own, it is one line:
/// `impl EncodeAs<Self> for Subject {}`.
pub trait EncodeAs<K: ?Sized>: Encode {}

/// What encodes as the beginning of a `K`: a tuple of the first parts, or of all of them.
pub trait PrefixOf<K: ?Sized>: Encode {}

/// What can be made of its encoding again.
pub trait Decode: Sized {
    /// Takes the value from the front of `from`.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever no value encodes to; never a panic.
    fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError>;
}

/// The key that a value encodes to.
pub fn encode(value: &(impl Encode + ?Sized)) -> Vec<u8> {
    let mut key = Vec::new();
    value.encode(&mut key);
    key
}

/// The value that encodes to this key.
///
/// # Errors
/// [`DecodeError`] if there is none, also if something is left over behind it.
pub fn decode<T: Decode>(key: &[u8]) -> Result<T, DecodeError> {
    let mut from = KeyInput::new(key);
    let value = T::decode(&mut from)?;
    from.end()?;
    Ok(value)
}

/// A range of keys, for calls like [`Db::range`](crate::Db::range) and [`Db::remove_range`](crate::Db::remove_range).
pub type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The keys of all tuples that begin with the parts of this one.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// use maplsm::key;
///
/// db.insert(key::encode(&(7u32, "name")), "ada")?;
/// db.insert(key::encode(&(8u32, "name")), "bob")?;
/// assert_eq!(db.range(key::prefix(&(7u32,))).count(), 1);
/// # db.close()
/// # }
/// ```
pub fn prefix(first: &(impl Encode + ?Sized)) -> Bounds {
    let key = encode(first);
    let end = behind_prefix(&key).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(key), end)
}

/// The keys of a range of values. Where a bound is a tuple of the first parts only, it stands for all tuples that begin with
/// them: an included one includes, an excluded one excludes them.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// use maplsm::key;
///
/// for (year, month) in [(2024u16, 12u8), (2025, 1), (2025, 12), (2026, 1)] {
///     db.insert(key::encode(&(year, month)), "")?;
/// }
/// assert_eq!(db.range(key::range((2024u16,)..=(2025u16,))).count(), 3);
/// assert_eq!(db.range(key::range((2024u16, 12u8)..(2025u16, 2u8))).count(), 2);
/// # db.close()
/// # }
/// ```
pub fn range<T: Encode>(range: impl RangeBounds<T>) -> Bounds {
    let start = match range.start_bound() {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(first) => Bound::Included(encode(first)),
        Bound::Excluded(first) => match behind_prefix(&encode(first)) {
            Some(behind) => Bound::Included(behind),
            // Nothing is behind those.
            None => return (Bound::Included(Vec::new()), Bound::Excluded(Vec::new())),
        },
    };
    let end = match range.end_bound() {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Excluded(last) => Bound::Excluded(encode(last)),
        Bound::Included(last) => behind_prefix(&encode(last)).map_or(Bound::Unbounded, Bound::Excluded),
    };
    (start, end)
}
