//! Services by name and by virtual address, each with its endpoints ready to choose from.

use std::net::IpAddr;
use std::sync::Arc;

use ambit_api::select::EndpointSet;
use ambit_api::service::{Service, ServiceKey, Vip, Visibility};
use ambit_api::workload::{NetworkAddress, Uid, Workload};
use imbl::{HashMap, OrdMap, OrdSet};

use super::endpoints_of;

/// A service and the endpoints it may send to now.
#[derive(Debug)]
pub struct ServiceEntry {
    /// The service.
    pub service: Arc<Service>,
    /// Its endpoints.
    pub endpoints: EndpointSet,
}

/// The service index.
#[derive(Clone, Default)]
pub struct Services {
    entries: HashMap<ServiceKey, Arc<ServiceEntry>>,
    by_ip: HashMap<NetworkAddress, OrdSet<ServiceKey>>,
    /// Prefixes longer than one address; few, so a scan from the longest is fine.
    by_prefix: OrdMap<(std::cmp::Reverse<u8>, ServiceKey), Vec<Vip>>,
    by_hostname: HashMap<Arc<str>, OrdSet<ServiceKey>>,
    /// Endpoints wait here for their service when they arrive first.
    members: HashMap<ServiceKey, OrdMap<Uid, Arc<Workload>>>,
}

impl Services {
    /// By name.
    pub fn get(&self, key: &ServiceKey) -> Option<&Arc<ServiceEntry>> {
        self.entries.get(key)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ServiceEntry>> {
        self.entries.values()
    }

    /// The service a client in `namespace` means by this address: its own namespace's, else the canonical one.
    pub fn by_vip(&self, address: &NetworkAddress, namespace: &str) -> Option<&Arc<ServiceEntry>> {
        if let Some(keys) = self.by_ip.get(address)
            && let Some(entry) = self.best(keys.iter(), namespace)
        {
            return Some(entry);
        }
        let matching = self.by_prefix.iter().filter(|(_, vips)| vips.iter().any(|vip| covers(vip, address)));
        self.best(matching.map(|((_, key), _)| key), namespace)
    }

    /// The service a client in `namespace` means by this host name.
    pub fn by_hostname(&self, hostname: &str, namespace: &str) -> Option<&Arc<ServiceEntry>> {
        self.best(self.by_hostname.get(hostname)?.iter(), namespace)
    }

    fn best<'a>(
        &'a self,
        keys: impl Iterator<Item = &'a ServiceKey>,
        namespace: &str,
    ) -> Option<&'a Arc<ServiceEntry>> {
        keys.filter_map(|key| self.entries.get(key))
            .filter(|entry| {
                entry.service.visibility == Visibility::Public || *entry.service.key.namespace == *namespace
            })
            // `rev` so that among equals the first wins.
            .rev_max_by_key(|entry| (*entry.service.key.namespace == *namespace, entry.service.canonical))
    }

    pub(super) fn insert(&mut self, service: Arc<Service>) {
        self.unindex(&service.key);
        for vip in &service.vips {
            if single(vip) {
                let address = NetworkAddress::new(vip.network.clone(), vip.prefix.addr());
                self.by_ip.entry(address).or_default().insert(service.key.clone());
            } else {
                let key = (std::cmp::Reverse(vip.prefix.prefix_len()), service.key.clone());
                self.by_prefix.entry(key).or_default().push(vip.clone());
            }
        }
        self.by_hostname.entry(service.key.hostname.clone()).or_default().insert(service.key.clone());
        let entry = self.entry(service);
        self.entries.insert(entry.service.key.clone(), entry);
    }

    pub(super) fn remove(&mut self, key: &ServiceKey) {
        self.unindex(key);
        self.entries.remove(key);
    }

    pub(super) fn join(&mut self, key: &ServiceKey, workload: Arc<Workload>) {
        self.members.entry(key.clone()).or_default().insert(workload.uid.clone(), workload);
    }

    pub(super) fn leave(&mut self, key: &ServiceKey, uid: &Uid) {
        let Some(members) = self.members.get_mut(key) else {
            return;
        };
        members.remove(uid);
        if members.is_empty() {
            self.members.remove(key);
        }
    }

    /// Rebuilds the endpoints of a service whose members changed; nothing if the service has not arrived.
    pub(super) fn refresh(&mut self, key: &ServiceKey) {
        if let Some(service) = self.entries.get(key).map(|entry| entry.service.clone()) {
            let entry = self.entry(service);
            self.entries.insert(key.clone(), entry);
        }
    }

    fn entry(&self, service: Arc<Service>) -> Arc<ServiceEntry> {
        let members =
            self.members.get(&service.key).into_iter().flat_map(|members| members.values().cloned());
        let endpoints = endpoints_of(&service, members);
        Arc::new(ServiceEntry { service, endpoints })
    }

    fn unindex(&mut self, key: &ServiceKey) {
        let Some(entry) = self.entries.get(key).cloned() else {
            return;
        };
        for vip in &entry.service.vips {
            if single(vip) {
                let address = NetworkAddress::new(vip.network.clone(), vip.prefix.addr());
                forget(&mut self.by_ip, &address, key);
            } else {
                self.by_prefix.remove(&(std::cmp::Reverse(vip.prefix.prefix_len()), key.clone()));
            }
        }
        forget(&mut self.by_hostname, &key.hostname, key);
    }
}

fn forget<K: Clone + std::hash::Hash + Eq>(
    index: &mut HashMap<K, OrdSet<ServiceKey>>,
    at: &K,
    key: &ServiceKey,
) {
    let Some(keys) = index.get_mut(at) else { return };
    keys.remove(key);
    if keys.is_empty() {
        index.remove(at);
    }
}

fn single(vip: &Vip) -> bool {
    vip.prefix.prefix_len() == vip.prefix.max_prefix_len()
}

fn covers(vip: &Vip, address: &NetworkAddress) -> bool {
    let ip: IpAddr = address.ip;
    vip.network == address.network && vip.prefix.contains(&ip)
}

/// `max_by_key` that keeps the first of equal items.
trait RevMax: Iterator + Sized {
    fn rev_max_by_key<K: Ord>(self, key: impl Fn(&Self::Item) -> K) -> Option<Self::Item> {
        self.reduce(|best, item| if key(&item) > key(&best) { item } else { best })
    }
}

impl<I: Iterator> RevMax for I {}
