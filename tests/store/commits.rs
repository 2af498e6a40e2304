//! Commits that do not wait for the disk, and those who are told when they are durable.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use maplsm::{Commit, Db, Durability, Error, Fault, Options, Result, SimFs, WriteBatch};

use crate::support::{DIR, sim_options, until};

/// The sync behind the next write of the log.
const SYNC_FAILS: Fault = Fault::Error { after: 2, kind: ErrorKind::Other };

fn options(fs: &SimFs, threads: usize) -> Options {
    let mut options = sim_options(fs);
    options.background_threads(threads);
    options
}

fn open(fs: &SimFs, threads: usize) -> Db {
    options(fs, threads).open(DIR).unwrap()
}

fn submit(db: &Db, number: u64) -> Commit {
    db.submit(WriteBatch::new().insert(number.to_be_bytes(), "value")).unwrap()
}

/// Whether a power cut now would leave this.
fn survives(fs: &SimFs, number: u64) -> bool {
    sim_options(&fs.power_cut(number)).open(DIR).is_ok_and(|db| db.contains_key(number.to_be_bytes()).unwrap())
}

/// Of which commit what has been told.
type Told = (u64, Result<()>);

/// Who has been told what, in order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Told>>>);

impl Heard {
    fn hear_of(&self, commit: &Commit, number: u64) {
        let heard = self.clone();
        commit.on_durable(move |outcome| heard.0.lock().unwrap().push((number, outcome)));
    }

    fn numbers(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }

    /// Whether all of them have been told that they are durable.
    fn all_durable(&self) -> bool {
        self.0.lock().unwrap().iter().all(|(_, outcome)| outcome.is_ok())
    }
}

#[test]
fn a_submitted_commit_is_visible_at_once_and_durable_after_its_wait() {
    for threads in [0, 1, 2] {
        let fs = SimFs::new();
        let db = open(&fs, threads);
        let commits: Vec<Commit> = (0..20).map(|number| submit(&db, number)).collect();
        for number in 0..20u64 {
            assert!(db.contains_key(number.to_be_bytes()).unwrap());
        }
        commits[10].wait().unwrap();
        assert!(commits[..=10].iter().all(Commit::is_durable));
        assert!((0..=10).all(|number| survives(&fs, number)));
        commits[19].wait().unwrap();
        assert!((0..20).all(|number| survives(&fs, number)));
        assert!(format!("{:?}", commits[3]).contains("is_durable: true"));
        assert_eq!(commits[3].is_driven(), threads > 0);
    }
}

#[test]
fn one_sync_serves_all_that_stand_in_line() {
    let fs = SimFs::new();
    let db = open(&fs, 0);
    submit(&db, 0).wait().unwrap();
    let before = db.stats().log_syncs;
    let commits: Vec<Commit> = (1..100).map(|number| submit(&db, number)).collect();
    assert!(!commits.iter().any(Commit::is_durable), "nobody has synced");
    commits[0].wait().unwrap();
    assert!(commits.iter().all(Commit::is_durable));
    assert_eq!(db.stats().log_syncs, before + 1);
}

#[test]
fn without_threads_every_call_that_syncs_calls_back() {
    type Drive = fn(&Db, &Commit) -> Result<()>;
    let drives: [(&str, Drive); 4] = [
        ("wait", |_, commit| commit.wait()),
        ("sync", |db, _| db.sync()),
        ("maintain", |db, _| db.maintain()),
        ("close", |db, _| db.close()),
    ];
    for (name, drive) in drives {
        let fs = SimFs::new();
        let db = open(&fs, 0);
        let heard = Heard::default();
        let commit = submit(&db, 1);
        heard.hear_of(&commit, 1);
        db.insert("buffered", "value").unwrap();
        assert!(heard.numbers().is_empty(), "{name}");
        drive(&db, &commit).unwrap();
        assert!(heard.numbers() == [1] && heard.all_durable() && commit.is_durable(), "{name}");
    }
}

#[test]
fn callbacks_come_in_the_order_of_commits_each_once() {
    for threads in [0, 2] {
        let fs = SimFs::new();
        let db = open(&fs, threads);
        let heard = Heard::default();
        // With threads, a sync may end between two registrations: what is registered late is called late.
        let registered = if threads == 0 { [3, 1, 4, 0, 2] } else { [0, 1, 2, 3, 4] };
        let commits: Vec<Commit> = (0..5).map(|number| submit(&db, number)).collect();
        for number in registered {
            heard.hear_of(&commits[usize::try_from(number).unwrap()], number);
        }
        heard.hear_of(&commits[4], 5);
        db.sync().unwrap();
        until("called back", || heard.numbers().len() == 6);
        assert_eq!(heard.numbers(), [0, 1, 2, 3, 4, 5]);
        // After the fact.
        heard.hear_of(&commits[2], 6);
        until("called back at once", || heard.numbers().len() == 7);
        drop(commits);
        db.close().unwrap();
        assert!(heard.numbers() == [0, 1, 2, 3, 4, 5, 6] && heard.all_durable());
    }
}

