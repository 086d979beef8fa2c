//! The dependency index: which keys a change of an object makes stale.

use std::collections::BTreeSet;

use ambit_crds::endpoint_slice::EndpointSlice;
use ambit_crds::gateway::Gateway;
use ambit_crds::kind::Kind;
use ambit_crds::meta::{Map, ObjectRef, selects};
use ambit_crds::namespace::Namespace;
use ambit_crds::peer_authentication::PeerAuthentication;
use ambit_crds::pod::Pod;
use ambit_crds::service::Service;

use super::record::pods_of;
use super::state::State;
use super::{index, levels, routes, shape};
use crate::objects::{Before, Change, Key, Typed};

/// Keys that must be computed again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dirty {
    /// Everything: the mesh configuration changed.
    pub(crate) all: bool,
    pub(crate) pods: BTreeSet<Key>,
    pub(crate) services: BTreeSet<Key>,
    pub(crate) slices: BTreeSet<Key>,
    pub(crate) policies: BTreeSet<Key>,
    pub(crate) peers: BTreeSet<Key>,
    /// Namespaces that came, went, or got their first pod or lost their last.
    pub(crate) namespaces: BTreeSet<String>,
    /// Policies in one namespace.
    pub(crate) spreads: BTreeSet<(Key, String)>,
    /// Pods that list their policies under other names.
    pub(crate) lists: BTreeSet<Key>,
    /// Gateways that may stand otherwise, or ought to exist.
    pub(crate) gateways: BTreeSet<Key>,
    /// Namespaces that may ask for a waypoint of their own.
    pub(crate) autos: BTreeSet<String>,
    /// Services whose routes, or what stands behind them, may differ.
    pub(crate) routed: BTreeSet<Key>,
    /// Pods that came, went or have other labels.
    pub(crate) relabelled: BTreeSet<Key>,
    /// Services before such pods.
    pub(crate) parted: BTreeSet<Key>,
    /// Pods of which waypoints may be told otherwise.
    pub(crate) held: BTreeSet<Key>,
    /// Objects whose verdict may differ.
    pub(crate) verdicts: BTreeSet<ObjectRef>,
}

impl Dirty {
    /// Marks what depends on a changed object. `state` holds the new objects and the old results.
    pub(crate) fn mark(&mut self, change: &Change, before: &Before, state: &mut State) {
        let object = change.object();
        let key = Key::new(&object.namespace, &object.name);
        self.verdicts.insert(object.clone());
        // One of ours that somebody changed or removed is written again; where nothing differs, that changes nothing.
        state.owned.remove(&object);
        match object.kind {
            Kind::ConfigMap => self.all = true,
            Kind::Namespace => self.namespace(key, before, state),
            Kind::Gateway | Kind::ServiceAccount | Kind::Deployment => {
                self.gateways.insert(key);
            }
            Kind::GatewayClass => {
                self.gateways.extend(state.objects.all::<Gateway>().map(|(key, _)| key.clone()));
                self.verdicts.extend(state.policies.of_classes(&state.mesh.root).map(policy_ref));
            }
            Kind::Node => self.pods.extend(state.on_node.get(&key.name).into_iter().flatten().cloned()),
            Kind::Pod => {
                let (old, new) = (previous::<Pod>(before), state.objects.get::<Pod>(&key));
                self.gateways.extend(old.into_iter().chain(new).filter_map(shape::claimed));
                if old.map(|pod| &pod.meta.labels) != new.map(|pod| &pod.meta.labels) {
                    self.relabelled.insert(key.clone());
                }
                self.pods.insert(key);
            }
            Kind::Service => self.service(key, before, state),
            Kind::EndpointSlice => self.slice(key, before, state),
            Kind::AuthorizationPolicy => self.policy(key, state),
            Kind::PeerAuthentication => self.peer(key, before, state),
            _ => {}
        }
        self.routes(&object, before, state);
    }

    /// What routes make of it. Pods and nodes come and go without a route's asking.
    fn routes(&mut self, object: &ObjectRef, before: &Before, state: &State) {
        if matches!(object.kind, Kind::Pod | Kind::Node | Kind::EndpointSlice) {
            return;
        }
        let after = state.objects.any(object);
        let affected = routes::affected(&state.routes(), before.object.as_deref(), after);
        for object in before.object.as_deref().into_iter().chain(after) {
            self.verdicts.extend(routes::sent_to(&state.routes(), object));
        }
        for service in &affected {
            self.verdicts.extend(routes::concerning(&state.routes(), service));
        }
        self.routed.extend(affected);
        self.gateways.extend(routes::affected_gateways(&state.routes(), before.object.as_deref(), after));
    }

    fn namespace(&mut self, key: Key, before: &Before, state: &State) {
        let old = previous::<Namespace>(before).map(|one| (&one.meta.labels, &one.meta.annotations));
        let new = state.objects.get::<Namespace>(&Key::new("", &key.name));
        if old != new.map(|one| (&one.meta.labels, &one.meta.annotations)) {
            state.mark_namespace(&key.name, self);
            self.autos.insert(key.name.clone());
        }
        self.namespaces.insert(key.name);
    }

