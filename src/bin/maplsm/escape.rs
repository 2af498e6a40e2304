//! Keys and values as text.
//!
//! Shown: printable UTF-8 as it is; the backslash, control characters, characters that a terminal obeys or does not
//! draw, and bytes that are not UTF-8 as `\t \n \r \\ \xHH`, one `\xHH` a byte. Read: the same, and `\&` for nothing at
//! all, which gives the empty key a form that can be typed. What is shown reads back as the same bytes.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Bytes on their way to a screen or a text file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            let text = chunk.valid();
            let mut shown = 0;
            for (at, character) in text.char_indices().filter(|&(_, character)| !is_plain(character)) {
                f.write_str(&text[shown..at])?;
                shown = at + character.len_utf8();
                match character {
                    '\t' => f.write_str("\\t")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\\' => f.write_str("\\\\")?,
                    _ => write_hex(f, &text.as_bytes()[at..shown])?,
                }
            }
            f.write_str(&text[shown..])?;
            write_hex(f, chunk.invalid())?;
        }
        Ok(())
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

/// Bytes in hexadecimal.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Bytes between quotes, for lines in which other text follows. The inside is escaped text, too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for (position, part) in self.0.split(|&byte| byte == b'"').enumerate() {
            if position > 0 {
                f.write_str("\\x22")?;
            }
            Escaped(part).fmt(f)?;
        }
        f.write_char('"')
    }
}

/// Words that mean something else when they stand bare.
pub(crate) const BARE_SPECIAL: [&str; 4] = ["LIMIT", "ALL", "MEMTABLE", ""];

/// Bytes as one word of the shell: bare where that reads back as the same, else between quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = self.0.contains(&b' ')
            || matches!(self.0, [b'"' | b'\'', ..])
            || BARE_SPECIAL.iter().any(|word| self.0.eq_ignore_ascii_case(word.as_bytes()));
        if quote { Quoted(self.0).fmt(f) } else { Escaped(self.0).fmt(f) }
    }
}

fn is_plain(character: char) -> bool {
    match character {
        ' '..='~' => character != '\\',
        _ => !character.is_control() && !is_invisible(character),
    }
}

/// Separators that end a line, marks that turn the direction of writing, and other characters without a shape.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e007f}')
}

/// A backslash that does not begin an escape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadEscape {
    /// The offending piece of the input.
    piece: Vec<u8>,
}

impl fmt::Display for BadEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The piece begins with the user's own backslash, which is not to be doubled.
        let rest = self.piece.strip_prefix(b"\\").unwrap_or(&self.piece);
        write!(f, "bad escape `\\{}`; there are \\t \\n \\r \\\\ \\xHH and \\& (nothing)", Escaped(rest))
    }
}

/// Resolves the escapes in `text`.
pub(crate) fn unescape(text: &[u8]) -> Result<Cow<'_, [u8]>, BadEscape> {
    let mut parts = text.split(|&byte| byte == b'\\');
    let plain = parts.next().unwrap_or_default();
    if plain.len() == text.len() {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend_from_slice(plain);
    let mut rest = &text[plain.len()..];
    while !rest.is_empty() {
        let (byte, length) = first(rest)?;
        bytes.extend(byte);
        let after = &rest[length..];
        let plain = after.iter().position(|&byte| byte == b'\\').unwrap_or(after.len());
        bytes.extend_from_slice(&after[..plain]);
        rest = &after[plain..];
    }
    Ok(Cow::Owned(bytes))
}

/// What the escape means with which `text` begins, and how long it is.
pub(crate) fn first(text: &[u8]) -> Result<(Option<u8>, usize), BadEscape> {
    match text {
        [b'\\', b't', ..] => Ok((Some(b'\t'), 2)),
        [b'\\', b'n', ..] => Ok((Some(b'\n'), 2)),
        [b'\\', b'r', ..] => Ok((Some(b'\r'), 2)),
        [b'\\', b'\\', ..] => Ok((Some(b'\\'), 2)),
        [b'\\', b'&', ..] => Ok((None, 2)),
        [b'\\', b'x', high, low, ..] => match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => Ok((Some(high << 4 | low), 4)),
            _ => Err(bad(text, 4)),
        },
        [b'\\', b'x', ..] => Err(bad(text, 4)),
        _ => Err(bad(text, 2)),
    }
}

