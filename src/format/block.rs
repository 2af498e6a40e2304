//! FORMAT.md, section 10.10.
//!
//! Blocks of a compressed section: what their directory says, and how their bytes are packed.
//!
//! A place in such a section is a block and a slot. As a number of bytes it is `block * 2^log2 + offset in the unpacked
//! block`, and a locator counts it in units, as it counts the places of a plain section.

use std::borrow::Cow;
use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::codec::{Codec, lz4, zstandard};
use super::{UNIT, bytes};
use crate::error::{Damage, Fault};

/// Smallest and largest block size as powers of two: 4 KiB to 1 MiB.
pub(crate) const BLOCK_LOG2: std::ops::RangeInclusive<u8> = 12..=20;

/// Blocks begin at multiples of this, so that one that is stored plain can be read where it is.
pub(crate) const BLOCK_ALIGNMENT: u64 = 16;

/// A block that is larger than the block size is at most this many times as long as what is stored of it.
const RATIO_MAX: u64 = 1024;

/// Bits of a locator: it counts units in 2^35 bytes of places.
const PLACE_LOG2: u8 = 35;

/// Blocks that a section may have.
#[expect(clippy::arithmetic_side_effects, reason = "a block size is at most 2^20")]
pub(crate) const fn blocks_max(block_log2: u8) -> u32 {
    1 << (PLACE_LOG2 - block_log2)
}

pub(crate) const BLOCK_RECORD_BYTES: u64 = 16;
const _: () = assert!(size_of::<BlockRecord>() == 16 && align_of::<BlockRecord>() == 1);

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BlockRecord {
    start_units: U32,
    /// Length of the unpacked block.
    raw_units: U32,
    /// Length of what is stored; the unpacked length if it is stored as it is.
    stored_bytes: U64,
}

/// Where one block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    /// In the file.
    pub(crate) start: u64,
    pub(crate) stored: u64,
    pub(crate) raw: u64,
}

/// Rounds up to a multiple of [`BLOCK_ALIGNMENT`]. The caller's value is an offset in a file.
#[expect(clippy::arithmetic_side_effects, reason = "file offsets and lengths are far below 2^63")]
pub(crate) const fn align_block(bytes: u64) -> u64 {
    (bytes + (BLOCK_ALIGNMENT - 1)) & !(BLOCK_ALIGNMENT - 1)
}

impl BlockPlace {
    /// Whether the block is stored as it is.
    pub(crate) fn is_plain(&self) -> bool {
        self.stored == self.raw
    }

    /// Where the next block begins.
    pub(crate) fn next(&self) -> u64 {
        align_block(self.start.saturating_add(self.stored))
    }

    /// The block's own bytes, given what is `stored` of it: the same if it is stored as it is.
    pub(crate) fn unpacked<'b>(&self, codec: Codec, stored: &'b [u8]) -> Result<Cow<'b, [u8]>, Fault> {
        if self.is_plain() {
            return Ok(Cow::Borrowed(stored));
        }
        let length = usize::try_from(self.raw).map_err(|_| Damage::BadBlock)?;
        let mut raw = Vec::new();
        raw.try_reserve_exact(length).map_err(|_| Damage::BadBlock)?;
        raw.resize(length, 0);
        unpack(codec, stored, &mut raw)?;
        Ok(Cow::Owned(raw))
    }

    /// Appends the record of the block.
    #[expect(clippy::cast_possible_truncation, reason = "the writer keeps offsets and lengths below 2^35")]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let record = BlockRecord {
            start_units: U32::new((self.start / UNIT) as u32),
            raw_units: U32::new((self.raw / UNIT) as u32),
            stored_bytes: U64::new(self.stored),
        };
        out.extend_from_slice(record.as_bytes());
    }

    /// The record of block `number` of a section at `within`, whose directory of blocks begins `directory`. Whatever it says,
    /// the block lies in the section, and its unpacked length is bounded by what is stored.
    pub(super) fn read(directory: &[u8], number: u32, within: &Range<u64>, block_log2: u8) -> Result<Self, Damage> {
        let record: BlockRecord = bytes::read(directory, u64::from(number).saturating_mul(BLOCK_RECORD_BYTES))?;
        let place = Self {
            start: u64::from(record.start_units.get()).saturating_mul(UNIT),
            stored: record.stored_bytes.get(),
            raw: u64::from(record.raw_units.get()).saturating_mul(UNIT),
        };
        let inside = place.start >= within.start
            && place.start.checked_add(place.stored).is_some_and(|end| end <= within.end)
            && place.start.is_multiple_of(BLOCK_ALIGNMENT);
        let largest = place.stored.saturating_mul(RATIO_MAX).max(1 << block_log2);
        if !inside {
            return Err(Damage::OutOfBounds);
        }
        if place.raw == 0 || place.stored == 0 || place.stored > place.raw || place.raw > largest {
            return Err(Damage::BadField);
        }
        Ok(place)
    }
}

