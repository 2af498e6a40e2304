//! Changes that depend on what is there: nothing comes between, and nobody waits for ever.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use maplsm::{Db, Durability, Error, Isolation, Keyspace, Options, Result, SimFs, Transaction, WriteBatch};

use crate::support::{DIR, contents, sim_options};

fn open() -> Db {
    sim_options(&SimFs::new()).open(DIR).unwrap()
}

fn number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()))
}

fn one_more(value: Option<&[u8]>) -> [u8; 8] {
    (number(value) + 1).to_be_bytes()
}

/// What others may do to the key `n` while an update looks at it, with what is there afterwards.
type Other = (&'static str, fn(&Db) -> Result<()>, Option<&'static str>);

fn others() -> Vec<Other> {
    vec![
        ("insert", |db| db.insert("n", "other"), Some("other")),
        ("remove", |db| db.remove("n"), None),
        ("remove_range", |db| db.remove_range("m".."o"), None),
        ("remove_prefix", |db| db.remove_prefix("n"), None),
        ("write", |db| db.write(WriteBatch::new().remove_range("a".."z").insert("n", "other")), Some("other")),
        ("transact", |db| db.transact(|tx| tx.insert("n", "other")), Some("other")),
        ("ingest", |db| db.ingest([("n", "other")]).map(drop), Some("other")),
        ("update", |db| db.update("n", |_| Some("other")).map(drop), Some("other")),
        ("take", |db| db.take("n").map(drop), None),
        ("pop_last", |db| db.pop_last().map(drop), None),
        ("insert and flush", |db| db.insert("n", "other").and_then(|()| db.flush()), Some("other")),
        ("insert and compact", |db| db.insert("n", "other").and_then(|()| db.compact()), Some("other")),
        ("remove and compact", |db| db.remove("n").and_then(|()| db.compact()), None),
    ]
}

#[test]
fn an_update_decides_again_when_anybody_has_come_between() {
    for flushed in [false, true] {
        for (name, other, left) in others() {
            let db = open();
            db.insert("n", "before").unwrap();
            if flushed {
                db.flush().unwrap();
            }
            let mut calls: Vec<Option<Vec<u8>>> = Vec::new();
            let before = db
                .fetch_update("n", |old| {
                    calls.push(old.map(<[u8]>::to_vec));
                    if calls.len() == 1 {
                        other(&db).unwrap();
                    }
                    Some("mine")
                })
                .unwrap();
            let left = left.map(|left| left.as_bytes().to_vec());
            assert_eq!(calls, [Some(b"before".to_vec()), left.clone()], "{name}");
            assert_eq!(before.as_deref(), left.as_deref(), "{name}");
            assert_eq!(db.get("n").unwrap().as_deref(), Some(&b"mine"[..]), "{name}");
        }
    }
}

/// What happens to other keys is no reason to decide again; work on the files may be one.
#[test]
fn an_update_does_not_mind_other_keys() {
    let db = open();
    let named = db.keyspace("named").unwrap();
    db.insert("n", "before").unwrap();
    let mut calls = 0;
    db.update("n", |_| {
        calls += 1;
        db.insert("m", "").unwrap();
        db.remove_range("o"..).unwrap();
        named.insert("n", "").unwrap();
        db.update("l", |_| Some("")).unwrap();
        Some("mine")
    })
    .unwrap();
    assert_eq!(calls, 1);
    assert_eq!(named.get("n").unwrap().as_deref(), Some(&b""[..]));
    let mut calls = 0;
    db.update("n", |_| {
        calls += 1;
        if calls == 1 {
            db.flush().unwrap();
        }
        Some("mine again")
    })
    .unwrap();
    assert!(calls <= 2);
}

