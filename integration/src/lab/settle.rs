//! Waiting until a change has arrived everywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Lab;
use super::pods::PodHandle;
use crate::component::{Component, Served};
use crate::error::LabError;
use crate::manifest::{Key, at, text, texts};
use crate::process::{lock, poll};
use crate::waypoint::Stamp;

const LABEL: &str = "istio.io/dataplane-mode";
const REDIRECTION: &str = "ambient.istio.io/redirection";
const NEVER: &[&str] = &["kube-system", "kube-public", "kube-node-lease"];
/// Longest time a change may take to arrive everywhere.
const LIMIT: Duration = Duration::from_secs(20);

impl Lab {
    /// Waits until the agents have enrolled and released what they should and every proxy has acknowledged everything.
    pub fn settled(&self) -> Result<(), LabError> {
        self.settled_within(LIMIT)
    }

    /// The same with a limit of one's own.
    pub fn settled_within(&self, limit: Duration) -> Result<(), LabError> {
        let mut missing = String::new();
        let settled = poll(limit, || match self.unsettled() {
            None => Some(()),
            Some(what) => {
                missing = what;
                None
            }
        });
        settled.ok_or_else(|| self.late(&missing, limit))
    }

    fn late(&self, missing: &str, limit: Duration) -> LabError {
        let what = format!("settling (missing: {missing})");
        LabError::Late { what, seconds: limit.as_secs(), dump: self.status() }
    }

    /// What has not arrived yet; none when all has.
    fn unsettled(&self) -> Option<String> {
        self.unenrolled().or_else(|| self.unacknowledged()).or_else(|| self.unready_waypoint())
    }

    /// The first pod whose enrolment is not as its labels say.
    fn unenrolled(&self) -> Option<String> {
        let namespaces = self.namespace_labels();
        self.pod_objects().iter().find_map(|pod| {
            let node = text(pod, &["spec", "nodeName"])?;
            if !self.serves(node) {
                return None;
            }
            let (wanted, have) = (wanted(pod, &namespaces), self.redirection(pod));
            let name =
                format!("{}/{}", text(pod, &["metadata", "namespace"])?, text(pod, &["metadata", "name"])?);
            match (wanted, have.as_deref()) {
                (true, Some("enabled")) | (false, None) => None,
                (true, have) => {
                    Some(format!("pod {name} in the mesh (redirection {})", have.unwrap_or("not set")))
                }
                (false, have) => {
                    Some(format!("pod {name} out of the mesh (redirection {})", have.unwrap_or("not set")))
                }
            }
        })
    }

    /// Whether agent and ztunnel of a node run, so that something can be expected of them.
    fn serves(&self, node: &str) -> bool {
        let number = self.network.nodes.keys().copied().find(|number| number.name() == node);
        number.is_some_and(|node| {
            [Component::Agent(node), Component::Ztunnel(node)]
                .iter()
                .all(|component| self.pid(*component).is_some())
        })
    }

    /// How a pod stands with the mesh, as its node agent has written: `enabled`, `pending`, or nothing.
    pub fn enrolment(&self, pod: &PodHandle) -> Option<String> {
        self.redirection(&json!({"metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid}}))
    }

    /// What the node agent says of a pod.
    pub(crate) fn redirection(&self, pod: &Value) -> Option<String> {
        let named = |field: &str| text(pod, &["metadata", field]).unwrap_or_default();
        let key = Key::new("Pod", named("namespace"), named("name"));
        let file = self
            .folder()
            .join("state/annotations")
            .join(format!("{}.{}.{}.json", key.kind, key.namespace, key.name));
        let written: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
        if text(&written, &["uid"]).is_some_and(|uid| uid != named("uid")) {
            return None;
        }
        at(&written, &["annotations", REDIRECTION])?.as_str().map(str::to_owned)
    }

    /// A waypoint that cannot serve yet, or objects of the controller's that the lab has not taken up.
    fn unready_waypoint(&self) -> Option<String> {
        let state = lock(&self.shared.state);
        if state.objects != Stamp::of(&state.folders.objects()) {
            return Some("the lab's look at the controller's objects".to_owned());
        }
        let unready = state.pods.values().find(|pod| pod.is_waypoint() && !pod.ready);
        unready.map(|pod| format!("readiness of waypoint {}/{}", pod.namespace(), pod.name()))
    }

    /// A proxy that has not acknowledged what the controller holds now.
    fn unacknowledged(&self) -> Option<String> {
        self.pid(Component::Controller)?;
        let answer = match self.ask(Component::Controller, Served::Administration, "GET", "/debug/syncz") {
            Ok(answer) => answer.body,
            Err(error) => return Some(error.to_string()),
        };
        let Ok(sync) = serde_json::from_str::<Value>(&answer) else {
            return Some(format!("an answer of the controller: {answer}"));
        };
        if sync["settled"] != true {
            return Some("the controller's look at the manifests".to_owned());
        }
        let generation = sync["generation"].as_u64().unwrap_or(u64::MAX);
        let proxies = sync["proxies"].as_array().cloned().unwrap_or_default();
        let waypoints: Vec<_> =
            self.waypoints().iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
        let of = |proxy: &Value| proxy["pod"].as_str().unwrap_or_default().to_owned();
        let running = self.network.nodes.keys().filter(|node| self.pid(Component::Ztunnel(**node)).is_some());
        let ztunnels = running.map(|node| node.name()).find_map(|node| {
            let proxy = proxies
                .iter()
                .find(|proxy| proxy["node"] == node.as_str() && !waypoints.contains(&of(proxy)));
            behind(&format!("ztunnel of {node}"), proxy, generation)
        });
        ztunnels.or_else(|| {
            waypoints.iter().find_map(|name| {
                let proxy = proxies.iter().find(|proxy| of(proxy) == *name);
                behind(&format!("waypoint {name}"), proxy, generation)
            })
        })
    }
}

/// Says so when a proxy does not hold this generation.
fn behind(name: &str, proxy: Option<&Value>, generation: u64) -> Option<String> {
    let Some(proxy) = proxy else { return Some(format!("{name} at the controller")) };
    let acknowledged = proxy["generation_acked"].as_u64();
    (acknowledged < Some(generation))
        .then(|| format!("{name} holds generation {acknowledged:?} of {generation}"))
}

/// Whether a pod belongs into the mesh, by its own and its namespace's labels.
fn wanted(pod: &Value, namespaces: &BTreeMap<String, BTreeMap<String, String>>) -> bool {
    let namespace = text(pod, &["metadata", "namespace"]).unwrap_or_default();
    let labels = texts(pod, &["metadata", "labels"]);
    let never = NEVER.contains(&namespace)
        || at(pod, &["spec", "hostNetwork"]) == Some(&Value::Bool(true))
        || at(pod, &["metadata", "annotations", "sidecar.istio.io/status"]).is_some()
        || text(pod, &["status", "phase"]) != Some("Running");
    match labels.get(LABEL).map(String::as_str) {
        _ if never => false,
        Some("ambient") => true,
        Some("none") => false,
        _ => namespaces
            .get(namespace)
            .and_then(|labels| labels.get(LABEL))
            .is_some_and(|mode| mode == "ambient"),
    }
}
