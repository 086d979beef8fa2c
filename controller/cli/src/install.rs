//! `ambit install`: the chart's objects, applied to a cluster until everything is ready.

mod apply;
mod asked;
mod definitions;
mod operator;
mod wait;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use ambit_process::settings::parse_duration;
use clap::{ArgAction, Args};
use serde_json::Value;

use crate::chart::{self, Profile};
use crate::cluster::{Cluster, To, Verb};
use crate::failure::{End, Failure};
use crate::output;
use apply::{Outcome, Report};
use asked::Asked;

pub(crate) use definitions::{can_bring_gateway_api, ours};
pub(crate) use wait::{Waiter, lagging, trouble};

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Values to begin with.
    #[arg(long, value_enum, default_value_t = Profile::Default, value_name = "PROFILE")]
    profile: Profile,
    /// Values over them, as Helm has it: NAME.NAME=VALUE, several with commas between. May be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    sets: Vec<String>,
    /// A file of values, or an IstioOperator. May be given several times; later ones override earlier ones.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print what would be applied, as YAML; no cluster is asked.
    #[arg(long)]
    dry_run: bool,
    /// Print the values there are, with what they mean, and nothing else.
    #[arg(long, conflicts_with_all = ["dry_run", "sets", "files"])]
    show_values: bool,
    /// Wait until everything is ready.
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_name = "true|false")]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = parse_duration, default_value = "5m", value_name = "DURATION")]
    timeout: Duration,
    /// Take over fields that others have set in objects of ours.
    #[arg(long)]
    force_conflicts: bool,
    /// Definitions of the Gateway API, a file of CustomResourceDefinitions, for a cluster that has none.
    #[arg(long, value_name = "FILE")]
    gateway_api: Option<PathBuf>,
    #[command(flatten)]
    to: To,
}

/// Ends 0 when everything is there (and ready, if that is waited for), 2 otherwise.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    if arguments.show_values {
        output::text(chart::VALUES)?;
        return Ok(End::Yes);
    }
    let asked = Asked::read(arguments)?;
    asked.remarks.iter().for_each(|remark| eprintln!("ambit: {remark}"));
    let objects = chart::render(&asked.values)?;
    if arguments.dry_run {
        eprintln!("ambit: the Gateway API's definitions are applied too where a cluster has none");
        output::text(&manifests(definitions::ours().iter().chain(&objects))?)?;
        return Ok(End::Yes);
    }
    let cluster = arguments.to.open()?;
    let gateway_api = definitions::gateway_api(arguments.gateway_api.as_deref())?;
    let verb = if arguments.force_conflicts { Verb::ApplyForced } else { Verb::Apply };
    let report = all(&cluster, &objects, gateway_api.as_deref(), verb)?;
    output::line(&report.summary())?;
    if arguments.wait {
        Waiter::new(&cluster, arguments.timeout).until_ready(&objects)?;
        output::line("Ambit is ready; take a namespace into the mesh: ambit enroll NAMESPACE")?;
    }
    Ok(End::Yes)
}

/// Applies everything in order, and removes what an earlier installation had besides.
fn all(
    cluster: &Cluster,
    objects: &[Value],
    gateway_api: Option<&[Value]>,
    verb: Verb,
) -> Result<Report, Failure> {
    let mut report = Report::default();
    definitions::bring(cluster, gateway_api, &mut report)?;
    for object in objects {
        report.add(object, apply::apply(cluster, object, verb)?)?;
    }
    for object in apply::left_over(cluster, objects)? {
        cluster
            .delete(&object)
            .map_err(|refused| cluster.failed(&crate::cluster::told(&object), &refused))?;
        report.add(&object, Outcome::Removed)?;
    }
    Ok(report)
}

/// Objects as one YAML file.
fn manifests<'a>(objects: impl Iterator<Item = &'a Value>) -> Result<String, Failure> {
    let mut text = String::new();
    for object in objects {
        let one = serde_saphyr::to_string(object).map_err(|error| output::unprintable(&error))?;
        text.push_str("---\n");
        text.push_str(&one);
    }
    Ok(text)
}
