//! Every call inside of every callback: it works, or is refused at once, as the table in the documentation of the crate says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use maplsm::operators::Append;
use maplsm::{
    Db, Durability, Error, Event, FilterEntry, Isolation, KeyspaceOptions, Options, Result, SimFs, Verdict, WriteBatch,
};

use super::poisoned::DB_FILES;
use crate::support::{DIR, sim_options};

/// What hangs fails after this long.
const LONGEST: Duration = Duration::from_secs(60);

const ENTRIES: u32 = 40;

/// Where the table has a column for the callback, and the ways in which it comes to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callback {
    /// On a background thread.
    FilterInBackground,
    /// On the caller's.
    FilterInCompact,
    FilterInMaintain,
    FilterInWrite,
    OfCommit,
    OfCommitOnThread,
    Iterator,
    FallibleIterator,
    Body,
    Decision,
    AsRef,
    Listener,
}

const CALLBACKS: [Callback; 12] = [
    Callback::FilterInBackground,
    Callback::FilterInCompact,
    Callback::FilterInMaintain,
    Callback::FilterInWrite,
    Callback::OfCommit,
    Callback::OfCommitOnThread,
    Callback::Iterator,
    Callback::FallibleIterator,
    Callback::Body,
    Callback::Decision,
    Callback::AsRef,
    Callback::Listener,
];

impl Callback {
    fn column(self) -> &'static str {
        match self {
            Self::FilterInBackground | Self::FilterInCompact | Self::FilterInMaintain | Self::FilterInWrite => {
                "in a filter"
            }
            Self::OfCommit | Self::OfCommitOnThread => "of a commit",
            Self::Iterator | Self::FallibleIterator => "in an iterator",
            Self::Body | Self::Decision => "in a body",
            Self::AsRef => "in `as_ref`",
            Self::Listener => "in a listener",
        }
    }

    /// What an error calls it.
    fn name(self) -> &'static str {
        match self.column() {
            "of a commit" => "callback of a commit",
            "in a listener" => "listener",
            _ => "compaction filter",
        }
    }
}

type Call = fn(&Db) -> Result<()>;

/// The methods of `Db` by name, with what other handles have under that name.
fn calls() -> BTreeMap<&'static str, Call> {
    points().into_iter().chain(others()).chain(of_the_store()).collect()
}

fn points() -> Vec<(&'static str, Call)> {
    let calls: [(&str, Call); 16] = [
        ("get", |db| {
            db.keyspace("named")?.get("key")?;
            db.snapshot().get("key")?;
            db.transaction().get("key")?;
            db.get("key").map(drop)
        }),
        ("contains_key", |db| db.contains_key("key").map(drop)),
        ("insert", |db| {
            db.keyspace("named")?.insert("inserted", "value")?;
            db.insert("inserted", "value")
        }),
        ("merge", |db| {
            db.keyspace("named")?.merge("inserted", "value").unwrap_err();
            db.merge("merged", "operand")
        }),
        ("merge_with", |db| db.merge_with("merged", "operand", Durability::Sync)),
        ("remove", |db| {
            db.keyspace("named")?.remove("inserted")?;
            db.remove("inserted")
        }),
        ("remove_range", |db| {
            db.keyspace("named")?.remove_range("x".."y")?;
            db.remove_range("x".."y")
        }),
        ("write", |db| db.write(WriteBatch::new().insert("written", "value").remove("gone"))),
        ("write_with", |db| db.write_with(WriteBatch::new().insert("written", "value"), Durability::Sync)),
        ("insert_with", |db| {
            db.keyspace("named")?.insert_with("inserted", "value", Durability::Sync)?;
            db.insert_with("inserted", "value", Durability::Sync)
        }),
        ("remove_with", |db| {
            db.keyspace("named")?.remove_with("inserted", Durability::Buffered)?;
            db.remove_with("inserted", Durability::Sync)
        }),
        ("submit", |db| {
            let transaction = db.transaction();
            transaction.insert("of a transaction", "value")?;
            transaction.submit()?;
            db.submit(WriteBatch::new().insert("submitted", "value"))?.on_durable(|outcome| outcome.unwrap());
            Ok(())
        }),
        ("try_write", |db| match db.try_write(WriteBatch::new().insert("written", "value")) {
            Err(Error::WouldBlock) => Ok(()),
            other => other,
        }),
        ("ingest", |db| {
            db.keyspace("named")?.ingest([("loaded", "value")])?;
            db.ingest([("loaded", "value")]).map(drop)
        }),
        ("try_ingest", |db| db.try_ingest([Ok::<_, Error>(("loaded too", "value"))]).map(drop)),
        ("sync", Db::sync),
    ];
    calls.to_vec()
}

