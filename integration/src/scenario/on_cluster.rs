//! Scenarios on a cluster: kubectl makes the changes, and calls start in the scenario's own pods.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::backend::Backend;
use super::file::{Question, Scenario};
use crate::cluster::{Cluster, eventually};
use crate::command::Said;
use crate::error::LabError;
use crate::manifest::{parse, text};

/// How long an expectation may take: waypoints are pods that have to be scheduled and started first.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long pods may take to become ready.
const START: Duration = Duration::from_secs(120);

/// A cluster as scenarios see it.
pub struct OnCluster<'a> {
    cluster: &'a Cluster,
    /// What is removed at the end.
    start: String,
    namespaces: BTreeSet<String>,
    /// What kubectl calls the pods that were named, once they have been looked up.
    known: RefCell<BTreeMap<String, String>>,
}

impl<'a> OnCluster<'a> {
    /// Applies what is there before the first step, and waits until its pods are ready.
    pub fn begin(cluster: &'a Cluster, scenario: &Scenario) -> Result<Self, LabError> {
        let start = scenario.start()?;
        let (documents, faults) = parse(Path::new("scenario"), &start);
        if let Some(fault) = faults.first() {
            return Err(LabError::Manifest(fault.to_string()));
        }
        let objects: Vec<Value> = documents.into_iter().map(|document| document.value).collect();
        let namespaces = Cluster::namespaces(&objects);
        namespaces.iter().try_for_each(|namespace| not_ending(cluster, namespace))?;
        cluster.apply(&start)?;
        namespaces.iter().try_for_each(|namespace| cluster.ready(namespace, START))?;
        Ok(Self { cluster, start, namespaces, known: RefCell::default() })
    }

    /// Removes what was there before the first step. Its programs may take their time to end; nobody waits for them.
    pub fn end(self) -> Result<(), LabError> {
        let words = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
        self.cluster.fed(&words, &self.start).map(drop)
    }

    /// Namespace and kubectl's name of a pod that is named as `NAMESPACE/NAME`, by itself or by its Deployment.
    fn find(&self, named: &str) -> Result<(String, String), LabError> {
        let (namespace, name) = named.split_once('/').unwrap_or(("default", named));
        if let Some(known) = self.known.borrow().get(named) {
            return Ok((namespace.to_owned(), known.clone()));
        }
        let words = ["get", "pod", "-n", namespace, name, "--ignore-not-found", "-o", "name"];
        let found = self.cluster.must(&words)?;
        let found = if found.trim().is_empty() { format!("deploy/{name}") } else { name.to_owned() };
        self.known.borrow_mut().insert(named.to_owned(), found.clone());
        Ok((namespace.to_owned(), found))
    }

    /// The name of the pod itself.
    fn pod(&self, named: &str) -> Result<String, LabError> {
        let (namespace, found) = self.find(named)?;
        let Some(deployment) = found.strip_prefix("deploy/") else { return Ok(found) };
        let listed = self.cluster.get(&["pods", "-n", &namespace])?;
        let names = listed["items"].as_array().into_iter().flatten();
        let mut names = names.filter_map(|pod| text(pod, &["metadata", "name"]));
        let own = names.find(|name| name.strip_prefix(deployment).is_some_and(|rest| rest.starts_with('-')));
        own.map(str::to_owned).ok_or_else(|| LabError::Unknown(format!("pod of {named}")))
    }
}

/// Waits while a namespace that was deleted is still on its way out: nothing can be made in it.
fn not_ending(cluster: &Cluster, namespace: &str) -> Result<(), LabError> {
    let words = ["get", "namespace", namespace, "--ignore-not-found", "-o", "jsonpath={.status.phase}"];
    eventually(&format!("the end of an earlier namespace {namespace}"), START, || {
        let phase = cluster.must(&words).map_err(|error| error.to_string())?;
        if phase == "Terminating" { Err(phase) } else { Ok(()) }
    })
}

impl Backend for OnCluster<'_> {
    fn apply(&self, yaml: &str) -> Result<(), LabError> {
        self.cluster.apply(yaml).map(drop)
    }

    fn delete(&self, yaml: &str) -> Result<(), LabError> {
        self.cluster.delete(yaml).map(drop)
    }

    fn label(&self, kind: &str, name: &str, label: &str) -> Result<(), LabError> {
        let kind = kind.to_lowercase();
        let placed = name.split_once('/');
        let (place, name) = placed.map_or((None, name), |(namespace, name)| (Some(namespace), name));
        let mut words = vec!["label", "--overwrite", &kind, name, label];
        words.extend(place.into_iter().flat_map(|namespace| ["-n", namespace]));
        self.cluster.must(&words).map(drop)
    }

    /// Only pods can be waited for; what the proxies hold shows in what they do, for which there is patience.
    fn settled(&self) -> Result<(), LabError> {
        self.namespaces.iter().try_for_each(|namespace| self.cluster.ready(namespace, START))
    }

    fn exec(&self, pod: &str, words: &[&str]) -> Result<Said, LabError> {
        let (namespace, pod) = self.find(pod)?;
        self.cluster.exec(&namespace, &pod, words)
    }

    fn secured(&self, client: &str, server: &str) -> Result<f64, LabError> {
        self.cluster.secured(client, server)
    }

    fn explain(&self, question: &Question) -> Result<Said, LabError> {
        let Question { from, to, method, path } = question;
        let (namespace, _) = self.find(from)?;
        let client = format!("{namespace}/{}", self.pod(from)?);
        let folder = std::env::temp_dir().join(format!("ambit-explain-{}", std::process::id()));
        let said = self.cluster.export(&folder).and_then(|()| {
            let mut command = std::process::Command::new(crate::settings::programs().join("ambit"));
            command.arg("explain").arg("--dir").arg(&folder);
            command.args(["--from", &client, "--to", to, "--method", method, "--path", path]);
            Ok(command.output().map_err(LabError::system("running ambit explain"))?.into())
        });
        // It holds what the cluster's owner may not want to lie around.
        let _removed = std::fs::remove_dir_all(&folder);
        said
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}
