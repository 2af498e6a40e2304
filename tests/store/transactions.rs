//! Transactions: what they see of themselves, and that what is committed could have happened one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use maplsm::{Db, Durability, Error, Isolation, Options, Savepoint, SimFs, Transaction, WriteBatch};

use crate::support::sim_options;

fn open() -> Db {
    sim_options(&SimFs::new()).open("/db").unwrap()
}

fn is_conflict(outcome: maplsm::Result<()>) -> bool {
    match outcome {
        Ok(()) => false,
        Err(Error::Conflict) => true,
        Err(e) => panic!("{e}"),
    }
}

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn a_lost_update_is_refused() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let db = open();
        db.insert("n", "1").unwrap();
        let add = |tx: &mut Transaction| {
            let n: u64 = String::from_utf8(tx.get("n").unwrap().unwrap().to_vec()).unwrap().parse().unwrap();
            tx.insert("n", (n + 1).to_string()).unwrap();
        };
        let (mut a, mut b) = (db.transaction_with(isolation), db.transaction_with(isolation));
        add(&mut a);
        add(&mut b);
        a.commit().unwrap();
        assert!(is_conflict(b.commit()));
        assert_eq!(db.get("n").unwrap().unwrap(), "2");
        assert_eq!(db.stats().conflicts, 1);
    }
}

/// What has left the memtable since is found in the tables.
#[test]
fn a_range_that_was_removed_and_flushed_is_a_conflict() {
    let db = open();
    db.write(WriteBatch::new().insert("b", "").insert("q", "")).unwrap();
    let reader_of = |key: &str| {
        let tx = db.transaction();
        assert!(tx.contains_key(key).unwrap());
        tx.insert("mine", key).unwrap();
        tx
    };
    let (inside, beside) = (reader_of("b"), reader_of("q"));
    db.remove_range("a".."c").unwrap();
    db.flush().unwrap();
    assert!(is_conflict(inside.commit()));
    assert!(!is_conflict(beside.commit()));
    assert_eq!(db.get("mine").unwrap().unwrap(), "q");
}

#[test]
fn write_skew_is_refused_where_reads_count() {
    for (isolation, refused) in [(Isolation::Serializable, true), (Isolation::Snapshot, false)] {
        let db = open();
        db.write(WriteBatch::new().insert("alice", "on call").insert("bob", "on call")).unwrap();
        let leave = |who: &str| {
            let tx = db.transaction_with(isolation);
            assert_eq!(tx.iter().count(), 2);
            tx.remove(who).unwrap();
            tx
        };
        let (a, b) = (leave("alice"), leave("bob"));
        a.commit().unwrap();
        assert_eq!(is_conflict(b.commit()), refused);
        assert_eq!(db.iter().count(), usize::from(refused));
    }
}

#[test]
fn phantoms_are_seen_in_what_was_read_and_nowhere_else() {
    // What the reader does, and which key another one may write without a conflict.
    type Read = fn(&Transaction);
    let reads: [(&str, Read, &[&str], &[&str]); 7] = [
        ("an absent key", |tx| assert!(tx.get("k").unwrap().is_none()), &["k"], &["j", "k\0", "l"]),
        ("a range", |tx| assert_eq!(tx.range("b".."d").count(), 1), &["b", "bb", "c", "cz"], &["a", "azz", "d", "e"]),
        (
            "an open range",
            |tx| assert_eq!(tx.range::<&str>((Bound::Excluded("c"), Bound::Unbounded)).count(), 0),
            &["c\0", "z"],
            &["c"],
        ),
        ("a prefix", |tx| assert_eq!(tx.prefix("c").count(), 1), &["c", "cc"], &["bz", "d"]),
        (
            "the first entry",
            |tx| assert_eq!(tx.iter().next().unwrap().unwrap().key(), b"a"),
            &["", "a"],
            &["a\0", "c", "z"],
        ),
        (
            "the last entry",
            |tx| assert_eq!(tx.iter().next_back().unwrap().unwrap().key(), b"c"),
            &["c", "z"],
            &["a", "b"],
        ),
        ("nothing", |tx| drop(tx.iter()), &[], &["", "a", "z"]),
    ];
    for (what, read, touched, free) in reads {
        for (key, conflict) in touched.iter().map(|key| (*key, true)).chain(free.iter().map(|key| (*key, false))) {
            for how in 0..4 {
                let db = open();
                db.write(WriteBatch::new().insert("a", "1").insert("c", "3")).unwrap();
                let tx = db.transaction();
                read(&tx);
                tx.insert("out", "of the way").unwrap();
                match how {
                    0 => db.insert(key, "new").unwrap(),
                    1 => db.remove(key).unwrap(),
                    2 => db.remove_range(key..=key).unwrap(),
                    _ => {
                        // What was written since the begin is in tables only.
                        db.insert(key, "new").unwrap();
                        db.flush().unwrap();
                        db.compact().unwrap();
                    }
                }
                assert_eq!(is_conflict(tx.commit()), conflict, "{what}, {key:?} written as {how}");
            }
        }
    }
}

