//! Strings and byte strings: escaped, and ended by a byte that is smaller than all others.

use super::{Decode, DecodeError, Encode, EncodeAs, KeyInput};

const END: u8 = 0;

/// In front of an `END` and an `ESCAPE` of the string, which become the byte after themselves.
const ESCAPE: u8 = 1;

impl Encode for [u8] {
    fn encode(&self, to: &mut Vec<u8>) {
        to.reserve(self.len() + 1);
        for byte in self {
            match *byte {
                END | ESCAPE => to.extend_from_slice(&[ESCAPE, byte + 1]),
                byte => to.push(byte),
            }
        }
        to.push(END);
    }
}

impl Encode for Vec<u8> {
    fn encode(&self, to: &mut Vec<u8>) {
        self.as_slice().encode(to);
    }
}

impl EncodeAs<Vec<u8>> for [u8] {}

impl EncodeAs<Self> for Vec<u8> {}

impl Decode for Vec<u8> {
    fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
        let mut bytes = Self::new();
        loop {
            let [byte] = from.take()?;
            bytes.push(match byte {
                END => return Ok(bytes),
                ESCAPE => match from.take()? {
                    [1] => END,
                    [2] => ESCAPE,
                    _ => return Err(from.refuse("a byte that is to be escaped")),
                },
                byte => byte,
            });
        }
    }
}

impl Encode for str {
    fn encode(&self, to: &mut Vec<u8>) {
        self.as_bytes().encode(to);
    }
}

impl Encode for String {
    fn encode(&self, to: &mut Vec<u8>) {
        self.as_bytes().encode(to);
    }
}

impl EncodeAs<String> for str {}

impl EncodeAs<Self> for String {}

impl Decode for String {
    fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
        Self::from_utf8(Vec::decode(from)?).map_err(|_| from.refuse("a string in UTF-8"))
    }
}
