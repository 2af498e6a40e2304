//! Damaged and missing files: told with file and cause, or harmless; never a wrong answer.

use std::path::Path;

use maplsm::{Damage, Db, Durability, Options, SimFs, WriteBatch};

use super::flips::{Outcome, examine};
use crate::support::model::Map;
use crate::support::{DIR, contents, image, load, names, path, sim_options};

pub(super) fn is_kind(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// A closed database with two tables, one of them with versions and tombstones, two value files, and something in the log.
pub(super) fn small(options: &Options) -> Map {
    let db = options.clone().large_value_bytes(Some(100)).open(DIR).unwrap();
    load(&db, (0..12u8).map(|i| (vec![b'k', i * 16], vec![i; usize::from(i) * 3])), 5);
    db.insert([b'k', 80], [b'l'; 150]).unwrap();
    db.compact().unwrap();
    db.write(WriteBatch::new().insert("", "empty").insert([b'k', 16], "new").remove([b'k', 32])).unwrap();
    db.insert([b'k', 96], [b'm'; 120]).unwrap();
    let snapshot = db.snapshot();
    db.insert([b'k', 48], "newer").unwrap();
    db.insert([b'k', 48], "newest").unwrap();
    db.flush().unwrap();
    drop(snapshot);
    db.write(WriteBatch::new().insert("log", "1").remove([b'k', 64])).unwrap();
    db.insert("log", "2").unwrap();
    let state = contents(&db);
    assert_eq!((state.len(), db.stats().tables.len(), db.stats().value_files.len()), (12, 2, 2));
    db.close().unwrap();
    state
}

/// Cuts the last segment at every byte: what was complete in front of the cut is there.
#[test]
fn a_log_cut_anywhere_keeps_its_complete_groups() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.memtable_bytes(16 << 10);
    let db = options.open(DIR).unwrap();
    let mut states = vec![(0, contents(&db))];
    for i in 0..12u8 {
        let mut batch = WriteBatch::new();
        for j in 0..=i % 4 {
            batch.insert([b'k', i % 5, j], vec![i; usize::from(i) * 7]);
        }
        db.write(batch.remove([b'k', (i + 2) % 5])).unwrap();
        states.push((db.stats().memtable_bytes, contents(&db)));
    }
    let killed = fs.kill();
    db.close().unwrap();
    let name = names(&killed, ".wal").pop().unwrap();
    let (whole, used) = read_log(&killed);
    for cut in (0..=used + 9).chain([whole.len()]) {
        let copy = killed.kill();
        copy.write(&path(&name), &whole[..cut]);
        let db = options.clone().file_system(copy.clone()).open(DIR);
        let db = db.unwrap_or_else(|e| panic!("cut at {cut} of {used}: {e}"));
        let (_, expected) = states.iter().rev().find(|(end, _)| *end <= cut as u64).unwrap();
        assert!(contents(&db) == *expected, "cut at {cut} of {used}");
        assert!(!db.recovery_report().clean, "cut at {cut} of {used}");
        db.insert("after", "the cut").unwrap();
        let left = copy.kill();
        drop(db);
        assert_eq!(options.clone().file_system(left).open(DIR).unwrap().iter().count(), expected.len() + 1);
    }
    // After a clean close the manifest knows where the log ends, so no cut is taken for a torn tail.
    let (whole, used) = read_log(&fs);
    for cut in (0..=used + 9).chain([whole.len()]) {
        let copy = fs.kill();
        copy.write(&path(&name), &whole[..cut]);
        match options.clone().file_system(copy).open(DIR) {
            Ok(db) => assert!(cut >= used && db.recovery_report().clean, "cut at {cut} of {used}"),
            Err(e) => assert!(cut < used && e.corruption().unwrap().path == path(&name), "cut at {cut} of {used}: {e}"),
        }
    }
}

/// The last segment, and how much of it is not zero, in groups of 8 bytes.
fn read_log(fs: &SimFs) -> (Vec<u8>, usize) {
    let whole = fs.read(&path(&names(fs, ".wal").pop().unwrap())).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    (whole, used.next_multiple_of(8))
}