#[test]
fn what_was_not_read_does_not_matter() {
    let db = open();
    db.insert("a", "1").unwrap();
    let blind = db.transaction();
    blind.insert("a", "mine").unwrap();
    blind.remove_range("x"..).unwrap();
    assert_eq!(blind.get("a").unwrap().unwrap(), "mine", "its own writes are no reads");
    let reader = db.transaction();
    assert_eq!(reader.get("a").unwrap().unwrap(), "1");
    db.insert("a", "other").unwrap();
    db.insert("xyz", "other").unwrap();
    blind.commit().unwrap();
    reader.commit().unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), "mine");
    assert!(db.get("xyz").unwrap().is_none());
    let kept = db.transaction();
    kept.insert("a", "forgotten").unwrap();
    drop(kept);
    assert_eq!(db.get("a").unwrap().unwrap(), "mine");
}

#[test]
fn a_removed_range_is_a_write_of_all_its_keys() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let db = open();
        let tx = db.transaction_with(isolation);
        tx.get("k").unwrap();
        tx.insert("k", "1").unwrap();
        db.remove_range("a".."z").unwrap();
        assert!(is_conflict(tx.commit()));
        let remover = db.transaction_with(Isolation::Snapshot);
        remover.remove_range("a".."z").unwrap();
        db.insert("m", "1").unwrap();
        assert!(is_conflict(remover.commit()));
    }
}

#[test]
fn errors_of_the_body_end_a_transaction_and_conflicts_repeat_it() {
    let db = open();
    let stopped = db.transact(|tx| {
        tx.insert("a", "1")?;
        tx.insert(vec![0; 70_000], "too long")
    });
    assert!(matches!(stopped, Err(Error::KeyTooLong { .. })));
    assert!(db.get("a").unwrap().is_none());
    let mut attempts = 0;
    db.transact(|tx| {
        attempts += 1;
        tx.get("a")?;
        if attempts < 4 {
            db.insert("a", "in between")?;
        }
        tx.insert("b", "1")
    })
    .unwrap();
    assert_eq!((attempts, db.stats().conflicts), (4, 3));
    let mut attempts = 0;
    let never = db.transact(|tx| {
        attempts += 1;
        tx.get("a")?;
        db.insert("a", "in between")?;
        tx.insert("b", "2")
    });
    assert!(matches!(never, Err(Error::Conflict)));
    assert_eq!(attempts, 64);
}

