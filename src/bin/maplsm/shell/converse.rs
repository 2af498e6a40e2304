//! The shell for a person at a terminal.

use std::io::{self, BufWriter, Write};

use maplsm::Db;
use rustyline::config::{CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use crate::args::Target;
use crate::escape::Escaped;
use crate::failure::{Failure, Status, say};
use crate::interrupt;
use crate::open;
use crate::shell::editor::Helper;
use crate::shell::history;
use crate::shell::session::{Next, Session};

const GOODBYE: &str = "Goodbye!";
const HISTORY_LINES_MAX: usize = 1000;

type Editor = rustyline::Editor<Helper, FileHistory>;

pub(crate) fn run(target: &Target) -> Result<Status, Failure> {
    let is_new = open::is_vacant(target)?;
    let db = open::to_write(target)?;
    let keyspace = open::keyspace(&db, target)?;
    let mut session = Session { db: &db, keyspace, target, interactive: true };
    let mut out = io::stdout();
    let place = target.db.display();
    writeln!(out, "maplsm {}: embedded key-value store, in {place}", env!("CARGO_PKG_VERSION"))?;
    if is_new {
        writeln!(out, "There was no database: this is a new one.")?;
    }
    writeln!(out, "Type HELP for available commands.")?;
    converse(&mut session, &mut out)?;
    writeln!(out, "{GOODBYE}")?;
    drop(session);
    db.close()?;
    Ok(Status::Success)
}

/// Reads commands from the terminal until the user leaves.
fn converse(session: &mut Session<'_>, out: &mut impl Write) -> Result<(), Failure> {
    let mut editor = edit(session.db)?;
    let history = history::path();
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }
    loop {
        match editor.readline(&prompt(session)) {
            Ok(input) => {
                if run_lines(session, &input, &mut editor, out)? == Next::Leave {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => writeln!(out, "Type EXIT or press Ctrl-D to leave.")?,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(unreadable(&error)),
        }
    }
    if let Some(path) = &history {
        history::save(&mut editor, path);
    }
    Ok(())
}

fn edit(db: &Db) -> Result<Editor, Failure> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES_MAX)
        .map(|config| config.completion_type(CompletionType::List).build());
    let mut editor = config.and_then(Editor::with_config).map_err(|error| unreadable(&error))?;
    editor.set_helper(Some(Helper::new(db.clone())));
    Ok(editor)
}

fn unreadable(error: &ReadlineError) -> Failure {
    Failure::new(format_args!("cannot read from the terminal: {error}"))
}

/// Runs what was entered: one command, or those of a paste, each of which is a line. An interrupt ends all of them.
fn run_lines(
    session: &mut Session<'_>,
    input: &str,
    editor: &mut Editor,
    out: &mut impl Write,
) -> Result<Next, Failure> {
    interrupt::forget();
    for line in input.split(['\n', '\r']).filter(|line| !line.trim().is_empty()) {
        let _ = editor.add_history_entry(line);
        let mut answer = BufWriter::new(&mut *out);
        let outcome = session.run_line(line.as_bytes(), &mut answer);
        answer.flush()?;
        drop(answer);
        match outcome {
            Ok(Next::Line) => {}
            Ok(Next::Leave) => return Ok(Next::Leave),
            Err(failure) if failure.is_interrupt() => {
                say(format_args!("{failure}"));
                break;
            }
            Err(failure) => say(format_args!("Error: {failure}")),
        }
    }
    Ok(Next::Line)
}

/// Names the keyspace in use, unless it is the default one.
fn prompt(session: &Session<'_>) -> String {
    match session.keyspace.name() {
        open::DEFAULT => "maplsm> ".to_owned(),
        name => format!("maplsm {}> ", Escaped(name.as_bytes())),
    }
}