fn others() -> Vec<(&'static str, Call)> {
    let calls: [(&str, Call); 5] = [
        ("iter", |db| {
            db.keyspace("named")?.iter().try_for_each(|entry| entry.map(drop))?;
            db.transaction().iter().try_for_each(|entry| entry.map(drop))?;
            db.iter().try_for_each(|entry| entry.map(drop))
        }),
        ("range", |db| db.range("a".."z").try_for_each(|entry| entry.map(drop))),
        ("prefix", |db| db.prefix("k").try_for_each(|entry| entry.map(drop))),
        ("cursor", |db| db.cursor().seek("key").map(drop)),
        ("snapshot", |db| db.snapshot().get_ref("key").map(drop)),
    ];
    calls.to_vec()
}

fn of_the_store() -> Vec<(&'static str, Call)> {
    let calls: [(&str, Call); 44] = [
        ("transaction", |db| {
            let transaction = db.transaction();
            transaction.get("key")?;
            transaction.insert("of a transaction", "value")?;
            transaction.commit()
        }),
        ("transaction_with", |db| {
            let transaction = db.transaction_with(Isolation::Snapshot);
            transaction.remove_range("x".."y")?;
            transaction.commit_with(Durability::Sync)
        }),
        ("transact", |db| db.transact(|inner| inner.insert("of a body", "value"))),
        ("try_transact", |db| db.try_transact(|inner| inner.insert("of a body", "value"))),
        ("transact_with", |db| {
            db.transact_with(Isolation::Snapshot, Durability::Sync, |inner| inner.insert("of a body", "value"))
        }),
        ("first", |db| db.keyspace("named")?.first().and_then(|_| db.first()).map(drop)),
        ("last", |db| db.last().map(drop)),
        ("is_empty", |db| db.is_empty().map(drop)),
        ("keys", |db| db.keys().try_for_each(|key| key.map(drop))),
        ("values", |db| db.values().try_for_each(|value| value.map(drop))),
        ("multi_get", |db| {
            db.transaction().multi_get(["key", "other"])?;
            db.multi_get(["key", "other"]).map(drop)
        }),
        ("size_of", |db| db.size_of("key").map(drop)),
        ("explain", |db| {
            db.keyspace("named")?.explain("key")?;
            db.snapshot().explain("key")?;
            db.explain("key").map(drop)
        }),
        ("approximate_len", |db| db.approximate_len("a".."z").map(drop)),
        ("approximate_size", |db| db.approximate_size("a".."z").map(drop)),
        ("path", |db| {
            assert_eq!(db.path(), std::path::Path::new(DIR));
            Ok(())
        }),
        ("update", |db| {
            db.keyspace("named")?.update("updated", |_| Some("value"))?;
            db.update("of an update", |_| Some("inner"))?;
            db.update("updated", |_| Some("value")).map(drop)
        }),
        ("fetch_update", |db| db.fetch_update("updated", |_| Some("value")).map(drop)),
        ("compare_and_swap", |db| db.compare_and_swap("updated", None, Some(b"value")).map(drop)),
        ("insert_if_absent", |db| db.insert_if_absent("updated", "value").map(drop)),
        ("take", |db| db.take("updated").map(drop)),
        ("pop_first", |db| db.insert("", "").and_then(|()| db.pop_first()).map(drop)),
        ("pop_last", |db| db.insert("zzz", "").and_then(|()| db.pop_last()).map(drop)),
        ("remove_prefix", |db| {
            db.keyspace("named")?.clear()?;
            db.remove_prefix("upd")
        }),
        ("memtable_keys", |db| db.memtable_keys().map(drop)),
        ("flush", Db::flush),
        ("wait_for_background", Db::wait_for_background),
        ("maintain", Db::maintain),
        ("compact", |db| {
            let of_keyspace = db.keyspace("named")?.compact();
            let of_default = db.compact();
            assert_eq!(of_keyspace.is_ok(), of_default.is_ok());
            of_default
        }),
        ("compact_range", |db| {
            let of_keyspace = db.keyspace("named")?.compact_range("a".."z");
            let of_default = db.compact_range("a".."z");
            assert_eq!(of_keyspace.is_ok(), of_default.is_ok());
            of_default
        }),
        ("keyspace", |db| db.keyspace("new").map(drop)),
        ("create_keyspace", |db| db.create_keyspace("newer", &KeyspaceOptions::new()).map(drop)),
        ("keyspaces", |db| {
            assert!(db.keyspaces().contains(&"named".to_owned()));
            Ok(())
        }),
        ("drop_keyspace", |db| db.drop_keyspace("named")),
        ("checkpoint", |db| db.checkpoint("/copy")),
        ("backup", |db| db.backup("/backups").map(drop)),
        ("verify", |db| db.verify().problems.into_iter().next().map_or(Ok(()), Err)),
        ("recovery_report", |db| {
            assert!(db.recovery_report().clean);
            Ok(())
        }),
        ("stats", |db| {
            assert!(!db.stats().keyspaces.is_empty());
            Ok(())
        }),
        ("close", Db::close),
        // Not of the store that the callback belongs to, and of no interest.
        ("open", |db| sim_options(&SimFs::new()).open("/other").map(|other| drop((other, db.clone())))),
        ("clone", |db| {
            drop(db.clone());
            Ok(())
        }),
        ("debug", |db| {
            assert!(format!("{db:?}").contains(DIR));
            Ok(())
        }),
        ("into_iter", |db| db.into_iter().try_for_each(|entry| entry.map(drop))),
    ];
    calls.to_vec()
}

