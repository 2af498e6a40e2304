//! The shell for commands that nobody types: from a pipe or file, or from the command line.
//!
//! A failed command does not keep the others from running, and neither does a reader of the answers that has gone: commands
//! write, too. The worst outcome is that of all. Commands share syncs: there is one before answers leave, so that whoever
//! reads `OK` can rely on it.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufWriter, Write};

use maplsm::{Db, Error};

use crate::args::{self, Target};
use crate::failure::{Failure, Status, say};
use crate::input::Stdin;
use crate::interrupt;
use crate::open;
use crate::shell::parse::{self, Command};
use crate::shell::session::{Next, Session};

/// Runs the lines of the standard input.
pub(crate) fn input(target: &Target) -> Result<Status, Failure> {
    let db = OnceCell::new();
    let mut follower = Follower::new(target, &db)?;
    let mut input = Stdin::new();
    let mut line = Vec::new();
    for number in 1_u64.. {
        if input.is_drained() {
            // The next line may be long in coming: whoever waits for the answers gets them now.
            follower.deliver()?;
        }
        line.clear();
        let length = input.read_until(b'\n', &mut line).map_err(|error| match Failure::from(error) {
            failure if failure.is_interrupt() => failure,
            failure => Failure::new(format_args!("cannot read commands: {failure}")),
        })?;
        if length == 0 || follower.run(&line, Some(number))? == Next::Leave {
            break;
        }
    }
    follower.end()
}

/// Runs each of the arguments as a line.
pub(crate) fn arguments(target: &Target, lines: Vec<OsString>) -> Result<Status, Failure> {
    let db = OnceCell::new();
    let mut follower = Follower::new(target, &db)?;
    for line in lines {
        let line = args::argument_bytes(line).map_err(Failure::new)?;
        if follower.run(&line, None)? == Next::Leave {
            break;
        }
    }
    follower.end()
}

/// Runs commands one after another.
struct Follower<'a> {
    target: &'a Target,
    /// Where the database is kept; empty as long as there is none.
    db: &'a OnceCell<Db>,
    session: Option<Session<'a>>,
    out: Box<dyn Write + 'a>,
    status: Status,
}

impl<'a> Follower<'a> {
    fn new(target: &'a Target, db: &'a OnceCell<Db>) -> Result<Self, Failure> {
        let out = Box::new(BufWriter::with_capacity(1 << 16, Durable { db, out: io::stdout() }));
        let mut follower = Self { target, db, session: None, out, status: Status::Success };
        if !open::is_vacant(target)? {
            follower.begin(open::to_change_buffered(target)?)?;
        }
        Ok(follower)
    }

    fn begin(&mut self, db: Db) -> Result<&mut Session<'a>, Failure> {
        let db = self.db.get_or_init(|| db);
        let keyspace = open::keyspace(db, self.target)?;
        Ok(self.session.insert(Session { db, keyspace, target: self.target, interactive: false }))
    }

    fn run(&mut self, line: &[u8], number: Option<u64>) -> Result<Next, Failure> {
        match self.command(line) {
            Ok(next) => return Ok(next),
            Err(Failure::Hangup) => self.out = Box::new(io::sink()),
            Err(failure) if failure.is_interrupt() => return Err(failure),
            Err(failure) => {
                self.deliver()?;
                self.status = self.status.max(failure.status());
                match number {
                    Some(number) => say(format_args!("Error: line {number}: {failure}")),
                    None => say(format_args!("Error: {failure}")),
                }
            }
        }
        Ok(Next::Line)
    }

    fn command(&mut self, line: &[u8]) -> Result<Next, Failure> {
        interrupt::check()?;
        let Some(command) = parse::parse(line).map_err(Failure::new)? else { return Ok(Next::Line) };
        let needs_none = matches!(command, Command::Help { .. } | Command::Clear | Command::Exit);
        if self.session.is_none() && !needs_none {
            if !command.makes_a_database() {
                let missing = Error::NotFound(self.target.db.clone().into());
                return Err(Failure::new(format_args!("{missing}; SET makes one")));
            }
            self.begin(open::to_write_buffered(self.target)?)?;
        }
        match &mut self.session {
            Some(session) => session.run(command, &mut *self.out),
            None => Session::run_without(&command, &mut *self.out),
        }
    }

    /// Flushes the answers; into nowhere, from the moment when nobody reads any more.
    fn deliver(&mut self) -> Result<(), Failure> {
        match self.out.flush().map_err(Failure::from) {
            Err(Failure::Hangup) => {
                self.out = Box::new(io::sink());
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn end(mut self) -> Result<Status, Failure> {
        self.deliver()?;
        self.session = None;
        if let Some(db) = self.db.get() {
            db.close()?;
        }
        Ok(self.status)
    }
}

/// Lets bytes out when everything committed before is on disk.
struct Durable<'a, W> {
    db: &'a OnceCell<Db>,
    out: W,
}

impl<W: Write> Write for Durable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(db) = self.db.get() {
            db.sync().map_err(io::Error::other)?;
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