/// Zeros or noise in place of the end of a log that was never synced are a torn tail as well.
#[test]
fn a_log_with_a_garbled_end_keeps_its_complete_groups() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.memtable_bytes(16 << 10);
    let db = options.open(DIR).unwrap();
    let mut states = vec![(0, contents(&db))];
    for i in 0..8u8 {
        db.insert([i], vec![i; 40]).unwrap();
        states.push((db.stats().memtable_bytes, contents(&db)));
    }
    let killed = fs.kill();
    let name = names(&killed, ".wal").pop().unwrap();
    let (whole, used) = read_log(&killed);
    // The segment's header is written whole or not at all, and an unknown version in it is no torn tail.
    for from in std::iter::once(0).chain(64..used) {
        for fill in [0, 0xff, 0x5a] {
            let mut bytes = whole.clone();
            bytes[from..used].fill(fill);
            let copy = killed.kill();
            copy.write(&path(&name), &bytes);
            let db = options.clone().file_system(copy).open(DIR).unwrap_or_else(|e| panic!("{from}, {fill}: {e}"));
            let found = contents(&db);
            // Bytes that are filled with what they were cut nothing.
            let same = bytes.iter().zip(&whole).position(|(a, b)| a != b).unwrap_or(used);
            let (_, expected) = states.iter().rev().find(|(end, _)| *end <= same as u64).unwrap();
            assert!(found == *expected, "from {from} filled with {fill}");
        }
    }
}

/// What was synced is not taken for a torn tail: damage in front of the durable mark is told.
#[test]
fn damage_to_synced_groups_is_refused() {
    let fs = SimFs::new();
    let options = sim_options(&fs);
    let db = options.clone().memtable_bytes(16 << 10).open(DIR).unwrap();
    for i in 0..6u8 {
        db.write_with(WriteBatch::new().insert([i], vec![i; 30]), Durability::Sync).unwrap();
    }
    let killed = fs.kill();
    let name = names(&killed, ".wal").pop().unwrap();
    let (whole, used) = read_log(&killed);
    // Each header carries what was durable before its group, so only the last group can be a torn tail.
    let last = usize::try_from(db.stats().memtable_bytes).unwrap() * 5 / 6;
    for at in 64..last - 64 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        let copy = killed.kill();
        copy.write(&path(&name), &bytes);
        let e = options.clone().file_system(copy).open(DIR).unwrap_err();
        let corruption = e.corruption().unwrap_or_else(|| panic!("{at} of {used}: {e}"));
        assert_eq!(corruption.path, path(&name), "{at}");
        assert!(corruption.offset <= at as u64, "{at}: {corruption}");
    }
}

#[test]
fn a_lost_index_is_made_again() {
    for damage in [None, Some(0), Some(1)] {
        let fs = SimFs::new();
        let options = sim_options(&fs);
        let state = small(&options);
        let originals: Vec<(String, Vec<u8>)> =
            image(&fs).into_iter().filter(|(name, _)| is_kind(name, "idx")).collect();
        assert_eq!(originals.len(), 2);
        for (name, bytes) in &originals {
            match damage {
                None => fs.remove(&path(name)),
                Some(0) => fs.write(&path(name), &bytes[..bytes.len() / 2]),
                Some(_) => fs.write(&path(name), &vec![0; bytes.len()]),
            }
        }
        let reader = options.clone().read_only(true).open(DIR).unwrap();
        assert_eq!(contents(&reader), state);
        drop(reader);
        let db = options.open(DIR).unwrap();
        for (key, value) in &state {
            assert_eq!(db.get(key).unwrap().unwrap(), *value);
        }
        assert_eq!(contents(&db), state);
        assert!(db.verify().is_ok(), "{:?}", db.verify());
        db.maintain().unwrap();
        for (name, bytes) in &originals {
            assert_eq!(fs.read(&path(name)).as_ref(), Some(bytes), "{name} is restored as it was");
        }
        // The restored files are durable.
        let after = fs.power_cut(3);
        assert_eq!(contents(&options.clone().file_system(after).open(DIR).unwrap()), state);
    }
}

#[test]
fn a_missing_or_shortened_table_or_value_file_is_told_at_open() {
    let fs = SimFs::new();
    let options = sim_options(&fs);
    small(&options);
    for name in names(&fs, ".sst").into_iter().chain(names(&fs, ".val")) {
        for read_only in [false, true] {
            let lost = fs.kill();
            lost.remove(&path(&name));
            let e = options.clone().file_system(lost).read_only(read_only).open(DIR).unwrap_err();
            let corruption = e.corruption().unwrap();
            assert_eq!((&corruption.path, corruption.what), (&path(&name), Damage::Missing));

            let short = fs.kill();
            let bytes = fs.read(&path(&name)).unwrap();
            short.write(&path(&name), &bytes[..bytes.len() - 1]);
            let e = options.clone().file_system(short).read_only(read_only).open(DIR).unwrap_err();
            let corruption = e.corruption().unwrap();
            assert_eq!((&corruption.path, corruption.what), (&path(&name), Damage::WrongLength));
        }
    }
}

