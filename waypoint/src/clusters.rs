//! One worker's balancers, made again only when what they choose from has changed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use ambit_api::waypoint::{Destination, TrafficPolicy};
use ambit_api::workload::Workload;
use ambit_discovery::view::{ServiceEntry, Snapshot};

use crate::balance::Balancer;
use crate::balance::cluster::{ClusterKey, Clusters};

/// One worker's balancers, by cluster.
pub struct Balancers {
    clusters: Clusters,
    known: RefCell<HashMap<ClusterKey, Known>>,
}

/// A balancer, with what it was made from.
struct Known {
    service: Arc<ServiceEntry>,
    destination: Option<Arc<Destination>>,
    pods: Pods,
    balancer: Rc<Balancer>,
}

/// Where the labels of a subset's pods come from.
type Pods = imbl::HashMap<ambit_api::workload::Uid, Arc<ambit_api::waypoint::Workload>>;

impl Balancers {
    /// None yet.
    pub fn new(clusters: Clusters) -> Self {
        Self { clusters, known: RefCell::default() }
    }

    /// The balancer of a cluster as seen from `here`; `None` if its service or subset does not exist.
    pub fn get(&self, snapshot: &Snapshot, key: ClusterKey, here: &Workload) -> Option<Rc<Balancer>> {
        let service = snapshot.services.get(&key.service)?;
        let destination = snapshot.waypoint.destinations.get(&key.service);
        let pods = &snapshot.waypoint.workloads;
        if let Some(known) = self.known.borrow().get(&key)
            && Arc::ptr_eq(&known.service, service)
            && same(known.destination.as_ref(), destination)
            && (key.subset.is_none() || known.pods.ptr_eq(pods))
        {
            return Some(known.balancer.clone());
        }
        let policy = destination.map_or_else(Arc::<TrafficPolicy>::default, |destination| {
            destination.policy_for(key.subset.as_deref(), key.port).clone()
        });
        let subset = match &key.subset {
            Some(name) => Some(destination?.subsets.get(name)?),
            None => None,
        };
        let member = |workload: &Workload| {
            subset.is_none_or(|subset| pods.get(&workload.uid).is_some_and(|pod| subset.holds(&pod.labels)))
        };
        let cluster = self.clusters.get(key.clone());
        let balancer = Rc::new(Balancer::new(cluster, policy, &service.endpoints, here, member));
        let known = Known {
            service: service.clone(),
            destination: destination.cloned(),
            pods: pods.clone(),
            balancer: balancer.clone(),
        };
        self.known.borrow_mut().insert(key, known);
        Some(balancer)
    }

    /// Forgets clusters of services that are no more.
    pub fn sweep(&self, snapshot: &Snapshot) {
        self.known.borrow_mut().retain(|key, _| snapshot.services.get(&key.service).is_some());
    }
}

fn same(one: Option<&Arc<Destination>>, other: Option<&Arc<Destination>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}
