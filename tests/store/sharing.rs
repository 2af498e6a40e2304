//! One transaction, used in several places at once: by threads, beside its own iterators, and through views of keyspaces.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use maplsm::operators::Counter;
use maplsm::{Db, Error, MergeError, MergeOperator, SimFs, Transaction, TransactionIter};

use crate::support::{DIR, sim_options};

const _: () = {
    const fn may_be_shared<T: Send + Sync>() {}
    may_be_shared::<Transaction>();
    may_be_shared::<maplsm::TransactionKeyspace<'_>>();
};

fn open() -> Db {
    sim_options(&SimFs::new()).merge_operator(Counter).open(DIR).unwrap()
}

fn number(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn entries(iter: impl Iterator<Item = maplsm::Result<maplsm::Entry>>) -> Entries {
    iter.map(|entry| entry.unwrap().into()).collect()
}

/// What is stored, what the transaction has written over it, and what is merged into both.
fn filled() -> Db {
    let db = open();
    for key in 0..20u8 {
        db.insert([key], number(1)).unwrap();
    }
    db.flush().unwrap();
    db
}

fn change(tx: &Transaction) {
    for key in (0..40u8).step_by(3) {
        tx.insert([key], number(2)).unwrap();
    }
    for key in (0..40u8).step_by(4) {
        tx.merge([key], number(10)).unwrap();
    }
    tx.remove_range([7u8]..[10u8]).unwrap();
    tx.remove([11u8]).unwrap();
}

/// Whatever is written at whatever step of an iterator, it shows what there was when it was made.
#[test]
fn an_iterator_shows_the_moment_at_which_it_was_made() {
    let db = filled();
    let writes: [fn(&Transaction, u8); 5] = [
        |tx, key| tx.insert([key], "later").unwrap(),
        |tx, key| tx.remove([key]).unwrap(),
        |tx, key| tx.merge([key], number(100)).unwrap_or_default(),
        |tx, key| tx.remove_range([key]..=[key.saturating_add(5)]).unwrap(),
        |tx, _| tx.remove_range::<&[u8]>(..).unwrap(),
    ];
    for backwards in [false, true] {
        for (which, write) in writes.into_iter().enumerate() {
            for step in [0, 1, 5, 13] {
                let tx = db.transaction();
                change(&tx);
                let mut expected = entries(tx.iter());
                let mut iter: TransactionIter<'_> = tx.iter();
                let savepoint = tx.savepoint();
                let mut found = Entries::new();
                while let Some(entry) = if backwards { iter.next_back() } else { iter.next() } {
                    found.push(entry.unwrap().into());
                    if found.len() >= step {
                        (0..40).for_each(|key| write(&tx, key));
                    }
                    if found.len() == step + 3 {
                        assert!(tx.rollback_to(savepoint));
                    }
                }
                if backwards {
                    expected.reverse();
                }
                assert_eq!(found, expected, "write {which} from step {step} on, backwards: {backwards}");
                drop(iter);
                let after: Entries = entries(tx.iter());
                tx.commit().unwrap();
                assert_eq!(entries(db.iter()), after, "what was committed is what the transaction saw last");
                db.remove_range::<&[u8]>(..).unwrap();
                for key in 0..20u8 {
                    db.insert([key], number(1)).unwrap();
                }
            }
        }
    }
}

#[test]
fn threads_share_a_transaction() {
    const THREADS: u8 = 4;
    const EACH: u8 = 50;
    let db = filled();
    let tx = db.transaction();
    tx.insert("sum", number(0)).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let tx = &tx;
            scope.spawn(move || {
                for key in 0..EACH {
                    tx.insert([b'w', thread, key], [thread]).unwrap();
                    tx.merge("sum", number(1)).unwrap();
                    assert_eq!(tx.get([b'w', thread, key]).unwrap().unwrap(), [thread]);
                    assert_eq!(tx.get([key % 20]).unwrap().unwrap(), number(1));
                    assert!(tx.prefix([b'w', thread]).count() > usize::from(key));
                }
            });
        }
    });
    assert_eq!(db.prefix("w").count(), 0, "nobody else sees it");
    assert_eq!(tx.prefix("w").count(), usize::from(THREADS) * usize::from(EACH));
    assert_eq!(tx.get("sum").unwrap().unwrap(), number(u64::from(THREADS) * u64::from(EACH)));
    tx.commit().unwrap();
    assert_eq!(db.prefix("w").count(), usize::from(THREADS) * usize::from(EACH));
}

