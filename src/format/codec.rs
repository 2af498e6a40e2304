//! FORMAT.md, section 10.10.
//!
//! The codecs of compressed blocks, as far as this build has them.

use crate::error::{Fault, Feature};

/// How the blocks of a section are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Codec {
    /// There are no blocks: entries stand in the file as they are.
    #[default]
    None = 0,
    Lz4 = 1,
    Zstd = 2,
}

impl Codec {
    pub(crate) fn decode(byte: u8) -> Result<Self, Fault> {
        match byte {
            0 => Ok(Self::None),
            1 => Ok(Self::Lz4),
            2 => Ok(Self::Zstd),
            other => Err(Feature::Algorithm(other).into()),
        }
    }
    /// Refuses a codec that this build does not have.
    pub(crate) fn check_built(self) -> Result<(), Feature> {
        let built = match self {
            Self::None => true,
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(feature = "zstd"),
        };
        if built { Ok(()) } else { Err(Feature::Compression(self as u8)) }
    }
}

/// The LZ4 block format.
#[cfg(feature = "lz4")]
pub(super) mod lz4 {
    /// Packs into `out`, whose contents are replaced.
    pub(crate) fn pack(raw: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        out.resize(lz4_flex::block::get_maximum_output_size(raw.len()), 0);
        lz4_flex::block::compress_into(raw, out).ok()
    }

    /// Unpacks into the front of `out`, never beyond it; returns the length.
    pub(crate) fn unpack(stored: &[u8], out: &mut [u8]) -> Option<usize> {
        lz4_flex::block::decompress_into(stored, out).ok()
    }
}

#[cfg(not(feature = "lz4"))]
pub(super) mod lz4 {
    pub(crate) fn pack(_: &[u8], _: &mut Vec<u8>) -> Option<usize> {
        None
    }

    pub(crate) fn unpack(_: &[u8], _: &mut [u8]) -> Option<usize> {
        None
    }
}

/// Zstandard frames.
#[cfg(feature = "zstd")]
pub(super) mod zstandard {
    use std::cell::RefCell;
    use std::io;

    use zstd::bulk::{Compressor, Decompressor};

    pub(crate) struct ZstdPacker(Compressor<'static>);

    impl ZstdPacker {
        pub(crate) fn new(level: i8) -> io::Result<Self> {
            Compressor::new(level.into()).map(Self)
        }

        /// Packs into `out`, whose contents are replaced; none if it does not shrink.
        pub(crate) fn pack(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Option<usize> {
            out.resize(raw.len(), 0);
            self.0.compress_to_buffer(raw, out.as_mut_slice()).ok()
        }
    }

    thread_local! {
        /// Contexts are large, so each thread keeps the one it has made.
        static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }

    /// Unpacks into the front of `out`, never beyond it; returns the length.
    pub(crate) fn unpack(stored: &[u8], out: &mut [u8]) -> Option<usize> {
        let unpacked = UNPACKER.try_with(|unpacker| {
            let mut unpacker = unpacker.try_borrow_mut().ok()?;
            if unpacker.is_none() {
                *unpacker = Decompressor::new().ok();
            }
            unpacker.as_mut()?.decompress_to_buffer(stored, out).ok()
        });
        unpacked.ok().flatten()
    }
}

#[cfg(not(feature = "zstd"))]
pub(super) mod zstandard {
    use std::io;

    pub(crate) struct ZstdPacker;

    impl ZstdPacker {
        pub(crate) fn new(_: i8) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        #[expect(clippy::unused_self, reason = "the twin of the one that packs")]
        pub(crate) fn pack(&mut self, _: &[u8], _: &mut Vec<u8>) -> Option<usize> {
            None
        }
    }

    pub(crate) fn unpack(_: &[u8], _: &mut [u8]) -> Option<usize> {
        None
    }
}
