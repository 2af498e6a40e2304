//! Histograms for serializers.

use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::Histogram;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A structure of how many operations there were, in nanoseconds their mean, longest one and four quantiles, and of the buckets
/// that are not empty, each the longest time that it has, in nanoseconds, and how many operations are in it.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let buckets = self.buckets().filter(|(_, count)| *count > 0).map(|(upto, count)| (nanos(upto), count));
        let quantile = |share| self.quantile(share).map(nanos);
        let mut fields = to.serialize_struct("Histogram", 10)?;
        fields.serialize_field("operations", &self.operations())?;
        fields.serialize_field("samples", &self.samples())?;
        fields.serialize_field("one_in", &self.one_in())?;
        fields.serialize_field("mean_ns", &self.mean().map(nanos))?;
        fields.serialize_field("longest_ns", &self.longest().map(nanos))?;
        fields.serialize_field("p50_ns", &quantile(0.5))?;
        fields.serialize_field("p90_ns", &quantile(0.9))?;
        fields.serialize_field("p99_ns", &quantile(0.99))?;
        fields.serialize_field("p99.9_ns", &quantile(0.999))?;
        fields.serialize_field("buckets_ns", &buckets.collect::<Vec<_>>())?;
        fields.end()
    }
}
