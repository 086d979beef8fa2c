//! What a controller connection counts, under Istio's names.

use ambit_process::metrics::Metrics;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Kind;

/// Counters of the xDS client. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct XdsMetrics {
    terminations: Family<TerminationLabels, Counter>,
    messages: Family<UrlLabels, Counter>,
    bytes: Family<UrlLabels, Counter>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Termination {
    /// It could not be opened.
    ConnectionError,
    /// It broke.
    Error,
    /// The controller ended it for a reason that calls for a new one at once (restart, deadline).
    Reconnect,
    /// The controller ended it cleanly.
    Complete,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TerminationLabels {
    reason: Termination,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UrlLabels {
    url: &'static str,
}

impl XdsMetrics {
    /// Registers the counters.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.with(|registry| {
            let terminations = own.terminations.clone();
            registry.register(
                "istio_xds_connection_terminations",
                "Streams to the controller that ended",
                terminations,
            );
            registry.register(
                "istio_xds_message",
                "Responses received from the controller",
                own.messages.clone(),
            );
            registry.register("istio_xds_message_bytes", "Bytes of responses received", own.bytes.clone());
        });
        own
    }

    /// A stream ended.
    pub fn terminated(&self, reason: Termination) {
        self.terminations.get_or_create(&TerminationLabels { reason }).inc();
    }

    /// A response arrived.
    pub fn received(&self, kind: Kind, bytes: u64) {
        let labels = UrlLabels { url: kind.type_url() };
        self.messages.get_or_create(&labels).inc();
        self.bytes.get_or_create(&labels).inc_by(bytes);
    }
}