/// Random reads and writes against a map, with savepoints.
#[test]
fn a_transaction_sees_its_own_writes_everywhere() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let db = open();
        let key = |random: &mut Random| format!("k{:02}", random.below(40)).into_bytes();
        let mut map = BTreeMap::new();
        for step in 0..60 {
            let key = key(&mut random);
            db.insert(&key, format!("stored {step}")).unwrap();
            map.insert(key, format!("stored {step}"));
        }
        let tx = db.transaction();
        let mut savepoints: Vec<(Savepoint, BTreeMap<_, _>)> = Vec::new();
        for step in 0..120 {
            match random.below(12) {
                0..=3 => {
                    let key = key(&mut random);
                    tx.insert(&key, format!("own {step}")).unwrap();
                    map.insert(key, format!("own {step}"));
                }
                4..=5 => {
                    let key = key(&mut random);
                    tx.remove(&key).unwrap();
                    map.remove(&key);
                }
                6 => {
                    let (a, b) = (key(&mut random), key(&mut random));
                    tx.remove_range(a.clone()..b.clone()).unwrap();
                    map.retain(|key, _| !(a <= *key && *key < b));
                }
                7 => savepoints.push((tx.savepoint(), map.clone())),
                8 if !savepoints.is_empty() => {
                    let at = usize::try_from(random.below(savepoints.len() as u64)).unwrap();
                    let gone: Vec<_> = savepoints.drain(at + 1..).collect();
                    let (savepoint, then) = savepoints[at].clone();
                    assert!(tx.rollback_to(savepoint), "seed {seed} step {step}");
                    assert!(gone.iter().all(|(later, _)| !tx.rollback_to(*later)));
                    map = then;
                }
                9 => {
                    let (a, b) = (key(&mut random), key(&mut random));
                    let mut expected: std::collections::VecDeque<_> =
                        map.iter().filter(|(key, _)| a <= **key && **key < b).collect();
                    let mut iter = tx.range(a.clone()..b.clone());
                    for _ in 0..=expected.len() {
                        let back = random.below(2) == 1;
                        let found = if back { iter.next_back() } else { iter.next() }.map(Result::unwrap);
                        let wanted = if back { expected.pop_back() } else { expected.pop_front() };
                        let found = found.map(|e| (e.key().to_vec(), String::from_utf8(e.value().to_vec()).unwrap()));
                        assert_eq!(found.as_ref().map(|(k, v)| (k, v)), wanted, "seed {seed} step {step}");
                    }
                }
                _ => {
                    let key = key(&mut random);
                    let found = tx.get(&key).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap());
                    assert_eq!(found.as_ref(), map.get(&key), "seed {seed} step {step}");
                }
            }
        }
        tx.commit().unwrap();
        let found: BTreeMap<_, _> = db
            .iter()
            .map(Result::unwrap)
            .map(|e| (e.key().to_vec(), String::from_utf8(e.value().to_vec()).unwrap()))
            .collect();
        assert_eq!(found, map, "seed {seed}");
    }
}

#[test]
fn a_bank_keeps_its_money() {
    const ACCOUNTS: u64 = 20;
    const MONEY: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new();
    options.durability(Durability::Buffered).memtable_bytes(16 << 10);
    let db = options.open(dir.path().join("db")).unwrap();
    let name = |account: u64| account.to_be_bytes();
    let amount = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    for account in 0..ACCOUNTS {
        db.insert(name(account), MONEY.to_le_bytes()).unwrap();
    }
    let running = AtomicU64::new(3);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (db, running) = (&db, &running);
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..700 {
                    let (from, to, sum) = (random.below(ACCOUNTS), random.below(ACCOUNTS), random.below(30));
                    let moved = db.transact(|tx| {
                        let has = amount(&tx.get(name(from))?.unwrap());
                        if from != to && has >= sum {
                            let gets = amount(&tx.get(name(to))?.unwrap());
                            tx.insert(name(from), (has - sum).to_le_bytes())?;
                            tx.insert(name(to), (gets + sum).to_le_bytes())?;
                        }
                        Ok(())
                    });
                    assert!(matches!(moved, Ok(()) | Err(Error::Conflict)), "{moved:?}");
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while running.load(Ordering::SeqCst) > 0 {
            let total: u64 = db.iter().map(|entry| amount(entry.unwrap().value())).sum();
            assert_eq!(total, ACCOUNTS * MONEY);
            let total =
                db.transact(|tx| tx.iter().map(|entry| Ok(amount(entry?.value()))).sum::<maplsm::Result<u64>>());
            assert_eq!(total.unwrap(), ACCOUNTS * MONEY);
        }
    });
    db.close().unwrap();
    let db = Db::open(dir.path().join("db")).unwrap();
    assert_eq!(db.iter().map(|entry| amount(entry.unwrap().value())).sum::<u64>(), ACCOUNTS * MONEY);
}

