//! The one rule that says which versions of a key matter, shared by reads, the sorted view of a memtable, and compaction.
//! A range tombstone counts as a version of every key in its range.

mod range_set;
mod tombstones;

pub(crate) use range_set::{Joined, RangeSet};
pub(crate) use tombstones::{Cover, Fragments};

use crate::format::Sequence;

/// Someone at sequence `s` sees, of every key, the newest version that is not newer than `s`.
///
/// A `Visibility` holds the sequences of all who look. Versions of one key are shown to it from newest to oldest; it admits
/// those that at least one of them sees.
#[derive(Debug, Clone)]
pub(crate) struct Visibility {
    /// Ascending, without duplicates.
    points: Vec<Sequence>,
    /// Versions above this one are admitted in any case.
    keep_above: Sequence,
    /// Nobody registers at a lower one any more.
    cut: Sequence,
    /// `points[..unserved]` have not seen a version of the current key yet.
    unserved: usize,
}

impl Visibility {
    /// What a rewrite must keep: everything newer than `cut`, and what the registered `snapshots` (ascending) and a reader at
    /// `cut` see. Snapshots taken later are at `cut` or above, so they lose nothing either.
    pub(crate) fn retain(mut snapshots: Vec<Sequence>, cut: Sequence) -> Self {
        snapshots.retain(|s| *s < cut);
        snapshots.push(cut);
        snapshots.dedup();
        let unserved = snapshots.len();
        Self { points: snapshots, keep_above: cut, cut, unserved }
    }

    /// The same, where everything behind the cut and up to `last` becomes visible at once: nobody ever stands between the two.
    pub(crate) fn with_group(mut self, last: Sequence) -> Self {
        if last > self.keep_above {
            self.points.push(last);
            self.keep_above = last;
            self.start_key();
        }
        self
    }

    /// Readers at this sequence number or above, and the registered ones, miss nothing.
    pub(crate) fn cut(&self) -> Sequence {
        self.cut
    }

    /// The next versions belong to another key.
    #[inline]
    pub(crate) fn start_key(&mut self) {
        self.unserved = self.points.len();
    }

    /// Whether anyone sees the version at `sequence`, the next older one of the current key.
    #[inline]
    pub(crate) fn admits(&mut self, sequence: Sequence) -> bool {
        if sequence > self.keep_above {
            return true;
        }
        let still_unserved = self.points[..self.unserved].partition_point(|point| *point < sequence);
        let seen = still_unserved < self.unserved;
        self.unserved = still_unserved;
        seen
    }

    /// No version of the current key that is older than `shown`, the one shown last, and above the answer is admitted; none
    /// at all if there is no answer. For those who need not show every version.
    #[inline]
    pub(crate) fn highest_admitted(&self, shown: Sequence) -> Option<Sequence> {
        if shown > self.keep_above {
            return shown.0.checked_sub(1).map(Sequence);
        }
        self.unserved.checked_sub(1).and_then(|last| self.points.get(last)).copied()
    }

    /// Whether everybody who sees `older` sees `newer`, now and later: nobody stands between the two.
    pub(crate) fn sees_together(&self, older: Sequence, newer: Sequence) -> bool {
        let between = self.points.partition_point(|point| *point < older)..self.points.len();
        newer <= self.keep_above && self.points[between].first().is_none_or(|point| *point >= newer)
    }

    /// The sequence of whoever sees the oldest state.
    pub(crate) fn oldest(&self) -> Sequence {
        self.points.first().copied().unwrap_or(self.keep_above)
    }

    /// Whether every one who looks is at `sequence` or above, so that all of them see the same of what is older.
    pub(crate) fn all_at_or_above(&self, sequence: Sequence) -> bool {
        self.points.first().is_none_or(|oldest| *oldest >= sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(mut rule: Visibility, versions: &[u64]) -> Vec<u64> {
        rule.start_key();
        versions.iter().copied().filter(|v| rule.admits(Sequence(*v))).collect()
    }

    #[test]
    fn a_rewrite_keeps_what_any_snapshot_sees() {
        let rule =
            |snapshots: &[u64]| Visibility::retain(snapshots.iter().map(|s| Sequence(*s)).collect(), Sequence(20));
        assert_eq!(admitted(rule(&[]), &[25, 22, 19, 18, 3]), [25, 22, 19]);
        assert_eq!(admitted(rule(&[4, 18]), &[25, 19, 18, 17, 5, 3, 2]), [25, 19, 18, 3]);
        assert_eq!(admitted(rule(&[20, 21]), &[21, 20, 19]), [21, 20]);
    }

    #[test]
    fn versions_that_are_passed_over_would_not_have_been_admitted() {
        for snapshots in [&[][..], &[4, 18], &[0, 3, 9], &[20, 21]] {
            for last in [0, 20, 25] {
                let snapshots = snapshots.iter().map(|s| Sequence(*s)).collect();
                let rule = Visibility::retain(snapshots, Sequence(20)).with_group(Sequence(last));
                let all: Vec<u64> = (0..30).rev().collect();
                let mut passing = rule.clone();
                let (mut seen, mut next) = (Vec::new(), Some(Sequence(29)));
                passing.start_key();
                while let Some(sequence) = next {
                    seen.extend(passing.admits(sequence).then_some(sequence.0));
                    next = passing.highest_admitted(sequence);
                }
                assert_eq!(seen, admitted(rule, &all));
            }
        }
    }

    #[test]
    fn versions_are_seen_together_unless_somebody_stands_between_them() {
        let rule = Visibility::retain(vec![Sequence(4), Sequence(9)], Sequence(20));
        let together = |older, newer| rule.sees_together(Sequence(older), Sequence(newer));
        assert!(together(5, 9) && together(5, 6) && together(10, 20) && together(1, 4));
        assert!(!together(4, 5) && !together(9, 10) && !together(3, 12) && !together(5, 10));
        // Whoever registers later may stand above the cut.
        assert!(!together(20, 21) && !together(21, 22) && !together(15, 21));
    }

    #[test]
    fn of_what_becomes_visible_at_once_the_newest_version_is_kept() {
        let rule = |last: u64| Visibility::retain(vec![Sequence(4)], Sequence(20)).with_group(Sequence(last));
        assert_eq!(admitted(rule(25), &[24, 22, 21, 19, 18, 4, 3]), [24, 19, 4]);
        assert_eq!(admitted(rule(25), &[26, 25, 20, 3]), [26, 25, 20, 3]);
        assert_eq!(admitted(rule(20), &[22, 21, 20, 19, 1]), [22, 21, 20, 1]);
        assert_eq!(rule(25).cut(), Sequence(20));
    }
}
