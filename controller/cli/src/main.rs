//! The `ambit` command.

mod analyze;
mod chart;
mod check;
mod cluster;
mod completions;
mod describe;
mod enroll;
mod explain;
mod failure;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod help;
mod install;
mod mesh;
mod output;
mod settings;
mod status;
mod tls_check;
mod uninstall;
mod version;
mod waypoint;
mod ztunnel;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use enroll::Direction;

/// Install Ambit, look into a mesh and check it.
///
/// Commands end 0 for yes (it is allowed, encrypted, well, done), 1 for no, and 2 when that cannot be told or done. Those that
/// install and change work on a cluster (--kubeconfig, --context). For those that tell, the mesh is a folder of manifests
/// (--dir), a lab that runs on this machine (--lab), or a controller's admin port (--live); without any of these, the lab that
/// runs on this machine if it is the only one.
#[derive(Debug, Parser)]
#[command(name = "ambit", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install Ambit into a cluster, or change an installation: says of every object what became of it, and waits until all
    /// is ready. Twice is the same as once.
    Install(install::Arguments),
    /// Tell what would break an installation, or breaks it, each with its mend: ends 0 if nothing is an error, 1 if something
    /// is, 2 if that cannot be told.
    Check(check::Arguments),
    /// Take Ambit out of a cluster: pods leave the mesh first, then its programs go. What people wrote stays.
    Uninstall(uninstall::Arguments),
    /// Take namespaces or pods into the mesh: ends 0 when all their pods are in, 1 when some are not.
    Enroll(enroll::Arguments),
    /// Take namespaces or pods out of the mesh: ends 0 when all their pods are out, 1 when some are not.
    Unenroll(enroll::Arguments),
    /// Make, remove and show waypoints.
    Waypoint(waypoint::Arguments),
    /// Check folders of manifests, without a mesh: one line per finding, each with a code and a mend. Ends 0 if nothing is
    /// wrong for certain, 1 if something is, 2 if that cannot be told.
    Analyze(analyze::Arguments),
    /// Tell what becomes of a request and why: ends 0 if it is allowed, 1 if it is refused, 2 if that cannot be told.
    Explain(explain::Arguments),
    /// Tell whether a connection is mutual TLS, under which identities, who decides that, and what becomes of plain text:
    /// ends 0 if it is, 1 if it is not, 2 if that cannot be told.
    TlsCheck(tls_check::Arguments),
    /// Tell everything that concerns a pod or a Service: enrolment, identity, waypoints, policies and who enforces them, ports,
    /// locks, routes, and what is accepted but not in effect.
    Describe(describe::Arguments),
    /// Show the programs of a running mesh, what each has acknowledged, and what waits: ends 0 if nothing does, else 1.
    Status(status::Arguments),
    /// Show what the ztunnels of nodes know and do.
    Ztunnel(ztunnel::Arguments),
    /// Write what a shell needs to complete this command.
    Completions(completions::Arguments),
    /// Print the versions of this command and of the programs of a cluster's mesh: ends 0 if these are one, 1 if they are
    /// several.
    Version(version::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Install(arguments) => failure::end(install::run(&arguments)),
        Command::Check(arguments) => failure::end(check::run(&arguments)),
        Command::Uninstall(arguments) => failure::end(uninstall::run(&arguments)),
        Command::Enroll(arguments) => failure::end(enroll::run(&arguments, Direction::In)),
        Command::Unenroll(arguments) => failure::end(enroll::run(&arguments, Direction::Out)),
        Command::Waypoint(arguments) => failure::end(waypoint::run(&arguments)),
        Command::Analyze(arguments) => failure::end(analyze::run(&arguments)),
        Command::Explain(arguments) => failure::end(explain::run(&arguments)),
        Command::TlsCheck(arguments) => failure::end(tls_check::run(&arguments)),
        Command::Describe(arguments) => failure::end(describe::run(&arguments)),
        Command::Status(arguments) => failure::end(status::run(&arguments)),
        Command::Ztunnel(arguments) => failure::end(ztunnel::run(&arguments)),
        Command::Completions(arguments) => failure::end(completions::run::<Arguments>(&arguments)),
        Command::Version(arguments) => failure::end(version::run(&arguments)),
    }
}
