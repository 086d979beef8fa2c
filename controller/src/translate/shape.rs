//! What a waypoint's pods are: the template that is deployed, and how such a pod is told from one that only looks like it
//! (policy.md rules 1 and 2).
//!
//! The rule. A waypoint's identity is its Gateway's service account, and only if we made that account for that very Gateway.
//! Who presents a token of the account must present one that is bound to a living pod, and the pod must have come from a
//! ReplicaSet, carry the labels of the Gateway's replicas, and run our program and nothing else: its image from our repository,
//! no other command, no further container, variable, volume or host entry, under our user. So whoever may write pods, overlays
//! or owner references in a namespace can at most start a waypoint, and never read its key. That pods of the account come
//! from ReplicaSets of our Deployments alone, and tokens of it from kubelets alone, is for the API server to hold
//! (ValidatingAdmissionPolicy ambit-waypoint-identity): owner references are written by whoever makes a pod.

use std::collections::BTreeSet;

use ambit_crds::pod::Pod;
use serde_json::{Map, Value, json};

use super::gateways::{CONTROLLER, GATEWAY_NAME, MANAGED, PORT};
use super::names::Names;
use crate::objects::Key;

/// As which user and group waypoints run.
const USER: u32 = 1337;
/// Where a waypoint says that it is ready.
pub(crate) const STATUS_PORT: u16 = 15021;
/// Where it shows metrics.
pub(crate) const METRICS_PORT: u16 = 15020;
/// How often a replica is asked whether it is ready, in seconds, and after how many failures in a row it counts as not: one
/// that hangs gets no new connections four seconds later.
const READINESS: (u32, u32) = (2, 2);
/// Until it was ready once it is asked every second; it is started anew when it was not for ten minutes, since without a
/// controller it cannot be, and starting anew brings none.
const STARTUP: (u32, u32) = (1, 600);
/// How long a token lives, in seconds.
const TOKEN_LIFE: u32 = 43_200;
/// Ports below this one are for those who may have them; within a pod, for everybody.
const FIRST_FREE_PORT: u16 = 1024;

/// Fields of a pod that decide where and how it runs, and not what: others than we may set them.
const FREE: [&str; 20] = [
    "affinity",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "imagePullSecrets",
    "nodeName",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resources",
    "restartPolicy",
    "schedulerName",
    "schedulingGates",
    "serviceAccount",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
];
/// The same of its container.
const FREE_IN_CONTAINER: [&str; 11] = [
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
];
/// What a cluster may add to a pod's security context: rights on volumes, of which it has none that can be written.
const FREE_IN_CONTEXT: [&str; 4] = ["fsGroup", "fsGroupChangePolicy", "seLinuxOptions", "supplementalGroups"];
/// Variables that say where a pod is, and may differ between versions of the mesh's configuration.
const FREE_VARIABLES: [&str; 4] = ["CLUSTER_DOMAIN", "CLUSTER_ID", "NETWORK", "TRUST_DOMAIN"];
/// What the API server adds where nothing is written.
const DEFAULTED: [&str; 4] = ["apiVersion", "defaultMode", "readOnly", "recursiveReadOnly"];

/// What waypoints of this installation run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    image: String,
    control: String,
}

impl Default for Shape {
    fn default() -> Self {
        Self::new("ambit/waypoint:0.1".to_owned(), "ambit-system")
    }
}

impl Shape {
    /// Of an image, under the controller of a namespace.
    pub fn new(image: String, namespace: &str) -> Self {
        Self { image, control: format!("https://ambit-controller.{namespace}.svc:15012") }
    }

    /// The Gateway that a pod is a replica of: labelled like one, under its account, and as we deploy it.
    pub(crate) fn replica_of(&self, pod: &Pod) -> Option<Key> {
        let key = claimed(pod)?;
        let owner = pod.meta.owner.as_ref();
        let is_made = owner.is_some_and(|owner| owner.controller && owner.kind == "ReplicaSet");
        (is_made && pod.service_account() == key.name && self.foreign_part(pod, &key).is_none())
            .then_some(key)
    }

