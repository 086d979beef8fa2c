//! Tests that need a cluster: one is brought up for all of them, and taken down whatever comes of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use super::{Program, Tally, helm};
use crate::run::{Failure, Workspace, succeeds};
use crate::{cluster, gateway_api, images};

/// They, by package and test target.
pub(super) const TESTS: [(&str, &str); 2] = [("ambit-crds", "cluster"), ("ambit-lab", "kubernetes")];

/// The cluster's name, which no other cluster of this folder has.
const NAME: &str = "test";

/// Whether this is one of them.
pub(super) fn needs(program: &Program) -> bool {
    TESTS.contains(&(&program.package, &program.name))
}

/// Runs them, and returns the names of what failed. Where no cluster can be had they are skipped.
pub(super) fn run(
    workspace: &Workspace,
    programs: &[Program],
    environment: &BTreeMap<&'static str, OsString>,
    tally: &mut Tally,
) -> Vec<String> {
    if let Err(Failure(reason)) = cluster::provide(workspace) {
        tally.skipped.insert("kubernetes".to_owned(), reason);
        return Vec::new();
    }
    let prepared = prepare(workspace).and_then(|definitions| Ok((definitions, Up::new(workspace)?)));
    let (definitions, up) = match prepared {
        Ok(prepared) => prepared,
        Err(Failure(why)) => return vec![format!("the cluster ({why})")],
    };
    let mut told = environment.clone();
    told.extend(up.told());
    told.insert("AMBIT_GATEWAY_API", definitions.into_os_string());
    let mut failed = Vec::new();
    for program in programs {
        let outcome = program.stream(&told, &mut |line| tally.read(line));
        failed.extend(outcome.err().map(|Failure(why)| format!("{} ({why})", program.name)));
    }
    failed.extend(helm::agrees(workspace).err().map(|Failure(why)| format!("Helm's objects ({why})")));
    failed.extend(up.down().err().map(|Failure(why)| format!("the cluster's end ({why})")));
    failed
}

/// Builds what brings clusters up, and shows that it does what clusters are expected to do, before anything relies on it.
/// Returns the file of the Gateway API's definitions, which tests install.
fn prepare(workspace: &Workspace) -> Result<PathBuf, Failure> {
    cluster::build(workspace)?;
    cluster::own_tests(workspace)?;
    succeeds(cluster::program(workspace).arg("check"))?;
    gateway_api::fetched(workspace)
}

/// A cluster that holds our images; gone when this is dropped.
struct Up<'a> {
    workspace: &'a Workspace,
    over: bool,
}

impl<'a> Up<'a> {
    fn new(workspace: &'a Workspace) -> Result<Self, Failure> {
        let options = images::Options {
            build: images::Build::Tests,
            samples: images::Samples::StoodInFor,
            ..images::Options::default()
        };
        let archives = images::all(workspace, &options)?;
        let up = Self { workspace, over: false };
        succeeds(up.command().arg("up"))?;
        succeeds(up.command().arg("load").args(archives))?;
        Ok(up)
    }

    fn command(&self) -> Command {
        let mut command = cluster::program(self.workspace);
        command.args(["--name", NAME]);
        command
    }

    /// What the tests are told.
    fn told(&self) -> [(&'static str, OsString); 3] {
        let folder = cluster::folder(self.workspace);
        let kubeconfig = folder.join(NAME).join("kubeconfig");
        [
            ("AMBIT_CLUSTER", NAME.into()),
            ("AMBIT_CLUSTERS", folder.into_os_string()),
            ("AMBIT_KUBECONFIG", kubeconfig.into_os_string()),
        ]
    }

    fn down(mut self) -> Result<(), Failure> {
        self.over = true;
        succeeds(self.command().arg("down"))
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        if !self.over {
            // Whatever led here is told already.
            let _down = succeeds(self.command().arg("down"));
        }
    }
}