/// What any of the threads has read counts.
#[test]
fn what_a_thread_has_read_is_read_by_the_transaction() {
    let reads: [fn(&Transaction); 5] = [
        |tx| drop(tx.get([3u8]).unwrap()),
        |tx| drop(tx.multi_get([[2u8], [3u8]]).unwrap()),
        |tx| assert!(tx.contains_key([3u8]).unwrap()),
        |tx| assert_eq!(tx.range([1u8]..[5u8]).count(), 4),
        |tx| assert_eq!(tx.range([1u8]..[5u8]).rev().count(), 4),
    ];
    for read in reads {
        for (written, is_conflict) in [(3u8, true), (9, false)] {
            let db = filled();
            let tx = db.transaction();
            thread::scope(|scope| {
                for reader in 0..3 {
                    let tx = &tx;
                    scope.spawn(move || if reader == 1 { read(tx) } else { tx.insert([40 + reader], "").unwrap() });
                }
            });
            db.insert([written], "somebody else").unwrap();
            match tx.commit() {
                Err(Error::Conflict) => assert!(is_conflict),
                other => assert!(other.is_ok() && !is_conflict),
            }
        }
    }
}

/// Adds, and uses the transaction that it is called in, the first time.
struct Nosy {
    db: Arc<OnceLock<Mutex<Option<Arc<Transaction>>>>>,
    asked: AtomicBool,
}

impl MergeOperator for Nosy {
    fn name(&self) -> &'static str {
        "test.nosy"
    }

    fn merge(&self, key: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        let tx = self.db.get().and_then(|tx| tx.lock().unwrap().clone());
        if let Some(tx) = tx.filter(|_| !self.asked.swap(true, Ordering::Relaxed)) {
            tx.merge(key, "+").unwrap();
            assert!(tx.contains_key(key).unwrap());
        }
        Ok([&[value.unwrap_or_default()], operands].concat().concat())
    }
}

/// No lock is held while an operator runs, and nothing is lost of what comes between.
#[test]
fn an_operator_may_use_the_transaction_that_asks_it() {
    let slot = Arc::new(OnceLock::new());
    let nosy = Nosy { db: Arc::clone(&slot), asked: AtomicBool::new(false) };
    let db = sim_options(&SimFs::new()).merge_operator(nosy).open(DIR).unwrap();
    let tx = Arc::new(db.transaction());
    tx.insert("key", "a").unwrap();
    slot.set(Mutex::new(Some(Arc::clone(&tx)))).ok().unwrap();
    tx.merge("key", "b").unwrap();
    slot.get().unwrap().lock().unwrap().take();
    let tx = Arc::into_inner(tx).unwrap();
    assert_eq!(tx.get("key").unwrap().unwrap(), "a+b");
    tx.commit().unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "a+b");
}

#[test]
fn a_view_is_the_transaction_for_one_keyspace() {
    let db = open();
    let (one, other) = (db.keyspace("one").unwrap(), db.keyspace("other").unwrap());
    for key in ["a", "b", "c"] {
        one.insert(key, "stored").unwrap();
    }
    let tx = db.transaction();
    let view = tx.keyspace(&one);
    view.insert("d", "new").unwrap();
    view.remove("a").unwrap();
    tx.keyspace(&other).insert("z", "beside").unwrap();
    let expected: BTreeMap<&str, &str> = [("b", "stored"), ("c", "stored"), ("d", "new")].into();
    let expected: Entries = expected.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    for found in [view.iter(), tx.iter_of(&one), view.range("a"..), (&view).into_iter(), view.prefix("")] {
        assert_eq!(entries(found), expected);
    }
    assert!(tx.contains_key_from(&one, "b").unwrap() && !tx.contains_key_from(&one, "a").unwrap());
    assert!(view.contains_key("d").unwrap() && !view.contains_key("z").unwrap() && !tx.contains_key("d").unwrap());
    assert_eq!(view.keys().count(), 3);
    assert_eq!(view.values().last().unwrap().unwrap(), "new");
    assert_eq!((view.first().unwrap().unwrap().key(), view.last().unwrap().unwrap().key()), (&b"b"[..], &b"d"[..]));
    assert!(!view.is_empty().unwrap() && tx.is_empty().unwrap());
    let values = view.multi_get(["d", "a", "b"]).unwrap();
    assert_eq!(values.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    assert!(matches!(view.merge("d", "operand"), Err(Error::NoOperator { .. })));
    view.remove_range("c"..).unwrap();
    tx.commit().unwrap();
    assert_eq!(entries(one.iter()), expected[..1]);
    assert_eq!(other.get("z").unwrap().unwrap(), "beside");

    let (tx, stranger) = (db.transaction(), open());
    let foreign = stranger.keyspace("one").unwrap();
    let view = tx.keyspace(&foreign);
    for refused in [
        view.insert("a", ""),
        view.get("a").map(drop),
        view.multi_get(["a"]).map(drop),
        view.first().map(drop),
        view.remove("a"),
        view.remove_range("a"..),
        view.merge("a", ""),
    ] {
        assert!(matches!(refused, Err(Error::ForeignKeyspace { .. })), "{refused:?}");
    }
    let view = tx.keyspace(&one);
    db.drop_keyspace("one").unwrap();
    for refused in [view.insert("a", ""), view.get("a").map(drop), view.multi_get(["a"]).map(drop)] {
        assert!(matches!(refused, Err(Error::KeyspaceDropped { .. })), "{refused:?}");
    }
}
