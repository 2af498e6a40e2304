//! Strings, byte strings, numbers.

use super::{CodecError, ValueCodec};
use crate::slice::Slice;

impl ValueCodec for String {
    type Item = str;
    type Out = Self;

    fn to_bytes(value: &str) -> Result<impl AsRef<[u8]>, CodecError> {
        Ok(value)
    }

    fn from_bytes(bytes: Slice) -> Result<Self, CodecError> {
        Self::from_utf8(bytes.to_vec()).map_err(CodecError::new)
    }
}

impl ValueCodec for Vec<u8> {
    type Item = [u8];
    type Out = Self;

    fn to_bytes(value: &[u8]) -> Result<impl AsRef<[u8]>, CodecError> {
        Ok(value)
    }

    fn from_bytes(bytes: Slice) -> Result<Self, CodecError> {
        Ok(bytes.to_vec())
    }
}

impl ValueCodec for Slice {
    type Item = [u8];
    type Out = Self;

    fn to_bytes(value: &[u8]) -> Result<impl AsRef<[u8]>, CodecError> {
        Ok(value)
    }

    fn from_bytes(bytes: Slice) -> Result<Self, CodecError> {
        Ok(bytes)
    }
}

/// The bytes, if there are as many.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], CodecError> {
    bytes.try_into().map_err(|_| CodecError::new(format_args!("it has {} bytes, and not {N}", bytes.len())))
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl ValueCodec for $number {
            type Item = Self;
            type Out = Self;

            fn to_bytes(value: &Self) -> Result<impl AsRef<[u8]>, CodecError> {
                Ok(value.to_le_bytes())
            }

            fn from_bytes(bytes: Slice) -> Result<Self, CodecError> {
                exactly(&bytes).map(Self::from_le_bytes)
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64);

impl ValueCodec for bool {
    type Item = Self;
    type Out = Self;

    fn to_bytes(value: &Self) -> Result<impl AsRef<[u8]>, CodecError> {
        Ok([u8::from(*value)])
    }

    fn from_bytes(bytes: Slice) -> Result<Self, CodecError> {
        match exactly(&bytes)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(CodecError::new("it is neither 0 nor 1")),
        }
    }
}

impl ValueCodec for () {
    type Item = Self;
    type Out = Self;

    fn to_bytes((): &Self) -> Result<impl AsRef<[u8]>, CodecError> {
        Ok([])
    }

    fn from_bytes(bytes: Slice) -> Result<Self, CodecError> {
        exactly(&bytes).map(|[]| ())
    }
}
