//! Service: names and virtual addresses in front of pods.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::meta::{Map, ObjectMeta};
use crate::pod::{IntOrString, Protocol};

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What was asked for.
    pub spec: ServiceSpec,
}

/// A service's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Labels of its pods; empty means endpoints come from slices alone.
    pub selector: Map,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// First virtual address, `None` for a headless one, or empty.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// All virtual addresses.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// Further addresses that lead to it.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    /// Kind of service.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Name that an `ExternalName` service stands for.
    pub external_name: String,
    /// Unready pods get traffic too.
    pub publish_not_ready_addresses: bool,
    /// Whether clients stay on their node.
    pub internal_traffic_policy: InternalTrafficPolicy,
    /// `PreferClose`, `PreferSameZone`, `PreferSameNode`.
    pub traffic_distribution: String,
    /// Families, `IPv4` and `IPv6`.
    pub ip_families: Vec<IpFamily>,
    /// `SingleStack`, `PreferDualStack` or `RequireDualStack`.
    pub ip_family_policy: String,
}

/// One port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name; tells the protocol by its prefix.
    #[serde(default)]
    pub name: String,
    /// Port clients dial.
    pub port: u16,
    /// Port of the pods; the same as `port` where none is written (see [`ServicePort::target`]).
    #[serde(default)]
    pub target_port: Option<IntOrString>,
    /// Transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Application protocol.
    #[serde(default)]
    pub app_protocol: String,
}

/// Kind of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// Reached inside the cluster.
    #[default]
    ClusterIP,
    /// Also on every node.
    NodePort,
    /// Also from outside.
    LoadBalancer,
    /// Another name for something else.
    ExternalName,
}

/// Whether clients inside the cluster stay on their node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InternalTrafficPolicy {
    /// Any endpoint.
    #[default]
    Cluster,
    /// Endpoints of the client's node only.
    Local,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamily {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

/// How a service is addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// No address was given to it yet.
    Unassigned,
    /// Clients dial pods.
    Headless,
    /// Virtual addresses, the primary one first.
    Virtual(Vec<IpAddr>),
}

impl Service {
    /// How it is addressed.
    pub fn addressing(&self) -> Addressing {
        let texts = std::iter::once(&self.spec.cluster_ip).chain(&self.spec.cluster_ips);
        let mut ips: Vec<IpAddr> = Vec::new();
        for text in texts {
            if text == "None" {
                return Addressing::Headless;
            }
            if let Ok(ip) = text.parse::<IpAddr>()
                && !ips.contains(&ip)
            {
                ips.push(ip);
            }
        }
        if ips.is_empty() { Addressing::Unassigned } else { Addressing::Virtual(ips) }
    }
}

impl ServicePort {
    /// The pods' port: what is written, else the port itself.
    pub fn target(&self) -> IntOrString {
        self.target_port.clone().unwrap_or(IntOrString::Number(self.port))
    }
}
