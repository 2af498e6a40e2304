//! Entries from lines, straight into tables.

use std::io::BufRead;
use std::path::Path;

use indicatif::ProgressBar;
use maplsm::{Ingested, Keyspace};

use crate::args::{IngestArgs, Target};
use crate::failure::{Failure, Status, say};
use crate::import::open;
use crate::sort::{Scratch, Sorter};
use crate::tsv::{self, Form};

/// The directory of the runs in that of the database; no name of its format.
const SCRATCH: &str = "ingest.tmp";

pub(crate) fn run(keyspace: &Keyspace, target: &Target, args: &IngestArgs) -> Result<Status, Failure> {
    let ingested = if is_sorted(args)? {
        let (mut input, bar) = open(&args.file)?;
        let lines = Lines::new(&mut *input, args, &bar);
        keyspace.try_ingest(lines)?
    } else {
        sort(keyspace, target, args)?
    };
    let Ingested { entries, tables, level, .. } = ingested;
    say(format_args!("ingested {entries} entries as {tables} tables of level {level}"));
    Ok(Status::Success)
}

/// Whether the file can be read twice and its keys ascend. Looks no further than to the first that does not.
fn is_sorted(args: &IngestArgs) -> Result<bool, Failure> {
    if !Path::new(&args.file).is_file() {
        return Ok(false);
    }
    let (mut input, bar) = open(&args.file)?;
    let mut last: Option<Vec<u8>> = None;
    for entry in Lines::new(&mut *input, args, &bar) {
        let (key, _) = entry?;
        if last.is_some_and(|last| last >= key) {
            return Ok(false);
        }
        last = Some(key);
    }
    Ok(true)
}

fn sort(keyspace: &Keyspace, target: &Target, args: &IngestArgs) -> Result<Ingested, Failure> {
    let scratch = match &args.temp {
        Some(temp) => temp.join(format!("maplsm-{}.tmp", std::process::id())),
        None => target.db.join(SCRATCH),
    };
    let mut sorter = Sorter::new(Scratch::new(scratch)?, args.memory.0);
    let (mut input, bar) = open(&args.file)?;
    for entry in Lines::new(&mut *input, args, &bar) {
        let (key, value) = entry?;
        sorter.add(&key, &value)?;
    }
    bar.finish_and_clear();
    keyspace.try_ingest(sorter.finish()?)
}

/// The entries of an input, line by line.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    args: &'a IngestArgs,
    bar: &'a ProgressBar,
    line: Vec<u8>,
    number: u64,
}

impl<'a> Lines<'a> {
    fn new(input: &'a mut dyn BufRead, args: &'a IngestArgs, bar: &'a ProgressBar) -> Self {
        Self { input, args, bar, line: Vec::new(), number: 0 }
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line.clear();
        self.number += 1;
        let place = |failure: Failure| failure.at(format_args!("line {}", self.number));
        match self.input.read_until(b'\n', &mut self.line) {
            Ok(0) => return None,
            Ok(length) => self.bar.inc(u64::try_from(length).unwrap_or_default()),
            Err(e) => return Some(Err(place(Failure::file("read", &self.args.file, &e)))),
        }
        let text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let entry = tsv::parse(text, Form::new(self.args.raw)).map_err(Failure::new).map_err(place);
        Some(entry.map(|(key, value)| (key.into_owned(), value.into_owned())))
    }
}
