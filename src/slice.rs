//! Values that keep their mapping alive.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::error::{Error, Result};
use crate::sys::Pinned;

/// Bytes read from the store, without a copy: a view into the mapped file, which it keeps mapped.
///
/// A `Slice` is valid for as long as it lives, whatever happens to the store: through flushes, compactions, the removal of
/// the file and the drop of the [`Db`](crate::Db). It holds on to the address space and, once the file is removed, to the
/// disk space of the whole file, so keep a copy (`to_vec`) of what should live long. A clone costs one reference count.
#[derive(Clone)]
pub struct Slice(pub(crate) Pinned);

impl Slice {
    /// The bytes as a value of type `T`, in place. They must have exactly the size of `T` and a multiple of its alignment as
    /// address, or the answer is [`Error::WrongLayout`]. O(1), no copy.
    ///
    /// Types of alignment 1, like those made of [`zerocopy::little_endian`] integers, fit anywhere. For others, up to an
    /// alignment of 16, create the keyspace with
    /// [`KeyspaceOptions::value_alignment`](crate::KeyspaceOptions::value_alignment). The bytes are those of the machine
    /// that wrote them: little-endian types read the same on all. The derives need `zerocopy` as a dependency of the crate that
    /// they are in, or the attribute that says where else it is.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// use maplsm::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};
    ///
    /// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// #[zerocopy(crate = "maplsm::zerocopy")]
    /// #[repr(C)]
    /// struct Point {
    ///     x: U32,
    ///     y: U32,
    /// }
    ///
    /// db.insert("corner", Point { x: 640.into(), y: 480.into() }.as_bytes())?;
    /// let corner = db.get("corner")?.expect("inserted above");
    /// assert_eq!(corner.get_as::<Point>()?.x, 640);
    /// assert!(corner.get_as::<[U32; 3]>().is_err());
    /// # db.close()
    /// # }
    /// ```
    pub fn get_as<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&T> {
        view_as(self)
    }

    /// The bytes as a list of values of type `T`, in place: like [`get_as`](Self::get_as), for any multiple of the size.
    ///
    /// # Panics
    /// If `T` has no size.
    pub fn get_as_slice<T: FromBytes + Immutable>(&self) -> Result<&[T]> {
        view_as_slice(self)
    }
}

/// Bytes as a `T`, in place.
pub(crate) fn view_as<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<&T> {
    T::ref_from_bytes(bytes).map_err(|_| wrong_layout::<T>(bytes))
}

/// Bytes as a list of `T`, in place.
pub(crate) fn view_as_slice<T: FromBytes + Immutable>(bytes: &[u8]) -> Result<&[T]> {
    <[T]>::ref_from_bytes(bytes).map_err(|_| wrong_layout::<T>(bytes))
}

/// Zeros at the end of an address that an error tells.
const ALIGNMENT_TOLD: u32 = 12;

#[cold]
fn wrong_layout<T>(bytes: &[u8]) -> Error {
    let zeros = bytes.as_ptr().addr().trailing_zeros().min(ALIGNMENT_TOLD);
    Error::WrongLayout {
        of: std::any::type_name::<T>(),
        size: size_of::<T>(),
        alignment: align_of::<T>(),
        bytes: bytes.len(),
        aligned_to: 1 << zeros,
    }
}

impl Deref for Slice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Equality, order and hash are those of the bytes.
impl Borrow<[u8]> for Slice {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Slice {}

impl PartialOrd for Slice {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slice {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Slice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialEq<[u8]> for Slice {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq<&[u8]> for Slice {
    fn eq(&self, other: &&[u8]) -> bool {
        **self == **other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Slice {
    fn eq(&self, other: &[u8; N]) -> bool {
        **self == other[..]
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Slice {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == other[..]
    }
}

impl PartialEq<Vec<u8>> for Slice {
    fn eq(&self, other: &Vec<u8>) -> bool {
        **self == other[..]
    }
}

impl PartialEq<str> for Slice {
    fn eq(&self, other: &str) -> bool {
        **self == *other.as_bytes()
    }
}

impl PartialEq<&str> for Slice {
    fn eq(&self, other: &&str) -> bool {
        **self == *other.as_bytes()
    }
}

impl From<Slice> for Vec<u8> {
    fn from(slice: Slice) -> Self {
        slice.to_vec()
    }
}

impl From<Slice> for Arc<[u8]> {
    fn from(slice: Slice) -> Self {
        (*slice).into()
    }
}

impl From<Slice> for Box<[u8]> {
    fn from(slice: Slice) -> Self {
        (*slice).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Mapping;

    #[test]
    fn views_need_the_size_and_the_alignment_of_their_type() {
        let mapping = Mapping::heap((0..64).collect());
        let slice = |start: usize, length: usize| Slice(mapping.pin(start..start + length));
        assert_eq!(slice(16, 8).get_as::<u64>().unwrap().to_le_bytes(), [16, 17, 18, 19, 20, 21, 22, 23]);
        assert_eq!(slice(4, 8).get_as_slice::<u32>().unwrap().len(), 2);
        assert!(slice(4, 0).get_as_slice::<u32>().unwrap().is_empty());
        assert_eq!(slice(5, 3).get_as::<[u8; 3]>().unwrap(), &[5, 6, 7]);
        let refused = slice(12, 8).get_as::<u64>().unwrap_err();
        let text =
            "a value of 8 bytes at a multiple of 4 cannot be read as u64, which takes 8 bytes at a multiple of 8";
        let option = "; values of a keyspace with `KeyspaceOptions::value_alignment(8)` are";
        assert_eq!(refused.to_string(), [text, option].concat());
        assert!(slice(16, 9).get_as::<u64>().unwrap_err().to_string().ends_with("at a multiple of 8"));
        assert!(slice(1, 4).get_as::<u32>().unwrap_err().to_string().ends_with(option));
        for (start, length) in [(16, 7), (16, 9), (17, 8)] {
            assert!(matches!(slice(start, length).get_as::<u64>(), Err(Error::WrongLayout { size: 8, .. })));
        }
        assert!(slice(4, 6).get_as_slice::<u32>().is_err() && slice(6, 4).get_as_slice::<u32>().is_err());
    }
}
