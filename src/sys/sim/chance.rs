//! Seeded random numbers: what a power cut leaves depends on nothing but its seed.

/// The splitmix64 generator.
#[derive(Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number smaller than `limit`, or 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.draw() % (limit as u64).max(1)).unwrap_or(0)
    }
}

/// Decides what unsynced state survives.
///
/// Even odds for each of many sectors would hardly ever lose all of a file or none of it, and these are the states that
/// find most bugs. So each subject (the bytes of one file, the names of one directory) first draws how lucky it is.
pub(super) struct Chance {
    random: Random,
    luck: usize,
}

impl Chance {
    /// At no luck the oldest state is left, at this much the newest.
    const LUCK_MAX: usize = 4;

    pub(super) fn new(random: Random) -> Self {
        Self { random, luck: 0 }
    }

    pub(super) fn next_subject(&mut self) {
        self.luck = self.random.below(Self::LUCK_MAX + 1);
    }

    /// The index of one of `count` states, which are sorted from oldest to newest.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        if self.random.below(Self::LUCK_MAX) < self.luck {
            count - 1
        } else if self.luck == 0 {
            0
        } else {
            self.random.below(count)
        }
    }

    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.random.below(high.saturating_sub(low) + 1)
    }
}