fn bad(text: &[u8], length: usize) -> BadEscape {
    BadEscape { piece: text[..text.len().min(length)].to_vec() }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        Escaped(bytes).to_string()
    }

    fn read(text: &str) -> Vec<u8> {
        unescape(text.as_bytes()).unwrap().into_owned()
    }

    /// Xorshift: enough chance for round trips, the same in every run.
    pub(crate) struct Chance(u64);

    impl Chance {
        pub(crate) fn new(seed: u64) -> Self {
            Self(seed)
        }

        pub(crate) fn below(&mut self, end: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % end
        }

        /// Up to `length_max` bytes: some all text, some all bytes, some of the ones with a meaning.
        pub(crate) fn bytes(&mut self, length_max: u64) -> Vec<u8> {
            let style = self.below(3);
            let pieces: [&[u8]; 12] = [
                b"\\",
                b"\t",
                b"\n",
                b"\r",
                b" ",
                b"\"",
                b"x",
                b"\\x",
                "é".as_bytes(),
                "\u{202e}".as_bytes(),
                b"\xf0\x9f",
                b"\0",
            ];
            let mut bytes = Vec::new();
            for _ in 0..self.below(length_max + 1) {
                match style {
                    0 => bytes.push(b'a' + u8::try_from(self.below(26)).unwrap()),
                    1 => bytes.push(u8::try_from(self.below(256)).unwrap()),
                    _ => bytes.extend_from_slice(pieces[usize::try_from(self.below(12)).unwrap()]),
                }
            }
            bytes
        }
    }

    #[test]
    fn printable_text_is_shown_as_it_is() {
        for text in ["", "plain", "two words", "Grüße, 世界 🦀", "\"quotes\" & $signs", "non\u{a0}breaking"] {
            assert_eq!(shown(text.as_bytes()), text);
            assert_eq!(read(text), text.as_bytes());
        }
    }

    #[test]
    fn everything_else_is_escaped() {
        assert_eq!(shown(b"a\tb\nc\rd\\e"), r"a\tb\nc\rd\\e");
        assert_eq!(shown(b"\0\x1b\x7f"), r"\x00\x1b\x7f");
        assert_eq!(shown(b"ok\xff\xfe\xc3"), r"ok\xff\xfe\xc3");
        assert_eq!(shown("\u{85}\u{2028}\u{202e}\u{feff}".as_bytes()), r"\xc2\x85\xe2\x80\xa8\xe2\x80\xae\xef\xbb\xbf");
        assert_eq!(Quoted(b"say \"hi\"\n").to_string(), r#""say \x22hi\x22\n""#);
        assert_eq!(Quoted(b"").to_string(), r#""""#);
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(read(r"\t\n\r\\\x00\xfF\x20"), b"\t\n\r\\\0\xff ");
        assert_eq!(read(r"\&"), b"");
        assert_eq!(read(r"a\&b\\x41"), br"ab\x41");
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        for (text, piece) in
            [(r"a\", r"\"), (r"\q", r"\q"), (r"\x4", r"\x4"), (r"\xg0 and", r"\xg0"), (r"\x0", r"\x0"), (r"\0", r"\0")]
        {
            let error = unescape(text.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("bad escape `{piece}`")), "{error}");
        }
    }

    #[test]
    fn every_byte_and_every_pair_of_bytes_reads_back() {
        for first in 0..=255 {
            for second in 0..=255 {
                let bytes = [first, second];
                assert_eq!(read(&shown(&bytes)), bytes);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_read_back_and_show_nothing_that_a_terminal_obeys() {
        let mut chance = Chance::new(0x5eed);
        for _ in 0..20_000 {
            let bytes = chance.bytes(40);
            let text = shown(&bytes);
            assert_eq!(read(&text), bytes);
            assert!(text.chars().all(|character| !character.is_control() && !is_invisible(character)));
            let quoted = Quoted(&bytes).to_string();
            let inside = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap();
            assert!(!inside.contains('"'));
            assert_eq!(read(inside), bytes);
        }
    }
}
