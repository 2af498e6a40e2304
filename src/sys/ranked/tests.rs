//! That the check finds what it is for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

fn two() -> (Mutex<()>, Mutex<()>) {
    (Mutex::new(LockRank::Writer, ()), Mutex::new(LockRank::Manifest, ()))
}

/// What the check has to say about this.
fn complaint(work: impl FnOnce()) -> Option<String> {
    catch_unwind(AssertUnwindSafe(work)).err().map(|panic| *panic.downcast::<String>().expect("text"))
}

#[test]
fn locks_are_taken_in_their_order() {
    let (writer, manifest) = two();
    for _ in 0..2 {
        let _writer = writer.lock();
        let _manifest = manifest.lock();
    }
    // In which order they are let go does not matter.
    let (first, second) = (writer.lock(), manifest.lock());
    drop(first);
    drop(second);
    drop((writer.lock(), manifest.lock()));
}

#[test]
fn a_lock_out_of_order_is_a_panic_that_names_both() {
    let (writer, manifest) = two();
    let complaint = |work: &dyn Fn()| complaint(work).expect("a panic");
    let upside_down = complaint(&|| {
        let _manifest = manifest.lock();
        let _writer = writer.lock();
    });
    assert!(upside_down.contains("the lock Writer") && upside_down.contains("has Manifest"), "{upside_down}");
    let others = Mutex::new(LockRank::Writer, ());
    let of_one_rank = complaint(&|| {
        let _writer = writer.lock();
        let _other = others.lock();
    });
    assert!(of_one_rank.contains("the lock Writer") && of_one_rank.contains("has Writer"), "{of_one_rank}");
    // Nothing is held any more.
    let _writer = writer.lock();
}

#[test]
fn what_is_only_tried_for_is_not_checked_and_held() {
    let (writer, manifest) = two();
    let manifest = manifest.lock();
    let tried = writer.try_lock().expect("a free lock");
    drop(manifest);
    let syncing = Mutex::new(LockRank::Syncing, ());
    assert!(complaint(|| drop(syncing.lock())).expect("a panic").contains("has Writer"));
    drop(tried);
    drop(syncing.lock());
}

#[test]
fn who_waits_has_nothing_that_comes_after() {
    let (writer, manifest) = two();
    let (mut writer, over) = (writer.lock(), Condvar::default());
    over.wait_for(&mut writer, Duration::ZERO);
    let manifest = manifest.lock();
    assert!(complaint(|| over.wait_for(&mut writer, Duration::ZERO)).expect("a panic").contains("has Manifest"));
    drop(manifest);
    over.wait_for(&mut writer, Duration::ZERO);
}

#[test]
fn what_runs_apart_has_an_order_of_its_own() {
    let (writer, manifest) = two();
    let held = manifest.lock();
    apart(|| drop(writer.lock()));
    let _ = catch_unwind(|| apart(|| panic!("on purpose")));
    assert!(complaint(|| drop(writer.lock())).is_some());
    drop(held);
    drop(writer.lock());
}

#[test]
fn code_of_the_caller_is_called_without_a_lock() {
    let (writer, _) = two();
    check_none_held();
    let held = writer.lock();
    assert!(complaint(check_none_held).expect("a panic").contains("has Writer"));
    drop(held);
    check_none_held();
}
