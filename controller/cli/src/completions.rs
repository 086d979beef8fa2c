//! `ambit completions`: what a shell needs to complete the command.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::failure::{End, Failure};
use crate::output;

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// bash: `source <(ambit completions bash)`; zsh: into a file _ambit in a folder of $fpath; fish:
    /// `ambit completions fish | source`.
    shell: Shell,
}

/// Ends 0 when it is written.
pub(crate) fn run<C: CommandFactory>(arguments: &Arguments) -> Result<End, Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut C::command(), "ambit", &mut script);
    output::written(io::stdout().write_all(&script))?;
    Ok(End::Yes)
}
