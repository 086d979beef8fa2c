//! Everything translation remembers between batches, and the steps that bring it up to date, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_crds::authorization_policy::AuthorizationPolicy;
use ambit_crds::endpoint_slice::EndpointSlice;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::namespace::Namespace;
use ambit_crds::node::Node;
use ambit_crds::peer_authentication::PeerAuthentication;
use ambit_crds::pod::Pod;
use ambit_crds::service::Service;

use super::attach::Lead;
use super::auto::Autos;
use super::dirty::{Dirty, policy_ref};
use super::gateways::{Classes, Gateways};
use super::index::changed_spreads;
use super::levels::Levels;
use super::names::Names;
use super::owned::Wanted;
use super::policies::{Listing, Policy, Spread};
use super::record::{self, Mesh, Policies, Reading, Record};
use super::shape::Shape;
use super::waypoints::Views;
use super::workload::{self, Surroundings};
use super::{Recomputed, Writes, binding, peer, service};
use crate::objects::{Key, Objects};
use crate::snapshot::{Resource, Resources, Snapshot};

/// Objects, what was computed of them, and who depends on what.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) names: Names,
    pub(crate) objects: Objects,
    pub(crate) mesh: Mesh,
    pub(crate) policies: Policies,
    pub(crate) records: BTreeMap<Key, Record>,
    pub(crate) spreads: BTreeMap<(Key, String), Spread>,
    pub(crate) snapshot: Snapshot,
    pub(crate) tally: Tally,
    /// Service → its pods.
    pub(crate) members: BTreeMap<Key, BTreeSet<Key>>,
    /// Node → its pods.
    pub(crate) on_node: BTreeMap<String, BTreeSet<Key>>,
    /// Pod → slices that name it.
    pub(crate) slices_of: BTreeMap<Key, BTreeSet<Key>>,
    /// Slice → its resources.
    pub(crate) endpoints: BTreeMap<Key, Vec<Arc<str>>>,
    pub(crate) classes: Classes,
    pub(crate) shape: Shape,
    pub(crate) gateways: Gateways,
    pub(crate) autos: Autos,
    pub(crate) views: Views,
    /// What we deployed.
    pub(crate) owned: Wanted,
}

/// Counts over records, so that one pod's change never asks for a walk over all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Lock resources, by how many pods list them.
    pub(crate) locks: BTreeMap<Arc<str>, usize>,
    /// Pods by namespace.
    pub(crate) pods: BTreeMap<String, Pods>,
    /// Pods by PeerAuthentication with a selector.
    pub(crate) peers: BTreeMap<Key, Peers>,
}

/// Pods of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pods {
    pub(crate) present: usize,
    pub(crate) covered: usize,
    pub(crate) enrolled: usize,
}

/// Pods of one PeerAuthentication with a selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers {
    pub(crate) matched: usize,
    pub(crate) won: usize,
    pub(crate) enrolled: usize,
}

impl State {
    pub(crate) fn new(names: Names, objects: Objects) -> Self {
        Self {
            names,
            mesh: Mesh::new(&objects),
            objects,
            policies: Policies::default(),
            records: BTreeMap::new(),
            spreads: BTreeMap::new(),
            snapshot: Snapshot::default(),
            tally: Tally::default(),
            members: BTreeMap::new(),
            on_node: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            classes: Classes::default(),
            shape: Shape::default(),
            gateways: Gateways::new(),
            autos: Autos::default(),
            views: Views::default(),
            owned: Wanted::new(),
        }
    }

