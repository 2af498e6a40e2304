//! Histograms of durations, with buckets that are as wide as what is in them is long.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each power of two is cut into so many buckets of equal width, by these bits behind the highest one.
const CUT_BITS: u32 = 2;
const CUTS: usize = 1 << CUT_BITS;

/// The last bucket ends at 2^41 nanoseconds, 36 minutes, and has what takes longer as well.
const BUCKETS: usize = 40 * CUTS;

/// The bucket of so many nanoseconds.
fn bucket_of(nanos: u64) -> usize {
    if nanos < CUTS as u64 {
        return usize::try_from(nanos).unwrap_or(0);
    }
    let power = nanos.ilog2() - CUT_BITS;
    let cut = usize::try_from(nanos >> power).unwrap_or(0);
    (power as usize * CUTS + cut).min(BUCKETS - 1)
}

/// The longest time of a bucket, in nanoseconds.
fn end_of(bucket: usize) -> u64 {
    if bucket < 2 * CUTS {
        return bucket as u64;
    }
    let (power, cut) = (bucket / CUTS - 1, bucket % CUTS + CUTS);
    ((cut as u64 + 1) << power) - 1
}

/// Where durations are counted.
#[derive(Debug)]
pub(super) struct Recorder {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
    longest: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], nanos: AtomicU64::new(0), longest: AtomicU64::new(0) }
    }
}

impl Recorder {
    pub(super) fn note(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.longest.fetch_max(nanos, Ordering::Relaxed);
    }
}

/// What recorders have counted together.
pub(super) fn recorded<'r>(one_in: u32, recorders: impl Iterator<Item = &'r Recorder>) -> Histogram {
    let mut buckets = vec![0u64; BUCKETS];
    let (mut nanos, mut longest) = (0u64, 0);
    for recorder in recorders {
        for (sum, bucket) in buckets.iter_mut().zip(&recorder.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        nanos = nanos.saturating_add(recorder.nanos.load(Ordering::Relaxed));
        longest = longest.max(recorder.longest.load(Ordering::Relaxed));
    }
    Histogram::new(one_in, buckets, nanos, longest)
}

/// How long operations of one kind have taken since the open.
///
/// Gets, puts and seeks are sampled: one in 256 of them is measured, at distances that are drawn at random. Each power of two is
/// cut into four buckets, so a [quantile](Self::quantile) is never less than the true one of what was measured, and at most a
/// quarter more.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// let before = db.stats().latencies.sync;
/// db.insert("key", "value")?; // waits for a sync
/// let syncs = db.stats().latencies.sync.since(&before);
/// assert_eq!(syncs.samples(), 1);
/// println!("half of them took at most {:?}", syncs.quantile(0.5).unwrap());
/// # db.close()
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    one_in: u32,
    samples: u64,
    nanos: u64,
    longest: u64,
    /// Up to the last one that is not empty.
    buckets: Vec<u64>,
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, .. } = self;
        write!(f, "Histogram({samples} samples, p50 {:?}, p99 {:?}, ", self.quantile(0.5), self.quantile(0.99))?;
        write!(f, "longest {:?})", self.longest())
    }
}

impl Histogram {
    fn new(one_in: u32, mut buckets: Vec<u64>, nanos: u64, longest: u64) -> Self {
        buckets.truncate(buckets.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
        Self { one_in, samples: buckets.iter().sum(), nanos, longest, buckets }
    }

    /// Operations that were measured.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// How many operations there have been for each that was measured, on average.
    pub fn one_in(&self) -> u32 {
        self.one_in
    }

    /// About how many operations there have been, measured or not: exact where each one is measured. Of `n` samples where it
    /// is not, the estimate is off by less than `1.2 / sqrt(n)` of itself, in 19 of 20 cases.
    pub fn operations(&self) -> u64 {
        self.samples.saturating_mul(self.one_in.into())
    }

    /// The mean of what was measured; `None` if nothing was.
    pub fn mean(&self) -> Option<Duration> {
        self.nanos.checked_div(self.samples).map(Duration::from_nanos)
    }

    /// The longest one that was measured, exactly; `None` if none was.
    pub fn longest(&self) -> Option<Duration> {
        (self.samples > 0).then(|| Duration::from_nanos(self.longest))
    }

    /// How long all but a share of the operations have taken at the most: 0.99 for what is exceeded by one in a hundred. At
    /// least the true value and at most a quarter more; `None` if nothing was measured. What is not from 0 to 1 is taken for
    /// the nearer of the two.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let longest = self.longest()?;
        let wanted = ((share.clamp(0.0, 1.0) * self.samples as f64).ceil() as u64).max(1);
        let mut passed = 0;
        for (upto, count) in self.buckets() {
            passed += count;
            if passed >= wanted {
                return Some(upto.min(longest));
            }
        }
        Some(longest)
    }

    /// The longest time that each bucket has, ascending, and how many operations are in it. What takes more than 36 minutes is
    /// in the last one.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.buckets.iter().enumerate().map(|(bucket, count)| (Duration::from_nanos(end_of(bucket)), *count))
    }

    /// What has been added since an earlier look at the same histogram. The longest one stays that of all.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.buckets.iter();
        let added = self.buckets.iter().map(|count| count.saturating_sub(before.next().copied().unwrap_or(0)));
        Self::new(self.one_in, added.collect(), self.nanos.saturating_sub(earlier.nanos), self.longest)
    }
}

/// How long operations have taken since the open, as their callers have waited for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Latencies {
    /// Gets of one key, of the database, a keyspace, a snapshot or a transaction. One in 256.
    pub get: Histogram,
    /// Commits of one change, of a batch, or of a transaction, with their sync, if they wait for one, and the time for which
    /// they are held up. One in 256.
    pub put: Histogram,
    /// Seeks of cursors, and first moves of iterators. One in 256.
    pub seek: Histogram,
    /// Syncs of the log. Each one.
    pub sync: Histogram,
    /// Flushes that have made something durable. Each one.
    pub flush: Histogram,
    /// Compactions from their first to their last piece of work, moves not counted. Each one.
    pub compaction: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_a_bucket_that_is_not_much_longer() {
        let mut last = 0;
        for nanos in (0..5000).chain((13..41).flat_map(|power| [(1 << power) - 1, 1 << power, 5 << (power - 2)])) {
            let bucket = bucket_of(nanos);
            let end = end_of(bucket);
            assert!(bucket >= last && end >= nanos && end - nanos <= nanos / 4, "{nanos}: {bucket}, up to {end}");
            assert!(bucket == 0 || end_of(bucket - 1) < nanos, "{nanos}: {bucket}");
            last = bucket;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_noted_and_at_most_a_quarter_more() {
        let recorder = Recorder::default();
        let noted: Vec<u64> = (1..=1000u64).map(|i| i * i * 37).collect();
        for nanos in &noted {
            recorder.note(Duration::from_nanos(*nanos));
        }
        let histogram = recorded(1, std::iter::once(&recorder));
        assert_eq!(histogram.samples(), 1000);
        assert_eq!(histogram.longest(), Some(Duration::from_millis(37)));
        for per_mille in [0usize, 1, 500, 900, 990, 999, 1000] {
            let exact = noted[per_mille.max(1) - 1];
            #[expect(clippy::cast_precision_loss)]
            let told = histogram.quantile(per_mille as f64 / 1000.0).unwrap().as_nanos();
            assert!(u128::from(exact) <= told && told <= u128::from(exact + exact / 4), "{per_mille}: {exact}, {told}");
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
