//! Which pods are in the mesh: a pure function of a namespace and a pod.

use std::fmt;

use crate::namespace::Namespace;
use crate::pod::Pod;

/// The label that asks for the mesh, on a namespace or a pod.
pub const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// The annotation the node agent sets on pods it has captured.
pub const REDIRECTION: &str = "ambient.istio.io/redirection";
/// The annotation that an injected sidecar leaves.
const SIDECAR_STATUS: &str = "sidecar.istio.io/status";
/// The annotation that a kubelet puts on the copy it shows of a pod that its node's own files describe.
const STATIC: &str = "kubernetes.io/config.mirror";
/// Namespaces whose pods are never captured.
const EXCLUDED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Whether a pod is in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// It is to be captured.
    In,
    /// It is to be left alone.
    Out(Why),
}

/// Why a pod is not in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Neither the pod nor its namespace asks for it.
    NotAsked,
    /// The pod opts out.
    OptedOut,
    /// It shares the node's network.
    HostNetwork,
    /// Its namespace is never captured.
    ExcludedNamespace,
    /// It has a sidecar.
    Sidecar,
    /// It comes from a file of its node: it has no service account, and so no identity.
    Static,
    /// It is a node proxy itself.
    NodeProxy,
    /// It has ended.
    Terminal,
    /// It has no address yet; it is looked at again when it has.
    NoAddress,
}

/// Decides whether a pod is captured.
pub fn enrolled(namespace: &Namespace, pod: &Pod) -> Enrolment {
    let on_pod = pod.meta.label(DATAPLANE_MODE);
    let on_namespace = namespace.meta.label(DATAPLANE_MODE);
    if let Some(why) = never(pod) {
        return Enrolment::Out(why);
    }
    match (on_namespace, on_pod) {
        (_, Some("ambient")) => {}
        (_, Some("none")) => return Enrolment::Out(Why::OptedOut),
        (Some("ambient"), _) => {}
        _ => return Enrolment::Out(Why::NotAsked),
    }
    if pod.ips().is_empty() {
        return Enrolment::Out(Why::NoAddress);
    }
    Enrolment::In
}

/// What no label overrides.
fn never(pod: &Pod) -> Option<Why> {
    let meta = &pod.meta;
    if pod.spec.host_network {
        return Some(Why::HostNetwork);
    }
    if EXCLUDED.contains(&meta.namespace.as_str()) {
        return Some(Why::ExcludedNamespace);
    }
    if meta.annotations.contains_key(SIDECAR_STATUS) {
        return Some(Why::Sidecar);
    }
    if meta.annotations.contains_key(STATIC) {
        return Some(Why::Static);
    }
    if meta.label("app") == Some("ztunnel")
        && matches!(meta.namespace.as_str(), "ambit-system" | "istio-system")
    {
        return Some(Why::NodeProxy);
    }
    pod.is_terminal().then_some(Why::Terminal)
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => {
                "neither the pod nor its namespace has the label istio.io/dataplane-mode=ambient"
            }
            Self::OptedOut => "the pod has the label istio.io/dataplane-mode=none",
            Self::HostNetwork => "the pod shares the node's network",
            Self::ExcludedNamespace => "pods of this namespace are never captured",
            Self::Sidecar => "the pod has a sidecar proxy",
            Self::Static => "the pod comes from a file of its node and has no identity",
            Self::NodeProxy => "the pod is a node proxy",
            Self::Terminal => "the pod has ended",
            Self::NoAddress => "the pod has no address yet",
        })
    }
}

#[cfg(test)]
mod tests;