    /// Brings everything up to date that is stale; adds to `dirty` what turns out to be stale on the way.
    pub(crate) fn refresh(&mut self, dirty: &mut Dirty) -> (Recomputed, Writes) {
        let mut count = Recomputed::default();
        for key in dirty.policies.clone() {
            self.refresh_policy(&key, dirty);
        }
        let annotations = self.refresh_gateways(dirty);
        for key in &dirty.pods.clone() {
            self.refresh_record(key, dirty);
        }
        self.sweep_locks();
        self.refresh_copies(dirty);
        let mut stale_lists = std::mem::take(&mut dirty.lists);
        for spread in &dirty.spreads {
            count.policies += 1;
            dirty.verdicts.insert(policy_ref(&spread.0));
            self.refresh_spread(spread, &mut stale_lists);
        }
        for key in dirty.pods.union(&stale_lists) {
            count.workloads += 1;
            self.refresh_workload(key);
            if self.objects.get::<Pod>(key).is_some_and(|pod| binding::names_any(&pod.meta)) {
                dirty.verdicts.insert(ObjectRef::new(Kind::Pod, &key.namespace, &key.name));
            }
        }
        for key in &dirty.services {
            count.services += 1;
            self.refresh_service(key);
        }
        for key in &dirty.slices {
            count.slices += 1;
            self.refresh_slice(key);
        }
        for key in &dirty.peers {
            count.peers += 1;
            self.refresh_peer(key);
        }
        self.refresh_static_strict();
        self.refresh_waypoints(dirty);
        let owned = dirty.gateways.iter().flat_map(|key| self.refresh_owned(key)).collect();
        (count, Writes { annotations, owned })
    }

    /// Reads a policy as it stands.
    pub(crate) fn read_policy(&self, key: &Key) -> Option<Policy> {
        let valid = self.objects.get::<AuthorizationPolicy>(key);
        let valid = valid.map(|policy| Policy::new(policy, &self.mesh.domains));
        valid.or_else(|| self.objects.invalid_one(&policy_ref(key)).map(Policy::invalid))
    }

    fn refresh_policy(&mut self, key: &Key, dirty: &mut Dirty) {
        let policy = self.read_policy(key);
        self.policies.set(key, policy);
        let policy = self.policies.all.get(key);
        let mesh_wide = key.namespace == self.mesh.root;
        let from = if mesh_wide { Key::new("", "") } else { Key::new(&key.namespace, "") };
        let pods = self.records.range_mut(from..);
        for (pod, record) in pods.take_while(|(pod, _)| mesh_wide || pod.namespace == key.namespace) {
            let labels = self.objects.get::<Pod>(pod).map(|pod| &pod.meta.labels);
            let applies =
                labels.zip(policy).is_some_and(|(labels, one)| record.covered && one.applies(labels));
            let applied = match applies {
                true => !record.applies.insert(key.clone()),
                false => record.applies.remove(key),
            };
            if applies != applied {
                dirty.held.insert(pod.clone());
            }
            if self.policies.need_l7(&record.applies) != record.needs_l7 {
                record.needs_l7 = !record.needs_l7;
                dirty.services.extend(super::index::services(record));
                dirty.lists.insert(pod.clone());
            }
            let covers =
                labels.zip(policy).filter(|(labels, policy)| record.covered && policy.covers(labels));
            let form = covers.and_then(|(_, policy)| policy.form(&record.ports, &record.waypoints));
            let spread = self.spreads.entry((key.clone(), pod.namespace.clone())).or_default();
            let old = record.forms.remove(key);
            if spread.listing != Listing::Unlisted
                && old.as_ref().map(|one| &one.id) != form.as_ref().map(|one| &one.id)
            {
                dirty.lists.insert(pod.clone());
            }
            if let Some(old) = old {
                spread.remove(&old, record.enrolled);
            }
            if let Some(form) = form {
                spread.add(&form, record.enrolled);
                record.forms.insert(key.clone(), form);
            }
        }
        let everywhere =
            self.spreads.range((key.clone(), String::new())..).take_while(|((one, _), _)| one == key);
        dirty.spreads.extend(everywhere.map(|(spread, _)| spread.clone()));
        dirty.spreads.insert((key.clone(), key.namespace.clone()));
        if mesh_wide {
            let namespaces =
                self.objects.all::<Namespace>().map(|(one, _)| &one.name).chain(self.tally.pods.keys());
            dirty.spreads.extend(namespaces.map(|namespace| (key.clone(), namespace.clone())));
        }
    }

