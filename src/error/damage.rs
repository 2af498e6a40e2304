//! What bytes can be wrong with.

use std::fmt;

/// A part of the format that this build does not understand.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// A format version other than 1.
    Version(u16),
    /// Bits of the required-feature word that are not known.
    RequiredBits(u32),
    /// An entry of a kind that is reserved or not known.
    EntryKind(u8),
    /// An entry with an extension of a type that is not known and may not be ignored.
    EntryExtension(u8),
    /// The value of a key is what a merge operator makes of several entries, and this build has no such operator. The entries
    /// are kept as they are.
    MergeOperand,
    /// A group or record of a kind that is not known.
    RecordKind(u16),
    /// A key order, hash, compression or encryption id other than the ones of format 1.
    Algorithm(u8),
    /// Blocks are compressed with a codec that this build was made without: 1 is LZ4 (feature `lz4`), 2 is Zstandard (feature
    /// `zstd`).
    Compression(u8),
}

/// What is wrong with damaged bytes.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The file does not begin (or end) with its magic number.
    BadMagic,
    /// Stored and computed checksum differ.
    BadChecksum,
    /// The file ends before the structure does.
    Truncated,
    /// The file is longer or shorter than its own footer, or the manifest, says.
    WrongLength,
    /// A length, offset or count points outside its file or region.
    OutOfBounds,
    /// A field that must be zero is not, or a field has a value that the format rules out.
    BadField,
    /// Entries, sections or tables are not in order.
    OutOfOrder,
    /// The file belongs to another database, or is another file under this name.
    WrongFile,
    /// A file that the database needs is not there.
    Missing,
    /// The manifest and the table describe different contents.
    ManifestMismatch,
    /// The sequence number of an entry does not follow from its place.
    BadSequence,
    /// An index leads to a wrong place, or does not lead to a key that its table holds.
    IndexMismatch,
    /// An entry or a table belongs to a keyspace that was never created.
    UnknownKeyspace,
    /// A compressed block does not unpack to the length that its table says.
    BadBlock,
    /// A table names a value file, or a place in one, where there is no value for its entry.
    BadPointer,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadMagic => "the magic number is missing",
            Self::BadChecksum => "the checksum does not match",
            Self::Truncated => "the file ends too early",
            Self::WrongLength => "the file does not have the recorded length",
            Self::OutOfBounds => "a length or offset points outside the file",
            Self::BadField => "a field has a value that the format rules out",
            Self::OutOfOrder => "entries are not in order",
            Self::WrongFile => "this is another database's file, or another file under this name",
            Self::Missing => "the file is missing",
            Self::ManifestMismatch => "manifest and table describe different contents",
            Self::BadSequence => "an entry's sequence number does not follow from its place",
            Self::IndexMismatch => "the index does not match its table",
            Self::BadBlock => "a compressed block does not unpack to its length",
            Self::UnknownKeyspace => "this belongs to a keyspace that was never created",
            Self::BadPointer => "a table names a value that is not there",
        })
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "format version {version} is not supported (this build reads version 1)")
            }
            Self::RequiredBits(bits) => write!(f, "required feature bits {bits:#x} are not supported by this build"),
            Self::EntryKind(byte) => write!(f, "entries with header byte {byte:#04x} are not supported by this build"),
            Self::EntryExtension(kind) => {
                write!(f, "entries with an extension of type {kind:#04x} are not supported by this build")
            }
            Self::MergeOperand => f.write_str("this value needs a merge operator, which this build does not have"),
            Self::RecordKind(kind) => write!(f, "records of kind {kind} are not supported by this build"),
            Self::Algorithm(id) => write!(f, "algorithm id {id} is not supported by this build"),
            Self::Compression(1) => f.write_str("this build cannot read LZ4: it was made without the feature `lz4`"),
            Self::Compression(2) => {
                f.write_str("this build cannot read Zstandard: it was made without the feature `zstd`")
            }
            Self::Compression(id) => write!(f, "codec {id} is not supported by this build"),
        }
    }
}