    fn service(&mut self, key: Key, before: &Before, state: &State) {
        let selected = |service: Option<&Service>, pods: &mut BTreeSet<Key>| {
            let selector =
                service.map(|service| &service.spec.selector).filter(|selector| !selector.is_empty());
            pods.extend(selector.into_iter().flat_map(|selector| pods_with(selector, &key.namespace, state)));
        };
        selected(previous::<Service>(before), &mut self.pods);
        selected(state.objects.get(&key), &mut self.pods);
        self.pods.extend(state.members.get(&key).into_iter().flatten().cloned());
        for (slice_key, slice) in state.objects.within::<EndpointSlice>(&key.namespace) {
            if slice.service() == Some(key.name.as_str()) {
                self.slices.insert(slice_key.clone());
                self.pods.extend(pods_of(slice));
            }
        }
        self.policy_verdicts_of(&key, state);
        self.gateways.insert(key.clone());
        self.services.insert(key);
    }

    fn slice(&mut self, key: Key, before: &Before, state: &mut State) {
        for pod in previous::<EndpointSlice>(before).into_iter().flat_map(pods_of) {
            index::remove_from(&mut state.slices_of, &pod, &key);
            self.pods.insert(pod);
        }
        let versions = previous::<EndpointSlice>(before).into_iter().chain(state.objects.get(&key));
        let services = versions.filter_map(|slice| Some(Key::new(&key.namespace, slice.service()?)));
        self.routed.extend(services);
        let new: Vec<Key> = state.objects.get::<EndpointSlice>(&key).into_iter().flat_map(pods_of).collect();
        for pod in new {
            state.slices_of.entry(pod.clone()).or_default().insert(key.clone());
            self.pods.insert(pod);
        }
        self.slices.insert(key);
    }

    fn policy(&mut self, key: Key, state: &State) {
        let targets = |policy: &super::policies::Policy| policy.services(&key.namespace).collect::<Vec<_>>();
        let old = state.policies.all.get(&key).map(targets).unwrap_or_default();
        let new = state.read_policy(&key).as_ref().map(targets).unwrap_or_default();
        for service in old.into_iter().chain(new) {
            self.pods.extend(state.members.get(&service).into_iter().flatten().cloned());
            self.policy_verdicts_of(&service, state);
            self.services.insert(service);
        }
        let versions = state.policies.all.get(&key).cloned().into_iter().chain(state.read_policy(&key));
        for policy in versions {
            self.gateways.extend(policy.gateways(&key.namespace));
            if policy.names_classes() && key.namespace == state.mesh.root {
                self.gateways.extend(state.gateways.keys().cloned());
            }
        }
        self.policies.insert(key);
    }

    fn peer(&mut self, key: Key, before: &Before, state: &State) {
        let reference = ObjectRef::new(Kind::PeerAuthentication, &key.namespace, &key.name);
        let now_invalid = state.objects.invalid_one(&reference);
        let valid = previous::<PeerAuthentication>(before).into_iter().chain(state.objects.get(&key));
        let invalid = before.invalid.as_deref().into_iter().chain(now_invalid);
        let nothing = Map::new();
        let selectors: Vec<&Map> = valid
            .map(|one| &one.spec.selector)
            .chain(invalid.map(|one| levels::selector(one).unwrap_or(&nothing)))
            .collect();
        for selector in selectors {
            self.peers_below(&key, selector, state);
        }
        self.peers.insert(key);
    }

    /// What one with this selector decides: pods, and what the narrower ones inherit.
    fn peers_below(&mut self, key: &Key, selector: &Map, state: &State) {
        if !selector.is_empty() {
            self.pods.extend(pods_with(selector, &key.namespace, state));
            return;
        }
        let mesh_wide = key.namespace == state.mesh.root;
        let within = |one: &Key| mesh_wide || one.namespace == key.namespace;
        self.pods.extend(state.records.keys().filter(|pod| within(pod)).cloned());
        self.peers.extend(
            state.objects.all::<PeerAuthentication>().map(|(one, _)| one).filter(|one| within(one)).cloned(),
        );
    }

    /// The policies that name a Service say whether it exists.
    pub(crate) fn policy_verdicts_of(&mut self, service: &Key, state: &State) {
        let policies = state.policies.all.range(Key::new(&service.namespace, "")..);
        let policies = policies.take_while(|(key, _)| key.namespace == service.namespace);
        let naming =
            policies.filter(|(key, policy)| policy.services(&key.namespace).any(|one| one == *service));
        self.verdicts.extend(naming.map(|(key, _)| policy_ref(key)));
    }
}

/// The reference of a policy.
pub(crate) fn policy_ref(key: &Key) -> ObjectRef {
    ObjectRef::new(Kind::AuthorizationPolicy, &key.namespace, &key.name)
}

fn previous<T: Typed>(before: &Before) -> Option<&T> {
    before.object.as_deref().and_then(T::of)
}

/// Pods with these labels. Pods whose labels change are stale by themselves.
fn pods_with<'a>(selector: &'a Map, namespace: &str, state: &'a State) -> impl Iterator<Item = Key> + 'a {
    let pods = state.objects.within::<Pod>(namespace);
    pods.filter(|(_, pod)| selects(selector, &pod.meta.labels)).map(|(key, _)| key.clone())
}
