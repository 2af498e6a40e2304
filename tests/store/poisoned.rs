//! What a store says that knows of a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use maplsm::{Db, Durability, Error, Fault, Isolation, Keyspace, KeyspaceOptions, Result, SimFs, WriteBatch};

use crate::support::{DIR, contents, sim_options};

const FAILS: Fault = Fault::Error { after: 1, kind: ErrorKind::Other };

/// A store in which a sync has failed, with one entry that is durable and one that is not.
fn poisoned(fs: &SimFs) -> Db {
    let db = sim_options(fs).open(DIR).unwrap();
    db.keyspace("there").unwrap();
    db.insert("durable", "1").unwrap();
    db.sync().unwrap();
    db.insert("lost", "1").unwrap();
    fs.inject(FAILS);
    assert!(matches!(db.sync(), Err(Error::Io(_))));
    db
}

/// What a call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Poisoned,
    AsEver,
}

fn answer<T>(result: Result<T>) -> Answer {
    match result {
        Ok(_) => Answer::AsEver,
        Err(Error::Poisoned(cause)) if matches!(*cause, Error::Io(_)) => Answer::Poisoned,
        Err(e) => panic!("neither fine nor poisoned: {e}"),
    }
}

/// Every method, and what it answers, also where it has nothing to do.
fn answers(db: &Db) -> Vec<(&'static str, Answer)> {
    let none: [(&str, &str); 0] = [];
    let one = [("a", "b")];
    let failing = || one.into_iter().map(Ok::<_, Error>);
    let mut batch = WriteBatch::new();
    batch.insert("key", "value");
    let empty = WriteBatch::new();
    let there = db.keyspace("there").unwrap();
    let walk = |iter: maplsm::Iter| iter.collect::<Result<Vec<_>>>();
    let changed = db.transaction();
    changed.insert("key", "value").unwrap();
    let mut all = vec![
        ("insert", answer(db.insert("key", "value"))),
        ("insert", answer(there.insert("key", "value"))),
        ("merge", answer(db.merge("key", "operand"))),
        ("merge", answer(there.merge("key", "operand"))),
        ("merge_with", answer(db.merge_with("key", "operand", Durability::Sync))),
        ("merge_with", answer(there.merge_with("key", "operand", Durability::Sync))),
        ("remove", answer(db.remove("key"))),
        ("remove", answer(there.remove("key"))),
        ("remove_range", answer(db.remove_range("a".."b"))),
        ("remove_range", answer(db.remove_range("b".."a"))),
        ("remove_range", answer(there.remove_range("b".."a"))),
        ("insert_with", answer(db.insert_with("key", "value", Durability::Buffered))),
        ("insert_with", answer(there.insert_with("key", "value", Durability::Sync))),
        ("remove_with", answer(db.remove_with("key", Durability::Buffered))),
        ("remove_with", answer(there.remove_with("key", Durability::Sync))),
        ("submit", answer(db.submit(&batch))),
        ("submit", answer(db.submit(&empty))),
        ("submit", answer(db.transaction().submit())),
        ("try_write", answer(db.try_write(&batch))),
        ("try_write", answer(db.try_write(&empty))),
        ("ingest", answer(db.ingest(one))),
        ("ingest", answer(db.ingest(none))),
        ("ingest", answer(there.ingest(none))),
        ("try_ingest", answer(db.try_ingest(failing()))),
        ("try_ingest", answer(there.try_ingest(failing()))),
        ("transact", answer(db.transact(|tx| tx.insert("key", "value")))),
        ("transact", answer(db.transact(|tx| tx.get("durable")))),
        ("try_transact", answer(db.try_transact(|tx| tx.get("durable")))),
        ("transact_with", answer(db.transact_with(Isolation::Snapshot, Durability::Buffered, |tx| tx.get("durable")))),
        ("commit", answer(changed.commit())),
        ("commit", answer(db.transaction().commit())),
        ("sync", answer(db.sync())),
        ("flush", answer(db.flush())),
        ("maintain", answer(db.maintain())),
        ("wait_for_background", answer(db.wait_for_background())),
        ("compact", answer(db.compact())),
        ("compact", answer(there.compact())),
        ("compact_range", answer(db.compact_range("a".."b"))),
        ("compact_range", answer(there.compact_range("a".."b"))),
        ("create_keyspace", answer(db.create_keyspace("new", &KeyspaceOptions::new()))),
        ("drop_keyspace", answer(db.drop_keyspace("there"))),
        ("checkpoint", answer(db.checkpoint("/copy"))),
        ("backup", answer(db.backup("/backups"))),
        ("verify", answer(db.verify().problems.pop().map_or(Ok(()), Err))),
        ("keyspace", answer(db.keyspace("new"))),
        ("get", answer(db.get("durable"))),
        ("get", answer(there.get("durable"))),
        ("contains_key", answer(db.contains_key("durable"))),
        ("first", answer(db.first())),
        ("last", answer(there.last())),
        ("is_empty", answer(db.is_empty())),
        ("keys", answer(db.keys().collect::<Result<Vec<_>>>())),
        ("values", answer(there.values().collect::<Result<Vec<_>>>())),
        ("multi_get", answer(db.multi_get(["durable"]))),
        ("size_of", answer(there.size_of("durable"))),
        ("explain", answer(db.explain("durable"))),
        ("explain", answer(there.explain("durable"))),
        ("approximate_len", answer(db.approximate_len("a"..))),
        ("approximate_size", answer(there.approximate_size("a"..))),
        ("iter", answer(walk(db.iter()))),
        ("range", answer(walk(db.range("a"..)))),
        ("prefix", answer(walk(db.prefix("a")))),
        ("cursor", answer(db.cursor().seek_first())),
        ("snapshot", answer(db.snapshot().get("durable"))),
        ("transaction", answer(db.transaction().get("durable"))),
        ("transaction_with", answer(db.transaction_with(Isolation::Snapshot).get("durable"))),
        ("memtable_keys", answer(db.memtable_keys())),
    ];
    for durability in [maplsm::Durability::Sync, maplsm::Durability::Buffered] {
        all.push(("write_with", answer(db.write_with(&batch, durability))));
        all.push(("write_with", answer(db.write_with(&empty, durability))));
        all.push(("commit_with", answer(db.transaction().commit_with(durability))));
    }
    all.extend(of_updates(db, &there));
    all.push(("clear", answer(there.clear())));
    all.push(("write", answer(db.write(&batch))));
    all.push(("write", answer(db.write(&empty))));
    assert_eq!(db.keyspaces(), ["there"]);
    assert!(db.stats().log_syncs > 0 && db.recovery_report().clean);
    assert_eq!(db.path(), std::path::Path::new(DIR));
    all.extend(["keyspaces", "stats", "recovery_report", "path"].map(|call| (call, Answer::AsEver)));
    all.push(("close", answer(db.close())));
    all
}

