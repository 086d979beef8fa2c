//! The `ambit` command.

mod analyze;
mod explain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Look into and check an Ambit mesh.
#[derive(Debug, Parser)]
#[command(name = "ambit", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check folders of manifests, without a mesh: one line per finding, each with a mend. Later folders override earlier ones.
    Analyze(analyze::Arguments),
    /// Tell what becomes of a request and why: ends 0 if it is allowed, 1 if it is refused, 2 if that cannot be told.
    Explain(explain::Arguments),
    /// Print the version.
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Analyze(arguments) => analyze::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Version => {
            println!("ambit {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}
