//! Values of types: how they become bytes, and values again.

mod fixed;
mod plain;
#[cfg(feature = "serde")]
mod serialized;

use std::fmt;

use crate::error::Error;
use crate::slice::Slice;

pub use fixed::Layout;
#[cfg(feature = "serde")]
pub use serialized::Postcard;

/// What the values of a [`Typed`](crate::Typed) are, and how they stand in the store.
///
/// | codec | a value is written from | and read as | its bytes |
/// |---|---|---|---|
/// | `String` | `&str` | `String` | UTF-8 |
/// | `Vec<u8>`, [`Slice`] | `&[u8]` | `Vec<u8>`; `Slice`, without a copy | as they are |
/// | `u8` to `u128`, `i8` to `i128`, `f32`, `f64` | `&u64` | `u64` | little-endian, as [`Counter`](crate::operators::Counter) wants them |
/// | `bool` | `&bool` | `bool` | `00` or `01` |
/// | `()` | `&()` | `()` | none: for sets of keys |
/// | [`Layout<T>`] | `&T` | `T` | those of a `#[repr(C)]` type of [`zerocopy`], as in memory |
/// | `Postcard<T>`, with the feature `serde` | `&T` | `T` | those of [postcard](https://postcard.jamesmunns.com/wire-format) |
///
/// One's own is a type that says so. It may be the type of the values, or stand for them:
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// use maplsm::{CodecError, Slice, Typed, ValueCodec};
///
/// /// Values in JSON.
/// struct Json;
///
/// impl ValueCodec for Json {
///     type Item = serde_json::Value;
///     type Out = serde_json::Value;
///
///     fn to_bytes(value: &serde_json::Value) -> Result<impl AsRef<[u8]>, CodecError> {
///         serde_json::to_vec(value).map_err(CodecError::new)
///     }
///
///     fn from_bytes(bytes: Slice) -> Result<serde_json::Value, CodecError> {
///         serde_json::from_slice(&bytes).map_err(CodecError::new)
///     }
/// }
///
/// let users: Typed<u64, Json> = Typed::new(db.keyspace("users")?);
/// users.insert(7u64, &serde_json::json!({ "name": "ada" }))?;
/// assert_eq!(users.get(7u64)?.unwrap()["name"], "ada");
/// # db.close()
/// # }
/// ```
pub trait ValueCodec {
    /// What is written, by reference: `str` for strings.
    type Item: ?Sized;

    /// What is read.
    type Out;

    /// The bytes of a value.
    ///
    /// # Errors
    /// The write is refused with [`Error::Codec`].
    fn to_bytes(value: &Self::Item) -> Result<impl AsRef<[u8]>, CodecError>;

    /// The value of these bytes, which may be any.
    ///
    /// # Errors
    /// The read returns [`Error::Codec`].
    fn from_bytes(bytes: Slice) -> Result<Self::Out, CodecError>;
}

/// Why a [`ValueCodec`] makes no bytes of a value, or no value of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError(String);

impl CodecError {
    /// An error that says this.
    pub fn new(problem: impl fmt::Display) -> Self {
        Self(problem.to_string())
    }

    /// As that of a call.
    pub(crate) fn of(self, call: &'static str) -> Error {
        Error::Codec { call, what: "value", problem: self.0.into() }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}
