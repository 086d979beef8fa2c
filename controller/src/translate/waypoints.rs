//! What each waypoint is told: its Services with their routes, where these lead, what every pod there demands, and the policies
//! that all of them name. Kept per waypoint and per key, with counts of who needs what.

mod count;
mod place;
mod pods;
pub(super) mod policy;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dirty::Dirty;
use super::state::State;
use crate::ca::tokens::Account;
use crate::objects::Key;
use crate::snapshot::WaypointResources;
use count::Counts;

/// All waypoints, and who is where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Views {
    all: BTreeMap<Key, View>,
    /// Service → waypoints before it.
    placed: BTreeMap<Key, BTreeSet<Key>>,
    /// Service → waypoints that send to it.
    leading: BTreeMap<Key, BTreeSet<Key>>,
    /// Pod → waypoints that know it.
    holding: BTreeMap<Key, BTreeSet<Key>>,
}

/// One waypoint.
#[derive(Clone, Debug, Default)]
struct View {
    services: BTreeMap<Key, Placed>,
    destinations: BTreeMap<Key, Reached>,
    /// Uses of each destination.
    uses: Counts<Key>,
    /// Labels that subsets or routes ask for.
    keys: Counts<String>,
    /// Those of them that routes ask for of clients.
    client_keys: Counts<String>,
    /// Policies, by how many things name them.
    policies: Counts<Key>,
    /// Its own: T(gw), and what its listeners' rules need.
    own: Placed,
    /// Pods it knows, with the policies each names.
    pods: BTreeMap<Key, BTreeSet<Key>>,
}

/// What one Service, or the Gateway itself, needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Placed {
    destinations: BTreeSet<Key>,
    client_keys: BTreeSet<String>,
    policies: BTreeSet<Key>,
}

/// What one destination needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reached {
    keys: BTreeSet<String>,
    /// Endpoints that are no pods, by the names of their Workloads.
    strangers: BTreeSet<Arc<str>>,
}

/// What is to be computed again in one view.
#[derive(Clone, Debug, Default)]
struct Stale {
    destinations: BTreeSet<Key>,
    pods: BTreeSet<Key>,
    policies: BTreeSet<Key>,
    /// Labels that routes newly ask for of clients, or no longer do.
    client_keys: BTreeSet<String>,
}

impl State {
    /// Brings what waypoints are told up to date; everything it is made of is so already.
    pub(crate) fn refresh_waypoints(&mut self, dirty: &Dirty) {
        let mut stale: BTreeMap<Key, Stale> = BTreeMap::new();
        for key in &dirty.gateways {
            self.refresh_view(key, &mut stale);
        }
        for service in dirty.services.union(&dirty.routed) {
            self.refresh_placed(service, &mut stale);
            for view in self.views.leading.get(service).into_iter().flatten() {
                stale.entry(view.clone()).or_default().destinations.insert(service.clone());
            }
        }
        for pod in dirty.pods.union(&dirty.held) {
            for view in self.views_of(pod) {
                stale.entry(view).or_default().pods.insert(pod.clone());
            }
        }
        for policy in &dirty.policies {
            let views = self.views.all.iter().filter(|(_, view)| view.policies.contains(policy));
            for (view, _) in views {
                stale.entry(view.clone()).or_default().policies.insert(policy.clone());
            }
        }
        for (key, stale) in stale {
            self.settle(&key, stale);
        }
    }

    /// Destinations first: they say which pods are known, and those which policies.
    fn settle(&mut self, key: &Key, mut stale: Stale) {
        let name: Arc<str> = resource_name(key).into();
        let Some(before) = self.snapshot.waypoints.get(&name).cloned() else { return };
        let Some(mut view) = self.views.all.remove(key) else { return };
        let mut resources = (*before).clone();
        for service in std::mem::take(&mut stale.destinations) {
            self.settle_destination((key, &service), &mut view, &mut resources, &mut stale);
        }
        self.settle_clients(&view, &mut stale);
        for pod in std::mem::take(&mut stale.pods) {
            self.settle_pod((key, &pod), &mut view, &mut resources, &mut stale);
        }
        for policy in &stale.policies {
            self.settle_policy(policy, &view, &mut resources);
        }
        self.views.all.insert(key.clone(), view);
        if resources != *before {
            self.snapshot.waypoints.insert(name, Arc::new(resources));
        }
    }

    /// The Gateway itself: a view for each accepted one.
    fn refresh_view(&mut self, key: &Key, stale: &mut BTreeMap<Key, Stale>) {
        let name: Arc<str> = resource_name(key).into();
        let Some(waypoint) = self.gateways.get(key).and_then(|one| one.waypoint()) else {
            self.remove_view(key);
            self.snapshot.waypoints.remove(&name);
            return;
        };
        let account = Account {
            namespace: key.namespace.clone(),
            name: waypoint.identity.service_account().to_owned(),
        };
        let before = self.snapshot.waypoints.get(&name).filter(|all| all.account == account);
        let mut resources =
            before.map_or_else(|| WaypointResources::new(account), |before| (**before).clone());
        let (resource, own) = self.gateway_resource(key, waypoint);
        super::state::put(&mut resources.gateway, resource);
        let view = self.views.all.entry(key.clone()).or_default();
        let old = std::mem::replace(&mut view.own, own.clone());
        view.swap(&old, &own, stale.entry(key.clone()).or_default());
        self.snapshot.waypoints.insert(name, Arc::new(resources));
    }

    fn remove_view(&mut self, key: &Key) {
        let Some(view) = self.views.all.remove(key) else { return };
        for service in view.services.keys() {
            super::index::remove_from(&mut self.views.placed, service, key);
        }
        for service in view.destinations.keys() {
            super::index::remove_from(&mut self.views.leading, service, key);
        }
        for pod in view.pods.keys() {
            super::index::remove_from(&mut self.views.holding, pod, key);
        }
    }
}

/// `namespace/name`.
pub(crate) fn resource_name(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}
