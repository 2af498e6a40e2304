//! Which directories this process has locked, to tell a second open of one from that of another process.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

#[cfg(not(unix))]
use super::portable::Handle;
#[cfg(unix)]
use super::unix::Handle;
use crate::sys::ranked::{LockRank, Mutex};
use crate::sys::seam::Lock;

/// A directory, as the file system knows it, and the process that has it: a forked child inherits what its parent has noted.
pub(super) type Place = (u32, [u64; 2]);

/// How many locks of this process each directory has.
static HELD: LazyLock<Mutex<BTreeMap<Place, usize>>> = LazyLock::new(|| Mutex::new(LockRank::Held, BTreeMap::new()));

#[cfg(unix)]
fn place(dir: &Handle) -> Option<Place> {
    use std::os::unix::fs::MetadataExt;

    let found = dir.again().ok()?.into_file().metadata().ok()?;
    Some((std::process::id(), [found.dev(), found.ino()]))
}

/// Elsewhere nothing stands for a directory but its path.
#[cfg(not(unix))]
fn place(_: &Handle) -> Option<Place> {
    None
}

/// Notes that this process has locked a directory.
pub(super) fn note(dir: &Arc<Handle>) -> Option<Place> {
    let place = place(dir)?;
    *HELD.lock().entry(place).or_default() += 1;
    Some(place)
}

pub(super) fn forget(place: Place) {
    let mut held = HELD.lock();
    match held.get_mut(&place) {
        Some(locks) if *locks > 1 => *locks -= 1,
        _ => _ = held.remove(&place),
    }
}

/// Who has a directory that could not be locked, as far as that is known.
pub(super) fn busy(dir: &Arc<Handle>) -> Lock {
    let is_here = place(dir).is_some_and(|place| HELD.lock().contains_key(&place));
    if is_here { Lock::BusyHere } else { Lock::Busy }
}
