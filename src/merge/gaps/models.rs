//! A gap that is measured while somebody commits into it, in every order that the memory model allows.

use loom::sync::Arc;
use loom::thread;

use super::*;

const KEYSPACE: KeyspaceId = KeyspaceId(0);
const KEY: &[u8] = b"k";

struct Store {
    gaps: Gaps,
    visible: AtomicU64,
}

/// As `Appender::append` and `Appender::index`.
fn commit(store: &Store) {
    store.gaps.give(Sequence(1));
    store.gaps.cut(KEYSPACE, KEY);
    store.visible.store(1, Ordering::Release);
}

/// Nothing is visible at 0.
fn measure(store: &Store, forward: bool) {
    let from = if forward { Edge::START.to_owned() } else { Edge::End };
    if let Some(measurement) = store.gaps.measure(KEYSPACE, from, Sequence(0), forward) {
        measurement.finish(if forward { Edge::End } else { Edge::START.to_owned() });
    }
}

/// Who sees the key finds no gap around it.
fn read(store: &Store) {
    let at = Sequence(store.visible.load(Ordering::Acquire));
    assert!(at.0 == 0 || store.gaps.around(KEYSPACE, KEY, at).is_none(), "a key is in a gap for one who sees it");
}

fn check(forward: bool) {
    loom::model(move || {
        let store = Arc::new(Store { gaps: Gaps::new(Sequence(0)), visible: AtomicU64::new(0) });
        let [first, second] = [store.clone(), store.clone()];
        let threads = [thread::spawn(move || commit(&first)), thread::spawn(move || measure(&second, forward))];
        read(&store);
        for thread in threads {
            thread.join().expect("a user of gaps");
        }
        read(&store);
    });
}

#[test]
fn models_nobody_passes_over_what_he_sees() {
    check(true);
    check(false);
}

/// A gap is known if nobody commits.
#[test]
fn models_a_gap_is_known() {
    loom::model(|| {
        let store = Store { gaps: Gaps::new(Sequence(0)), visible: AtomicU64::new(0) };
        measure(&store, true);
        assert!(store.gaps.around(KEYSPACE, KEY, Sequence(0)).is_some());
    });
}