#[test]
fn a_dropped_commit_becomes_durable_and_calls_back_all_the_same() {
    let fs = SimFs::new();
    let db = open(&fs, 1);
    let heard = Heard::default();
    let commit = submit(&db, 1);
    heard.hear_of(&commit, 1);
    drop(commit);
    drop(submit(&db, 2));
    until("called back", || heard.numbers() == [1]);
    until("synced", || survives(&fs, 2));
}

#[test]
fn a_close_and_the_last_drop_tell_everybody() {
    for threads in [0, 1] {
        for closes in [false, true] {
            let fs = SimFs::new();
            let db = open(&fs, threads);
            let heard = Heard::default();
            let commits: Vec<Commit> = (0..50).map(|number| submit(&db, number)).collect();
            commits.iter().zip(0..).for_each(|(commit, number)| heard.hear_of(commit, number));
            if closes {
                db.close().unwrap();
            }
            drop(db);
            assert!(heard.numbers() == (0..50).collect::<Vec<_>>() && heard.all_durable());
            assert!((0..50).all(|number| survives(&fs, number)));
            // What is left of the store answers.
            assert!(commits.iter().all(Commit::is_durable));
            commits[0].wait().unwrap();
            heard.hear_of(&commits[0], 99);
            assert_eq!(heard.numbers().last(), Some(&99));
            assert!(matches!(block_on(&mut pin!(commits.into_iter().next().unwrap()).as_mut()), Ok(())));
            drop(sim_options(&fs).open(DIR).expect("the directory is free"));
        }
    }
}

#[test]
fn a_failed_sync_is_told_to_all_that_it_should_have_served() {
    for threads in [0, 1] {
        let fs = SimFs::new();
        let db = open(&fs, threads);
        let heard = Heard::default();
        let durable = submit(&db, 1);
        durable.wait().unwrap();
        fs.inject(SYNC_FAILS);
        let commit = submit(&db, 2);
        heard.hear_of(&commit, 2);
        assert!(commit.wait().is_err());
        until("told", || heard.numbers() == [2]);
        let told = heard.0.lock().unwrap().pop();
        assert!(matches!(told, Some((2, Err(Error::Poisoned(_))))), "{told:?}");
        assert!(durable.is_durable() && !commit.is_durable());
        assert!(matches!(commit.wait(), Err(Error::Poisoned(_))) && durable.wait().is_ok());
        heard.hear_of(&commit, 3);
        heard.hear_of(&durable, 4);
        until("told", || heard.numbers() == [3, 4]);
        assert!(matches!(heard.0.lock().unwrap()[..], [(3, Err(Error::Poisoned(_))), (4, Ok(()))]));
        let mut commit = pin!(commit);
        assert!(matches!(block_on(&mut commit.as_mut()), Err(Error::Poisoned(_))));
        assert!(matches!(db.submit(WriteBatch::new().insert("key", "value")), Err(Error::Poisoned(_))));
        assert!(db.close().is_err());
    }
}

/// Whatever fails while commits are on their way: each callback comes once, and what it has been told is true.
#[test]
fn what_is_told_is_true_whatever_fails() {
    for after in 1..60 {
        let fs = SimFs::new();
        let mut options = options(&fs, 0);
        options.memtable_entries(Some(4));
        let db = options.open(DIR).unwrap();
        let heard = Heard::default();
        fs.inject(Fault::Error { after, kind: ErrorKind::Other });
        let mut submitted = 0;
        for number in 0..12 {
            if let Ok(commit) = db.submit(WriteBatch::new().insert(u64::to_be_bytes(number), "value")) {
                submitted += 1;
                heard.hear_of(&commit, number);
            }
            if number % 3 == 2 {
                let _ = db.sync();
            }
            if number % 5 == 4 {
                let _ = db.flush();
            }
        }
        let after_cut = fs.power_cut(after);
        let found = sim_options(&after_cut).open(DIR).unwrap();
        for (number, outcome) in heard.0.lock().unwrap().iter() {
            assert!(outcome.is_err() || found.contains_key(number.to_be_bytes()).unwrap(), "error {after}: {number}");
        }
        let _ = db.close();
        drop(db);
        let numbers = heard.numbers();
        assert!(numbers.len() == submitted && numbers.is_sorted(), "error {after}: {numbers:?} of {submitted}");
    }
}

