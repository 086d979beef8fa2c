//! Deployment and StatefulSet: a pod template and a number. Only the lab expands them.

use serde::{Deserialize, Serialize};

use crate::meta::{LabelSelector, Map, ObjectMeta};
use crate::pod::PodSpec;

/// A Deployment or StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadSet {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// How many of what.
    pub spec: WorkloadSetSpec,
}

/// Spec of a workload set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSetSpec {
    /// How many pods.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Labels of its pods.
    #[serde(default)]
    pub selector: LabelSelector,
    /// What each pod is.
    pub template: PodTemplate,
    /// Headless service of a StatefulSet.
    #[serde(default)]
    pub service_name: String,
}

/// What each pod of a set is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations.
    pub metadata: TemplateMeta,
    /// Spec.
    pub spec: PodSpec,
}

/// Labels and annotations of a template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TemplateMeta {
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Map,
}

fn one() -> u32 {
    1
}