#[test]
fn what_a_change_returns_is_what_was_there() {
    let db = open();
    let named = db.keyspace("named").unwrap();
    assert_eq!(db.update("a", |old| old.is_none().then_some("1")).unwrap(), Some("1"));
    assert_eq!(db.update("a", |_| None::<&str>).unwrap(), None);
    let before = db.stats().last_sequence;
    assert_eq!(db.fetch_update("a", |_| None::<&str>).unwrap(), None);
    assert!(
        db.take("a").unwrap().is_none() && db.pop_first().unwrap().is_none() && named.pop_last().unwrap().is_none()
    );
    assert!(db.compare_and_swap("a", None, None).unwrap().is_ok());
    assert_eq!(db.compare_and_swap("a", Some(b"x"), None).unwrap().unwrap_err().actual, None);
    assert_eq!(db.stats().last_sequence, before, "nothing is written where nothing changes");

    assert!(named.insert_if_absent("a", "1").unwrap().is_none());
    assert_eq!(named.insert_if_absent("a", "2").unwrap().unwrap(), "1");
    let refused = named.compare_and_swap("a", Some(b"2"), Some(b"3")).unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "the key has another value, of 1 bytes");
    assert_eq!(refused.actual.unwrap(), "1");
    assert!(named.compare_and_swap("a", Some(b"1"), Some(b"")).unwrap().is_ok());
    assert!(named.compare_and_swap("a", Some(b""), None).unwrap().is_ok());
    assert!(named.is_empty().unwrap());
    named.update("b", |old| Some(one_more(old))).unwrap();
    assert_eq!(number(named.fetch_update("b", |old| Some(one_more(old))).unwrap().as_deref()), 1);
    assert_eq!(number(named.take("b").unwrap().as_deref()), 2);
    for key in ["a", "b", "c"] {
        named.insert(key, key).unwrap();
    }
    let (first, last) = (named.pop_first().unwrap().unwrap(), named.pop_last().unwrap().unwrap());
    assert!(first.key() == b"a" && first.value() == b"a" && last.into_value() == "c");
    assert_eq!(named.iter().count(), 1);
    assert!(contents(&db).is_empty());
}

#[test]
fn what_cannot_be_written_is_not_decided() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    let named = db.keyspace("named").unwrap();
    db.insert("a", "1").unwrap();
    let long = vec![b'k'; 70_000];
    let never = |_: Option<&[u8]>| -> Option<&str> { panic!("it is not called") };
    assert!(matches!(db.update(&long, never), Err(Error::KeyTooLong { .. })));
    assert!(matches!(named.take(&long), Err(Error::KeyTooLong { .. })));
    db.drop_keyspace("named").unwrap();
    assert!(matches!(named.update("a", never), Err(Error::KeyspaceDropped { .. })));
    assert!(matches!(named.pop_first(), Err(Error::KeyspaceDropped { .. })));
    assert!(matches!(named.clear(), Err(Error::KeyspaceDropped { .. })));
    db.close().unwrap();
    assert!(matches!(db.update("a", never), Err(Error::Closed)));
    assert!(matches!(db.pop_first(), Err(Error::Closed)));
    let db = sim_options(&fs).read_only(true).open(DIR).unwrap();
    assert!(matches!(db.update("a", never), Err(Error::ReadOnly)));
    assert!(matches!(db.take("x"), Err(Error::ReadOnly)));
    assert!(matches!(db.pop_last(), Err(Error::ReadOnly)));
}

#[test]
fn a_keyspace_that_is_dropped_in_an_update_stays_dropped() {
    let db = open();
    let named = db.keyspace("named").unwrap();
    named.insert("a", "1").unwrap();
    let dropped = named.update("a", |_| {
        let _ = db.drop_keyspace("named");
        Some("2")
    });
    assert!(matches!(dropped, Err(Error::KeyspaceDropped { .. })));
}

/// Each is as durable as the options say.
#[test]
fn a_change_is_as_durable_as_an_insertion() {
    type Change = fn(&Db) -> Result<()>;
    let changes: [(Change, &[(&str, &str)]); 7] = [
        (|db| db.update("a", |_| Some("2")).map(drop), &[("a", "2"), ("b", "1")]),
        (|db| db.take("a").map(drop), &[("b", "1")]),
        (|db| db.pop_first().map(drop), &[("b", "1")]),
        (|db| db.pop_last().map(drop), &[("a", "1")]),
        (|db| db.insert_if_absent("c", "1").map(drop), &[("a", "1"), ("b", "1"), ("c", "1")]),
        (|db| db.compare_and_swap("a", Some(b"1"), None).map(drop), &[("b", "1")]),
        (|db| db.remove_prefix("a"), &[("b", "1")]),
    ];
    for (at, (change, expected)) in changes.into_iter().enumerate() {
        let fs = SimFs::new();
        let mut options = sim_options(&fs);
        let db = options.durability(Durability::Sync).open(DIR).unwrap();
        db.write(WriteBatch::new().insert("a", "1").insert("b", "1")).unwrap();
        change(&db).unwrap();
        let after = fs.power_cut(at as u64);
        drop(db);
        let db = sim_options(&after).open(DIR).unwrap();
        let found: Vec<(String, String)> = db
            .iter()
            .map(|entry| {
                entry.map(|entry| [entry.key(), entry.value()].map(|bytes| String::from_utf8_lossy(bytes).into()))
            })
            .map(|entry| entry.map(|[key, value]| (key, value)))
            .collect::<Result<_>>()
            .unwrap();
        assert!(found.iter().map(|(k, v)| (&**k, &**v)).eq(expected.iter().copied()), "{at}: {found:?}");
    }
}

