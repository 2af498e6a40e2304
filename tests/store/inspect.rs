//! Looking at single files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use maplsm::inspect::{self, Value};
use maplsm::{Db, Error, Options, PointIndex, SimFs, WriteBatch};

/// A shown item: offset, kind, fields.
type Shown = (u64, &'static str, BTreeMap<&'static str, String>);

/// What is shown of a file, and how the inspection ended.
fn show(bytes: &[u8]) -> (Vec<Shown>, maplsm::Result<()>) {
    let mut items = Vec::new();
    let outcome = inspect::bytes(Path::new("file"), bytes, &mut |item| {
        let text = |value: &Value<'_>| match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => (*text).to_owned(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        };
        let fields = item.fields.iter().map(|(name, value)| (*name, text(value))).collect();
        items.push((item.offset, item.kind, fields));
        Ok(())
    });
    (items, outcome)
}

fn good(bytes: &[u8]) -> Vec<Shown> {
    let (items, outcome) = show(bytes);
    outcome.unwrap();
    items
}

fn count(items: &[Shown], kind: &str) -> usize {
    items.iter().filter(|item| item.1 == kind).count()
}

fn field<'a>(items: &'a [Shown], kind: &str, name: &str) -> Vec<&'a str> {
    items.iter().filter(|item| item.1 == kind).map(|item| item.2[name].as_str()).collect()
}

/// The database `/db`, with 100 entries in a table and three in the log.
fn database(fs: &SimFs, point_index: PointIndex) -> Db {
    let mut options = Options::new();
    options.file_system(fs.clone()).background_threads(0).point_index(point_index);
    let db = options.open("/db").unwrap();
    for number in 0..100 {
        db.insert(format!("key{number:03}"), "some value").unwrap();
    }
    db.flush().unwrap();
    db.write(WriteBatch::new().insert("a", "1").remove("key050")).unwrap();
    db.insert("b", "2").unwrap();
    db
}

fn files(fs: &SimFs) -> Vec<PathBuf> {
    let directory = Path::new("/db");
    let names = fs.files(directory).into_iter().map(|(name, _)| name);
    names.filter(|name| name != "LOCK" && name != "RESERVE").map(|name| directory.join(name)).collect()
}

/// The only file with this extension.
fn file(fs: &SimFs, extension: &str) -> Vec<u8> {
    let mut found = files(fs);
    found.retain(|path| path.extension().is_some_and(|e| e == extension));
    assert_eq!(found.len(), 1, "{found:?}");
    fs.read(&found[0]).unwrap()
}

#[test]
fn tables_show_their_entries_and_indexes_what_leads_there() {
    for (point_index, summary) in [(PointIndex::Hash, "buckets"), (PointIndex::Bloom { error_rate: 0.01 }, "blocks")] {
        let fs = SimFs::new();
        database(&fs, point_index).close().unwrap();
        let table = good(&file(&fs, "sst"));
        assert_eq!([table[0].1, table[1].1, table[2].1], ["table", "footer", "section"]);
        assert_eq!(count(&table, "entry"), 100);
        assert_eq!(field(&table, "entry", "key")[99], "key099");
        assert_eq!(field(&table, "entry", "value")[99], "some value");
        assert_eq!(field(&table, "section", "upper_key"), ["key099"]);

        let index = good(&file(&fs, "idx"));
        let (order, step) = if point_index == PointIndex::Hash { ("group", 31) } else { ("sparse", 16) };
        assert_eq!((count(&index, summary), count(&index, order)), (1, 100_usize.div_ceil(step)));
        assert_eq!(index[0].2["id"], table[0].2["id"]);
        assert_eq!(field(&index, "index-section", "common_prefix"), ["key0"]);
        let starts: Vec<String> =
            table.iter().filter(|item| item.1 == "entry").map(|item| item.0.to_string()).collect();
        let expected: Vec<&str> = starts.iter().step_by(step).map(String::as_str).collect();
        assert_eq!(field(&index, order, "entry"), expected);
    }
}

