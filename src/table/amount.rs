//! How much of a section lies between two edges, as far as its index tells.

use super::body::{Body, Verify, end, first};
use super::reader::TableReader;
use crate::error::Result;
use crate::format::KeyspaceId;
use crate::format::codec::Codec;
use crate::format::range::{Edge, Range};
use crate::format::section::Section;

/// How much there is of entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) entries: u64,
    /// That they take in files, values that stand apart included.
    pub(crate) bytes: u64,
}

impl Amount {
    /// All of a section.
    pub(crate) fn of(section: &Section) -> Self {
        let apart = section.value_files.iter().map(|share| share.bytes);
        let apart = apart.fold(0, u64::saturating_add);
        Self { entries: section.entries, bytes: section.end.saturating_sub(section.start).saturating_add(apart) }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A place in a section, and about how many landmarks are in front of it.
struct Standing {
    landmarks: u64,
    place: usize,
}

impl TableReader {
    /// What a section has between two edges. O(log n), and a few entries are read.
    ///
    /// The index knows how many landmarks it has and where each of its groups begins, but not how many are in front of a group:
    /// that is taken to be its share. All groups but the last are full, unless 31 entries take more than 512 KiB, so a
    /// difference of two of these numbers is wrong by the empty slots of the last group at the most.
    pub(crate) fn amount(&self, keyspace: KeyspaceId, (lower, upper): Range<'_>) -> Result<Amount> {
        let Some(number) = self.section_of(keyspace) else { return Ok(Amount::default()) };
        let section = self.section(number)?;
        let all = self.with_index(|index| Ok(index.section(number)?.landmarks))?;
        let (from, to) = (self.rank(number, lower, all)?, self.rank(number, upper, all)?);
        let landmarks = to.landmarks.saturating_sub(from.landmarks);
        let apart = Amount::of(section).bytes.saturating_sub(section.end.saturating_sub(section.start));
        let here = self.body.offset_of(section, to.place).saturating_sub(self.body.offset_of(section, from.place));
        Ok(Amount {
            entries: share(section.entries, landmarks, all),
            bytes: here.saturating_add(share(apart, landmarks, all)),
        })
    }

    fn rank(&self, number: usize, edge: Edge<&[u8]>, all: u64) -> Result<Standing> {
        let section = self.section(number)?;
        let (key, past) = match edge {
            Edge::Before(key) => (key, false),
            Edge::After(key) => (key, true),
            Edge::End => return Ok(Standing { landmarks: all, place: end(section) }),
        };
        let mut near = 0;
        let place = self.start(number, key, past, Verify::Once, &mut near)?;
        let landmarks = if place == first(section) {
            0
        } else if place == end(section) {
            all
        } else {
            self.with_index(|index| index.order(number)?.rank(near, place))?
        };
        Ok(Standing { landmarks, place })
    }
}

impl Body {
    /// Where in the file the entries from a place on stand, or the block with the first of them.
    fn offset_of(&self, section: &Section, place: usize) -> u64 {
        if section.codec != Codec::None && place >= end(section) {
            return section.end;
        }
        self.offset(section, place)
    }
}

/// The share `part / all` of a number.
fn share(of: u64, part: u64, all: u64) -> u64 {
    let share = u128::from(of) * u128::from(part.min(all)) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}
