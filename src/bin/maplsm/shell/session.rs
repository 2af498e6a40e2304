//! What the commands of the shell do and answer.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use maplsm::{Db, Keyspace, KeyspaceOptions};

use crate::args::Target;
use crate::escape::{Escaped, Shown};
use crate::failure::Failure;
use crate::interrupt::{self, LOOK_AGAIN};
use crate::open;
use crate::shell::catalog;
use crate::shell::parse::{self, Command, Listing};
use crate::span::Span;
use crate::stats;
use crate::tsv::{self, Form};

/// Entries and keys that are shown to a person who has not said how many.
const SHOWN_MAX: usize = 100;

const CLEAR_SCREEN: &[u8] = b"\x1b[2J\x1b[H";

/// A database and somebody who talks to it.
pub(crate) struct Session<'a> {
    pub(crate) db: &'a Db,
    /// The one in use.
    pub(crate) keyspace: Keyspace,
    pub(crate) target: &'a Target,
    /// Whether a person at a terminal gives the commands.
    pub(crate) interactive: bool,
}

/// What to do after a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Line,
    Leave,
}

impl Session<'_> {
    /// Does what the line says, and writes the answer.
    pub(crate) fn run_line(&mut self, line: &[u8], out: &mut dyn Write) -> Result<Next, Failure> {
        match parse::parse(line).map_err(Failure::new)? {
            None => Ok(Next::Line),
            Some(command) => self.run(command, out),
        }
    }

    /// Does what needs no database.
    pub(crate) fn run_without(command: &Command, out: &mut dyn Write) -> Result<Next, Failure> {
        match command {
            Command::Exit => return Ok(Next::Leave),
            Command::Help { about: None } => out.write_all(catalog::help().as_bytes())?,
            Command::Help { about: Some(usage) } => out.write_all(usage.help().as_bytes())?,
            _ => {}
        }
        Ok(Next::Line)
    }

    pub(crate) fn run(&mut self, command: Command, out: &mut dyn Write) -> Result<Next, Failure> {
        match command {
            Command::Set { key, value } => {
                self.keyspace.insert(key, value)?;
                writeln!(out, "OK")?;
            }
            Command::Get { key } => match self.keyspace.get(key)? {
                Some(value) => writeln!(out, "{}", Escaped(&value))?,
                None => writeln!(out, "(nil)")?,
            },
            Command::Explain { key } => writeln!(out, "{}", self.keyspace.explain(key)?)?,
            Command::Del { key } => {
                let was_there = self.keyspace.take(key)?.is_some();
                writeln!(out, "{}", if was_there { "OK" } else { "(nil)" })?;
            }
            Command::Exists { key } => writeln!(out, "{}", u8::from(self.keyspace.contains_key(key)?))?,
            Command::Incr { key, by } => writeln!(out, "{}", self.increment(&key, by)?)?,
            Command::Scan(listing) => self.list(listing, true, out)?,
            Command::Keys(listing) => self.list(listing, false, out)?,
            Command::MemtableKeys { limit } => self.memtable_keys(self.limit(limit), out)?,
            Command::Count { from, to } => writeln!(out, "{}", Span::new(from, to).count(&self.keyspace)?)?,
            Command::DelRange { from, to } => {
                self.keyspace.remove_range(from..to)?;
                writeln!(out, "OK")?;
            }
            Command::Keyspaces => self.keyspaces(out)?,
            Command::Create { keyspace } => {
                self.db.create_keyspace(keyspace, &KeyspaceOptions::new())?;
                writeln!(out, "OK")?;
            }
            Command::Use { keyspace } => {
                self.keyspace = open::existing_keyspace(self.db, Some(&keyspace))?;
                writeln!(out, "OK")?;
            }
            Command::Drop { keyspace } => {
                self.db.drop_keyspace(&keyspace)?;
                if self.keyspace.name() == keyspace {
                    self.keyspace = self.db.keyspace(open::DEFAULT)?;
                }
                writeln!(out, "OK")?;
            }
            Command::Flush => {
                let db = self.db.clone();
                self.wait(move || db.flush())?;
                writeln!(out, "Memtable flushed to SSTable")?;
            }
            Command::Compact => {
                let keyspace = self.keyspace.clone();
                self.wait(move || keyspace.compact())?;
                writeln!(out, "SSTables compacted")?;
            }
            Command::Stats => self.stats(out)?,
            Command::Clear if self.interactive => out.write_all(CLEAR_SCREEN)?,
            other => return Self::run_without(&other, out),
        }
        Ok(Next::Line)
    }

    /// Waits for work on tables. A person who does not want to wait gets the prompt back, and the work goes on.
    fn wait(&self, work: impl FnOnce() -> maplsm::Result<()> + Send + 'static) -> Result<(), Failure> {
        if !self.interactive {
            return Ok(interrupt::during(work)??);
        }
        let (sender, outcome) = mpsc::channel();
        thread::spawn(move || sender.send(work()));
        loop {
            match outcome.recv_timeout(LOOK_AGAIN) {
                Ok(outcome) => return Ok(outcome?),
                Err(RecvTimeoutError::Timeout) if interrupt::is_requested() => {
                    return Err(Failure::interrupted().with_note("it goes on in the background"));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new("the work has ended without an outcome"));
                }
            }
        }
    }

    /// How many are shown: a program gets all of them.
    fn limit(&self, said: Option<usize>) -> usize {
        said.unwrap_or(if self.interactive { SHOWN_MAX } else { usize::MAX })
    }

    fn increment(&self, key: &[u8], by: i64) -> Result<i64, Failure> {
        loop {
            let old = self.keyspace.get(key)?;
            let number = match &old {
                None => 0,
                Some(text) => str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.parse::<i64>().ok())
                    .ok_or_else(|| Failure::new("the value is not a whole number between -2^63 and 2^63 - 1"))?,
            };
            let sum =
                number.checked_add(by).ok_or_else(|| Failure::new("the sum is not between -2^63 and 2^63 - 1"))?;
            if self.keyspace.compare_and_swap(key, old.as_deref(), Some(sum.to_string().as_bytes()))?.is_ok() {
                return Ok(sum);
            }
        }
    }

    /// Shows entries, or keys alone, until an end, the limit or an interrupt.
    fn list(&self, listing: Listing, with_values: bool, out: &mut dyn Write) -> Result<(), Failure> {
        let Listing { from, to, limit } = listing;
        let limit_shown = if limit.is_none() { self.limit(None) } else { usize::MAX };
        let mut shown = 0;
        for entry in Span::new(from, to.clone()).iter(&self.keyspace).take(limit.unwrap_or(usize::MAX)) {
            interrupt::check()?;
            let entry = entry?;
            if shown == limit_shown {
                let command = if with_values { "SCAN" } else { "KEYS" };
                let (next, to) = (Shown(entry.key()), to.map(|to| format!(" {}", Shown(&to))).unwrap_or_default());
                write!(out, "({shown} are shown; {command} {next}{to} goes on, ")?;
                writeln!(out, "LIMIT n or LIMIT ALL shows more)")?;
                return Ok(());
            }
            shown += 1;
            if with_values {
                tsv::write(out, entry.key(), entry.value(), Form::Escaped)?;
            } else {
                writeln!(out, "{}", Escaped(entry.key()))?;
            }
        }
        if shown == 0 {
            writeln!(out, "{}", if with_values { "(no entries)" } else { "(no keys)" })?;
        }
        Ok(())
    }

    fn memtable_keys(&self, limit: usize, out: &mut dyn Write) -> Result<(), Failure> {
        // A memtable that has reached its capacity is about to be a table; whether it is one yet would be chance.
        self.db.wait_for_background()?;
        let keys = self.keyspace.memtable_keys()?;
        if keys.is_empty() {
            writeln!(out, "(empty memtable)")?;
            return Ok(());
        }
        writeln!(out, "Keys in memtable ({}):", keys.len())?;
        for key in keys.iter().take(limit) {
            interrupt::check()?;
            writeln!(out, "  • {}", Escaped(key))?;
        }
        if keys.len() > limit {
            writeln!(out, "({limit} are shown; LIMIT n or LIMIT ALL shows more)")?;
        }
        Ok(())
    }

    fn keyspaces(&self, out: &mut dyn Write) -> Result<(), Failure> {
        for name in [open::DEFAULT.to_owned()].into_iter().chain(self.db.keyspaces()) {
            let mark = if name == self.keyspace.name() { '*' } else { ' ' };
            writeln!(out, "{mark} {}", Escaped(name.as_bytes()))?;
        }
        Ok(())
    }

    fn stats(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let stats = self.db.stats();
        stats::row(out, "directory", self.target.db.display())?;
        match self.target.capacity {
            Some(entries) => stats::row(out, "capacity", format_args!("{entries} entries"))?,
            None => stats::row(out, "capacity", "by size")?,
        }
        stats::write_text(out, &stats)?;
        Ok(())
    }
}
