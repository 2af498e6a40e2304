//! The layouts of entries that few have: aligned values, extensions, and merge operands.

use std::path::Path;

use maplsm::inspect::{self, Value};
use maplsm::{Damage, Db, Durability, Error, ErrorKind, Feature, IoMode, KeyspaceOptions, Options, SimFs, WriteBatch};

use crate::support::reseal::{Kind, reseal};
use crate::support::{DIR, names, sim_options};

const ALIGNMENTS: [(&str, usize); 3] = [("one", 1), ("eight", 8), ("sixteen", 16)];

fn aligned(value: &[u8], to: usize) -> bool {
    value.is_empty() || value.as_ptr().addr().is_multiple_of(to)
}

/// Values that the keys of one keyspace must have, and how they are aligned.
fn check(db: &Db, name: &str, alignment: usize, expected: &[(Vec<u8>, Vec<u8>)]) {
    let keyspace = db.keyspace(name).unwrap();
    let snapshot = keyspace.snapshot();
    let tx = db.transaction();
    let mut cursor = keyspace.cursor();
    for (key, value) in expected {
        let found = [
            keyspace.get(key).unwrap().unwrap(),
            snapshot.get(key).unwrap().unwrap(),
            tx.get_from(&keyspace, key).unwrap().unwrap(),
        ];
        assert!(found.iter().all(|found| *found == *value && aligned(found, alignment)), "{name}: {key:?}");
        let found = snapshot.get_ref(key).unwrap().unwrap();
        assert!(*found == **value && aligned(&found, alignment), "{name}: {key:?}");
        assert!(cursor.seek(key).unwrap() && cursor.value() == value && aligned(cursor.value(), alignment));
    }
    for entries in [keyspace.iter().collect::<Vec<_>>(), keyspace.iter().rev().collect()] {
        assert_eq!(entries.len(), expected.len());
        for entry in entries {
            let entry = entry.unwrap();
            let (_, value) = expected.iter().find(|(key, _)| key == entry.key()).unwrap();
            assert!(entry.value() == value && aligned(entry.value(), alignment), "{name}");
        }
    }
}

#[test]
fn values_are_aligned_wherever_they_are_read_from() {
    for mode in [IoMode::Map, IoMode::Read] {
        let fs = SimFs::new();
        let mut options = sim_options(&fs);
        options.io_mode(mode).memtable_bytes(1 << 20);
        let db = options.open(DIR).unwrap();
        let expected: Vec<(Vec<u8>, Vec<u8>)> = (0..200usize)
            .map(|i| (format!("key{i:03}{}", "x".repeat(i % 19)).into_bytes(), vec![7; i * 7 % 90]))
            .collect();
        for (name, alignment) in ALIGNMENTS {
            db.create_keyspace(name, KeyspaceOptions::new().value_alignment(alignment)).unwrap();
        }
        let keyspaces = ALIGNMENTS.map(|(name, _)| db.keyspace(name).unwrap());
        // Single commits and batches over all keyspaces in turn, which begin at every place that there is.
        let (single, batched) = expected.split_at(100);
        for (key, value) in single {
            for keyspace in &keyspaces {
                keyspace.insert(key, value).unwrap();
            }
        }
        for entries in batched.chunks(7) {
            let mut batch = WriteBatch::new();
            for (i, (key, value)) in entries.iter().enumerate() {
                batch.insert("default", [0; 3].repeat(i));
                for keyspace in &keyspaces {
                    batch.insert_into(keyspace, key, value);
                }
            }
            batch.remove_range_from::<&str>(&keyspaces[2], "zzz"..);
            db.write(&batch).unwrap();
        }
        let check_all =
            |db: &Db| ALIGNMENTS.iter().for_each(|(name, alignment)| check(db, name, *alignment, &expected));
        check_all(&db);
        drop((db, keyspaces));
        let killed = fs.kill();
        let db = options.file_system(killed.clone()).open(DIR).unwrap();
        check_all(&db);
        db.flush().unwrap();
        check_all(&db);
        for (name, _) in ALIGNMENTS {
            db.keyspace(name).unwrap().compact().unwrap();
        }
        check_all(&db);
        assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
        db.close().unwrap();
        let db = options.open(DIR).unwrap();
        check_all(&db);
        let tx = db.transaction();
        for (name, alignment) in ALIGNMENTS {
            let keyspace = db.keyspace(name).unwrap();
            for length in 0..20 {
                tx.insert_into(&keyspace, "k".repeat(length), [1; 30]).unwrap();
                assert!(aligned(&tx.get_from(&keyspace, "k".repeat(length)).unwrap().unwrap(), alignment));
            }
            assert!(tx.range_of::<&str>(&keyspace, ..).all(|entry| aligned(entry.unwrap().value(), alignment)));
        }
        tx.rollback();
    }
}

