//! A service: names, virtual addresses, ports and how endpoints are chosen. Source: `istio.workload.Service`.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::identity::Identity;
use crate::workload::{Network, NetworkAddress};

mod parse;
#[cfg(test)]
mod tests;

pub use parse::InvalidService;

/// A service's unique name, written `namespace/hostname`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ServiceKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Full host name, for example `web.shop.svc.cluster.local`.
    pub hostname: Arc<str>,
}

/// Where a gateway or waypoint is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayAddress {
    /// A service by name, or an address.
    pub destination: GatewayDestination,
    /// Its HBONE port, normally 15008.
    pub hbone_port: u16,
}

/// The two ways to name a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum GatewayDestination {
    /// By service.
    Service(ServiceKey),
    /// By address.
    Address(NetworkAddress),
}

/// A virtual address of a service: one IP, or a whole prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Vip {
    /// The network the address belongs to.
    pub network: Network,
    /// The address; full length for a single IP.
    pub prefix: IpNet,
}

/// The protocol a service port declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum AppProtocol {
    /// Not declared.
    #[default]
    Unknown,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// TCP.
    Tcp,
    /// TLS.
    Tls,
}

/// One port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// The port clients dial.
    pub service_port: u16,
    /// The endpoints' port; 0 when each endpoint maps it itself.
    pub target_port: u16,
    /// Declared protocol.
    pub protocol: AppProtocol,
}

/// A locality scope an endpoint may share with its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Scope {
    /// Same region.
    Region,
    /// Same zone (and region).
    Zone,
    /// Same subzone (and zone, region).
    Subzone,
    /// Same node.
    Node,
    /// Same cluster.
    Cluster,
    /// Same network.
    Network,
}

/// What the scopes mean for the choice of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum BalanceMode {
    /// Scopes are ignored.
    #[default]
    Any,
    /// Only endpoints that share every scope.
    Strict,
    /// The endpoints that share the most leading scopes.
    Failover,
    /// Dial what the client dialled.
    Passthrough,
}

/// Which endpoints may be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum HealthPolicy {
    /// Only healthy ones.
    #[default]
    OnlyHealthy,
    /// All (`publishNotReadyAddresses`).
    AllowAll,
}

/// How endpoints are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadBalancing {
    /// Scopes in order of preference.
    pub scopes: Vec<Scope>,
    /// Their meaning.
    pub mode: BalanceMode,
    /// Whether unhealthy endpoints count.
    pub health: HealthPolicy,
}

/// Address families the service wants used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum IpFamilies {
    /// No preference.
    #[default]
    Automatic,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// Both.
    Dual,
}

/// Who may find the service by address or name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Visibility {
    /// Every namespace.
    #[default]
    Public,
    /// Its own namespace only; also the reading of any value we do not know.
    Namespace,
}

/// A waypoint with its share of the service's traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedWaypoint {
    /// The waypoint.
    pub waypoint: GatewayAddress,
    /// Relative weight.
    pub weight: u32,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Unique name.
    pub key: ServiceKey,
    /// Short name.
    pub name: String,
    /// Virtual addresses.
    pub vips: Vec<Vip>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Identities its endpoints may present besides each workload's own.
    pub subject_alt_names: Vec<Identity>,
    /// Waypoint for traffic to the service's addresses.
    pub waypoint: Option<GatewayAddress>,
    /// Choice of endpoints.
    pub load_balancing: LoadBalancing,
    /// Address families.
    pub ip_families: IpFamilies,
    /// Wins over other namespaces' services of the same hostname or address.
    pub canonical: bool,
    /// Ingress gateways use the waypoint.
    pub ingress_use_waypoint: bool,
    /// Waypoints by weight (canary); empty means `waypoint` alone.
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    /// Who may find it.
    pub visibility: Visibility,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

impl ServiceKey {
    /// Makes a key.
    pub fn new(namespace: &str, hostname: &str) -> Self {
        Self { namespace: namespace.into(), hostname: hostname.into() }
    }
}
