//! What is added to a table as one number, to be compared with what is read back.

use crate::format::Sequence;
use crate::format::entry::Entry;
use crate::format::fragment::Fragment;
use crate::format::range::Edge;
use crate::format::values::Pointer;
use crate::format::{KeyspaceId, key_hash};

/// Two odd constants with bits all over, of the golden ratio and of XXH64.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
const STEP: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// A running digest of entries in their order: their keys, by the hash that the index needs as well, sequence numbers, kinds,
/// lengths, and where pointers lead. Not of the values, which are copied with their entry by one call: there is a slice of the
/// right length or there is none, and the checksums are made of the copy.
///
/// It is made against bugs and not against enemies: an entry that is lost, doubled, out of its place or changed shows with
/// all but a chance of 2^-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunningDigest(u64);

impl RunningDigest {
    #[inline]
    pub(super) fn add(&mut self, key_hash: u64, sequence: Sequence, entry: &Entry, pointer: Option<Pointer>) {
        let key_bytes = (entry.key_end - entry.key_start) as u64;
        let shape = (entry.value_bytes() as u64) << 24 | key_bytes << 8 | u64::from(entry.kind() as u8);
        self.step(key_hash ^ sequence.0.wrapping_mul(MIX).rotate_left(32) ^ shape.wrapping_mul(STEP));
        if let Some(pointer) = pointer {
            self.step(pointer.file.0.wrapping_mul(STEP) ^ pointer.offset.wrapping_mul(MIX) ^ u64::from(pointer.length));
        }
    }

    /// Adds the record of a value file that `pointer` leads to.
    pub(super) fn add_value(&mut self, keyspace: KeyspaceId, sequence: Sequence, key: &[u8], pointer: Pointer) {
        self.step(key_hash(keyspace, key) ^ sequence.0.wrapping_mul(MIX).rotate_left(32));
        self.step(pointer.offset.wrapping_mul(STEP) ^ u64::from(pointer.length) << 16 ^ key.len() as u64);
    }

    /// Adds a range tombstone.
    pub(super) fn add_range(&mut self, range: Fragment<'_>) {
        let edge = |edge: Edge<&[u8]>| key_hash(KeyspaceId(u32::from(edge.side())), edge.key());
        self.step(edge(range.start));
        self.step(edge(range.end));
        self.step(range.sequences.len() as u64);
        range.sequences.iter().for_each(|sequence| self.step(sequence.0));
    }

    #[inline]
    pub(super) fn step(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(MIX);
    }
}
