//! How the bytes of files are reached.

/// How the bytes of files are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IoMode {
    /// Files are mapped into memory and read in place. Sound as long as no other process changes files in the database
    /// directory, which its lock and its mode (0700) are there for; an I/O error under a mapping is a `SIGBUS` signal.
    #[default]
    Map,
    /// Nothing is mapped, and every checksum is verified at every read: indexes of tables are read into memory when the
    /// table is first used, entries with positioned reads, in pages of 4 KiB or in compressed blocks, that go into the
    /// [cache](crate::Options::cache_bytes); the log is written with positioned writes. For file systems and rules that forbid
    /// mappings. Each [open table](crate::Options::max_open_tables) has a file descriptor. A read that is not in the cache
    /// costs a system call and a copy. [Large values](crate::Options::large_value_bytes) are read and verified one by one each
    /// time, and leave the cache alone.
    Read,
}
