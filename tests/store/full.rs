//! Disks that are full: what is refused, what goes on, and that space which comes back is used.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use maplsm::{Db, Durability, Error, Fault, IoMode, Options, Result, SimFs, Verdict, WriteBatch};

use crate::support::{DIR, Gate, sim_options};

/// A load of so many tables has an edit of some 150 KB.
const TABLES: u64 = 500;

/// Whether an error says that the disk is full.
fn is_full(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.source.kind() == IoErrorKind::StorageFull)
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Inserts until that is refused for want of space; answers how many there are.
fn fill(db: &Db, value_bytes: usize) -> u64 {
    for number in 0.. {
        if let Err(error) = db.insert(key(number), vec![1; value_bytes]) {
            assert!(is_full(&error), "{error}");
            return number;
        }
    }
    unreachable!("the disk never fills up")
}

/// Whether an entry is one of those, spread over everything, that are not removed.
fn is_kept(number: u64) -> bool {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 0
}

/// Removes about half of the entries, in four rounds over all of them; answers how many are left.
fn remove_here_and_there(db: &Db, count: u64) -> usize {
    for round in 0..4 {
        for number in (round..count).step_by(4).filter(|number| !is_kept(*number)) {
            db.remove(key(number)).unwrap();
        }
    }
    (0..count).filter(|number| is_kept(*number)).count()
}

fn check(db: &Db, count: u64, value_bytes: usize) {
    for number in 0..count {
        let value = db.get(key(number)).unwrap();
        assert!(value.is_some_and(|value| *value == vec![1; value_bytes][..]), "{number} of {count}");
    }
}

/// Doubling would refuse here with nearly half of the disk free.
#[test]
fn the_log_takes_what_the_disk_has_left() {
    let fs = SimFs::new();
    let db = sim_options(&fs).reserve_bytes(0).open(DIR).unwrap();
    db.insert("first", "").unwrap();
    // The log has 1 MiB, and 2 and 4 when it is doubled; 3 more are left.
    fs.set_capacity(Some(fs.space() + (6 << 20)));
    let count = fill(&db, 10_000);
    println!("{count} entries, {} bytes of space", fs.space());
    fs.set_capacity(Some(fs.space() + (12 << 10)));
    // Three pages: one more entry, but not another one.
    db.insert(key(count), vec![1; 10_000]).unwrap();
    assert!(is_full(&db.insert(key(count + 1), vec![1; 10_000]).unwrap_err()));
    assert!(count > 680, "{count} entries of 10 KB in 7 MiB");
    check(&db, count + 1, 10_000);
    fs.set_capacity(None);
    db.insert(key(count + 1), vec![1; 10_000]).unwrap();
    for fs in [fs.kill(), fs.clone()] {
        if fs.operations() > 0 {
            db.close().unwrap();
        }
        check(&sim_options(&fs).open(DIR).unwrap(), count + 2, 10_000);
    }
}

/// Of the operations that lead to the first commit after an open, those that need space come before anything is in the log. What
/// they refuse is made later. Only a write to the log that may be half done, and what fails behind it, leaves it open what is on
/// disk.
#[test]
fn what_could_not_be_made_is_made_later() {
    let closed = SimFs::new();
    let db = sim_options(&closed).open(DIR).unwrap();
    db.insert("before", "").unwrap();
    db.close().unwrap();
    let (buffered, synced) = (Durability::Buffered, Durability::Sync);
    for (kind, durability, refuses, poisons) in [
        (IoErrorKind::StorageFull, buffered, 1..=9, 10),
        (IoErrorKind::QuotaExceeded, buffered, 1..=9, 10),
        (IoErrorKind::Other, buffered, 1..=9, 9),
        (IoErrorKind::StorageFull, synced, 1..=16, 10),
        (IoErrorKind::Other, synced, 1..=16, 9),
    ] {
        // Manifest: create, header, edit; `CURRENT.new`: remove, create, write; segment: create, header, group; if it is synced,
        // segment: sync; manifest: edit, sync; `CURRENT.new`: sync; directory, rename, directory.
        let (mut refused, mut poisoned) = (Vec::new(), Vec::new());
        for after in 1..=20 {
            let fs = closed.kill();
            let db = sim_options(&fs).reserve_bytes(0).durability(durability).open(DIR).unwrap();
            fs.inject(Fault::Error { after, kind });
            let Err(error) = db.insert("key", "value") else { continue };
            refused.push(after);
            assert!(matches!(&error, Error::Io(error) if error.source.kind() == kind), "{after}: {error}");
            match db.insert("again", "value") {
                Ok(()) => {
                    assert!(db.verify().is_ok(), "{after}: {:?}", db.verify().problems);
                    drop(db);
                    let db = sim_options(&fs.kill()).open(DIR).unwrap();
                    assert!(db.get("before").unwrap().is_some() && db.get("again").unwrap().is_some());
                    assert!(db.get("key").unwrap().is_none(), "{after}: what was refused does not count");
                }
                Err(Error::Poisoned(_)) => poisoned.push(after),
                Err(error) => panic!("{kind}, {after}: {error}"),
            }
        }
        let poisons = (poisons..=*refuses.end()).collect::<Vec<u64>>();
        assert_eq!((refused, poisoned), (refuses.collect(), poisons), "{kind}, {durability:?}");
    }
}

