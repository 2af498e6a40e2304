//! What is in a directory and no part of the database, and a database that has lost what names its parts.

use std::path::{Path, PathBuf};

use maplsm::{Damage, Db, Error, Outcome, Result, SimFs};

use crate::support::{DIR, contents, image, load, path, sim_options};

/// A directory that has lost `CURRENT` is damaged and not empty, however it is opened, and nothing in it changes.
#[test]
fn data_without_current_is_damage() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.large_value_bytes(Some(64));
    let db = options.open(DIR).unwrap();
    load(&db, (0..100u8).map(|i| (vec![i], vec![i; 100])), 7);
    db.flush().unwrap();
    db.insert("key", "value").unwrap();
    db.close().unwrap();
    fs.remove(&path("CURRENT"));
    let all = image(&fs);
    let any_of = [".wal", ".sst", ".idx", ".val"];
    for kept in any_of {
        let left = fs.kill();
        for (name, _) in &all {
            if any_of.iter().any(|ending| name.ends_with(ending)) && !name.ends_with(kept) {
                left.remove(&path(name));
            }
        }
        let before = image(&left);
        let options = sim_options(&left);
        let as_it_is = options.clone();
        let writing = options.clone().create_if_missing(false).clone();
        let reading = options.clone().read_only(true).clone();
        for options in [as_it_is, writing, reading] {
            let error = options.open(DIR).unwrap_err();
            let corruption = error.corruption().unwrap_or_else(|| panic!("{kept}: {error}"));
            assert_eq!((corruption.path.clone(), corruption.what), (path("CURRENT"), Damage::Missing), "{kept}");
        }
        assert_eq!(image(&left), before, "{kept}");
    }
    let report = maplsm::repair(DIR, &sim_options(&fs)).unwrap();
    assert!(!report.has_losses());
    assert_eq!(contents(&sim_options(&fs).open(DIR).unwrap()).len(), 101);
}

/// What is left of work that was cut off, and what is nobody's, is told and no damage; the first durable write removes the one
/// and leaves the other alone.
#[test]
fn verify_tells_what_is_no_part_of_the_database() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    load(&db, (0..100u8).map(|i| (vec![i], vec![i; 100])), 7);
    db.flush().unwrap();
    let sound = db.verify();
    assert!(sound.is_ok() && sound.leftovers.is_empty() && sound.foreign == 0, "{sound:?}");
    db.close().unwrap();

    let left =
        ["000000.wal", "900000.sst", "900001.idx", "900002.val", "900003.manifest", "CURRENT.new"].map(path).to_vec();
    let foreign = ["1.sst", "notes.txt", "CURRENT.bak"].map(path);
    for path in left.iter().chain(&foreign) {
        fs.write(path, b"x");
    }
    for read_only in [true, false] {
        let report = sim_options(&fs).read_only(read_only).open(DIR).unwrap().verify();
        assert!(report.is_ok(), "{:?}", report.problems);
        assert_eq!((report.leftovers, report.foreign), (left.clone(), 3));
    }

    let db = sim_options(&fs).open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    db.sync().unwrap();
    let report = db.verify();
    assert_eq!((report.leftovers, report.foreign), (Vec::new(), 3));
    assert!(left.iter().all(|path| fs.read(path).is_none()) && foreign.iter().all(|path| fs.read(path).is_some()));
}

/// Tables of an earlier run that were compacted away go when their last reader does, and are not left over until then.
#[test]
fn what_a_reader_still_needs_is_not_left_over() {
    let fs = SimFs::new();
    // Below level 0, where an iterator opens its tables one by one and so keeps them.
    let fill = |db: &maplsm::Db| {
        load(db, (0..1000_u32).map(|i| (i.to_be_bytes(), [7; 100])), 100);
        db.compact().unwrap();
    };
    let db = sim_options(&fs).open(DIR).unwrap();
    fill(&db);
    db.close().unwrap();
    let db = sim_options(&fs).open(DIR).unwrap();
    let mut reader = db.iter();
    assert!(reader.next().is_some());
    fill(&db);
    assert!(db.stats().obsolete_bytes > 0);
    assert_eq!(db.verify().leftovers, Vec::<PathBuf>::new());
    assert_eq!(reader.count(), 999);
}

