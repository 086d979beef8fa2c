//! What the controller counts of its dealings with proxies.

use ambit_process::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Kind;

/// Counters of xDS and CA. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    pushes: Family<TypeLabels, Counter>,
    resources: Family<TypeLabels, Counter>,
    bytes: Family<TypeLabels, Counter>,
    nacks: Family<TypeLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    issued: Counter,
    connected: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabels {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    service: &'static str,
    reason: &'static str,
}

/// Which of our services refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// xDS.
    Discovery,
    /// The CA.
    Certificates,
}

/// A connected proxy; counts down when dropped.
#[derive(Debug)]
pub struct Connected(Gauge);

impl ServerMetrics {
    /// Registers everything.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.with(|registry| {
            registry.register("ambit_xds_pushes", "Responses sent to proxies", own.pushes.clone());
            registry.register(
                "ambit_xds_resources",
                "Resources and removals sent to proxies",
                own.resources.clone(),
            );
            registry.register(
                "ambit_xds_push_bytes",
                "Bytes of responses sent to proxies",
                own.bytes.clone(),
            );
            registry.register(
                "ambit_xds_nacks",
                "Responses in which a proxy refused resources",
                own.nacks.clone(),
            );
            registry.register(
                "ambit_xds_connected_proxies",
                "Proxies with an open stream",
                own.connected.clone(),
            );
            registry.register("ambit_ca_issued", "Certificates issued", own.issued.clone());
            registry.register(
                "ambit_refused",
                "Requests refused, by service and reason",
                own.refused.clone(),
            );
        });
        own
    }

    /// A response was sent.
    pub fn pushed(&self, kind: Kind, resources: usize, bytes: usize) {
        let labels = labels(kind);
        self.pushes.get_or_create(&labels).inc();
        self.resources.get_or_create(&labels).inc_by(resources as u64);
        self.bytes.get_or_create(&labels).inc_by(bytes as u64);
    }

    /// A proxy refused resources.
    pub fn nacked(&self, kind: Kind) {
        self.nacks.get_or_create(&labels(kind)).inc();
    }

    /// A certificate was issued.
    pub fn issued(&self) {
        self.issued.inc();
    }

    /// A request was refused; `reason` is one of a fixed set of words.
    pub fn refused(&self, service: Service, reason: &'static str) {
        let service = match service {
            Service::Discovery => "xds",
            Service::Certificates => "ca",
        };
        self.refused.get_or_create(&ReasonLabels { service, reason }).inc();
    }

    /// A proxy connected.
    pub fn connect(&self) -> Connected {
        self.connected.inc();
        Connected(self.connected.clone())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn labels(kind: Kind) -> TypeLabels {
    TypeLabels { r#type: kind.name() }
}
