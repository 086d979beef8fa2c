//! What asks for the mesh and should not, and what asks for another one.

use ambit_crds::code::Code;
use ambit_crds::enrolment::DATAPLANE_MODE;
use ambit_crds::meta::Map;
use ambit_crds::namespace::Namespace;

use super::Report;

/// Namespaces of the cluster itself; no label enrols them.
const CLUSTER: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// Namespaces of meshes.
const MESHES: [&str; 2] = ["ambit-system", "istio-system"];

/// Keys by which meshes with sidecars are asked for one, and the values that do so; none means any.
const INJECTION: [(&str, &[&str]); 8] = [
    ("istio-injection", &["enabled"]),
    ("sidecar.istio.io/inject", &["true", "yes", "y", "on"]),
    ("sidecar.istio.io/status", &[]),
    ("linkerd.io/inject", &["enabled", "ingress"]),
    ("kuma.io/sidecar-injection", &["enabled", "true"]),
    ("consul.hashicorp.com/connect-inject", &["true", "enabled"]),
    ("openservicemesh.io/sidecar-injection", &["enabled", "true", "yes"]),
    ("appmesh.k8s.aws/sidecarInjectorWebhook", &["enabled"]),
];

/// A namespace's labels.
pub(super) fn of_namespace(namespace: &Namespace, report: &mut Report) {
    let meta = &namespace.meta;
    let name = meta.name.as_str();
    if meta.label(DATAPLANE_MODE) == Some("ambient") {
        let field = format!("metadata.labels.{DATAPLANE_MODE}");
        let mend = format!("kubectl label namespace {name} {DATAPLANE_MODE}-");
        if CLUSTER.contains(&name) {
            let message = "pods of this namespace are never captured, so the label means nothing".to_owned();
            report.warning(Code::SystemNamespace, &field, message, mend);
        } else if MESHES.contains(&name) {
            let message = "the mesh's own programs would need the mesh in order to start it".to_owned();
            report.error(Code::SystemNamespace, &field, message, mend);
        }
    }
    let mend = format!(
        "kubectl label namespace {name} {DATAPLANE_MODE}=ambient, which needs no restart, and remove this"
    );
    injection("metadata", [&meta.labels, &meta.annotations], &mend, report);
    if let Some(revision) = meta.label("istio.io/rev")
        && meta.label(DATAPLANE_MODE).is_none()
    {
        let message =
            format!("it asks Istio's revision {revision} for sidecars; Ambit takes nothing from it");
        report.warning(Code::SidecarInjection, "metadata.labels.istio.io/rev", message, mend);
    }
}

/// Labels and annotations that ask for a sidecar.
pub(super) fn injection(field: &str, [labels, annotations]: [&Map; 2], mend: &str, report: &mut Report) {
    for (name, map) in [("labels", labels), ("annotations", annotations)] {
        for (key, values) in INJECTION {
            let Some(value) = map.get(key) else { continue };
            if !values.is_empty() && !values.contains(&value.to_ascii_lowercase().as_str()) {
                continue;
            }
            let message = match key {
                "sidecar.istio.io/status" => {
                    "the pod has a sidecar proxy, so it is never captured".to_owned()
                }
                _ => "it asks another mesh for a sidecar; there are none here".to_owned(),
            };
            report.warning(Code::SidecarInjection, &format!("{field}.{name}.{key}"), message, mend);
        }
    }
}
