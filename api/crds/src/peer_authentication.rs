//! PeerAuthentication: whether plaintext is accepted, for a mesh, a namespace, workloads or single ports.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::meta::{Map, ObjectMeta};

/// A PeerAuthentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: PeerAuthenticationSpec,
}

/// What a PeerAuthentication says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSpec")]
pub struct PeerAuthenticationSpec {
    /// Labels of the workloads it applies to; empty means the whole namespace (or mesh, in the root namespace).
    pub selector: Map,
    /// For all ports.
    pub mode: MtlsMode,
    /// For single workload ports; only with a selector.
    pub ports: BTreeMap<u16, MtlsMode>,
}

/// What a port accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MtlsMode {
    /// As the next wider level says.
    #[default]
    Unset,
    /// As permissive, for pods in the mesh.
    Disable,
    /// Mutual TLS and plaintext.
    Permissive,
    /// Mutual TLS alone.
    Strict,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawSpec {
    selector: Selector,
    mtls: Mtls,
    port_level_mtls: Option<BTreeMap<String, Mtls>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    match_labels: Map,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mtls {
    mode: MtlsMode,
}

impl TryFrom<RawSpec> for PeerAuthenticationSpec {
    type Error = String;

    fn try_from(raw: RawSpec) -> Result<Self, String> {
        let selector = raw.selector.match_labels;
        if selector.iter().any(|(key, value)| key.is_empty() || key.contains('*') || value.contains('*')) {
            return Err(
                "selector.matchLabels: wildcards and empty keys match no label; name the label".to_owned()
            );
        }
        let mut ports = BTreeMap::new();
        for (text, mtls) in raw.port_level_mtls.unwrap_or_default() {
            let port = text.parse::<u16>().ok().filter(|port| *port > 0);
            let Some(port) = port else {
                return Err(format!("portLevelMtls: {text:?} is not a port; write a number from 1 to 65535"));
            };
            ports.insert(port, mtls.mode);
        }
        if selector.is_empty() && !ports.is_empty() {
            return Err("portLevelMtls needs a selector; add selector.matchLabels".to_owned());
        }
        Ok(Self { selector, mode: raw.mtls.mode, ports })
    }
}
