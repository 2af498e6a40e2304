//! Keys, values and numbers of bytes, as they are typed.

use std::ffi::OsString;

use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::escape;

/// A key or value from the command line, its escapes resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Typed(pub(crate) Vec<u8>);

pub(crate) fn typed() -> impl TypedValueParser<Value = Typed> {
    OsStringValueParser::new().try_map(|argument| {
        let bytes = argument_bytes(argument)?;
        escape::unescape(&bytes).map(|bytes| Typed(bytes.into_owned())).map_err(|error| error.to_string())
    })
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps)] // Elsewhere an argument need not be bytes.
pub(crate) fn argument_bytes(argument: OsString) -> Result<Vec<u8>, String> {
    Ok(std::os::unix::ffi::OsStringExt::into_vec(argument))
}

#[cfg(not(unix))]
pub(crate) fn argument_bytes(argument: OsString) -> Result<Vec<u8>, String> {
    argument.into_string().map(String::into_bytes).map_err(|_| "the argument is not Unicode".to_owned())
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

pub(crate) fn size(text: &str) -> Result<Size, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number = digits.parse::<usize>().map_err(|_| "not a number, perhaps with K, M or G behind".to_owned())?;
    number.checked_mul(1 << shift).map(Size).ok_or_else(|| "too large".to_owned())
}
