//! Gateway: a waypoint or an ingress, with its listeners, every field kept.

mod check;

use std::num::NonZeroU16;

use serde::Deserialize;
use serde_json::Value;

use crate::gateway_api::{LocalObject, SecretObject};
use crate::meta::{LabelSelector, Map, ObjectMeta};
use crate::value;

/// On what a controller has made for a Gateway: which controller.
pub const MANAGED: &str = "gateway.istio.io/managed";

/// A Gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gateway {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What was asked for.
    pub spec: GatewaySpec,
}

/// What a Gateway asks for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Its class.
    pub gateway_class_name: String,
    /// What it listens on.
    pub listeners: Vec<Listener>,
    /// Addresses chosen by hand.
    pub addresses: Vec<Address>,
    /// What its pods and Service get.
    pub infrastructure: Option<Infrastructure>,
    /// Whose ListenerSets may add to it.
    pub allowed_listeners: Option<AllowedListeners>,
    /// Certificates towards backends, and of clients; as written.
    pub tls: Option<Value>,
    /// Superseded by `tls`; as written.
    #[serde(rename = "backendTLS")]
    pub backend_tls: Option<Value>,
    /// Whether routes without parents attach: `All` or `None`.
    pub default_scope: Option<String>,
}

/// One thing a Gateway listens on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listener {
    /// Name, unique in the Gateway.
    pub name: String,
    /// Host names it is for; all where it is absent.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Port.
    #[serde(deserialize_with = "value::port")]
    pub port: NonZeroU16,
    /// `HTTP`, `HTTPS`, `TCP`, `TLS`, `UDP`, or an implementation's own such as `HBONE`.
    pub protocol: String,
    /// Certificates.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// What may attach.
    #[serde(default)]
    pub allowed_routes: AllowedRoutes,
}

/// Certificates of a listener.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ListenerTls {
    /// Whether it ends here.
    pub mode: ListenerTlsMode,
    /// Secrets that hold the certificates.
    pub certificate_refs: Vec<SecretObject>,
    /// How clients are verified; as written.
    pub frontend_validation: Option<Value>,
    /// Settings of single implementations.
    pub options: Map,
}

/// Whether TLS ends at the listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ListenerTlsMode {
    /// It does.
    #[default]
    Terminate,
    /// It goes on to the backend.
    Passthrough,
}

/// What may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllowedRoutes {
    /// From which namespaces.
    pub namespaces: AllowedNamespaces,
    /// Which kinds; empty means those of the protocol.
    pub kinds: Vec<RouteKind>,
}

/// From which namespaces something may attach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllowedNamespaces {
    /// Which; for a listener the Gateway's own where it is absent, for ListenerSets none.
    pub from: Option<FromNamespaces>,
    /// Labels of the namespaces, for [`FromNamespaces::Selector`].
    pub selector: Option<Selector>,
}

/// Labels of namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "LabelSelector")]
pub struct Selector(pub LabelSelector);

/// Which namespaces are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum FromNamespaces {
    /// All.
    All,
    /// Those with certain labels.
    Selector,
    /// The Gateway's own.
    Same,
    /// None.
    None,
}

/// A kind of route.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteKind {
    /// API group; Gateway API's where it is absent.
    #[serde(default)]
    pub group: Option<String>,
    /// Kind.
    pub kind: String,
}

/// An address chosen by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Address {
    /// `IPAddress`, `Hostname` or an implementation's own; an IP address where it is absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The address; absent for one of the implementation's choice.
    pub value: Option<String>,
}

/// What the pods and the Service of a Gateway get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Infrastructure {
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Map,
    /// Further settings.
    pub parameters_ref: Option<LocalObject>,
}

/// Whose ListenerSets may add listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllowedListeners {
    /// From which namespaces; none where nothing is written.
    pub namespaces: AllowedNamespaces,
}

impl From<LabelSelector> for Selector {
    fn from(selector: LabelSelector) -> Self {
        Self(selector)
    }
}

#[cfg(test)]
mod tests;
