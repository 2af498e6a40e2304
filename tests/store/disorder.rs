//! Tables whose checksums are right and whose entries are out of order: whoever walks over the place is told.

use std::path::Path;

use maplsm::inspect;
use maplsm::{Cursor, Damage, Db, Durability, Options, Result, SimFs, WriteBatch};

use crate::support::reseal::{Kind, adopt, reseal};
use crate::support::{DIR, names, path, sim_options};

const ENTRIES: u8 = 21;

fn options(fs: &SimFs) -> Options {
    sim_options(fs).index_interval(4).clone()
}

/// A database with all its entries in one table, on level 0 or below.
fn one_table(compacted: bool) -> SimFs {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    let mut batch = WriteBatch::new();
    (0..ENTRIES).for_each(|key| _ = batch.insert([b'k', key], [key; 6]));
    db.write_with(&batch, Durability::Buffered).unwrap();
    if compacted {
        db.compact().unwrap();
    } else {
        db.flush().unwrap();
    }
    db.close().unwrap();
    assert_eq!(names(&fs, ".sst").len(), 1);
    fs
}

/// Where each entry of a table stands.
fn entries(table: &[u8]) -> Vec<usize> {
    let mut at = Vec::new();
    inspect::bytes(Path::new("table"), table, &mut |item| {
        at.extend((item.kind == "entry").then(|| usize::try_from(item.offset).unwrap()));
        Ok(())
    })
    .unwrap();
    at
}

/// The same with its table changed, checksums made right, and the manifest made to believe it.
fn with_table(fs: &SimFs, change: impl FnOnce(&mut Vec<u8>)) -> SimFs {
    let fs = fs.kill();
    let name = names(&fs, ".sst").pop().unwrap();
    let mut table = fs.read(&path(&name)).unwrap();
    change(&mut table);
    reseal(Kind::Table, &mut table);
    fs.write(&path(&name), &table);
    let number = name.split('.').next().unwrap().parse().unwrap();
    let manifest = names(&fs, ".manifest").pop().unwrap();
    let mut record = fs.read(&path(&manifest)).unwrap();
    adopt(&mut record, number, &table);
    reseal(Kind::Manifest, &mut record);
    fs.write(&path(&manifest), &record);
    fs
}

fn swap(table: &mut [u8], a: usize, b: usize) {
    for byte in 0..24 {
        table.swap(a + byte, b + byte);
    }
}

/// A database of one table, two entries of which have changed places.
#[cfg(feature = "cli")]
pub(crate) fn exchanged() -> SimFs {
    let good = one_table(true);
    let places = entries(&good.read(&path(&names(&good, ".sst")[0])).unwrap());
    with_table(&good, |table| swap(table, places[5], places[9]))
}

fn walk(cursor: &mut Cursor, forward: bool) -> Result<usize> {
    let mut count = 0;
    let mut more = if forward { cursor.seek_first()? } else { cursor.seek_last()? };
    while more {
        count += 1;
        more = if forward { cursor.next()? } else { cursor.prev()? };
    }
    Ok(count)
}

/// Every way to walk over everything.
fn walks(db: &Db) -> Vec<(&'static str, Result<usize>)> {
    let all = |entries: Result<Vec<maplsm::Entry>>| entries.map(|entries| entries.len());
    let mut turns = db.iter();
    let mut from_both = || {
        let mut count = 0;
        loop {
            let next = if count % 2 == 0 { turns.next() } else { turns.next_back() };
            match next {
                None => return Ok(count),
                Some(entry) => entry.map(|_| count += 1)?,
            }
        }
    };
    vec![
        ("iter", all(db.iter().collect())),
        ("iter, backwards", all(db.iter().rev().collect())),
        ("iter, from both ends", from_both()),
        ("range", all(db.range([b'k']..).collect())),
        ("range, backwards", all(db.range([b'k']..).rev().collect())),
        ("prefix", all(db.prefix("k").collect())),
        ("prefix, backwards", all(db.prefix("k").rev().collect())),
        ("snapshot", all(db.snapshot().iter().collect())),
        ("transaction", db.transaction().iter().collect::<Result<Vec<_>>>().map(|entries| entries.len())),
        ("cursor", walk(&mut db.cursor(), true)),
        ("cursor, backwards", walk(&mut db.cursor(), false)),
    ]
}

#[test]
fn a_table_out_of_order_is_noticed_by_whoever_walks_over_it() {
    for compacted in [false, true] {
        let good = one_table(compacted);
        let table = good.read(&path(&names(&good, ".sst")[0])).unwrap();
        let places = entries(&table);
        assert_eq!(places.len(), usize::from(ENTRIES));
        let db = options(&good).open(DIR).unwrap();
        for (how, walked) in walks(&db) {
            assert_eq!(walked.unwrap(), places.len(), "{how}");
        }
        drop(db);
        for a in 0..places.len() {
            for b in a + 1..places.len() {
                let bad = with_table(&good, |table| swap(table, places[a], places[b]));
                let db = options(&bad).open(DIR).unwrap();
                for (how, walked) in walks(&db) {
                    let e = walked.expect_err(&format!("{how}: entries {a} and {b} are exchanged"));
                    assert_eq!(e.corruption().map(|c| c.what), Some(Damage::OutOfOrder), "{how}, {a}, {b}: {e}");
                }
            }
        }
    }
}

