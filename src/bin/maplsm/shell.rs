//! The shell: commands from a line editor, or from a pipe.

mod history;
mod parse;
mod session;

use std::io::{self, BufRead as _, BufReader, BufWriter, IsTerminal as _, Write};

use maplsm::Db;
use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use crate::args::Target;
use crate::escape::Escaped;
use crate::failure::{Failure, Status, say};
use crate::open;
use crate::shell::session::{Next, Session};

const GOODBYE: &str = "Goodbye!";
const HISTORY_LINES_MAX: usize = 1000;

pub(crate) fn run(target: &Target) -> Result<Status, Failure> {
    let interactive = io::stdin().is_terminal();
    let db = if interactive { open::to_write(target)? } else { open::to_write_buffered(target)? };
    let keyspace = open::keyspace(&db, target)?;
    let mut session = Session { db: &db, keyspace, target, interactive };
    let status = if interactive { converse(&mut session)? } else { follow(&mut session)? };
    drop(session);
    db.close()?;
    Ok(status)
}

/// Reads commands from a terminal until the user leaves.
fn converse(session: &mut Session<'_>) -> Result<Status, Failure> {
    let config =
        Config::builder().max_history_size(HISTORY_LINES_MAX).map(|config| config.auto_add_history(true).build());
    let editor = config.and_then(rustyline::Editor::<(), FileHistory>::with_config);
    let mut editor = editor.map_err(|error| Failure::new(format_args!("cannot read from the terminal: {error}")))?;
    let history = history::path();
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }

    let mut out = io::stdout();
    writeln!(
        out,
        "maplsm {}: embedded key-value store, in {}",
        env!("CARGO_PKG_VERSION"),
        session.target.db.display()
    )?;
    writeln!(out, "Type HELP for available commands.")?;
    loop {
        match editor.readline(&prompt(session)) {
            Ok(line) => {
                let mut answer = BufWriter::new(&mut out);
                let outcome = session.run_line(line.as_bytes(), &mut answer);
                answer.flush()?;
                drop(answer);
                match outcome {
                    Ok(Next::Line) => {}
                    Ok(Next::Leave) => break,
                    Err(failure) => say(format_args!("Error: {failure}")),
                }
            }
            Err(ReadlineError::Interrupted) => writeln!(out, "Type EXIT or press Ctrl-D to leave.")?,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::new(format_args!("cannot read from the terminal: {error}"))),
        }
    }
    writeln!(out, "{GOODBYE}")?;
    if let Some(path) = &history {
        history::save(&mut editor, path);
    }
    Ok(Status::Success)
}

/// Names the keyspace in use, unless it is the default one.
fn prompt(session: &Session<'_>) -> String {
    match session.keyspace.name() {
        open::DEFAULT => "maplsm> ".to_owned(),
        name => format!("maplsm {}> ", Escaped(name.as_bytes())),
    }
}

/// Runs the commands that come from a pipe or file. A failed one does not keep the others from running, and neither
/// does a reader of the answers that has gone: commands write, too. The worst outcome is the answer. Commands share syncs:
/// there is one before answers leave, so that whoever reads `OK` can rely on it.
fn follow(session: &mut Session<'_>) -> Result<Status, Failure> {
    let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock());
    let mut out: Box<dyn Write + '_> =
        Box::new(BufWriter::with_capacity(1 << 16, Durable { db: session.db, out: io::stdout() }));
    let mut status = Status::Success;
    let mut line = Vec::new();
    loop {
        if input.buffer().is_empty() {
            // The next line may be long in coming: whoever waits for the answers gets them now.
            deliver(&mut out)?;
        }
        line.clear();
        let length = input
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::new(format_args!("cannot read commands: {error}")))?;
        if length == 0 {
            break;
        }
        match session.run_line(&line, &mut *out) {
            Ok(Next::Line) => {}
            Ok(Next::Leave) => break,
            Err(Failure::Hangup) => out = Box::new(io::sink()),
            Err(failure) => {
                deliver(&mut out)?;
                say(format_args!("Error: {failure}"));
                status = status.max(failure.status());
            }
        }
    }
    match writeln!(out, "{GOODBYE}").map_err(Failure::from).and_then(|()| deliver(&mut out)) {
        Err(Failure::Hangup) => Ok(status),
        outcome => outcome.map(|()| status),
    }
}

/// Flushes `out`; into nowhere, from the moment when nobody reads any more.
fn deliver(out: &mut Box<dyn Write + '_>) -> Result<(), Failure> {
    match out.flush().map_err(Failure::from) {
        Err(Failure::Hangup) => {
            *out = Box::new(io::sink());
            Ok(())
        }
        outcome => outcome,
    }
}

/// Lets bytes out when everything committed before is on disk.
struct Durable<'a, W> {
    db: &'a Db,
    out: W,
}

impl<W: Write> Write for Durable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.db.sync().map_err(io::Error::other)?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
