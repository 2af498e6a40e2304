//! The shell: commands from a line editor, from a pipe, or from the command line.

mod catalog;
mod converse;
mod editor;
mod follow;
mod history;
mod parse;
mod session;
mod words;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};

use crate::args::Target;
use crate::failure::{Failure, Status};

pub(crate) use crate::shell::parse::is_command;

pub(crate) fn run(target: &Target) -> Result<Status, Failure> {
    if io::stdin().is_terminal() { converse::run(target) } else { follow::input(target) }
}

/// Runs commands that stand on the command line, one in each argument.
pub(crate) fn run_lines(target: &Target, lines: Vec<OsString>) -> Result<Status, Failure> {
    follow::arguments(target, lines)
}
