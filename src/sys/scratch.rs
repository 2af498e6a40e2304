//! Memory for what is collected and then written out.

use std::fmt;

use memmap2::MmapMut;

/// What the system is asked for at a time. What is aligned to a power of two up to this lies in one piece.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes that grow at their end, and are the system's again as soon as they are dropped.
///
/// A heap keeps what it has once had: after a load of 4 M entries, glibc's held 37 MB for each of two background threads, in
/// which nothing was. Where data is larger than memory, that is missing in the page cache: when it is given back, of 4 M
/// entries in 256 MiB, a get reads 2.7 KiB from the disk instead of 3.5, and a seek and a hundred entries take 176 us instead
/// of 207 (`benches/compare`, one run).
#[derive(Default)]
pub(crate) struct Scratch {
    /// All of them are full, but the last one.
    pieces: Vec<Piece>,
    length: usize,
}

enum Piece {
    Mapped(MmapMut),
    /// Where the system has no mapping left.
    Heap(Vec<u8>),
}

impl Piece {
    /// Of zeros.
    fn new() -> Self {
        MmapMut::map_anon(PIECE_BYTES).map_or_else(|_| Self::Heap(vec![0; PIECE_BYTES]), Self::Mapped)
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Heap(bytes) => bytes,
        }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Heap(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({} bytes)", self.length)
    }
}

impl Scratch {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// What is free in the last piece, and in a new one if that is nothing.
    #[inline]
    fn room(&mut self) -> &mut [u8] {
        let at = self.length % PIECE_BYTES;
        if at == 0 {
            self.pieces.push(Piece::new());
        }
        self.pieces.last_mut().and_then(|piece| piece.bytes_mut().get_mut(at..)).unwrap_or_default()
    }

    /// Adds bytes at the end.
    #[inline]
    pub(crate) fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let (now, rest) = bytes.split_at(bytes.len().min(room.len()));
            if let Some(room) = room.get_mut(..now.len()) {
                room.copy_from_slice(now);
            }
            self.length += now.len();
            bytes = rest;
        }
    }

    /// Adds so many zeros.
    pub(crate) fn extend_zeroed(&mut self, mut count: usize) {
        while count > 0 {
            let now = count.min(self.room().len());
            self.length += now;
            count -= now;
        }
    }

    /// Bytes that lie in one piece.
    #[inline]
    pub(crate) fn slice_mut(&mut self, offset: usize, length: usize) -> Option<&mut [u8]> {
        let at = offset % PIECE_BYTES;
        self.pieces.get_mut(offset / PIECE_BYTES)?.bytes_mut().get_mut(at..at.checked_add(length)?)
    }

    /// All bytes, piece by piece.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let begins = (0..self.length).step_by(PIECE_BYTES);
        begins.zip(&self.pieces).filter_map(|(begin, piece)| piece.bytes().get(..PIECE_BYTES.min(self.length - begin)))
    }

    /// All bytes, one behind the other.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.pieces().collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_order() {
        for step in [1, 7, 4096, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 5] {
            let mut scratch = Scratch::default();
            let mut expected = Vec::new();
            while expected.len() <= 2 * PIECE_BYTES {
                let bytes: Vec<u8> = (expected.len()..).take(step).map(|at| u8::try_from(at % 251).unwrap()).collect();
                scratch.extend(&bytes);
                expected.extend(bytes);
                if expected.len() == scratch.len() && expected.len() >= PIECE_BYTES / 2 && step == 1 {
                    let zeros = PIECE_BYTES + 3;
                    scratch.extend_zeroed(zeros);
                    expected.resize(expected.len() + zeros, 0);
                }
            }
            assert_eq!(scratch.len(), expected.len());
            assert!(scratch.to_vec() == expected, "steps of {step}");
            assert!(scratch.pieces().all(|piece| piece.len() <= PIECE_BYTES));
        }
    }

    #[test]
    fn what_lies_in_one_piece_can_be_changed() {
        let mut scratch = Scratch::default();
        scratch.extend_zeroed(2 * PIECE_BYTES);
        for at in (0..2 * PIECE_BYTES).step_by(PIECE_BYTES / 4) {
            scratch.slice_mut(at, 64).unwrap().fill(7);
        }
        let sum: usize = scratch.to_vec().into_iter().map(usize::from).sum();
        assert_eq!(sum, 7 * 8 * 64);
        assert!(scratch.slice_mut(PIECE_BYTES - 1, 2).is_none() && scratch.slice_mut(2 * PIECE_BYTES, 1).is_none());
    }
}
