//! Types whose bytes in memory are what is stored.

use std::fmt;
use std::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{CodecError, ValueCodec};
use crate::slice::Slice;

/// Values of a type of [`zerocopy`], kept as they stand in memory: their size is that of the type, and reading copies them.
/// Who wants to read in place, with the alignment that takes, gets a [`Slice`] and calls [`get_as`](Slice::get_as).
///
/// Types made of [`zerocopy::little_endian`] numbers are the same on all machines.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// use maplsm::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};
/// use maplsm::{Layout, Typed};
///
/// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[zerocopy(crate = "maplsm::zerocopy")]
/// #[repr(C)]
/// struct Point {
///     x: U32,
///     y: U32,
/// }
///
/// let corners: Typed<String, Layout<Point>> = Typed::new(db.keyspace("corners")?);
/// corners.insert("upper left", &Point { x: 0.into(), y: 480.into() })?;
/// assert_eq!(corners.get("upper left")?.unwrap().y, 480);
/// # db.close()
/// # }
/// ```
pub struct Layout<T>(PhantomData<fn() -> T>);

impl<T> fmt::Debug for Layout<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layout<{}>", std::any::type_name::<T>())
    }
}

impl<T: FromBytes + IntoBytes + Immutable> ValueCodec for Layout<T> {
    type Item = T;
    type Out = T;

    fn to_bytes(value: &T) -> Result<impl AsRef<[u8]>, CodecError> {
        Ok(value.as_bytes())
    }

    fn from_bytes(bytes: Slice) -> Result<T, CodecError> {
        T::read_from_bytes(&bytes).map_err(|_| {
            let (of, size) = (std::any::type_name::<T>(), size_of::<T>());
            CodecError::new(format_args!("it has {} bytes, and {of} takes {size}", bytes.len()))
        })
    }
}
