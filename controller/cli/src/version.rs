//! `ambit version`: of this command, and of the programs of a cluster's mesh.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::chart;
use crate::cluster::{Cluster, To, kinds, label};
use crate::failure::{End, Failure};
use crate::output::{self, Output, Page, Row, Show, Table};

/// What the controller deploys for Gateways carries it.
pub(crate) const MANAGED: &str = "gateway.istio.io/managed";

/// The value of [`MANAGED`] that is ours.
pub(crate) const MANAGED_BY_US: &str = "ambit.mesh-waypoint-controller";

/// The programs of an installation, by the label `app` of their pods.
pub(crate) const PROGRAMS: [(&str, &str); 3] =
    [("ambit-controller", "controller"), ("ambit-node", "agent"), ("ztunnel", "ztunnel")];

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this command's own.
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    output: Output,
}

/// The answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Versions {
    client: &'static str,
    mesh: Vec<Version>,
}

/// A program of the mesh in one version.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Version {
    program: String,
    version: String,
    pods: usize,
}

/// Ends 0 when all are told, 1 when programs of the mesh are of several versions, 2 when a cluster that is named does not
/// answer.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    let mesh = match arguments.client {
        true => Vec::new(),
        false => match arguments.to.open() {
            Ok(cluster) => mesh(&cluster)?,
            // Nobody asked for a cluster.
            Err(_) if !arguments.to.is_named() => Vec::new(),
            Err(failure) => return Err(failure),
        },
    };
    let versions = Versions { client: env!("CARGO_PKG_VERSION"), mesh };
    output::print(&versions, arguments.output.format)?;
    let mut distinct: Vec<&str> = versions.mesh.iter().map(|one| one.version.as_str()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    Ok(if distinct.len() > 1 { End::No } else { End::Yes })
}

fn mesh(cluster: &Cluster) -> Result<Vec<Version>, Failure> {
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let pods = pods(cluster)?;
    pods.iter().for_each(|(program, pod)| *counts.entry((program, of(pod))).or_default() += 1);
    let version = |((program, version), pods): ((&str, String), usize)| Version {
        program: program.to_owned(),
        version,
        pods,
    };
    Ok(counts.into_iter().map(version).collect())
}

/// Every pod of a program of the mesh, with the program's name.
pub(crate) fn pods(cluster: &Cluster) -> Result<Vec<(&'static str, Value)>, Failure> {
    let list = |namespace: &str, labels: &str| {
        let pods = cluster.list(&kinds::POD, namespace, labels);
        pods.map_err(|refused| cluster.failed("pods of the mesh", &refused))
    };
    let own = list(chart::NAMESPACE, "app.kubernetes.io/part-of=ambit")?;
    let waypoints = list("", &format!("{MANAGED}={MANAGED_BY_US}"))?;
    let named = |pod: Value| {
        let app = label(&pod, "app")?;
        let program = PROGRAMS.iter().find(|(known, _)| *known == app).map(|(_, program)| *program)?;
        Some((program, pod))
    };
    Ok(own.into_iter().filter_map(named).chain(waypoints.into_iter().map(|pod| ("waypoint", pod))).collect())
}

/// The version of a pod's program.
pub(crate) fn of(pod: &Value) -> String {
    tag(pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default())
}

/// What stands behind an image's name; its digest if it has no tag.
fn tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let end = last.split_once(':').or_else(|| last.split_once('@'));
    end.map_or_else(|| "latest".to_owned(), |(_, tag)| tag.to_owned())
}

impl Row for Version {
    const HEAD: &'static [&'static str] = &["PROGRAM", "VERSION", "PODS"];

    fn cells(&self) -> Vec<String> {
        vec![self.program.clone(), self.version.clone(), self.pods.to_string()]
    }
}

impl Show for Versions {
    fn show(&self, page: &mut Page) {
        page.line(&format!("ambit {}", self.client));
        if !self.mesh.is_empty() {
            page.table(&Table::of(&self.mesh));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fake::Fake;

    fn pod(name: &str, namespace: &str, labels: Value, image: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace, "labels": labels },
            "spec": { "containers": [{ "image": image }] } })
    }

    #[test]
    fn programs_are_counted_by_version() {
        let own = |app: &str| json!({ "app": app, "app.kubernetes.io/part-of": "ambit" });
        let server = Fake::with(&[
            pod("c", "ambit-system", own("ambit-controller"), "ambit/controller:0.1"),
            pod("z1", "ambit-system", own("ztunnel"), "registry:5000/ambit/ztunnel:0.1"),
            pod("z2", "ambit-system", own("ztunnel"), "ambit/ztunnel:0.2@sha256:00"),
            pod("w", "shop", json!({ (MANAGED): MANAGED_BY_US }), "ambit/waypoint"),
            pod("x", "ambit-system", json!({ "app": "ztunnel" }), "other/ztunnel:9"),
        ]);
        let told = mesh(&Cluster::of(server)).unwrap();
        let told: Vec<_> = told.iter().map(Version::cells).map(|cells| cells.join(" ")).collect();
        let expected = ["controller 0.1 1", "waypoint latest 1", "ztunnel 0.1 1", "ztunnel 0.2@sha256:00 1"];
        assert_eq!(told, expected);
    }
}