/// A committed transaction: the version of each key that it has read, by the number of the one that wrote it (0: none did),
/// and the keys that it has written. It has read every key that it writes.
#[derive(Debug, Clone, Default)]
struct Committed {
    number: u64,
    reads: BTreeMap<u64, u64>,
    writes: BTreeSet<u64>,
}

/// Whether the transactions could have run one after another: the graph of who must come before whom (Adya's write, read and
/// anti-dependencies) has no cycle.
fn is_serializable(history: &[Committed]) -> bool {
    let mut successor = BTreeMap::new();
    for tx in history {
        for key in &tx.writes {
            // Two that overwrite the same version have lost an update.
            if successor.insert((*key, tx.reads[key]), tx.number).is_some() {
                return false;
            }
        }
    }
    let mut after: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for tx in history {
        for (key, version) in &tx.reads {
            after.entry(*version).or_default().insert(tx.number);
            if let Some(next) = successor.get(&(*key, *version)).filter(|next| **next != tx.number) {
                after.entry(tx.number).or_default().insert(*next);
            }
        }
    }
    // Kahn: take away those whom nobody must precede, until none is left.
    let mut waits: BTreeMap<u64, usize> = history.iter().map(|tx| (tx.number, 0)).collect();
    waits.insert(0, 0);
    after.values().flatten().for_each(|number| *waits.get_mut(number).unwrap() += 1);
    let mut free: Vec<u64> = waits.iter().filter(|(_, waits)| **waits == 0).map(|(number, _)| *number).collect();
    let mut taken = 0;
    while let Some(number) = free.pop() {
        taken += 1;
        for next in after.get(&number).into_iter().flatten() {
            let waits = waits.get_mut(next).unwrap();
            *waits -= 1;
            if *waits == 0 {
                free.push(*next);
            }
        }
    }
    taken == waits.len()
}

#[test]
fn the_checker_finds_what_is_not_serializable() {
    let tx = |number, reads: &[(u64, u64)], writes: &[u64]| Committed {
        number,
        reads: reads.iter().copied().collect(),
        writes: writes.iter().copied().collect(),
    };
    assert!(is_serializable(&[tx(1, &[(1, 0)], &[1]), tx(2, &[(1, 1), (2, 0)], &[2]), tx(3, &[(1, 0)], &[])]));
    let lost_update = [tx(1, &[(1, 0)], &[1]), tx(2, &[(1, 0)], &[1])];
    let write_skew = [tx(1, &[(1, 0), (2, 0)], &[1]), tx(2, &[(1, 0), (2, 0)], &[2])];
    let unrepeatable = [tx(1, &[(1, 0), (2, 0)], &[1, 2]), tx(2, &[(1, 1), (2, 0)], &[])];
    for bad in [&lost_update[..], &write_skew, &unrepeatable] {
        assert!(!is_serializable(bad), "{bad:?}");
    }
}

