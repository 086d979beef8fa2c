//! What is known of one pod beyond the pod: the Services before it, the form it needs of each policy, its locks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_crds::endpoint_slice::EndpointSlice;
use ambit_crds::mesh_config::{MeshConfig, MeshConfigSpec, PolicyPlacement};
use ambit_crds::pod::Pod;
use ambit_crds::service::Service;

use super::authorization::parse::TrustDomains;
use super::authorization::{Form, Waypoints};
use super::levels::{Levels, Peer};
use super::lock::Locks;
use super::members::Membership;
use super::policies::Policy;
use super::ports::PodPorts;
use super::workload;
use crate::objects::{Key, Objects};

/// On a Service: `true` closes its pods to all but waypoints, `false` opts out of that.
const WAYPOINT_ONLY: &str = "ambit.mesh/waypoint-only";

/// What the mesh configuration says to translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mesh {
    pub(crate) root: String,
    pub(crate) domains: TrustDomains,
    pub(crate) placement: PolicyPlacement,
}

/// The policies and what they are attached to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    pub(crate) all: BTreeMap<Key, Policy>,
    /// T of a Service: the policies attached to it that are obeyed.
    attached: BTreeMap<Key, BTreeSet<Key>>,
}

/// One pod that runs and has an address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) members: Vec<Membership>,
    pub(crate) ports: PodPorts,
    pub(crate) waypoints: Waypoints,
    pub(crate) node: String,
    /// Its traffic can be in the mesh.
    pub(crate) covered: bool,
    /// Its traffic is in the mesh.
    pub(crate) enrolled: bool,
    pub(crate) forms: BTreeMap<Key, Arc<Form>>,
    pub(crate) locks: Locks,
    pub(crate) peer: Peer,
}

/// Why a Service's pods are closed to all but waypoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locking {
    /// Policies are attached to it.
    Policies,
    /// Its annotation says so.
    Annotation,
}

impl Mesh {
    /// From the mesh configuration, or its defaults.
    pub(crate) fn new(objects: &Objects) -> Self {
        let defaults = MeshConfigSpec::default();
        let spec = objects.all::<MeshConfig>().next().map_or(&defaults, |(_, config)| &config.spec);
        let domains =
            TrustDomains { own: spec.trust_domain.clone(), aliases: spec.trust_domain_aliases.clone() };
        Self { root: spec.root_namespace.clone(), domains, placement: spec.policy.placement }
    }
}

impl Policies {
    /// Puts a policy in the place of the old one.
    pub(crate) fn set(&mut self, key: &Key, policy: Option<Policy>) {
        if let Some(old) = self.all.remove(key) {
            for service in old.services(&key.namespace) {
                if let Some(attached) = self.attached.get_mut(&service) {
                    attached.remove(key);
                }
            }
            self.attached.retain(|_, attached| !attached.is_empty());
        }
        let Some(policy) = policy else { return };
        for service in policy.services(&key.namespace).filter(|_| policy.is_obeyed()) {
            self.attached.entry(service).or_default().insert(key.clone());
        }
        self.all.insert(key.clone(), policy);
    }

    /// The obeyed policies attached to a Service.
    pub(crate) fn attached(&self, service: &Key) -> impl Iterator<Item = &Key> {
        self.attached.get(service).into_iter().flatten()
    }

    /// Those that are part of the S of a pod.
    pub(crate) fn covering<'a>(
        &'a self,
        pod: &'a Pod,
        root: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Policy)> {
        let own = pod.meta.namespace.as_str();
        let root = Some(root).filter(|root| *root != own);
        let namespaces = std::iter::once(own).chain(root);
        let all = namespaces.flat_map(|namespace| {
            self.all.range(Key::new(namespace, "")..).take_while(move |(key, _)| key.namespace == namespace)
        });
        all.filter(|(_, policy)| policy.covers(&pod.meta.labels))
    }

    /// Why the Service is locked, if it is (policy.md rule 10).
    pub(crate) fn locking(&self, service: &Service) -> Option<Locking> {
        match service.meta.annotation(WAYPOINT_ONLY) {
            Some("false") => None,
            Some("true") => Some(Locking::Annotation),
            _ => self.attached(&Key::of(&service.meta)).next().map(|_| Locking::Policies),
        }
    }

    /// Whether its owner waived the lock.
    pub(crate) fn waived(service: &Service) -> bool {
        service.meta.annotation(WAYPOINT_ONLY) == Some("false")
    }
}

