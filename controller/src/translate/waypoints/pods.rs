//! Pods as a waypoint knows them: S, what port numbers mean there, locks, and the labels that routes ask for
//! (policy.md rules 4, 6 and 8).

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_api::wire::waypoint as wire;
use ambit_crds::mesh_config::PolicyPlacement;
use ambit_crds::meta::Map;
use ambit_crds::pod::Pod;
use ambit_crds::service::Service;

use super::place::encoded;
use super::{Stale, View, resource_name};
use crate::objects::Key;
use crate::snapshot::WaypointResources;
use crate::translate::index;
use crate::translate::record::Record;
use crate::translate::state::{State, put};

impl State {
    /// The waypoints that know a pod, or are to.
    pub(super) fn views_of(&self, pod: &Key) -> BTreeSet<Key> {
        let mut views = self.views.holding.get(pod).cloned().unwrap_or_default();
        if let Some(record) = self.records.get(pod) {
            let leading = index::services(record).filter_map(|service| self.views.leading.get(&service));
            views.extend(leading.flatten().cloned());
        }
        views.extend(self.direct(pod));
        let asking = self.views.all.iter().filter(|(_, view)| !view.client_keys.is_empty());
        views.extend(asking.map(|(key, _)| key.clone()));
        views
    }

    /// The waypoint before a pod's own address.
    fn direct(&self, pod: &Key) -> Option<Key> {
        let link = self.labels().pod(self.objects.get::<Pod>(pod)?)?;
        link.found.is_ok().then_some(link.gateway)
    }

    /// Pods of clients that routes newly ask about, and all others when there is more (or less) to say of them.
    pub(super) fn settle_clients(&self, view: &View, stale: &mut Stale) {
        if stale.client_keys.is_empty() {
            return;
        }
        stale.pods.extend(view.pods.keys().cloned());
        let asked = |labels: &Map| stale.client_keys.iter().any(|key| labels.contains_key(key));
        let pods = self
            .records
            .keys()
            .filter(|pod| self.objects.get::<Pod>(pod).is_some_and(|pod| asked(&pod.meta.labels)));
        let pods: Vec<Key> = pods.cloned().collect();
        stale.pods.extend(pods);
    }

    /// One pod: its resource while the waypoint has to know it.
    pub(super) fn settle_pod(
        &mut self,
        (gateway, key): (&Key, &Key),
        view: &mut View,
        resources: &mut WaypointResources,
        stale: &mut Stale,
    ) {
        let uid: Arc<str> = self.names.pod(&key.namespace, &key.name).into();
        let old = view.pods.remove(key).unwrap_or_default();
        let pod = self.objects.get::<Pod>(key);
        let found = pod.zip(self.records.get(key));
        let found = found.filter(|(pod, record)| self.is_known(gateway, view, (key, pod), record));
        let Some((pod, record)) = found else {
            resources.workloads.remove(&uid);
            index::remove_from(&mut self.views.holding, key, gateway);
            stale.policies.extend(view.policies.swap(&old, &BTreeSet::new()));
            return;
        };
        let locks = self.locks_of(record);
        // Under Istio's placement ztunnels judge S, with the waypoint as the peer.
        let applies = match self.mesh.placement {
            PolicyPlacement::Istio => BTreeSet::new(),
            PolicyPlacement::Ambit => record.applies.clone(),
        };
        let message = wire::Workload {
            uid: uid.to_string(),
            labels: pod
                .meta
                .labels
                .iter()
                .filter(|(key, _)| view.keys.contains(key) || view.client_keys.contains(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            policies: applies.iter().map(resource_name).collect(),
            port_aliases: record.ports.aliases(),
            locks: locks.iter().map(|(_, lock)| lock.clone()).collect(),
        };
        let locking = locks.iter().flat_map(|(service, _)| self.policies.of_service(service));
        let named: BTreeSet<Key> = applies.iter().chain(locking).cloned().collect();
        put(&mut resources.workloads, encoded(&uid, &message));
        stale.policies.extend(view.policies.swap(&old, &named));
        view.pods.insert(key.clone(), named);
        self.views.holding.entry(key.clone()).or_default().insert(gateway.clone());
    }

    /// A destination, a pod whose address it stands before, or a client whose labels a route asks for.
    fn is_known(&self, gateway: &Key, view: &View, (key, pod): (&Key, &Pod), record: &Record) -> bool {
        index::services(record).any(|service| view.uses.contains(&service))
            || self.direct(key).as_ref() == Some(gateway)
            || view.client_keys.keys().any(|key| pod.meta.labels.contains_key(key))
    }

    /// Which Services lock which ports of a pod.
    fn locks_of(&self, record: &Record) -> Vec<(Key, wire::Lock)> {
        if self.mesh.placement == PolicyPlacement::Istio || !record.covered {
            return Vec::new();
        }
        let mut locks = Vec::new();
        for member in &record.members {
            let key = Key::new(&member.namespace, &member.service);
            let service = self.objects.get::<Service>(&key);
            if service.is_none_or(|service| self.policies.locking(service).is_none()) {
                continue;
            }
            let targets: BTreeSet<Option<u16>> = member.ports.iter().map(|(_, target)| *target).collect();
            for target in targets {
                let through = member.ports.iter().filter(|(_, to)| *to == target);
                let lock = wire::Lock {
                    port: target.map_or(0, u32::from),
                    service: self.names.service(&key.namespace, &key.name),
                    service_ports: through.map(|(port, _)| u32::from(*port)).collect(),
                    policies: self.policies.of_service(&key).map(resource_name).collect(),
                };
                locks.push((key.clone(), lock));
            }
        }
        locks
    }
}
