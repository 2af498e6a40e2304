//! What write stalls have cost: how many there were, how long, and why.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::event::StallReason;

/// Write stalls for one reason, since the open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StallStats {
    /// Why commits were held up.
    pub reason: StallReason,
    /// How many were.
    pub count: u64,
    /// For how long together.
    #[cfg_attr(feature = "serde", serde(rename = "seconds", serialize_with = "crate::serial::seconds"))]
    pub time: Duration,
    /// The longest time.
    #[cfg_attr(feature = "serde", serde(rename = "longest_seconds", serialize_with = "crate::serial::seconds"))]
    pub longest: Duration,
}

/// What has been noted of one reason.
#[derive(Debug, Default)]
struct Sums {
    count: AtomicU64,
    nanos: AtomicU64,
    longest: AtomicU64,
}

/// Where stalls are noted when they are over.
#[derive(Debug, Default)]
pub(super) struct StallLog {
    frozen_memtables: Sums,
    level0_tables: Sums,
    frozen_bytes: Sums,
}

impl StallLog {
    fn of(&self, reason: StallReason) -> &Sums {
        match reason {
            StallReason::FrozenMemtables => &self.frozen_memtables,
            StallReason::Level0Tables => &self.level0_tables,
            StallReason::FrozenBytes => &self.frozen_bytes,
        }
    }

    /// A commit was held up.
    pub(super) fn note(&self, reason: StallReason, took: Duration) {
        let (sums, nanos) = (self.of(reason), u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        sums.count.fetch_add(1, Ordering::Relaxed);
        sums.nanos.fetch_add(nanos, Ordering::Relaxed);
        sums.longest.fetch_max(nanos, Ordering::Relaxed);
    }

    pub(super) fn read(&self, reason: StallReason) -> StallStats {
        let sums = self.of(reason);
        let nanos = |of: &AtomicU64| Duration::from_nanos(of.load(Ordering::Relaxed));
        StallStats {
            reason,
            count: sums.count.load(Ordering::Relaxed),
            time: nanos(&sums.nanos),
            longest: nanos(&sums.longest),
        }
    }
}
