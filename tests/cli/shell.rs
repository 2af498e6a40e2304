//! The shell behind a pipe.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use super::{Store, lines};

#[test]
fn answers_are_the_ones_users_know() {
    let store = Store::new();
    store
        .shell("SET name Ada Lovelace\nGET name\nget nobody\nDEL name\nGET name\nEXIT\n")
        .prints("OK\nAda Lovelace\n(nil)\nOK\n(nil)\n");
    store.shell("").prints("");
    store.shell("quit\nSET a 1\n").prints("");
    store.shell("\n  \n\r\nGET a").prints("(nil)\n");
}

#[test]
fn keys_memtable_lists_the_memtable_until_a_flush() {
    Store::new()
        .shell("SET b 2\nSET a\\x20b 1\nSET c 3\nDEL c\nKEYS MEMTABLE\nKEYS MEMTABLE LIMIT 1\nFLUSH\nkeys memtable\nGET b\nKEYS\n")
        .prints("OK\nOK\nOK\nOK\nKeys in memtable (2):\n  • a b\n  • b\nKeys in memtable (2):\n  • a b\n(1 are shown; LIMIT n or LIMIT ALL shows more)\nMemtable flushed to SSTable\n(empty memtable)\n2\na b\nb\n");
}

#[test]
fn scan_shows_entries_in_order() {
    let store = Store::with("a\t1\nb\t2\nc\t3\nd\t4\n");
    let scan = |line: &str, expected: &str| store.shell(line).prints(expected);
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
    // What has happened since the open, each flush among it.
    for part in [" by flushes, ", "operation   ", "flush                  1  "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.ends_with("1\n"));
    assert!(!text.contains('\x1b'), "no terminal, no control codes");
}

#[test]
fn capacity_flushes_the_memtable() {
    let store = Store::new();
    let input = lines(25, |number| format!("SET key{number} {number}\n"));
    let answer = store.feed(["-c", "10"], input + "KEYS MEMTABLE\n").success();
    let keys = answer.text().lines().filter(|line| line.starts_with("  • key")).count();
    assert!(keys <= 10, "{answer:?}");
    store.run(["count"]).prints("25\n");
}

#[test]
fn mistakes_are_told_and_the_rest_is_done() {
    let store = Store::new();
    store.run(["set", "a", "1"]).success();
    let answer = store.shell("SET\nset k\nGET\nDEL\nfrob it\nGET \\q\nFLUSH now\nSET k v\nGET k\n");
    assert_eq!(answer.text(), "OK\nv\n");
    let expected = [
        "Error: line 1: Usage: SET <key> <value>",
        "Error: line 2: Usage: SET <key> <value>",
        "Error: line 3: Usage: GET <key>",
        "Error: line 4: Usage: DEL <key>",
        "Error: line 5: Unknown command: frob. Type HELP for available commands.",
        "Error: line 6: bad escape `\\q`; there are \\t \\n \\r \\\\ \\xHH and \\& (nothing)",
        "Error: line 7: Usage: FLUSH",
    ];
    assert_eq!(answer.err.lines().collect::<Vec<_>>(), expected);
    assert_eq!(answer.code, Some(1));
}

#[test]
fn a_key_that_is_too_long_is_an_error() {
    let store = Store::new();
    let fits = "k".repeat(65_535);
    store.shell(format!("SET {fits} v\nGET {fits}\n")).prints("OK\nv\n");
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
    assert_eq!(lines.len(), 256);
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
    store.shell("SET \\& \\&\nGET \\&\nSCAN\n").prints("OK\n\n\t\n");
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

#[test]
fn quotes_are_not_stored() {
    let store = Store::new();
    store
        .shell(
            r#"SET "my key" v
GET 'my key'
SET 'it\'s' " \"a\"\t\x41 "
GET it's
SET k say "hi"
GET k
SET e ""
GET e
KEYS
"#,
        )
        .prints("OK\nv\nOK\n \"a\"\\tA \nOK\nsay \"hi\"\nOK\n\ne\nit's\nk\nmy key\n");
    let answer = store.shell("SET \"open v\nSET k \"a\" b\nGET \"k\"k\nGET k\n");
    assert_eq!(answer.text(), "say \"hi\"\n");
    let expected = [
        "Error: line 1: the quote \" is not closed",
        "Error: line 2: behind a value in quotes there must be nothing",
        "Error: line 3: behind a closing quote \" there must be a blank",
    ];
    assert_eq!(answer.err.lines().collect::<Vec<_>>(), expected);
    assert_eq!(answer.code, Some(1));
}

#[test]
fn numbers_are_counted_up_and_keys_counted() {
    let store = Store::new();
    store
        .shell("INCR n\nINCR n 41\nINCR n -50\nGET n\nEXISTS n\nEXISTS m\nDEL m\nDEL n\nINCR n\n")
        .prints("1\n42\n-8\n-8\n1\n0\n(nil)\nOK\n1\n");
    store
        .shell("SET t text\nINCR t\nGET t\nSET m 9223372036854775807\nINCR m\nGET m\n")
        .failure(1, &["line 2: the value is not a whole number", "line 5: the sum is not between"]);
    store.run(["get", "t"]).prints("text\n");
    store.run(["get", "m"]).prints("9223372036854775807\n");
}

#[test]
fn ranges_are_counted_listed_and_removed() {
    let store = Store::with("a\t1\nb\t2\nc\t3\nd\t4\n");
    store
        .shell("COUNT\nCOUNT b d\nKEYS b\nKEYS LIMIT 1\nKEYS x\nDELRANGE b d\nSCAN\nDELRANGE d a\nCOUNT\n")
        .prints("4\n2\nb\nc\nd\na\n(no keys)\nOK\na\t1\nd\t4\nOK\n2\n");
    store.shell("DELRANGE a\n").failure(1, &["Usage: DELRANGE <from> <to>"]);
}

/// What is cut short for a person is whole for a program.
#[test]
fn a_pipe_gets_all_entries() {
    let store = Store::with(lines(1000, |number| format!("key{number:04}\tvalue\n")));
    assert_eq!(store.shell("SCAN\n").success().text().lines().count(), 1000);
    assert_eq!(store.shell("KEYS\n").success().text().lines().count(), 1000);
}

#[test]
fn help_tells_about_one_command() {
    let store = Store::new();
    let answer = store.shell("HELP\nhelp del\n").success();
    assert!(
        answer.text().contains("  INCR <key> [n]  ") && answer.text().contains("`OK` if it was there"),
        "{answer:?}"
    );
    store.shell("HELP frob\n").failure(1, &["line 1: Unknown command: frob"]);
    assert!(!store.database().exists());
}

/// Commands from a pipe make a database when there is something for it.
#[test]
fn only_what_stores_makes_a_database() {
    let store = Store::new();
    let missing = "there is no database at";
    for commands in ["GET a\n", "SCAN\nDEL a\nKEYS\n", "FLUSH\n", "frob\n", "USE a\n"] {
        store.shell(commands).failure(1, &["Error: line 1: "]);
        assert!(!store.database().exists(), "{commands}");
    }
    let answer = store.shell("GET a\nSET a 1\nGET a\n").failure(1, &["Error: line 1: ", missing]);
    assert_eq!(answer.text(), "OK\n1\n");
}