/// What is no row of the table.
const OF_NO_INTEREST: [&str; 4] = ["open", "clone", "debug", "into_iter"];

/// The table in the documentation: what it says about each call in each column.
fn table() -> BTreeMap<(String, String), String> {
    let source = include_str!("../../src/lib.rs");
    let (_, section) = source.split_once("\n//! # Callbacks\n").expect("the section is there");
    let (section, _) = section.split_once("\n//! # ").expect("it ends");
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("//! |"))
        .map(|line| line.trim_end_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    let mut rows = rows.filter(|row| row.len() > 1);
    let columns = rows.next().expect("a head");
    let mut table = BTreeMap::new();
    for row in rows {
        assert_eq!(row.len(), columns.len(), "{row:?}");
        for call in row[0].split('`').skip(1).step_by(2) {
            for (column, cell) in columns.iter().zip(&row).skip(1) {
                let told = table.insert((call.to_owned(), column.clone()), cell.clone());
                assert!(told.is_none(), "{call} has two rows");
            }
        }
    }
    table
}

/// The public methods of `Db`.
fn methods() -> BTreeSet<String> {
    let bodies = DB_FILES.iter().map(|source| {
        let (_, body) = source.split_once("\nimpl Db {\n").expect("the methods are there");
        body.split_once("\n}\n").expect("they end").0
    });
    let names = bodies.flat_map(|body| body.lines().filter_map(|line| line.strip_prefix("    pub fn ")));
    names.map(|line| line.split(['(', '<']).next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_table_has_every_call() {
    let told: BTreeSet<String> = table().into_keys().map(|(call, _)| call).collect();
    let mut called: BTreeSet<String> = calls().into_keys().map(str::to_owned).collect();
    assert!(methods().is_subset(&called), "not called here: {:?}", methods().difference(&called));
    called.retain(|call| !OF_NO_INTEREST.contains(&call.as_str()));
    assert_eq!(told, called);
    assert!(told.is_subset(&methods()));
    let columns: BTreeSet<&str> = CALLBACKS.iter().map(|callback| callback.column()).collect();
    assert_eq!(table().len(), told.len() * columns.len());
}

/// A filter that makes one call when it is armed, and where the answer goes.
#[derive(Clone, Default)]
struct Armed {
    armed: Arc<AtomicBool>,
    db: Arc<Mutex<Option<Db>>>,
}

impl Armed {
    fn filter(
        &self,
        call: Call,
        answers: Sender<Result<()>>,
    ) -> impl Fn(FilterEntry<'_>) -> Verdict + Send + Sync + use<> {
        let (this, answers) = (self.clone(), Mutex::new(answers));
        move |_| {
            if this.armed.swap(false, Ordering::SeqCst) {
                let db = this.db.lock().unwrap().clone().expect("a database");
                let answer = call(&db);
                drop(db);
                answers.lock().unwrap().send(answer).unwrap();
            }
            Verdict::Keep
        }
    }

    fn listener(
        &self,
        call: Call,
        answers: Sender<Result<()>>,
        told: Sender<()>,
    ) -> impl Fn(&Event) + Send + Sync + use<> {
        let (this, to) = (self.clone(), Mutex::new((answers, told)));
        move |_| {
            if this.armed.swap(false, Ordering::SeqCst) {
                let db = this.db.lock().unwrap().take().expect("a database");
                let (answers, told) = &*to.lock().unwrap();
                answers.send(call(&db)).unwrap();
                drop(db);
                told.send(()).unwrap();
            }
        }
    }

    fn arm(&self, db: &Db) {
        *self.db.lock().unwrap() = Some(db.clone());
        self.armed.store(true, Ordering::SeqCst);
    }

    fn disarm(&self) {
        self.db.lock().unwrap().take();
    }
}

fn fill(db: &Db) -> Result<()> {
    (0..ENTRIES).try_for_each(|number| db.insert(number.to_be_bytes(), "value"))?;
    db.insert("key", "value")?;
    db.keyspace("named")?.insert("key", "value")
}

struct Key<F: Fn()>(F);

impl<F: Fn()> AsRef<[u8]> for Key<F> {
    fn as_ref(&self) -> &[u8] {
        self.0();
        b"of a callback"
    }
}

/// Makes one call in one callback; answers what it answered, and what the call did that the callback belongs to.
fn run(fs: &SimFs, callback: Callback, call: Call) -> (Result<()>, Result<()>) {
    let (answers, answer): (Sender<Result<()>>, Receiver<Result<()>>) = channel();
    let armed = Armed::default();
    let mut options = sim_options(fs);
    options.merge_operator(Append);
    options.l0_tables(1).level_bytes_base(4 << 10).compaction_filter(armed.filter(call, answers.clone()));
    if matches!(callback, Callback::FilterInBackground | Callback::OfCommitOnThread) {
        options.background_threads(2);
    }
    let (told, is_told) = channel();
    if callback == Callback::Listener {
        options.listener(armed.listener(call, answers.clone(), told));
    }
    if callback == Callback::FilterInWrite {
        options.memtable_entries(Some(10));
    }
    let db = options.open(DIR).unwrap();
    fill(&db).unwrap();
    if callback != Callback::FilterInWrite {
        db.flush().unwrap();
    }
    let whole = match callback {
        Callback::FilterInBackground => {
            // Armed behind the writes, with which a transaction in the filter would conflict.
            let filled = fill(&db).map(|()| armed.arm(&db));
            filled.and_then(|()| db.flush()).and_then(|()| db.wait_for_background())
        }
        Callback::FilterInCompact => {
            armed.arm(&db);
            db.compact()
        }
        Callback::FilterInMaintain => fill(&db).and_then(|()| db.flush()).and_then(|()| {
            armed.arm(&db);
            db.maintain()
        }),
        Callback::FilterInWrite => {
            armed.arm(&db);
            let mut writes = (0..10_000u32).take_while(|_| armed.armed.load(Ordering::SeqCst));
            writes.try_for_each(|number| db.insert((number % 50).to_be_bytes(), "value"))
        }
        Callback::OfCommit | Callback::OfCommitOnThread => {
            let commit = db.submit(WriteBatch::new().insert("submitted", "value")).unwrap();
            let (handle, answers) = (db.clone(), answers.clone());
            let (done, is_done) = channel();
            commit.on_durable(move |outcome| {
                outcome.unwrap();
                answers.send(call(&handle)).unwrap();
                drop(handle);
                done.send(()).unwrap();
            });
            let waited = commit.wait();
            is_done.recv().unwrap();
            waited
        }
        Callback::Iterator => {
            // The first entry is in a table when the call is made.
            let lazily = [0u8, 1].into_iter().map(|at| {
                if at == 1 {
                    answers.send(call(&db)).unwrap();
                }
                ([b'o', at], "value")
            });
            db.ingest(lazily).map(drop)
        }
        Callback::FallibleIterator => {
            let lazily = [0u8, 1].into_iter().map(|at| {
                if at == 1 {
                    answers.send(call(&db)).unwrap();
                }
                Ok::<_, Error>(([b'o', at], "value"))
            });
            db.try_ingest(lazily).map(drop)
        }
        Callback::Body => db.transact(|transaction| {
            transaction.insert("of a transaction before", "value")?;
            answers.send(call(&db)).unwrap();
            transaction.insert("of a transaction after", "value")
        }),
        Callback::Decision => {
            let mut asked = false;
            let decided = db.update("of an update", |_| {
                if !std::mem::replace(&mut asked, true) {
                    answers.send(call(&db)).unwrap();
                }
                Some("value")
            });
            decided.map(drop)
        }
        Callback::AsRef => {
            let key = Key(|| answers.send(call(&db)).unwrap());
            db.insert(key, "value")
        }
        Callback::Listener => {
            // It is told on a thread of its own: armed before, it would call while this one commits, and a transaction lose.
            fill(&db).unwrap();
            armed.arm(&db);
            db.flush().inspect(|()| is_told.recv().unwrap())
        }
    };
    armed.disarm();
    let answer = answer.try_recv().expect("the callback was called");
    (answer, whole)
}

fn beside_a_watchdog<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = channel();
    let worker = thread::spawn(move || done.send(work()));
    match is_done.recv_timeout(LONGEST) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("{what}: hangs"),
        Err(RecvTimeoutError::Disconnected) => panic!("{what}: {:?}", worker.join().err()),
    }
}

