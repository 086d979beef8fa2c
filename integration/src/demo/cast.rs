//! Who is who in a lab: its pods by name and address, and the workloads they belong to. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::component::SYSTEM;

/// Label of a waypoint's pods.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// Pods that are the same to their callers: a Deployment's, or a lone one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What a workload is to the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// In it.
    Enrolled,
    /// Not in it.
    Outside,
    /// A proxy of its own.
    Waypoint,
}

/// A workload with what there is of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The workload.
    #[serde(flatten)]
    pub(crate) workload: Workload,
    /// What it is to the mesh.
    pub(crate) kind: Kind,
    /// How many pods it has.
    pub(crate) pods: usize,
    /// The nodes they are on.
    pub(crate) nodes: BTreeSet<String>,
}

/// All workloads, and how to find them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cast {
    pub(crate) places: BTreeMap<Workload, Place>,
    by_pod: BTreeMap<(String, String), Workload>,
    by_address: BTreeMap<IpAddr, Workload>,
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{}/{}", self.namespace, self.name))
    }
}

impl Workload {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Workload { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl Cast {
    /// From the objects of pods; `enrolled` says whether a pod is in the mesh. The mesh's own pods are left out.
    pub(crate) fn of(objects: &[Value], enrolled: impl Fn(&Value) -> bool) -> Self {
        let mut cast = Cast::default();
        for object in objects.iter().filter(|object| object["metadata"]["namespace"] != SYSTEM) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let workload = workload(object);
            let kind = match () {
                () if object["metadata"]["labels"].get(GATEWAY).is_some() => Kind::Waypoint,
                () if enrolled(object) => Kind::Enrolled,
                () => Kind::Outside,
            };
            let place = cast.places.entry(workload.clone()).or_insert_with(|| Place {
                workload: workload.clone(),
                kind,
                pods: 0,
                nodes: BTreeSet::new(),
            });
            place.pods += 1;
            place.nodes.insert(text(&object["spec"]["nodeName"]));
            for address in object["status"]["podIPs"].as_array().into_iter().flatten() {
                if let Ok(address) = text(&address["ip"]).parse() {
                    cast.by_address.insert(address, workload.clone());
                }
            }
            let pod = (workload.namespace.clone(), text(&object["metadata"]["name"]));
            cast.by_pod.insert(pod, workload);
        }
        cast
    }

    /// The workload a pod belongs to.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Workload> {
        self.by_pod.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The workload that has an address.
    pub(crate) fn address(&self, address: IpAddr) -> Option<&Workload> {
        self.by_address.get(&address)
    }

    /// Whether a workload is a waypoint.
    pub(crate) fn is_waypoint(&self, workload: &Workload) -> bool {
        self.places.get(workload).is_some_and(|place| place.kind == Kind::Waypoint)
    }
}

/// Deployment, StatefulSet or lone pod.
fn workload(pod: &Value) -> Workload {
    let metadata = &pod["metadata"];
    let owner = &metadata["ownerReferences"][0];
    let name = match (owner["kind"].as_str(), owner["name"].as_str()) {
        // A ReplicaSet is called after its Deployment and a revision.
        (Some("ReplicaSet"), Some(name)) => name.rsplit_once('-').map_or(name, |(name, _revision)| name),
        (_, Some(name)) => name,
        _ => metadata["name"].as_str().unwrap_or_default(),
    };
    Workload::new(metadata["namespace"].as_str().unwrap_or_default(), name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Cast, Kind, Workload};

    #[test]
    fn pods_belong_to_workloads() {
        let pod = |name: &str, owner: serde_json::Value, node: &str, ip: &str| {
            json!({"metadata": {"namespace": "shop", "name": name, "ownerReferences": owner, "labels": {}},
                   "spec": {"nodeName": node}, "status": {"podIPs": [{"ip": ip}]}})
        };
        let set = json!([{"kind": "ReplicaSet", "name": "web-a-6cd"}]);
        let mut waypoint =
            pod("waypoint-1-2", json!([{"kind": "ReplicaSet", "name": "waypoint-1"}]), "node-1", "10.0.0.4");
        waypoint["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] = json!("waypoint");
        let mut own = pod("ztunnel-1", json!(null), "node-1", "10.0.0.9");
        own["metadata"]["namespace"] = json!("ambit-system");
        let objects = [
            pod("web-a-6cd-1", set.clone(), "node-1", "10.0.0.1"),
            pod("web-a-6cd-2", set, "node-2", "10.0.0.2"),
            pod("client", json!(null), "node-1", "10.0.0.3"),
            waypoint,
            own,
        ];
        let cast = Cast::of(&objects, |pod| pod["metadata"]["name"] != "client");
        let told: Vec<_> = cast
            .places
            .values()
            .map(|place| (place.workload.to_string(), place.kind, place.pods, place.nodes.len()))
            .collect();
        let expected = [
            ("shop/client".to_owned(), Kind::Outside, 1, 1),
            ("shop/waypoint".to_owned(), Kind::Waypoint, 1, 1),
            ("shop/web-a".to_owned(), Kind::Enrolled, 2, 2),
        ];
        assert_eq!(told, expected);
        assert_eq!(cast.pod("shop", "web-a-6cd-2"), Some(&Workload::new("shop", "web-a")));
        assert_eq!(cast.address("10.0.0.3".parse().unwrap()), Some(&Workload::new("shop", "client")));
        assert!(cast.is_waypoint(&Workload::new("shop", "waypoint")));
    }
}
