//! Numbers, and what is kept as one.

use super::{Decode, DecodeError, Encode, EncodeAs, KeyInput};

macro_rules! unsigned {
    ($($number:ty),*) => {$(
        impl Encode for $number {
            fn encode(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_be_bytes());
            }
        }

        impl EncodeAs<Self> for $number {}

        impl Decode for $number {
            fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
                from.take().map(Self::from_be_bytes)
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64, u128);

macro_rules! signed {
    ($($number:ty),*) => {$(
        impl Encode for $number {
            fn encode(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&(self ^ Self::MIN).to_be_bytes());
            }
        }

        impl EncodeAs<Self> for $number {}

        impl Decode for $number {
            fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(from.take()?) ^ Self::MIN)
            }
        }
    )*};
}

signed!(i8, i16, i32, i64, i128);

macro_rules! floating {
    ($($number:ty: $bits:ty),*) => {$(
        impl Encode for $number {
            fn encode(&self, to: &mut Vec<u8>) {
                let bits = self.to_bits();
                // Negative ones descend by the rest of their bits.
                let flipped = if self.is_sign_negative() { !bits } else { bits | 1 << (<$bits>::BITS - 1) };
                flipped.encode(to);
            }
        }

        impl EncodeAs<Self> for $number {}

        impl Decode for $number {
            fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
                let flipped = <$bits>::decode(from)?;
                let sign = 1 << (<$bits>::BITS - 1);
                Ok(Self::from_bits(if flipped & sign == 0 { !flipped } else { flipped ^ sign }))
            }
        }
    )*};
}

floating!(f32: u32, f64: u64);

impl Encode for bool {
    fn encode(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }
}

impl EncodeAs<Self> for bool {}

impl Decode for bool {
    fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
        match from.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(from.refuse("a truth value")),
        }
    }
}

impl Encode for char {
    fn encode(&self, to: &mut Vec<u8>) {
        u32::from(*self).encode(to);
    }
}

impl EncodeAs<Self> for char {}

impl Decode for char {
    fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
        let number = u32::decode(from)?;
        Self::from_u32(number).ok_or_else(|| from.refuse("a character"))
    }
}
