//! FORMAT.md, section 1.1.
//!
//! The one place that takes ranges out of file bytes: nothing here can panic.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::error::Damage;

/// A part of a file: `bytes` stand at `start` of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) start: u64,
}

impl<'a> Part<'a> {
    pub(crate) fn whole(file: &'a [u8]) -> Self {
        Self { bytes: file, start: 0 }
    }

    /// `length` bytes from `offset` of the file.
    pub(crate) fn slice(self, offset: u64, length: u64) -> Result<&'a [u8], Damage> {
        slice(self.bytes, offset.checked_sub(self.start).ok_or(Damage::OutOfBounds)?, length)
    }

    /// A copy of the structure at `offset` of the file.
    pub(crate) fn read<T: FromBytes>(self, offset: u64) -> Result<T, Damage> {
        read(self.bytes, offset.checked_sub(self.start).ok_or(Damage::OutOfBounds)?)
    }
}

/// `length` bytes from `start`.
#[inline]
pub(crate) fn slice(bytes: &[u8], start: u64, length: u64) -> Result<&[u8], Damage> {
    let start = usize::try_from(start).map_err(|_| Damage::OutOfBounds)?;
    let length = usize::try_from(length).map_err(|_| Damage::OutOfBounds)?;
    let end = start.checked_add(length).ok_or(Damage::OutOfBounds)?;
    bytes.get(start..end).ok_or(Damage::OutOfBounds)
}

/// A copy of the structure at `start`. Headers are copied out once and then checked, so that no field is fetched twice
/// from memory that another process could change.
#[inline]
pub(crate) fn read<T: FromBytes>(bytes: &[u8], start: u64) -> Result<T, Damage> {
    let start = usize::try_from(start).map_err(|_| Damage::OutOfBounds)?;
    let rest = bytes.get(start..).ok_or(Damage::OutOfBounds)?;
    T::read_from_prefix(rest).map(|(value, _)| value).map_err(|_| Damage::OutOfBounds)
}

/// `count` structures in place from `start`.
#[inline]
pub(crate) fn array<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    bytes: &[u8],
    start: u64,
    count: u64,
) -> Result<&[T], Damage> {
    let width = u64::try_from(size_of::<T>()).map_err(|_| Damage::OutOfBounds)?;
    let length = count.checked_mul(width).ok_or(Damage::OutOfBounds)?;
    <[T]>::ref_from_bytes(slice(bytes, start, length)?).map_err(|_| Damage::OutOfBounds)
}

/// Puts bytes at `start`, where there is room for them; else nowhere.
pub(crate) fn write(file: &mut [u8], start: u64, bytes: &[u8]) {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    if let Some(room) = file.get_mut(start..start.saturating_add(bytes.len())) {
        room.copy_from_slice(bytes);
    }
}

/// Whether every byte is zero: reserved fields and padding.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_outside_are_errors() {
        let bytes = [1, 2, 3];
        assert_eq!(slice(&bytes, 1, 2), Ok(&bytes[1..]));
        assert_eq!(slice(&bytes, 3, 0), Ok(&bytes[3..]));
        assert_eq!(slice(&bytes, 2, 2), Err(Damage::OutOfBounds));
        assert_eq!(slice(&bytes, u64::MAX, 1), Err(Damage::OutOfBounds));
        assert_eq!(slice(&bytes, 1, u64::MAX), Err(Damage::OutOfBounds));
        assert_eq!(read::<[u8; 2]>(&bytes, 1), Ok([2, 3]));
        assert_eq!(read::<[u8; 2]>(&bytes, 2), Err(Damage::OutOfBounds));
        assert_eq!(array::<[u8; 2]>(&bytes, 0, u64::MAX), Err(Damage::OutOfBounds));
    }
}
