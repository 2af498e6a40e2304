//! Entries from lines, straight into tables.

use std::path::Path;

use maplsm::{Ingested, Keyspace};

use crate::args::{IngestArgs, Target};
use crate::failure::{Failure, Status, say};
use crate::records::Records;
use crate::sort::{Scratch, Sorted, Sorter};

/// The directory of the runs in that of the database; no name of its format.
const SCRATCH: &str = "ingest.tmp";

/// An input, and whether it is a file whose keys ascend.
pub(crate) struct Input {
    records: Records,
    is_sorted: bool,
}

pub(crate) fn open(args: &IngestArgs) -> Result<Input, Failure> {
    Ok(Input { is_sorted: is_sorted(args)?, records: Records::open(&args.file, &args.form)? })
}

pub(crate) fn run(keyspace: &Keyspace, target: &Target, args: &IngestArgs, input: Input) -> Result<Status, Failure> {
    let mut entries = Entries(input.records);
    let ingested = if input.is_sorted {
        keyspace.try_ingest(&mut entries)?
    } else {
        keyspace.try_ingest(sort(target, args, &mut entries)?)?
    };
    entries.0.bar.finish_and_clear();
    let Ingested { entries, tables, level, .. } = ingested;
    say(format_args!("ingested {entries} entries as {tables} tables of level {level}"));
    Ok(Status::Success)
}

/// Whether the file can be read twice and its keys ascend. Looks no further than to the first that does not.
fn is_sorted(args: &IngestArgs) -> Result<bool, Failure> {
    if !Path::new(&args.file).is_file() {
        return Ok(false);
    }
    let mut last: Option<Vec<u8>> = None;
    for entry in Entries(Records::open(&args.file, &args.form)?) {
        let (key, _) = entry?;
        if last.is_some_and(|last| last >= key) {
            return Ok(false);
        }
        last = Some(key);
    }
    Ok(true)
}

fn sort(target: &Target, args: &IngestArgs, entries: &mut Entries) -> Result<Sorted, Failure> {
    let scratch = match &args.temp {
        Some(temp) => temp.join(format!("maplsm-{}.tmp", std::process::id())),
        None => target.db.join(SCRATCH),
    };
    let mut sorter = Sorter::new(Scratch::new(scratch)?, args.memory.0);
    for entry in entries {
        let (key, value) = entry?;
        sorter.add(&key, &value)?;
    }
    sorter.finish()
}

/// The entries of an input, one by one.
struct Entries(Records);

impl Iterator for Entries {
    type Item = Result<(Vec<u8>, Vec<u8>), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.advance() {
            Ok(false) => None,
            Ok(true) => Some(self.0.entry().map(|(key, value)| (key.into_owned(), value.into_owned()))),
            Err(failure) => Some(Err(failure)),
        }
    }
}
