//! Metric and log labels of a connection, built once from the model and shared by every reporter.
//!
//! Names and values are those of Istio's `istio_tcp_*` metrics (l4-protocols §9.1); what is not known is `unknown`.
//! A [`Party`] is made once per workload and shared, so that a connection holds three pointers and not its texts.

use std::borrow::Cow;
use std::fmt;
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
    /// A waypoint between them, about its requests.
    Waypoint,
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

/// What a request's labels say beyond those of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// What was spoken.
    pub protocol: RequestProtocol,
    /// The status the client got.
    pub status: u16,
    /// Of gRPC.
    pub grpc_status: Option<u32>,
    /// What befell it.
    pub flags: Flags,
}

/// What befell a request or connection that passed a waypoint; its `response_flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// Why it did not go well.
    pub reason: Option<Reason>,
    /// A fault delayed it.
    pub delayed: bool,
    /// A fault answered it.
    pub aborted: bool,
    /// Its client did not wait for the end.
    pub abandoned: bool,
    /// It failed after as many retries as its route allows.
    pub exhausted: bool,
}

/// What a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestProtocol {
    /// HTTP of any version.
    Http,
    /// gRPC.
    Grpc,
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
            Self::Waypoint => "waypoint",
        }
    }

    /// Of each end of [`Party::pairs`]: ztunnels alone say where an end is.
    fn depth(self) -> usize {
        match self {
            Self::Source | Self::Destination => SOURCE.len(),
            Self::Waypoint => SOURCE.len() - PLACES,
        }
    }

    fn flag(self, reason: Reason) -> &'static str {
        match self {
            Self::Source | Self::Destination => reason.flag(),
            Self::Waypoint => reason.http_flag(),
        }
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            self.reason.map(Reason::http_flag),
            self.delayed.then_some("DI"),
            self.aborted.then_some("FI"),
            self.abandoned.then_some("DC"),
            self.exhausted.then_some("URX"),
        ];
        let mut between = "";
        for flag in flags.into_iter().flatten() {
            write!(f, "{between}{flag}")?;
            between = ",";
        }
        if between.is_empty() { f.write_str("-") } else { Ok(()) }
    }
}

impl RequestProtocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
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

    /// The workload's name, or `unknown`.
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// Its namespace, or `unknown`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its canonical service, or `unknown`.
    pub fn canonical_service(&self) -> &str {
        &self.canonical_service
    }

    /// The identity it proved, or `unknown`.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    fn pairs(&self, names: &'static [&'static str]) -> impl Iterator<Item = (&'static str, &str)> {
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

/// How many of the names say where an end is; they stand last.
const PLACES: usize = 2;

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
    /// Every label of a connection with its value, in a fixed order. Regions and zones are left out where they are not
    /// known, and by waypoints.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let flags = self.ended.map_or("-", |reason| self.reporter.flag(reason));
        self.ends().chain([
            ("request_protocol", "tcp"),
            ("response_flags", flags),
            ("connection_security_policy", self.security.as_str()),
        ])
    }

    /// Every label of a request, [`Outcome`]'s in the place of `ended`. A status of gRPC is empty where none was said.
    pub fn request_pairs<'a>(
        &'a self,
        outcome: &'a Outcome,
    ) -> impl Iterator<Item = (&'static str, Cow<'a, str>)> {
        let grpc = outcome.grpc_status.map_or(Cow::Borrowed(""), |code| code.to_string().into());
        self.ends().map(|(name, value)| (name, Cow::Borrowed(value))).chain([
            ("request_protocol", outcome.protocol.as_str().into()),
            ("response_code", outcome.status.to_string().into()),
            ("grpc_response_status", grpc),
            ("response_flags", outcome.flags.to_string().into()),
            ("connection_security_policy", self.security.as_str().into()),
        ])
    }

    /// Who asked whom.
    fn ends(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let service = self.service.as_deref();
        [("reporter", self.reporter.as_str())]
            .into_iter()
            .chain(self.source.pairs(&SOURCE[..self.reporter.depth()]))
            .chain(self.destination.pairs(&DESTINATION[..self.reporter.depth()]))
            .chain([
                ("destination_service", service.map_or(UNKNOWN, |service| &service.hostname)),
                ("destination_service_name", service.map_or(UNKNOWN, |service| &service.name)),
                ("destination_service_namespace", service.map_or(UNKNOWN, |service| &service.namespace)),
            ])
    }
}

fn known(text: &str) -> String {
    if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() }
}