/// Two operations in a row fail, so that what one of them began cannot be removed by the other. Whatever is acknowledged
/// afterwards is read by the next open: no leftover has come to stand in front of it in the log.
#[test]
fn what_could_not_be_made_or_removed_does_not_stand_in_the_way() {
    for reopened in [false, true] {
        let (mut refused, mut went_on) = (0, 0);
        for after in 1..=20 {
            let fs = SimFs::new();
            let mut options = sim_options(&fs);
            // Each commit needs a segment of its own.
            options.reserve_bytes(0).memtable_entries(Some(1)).durability(Durability::Sync);
            let mut db = options.open(DIR).unwrap();
            db.insert("before", "").unwrap();
            if reopened {
                db.close().unwrap();
                db = options.open(DIR).unwrap();
            }
            fs.inject(Fault::Error { after, kind: IoErrorKind::Other });
            fs.inject(Fault::Error { after: after + 1, kind: IoErrorKind::Other });
            refused += u32::from(db.insert("key", "value").is_err());
            let mut acknowledged = Vec::new();
            for number in 0..3 {
                acknowledged.extend(db.insert(key(number), "value").is_ok().then_some(number));
                for image in [fs.kill(), fs.power_cut(number)] {
                    let db = sim_options(&image).open(DIR).unwrap_or_else(|e| panic!("{reopened}, {after}: {e}"));
                    assert!(db.get("before").unwrap().is_some(), "{reopened}, {after}");
                    for number in &acknowledged {
                        assert!(db.get(key(*number)).unwrap().is_some(), "{reopened}, {after}: {number}");
                    }
                }
            }
            went_on += u32::from(!acknowledged.is_empty());
        }
        assert!(refused > 3 && went_on > 3, "{reopened}: {refused} refused, {went_on} went on");
    }
}

/// What the reserve gives up for a removal does not become log that nobody needs yet: the flush that frees the log finds it.
#[test]
fn a_removal_takes_no_more_of_the_reserve_than_it_needs() {
    for mode in [IoMode::Map, IoMode::Read] {
        let fs = SimFs::new();
        fs.set_capacity(Some(64 << 20));
        let db = sim_options(&fs).memtable_bytes(4 << 20).io_mode(mode).open(DIR).unwrap();
        let count = 700;
        for number in 0..count {
            db.insert(key(number), [1; 1000]).unwrap();
        }
        fs.set_capacity(Some(fs.space()));
        let reserve = db.stats().reserve_bytes;
        // Until the room is used up that the segment keeps for removals. They remove nothing, so the table is no smaller.
        let mut removals = 0;
        while db.stats().reserve_bytes == reserve {
            db.remove(key(count + removals)).unwrap();
            removals += 1;
            assert!(removals < 20_000, "the segment never grows");
        }
        db.flush().unwrap_or_else(|e| panic!("{mode:?}, reserve {reserve}, {removals} removals: {e}"));
        check(&db, count, 1000);
    }
}

