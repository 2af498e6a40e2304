//! How large a memtable is by default.

use crate::sys::memory_allowed;

/// By default, a memtable takes at most this share of the memory that there is.
const MEMORY_SHARE: u64 = 8;

/// A memtable's size where there is memory enough, and where there is next to none.
const MEMTABLE_BYTES: u64 = 64 << 20;
const MEMTABLE_BYTES_MIN: u64 = 1 << 20;

/// The default where there is so much memory.
fn memtable_bytes_within(memory: u64) -> usize {
    let bytes = (memory / MEMORY_SHARE).clamp(MEMTABLE_BYTES_MIN, MEMTABLE_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

pub(super) fn default_memtable_bytes() -> usize {
    memtable_bytes_within(memory_allowed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memtables_fit_into_the_memory_that_there_is() {
        let mebibytes = |memory: u64| memtable_bytes_within(memory << 20) >> 20;
        assert_eq!([0, 4, 64, 128, 511, 512, 1 << 20].map(mebibytes), [1, 1, 8, 16, 63, 64, 64]);
    }
}
