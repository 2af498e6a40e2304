//! Readers that register beside a writer and a pruner, in every order that the memory model allows.
//!
//! There is one key with a version at each sequence. What a reader sees must be among what the pruner keeps.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::*;

struct Store {
    present: Present,
    registry: Arc<Registry>,
    /// A bit for each version that the pruner has left out.
    gone: AtomicU64,
}

const FIRST: u64 = 3;

fn write(store: &Store) {
    for sequence in [FIRST + 1, FIRST + 2] {
        store.present.show(Sequence(sequence));
    }
}

fn leave_out(store: &Store, mut rule: Visibility, cut: Sequence) {
    rule.start_key();
    let gone = (1..=cut.0).rev().filter(|version| !rule.admits(Sequence(*version)));
    store.gone.store(gone.map(|version| 1 << version).sum(), Ordering::Release);
}

/// As flush, compaction and the sorted view do it.
fn prune(store: &Store) {
    let cut = store.present.visible();
    leave_out(store, store.registry.retain(cut), cut);
}

/// As an insertion does it, which looks at pairs of versions.
fn prune_pairs(store: &Store) {
    let cut = store.present.visible();
    let droppable = |version: &u64| !store.registry.stands_in(Sequence(*version)..Sequence(version + 1));
    let gone = (1..cut.0).filter(droppable);
    store.gone.store(gone.map(|version| 1 << version).sum(), Ordering::Release);
}

fn read(store: &Store) {
    let registration = store.registry.register(&store.present);
    check(store, registration.at);
}

fn check(store: &Store, at: Sequence) {
    assert_eq!(store.gone.load(Ordering::Acquire) >> at.0 & 1, 0, "the version that is seen at {at:?} is gone");
}

fn explore(pruner: fn(&Store), reader: fn(&Store)) {
    loom::model(move || {
        let present = Present::new(Sequence(FIRST));
        let store = Arc::new(Store {
            present,
            registry: Arc::new(Registry::new(&Arc::new(Meters::new(false)), &Events::new(None))),
            gone: AtomicU64::new(0),
        });
        let threads = [write, pruner].map(|work| {
            let store = Arc::clone(&store);
            thread::spawn(move || work(&store))
        });
        reader(&store);
        for thread in threads {
            thread.join().expect("a writer");
        }
        assert_eq!(store.registry.len(), 0);
    });
}

fn must_fail(model: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(model)).is_err(), "the planted bug was not found");
}

#[test]
fn models_a_pruner_keeps_what_registered_readers_see() {
    explore(prune, read);
    explore(prune_pairs, read);
}

#[test]
fn models_a_clone_is_kept_for_as_well() {
    explore(prune, |store| {
        let clone = {
            let registration = store.registry.register(&store.present);
            registration.clone()
        };
        check(store, clone.at);
    });
}

#[test]
fn models_find_a_pruner_that_reads_the_registry_first() {
    let wrong = |store: &Store| {
        let registered = store.registry.sequences();
        let cut = store.present.visible();
        leave_out(store, Visibility::retain(registered, cut), cut);
    };
    must_fail(|| explore(wrong, read));
}

#[test]
fn models_find_a_reader_that_takes_its_sequence_first() {
    must_fail(|| {
        explore(prune, |store| {
            let at = store.present.visible();
            let _registration = store.registry.register(&store.present);
            check(store, at);
        });
    });
}

#[test]
fn models_find_a_reader_outside_of_the_total_order() {
    must_fail(|| {
        explore(prune, |store| {
            store.registry.count.fetch_add(1, Ordering::AcqRel);
            let at = store.present.visible();
            store.registry.live.lock().add(at);
            check(store, at);
            drop(Registration { registry: Arc::clone(&store.registry), at });
        });
    });
}

#[test]
fn models_find_a_reader_that_counts_itself_last() {
    must_fail(|| {
        explore(prune, |store| {
            let at = store.present.visible();
            store.registry.live.lock().add(at);
            store.registry.count.fetch_add(1, Ordering::SeqCst);
            check(store, at);
            drop(Registration { registry: Arc::clone(&store.registry), at });
        });
    });
}
