//! Handles may be used after a panic was caught.
//!
//! A panic of the caller's code (a filter, an iterator, what decides in an update, `as_ref`) finds no lock held, and what it
//! was called for has not happened, or is finished by others. A panic of this crate's own is a bug; one between a change of the
//! disk and that of the memory poisons the store. Either way handles say what they know, and need no care of the caller's.

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::db::Db;
use crate::iter::{Cursor, Iter};
use crate::keyspace::Keyspace;
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;

impl UnwindSafe for Db {}
impl RefUnwindSafe for Db {}
impl UnwindSafe for Keyspace {}
impl RefUnwindSafe for Keyspace {}
impl UnwindSafe for Snapshot {}
impl RefUnwindSafe for Snapshot {}
impl UnwindSafe for Transaction {}
impl RefUnwindSafe for Transaction {}
// They end, or are nowhere, after a move that did not return.
impl UnwindSafe for Iter {}
impl RefUnwindSafe for Iter {}
impl UnwindSafe for Cursor {}
impl RefUnwindSafe for Cursor {}

const _: () = {
    const fn may_cross<T: UnwindSafe + RefUnwindSafe + Send>() {}
    may_cross::<Db>();
    may_cross::<Keyspace>();
    may_cross::<Snapshot>();
    may_cross::<Transaction>();
    may_cross::<Iter>();
    may_cross::<Cursor>();
    may_cross::<crate::slice::Slice>();
    may_cross::<crate::iter::Entry>();
};
