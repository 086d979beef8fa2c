//! `ambit waypoint`: Gateways that are waypoints, with the flags that users of `istioctl waypoint` know.

mod list;
mod make;

#[cfg(test)]
mod tests;

use std::time::Duration;

use ambit_process::settings::parse_duration;
use clap::{Args, Subcommand, ValueEnum};

use crate::cluster::To;
use crate::failure::{End, Failure};
use crate::output::Output;
pub(crate) use list::{condition, waypoints};

/// The class of waypoints that `ambit` makes.
const CLASS: &str = "ambit-waypoint";

/// Classes whose Gateways are waypoints.
const CLASSES: [&str; 2] = [CLASS, "istio-waypoint"];

/// On a Gateway: what it is for.
const WAYPOINT_FOR: &str = "istio.io/waypoint-for";

/// On a namespace: which waypoint its Services have.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";

/// On both: whose configuration it is.
const REVISION: &str = "istio.io/rev";

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the Gateway that `apply` applies.
    Generate(Described),
    /// Make a waypoint, or change one.
    Apply(Applied),
    /// Remove waypoints, and the label of the namespace that names them.
    Delete(Deleted),
    /// Show the waypoints.
    #[command(visible_alias = "ls")]
    List(Listed),
    /// Show what the controller says about the waypoints of a namespace.
    Status(Asked),
}

/// A waypoint.
#[derive(Clone, Debug, Args)]
struct Described {
    /// Its namespace.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Its name.
    #[arg(long, value_name = "NAME", default_value = "waypoint")]
    name: String,
    /// Which traffic it is for: to Services, to pods' addresses, both or none.
    #[arg(long = "for", value_enum, value_name = "TRAFFIC")]
    traffic: Option<Traffic>,
    /// The revision that is to look after it.
    #[arg(short, long, value_name = "REVISION")]
    revision: Option<String>,
}

#[derive(Debug, Args)]
struct Applied {
    #[command(flatten)]
    described: Described,
    /// Let the Services of its namespace have it.
    #[arg(long)]
    enroll_namespace: bool,
    /// Replace what somebody else has set: the namespace's label, fields of the Gateway.
    #[arg(long)]
    overwrite: bool,
    /// Wait until it is ready.
    #[arg(short, long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = parse_duration, default_value = "2m", value_name = "DURATION")]
    timeout: Duration,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, Args)]
struct Deleted {
    /// Their names.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME")]
    names: Vec<String>,
    /// All of the namespace.
    #[arg(long)]
    all: bool,
    /// Their namespace.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, Args)]
struct Listed {
    /// Of every namespace.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
struct Asked {
    /// Of this namespace.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    output: Output,
}

/// Which traffic a waypoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Traffic {
    /// To Services.
    Service,
    /// To pods' addresses.
    Workload,
    /// Both.
    All,
    /// None.
    None,
}

impl Traffic {
    fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Workload => "workload",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

/// Ends 0 when it is done, 1 when a waypoint that was asked about is not ready, 2 when it cannot be done or told.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    match &arguments.what {
        What::Generate(described) => make::generate(described),
        What::Apply(applied) => make::apply(applied),
        What::Delete(deleted) => make::delete(deleted),
        What::List(listed) => list::list(listed),
        What::Status(asked) => list::status(asked),
    }
}
