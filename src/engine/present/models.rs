//! Acquiring a read state and a sequence while memtables rotate and are flushed, in every order that the memory model allows.
//!
//! A read state is a number here: up to which sequence it has entries, and the cut at which it was rewritten.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::*;
use crate::sys::{LockRank, Mutex};

struct Store {
    present: Present,
    read_state: AtomicU64,
    publishing: Mutex<()>,
}

/// The first memtable takes entries up to here.
const FULL: u64 = 2;
const ENDLESS: u64 = 9;

impl Store {
    fn new() -> Self {
        let read_state = AtomicU64::new(FULL << 32);
        Self { present: Present::new(Sequence(FULL - 1)), read_state, publishing: Mutex::new(LockRank::Publishing, ()) }
    }

    /// As `Readers::publish`; weaker than an arc-swap.
    fn publish(&self, change: impl Fn(u64, u64) -> (u64, u64)) {
        let _alone = self.publishing.lock();
        let read_state = self.read_state.load(Ordering::Relaxed);
        let (upto, cut) = change(read_state >> 32, read_state & 0xffff_ffff);
        self.present.publish(|| self.read_state.store(upto << 32 | cut, Ordering::Release));
    }

    fn check(&self, read_state: u64, at: Sequence) {
        assert!(at.0 <= read_state >> 32, "the read_state lacks entries that are visible");
        assert!(at.0 >= read_state & 0xffff_ffff, "the read_state lacks versions that are seen at the sequence");
    }
}

/// Fills the memtable and begins another one.
fn rotate(store: &Store) {
    store.present.show(Sequence(FULL));
    store.publish(|_, cut| (ENDLESS, cut));
    store.present.show(Sequence(FULL + 1));
}

/// Drops what nobody sees.
fn rewrite(store: &Store) {
    let cut = store.present.visible();
    store.publish(|upto, _| (upto, cut.0));
}

fn read(store: &Store) {
    if let Some((read_state, at)) = store.present.acquire(|| store.read_state.load(Ordering::Acquire)) {
        store.check(read_state, at);
    }
}

fn explore(writer: fn(&Store), rewriter: fn(&Store), reader: fn(&Store)) {
    loom::model(move || {
        let store = Arc::new(Store::new());
        let threads = [writer, rewriter].map(|work| {
            let store = Arc::clone(&store);
            thread::spawn(move || work(&store))
        });
        reader(&store);
        for thread in threads {
            thread.join().expect("a writer");
        }
    });
}

fn must_fail(model: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(model)).is_err(), "the planted bug was not found");
}

#[test]
fn models_view_and_sequence_belong_together() {
    explore(rotate, rewrite, read);
}

#[test]
fn models_a_view_loaded_after_the_sequence_has_its_entries() {
    explore(rotate, rewrite, |store| {
        let at = store.present.visible();
        let read_state = store.read_state.load(Ordering::Acquire);
        assert!(at.0 <= read_state >> 32);
    });
}

#[test]
fn models_find_entries_visible_before_their_memtable() {
    let early = |store: &Store| {
        store.present.show(Sequence(FULL + 1));
        store.publish(|_, cut| (ENDLESS, cut));
    };
    must_fail(|| explore(early, rewrite, read));
}

#[test]
fn models_find_an_epoch_counted_too_early() {
    let early = |store: &Store| {
        store.present.show(Sequence(FULL));
        store.present.publish(|| ());
        store.read_state.store(ENDLESS << 32, Ordering::Release);
        store.present.show(Sequence(FULL + 1));
    };
    must_fail(|| explore(early, |_| (), read));
}

#[test]
fn models_find_a_reader_without_a_look_at_the_epoch() {
    must_fail(|| {
        explore(rotate, rewrite, |store| {
            let read_state = store.read_state.load(Ordering::Acquire);
            store.check(read_state, store.present.visible());
        });
    });
}

#[test]
fn models_find_a_reader_that_loads_the_sequence_first() {
    must_fail(|| {
        explore(rotate, rewrite, |store| {
            let at = store.present.visible();
            store.check(store.read_state.load(Ordering::Acquire), at);
        });
    });
}

#[test]
fn models_find_a_rewrite_that_takes_its_cut_too_late() {
    let late = |store: &Store| {
        store.publish(|upto, _| (upto, FULL + 1));
    };
    must_fail(|| explore(rotate, late, read));
}
