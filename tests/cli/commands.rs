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
        &["find", "k"],
        &["ls"],
        &["keyspaces"],
        &["create", "k"],
        &["drop", "k"],
        &["digest"],
        &["checkpoint", "elsewhere"],
        &["backup", "elsewhere"],
        &["import", "/does/not/exist"],
        &["ingest", "/does/not/exist"],
        &["set", "k", "--file", "/does/not/exist"],
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

/// A directory that has files is somebody's.
#[test]
fn foreign_files_are_left_alone_without_force() {
    let store = Store::new();
    fs::create_dir(store.database()).unwrap();
    fs::write(store.database().join("notes.txt"), "mine").unwrap();
    for arguments in [&["set", "k", "v"][..], &["import"], &["ingest"]] {
        store.run(arguments).failure(1, &["has files in it and no database", "--force"]);
    }
    store.shell("SET k v\n").failure(1, &["line 1: ", "--force"]);
    store.shell("GET k\n").failure(1, &["line 1: ", "there is no database"]);
    assert_eq!(fs::read_dir(store.database()).unwrap().count(), 1);
    store.run(["set", "k", "v", "--force"]).prints("");
    store.run(["get", "k"]).prints("v\n");
    assert_eq!(fs::read(store.database().join("notes.txt")).unwrap(), b"mine");
    // An empty directory is nobody's.
    let store = Store::new();
    fs::create_dir(store.database()).unwrap();
    store.run(["set", "k", "v"]).prints("");
}

#[test]
fn the_directory_may_stand_in_front() {
    let store = Store::new();
    let database = store.database();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_maplsm"));
        let output = command.arg(&database).args(arguments).current_dir(store.directory.path()).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let told = |text: &str| (text.to_owned(), String::new(), Some(0));
    assert_eq!(run(&["SET a 1", "SET b two words", "GET b"]), told("OK\nOK\ntwo words\n"));
    assert_eq!(run(&["get", "a"]), told("1\n"));
    assert_eq!(run(&["-k", "users", "SET u 1", "KEYS"]), told("OK\nu\n"));
    assert_eq!(run(&["scan", "--keys-only"]), told("a\nb\n"));
    assert_eq!(run(&[]), told(""));
    let (out, err, code) = run(&["GET a", "frob", "GET b"]);
    assert_eq!((out.as_str(), code), ("1\ntwo words\n", Some(1)));
    assert!(err.starts_with("Error: Unknown command: frob"), "{err}");
    let (_, err, code) = run(&["frob"]);
    assert!(code == Some(1) && err.contains("unrecognized subcommand 'frob'"), "{err}");
}

#[test]
fn a_typing_error_is_not_taken_for_a_directory() {
    let store = Store::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_maplsm"));
    let output = command.arg("stast").current_dir(store.directory.path()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && err.contains("'stats'"), "{err}");
    assert_eq!(fs::read_dir(store.directory.path()).unwrap().count(), 0);
}

#[test]
fn values_come_from_files_and_are_shown_as_bytes() {
    let store = Store::new();
    let (file, value) = (store.beside("value"), b"a\\b\n\xff\0\r\n");
    fs::write(&file, value).unwrap();
    store.run(["set".as_ref(), "f".as_ref(), "--file".as_ref(), file.as_os_str()]).prints("");
    store.feed(["set", "s", "--file", "-"], value).prints("");
    assert_eq!(store.run(["get", "f", "--raw"]).success().out, value);
    store.run(["get", "s"]).prints("a\\\\b\\n\\xff\\x00\\r\\n\n");
    store.run(["get", "s", "--hex"]).prints("615c620aff000d0a\n");
    store.run(["get", "s", "--json"]).prints("{\"key\":\"s\",\"value_hex\":\"615c620aff000d0a\"}\n");
    store.run(["set", "k"]).failure(1, &["VALUE"]);
    store.run(["set", "k", "v", "--file", "-"]).failure(1, &["--file"]);
    store.run(["scan", "--hex"]).prints("66\t615c620aff000d0a\n73\t615c620aff000d0a\n");
    store.run(["scan", "--hex", "--keys-only"]).prints("66\n73\n");
    store.run(["scan", "--json", "--keys-only", "--reverse"]).prints("{\"key\":\"s\"}\n{\"key\":\"f\"}\n");
}