/// Opens a store that may still be closing.
fn reopen(fs: &SimFs) -> Db {
    let start = Instant::now();
    loop {
        match sim_options(fs).open(DIR) {
            Err(Error::Locked(_)) if start.elapsed() < LONGEST => thread::sleep(Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
}

#[test]
fn every_call_in_every_callback_works_or_is_refused_as_the_table_says() {
    let table = table();
    for callback in CALLBACKS {
        for (name, call) in calls() {
            let what = format!("{name} {} ({callback:?})", callback.column());
            let fs = SimFs::new();
            let on = fs.clone();
            let (answer, whole) = beside_a_watchdog(&what, move || run(&on, callback, call));
            let told = table.get(&(name.to_owned(), callback.column().to_owned()));
            match told.map_or("yes", String::as_str) {
                "yes" => answer.unwrap_or_else(|e| panic!("{what}: {e}")),
                "[`Reentrant`](Error::Reentrant)" => match answer {
                    Err(Error::Reentrant { call, callback: within }) => {
                        assert_eq!((call, within), (name, callback.name()), "{what}");
                    }
                    other => panic!("{what}: {other:?}"),
                },
                other => panic!("{what}: the table says {other}"),
            }
            match whole {
                Err(Error::Closed) if name == "close" => {}
                whole => whole.unwrap_or_else(|e| panic!("{what}, the call around it: {e}")),
            }
            let db = reopen(&fs);
            assert!(db.verify().is_ok(), "{what}");
            assert_eq!(db.get("key").unwrap().as_deref(), Some(&b"value"[..]), "{what}");
            for number in 0..ENTRIES {
                assert!(db.contains_key(number.to_be_bytes()).unwrap(), "{what}: {number}");
            }
        }
    }
}

/// Lets a filter drop the last handle. It can have that on background threads only: on its own thread, the caller has one.
fn drop_last_in_filter(fs: &SimFs, threads: usize) {
    let slot = Arc::new(Mutex::new(None::<Db>));
    let [is_last, is_dropped] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let wait_for = |what: &AtomicBool| {
        let start = Instant::now();
        while !what.load(Ordering::SeqCst) {
            assert!(start.elapsed() < LONGEST, "it does not happen");
            thread::sleep(Duration::from_millis(1));
        }
    };
    let (given, last, dropped) = (Arc::clone(&slot), Arc::clone(&is_last), Arc::clone(&is_dropped));
    let mut options = sim_options(fs);
    options.background_threads(threads).l0_tables(1).level_bytes_base(4 << 10).compaction_filter(move |_| {
        let given = given.lock().unwrap().take();
        if let Some(db) = given {
            wait_for(&last);
            drop(db);
            dropped.store(true, Ordering::SeqCst);
        }
        Verdict::Keep
    });
    let db = options.open(DIR).unwrap();
    *slot.lock().unwrap() = Some(db.clone());
    for _ in 0..2 {
        fill(&db).unwrap();
        db.flush().unwrap();
    }
    drop((db, options));
    is_last.store(true, Ordering::SeqCst);
    wait_for(&is_dropped);
}

#[test]
fn a_filter_may_drop_the_last_handle() {
    for threads in [1, 2] {
        let what = format!("the last handle with {threads} threads");
        let fs = SimFs::new();
        let on = fs.clone();
        beside_a_watchdog(&what, move || drop_last_in_filter(&on, threads));
        let db = beside_a_watchdog(&what, move || reopen(&fs));
        assert!(db.recovery_report().clean && db.verify().is_ok(), "{what}");
        for number in 0..ENTRIES {
            assert!(db.contains_key(number.to_be_bytes()).unwrap(), "{what}: {number}");
        }
    }
}

/// A filter of one store may do with another one what it likes, and knows where it came from.
#[test]
fn callbacks_of_different_stores_may_be_within_each_other() {
    beside_a_watchdog("two stores", || {
        let (outer, inner) = (Armed::default(), Armed::default());
        let (answers, answer) = channel();
        let (inner_answers, inner_answer) = channel();
        let open = |armed: &Armed, call: Call, answers| {
            let db = sim_options(&SimFs::new()).compaction_filter(armed.filter(call, answers)).open(DIR).unwrap();
            db.insert("key", "value").unwrap();
            db
        };
        let a = open(&outer, Db::compact, answers);
        let b = open(&inner, Db::compact, inner_answers);
        // The filter of `a` compacts `b`, whose filter compacts `a`.
        outer.arm(&b);
        inner.arm(&a);
        a.compact().unwrap();
        answer.recv().unwrap().unwrap();
        assert!(matches!(inner_answer.recv().unwrap(), Err(Error::Reentrant { call: "compact", .. })));
        outer.disarm();
        inner.disarm();
        a.compact().unwrap();
        b.compact().unwrap();
    });
}

/// The only thread that could flush is in the filter, which writes more than a few memtables.
#[test]
fn writes_in_a_filter_do_not_wait_for_it() {
    for threads in [0, 1] {
        beside_a_watchdog("writes in a filter", move || {
            let write: Call = |db| (0..500u32).try_for_each(|number| db.insert(number.to_be_bytes(), "written"));
            let armed = Armed::default();
            let (answers, answer) = channel();
            let mut options: Options = sim_options(&SimFs::new());
            options.background_threads(threads).memtable_entries(Some(10)).l0_tables(1).level_bytes_base(4 << 10);
            let db = options.compaction_filter(armed.filter(write, answers)).open(DIR).unwrap();
            armed.arm(&db);
            (0..200u32).for_each(|number| db.insert(number.to_be_bytes(), "value").unwrap());
            db.compact().unwrap();
            answer.recv().unwrap().unwrap();
            armed.disarm();
            assert_eq!(db.iter().count(), 500);
        });
    }
}