#[test]
fn a_callback_may_write_and_submit_but_not_wait() {
    for threads in [0, 1] {
        let fs = SimFs::new();
        let db = open(&fs, threads);
        let (sender, receiver) = channel();
        let first = submit(&db, 1);
        let other = submit(&db, 2);
        let handle = db.clone();
        first.on_durable(move |outcome| {
            outcome.unwrap();
            for (call, refused) in [("wait", other.wait()), ("sync", handle.sync()), ("close", handle.close())] {
                match refused {
                    Err(Error::Reentrant { call: name, callback: "callback of a commit" }) => assert_eq!(name, call),
                    other => panic!("{call}: {other:?}"),
                }
            }
            handle.insert_with("written", "value", Durability::Sync).unwrap();
            let later = submit(&handle, 3);
            let sender = sender.clone();
            later.on_durable(move |outcome| sender.send(outcome).unwrap());
        });
        first.wait().unwrap();
        if threads == 0 {
            db.sync().unwrap();
        }
        receiver.recv().unwrap().unwrap();
        assert!(db.contains_key("written").unwrap() && survives(&fs, 3));
    }
}

#[test]
fn a_callback_that_panics_has_ended_and_that_is_all() {
    for threads in [0, 1] {
        let fs = SimFs::new();
        let db = open(&fs, threads);
        let heard = Heard::default();
        let commits: Vec<Commit> = (0..3).map(|number| submit(&db, number)).collect();
        commits[0].on_durable(|_| panic!("in a callback, as it is meant to"));
        heard.hear_of(&commits[1], 1);
        db.sync().unwrap();
        until("called back", || heard.numbers() == [1]);
        submit(&db, 4).wait().unwrap();
        db.close().unwrap();
    }
}

#[test]
fn the_last_handle_may_go_in_a_callback() {
    for threads in [0, 1] {
        let fs = SimFs::new();
        let db = open(&fs, threads);
        let heard = Heard::default();
        let commit = submit(&db, 1);
        let second = submit(&db, 2);
        let slot = Arc::new(Mutex::new(Some(db)));
        let (gone, is_gone) = channel();
        let taken = Arc::clone(&slot);
        let (entered, is_entered) = channel::<Sender<()>>();
        commit.on_durable(move |_| {
            let (go, may_go) = channel();
            entered.send(go).unwrap();
            may_go.recv().unwrap();
            drop(taken.lock().unwrap().take());
            gone.send(()).unwrap();
        });
        heard.hear_of(&second, 2);
        let driver = thread::spawn(move || commit.wait().unwrap());
        is_entered.recv().unwrap().send(()).unwrap();
        is_gone.recv().unwrap();
        driver.join().unwrap();
        until("called back", || heard.numbers() == [2]);
        until("closed", || match sim_options(&fs).open(DIR) {
            Ok(db) => db.contains_key(2u64.to_be_bytes()).unwrap(),
            Err(Error::Locked(_)) => false,
            Err(e) => panic!("{e}"),
        });
    }
}

#[test]
fn an_empty_commit_is_durable_when_everything_before_it_is() {
    for threads in [0, 1] {
        let fs = SimFs::new();
        let db = open(&fs, threads);
        db.insert(1u64.to_be_bytes(), "value").unwrap();
        let commit = db.submit(WriteBatch::new()).unwrap();
        commit.wait().unwrap();
        assert!(survives(&fs, 1));
        db.insert(2u64.to_be_bytes(), "value").unwrap();
        db.transaction().submit().unwrap().wait().unwrap();
        assert!(survives(&fs, 2));
        assert!(db.submit(WriteBatch::new()).unwrap().is_durable());
    }
}

#[test]
fn transactions_are_submitted_like_batches() {
    let fs = SimFs::new();
    let db = open(&fs, 1);
    let tx = db.transaction();
    tx.get("read").unwrap();
    tx.insert(1u64.to_be_bytes(), "value").unwrap();
    let commit = tx.submit().unwrap();
    assert!(db.contains_key(1u64.to_be_bytes()).unwrap());
    commit.wait().unwrap();
    assert!(survives(&fs, 1));
    let tx = db.transaction();
    tx.get("read").unwrap();
    tx.insert(2u64.to_be_bytes(), "value").unwrap();
    db.insert("read", "by somebody else").unwrap();
    assert!(matches!(tx.submit(), Err(Error::Conflict)));
    assert!(!db.contains_key(2u64.to_be_bytes()).unwrap());
}

