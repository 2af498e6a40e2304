//! One entry as one JSON object. JSON has text and no bytes, so bytes that are not UTF-8 stand as hexadecimal digits, in a field
//! whose name says so.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::escape::Hex;
use crate::tsv::Entry;

/// Why a line is not an entry.
#[derive(Debug)]
pub(crate) enum NoEntry {
    Syntax(serde_json::Error),
    NoObject,
    Field(&'static str),
}

impl fmt::Display for NoEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "no JSON: {error}"),
            Self::NoObject => f.write_str("no JSON object"),
            Self::Field(name) => write!(f, "the object needs a string `{name}`, or `{name}_hex` of pairs of digits"),
        }
    }
}

/// Key and value of an object.
pub(crate) fn parse(line: &[u8]) -> Result<Entry<'static>, NoEntry> {
    let Value::Object(mut object) = serde_json::from_slice(line).map_err(NoEntry::Syntax)? else {
        return Err(NoEntry::NoObject);
    };
    Ok((bytes(&mut object, "key", "key_hex")?, bytes(&mut object, "value", "value_hex")?))
}

fn bytes(object: &mut Map<String, Value>, name: &'static str, hex: &str) -> Result<Cow<'static, [u8]>, NoEntry> {
    let bytes = match (object.remove(name), object.remove(hex)) {
        (Some(Value::String(text)), None) => Some(text.into_bytes()),
        (None, Some(Value::String(digits))) => unhex(&digits),
        _ => None,
    };
    bytes.map(Cow::Owned).ok_or(NoEntry::Field(name))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Writes the line of an entry, newline included; without a value, that of a key.
pub(crate) fn write(out: &mut (impl Write + ?Sized), key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
    out.write_all(b"{")?;
    write_field(out, "key", key)?;
    if let Some(value) = value {
        out.write_all(b",")?;
        write_field(out, "value", value)?;
    }
    out.write_all(b"}\n")
}

fn write_field(out: &mut (impl Write + ?Sized), name: &str, bytes: &[u8]) -> io::Result<()> {
    match str::from_utf8(bytes) {
        Ok(text) => {
            write!(out, "\"{name}\":")?;
            serde_json::to_writer(out, text).map_err(io::Error::from)
        }
        Err(_) => write!(out, "\"{name}_hex\":\"{}\"", Hex(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::tests::Chance;

    #[test]
    fn arbitrary_entries_read_back() {
        let mut chance = Chance::new(0x150);
        for _ in 0..20_000 {
            let (key, value) = (chance.bytes(20), chance.bytes(40));
            let mut line = Vec::new();
            write(&mut line, &key, Some(&value)).unwrap();
            assert_eq!(line.split(|&byte| byte == b'\n').count(), 2);
            assert_eq!(parse(&line).unwrap(), (key.into(), value.into()));
        }
    }

    #[test]
    fn text_is_text_and_other_bytes_are_digits() {
        let line = |key: &[u8], value| {
            let mut line = Vec::new();
            write(&mut line, key, value).unwrap();
            String::from_utf8(line).unwrap()
        };
        assert_eq!(line("ü\"\n".as_bytes(), Some(b"\xff\x00")), "{\"key\":\"ü\\\"\\n\",\"value_hex\":\"ff00\"}\n");
        assert_eq!(line(b"k", None), "{\"key\":\"k\"}\n");
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for line in [
            "",
            "[]",
            "{}",
            r#"{"key":"a"}"#,
            r#"{"key":1,"value":"b"}"#,
            r#"{"key":"a","key_hex":"61","value":"b"}"#,
            r#"{"key_hex":"6","value":"b"}"#,
            r#"{"key_hex":"6g","value":"b"}"#,
            r#"{"key":"a","value":"b"} x"#,
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert_eq!(parse(b"{\"value\":\"b\",\"key_hex\":\"0a\",\"more\":1}\r").unwrap(), (b"\n".into(), b"b".into()));
    }
}
