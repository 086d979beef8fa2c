//! A workload: one pod (or another endpoint) as the data plane knows it. Source: `istio.workload.Workload`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::identity::{Identity, TrustDomain};
use crate::policy::PolicyKey;
use crate::service::{GatewayAddress, ServiceKey};

mod parse;
#[cfg(test)]
pub(crate) mod tests;

pub use parse::InvalidWorkload;

/// A workload's unique name, `cluster//Pod/namespace/name` for pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Uid(pub Arc<str>);

/// The name of a network; empty means the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Network(pub Arc<str>);

/// An address as the mesh knows it: an IP is unique only within its network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct NetworkAddress {
    /// The network the address belongs to.
    pub network: Network,
    /// The address; IPv4-mapped IPv6 addresses are stored as IPv4.
    pub ip: IpAddr,
}

/// How a workload wants to be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum TunnelProtocol {
    /// Plain TCP: the workload is not in the mesh.
    #[default]
    Plain,
    /// HBONE on port 15008.
    Hbone,
}

/// Whether a workload may receive new connections through its services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Health {
    /// Ready.
    #[default]
    Healthy,
    /// Not ready, or being deleted.
    Unhealthy,
}

/// Whether the workload's address is its own or its node's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum NetworkMode {
    /// An address of its own.
    #[default]
    Standard,
    /// The node's address; never indexed by IP.
    HostNetwork,
}

/// The kind of object that owns the pod, for telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum WorkloadType {
    /// A Deployment (the wire's zero value).
    #[default]
    Deployment,
    /// A CronJob.
    CronJob,
    /// A bare pod.
    Pod,
    /// A Job.
    Job,
}

/// Where a workload runs, from its node's topology labels; empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Subzone.
    pub subzone: String,
}

/// How a proxy inside the pod wants traffic handed over after the tunnel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ApplicationTunnel {
    /// PROXY protocol version 2, on this port (0: the port of the CONNECT).
    Proxy {
        /// Port to dial; 0 means the requested one.
        port: u16,
    },
}

/// One service port and the port of this workload behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PortMapping {
    /// The service's port.
    pub service_port: u16,
    /// The workload's port.
    pub target_port: u16,
}

/// One workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Unique name.
    pub uid: Uid,
    /// Pod name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Service account; `default` where the wire has none.
    pub service_account: String,
    /// Trust domain; `cluster.local` where the wire has none.
    pub trust_domain: TrustDomain,
    /// The workload's addresses.
    pub addresses: Vec<IpAddr>,
    /// DNS name to dial when there is no address; empty when unused.
    pub hostname: String,
    /// Network of the addresses.
    pub network: Network,
    /// How to reach it.
    pub tunnel: TunnelProtocol,
    /// Waypoint for traffic to the workload's own address.
    pub waypoint: Option<GatewayAddress>,
    /// Gateway into the workload's network, when that is not ours.
    pub network_gateway: Option<GatewayAddress>,
    /// Node name.
    pub node: String,
    /// Telemetry: canonical service name.
    pub canonical_name: String,
    /// Telemetry: canonical revision.
    pub canonical_revision: String,
    /// Telemetry: kind of the owner.
    pub workload_type: WorkloadType,
    /// Telemetry: name of the owner.
    pub workload_name: String,
    /// The application itself speaks HBONE.
    pub native_tunnel: bool,
    /// How traffic is handed to a proxy in the pod.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Services this workload is an endpoint of, with its port for each service port.
    pub services: BTreeMap<ServiceKey, Vec<PortMapping>>,
    /// Workload-selector policies that apply, by name.
    pub policies: Vec<PolicyKey>,
    /// Readiness.
    pub health: Health,
    /// Cluster name; `Kubernetes` where the wire has none.
    pub cluster: String,
    /// Locality.
    pub locality: Locality,
    /// Own or node's address.
    pub network_mode: NetworkMode,
    /// Share of its services' traffic relative to other endpoints; at least 1 unless the wire says 0.
    pub capacity: u32,
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network.0, self.ip)
    }
}

impl NetworkAddress {
    /// Makes an address; IPv4-mapped IPv6 is folded to IPv4.
    pub fn new(network: Network, ip: IpAddr) -> Self {
        Self { network, ip: ip.to_canonical() }
    }
}

impl Workload {
    /// The identity the workload's certificate carries; `None` if its names cannot form one.
    pub fn identity(&self) -> Option<Identity> {
        Identity::new(&self.trust_domain, &self.namespace, &self.service_account).ok()
    }
}
