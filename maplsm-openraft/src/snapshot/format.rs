//! The bytes of a snapshot, all integers little-endian:
//!
//! ```text
//! file   = magic (8 bytes), version (u32), 0 (u32), block..., end
//! block  = length (u32, 1 to 2^24), CRC-32 (u32), that many bytes
//! end    = 0 (u32), CRC-32 (u32)
//! ```
//!
//! A checksum covers the number of the block, counted from 0, its length, and its bytes, so that blocks cannot change places
//! and the end cannot come too early. The bytes of the blocks, one after another, are entries in order of key:
//!
//! ```text
//! entry  = length of key (u16), length of value (u32), key, value
//! ```

use std::io::{self, Read, Write};

use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"\x89maplsm\n";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 16;
/// Blocks are written of this size, the last one smaller.
const BLOCK_BYTES: usize = 64 << 10;
/// No block is larger.
const BLOCK_BYTES_MAX: usize = 1 << 24;
const BLOCK_HEADER_BYTES: u64 = 8;

fn checksum(number: u64, length: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Writes a snapshot.
pub(crate) struct Writer<W> {
    to: W,
    block: Vec<u8>,
    number: u64,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        to.write_all(&[0; 4])?;
        Ok(Self { to, block: Vec::with_capacity(BLOCK_BYTES), number: 0 })
    }

    /// Adds an entry, whose key is greater than that of the one before it.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        self.add(&u16::try_from(key.len()).map_err(too_long)?.to_le_bytes())?;
        self.add(&u32::try_from(value.len()).map_err(too_long)?.to_le_bytes())?;
        self.add(key)?;
        self.add(value)
    }

    fn add(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK_BYTES {
                self.end_block()?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.block.len()).map_err(io::Error::other)?;
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(&checksum(self.number, length, &self.block).to_le_bytes())?;
        self.to.write_all(&self.block)?;
        self.block.clear();
        self.number += 1;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        // The block of nothing is the end.
        self.end_block()?;
        Ok(self.to)
    }
}

