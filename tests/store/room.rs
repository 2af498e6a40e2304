//! Room that the format keeps for later: what is refused until it is used, and what is passed over and kept.

use maplsm::inspect::{self, Value};
use maplsm::{Db, Error, Feature, KeyspaceOptions, Options, SimFs};

use super::layout::with_changed_entry;
use super::reader::{Second, second_reader};
use crate::support::reseal::{Kind, adopt, reseal};
use crate::support::{DIR, change, contents, names, path, sim_options};

fn options(fs: &SimFs) -> Options {
    sim_options(fs).large_value_bytes(Some(64)).clone()
}

/// A closed database with a keyspace, a table with a pointer, and entries in the log.
fn database() -> SimFs {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    let users = db.create_keyspace("users", &KeyspaceOptions::new()).unwrap();
    users.insert("key", "value").unwrap();
    db.insert("large", [b'l'; 100]).unwrap();
    db.insert("small", "s").unwrap();
    db.flush().unwrap();
    db.insert("log", "l").unwrap();
    db.close().unwrap();
    fs
}

pub(super) fn last(fs: &SimFs, ending: &str) -> String {
    names(fs, ending).pop().unwrap()
}

/// Where the things of this kind stand in a file that have this field, if one is named.
pub(super) fn find_all(bytes: &[u8], kind: &str, field: Option<&str>) -> Vec<usize> {
    let mut found = Vec::new();
    inspect::bytes(&path("file"), bytes, &mut |item| {
        let has = field.is_none_or(|field| item.fields.iter().any(|(name, _): &(&str, Value<'_>)| *name == field));
        found.extend((item.kind == kind && has).then(|| usize::try_from(item.offset).unwrap()));
        Ok(())
    })
    .unwrap();
    found
}

/// The first one of them.
pub(super) fn find(bytes: &[u8], kind: &str, field: Option<&str>) -> usize {
    *find_all(bytes, kind, field).first().unwrap_or_else(|| panic!("no {kind}"))
}

pub(super) fn with_manifest(fs: &SimFs, alter: impl FnOnce(&mut Vec<u8>)) -> SimFs {
    let fs = fs.kill();
    change(&fs, &last(&fs, ".manifest"), |manifest| {
        alter(manifest);
        reseal(Kind::Manifest, manifest);
    });
    fs
}

/// The same with its table changed, and the manifest made to believe it.
pub(super) fn with_table(fs: &SimFs, ending: &str, alter: impl FnOnce(&mut Vec<u8>)) -> SimFs {
    let fs = fs.kill();
    let name = last(&fs, ending);
    change(&fs, &name, |table| {
        alter(table);
        reseal(Kind::of(&name).unwrap(), table);
    });
    let table = fs.read(&path(&name)).unwrap();
    with_manifest(&fs, |manifest| adopt(manifest, name.split('.').next().unwrap().parse().unwrap(), &table))
}

fn is_refused(fs: &SimFs, error: &Error, feature: Feature, what: &str) {
    assert!(matches!(error, Error::UnsupportedFormat(u) if u.what == feature), "{what}: {error}");
    let second = second_reader(fs);
    assert!(matches!(second, None | Some(Second::Refused(3))), "{what}: {second:?}");
}

/// No reader takes the directory, and none changes it.
fn refused(fs: &SimFs, feature: Feature, what: &str) {
    for read_only in [true, false] {
        let error = options(fs).read_only(read_only).open(DIR).expect_err(what);
        is_refused(fs, &error, feature, what);
    }
}

/// Both readers find in `fs` what they find in `good`.
fn reads_the_same(good: &SimFs, fs: &SimFs, what: &str) -> Db {
    let second = |fs| match second_reader(fs) {
        Some(Second::Lines(lines)) => Some(lines),
        None => None,
        refused => panic!("{what}: {refused:?}"),
    };
    assert_eq!(second(fs), second(good), "{what}");
    let db = options(fs).open(DIR).unwrap();
    assert_eq!(contents(&db), contents(&options(&good.kill()).read_only(true).open(DIR).unwrap()), "{what}");
    assert_eq!(db.keyspace("users").unwrap().get("key").unwrap().unwrap(), "value", "{what}");
    db
}

#[test]
fn entries_that_are_kept_for_later_are_refused() {
    let written = SimFs::new();
    let db = options(&written).open(DIR).unwrap();
    db.insert(b"\x01\x81\x15\xcd\x5b\x07\0\0key", "value").unwrap();
    // A clock and a reference to a value.
    for kind in [5, 6] {
        let fs = with_changed_entry(&written, 0, |entry| entry[0] |= kind);
        refused(&fs, Feature::EntryKind(kind), "kind");
    }
    // A binding expiry, and what an operand was folded from.
    for extension in [1, 2] {
        let fs = with_changed_entry(&written, 0, |entry| {
            entry[0] |= 0x10;
            entry[6] -= 8;
            entry[13] = extension;
        });
        refused(&fs, Feature::EntryExtension(extension), "extension");
    }
}

#[test]
fn edits_that_are_kept_for_later_are_refused() {
    let good = database();
    for kind in 15..=18u8 {
        let fs = with_manifest(&good, |manifest| {
            let record = find(manifest, "last-sequence", None);
            manifest[record] = kind;
        });
        refused(&fs, Feature::RecordKind(kind.into()), "an edit");
    }
    let with = |at: usize, byte: u8| {
        with_manifest(&good, |manifest| {
            let record = find(manifest, "create-keyspace", None) + 8;
            manifest[record + at] = byte;
        })
    };
    refused(&with(24, 1), Feature::RequiredBits(1), "required bits of a keyspace");
}

#[test]
fn required_bits_of_sections_are_refused_and_others_kept() {
    let good = database();
    let with = |at: usize, byte: u8| {
        with_table(&good, ".sst", |table| {
            let section = find(table, "section", None);
            table[section + at] |= byte;
        })
    };
    for (at, byte, bits) in [(2, 2, 2), (3, 0x80, 0x8000)] {
        refused(&with(at, byte), Feature::RequiredBits(bits), "required bits of a section");
    }
    for (at, byte) in [(94, 1), (95, 0x80)] {
        let fs = with(at, byte);
        let db = reads_the_same(&good, &fs, "optional bits of a section");
        // A fresh manifest states the table as it is.
        db.insert("more", "m").unwrap();
        db.close().unwrap();
        let table = fs.read(&path(&last(&fs, ".sst"))).unwrap();
        let manifest = fs.read(&path(&last(&fs, ".manifest"))).unwrap();
        let of = |bytes: &[u8]| bytes[find(bytes, "section", None)..][..104].to_vec();
        assert!(of(&table)[at] == byte && manifest.windows(104).any(|bytes| bytes == of(&table)));
        assert!(options(&fs).open(DIR).unwrap().verify().is_ok());
    }
}

#[test]
fn packed_values_are_refused_one_by_one() {
    let good = database();
    let fs = with_table(&good, ".sst", |table| {
        let entry = find(table, "entry", Some("value_file"));
        // Behind header and key, the pointer's codec.
        table[entry + 12 + b"large".len() + 20] = 2;
    });
    let db = options(&fs).open(DIR).unwrap();
    let error = db.get("large").unwrap_err();
    is_refused(&fs, &error, Feature::Algorithm(2), "a packed value");
    assert_eq!(db.get("small").unwrap().unwrap(), "s");
    assert!(db.verify().problems.iter().any(|e| matches!(e, Error::UnsupportedFormat(_))));

    // Who looks at the record in the value file is told as well.
    let fs = with_table(&good, ".val", |values| values[64 + 20] = 2);
    let db = options(&fs).open(DIR).unwrap();
    assert!(db.verify().problems.iter().any(|e| matches!(e, Error::UnsupportedFormat(_))));
}

/// Eight more bytes in the record of each section and keyspace, which no reader of this version knows.
#[test]
fn further_fields_of_records_are_passed_over_and_kept() {
    const FIELD: [u8; 8] = [9; 8];
    let good = database();
    // So that the first edit of the manifest states everything; its others would not be where they were.
    options(&good).open(DIR).unwrap().insert("again", "a").unwrap();
    let fs = good.kill();
    let table = last(&fs, ".sst");
    change(&fs, &table, |table| {
        let footer = table.len() - 128;
        let number = |at: usize| u64::from_le_bytes(table[at..at + 8].try_into().unwrap());
        let mut record = usize::try_from(number(footer + 40)).unwrap();
        let longer: [(usize, u64); 2] = [footer + 24, footer + 48].map(|at| (at, number(at) + 16));
        for (at, length) in longer {
            table[at..at + 8].copy_from_slice(&length.to_le_bytes());
        }
        for _ in 0..2 {
            record = lengthen_section(table, record, FIELD);
        }
        reseal(Kind::Table, table);
    });
    let bytes = fs.read(&path(&table)).unwrap();
    let manifest = last(&fs, ".manifest");
    change(&fs, &manifest, |manifest| {
        let units = |bytes: &[u8]| 8 * usize::try_from(u32::from_le_bytes(bytes[84..88].try_into().unwrap())).unwrap();
        manifest.truncate(104 + units(manifest));
        let (mut at, mut more) = (104, 0);
        while at < manifest.len() {
            let before = manifest.len();
            match manifest[at] {
                5 => {
                    let second = lengthen_section(manifest, at + 8 + 56, FIELD);
                    lengthen_section(manifest, second, FIELD);
                }
                9 => lengthen(manifest, at + 8, 40, FIELD),
                _ => {}
            }
            let added = u8::try_from(manifest.len() - before).unwrap();
            more += added / 8;
            manifest[at + 4] += added;
            at += 8 + usize::from(manifest[at + 4]) + 256 * usize::from(manifest[at + 5]);
        }
        manifest[84] += more;
        adopt(manifest, table.split('.').next().unwrap().parse().unwrap(), &bytes);
        reseal(Kind::Manifest, manifest);
    });

    let db = reads_the_same(&good, &fs, "longer records");
    db.insert("more", "m").unwrap();
    db.close().unwrap();
    assert_ne!(last(&fs, ".manifest"), manifest);
    let kept = fs.read(&path(&last(&fs, ".manifest"))).unwrap();
    assert_eq!(kept.windows(8).filter(|bytes| *bytes == FIELD).count(), 3);
    assert!(kept.windows(13).any(|bytes| bytes == [&FIELD[..], b"users"].concat()));
    assert!(options(&fs).open(DIR).unwrap().verify().is_ok());
}

/// Adds a field to the record at `at`, which takes `known` bytes without.
fn lengthen(bytes: &mut Vec<u8>, at: usize, known: usize, field: [u8; 8]) {
    bytes.splice(at + known..at + known, field);
    bytes[at] = u8::try_from(known + 8).unwrap();
}

/// The same for the record of a section; answers where the next one begins.
fn lengthen_section(bytes: &mut Vec<u8>, at: usize, field: [u8; 8]) -> usize {
    lengthen(bytes, at, 104, field);
    let [lower, upper, files] = [90, 92, 100].map(|field| usize::from(bytes[at + field]));
    at + 112 + (lower + upper).next_multiple_of(8) + 24 * files
}
