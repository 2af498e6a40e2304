//! Filling the blocks of a section.

use std::io;

use super::chunked::ChunkedWriter;
use crate::error::bug;
use crate::format::block::{BLOCK_ALIGNMENT, BlockPlace, Packer, align_block, blocks_max};
use crate::format::codec::Codec;
use crate::options::SectionOptions;

/// What stands between blocks.
const ZEROS: [u8; 15] = [0; 15];
const _: () = assert!(ZEROS.len() as u64 == BLOCK_ALIGNMENT - 1);

/// Entries on their way into blocks: they are gathered up to the block size, packed and written.
#[derive(Debug)]
pub(super) struct BlockBuilder {
    codec: Codec,
    packer: Packer,
    block_log2: u8,
    /// The block that is being filled.
    raw: Vec<u8>,
    packed: Vec<u8>,
    blocks: u32,
    directory: Vec<u8>,
}

impl BlockBuilder {
    /// None for sections without compression.
    pub(super) fn new(options: SectionOptions) -> io::Result<Option<Self>> {
        let (codec, level) = options.codec();
        let packer = Packer::new(codec, level)?;
        Ok(packer.map(|packer| Self {
            codec,
            packer,
            block_log2: options.block_log2,
            raw: Vec::with_capacity(1 << options.block_log2),
            packed: Vec::new(),
            blocks: 0,
            directory: Vec::new(),
        }))
    }

    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// Blocks written.
    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The records of the blocks written.
    pub(super) fn directory(&self) -> &[u8] {
        &self.directory
    }

    /// Whether the block that is being filled is the last one that locators reach.
    pub(super) fn is_full(&self) -> bool {
        self.blocks + 1 >= blocks_max(self.block_log2)
    }

    /// Whether an entry of `length` bytes fits into the block that is being filled; one that is larger than a block has one
    /// of its own.
    #[inline]
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.raw.is_empty() || self.raw.len().saturating_add(length) <= 1 << self.block_log2
    }

    /// The place of the next entry.
    #[inline]
    pub(super) fn place(&self) -> u64 {
        (u64::from(self.blocks) << self.block_log2) + self.raw.len() as u64
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
    }

    /// Writes the block that is being filled, if there is anything in it, and begins the next one.
    #[cold]
    pub(super) fn write_block(&mut self, out: &mut ChunkedWriter) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let shrunk = self.packer.pack(&self.raw, self.block_log2, &mut self.packed);
        let stored = if shrunk { &self.packed } else { &self.raw };
        let fill = |from: u64| {
            let gap = usize::try_from(align_block(from) - from).ok().and_then(|gap| ZEROS.get(..gap));
            gap.ok_or_else(|| bug("a block begins too far behind the one before"))
        };
        out.push(fill(out.end())?)?;
        let place = BlockPlace { start: out.end(), stored: stored.len() as u64, raw: self.raw.len() as u64 };
        out.push(stored)?;
        out.push(fill(out.end())?)?;
        place.encode(&mut self.directory);
        self.raw.clear();
        // Below the limit until now, which is far below 2^32.
        self.blocks += 1;
        if self.blocks > blocks_max(self.block_log2) { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }
}
