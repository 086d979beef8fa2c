//! The CNI plugin of the mesh: the container runtime calls it when a pod's network is made and taken away.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use ambit_agent::cni::plugin;
use ambit_process::settings::ProcessEnvironment;

fn main() -> ExitCode {
    let mut input = Vec::new();
    if let Err(error) = io::stdin().take(plugin::INPUT_LIMIT).read_to_end(&mut input) {
        eprintln!("{}: cannot read the configuration: {error}", plugin::NAME);
        return ExitCode::FAILURE;
    }
    let (printed, outcome) = plugin::run(&ProcessEnvironment, &input);
    let written = printed.map_or(Ok(()), |printed| writeln!(io::stdout(), "{printed}"));
    match (outcome, written) {
        (Ok(()), Ok(())) => ExitCode::SUCCESS,
        (Err(error), _) => {
            eprintln!("{}: {error}", plugin::NAME);
            ExitCode::FAILURE
        }
        (Ok(()), Err(_)) => ExitCode::FAILURE,
    }
}
