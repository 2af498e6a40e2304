//! What a command line asks for.
//!
//! Besides what `args` defines, the directory may stand in front, and commands of the shell may stand where a subcommand would.
//! A word that is neither one nor the other stays the error that it is: a typing error is not taken for a directory.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use crate::args::{Args, argument_bytes};
use crate::shell;

/// Arguments, and lines for the shell.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) args: Args,
    pub(crate) lines: Vec<OsString>,
}

/// Reads a command line, the name of the program in front.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Invocation, clap::Error> {
    let error = match Args::try_parse_from(&words) {
        Ok(args) => return Ok(Invocation { args, lines: Vec::new() }),
        Err(error) => error,
    };
    let Some(at) = unknown(&words, &error) else { return Err(error) };
    if is_shell_command(&words[at]) {
        return Ok(Invocation { args: Args::try_parse_from(&words[..at])?, lines: words[at..].to_vec() });
    }
    if !is_directory(&words[at]) {
        return Err(error);
    }
    let mut named = words;
    named.insert(at, "--db".into());
    match Args::try_parse_from(&named) {
        Ok(args) => Ok(Invocation { args, lines: Vec::new() }),
        Err(error) => match unknown(&named, &error) {
            Some(at) if is_shell_command(&named[at]) => {
                Ok(Invocation { args: Args::try_parse_from(&named[..at])?, lines: named[at..].to_vec() })
            }
            _ => Err(error),
        },
    }
}

/// Where the word stands that should be a subcommand and is none.
fn unknown(words: &[OsString], error: &clap::Error) -> Option<usize> {
    if !matches!(error.kind(), ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument) {
        return None;
    }
    let lenient = Args::command().allow_external_subcommands(true).ignore_errors(false);
    let matches = lenient.try_get_matches_from(words).ok()?;
    let (name, behind) = matches.subcommand()?;
    if Args::command().find_subcommand(name).is_some() {
        return None;
    }
    let behind = behind.get_many::<OsString>("").map_or(0, Iterator::count);
    words.len().checked_sub(behind + 1)
}

fn is_shell_command(word: &OsString) -> bool {
    argument_bytes(word.clone()).is_ok_and(|line| shell::is_command(&line))
}

/// Whether a word is a directory, or can only mean one.
fn is_directory(word: &OsString) -> bool {
    let path = Path::new(word);
    path.is_dir() || path.components().count() > 1 || path.is_absolute()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command;

    fn parse(line: &[&str]) -> Result<Invocation, clap::Error> {
        super::parse([&["maplsm"], line].concat().into_iter().map(Into::into).collect())
    }

    #[test]
    fn the_directory_may_stand_in_front() {
        for line in [&["./x"][..], &["./x", "-k", "users"], &["-k", "users", "./x"]] {
            let found = parse(line).unwrap();
            assert_eq!(found.args.target.db, Path::new("./x"), "{line:?}");
            assert!(found.args.command.is_none() && found.lines.is_empty());
        }
        let found = parse(&["./x", "stats", "--json"]).unwrap();
        assert!(matches!(found.args.command, Some(Command::Stats { json: true })));
        assert_eq!(found.args.target.db, Path::new("./x"));
        // There is a directory of this name where the tests run.
        assert_eq!(parse(&["src"]).unwrap().args.target.db, Path::new("src"));
        assert!(parse(&["--db", "y", "./x"]).is_err());
    }

    #[test]
    fn shell_commands_stand_where_a_command_would() {
        for (line, db) in [
            (&["./x", "SET a 1", "GET a"][..], "./x"),
            (&["./x", "-k", "users", "SET a 1", "GET a"], "./x"),
            (&["--db", "y", "SET a 1", "GET a"], "y"),
            (&["SET a 1", "GET a"], "lsm_db"),
        ] {
            let found = parse(line).unwrap();
            assert_eq!((found.args.target.db.as_path(), found.lines.len()), (Path::new(db), 2), "{line:?}");
        }
    }

    #[test]
    fn a_typing_error_is_no_directory() {
        for line in [&["frob"][..], &["./x", "frob"], &["stast"], &["./x", "./y"], &["--db", "x", "frob", "GET a"]] {
            assert!(parse(line).is_err(), "{line:?}");
        }
        assert_eq!(parse(&["get"]).unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
    }
}