/// What depends on what is there, and has nothing to do with some of it.
fn of_updates(db: &Db, there: &Keyspace) -> Vec<(&'static str, Answer)> {
    let mut all = Vec::new();
    for ks in [None, Some(there)] {
        let of =
            |of_db: fn(&Db) -> Answer, of_keyspace: fn(&Keyspace) -> Answer| ks.map_or_else(|| of_db(db), of_keyspace);
        all.extend([
            ("update", of(|on| answer(on.update("a", |_| Some("b"))), |on| answer(on.update("a", |_| None::<&str>)))),
            (
                "fetch_update",
                of(|on| answer(on.fetch_update("a", |_| Some(""))), |on| answer(on.fetch_update("a", |_| Some("")))),
            ),
            (
                "compare_and_swap",
                of(
                    |on| answer(on.compare_and_swap("a", None, None)),
                    |on| answer(on.compare_and_swap("a", None, None)),
                ),
            ),
            (
                "insert_if_absent",
                of(|on| answer(on.insert_if_absent("a", "")), |on| answer(on.insert_if_absent("a", ""))),
            ),
            ("take", of(|on| answer(on.take("durable")), |on| answer(on.take("a")))),
            ("pop_first", of(|on| answer(on.pop_first()), |on| answer(on.pop_first()))),
            ("pop_last", of(|on| answer(on.pop_last()), |on| answer(on.pop_last()))),
            ("remove_prefix", of(|on| answer(on.remove_prefix("a")), |on| answer(on.remove_prefix("a")))),
        ]);
    }
    all
}