fn small_options() -> Options {
    let mut options = sim_options(&SimFs::new());
    options.memtable_entries(Some(500)).background_threads(1).l0_tables(2).level_bytes_base(32 << 10);
    options
}

/// Updates, transactions and swaps of a few keys from many threads, while memtables are flushed and compacted.
#[test]
fn no_update_is_lost() {
    const THREADS: u64 = 6;
    const EACH: u64 = 400;
    let db = small_options().open(DIR).unwrap();
    let named = db.keyspace("named").unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (db, named) = (&db, &named);
            scope.spawn(move || {
                for i in 0..EACH {
                    let key = [u8::try_from(i % 3).unwrap()];
                    match (thread + i) % 4 {
                        0 => {
                            let mut old = db.get(key).unwrap();
                            while let Err(other) =
                                db.compare_and_swap(key, old.as_deref(), Some(&one_more(old.as_deref()))).unwrap()
                            {
                                old = other.actual;
                            }
                        }
                        1 => db.transact(|tx| tx.insert(key, one_more(tx.get(key)?.as_deref()))).unwrap(),
                        _ => _ = db.update(key, |old| Some(one_more(old))).unwrap(),
                    }
                    named.update("n", |old| Some(one_more(old))).unwrap();
                }
            });
        }
    });
    let sum: u64 = (0..3u8).map(|key| number(db.get([key]).unwrap().as_deref())).sum();
    assert_eq!(sum, THREADS * EACH);
    assert_eq!(number(named.get("n").unwrap().as_deref()), THREADS * EACH);
    assert!(db.verify().is_ok());
}

