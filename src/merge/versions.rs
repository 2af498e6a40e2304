//! What a rewrite keeps of a merge.

use super::{Located, Merge, Place};
use crate::error::Result;
use crate::format::Sequence;
use crate::format::entry::Kind;
use crate::visibility::{Cover, Visibility};

/// The versions in a merge, key by key, that a rule admits: what a rewrite keeps.
#[derive(Debug)]
pub(crate) struct Versions {
    merge: Merge,
    cover: Cover,
    rule: Visibility,
    /// The sequence of the version in front of the current one, if that is one of the same key.
    newer: Option<Sequence>,
    /// Whether the version returned last is a merge operand: what it works on is seen with it.
    operand: bool,
    /// Whether the key was removed between the version returned last and the one returned before.
    removed: bool,
    /// Whether the one returned last is there for the sake of a merge operand in front of it.
    below_operand: bool,
}

impl Versions {
    /// Starts in front of the first entry. `cover` has the range tombstones of all sources.
    pub(crate) fn new(merge: Merge, cover: Cover, rule: Visibility) -> Result<Self> {
        Self::starting_at(merge, cover, rule, Place::First)
    }

    /// Starts at `place`, which must not be behind a version of a key whose others follow.
    pub(crate) fn starting_at(mut merge: Merge, cover: Cover, rule: Visibility, place: Place<'_>) -> Result<Self> {
        merge.go(place)?;
        Ok(Self { merge, cover, rule, newer: None, operand: false, removed: false, below_operand: false })
    }

    /// The next admitted version, tombstones included, and whether it is the first admitted one of its key.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(Located, bool)>> {
        self.removed = false;
        let mut first = false;
        while let Some(top) = self.merge.top() {
            let new_key = self.newer.is_none();
            first |= new_key;
            if new_key {
                self.rule.start_key();
            }
            let removed = !self.cover.is_empty() && self.show_removals(&top);
            self.removed = !new_key && (self.removed || removed);
            let below_operand = self.operand && !new_key && !removed;
            let sequence = top.entry.sequence;
            let is_copy = self.newer == Some(sequence);
            let (_, same) = self.merge.advance_in_order()?;
            self.newer = same.then_some(sequence);
            if is_copy {
                continue;
            }
            self.below_operand = below_operand;
            let admitted = self.rule.admits(sequence) || self.below_operand;
            self.operand = admitted && top.entry.kind() == Kind::Merge;
            if admitted {
                return Ok(Some((top, first)));
            }
        }
        Ok(None)
    }

    /// Shows the rule the removals of the key that are newer than this version of it and not newer than the one before;
    /// returns whether there are any.
    fn show_removals(&mut self, top: &Located) -> bool {
        let mut any = false;
        let shown = self.newer;
        let removals = self.cover.removals(self.merge.key(top));
        let from = shown.map_or(0, |shown| removals.partition_point(|(removal, _)| *removal >= shown));
        for (removal, _) in removals.iter().skip(from).copied() {
            if removal < top.entry.sequence {
                break;
            }
            self.rule.admits(removal);
            any = true;
        }
        any
    }

    /// Whether the key was removed between the version returned last and the one returned before, another one of it.
    pub(crate) fn is_behind_removal(&self) -> bool {
        self.removed
    }

    /// Whether the version returned last is what a merge operand works on.
    pub(crate) fn is_below_operand(&self) -> bool {
        self.below_operand
    }

    pub(crate) fn merge(&self) -> &Merge {
        &self.merge
    }

    pub(crate) fn rule(&self) -> &Visibility {
        &self.rule
    }
}
