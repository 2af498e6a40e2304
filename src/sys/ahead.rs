//! How much space files take ahead of who writes them.

use std::io;

use super::access::PAGE_BYTES;
use crate::error::is_full;

/// A log file is extended in steps of this size where the disk has no space for more.
pub(super) const LOG_STEP_BYTES: usize = 256 << 10;

/// A log file starts with this much space and doubles it ahead of the writer.
const LOG_BYTES_MIN: usize = 1 << 20;

/// How much space a log file takes ahead of its writer, each time that it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// As much again as there is, where there is space for that.
    Doubling,
    /// Hardly more than is needed: on a full disk, others need the rest.
    Needed,
}

/// What is tried, in turn, to make a log file of at most `capacity` bytes reach to `end`: the doubling, if that is wanted,
/// and on a disk without space for it, what is needed.
pub(super) fn log_sizes(end: usize, capacity: usize, ahead: Ahead) -> impl Iterator<Item = usize> {
    let doubled = end.checked_next_power_of_two().unwrap_or(end).max(LOG_BYTES_MIN);
    let stepped = end.next_multiple_of(LOG_STEP_BYTES);
    let sizes = [doubled, stepped, end.next_multiple_of(PAGE_BYTES)].into_iter();
    let wanted = sizes.skip(if ahead == Ahead::Doubling { 0 } else { 2 });
    wanted.map(move |size| size.min(capacity).max(end))
}

/// The first of these sizes that there is space for.
pub(super) fn first_that_fits<T: Copy>(
    sizes: impl IntoIterator<Item = T>,
    mut take: impl FnMut(T) -> io::Result<()>,
) -> io::Result<T> {
    let mut refused = io::Error::from(io::ErrorKind::StorageFull);
    for size in sizes {
        match take(size) {
            Ok(()) => return Ok(size),
            Err(e) if is_full(&e) => refused = e,
            Err(e) => return Err(e),
        }
    }
    Err(refused)
}