/// Producers and consumers: what is popped is popped once, and nothing is lost.
#[test]
fn each_entry_is_popped_once() {
    const EACH: u32 = 500;
    type Pop = fn(&Keyspace) -> Result<Option<maplsm::Entry>>;
    let pops: [Pop; 2] = [Keyspace::pop_first, Keyspace::pop_last];
    let db = small_options().open(DIR).unwrap();
    let queue = db.keyspace("queue").unwrap();
    let popped = Mutex::new(BTreeSet::new());
    let left = AtomicUsize::new(2 * EACH as usize);
    thread::scope(|scope| {
        for producer in 0..2u32 {
            let queue = &queue;
            scope.spawn(move || (0..EACH).for_each(|i| queue.insert((i * 2 + producer).to_be_bytes(), "job").unwrap()));
        }
        for consumer in 0..4 {
            let (queue, popped, left) = (&queue, &popped, &left);
            scope.spawn(move || {
                while left.load(Ordering::SeqCst) > 0 {
                    let Some(entry) = pops[consumer % 2](queue).unwrap() else { continue };
                    assert!(popped.lock().unwrap().insert(entry.key().to_vec()), "popped twice");
                    left.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(queue.is_empty().unwrap());
    assert_eq!(popped.into_inner().unwrap().len(), 2 * EACH as usize);
}

/// Of all who try, one takes it, and one puts it there.
#[test]
fn one_takes_and_one_inserts() {
    let db = open();
    for round in 0..50u32 {
        let wins = |attempt: &(dyn Fn(&Db) -> bool + Sync)| {
            thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| attempt(&db))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count()
            })
        };
        let key = round.to_be_bytes();
        assert_eq!(wins(&|db| db.insert_if_absent(key, "1").unwrap().is_none()), 1);
        assert_eq!(wins(&|db| db.take(key).unwrap().is_some()), 1);
    }
}

/// An update within an update of the same key, also one on another thread that is waited for.
#[test]
fn updates_within_updates_do_not_wait_for_ever() {
    let db = open();
    let mut calls = 0;
    db.update("n", |old| {
        calls += 1;
        if calls == 1 {
            db.update("n", |old| Some(one_more(old))).unwrap();
            thread::scope(|scope| scope.spawn(|| db.update("n", |old| Some(one_more(old))).unwrap()).join().unwrap());
        }
        Some(one_more(old))
    })
    .unwrap();
    assert_eq!((calls, number(db.get("n").unwrap().as_deref())), (2, 3));
}

#[test]
fn whole_keyspaces_and_prefixes_are_removed() {
    let db = open();
    let named = db.keyspace("named").unwrap();
    for i in 0..20u8 {
        db.insert([i / 10, i], "").unwrap();
        named.insert([i], "").unwrap();
    }
    let before = named.snapshot();
    for flushed in [false, true] {
        named.insert([flushed.into()], "").unwrap();
        if flushed {
            db.flush().unwrap();
        }
        named.clear().unwrap();
        assert!(named.is_empty().unwrap() && before.iter().count() == 20);
    }
    db.remove_prefix([1]).unwrap();
    assert_eq!(db.iter().count(), 10);
    named.insert([255, 255, 1], "").unwrap();
    named.insert([255, 254], "").unwrap();
    named.remove_prefix([255, 255]).unwrap();
    assert_eq!(named.iter().count(), 1);
    named.remove_prefix("").unwrap();
    assert!(named.is_empty().unwrap());
}

/// A transaction that reads for long, beside threads whose transactions are short and write all that it reads: without a turn
/// it would meet one of them each time.
#[test]
fn a_long_transaction_ends_beside_short_ones() {
    let db = open();
    (0..20u8).for_each(|key| db.insert([key], 0u64.to_be_bytes()).unwrap());
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..3u8 {
            let (db, is_done) = (&db, &is_done);
            scope.spawn(move || {
                let mut i = thread;
                while !is_done.load(Ordering::SeqCst) {
                    i = (i + 3) % 20;
                    db.transact(|tx| tx.insert([i], one_more(tx.get([i])?.as_deref()))).unwrap();
                }
            });
        }
        for isolation in [Isolation::Serializable, Isolation::Snapshot] {
            let mut attempts = 0;
            let added = db.transact_with(isolation, Durability::Buffered, |tx| {
                attempts += 1;
                for key in 0..20u8 {
                    let n = one_more(tx.get([key])?.as_deref());
                    thread::sleep(Duration::from_millis(1));
                    tx.insert([key], n)?;
                }
                Ok::<_, Error>(())
            });
            println!("{attempts} attempts");
            if added.is_err() {
                is_done.store(true, Ordering::SeqCst);
            }
            added.unwrap();
        }
        is_done.store(true, Ordering::SeqCst);
    });
}

/// Bodies that conflict until they run alone, and in there run others, here and on threads that they wait for.
#[test]
fn transactions_within_one_that_runs_alone_do_not_wait_for_ever() {
    let db = open();
    let mut attempts = 0;
    db.transact(|tx| {
        attempts += 1;
        tx.get("a")?;
        if attempts < 12 {
            // Past the transaction, which meets it.
            db.insert("a", "in between")?;
        } else {
            let mut within = 0;
            db.transact(|inner| {
                within += 1;
                inner.get("b")?;
                if within < 12 {
                    db.insert("b", "in between")?;
                }
                inner.insert("c", "1")
            })?;
            thread::scope(|scope| scope.spawn(|| db.transact(|inner| inner.insert("d", "1"))).join().unwrap())?;
        }
        tx.insert("e", "1")
    })
    .unwrap();
    assert_eq!(attempts, 12);
    assert!(["c", "d", "e"].iter().all(|key| db.contains_key(key).unwrap()));
}

#[test]
fn a_body_may_have_an_error_of_its_own() {
    #[derive(Debug)]
    enum Refusal {
        Store(Error),
        TooPoor,
    }
    impl From<Error> for Refusal {
        fn from(error: Error) -> Self {
            Self::Store(error)
        }
    }
    let db = open();
    let spend = |tx: &mut Transaction| -> Result<(), Refusal> {
        tx.insert("seen", "1")?;
        if tx.get("money")?.is_none() { Err(Refusal::TooPoor) } else { Ok(()) }
    };
    assert!(matches!(db.try_transact(spend), Err(Refusal::TooPoor)));
    assert!(matches!(db.transact_with(Isolation::Snapshot, Durability::Sync, spend), Err(Refusal::TooPoor)));
    assert!(!db.contains_key("seen").unwrap());
    db.insert("money", "1").unwrap();
    db.try_transact(spend).unwrap();
    assert!(db.contains_key("seen").unwrap());
    db.close().unwrap();
    assert!(matches!(db.try_transact(spend), Err(Refusal::Store(Error::Closed))));
}
