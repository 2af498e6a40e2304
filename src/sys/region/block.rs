//! Blocks: bytes in memory of their own, pinned like those of a mapping.

use std::fmt;
use std::io;
use std::ops::Range;

use super::buffer::BlockBuffer;
use super::{Held, Pin, Pinned, Purse};
use crate::sys::share::Share;

impl BlockBuffer {
    pub(crate) fn into_block(self) -> Block {
        Block(Share::new(Held::Buffer(self)))
    }
}

/// Bytes that are in no mapping: owned, immutable, and at an address that is a multiple of 16. A clone is a reference count.
#[derive(Clone)]
pub(crate) struct Block(Pin);

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.bytes().len())
    }
}

impl Block {
    /// A copy of these bytes; an error if there is no memory for it.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let mut buffer = BlockBuffer::new(bytes.len())?;
        buffer.bytes_mut().copy_from_slice(bytes);
        Ok(buffer.into_block())
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &*self.0 {
            Held::Buffer(buffer) => buffer.bytes(),
            Held::Region(_) => &[],
        }
    }

    /// Whether both are handles of the same bytes.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }

    /// A range of [`bytes`](Self::bytes) that stays valid on its own. A range outside is empty.
    pub(crate) fn pin(&self, range: Range<usize>) -> Pinned {
        Pinned::new(self.bytes(), range, self.0.clone())
    }

    /// The same, with a pin from a purse.
    #[inline]
    pub(crate) fn pin_from(&self, purse: &mut Purse, range: Range<usize>) -> Pinned {
        Pinned::new(self.bytes(), range, purse.0.take(self.0.address(), || &self.0))
    }
}
