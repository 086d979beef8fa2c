//! What a scenario needs of the place it runs on.

use std::time::Duration;

use super::file::Question;
use crate::command::Said;
use crate::error::LabError;

/// A lab, or a cluster. Pods are named `NAMESPACE/NAME` by their Deployment or their own name.
pub trait Backend {
    /// Applies manifests.
    fn apply(&self, yaml: &str) -> Result<(), LabError>;

    /// Deletes the objects of manifests.
    fn delete(&self, yaml: &str) -> Result<(), LabError>;

    /// Sets a label (`key=value`) or removes it (`key-`).
    fn label(&self, kind: &str, name: &str, label: &str) -> Result<(), LabError>;

    /// Waits until every proxy holds what follows from all changes.
    fn settled(&self) -> Result<(), LabError>;

    /// Runs a command in a pod to its end.
    fn exec(&self, pod: &str, words: &[&str]) -> Result<Said, LabError>;

    /// Connections that servers' ztunnels have counted as mutual TLS between two identities (`spiffe://…`).
    fn secured(&self, client: &str, server: &str) -> Result<f64, LabError>;

    /// Asks `ambit explain` about a request, over the objects that are in force.
    fn explain(&self, question: &Question) -> Result<Said, LabError>;

    /// How long an expectation may take to come true once everything has settled.
    fn patience(&self) -> Duration;
}
