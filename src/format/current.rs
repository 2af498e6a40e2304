//! FORMAT.md, section 5.
//!
//! `CURRENT`: 64 bytes that name the manifest.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::{Id, Seed};
use super::prefix::{Magic, Prefix};
use super::{FileNumber, bytes};
use crate::error::{Damage, Fault};

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Current {
    prefix: Prefix,
    database: Id,
    manifest: U64,
    reserved: [u8; 12],
    checksum: U32,
}

pub(crate) const CURRENT_BYTES: usize = 64;
const CHECKED: u64 = 60;
const _: () = assert!(size_of::<Current>() == CURRENT_BYTES && align_of::<Current>() == 1);

impl Current {
    pub(crate) fn new(database: Id, manifest: FileNumber) -> Self {
        let mut current = Self {
            prefix: Prefix::new(Magic::CURRENT),
            database,
            manifest: U64::new(manifest.0),
            reserved: [0; 12],
            checksum: U32::ZERO,
        };
        current.checksum = U32::new(current.sum());
        current
    }

    /// Parses the whole file.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, Fault> {
        let current: Self = bytes::read(file, 0).map_err(|_| Damage::Truncated)?;
        current.prefix.check(Magic::CURRENT)?;
        if file.len() != CURRENT_BYTES {
            return Err(Damage::WrongLength.into());
        }
        if current.checksum.get() != current.sum() {
            return Err(Damage::BadChecksum.into());
        }
        if !current.prefix.is_reserved_zero() || !bytes::all_zero(&current.reserved) {
            return Err(Damage::BadField.into());
        }
        Ok(current)
    }

    fn sum(&self) -> u32 {
        let checked = bytes::slice(self.as_bytes(), 0, CHECKED).unwrap_or_default();
        Seed::of_file(&self.database, self.manifest()).sum(0, checked)
    }

    pub(crate) fn database(&self) -> Id {
        self.database
    }

    pub(crate) fn manifest(&self) -> FileNumber {
        FileNumber(self.manifest.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_refused() {
        let current = Current::new([7; 16], FileNumber(3));
        let good = current.as_bytes().to_vec();
        assert_eq!(Current::parse(&good).map(|c| c.manifest()), Ok(FileNumber(3)));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Optional feature bits are covered by the checksum like everything else.
            assert!(Current::parse(&bad).is_err(), "bit {bit}");
        }
        assert!(Current::parse(&good[..63]).is_err());
    }
}
