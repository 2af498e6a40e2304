//! One entry as one line: key, tab, value.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use crate::escape::{self, BadEscape, Escaped};

/// Longest key that the store takes.
const KEY_BYTES_MAX: usize = 65_535;

/// How bytes stand in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// With escapes: any bytes have a line.
    Escaped,
    /// As they are: keys without tab, keys and values without newline.
    Raw,
}

impl Form {
    pub(crate) fn new(raw: bool) -> Self {
        if raw { Self::Raw } else { Self::Escaped }
    }
}

/// A key and its value, borrowed from their line if they hold no escape.
pub(crate) type Entry<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Why a line is not an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    NoTab,
    Key(BadEscape),
    Value(BadEscape),
    KeyTooLong(usize),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTab => f.write_str("no tab between key and value"),
            Self::Key(error) => write!(f, "key: {error}; --raw takes lines as they are"),
            Self::Value(error) => write!(f, "value: {error}; --raw takes lines as they are"),
            Self::KeyTooLong(bytes) => write!(f, "a key of {bytes} bytes is longer than {KEY_BYTES_MAX}"),
        }
    }
}

/// Key and value of a line without its newline.
pub(crate) fn parse(line: &[u8], form: Form) -> Result<Entry<'_>, Malformed> {
    let tab = line.iter().position(|&byte| byte == b'\t').ok_or(Malformed::NoTab)?;
    let (key, value) = (&line[..tab], &line[tab + 1..]);
    let (key, value) = match form {
        Form::Raw => (Cow::Borrowed(key), Cow::Borrowed(value)),
        Form::Escaped => {
            (escape::unescape(key).map_err(Malformed::Key)?, escape::unescape(value).map_err(Malformed::Value)?)
        }
    };
    check(key, value)
}

/// Refuses keys that no store takes.
pub(crate) fn check<'a>(key: Cow<'a, [u8]>, value: Cow<'a, [u8]>) -> Result<Entry<'a>, Malformed> {
    if key.len() > KEY_BYTES_MAX { Err(Malformed::KeyTooLong(key.len())) } else { Ok((key, value)) }
}

/// Whether the raw line of an entry would read back as the same entry.
pub(crate) fn fits_raw(key: &[u8], value: &[u8]) -> bool {
    !key.iter().any(|byte| matches!(byte, b'\t' | b'\n')) && !value.contains(&b'\n')
}

/// Writes the line of an entry, newline included.
pub(crate) fn write(out: &mut (impl Write + ?Sized), key: &[u8], value: &[u8], form: Form) -> io::Result<()> {
    match form {
        Form::Escaped => writeln!(out, "{}\t{}", Escaped(key), Escaped(value)),
        Form::Raw => {
            out.write_all(key)?;
            out.write_all(b"\t")?;
            out.write_all(value)?;
            out.write_all(b"\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::tests::Chance;

    fn line(key: &[u8], value: &[u8], form: Form) -> Vec<u8> {
        let mut line = Vec::new();
        write(&mut line, key, value, form).unwrap();
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    #[test]
    fn a_line_is_key_tab_value() {
        assert_eq!(line(b"k", b"v w", Form::Escaped), b"k\tv w");
        assert_eq!(line(b"", b"", Form::Escaped), b"\t");
        assert_eq!(parse(b"\t", Form::Escaped).unwrap(), (b"".into(), b"".into()));
        assert_eq!(parse(b"a\tb\tc", Form::Escaped).unwrap(), (b"a".into(), b"b\tc".into()));
        assert_eq!(parse(b"a\\\tb\r", Form::Raw).unwrap(), (b"a\\".into(), b"b\r".into()));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        assert_eq!(parse(b"", Form::Escaped), Err(Malformed::NoTab));
        assert_eq!(parse(b"only a key", Form::Raw), Err(Malformed::NoTab));
        assert!(matches!(parse(b"\\q\tv", Form::Escaped), Err(Malformed::Key(_))));
        assert!(matches!(parse(b"k\t\\", Form::Escaped), Err(Malformed::Value(_))));
        let mut long = vec![b'k'; KEY_BYTES_MAX];
        long.push(b'\t');
        assert!(parse(&long, Form::Raw).is_ok());
        long.insert(0, b'k');
        assert_eq!(parse(&long, Form::Escaped), Err(Malformed::KeyTooLong(65_536)));
    }

    #[test]
    fn arbitrary_entries_read_back() {
        let mut chance = Chance::new(0x7ab5);
        for _ in 0..20_000 {
            let (key, value) = (chance.bytes(20), chance.bytes(60));
            let escaped = line(&key, &value, Form::Escaped);
            assert!(!escaped.contains(&b'\n'));
            assert_eq!(parse(&escaped, Form::Escaped).unwrap(), (key.as_slice().into(), value.as_slice().into()));

            let raw = line(&key, &value, Form::Raw);
            let same = !raw.contains(&b'\n')
                && parse(&raw, Form::Raw).unwrap() == (key.as_slice().into(), value.as_slice().into());
            assert_eq!(same, fits_raw(&key, &value));
        }
    }
}
