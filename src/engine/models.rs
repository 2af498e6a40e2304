//! The whole engine, on the disk in memory, under many schedules.
//!
//! Shuttle runs the threads of a model one at a time and decides at each lock and each atomic which one goes on. Everything
//! is the code that ships. Each promise comes with planted bugs: what an engine with a wrong order would do, done by the
//! model itself on the engine's parts. With those, the model must fail. `MODEL_SCHEDULES` sets how many schedules each model
//! tries, `MODEL_SEED` which ones.

mod submitted;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};

use super::*;
use crate::batch::WriteBatch;
use crate::format::entry::Kind;
use crate::format::range::Edge;
use crate::format::{KeyspaceId, key_hash};
use crate::merge::Place;
use crate::options::Durability;
use crate::sys::sim::{Fault, SimFs};
use crate::visibility::RangeSet;
use read_state::{Find, Opened};

const DIR: &str = "/db";
const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Half of the schedules at random, half with few, well-placed preemptions.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    let model = Arc::new(model);
    for preemptions in [None, Some(3)] {
        let model = Arc::clone(&model);
        let seed = number_from("MODEL_SEED", 1);
        let each = usize::try_from(number_from("MODEL_SCHEDULES", 6000) / 2).expect("a number of schedules");
        match preemptions {
            None => Runner::new(RandomScheduler::new_from_seed(seed, each), config.clone()).run(move || model()),
            Some(most) => {
                Runner::new(PctScheduler::new_from_seed(seed, most, each), config.clone()).run(move || model())
            }
        };
    }
}

fn must_fail(with: &str, model: impl Fn() + Send + Sync + 'static) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| explore(model))) else { panic!("the planted bug was not found") };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
    assert!(text.contains(with), "something else was found: {text}");
}

/// Memtables take two or three commits.
fn options(fs: &SimFs) -> Options {
    let mut options = Options::new();
    options.file_system(fs.clone()).background_threads(0).memtable_bytes(4 << 10).memtable_entries(Some(6));
    options
}

fn open(fs: &SimFs) -> Arc<Engine> {
    Engine::open(&options(fs), Path::new(DIR)).expect("an open store")
}

fn put<'a>(engine: &'a Engine, key: &'a [u8], value: &'a [u8]) -> Body<'a> {
    Body::One { keyspace: engine.default_keyspace(), kind: Kind::Put, key, value }
}

fn scan_at(engine: &Engine, at: &Registration) -> Result<Box<crate::merge::Scan>> {
    engine.reading(engine.default_keyspace(), at.clone())?.scan((Edge::START, Edge::End))
}