#[test]
fn logs_show_groups_and_how_they_end() {
    let fs = SimFs::new();
    let db = database(&fs, PointIndex::Hash);
    let open = file(&fs, "wal");
    let items = good(&open);
    // One entry of the default keyspace needs no run.
    assert_eq!((count(&items, "group"), count(&items, "run"), count(&items, "entry")), (2, 1, 3));
    assert_eq!(field(&items, "entry", "kind"), ["put", "delete", "put"]);
    assert_eq!(field(&items, "entry", "sequence"), ["101", "102", "103"]);
    assert_eq!(field(&items, "end", "state"), ["open"]);

    let last = items.iter().rfind(|item| item.1 == "entry").unwrap().0;
    let mut torn = open.clone();
    torn[usize::try_from(last).unwrap()] ^= 1;
    let items = good(&torn);
    assert_eq!((count(&items, "group"), field(&items, "end", "state")), (1, vec!["torn"]));
    assert_ne!(field(&items, "end", "bytes"), ["0"]);

    // The header of the second group says that the first one was on disk.
    let first = good(&open).iter().find(|item| item.1 == "entry").unwrap().0;
    let mut damaged = open;
    damaged[usize::try_from(first).unwrap()] ^= 1;
    let (items, outcome) = show(&damaged);
    assert!(outcome.unwrap_err().is_corruption());
    assert_eq!((count(&items, "segment"), items.len()), (1, 1));

    db.close().unwrap();
    assert_eq!(field(&good(&file(&fs, "wal")), "end", "state"), ["closed"]);
}

#[test]
fn manifests_show_every_record() {
    let fs = SimFs::new();
    database(&fs, PointIndex::Hash).close().unwrap();
    let items = good(&file(&fs, "manifest"));
    assert_eq!(field(&items, "add-table", "level"), ["0"]);
    assert_eq!(field(&items, "section", "keys"), ["100"]);
    assert!(
        count(&items, "first-segment") > 0 && count(&items, "last-sequence") > 0 && count(&items, "next-number") > 0
    );
    assert_eq!(field(&items, "end", "state"), ["closed"]);

    let current = good(&fs.read(Path::new("/db/CURRENT")).unwrap());
    assert_eq!((current[0].1, &current[0].2["manifest"]), ("current", &items[0].2["number"]));
}

#[test]
fn no_damaged_byte_and_no_cut_goes_unnoticed() {
    let fs = SimFs::new();
    database(&fs, PointIndex::Hash).close().unwrap();
    for path in files(&fs) {
        let whole = fs.read(&path).unwrap();
        let items = good(&whole);
        // Behind the close mark of a log anything may stand.
        let end =
            items.iter().find(|item| item.1 == "end").map_or(whole.len(), |item| usize::try_from(item.0).unwrap());
        for at in 0..end {
            let mut bad = whole.clone();
            bad[at] ^= 1 << (at % 8);
            let (shown, outcome) = show(&bad);
            let prefix = shown.iter().zip(&items).take_while(|(a, b)| a == b).count();
            match outcome {
                Err(Error::Corruption(_) | Error::UnsupportedFormat(_)) => assert_eq!(prefix, shown.len()),
                Err(other) => panic!("{other}"),
                // The close mark itself: everything before it is there.
                Ok(()) => {
                    assert_eq!((prefix + 1, shown[prefix].1, &*shown[prefix].2["state"]), (shown.len(), "end", "torn"));
                }
            }
        }
        for cut in 0..end {
            let (shown, outcome) = show(&whole[..cut]);
            let torn = shown.last().is_some_and(|item| item.1 == "end" && item.2["state"] != "closed");
            assert!(outcome.is_err_and(|e| e.is_corruption()) || torn, "{} cut to {cut}", path.display());
        }
    }
}

#[test]
fn the_sink_and_the_file_system_may_fail() {
    let error = inspect::file(Path::new("/does/not/exist"), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Io(_)), "{error}");
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path(), Path::new("/"), Path::new("")] {
        assert!(matches!(inspect::file(path, &mut |_| Ok(())), Err(Error::Io(_))));
    }
    let path = directory.path().join("db");
    Db::open(&path).unwrap().close().unwrap();
    let error = inspect::file(&path.join("CURRENT"), &mut |_| Err(io::Error::other("enough"))).unwrap_err();
    assert!(error.to_string().contains("enough"), "{error}");
    let mut kinds = Vec::new();
    let mut sink = |item: inspect::Item<'_>| {
        kinds.push(item.kind);
        Ok(())
    };
    inspect::bytes(Path::new("000001.wal"), &[0; 100], &mut sink).unwrap();
    inspect::bytes(Path::new("000001.manifest"), &[], &mut sink).unwrap();
    assert!(inspect::bytes(Path::new("000001.sst"), &[0; 100], &mut sink).unwrap_err().is_corruption());
    assert_eq!(kinds, ["end", "end"]);
    for bytes in [&b""[..], b"\x89mlWAL\r", b"\x89mlWAL\r\n", b"not a file of the format"] {
        assert!(show(bytes).1.is_err_and(|error| error.is_corruption()));
    }
}
