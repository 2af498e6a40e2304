//! Fixed scripts, with the disk stopped at each of their operations, and with each of them failing.

use std::io;
use std::ops::Bound;
use std::path::Path;

use maplsm::{Db, Durability, ErrorKind, Fault, SimFs, WriteBatch};

use super::explore::watch;
use crate::support::model::{
    self, Change, Commit, Driver, Format, History, How, Op, Place, Setup, Source, Space, State, state_difference,
};
use crate::support::{DIR, contents, image, sim_options};

/// A database, and what is done to it.
struct Script {
    name: &'static str,
    setup: Setup,
    before: SimFs,
    history: History,
    work: Vec<Op>,
}

fn put(keys: std::ops::Range<u32>, round: u8) -> Commit {
    let insert = |key: u32| Change::Insert(format!("key{key:04}").into_bytes(), vec![round; 1 + key as usize % 200]);
    keys.map(|key| (Space::First, insert(key))).collect()
}

fn remove_range(first: u32, last: u32) -> (Space, Change) {
    let bound = |key: u32| Bound::Included(format!("key{key:04}").into_bytes());
    (Space::First, Change::RemoveRange((bound(first), bound(last))))
}

/// The same changes in both keyspaces, in one commit.
fn both(commit: Commit) -> Commit {
    let second: Commit = commit.iter().map(|(_, change)| (Space::Second, change.clone())).collect();
    commit.into_iter().chain(second).collect()
}

fn load(keys: std::ops::Range<u32>, round: u8) -> Op {
    let entry = |key: u32| (format!("key{key:04}").into_bytes(), vec![round; 1 + key as usize % 200]);
    Op::Ingest(Space::First, keys.map(entry).collect())
}

fn remove(keys: std::ops::Range<u32>) -> Commit {
    keys.map(|key| (Space::First, Change::Remove(format!("key{key:04}").into_bytes()))).collect()
}

fn prepare(name: &'static str, setup: Setup, before: &[Op], work: Vec<Op>) -> Script {
    let fs = SimFs::new();
    let mut driver = Driver::new(Place::Memory(fs.clone()), setup, name.to_owned());
    for op in before {
        driver.attempt(op).unwrap();
    }
    driver.db().close().unwrap();
    driver.history.synced();
    Script { name, setup, before: fs, history: driver.history.clone(), work }
}

fn second_keyspace() -> Script {
    prepare(
        "a second keyspace that comes and goes",
        Setup::small(9),
        &[Op::Write(put(0..20, 1), How::Batch), Op::Flush],
        vec![
            Op::Write(put(10..12, 2), How::Batch),
            Op::CreateSecond,
            Op::Write(both(put(0..12, 3)), How::Batch),
            Op::Write(both(put(6..15, 4)), How::With(Durability::Sync)),
            Op::Flush,
            Op::Write(both(vec![remove_range(3, 7)]), How::Batch),
            Op::Checkpoint,
            Op::Write(both(put(5..8, 5)), How::Batch),
            Op::DropSecond,
            Op::Write(put(1..3, 6), How::Batch),
            Op::CreateSecond,
            Op::Write(both(put(2..4, 7)), How::Batch),
            Op::Maintain,
        ],
    )
}

