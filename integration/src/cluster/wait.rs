//! Waiting for what a cluster does in its own time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Cluster;
use crate::error::LabError;
use crate::manifest::{at, text};

/// Pause between two looks: each is a program of its own that asks the API server.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks again and again until something is so; the error says what was missing at the last look.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, LabError> {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Err(dump) if Instant::now() >= end => {
                return Err(LabError::Late { what: what.to_owned(), seconds: limit.as_secs(), dump });
            }
            Err(_not_yet) => std::thread::sleep(PAUSE),
            Ok(seen) => return Ok(seen),
        }
    }
}

impl Cluster {
    /// Waits until every pod of a namespace is ready or has ended well, and every Deployment, StatefulSet and DaemonSet has
    /// the pods that it shall have.
    pub fn ready(&self, namespace: &str, limit: Duration) -> Result<(), LabError> {
        eventually(&format!("readiness of namespace {namespace}"), limit, || {
            let kinds = "pods,deployments,statefulsets,daemonsets";
            let listed = self.get(&["-n", namespace, kinds]).map_err(|error| error.to_string())?;
            let items = listed["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            match items.iter().find_map(unready) {
                Some(what) => Err(what),
                None => Ok(()),
            }
        })
    }

    /// Waits until there are no objects of a kind with a label left in a namespace.
    pub fn gone(&self, namespace: &str, kind: &str, label: &str, limit: Duration) -> Result<(), LabError> {
        eventually(&format!("end of {kind} {label} in {namespace}"), limit, || {
            let words = ["get", kind, "-n", namespace, "-l", label, "-o", "name"];
            let left = self.must(&words).map_err(|error| error.to_string())?;
            if left.trim().is_empty() { Ok(()) } else { Err(left) }
        })
    }

    /// The namespaces that objects of manifests are in, as their authors wrote them.
    pub fn namespaces(objects: &[Value]) -> BTreeSet<String> {
        let named = objects.iter().filter_map(|object| match text(object, &["kind"]) {
            Some("Namespace") => text(object, &["metadata", "name"]),
            _ => text(object, &["metadata", "namespace"]),
        });
        named.map(str::to_owned).collect()
    }
}

/// What is missing of an object, in words.
fn unready(object: &Value) -> Option<String> {
    let number = |path: &[&str]| at(object, path).and_then(Value::as_u64).unwrap_or(0);
    let name = format!(
        "{} {}",
        text(object, &["kind"]).unwrap_or_default(),
        text(object, &["metadata", "name"]).unwrap_or_default()
    );
    if number(&["metadata", "generation"]) > number(&["status", "observedGeneration"])
        && text(object, &["kind"]) != Some("Pod")
    {
        return Some(format!("{name} is not looked at yet"));
    }
    let (have, wanted) = match text(object, &["kind"])? {
        "Pod" => return unready_pod(object).map(|why| format!("{name}: {why}")),
        "DaemonSet" => {
            let updated = number(&["status", "updatedNumberScheduled"]);
            (updated.min(number(&["status", "numberReady"])), number(&["status", "desiredNumberScheduled"]))
        }
        _ => {
            let updated = number(&["status", "updatedReplicas"]);
            (updated.min(number(&["status", "readyReplicas"])), number(&["spec", "replicas"]))
        }
    };
    (have < wanted).then(|| format!("{name}: {have} of {wanted} pods are ready"))
}

fn unready_pod(pod: &Value) -> Option<String> {
    if text(pod, &["status", "phase"]) == Some("Succeeded") {
        return None;
    }
    if at(pod, &["metadata", "deletionTimestamp"]).is_some() {
        return Some("is ending".to_owned());
    }
    let conditions = at(pod, &["status", "conditions"]).and_then(Value::as_array);
    let ready =
        conditions.into_iter().flatten().find(|condition| text(condition, &["type"]) == Some("Ready"));
    match ready.and_then(|condition| text(condition, &["status"])) {
        Some("True") => None,
        _ => Some(format!(
            "is not ready: {}",
            at(pod, &["status", "containerStatuses"]).unwrap_or(&Value::Null)
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::unready;

    fn pod(status: Value) -> Value {
        json!({"kind": "Pod", "metadata": {"name": "p", "generation": 1}, "status": status})
    }

    #[test]
    fn what_is_not_ready_is_named() {
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let waits = json!({"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]});
        let deployment = |observed: u64, have: u64| {
            json!({"kind": "Deployment", "metadata": {"name": "d", "generation": 2}, "spec": {"replicas": 2},
                   "status": {"observedGeneration": observed, "updatedReplicas": 2, "readyReplicas": have}})
        };
        let cases = [
            (pod(ready), None),
            (pod(json!({"phase": "Succeeded"})), None),
            (pod(waits), Some("Pod p: is not ready")),
            (deployment(1, 2), Some("Deployment d is not looked at yet")),
            (deployment(2, 1), Some("Deployment d: 1 of 2 pods")),
            (deployment(2, 2), None),
        ];
        for (object, expected) in cases {
            let said = unready(&object);
            assert_eq!(said.is_some(), expected.is_some(), "{object}: {said:?}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{object}");
        }
    }
}