#[test]
fn single_writes_have_their_own_durability() {
    let fs = SimFs::new();
    let db = open(&fs, 0);
    let named = db.keyspace("named").unwrap();
    db.insert_with(1u64.to_be_bytes(), "value", Durability::Sync).unwrap();
    db.insert_with(2u64.to_be_bytes(), "value", Durability::Buffered).unwrap();
    let syncs = db.stats().log_syncs;
    assert!(survives(&fs, 1));
    named.remove_with("key", Durability::Buffered).unwrap();
    assert_eq!(db.stats().log_syncs, syncs);
    named.insert_with("key", "value", Durability::Sync).unwrap();
    assert!(db.stats().log_syncs > syncs && survives(&fs, 2));
    db.remove_with(1u64.to_be_bytes(), Durability::Sync).unwrap();
    assert!(!survives(&fs, 1));
}

#[test]
fn a_closed_or_read_only_store_takes_none() {
    let fs = SimFs::new();
    let db = open(&fs, 1);
    submit(&db, 1);
    db.close().unwrap();
    assert!(matches!(db.submit(WriteBatch::new().insert("key", "value")), Err(Error::Closed)));
    assert!(matches!(db.submit(WriteBatch::new()), Err(Error::Closed)));
    let db = sim_options(&fs).read_only(true).open(DIR).unwrap();
    assert!(matches!(db.submit(WriteBatch::new().insert("key", "value")), Err(Error::ReadOnly)));
}

/// Wakes nobody, and counts how often.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor for one future.
fn block_on<F: Future + ?Sized>(future: &mut Pin<&mut F>) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_commit_is_a_future_anywhere() {
    let fs = SimFs::new();
    let db = open(&fs, 1);
    let commits: Vec<Commit> = (0..10).map(|number| submit(&db, number)).collect();
    // In any order.
    for (commit, number) in commits.into_iter().zip(0..10u32).rev() {
        block_on(&mut pin!(commit).as_mut()).unwrap();
        assert!(survives(&fs, number.into()));
    }
}

#[test]
fn the_last_waker_is_woken_once_and_a_dropped_future_none() {
    let fs = SimFs::new();
    let db = open(&fs, 0);
    let [first, second, of_dropped] = [(); 3].map(|()| Arc::new(Counting::default()));
    let poll = |commit: &mut Commit, waker: &Arc<Counting>| {
        Pin::new(commit).poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))))
    };
    let (mut commit, mut dropped) = (submit(&db, 1), submit(&db, 2));
    assert!(poll(&mut commit, &first).is_pending() && poll(&mut commit, &second).is_pending());
    assert!(poll(&mut dropped, &of_dropped).is_pending());
    drop(dropped);
    db.sync().unwrap();
    let woken = [&first, &second, &of_dropped].map(|counting| counting.0.load(Ordering::SeqCst));
    assert_eq!(woken, [0, 1, 0]);
    assert_eq!(
        Arc::strong_count(&first) + Arc::strong_count(&second) + Arc::strong_count(&of_dropped),
        3,
        "all wakers gone"
    );
    assert!(matches!(poll(&mut commit, &first), Poll::Ready(Ok(()))));
    assert!(matches!(poll(&mut commit, &first), Poll::Ready(Ok(()))), "again");
}

/// Threads that submit, write, wait and flush beside each other: each callback comes once, those of a thread in order, and
/// what it says is so.
#[test]
fn many_threads_are_told_the_truth() {
    const THREADS: u64 = 4;
    const EACH: u64 = 200;
    for threads in [0, 2] {
        let fs = SimFs::new();
        let mut options = options(&fs, threads);
        options.memtable_entries(Some(100));
        let db = options.open(DIR).unwrap();
        let (told, late) = (Heard::default(), AtomicU64::new(0));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (db, fs, told, late) = (&db, &fs, &told, &late);
                scope.spawn(move || {
                    for number in (0..EACH).map(|number| thread * EACH + number) {
                        let commit = submit(db, number);
                        told.hear_of(&commit, number);
                        match number % 50 {
                            7 => {
                                commit.wait().unwrap();
                                late.fetch_add(u64::from(!survives(fs, number)), Ordering::SeqCst);
                            }
                            21 => db.sync().unwrap(),
                            35 => db.flush().unwrap(),
                            _ => {}
                        }
                    }
                });
            }
        });
        db.close().unwrap();
        let numbers = told.numbers();
        assert!(told.all_durable() && late.load(Ordering::SeqCst) == 0);
        assert_eq!(numbers.len() as u64, THREADS * EACH);
        for thread in 0..THREADS {
            let of_thread = numbers.iter().copied().filter(|number| number / EACH == thread);
            assert!(of_thread.eq(thread * EACH..(thread + 1) * EACH), "each once, in order");
        }
    }
}
