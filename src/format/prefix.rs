//! FORMAT.md, section 4.
//!
//! The first 24 bytes of every file: what it is, and what a reader must understand.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Damage, Fault, Feature};

/// The version of the format that this crate writes and reads.
pub(crate) const VERSION: u16 = 1;

/// Identifies the kind of a file. The first byte has its high bit set (a 7-bit transfer breaks it visibly) and the last two
/// are CR LF (a line-end conversion breaks them), after the example of PNG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Magic(pub(crate) [u8; 8]);

impl Magic {
    pub(crate) const CURRENT: Self = Self(*b"\x89mlCUR\r\n");
    pub(crate) const MANIFEST: Self = Self(*b"\x89mlMAN\r\n");
    pub(crate) const SEGMENT: Self = Self(*b"\x89mlWAL\r\n");
    pub(crate) const TABLE: Self = Self(*b"\x89mlSST\r\n");
    pub(crate) const INDEX: Self = Self(*b"\x89mlIDX\r\n");
    pub(crate) const VALUES: Self = Self(*b"\x89mlVAL\r\n");
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Prefix {
    magic: [u8; 8],
    version: U16,
    reserved: [u8; 2],
    /// A reader that does not know one of these bits must refuse the file. None is set in this version.
    required: U32,
    /// Hints, which a reader may ignore. None is set in this version.
    optional: U32,
    reserved_tail: [u8; 4],
}

const _: () = assert!(size_of::<Prefix>() == 24 && align_of::<Prefix>() == 1);

impl Prefix {
    pub(crate) fn new(magic: Magic) -> Self {
        Self {
            magic: magic.0,
            version: U16::new(VERSION),
            reserved: [0; 2],
            required: U32::ZERO,
            optional: U32::ZERO,
            reserved_tail: [0; 4],
        }
    }

    /// Checks the magic and that this build understands the file: what comes before the checksum of the header, which a later
    /// version may have elsewhere.
    pub(crate) fn check(&self, magic: Magic) -> Result<(), Fault> {
        if self.magic != magic.0 {
            return Err(Damage::BadMagic.into());
        }
        if self.version.get() != VERSION {
            return Err(Feature::Version(self.version.get()).into());
        }
        if self.required.get() != 0 {
            return Err(Feature::RequiredBits(self.required.get()).into());
        }
        Ok(())
    }

    /// Whether the reserved bytes are zero, which comes after the checksum: of a torn header nothing is known.
    pub(crate) fn is_reserved_zero(&self) -> bool {
        self.reserved == [0; 2] && self.reserved_tail == [0; 4]
    }
}
