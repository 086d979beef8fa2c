//! Scenarios: manifests, calls and expectations in one file that runs on the lab and on a cluster.
//!
//! file → steps, each: changes → settled → expectations, looked at until they hold or patience ends. What stands between
//! the runner and the place it runs on is [`Backend`].

mod backend;
mod expect;
mod file;
mod on_cluster;
mod on_lab;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use backend::Backend;
pub use file::{Change, Expectation, Question, Scenario, Step};
pub use on_cluster::OnCluster;
pub use on_lab::OnLab;

use crate::cluster::Cluster;
pub use crate::command::Said;
use crate::error::LabError;
use crate::lab::{LabOptions, Manifests, MeshMode};
use crate::{Lab, component::Programs};

/// Pause between two looks at an expectation that does not hold yet.
const PAUSE: Duration = Duration::from_millis(200);

/// Where a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// A lab of its own.
    Lab,
    /// The cluster that kubectl leads to, or the one of this machine that AMBIT_CLUSTER names; Ambit is installed there.
    Cluster,
}

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scenario's file; manifests it names lie beside it.
    pub file: PathBuf,
    /// Where.
    #[arg(long, default_value = "lab")]
    pub on: Place,
}

/// What came of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Title of the step.
    pub step: String,
    /// What was seen, one line for each expectation; or what was not as expected.
    pub seen: Result<Vec<String>, String>,
}

/// Runs a scenario and prints what comes of it. On a lab the calling process must be inside the lab's namespaces. Whether
/// everything was as expected.
pub fn run(options: &Options) -> Result<bool, LabError> {
    let scenario = Scenario::read(&options.file)?;
    match options.on {
        Place::Lab => {
            let lab = lab(&scenario)?;
            told(&scenario, &OnLab::new(&lab))
        }
        Place::Cluster => {
            let cluster = Cluster::current();
            let place = OnCluster::begin(&cluster, &scenario)?;
            let all = told(&scenario, &place);
            // What was found out counts more than what it leaves behind.
            place.end().and(all)
        }
    }
}

/// A lab with what is there before the first step.
fn lab(scenario: &Scenario) -> Result<Lab, LabError> {
    let own = crate::settings::outside_pid().unwrap_or_else(std::process::id);
    let lab = Lab::up(LabOptions {
        name: format!("scenario-{own}"),
        manifests: vec![Manifests::Inline(scenario.start()?)],
        nodes: 2,
        mesh: MeshMode::On(Programs::default()),
        ready_within: Some(Duration::from_secs(30)),
        keep: false,
    })?;
    match lab.faults().first() {
        Some(fault) => Err(LabError::Manifest(fault.to_string())),
        None => Ok(lab),
    }
}

/// Takes the steps and prints what comes of each. Whether everything was as expected.
fn told(scenario: &Scenario, backend: &dyn Backend) -> Result<bool, LabError> {
    println!("{}\n", scenario.title);
    let mut all = true;
    follow(scenario, backend, |outcome| {
        all &= outcome.seen.is_ok();
        match &outcome.seen {
            Ok(lines) => {
                println!("ok      {}", outcome.step);
                lines.iter().for_each(|line| println!("        {line}"));
            }
            Err(why) => println!("BROKEN  {}\n        {why}", outcome.step),
        }
    })?;
    Ok(all)
}

/// Takes a scenario's steps one after another; ends with the first that is not as expected.
///
/// # Errors
/// When the place cannot do what a step asks for; that says nothing about what was expected.
pub fn follow(
    scenario: &Scenario,
    backend: &dyn Backend,
    mut tell: impl FnMut(&Outcome),
) -> Result<(), LabError> {
    for step in &scenario.steps {
        for change in &step.change {
            make(change, &scenario.folder, backend)?;
        }
        backend.settled()?;
        let seen = step.expect.iter().map(|expectation| insist(expectation, backend));
        let outcome = Outcome { step: step.title.clone(), seen: seen.collect() };
        tell(&outcome);
        if outcome.seen.is_err() {
            break;
        }
    }
    Ok(())
}

fn make(change: &Change, folder: &Path, backend: &dyn Backend) -> Result<(), LabError> {
    match change {
        Change::Apply(file) => backend.apply(&file::manifest(folder, file)?),
        Change::Delete(file) => backend.delete(&file::manifest(folder, file)?),
        Change::Label { kind, name, label } => backend.label(kind, name, label),
    }
}

/// Looks until the expectation holds or the place's patience ends; what was seen.
fn insist(expectation: &Expectation, backend: &dyn Backend) -> Result<String, String> {
    let end = Instant::now() + backend.patience();
    loop {
        match expect::look(expectation, backend) {
            Err(_not_yet) if Instant::now() < end => std::thread::sleep(PAUSE),
            seen => return seen,
        }
    }
}