fn scripts() -> Vec<Script> {
    let sync = How::With(Durability::Sync);
    let setup = |format| Setup::small(format);
    let synced = Setup { durability: Durability::Sync, ..setup(1) };
    let apart = Setup { format: Format { large: Some(100), ..setup(1).format }, ..setup(1) };
    let few = Setup { memtable_entries: Some(3), memtable_bytes: 64 << 10, ..setup(2) };
    let mut mixed = Driver::new(Place::Memory(SimFs::new()), setup(0), String::new());
    let mut source = Source::Random(77);
    let mixed_before: Vec<Op> = (0..40).map(|_| mixed.draw_change(&mut source)).collect();
    let mixed_work = (0..25).map(|_| mixed.draw_change(&mut source)).collect();
    vec![
        prepare(
            "a new database, commits of both kinds",
            setup(0),
            &[],
            vec![
                Op::Write(put(0..1, 1), How::Single),
                Op::Write(put(0..5, 2), sync),
                Op::Write(put(3..9, 3), How::Batch),
                Op::Sync,
                Op::Write(remove(4..6), How::Batch),
                Op::Write(vec![remove_range(7, 9)], How::Single),
                Op::Write(put(5..8, 4), How::Batch),
                Op::Write(put(1..2, 5), How::Single),
            ],
        ),
        prepare(
            "rotation, flush and compaction",
            setup(3),
            &[Op::Write(put(0..60, 1), How::Batch), Op::Compact, Op::Write(put(20..40, 2), How::Batch), Op::Flush],
            vec![
                Op::Write(put(10..30, 3), How::Batch),
                Op::Write(put(0..25, 4), sync),
                Op::Flush,
                Op::Write(remove(0..20), How::Batch),
                Op::Write(vec![remove_range(15, 45)], How::Single),
                Op::Maintain,
                Op::Write(put(40..70, 5), How::Batch),
                Op::Compact,
                Op::Write(put(1..3, 6), How::Batch),
            ],
        ),
        prepare(
            "a log to replay, synced commits",
            synced,
            &[Op::Write(put(0..10, 1), How::Batch), Op::Write(put(5..15, 2), How::Batch)],
            (0..12).map(|i| Op::Write(put(i * 3..i * 3 + 4, 3), How::Batch)).chain([Op::Flush]).collect(),
        ),
        prepare(
            "many small segments",
            few,
            &[Op::Write(put(0..10, 1), How::Batch), Op::Flush],
            (0..14).map(|i| Op::Write(put(i..i + 2, 2), How::Batch)).chain([Op::Sync, Op::Maintain]).collect(),
        ),
        prepare(
            "loads over a log, over tables and beside both",
            setup(5),
            &[Op::Write(put(0..40, 1), How::Batch), Op::Compact, load(100..160, 2)],
            vec![
                Op::Write(put(10..30, 3), How::Batch),
                load(200..260, 4),
                load(20..60, 5),
                Op::Write(put(25..28, 6), How::Batch),
                Op::Write(vec![remove_range(40, 120)], How::Single),
                load(110..112, 7),
                Op::Maintain,
                Op::Checkpoint,
                Op::Write(remove(200..220), How::Batch),
                load(219..222, 8),
            ],
        ),
        prepare(
            "values apart from their entries",
            apart,
            &[Op::Write(put(0..120, 1), How::Batch), Op::Compact, Op::Write(put(60..160, 2), How::Batch), Op::Flush],
            vec![
                Op::Write(put(20..90, 3), How::Batch),
                Op::Flush,
                Op::Compact,
                Op::Write(remove(0..80), How::Batch),
                load(150..190, 4),
                Op::Checkpoint,
                Op::Compact,
            ],
        ),
        second_keyspace(),
        prepare("mixed", setup(40), &mixed_before, mixed_work),
    ]
}

/// Opens the prepared database on a copy of its disk with this fault and plays the script; answers the disk, what it must
/// hold, and whether something failed. The handle is gone afterwards, without having closed the database by itself.
fn play(script: &Script, fault: Option<Fault>, stop_at_error: bool) -> (SimFs, History, bool) {
    let fs = script.before.kill();
    if let Some(fault) = fault {
        fs.inject(fault);
    }
    let place = Place::Memory(fs.clone());
    let named = format!("{} with {fault:?}", script.name);
    let mut driver = match Driver::with_history(place, script.setup, script.history.clone(), named) {
        Ok(driver) => driver,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Io, "{}, {fault:?}: {e}", script.name);
            return (fs, script.history.clone(), true);
        }
    };
    // The disk may have copies that the script has made before.
    driver.stamp = 1 << 20;
    let mut failed = false;
    for op in &script.work {
        match driver.attempt(op) {
            Ok(()) => {}
            Err(e) => {
                failed = true;
                let fits = [ErrorKind::Io, ErrorKind::State].contains(&e.kind());
                assert!(fits, "{}, {fault:?}, {op:?}: {e}", script.name);
            }
        }
        if failed && stop_at_error {
            break;
        }
        let found = model::read_state(driver.db(), 1).unwrap_or_else(|e| {
            // The look that fails is one of the reader's own; the next reader has no trouble.
            assert!(matches!(fault, Some(Fault::Look { .. })) && e.kind() == ErrorKind::Io, "{}: {e}", script.name);
            read(driver.db())
        });
        assert!(
            driver.history.is_complete(&found),
            "{}, {fault:?}, after {op:?}: {}",
            script.name,
            state_difference(&found, driver.history.now())
        );
    }
    let left = fs.kill();
    let history = driver.history.clone();
    // The last handle closes the database, on a disk that nobody looks at any more.
    drop(driver);
    if fault.is_none() {
        return (fs, history, failed);
    }
    (left, history, failed)
}

fn read(db: &Db) -> State {
    model::read_state(db, 1).unwrap()
}