/// Runs random transactions on several threads and answers those that were committed.
fn random_history(db: &Db, isolation: Isolation, seed: u64, threads: u64, each: u64) -> Vec<Committed> {
    const KEYS: u64 = 12;
    let history = Mutex::new(Vec::new());
    let numbers = AtomicU64::new(1);
    let version = |value: Option<&[u8]>| value.map_or(0, |value| u64::from_le_bytes(value[..8].try_into().unwrap()));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (history, numbers) = (&history, &numbers);
            scope.spawn(move || {
                let mut random = Random(seed * 100 + thread);
                for _ in 0..each {
                    let number = numbers.fetch_add(1, Ordering::SeqCst);
                    let mut done = Committed { number, ..Committed::default() };
                    let tx = db.transaction_with(isolation);
                    for _ in 0..=random.below(4) {
                        let key = random.below(KEYS);
                        if random.below(4) == 0 {
                            let to = key + random.below(4);
                            let found: BTreeMap<u64, u64> = tx
                                .range(key.to_be_bytes()..=to.to_be_bytes())
                                .map(Result::unwrap)
                                .map(|e| (u64::from_be_bytes(e.key().try_into().unwrap()), version(Some(e.value()))))
                                .collect();
                            for key in key..=to.min(KEYS - 1) {
                                let seen = found.get(&key).copied().unwrap_or(0);
                                done.reads.entry(key).or_insert(seen);
                            }
                        } else {
                            let seen = version(tx.get(key.to_be_bytes()).unwrap().as_deref());
                            done.reads.entry(key).or_insert(seen);
                            if random.below(2) == 0 {
                                let mut value = number.to_le_bytes().to_vec();
                                value.resize(100, 0);
                                tx.insert(key.to_be_bytes(), value).unwrap();
                                done.writes.insert(key);
                            }
                        }
                        if random.below(3) == 0 {
                            std::thread::yield_now();
                        }
                    }
                    if !is_conflict(tx.commit()) {
                        history.lock().unwrap().push(done);
                    }
                }
            });
        }
    });
    history.into_inner().unwrap()
}

#[test]
fn random_histories_are_serializable() {
    let dir = tempfile::tempdir().unwrap();
    let (mut committed, mut conflicts) = (0, 0);
    for seed in 0..6 {
        let mut options = Options::new();
        // Small, so that some transactions find what they have to look at flushed.
        options.durability(Durability::Buffered).memtable_bytes(4 << 10);
        let db = options.open(dir.path().join(seed.to_string())).unwrap();
        let history = random_history(&db, Isolation::Serializable, seed, 4, 400);
        assert!(is_serializable(&history), "MAPLSM_SEED={seed}");
        committed += history.len();
        conflicts += db.stats().conflicts;
    }
    assert!(committed > 1000 && conflicts > 10, "{committed} committed, {conflicts} conflicts");
}

#[test]
fn a_transaction_over_keyspaces_is_one() {
    let db = open();
    let (from, to) = (db.keyspace("from").unwrap(), db.keyspace("to").unwrap());
    from.insert("a", "1").unwrap();
    let take = || {
        let tx = db.transaction();
        let value = tx.get_from(&from, "a").unwrap().unwrap();
        tx.remove_from(&from, "a").unwrap();
        tx.insert_into(&to, "a", &value).unwrap();
        assert!(tx.get_from(&from, "a").unwrap().is_none() && tx.get("a").unwrap().is_none());
        assert_eq!(tx.range_of::<&str>(&to, ..).count(), 1);
        tx
    };
    let (first, second) = (take(), take());
    assert!(from.get("a").unwrap().is_some() && to.get("a").unwrap().is_none());
    first.commit().unwrap();
    assert!(is_conflict(second.commit()));
    assert!(from.get("a").unwrap().is_none());
    assert_eq!(to.get("a").unwrap().unwrap(), "1");

    // The same key in another keyspace is another key.
    let tx = db.transaction();
    assert!(tx.get_from(&from, "b").unwrap().is_none());
    to.insert("b", "2").unwrap();
    db.insert("b", "2").unwrap();
    tx.insert_into(&from, "b", "3").unwrap();
    tx.commit().unwrap();
}

#[test]
fn no_transaction_outlives_its_keyspace() {
    let db = open();
    let gone = db.keyspace("gone").unwrap();
    gone.insert("a", "1").unwrap();
    let (reader, writer) = (db.transaction(), db.transaction());
    assert!(reader.get_from(&gone, "a").unwrap().is_some());
    reader.insert("read", "it").unwrap();
    writer.insert_into(&gone, "b", "2").unwrap();
    db.drop_keyspace("gone").unwrap();
    assert!(is_conflict(reader.commit()), "what it has read is gone");
    let refused = writer.commit();
    assert!(matches!(refused, Err(Error::KeyspaceDropped { .. })), "{refused:?}");
    assert_eq!(db.iter().count(), 0);
}
