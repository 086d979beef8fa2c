//! `ambit ztunnel`: what the ztunnels of nodes know and do, from their own dumps; names as users of `istioctl ztunnel-config`
//! know them.

mod dump;
mod rows;
mod source;

#[cfg(test)]
mod tests;

use clap::{Args, Subcommand};

use crate::failure::{End, Failure};
use crate::output::{self, Output, Row, Rows};
use dump::Dump;
use source::{Nodes, Source};

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The pods that a ztunnel knows: addresses, node, waypoint, and whether they take mutual TLS (HBONE) or not (TCP).
    #[command(visible_aliases = ["workloads", "w"])]
    Workload(Asked),
    /// The Services that a ztunnel knows: addresses, waypoint, endpoints that take connections of all there are.
    #[command(visible_aliases = ["services", "svc"])]
    Service(Asked),
    /// The policies that a ztunnel knows.
    #[command(visible_aliases = ["policies", "p"])]
    Policy(Asked),
    /// The certificates that ztunnels hold for their nodes' pods.
    #[command(visible_aliases = ["certificates", "cert"])]
    Certificate(Asked),
    /// The open connections of ztunnels' pods.
    #[command(visible_aliases = ["connection", "conn"])]
    Connections(Asked),
}

/// Which ztunnel, and what of it.
#[derive(Debug, Args)]
struct Asked {
    #[command(flatten)]
    source: Source,
    /// Only of this namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// The dump of one node's ztunnel.
#[derive(Debug)]
struct Told {
    /// Empty where only one is asked by its address.
    node: String,
    dump: Dump,
}

/// Ends 0 when everybody asked has answered, 2 when one has not.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    match &arguments.what {
        // What all of them are told is asked of one; what each does itself, of each.
        What::Workload(asked) => asked.print(Nodes::Any, "workload", rows::workloads),
        What::Service(asked) => asked.print(Nodes::Any, "Service", rows::services),
        What::Policy(asked) => asked.print(Nodes::Any, "policy", rows::policies),
        What::Certificate(asked) => asked.print(Nodes::Each, "certificate", rows::certificates),
        What::Connections(asked) => asked.print(Nodes::Each, "open connection", rows::connections),
    }
}

impl Asked {
    fn print<R: Row + Ord>(
        &self,
        nodes: Nodes,
        what: &str,
        rows: impl Fn(&Told, Option<&str>) -> Vec<R>,
    ) -> Result<End, Failure> {
        let (told, silent) = self.source.ask(nodes)?;
        silent.iter().for_each(|failure| eprintln!("ambit: {failure}"));
        let namespace = self.namespace.as_deref();
        let mut list: Vec<R> = told.iter().flat_map(|told| rows(told, namespace)).collect();
        list.sort();
        let place = namespace.map(|one| format!(" in namespace {one}")).unwrap_or_default();
        output::print(&Rows::new(list, format!("no {what}{place}")), self.output.format)?;
        Ok(if silent.is_empty() { End::Yes } else { End::Unknown })
    }
}