/// The calls of the table at [`Error::Poisoned`], and whether they answer the error.
fn documented() -> BTreeMap<String, Answer> {
    let source = include_str!("../../src/error.rs");
    let rows = source
        .lines()
        .filter(|line| !line.contains("`Commit::"))
        .skip_while(|line| !line.contains("answer of a poisoned store"))
        .skip(2);
    let rows = rows.map_while(|line| line.trim().strip_prefix("/// | "));
    let of_row = |row: &str| {
        let (calls, says) = row.split_once(" | ").expect("two columns");
        let answer = if says.contains("this error") { Answer::Poisoned } else { Answer::AsEver };
        calls.split('`').skip(1).step_by(2).map(|call| (call.to_owned(), answer)).collect::<Vec<_>>()
    };
    rows.flat_map(of_row).collect()
}

/// Where the methods of `Db` are.
pub(super) const DB_FILES: [&str; 4] = [
    include_str!("../../src/db.rs"),
    include_str!("../../src/db/reading.rs"),
    include_str!("../../src/db/transacting.rs"),
    include_str!("../../src/db/updating.rs"),
];

/// The public methods of a type.
fn methods(source: &str, of: &str) -> BTreeSet<String> {
    let (_, rest) = source.split_once(&format!("\nimpl {of} {{\n")).expect("the type is there");
    let (body, _) = rest.split_once("\n}\n").expect("it ends");
    let names = body.lines().filter_map(|line| line.strip_prefix("    pub fn "));
    names.map(|line| line.split(['(', '<']).next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_call_of_a_poisoned_store_says_what_it_knows() {
    let fs = SimFs::new();
    let db = poisoned(&fs);
    let documented = documented();
    let mut walked = BTreeSet::new();
    for (call, answer) in answers(&db) {
        assert_eq!(documented.get(call), Some(&answer), "{call}");
        walked.insert(call.to_owned());
    }
    let mut there: BTreeSet<String> = DB_FILES.iter().flat_map(|source| methods(source, "Db")).collect();
    there.extend(methods(include_str!("../../src/keyspace.rs"), "Keyspace"));
    there.extend(["commit", "commit_with"].map(str::to_owned));
    there.retain(|method| !["open", "name"].contains(&method.as_str()));
    assert_eq!(walked, there, "what was called, and what there is");
    assert_eq!(documented.into_keys().collect::<BTreeSet<_>>(), there, "what the table says, and what there is");

    assert!(fs.files("/copy".as_ref()).is_empty(), "a copy of what was refused");
    // The directory is free; what was not durable may be there or not.
    let db = sim_options(&fs).open(DIR).unwrap();
    assert!(db.contains_key("durable").unwrap() && db.verify().is_ok());
}

/// Nobody waits for the sync of an idle store; the close is the last one who can tell that it failed.
#[test]
fn a_close_tells_of_a_sync_that_failed_in_the_background() {
    for threads in [0, 1, 2] {
        let fs = SimFs::new();
        let db = sim_options(&fs).background_threads(threads).open(DIR).unwrap();
        db.insert("first", "1").unwrap();
        db.sync().unwrap();
        // Threads that have found nothing to do for a second sleep until they are told. The first of these commits wakes one,
        // which then looks by itself until nothing more comes.
        if threads > 0 {
            std::thread::sleep(Duration::from_millis(1200));
        }
        for number in 0..1000u32 {
            db.insert(number.to_be_bytes(), "acknowledged, and not durable").unwrap();
        }
        fs.inject(FAILS);
        if threads == 0 {
            assert!(matches!(db.maintain(), Err(Error::Io(_))));
        }
        let begun = Instant::now();
        while db.verify().is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the store was never synced");
            std::thread::sleep(Duration::from_millis(5));
        }
        let other = db.clone();
        for db in [&db, &other, &db] {
            assert_eq!(answer(db.close()), Answer::Poisoned);
            assert!(matches!(db.get("first"), Err(Error::Closed)));
        }
        let after = fs.power_cut(1);
        let again = sim_options(&after).open(DIR).unwrap();
        assert!(again.contains_key("first").unwrap());
        drop(sim_options(&fs).open(DIR).expect("the directory is free"));
    }
}

/// The sync of the close itself.
#[test]
fn a_close_that_fails_says_so_each_time() {
    let mut failures = 0;
    for after in 1..20 {
        let fs = SimFs::new();
        let db = sim_options(&fs).open(DIR).unwrap();
        db.insert("key", "value").unwrap();
        fs.inject(Fault::Error { after, kind: ErrorKind::Other });
        let first = db.close();
        let second = db.close();
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        failures += u32::from(first.is_err());
        let again = sim_options(&fs.kill()).open(DIR).unwrap();
        assert_eq!(contents(&again).len(), 1);
    }
    assert!(failures >= 4, "only {failures} operations of a close can fail");
}

/// Several close at once: each returns when the directory is free, and says the same.
#[test]
fn closes_meet() {
    for poisoned_before in [false, true] {
        let fs = SimFs::new();
        let db = if poisoned_before { poisoned(&fs) } else { sim_options(&fs).open(DIR).unwrap() };
        if !poisoned_before {
            db.insert("durable", "1").unwrap();
        }
        let expected = if poisoned_before { Answer::Poisoned } else { Answer::AsEver };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    assert_eq!(answer(db.close()), expected);
                    // Readers do not exclude each other.
                    let reader = sim_options(&fs).read_only(true).open(DIR).expect("the directory is free");
                    assert!(reader.contains_key("durable").unwrap());
                });
            }
        });
    }
}

