//! Rules that are easily read in two ways: both readers must read them alike.

use maplsm::{Damage, Db, Error, ErrorKind, KeyspaceOptions, Options, SimFs};

use super::layout::with_changed_entry;
use super::reader::{Second, second_reader};
use super::room::{find, find_all, last, with_manifest, with_table};
use crate::support::reseal::{Kind, reseal};
use crate::support::{DIR, change, contents, names, path, sim_options};

fn options(fs: &SimFs) -> Options {
    sim_options(fs).memtable_entries(Some(3)).large_value_bytes(Some(64)).clone()
}

fn put(db: &Db, keys: std::ops::Range<u8>) {
    keys.for_each(|key| db.insert([key], [key; 20]).unwrap());
}

/// Both readers refuse it as damaged.
fn damaged(fs: &SimFs, what: Damage, case: &str) {
    let error = options(fs).read_only(true).open(DIR).and_then(|db| contents_of(&db)).expect_err(case);
    assert_eq!(error.corruption().map(|c| c.what), Some(what), "{case}: {error}");
    let second = second_reader(fs);
    assert!(matches!(second, None | Some(Second::Refused(2))), "{case}: {second:?}");
}

fn contents_of(db: &Db) -> Result<usize, Error> {
    db.iter().map(|entry| entry.map(|_| 1)).sum()
}

/// Both readers find this many entries.
fn reads(fs: &SimFs, entries: usize, case: &str) -> Db {
    let second = second_reader(fs);
    let db = options(fs).open(DIR).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(contents(&db).len(), entries, "{case}");
    match second {
        None => {}
        Some(Second::Lines(lines)) => assert_eq!(lines.lines().count(), entries, "{case}"),
        Some(refused @ Second::Refused(_)) => panic!("{case}: {refused:?}"),
    }
    db
}

