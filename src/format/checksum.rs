//! FORMAT.md, sections 3 and 10.2.
//!
//! Checksums: CRC-32 (IEEE 802.3, as in zlib) over the identity of the file, the offset and the bytes.
//!
//! `checksum = CRC-32(identity ‖ offset as u64 LE ‖ bytes)`, so right bytes in a wrong place never verify: a block of another
//! file, a segment of another database, a log pasted into a value.

use crc32fast::Hasher;

use super::FileNumber;

/// 128 random bits that name a database or a table.
pub(crate) type Id = [u8; 16];

/// The checksum state after the identity of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    /// For files of a database: log segments, manifests and `CURRENT`. Identity: database id ‖ file number.
    pub(crate) fn of_file(database: &Id, number: FileNumber) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(database);
        hasher.update(&number.0.to_le_bytes());
        Self(hasher.finalize())
    }

    /// For tables and their indexes, which may be linked into another database. Identity: table id.
    pub(crate) fn of_table(table: &Id) -> Self {
        Self(crc32fast::hash(table))
    }

    /// The checksum of `bytes` at `offset` of the file.
    #[inline]
    pub(crate) fn sum(self, offset: u64, bytes: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(&offset.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_is_the_crc_of_the_concatenation() {
        let id = *b"0123456789abcdef";
        let mut plain = id.to_vec();
        plain.extend_from_slice(&7u64.to_le_bytes());
        plain.extend_from_slice(&4096u64.to_le_bytes());
        plain.extend_from_slice(b"payload");
        assert_eq!(Seed::of_file(&id, FileNumber(7)).sum(4096, b"payload"), crc32fast::hash(&plain));
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926, "the check value of CRC-32/ISO-HDLC");
    }

    #[test]
    fn place_and_identity_change_the_sum() {
        let seed = Seed::of_table(&[1; 16]);
        assert_ne!(seed.sum(0, b"x"), seed.sum(8, b"x"));
        assert_ne!(seed.sum(0, b"x"), Seed::of_table(&[2; 16]).sum(0, b"x"));
    }
}