    /// For a pod that is labelled like a replica and is none: the first field that makes it so.
    pub(crate) fn pretence(&self, pod: &Pod) -> Option<String> {
        let key = claimed(pod).filter(|_| self.replica_of(pod).is_none())?;
        let others = if pod.service_account() == key.name {
            "metadata.ownerReferences"
        } else {
            "spec.serviceAccountName"
        };
        Some(self.foreign_part(pod, &key).unwrap_or_else(|| others.to_owned()))
    }

    /// The first field in which a pod is not what we deploy for a Gateway.
    pub(crate) fn foreign_part(&self, pod: &Pod, key: &Key) -> Option<String> {
        let Some(spec) = &pod.spec.as_written else { return Some("spec".to_owned()) };
        let wanted =
            self.spec(&Deployed { key, trust_domain: "", names: &Names::default(), plain: &BTreeSet::new() });
        pod_differs(spec, &wanted)
    }

    /// The pods' specification.
    pub(crate) fn spec(&self, of: &Deployed<'_>) -> Value {
        let probe = |(period, failures): (u32, u32)| {
            let get = json!({ "path": "/healthz/ready", "port": STATUS_PORT });
            json!({ "httpGet": get, "periodSeconds": period, "failureThreshold": failures })
        };
        let port = |name: &str, port: u16| json!({ "name": name, "containerPort": port, "protocol": "TCP" });
        let mut context = json!({ "seccompProfile": { "type": "RuntimeDefault" } });
        if of.plain.iter().any(|port| *port < FIRST_FREE_PORT) {
            context["sysctls"] = json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]);
        }
        json!({
            "serviceAccountName": of.key.name,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": context,
            "containers": [{
                "name": "waypoint",
                "image": self.image,
                "ports": [port("metrics", METRICS_PORT), port("status-port", STATUS_PORT), port("mesh", PORT)],
                "env": self.environment(of),
                "startupProbe": probe(STARTUP),
                "readinessProbe": probe(READINESS),
                "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "1Gi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "privileged": false,
                    "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
                },
                "volumeMounts": [
                    { "name": "istio-token", "mountPath": "/var/run/secrets/tokens", "readOnly": true },
                    { "name": "istio-ca-root-cert", "mountPath": "/var/run/secrets/istio", "readOnly": true },
                ],
            }],
            "volumes": [
                { "name": "istio-token", "projected": { "sources": [{ "serviceAccountToken": {
                    "audience": "istio-ca", "expirationSeconds": TOKEN_LIFE, "path": "istio-token",
                } }] } },
                { "name": "istio-ca-root-cert", "configMap": { "name": "istio-ca-root-cert" } },
            ],
        })
    }

    fn environment(&self, of: &Deployed<'_>) -> Vec<Value> {
        let root = "/var/run/secrets/istio/root-cert.pem";
        let written = [
            ("XDS_ADDRESS", self.control.as_str()),
            ("CA_ADDRESS", self.control.as_str()),
            ("XDS_ROOT_CA", root),
            ("CA_ROOT_CA", root),
            ("AUTH_TOKEN", "/var/run/secrets/tokens/istio-token"),
            ("CLUSTER_ID", &of.names.cluster),
            ("CLUSTER_DOMAIN", &of.names.domain),
            ("NETWORK", &of.names.network),
            ("TRUST_DOMAIN", of.trust_domain),
            ("SERVICE_ACCOUNT", &of.key.name),
            ("GATEWAY_NAME", &of.key.name),
        ];
        let fields = [
            ("POD_NAME", "metadata.name"),
            ("POD_NAMESPACE", "metadata.namespace"),
            ("NODE_NAME", "spec.nodeName"),
            ("INSTANCE_IP", "status.podIP"),
        ];
        let written = written.into_iter().map(|(name, value)| json!({ "name": name, "value": value }));
        let fields = fields
            .into_iter()
            .map(|(name, path)| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } }));
        written.chain(fields).collect()
    }
}

/// For which Gateway something is deployed, and where.
pub(crate) struct Deployed<'a> {
    pub(crate) key: &'a Key,
    pub(crate) trust_domain: &'a str,
    pub(crate) names: &'a Names,
    /// Ports on which it takes plain HTTP.
    pub(crate) plain: &'a BTreeSet<u16>,
}

