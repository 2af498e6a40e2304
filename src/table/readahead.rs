//! What a walk over a file asks for before it gets there.
//!
//! The kernel is told that tables are read at random, so that a lookup brings in the pages that it needs and no others; what
//! is read in a row, it then does not see. A walk asks for it: for nothing as long as it may be over after a page, then for a
//! window that doubles (as the kernel's own readahead does for `read`), in the direction in which it goes, again whenever
//! half of the window is behind it, so that the disk works while the entries are looked at.
//!
//! 3 M entries of 16 + 100 B in 256 MiB of memory, kernel readahead of 8 MiB, machine busy, ns an entry forwards / backwards:
//! without advice 325 / 487; at random and without windows 2,078 / 1,328; with windows up to 512 KiB 395 / 459.

use std::ops::Range;

/// The first window: what a walk over some tens of entries needs.
const FIRST_BYTES: usize = 16 << 10;

/// How far from what has been walked a step of the same walk may be: walks backwards go to the beginning of an interval of
/// entries, and from there forwards.
const NEAR_BYTES: usize = 64 << 10;

const PAGE_BYTES: usize = 4 << 10;

/// Offsets in the file of one walk. All ranges are of whole chunks.
#[derive(Debug, Clone, Default)]
pub(super) struct Readahead {
    walked: Range<usize>,
    /// What has been asked for; around `walked`.
    asked: Range<usize>,
    /// The last window in each direction.
    forward: usize,
    backward: usize,
}

impl Readahead {
    /// For a walk that is known to go on, forwards: it begins with a window of this size.
    pub(super) fn eager(window: usize) -> Self {
        Self { forward: window, ..Self::default() }
    }

    /// Whether it has not seen a step.
    pub(super) fn is_new(&self) -> bool {
        self.walked.is_empty()
    }

    /// Notes that `step` is read now. Answers what to ask for, of the bytes in front of `end`, with windows of at most `most`
    /// bytes; nothing if that is empty.
    pub(super) fn step(&mut self, step: Range<usize>, end: usize, most: usize) -> Range<usize> {
        if most == 0 {
            return 0..0;
        }
        let is_first = self.walked.is_empty();
        let goes_on = step.start <= self.walked.end.saturating_add(NEAR_BYTES)
            && step.end.saturating_add(NEAR_BYTES) >= self.walked.start;
        if is_first || !goes_on {
            let window = if is_first { self.forward.min(most) } else { 0 };
            let asked = step.start..step.end.max(step.start.saturating_add(window)).min(end);
            *self = Self { walked: step.clone(), asked: asked.clone(), forward: window, backward: 0 };
            // A single page is read at once anyway.
            return if asked.len() > PAGE_BYTES { asked } else { 0..0 };
        }
        if step.end > self.walked.end {
            self.walked.end = step.end;
            if step.end.saturating_add(self.forward / 2) >= self.asked.end && self.asked.end < end {
                self.forward = (self.forward * 2).clamp(FIRST_BYTES.min(most), most);
                let from = self.asked.end;
                self.asked.end = from.saturating_add(self.forward).max(step.end).min(end);
                return from..self.asked.end;
            }
        } else if step.start < self.walked.start {
            self.walked.start = step.start;
            if step.start <= self.asked.start.saturating_add(self.backward / 2) && self.asked.start > 0 {
                self.backward = (self.backward * 2).clamp(FIRST_BYTES.min(most), most);
                let to = self.asked.start;
                self.asked.start = to.saturating_sub(self.backward).min(step.start);
                return self.asked.start..to;
            }
        }
        0..0
    }

    /// The part of `step` and what lies `bytes` behind it that has been asked for: reading it waits for the disk at most once.
    pub(super) fn asked(&self, step: &Range<usize>, bytes: usize) -> Range<usize> {
        step.start..step.end.saturating_add(bytes).min(self.asked.end).max(step.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 128 << 10;
    const CHUNK: usize = 4 << 10;

    /// What a walk over these chunks asks for, in chunks.
    fn asked(ahead: &mut Readahead, chunks: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
        let steps = chunks.into_iter().map(|chunk| ahead.step(chunk * CHUNK..(chunk + 1) * CHUNK, 1000 * CHUNK, MOST));
        steps.filter(|asked| !asked.is_empty()).map(|asked| asked.start / CHUNK..asked.end / CHUNK).collect()
    }

    #[test]
    fn a_lookup_asks_for_nothing() {
        let mut ahead = Readahead::default();
        assert!(asked(&mut ahead, [7, 500, 3, 3, 999]).is_empty());
    }

    #[test]
    fn windows_double_in_the_direction_of_the_walk() {
        let forward = asked(&mut Readahead::default(), 100..200);
        assert_eq!(forward[..4], [101..105, 105..113, 113..129, 129..161]);
        assert!(forward[3..].iter().all(|window| window.len() * CHUNK == MOST), "{forward:?}");
        let backward = asked(&mut Readahead::default(), (0..300).rev());
        assert_eq!(backward[..4], [295..299, 287..295, 271..287, 239..271]);
        assert_eq!(backward.last().unwrap().start, 0);
    }

    #[test]
    fn nothing_is_asked_for_twice_and_everything_before_it_is_read() {
        for mut steps in [(0..1000).collect::<Vec<_>>(), (0..1000).rev().collect()] {
            // Backwards, each interval is read forwards.
            for interval in steps.chunks_mut(5) {
                interval.reverse();
            }
            let mut ahead = Readahead::default();
            let mut known = vec![false; 1000];
            for (at, chunk) in steps.into_iter().enumerate() {
                for window in asked(&mut ahead, [chunk]) {
                    for chunk in window {
                        assert!(!std::mem::replace(&mut known[chunk], true), "chunk {chunk} twice");
                    }
                }
                assert!(at < 10 || known[chunk], "chunk {chunk} not asked for at step {at}");
            }
        }
    }

    #[test]
    fn a_walk_that_goes_on_for_sure_begins_with_the_most() {
        let forward = asked(&mut Readahead::eager(MOST), 0..100);
        assert_eq!(forward[..3], [0..32, 32..64, 64..96]);
        assert_eq!(asked(&mut Readahead::eager(MOST), 990..1000).first(), Some(&(990..1000)));
    }

    #[test]
    fn none_is_none() {
        let mut ahead = Readahead::eager(0);
        for chunk in 0..100 {
            assert!(ahead.step(chunk * CHUNK..(chunk + 1) * CHUNK, 1000 * CHUNK, 0).is_empty());
        }
    }
}
