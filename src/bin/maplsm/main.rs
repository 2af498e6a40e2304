//! The `maplsm` command: an interactive shell and one-shot commands over one database directory.
//!
//! Data goes to stdout and messages to stderr. The exit code is 0 for success, 1 for an error or a key that is not
//! there, 2 for damaged files, and 130 after an interrupt. A reader of stdout that goes away ends the command quietly, as
//! success.

mod args;
mod bench;
mod commands;
mod diff;
mod dump;
mod escape;
mod export;
mod failure;
mod generate;
mod import;
mod ingest;
mod input;
mod interrupt;
mod invocation;
mod json;
mod keyspaces;
mod open;
mod progress;
mod reading;
mod records;
mod repair;
mod shell;
mod sort;
mod span;
mod stats;
mod tsv;
mod verify;

use std::env;
use std::process::ExitCode;

use crate::failure::{Failure, Status, say};
use crate::invocation::Invocation;

fn main() -> ExitCode {
    let Invocation { args, lines } = match invocation::parse(env::args_os().collect()) {
        Ok(invocation) => invocation,
        Err(error) => {
            // Not `error.exit()`: its code for a wrong command line is 2, which means damaged files here.
            let status = if error.use_stderr() { Status::Failed } else { Status::Success };
            let _ = error.print();
            return status.into();
        }
    };
    interrupt::listen();
    let mut target = args.target;
    target.options = args.options;
    let outcome = match args.command {
        None if lines.is_empty() => shell::run(&target),
        None => shell::run_lines(&target, lines),
        Some(command) => commands::run(target, command),
    };
    match outcome {
        Ok(status) => status,
        Err(Failure::Hangup) => Status::Success,
        Err(failure) if failure.is_interrupt() => {
            say(format_args!("{failure}"));
            failure.status()
        }
        Err(failure) => {
            say(format_args!("error: {failure}"));
            failure.status()
        }
    }
    .into()
}