fn open(fs: &SimFs, setup: &Setup) -> maplsm::Result<Db> {
    Place::Memory(fs.clone()).open(setup.options())
}

fn expect_prefix(fs: &SimFs, setup: &Setup, history: &History, what: &dyn Fn() -> String) -> State {
    let db = open(fs, setup).unwrap_or_else(|e| panic!("{}: {e}", what()));
    let found = read(&db);
    assert!(history.is_prefix(&found), "{}: {}", what(), state_difference(&found, history.now()));
    let report = db.verify();
    assert!(report.is_ok(), "{}: {:?}", what(), report.problems);
    found
}

/// The disk stops before each operation of the script, with the power cut there; then again before each operation of the
/// recovery.
#[test]
fn a_power_cut_before_every_operation_leaves_a_prefix() {
    for script in scripts() {
        let (fs, ..) = play(&script, None, false);
        let operations = fs.operations();
        assert!(operations > 15, "{}: {operations}", script.name);
        for stop in 1..=operations {
            let (left, history, _) = play(&script, Some(Fault::Halt { after: stop }), true);
            for seed in 0..3 {
                let what = || format!("{}, stopped at {stop} of {operations}, seed {seed}", script.name);
                let after = left.power_cut(stop * 100 + seed);
                expect_prefix(&after.kill(), &script.setup, &history, &what);
                if seed == 0 {
                    cut_recovery(&script, &after, &history, &what);
                }
            }
        }
    }
}

fn cut_recovery(script: &Script, after: &SimFs, history: &History, what: &dyn Fn() -> String) {
    for stop in 1.. {
        let disk = after.kill();
        disk.inject(Fault::Halt { after: stop });
        let opened = open(&disk, &script.setup);
        let done = disk.operations() < stop;
        let shown = opened.as_ref().ok().map(read);
        let again = disk.power_cut(stop);
        drop(opened);
        let what = || format!("{}, the recovery stopped at {stop}", what());
        let found = expect_prefix(&again, &script.setup, history, &what);
        if let Some(shown) = shown {
            assert!(
                shown == found,
                "{}: what a recovery has shown is gone: {}",
                what(),
                state_difference(&found, &shown)
            );
        }
        if done {
            break;
        }
    }
}

/// A process that is killed within its close may leave a mark that is not on disk; what the next one records of the log must
/// not rely on it.
#[test]
fn a_power_cut_after_the_run_that_follows_a_kill_within_the_close_loses_nothing() {
    let fs = SimFs::new();
    let write = |fs: &SimFs, key: &str| {
        let db = sim_options(fs).open(DIR).unwrap();
        db.write_with(WriteBatch::new().insert(key, "value"), Durability::Sync).unwrap();
        db
    };
    let db = write(&fs, "first");
    let copies = watch(&fs);
    db.close().unwrap();
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    assert!(copies.len() > 2, "{}", copies.len());
    for (at, copy) in copies.iter().enumerate() {
        for seed in 0..16 {
            let next = copy.kill();
            let _running = write(&next, "second");
            let left = next.power_cut(seed);
            let db = sim_options(&left).open(DIR).unwrap_or_else(|e| panic!("killed at {at}, power cut {seed}: {e}"));
            assert_eq!(contents(&db).len(), 2, "killed at {at}, power cut {seed}");
        }
    }
}

#[test]
fn the_death_of_the_process_before_every_operation_loses_nothing() {
    for script in scripts() {
        let (fs, ..) = play(&script, None, false);
        for stop in 1..=fs.operations() {
            let (left, history, _) = play(&script, Some(Fault::Halt { after: stop }), true);
            let found = read(&open(&left, &script.setup).unwrap());
            assert!(
                history.is_complete(&found),
                "{}, {stop}: {}",
                script.name,
                state_difference(&found, history.now())
            );
        }
    }
}

/// One operation fails, the program goes on as if it could; nothing acknowledged is lost by that.
#[test]
fn an_error_of_any_operation_loses_nothing_that_was_acknowledged() {
    for script in scripts() {
        let (fs, ..) = play(&script, None, false);
        for after in 1..=fs.operations() {
            for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull, io::ErrorKind::Interrupted] {
                let (left, history, _) = play(&script, Some(Fault::Error { after, kind }), false);
                let what = || format!("{}, {kind:?} at {after}", script.name);
                let found = read(&open(&left.kill(), &script.setup).unwrap_or_else(|e| panic!("{}: {e}", what())));
                assert!(history.is_complete(&found), "{}: {}", what(), state_difference(&found, history.now()));
                for seed in 0..2 {
                    expect_prefix(&left.power_cut(seed), &script.setup, &history, &what);
                }
            }
        }
    }
}