/// The same disk with other bytes at a place of a file, and its checksums made right.
fn with(fs: &SimFs, name: &str, at: usize, bytes: &[u8]) -> SimFs {
    let fs = fs.kill();
    change(&fs, name, |file| {
        file[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(Kind::of(name).unwrap(), file);
    });
    fs
}

/// Cuts a manifest behind its first edit.
fn cut(manifest: &mut Vec<u8>) {
    let units = u32::from_le_bytes(manifest[84..88].try_into().unwrap());
    manifest.truncate(104 + 8 * usize::try_from(units).unwrap());
}

/// The same disk with another edit of these records behind the first one.
fn with_edit(fs: &SimFs, records: &[(u8, &[u8])]) -> SimFs {
    with_manifest(fs, |manifest| {
        cut(manifest);
        append(manifest, records);
    })
}

fn append(manifest: &mut Vec<u8>, records: &[(u8, &[u8])]) {
    let mut body = Vec::new();
    for (kind, payload) in records {
        body.extend([*kind, 0, 0, 0, u8::try_from(payload.len()).unwrap(), 0, 0, 0]);
        body.extend(*payload);
    }
    let (units, count) = (u8::try_from(body.len() / 8).unwrap(), u8::try_from(records.len()).unwrap());
    manifest.extend([0x96, 1, 0, 0, units, 0, 0, 0, 0, 0, 0, 0, count, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    manifest.extend(body);
}

/// A log of two segments, nothing of which is known to be durable.
fn two_segments() -> SimFs {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    put(&db, 0..5);
    assert_eq!(names(&fs, ".wal").len(), 2);
    fs.kill()
}

#[test]
fn the_header_of_a_manifest_has_a_predecessor_and_nothing_else() {
    let fs = two_segments();
    let name = last(&fs, ".manifest");
    let number: u8 = name.split('.').next().unwrap().parse().unwrap();
    for (at, byte) in [(48, number), (48, number + 1), (56, 8), (64, 1)] {
        damaged(&with(&fs, &name, at, &[byte]), Damage::BadField, &format!("{byte} at {at}"));
    }
    reads(&with(&fs, &name, 48, &[number - 1]), 5, "a predecessor");
}

#[test]
fn a_segment_header_that_verifies_and_breaks_a_rule_was_written_that_way() {
    let fs = two_segments();
    let name = last(&fs, ".wal");
    let base = fs.read(&path(&name)).unwrap()[64];
    damaged(&with(&fs, &name, 64, &[base + 1]), Damage::BadSequence, "base_sequence");
    let first = names(&fs, ".wal").remove(0);
    for at in [10, 20, 72] {
        damaged(&with(&fs, &first, at, &[1]), Damage::BadField, "reserved bytes");
        // With a wrong checksum it is torn.
        let torn = fs.kill();
        change(&torn, &first, |bytes| bytes[at] = 1);
        reads(&torn, 0, "reserved bytes of a torn header");
        // Without a good one, the segment in front ends where its groups do, and nobody comes to this one.
        reads(&with(&fs, &name, at, &[1]), 3, "reserved bytes behind the torn end");
    }
}

#[test]
fn a_durable_position_in_front_of_all_files_is_refused_where_the_log_goes_and_nowhere_else() {
    let fs = two_segments();
    let name = last(&fs, ".wal");
    let bytes = fs.read(&path(&name)).unwrap();
    let second = 80 + 24 + 8 * usize::from(bytes[84]);
    assert_eq!(bytes[second], 0x96);
    let bad = with(&fs, &name, second + 2, &[0xff, 0xff]);
    damaged(&bad, Damage::BadField, "durable_back");
    change(&bad, &name, |bytes| bytes[80 + 24] ^= 1);
    reads(&bad, 3, "behind a torn group");
}

#[test]
fn a_recorded_end_is_durable_wherever_the_log_ends() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    put(&db, 0..2);
    db.close().unwrap();
    let db = options(&fs).open(DIR).unwrap();
    put(&db, 2..4);
    db.close().unwrap();
    let [_, second] = &names(&fs, ".wal")[..] else { panic!("two segments") };
    reads(&fs.kill(), 4, "as it was");
    // The manifest knows the end of the second segment alone, and the first one ends with its mark.
    let forgotten = with_manifest(&fs, |manifest| {
        let ends = find_all(manifest, "segment-end", None);
        let (first, last) = (ends[0], ends[ends.len() - 1]);
        manifest.copy_within(last + 8..last + 24, first + 8);
        cut(manifest);
    });
    reads(&forgotten.kill(), 4, "the end of the first one follows from the second one");
    let lost = forgotten.kill();
    change(&lost, second, |bytes| bytes[..80].fill(0));
    let error = options(&lost).open(DIR).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    let found = second_reader(&lost);
    assert!(matches!(found, None | Some(Second::Refused(2))), "{found:?}");
}

/// A table with a pointer into a value file.
fn with_values() -> SimFs {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    db.insert("large", [1; 100]).unwrap();
    db.insert("small", "s").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    // So that the first edit of the manifest states everything.
    let db = options(&fs).open(DIR).unwrap();
    db.insert("log", "l").unwrap();
    db.sync().unwrap();
    fs.kill()
}

#[test]
fn value_files_are_added_once_and_go_by_themselves() {
    let fs = with_values();
    let manifest = fs.read(&path(&last(&fs, ".manifest"))).unwrap();
    let record = find(&manifest, "add-values", None);
    let values = &manifest[record + 8..record + 64];
    let table = &manifest[find(&manifest, "add-table", None) + 8..][..8];
    let number = &table.to_vec()[..];
    damaged(&with_edit(&fs, &[(13, values)]), Damage::BadField, "one that is there");
    let mut other = values.to_vec();
    other[0] += 50;
    damaged(&with_edit(&fs, &[(13, &other), (13, &other)]), Damage::BadField, "twice in an edit");
    reads(&with_edit(&fs, &[(13, &other)]), 3, "one that nothing points into");
    let removed = with_edit(&fs, &[(7, number)]);
    reads(&removed.kill(), 1, "the table is removed, and its value file with it");
    let again = with_manifest(&removed, |manifest| append(manifest, &[(13, values)]));
    damaged(&again, Damage::BadField, "its number is used again");
    damaged(&with_edit(&fs, &[(7, &99u64.to_le_bytes())]), Damage::BadField, "a table that is not there");
    let unknown = with(&fs, &last(&fs, ".manifest"), record + 8, &[77]);
    damaged(&unknown, Damage::BadPointer, "a section with an unknown value file");
}

#[test]
fn tables_of_level_0_are_newer_or_older_than_each_other() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    for keys in [0..2, 1..3] {
        put(&db, keys);
        db.flush().unwrap();
    }
    db.close().unwrap();
    assert_eq!(names(&fs, ".sst").len(), 2);
    reads(&fs.kill(), 3, "as it was");
    // The newer table begins with the last number of the older one.
    let bad = with_table(&fs, ".sst", |table| {
        let section = find(table, "section", None);
        let footer = table.len() - 128;
        assert_eq!((table[section + 72], table[footer + 72]), (3, 3));
        (table[section + 72], table[footer + 72]) = (2, 2);
    });
    damaged(&bad, Damage::OutOfOrder, "sequence numbers that overlap");
}

#[test]
fn other_names_are_ignored_and_stay() {
    let fs = two_segments();
    let others = ["ingest.tmp", "CURRENT.new", "RESERVE", "CURRENT.tmp", "000002.wal.bak", "7.wal", "000099.SST"];
    for name in others {
        fs.write(&path(name), b"anything");
    }
    let db = reads(&fs, 5, "names of others");
    db.flush().unwrap();
    db.close().unwrap();
    for name in others.iter().filter(|name| !["CURRENT.new", "RESERVE"].contains(name)) {
        assert_eq!(fs.read(&path(name)).as_deref(), Some(&b"anything"[..]), "{name}");
    }
}

#[test]
fn bytes_between_sections_are_looked_at_on_full_verification() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    let aligned = db.create_keyspace("aligned", KeyspaceOptions::new().value_alignment(16)).unwrap();
    db.insert("key", "v").unwrap();
    db.insert("key2", "12345678").unwrap();
    aligned.insert("key", "v").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let bad = with_table(&fs, ".sst", |table| {
        let section = find(table, "section", None);
        let end = usize::from(table[section + 24]);
        assert_eq!(end % 16, 8, "a gap");
        table[end] = 1;
    });
    let db = options(&bad).read_only(true).open(DIR).unwrap();
    assert_eq!((contents(&db).len(), db.keyspace("aligned").unwrap().iter().count()), (2, 1));
    assert!(db.verify().problems.iter().any(Error::is_corruption));
    match second_reader(&bad) {
        Some(Second::Refused(code)) => panic!("refused with {code}"),
        Some(Second::Lines(lines)) => assert_eq!(lines.lines().count(), 3),
        None => {}
    }
}

