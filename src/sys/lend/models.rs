//! Lending and taking back, in every order that the memory model allows.

use loom::thread;

use super::*;

/// A reader borrows as lookups do, beside one who takes the value back, lends another one and releases. The model has
/// counts of its own, so that a value that is dropped too early is told by its count and nothing else happens.
fn what_is_borrowed_stays(release: fn(&Eras)) {
    loom::model(move || {
        let eras = Arc::new(Eras::new());
        let lent = Arc::new(Lent::new(&eras));
        let values: [Arc<u64>; 2] = [Arc::new(1), Arc::new(2)];
        lent.set(Arc::clone(&values[0]));
        let shown = Arc::new(Mutex::new(LockRank::Publishing, Arc::new(eras.current())));
        let reader = {
            let (lent, values, shown) = (Arc::clone(&lent), values.clone(), Arc::clone(&shown));
            thread::spawn(move || {
                let era = Arc::clone(&shown.lock());
                if let Some(value) = lent.get(&era) {
                    // One count is the model's for each of its threads, the other one the lender's.
                    let counts = Arc::strong_count(&values[usize::try_from(*value).unwrap() - 1]);
                    thread::yield_now();
                    let after = Arc::strong_count(&values[usize::try_from(*value).unwrap() - 1]);
                    assert!(counts == 3 && after == 3, "a value was dropped while it was borrowed");
                }
                values
            })
        };
        let mut taken = eras.taking();
        assert!(lent.take(&mut taken, |_, _| true));
        drop(taken);
        lent.set(Arc::clone(&values[1]));
        *shown.lock() = Arc::new(eras.current());
        release(&eras);
        let held = reader.join().unwrap();
        eras.release();
        drop(held);
        assert_eq!(eras.waiting(), 0, "a value is kept that nobody can be using");
        assert_eq!(values.map(|value| Arc::strong_count(&value)), [1, 2]);
    });
}

#[test]
fn models_what_is_borrowed_stays() {
    what_is_borrowed_stays(Eras::release);
}

/// Drops what was taken without a look at who holds an era.
fn release_at_once(eras: &Eras) {
    let ended = mem::take(&mut eras.state.lock().ended);
    eras.waiting.fetch_sub(ended.len(), Ordering::Relaxed);
}

#[test]
#[should_panic(expected = "a value was dropped while it was borrowed")]
fn models_find_a_release_that_asks_nobody() {
    what_is_borrowed_stays(release_at_once);
}