/// An edit that finds no space in the manifest has not happened.
#[test]
fn a_keyspace_that_finds_no_space_is_made_once_there_is_some() {
    let fs = SimFs::new();
    fs.set_capacity(Some(64 << 20));
    let db = sim_options(&fs).open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    fs.set_capacity(Some(fs.space()));
    let mut made = 0;
    let refused = loop {
        match db.keyspace(format!("number {made}")) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 10_000, "the manifest never needs space");
    };
    assert!(is_full(&refused), "{refused}");
    let names = db.keyspaces().len();
    // What was refused is not there, and what is there already is no edit.
    db.insert("key", "other").unwrap();
    fs.set_capacity(Some(64 << 20));
    let keyspace = db.keyspace(format!("number {made}")).unwrap();
    keyspace.insert("key", "value").unwrap();
    assert_eq!(db.keyspaces().len(), names + 1);
    db.close().unwrap();
    let db = sim_options(&fs).open(DIR).unwrap();
    assert_eq!(db.keyspaces().len(), names + 1);
    assert!(db.verify().is_ok());
    assert!(fs.files(Path::new(DIR)).iter().filter(|(name, _)| name.ends_with("manifest")).count() == 1);
}

/// A load of many tables, whose edit needs more space in the manifest than there is ahead. Wherever the space ends behind its
/// last entry, the load is there or leaves nothing behind, and the store goes on.
#[test]
fn a_load_that_finds_no_space_has_not_happened() {
    let closed = SimFs::new();
    sim_options(&closed).open(DIR).unwrap().close().unwrap();
    for is_first in [false, true] {
        let (mut refused, mut loaded) = (0, 0);
        for pages in (0..200).step_by(4) {
            let fs = closed.kill();
            let db = sim_options(&fs).reserve_bytes(0).table_bytes(4096).large_value_bytes(None).open(DIR).unwrap();
            if !is_first {
                db.insert("key", "value").unwrap();
            }
            let limited = fs.clone();
            let entries = (0..TABLES).map(|number| {
                if number == TABLES - 1 {
                    // The last table is still to be written.
                    limited.set_capacity(Some(limited.space() + (32 << 10) + (pages << 12)));
                }
                (key(number), [1; 4096])
            });
            let outcome = db.ingest(entries);
            fs.set_capacity(None);
            if let Err(error) = &outcome {
                assert!(is_full(error), "{pages}: {error}");
                let left: Vec<_> =
                    fs.files(Path::new(DIR)).into_iter().filter(|(name, _)| name.contains("sst")).collect();
                assert!(left.is_empty(), "{pages}: {left:?}");
                refused += 1;
            } else {
                loaded += 1;
            }
            db.insert("again", "value").unwrap_or_else(|e| panic!("{is_first}, {pages} pages: {e}"));
            db.close().unwrap();
            let db = sim_options(&fs).open(DIR).unwrap();
            let count = 1 + u64::from(!is_first) + if outcome.is_ok() { TABLES } else { 0 };
            assert_eq!(db.iter().count() as u64, count, "{is_first}, {pages} pages");
        }
        println!("{refused} refused, {loaded} loaded");
        assert!(refused > 4 && loaded > 4, "{refused} refused, {loaded} loaded");
    }
}

/// Options with which a disk of a few MiB is many segments and tables.
fn small(fs: &SimFs, mode: IoMode) -> Options {
    let mut options = sim_options(fs);
    options.memtable_bytes(256 << 10).table_bytes(256 << 10).level_bytes_base(512 << 10).l0_tables(2).io_mode(mode);
    options
}

/// A way of removing everything of a database with so many entries.
type Way = fn(&Db, u64);

const WAYS: [(&str, Way); 4] = [
    ("one by one", |db, count| {
        for number in 0..count {
            db.remove(key(number)).unwrap();
        }
    }),
    ("a range", |db, _| db.remove_range::<&[u8]>(..).unwrap()),
    ("ranges", |db, count| {
        for number in (0..count).step_by(10) {
            db.remove_range(key(number)..key(number + 10)).unwrap();
        }
    }),
    ("batches", |db, count| {
        for first in (0..count).step_by(100) {
            let mut batch = WriteBatch::new();
            for number in first..(first + 100).min(count) {
                batch.remove(key(number));
            }
            db.write(&batch).unwrap();
        }
    }),
];

