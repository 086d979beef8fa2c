//! What a waypoint knows besides addresses: its gateway, services, destinations, and what pods demand.

use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;

use ambit_api::policy::PolicyKey;
use ambit_api::service::ServiceKey;
use ambit_api::waypoint::decide;
use ambit_api::waypoint::policy::Action;
use ambit_api::wire::waypoint as wire;
use ambit_api::workload::Uid;
use imbl::HashMap;

use crate::xds::{Changes, Named, Rejection};

pub use ambit_api::waypoint::{Destination, Gateway, Policy, Service, Workload};

/// A waypoint's share of a snapshot; empty in a ztunnel.
///
/// The gateway is told last of all and gone first: while there is one, everything else has arrived.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The waypoint's own settings.
    pub gateway: Option<Arc<Gateway>>,
    /// The services it stands before.
    pub services: HashMap<ServiceKey, Arc<Service>>,
    /// Where requests may go.
    pub destinations: HashMap<ServiceKey, Arc<Destination>>,
    /// What pods demand. Nothing is sent to a pod that is not in here (policy.md rule 4).
    pub workloads: HashMap<Uid, Arc<Workload>>,
    /// All policies that anything above names. One that never was valid denies all.
    pub policies: HashMap<PolicyKey, Arc<Policy>>,
    /// Whether any of them is under trial or only marks requests; if not, nobody needs to look for such.
    pub observed: bool,
}

impl Snapshot {
    /// There is one gateway, whatever its name: the controller tells us about our own alone.
    pub(super) fn apply_gateway(&mut self, changes: Changes<wire::Gateway>) -> Vec<Rejection> {
        if !changes.removed.is_empty() {
            self.gateway = None;
        }
        let mut rejected = Vec::new();
        for Named { name, body } in changes.upserts {
            match Gateway::try_from(body) {
                Ok(gateway) => self.gateway = Some(Arc::new(gateway)),
                Err(fault) => rejected.push(Rejection { name, reason: fault.to_string() }),
            }
        }
        rejected
    }

    pub(super) fn apply_services(&mut self, changes: Changes<wire::Service>) -> Vec<Rejection> {
        apply(&mut self.services, changes, service_key)
    }

    pub(super) fn apply_destinations(&mut self, changes: Changes<wire::Destination>) -> Vec<Rejection> {
        apply(&mut self.destinations, changes, service_key)
    }

    pub(super) fn apply_workloads(&mut self, changes: Changes<wire::Workload>) -> Vec<Rejection> {
        apply(&mut self.workloads, changes, |name| Uid(name.into()))
    }

    /// What cannot be read keeps its last good version; what never had one is closed (policy.md rule 17).
    pub(super) fn apply_policies(&mut self, changes: Changes<wire::Policy>) -> Vec<Rejection> {
        let unreadable = changes.unreadable.clone();
        let rejected = apply(&mut self.policies, changes, policy_key);
        for name in unreadable.iter().chain(rejected.iter().map(|bad| &bad.name)) {
            let key = policy_key(name);
            if !self.policies.contains_key(&key)
                && let Ok(closed) = Policy::try_from(closed(&key))
            {
                self.policies.insert(key, Arc::new(closed));
            }
        }
        let observes = |policy: &Arc<Policy>| policy.dry_run || policy.action == Action::Audit;
        self.observed = self.policies.values().any(observes);
        rejected
    }
}

impl decide::Snapshot for Snapshot {
    fn gateway(&self) -> Option<&Arc<Gateway>> {
        self.gateway.as_ref()
    }

    fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    fn workload(&self, uid: &Uid) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    fn policy(&self, key: &PolicyKey) -> Option<&Arc<Policy>> {
        self.policies.get(key)
    }
}

/// A bad resource is refused alone.
fn apply<W, M, K>(
    all: &mut HashMap<K, Arc<M>>,
    changes: Changes<W>,
    key: impl Fn(&str) -> K,
) -> Vec<Rejection>
where
    M: TryFrom<W>,
    M::Error: Display,
    K: Eq + Hash + Clone,
{
    for name in &changes.removed {
        all.remove(&key(name));
    }
    let mut rejected = Vec::new();
    for Named { name, body } in changes.upserts {
        match M::try_from(body) {
            Ok(model) => {
                all.insert(key(&name), Arc::new(model));
            }
            Err(fault) => rejected.push(Rejection { name, reason: fault.to_string() }),
        }
    }
    rejected
}

fn closed(key: &PolicyKey) -> wire::Policy {
    let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
    wire::Policy { namespace, name, closed: true, ..Default::default() }
}

fn service_key(name: &str) -> ServiceKey {
    let (namespace, hostname) = name.split_once('/').unwrap_or(("", name));
    ServiceKey::new(namespace, hostname)
}

pub(super) fn policy_key(name: &str) -> PolicyKey {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    PolicyKey::new(namespace, name)
}

#[cfg(test)]
mod tests;
