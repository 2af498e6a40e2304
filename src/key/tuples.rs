//! Tuples: their parts one behind the other.

use super::{Decode, DecodeError, Encode, EncodeAs, KeyInput, PrefixOf};

impl Encode for () {
    fn encode(&self, _: &mut Vec<u8>) {}
}

impl EncodeAs<Self> for () {}

impl PrefixOf<Self> for () {}

impl Decode for () {
    fn decode(_: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

/// A tuple of parts `T`, which encodes as one of parts `K` does.
macro_rules! tuple {
    ($($T:ident $K:ident $at:tt),+) => {
        impl<$($T: Encode),+> Encode for ($($T,)+) {
            fn encode(&self, to: &mut Vec<u8>) {
                $(self.$at.encode(to);)+
            }
        }

        impl<$($K, $T: EncodeAs<$K>),+> EncodeAs<($($K,)+)> for ($($T,)+) {}

        impl<$($K, $T: EncodeAs<$K>),+> PrefixOf<($($K,)+)> for ($($T,)+) {}

        impl<$($T: Decode),+> Decode for ($($T,)+) {
            fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
                Ok(($($T::decode(from)?,)+))
            }
        }

        beginnings!([] [$($T $K),+]);
    };
}

/// The beginnings of a tuple: of the parts on the left, of which there are more and more.
macro_rules! beginnings {
    ([$($T:ident $K:ident),*] []) => {};
    ([$($T:ident $K:ident),*] [$NextT:ident $Next:ident $(, $LastT:ident $Last:ident)*]) => {
        impl<$($T: EncodeAs<$K>, $K,)* $Next $(, $Last)*> PrefixOf<($($K,)* $Next, $($Last,)*)> for ($($T,)*) {}

        beginnings!([$($T $K,)* $NextT $Next] [$($LastT $Last),*]);
    };
}

tuple!(T0 K0 0);
tuple!(T0 K0 0, T1 K1 1);
tuple!(T0 K0 0, T1 K1 1, T2 K2 2);
tuple!(T0 K0 0, T1 K1 1, T2 K2 2, T3 K3 3);
tuple!(T0 K0 0, T1 K1 1, T2 K2 2, T3 K3 3, T4 K4 4);
tuple!(T0 K0 0, T1 K1 1, T2 K2 2, T3 K3 3, T4 K4 4, T5 K5 5);
tuple!(T0 K0 0, T1 K1 1, T2 K2 2, T3 K3 3, T4 K4 4, T5 K5 5, T6 K6 6);
tuple!(T0 K0 0, T1 K1 1, T2 K2 2, T3 K3 3, T4 K4 4, T5 K5 5, T6 K6 6, T7 K7 7);
