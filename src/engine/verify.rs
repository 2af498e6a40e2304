//! Checking everything.

use super::Engine;
use crate::error::Error;

/// What [`Db::verify`](crate::Db::verify) found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// Tables checked.
    pub tables: usize,
    /// Value files checked.
    pub value_files: usize,
    /// Entries seen in tables and in the log, all versions and tombstones counted.
    pub entries: u64,
    /// Bytes of tables, value files and log segments read.
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
    /// Reads every byte of every table, of every value file and of the log: checksums, order, counts, sequence numbers, that
    /// each index leads to each key, and each pointer to its value.
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
        for (level, table) in view.version.tables() {
            // A section that has been consumed may point to values that are gone.
            let serves = |keyspace| level > 0 || view.version.serves(table, keyspace);
            report.tables += 1;
            report.bytes += table.meta.file_bytes;
            match table.reader().and_then(|reader| reader.verify(view.version.values(), serves)) {
                Ok(entries) => report.entries += entries,
                Err(e) => report.problems.push(e),
            }
        }
        for stored in view.version.values().iter() {
            report.value_files += 1;
            report.bytes += stored.file.meta.file_bytes;
            report.problems.extend(stored.file.verify(&self.cancelled).err());
        }
        report.problems.extend(self.mappings.check(&[]).err());
        report
    }
}
