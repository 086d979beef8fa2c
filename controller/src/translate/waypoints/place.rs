//! Services before which a waypoint stands, and the Services their routes lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_api::wire::waypoint as wire;
use ambit_crds::endpoint_slice::EndpointSlice;
use ambit_crds::service::Service;

use super::{Placed, Reached, Stale, View};
use crate::objects::Key;
use crate::snapshot::{Resource, WaypointResources};
use crate::translate::state::{State, put};
use crate::translate::{index, routes, service};

impl State {
    /// What routes are read from.
    pub(crate) fn routes(&self) -> routes::Context<'_> {
        routes::Context { objects: &self.objects, names: &self.names, mesh: &self.mesh }
    }

    /// One Service, at every waypoint before it.
    pub(super) fn refresh_placed(&mut self, service: &Key, stale: &mut BTreeMap<Key, Stale>) {
        let found = self.objects.get::<Service>(service).filter(|one| service::is_served(one));
        let now: BTreeSet<Key> = found
            .map(|one| self.labels().service(one).standing().map(|(key, _)| key.clone()).collect())
            .unwrap_or_default();
        let before = self.views.placed.get(service).cloned().unwrap_or_default();
        let name: Arc<str> = self.names.service(&service.namespace, &service.name).into();
        for gateway in before.union(&now) {
            let fresh = now.contains(gateway).then(|| self.placed(service, &gateway.namespace));
            let (message, placed) = fresh.unzip();
            let Some(view) = self.views.all.get_mut(gateway) else { continue };
            let at: Arc<str> = super::resource_name(gateway).into();
            let Some(resources) = self.snapshot.waypoints.get_mut(&at).map(Arc::make_mut) else { continue };
            match &message {
                Some(message) => put(&mut resources.services, encoded(&name, message)),
                None => drop(resources.services.remove(&name)),
            }
            let stale = stale.entry(gateway.clone()).or_default();
            view.place(service, placed, stale);
        }
        for gateway in before.difference(&now) {
            index::remove_from(&mut self.views.placed, service, gateway);
        }
        if !now.is_empty() {
            self.views.placed.insert(service.clone(), now);
        }
    }

    /// A Service's resource, and what it needs.
    fn placed(&self, service: &Key, waypoint_namespace: &str) -> (wire::Service, Placed) {
        let routed = routes::service(&self.routes(), service, waypoint_namespace);
        let policies: BTreeSet<Key> = self.policies.of_service(service).cloned().collect();
        let message = wire::Service {
            namespace: service.namespace.clone(),
            hostname: self.names.hostname(&service.namespace, &service.name),
            policies: policies.iter().map(super::resource_name).collect(),
            http: routed.http,
            tcp: routed.tcp,
        };
        let mut destinations = routed.destinations;
        destinations.insert(service.clone());
        (message, Placed { destinations, client_keys: routed.client_labels, policies })
    }

    /// One destination: its resource while somebody uses it, and its endpoints.
    pub(super) fn settle_destination(
        &mut self,
        (gateway, service): (&Key, &Key),
        view: &mut View,
        resources: &mut WaypointResources,
        stale: &mut Stale,
    ) {
        let name: Arc<str> = self.names.service(&service.namespace, &service.name).into();
        let old = view.destinations.remove(service).unwrap_or_default();
        let mut new = Reached::default();
        let is_used = view.uses.contains(service);
        if is_used {
            let (message, keys) = routes::destination(&self.routes(), service, &gateway.namespace);
            put(&mut resources.destinations, encoded(&name, &message));
            new = Reached { keys, strangers: self.strangers(service) };
            self.views.leading.entry(service.clone()).or_default().insert(gateway.clone());
        } else {
            resources.destinations.remove(&name);
            index::remove_from(&mut self.views.leading, service, gateway);
        }
        if !view.keys.swap(&old.keys, &new.keys).is_empty() {
            stale.pods.extend(view.pods.keys().cloned());
        }
        for uid in old.strangers.difference(&new.strangers) {
            resources.workloads.remove(uid);
        }
        for uid in &new.strangers {
            let message = wire::Workload { uid: uid.to_string(), ..wire::Workload::default() };
            put(&mut resources.workloads, encoded(uid, &message));
        }
        if is_used {
            view.destinations.insert(service.clone(), new);
        }
        stale.pods.extend(self.members.get(service).into_iter().flatten().cloned());
    }

    /// The endpoints of a Service that are no pods: nobody's policy covers them.
    fn strangers(&self, service: &Key) -> BTreeSet<Arc<str>> {
        let slices = self.objects.within::<EndpointSlice>(&service.namespace);
        let slices = slices.filter(|(_, slice)| slice.service() == Some(service.name.as_str()));
        slices.flat_map(|(key, _)| self.endpoints.get(key).into_iter().flatten().cloned()).collect()
    }
}

impl View {
    /// Puts what a Service needs in the place of what it needed.
    fn place(&mut self, service: &Key, placed: Option<Placed>, stale: &mut Stale) {
        let old = self.services.remove(service).unwrap_or_default();
        let new = placed.clone().unwrap_or_default();
        self.swap(&old, &new, stale);
        if let Some(placed) = placed {
            self.services.insert(service.clone(), placed);
        }
    }

    /// Counts one set of needs in the place of another.
    pub(super) fn swap(&mut self, old: &Placed, new: &Placed, stale: &mut Stale) {
        stale.destinations.extend(self.uses.swap(&old.destinations, &new.destinations));
        stale.policies.extend(self.policies.swap(&old.policies, &new.policies));
        stale.client_keys.extend(self.client_keys.swap(&old.client_keys, &new.client_keys));
    }
}

/// A message as a resource without further names.
pub(super) fn encoded(name: &Arc<str>, message: &impl prost::Message) -> Resource {
    Resource::new(name.clone(), Vec::new(), message.encode_to_vec().into())
}
