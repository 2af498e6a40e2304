//! The `maplsm` command: an interactive shell and one-shot commands over one database directory.
//!
//! Data goes to stdout and messages to stderr. The exit code is 0 for success, 1 for an error or a key that is not
//! there, and 2 for damaged files. A reader of stdout that goes away ends the command quietly, as success.

mod args;
mod commands;
mod dump;
mod escape;
mod export;
mod failure;
mod import;
mod ingest;
mod open;
mod progress;
mod repair;
mod shell;
mod sort;
mod span;
mod stats;
mod tsv;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::failure::{Failure, Status, say};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Not `error.exit()`: its code for a wrong command line is 2, which means damaged files here.
            let status = if error.use_stderr() { Status::Failed } else { Status::Success };
            let _ = error.print();
            return status.into();
        }
    };
    let outcome = match args.command {
        None => shell::run(&args.target),
        Some(command) => commands::run(&args.target, command),
    };
    match outcome {
        Ok(status) => status,
        Err(Failure::Hangup) => Status::Success,
        Err(Failure::Reason { status, text }) => {
            say(format_args!("error: {text}"));
            status
        }
    }
    .into()
}
