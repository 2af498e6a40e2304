//! Collecting garbage in value files: which files are worth it.
//!
//! Records become garbage when a compaction drops what points to them. Once there is too much of it, the files with a large
//! share of garbage are emptied: each compaction that comes along moves what its inputs still have in them into a new value
//! file, and tables that no compaction is due for are rewritten in place. A file that nothing points to is gone.
//!
//! All files are looked at together, and emptied together, because a rewrite of a table costs the same for one of them as
//! for many. Let `live` be the bytes that tables point to. Garbage of more than `live / n` is too much; then the files whose
//! garbage is more than `1 / 2n` of what is live in them are emptied. The others have no more than `live / 2n` together, so
//! that much has to be written again before there is too much of it the next time.

use std::collections::BTreeSet;

use super::Version;
use crate::format::FileNumber;
use crate::table::Stored;

/// In a calm store, garbage may be this share of what is live; in a busy one, as much as that.
pub(super) const CALM_SHARE: u64 = 4;

fn share(calm: bool) -> u64 {
    if calm { CALM_SHARE } else { 1 }
}

/// The files to be emptied, and how many times as much garbage there is as there may be.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    pub(super) files: BTreeSet<FileNumber>,
    pub(super) urgency: f64,
}

/// Whether so much of a file is garbage that it is emptied once there is too much of it in all.
pub(super) fn is_wasteful(stored: &Stored, share: u64) -> bool {
    stored.garbage_bytes().saturating_mul(2 * share) > stored.live_bytes
}

impl Garbage {
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub(super) fn of(version: &Version, calm: bool) -> Self {
        let share = share(calm);
        let sum = |of: fn(&Stored) -> u64| version.values().iter().map(of).fold(0, u64::saturating_add);
        let (live, garbage) = (sum(|stored| stored.live_bytes), sum(Stored::garbage_bytes).saturating_mul(share));
        if garbage <= live {
            return Self::default();
        }
        let wasteful = version.values().iter().filter(|stored| is_wasteful(stored, share));
        let files = wasteful.map(|stored| stored.file.number()).collect();
        Self { files, urgency: garbage as f64 / live.max(1) as f64 }
    }
}
