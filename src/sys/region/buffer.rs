//! Bytes in memory of their own.

use std::io;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The unit of [`BlockBuffer`]s, for its alignment.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(16))]
struct Line([u8; 16]);

/// Memory for a [`Block`](super::Block) that is being filled, all zero at first.
pub(crate) struct BlockBuffer {
    lines: Box<[Line]>,
    length: usize,
}

impl BlockBuffer {
    /// An error if there is no memory for it.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let lines = <[Line]>::new_box_zeroed_with_elems(length.div_ceil(size_of::<Line>()));
        Ok(Self { lines: lines.map_err(|_| io::ErrorKind::OutOfMemory)?, length })
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.lines.as_bytes().get(..self.length).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.lines.as_mut_bytes().get_mut(..self.length).unwrap_or_default()
    }
}
