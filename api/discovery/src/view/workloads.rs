//! Workloads by unique name, by address and by pod name.

use std::sync::Arc;

use ambit_api::workload::{NetworkAddress, NetworkMode, TunnelProtocol, Uid, Workload};
use imbl::HashMap;

/// The workload index.
#[derive(Clone, Default)]
pub struct Workloads {
    by_uid: HashMap<Uid, Arc<Workload>>,
    /// Several workloads may claim an address while a pod is replaced; the preferred one stands first.
    by_address: HashMap<NetworkAddress, Vec<Arc<Workload>>>,
    by_pod: HashMap<(Arc<str>, Arc<str>), Uid>,
}

/// Unique names of pods contain this; other kinds of workload do not (l4-protocols §3.1).
const POD_MARK: &str = "//Pod/";

impl Workloads {
    /// By unique name.
    pub fn get(&self, uid: &Uid) -> Option<&Arc<Workload>> {
        self.by_uid.get(uid)
    }

    /// The preferred workload at an address.
    pub fn by_address(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        self.by_address.get(address)?.first()
    }

    /// The workload of a pod.
    pub fn by_pod(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<&Arc<Workload>> {
        self.by_uid.get(self.by_pod.get(&(namespace.clone(), name.clone()))?)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_uid.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_uid.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    pub(super) fn insert(&mut self, workload: Arc<Workload>) -> Option<Arc<Workload>> {
        let replaced = self.remove(&workload.uid);
        for address in addresses(&workload) {
            let mut claims = self.by_address.get(&address).cloned().unwrap_or_default();
            claims.push(workload.clone());
            claims.sort_by(|one, other| preference(other).cmp(&preference(one)));
            self.by_address.insert(address, claims);
        }
        if workload.uid.0.contains(POD_MARK) {
            self.by_pod.insert(pod_name(&workload), workload.uid.clone());
        }
        self.by_uid.insert(workload.uid.clone(), workload);
        replaced
    }

    pub(super) fn remove(&mut self, uid: &Uid) -> Option<Arc<Workload>> {
        let workload = self.by_uid.remove(uid)?;
        for address in addresses(&workload) {
            let Some(mut claims) = self.by_address.remove(&address) else {
                continue;
            };
            claims.retain(|claim| claim.uid != *uid);
            if !claims.is_empty() {
                self.by_address.insert(address, claims);
            }
        }
        if workload.uid.0.contains(POD_MARK) {
            self.by_pod.remove(&pod_name(&workload));
        }
        Some(workload)
    }
}

fn pod_name(workload: &Workload) -> (Arc<str>, Arc<str>) {
    (workload.namespace.as_str().into(), workload.name.as_str().into())
}

/// The addresses a workload is found by; the node's address says nothing about which pod is meant.
fn addresses(workload: &Workload) -> impl Iterator<Item = NetworkAddress> {
    let own = workload.network_mode == NetworkMode::Standard;
    workload
        .addresses
        .iter()
        .filter(move |_| own)
        .map(|ip| NetworkAddress::new(workload.network.clone(), *ip))
}

/// A pod beats another kind of workload, one in the mesh beats one outside; the name settles the rest, so that
/// the order of arrival does not matter.
fn preference(workload: &Workload) -> (bool, bool, &Uid) {
    (workload.uid.0.contains(POD_MARK), workload.tunnel == TunnelProtocol::Hbone, &workload.uid)
}
