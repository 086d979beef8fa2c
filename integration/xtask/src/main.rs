//! The project's own commands: `cargo xtask demo | test | check | bench | lab | ambit | cluster | images`.
//!
//! Standard library and one JSON parser only: this is what a fresh clone compiles before it can say anything.

use std::process::ExitCode;

mod arguments;
mod check;
mod cluster;
mod gateway_api;
mod images;
mod peers;
mod run;
mod setup;
mod test;

use arguments::Command;
use run::{Failure, Workspace};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo                     build, bring up the sample shop on two lab nodes, show every promise, then who calls whom, live
       [--once]            … check the promises and exit
       [--record FILE]     … and record the run; [--picture FILE] draws it, or the recording named by --from FILE
  test [--unit] [--lab] [--kubernetes]
                           everything that must pass (all three parts unless some are named)
       [--ztunnel PATH]    those that every ztunnel must pass, with this program in place of ours
       [--guides DIR]      … with the guides' manifests from this folder
       [--long]            … with streams of ten minutes instead of two, an API server that is away for two minutes, fifty pods
  check                    format, lints, layers, budgets, generated code, dependency rules
  bench [l4] [--json]      side by side: no mesh, ours, and a ztunnel named by --ztunnel PATH
  bench l7 [--json]        side by side: no proxy, our waypoint, Envoy (--envoy PATH, else fetched), the whole mesh
  bench checkout [--json]  side by side: an order of 47 calls without a mesh, with ztunnels, and with a waypoint
       [--only ROW] [--rounds N] [--seconds S] [--connections N] [--proxies-only] [--markdown FILE]
  lab ARGS…                the lab by hand: cargo xtask lab --help
  ambit ARGS…              the ambit command, with all it needs for clusters: cargo xtask ambit --help
  cluster ARGS…            a real Kubernetes on this machine, up | down | kubeconfig | load …: cargo xtask cluster --help
  images [--profile P]     container images of every program, as archives in target/images: dist (as they are shipped),
                           release (the same as --quick: no link-time optimisation), dev (for this machine alone)
       [--hub H] [--tag T] named H/PROGRAM:T (ambit and the version unless told otherwise)
       [--samples]         … and stand-ins for the other images that the samples ask for
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = match arguments::parse(&words) {
        Ok(command) => command,
        Err(problem) => {
            eprintln!("xtask: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match perform(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: &Command) -> Result<(), Failure> {
    if *command == Command::Help {
        print!("{USAGE}");
        return Ok(());
    }
    let workspace = Workspace::open()?;
    match command {
        Command::Help => Ok(()),
        Command::Ambit(words) => {
            workspace.build_for_clusters("ambit", gateway_api::fetched(&workspace))?;
            Err(workspace.become_program("ambit", words))
        }
        Command::Check => check::all(&workspace),
        Command::Cluster(words) => cluster::run(&workspace, words),
        Command::Images(options) => images::all(&workspace, options).map(drop),
        Command::Test(options) => {
            setup::tools()?;
            test::all(&workspace, options)
        }
        Command::Lab(words) => {
            setup::tools()?;
            workspace.build()?;
            let mut words = words.clone();
            if words.first().is_some_and(|word| word == "bench") {
                words.extend(measured(&workspace, &words)?);
            }
            Err(workspace.become_program("ambit-lab", &words))
        }
    }
}

/// The programs that a bench measures, as options of its own.
fn measured(workspace: &Workspace, words: &[String]) -> Result<Vec<String>, Failure> {
    let measures = |layer: &str| words.get(1).is_some_and(|word| word == layer);
    let l7 = measures("l7");
    if measures("checkout") {
        // Both are measured; they lie together.
        workspace.build_shipped("waypoint")?;
    }
    let ours = workspace.build_shipped(if l7 { "waypoint" } else { "ztunnel" })?;
    let mut options = vec!["--ours".to_owned(), ours.display().to_string()];
    if l7 && !words.iter().any(|word| word == "--envoy") {
        options.extend(["--envoy".to_owned(), peers::envoy(workspace)?.display().to_string()]);
    }
    Ok(options)
}
