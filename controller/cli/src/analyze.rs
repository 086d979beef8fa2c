//! `ambit analyze`: what is wrong with folders of manifests, one line each, for people or programs.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use ambit_crds::{Fault, Severity, load_once};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folders of .yaml, .yml and .json files.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// How findings are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Ends 0 without errors, 1 with errors, 2 when the findings could not be printed.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let mut faults = load_once(&arguments.directories).faults;
    faults.sort();
    if let Err(error) = print(&faults, arguments.output, &mut io::stdout().lock()) {
        eprintln!("ambit: the findings cannot be printed: {error}; write them to a file that has room");
        return ExitCode::from(2);
    }
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn print(faults: &[Fault], output: Output, to: &mut impl Write) -> io::Result<()> {
    match output {
        Output::Text => {
            for fault in faults {
                let severity = match fault.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                    Severity::Note => "note",
                };
                writeln!(to, "{severity}: {fault}")?;
            }
            Ok(())
        }
        Output::Json => {
            serde_json::to_writer_pretty(&mut *to, faults)?;
            writeln!(to)
        }
    }
}
