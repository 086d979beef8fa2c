//! EndpointSlice: endpoints of services, also of those without a selector.

use serde::{Deserialize, Serialize};

use crate::meta::ObjectMeta;
use crate::pod::Protocol;

/// The label that names a slice's service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// Its endpoints and ports.
    pub spec: EndpointSliceSpec,
}

/// What a slice says (these fields stand beside `metadata`, without a `spec`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSliceSpec {
    /// Kind of addresses.
    pub address_type: AddressType,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Ports, the same for all endpoints.
    pub ports: Vec<EndpointPort>,
}

/// Kind of addresses in a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressType {
    /// IPv4.
    #[default]
    IPv4,
    /// IPv6.
    IPv6,
    /// Names.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    /// Addresses; all of them are the same endpoint.
    pub addresses: Vec<String>,
    /// Readiness.
    pub conditions: EndpointConditions,
    /// Host name below the service's.
    pub hostname: String,
    /// Node.
    pub node_name: String,
    /// Zone.
    pub zone: String,
    /// The pod, if it is one.
    pub target_ref: Option<TargetObject>,
}

/// Readiness of an endpoint; what is missing counts as Kubernetes counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointConditions {
    /// Ready.
    pub ready: Option<bool>,
    /// Serving, even if terminating.
    pub serving: Option<bool>,
    /// Being deleted.
    pub terminating: Option<bool>,
}

/// The object an endpoint stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetObject {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Unique ID.
    pub uid: String,
}

/// One port of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointPort {
    /// Name of the service's port.
    pub name: String,
    /// Number; missing means all ports.
    pub port: Option<u16>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Application protocol.
    pub app_protocol: String,
}

impl EndpointSlice {
    /// The name of its service, in its own namespace.
    pub fn service(&self) -> Option<&str> {
        self.meta.label(SERVICE_NAME)
    }
}

impl EndpointConditions {
    /// Whether new connections may be sent to it.
    pub fn is_ready(&self) -> bool {
        self.ready.unwrap_or(true)
    }
}
