//! Code of the caller that the engine calls, and what that may call in turn.
//!
//! The engine holds no lock while it runs such code, which is checked wherever the order of locks is, so nearly every call may
//! be made from within it. What cannot be is what waits for the work that the code is a part of. Each thread knows in which
//! callbacks of which engines it is, one inside the other; a call that would wait for ever asks here first. What a callback
//! leaves to another thread, and waits for, nobody can know.

#[cfg(shuttle)]
use shuttle::thread_local;
use std::cell::RefCell;

use super::health::Health;
use crate::error::{Error, Result};
use crate::sys::check_none_held;

/// Code of the caller that runs inside of work which others wait for. (That of a load and of a transaction does not.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callback {
    /// [`Commit::on_durable`](crate::Commit::on_durable), and the wakers of tasks that await a commit: a close is over, and the
    /// next one is called, only after it.
    Durable,
    /// [`Options::compaction_filter`](crate::Options::compaction_filter): the compaction is over only after it.
    CompactionFilter,
    /// [`MergeOperator`](crate::MergeOperator), where a compaction asks it: the same.
    MergeOperator,
    /// [`Options::listener`](crate::Options::listener): a close is over only after it, and whoever drives the work that it is
    /// told of would have it told again and again.
    Listener,
}

impl Callback {
    fn name(self) -> &'static str {
        match self {
            Self::CompactionFilter => "compaction filter",
            Self::MergeOperator => "merge operator",
            Self::Durable => "callback of a commit",
            Self::Listener => "listener",
        }
    }
}

thread_local! {
    /// The callbacks that this thread is in, outermost first, each with the address of the [`Health`] of its engine,
    /// which cannot move or go meanwhile.
    static WITHIN: RefCell<Vec<(usize, Callback)>> = const { RefCell::new(Vec::new()) };
}

/// The thread is in a callback as long as this lives.
pub(super) struct Within(());

impl Drop for Within {
    fn drop(&mut self) {
        let _ = WITHIN.try_with(|within| within.borrow_mut().pop());
    }
}

impl Health {
    /// To be called, and its answer kept, around each call of the caller's code.
    #[inline]
    pub(super) fn enter(&self, callback: Callback) -> Within {
        check_none_held();
        let _ = WITHIN.try_with(|within| within.borrow_mut().push((std::ptr::from_ref(self).addr(), callback)));
        Within(())
    }

    /// The callback of this engine that the thread is in, if it is in one. A thread at its very end is in none.
    #[inline]
    pub(super) fn within(&self) -> Option<Callback> {
        let own = std::ptr::from_ref(self).addr();
        let find = |within: &RefCell<Vec<(usize, Callback)>>| {
            within.borrow().iter().find(|(engine, _)| *engine == own).map(|(_, callback)| *callback)
        };
        WITHIN.try_with(find).ok().flatten()
    }

    /// Refuses `call`, which waits for the engine's work, inside of a callback that is part of such work.
    pub(super) fn check_not_within(&self, call: &'static str) -> Result<()> {
        match self.within() {
            Some(callback) => Err(Error::Reentrant { call, callback: callback.name() }),
            None => Ok(()),
        }
    }

    /// Refuses `call`, which drives or waits for the callbacks of commits, inside of one.
    pub(super) fn check_not_telling(&self, call: &'static str) -> Result<()> {
        let own = (std::ptr::from_ref(self).addr(), Callback::Durable);
        if WITHIN.try_with(|within| within.borrow().contains(&own)).unwrap_or(false) {
            return Err(Error::Reentrant { call, callback: Callback::Durable.name() });
        }
        Ok(())
    }
}
