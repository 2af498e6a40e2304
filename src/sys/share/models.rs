//! Shares that are handed out, dropped and given back, in every order that the memory model allows.

use std::sync::atomic::AtomicUsize as Count;

use loom::thread;

use super::*;

/// Counts its uses. Loom tells when the drop is not ordered behind one of them.
struct Value {
    uses: AtomicUsize,
    dropped: &'static Count,
}

impl Value {
    fn make_use(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.uses.with_mut(|uses| assert_eq!(*uses, 3, "a value is dropped before its last use"));
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn models_a_value_is_dropped_once_and_after_every_use() {
    static DROPPED: Count = Count::new(0);
    static MADE: Count = Count::new(0);
    loom::model(|| {
        MADE.fetch_add(1, Ordering::Relaxed);
        let share = Share::new(Value { uses: AtomicUsize::new(0), dropped: &DROPPED });
        let mut purse = Purse::default();
        let [first, second, third] = [(); 3].map(|()| purse.take(share.address(), || &share));
        drop(share);
        let threads = [first, second].map(|share| {
            thread::spawn(move || {
                share.make_use();
                drop(share);
            })
        });
        third.make_use();
        drop(purse);
        drop(third);
        for thread in threads {
            thread.join().expect("an owner");
        }
        assert_eq!(DROPPED.load(Ordering::Relaxed), MADE.load(Ordering::Relaxed));
    });
}