/// Packs blocks with one codec.
pub(crate) enum Packer {
    Lz4,
    Zstd(zstandard::ZstdPacker),
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Packer")
    }
}

impl Packer {
    /// None without a codec. An error if there is no memory for it.
    pub(crate) fn new(codec: Codec, level: i8) -> std::io::Result<Option<Self>> {
        match codec {
            Codec::None => Ok(None),
            Codec::Lz4 => Ok(Some(Self::Lz4)),
            Codec::Zstd => zstandard::ZstdPacker::new(level).map(|packer| Some(Self::Zstd(packer))),
        }
    }

    /// Packs `raw` into `out`, whose contents are replaced; returns whether it has shrunk by an eighth at least, so that
    /// unpacking is worth it, and not so far that a reader would refuse it.
    pub(crate) fn pack(&mut self, raw: &[u8], block_log2: u8, out: &mut Vec<u8>) -> bool {
        let packed = match self {
            Self::Lz4 => lz4::pack(raw, out),
            Self::Zstd(packer) => packer.pack(raw, out),
        };
        let Some(length) = packed else { return false };
        out.truncate(length);
        let (stored, length) = (length as u64, raw.len() as u64);
        let largest = stored.saturating_mul(RATIO_MAX).max(1 << block_log2);
        stored > 0 && stored <= length.saturating_sub(length / 8) && length <= largest
    }
}

/// Unpacks a block into `out`, which has the length that the block must unpack to.
pub(crate) fn unpack(codec: Codec, stored: &[u8], out: &mut [u8]) -> Result<(), Fault> {
    codec.check_built()?;
    let expected = out.len();
    let unpacked = match codec {
        Codec::None => None,
        Codec::Lz4 => lz4::unpack(stored, out),
        Codec::Zstd => zstandard::unpack(stored, out),
    };
    if unpacked == Some(expected) { Ok(()) } else { Err(Damage::BadBlock.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codecs() -> Vec<Codec> {
        [Codec::Lz4, Codec::Zstd].into_iter().filter(|codec| codec.check_built().is_ok()).collect()
    }

    fn packed(codec: Codec, raw: &[u8], block_log2: u8) -> Option<Vec<u8>> {
        let mut out = vec![1, 2, 3];
        let mut packer = Packer::new(codec, 1).unwrap().unwrap();
        packer.pack(raw, block_log2, &mut out).then_some(out)
    }

    #[test]
    fn blocks_round_trip_and_lying_lengths_are_damage() {
        let raw: Vec<u8> = (0..20_000u32).flat_map(|i| (i / 7 % 5).to_le_bytes()).collect();
        for codec in codecs() {
            let stored = packed(codec, &raw, 14).expect("it shrinks");
            let mut out = vec![9; raw.len()];
            unpack(codec, &stored, &mut out).unwrap();
            assert!(out == raw);
            for wrong in [0, 1, raw.len() - 8, raw.len() - 1, raw.len() + 1, raw.len() + 8] {
                assert_eq!(unpack(codec, &stored, &mut vec![0; wrong]), Err(Damage::BadBlock.into()), "{wrong}");
            }
            for cut in [0, 1, stored.len() / 2, stored.len() - 1] {
                assert_eq!(unpack(codec, &stored[..cut], &mut out), Err(Damage::BadBlock.into()), "{cut}");
            }
            let mut flipped = stored.clone();
            for bit in 0..stored.len() * 8 {
                flipped[bit / 8] ^= 1 << (bit % 8);
                // Checksums find it; here, nothing may go beyond the buffer or panic.
                let _ = unpack(codec, &flipped, &mut out);
                flipped[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn what_does_not_shrink_or_shrinks_too_far_stays_plain() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(16_384)
        .collect();
        for codec in codecs() {
            assert_eq!(packed(codec, &noise, 14), None);
            assert!(packed(codec, &[0; 4096], 12).is_some(), "a block of the block size may shrink to anything");
        }
        if Codec::Zstd.check_built().is_ok() {
            assert_eq!(packed(Codec::Zstd, &vec![0; 4 << 20], 12), None, "a bomb is not written");
        }
    }
}