/// Reads a snapshot entry by entry, and returns an error for whatever is not as it was written. After an error it ends.
pub(crate) struct Reader<R> {
    from: R,
    /// What is left of a block.
    block: Vec<u8>,
    used: usize,
    number: u64,
    offset: u64,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Start,
    Blocks,
    /// The block of nothing was read.
    Complete,
    Over,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, block: Vec::new(), used: 0, number: 0, offset: 0, state: State::Start }
    }

    fn damaged(&self, problem: &'static str) -> Error {
        Error::SnapshotDamaged { offset: self.offset, problem }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.from.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            _ => Error::Io { operation: "read", path: "a snapshot".into(), source: e },
        })
    }

    fn start(&mut self) -> Result<()> {
        let (mut magic, mut version, mut zero) = ([0; 8], [0; 4], [0; 4]);
        self.fill(&mut magic)?;
        if magic != MAGIC {
            return Err(self.damaged("it is no snapshot"));
        }
        self.fill(&mut version)?;
        self.fill(&mut zero)?;
        if u32::from_le_bytes(version) != VERSION || zero != [0; 4] {
            return Err(self.damaged("it has a version that this one does not know"));
        }
        self.offset = HEADER_BYTES;
        self.state = State::Blocks;
        Ok(())
    }

    fn next_block(&mut self) -> Result<()> {
        let (mut length, mut sum) = ([0; 4], [0; 4]);
        self.fill(&mut length)?;
        self.fill(&mut sum)?;
        let length = u32::from_le_bytes(length);
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= BLOCK_BYTES_MAX);
        let bytes = bytes.ok_or_else(|| self.damaged("a block is too large"))?;
        let mut block = std::mem::take(&mut self.block);
        block.resize(bytes, 0);
        self.fill(&mut block)?;
        (self.block, self.used) = (block, 0);
        if u32::from_le_bytes(sum) != checksum(self.number, length, &self.block) {
            return Err(self.damaged("a block is not as it was written"));
        }
        self.number += 1;
        self.offset += BLOCK_HEADER_BYTES + u64::from(length);
        if length == 0 {
            self.state = State::Complete;
            if self.from.read(&mut [0]).map_err(Error::io("read", "a snapshot".as_ref()))? != 0 {
                return Err(self.damaged("something follows its end"));
            }
        }
        Ok(())
    }

    /// Whether there are bytes left, after reading the next block if need be.
    fn more(&mut self) -> Result<bool> {
        if self.state == State::Start {
            self.start()?;
        }
        if self.used == self.block.len() && self.state == State::Blocks {
            self.next_block()?;
        }
        Ok(self.used < self.block.len())
    }

    /// As many bytes, which a length that lies takes no memory for.
    fn take(&mut self, bytes: usize) -> Result<Vec<u8>> {
        let mut taken = Vec::with_capacity(bytes.min(BLOCK_BYTES));
        while taken.len() < bytes {
            if !self.more()? {
                return Err(self.damaged("its last entry is not whole"));
            }
            let left = self.block.get(self.used..).unwrap_or_default();
            let now = left.get(..bytes - taken.len()).unwrap_or(left);
            taken.extend_from_slice(now);
            self.used += now.len();
        }
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.damaged("its last entry is not whole"))
    }

    fn entry(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        if !self.more()? {
            return Ok(None);
        }
        let key = u16::from_le_bytes(self.number()?);
        let value = u32::from_le_bytes(self.number()?);
        let value = usize::try_from(value).map_err(|_| self.damaged("a value does not fit into memory"))?;
        Ok(Some((self.take(usize::from(key))?, self.take(value)?)))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Over {
            return None;
        }
        let entry = self.entry().transpose();
        if !matches!(entry, Some(Ok(_))) {
            self.state = State::Over;
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Entries = Vec<(Vec<u8>, Vec<u8>)>;

    fn written(entries: &Entries) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (key, value) in entries {
            writer.push(key, value).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Entries> {
        Reader::new(bytes).collect()
    }

    fn some_entries() -> Entries {
        let sizes = [0, 1, 100, BLOCK_BYTES - 7, BLOCK_BYTES, 3 * BLOCK_BYTES, 5];
        (0u8..).zip(sizes).map(|(i, size)| (vec![i; usize::from(i)], vec![i; size])).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for entries in [Vec::new(), vec![(Vec::new(), Vec::new())], some_entries()] {
            assert_eq!(read(&written(&entries)).unwrap(), entries);
        }
        // Entries that end exactly where a block does.
        let entries = vec![(vec![1], vec![0; BLOCK_BYTES - 7]), (vec![2], Vec::new())];
        assert_eq!(read(&written(&entries)).unwrap(), entries);
    }

    #[test]
    fn a_flipped_bit_is_an_error() {
        let bytes = written(&vec![(b"key".to_vec(), b"value".to_vec()), (b"other".to_vec(), Vec::new())]);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_snapshot_that_is_shorter_or_longer_is_an_error() {
        let bytes = written(&some_entries());
        let ends = (0..200).chain((200..bytes.len()).step_by(1009)).chain(bytes.len() - 20..bytes.len());
        for end in ends {
            assert!(matches!(read(&bytes[..end]), Err(Error::SnapshotDamaged { .. })), "cut off at {end}");
        }
        assert!(matches!(read(&[&bytes[..], b"x"].concat()), Err(Error::SnapshotDamaged { .. })));
        // The end of a shorter one, at the place of a block.
        let (header, end) = (&bytes[..16], &bytes[bytes.len() - 8..]);
        assert!(read(&[header, end].concat()).is_err());
    }

    #[test]
    fn lengths_that_lie_take_no_memory() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.add(&[255; 6]).unwrap();
        let bytes = writer.finish().unwrap();
        assert!(matches!(read(&bytes), Err(Error::SnapshotDamaged { .. })));
        let huge = [&bytes[..16], &u32::MAX.to_le_bytes(), &[0; 4]].concat();
        assert!(matches!(read(&huge), Err(Error::SnapshotDamaged { .. })));
    }
}
