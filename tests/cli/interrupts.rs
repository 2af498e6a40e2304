//! Ctrl-C in commands that nobody talks to: the signal, sent when the command is known to be at work.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Store, lines};

fn interrupt(child: &Child) {
    let pid = Pid::from_child(child);
    kill_process(pid, Signal::INT).unwrap();
}

/// What it says on stderr, once it has ended as a program does that was interrupted.
#[track_caller]
fn ends_interrupted(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.starts_with("interrupted"), "{err}");
    err
}

#[test]
fn an_import_ends_with_a_whole_batch_and_says_how_far_it_came() {
    let store = Store::new();
    let arguments = ["import", "--batch", "10", "--progress-lines"];
    let mut child = store.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(25, |number| format!("key{number:02}\tvalue\n")).as_bytes()).unwrap();
    let mut progress = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "20\n" {
        line.clear();
        progress.read_line(&mut line).unwrap();
    }
    // It waits for input that does not come.
    interrupt(&child);
    let err = ends_interrupted(child);
    assert!(err.contains("imported 20 entries, lines 1 to 20; nothing after them; --skip 20 goes on"), "{err}");
    drop(stdin);
    store.run(["count"]).prints("20\n");
    store.run(["verify"]).success();
}

#[test]
fn an_ingest_leaves_nothing() {
    let store = Store::with("a\t1\n");
    let mut child = store.command(["ingest"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The runs are there, so it is in the middle of it; the input does not end.
    let scratch = store.database().join("ingest.tmp");
    while !scratch.exists() {
        stdin.write_all(b"b\t2\n").unwrap();
    }
    interrupt(&child);
    ends_interrupted(child);
    drop(stdin);
    assert!(!scratch.exists());
    store.run(["scan"]).prints("a\t1\n");
}

#[test]
fn a_scan_and_the_shell_end() {
    let store = Store::with(lines(200_000, |number| format!("key{number:06}\tvalue\n")));
    for input in [None, Some("SCAN\n")] {
        let arguments: &[&str] = if input.is_some() { &[] } else { &["scan"] };
        let mut child = store.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.unwrap_or_default().as_bytes()).unwrap();
        let mut first = [0; 9];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"key000000");
        interrupt(&child);
        // What is in the pipe comes first, and not much more.
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).unwrap();
        assert!(!rest.ends_with(b"key199999\tvalue\n"));
        ends_interrupted(child);
    }
    // A shell that waits for commands has nothing to lose either.
    let mut child = store.command::<&str>([]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"SET k v\n").unwrap();
    let mut answer = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"OK\n");
    interrupt(&child);
    ends_interrupted(child);
    drop(stdin);
    store.run(["get", "k"]).prints("v\n");
}

#[test]
fn an_export_leaves_no_half_file() {
    let store = Store::with(lines(200_000, |number| format!("key{number:06}\tvalue\n")));
    // To a pipe it stops with what it has written.
    let mut child = store.command(["export"]).spawn().unwrap();
    let mut first = [0; 9];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    interrupt(&child);
    let err = ends_interrupted(child);
    assert!(!err.contains("exported"), "{err}");

    // A file that is not complete goes. An export that was faster is tried again.
    let file = store.beside("entries.tsv");
    let is_begun = || fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 0);
    for _ in 0..100 {
        let mut child = store.command(["export".as_ref(), file.as_os_str()]).spawn().unwrap();
        while !is_begun() && child.try_wait().unwrap().is_none() {}
        interrupt(&child);
        if child.wait().unwrap().success() {
            fs::remove_file(&file).unwrap();
            continue;
        }
        let err = ends_interrupted(child);
        assert!(err.contains("entries.tsv is removed") && !file.exists(), "{err}");
        return;
    }
    panic!("no export was interrupted");
}
