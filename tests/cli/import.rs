//! Lines into the store.

use std::fs;
use std::io::Write as _;

use super::{Store, lines};

#[test]
fn lines_become_entries() {
    let store = Store::new();
    let answer = store.feed(["import"], "b\t2 words\na\t1\ttab\n\t\nc\\tc\t\\x00\nlast\tline").success();
    assert_eq!((answer.text(), answer.err.as_str()), ("", "imported 5 entries\n"));
    store.run(["scan"]).prints("\t\na\t1\\ttab\nb\t2 words\nc\\tc\t\\x00\nlast\tline\n");
}

#[test]
fn files_are_read_as_stdin_is() {
    let store = Store::new();
    let file = store.beside("entries.tsv");
    fs::write(&file, "a\t1\nb\t2\n").unwrap();
    let answer = store.run(["import".as_ref(), file.as_os_str()]).success();
    assert_eq!(answer.err, "imported 2 entries\n");
    store.feed(["import", "-"], "c\t3\n").success();
    store.feed(["import"], "").success();
    store.run(["count"]).prints("3\n");
    store.run(["import", "/does/not/exist"]).failure(1, &["error: cannot read /does/not/exist"]);
    store.run(["import".as_ref(), store.directory.path().as_os_str()]).failure(1, &["error: ", "nothing was imported"]);
}

#[test]
fn a_later_line_wins() {
    let store = Store::new();
    store.feed(["import", "--batch", "2"], "a\t1\na\t2\nb\t1\na\t3\n").success();
    store.run(["scan"]).prints("a\t3\nb\t1\n");
}

#[test]
fn raw_takes_lines_as_they_are() {
    let store = Store::new();
    store.feed(["import", "--raw"], b"a\\n\tb\\q\tc\r\n\xff\t\x00\n").success();
    store.run(["scan"]).prints("a\\\\n\tb\\\\q\\tc\\r\n\\xff\t\\x00\n");
}

#[test]
fn a_carriage_return_is_a_byte_like_any_other() {
    let store = Store::new();
    store.feed(["import"], "a\tb\r\n").success();
    store.run(["get", "a"]).prints("b\\r\n");
}

#[test]
fn a_malformed_line_is_named_and_everything_before_its_batch_is_there() {
    let good = lines(25, |number| format!("key{number:02}\tvalue\n"));
    for (line, reason) in [
        ("no tab\n", "no tab between key and value"),
        ("\n", "no tab between key and value"),
        ("k\\q\tv\n", "bad escape `\\q`"),
        ("k\tv\\x4\n", "bad escape `\\x4`"),
        ("k\tends in \\\n", "bad escape `\\`"),
        (&format!("{}\tv\n", "k".repeat(65_536)), "a key of 65536 bytes"),
    ] {
        let store = Store::new();
        let input = format!("{good}{line}more\tlines\n");
        store
            .feed(["import", "--batch", "10"], &input)
            .failure(1, &["error: line 26: ", reason, "imported 20 entries, lines 1 to 20", "--skip 20"]);
        store.run(["count"]).prints("20\n");

        let store = Store::new();
        store.feed(["import"], &input).failure(1, &["error: line 26: ", reason, "nothing was imported"]);
        store.run(["count"]).prints("0\n");
    }
}

#[test]
fn skip_goes_on_where_an_import_ended() {
    let store = Store::new();
    let four_lines = |third: &str| format!("a\t1\nb\t2\n{third}\nd\t4\n");
    store.feed(["import", "--batch", "1"], four_lines("c 3")).failure(1, &["line 3", "--skip 2"]);
    // Skipped lines need not be entries, and lines keep their numbers.
    store.feed(["import", "--skip", "2"], four_lines("c 3")).failure(1, &["line 3", "nothing was imported"]);
    let answer = store.feed(["import", "--skip", "2", "--progress-lines"], four_lines("c\t3")).success();
    assert_eq!((answer.text(), answer.err.as_str()), ("4\n", "imported 2 entries\n"));
    store.run(["scan"]).prints("a\t1\nb\t2\nc\t3\nd\t4\n");
    let answer = store.feed(["import", "--skip", "100", "--progress-lines"], four_lines("")).success();
    assert_eq!((answer.text(), answer.err.as_str()), ("", "imported 0 entries\n"));
}

#[test]
fn progress_lines_count_what_is_safe() {
    let input = lines(2500, |number| format!("{number}\tvalue\n"));
    let import = |arguments: &[&str]| {
        let store = Store::new();
        let answer = store.feed([&["import", "--progress-lines"], arguments].concat(), &input).success();
        store.run(["count"]).prints("2500\n");
        String::from_utf8(answer.out).unwrap()
    };
    assert_eq!(import(&[]), "1000\n2000\n2500\n");
    assert_eq!(import(&["--batch", "1250"]), "1250\n2500\n");
    assert_eq!(import(&["--buffered"]), "2500\n");
}

