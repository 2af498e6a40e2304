//! A line of the shell as a command.
//!
//! A value is the rest of its line, without the blanks at its ends, or one word in quotes; all else are words.

use std::fmt;

use crate::escape::Escaped;
use crate::shell::catalog::{self, Usage};
use crate::shell::words::{BadWord, Word, Words};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Set { key: Vec<u8>, value: Vec<u8> },
    Get { key: Vec<u8> },
    Explain { key: Vec<u8> },
    Del { key: Vec<u8> },
    Exists { key: Vec<u8> },
    Incr { key: Vec<u8>, by: i64 },
    Scan(Listing),
    Keys(Listing),
    MemtableKeys { limit: Option<usize> },
    Count { from: Option<Vec<u8>>, to: Option<Vec<u8>> },
    DelRange { from: Vec<u8>, to: Vec<u8> },
    Keyspaces,
    Create { keyspace: String },
    Use { keyspace: String },
    Drop { keyspace: String },
    Flush,
    Compact,
    Stats,
    Help { about: Option<&'static Usage> },
    Clear,
    Exit,
}

/// A range of keys, and how many of them are to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) to: Option<Vec<u8>>,
    /// None if it is not said.
    pub(crate) limit: Option<usize>,
}

impl Command {
    /// Whether it is worth a database that is not there yet.
    pub(crate) fn makes_a_database(&self) -> bool {
        matches!(self, Self::Set { .. } | Self::Incr { .. } | Self::Create { .. })
    }
}

/// Why a line is not a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    Usage(String),
    Unknown(Vec<u8>),
    Word(BadWord),
    Name,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(usage) => write!(f, "Usage: {usage}"),
            Self::Unknown(word) => {
                write!(f, "Unknown command: {}. Type HELP for available commands.", Escaped(word))
            }
            Self::Word(error) => error.fmt(f),
            Self::Name => f.write_str("the name of a keyspace is UTF-8"),
        }
    }
}

impl From<BadWord> for Mistake {
    fn from(error: BadWord) -> Self {
        Self::Word(error)
    }
}

/// The command in `line`; none if the line is blank.
pub(crate) fn parse(line: &[u8]) -> Result<Option<Command>, Mistake> {
    let mut words = Words::new(line);
    if words.is_empty() {
        return Ok(None);
    }
    let name = words.bare();
    let usage = catalog::find(name).ok_or_else(|| Mistake::Unknown(name.to_vec()))?;
    arguments(usage, words)?.map(Some).ok_or_else(|| Mistake::Usage(usage.line()))
}

/// Whether a line begins with the name of a command.
pub(crate) fn is_command(line: &[u8]) -> bool {
    catalog::find(Words::new(line).bare()).is_some()
}

/// The command with its arguments; none if they are not those that it takes.
fn arguments(usage: &Usage, mut words: Words<'_>) -> Result<Option<Command>, Mistake> {
    if usage.name == "SET" {
        let Some(key) = words.next()? else { return Ok(None) };
        return Ok(words.value()?.map(|value| Command::Set { key: key.bytes, value }));
    }
    let mut words = words.all()?;
    Ok(match (usage.name, &mut words[..]) {
        ("GET", [key]) => Some(Command::Get { key: key.take() }),
        ("EXPLAIN", [key]) => Some(Command::Explain { key: key.take() }),
        ("DEL", [key]) => Some(Command::Del { key: key.take() }),
        ("EXISTS", [key]) => Some(Command::Exists { key: key.take() }),
        ("INCR", [key]) => Some(Command::Incr { key: key.take(), by: 1 }),
        ("INCR", [key, by]) => number(by).map(|by| Command::Incr { key: key.take(), by }),
        ("SCAN", words) => listing(words).map(Command::Scan),
        ("KEYS", [word, rest @ ..]) if word.is("MEMTABLE") => match listing(rest) {
            Some(Listing { from: None, to: None, limit }) => Some(Command::MemtableKeys { limit }),
            _ => None,
        },
        ("KEYS", words) => listing(words).map(Command::Keys),
        ("COUNT", words) => match listing(words) {
            Some(Listing { from, to, limit: None }) => Some(Command::Count { from, to }),
            _ => None,
        },
        ("DELRANGE", [from, to]) => Some(Command::DelRange { from: from.take(), to: to.take() }),
        ("CREATE", [name]) => Some(Command::Create { keyspace: text(name)? }),
        ("USE", [name]) => Some(Command::Use { keyspace: text(name)? }),
        ("DROP", [name]) => Some(Command::Drop { keyspace: text(name)? }),
        ("KEYSPACES", []) => Some(Command::Keyspaces),
        ("FLUSH", []) => Some(Command::Flush),
        ("COMPACT", []) => Some(Command::Compact),
        ("STATS", []) => Some(Command::Stats),
        ("HELP", []) => Some(Command::Help { about: None }),
        ("HELP", [name]) => {
            let about = catalog::find(&name.bytes).ok_or_else(|| Mistake::Unknown(name.take()))?;
            Some(Command::Help { about: Some(about) })
        }
        ("CLEAR", []) => Some(Command::Clear),
        ("EXIT" | "QUIT", []) => Some(Command::Exit),
        _ => None,
    })
}