    /// Root policies have copies wherever there is a namespace or a pod.
    fn refresh_copies(&self, dirty: &mut Dirty) {
        let root = self.mesh.root.as_str();
        for namespace in &dirty.namespaces {
            let policies =
                self.policies.all.range(Key::new(root, "")..).take_while(|(key, _)| key.namespace == root);
            dirty.spreads.extend(policies.map(|(key, _)| (key.clone(), namespace.clone())));
        }
    }

    fn refresh_record(&mut self, key: &Key, dirty: &mut Dirty) {
        let pod = self.objects.get::<Pod>(key);
        let slices = self.slices_of.get(key).cloned().unwrap_or_default();
        let reading = Reading { labels: self.labels(), mesh: &self.mesh, policies: &self.policies };
        let new = pod.and_then(|pod| record::build(pod, &reading, &slices));
        let old = self.records.remove(key);
        if old != new || dirty.relabelled.contains(key) {
            dirty.parted.extend(old.iter().chain(&new).flat_map(super::index::services));
        }
        if old == new {
            if let Some(new) = new {
                self.records.insert(key.clone(), new);
            }
            return;
        }
        dirty.verdicts_around(key, old.iter().chain(&new), self);
        let required = |record: Option<&Record>| {
            record.filter(|one| one.needs_l7).map(|one| super::index::services(one).collect::<BTreeSet<_>>())
        };
        if required(old.as_ref()) != required(new.as_ref()) {
            dirty.services.extend([&old, &new].into_iter().flatten().flat_map(super::index::services));
        }
        if let Some(old) = &old {
            self.forget(key, old);
        }
        if let Some(new) = &new {
            self.remember(key, new);
        }
        dirty.spreads.extend(changed_spreads(key, old.as_ref(), new.as_ref()));
        if old.is_none() != new.is_none() {
            // The first pod brings a namespace into being, the last takes it away; copies follow.
            let count = self.tally.pods.get(&key.namespace).map_or(0, |pods| pods.present);
            if count <= 1 {
                dirty.namespaces.insert(key.namespace.clone());
            }
        }
        if let Some(new) = new {
            self.records.insert(key.clone(), new);
        }
    }

    fn refresh_spread(&mut self, at: &(Key, String), stale_lists: &mut BTreeSet<Key>) {
        let (key, namespace) = at;
        let spread = self.spreads.entry(at.clone()).or_default();
        let exists = key.namespace == *namespace
            || (key.namespace == self.mesh.root
                && (self.tally.pods.contains_key(namespace)
                    || self.objects.get::<Namespace>(&Key::new("", namespace)).is_some()));
        let policy = self.policies.all.get(key).filter(|_| exists);
        let (listing, resources) =
            policy.map(|policy| spread.plan(key, policy, namespace)).unwrap_or_default();
        let published: Vec<Arc<str>> = resources.iter().map(|one| one.name.clone()).collect();
        for name in spread.published.iter().filter(|name| !published.contains(name)) {
            self.snapshot.authorizations.remove(name);
        }
        spread.published = published;
        for one in resources {
            put(&mut self.snapshot.authorizations, one);
        }
        if spread.listing != listing {
            spread.listing = listing;
            let pods = self
                .records
                .range(Key::new(namespace, "")..)
                .take_while(|(pod, _)| pod.namespace == *namespace);
            stale_lists.extend(
                pods.filter(|(_, record)| record.forms.contains_key(key)).map(|(pod, _)| pod.clone()),
            );
        }
        if self.spreads.get(at).is_some_and(|spread| spread.pods == 0 && spread.published.is_empty()) {
            self.spreads.remove(at);
        }
    }

