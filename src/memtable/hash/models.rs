//! The hash index beside its one writer, in every order that the memory model allows.
//!
//! Each model runs [`HashIndex::find`] as it is, against [`HashIndex::insert`] and against writers that do the same in a wrong
//! order; with those, the model must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::thread;

use super::*;

/// Keys are `locator % KEYS`, and all of them collide.
const KEYS: u32 = 10;
/// A link that leads nowhere.
const NONE: u32 = 0;

fn is_key(key: u32) -> impl Fn(Locator) -> bool {
    move |locator| locator % KEYS == key
}

/// All keys have their home in the first slot.
const TAG: u32 = 1;

fn insert(index: &HashIndex, locator: Locator) {
    assert!(index.insert(TAG, locator, is_key(locator % KEYS), |_, _| false));
}

/// What a reader that sees everything up to `limit` finds of a key.
fn find(index: &HashIndex, key: u32, limit: Locator) -> Found {
    index.find(TAG, false, is_key(key), |locator| locator <= limit)
}

/// An index, and up to which locator readers see.
struct Shared {
    index: HashIndex,
    visible: AtomicU32,
}

fn explore(first: &'static [Locator], write: fn(&HashIndex, Locator), next: Locator, read: fn(&Shared)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Arc::new(Shared { index: HashIndex::new(0), visible: AtomicU32::new(0) });
        for locator in first {
            insert(&shared.index, *locator);
        }
        shared.visible.store(first.last().copied().unwrap_or(0), Ordering::Release);
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || read(&shared))
        };
        write(&shared.index, next);
        shared.visible.store(next, Ordering::Release);
        reader.join().expect("the reader");
    });
}

fn must_fail(model: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(model)).is_err(), "the planted bug was not found");
}

/// The newest version that a reader sees of key 1 is there, whatever is written meanwhile.
fn read_key_1(shared: &Shared) {
    let limit = shared.visible.load(Ordering::Acquire);
    let newest = (1..=limit).rev().find(|locator| locator % KEYS == 1).expect("a version");
    assert_eq!(find(&shared.index, 1, limit), Found::Entry(newest));
}

/// An insertion of a version that stores the head before the link.
fn insert_head_first(index: &HashIndex, locator: Locator) {
    let slots = index.slots().expect("slots");
    let at = (TAG >> slots.shift) as usize;
    let (_, older) = unpack(slots.heads[at].load(Ordering::Relaxed));
    let link = slots.links[at].load(Ordering::Relaxed);
    slots.heads[at].store(pack(TAG, locator), Ordering::Release);
    slots.links[at].store(index.nodes.push(older, link).unwrap(), Ordering::Release);
}

/// One that stores the head without an order.
fn insert_head_relaxed(index: &HashIndex, locator: Locator) {
    let slots = index.slots().expect("slots");
    let at = (TAG >> slots.shift) as usize;
    let (_, older) = unpack(slots.heads[at].load(Ordering::Relaxed));
    let link = slots.links[at].load(Ordering::Relaxed);
    slots.links[at].store(index.nodes.push(older, link).unwrap(), Ordering::Relaxed);
    slots.heads[at].store(pack(TAG, locator), Ordering::Relaxed);
}

#[test]
fn models_an_older_version_is_found_while_a_newer_one_is_linked() {
    // Two slots of nodes are in use, so that the third version needs a new chunk of them.
    explore(&[1, 11, 21], insert, 31, read_key_1);
}

#[test]
fn models_find_a_head_in_front_of_its_link() {
    must_fail(|| explore(&[1, 11], insert_head_first, 21, read_key_1));
}

#[test]
fn models_find_a_head_without_release() {
    must_fail(|| explore(&[1, 11], insert_head_relaxed, 21, read_key_1));
}

/// Growing that publishes the table before it is filled.
fn grow_published_early(index: &HashIndex, locator: Locator) {
    let current = index.current.load(Ordering::Relaxed);
    let old = index.slots().expect("slots");
    let new = Slots::new(33 - old.shift).expect("memory");
    assert!(index.tables[current + 1].set(new).is_ok());
    index.current.store(current + 1, Ordering::Release);
    let new = index.slots().expect("slots");
    for (head, link) in old.heads.iter().zip(old.links.iter()) {
        let head = head.load(Ordering::Relaxed);
        if head != 0 {
            let mut at = (unpack(head).0 >> new.shift) as usize;
            while new.heads[at].load(Ordering::Relaxed) != 0 {
                at = (at + 1) & new.mask();
            }
            new.links[at].store(link.load(Ordering::Relaxed), Ordering::Relaxed);
            new.heads[at].store(head, Ordering::Relaxed);
        }
    }
    insert(index, locator);
}

/// Growing that publishes the table without an order.
fn grow_published_relaxed(index: &HashIndex, locator: Locator) {
    let current = index.current.load(Ordering::Relaxed);
    index.grow();
    index.current.store(current, Ordering::Relaxed);
    index.current.store(current + 1, Ordering::Relaxed);
    insert(index, locator);
}

#[test]
fn models_nothing_is_missed_while_the_table_grows() {
    // Three of four slots are in use; the next key doubles the table.
    explore(&[1, 2, 3], insert, 4, read_key_1);
}

#[test]
fn models_a_new_key_is_found_once_it_is_visible() {
    explore(&[1, 2, 3], insert, 4, |shared| {
        let limit = shared.visible.load(Ordering::Acquire);
        let expected = if limit == 4 { Found::Entry(4) } else { Found::Missing };
        assert_eq!(find(&shared.index, 4, limit), expected);
    });
}

#[test]
fn models_find_a_table_published_before_it_is_filled() {
    must_fail(|| explore(&[1, 2, 3], grow_published_early, 4, read_key_1));
}

#[test]
fn models_find_a_table_published_without_release() {
    must_fail(|| explore(&[1, 2, 3], grow_published_relaxed, 4, read_key_1));
}

/// Leaves out every version that has a newer visible one, as if nobody was registered.
fn insert_pruning(index: &HashIndex, locator: Locator) {
    assert!(index.insert(TAG, locator, is_key(locator % KEYS), |_, _| true));
}

/// Leaves them out and does not say so.
fn insert_pruning_silently(index: &HashIndex, locator: Locator) {
    let slots = index.slots().expect("slots");
    let at = (TAG >> slots.shift) as usize;
    let (_, older) = unpack(slots.heads[at].load(Ordering::Relaxed));
    slots.links[at].store(index.nodes.push(older, NONE).unwrap(), Ordering::Release);
    slots.heads[at].store(pack(TAG, locator), Ordering::Release);
}

/// A reader that nobody knows of finds its version or learns that it may have been left out.
fn read_unregistered(shared: &Shared) {
    let limit = shared.visible.load(Ordering::Acquire);
    assert!([Found::Entry(limit), Found::Pruned].contains(&find(&shared.index, 1, limit)));
}

/// Two more versions: the second one leaves out what the reader may have come for.
fn twice(write: impl Fn(&HashIndex, Locator)) -> impl Fn(&HashIndex, Locator) {
    move |index, last| {
        write(index, last - KEYS);
        write(index, last);
    }
}

#[test]
fn models_a_version_left_out_is_noticed() {
    explore(&[1, 11], |index, last| twice(insert_pruning)(index, last), 31, read_unregistered);
}

#[test]
fn models_find_a_version_left_out_silently() {
    must_fail(|| {
        explore(&[1, 11], |index, last| twice(insert_pruning_silently)(index, last), 31, read_unregistered);
    });
}
