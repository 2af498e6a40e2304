//! Entries from lines, in batches.

use std::io::{self, Write as _};

use maplsm::{Db, Durability, Keyspace, WriteBatch};

use crate::args::ImportArgs;
use crate::failure::{Failure, Status, say};
use crate::records::Records;

/// A batch ends before it grows past this.
const BATCH_BYTES_MAX: usize = 1 << 20;

pub(crate) fn run(db: &Db, keyspace: &Keyspace, args: &ImportArgs, records: &mut Records) -> Result<Status, Failure> {
    let mut import = Import::new(db, keyspace, args);
    let outcome = import.read(records, args);
    records.bar.finish_and_clear();
    match outcome {
        Ok(()) => {
            say(format_args!("imported {} entries", import.entries));
            Ok(Status::Success)
        }
        Err(failure) => Err(import.account(failure, args)),
    }
}

/// An import under way.
struct Import<'a> {
    db: &'a Db,
    keyspace: &'a Keyspace,
    /// Batches are left to one sync at the end.
    buffered: bool,
    batch: WriteBatch,
    /// Bytes of the keys and values in the batch.
    batch_bytes: usize,
    /// Lines read, skipped ones included.
    lines: u64,
    /// The lines up to this one are skipped or written.
    lines_written: u64,
    /// Entries written.
    entries: u64,
    /// Where acknowledged lines are told; gone when nobody listens.
    listener: Option<io::Stdout>,
}

impl<'a> Import<'a> {
    fn new(db: &'a Db, keyspace: &'a Keyspace, args: &ImportArgs) -> Self {
        Self {
            db,
            keyspace,
            buffered: args.buffered,
            batch: WriteBatch::new(),
            batch_bytes: 0,
            lines: 0,
            lines_written: args.skip,
            entries: 0,
            listener: args.progress_lines.then(io::stdout),
        }
    }

    fn read(&mut self, records: &mut Records, args: &ImportArgs) -> Result<(), Failure> {
        while records.advance()? {
            self.lines = records.number();
            if self.lines <= args.skip {
                continue;
            }
            let (key, value) = records.entry()?;
            self.add(&key, &value, args.batch.get())?;
        }
        self.write(self.lines)?;
        if self.buffered {
            self.db.sync()?;
            self.acknowledge()?;
        }
        Ok(())
    }

    /// Puts the entry of the current line into the batch, and writes the batch before or after as its limits ask for.
    fn add(&mut self, key: &[u8], value: &[u8], entries_max: usize) -> Result<(), Failure> {
        let bytes = key.len() + value.len();
        if self.batch_bytes + bytes > BATCH_BYTES_MAX {
            self.write(self.lines - 1)?;
        }
        self.batch.insert_into(self.keyspace, key, value);
        self.batch_bytes += bytes;
        if self.batch.len() >= entries_max {
            self.write(self.lines)?;
        }
        Ok(())
    }

    /// Writes the batch, which holds the lines up to `last_line`.
    fn write(&mut self, last_line: u64) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let durability = if self.buffered { Durability::Buffered } else { Durability::Sync };
        self.db.write_with(&self.batch, durability).map_err(|error| {
            Failure::from(error).at(format_args!("lines {} to {last_line}", self.lines_written + 1))
        })?;
        self.entries += u64::try_from(self.batch.len()).unwrap_or_default();
        self.lines_written = last_line;
        self.batch.clear();
        self.batch_bytes = 0;
        if self.buffered { Ok(()) } else { self.acknowledge() }
    }

    /// Tells that all lines written so far are on disk. A listener that goes away does not stop the import.
    fn acknowledge(&mut self) -> Result<(), Failure> {
        let Some(stdout) = &mut self.listener else { return Ok(()) };
        match writeln!(stdout, "{}", self.lines_written).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.listener = None,
            outcome => outcome?,
        }
        Ok(())
    }

    /// Says what is stored although the import failed.
    fn account(&self, failure: Failure, args: &ImportArgs) -> Failure {
        if self.entries == 0 {
            return failure.with_note("nothing was imported");
        }
        let (first, last) = (args.skip + 1, self.lines_written);
        let certain = !self.buffered || self.db.sync().is_ok();
        let unless = if certain { "" } else { " (but may not survive a crash of the machine: the sync failed)" };
        failure.with_note(format_args!(
            "imported {} entries, lines {first} to {last}{unless}; nothing after them; --skip {last} goes on from there",
            self.entries
        ))
    }
}
