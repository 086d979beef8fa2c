//! Node: where pods run; its topology labels give locality.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::meta::ObjectMeta;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What was asked for.
    pub spec: NodeSpec,
    /// What is.
    pub status: NodeStatus,
}

/// A node's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSpec {
    /// Address ranges of its pods.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<ipnet::IpNet>,
}

/// A node's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    /// Addresses and names.
    pub addresses: Vec<NodeAddress>,
}

/// One address of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeAddress {
    /// `InternalIP`, `Hostname`, ….
    #[serde(rename = "type")]
    pub kind: String,
    /// The address or name.
    pub address: String,
}

impl Node {
    /// The addresses the cluster reaches the node by.
    pub fn internal_ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let of_kind = self.status.addresses.iter().filter(|address| address.kind == "InternalIP");
        of_kind.filter_map(|address| address.address.parse().ok())
    }
}
