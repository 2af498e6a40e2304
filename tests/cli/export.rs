//! The store into lines, and back.

use std::fs;

use super::{Store, every_byte};
use crate::store::disorder::exchanged;
use crate::support::image;

#[test]
fn export_and_import_give_the_same_store() {
    let store = Store::with(every_byte());
    let exported = store.run(["export"]).success();
    assert_eq!(exported.err, "exported 260 entries\n");
    assert!(exported.text().chars().all(|character| matches!(character, '\t' | '\n') || !character.is_control()));

    let copy = Store::with(&exported.out);
    assert_eq!(copy.run(["export"]).success().out, exported.out);

    // The lines do not only look the same: the bytes are the ones that were typed.
    copy.run(["get", r"key \x00\xc30"]).prints("value \\x00\\xff end \n");
    copy.run(["get", r"key \x5c\xc392"]).prints("value \\\\\\xa3 end \n");
    copy.run(["get", ""]).prints("value of the empty key\n");
    copy.run(["get", "empty value"]).prints("\n");
    copy.run(["get", r"back\\slash"]).prints("a\\tb\\nc\\rd\\\\n\n");
}

#[test]
fn export_writes_files() {
    let store = Store::with("a\t1\nb\t2\nc\t3\n");
    let file = store.beside("out.tsv");
    fs::write(&file, "what was there before, and was longer than what comes").unwrap();
    let answer = store.run(["export".as_ref(), file.as_os_str(), "--from".as_ref(), "b".as_ref()]).success();
    assert_eq!((answer.text(), answer.err.as_str()), ("", "exported 2 entries\n"));
    assert_eq!(fs::read(&file).unwrap(), b"b\t2\nc\t3\n");
    store.run(["export", "/does/not/exist"]).failure(1, &["error: cannot write /does/not/exist"]);
    assert_eq!(store.run(["export", "-", "--to", "b"]).success().text(), "a\t1\n");
    assert_eq!(store.run(["export", "--prefix", "c"]).success().text(), "c\t3\n");
}

#[test]
fn raw_lines_come_back_as_they_were() {
    let lines = b"a\\n\tb\\q\tc\r\n\xfe\t\x00\n\xff\t\n";
    let store = Store::new();
    store.feed(["import", "--raw"], lines).success();
    assert_eq!(store.run(["export", "--raw"]).success().out, lines);
}

#[test]
fn raw_refuses_what_would_not_come_back() {
    for (line, words) in [
        ("a\\tb\tv\n", ["the key `a\\tb`", "tab or newline"]),
        ("a\\nb\tv\n", ["the key `a\\nb`", "tab or newline"]),
        ("ab\tv\\n\n", ["the value of the key `ab`", "tab or newline"]),
    ] {
        let store = Store::with(format!("a\t1\n{line}z\t2\n"));
        store.run(["export", "--raw"]).failure(1, &words);
        let file = store.beside("out.tsv");
        store
            .run(["export".as_ref(), "--raw".as_ref(), file.as_os_str()])
            .failure(1, &[words[0], words[1], "out.tsv is not complete"]);
    }
    // A tab in a value is no separator.
    let store = Store::with("a\tv\\tw\n");
    assert_eq!(store.run(["export", "--raw"]).success().text(), "a\tv\tw\n");
}

/// A part of the entries is no success, whatever of them is asked for.
#[test]
fn a_table_out_of_order_is_damage() {
    let store = Store::new();
    fs::create_dir(store.database()).unwrap();
    for (name, bytes) in image(&exchanged()) {
        fs::write(store.database().join(name), bytes).unwrap();
    }
    let said = ["error: ", "are not in order"];
    store.run(["export"]).failure(2, &said);
    store.run(["export", "-", "--to", r"k\x07"]).failure(2, &said);
    store.run(["export", "-", "--prefix", "k"]).failure(2, &said);
    store.run(["scan"]).failure(2, &said);
    store.run(["scan", "--to", r"k\x07"]).failure(2, &said);
    store.run(["scan", "--reverse"]).failure(2, &said);
    store.run(["count"]).failure(2, &said);
    let file = store.beside("out.tsv");
    let answer = store.run(["export".as_ref(), file.as_os_str()]);
    answer.failure(2, &["are not in order", "out.tsv is not complete"]);
    store.run(["verify"]).failure(2, &["is damaged"]);
}