/// The record of a pod; `None` if the data plane has no use for it. `slices` are those that name it.
pub(crate) fn build(
    pod: &Pod,
    objects: &Objects,
    mesh: &Mesh,
    policies: &Policies,
    slices: &BTreeSet<Key>,
) -> Option<Record> {
    if !workload::is_present(pod) {
        return None;
    }
    let members = members(pod, objects, slices);
    let covered = !pod.spec.host_network;
    let ports = match mesh.placement {
        PolicyPlacement::Istio => PodPorts::default(),
        PolicyPlacement::Ambit => PodPorts::new(
            workload::container_ports(pod),
            members.iter().flat_map(|member| member.ports.clone()),
        ),
    };
    let mut record = Record {
        members,
        ports,
        // No Gateway is a waypoint yet.
        waypoints: Waypoints::new(),
        node: pod.spec.node_name.clone(),
        covered,
        enrolled: workload::is_enrolled(pod),
        forms: BTreeMap::new(),
        locks: Locks::default(),
        peer: Peer::default(),
    };
    if covered {
        let needed = policies.covering(pod, &mesh.root);
        let form = |policy: &Policy| policy.form(&record.ports, &record.waypoints);
        record.forms = needed.filter_map(|(key, policy)| Some((key.clone(), form(policy)?))).collect();
        record.peer = Levels::new(objects, &mesh.root, &pod.meta.namespace).peer(&pod.meta.labels);
        if mesh.placement == PolicyPlacement::Ambit {
            record.locks = locks(&record.members, objects, policies);
        }
    }
    Some(record)
}

fn members(pod: &Pod, objects: &Objects, slices: &BTreeSet<Key>) -> Vec<Membership> {
    let selecting = objects.within::<Service>(&pod.meta.namespace);
    let mut members: BTreeMap<String, Membership> = selecting
        .filter_map(|(key, service)| Some((key.name.clone(), Membership::by_selector(service, pod)?)))
        .collect();
    for slice in slices.iter().filter_map(|key| objects.get::<EndpointSlice>(key)) {
        let service = slice.service().map(|name| Key::new(&slice.meta.namespace, name));
        let service = service.and_then(|key| objects.get::<Service>(&key));
        // A Service with a selector says itself which pods are its own.
        if let Some(service) =
            service.filter(|service| service.spec.selector.is_empty() && super::service::is_served(service))
        {
            members.entry(service.meta.name.clone()).or_insert_with(|| Membership::by_slice(service, slice));
        }
    }
    members.into_values().collect()
}

fn locks(members: &[Membership], objects: &Objects, policies: &Policies) -> Locks {
    let mut locks = Locks::default();
    for member in members {
        let service = objects.get::<Service>(&Key::new(&member.namespace, &member.service));
        if service.is_some_and(|service| policies.locking(service).is_some()) {
            // No Gateway is a waypoint yet, so nobody is let through.
            locks.add(member.ports.iter().map(|(_, target)| *target), &Waypoints::new());
        }
    }
    locks
}

/// The pods a slice names, in its own namespace.
pub(crate) fn pods_of(slice: &EndpointSlice) -> impl Iterator<Item = Key> + '_ {
    let named = slice.spec.endpoints.iter().filter(|endpoint| workload::is_pod(endpoint));
    let named = named.filter_map(|endpoint| endpoint.target_ref.as_ref());
    named.map(|target| Key::new(&slice.meta.namespace, &target.name))
}
