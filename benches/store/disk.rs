//! Bytes on disk beyond keys and values. Not timed, so not criterion's.

use maplsm::PointIndex;

use crate::data::Data;
use crate::fixture::{self, Store};
use crate::report::Suite;

pub(crate) fn all(suite: &mut Suite, data: &Data) {
    let kinds = [("hash", PointIndex::Hash, 24.0), ("bloom 1 %", PointIndex::Bloom { error_rate: 0.01 }, 16.0)];
    for (name, index, target) in kinds {
        let dir = Store::settled(data, index).close();
        let bytes = fixture::bytes_of(&fixture::path(&dir), &["sst", "idx"]);
        let overhead = per_entry(bytes - data.bytes(), data);
        let verdict = if overhead <= target { "met" } else { "MISSED" };
        suite.note(format!(
            "disk, {name}: {:.2} bytes an entry, {overhead:.2} of them beyond key and value; target {target} {verdict}",
            per_entry(bytes, data)
        ));
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files far below 2^52")]
fn per_entry(bytes: u64, data: &Data) -> f64 {
    bytes as f64 / f64::from(data.entries)
}
