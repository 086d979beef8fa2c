//! DestinationRule: Istio's subsets and traffic policy, every field kept.

mod balancer;
mod check;
mod pool;

use std::num::NonZeroU16;
use std::time::Duration;

use serde::Deserialize;

use crate::meta::{Map, ObjectMeta};
use crate::value::{self, Percent, PortSelector};

pub use balancer::{
    ConsistentHash, CookieAttribute, Distribute, Failover, HashKey, HashRing, HttpCookie, LoadBalancer,
    LocalitySetting, SimpleBalancer, Warmup, ZoneAwareSetting,
};
pub use pool::{
    ConnectionPool, H2UpgradePolicy, Http2Keepalive, HttpPool, OutlierDetection, TcpKeepalive, TcpPool,
};

/// A DestinationRule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationRule {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: DestinationRuleSpec,
}

/// What a DestinationRule says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DestinationRuleSpec {
    /// Name of the service, or a wildcard.
    pub host: String,
    /// For the whole service.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Parts of the service.
    pub subsets: Vec<Subset>,
    /// Namespaces that see it; empty means all.
    pub export_to: Vec<String>,
    /// Clients it is for; empty means all.
    pub workload_selector: WorkloadSelector,
}

/// Labels of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// All of them must be there.
    pub match_labels: Map,
}

/// Part of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Subset {
    /// What routes call it.
    pub name: String,
    /// Labels of its endpoints.
    #[serde(default)]
    pub labels: Map,
    /// Blocks that stand in place of the service's.
    #[serde(default)]
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How connections and requests are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left alone for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the endpoints.
    pub tls: Option<ClientTls>,
    /// Whole policies for single ports; nothing is inherited.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Through an HTTP proxy.
    pub tunnel: Option<Tunnel>,
    /// A header before the bytes.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many retries may be under way at once.
    pub retry_budget: Option<RetryBudget>,
}

/// The policy of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    /// The service's port.
    pub port: Option<PortSelector>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left alone for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the endpoints.
    pub tls: Option<ClientTls>,
}

/// TLS towards the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientTls {
    /// Which.
    pub mode: TlsMode,
    /// File of the own certificate.
    pub client_certificate: String,
    /// File of its key.
    pub private_key: String,
    /// File of the authorities.
    pub ca_certificates: String,
    /// Secret that holds all of these.
    pub credential_name: String,
    /// Names the server's certificate must have.
    pub subject_alt_names: Vec<String>,
    /// Server name of the handshake.
    pub sni: String,
    /// The server's certificate is not verified.
    pub insecure_skip_verify: Option<bool>,
    /// File of revoked certificates.
    pub ca_crl: String,
}

/// Which TLS is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TlsMode {
    /// None beyond the mesh's own.
    #[default]
    Disable,
    /// The server shows a certificate.
    Simple,
    /// Both do.
    Mutual,
    /// Both do, with the mesh's certificates.
    IstioMutual,
}

/// TCP through an HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tunnel {
    /// `CONNECT` or `POST`; empty for the first.
    #[serde(default)]
    pub protocol: String,
    /// Where the proxy is to connect.
    pub target_host: String,
    /// And to which port.
    #[serde(deserialize_with = "value::port")]
    pub target_port: NonZeroU16,
}

/// PROXY protocol towards the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Which version.
    pub version: ProxyProtocolVersion,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ProxyProtocolVersion {
    /// Text.
    #[default]
    V1,
    /// Binary.
    V2,
}

/// How many retries may be under way at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RetryBudget {
    /// Of the requests under way; 20 where it is absent.
    #[serde(deserialize_with = "value::optional_percent")]
    pub percent: Option<Percent>,
    /// The time over which requests under way are counted.
    #[serde(deserialize_with = "value::optional_duration")]
    pub budget_interval: Option<Duration>,
    /// At least so many; 3 where it is absent.
    pub min_retry_concurrency: Option<u32>,
}

#[cfg(test)]
mod tests;