#[test]
fn nobody_need_listen_to_the_progress() {
    let store = Store::new();
    let file = store.beside("entries.tsv");
    let input = lines(500, |number| format!("{number}\tvalue\n"));
    fs::write(&file, input).unwrap();
    let arguments =
        ["import".as_ref(), "--progress-lines".as_ref(), "--batch".as_ref(), "10".as_ref(), file.as_os_str()];
    let mut child = store.command(arguments).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait_with_output().unwrap().status.success());
    store.run(["count"]).prints("500\n");
}

#[test]
fn large_entries_get_batches_of_their_own() {
    let store = Store::new();
    let large = "v".repeat(900_000);
    let input = lines(5, |number| format!("{number}\t{large}\n"));
    let answer = store.feed(["import", "--progress-lines"], input).success();
    assert_eq!(answer.text(), "1\n2\n3\n4\n5\n");
    assert_eq!(store.run(["get", "4"]).success().text().len(), 900_001);
}

#[test]
fn csv_and_json_lines_are_read_and_written() {
    let store = Store::with(super::every_byte());
    let tsv = store.run(["export"]).success().out;
    for (format, name) in [("csv", "entries.csv"), ("jsonl", "entries.jsonl")] {
        let text = store.run(["export", "--format", format]).success().out;
        // The name of the file says it as well.
        let file = store.beside(name);
        store.run(["export".as_ref(), file.as_os_str()]).success();
        assert_eq!(fs::read(&file).unwrap(), text);
        let path = file.to_str().unwrap();
        for arguments in [&["import", path][..], &["ingest", path]] {
            let copy = Store::new();
            copy.run(arguments).success();
            assert!(copy.run(["export"]).success().out == tsv, "{arguments:?}");
        }
        let copy = Store::new();
        copy.feed(["import", "--format", format], &text).success();
        assert!(copy.run(["export"]).success().out == tsv, "{format}");
    }
}

#[test]
fn malformed_rows_and_objects_are_named() {
    let refused = |format: &str, input: &str, words: &[&str]| {
        let store = Store::new();
        store.feed(["import", "--format", format], input).failure(1, words);
    };
    refused("csv", "a,1\n", &["the header `key,value`"]);
    refused("csv", "", &["the header `key,value`"]);
    refused(
        "csv",
        "key,value\na,1\n\"b\nc\",2,3\n",
        &["row 2", "3 columns, not key and value", "nothing was imported"],
    );
    refused("jsonl", "{\"key\":\"a\",\"value\":\"1\"}\n[]\n", &["line 2: no JSON object", "nothing was imported"]);
    refused("jsonl", "{\"key\":1}\n", &["line 1: ", "`key_hex`"]);
    let store = Store::new();
    store.feed(["import", "--format", "csv", "--raw"], "key,value\n").failure(1, &["--raw"]);
    store.feed(["import"], "a\\q\t1\n").failure(1, &["line 1: key: bad escape `\\q`", "--raw takes lines as they are"]);
}

#[test]
fn windows_lines_are_noticed() {
    let store = Store::new();
    let answer = store.feed(["import"], "a\t1\r\nb\t2\r\n").success();
    assert!(answer.err.starts_with("note: ") && answer.err.contains("--crlf"), "{answer:?}");
    assert_eq!(answer.err.lines().count(), 2, "once");
    store.run(["get", "a"]).prints("1\\r\n");
    let answer = store.feed(["import", "--crlf"], "a\t1\r\nb\t2\n").success();
    assert_eq!(answer.err, "imported 2 entries\n");
    store.run(["scan"]).prints("a\t1\nb\t2\n");
    let answer = store.feed(["import", "--format", "csv"], "key,value\r\na,3\r\n").success();
    assert_eq!(answer.err, "imported 1 entries\n");
    store.run(["get", "a"]).prints("3\n");
}

#[test]
fn compressed_input_is_unpacked() {
    let text = lines(20_000, |number| format!("key{number:05}\tvalue\n"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let mut packed = vec![("gz", gzip.finish().unwrap())];
    if cfg!(feature = "zstd") {
        packed.push(("zst", zstd_frame(text.as_bytes())));
    }
    for (name, bytes) in packed {
        let store = Store::new();
        let file = store.beside("entries.tsv.").with_extension(name);
        fs::write(&file, &bytes).unwrap();
        store.run(["import".as_ref(), file.as_os_str()]).success();
        store.run(["count"]).prints("20000\n");
        let store = Store::new();
        store.feed(["ingest"], &bytes).success();
        store.run(["count"]).prints("20000\n");
        // Cut short, it is an error and no smaller file.
        let answer = store.feed(["import"], &bytes[..bytes.len() - 10]);
        assert_eq!(answer.code, Some(1), "{answer:?}");
    }
}

/// A Zstandard frame of one raw block for each piece.
fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    // A window of 1 MiB, no length, no checksum.
    let mut frame = b"\x28\xb5\x2f\xfd\x00\x50".to_vec();
    let mut pieces = bytes.chunks(100_000).peekable();
    while let Some(piece) = pieces.next() {
        let header = piece.len() << 3 | usize::from(pieces.peek().is_none());
        frame.extend(&u32::try_from(header).unwrap().to_le_bytes()[..3]);
        frame.extend(piece);
    }
    frame
}
