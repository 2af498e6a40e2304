//! How files come into memory.

/// Space is taken, and memory is filled, in units of at least this size.
pub(crate) const PAGE_BYTES: usize = 4 << 10;

/// How the contents of files come into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Files are mapped; the log is written through its mapping where the file system is known to be sound for that.
    Map,
    /// Nothing is mapped: files are read into buffers, the log is written with positioned writes.
    Read,
}

/// What the system is told about how a mapping is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Nothing: it brings in what is around a page that is missing.
    Normal,
    /// At random: it brings in the page alone. Since Linux 6.4, use through such a mapping does not count when it is decided
    /// which pages go first, so this is not for what is to stay.
    Random,
}
