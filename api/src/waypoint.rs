//! What a waypoint is told, parsed: its gateway, services, destinations, pods and policies. Source: `ambit.waypoint`.
//!
//! Everything is compiled once when it arrives; [`decide`] answers for a request what becomes of it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::PolicyKey;
use crate::route::{HttpTable, TcpTable};
use crate::service::ServiceKey;
use crate::workload::Uid;

pub mod decide;
pub(crate) mod parse;
pub mod policy;
#[cfg(test)]
mod tests;

pub use parse::{InvalidResource, gateway_key};
pub use policy::Policy;

/// The gateway's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Which traffic it serves.
    pub serves: Serves,
    /// T(gw): policies judged for everything that passes.
    pub policies: Vec<PolicyKey>,
    /// How paths are normalised.
    pub path_normalization: PathNormalization,
    /// What is logged; `None`: denials and failures alone.
    pub access_log: Option<AccessLog>,
    /// Where spans go.
    pub tracing: Option<Tracing>,
    /// Plain listeners, of an ingress gateway.
    pub listeners: Vec<Listener>,
}

/// Which traffic a waypoint serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serves {
    /// That to services.
    #[default]
    Services,
    /// That to pods' own addresses.
    Workloads,
    /// Both.
    All,
    /// Neither.
    None,
}

/// How paths are normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathNormalization {
    /// Dot segments, backslashes, and escapes that need not be.
    #[default]
    Base,
    /// Not at all.
    None,
    /// As [`PathNormalization::Base`], and runs of slashes become one.
    MergeSlashes,
    /// As [`PathNormalization::MergeSlashes`], after escaped slashes and backslashes were decoded.
    DecodeAndMergeSlashes,
}

/// How requests are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// As text, in Envoy's operator language; `None`: the default text.
    Text(Option<String>),
    /// As JSON: an object whose values are texts; `None`: the default keys.
    Json(Option<String>),
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// How they are sent.
    pub protocol: TracingProtocol,
    /// `host:port` of the collector.
    pub collector: String,
    /// Of how many requests, in millionths.
    pub sampling: u32,
    /// The path of an HTTP collector.
    pub path: String,
}

/// How spans are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracingProtocol {
    /// Zipkin's JSON over HTTP.
    Zipkin,
    /// OTLP over gRPC.
    OtlpGrpc,
    /// OTLP over HTTP.
    OtlpHttp,
}

/// One plain HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Its routes.
    pub http: HttpTable,
}

/// A service the waypoint stands before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique name.
    pub key: ServiceKey,
    /// T(svc).
    pub policies: Vec<PolicyKey>,
    /// Routes of requests.
    pub http: HttpTable,
    /// Routes of connections.
    pub tcp: TcpTable,
}

/// Where requests may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Unique name.
    pub key: ServiceKey,
    /// In force unless port or subset have their own.
    pub policy: Arc<TrafficPolicy>,
    /// By port of the service.
    pub ports: BTreeMap<u16, Arc<TrafficPolicy>>,
    /// By name.
    pub subsets: BTreeMap<Arc<str>, Subset>,
}

/// Some endpoints of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Endpoints whose labels contain these.
    pub labels: BTreeMap<String, String>,
    /// In force unless the port has its own; `None`: the destination's.
    pub policy: Option<Arc<TrafficPolicy>>,
    /// By port of the service.
    pub ports: BTreeMap<u16, Arc<TrafficPolicy>>,
}

/// How endpoints are chosen and how much is sent to them. `None`: no limit, or the proxy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: LoadBalancer,
    /// Connections at once.
    pub max_connections: Option<NonZeroU32>,
    /// For connecting.
    pub connect_timeout: Option<Duration>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<NonZeroU32>,
    /// Requests at once.
    pub max_requests: Option<NonZeroU32>,
    /// Requests of one connection's life.
    pub max_requests_per_connection: Option<NonZeroU32>,
    /// Retries at once.
    pub max_retries: Option<NonZeroU32>,
    /// After which an unused connection is closed.
    pub idle_timeout: Option<Duration>,
    /// Streams at once on one HTTP/2 connection.
    pub max_concurrent_streams: Option<NonZeroU32>,
    /// HTTP/1.1 requests go on as HTTP/2.
    pub upgrade_to_h2: bool,
    /// When endpoints are ejected; `None`: never.
    pub outlier: Option<Outlier>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancer {
    /// The less busy of two drawn.
    #[default]
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// Drawn.
    Random,
}

/// When endpoints are ejected. Counts of 0 never eject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Server errors in a row.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 in a row.
    pub consecutive_gateway: u32,
    /// Failures to connect in a row, with `split_local`.
    pub consecutive_local: u32,
    /// Failures to connect count apart from answers.
    pub split_local: bool,
    /// How often the past is forgiven.
    pub interval: Duration,
    /// The first ejection.
    pub base_ejection: Duration,
    /// The share that may be ejected at once.
    pub max_ejection_percent: u32,
    /// Below this share of healthy endpoints nobody counts as ejected.
    pub min_health_percent: u32,
}

/// What a waypoint knows of one pod besides its `istio.workload.Workload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The pod.
    pub uid: Uid,
    /// Labels that some subset or route asks for.
    pub labels: Arc<BTreeMap<String, String>>,
    /// S.
    pub policies: Vec<PolicyKey>,
    /// Numbers that stand for ports of the pod.
    pub port_aliases: Vec<PortAlias>,
    /// Ports that only certain services lead to.
    pub locks: Vec<Lock>,
}

/// A number that also stands for ports of the pod (policy.md rule 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortAlias {
    /// The number, as policies write it.
    pub port: u16,
    /// What it stands for; where there are several, the services disagree.
    pub targets: Vec<u16>,
}

/// A port of a pod that is locked by a service (policy.md rule 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The pod's port; `None`: every port.
    pub port: Option<u16>,
    /// The service.
    pub service: ServiceKey,
    /// Its ports that lead there.
    pub service_ports: Vec<u16>,
    /// T of that service.
    pub policies: Vec<PolicyKey>,
}

impl Destination {
    /// The policy for a subset and port of the service: the closest one that is said.
    pub fn policy_for(&self, subset: Option<&str>, port: u16) -> &Arc<TrafficPolicy> {
        let subset = subset.and_then(|name| self.subsets.get(name));
        subset
            .and_then(|subset| subset.ports.get(&port).or(subset.policy.as_ref()))
            .or_else(|| self.ports.get(&port))
            .unwrap_or(&self.policy)
    }
}

impl Subset {
    /// Whether an endpoint with these labels belongs to it.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        crate::route::find::contains(labels, &self.labels)
    }
}
