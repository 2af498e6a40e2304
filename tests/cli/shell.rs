//! The shell behind a pipe.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use super::{Store, lines};

#[test]
fn answers_are_the_ones_users_know() {
    let store = Store::new();
    store
        .shell("SET name Ada Lovelace\nGET name\nget nobody\nDEL name\nGET name\nEXIT\n")
        .prints("OK\nAda Lovelace\n(nil)\nOK\n(nil)\nGoodbye!\n");
    store.shell("").prints("Goodbye!\n");
    store.shell("quit\nSET a 1\n").prints("Goodbye!\n");
    store.shell("\n  \n\r\nGET a").prints("(nil)\nGoodbye!\n");
}

#[test]
fn keys_lists_the_memtable_until_a_flush() {
    Store::new()
        .shell("KEYS\nSET b 2\nSET a\\x20b 1\nSET c 3\nDEL c\nKEYS\nFLUSH\nKEYS\nGET b\n")
        .prints("(empty memtable)\nOK\nOK\nOK\nOK\nKeys in memtable (2):\n  • a b\n  • b\nMemtable flushed to SSTable\n(empty memtable)\n2\nGoodbye!\n");
}

#[test]
fn scan_shows_entries_in_order() {
    let store = Store::with("a\t1\nb\t2\nc\t3\nd\t4\n");
    let scan = |line: &str, expected: &str| store.shell(line).prints(&format!("{expected}Goodbye!\n"));
    scan("SCAN", "a\t1\nb\t2\nc\t3\nd\t4\n");
    scan("scan b", "b\t2\nc\t3\nd\t4\n");
    scan("SCAN b d", "b\t2\nc\t3\n");
    scan("SCAN limit 2", "a\t1\nb\t2\n");
    scan("SCAN b LIMIT 1", "b\t2\n");
    scan("SCAN d a", "(no entries)\n");
    scan("SCAN x", "(no entries)\n");
}

#[test]
fn compact_stats_help_and_clear_answer() {
    let store = Store::new();
    let answer = store.feed(["--capacity", "500"], "SET a 1\nFLUSH\nCOMPACT\nSTATS\nHELP\nCLEAR\nGET a\n").success();
    let text = answer.text();
    for part in ["capacity", "500 entries", "directory", "SSTable files", "memtable", "SCAN [from [to]] [LIMIT n]"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.ends_with("1\nGoodbye!\n"));
    assert!(!text.contains('\x1b'), "no terminal, no control codes");
}

#[test]
fn capacity_flushes_the_memtable() {
    let store = Store::new();
    let input = lines(25, |number| format!("SET key{number} {number}\n"));
    let answer = store.feed(["-c", "10"], input + "KEYS\n").success();
    let keys = answer.text().lines().filter(|line| line.starts_with("  • key")).count();
    assert!(keys <= 10, "{answer:?}");
    store.run(["count"]).prints("25\n");
}

#[test]
fn mistakes_are_told_and_the_rest_is_done() {
    let store = Store::new();
    let answer = store.shell("SET\nset k\nGET\nDEL\nfrob it\nGET \\q\nFLUSH now\nSET k v\nGET k\n");
    assert_eq!(answer.text(), "OK\nv\nGoodbye!\n");
    let expected = [
        "Error: Usage: SET <key> <value>",
        "Error: Usage: SET <key> <value>",
        "Error: Usage: GET <key>",
        "Error: Usage: DEL <key>",
        "Error: Unknown command: frob. Type HELP for available commands.",
        "Error: bad escape `\\q`; there are \\t \\n \\r \\\\ \\xHH and \\& (nothing)",
        "Error: Usage: FLUSH",
    ];
    assert_eq!(answer.err.lines().collect::<Vec<_>>(), expected);
    assert_eq!(answer.code, Some(1));
}

#[test]
fn a_key_that_is_too_long_is_an_error() {
    let store = Store::new();
    let fits = "k".repeat(65_535);
    store.shell(format!("SET {fits} v\nGET {fits}\n")).prints("OK\nv\nGoodbye!\n");
    store.shell(format!("SET {fits}k v\n")).failure(1, &["Error: ", "65536"]);
}

#[test]
fn every_byte_can_be_typed_raw_or_escaped() {
    let store = Store::new();
    let (mut escaped, mut raw) = (Vec::new(), Vec::new());
    for byte in 0..=255_u8 {
        escaped.extend(format!("SET k\\x{byte:02X}k v\\x{byte:02x}v\n").bytes());
        raw.extend(b"GET k");
        // Blanks, the end of the line and the backslash have a meaning of their own.
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => raw.extend(format!("\\x{byte:02x}").bytes()),
            _ => raw.push(byte),
        }
        raw.extend(b"k\n");
    }
    store.shell(escaped).success();
    let answer = store.shell(raw).success();
    let lines: Vec<_> = answer.text().lines().collect();
    assert_eq!(lines.len(), 257);
    assert_eq!(lines[0x00], r"v\x00v");
    assert_eq!(lines[0x09], r"v\tv");
    assert_eq!(lines[0x0a], r"v\nv");
    assert_eq!(lines[0x0d], r"v\rv");
    assert_eq!(lines[0x1b], r"v\x1bv");
    assert_eq!(lines[0x20], "v v");
    assert_eq!(lines[0x41], "vAv");
    assert_eq!(lines[0x5c], r"v\\v");
    assert_eq!(lines[0x7f], r"v\x7fv");
    assert_eq!(lines[0xff], r"v\xffv");
}

#[test]
fn empty_keys_and_values_can_be_typed() {
    let store = Store::new();
    store.shell("SET \\& \\&\nGET \\&\nSCAN\n").prints("OK\n\n\t\nGoodbye!\n");
}

#[test]
fn an_answer_comes_before_the_next_question_and_the_database_is_locked_meanwhile() {
    let store = Store::new();
    let mut child = store.command::<&str>([]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for round in 0..3 {
        writeln!(stdin, "SET round {round}").unwrap();
        line.clear();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "OK\n");
    }
    for arguments in [&["get", "round"][..], &["set", "round", "x"], &["verify"]] {
        store.run(arguments).failure(1, &["error: ", "in use"]);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
    store.run(["get", "round"]).prints("2\n");
}

#[test]
fn a_reader_that_leaves_does_not_keep_commands_from_running() {
    let store = Store::new();
    let mut child = store.command::<&str>([]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    for number in 0..100 {
        writeln!(stdin, "SET key{number} value").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    store.run(["count"]).prints("100\n");
}
