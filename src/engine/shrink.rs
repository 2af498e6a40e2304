//! Making space on a disk that has none for a whole compaction.
//!
//! A compaction gives back nothing of its inputs before all of its outputs are on disk, and with removals spread over many
//! tables that is more than any reserve. So where that finds no space, it is done in pieces: tables are rewritten where they
//! are, without what newer tables hide in them, and small neighbours become one table. The newer ones stay as they are: no such
//! step takes more than the tables that it replaces, which are no larger together than one, for which the reserve is made; and
//! what it gives back is there for the next one.

use super::compactor::Compactor;
use super::job::Subcompaction;
use crate::error::Result;
use crate::format::FileNumber;
use crate::version::{Plan, neighbours};

/// Tables are rewritten if that makes them smaller by this share of them.
const WORTH_SHARE: u64 = 8;

/// What a table takes beside its entries, at least: blocks for the header, checksums and index that are not filled.
const TABLE_OVERHEAD: u64 = 16 << 10;

/// What a try to make tables smaller has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shrunk {
    Smaller,
    AsTheyWere,
}

impl Compactor {
    /// Compacts, on a full disk with what the reserve gives up, and if that is not enough, once tables have been made smaller.
    pub(super) fn with_space<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match self.reserve.with_reserve(&mut work) {
            Err(e) if e.is_full() && !self.health.is_poisoned() => match self.shrink_tables()? {
                Shrunk::Smaller => self.reserve.with_reserve(work),
                Shrunk::AsTheyWere => Err(e),
            },
            other => other,
        }
    }

    /// Rewrites tables without what newer ones hide, small neighbours as one, the smallest first.
    fn shrink_tables(&self) -> Result<Shrunk> {
        let groups = neighbours(&self.readers.load().version, self.options.table_bytes);
        let mut all = Shrunk::AsTheyWere;
        for (_, tables) in groups {
            match self.reserve.with_reserve(|| self.shrink(&tables)) {
                Ok(Shrunk::Smaller) => all = Shrunk::Smaller,
                Ok(Shrunk::AsTheyWere) => {}
                // Others may be smaller.
                Err(e) if e.is_full() && !self.health.is_poisoned() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    /// Rewrites neighbours, unless one is gone or being compacted, or it is worth nothing.
    fn shrink(&self, tables: &[FileNumber]) -> Result<Shrunk> {
        let begun = {
            let mut compactions = self.scheduler.stand_still();
            self.health.check_writable()?;
            self.health.check_going_on()?;
            let plan = Plan::shrinking(&self.readers.load().version, tables);
            let Some(plan) = plan.filter(|plan| compactions.running().allows(plan)) else {
                return Ok(Shrunk::AsTheyWere);
            };
            compactions.begin(plan)
        };
        let plan = &begun.plan;
        let left = self.health.unless_it_panics(|| self.merger.weigh(plan)).inspect_err(|_| self.end(begun.number))?;
        let bytes = plan.input_bytes().saturating_add(TABLE_OVERHEAD.saturating_mul(tables.len() as u64));
        if left.saturating_add(TABLE_OVERHEAD) > bytes - bytes / WORTH_SHARE {
            self.end(begun.number);
            return Ok(Shrunk::AsTheyWere);
        }
        let subcompactions = vec![Subcompaction::of(plan)];
        let job = self.enlist(begun, subcompactions);
        self.work_on(job).map(|()| Shrunk::Smaller)
    }
}
