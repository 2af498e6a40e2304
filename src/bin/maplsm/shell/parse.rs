//! A line of the shell as a command.
//!
//! Words are separated by spaces and tabs. A value is the rest of its line, without the blanks at its ends. Blanks
//! that belong to a key, or to the ends of a value, are typed as escapes.

use std::fmt;

use crate::escape::{self, BadEscape, Escaped};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Set { key: Vec<u8>, value: Vec<u8> },
    Get { key: Vec<u8> },
    Del { key: Vec<u8> },
    Scan { from: Option<Vec<u8>>, to: Option<Vec<u8>>, limit: Option<usize> },
    Keys,
    Keyspaces,
    Create { keyspace: String },
    Use { keyspace: String },
    Drop { keyspace: String },
    Flush,
    Compact,
    Stats,
    Help,
    Clear,
    Exit,
}

/// Why a line is not a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    Usage(&'static str),
    Unknown(Vec<u8>),
    Escape(BadEscape),
    Name,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(usage) => write!(f, "Usage: {usage}"),
            Self::Unknown(word) => {
                write!(f, "Unknown command: {}. Type HELP for available commands.", Escaped(word))
            }
            Self::Escape(error) => error.fmt(f),
            Self::Name => f.write_str("the name of a keyspace is UTF-8"),
        }
    }
}

impl From<BadEscape> for Mistake {
    fn from(error: BadEscape) -> Self {
        Self::Escape(error)
    }
}

const SCAN_USAGE: &str = "SCAN [from [to]] [LIMIT n]";

/// The command in `line`; none if the line is blank.
pub(crate) fn parse(line: &[u8]) -> Result<Option<Command>, Mistake> {
    let (name, rest) = split_word(line.trim_ascii_end());
    if name.is_empty() {
        return Ok(None);
    }
    let command = match name.to_ascii_uppercase().as_slice() {
        b"SET" => {
            let (key, value) = split_word(rest);
            if value.is_empty() {
                return Err(Mistake::Usage("SET <key> <value>"));
            }
            Command::Set { key: bytes(key)?, value: bytes(value)? }
        }
        b"GET" => Command::Get { key: only_word(rest, "GET <key>")? },
        b"DEL" => Command::Del { key: only_word(rest, "DEL <key>")? },
        b"SCAN" => scan(rest)?,
        b"KEYS" => alone(Command::Keys, rest, "KEYS")?,
        b"KEYSPACES" => alone(Command::Keyspaces, rest, "KEYSPACES")?,
        b"CREATE" => Command::Create { keyspace: name_of(rest, "CREATE <keyspace>")? },
        b"USE" => Command::Use { keyspace: name_of(rest, "USE <keyspace>")? },
        b"DROP" => Command::Drop { keyspace: name_of(rest, "DROP <keyspace>")? },
        b"FLUSH" => alone(Command::Flush, rest, "FLUSH")?,
        b"COMPACT" => alone(Command::Compact, rest, "COMPACT")?,
        b"STATS" => alone(Command::Stats, rest, "STATS")?,
        b"HELP" => alone(Command::Help, rest, "HELP")?,
        b"CLEAR" => alone(Command::Clear, rest, "CLEAR")?,
        b"EXIT" => alone(Command::Exit, rest, "EXIT")?,
        b"QUIT" => alone(Command::Exit, rest, "QUIT")?,
        _ => return Err(Mistake::Unknown(name.to_vec())),
    };
    Ok(Some(command))
}

/// The first word, and what follows it and the blanks after it.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = skip_blanks(text);
    let end = text.iter().position(|&byte| is_blank(byte)).unwrap_or(text.len());
    (&text[..end], skip_blanks(&text[end..]))
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| !is_blank(byte)).unwrap_or(text.len());
    &text[start..]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn bytes(text: &[u8]) -> Result<Vec<u8>, Mistake> {
    Ok(escape::unescape(text)?.into_owned())
}

fn only_word(rest: &[u8], usage: &'static str) -> Result<Vec<u8>, Mistake> {
    match split_word(rest) {
        (word, []) if !word.is_empty() => bytes(word),
        _ => Err(Mistake::Usage(usage)),
    }
}

fn name_of(rest: &[u8], usage: &'static str) -> Result<String, Mistake> {
    String::from_utf8(only_word(rest, usage)?).map_err(|_| Mistake::Name)
}

fn alone(command: Command, rest: &[u8], usage: &'static str) -> Result<Command, Mistake> {
    if rest.is_empty() { Ok(command) } else { Err(Mistake::Usage(usage)) }
}

