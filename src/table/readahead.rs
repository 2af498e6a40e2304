//! What a walk over a file asks for before it gets there.
//!
//! The kernel is told that tables are read at random, so that a lookup brings in the pages that it needs and no others; what
//! is read in a row, it then does not see. A walk asks for it: for nothing as long as it may be over after a page, then for a
//! window that doubles (as the kernel's own readahead does for `read`), in the direction in which it goes, again whenever
//! half of the window is behind it, so that the disk works while the entries are looked at.
//!
//! If it is in memory already, asking is in vain, and takes a third of the time of a seek and ten or a hundred steps. So a look
//! is taken whether it is; and the longer a file was in memory at every look, the fewer are taken: [`Residence`]. 500,000
//! entries of 16 + 100 B in one table, ns, without and with it: seek + 10 1,189 and 789, seek + 100 5,723 and 3,907, a step of
//! a scan 26 and 24. 4 M entries in 256 MiB of memory, one run: seek + 10 87.4 and 87.0 us, seek + 100 205 and 197, a step of a
//! scan 164 and 182 ns, backwards 173 and 159 (`benches/compare`).
//!
//! What a job (a compaction, whose inputs are going to be removed, or a verification) has brought in, nobody needs behind it.
//! So it says so (`MADV_COLD`), of what it had to ask for only: what was in memory before, others may use. 4 M entries in 256
//! MiB, a reader beside a writer, three runs of each in turns: a get takes 117, 117 and 127 us, and 127, 160 and 170 if nothing
//! is said; a put 1.63, 1.64 and 1.69 us against 1.54, 1.70 and 1.71. If the system is made to take these pages at once
//! (`MADV_PAGEOUT`), a get takes 105 to 148 us, and loading the entries a half longer.
//!
//! 3 M entries of 16 + 100 B in 256 MiB of memory, kernel readahead of 8 MiB, machine busy, ns an entry forwards / backwards:
//! without advice 325 / 487; at random and without windows 2,078 / 1,328; with windows up to 512 KiB 395 / 459.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::PAGE_BYTES;

/// The first window: what a walk over some tens of entries needs.
const FIRST_BYTES: usize = 16 << 10;

/// How far from what has been walked a step of the same walk may be: walks backwards go to the beginning of an interval of
/// entries, and from there forwards.
const NEAR_BYTES: usize = 64 << 10;

/// Offsets in the file of one walk. All ranges are of whole chunks.
#[derive(Debug, Clone, Default)]
pub(super) struct Readahead {
    walked: Range<usize>,
    /// What has been asked for; around `walked`.
    asked: Range<usize>,
    /// The last of what was asked for and was not in memory, forwards in a row.
    fetched: Range<usize>,
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

    /// Notes that `step` is read now. Returns what to ask for, of the bytes in front of `end`, with windows of at most `most`
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
            *self = Self { walked: step.clone(), asked: asked.clone(), forward: window, ..Self::default() };
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

    /// Notes that a range that was to be asked for was not in memory.
    pub(super) fn note_fetched(&mut self, range: Range<usize>) {
        let start = if range.start == self.fetched.end { self.fetched.start } else { range.start };
        self.fetched = start..range.end;
    }

    /// The part of a range that this walk has brought into memory, as far as it remembers.
    pub(super) fn fetched(&self, range: &Range<usize>) -> Range<usize> {
        range.start.max(self.fetched.start)..range.end.min(self.fetched.end)
    }

    /// The part of `step` and what lies `bytes` behind it that has been asked for: reading it waits for the disk at most once.
    pub(super) fn asked(&self, step: &Range<usize>, bytes: usize) -> Range<usize> {
        step.start..step.end.saturating_add(bytes).min(self.asked.end).max(step.end)
    }
}

/// How much of a file is in memory, as far as walks have looked.
#[derive(Debug, Default)]
pub(super) struct Residence {
    /// How many windows in a row were. What is lost when two threads count at once does not matter.
    in_a_row: AtomicU32,
}