#[test]
fn find_looks_into_keys_and_values() {
    let store = Store::with("apple\tred\ngrape\tblue\npear\tgreen apple\n");
    store.run(["find", "ap"]).prints("apple\tred\ngrape\tblue\n");
    store.run(["find", "ap", "--values", "--keys-only"]).prints("apple\ngrape\npear\n");
    store.run(["find", "ap", "--limit", "1", "--reverse"]).prints("grape\tblue\n");
    store.run(["find", "red", "--prefix", "a"]).prints("");
    store.run(["find", ""]).prints("apple\tred\ngrape\tblue\npear\tgreen apple\n");
}

#[test]
fn diff_tells_what_is_different() {
    let store = Store::with("a\t1\nb\t2\nc\t3\n");
    let copy = store.beside("copy");
    store.run(["checkpoint".as_ref(), copy.as_os_str()]).prints("");
    let diff = |more: &[&str]| {
        let database = store.database();
        let paths = [database.as_os_str(), copy.as_os_str()];
        store.run(["diff".as_ref()].into_iter().chain(paths).chain(more.iter().map(AsRef::as_ref)))
    };
    diff(&[]).prints("");
    store.shell("DEL a\nSET b other\nSET d 4\nCREATE users\n").success();
    let expected = "> default\ta\t1\n< default\tb\tother\n> default\tb\t2\n< default\td\t4\n< users\n";
    let answer = diff(&[]).failure(1, &[]);
    assert_eq!((answer.text(), answer.err.as_str()), (expected, ""));
    let answer = diff(&["--keys-only", "-k", "default"]).failure(1, &[]);
    assert_eq!(answer.text(), "> a\n< b\n> b\n< d\n");
    diff(&["-k", "users"]).failure(1, &["there is no keyspace `users`"]);
    store.run(["diff", "/does/not/exist", "/neither"]).failure(1, &["there is no database at /does/not/exist"]);
}

#[test]
fn completions_and_manual_pages_are_made() {
    let store = Store::new();
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef maplsm"), ("fish", "complete -c maplsm")] {
        let answer = store.run(["completions", shell]).success();
        assert!(answer.text().contains(word) && answer.text().contains("checkpoint"), "{shell}");
    }
    assert!(store.run(["man"]).success().text().contains(".TH maplsm 1"));
    assert!(store.run(["man", "import"]).success().text().contains(".TH maplsm-import 1"));
    store.run(["man", "frob"]).failure(1, &["there is no command `frob`"]);
    assert!(!store.database().exists());
}

#[test]
fn bench_measures_and_leaves_nothing() {
    let store = Store::new();
    let place = store.beside("bench");
    let workloads = [
        "fillseq",
        "overwrite",
        "readrandom",
        "readmissing",
        "readseq",
        "readreverse",
        "seekrandom",
        "compact",
        "deleterandom",
        "deleteseq",
        "readseq",
        "fillrandom",
    ];
    let options = ["--num", "500", "--json", "--dir", place.to_str().unwrap()];
    let answer = store.run(["bench"].into_iter().chain(options).chain(workloads)).success();
    let found: Vec<serde_json::Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.iter().map(|line| line["workload"].as_str().unwrap()).collect::<Vec<_>>(), workloads);
    // All are there after `fillseq`, none after `deleteseq`.
    for (at, found_entries) in [(2, 500), (3, 0), (4, 500), (5, 500), (6, 500), (10, 0)] {
        assert_eq!(found[at]["found"], found_entries, "{}", found[at]);
    }
    assert!(found.iter().all(|line| line["ns"]["p99"].as_u64() <= line["ns"]["max"].as_u64()));
    assert!(!place.exists() && !store.database().exists());
    let text = store.run(["bench", "--num", "10", "fillseq"]).success();
    assert!(text.text().starts_with("fillseq       10 ops, 10 found, "), "{text:?}");
    fs::create_dir(&place).unwrap();
    store.run(["bench", "--dir", place.to_str().unwrap()]).failure(1, &["cannot make the directory"]);
}
