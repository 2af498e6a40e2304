//! Checking everything.

use std::sync::Arc;

use super::Engine;
use crate::error::Error;

/// What [`Db::verify`](crate::Db::verify) found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// Tables checked.
    pub tables: usize,
    /// Entries seen in tables and in the log, all versions and tombstones counted.
    pub entries: u64,
    /// Bytes of tables and log segments read.
    pub bytes: u64,
    /// What is wrong, one error for each damaged file; or why nothing could be checked.
    pub problems: Vec<Error>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Engine {
    /// Reads every byte of every table and of the log: checksums, order, counts, sequence numbers, and that each index leads
    /// to each key.
    pub(crate) fn verify(&self) -> Report {
        let mut report = Report::default();
        if let Err(closed) = self.check_open() {
            report.problems.push(closed);
            return report;
        }
        let view = self.view();
        for memtable in &view.memtables {
            report.entries += memtable.entries();
            report.bytes += memtable.log_bytes();
            report.problems.extend(self.verify_groups(memtable).err());
        }
        for (_, table) in view.version.tables() {
            report.tables += 1;
            report.bytes += table.meta.file_bytes;
            match table.reader().map(Arc::as_ref).and_then(crate::table::Reader::verify) {
                Ok(entries) => report.entries += entries,
                Err(e) => report.problems.push(e),
            }
        }
        report.problems.extend(self.mappings.check(&[]).err());
        report
    }
}
