//! The commands of the shell, as its help, completion and mistakes know them.

/// A command and what is said of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) name: &'static str,
    /// What may stand behind the name.
    pub(crate) arguments: &'static str,
    pub(crate) summary: &'static str,
    /// What `HELP` with its name adds.
    details: &'static str,
}

const fn usage(name: &'static str, arguments: &'static str, summary: &'static str, details: &'static str) -> Usage {
    Usage { name, arguments, summary, details }
}

const RANGE: &str = "\
`from` is the first key and `to` the first that is not in the range. At a terminal, the first 100 are shown if no other LIMIT is
given; LIMIT ALL shows all. Ctrl-C stops it.
";

/// Every command, in the order of the help. One that is added here has a place in `parse` and in `session`.
pub(crate) const COMMANDS: &[Usage] = &[
    usage(
        "SET",
        "<key> <value>",
        "Store a value; it may contain spaces",
        "\
The value is the rest of the line without the blanks at its ends, or one word in quotes. `OK` means that it is on disk.
",
    ),
    usage("GET", "<key>", "Show the value of a key", "Shows `(nil)` if it is not there.\n"),
    usage(
        "EXPLAIN",
        "<key>",
        "Show what a lookup of a key asks, and what it is told",
        "\
Memtables come first, then tables from the youngest on, each with the offsets that are looked at.
",
    ),
    usage("DEL", "<key>", "Remove a key", "`OK` if it was there, `(nil)` if not.\n"),
    usage("EXISTS", "<key>", "Show 1 if a key is there, else 0", ""),
    usage(
        "INCR",
        "<key> [n]",
        "Add 1, or n, to a number",
        "\
The value is a decimal number between -2^63 and 2^63 - 1, and 0 if the key is not there. Shows the new one.
",
    ),
    usage("SCAN", "[from [to]] [LIMIT n]", "Show entries in key order, up to but not including `to`", RANGE),
    usage("KEYS", "[from [to]] [LIMIT n]", "List keys in order; KEYS MEMTABLE: those in the memtable", RANGE),
    usage("COUNT", "[from [to]]", "Count entries", "It reads all that it counts. Ctrl-C stops it.\n"),
    usage(
        "DELRANGE",
        "<from> <to>",
        "Remove the keys from `from` up to, not including, `to`",
        "\
One write, however many keys there are; whole or not at all.
",
    ),
    usage("KEYSPACES", "", "List the keyspaces; * is the one in use", ""),
    usage("CREATE", "<keyspace>", "Make a keyspace", ""),
    usage("USE", "<keyspace>", "Go to a keyspace", ""),
    usage("DROP", "<keyspace>", "Drop a keyspace with all that is in it", ""),
    usage("FLUSH", "", "Write the memtable to an SSTable", ""),
    usage("COMPACT", "", "Merge all SSTables of the keyspace and drop what is no longer visible", ""),
    usage("STATS", "", "Show what the store consists of", ""),
    usage("HELP", "[command]", "Show this text, or more about a command", ""),
    usage("CLEAR", "", "Clear the screen", ""),
    usage("EXIT", "", "Leave", "QUIT and Ctrl-D do the same.\n"),
    usage("QUIT", "", "Leave", "EXIT and Ctrl-D do the same.\n"),
];

const NOTES: &str = r#"Keys and values are bytes. Shown and typed as escapes: \t \n \r \\ \xHH.
A key with blanks stands in quotes, "two words" or 'two words', or has \x20 for a space; "" and \& are empty.
Between double quotes \" is a quote; between single quotes only \' is an escape.
"#;

/// The command of this name, in any case.
pub(crate) fn find(name: &[u8]) -> Option<&'static Usage> {
    COMMANDS.iter().find(|usage| name.eq_ignore_ascii_case(usage.name.as_bytes()))
}

impl Usage {
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.name, self.arguments).trim_end().to_owned()
    }

    pub(crate) fn help(&self) -> String {
        format!("{}\n{}.\n{}", self.line(), self.summary, self.details)
    }
}

/// All commands, a line each.
pub(crate) fn help() -> String {
    let line = |usage: &Usage| format!("  {:<28}{}\n", usage.line(), usage.summary);
    let lines = COMMANDS.iter().filter(|usage| !matches!(usage.name, "EXIT" | "QUIT")).map(line);
    let leave = format!("  {:<28}Leave\n", "EXIT, QUIT");
    format!("Commands, in any case:\n{}{leave}{NOTES}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_the_help_and_fits_a_line() {
        let text = help();
        for usage in COMMANDS {
            assert!(text.contains(usage.name), "{}", usage.name);
            assert!(usage.help().starts_with(usage.name));
            assert_eq!(find(usage.name.to_lowercase().as_bytes()), Some(usage));
        }
        assert!(text.lines().all(|line| line.len() <= 112));
        assert_eq!(find(b"frob"), None);
    }
}