#[test]
fn alignment_is_kept_and_other_values_of_it_are_refused() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    for bytes in [0, 2, 4, 32] {
        let refused = db.create_keyspace("a", KeyspaceOptions::new().value_alignment(bytes)).unwrap_err();
        assert!(matches!(refused, Error::InvalidOptions { option: "value_alignment", .. }), "{bytes}: {refused}");
    }
    let aligned = db.create_keyspace("a", KeyspaceOptions::new().value_alignment(16)).unwrap();
    aligned.insert("pi", std::f64::consts::PI.to_ne_bytes()).unwrap();
    db.flush().unwrap();
    let value = aligned.get("pi").unwrap().unwrap();
    assert!((value.get_as::<f64>().unwrap() - std::f64::consts::PI).abs() < f64::EPSILON);
    assert!(aligned.iter().next().unwrap().unwrap().value_as::<[u8; 7]>().is_err());
    let manifest = fs.read(&Path::new(DIR).join(&names(&fs, ".manifest")[0])).unwrap();
    let shown = items(&manifest);
    let field = |kind: &str| &shown.iter().find(|item| item.kind == kind).unwrap().fields;
    assert!(field("create-keyspace").contains(&("alignment_log2", "4".to_owned())));
    assert!(field("section").contains(&("alignment_log2", "4".to_owned())));
}

/// What is shown of a file.
struct Item {
    offset: usize,
    kind: &'static str,
    fields: Vec<(&'static str, String)>,
}

fn items(bytes: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    inspect::bytes(Path::new("file"), bytes, &mut |item| {
        let text = |value: &Value<'_>| match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => (*text).to_owned(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        };
        let fields = item.fields.iter().map(|(name, value)| (*name, text(value))).collect();
        items.push(Item { offset: usize::try_from(item.offset).unwrap(), kind: item.kind, fields });
        Ok(())
    })
    .unwrap();
    items
}

/// The disk after the death of the process, where `change` was made to the `number`-th entry of the log.
pub(super) fn with_changed_entry(fs: &SimFs, number: usize, change: impl Fn(&mut [u8])) -> SimFs {
    let fs = fs.kill();
    let path = Path::new(DIR).join(names(&fs, ".wal").pop().unwrap());
    let mut bytes = fs.read(&path).unwrap();
    let entry = items(&bytes).iter().filter(|item| item.kind == "entry").nth(number).unwrap().offset;
    change(&mut bytes[entry..]);
    reseal(Kind::Segment, &mut bytes);
    fs.write(&path, &bytes);
    fs
}

fn shown_entries(fs: &SimFs, ending: &str) -> Vec<Vec<(&'static str, String)>> {
    let bytes = fs.read(&Path::new(DIR).join(names(fs, ending).pop().unwrap())).unwrap();
    items(&bytes).into_iter().filter(|item| item.kind == "entry").map(|item| item.fields).collect()
}

#[test]
fn extensions_are_read_over_kept_and_shown() {
    let written = SimFs::new();
    let db = sim_options(&written).open(DIR).unwrap();
    // What will be the extension is the front of the key first.
    db.insert(b"\x01\x81\x15\xcd\x5b\x07\0\0key", "value").unwrap();
    let extended = |kind: u8| {
        with_changed_entry(&written, 0, |entry| {
            entry[0] |= 0x10;
            entry[6] -= 8;
            entry[13] = kind;
        })
    };
    let fs = extended(0x81);
    let db = sim_options(&fs).open(DIR).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "value");
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "value");
    assert!(db.verify().is_ok());
    let entry = &shown_entries(&fs, ".sst")[0];
    assert!(entry.contains(&("expiry", "123456789".to_owned())) && entry.contains(&("key", "key".to_owned())));

    let fs = extended(0x99);
    let db = sim_options(&fs).open(DIR).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "value");

    for kind in [0, 1, 0x7f] {
        let refused = sim_options(&extended(kind)).open(DIR).unwrap_err();
        assert!(
            matches!(&refused, Error::UnsupportedFormat(u) if u.what == Feature::EntryExtension(kind)),
            "{refused}"
        );
    }
    let no_length = with_changed_entry(&extended(0x81), 0, |entry| entry[12] = 0);
    assert_eq!(sim_options(&no_length).open(DIR).unwrap_err().corruption().unwrap().what, Damage::BadField);
}

