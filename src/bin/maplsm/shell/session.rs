//! What the commands of the shell do and answer.

use std::io::Write;

use maplsm::{Db, Keyspace, KeyspaceOptions};

use crate::args::Target;
use crate::escape::Escaped;
use crate::failure::Failure;
use crate::open;
use crate::shell::parse::{self, Command};
use crate::span::Span;
use crate::stats;
use crate::tsv::{self, Form};

const HELP: &str = r"Commands, in any case:
  SET <key> <value>           Store a value; it may contain spaces
  GET <key>                   Show the value of a key
  DEL <key>                   Remove a key
  SCAN [from [to]] [LIMIT n]  Show entries in key order, up to but not including `to`
  KEYS                        List the keys in the memtable
  KEYSPACES                   List the keyspaces; * is the one in use
  CREATE <keyspace>           Make a keyspace
  USE <keyspace>              Go to a keyspace
  DROP <keyspace>             Drop a keyspace with all that is in it
  FLUSH                       Write the memtable to an SSTable
  COMPACT                     Merge all SSTables of the keyspace and drop what is no longer visible
  STATS                       Show what the store consists of
  HELP                        Show this text
  CLEAR                       Clear the screen
  EXIT, QUIT                  Leave
Keys and values are bytes. Shown and typed as escapes: \t \n \r \\ \xHH.
Type \x20 for a space in a key or at the ends of a value, and \& for an empty key or value.
";

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
            None => {}
            Some(Command::Exit) => return Ok(Next::Leave),
            Some(command) => self.run(command, out)?,
        }
        Ok(Next::Line)
    }

    fn run(&mut self, command: Command, out: &mut dyn Write) -> Result<(), Failure> {
        match command {
            Command::Set { key, value } => {
                self.keyspace.insert(key, value)?;
                writeln!(out, "OK")?;
            }
            Command::Get { key } => match self.keyspace.get(key)? {
                Some(value) => writeln!(out, "{}", Escaped(&value))?,
                None => writeln!(out, "(nil)")?,
            },
            Command::Del { key } => {
                self.keyspace.remove(key)?;
                writeln!(out, "OK")?;
            }
            Command::Scan { from, to, limit } => {
                self.scan(Span::new(from, to), limit.unwrap_or(usize::MAX), out)?;
            }
            Command::Keys => self.keys(out)?,
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
                self.db.flush()?;
                writeln!(out, "Memtable flushed to SSTable")?;
            }
            Command::Compact => {
                self.keyspace.compact()?;
                writeln!(out, "SSTables compacted")?;
            }
            Command::Stats => self.stats(out)?,
            Command::Help => out.write_all(HELP.as_bytes())?,
            Command::Clear if self.interactive => out.write_all(CLEAR_SCREEN)?,
            Command::Clear | Command::Exit => {}
        }
        Ok(())
    }

    fn scan(&self, span: Span, limit: usize, out: &mut dyn Write) -> Result<(), Failure> {
        let mut entries = span.iter(&self.keyspace).take(limit).peekable();
        if entries.peek().is_none() {
            writeln!(out, "(no entries)")?;
        }
        for entry in entries {
            let entry = entry?;
            tsv::write(out, entry.key(), entry.value(), Form::Escaped)?;
        }
        Ok(())
    }

    fn keys(&self, out: &mut dyn Write) -> Result<(), Failure> {
        // A memtable that has reached its capacity is about to be a table; whether it is one yet would be chance.
        self.db.wait_for_background()?;
        let keys = self.keyspace.memtable_keys()?;
        if keys.is_empty() {
            writeln!(out, "(empty memtable)")?;
            return Ok(());
        }
        writeln!(out, "Keys in memtable ({}):", keys.len())?;
        for key in keys {
            writeln!(out, "  • {}", Escaped(&key))?;
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
