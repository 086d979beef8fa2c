//! What is known of one pod beyond the pod: the Services before it, the form it needs of each policy, its locks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_api::wire::waypoint::{AccessLog, PathNormalization, Tracing};
use ambit_crds::endpoint_slice::EndpointSlice;
use ambit_crds::mesh_config::{MeshConfig, MeshConfigSpec, PathNormalization as Asked, PolicyPlacement};
use ambit_crds::pod::Pod;
use ambit_crds::service::Service;

use super::authorization::parse::TrustDomains;
use super::authorization::{Form, Waypoints};
use super::binding::Labels;
use super::index;
use super::levels::{Levels, Peer};
use super::lock::Locks;
use super::members::Membership;
use super::observe;
use super::policies::Policy;
use super::ports::PodPorts;
use super::workload;
use crate::objects::{Key, Objects};

/// On a Service: `true` closes its pods to all but waypoints, `false` opts out of that.
const WAYPOINT_ONLY: &str = "ambit.mesh/waypoint-only";

/// What the mesh configuration says to translation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mesh {
    pub(crate) root: String,
    pub(crate) domains: TrustDomains,
    pub(crate) placement: PolicyPlacement,
    pub(crate) paths: PathNormalization,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) tracing: Option<Tracing>,
    /// All of it: whatever else translation reads there counts too when the configuration changes.
    spec: MeshConfigSpec,
}

/// What records are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) labels: Labels<'a>,
    pub(crate) mesh: &'a Mesh,
    pub(crate) policies: &'a Policies,
}

/// The policies and what they are attached to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    pub(crate) all: BTreeMap<Key, Policy>,
    /// T of a Service: the policies attached to it that are obeyed.
    attached: BTreeMap<Key, BTreeSet<Key>>,
    /// Service → every policy attached to it.
    of_services: BTreeMap<Key, BTreeSet<Key>>,
    /// Gateway → every policy attached to it.
    of_gateways: BTreeMap<Key, BTreeSet<Key>>,
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
    /// S: the policies that apply.
    pub(crate) applies: BTreeSet<Key>,
    /// Whether one of them is an L7 policy.
    pub(crate) needs_l7: bool,
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
        Self {
            root: spec.root_namespace.clone(),
            domains,
            placement: spec.policy.placement,
            paths: paths(spec),
            access_log: observe::access_log(spec),
            tracing: observe::tracing(spec),
            spec: spec.clone(),
        }
    }
}