/// Runs the closures, each in a thread, with the engine.
fn beside(engine: &Arc<Engine>, work: Vec<Box<dyn FnOnce(&Engine) + Send>>) {
    let threads: Vec<_> = work
        .into_iter()
        .map(|work| {
            let engine = Arc::clone(engine);
            thread::spawn(move || work(&engine))
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread of the model");
    }
}

// Durability.

type Committer = fn(&Engine, Body<'_>) -> Result<()>;

fn commit_synced(engine: &Engine, body: Body<'_>) -> Result<()> {
    engine.committer.commit(body, Durability::Sync)
}

/// Three threads commit with [`Durability::Sync`]; the power goes at the moment in which a commit has returned.
/// With `failing`, one of the operations before that fails.
fn durable_when_acknowledged(commit: Committer, failing: bool) {
    let fs = SimFs::new();
    let engine = open(&fs);
    commit_synced(&engine, put(&engine, b"first", b"")).expect("a commit");
    if failing {
        fs.inject(Fault::Error { after: thread_rng().gen_range(1..16), kind: std::io::ErrorKind::Other });
    }
    let after = Arc::new(std::sync::Mutex::new(Vec::new()));
    let writer = |name: u8| -> Box<dyn FnOnce(&Engine) + Send> {
        let (fs, after) = (fs.clone(), Arc::clone(&after));
        Box::new(move |engine| {
            for number in 0..2 {
                let key = [name, number];
                if commit(engine, put(engine, &key, b"value")).is_ok() {
                    let cut = fs.power_cut(u64::from(name) << 8 | u64::from(number));
                    after.lock().expect("no panic").push((key, cut));
                }
            }
        })
    };
    beside(&engine, vec![writer(1), writer(2), writer(3)]);
    drop(engine);
    for (key, cut) in std::mem::take(&mut *after.lock().expect("no panic")) {
        let engine = Engine::open(&options(&cut), Path::new(DIR)).expect("everything is lost");
        let found = engine.readers.get(KEYSPACE, &key).expect("a lookup");
        assert!(found.is_some_and(|value| &*value == b"value"), "an acknowledged commit is lost");
    }
}

#[test]
fn models_a_synced_commit_is_on_disk_when_it_returns() {
    explore(|| durable_when_acknowledged(commit_synced, false));
}

#[test]
fn models_a_synced_commit_is_on_disk_though_a_sync_fails() {
    explore(|| durable_when_acknowledged(commit_synced, true));
}

/// Waits for the end that the log had before its own group.
fn commit_with_early_end(engine: &Engine, body: Body<'_>) -> Result<()> {
    let end = {
        let mut writer = engine.log.writer();
        let end = writer.end();
        engine.committer.appender.append(&mut writer, body)?;
        end
    };
    engine.syncer.sync_to(end)
}

#[test]
fn models_find_a_commit_that_waits_for_too_little() {
    must_fail("is lost", || durable_when_acknowledged(commit_with_early_end, false));
}

/// A sync that counts what was committed while it ran.
fn commit_with_late_end(engine: &Engine, body: Body<'_>) -> Result<()> {
    let end = engine.committer.appender.append(&mut engine.log.writer(), body)?;
    let syncing = engine.log.syncing();
    if engine.log.writer().durable >= Some(end) {
        return Ok(());
    }
    engine.syncer.sync_log(&syncing)?;
    let mut writer = engine.log.writer();
    writer.durable = Some(writer.end());
    Ok(())
}

#[test]
fn models_find_a_sync_that_counts_what_came_later() {
    must_fail("is lost", || durable_when_acknowledged(commit_with_late_end, false));
}

/// Tries a failed sync again and believes the second answer.
fn commit_with_second_try(engine: &Engine, body: Body<'_>) -> Result<()> {
    let end = engine.committer.appender.append(&mut engine.log.writer(), body)?;
    let syncing = engine.log.syncing();
    if engine.log.writer().durable >= Some(end) {
        return Ok(());
    }
    engine.syncer.sync_log(&syncing).or_else(|_| engine.syncer.sync_log(&syncing))?;
    Ok(())
}

#[test]
fn models_find_a_failed_sync_tried_again() {
    must_fail("is lost", || durable_when_acknowledged(commit_with_second_try, true));
}

// Reads.

fn number(value: &[u8]) -> u64 {
    value.try_into().map(u64::from_be_bytes).expect("a number")
}

type Look = fn(&Engine, key: &[u8]) -> Result<Option<u64>>;

fn look(engine: &Engine, key: &[u8]) -> Result<Option<u64>> {
    Ok(engine.readers.get(KEYSPACE, key)?.map(|value| number(&value)))
}

const COMMITS: u64 = 7;

/// One thread commits batches that set both keys to a growing number, one flushes and compacts, one looks.
fn reads_are_consistent(look: Look) {
    let fs = SimFs::new();
    let engine = open(&fs);
    let acknowledged = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let commit = |engine: &Engine, number: u64| {
        let mut batch = WriteBatch::new();
        batch.insert("a", number.to_be_bytes()).insert("b", number.to_be_bytes());
        engine.committer.commit(Body::Batch(&batch), Durability::Buffered).expect("a commit");
    };
    commit(&engine, 0);
    let write = {
        let acknowledged = Arc::clone(&acknowledged);
        move |engine: &Engine| {
            for number in 1..=COMMITS {
                commit(engine, number);
                acknowledged.store(number, std::sync::atomic::Ordering::SeqCst);
            }
        }
    };
    let settle = |engine: &Engine| {
        engine.maintenance.flush().expect("a flush");
        engine.maintenance.compact_range(KEYSPACE, (Edge::START, Edge::End)).expect("a compaction");
    };
    let read = move |engine: &Engine| {
        for _ in 0..3 {
            let mut seen = 0;
            for key in [b"a", b"b", b"a"] {
                let known = acknowledged.load(std::sync::atomic::Ordering::SeqCst);
                let found = look(engine, key).expect("a lookup").expect("a key that was never removed is missed");
                assert!(found >= known && found >= seen, "{found} after {known} and {seen}: a step back");
                seen = found;
            }
            let registration = engine.readers.register();
            let at =
                engine.readers.get_at(KEYSPACE, b"a", &registration).expect("a lookup").map(|value| number(&value));
            let mut scan = scan_at(engine, &registration).expect("a scan");
            let mut values = Vec::new();
            let mut more = scan.go(Place::First).expect("a scan");
            while more {
                values.push(number(scan.value()));
                more = scan.next().expect("a scan");
            }
            assert_eq!(values, [at.expect("a key"); 2], "a snapshot shows half of a batch");
        }
    };
    beside(&engine, vec![Box::new(write), Box::new(settle), Box::new(read)]);
    assert_eq!(look(&engine, b"b").expect("a lookup"), Some(COMMITS));
}

#[test]
fn models_reads_are_consistent_beside_commits_flushes_and_compactions() {
    explore(|| reads_are_consistent(look));
}

/// A reader that takes its sequence before the read state, and registers for neither.
fn look_at_an_old_sequence(engine: &Engine, key: &[u8]) -> Result<Option<u64>> {
    let at = engine.readers.visible();
    thread::yield_now();
    let mut opened = Opened::default();
    loop {
        let read_state = engine.readers.load();
        let closed =
            match read_state.find((&read_state.era, &opened), (KEYSPACE, key_hash(KEYSPACE, key), key), at, true)? {
                Find::Value(value) => return Ok(Some(number(&value.pin()))),
                Find::Absent | Find::Retry | Find::Operand => return Ok(None),
                Find::Closed(closed) => closed,
            };
        drop(read_state);
        opened.open(&closed)?;
    }
}

#[test]
fn models_find_a_reader_that_takes_its_sequence_first() {
    must_fail("is missed", || reads_are_consistent(look_at_an_old_sequence));
}

// Transactions.

/// Two threads count up one key, each step a transaction that is tried again after a conflict, beside flushes.
fn transactions_lose_no_update(relies_on: fn(&[u8]) -> ReadSet) {
    let fs = SimFs::new();
    let engine = open(&fs);
    let count = move |engine: &Engine| {
        for _ in 0..2 {
            loop {
                let (at, began) = engine.readers.begin();
                let seen =
                    engine.readers.get_at(KEYSPACE, b"a", &at).expect("a lookup").map_or(0, |value| number(&value));
                let mut batch = WriteBatch::new();
                batch.insert("a", (seen + 1).to_be_bytes());
                match engine.committer.commit_if_untouched(&batch, &relies_on(b"a"), began, &[], Durability::Buffered) {
                    Ok(_) => break,
                    Err(Error::Conflict) => thread::yield_now(),
                    Err(e) => panic!("{e}"),
                }
            }
        }
    };
    let settle = |engine: &Engine| {
        for _ in 0..2 {
            engine.maintenance.flush().expect("a flush");
            thread::yield_now();
        }
    };
    beside(&engine, vec![Box::new(count), Box::new(count), Box::new(settle)]);
    assert_eq!(look(&engine, b"a").expect("a lookup"), Some(4), "an update is lost");
}

fn footprint_of(key: &[u8]) -> ReadSet {
    let mut ranges = RangeSet::default();
    ranges.insert_key(key);
    ReadSet::from([(KEYSPACE, ranges)])
}

#[test]
fn models_transactions_lose_no_update() {
    explore(|| transactions_lose_no_update(footprint_of));
}

#[test]
fn models_find_a_transaction_that_forgets_what_it_read() {
    must_fail("an update is lost", || transactions_lose_no_update(|_| ReadSet::new()));
}

// Obsolete tables.

/// Readers open tables by name when they need them, while an edit makes them obsolete that nobody has read.
fn tables_stay_while_they_are_used(purge: fn(&Engine)) {
    let fs = SimFs::new();
    {
        let engine = open(&fs);
        for value in [b"1", b"2"] {
            commit_synced(&engine, put(&engine, b"key", value)).expect("a commit");
            engine.maintenance.flush().expect("a flush");
        }
        engine.close().expect("a close");
    }
    // Opened anew, so that no table has been mapped.
    let engine = open(&fs);
    let empty = move |engine: &Engine| {
        let version = Arc::clone(&engine.readers.read_state().version);
        let consume = version.tables().map(|(_, table)| (table.number(), KEYSPACE)).collect();
        drop(version);
        engine.store.install_edit(Edit { consume, ..Edit::default() }).expect("an edit");
        purge(engine);
    };
    let get = |engine: &Engine| {
        let found = engine.readers.get(KEYSPACE, b"key").expect("a lookup in a table that is gone");
        assert!(found.is_none_or(|value| &*value == b"2"));
    };
    let scan = |engine: &Engine| {
        let registration = engine.readers.register();
        let mut scan = scan_at(engine, &registration).expect("a lookup in a table that is gone");
        scan.go(Place::First).expect("a lookup in a table that is gone");
    };
    beside(&engine, vec![Box::new(empty), Box::new(get), Box::new(scan)]);
    engine.files.purge(&engine.readers);
    assert_eq!(engine.files.obsolete_bytes(), 0, "a table that nobody uses is kept");
}

#[test]
fn models_tables_stay_while_they_are_used() {
    explore(|| tables_stay_while_they_are_used(|engine| engine.files.purge(&engine.readers)));
}

#[test]
fn models_find_a_purge_without_a_look_at_the_readers() {
    must_fail("a table that is gone", || {
        tables_stay_while_they_are_used(|engine| {
            for table in &engine.files.obsolete.lock().files.tables {
                engine.files.remove_table(table.number());
            }
        });
    });
}

// Open tables.

/// One table may be open, and readers of several open and let go of them beside each other and beside a compaction.
fn tables_are_let_go_beside_readers() {
    let fs = SimFs::new();
    let engine = Engine::open(options(&fs).max_open_tables(1), Path::new(DIR)).expect("an open store");
    let keys = [b"a", b"b", b"c"];
    for key in keys {
        engine.committer.commit(put(&engine, key, key), Durability::Buffered).expect("a commit");
        engine.maintenance.flush().expect("a flush");
    }
    let get = move |engine: &Engine| {
        for key in [b"b", b"a", b"c", b"a"] {
            let found = engine.readers.get(KEYSPACE, key).expect("a lookup");
            assert!(found.is_some_and(|value| *value == key[..]), "a lookup in a table that was let go");
        }
    };
    let scan = move |engine: &Engine| {
        let registration = engine.readers.register();
        let mut scan = scan_at(engine, &registration).expect("a scan");
        let mut more = scan.go(Place::First).expect("a scan");
        for key in keys {
            assert!(more && (scan.key(), scan.value()) == (&key[..], &key[..]), "a scan of a table that was let go");
            more = scan.next().expect("a scan");
        }
    };
    let compact = |engine: &Engine| {
        engine.maintenance.compact_range(KEYSPACE, (Edge::START, Edge::End)).expect("a compaction");
    };
    beside(&engine, vec![Box::new(get), Box::new(get), Box::new(scan), Box::new(compact)]);
    engine.files.purge(&engine.readers);
    assert_eq!(engine.files.obsolete_bytes(), 0, "a table that nobody uses is kept");
    get(&engine);
    engine.files.table_cache.open.release();
    // Those who open one at the same time make room for themselves alone.
    let (open, files) = (engine.files.table_cache.open.len(), fs.open_files());
    assert!(open <= 3 && files <= 2 * open, "{open} tables and {files} files are open");
    engine.committer.commit(put(&engine, b"d", b"d"), Durability::Buffered).expect("a commit");
    engine.maintenance.flush().expect("a flush");
    engine.files.table_cache.open.release();
    let (open, files) = (engine.files.table_cache.open.len(), fs.open_files());
    assert!(open <= 1 && files <= 2, "{open} tables and {files} files are open behind another one");
}

#[test]
fn models_tables_are_let_go_beside_readers() {
    explore(tables_are_let_go_beside_readers);
}

// The end.

/// A close, while others commit, compact and read.
fn closes(close: fn(&Engine) -> Result<()>) {
    let fs = SimFs::new();
    // Each commit fills a memtable, so that the compaction has flushes to let go first.
    let engine = Engine::open(options(&fs).memtable_entries(Some(1)), Path::new(DIR)).expect("an open store");
    let closed_or = |result: Result<()>| match result {
        Err(e) if !matches!(e, Error::Closed) => panic!("{e}"),
        _ => {}
    };
    let write = move |engine: &Engine| {
        for number in 0..6u8 {
            let durability = if number == 0 { Durability::Sync } else { Durability::Buffered };
            closed_or(engine.committer.commit(put(engine, &[number], b""), durability));
        }
    };
    let compact =
        move |engine: &Engine| closed_or(engine.maintenance.compact_range(KEYSPACE, (Edge::START, Edge::End)));
    let end = move |engine: &Engine| close(engine).expect("a close");
    for number in 0..4u8 {
        engine.committer.commit(put(&engine, &[number], b""), Durability::Buffered).expect("a commit");
        if number % 2 == 1 {
            engine.maintenance.flush().expect("a flush");
        }
    }
    beside(&engine, vec![Box::new(write), Box::new(compact), Box::new(end)]);
    drop(engine);
    open(&fs);
}

#[test]
fn models_close_ends_beside_everything() {
    explore(|| closes(Engine::close));
}

#[test]
fn models_find_a_lock_held_while_waiting_for_compactions() {
    must_fail("deadlock", || {
        closes(|engine| {
            {
                let _no_edit = engine.store.manifest.lock();
                engine.scheduler.wait_until_done();
            }
            engine.close()
        });
    });
}