#[test]
fn merge_operands_are_kept_with_what_they_work_on_and_their_values_refused() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    for (key, value) in [("a", "other"), ("k", "forgotten"), ("k", "base"), ("k", "operand"), ("k", "operand2")] {
        db.insert(key, value).unwrap();
    }
    let fs = with_changed_entry(&fs, 3, |entry| entry[0] |= 3);
    let fs = with_changed_entry(&fs, 4, |entry| entry[0] |= 3);
    let mut options = sim_options(&fs);
    // A filter must not see what an operator works on.
    options.compaction_filter(|entry| {
        assert!(entry.value != b"base" && entry.value != b"operand", "asked about {entry:?}");
        maplsm::Verdict::Keep
    });
    let refused = |db: &Db| {
        let refuses = |error: Error| {
            assert_eq!(error.kind(), ErrorKind::UnsupportedFormat, "{error}");
            assert!(matches!(&error, Error::UnsupportedFormat(u) if u.what == Feature::MergeOperand));
        };
        refuses(db.get("k").unwrap_err());
        refuses(db.iter().nth(1).unwrap().unwrap_err());
        refuses(db.iter().next_back().unwrap().unwrap_err());
        assert_eq!(db.get("a").unwrap().unwrap(), "other");
        assert_eq!(db.iter().next().unwrap().unwrap().value(), b"other");
    };
    let db = options.open(DIR).unwrap();
    refused(&db);
    db.flush().unwrap();
    refused(&db);
    db.compact().unwrap();
    refused(&db);
    assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
    let kept: Vec<String> = shown_entries(&fs, ".sst")
        .iter()
        .map(|fields| fields.iter().find(|(name, _)| *name == "value").unwrap().1.clone())
        .collect();
    assert_eq!(kept, ["other", "operand2", "operand", "base"]);
    // A newer value ends all that.
    db.insert("k", "new").unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), "new");
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(shown_entries(&fs, ".sst").len(), 2);
    assert_eq!(db.iter().count(), 2);
}

#[test]
fn a_removed_range_below_an_operand_ends_what_it_works_on() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    db.insert("k", "gone").unwrap();
    db.remove_range("a".."z").unwrap();
    db.insert("k", "operand").unwrap();
    let fs = with_changed_entry(&fs, 2, |entry| entry[0] |= 3);
    let db = sim_options(&fs).open(DIR).unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(shown_entries(&fs, ".sst").len(), 1);
    assert_eq!(db.get("k").unwrap_err().kind(), ErrorKind::UnsupportedFormat);
}

#[test]
fn entries_with_the_alignment_of_another_keyspace_are_refused() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    db.insert([b'k'; 12], "value").unwrap();
    db.write_with(WriteBatch::new().insert([b'k'; 12], "value"), Durability::Sync).unwrap();
    for (number, flag) in [(0, 0x20), (1, 0x20)] {
        let changed = with_changed_entry(&fs, number, |entry| {
            entry[0] |= flag;
        });
        let error = Options::new().file_system(changed).open(DIR).unwrap_err();
        assert_eq!(error.corruption().unwrap().what, Damage::BadField, "{error}");
    }
}
