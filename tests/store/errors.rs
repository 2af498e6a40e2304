//! Every kind of damage and every error has a way to the caller.

use std::collections::BTreeSet;
use std::path::Path;

use maplsm::{Error, Feature, SimFs, WriteBatch};

use crate::support::reseal::{Kind, adopt, reseal};
use crate::support::{DIR, load, sim_options};

/// A closed database with everything in it, small enough to change each of its bytes.
fn small(seed: u64) -> SimFs {
    let fs = SimFs::with_seed(seed);
    let db = sim_options(&fs).open(DIR).unwrap();
    let keyspace = db.keyspace("named").unwrap();
    load(&db, (0..30u32).map(|i| (i.to_be_bytes(), [1; 20])), 10);
    db.write(WriteBatch::new().insert_into(&keyspace, "key", "value").remove("gone")).unwrap();
    db.flush().unwrap();
    load(&db, (10..20u32).map(|i| (i.to_be_bytes(), [2; 20])), 3);
    db.remove_range([3u8]..[4u8]).unwrap();
    db.close().unwrap();
    fs
}

/// Uses a database in every way; answers what is wrong with it.
fn problems(fs: &SimFs) -> Vec<Error> {
    match sim_options(fs).read_only(true).open(DIR) {
        Err(error) => vec![error],
        Ok(db) => {
            let mut problems = db.verify().problems;
            problems.extend(db.iter().filter_map(Result::err));
            problems.extend((0..30u32).filter_map(|i| db.get(i.to_be_bytes()).err()));
            problems
        }
    }
}

/// The name of a variant.
fn name(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

#[test]
fn every_kind_of_damage_is_told() {
    let good = small(1);
    let other = small(2);
    let mut seen = BTreeSet::new();
    let mut look = |fs: &SimFs| {
        for problem in problems(fs) {
            match &problem {
                Error::UnsupportedFormat(unsupported) => seen.insert(name(&unsupported.what)),
                _ => problem.corruption().is_some_and(|corruption| seen.insert(name(&corruption.what))),
            };
        }
    };
    let files = good.files(Path::new(DIR));
    for (file, _) in &files {
        let (Some(kind), path) = (Kind::of(file), Path::new(DIR).join(file)) else { continue };
        let bytes = good.read(&path).unwrap();
        let with = |change: &dyn Fn(&SimFs)| {
            let fs = good.kill();
            change(&fs);
            fs
        };
        look(&with(&|fs| fs.remove(&path)));
        look(&with(&|fs| fs.write(&path, &other.read(&path).unwrap_or_default())));
        for (from, _) in files.iter().filter(|(from, _)| Kind::of(from) == Some(kind)) {
            look(&with(&|fs| fs.write(&path, &good.read(&Path::new(DIR).join(from)).unwrap())));
        }
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for cut in (0..used).step_by(used / 40 + 1) {
            look(&with(&|fs| fs.write(&path, &bytes[..cut])));
        }
        for at in (0..used).step_by(2) {
            for (bits, sealed) in [(0x01, false), (0x01, true), (0x84, true)] {
                let mut bad = bytes.clone();
                bad[at] ^= bits;
                if sealed {
                    reseal(kind, &mut bad);
                }
                let fs = with(&|fs| fs.write(&path, &bad));
                // A table is believed if the manifest agrees with it, so let it.
                if kind == Kind::Table && sealed && at % 4 == 0 {
                    let number = file.trim_end_matches(".sst").parse().unwrap();
                    for (manifest, _) in files.iter().filter(|(name, _)| Kind::of(name) == Some(Kind::Manifest)) {
                        let manifest = Path::new(DIR).join(manifest);
                        let mut record = fs.read(&manifest).unwrap();
                        adopt(&mut record, number, &bad);
                        reseal(Kind::Manifest, &mut record);
                        fs.write(&manifest, &record);
                    }
                }
                look(&fs);
            }
        }
    }
    let expected = [
        "Algorithm",
        "BadChecksum",
        "BadField",
        "BadMagic",
        "BadSequence",
        "EntryKind",
        "IndexMismatch",
        "ManifestMismatch",
        "Missing",
        "OutOfBounds",
        "OutOfOrder",
        "RecordKind",
        "RequiredBits",
        "Truncated",
        "UnknownKeyspace",
        "Version",
        "WrongFile",
        "WrongLength",
    ];
    let missing: Vec<&str> = expected.into_iter().filter(|kind| !seen.contains(*kind)).collect();
    assert!(missing.is_empty(), "never told: {missing:?}");
    assert!(!Feature::Version(2).to_string().is_empty());
}

/// The largest number that a file can have ends the database, in words.
#[test]
fn used_up_numbers_are_an_error() {
    let fs = small(1);
    fs.write(&Path::new(DIR).join("9223372036854775806.sst"), b"");
    let used_up = sim_options(&fs).open(DIR).and_then(|db| {
        (0..4).try_for_each(|i| db.insert("key", [i]).and_then(|()| db.flush()))?;
        db.compact()
    });
    assert!(matches!(used_up, Err(Error::NumbersExhausted)), "{used_up:?}");
}

/// The memory is asked for and never touched.
#[test]
fn values_beyond_the_limit_are_refused() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    let value = vec![0; 1 << 32];
    assert!(matches!(db.insert("key", &value), Err(Error::ValueTooLong { bytes }) if bytes == 1 << 32));
    assert!(matches!(db.write(WriteBatch::new().insert("key", &value)), Err(Error::ValueTooLong { .. })));
    assert_eq!(db.iter().count(), 0);
}
