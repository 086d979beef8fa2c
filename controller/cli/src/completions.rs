//! `ambit completions`: what a shell needs to complete the command.

use std::io;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::failure::{End, Failure};

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// bash: `source <(ambit completions bash)`; zsh: into a file _ambit in a folder of $fpath; fish:
    /// `ambit completions fish | source`.
    shell: Shell,
}

/// Always ends 0.
pub(crate) fn run<C: CommandFactory>(arguments: &Arguments) -> Result<End, Failure> {
    generate(arguments.shell, &mut C::command(), "ambit", &mut io::stdout());
    Ok(End::Yes)
}