/// A load of nothing makes durable what was committed before, like any other.
#[test]
fn a_load_of_nothing_makes_durable_what_is_in_front_of_it() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    db.ingest([("", ""); 0]).unwrap();
    for seed in 0..20 {
        assert_eq!(contents(&sim_options(&fs.power_cut(seed)).open(DIR).unwrap()).len(), 1, "seed {seed}");
    }
}

/// The call whose failure ends the writing tells what has failed; only those after it tell that the store is poisoned. A full disk
/// as well, which is otherwise something to try again for.
#[test]
fn the_call_that_poisons_a_store_says_what_has_failed() {
    let calls: [fn(&Db) -> Result<()>; 4] =
        [|db| db.flush(), |db| db.compact(), |db| db.remove_range::<&[u8]>(..), |db| db.drop_keyspace("there")];
    for (number, call) in calls.into_iter().enumerate() {
        let mut poisons = 0;
        for after in 1..=20 {
            let fs = SimFs::new();
            let db = sim_options(&fs).durability(Durability::Sync).open(DIR).unwrap();
            db.keyspace("there").unwrap();
            db.insert("key", "value").unwrap();
            fs.inject(Fault::Error { after, kind: ErrorKind::StorageFull });
            let answered = call(&db);
            if matches!(db.insert("another", "value"), Err(Error::Poisoned(_))) {
                assert!(matches!(answered, Err(Error::Io(_))), "call {number}, operation {after}: {answered:?}");
                poisons += 1;
            }
        }
        assert!(poisons > 0, "call {number}");
    }
}