/// So many windows that were in memory make it look once less often: where one of ten is not, that hardly ever happens.
const RUN: u32 = 32;

/// At the least, it looks at one window of so many.
const RARELY: u32 = 64;

/// Of windows longer than that, which take long to walk over, it looks at each.
const SHORT_BYTES: usize = 64 << 10;

impl Residence {
    /// Whether a window need not be asked for, because it is in memory, by what `is_present` says, or is likely to be.
    pub(super) fn covers(&self, window: &Range<usize>, is_present: impl FnOnce() -> bool) -> bool {
        let in_a_row = self.in_a_row.load(Ordering::Relaxed);
        if window.len() <= SHORT_BYTES && !is_turn(1 + in_a_row / RUN) {
            return true;
        }
        let is_present = is_present();
        let now = if is_present { (in_a_row + 1).min((RARELY - 1) * RUN) } else { 0 };
        if now != in_a_row {
            self.in_a_row.store(now, Ordering::Relaxed);
        }
        is_present
    }
}

/// True once in `interval` calls of a thread. Multiples of the golden ratio are spread evenly whichever calls are taken, so
/// files that are asked for in turns have theirs as often.
fn is_turn(interval: u32) -> bool {
    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    let turn = CALLS.get().wrapping_add(0x9e37_79b9);
    CALLS.set(turn);
    (u64::from(turn) * u64::from(interval)) >> 32 == 0
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
    fn what_was_brought_in_in_a_row_is_remembered() {
        let mut ahead = Readahead::default();
        assert!(ahead.fetched(&(0..100)).is_empty());
        ahead.note_fetched(40..80);
        ahead.note_fetched(80..160);
        assert_eq!([0..100, 50..90, 100..200].map(|range| ahead.fetched(&range)), [40..100, 50..90, 100..160]);
        // What lies between was in memory before.
        ahead.note_fetched(200..300);
        assert!(ahead.fetched(&(0..180)).is_empty());
        assert_eq!(ahead.fetched(&(150..250)), 200..250);
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

    /// How many of these windows are looked at.
    fn looks(residence: &Residence, windows: impl IntoIterator<Item = (usize, bool)>) -> usize {
        let mut looks = 0;
        for (bytes, is_present) in windows {
            residence.covers(&(0..bytes), || {
                looks += 1;
                is_present
            });
        }
        looks
    }

    #[test]
    fn what_is_in_memory_is_looked_at_less_and_less() {
        let residence = Residence::default();
        assert_eq!(looks(&residence, vec![(CHUNK, true); 32]), 32);
        let settling = looks(&residence, vec![(CHUNK, true); 100_000]);
        assert!(settling < 5_000, "{settling}");
        let settled = looks(&residence, vec![(CHUNK, true); 64_000]);
        assert!((900..1_100).contains(&settled), "{settled}");
        assert_eq!(looks(&residence, vec![(SHORT_BYTES + 1, true); 100]), 100, "long windows");
    }

    #[test]
    fn files_in_turns_are_looked_at_alike() {
        let files = [Residence::default(), Residence::default(), Residence::default()];
        let mut counts = [0; 3];
        for turn in 0..300_000 {
            counts[turn % 3] += looks(&files[turn % 3], [(CHUNK, true)]);
        }
        assert!(counts.iter().all(|count| (2_500..2_700).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_is_missing_is_soon_noticed_and_then_looked_at_each_time() {
        let residence = Residence::default();
        looks(&residence, vec![(CHUNK, true); 100_000]);
        let unnoticed = (0..1000).take_while(|_| looks(&residence, [(CHUNK, false)]) == 0).count();
        assert!(unnoticed < 200, "{unnoticed}");
        assert_eq!(looks(&residence, vec![(CHUNK, false); 1000]), 1000);
        let one_of_ten = looks(&residence, (0..10_000).map(|window| (CHUNK, window % 10 != 0)));
        assert_eq!(one_of_ten, 10_000);
    }
}