    fn refresh_workload(&mut self, key: &Key) {
        let name: Arc<str> = self.names.pod(&key.namespace, &key.name).into();
        let (Some(pod), Some(record)) = (self.objects.get::<Pod>(key), self.records.get(key)) else {
            self.snapshot.addresses.remove(&name);
            return;
        };
        let around = Surroundings {
            names: &self.names,
            trust_domain: self.mesh.domains.own.as_str(),
            node: self.objects.get::<Node>(&Key::new("", &pod.spec.node_name)),
            members: &record.members,
            policies: &self.listed(key, record),
            lead: &self.lead_to_pod(key, pod),
        };
        put(&mut self.snapshot.addresses, workload::of_pod(pod, &around));
    }

    /// The names of the policies a pod lists.
    fn listed(&self, key: &Key, record: &Record) -> Vec<String> {
        let spread = |policy: &Key| self.spreads.get(&(policy.clone(), key.namespace.clone()));
        let forms = record.forms.iter();
        let forms = forms.filter_map(|(policy, form)| spread(policy)?.listing.name(form).map(str::to_owned));
        let locks = record.locks.names(&key.namespace);
        let listed: BTreeSet<String> = forms.chain(record.peer.listed.clone()).chain(locks).collect();
        listed.into_iter().collect()
    }

    fn refresh_service(&mut self, key: &Key) {
        let name: Arc<str> = self.names.service(&key.namespace, &key.name).into();
        let service = self.objects.get::<Service>(key);
        match service.and_then(|one| service::translate(one, &self.names, &self.lead(key, one))) {
            Some(resource) => put(&mut self.snapshot.addresses, resource),
            None => drop(self.snapshot.addresses.remove(&name)),
        }
    }

    fn refresh_slice(&mut self, key: &Key) {
        let around = Surroundings {
            names: &self.names,
            trust_domain: self.mesh.domains.own.as_str(),
            node: None,
            members: &[],
            policies: &[],
            lead: &Lead::default(),
        };
        let slice = self.objects.get::<EndpointSlice>(key);
        let service = slice.and_then(|slice| self.objects.get(&Key::new(&key.namespace, slice.service()?)));
        let resources =
            slice.zip(service).map(|(slice, service)| workload::of_slice(slice, service, &around));
        let resources = resources.unwrap_or_default();
        let new: Vec<Arc<str>> = resources.iter().map(|one| one.name.clone()).collect();
        for name in self.endpoints.remove(key).unwrap_or_default().iter().filter(|name| !new.contains(name)) {
            self.snapshot.addresses.remove(name);
        }
        for resource in resources {
            put(&mut self.snapshot.addresses, resource);
        }
        if !new.is_empty() {
            self.endpoints.insert(key.clone(), new);
        }
    }

    fn refresh_peer(&mut self, key: &Key) {
        let one = self.objects.get::<PeerAuthentication>(key);
        let one = one.filter(|one| !one.spec.selector.is_empty() && key.namespace != self.mesh.root);
        let levels = Levels::new(&self.objects, &self.mesh.root, &key.namespace);
        match one.and_then(|one| peer::converted(&key.namespace, &key.name, &levels.outcome(one))) {
            Some(resource) => put(&mut self.snapshot.authorizations, resource),
            None => {
                let name: Arc<str> = format!("{}/{}", key.namespace, peer::converted_name(&key.name)).into();
                self.snapshot.authorizations.remove(&name);
            }
        }
    }

    fn refresh_static_strict(&mut self) {
        let resource = peer::static_strict(&self.mesh.root);
        let valid = self.objects.all::<PeerAuthentication>().next().is_some();
        if valid || self.objects.invalid(Kind::PeerAuthentication).next().is_some() {
            put(&mut self.snapshot.authorizations, resource);
        } else {
            self.snapshot.authorizations.remove(&resource.name);
        }
    }
}

/// Puts a resource in place; one that did not change stays the very same.
pub(crate) fn put(resources: &mut Resources, resource: Resource) {
    if resources.get(&resource.name).is_none_or(|old| **old != resource) {
        resources.insert(resource.name.clone(), Arc::new(resource));
    }
}
