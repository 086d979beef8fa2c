//! Metric and log labels of a connection, built once from the model and shared by every reporter.
//!
//! Names and values are those of Istio's `istio_tcp_*` metrics (l4-protocols §9.1); what is not known is `unknown`.
//! A [`Party`] is made once per workload and shared, so that a connection holds three pointers and not its texts.

use std::sync::Arc;

use crate::identity::Identity;
use crate::reason::Reason;
use crate::service::Service;
use crate::workload::Workload;

#[cfg(test)]
mod tests;

/// What stands where nothing is known.
pub const UNKNOWN: &str = "unknown";

/// Which end of the connection reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's proxy.
    Source,
    /// The server's proxy.
    Destination,
}

/// How the connection was secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// By mutual TLS between proxies.
    MutualTls,
    /// Not by the mesh.
    Unknown,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Party {
    workload: String,
    canonical_service: String,
    canonical_revision: String,
    namespace: String,
    principal: String,
    cluster: String,
    region: Option<String>,
    zone: Option<String>,
}

/// The service that was dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dialled {
    hostname: String,
    name: String,
    namespace: String,
}

/// The labels of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Which end reports.
    pub reporter: Reporter,
    /// The client.
    pub source: Arc<Party>,
    /// The server.
    pub destination: Arc<Party>,
    /// The service dialled; `None` when it was a workload's own address, or an unknown one.
    pub service: Option<Arc<Dialled>>,
    /// How it was secured.
    pub security: Security,
    /// Why it ended; `None` while it is open, or when it ended well.
    pub ended: Option<Reason>,
}

impl Reporter {
    fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

impl Security {
    fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Unknown => UNKNOWN,
        }
    }
}

impl Party {
    /// A known workload. `principal` is the identity proven by its certificate; `None` on plaintext.
    pub fn new(workload: &Workload, principal: Option<&Identity>) -> Self {
        Self {
            workload: known(&workload.workload_name),
            canonical_service: known(&workload.canonical_name),
            canonical_revision: known(&workload.canonical_revision),
            namespace: known(&workload.namespace),
            principal: principal.map_or(UNKNOWN, Identity::uri).to_owned(),
            cluster: known(&workload.cluster),
            region: Some(workload.locality.region.clone()).filter(|region| !region.is_empty()),
            zone: Some(workload.locality.zone.clone()).filter(|zone| !zone.is_empty()),
        }
    }

    /// An address that is no workload we know, and the identity its certificate proved.
    pub fn unknown(principal: Option<&Identity>) -> Self {
        Self {
            workload: known(""),
            canonical_service: known(""),
            canonical_revision: known(""),
            // A proven identity tells the namespace even where the workload is not known.
            namespace: known(principal.map_or("", Identity::namespace)),
            principal: principal.map_or(UNKNOWN, Identity::uri).to_owned(),
            cluster: known(""),
            region: None,
            zone: None,
        }
    }

    fn pairs(&self, names: &'static [&'static str; 10]) -> impl Iterator<Item = (&'static str, &str)> {
        let values = [
            Some(self.workload.as_str()),
            Some(&self.canonical_service),
            Some(&self.canonical_revision),
            Some(&self.namespace),
            Some(&self.principal),
            // `app` and `version` are the canonical service and revision under the names of older dashboards.
            Some(&self.canonical_service),
            Some(&self.canonical_revision),
            Some(&self.cluster),
            self.region.as_deref(),
            self.zone.as_deref(),
        ];
        names.iter().zip(values).filter_map(|(name, value)| Some((*name, value?)))
    }
}

impl Dialled {
    /// The labels of a service.
    pub fn new(service: &Service) -> Self {
        Self {
            hostname: known(&service.key.hostname),
            name: known(&service.name),
            namespace: known(&service.key.namespace),
        }
    }
}

/// The names of [`Party::pairs`] for the client.
const SOURCE: [&str; 10] = [
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "source_region",
    "source_zone",
];

/// The names of [`Party::pairs`] for the server.
const DESTINATION: [&str; 10] = [
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "destination_region",
    "destination_zone",
];

impl Labels {
    /// Every label with its value, in a fixed order. Regions and zones are left out where they are not known.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let service = self.service.as_deref();
        let flags = self.ended.map_or("-", Reason::flag);
        [("reporter", self.reporter.as_str())]
            .into_iter()
            .chain(self.source.pairs(&SOURCE))
            .chain(self.destination.pairs(&DESTINATION))
            .chain([
                ("destination_service", service.map_or(UNKNOWN, |service| &service.hostname)),
                ("destination_service_name", service.map_or(UNKNOWN, |service| &service.name)),
                ("destination_service_namespace", service.map_or(UNKNOWN, |service| &service.namespace)),
                ("request_protocol", "tcp"),
                ("response_flags", flags),
                ("connection_security_policy", self.security.as_str()),
            ])
    }
}

fn known(text: &str) -> String {
    if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() }
}
