//! The cache of blocks that are in no mapping.

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::format::FileNumber;
use crate::sys::Block;

/// What a block costs beside its bytes: its own allocation and its place in the cache.
const BLOCK_OVERHEAD: u64 = 320;

/// A size of blocks to plan the cache with.
const BLOCK_BYTES_EXPECTED: u64 = 16 << 10;

/// A block by the table it is of and by where that begins: file numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockKey {
    pub(super) table: FileNumber,
    pub(super) start: u64,
}

impl Hash for BlockKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.table.0);
        state.write_u64(self.start);
    }
}

/// Mixes the two numbers of a key.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(29) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[derive(Debug, Clone, Copy)]
struct ByBytes;

impl Weighter<BlockKey, Block> for ByBytes {
    fn weight(&self, _: &BlockKey, block: &Block) -> u64 {
        block.bytes().len() as u64 + BLOCK_OVERHEAD
    }
}

type Blocks = Cache<BlockKey, Block, ByBytes, BuildHasherDefault<Mix>>;

/// Blocks that have been read lately, up to a number of bytes. Which one goes is decided by how lately and how often it was
/// asked for, so that one scan does not push out what others need.
pub(crate) struct BlockCache(Option<Blocks>);

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockCache({} bytes)", self.bytes())
    }
}

impl BlockCache {
    /// A cache of at most `bytes` bytes; with 0, it keeps nothing.
    pub(crate) fn new(bytes: u64) -> Self {
        let expected = usize::try_from(bytes / BLOCK_BYTES_EXPECTED).unwrap_or(usize::MAX);
        let options =
            OptionsBuilder::new().weight_capacity(bytes).estimated_items_capacity(expected.max(16)).build().ok();
        let blocks = options.filter(|_| bytes > 0).map(|options| {
            Blocks::with_options(options, ByBytes, BuildHasherDefault::default(), DefaultLifecycle::default())
        });
        Self(blocks)
    }

    pub(super) fn get(&self, key: BlockKey) -> Option<Block> {
        self.0.as_ref()?.get(&key)
    }

    pub(super) fn insert(&self, key: BlockKey, block: &Block) {
        if let Some(blocks) = &self.0 {
            blocks.insert(key, block.clone());
        }
    }

    /// Bytes that its blocks take now.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, Blocks::weight)
    }

    /// How often a block that was asked for was there, and how often not.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        self.0.as_ref().map_or((0, 0), |blocks| (blocks.hits(), blocks.misses()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::BlockBuffer;

    #[test]
    fn a_cache_stays_within_its_bytes_and_keeps_what_is_asked_for() {
        let cache = BlockCache::new(1 << 20);
        let key = |start| BlockKey { table: FileNumber(1), start };
        for start in 0..1000 {
            let mut buffer = BlockBuffer::new(10_000).unwrap();
            buffer.bytes_mut().fill(u8::try_from(start % 251).unwrap());
            cache.insert(key(start), &buffer.into_block());
            if let Some(block) = cache.get(key(start)) {
                assert_eq!(block.bytes()[9_999], u8::try_from(start % 251).unwrap());
            }
            assert!(cache.bytes() <= 1 << 20);
        }
        assert!(cache.bytes() > 1 << 19);
        assert!(cache.get(BlockKey { table: FileNumber(2), start: 999 }).is_none());
        let (hits, misses) = cache.hits_and_misses();
        assert!(hits > 0 && misses > 0);
        let none = BlockCache::new(0);
        none.insert(key(1), &BlockBuffer::new(8).unwrap().into_block());
        assert!(none.get(key(1)).is_none() && none.bytes() == 0);
    }
}
