//! What is made of one other type: options, arrays, descending order, references.

use std::cmp::Reverse;

use super::{Decode, DecodeError, Encode, EncodeAs, KeyInput, PrefixOf};

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, to: &mut Vec<u8>) {
        (**self).encode(to);
    }
}

impl<K: ?Sized, T: EncodeAs<K> + ?Sized> EncodeAs<K> for &T {}

impl<K: ?Sized, T: PrefixOf<K> + ?Sized> PrefixOf<K> for &T {}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, to: &mut Vec<u8>) {
        to.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(to);
        }
    }
}

impl<K, T: EncodeAs<K>> EncodeAs<Option<K>> for Option<T> {}

impl<T: Decode> Decode for Option<T> {
    fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
        match from.take()? {
            [0] => Ok(None),
            [1] => T::decode(from).map(Some),
            _ => Err(from.refuse("an optional value")),
        }
    }
}

impl<T: Encode, const N: usize> Encode for [T; N] {
    fn encode(&self, to: &mut Vec<u8>) {
        for element in self {
            element.encode(to);
        }
    }
}

impl<K, T: EncodeAs<K>, const N: usize> EncodeAs<[K; N]> for [T; N] {}

impl<T: Decode, const N: usize> Decode for [T; N] {
    fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
        let elements = (0..N).map(|_| T::decode(from)).collect::<Result<Vec<T>, _>>()?;
        Self::try_from(elements).map_err(|_| from.refuse("an array"))
    }
}

impl<T: Encode> Encode for Reverse<T> {
    fn encode(&self, to: &mut Vec<u8>) {
        let start = to.len();
        self.0.encode(to);
        // No encoding is the beginning of another one, so that two of them differ in a byte that both have.
        to.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
    }
}

impl<K, T: EncodeAs<K>> EncodeAs<Reverse<K>> for Reverse<T> {}

impl<T: Decode> Decode for Reverse<T> {
    fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
        from.turn();
        let value = T::decode(from);
        from.turn();
        value.map(Self)
    }
}
