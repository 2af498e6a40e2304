//! The one-shot commands on entries.

use std::fs;
use std::io::Read as _;

use super::{Store, contents, lines};

#[test]
fn set_get_and_del_are_one_command_each() {
    let store = Store::new();
    store.run(["set", "key", "two words"]).prints("");
    store.run(["get", "key"]).prints("two words\n");
    store.run(["del", "key"]).prints("");
    store.run(["del", "key"]).prints("");
    let answer = store.run(["get", "key"]).failure(1, &[]);
    assert_eq!((answer.text(), answer.err.as_str()), ("", "(nil)\n"));
}

#[test]
fn arguments_resolve_escapes_and_output_has_them() {
    let store = Store::new();
    store.run(["set", r"a\tb\x00", r"\xff\n\\ ü"]).prints("");
    store.run(["get", r"a\x09b\x00"]).prints("\\xff\\n\\\\ ü\n");
    store.run(["set", "", ""]).prints("");
    store.run(["get", ""]).prints("\n");
    store.run(["set", "-5", "-7"]).prints("");
    store.run(["set", "--", "-x", "-y"]).prints("");
    store.run(["scan", "--keys-only"]).prints("\n-5\n-x\na\\tb\\x00\n");
    store.run(["get", r"\q"]).failure(1, &["bad escape `\\q`"]);
}

#[cfg(unix)]
#[test]
fn arguments_are_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let store = Store::new();
    store.run([OsStr::new("set"), OsStr::from_bytes(b"k\xff"), OsStr::from_bytes(b"\x80")]).prints("");
    store.run(["get", r"k\xff"]).prints("\\x80\n");
}

#[test]
fn scan_and_count_take_ranges() {
    let store = Store::with("a\t1\nab\t2\nabc\t3\nb\t4\n\\xff\t5\n\\xff\\xff\t6\n");
    let scan = |arguments: &str, expected: &str| {
        let range = arguments.split_whitespace();
        let keys = store.run(["scan", "--keys-only"].into_iter().chain(range.clone())).success();
        assert_eq!(keys.text().split_whitespace().collect::<Vec<_>>().join(" "), expected, "{arguments}");
        if !arguments.contains("--limit") && !arguments.contains("--reverse") {
            let count = expected.split_whitespace().count();
            store.run(["count"].into_iter().chain(range)).prints(&format!("{count}\n"));
        }
    };
    scan("", r"a ab abc b \xff \xff\xff");
    scan("--from ab", r"ab abc b \xff \xff\xff");
    scan("--to abc", "a ab");
    scan("--from ab --to b", "ab abc");
    scan("--from b --to ab", "");
    scan("--from b --to b", "");
    scan("--prefix ab", "ab abc");
    scan("--prefix ab --from abc --to z", "abc");
    scan(r"--prefix \xff", r"\xff \xff\xff");
    scan("--prefix x", "");
    scan("--limit 2", "a ab");
    scan("--limit 0", "");
    scan("--reverse --limit 3", r"\xff\xff \xff b");
    scan("--reverse --prefix a", "abc ab a");
    store.run(["scan", "--prefix", "ab"]).prints("ab\t2\nabc\t3\n");
}

#[test]
fn flush_and_compact_keep_what_is_visible() {
    let store = Store::new();
    for round in ["1", "2"] {
        store.feed(["import"], format!("a\t{round}\nb\t{round}\nc\t{round}\n")).success();
        store.run(["flush"]).prints("");
    }
    store.run(["del", "b"]).prints("");
    store.run(["compact"]).prints("");
    store.run(["scan"]).prints("a\t2\nc\t2\n");
    assert!(!store.files("sst").is_empty());
}

#[test]
fn reading_changes_nothing() {
    let store = Store::with("a\t1\nb\t2\n");
    store.run(["set", "c", "3"]).success();
    let before = contents(&store.database());
    for command in ["scan", "count", "stats", "export", "verify"] {
        store.run([command]).success();
    }
    store.run(["get", "c"]).prints("3\n");
    assert!(contents(&store.database()) == before);
}

#[test]
fn what_is_not_there_is_an_error() {
    let store = Store::new();
    for arguments in [
        &["get", "k"][..],
        &["scan"],
        &["count"],
        &["stats"],
        &["export"],
        &["verify"],
        &["del", "k"],
        &["flush"],
        &["compact"],
    ] {
        store.run(arguments).failure(1, &["error: "]);
        assert!(!store.database().exists(), "{arguments:?} made a database");
    }
}

#[test]
fn a_wrong_command_line_is_an_error_and_not_damage() {
    let store = Store::new();
    for arguments in [
        &["frob"][..],
        &["get"],
        &["set", "k"],
        &["scan", "--limit", "x"],
        &["--capacity", "0"],
        &["set", "a", "b", "c"],
    ] {
        store.run(arguments).failure(1, &["error: ", "--help"]);
    }
    assert!(!store.database().exists());
    let help = store.run(["--help"]).success();
    assert!(help.text().contains("Exit code") && help.text().contains("import"));
    assert!(store.run(["--version"]).success().text().starts_with("maplsm "));
}

#[test]
fn a_reader_that_leaves_ends_the_output_quietly() {
    let input = lines(20_000, |number| format!("key{number:05}\tvalue of some length\n"));
    let store = Store::with(input);
    for arguments in [&["scan"][..], &["export"], &["export", "--raw"]] {
        let mut child = store.command(arguments).spawn().unwrap();
        let mut first = [0; 8];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(&first, b"key00000");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_output_is_an_error() {
    let store = Store::with("a\t1\n");
    for arguments in
        [&["get", "a"][..], &["scan"], &["count"], &["stats"], &["export"], &["verify"], &["export", "/dev/full"]]
    {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = store.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: cannot write"));
    }
}

#[test]
fn the_directory_has_a_default() {
    let store = Store::new();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_maplsm"));
        command.args(arguments).current_dir(store.directory.path()).output().unwrap()
    };
    assert!(run(&["set", "k", "v"]).status.success());
    assert!(fs::metadata(store.beside("lsm_db")).unwrap().is_dir());
    assert_eq!(run(&["get", "k"]).stdout, b"v\n");
}
