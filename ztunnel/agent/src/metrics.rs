//! What the agent counts: pods by state, failures by reason.

use std::sync::atomic::AtomicI64;

use ambit_process::metrics::Metrics;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Where a pod's life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum PodState {
    /// Redirected, and served by a ztunnel.
    Enrolled,
    /// It belongs to the mesh and is not served yet.
    Pending,
    /// It belongs to the mesh and has no network yet.
    Expected,
    /// Pending, with new connections refused.
    Closed,
    /// It left the mesh; what keeps its open connections alive is still there.
    Residual,
    /// Nothing of ours is in its network.
    Outside,
}

/// What can go wrong for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Failure {
    /// Its network cannot be opened.
    NetworkMissing,
    /// An application holds a port of the ztunnel's.
    PortInUse,
    /// The ztunnel could not serve it.
    ZtunnelRefused,
    /// Its rules could not be changed or read.
    RulesFailed,
    /// Its rules were changed by somebody else.
    RulesDrifted,
    /// An annotation or event could not be written.
    WriteBack,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: PodState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabel {
    reason: Failure,
}

/// The agent's counters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AgentMetrics {
    pods: Family<StateLabel, Gauge<i64, AtomicI64>>,
    failures: Family<FailureLabel, Counter>,
}

impl AgentMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.with(|registry| {
            registry.register("ambit_agent_pods", "Pods of this node by state", own.pods.clone());
            registry.register("ambit_agent_failures", "What went wrong for pods", own.failures.clone());
        });
        own
    }

    /// A pod went from one state to another; `None` is before its life and after it.
    pub fn moved(&self, from: Option<PodState>, to: Option<PodState>) {
        if let Some(state) = from {
            self.pods.get_or_create(&StateLabel { state }).dec();
        }
        if let Some(state) = to {
            self.pods.get_or_create(&StateLabel { state }).inc();
        }
    }

    /// Something went wrong.
    pub fn failed(&self, reason: Failure) {
        self.failures.get_or_create(&FailureLabel { reason }).inc();
    }
}
