//! The tables of one level of one keyspace, and their fences.
//!
//! Which of them may have a key is told by the first bytes of the keys between which their sections lie, kept side by side: a
//! look into the records of the tables is three dependent loads and a comparison of strings for each of them. With 4,000,000
//! entries of 16 + 100 B in eight tables, medians of three, that and handles of one word took an absent key from 234 to 188 ns,
//! a get from 580 to 525 and a seek with ten entries from 2,470 to 2,260; with 500,000 in one table, from 84 to 68, 360 to 347
//! and 1,700 to 1,450. Looking for the tables of all levels before the first one is asked made absent keys slower again (93).

use std::ops::Deref;
use std::sync::Arc;

use super::Table;
use crate::format::range::Edge;
use crate::format::section::Section;
use crate::format::{common_prefix, key_head};

/// Tables in order of key that do not overlap, each with one section.
#[derive(Debug, Clone, Default)]
pub(crate) struct Level(Option<Arc<Fenced>>);

#[derive(Debug)]
struct Fenced {
    tables: Box<[Arc<Table>]>,
    /// What the keys of all edges begin with.
    shared: Box<[u8]>,
    /// Of each table.
    fences: Box<[Fence]>,
}

/// The [heads](key_head) of the keys that the edges of a section are next to, behind what they share. If one head is below another
/// one, so is its key; if they are equal, they say nothing.
#[derive(Debug, Clone, Copy)]
struct Fence {
    lower: u64,
    upper: u64,
}

impl FromIterator<Arc<Table>> for Level {
    /// Takes time by the number of tables.
    fn from_iter<I: IntoIterator<Item = Arc<Table>>>(tables: I) -> Self {
        let tables: Box<[_]> = tables.into_iter().collect();
        let sections = || tables.iter().map(|table| table.only_section());
        let keys = sections().flatten().flat_map(|section| [section.lower.key(), section.upper.key()]);
        let Some(shared) = keys.reduce(common_prefix) else { return Self::default() };
        let head_of = |edge: &Edge| match edge {
            Edge::Before(key) | Edge::After(key) => key_head(key.split_at(shared.len()).1),
            Edge::End => u64::MAX,
        };
        let fences = sections().map(|section| match section {
            Some(section) => Fence { lower: head_of(&section.lower), upper: head_of(&section.upper) },
            None => Fence { lower: 0, upper: u64::MAX },
        });
        let (fences, shared) = (fences.collect(), shared.into());
        Self(Some(Arc::new(Fenced { tables, shared, fences })))
    }
}

impl Deref for Level {
    type Target = [Arc<Table>];

    #[inline]
    fn deref(&self) -> &[Arc<Table>] {
        self.0.as_deref().map_or(&[], |fenced| &fenced.tables)
    }
}

impl Level {
    /// How many tables end before a key.
    #[inline]
    pub(crate) fn end_before(&self, key: &[u8]) -> usize {
        self.0.as_deref().map_or(0, |fenced| fenced.count(key, |fence| fence.upper, |section| &section.upper))
    }

    /// How many tables begin at or before a key.
    #[inline]
    pub(crate) fn begin_at_or_before(&self, key: &[u8]) -> usize {
        self.0.as_deref().map_or(0, |fenced| fenced.count(key, |fence| fence.lower, |section| &section.lower))
    }

    /// The table that has a key, if one does.
    #[inline]
    pub(crate) fn table_with(&self, key: &[u8]) -> Option<&Arc<Table>> {
        let fenced = self.0.as_deref()?;
        // What lies between two keys begins with what both begin with.
        let head = fenced.head_of(key)?;
        let at = fenced.count_by(head, key, |fence| fence.upper, |section| &section.upper);
        let (table, lower) = (fenced.tables.get(at)?, fenced.fences.get(at)?.lower);
        (lower < head || lower == head && table.only_section()?.lower.is_in_front_of(key)).then_some(table)
    }
}

impl Fenced {
    /// The head of a key that begins with what the keys of the edges share.
    #[inline]
    fn head_of(&self, key: &[u8]) -> Option<u64> {
        // Most share nothing, and a comparison of nothing is a call as well.
        if self.shared.is_empty() { Some(key_head(key)) } else { key.strip_prefix(&*self.shared).map(key_head) }
    }

    /// How many tables have an edge that is in front of a key.
    #[inline]
    fn count(&self, key: &[u8], head_of: impl Fn(&Fence) -> u64, edge: impl Fn(&Section) -> &Edge) -> usize {
        match self.head_of(key) {
            Some(head) => self.count_by(head, key, head_of, edge),
            // All edges are on one side of it.
            None if key < &*self.shared => 0,
            None => self.tables.len(),
        }
    }

    /// The same for a key with this head.
    #[inline]
    fn count_by(
        &self,
        head: u64,
        key: &[u8],
        head_of: impl Fn(&Fence) -> u64,
        edge: impl Fn(&Section) -> &Edge,
    ) -> usize {
        let below = self.fences.partition_point(|fence| head_of(fence) < head);
        let tied = self.fences.iter().skip(below).take_while(|fence| head_of(fence) == head);
        let tied = tied.zip(self.tables.iter().skip(below));
        below + tied.take_while(|(_, table)| table.only_section().is_some_and(|s| edge(s).is_in_front_of(key))).count()
    }
}
