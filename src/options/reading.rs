//! Options of how files are read.

use super::{IoMode, Options};
use crate::sys::Access;

impl Options {
    /// Whether files are mapped. Default: [`IoMode::Map`].
    pub fn io_mode(&mut self, mode: IoMode) -> &mut Self {
        self.io_mode = mode;
        self
    }

    /// Whether the kernel is told that mapped tables and value files are read at random, so that a read of what is not in
    /// memory brings in the pages that it needs and nothing around them. Default: true.
    ///
    /// Without, each such read brings in what the kernel's readahead is set to, 128 KiB on most systems and megabytes on some.
    /// That suits data that fits into memory on a disk that seeks slowly, which is in memory after fewer reads. Of data that
    /// does not fit, each read then throws out more of what is hot than it brings in. Of indexes, those beyond
    /// [`index_memory_bytes`](Self::index_memory_bytes) are meant as well. Scans and compactions read ahead in either case, see
    /// [`max_readahead_bytes`](Self::max_readahead_bytes). Has no effect with [`IoMode::Read`], and elsewhere than on Unix.
    pub fn advise_random(&mut self, random: bool) -> &mut Self {
        self.table.advise_random = random;
        self
    }

    /// Indexes of mapped tables that are to stay in memory, in bytes: their sum in [`Stats`](crate::Stats::kept_index_bytes).
    /// Default: a half of the memory that the process has, or that its control groups allow it, on Linux; elsewhere no limit.
    ///
    /// Indexes are brought in as a whole when a table is opened for the first time. The kernel keeps those that are used, and
    /// brings what it has dropped of them back with what its readahead is set to. Tables that are opened when as much as this
    /// is taken have theirs [read at random](Self::advise_random): where indexes do not fit into memory, a lookup costs a page
    /// of the index more, and not a piece that throws out what the next lookups need. With 155 MB of hash indexes for 12
    /// million entries in 128 MiB of memory and readahead of 8 MiB, a get takes 116 us by the default, and 1.7 ms without a
    /// limit; with [`PointIndex::Bloom`], whose indexes take 22 MB, 73 us.
    ///
    /// [`PointIndex::Bloom`]: crate::PointIndex::Bloom
    pub fn index_memory_bytes(&mut self, bytes: u64) -> &mut Self {
        self.table.index_memory_bytes = Some(bytes);
        self
    }

    /// How many bytes of each table a scan asks the kernel for ahead of where it is, at the most. A scan asks for nothing at
    /// first, then, once it goes on, for 16 KiB, and doubles that, in whichever direction it goes; compactions begin with the
    /// most. A scan of data in memory pays a system call for every half of it. Has no effect with [`IoMode::Read`], where the
    /// kernel sees for itself what is read in a row. 0: ask for nothing. At most 1 GiB; default: 512 KiB.
    pub fn max_readahead_bytes(&mut self, bytes: usize) -> &mut Self {
        self.table.readahead_bytes = bytes;
        self
    }

    pub(crate) fn access(&self) -> Access {
        match self.io_mode {
            IoMode::Map => Access::Map,
            IoMode::Read => Access::Read,
        }
    }
}
