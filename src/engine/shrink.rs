//! Making space on a disk that has none for a whole compaction.
//!
//! A compaction gives back nothing of its inputs before all of its outputs are on disk, and with removals spread over many
//! tables that is more than any reserve. So where that finds no space, tables are rewritten one by one, each where it is,
//! without what newer tables hide in it. The newer ones stay as they are: no such step takes more than the table that it
//! replaces, for which the reserve is made, and what it gives back is there for the next one.

use std::sync::Arc;

use super::Engine;
use super::compact::Span;
use crate::error::{Error, Result};
use crate::format::FileNumber;
use crate::sys::atomic::Ordering;
use crate::version::Plan;

/// A table is rewritten if that makes it smaller by this share of it.
const WORTH_SHARE: u64 = 8;

impl Engine {
    /// Compacts, on a full disk with what the reserve gives up, and if that is not enough, once tables have been made smaller.
    pub(super) fn with_space<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match self.with_reserve(&mut work) {
            Err(e) if e.is_full() && self.poison.get().is_none() => {
                if self.shrink_tables()? {
                    self.with_reserve(work)
                } else {
                    Err(e)
                }
            }
            other => other,
        }
    }

    /// Rewrites tables without what newer ones hide, the smallest first; answers whether any has become smaller.
    fn shrink_tables(&self) -> Result<bool> {
        let version = Arc::clone(&self.view.load().version);
        let mut tables: Vec<(u64, FileNumber)> =
            version.tables().map(|(_, table)| (table.meta.file_bytes, table.number())).collect();
        drop(version);
        tables.sort_unstable();
        let mut any = false;
        for (_, number) in tables {
            match self.with_reserve(|| self.shrink(number)) {
                Ok(shrunk) => any |= shrunk,
                // Another one may be smaller.
                Err(e) if e.is_full() && self.poison.get().is_none() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(any)
    }

    /// Rewrites a table, unless it is gone, being compacted, or worth nothing.
    fn shrink(&self, number: FileNumber) -> Result<bool> {
        let (begun, plan) = {
            let mut compactions = self.stand_still();
            self.check_writable()?;
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Closed);
            }
            let version = Arc::clone(&self.view.load().version);
            let found = version.tables().find(|(_, table)| table.number() == number);
            let plan = found.and_then(|(level, table)| Plan::shrinking(&version, level, table));
            let Some(plan) = plan.filter(|plan| compactions.running().allows(plan)).map(Arc::new) else {
                return Ok(false);
            };
            (compactions.begin(&plan), plan)
        };
        let left = self.unless_it_panics(|| self.weigh(&plan)).inspect_err(|_| self.end(begun))?;
        let bytes = plan.input_bytes();
        if left > bytes - bytes / WORTH_SHARE {
            self.end(begun);
            return Ok(false);
        }
        let spans = vec![Span::of(&plan)];
        let job = self.enlist(begun, plan, spans);
        self.work_on(job).map(|()| true)
    }
}