fn scan(rest: &[u8]) -> Result<Command, Mistake> {
    let words: Vec<&[u8]> = rest.split(|&byte| is_blank(byte)).filter(|word| !word.is_empty()).collect();
    let (keys, limit) = match words.as_slice() {
        [keys @ .., word, number] if word.eq_ignore_ascii_case(b"LIMIT") => {
            let number = str::from_utf8(number).ok().and_then(|number| number.parse().ok());
            (keys, Some(number.ok_or(Mistake::Usage(SCAN_USAGE))?))
        }
        keys => (keys, None),
    };
    let (from, to) = match keys {
        [] => (None, None),
        [from] => (Some(bytes(from)?), None),
        [from, to] => (Some(bytes(from)?), Some(bytes(to)?)),
        _ => return Err(Mistake::Usage(SCAN_USAGE)),
    };
    Ok(Command::Scan { from, to, limit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::tests::Chance;

    fn set(key: &[u8], value: &[u8]) -> Command {
        Command::Set { key: key.to_vec(), value: value.to_vec() }
    }

    fn scan(from: Option<&str>, to: Option<&str>, limit: Option<usize>) -> Command {
        Command::Scan { from: from.map(Into::into), to: to.map(Into::into), limit }
    }

    #[test]
    fn a_value_is_the_rest_of_the_line() {
        assert_eq!(parse(b"SET k v"), Ok(Some(set(b"k", b"v"))));
        assert_eq!(parse(b"  set \t k   two  words  \r\n"), Ok(Some(set(b"k", b"two  words"))));
        assert_eq!(parse(br"Set a\x20b \x20c\x20"), Ok(Some(set(b"a b", b" c "))));
        assert_eq!(parse(br"SET \& \&"), Ok(Some(set(b"", b""))));
        assert_eq!(parse(b"SET k \xff\x01"), Ok(Some(set(b"k", b"\xff\x01"))));
    }

    #[test]
    fn commands_are_taken_in_any_case() {
        assert_eq!(parse(b"get K"), Ok(Some(Command::Get { key: b"K".to_vec() })));
        assert_eq!(parse(b"DeL K"), Ok(Some(Command::Del { key: b"K".to_vec() })));
        for (line, command) in [
            ("keys", Command::Keys),
            ("Flush", Command::Flush),
            ("COMPACT", Command::Compact),
            ("stats", Command::Stats),
            ("help", Command::Help),
            ("clear", Command::Clear),
            ("exit", Command::Exit),
            ("Quit\n", Command::Exit),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(Some(command)));
        }
        assert_eq!(parse(b" \t \r\n"), Ok(None));
        assert_eq!(parse(b""), Ok(None));
    }

    #[test]
    fn a_keyspace_is_one_word() {
        let name = || r"a b".to_owned();
        assert_eq!(parse(br"use a\x20b"), Ok(Some(Command::Use { keyspace: name() })));
        assert_eq!(parse(br"CREATE a\x20b"), Ok(Some(Command::Create { keyspace: name() })));
        assert_eq!(parse(br"Drop a\x20b "), Ok(Some(Command::Drop { keyspace: name() })));
        assert_eq!(parse(b"keyspaces"), Ok(Some(Command::Keyspaces)));
        assert_eq!(parse(b"USE a b"), Err(Mistake::Usage("USE <keyspace>")));
        assert_eq!(parse(b"DROP"), Err(Mistake::Usage("DROP <keyspace>")));
        assert_eq!(parse(b"USE \xff"), Err(Mistake::Name));
    }

    #[test]
    fn a_scan_has_up_to_two_keys_and_a_limit() {
        assert_eq!(parse(b"SCAN"), Ok(Some(scan(None, None, None))));
        assert_eq!(parse(b"SCAN a"), Ok(Some(scan(Some("a"), None, None))));
        assert_eq!(parse(b"scan a  b"), Ok(Some(scan(Some("a"), Some("b"), None))));
        assert_eq!(parse(b"SCAN limit 3"), Ok(Some(scan(None, None, Some(3)))));
        assert_eq!(parse(b"SCAN a b LIMIT 3"), Ok(Some(scan(Some("a"), Some("b"), Some(3)))));
        assert_eq!(parse(b"SCAN limit"), Ok(Some(scan(Some("limit"), None, None))));
        assert_eq!(parse(br"SCAN \x6cimit 3"), Ok(Some(scan(Some("limit"), Some("3"), None))));
        for line in ["SCAN a b c", "SCAN LIMIT x", "SCAN a LIMIT -1", "SCAN a b c LIMIT 1"] {
            assert_eq!(parse(line.as_bytes()), Err(Mistake::Usage(SCAN_USAGE)));
        }
    }

    #[test]
    fn mistakes_say_what_is_expected() {
        let text = |line: &[u8]| parse(line).unwrap_err().to_string();
        assert_eq!(text(b"SET"), "Usage: SET <key> <value>");
        assert_eq!(text(b"SET k  "), "Usage: SET <key> <value>");
        assert_eq!(text(b"GET"), "Usage: GET <key>");
        assert_eq!(text(b"GET a b"), "Usage: GET <key>");
        assert_eq!(text(b"DEL"), "Usage: DEL <key>");
        assert_eq!(text(b"FLUSH now"), "Usage: FLUSH");
        assert_eq!(text(b"frob x"), "Unknown command: frob. Type HELP for available commands.");
        assert_eq!(text(b"\x1b[2J"), r"Unknown command: \x1b[2J. Type HELP for available commands.");
        assert!(text(br"GET \q").starts_with(r"bad escape `\q`"));
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        // As shown, but for the blanks, and with something to stand for nothing.
        let typed = |bytes: &[u8]| format!("\\&{}", Escaped(bytes).to_string().replace(' ', r"\x20"));
        let mut chance = Chance::new(0x5e11);
        for _ in 0..20_000 {
            let (key, value) = (chance.bytes(20), chance.bytes(40));
            let line = format!("SET {} {}", typed(&key), typed(&value));
            assert_eq!(parse(line.as_bytes()), Ok(Some(set(&key, &value))));
        }
    }

    #[test]
    fn no_line_is_too_strange() {
        let mut chance = Chance::new(0xbad);
        for _ in 0..20_000 {
            let mut line = [&b"SET "[..], b"scan ", b"GET ", b""][usize::try_from(chance.below(4)).unwrap()].to_vec();
            line.extend(chance.bytes(30));
            if let Err(mistake) = parse(&line) {
                assert!(!mistake.to_string().contains(char::is_control));
            }
        }
    }
}
