//! The words of a line.
//!
//! Words are separated by blanks: spaces and tabs. A word that begins with a quote goes to the next such quote, blanks
//! included, and a blank or the end of the line must follow. Between double quotes escapes have their meaning, and `\"` is a
//! quote; between single quotes only `\'` is an escape. Quotes elsewhere are characters like any other.

use std::fmt;

use crate::escape::{self, BadEscape};

/// A word, its quotes and escapes resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) bytes: Vec<u8>,
    /// Then it is no keyword, whatever it says.
    quoted: bool,
}

impl Word {
    pub(crate) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.bytes.eq_ignore_ascii_case(keyword.as_bytes())
    }
}

/// Why a line does not come apart into words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadWord {
    Escape(BadEscape),
    /// A quote that nothing closes.
    Open(char),
    /// Text right behind a closing quote.
    Behind(char),
    /// More words where a value in quotes is all that may stand.
    AfterValue,
}

impl fmt::Display for BadWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Escape(error) => error.fmt(f),
            Self::Open(quote) => write!(f, "the quote {quote} is not closed"),
            Self::Behind(quote) => write!(f, "behind a closing quote {quote} there must be a blank"),
            Self::AfterValue => f.write_str("behind a value in quotes there must be nothing"),
        }
    }
}

impl From<BadEscape> for BadWord {
    fn from(error: BadEscape) -> Self {
        Self::Escape(error)
    }
}

/// What is left of a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Self {
        Self { rest: skip_blanks(line.trim_ascii_end()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next word as it stands, which must not be one in quotes: the name of a command.
    pub(crate) fn bare(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| is_blank(byte)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = skip_blanks(rest);
        word
    }

    /// The next word; none at the end of the line.
    pub(crate) fn next(&mut self) -> Result<Option<Word>, BadWord> {
        if let Some(bytes) = self.quoted()? {
            return Ok(Some(Word { bytes, quoted: true }));
        }
        match self.bare() {
            [] => Ok(None),
            word => {
                // What has escapes says what it says, and is no keyword either.
                let quoted = word.contains(&b'\\');
                Ok(Some(Word { bytes: escape::unescape(word)?.into_owned(), quoted }))
            }
        }
    }

    pub(crate) fn all(mut self) -> Result<Vec<Word>, BadWord> {
        let mut words = Vec::new();
        while let Some(word) = self.next()? {
            words.push(word);
        }
        Ok(words)
    }

    /// The rest of the line as one value: without quotes, with the blanks inside; none if there is nothing.
    pub(crate) fn value(mut self) -> Result<Option<Vec<u8>>, BadWord> {
        if self.is_empty() {
            return Ok(None);
        }
        match self.quoted()? {
            Some(_) if !self.is_empty() => Err(BadWord::AfterValue),
            Some(value) => Ok(Some(value)),
            None => Ok(Some(escape::unescape(self.rest)?.into_owned())),
        }
    }

    /// The next word, if it is one in quotes.
    fn quoted(&mut self) -> Result<Option<Vec<u8>>, BadWord> {
        let [quote @ (b'"' | b'\''), inside @ ..] = self.rest else { return Ok(None) };
        let quote = *quote;
        let mut bytes = Vec::new();
        let mut at = 0;
        loop {
            match &inside[at..] {
                [] => return Err(BadWord::Open(char::from(quote))),
                [byte, ..] if *byte == quote => break,
                [b'\\', escaped, ..] if *escaped == quote => {
                    bytes.push(quote);
                    at += 2;
                }
                [b'\\', ..] if quote == b'"' => {
                    let (byte, length) = escape::first(&inside[at..])?;
                    bytes.extend(byte);
                    at += length;
                }
                [byte, ..] => {
                    bytes.push(*byte);
                    at += 1;
                }
            }
        }
        let rest = &inside[at + 1..];
        if rest.first().is_some_and(|&byte| !is_blank(byte)) {
            return Err(BadWord::Behind(char::from(quote)));
        }
        self.rest = skip_blanks(rest);
        Ok(Some(bytes))
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| !is_blank(byte)).unwrap_or(text.len());
    &text[start..]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::tests::Chance;
    use crate::escape::{BARE_SPECIAL, Quoted, Shown};

    fn words(line: &str) -> Result<Vec<Vec<u8>>, BadWord> {
        Ok(Words::new(line.as_bytes()).all()?.into_iter().map(|word| word.bytes).collect())
    }

    fn value(line: &str) -> Result<Option<Vec<u8>>, BadWord> {
        Words::new(line.as_bytes()).value()
    }

    #[test]
    fn quotes_hold_a_word_together() {
        assert_eq!(words(r#"a  "b c" 'd "e" f' "" ''"#).unwrap(), [&b"a"[..], b"b c", b"d \"e\" f", b"", b""]);
        assert_eq!(words(r#""\n\r\t\x41\"\\\&" '\'\n\x'"#).unwrap(), [&b"\n\r\tA\"\\"[..], br"'\n\x"]);
        assert_eq!(words(r#"it's 5" a"b"c"#).unwrap(), [&b"it's"[..], b"5\"", b"a\"b\"c"]);
        assert_eq!(words(r"a\x20b \x22").unwrap(), [&b"a b"[..], b"\""]);
    }

    #[test]
    fn what_is_not_closed_or_goes_on_is_an_error() {
        for line in [r#"a "b"#, r#"""#, r#"a "b\""#, r"'", r"'it\'"] {
            assert!(matches!(words(line), Err(BadWord::Open(_))), "{line}");
        }
        for line in [r#""a"b"#, r"''''", r#"'a'"b""#] {
            assert!(matches!(words(line), Err(BadWord::Behind(_))), "{line}");
        }
        assert!(matches!(words(r#""\q""#), Err(BadWord::Escape(_))));
        assert_eq!(BadWord::Open('"').to_string(), "the quote \" is not closed");
    }

    #[test]
    fn a_value_is_the_rest_of_the_line_or_one_word_in_quotes() {
        assert_eq!(value("two  words ").unwrap().unwrap(), b"two  words");
        assert_eq!(value(r#"say "hi" to it's owner"#).unwrap().unwrap(), br#"say "hi" to it's owner"#);
        assert_eq!(value(r#" " two  words " "#).unwrap().unwrap(), b" two  words ");
        assert_eq!(value("").unwrap(), None);
        assert_eq!(value("''").unwrap().unwrap(), b"");
        assert_eq!(value(r#""a" and "b""#), Err(BadWord::AfterValue));
    }

    #[test]
    fn keywords_are_not_in_quotes() {
        let first = |line: &str| Words::new(line.as_bytes()).next().unwrap().unwrap();
        assert!(first("limit 3").is("LIMIT"));
        assert!(!first("'limit' 3").is("LIMIT"));
        assert!(!first(r"\x6cimit 3").is("LIMIT"));
    }

    #[test]
    fn what_is_shown_as_a_word_reads_back() {
        let mut chance = Chance::new(0x3011);
        for _ in 0..20_000 {
            let bytes = chance.bytes(20);
            for line in [Quoted(&bytes).to_string(), Shown(&bytes).to_string()] {
                assert_eq!(words(&line).unwrap(), std::slice::from_ref(&bytes), "{line}");
            }
        }
        assert_eq!(Shown(b"plain").to_string(), "plain");
        for special in BARE_SPECIAL {
            assert!(Shown(special.as_bytes()).to_string().starts_with('"'));
        }
    }
}