#[test]
fn a_section_without_entries_is_not_compressed() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    db.remove_range("a".."z").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    for (codec, log2) in [(1, 0), (1, 12)] {
        let bad = with_table(&fs, ".sst", |table| {
            let section = find(table, "section", None);
            assert_eq!(table[section + 32], 0, "no entries");
            (table[section + 10], table[section + 13]) = (codec, log2);
        });
        damaged(&bad, Damage::BadField, "a codec without entries");
    }
}

#[test]
fn a_keyspace_with_a_codec_that_is_not_there_is_refused() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    db.create_keyspace("users", &KeyspaceOptions::new()).unwrap().insert("key", "value").unwrap();
    db.close().unwrap();
    for codec in 1..=3 {
        let fs = with_manifest(&fs, |manifest| {
            let record = find(manifest, "create-keyspace", None) + 8;
            manifest[record + 18] = codec;
        });
        let built = [cfg!(feature = "lz4"), cfg!(feature = "zstd"), false][usize::from(codec) - 1];
        match options(&fs).read_only(true).open(DIR) {
            Ok(_) => assert!(built, "codec {codec}"),
            Err(e) => assert!(!built && e.kind() == ErrorKind::UnsupportedFormat, "codec {codec}: {e}"),
        }
        // The second reader has LZ4.
        let second = second_reader(&fs);
        assert!(codec == 1 || matches!(second, None | Some(Second::Refused(3))), "codec {codec}: {second:?}");
    }
}

#[test]
fn who_walks_over_entries_out_of_order_is_told() {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    put(&db, 0..3);
    db.flush().unwrap();
    db.close().unwrap();
    // Entries of 40 bytes: the first two change places.
    let bad = with_table(&fs, ".sst", |table| table[64..144].rotate_left(40));
    damaged(&bad, Damage::OutOfOrder, "entries out of order");
    let db = options(&bad).read_only(true).open(DIR).unwrap();
    assert_eq!(db.get([2]).unwrap().unwrap(), [2; 20], "who does not come to the place");
}

#[test]
fn an_entry_that_has_expired_hides_what_is_older() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    db.insert("key", "older").unwrap();
    db.insert(b"\x01\x81\x15\xcd\x5b\x07\0\0key", "expired in 1973").unwrap();
    let fs = with_changed_entry(&fs, 1, |entry| {
        entry[0] |= 0x10;
        entry[6] -= 8;
    });
    let db = reads(&fs, 1, "an expired entry");
    // Neither has a clock.
    assert_eq!(db.get("key").unwrap().unwrap(), "expired in 1973");
}