/// The same for everything that only looks at the disk: opening a file, its length, the list of names.
#[test]
fn an_error_of_any_look_at_the_disk_loses_nothing() {
    for script in scripts() {
        let (fs, ..) = play(&script, None, false);
        for after in 1..=fs.looks() {
            for kind in [io::ErrorKind::Other, io::ErrorKind::OutOfMemory] {
                let (left, history, _) = play(&script, Some(Fault::Look { after, kind }), false);
                let what = || format!("{}, {kind:?} at look {after}", script.name);
                let found = read(&open(&left.kill(), &script.setup).unwrap_or_else(|e| panic!("{}: {e}", what())));
                assert!(history.is_complete(&found), "{}: {}", what(), state_difference(&found, history.now()));
                expect_prefix(&left.power_cut(after), &script.setup, &history, &what);
            }
        }
    }
}

#[test]
fn a_write_cut_short_loses_nothing_that_was_acknowledged() {
    for script in scripts() {
        for after in 1.. {
            let (left, history, failed) = play(&script, Some(Fault::Short { after }), false);
            let what = || format!("{}, write {after} cut short", script.name);
            let found = read(&open(&left.kill(), &script.setup).unwrap_or_else(|e| panic!("{}: {e}", what())));
            assert!(history.is_complete(&found), "{}: {}", what(), state_difference(&found, history.now()));
            expect_prefix(&left.power_cut(after), &script.setup, &history, &what);
            // Errors of maintenance inside of a commit may be hidden by a later success; so go on well past the first miss.
            if !failed && after > 200 {
                break;
            }
        }
    }
}

/// What was acknowledged as durable has everything in front of it, also if it changes nothing.
#[test]
fn a_synced_commit_of_nothing_makes_earlier_ones_durable() {
    type Commit = dyn Fn(&Db) -> maplsm::Result<()>;
    let nothing: [&Commit; 3] = [
        &|db| db.write_with(maplsm::WriteBatch::new(), Durability::Sync),
        &|db| db.write_with(maplsm::WriteBatch::new().remove_range("b".."a"), Durability::Sync),
        &|db| db.remove_range("b".."a"),
    ];
    for commit in nothing {
        let fs = SimFs::new();
        let db = sim_options(&fs).durability(Durability::Sync).open(DIR).unwrap();
        db.write_with(maplsm::WriteBatch::new().insert("key", "value"), Durability::Buffered).unwrap();
        commit(&db).unwrap();
        for seed in 0..50 {
            assert_eq!(contents(&sim_options(&fs.power_cut(seed)).open(DIR).unwrap()).len(), 1, "seed {seed}");
        }
    }
}

/// The creation of a database may fail anywhere; the next one that tries gets an empty one.
#[test]
fn an_interrupted_creation_is_begun_anew() {
    for stop in 1.. {
        let fs = SimFs::new();
        fs.inject(Fault::Halt { after: stop });
        let opened = sim_options(&fs).open(DIR);
        if fs.operations() < stop {
            assert!(stop > 5);
            break;
        }
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::Io);
        for seed in 0..40 {
            let after = if seed == 0 { fs.kill() } else { fs.power_cut(seed) };
            let db = sim_options(&after).open(DIR).unwrap_or_else(|e| panic!("stopped at {stop}, seed {seed}: {e}"));
            assert_eq!(db.iter().count(), 0);
            db.insert("key", "value").unwrap();
            db.close().unwrap();
            assert_eq!(sim_options(&after).open(DIR).unwrap().iter().count(), 1);
        }
    }
}

/// What a crash leaves in the directory goes with the next run that writes.
#[test]
fn leftovers_of_a_crash_are_removed() {
    let script = scripts().swap_remove(1);
    let (fs, ..) = play(&script, None, false);
    for stop in 1..=fs.operations() {
        let (left, ..) = play(&script, Some(Fault::Halt { after: stop }), true);
        let db = open(&left, &script.setup).unwrap();
        db.insert("one", "more").unwrap();
        db.compact().unwrap();
        let stats = db.stats();
        db.close().unwrap();
        let count = |ending: &str| image(&left).iter().filter(|(name, _)| name.ends_with(ending)).count();
        let found = (count(".sst"), count(".idx"), count(".manifest"), count(".wal"), count("CURRENT"));
        assert_eq!(
            found,
            (stats.tables.len(), stats.tables.len(), 1, 0, 1),
            "stopped at {stop}: {:?}",
            left.files(Path::new(DIR))
        );
    }
}