impl Mesh {
    /// The names of the extension providers.
    pub(crate) fn providers(&self) -> impl Iterator<Item = &str> {
        self.spec.extension_providers.iter().map(|provider| provider.name.as_str())
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
            for service in old.services(&key.namespace) {
                index::remove_from(&mut self.of_services, &service, key);
            }
            for gateway in old.gateways(&key.namespace) {
                index::remove_from(&mut self.of_gateways, &gateway, key);
            }
        }
        let Some(policy) = policy else { return };
        for service in policy.services(&key.namespace) {
            self.of_services.entry(service).or_default().insert(key.clone());
        }
        for gateway in policy.gateways(&key.namespace) {
            self.of_gateways.entry(gateway).or_default().insert(key.clone());
        }
        for service in policy.services(&key.namespace).filter(|_| policy.is_obeyed()) {
            self.attached.entry(service).or_default().insert(key.clone());
        }
        self.all.insert(key.clone(), policy);
    }

    /// The obeyed policies attached to a Service.
    pub(crate) fn attached(&self, service: &Key) -> impl Iterator<Item = &Key> {
        self.attached.get(service).into_iter().flatten()
    }

    /// T of a Service as a waypoint has it: also what is only counted.
    pub(crate) fn of_service(&self, service: &Key) -> impl Iterator<Item = &Key> {
        self.of_services.get(service).into_iter().flatten()
    }

    /// T(gw): attached to the Gateway, or in the root namespace to its class.
    pub(crate) fn of_gateway(&self, gateway: &Key, class: &str, root: &str) -> impl Iterator<Item = Key> {
        let of_root = self.all.range(Key::new(root, "")..).take_while(move |(key, _)| key.namespace == root);
        let of_class = of_root.filter(move |(_, policy)| policy.names_class(class)).map(|(key, _)| key);
        let all: Vec<Key> =
            self.of_gateways.get(gateway).into_iter().flatten().chain(of_class).cloned().collect();
        all.into_iter()
    }

    /// Every policy whose standing depends on a Gateway: attached to it, or in the root namespace to some class.
    pub(crate) fn about_gateway<'a>(&'a self, gateway: &Key, root: &'a str) -> impl Iterator<Item = &'a Key> {
        self.of_gateways.get(gateway).into_iter().flatten().chain(self.of_classes(root))
    }

    /// Those of the root namespace that are attached to a class.
    pub(crate) fn of_classes<'a>(&'a self, root: &'a str) -> impl Iterator<Item = &'a Key> {
        let of_root = self.all.range(Key::new(root, "")..).take_while(move |(key, _)| key.namespace == root);
        of_root.filter(|(_, policy)| policy.names_classes()).map(|(key, _)| key)
    }

    /// Those that are part of the S of a pod.
    pub(crate) fn applying<'a>(
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
        all.filter(|(_, policy)| policy.applies(&pod.meta.labels))
    }

    /// Whether one of these is an L7 policy.
    pub(crate) fn need_l7(&self, policies: &BTreeSet<Key>) -> bool {
        policies.iter().any(|key| self.all.get(key).is_some_and(Policy::is_l7))
    }

    /// Whether only a waypoint can serve the Service as its owner asked, pods' own policies aside (policy.md rule 12).
    pub(crate) fn need_waypoint(&self, service: &Service) -> bool {
        self.attached(&Key::of(&service.meta)).next().is_some()
            || service.meta.annotation(WAYPOINT_ONLY) == Some("true")
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
pub(crate) fn build(pod: &Pod, reading: &Reading<'_>, slices: &BTreeSet<Key>) -> Option<Record> {
    if !workload::is_present(pod) {
        return None;
    }
    let Reading { labels, mesh, policies } = *reading;
    let objects = labels.objects;
    let members = members(pod, objects, slices);
    // A waypoint's own pods are outside the mesh, and nobody's policy is about them: they would keep a policy of their namespace
    // from ever being enforced for all its pods.
    let enrolled = workload::is_enrolled(pod);
    let covered = !pod.spec.host_network && (enrolled || labels.shape.replica_of(pod).is_none());
    let ports = match mesh.placement {
        PolicyPlacement::Istio => PodPorts::default(),
        PolicyPlacement::Ambit => PodPorts::new(
            workload::container_ports(pod),
            members.iter().flat_map(|member| member.ports.clone()),
        ),
    };
    let waypoints = match mesh.placement {
        PolicyPlacement::Istio => Waypoints::new(),
        PolicyPlacement::Ambit => labels.before(pod, &members),
    };
    let mut record = Record {
        members,
        ports,
        waypoints,
        node: pod.spec.node_name.clone(),
        covered,
        enrolled,
        applies: BTreeSet::new(),
        needs_l7: false,
        forms: BTreeMap::new(),
        locks: Locks::default(),
        peer: Peer::default(),
    };
    if covered {
        let form = |policy: &Policy| policy.form(&record.ports, &record.waypoints);
        let sent = policies.applying(pod, &mesh.root).filter(|(_, policy)| policy.is_sent());
        record.forms = sent.filter_map(|(key, policy)| Some((key.clone(), form(policy)?))).collect();
        record.applies = policies.applying(pod, &mesh.root).map(|(key, _)| key.clone()).collect();
        record.needs_l7 = policies.need_l7(&record.applies);
        record.peer = Levels::new(objects, &mesh.root, &pod.meta.namespace).peer(&pod.meta.labels);
        if mesh.placement == PolicyPlacement::Ambit {
            record.locks = locks(&record.members, labels, policies);
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

fn locks(members: &[Membership], labels: Labels<'_>, policies: &Policies) -> Locks {
    let mut locks = Locks::default();
    for member in members {
        let service = labels.objects.get::<Service>(&Key::new(&member.namespace, &member.service));
        if let Some(service) = service.filter(|service| policies.locking(service).is_some()) {
            let waypoints = labels.service(service).identities().collect();
            locks.add(member.ports.iter().map(|(_, target)| *target), &waypoints);
        }
    }
    locks
}

/// `DEFAULT` is `BASE`.
fn paths(spec: &MeshConfigSpec) -> PathNormalization {
    match spec.path_normalization.normalization {
        Asked::Default | Asked::Base => PathNormalization::Base,
        Asked::None => PathNormalization::NoNormalization,
        Asked::MergeSlashes => PathNormalization::MergeSlashes,
        Asked::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
    }
}

/// The pods a slice names, in its own namespace.
pub(crate) fn pods_of(slice: &EndpointSlice) -> impl Iterator<Item = Key> + '_ {
    let named = slice.spec.endpoints.iter().filter(|endpoint| workload::is_pod(endpoint));
    let named = named.filter_map(|endpoint| endpoint.target_ref.as_ref());
    named.map(|target| Key::new(&slice.meta.namespace, &target.name))
}
