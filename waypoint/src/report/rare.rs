//! What is counted beside requests because it happens seldom: what policies under trial would have done, what audits mark,
//! copies of requests, and endpoints sent to rest.

use ambit_api::authz::{DryRun, Layer};
use ambit_api::policy::PolicyKey;
use ambit_process::counts::Counts;
use ambit_process::metrics::Metrics;

use super::ClusterName;
use crate::outlier::Cause;

/// These counters. Clones are the same.
#[derive(Clone, Debug)]
pub struct Rare {
    dry_run: Counts<3>,
    audited: Counts<2>,
    mirrored: Counts<2>,
    ejected: Counts<2>,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It was answered, whatever the answer.
    Answered,
    /// The endpoint's policies forbid it.
    Denied,
    /// Its body was too large to keep, or never whole.
    Incomplete,
    /// It could not be sent, or got no answer.
    Failed,
}

impl Copied {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Denied => "denied",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

impl Rare {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            dry_run: Counts::register(metrics, DryRun::METRIC, DryRun::LABELS),
            audited: Counts::register(
                metrics,
                ("ambit_policy_audited", "Requests and connections that an AUDIT policy marked"),
                ["policy", "layer"],
            ),
            mirrored: Counts::register(
                metrics,
                ("ambit_mirrored_requests", "Copies of requests, by the cluster they were for"),
                ["cluster_name", "outcome"],
            ),
            // Envoy's name, which dashboards know.
            ejected: Counts::register(
                metrics,
                ("envoy_cluster_outlier_detection_ejections_enforced", "Endpoints that were sent to rest"),
                ["cluster_name", "cause"],
            ),
        }
    }

    /// A policy under trial was judged.
    pub fn tried(&self, outcome: &DryRun, layer: Layer) {
        self.dry_run.count(outcome.values(layer));
    }

    /// An audit marked something.
    pub fn audited(&self, policy: &PolicyKey, layer: Layer) {
        self.audited.count([policy.to_string(), layer.to_string()]);
    }

    /// A copy has come to its end.
    pub fn mirrored(&self, cluster: ClusterName<'_>, copied: Copied) {
        self.mirrored.count([cluster.to_string(), copied.as_str().to_owned()]);
    }

    /// An endpoint rests.
    pub fn ejected(&self, cluster: ClusterName<'_>, cause: Cause) {
        let cause = match cause {
            Cause::Consecutive5xx => "consecutive_5xx",
            Cause::ConsecutiveGateway => "consecutive_gateway_failure",
            Cause::ConsecutiveLocal => "consecutive_local_origin_failure",
        };
        self.ejected.count([cluster.to_string(), cause.to_owned()]);
    }
}