impl Word {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

fn text(word: &mut Word) -> Result<String, Mistake> {
    String::from_utf8(word.take()).map_err(|_| Mistake::Name)
}

fn number<N: std::str::FromStr>(word: &Word) -> Option<N> {
    str::from_utf8(&word.bytes).ok().and_then(|number| number.parse().ok())
}

/// `[from [to]] [LIMIT n]`.
fn listing(words: &mut [Word]) -> Option<Listing> {
    let (keys, limit) = match words {
        [keys @ .., word, all] if word.is("LIMIT") && all.is("ALL") => (keys, Some(usize::MAX)),
        [keys @ .., word, limit] if word.is("LIMIT") => (keys, Some(number(limit)?)),
        keys => (keys, None),
    };
    let (from, to) = match keys {
        [] => (None, None),
        [from] => (Some(from.take()), None),
        [from, to] => (Some(from.take()), Some(to.take())),
        _ => return None,
    };
    Some(Listing { from, to, limit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::tests::Chance;

    fn set(key: &[u8], value: &[u8]) -> Command {
        Command::Set { key: key.to_vec(), value: value.to_vec() }
    }

    fn scan(from: Option<&str>, to: Option<&str>, limit: Option<usize>) -> Command {
        Command::Scan(Listing { from: from.map(Into::into), to: to.map(Into::into), limit })
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
    fn quotes_hold_keys_and_values_together() {
        assert_eq!(parse(br#"SET "my key" v"#), Ok(Some(set(b"my key", b"v"))));
        assert_eq!(parse(br#"SET 'my key' "a \"value\" "#), Err(Mistake::Word(BadWord::Open('"'))));
        assert_eq!(parse(br#"SET k " v\n""#), Ok(Some(set(b"k", b" v\n"))));
        assert_eq!(parse(br#"SET k it's "so""#), Ok(Some(set(b"k", br#"it's "so""#))));
        assert_eq!(parse(br#"SET "" """#), Ok(Some(set(b"", b""))));
    }

    #[test]
    fn commands_are_taken_in_any_case() {
        assert_eq!(parse(b"get K"), Ok(Some(Command::Get { key: b"K".to_vec() })));
        assert_eq!(parse(b"DeL K"), Ok(Some(Command::Del { key: b"K".to_vec() })));
        for (line, command) in [
            ("keys", Command::Keys(Listing { from: None, to: None, limit: None })),
            ("keys memtable", Command::MemtableKeys { limit: None }),
            ("keys 'memtable'", Command::Keys(Listing { from: Some(b"memtable".to_vec()), to: None, limit: None })),
            ("exists K", Command::Exists { key: b"K".to_vec() }),
            ("incr n", Command::Incr { key: b"n".to_vec(), by: 1 }),
            ("incr n -7", Command::Incr { key: b"n".to_vec(), by: -7 }),
            ("count", Command::Count { from: None, to: None }),
            ("count a b", Command::Count { from: Some(b"a".to_vec()), to: Some(b"b".to_vec()) }),
            ("delrange a 'b c'", Command::DelRange { from: b"a".to_vec(), to: b"b c".to_vec() }),
            ("Flush", Command::Flush),
            ("COMPACT", Command::Compact),
            ("stats", Command::Stats),
            ("help", Command::Help { about: None }),
            ("HELP del", Command::Help { about: catalog::find(b"DEL") }),
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
        assert_eq!(parse(b"USE a b"), Err(Mistake::Usage("USE <keyspace>".to_owned())));
        assert_eq!(parse(b"DROP"), Err(Mistake::Usage("DROP <keyspace>".to_owned())));
        assert_eq!(parse(b"USE \xff"), Err(Mistake::Name));
    }

    #[test]
    fn a_scan_has_up_to_two_keys_and_a_limit() {
        assert_eq!(parse(b"SCAN"), Ok(Some(scan(None, None, None))));
        assert_eq!(parse(b"SCAN a"), Ok(Some(scan(Some("a"), None, None))));
        assert_eq!(parse(b"scan a  b"), Ok(Some(scan(Some("a"), Some("b"), None))));
        assert_eq!(parse(b"SCAN limit 3"), Ok(Some(scan(None, None, Some(3)))));
        assert_eq!(parse(b"SCAN a b LIMIT 3"), Ok(Some(scan(Some("a"), Some("b"), Some(3)))));
        assert_eq!(parse(b"SCAN a limit all"), Ok(Some(scan(Some("a"), None, Some(usize::MAX)))));
        assert_eq!(parse(b"SCAN limit"), Ok(Some(scan(Some("limit"), None, None))));
        assert_eq!(parse(br"SCAN \x6cimit 3"), Ok(Some(scan(Some("limit"), Some("3"), None))));
        for line in ["SCAN a b c", "SCAN LIMIT x", "SCAN a LIMIT -1", "SCAN a b c LIMIT 1"] {
            assert_eq!(parse(line.as_bytes()), Err(Mistake::Usage("SCAN [from [to]] [LIMIT n]".to_owned())));
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
        assert_eq!(text(b"KEYS MEMTABLE a"), "Usage: KEYS [from [to]] [LIMIT n]");
        assert_eq!(text(b"COUNT LIMIT 3"), "Usage: COUNT [from [to]]");
        assert_eq!(text(b"INCR n x"), "Usage: INCR <key> [n]");
        assert_eq!(text(b"HELP frob"), "Unknown command: frob. Type HELP for available commands.");
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