/// What a call has made that could not go on for want of space is gone when it answers, so that it takes no space until the
/// next open.
#[test]
fn what_finds_no_space_leaves_nothing_over() {
    type Call = fn(&Db) -> Result<()>;
    let names = |fs: &SimFs| fs.files(Path::new(DIR)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let calls: [(&str, Call); 5] = [
        ("flush", Db::flush),
        ("compact", Db::compact),
        ("ingest", |db| db.ingest((0..200u8).map(|i| ([b'x', i], [i; 100]))).map(drop)),
        ("checkpoint", |db| db.checkpoint("/other")),
        ("drop_keyspace", |db| db.drop_keyspace("other")),
    ];
    for (name, call) in calls {
        for reopened in [false, true] {
            let mut refused = 0;
            for pages in 0.. {
                let fs = SimFs::new();
                let mut options = sim_options(&fs);
                options.reserve_bytes(0).large_value_bytes(Some(64)).table_bytes(4096);
                let mut db = options.open(DIR).unwrap();
                db.keyspace("other").unwrap().insert("key", "value").unwrap();
                load(&db, (0..100u8).map(|i| (vec![i], vec![i; 100])), 7);
                db.flush().unwrap();
                load(&db, (50..150u8).map(|i| (vec![i], vec![i; 50])), 7);
                if reopened {
                    db.close().unwrap();
                    db = options.open(DIR).unwrap();
                }
                let before = names(&fs);
                fs.set_capacity(Some(fs.space() + (pages << 12)));
                let Err(error) = call(&db) else { break };
                refused += 1;
                assert!(error.to_string().contains("the simulated disk is full"), "{name}: {error}");
                let left = names(&fs);
                let new: Vec<_> = left.iter().filter(|name| !before.contains(name)).collect();
                println!("{name}, {reopened}, {pages} pages: {error}: {new:?}");
                // A manifest that has been made for the next edit, and what is going to name it.
                let prepared = new.iter().filter(|name| name.ends_with(".manifest")).count();
                let named = new.iter().filter(|name| **name == "CURRENT.new").count();
                assert!(
                    prepared + named == new.len() && named <= prepared && prepared <= 1,
                    "{name}, {pages} pages: {new:?}"
                );
                assert_eq!(fs.files(Path::new("/other")), []);
                fs.set_capacity(None);
                db.insert("again", "value").unwrap_or_else(|e| panic!("{name}, {pages} pages: {e}"));
            }
            println!("{name}: {refused} refused");
            assert!(refused > 2, "{name}");
        }
    }
}

/// Files are numbered below 2^63. A name that comes close leaves the rest to the next ones; then writes are refused, and
/// opens.
#[test]
fn numbers_of_files_come_to_an_end() {
    let fs = SimFs::new();
    fs.write(&path(&format!("{}.manifest", (1_u64 << 63) - 8)), b"x");
    let mut options = sim_options(&fs);
    options.memtable_entries(Some(1));
    let db = options.open(DIR).unwrap();
    let mut acknowledged = 0_u32;
    let error = loop {
        match db.insert(acknowledged.to_be_bytes(), "value") {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 20);
    };
    let exhausted = |error: &Error| error.to_string() == Error::NumbersExhausted.to_string();
    assert!(error.to_string().contains(&Error::NumbersExhausted.to_string()), "{error}");
    let count = |db: &maplsm::Db| u32::try_from(contents(db).len()).unwrap();
    assert!(acknowledged > 0 && (acknowledged..=acknowledged + 1).contains(&count(&db)));
    drop(db);
    let before = image(&fs);
    let error = options.open(DIR).unwrap_err();
    assert!(exhausted(&error), "{error}");
    assert_eq!(image(&fs), before);

    // Repair gives the files numbers from the front on again.
    let findings = maplsm::examine(DIR, &options).unwrap();
    assert!(
        !findings.is_empty() && findings.iter().all(|finding| finding.outcome == Outcome::Restored),
        "{findings:?}"
    );
    let report = maplsm::repair(DIR, &options).unwrap();
    assert!(!report.has_losses(), "{report:?}");
    let db = options.open(DIR).unwrap();
    assert!((acknowledged..=acknowledged + 1).contains(&count(&db)));
    for number in 100..200_u32 {
        db.insert(number.to_be_bytes(), "value").unwrap();
    }
    assert!(db.verify().is_ok());
}
