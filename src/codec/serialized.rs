//! Types of serde.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CodecError, ValueCodec};
use crate::slice::Slice;

/// Values of a type of serde, in the format of [postcard](https://postcard.jamesmunns.com/wire-format): compact, specified, and
/// without names. So a type may not gain, lose or exchange fields while values of it are stored; an `enum` of its versions, to
/// which new ones are added at the end, may.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// use maplsm::{Postcard, Typed};
///
/// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct User {
///     name: String,
///     roles: Vec<String>,
/// }
///
/// let users: Typed<u64, Postcard<User>> = Typed::new(db.keyspace("users")?);
/// let ada = User { name: "ada".into(), roles: vec!["admin".into()] };
/// users.insert(7u64, &ada)?;
/// assert_eq!(users.get(7u64)?, Some(ada));
/// # db.close()
/// # }
/// ```
pub struct Postcard<T>(PhantomData<fn() -> T>);

impl<T> fmt::Debug for Postcard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postcard<{}>", std::any::type_name::<T>())
    }
}

impl<T: Serialize + DeserializeOwned> ValueCodec for Postcard<T> {
    type Item = T;
    type Out = T;

    fn to_bytes(value: &T) -> Result<impl AsRef<[u8]>, CodecError> {
        postcard::to_stdvec(value).map_err(CodecError::new)
    }

    fn from_bytes(bytes: Slice) -> Result<T, CodecError> {
        let (value, left) = postcard::take_from_bytes(&bytes).map_err(CodecError::new)?;
        if left.is_empty() {
            Ok(value)
        } else {
            Err(CodecError::new(format_args!("{} bytes are left behind it", left.len())))
        }
    }
}
