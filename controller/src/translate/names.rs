//! How the data plane names things: host names, unique names, addresses as bytes.

use std::net::IpAddr;

use ambit_api::wire::workload::{GatewayAddress, NamespacedHostname, gateway_address};

use super::attach::Lead;
use super::gateways::PORT;

/// Settings that names are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The cluster's name, first part of every workload's unique name.
    pub cluster: String,
    /// The cluster's DNS domain.
    pub domain: String,
    /// The network all addresses belong to; empty for the only one.
    pub network: String,
}

impl Default for Names {
    fn default() -> Self {
        Self { cluster: "Kubernetes".to_owned(), domain: "cluster.local".to_owned(), network: String::new() }
    }
}

impl Names {
    /// A Service's full host name.
    pub(crate) fn hostname(&self, namespace: &str, service: &str) -> String {
        format!("{service}.{namespace}.svc.{}", self.domain)
    }

    /// A Service's resource name.
    pub(crate) fn service(&self, namespace: &str, service: &str) -> String {
        format!("{namespace}/{}", self.hostname(namespace, service))
    }

    /// A pod's resource name.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> String {
        format!("{}//Pod/{namespace}/{name}", self.cluster)
    }

    /// How ztunnels find the waypoints they are led through.
    pub(crate) fn leads(&self, lead: &Lead) -> impl Iterator<Item = GatewayAddress> {
        lead.0.iter().map(|(gateway, _)| {
            let hostname = NamespacedHostname {
                namespace: gateway.namespace.clone(),
                hostname: self.hostname(&gateway.namespace, &gateway.name),
            };
            let destination = Some(gateway_address::Destination::Hostname(hostname));
            GatewayAddress { destination, hbone_mtls_port: u32::from(PORT) }
        })
    }

    /// The resource name of an endpoint that is no pod.
    pub(crate) fn endpoint(&self, namespace: &str, slice: &str, address: &str) -> String {
        format!("{}/discovery.k8s.io/EndpointSlice/{namespace}/{slice}/{address}", self.cluster)
    }

    /// The alias under which an address is looked up.
    pub(crate) fn alias(&self, ip: IpAddr) -> String {
        format!("{}/{ip}", self.network)
    }
}

/// An address as 4 or 16 bytes.
pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
