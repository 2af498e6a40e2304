//! What is made of the definition of the command line: completions and manual pages.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Args;
use crate::failure::{Failure, Status};

pub(crate) fn completions(shell: Shell) -> Result<Status, Failure> {
    // Into memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "maplsm", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Status::Success)
}

pub(crate) fn man(name: Option<&str>) -> Result<Status, Failure> {
    let mut program = Args::command();
    program.build();
    let page = match name {
        None => program,
        Some(name) => {
            let command = program.find_subcommand(name).cloned();
            command.ok_or_else(|| Failure::new(format_args!("there is no command `{name}`")))?
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text)?;
    io::stdout().lock().write_all(&text)?;
    Ok(Status::Success)
}