/// Full as it is, the disk takes removals, and gives what they remove to others, without a new open.
#[test]
fn removals_are_possible_on_a_full_disk_and_make_space() {
    for (way, remove) in WAYS {
        for mode in [IoMode::Map, IoMode::Read] {
            for reopened in [false, true] {
                for large in [false, true] {
                    let what = format!("{way}, {mode:?}, reopened {reopened}, large memtable {large}");
                    let fs = SimFs::new();
                    fs.set_capacity(Some(6 << 20));
                    let mut options = small(&fs, mode);
                    if large {
                        options.memtable_bytes(64 << 20);
                    }
                    let mut db = options.open(DIR).unwrap();
                    let count = fill(&db, 1000);
                    println!("{what}: {count} entries, reserve {}", db.stats().reserve_bytes);
                    assert!(count > 1500, "{what}: {count} entries of 1,000 bytes in 6 MiB");
                    if reopened {
                        db.close().unwrap();
                        drop(db);
                        db = options.open(DIR).unwrap();
                    }
                    check(&db, count, 1000);
                    remove(&db, count);
                    db.flush().unwrap_or_else(|e| panic!("{what}: {e}"));
                    db.compact().unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert_eq!(db.iter().count(), 0, "{what}");
                    let again = fill(&db, 1000);
                    assert!(again >= count - count / 10, "{what}: {again} entries after {count}");
                    check(&db, again, 1000);
                    assert!(db.verify().is_ok(), "{what}: {:?}", db.verify().problems);
                    fs.set_capacity(None);
                    db.close().unwrap();
                    drop(db);
                    let db = options.open(DIR).unwrap();
                    check(&db, again, 1000);
                    assert_eq!(db.iter().count() as u64, again, "{what}");
                }
            }
        }
    }
}

/// With threads of its own, the store does all of it by itself once something has been removed.
#[test]
fn removals_make_space_in_the_background() {
    let everything: fn(&Db, u64) -> usize = |db, _| {
        db.remove_range::<&[u8]>(..).unwrap();
        0
    };
    for (memtable_bytes, remove) in
        [(64 << 20, everything), (64 << 20, remove_here_and_there), (256 << 10, remove_here_and_there)]
    {
        let fs = SimFs::new();
        fs.set_capacity(Some(6 << 20));
        let db = small(&fs, IoMode::Map).background_threads(1).memtable_bytes(memtable_bytes).open(DIR).unwrap();
        let count = fill(&db, 1000);
        let left = remove(&db, count);
        insert_again(&db);
        assert!(db.get("again").unwrap().is_some() && db.iter().count() == left + 1, "{count}");
        // And when somebody else removes something.
        db.remove("again").unwrap();
        fill(&db, 1000);
        fs.set_capacity(Some(12 << 20));
        insert_again(&db);
    }
}

/// Inserts once there is space. As long as somebody makes some with what the reserve has given up, that is refused.
fn insert_again(db: &Db) {
    let begun = Instant::now();
    while let Err(error) = db.insert("again", vec![1; 1000]) {
        assert!(is_full(&error), "{error}");
        assert!(begun.elapsed().as_secs() < 60, "no space comes back: {:?}", db.stats());
        thread::sleep(Duration::from_millis(10));
    }
}

/// What the reserve has given up is for what makes space, until it is whole again.
#[test]
fn ordinary_commits_get_nothing_of_the_reserve() {
    let fs = SimFs::new();
    fs.set_capacity(Some(6 << 20));
    let db = small(&fs, IoMode::Map).memtable_bytes(64 << 20).open(DIR).unwrap();
    let count = fill(&db, 1000);
    let reserve = fs.read(&Path::new(DIR).join("RESERVE")).unwrap();
    assert!(!reserve.is_empty() && reserve.iter().all(|byte| *byte == 0));
    let before = fs.space();
    for number in 0..1000 {
        assert!(is_full(&db.insert(key(count + number), vec![1; 1000]).unwrap_err()));
    }
    assert_eq!(fs.space(), before, "what is refused takes no space");
    assert!(db.verify().foreign == 0 && db.verify().leftovers.is_empty());
    drop(db);
    // One that is not wanted any more goes.
    fs.set_capacity(None);
    let db = small(&fs, IoMode::Map).reserve_bytes(0).open(DIR).unwrap();
    assert!(fs.read(&Path::new(DIR).join("RESERVE")).is_none());
    check(&db, count, 1000);
}

