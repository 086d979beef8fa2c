//! The parts of a ztunnel's dump that are shown, in its own names; what another maker's ztunnel writes differently is read too.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A dump. Everything but these three lists may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dump {
    pub(super) workloads: Vec<Workload>,
    pub(super) services: Vec<Service>,
    pub(super) policies: Vec<Policy>,
    #[serde(default)]
    pub(super) certificates: Vec<Certificate>,
    #[serde(default)]
    pub(super) workload_state: BTreeMap<String, State>,
}

/// A pod, or another endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Workload {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) workload_ips: Vec<String>,
    pub(super) protocol: String,
    pub(super) waypoint: Value,
    pub(super) node: String,
    /// `namespace/hostname` of the Services before it.
    pub(super) services: Vec<String>,
}

/// A Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) hostname: String,
    /// `network/address`, perhaps with a prefix length.
    pub(super) vips: Vec<String>,
    pub(super) waypoint: Value,
    /// Those that take connections: names, or a map with names as keys.
    pub(super) endpoints: Value,
}

/// A policy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Policy {
    pub(super) key: Key,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) action: String,
    pub(super) scope: String,
    pub(super) dry_run: bool,
    pub(super) rules: Vec<Value>,
}

/// The name of a policy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What is held for one identity.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Certificate {
    pub(super) identity: String,
    pub(super) state: String,
    pub(super) cert_chain: Vec<Link>,
    pub(super) root_certs: Vec<Link>,
}

/// One certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Link {
    pub(super) serial_number: String,
    pub(super) valid_from: String,
    pub(super) expiration_time: String,
}

/// A pod of this ztunnel's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) info: Info,
    pub(super) connections: Connections,
}

/// Its name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    pub(super) name: String,
    pub(super) namespace: String,
}

/// Its open connections.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connections {
    pub(super) inbound: Vec<Connection>,
    pub(super) outbound: Vec<Connection>,
}

/// One of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Connection {
    pub(super) src: Value,
    pub(super) original_dst: Value,
    pub(super) actual_dst: Value,
    pub(super) protocol: String,
}

impl Policy {
    /// Its namespace and name.
    pub(super) fn named(&self) -> (&str, &str) {
        match self.key.name.as_str() {
            "" => (&self.namespace, &self.name),
            name => (&self.key.namespace, name),
        }
    }
}

impl Service {
    /// How many endpoints take connections.
    pub(super) fn taking(&self) -> usize {
        self.endpoints
            .as_array()
            .map(Vec::len)
            .or(self.endpoints.as_object().map(|map| map.len()))
            .unwrap_or(0)
    }
}

/// A waypoint's address in one word: its Service, or an IP.
pub(super) fn waypoint(address: &Value) -> Option<String> {
    let to = address.get("destination")?;
    if let Some(text) = to.as_str() {
        return Some(text.trim_start_matches('/').to_owned());
    }
    let text = |kind: &str, field: &str| to.get(kind)?.get(field)?.as_str().map(str::to_owned);
    let service = text("Service", "hostname").map(|hostname| {
        let namespace = text("Service", "namespace").unwrap_or_default();
        let name = hostname.split('.').next().unwrap_or(&hostname);
        format!("{namespace}/{name}")
    });
    service.or_else(|| text("Address", "ip"))
}
