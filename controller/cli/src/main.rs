//! The `ambit` command.

mod analyze;

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
    /// Print the version.
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Analyze(arguments) => analyze::run(&arguments),
        Command::Version => {
            println!("ambit {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}
