//! What this proxy knows of the mesh: one [`Writer`] fed by xDS, cheap read-only [`View`]s for everybody else.
//!
//! A [`Snapshot`] is immutable and shares its unchanged parts with the one before, so readers never wait and a
//! push of one pod costs one pod. Local pods are watched one by one ([`View::watch`]): a connection sleeps on
//! its own pod's [`Local`] and is woken only when that pod or its policies change.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ambit_api::authz::PolicySet;
use ambit_api::policy::{Policy, PolicyKey};
use ambit_api::select::EndpointSet;
use ambit_api::service::{Service, ServiceKey};
use ambit_api::workload::{Network, NetworkAddress, Uid, Workload};
use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

mod policies;
mod services;
pub mod waypoint;
mod workloads;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use policies::Policies;
pub use services::{ServiceEntry, Services};
pub use workloads::Workloads;
pub use writer::Writer;

/// Everything known at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Workloads and their indexes.
    pub workloads: Workloads,
    /// Services and their endpoints.
    pub services: Services,
    /// Policies by scope.
    pub policies: Policies,
    /// What only a waypoint is told.
    pub waypoint: waypoint::Snapshot,
    /// Which resource types have arrived at least once.
    pub synced: Synced,
}

/// Which resource types have arrived at least once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Workloads and services.
    pub addresses: bool,
    /// Policies.
    pub policies: bool,
}

/// What an address stands for.
#[derive(Clone, Debug)]
pub enum Found {
    /// A workload's own address.
    Workload(Arc<Workload>),
    /// A service's virtual address.
    Service(Arc<ServiceEntry>),
}

/// A pod of this node, as the node agent names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalPod {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Pod name.
    pub name: Arc<str>,
    /// Service account, which must agree with the workload's.
    pub service_account: Arc<str>,
}

/// A local pod's workload and the policies that judge connections to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The workload; `None` until it arrives.
    pub workload: Option<Arc<Workload>>,
    /// The policies; empty until both resource types have arrived.
    pub policies: PolicySet,
    /// Both resource types have arrived, so an empty set means "no policy" and not "not yet known".
    pub known: bool,
}

/// Read access; cheap to clone, never blocks.
#[derive(Clone)]
pub struct View {
    current: Arc<ArcSwap<Snapshot>>,
    locals: Arc<Locals>,
    changed: watch::Sender<()>,
}

/// The watched local pods. The lock is taken when a pod arrives or leaves and once per push, never per connection.
#[derive(Default)]
struct Locals {
    watched: Mutex<HashMap<LocalPod, watch::Sender<Arc<Local>>>>,
}

/// Makes an empty view and its only writer.
pub fn view() -> (Writer, View) {
    let view = View {
        current: Arc::new(ArcSwap::from_pointee(Snapshot::default())),
        locals: Arc::default(),
        changed: watch::Sender::default(),
    };
    (Writer::new(view.clone()), view)
}

impl View {
    /// The current snapshot.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Told of every new snapshot.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Follows one local pod until the receiver (and all its clones) are dropped.
    pub fn watch(&self, pod: &LocalPod) -> watch::Receiver<Arc<Local>> {
        let mut watched = self.locals.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(pod) {
            return sender.subscribe();
        }
        // Read inside the lock: a push between the read and the insertion would otherwise be missed.
        let (sender, receiver) = watch::channel(Arc::new(self.current.load().local(pod)));
        watched.insert(pod.clone(), sender);
        receiver
    }

    fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let mut watched = self.locals.watched.lock().unwrap_or_else(PoisonError::into_inner);
        self.current.store(snapshot.clone());
        self.changed.send_replace(());
        watched.retain(|_, sender| sender.receiver_count() > 0);
        for (pod, sender) in watched.iter() {
            let local = snapshot.local(pod);
            sender.send_if_modified(|held| {
                let changed = **held != local;
                if changed {
                    *held = Arc::new(local);
                }
                changed
            });
        }
    }
}

impl Snapshot {
    /// The workload behind a local pod, and its policies.
    pub fn local(&self, pod: &LocalPod) -> Local {
        let known = self.synced.addresses && self.synced.policies;
        let workload = self
            .workloads
            .by_pod(&pod.namespace, &pod.name)
            .filter(|workload| *workload.service_account == *pod.service_account)
            .cloned();
        let policies = match &workload {
            Some(workload) if known => self.policies.of(workload),
            _ => PolicySet::default(),
        };
        Local { workload, policies, known }
    }

    /// What a client in `namespace` means by this address: a workload if one has it, else a service.
    pub fn find(&self, address: &NetworkAddress, namespace: &str) -> Option<Found> {
        if let Some(workload) = self.workloads.by_address(address) {
            return Some(Found::Workload(workload.clone()));
        }
        self.services.by_vip(address, namespace).map(|entry| Found::Service(entry.clone()))
    }

    /// A workload by address in a network.
    pub fn workload_at(&self, network: &Network, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.by_address(&NetworkAddress::new(network.clone(), ip))
    }

    /// A service by name.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<ServiceEntry>> {
        self.services.get(key)
    }

    /// A workload by unique name.
    pub fn workload(&self, uid: &Uid) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// A policy by name.
    pub fn policy(&self, key: &PolicyKey) -> Option<&Arc<Policy>> {
        self.policies.get(key)
    }
}

/// The endpoints of a service with the service they belong to.
pub(crate) fn endpoints_of(
    service: &Arc<Service>,
    workloads: impl Iterator<Item = Arc<Workload>>,
) -> EndpointSet {
    EndpointSet::new(service, workloads)
}