#[test]
fn missing_files_of_every_kind_are_told() {
    let fs = SimFs::new();
    let options = sim_options(&fs);
    let state = small(&options);
    for (name, _) in image(&fs) {
        let lost = fs.kill();
        lost.remove(&path(&name));
        let before = image(&lost);
        let opened = options.clone().file_system(lost.clone()).open(DIR);
        if is_kind(&name, "idx") || name == "LOCK" {
            assert_eq!(contents(&opened.unwrap()), state, "without {name}");
            continue;
        }
        let e = opened.unwrap_err();
        let corruption = e.corruption().unwrap_or_else(|| panic!("without {name}: {e}"));
        assert_eq!((&corruption.path, corruption.what), (&path(&name), Damage::Missing));
        assert_eq!(image(&lost), before, "a refused open changes nothing");
    }
}

/// What the manifest says is compared with what it has said.
#[test]
fn a_manifest_that_changes_under_an_open_database_is_noticed() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    db.flush().unwrap();
    let manifest = path(&names(&fs, ".manifest")[0]);
    let earlier = fs.read(&manifest).unwrap();
    db.insert("key", "new").unwrap();
    db.flush().unwrap();
    assert!(db.verify().is_ok());
    let told = || {
        let problems = db.verify().problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].corruption().unwrap().what
    };
    let later = fs.read(&manifest).unwrap();
    fs.write(&manifest, &earlier);
    assert_eq!(told(), Damage::ManifestMismatch);
    fs.write(&manifest, &later);
    let other = SimFs::with_seed(2);
    sim_options(&other).open(DIR).unwrap().close().unwrap();
    fs.write(&path("CURRENT"), &other.read(&path("CURRENT")).unwrap());
    assert_eq!(told(), Damage::WrongFile);
    fs.remove(&path("CURRENT"));
    assert_eq!(told(), Damage::Missing);
}

/// Right entries with right checksums of their own, in the wrong file: what a misdirected write leaves. Only the identity in
/// the checksums tells.
#[test]
fn the_inside_of_another_table_is_noticed() {
    let table = |seed: u64, value: u8| {
        let fs = SimFs::with_seed(seed);
        let db = sim_options(&fs).checksum_chunk_bytes(4096).open(DIR).unwrap();
        load(&db, (0..200u32).map(|i| (i.to_be_bytes(), [value; 100])), 10);
        db.flush().unwrap();
        db.close().unwrap();
        let path = path(&names(&fs, ".sst")[0]);
        (fs.read(&path).unwrap(), path, fs)
    };
    let ((mut bytes, path, fs), (other, ..)) = (table(1, 1), table(2, 2));
    assert_eq!(bytes.len(), other.len());
    let inside = 4096..bytes.len() - 128;
    bytes[inside.clone()].copy_from_slice(&other[inside]);
    fs.write(&path, &bytes);
    let db = sim_options(&fs).read_only(true).open(DIR).unwrap();
    for i in 0..200u32 {
        if let Ok(found) = db.get(i.to_be_bytes()) {
            assert!(found.is_some_and(|found| found == [1; 100]), "a value of another database");
        }
    }
    assert!(!db.verify().is_ok());
}

#[test]
fn two_files_of_a_kind_cannot_be_exchanged() {
    let fs = SimFs::new();
    let options = sim_options(&fs);
    let state = small(&options);
    for ending in [".sst", ".idx", ".val"] {
        let swapped = fs.kill();
        let found = names(&fs, ending);
        let read = |name: &String| fs.read(&path(name)).unwrap();
        swapped.write(&path(&found[0]), &read(&found[1]));
        swapped.write(&path(&found[1]), &read(&found[0]));
        let outcome = examine(options.clone().file_system(swapped), std::slice::from_ref(&state), ending, None);
        let expected: &[Outcome] =
            if ending == ".idx" { &[Outcome::Harmless] } else { &[Outcome::Refused, Outcome::Noticed] };
        assert!(expected.contains(&outcome), "{ending}: {outcome:?}");
    }
}

#[test]
fn foreign_files_are_left_alone() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.memtable_bytes(4 << 10).table_bytes(4 << 10).l0_tables(1).level_bytes_base(4 << 10);
    let foreign = [
        "notes.txt",
        "README",
        "1.sst",
        "000001.sst.bak",
        "abc.wal",
        "000001.SST",
        "-00001.wal",
        "0000001x.idx",
        "CURRENT.bak",
        "000001",
        ".wal",
        "+00001.sst",
        "000001.sst~",
        "backup.manifest",
    ];
    for name in foreign {
        fs.write(&path(name), name.as_bytes());
    }
    for round in 0..4u8 {
        let db: Db = options.open(DIR).unwrap();
        load(&db, (0..100u8).map(|i| (vec![i], vec![round; 100])), 7);
        db.maintain().unwrap();
        db.compact().unwrap();
        db.close().unwrap();
    }
    for name in foreign {
        assert_eq!(fs.read(&path(name)).as_deref(), Some(name.as_bytes()), "{name}");
    }
}
