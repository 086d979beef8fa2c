//! What a cluster adds to manifests, assumed: the pods of Deployments and StatefulSets, addresses, readiness and capture.
//! For those who look at a folder without running it; whatever is written already stays as it is.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::enrolment::{Enrolment, REDIRECTION, enrolled};
use crate::meta::{ObjectMeta, Owner};
use crate::namespace::Namespace;
use crate::object::Object;
use crate::pod::{Phase, Pod, PodCondition};
use crate::service::{Addressing, Service, ServiceType};
use crate::workload_set::WorkloadSet;

/// The first two bytes of addresses given to pods and to Services.
const RANGES: [[u8; 2]; 2] = [[10, 244], [10, 96]];

/// The node of pods that none is written for.
const NODE: &str = "node-1";

/// In place of the hash that a Deployment's ReplicaSet is named after and its pods are labelled with.
const HASH: &str = "0";

/// The label with that hash.
const HASH_LABEL: &str = "pod-template-hash";

/// The most pods of one set that are made: more of the same answer no question.
const REPLICAS: u32 = 3;

/// Objects that are new, or differ from what is written, as a cluster would have them once everything has settled.
pub fn complete(objects: &[Arc<Object>]) -> Vec<Arc<Object>> {
    let mut addresses = Addresses::of(objects);
    let sets = objects.iter().filter_map(|object| match &**object {
        Object::Deployment(set) => Some((set, "Deployment")),
        Object::StatefulSet(set) => Some((set, "StatefulSet")),
        _ => None,
    });
    let made = sets.filter(|(set, _)| !has_pods(set, objects)).flat_map(|(set, kind)| pods_of(set, kind));
    let written = objects.iter().filter_map(|object| match &**object {
        Object::Pod(pod) => Some((**pod).clone()),
        _ => None,
    });
    let mut completed = Vec::new();
    for pod in written.chain(made) {
        let settled = settle(pod.clone(), objects, &mut addresses);
        let known = objects.iter().any(|object| matches!(&**object, Object::Pod(one) if **one == settled));
        if !known {
            completed.push(Arc::new(Object::Pod(Box::new(settled))));
        }
    }
    let services = objects.iter().filter_map(|object| match &**object {
        Object::Service(service) => Some(service),
        _ => None,
    });
    for service in services.filter(|service| wants_address(service)) {
        let mut service = service.clone();
        service.spec.cluster_ip = addresses.next(RANGES[1]).to_string();
        service.spec.cluster_ips = vec![service.spec.cluster_ip.clone()];
        completed.push(Arc::new(Object::Service(service)));
    }
    completed
}

/// Addresses that are taken.
struct Addresses {
    taken: BTreeSet<IpAddr>,
    last: u16,
}

impl Addresses {
    fn of(objects: &[Arc<Object>]) -> Self {
        let ips = |object: &Arc<Object>| match &**object {
            Object::Pod(pod) => pod.ips(),
            Object::Service(service) => match service.addressing() {
                Addressing::Virtual(ips) => ips,
                Addressing::Headless | Addressing::Unassigned => Vec::new(),
            },
            _ => Vec::new(),
        };
        Self { taken: objects.iter().flat_map(ips).collect(), last: 0x100 }
    }

    fn next(&mut self, [first, second]: [u8; 2]) -> IpAddr {
        loop {
            self.last = self.last.wrapping_add(1);
            let [third, fourth] = self.last.to_be_bytes();
            let ip = IpAddr::V4(Ipv4Addr::new(first, second, third, fourth));
            // All taken: whoever has this many pods reads a cluster, not a folder.
            if self.taken.insert(ip) || self.taken.len() > usize::from(u16::MAX) {
                return ip;
            }
        }
    }
}

fn has_pods(set: &WorkloadSet, objects: &[Arc<Object>]) -> bool {
    let labels = match set.spec.selector.match_labels.is_empty() {
        true => &set.spec.template.metadata.labels,
        false => &set.spec.selector.match_labels,
    };
    objects.iter().any(|object| {
        matches!(&**object, Object::Pod(pod) if pod.meta.namespace == set.meta.namespace
            && pod.meta.owner.is_some()
            && labels.iter().all(|(key, value)| pod.meta.label(key) == Some(value)))
    })
}

fn pods_of(set: &WorkloadSet, kind: &str) -> impl Iterator<Item = Pod> {
    let template = &set.spec.template;
    let mut labels = template.metadata.labels.clone();
    let mut owner = Owner {
        kind: kind.to_owned(),
        name: set.meta.name.clone(),
        uid: set.meta.uid.clone(),
        controller: true,
    };
    if kind == "Deployment" {
        // Its pods are a ReplicaSet's: whoever tells a waypoint's pod from a copy asks for that.
        owner.kind = "ReplicaSet".to_owned();
        owner.name = format!("{}-{HASH}", set.meta.name);
        labels.insert(HASH_LABEL.to_owned(), HASH.to_owned());
    }
    (0..set.spec.replicas.min(REPLICAS)).map(move |number| {
        let name = format!("{}-{number}", set.meta.name);
        let meta = ObjectMeta {
            uid: format!("{}-{number}", set.meta.uid),
            namespace: set.meta.namespace.clone(),
            labels: labels.clone(),
            annotations: template.metadata.annotations.clone(),
            creation: set.meta.creation.clone(),
            owner: Some(owner.clone()),
            name,
            ..ObjectMeta::default()
        };
        Pod { meta, spec: template.spec.clone(), ..Pod::default() }
    })
}

/// A pod that runs, is ready unless it says otherwise, and is captured if it is to be.
fn settle(mut pod: Pod, objects: &[Arc<Object>], addresses: &mut Addresses) -> Pod {
    if pod.ips().is_empty() && !pod.is_terminal() {
        pod.status.pod_ip = addresses.next(RANGES[0]).to_string();
    }
    if pod.status.phase == Phase::Pending {
        pod.status.phase = Phase::Running;
    }
    if !pod.status.conditions.iter().any(|one| one.kind == "Ready") {
        pod.status.conditions.push(PodCondition { kind: "Ready".to_owned(), status: "True".to_owned() });
    }
    if pod.spec.node_name.is_empty() {
        pod.spec.node_name = NODE.to_owned();
    }
    let namespace = objects.iter().find_map(|object| match &**object {
        Object::Namespace(one) if one.meta.name == pod.meta.namespace => Some(one.clone()),
        _ => None,
    });
    if enrolled(&namespace.unwrap_or_else(Namespace::default), &pod) == Enrolment::In {
        pod.meta.annotations.insert(REDIRECTION.to_owned(), "enabled".to_owned());
    }
    pod
}

fn wants_address(service: &Service) -> bool {
    service.spec.kind != ServiceType::ExternalName && service.addressing() == Addressing::Unassigned
}

#[cfg(test)]
mod tests;