/// The full disk, the removal and what follows are cut off before each operation: what is there is a prefix.
#[test]
fn no_crash_on_a_full_disk_loses_what_was_acknowledged() {
    for mode in [IoMode::Map, IoMode::Read] {
        let fs = SimFs::new();
        fs.set_capacity(Some(3 << 20));
        let db = small(&fs, mode).durability(Durability::Sync).open(DIR).unwrap();
        let count = fill(&db, 4000);
        // How far the script is: removed up to here, acknowledged.
        let removed = Arc::new(AtomicU64::new(0));
        let begun = Arc::new(AtomicU64::new(0));
        let outcomes = Arc::new(Mutex::new((0, 0)));
        let (seen_removed, seen_begun, seen) = (Arc::clone(&removed), Arc::clone(&begun), Arc::clone(&outcomes));
        let seed = AtomicU64::new(0);
        fs.watch(move |disk| {
            let seed = seed.fetch_add(1, Ordering::Relaxed);
            for left in [disk.kill(), disk.power_cut(seed), disk.power_cut(!seed)] {
                let opened = small(&left, mode).open(DIR);
                let mut seen = seen.lock().unwrap();
                let db = match opened {
                    Ok(db) => {
                        seen.0 += 1;
                        db
                    }
                    Err(error) => {
                        assert!(is_full(&error), "seed {seed}: {error}");
                        seen.1 += 1;
                        left.set_capacity(None);
                        small(&left, mode).open(DIR).unwrap()
                    }
                };
                let first = (0..count).find(|number| db.get(key(*number)).unwrap().is_some()).unwrap_or(count);
                let (low, high) = (seen_removed.load(Ordering::SeqCst), seen_begun.load(Ordering::SeqCst));
                assert!((low..=high).contains(&first), "seed {seed}: removed {low} to {high}, found {first}");
                assert_eq!(db.iter().count() as u64, count - first, "seed {seed}");
            }
        });
        let step = |upto: u64, work: &dyn Fn()| {
            begun.store(upto, Ordering::SeqCst);
            work();
            removed.store(upto, Ordering::SeqCst);
        };
        step(3, &|| (0..3).for_each(|number| db.remove(key(number)).unwrap()));
        step(count / 2, &|| db.remove_range(..key(count / 2)).unwrap());
        db.flush().unwrap();
        db.compact().unwrap();
        step(count, &|| db.remove_range::<&[u8]>(..).unwrap());
        db.compact().unwrap();
        let (opened, refused) = *outcomes.lock().unwrap();
        println!("{mode:?}: {count} entries; {opened} opens on the full disk, {refused} with more space");
        assert!(opened > refused);
    }
}

/// No table goes as a whole, and what is left of all of them fits nowhere at once. What a snapshot sees stays.
#[test]
fn removals_here_and_there_make_space() {
    let shapes = [
        (256 << 10, IoMode::Map, &[32 << 10, 256 << 10, 64 << 20][..]),
        (64 << 10, IoMode::Read, &[256 << 10, 64 << 20]),
    ];
    for (table_bytes, mode, memtables) in shapes {
        for memtable_bytes in memtables.iter().copied() {
            let what = format!("tables of {table_bytes} bytes, {mode:?}, memtables of {memtable_bytes}");
            let fs = SimFs::new();
            fs.set_capacity(Some(6 << 20));
            let mut options = small(&fs, mode);
            options.table_bytes(table_bytes).memtable_bytes(memtable_bytes);
            let db = options.open(DIR).unwrap();
            let count = fill(&db, 1000);
            // Tables of a few removals each take more than the reserve of such memtables.
            let snapshot = (memtable_bytes > 32 << 10).then(|| db.snapshot());
            let left = remove_here_and_there(&db, count);
            db.flush().unwrap_or_else(|e| panic!("{what}: {e}"));
            if let Some(snapshot) = snapshot {
                // Nothing may go, and only a small database fits a second time.
                let compacted = db.compact();
                let fits = memtable_bytes > 6 << 20;
                assert!(compacted.as_ref().map_or_else(is_full, |()| fits), "{what}: {compacted:?}");
                assert_eq!((snapshot.iter().count() as u64, db.iter().count()), (count, left), "{what}");
            }
            db.compact().unwrap_or_else(|e| panic!("{what}: {e}, {:?}", db.stats()));
            let stats = db.stats();
            println!(
                "{what}: {left} of {count} entries left, {} bytes of space, {} compactions",
                fs.space(),
                stats.compactions
            );
            // What a table would not become smaller by is not done, over and over.
            assert!(stats.compactions < 1000, "{what}: {stats:?}");
            assert!(fs.space() < 4 << 20, "{what}: {} bytes", fs.space());
            let again = options.file_system(fs.kill()).open(DIR).unwrap();
            for db in [db, again] {
                assert!((0..count).all(|number| db.contains_key(key(number)).unwrap() == is_kept(number)), "{what}");
                assert_eq!(db.iter().count(), left, "{what}");
                assert!(db.verify().is_ok(), "{what}: {:?}", db.verify().problems);
            }
        }
    }
}

