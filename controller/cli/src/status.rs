//! `ambit status`: the programs of a running mesh, whether each is ready and has acknowledged what it is told, and what waits.

mod gather;
mod on_cluster;

use clap::Args;
use serde::Serialize;

use crate::cluster::To;
use crate::failure::{End, Failure};
use crate::mesh::Place;
use crate::output::{self, Output, Page, Row, Show, Table};

/// What is asked.
///
/// The mesh is a lab, a controller's admin port, or a cluster: one that is named, or that of the kubeconfig where no lab runs.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    output: Output,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// Counts the changes that the controller has taken up, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    programs: Vec<Program>,
    /// What waits, or is wrong; empty when all is well.
    waiting: Vec<String>,
}

/// One program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Program {
    /// `controller`, `agent`, `ztunnel`, or `waypoint NAMESPACE/NAME`.
    program: String,
    node: String,
    pod: String,
    /// Ambit's version; empty for a proxy that announces none, and for what is no proxy.
    version: String,
    ready: Ready,
    sync: Sync,
    /// The generation that a proxy has acknowledged.
    acknowledged: Option<u64>,
}

/// Whether a program is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Ready {
    Yes,
    No,
    /// It does not answer.
    Down,
    /// It was not asked.
    Unknown,
}

/// Whether a proxy has acknowledged what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Sync {
    /// All of it.
    Synced,
    /// It has yet to answer.
    Waiting,
    /// It owes an answer for too long.
    Overdue,
    /// It refused something.
    Refused,
    /// It is not connected to the controller.
    NotConnected,
    /// It is told nothing by xDS.
    None,
}

/// Ends 0 when all is well, 1 when something waits or is wrong, 2 when that cannot be told.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    let status = arguments.gather()?;
    output::print(&status, arguments.output.format)?;
    Ok(if status.waiting.is_empty() { End::Yes } else { End::No })
}

impl Arguments {
    fn gather(&self) -> Result<Status, Failure> {
        if self.to.is_named() {
            return on_cluster::gather(&self.to.open()?);
        }
        match (self.place.find(), self.place.is_named()) {
            (Ok(place), _) => gather::gather(&place),
            (Err(failure), true) => Err(failure),
            // Nothing is named and no lab runs.
            (Err(failure), false) => on_cluster::gather(&self.to.open().map_err(|_| failure)?),
        }
    }
}

impl Row for Program {
    const HEAD: &'static [&'static str] =
        &["PROGRAM", "NODE", "POD", "VERSION", "READY", "SYNC", "ACKNOWLEDGED"];

    fn cells(&self) -> Vec<String> {
        let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let ready = match self.ready {
            Ready::Yes => "yes",
            Ready::No => "no",
            Ready::Down => "down",
            Ready::Unknown => "-",
        };
        let sync = match self.sync {
            Sync::Synced => "synced",
            Sync::Waiting => "waiting",
            Sync::Overdue => "overdue",
            Sync::Refused => "refused",
            Sync::NotConnected => "not connected",
            Sync::None => "-",
        };
        let acknowledged =
            self.acknowledged.map_or_else(|| "-".to_owned(), |generation| generation.to_string());
        let words = [&self.program, &self.node, &self.pod, &self.version].map(|word| or(word));
        words.into_iter().chain([ready.to_owned(), sync.to_owned(), acknowledged]).collect()
    }
}

impl Show for Status {
    fn show(&self, page: &mut Page) {
        if let Some(generation) = self.generation {
            page.line(&format!("generation {generation}"));
        }
        page.table(&Table::of(&self.programs));
        if self.waiting.is_empty() {
            page.line("nothing waits");
        } else {
            page.section("Waiting:", |page| self.waiting.iter().for_each(|one| page.line(one)));
        }
    }
}