/// The Gateway that a pod says it is a replica of.
pub(crate) fn claimed(pod: &Pod) -> Option<Key> {
    let name = pod.meta.label(GATEWAY_NAME)?;
    (pod.meta.label(MANAGED) == Some(CONTROLLER)).then(|| Key::new(&pod.meta.namespace, name))
}

/// The first field of a pod that may not be as it is. What it lacks is as our program has it by itself.
fn pod_differs(spec: &Value, wanted: &Value) -> Option<String> {
    let other = |field: &str| Some(format!("spec.{field}"));
    for (field, value) in fields(spec) {
        match field {
            "containers" | "securityContext" | "volumes" => {}
            "dnsPolicy" if value == "ClusterFirst" => {}
            _ if FREE.contains(&field) => {}
            _ => return other(field),
        }
    }
    let sysctls = json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]);
    for (field, value) in fields(&spec["securityContext"]) {
        let is_fine = FREE_IN_CONTEXT.contains(&field)
            || wanted["securityContext"][field] == *value
            || (field == "sysctls" && *value == sysctls);
        if !is_fine {
            return Some(format!("spec.securityContext.{field}"));
        }
    }
    if let Some(name) = stranger(&spec["volumes"], &wanted["volumes"], &[]) {
        return Some(format!("spec.volumes[{name}]"));
    }
    match spec["containers"].as_array().map(Vec::as_slice) {
        Some([only]) => container_differs(only, &wanted["containers"][0]),
        _ => other("containers"),
    }
}

fn container_differs(container: &Value, wanted: &Value) -> Option<String> {
    let at = |field: &str| Some(format!("spec.containers[0].{field}"));
    for (field, value) in fields(container) {
        let is_probe = field.ends_with("Probe");
        match field {
            "env" | "volumeMounts" | "securityContext" => {}
            // A command of a probe runs beside our program.
            _ if is_probe && !value["exec"].is_null() => return at(&format!("{field}.exec")),
            _ if FREE_IN_CONTAINER.contains(&field) => {}
            _ => return at(field),
        }
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if repository(&text(&container["image"])) != repository(&text(&wanted["image"])) {
        return at("image");
    }
    if let Some(name) = stranger(&container["env"], &wanted["env"], &FREE_VARIABLES) {
        return at(&format!("env[{name}]"));
    }
    if let Some(name) = stranger(&container["volumeMounts"], &wanted["volumeMounts"], &[]) {
        return at(&format!("volumeMounts[{name}]"));
    }
    let context = &container["securityContext"];
    if context["runAsUser"] != wanted["securityContext"]["runAsUser"] {
        return at("securityContext.runAsUser");
    }
    let other = fields(context).find(|(field, value)| wanted["securityContext"][*field] != **value);
    other.and_then(|(field, _)| at(&format!("securityContext.{field}")))
}

/// The name of the first entry of a list that is not one of ours.
fn stranger(found: &Value, wanted: &Value, free: &[&str]) -> Option<String> {
    let wanted: Vec<Value> = wanted.as_array().into_iter().flatten().cloned().map(bare).collect();
    let found = found.as_array().into_iter().flatten();
    let mut strange = found.filter(|one| {
        let is_named = |other: &Value| other["name"] == one["name"];
        let is_free = free.iter().any(|name| one["name"] == *name) && one["valueFrom"].is_null();
        !(wanted.contains(&bare((*one).clone())) || (is_free && wanted.iter().any(is_named)))
    });
    strange.next().map(|one| one["name"].as_str().unwrap_or_default().to_owned())
}

/// Without what the API server adds by itself.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(key, _)| !DEFAULTED.contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key, bare(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(bare).collect(),
        other => other,
    }
}

/// The fields of an object that say something.
fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = value.as_object().into_iter().flatten();
    all.map(|(key, value)| (key.as_str(), value)).filter(|(_, value)| match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(_) => true,
    })
}

/// An image without its version: whoever may write there decides what our programs are.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

#[cfg(test)]
mod tests;
