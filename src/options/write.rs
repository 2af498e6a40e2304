//! Options of how much is written before it goes into tables.

use super::Options;

/// Memtables that may wait to be flushed.
const FROZEN_MEMTABLES: u64 = 4;

impl Options {
    /// Size of a log segment, in bytes, at which it is flushed into a table. More means fewer flushes and more memory and
    /// recovery time. 4 KiB to 16 GiB; default: 64 MiB, or an eighth of the memory that the machine has or the control group of
    /// the process allows, if that is less.
    ///
    /// A flush walks through the segment in order of keys, so it must fit into memory beside all else: with 64 MiB of log and
    /// 64 MiB of memory, it finds no end. See [Memory](crate::guide::memory).
    pub fn memtable_bytes(&mut self, bytes: usize) -> &mut Self {
        self.memtable_bytes = bytes;
        self
    }

    /// Entries at which the memtable is flushed even if it has not reached its size. Default: no such limit.
    pub fn memtable_entries(&mut self, entries: Option<usize>) -> &mut Self {
        self.memtable_entries = entries;
        self
    }

    /// The largest batch, in bytes of log. At most 16 GiB; default: 8 GiB.
    pub fn max_batch_bytes(&mut self, bytes: u64) -> &mut Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Bytes of log in memtables that wait to be flushed, beyond which commits wait until one has been: at least
    /// [`memtable_bytes`](Self::memtable_bytes); default: four times that. With the growing one, and [what is
    /// kept](Self::reserve_bytes) for commits that only remove, that bounds the memory and the disk that the log takes. A
    /// commit that is larger than half of it is let in while no more than half of it is taken, so that it comes to its turn.
    ///
    /// Before that, commits are slowed down: see [`Stats::write_pressure`](crate::Stats::write_pressure). Those that wait here
    /// are [`Stats::write_stalls`](crate::Stats::write_stalls). A flush that fails is their error,
    /// [`Db::try_write`](crate::Db::try_write) returns [`Error::WouldBlock`](crate::Error::WouldBlock), and
    /// [`Db::close`](crate::Db::close) ends the wait with [`Error::Closed`](crate::Error::Closed). Without background threads,
    /// the commit flushes itself.
    pub fn max_frozen_bytes(&mut self, bytes: u64) -> &mut Self {
        self.max_frozen_bytes = Some(bytes);
        self
    }

    pub(crate) fn most_frozen_bytes(&self) -> u64 {
        self.max_frozen_bytes.unwrap_or(FROZEN_MEMTABLES.saturating_mul(self.memtable_bytes as u64))
    }
}