/// A database with a compaction under way, which holds all the space that there is and a filter of the caller's code that waits.
struct Held {
    fs: SimFs,
    db: Db,
    gate: Gate,
}

impl Held {
    fn new() -> Self {
        let fs = SimFs::new();
        let (gate, mut options) = (Gate::default(), sim_options(&fs));
        let held = gate.clone();
        options.reserve_bytes(0).memtable_bytes(64 << 10).table_bytes(64 << 10).compaction_filter(move |entry| {
            if entry.key == key(300) {
                held.pass();
            }
            Verdict::Keep
        });
        let db = options.open(DIR).unwrap();
        for number in 0..400 {
            db.insert(key(number), [1; 1000]).unwrap();
            db.insert(key(number), [2; 1000]).unwrap();
        }
        for number in 0..50 {
            db.keyspace("other").unwrap().insert(key(number), [1; 1000]).unwrap();
        }
        db.flush().unwrap();
        Self { fs, db, gate }
    }

    /// Compacts beside `work`, which must release the compaction. That finds no space for its rest then, and gives back what it
    /// has had, unless something else has made some.
    fn compact_beside(&self, work: impl FnOnce()) {
        let db = &self.db;
        thread::scope(|scope| {
            let compaction = scope.spawn(|| db.compact());
            self.gate.wait();
            self.fs.set_capacity(Some(self.fs.space()));
            work();
            let compacted = compaction.join().unwrap();
            assert!(compacted.as_ref().map_or_else(is_full, |()| true), "{compacted:?}");
        });
        assert!(self.db.verify().is_ok(), "{:?}", self.db.verify().problems);
    }
}

/// More removals than a segment has room for.
fn remove_much(db: &Db) -> Result<()> {
    (0..2000).try_for_each(|number| db.remove(key(number % 400)))
}

/// What a compaction has written may be all the space that there was. Calls that make space wait for its end.
#[test]
fn what_makes_space_waits_for_work_under_way() {
    type Call = fn(&Db) -> Result<()>;
    let calls: [(&str, Call); 4] = [
        ("remove", remove_much),
        ("flush", |db| db.remove(key(0)).and_then(|()| db.flush())),
        ("compact", |db| db.keyspace("other")?.compact()),
        // For which the manifest wants room before the log says it.
        ("drop_keyspace", |db| db.drop_keyspace("other")),
    ];
    for (name, call) in calls {
        let held = Held::new();
        let db = &held.db;
        held.compact_beside(|| {
            thread::scope(|scope| {
                let made = scope.spawn(|| call(db));
                let begun = Instant::now();
                while !made.is_finished() && begun.elapsed() < Duration::from_millis(300) {
                    thread::sleep(Duration::from_millis(5));
                }
                held.gate.open();
                made.join().unwrap().unwrap_or_else(|e| panic!("{name}: {e}"));
            });
        });
    }
}

/// The filter may wait for the very call that waits for its compaction.
#[test]
fn what_makes_space_waits_for_nothing_for_ever() {
    let held = Held::new();
    held.compact_beside(|| {
        let removed = remove_much(&held.db);
        assert!(removed.as_ref().is_err_and(is_full), "{removed:?}");
        held.gate.open();
    });
    remove_much(&held.db).unwrap();
}