/// Whoever passes over older copies of a key looks at what comes behind them.
#[test]
fn a_table_out_of_order_under_newer_copies_is_named() {
    let good = one_table(false);
    let name = names(&good, ".sst").remove(0);
    let places = entries(&good.read(&path(&name)).unwrap());
    for a in 0..places.len() {
        for b in a + 1..places.len() {
            let bad = with_table(&good, |table| swap(table, places[a], places[b]));
            let db = options(&bad).open(DIR).unwrap();
            for key in 0..ENTRIES {
                db.insert([b'k', key], "newer").unwrap();
            }
            for flushed in [false, true] {
                if flushed {
                    db.flush().unwrap();
                }
                for (how, walked) in walks(&db) {
                    // Where both ends meet in front of the place, neither walks over it: all that is shown is newer.
                    if how == "iter, from both ends" && walked.as_ref().is_ok_and(|count| *count == places.len()) {
                        continue;
                    }
                    let e = walked.expect_err(&format!("{how}: entries {a} and {b} are exchanged"));
                    let corruption = e.corruption().filter(|corruption| corruption.what == Damage::OutOfOrder);
                    let named = corruption.is_some_and(|corruption| corruption.path == path(&name));
                    assert!(named, "{how}, {a}, {b}, flushed: {flushed}: {e}");
                }
            }
        }
    }
}

/// A range that ends at the place looks one entry further.
#[test]
fn a_range_that_ends_at_the_place_is_told_as_well() {
    let good = one_table(true);
    let table = good.read(&path(&names(&good, ".sst")[0])).unwrap();
    let places = entries(&table);
    for a in 0..places.len() {
        for b in a + 1..places.len() {
            let bad = with_table(&good, |table| swap(table, places[a], places[b]));
            let db = options(&bad).open(DIR).unwrap();
            for end in 0..=ENTRIES {
                let whole = |found: Result<Vec<maplsm::Entry>>, expected: u8, how: &str| match found {
                    Ok(found) => assert_eq!(found.len(), usize::from(expected), "{a} and {b}, {how} {end}"),
                    Err(e) => assert_eq!(e.corruption().map(|c| c.what), Some(Damage::OutOfOrder), "{e}"),
                };
                whole(db.range(..[b'k', end]).collect(), end, "to");
                whole(db.range([b'k', end]..).rev().collect(), ENTRIES - end, "back to");
            }
        }
    }
}

/// Two entries of one key whose sequence numbers are in the order of the log: the older one would hide the newer one.
#[test]
fn versions_out_of_order_are_told() {
    for at in 0..usize::from(ENTRIES) - 1 {
        let good = one_table(false);
        let table = good.read(&path(&names(&good, ".sst")[0])).unwrap();
        let places = entries(&table);
        let (one, two) = (places[at], places[at + 1]);
        let bad = with_table(&good, |table| {
            let key = table[one + 12..one + 14].to_vec();
            table[two + 12..two + 14].copy_from_slice(&key);
        });
        let db = options(&bad).open(DIR).unwrap();
        for (how, walked) in walks(&db) {
            let e = walked.expect_err(&format!("{how}: entries {at} and the next have one key"));
            assert_eq!(e.corruption().map(|c| c.what), Some(Damage::OutOfOrder), "{how}, {at}: {e}");
        }
    }
}

/// A table that says that it has one version of each key, and has two of one: backwards the older one would come first.
#[test]
fn versions_that_are_not_counted_are_told() {
    for at in 0..usize::from(ENTRIES) - 1 {
        let fs = SimFs::new();
        let db = options(&fs).open(DIR).unwrap();
        // So that the entry in front is the newer one.
        for key in (0..ENTRIES).rev() {
            db.insert([b'k', key], [key; 6]).unwrap();
        }
        db.flush().unwrap();
        db.close().unwrap();
        let table = fs.read(&path(&names(&fs, ".sst")[0])).unwrap();
        let places = entries(&table);
        let (one, two) = (places[at], places[at + 1]);
        let bad = with_table(&fs, |table| {
            let key = table[one + 12..one + 14].to_vec();
            table[two + 12..two + 14].copy_from_slice(&key);
        });
        let table = bad.read(&path(&names(&bad, ".sst")[0])).unwrap();
        let e = maplsm::table::Reader::new(&table).unwrap().verify().unwrap_err();
        assert_eq!(e.corruption().map(|c| c.what), Some(Damage::ManifestMismatch), "{at}: {e}");
        let db = options(&bad).open(DIR).unwrap();
        for (how, walked) in walks(&db) {
            let e = walked.expect_err(&format!("{how}: entries {at} and the next have one key"));
            assert_eq!(e.corruption().map(|c| c.what), Some(Damage::OutOfOrder), "{how}, {at}: {e}");
        }
    }
}
