//! Who asked whom, as label sets that are made once per worker and shared by everything it reports.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use ambit_api::labels::{Dialled, Party, Security};
use ambit_api::service::ServiceKey;
use ambit_api::workload::{TunnelProtocol, Uid, Workload};
use ambit_discovery::view::Snapshot;

use super::metrics::{Ends, nobody};
use crate::arrive::{Arrival, Bound};
use crate::known;
use crate::record::Record;

/// Pods, label sets and services one worker remembers; beyond, pods are forgotten and what is new is `unknown`.
const REMEMBERED: usize = 10_000;

/// One worker's label sets.
#[derive(Debug, Default)]
pub struct Parties {
    /// By content: pods of one Deployment have equal label sets, so a rollout makes no new ones.
    sets: HashSet<Arc<Party>>,
    endpoints: HashMap<Uid, (Arc<Workload>, Arc<Party>)>,
    services: HashMap<ServiceKey, Arc<Dialled>>,
}

impl Parties {
    /// Who asked whom in this request or connection.
    pub fn of(&mut self, record: &Record, snapshot: &Arc<Snapshot>) -> Ends {
        let arrival = &*record.arrival;
        let dialled = match (&record.cluster, &arrival.bound) {
            (Some(cluster), _) => Some(&cluster.service),
            (None, Bound::Service(key)) => Some(key),
            (None, Bound::Workload(_) | Bound::Listener(_)) => None,
        };
        Ends {
            source: self.client(arrival, snapshot),
            destination: record.endpoint.as_ref().map_or_else(nobody, |endpoint| self.endpoint(endpoint)),
            service: dialled.and_then(|key| self.service(key, snapshot)),
            security: if arrival.identity.is_some() { Security::MutualTls } else { Security::Unknown },
        }
    }

    /// The client's pod; looked up once per connection and configuration.
    fn client(&mut self, arrival: &Arrival, snapshot: &Arc<Snapshot>) -> Arc<Party> {
        if let Some((known, party)) = &*arrival.source.borrow()
            && Arc::ptr_eq(known, snapshot)
        {
            return party.clone();
        }
        let proven = arrival.identity.as_ref();
        let party = match known::workload(arrival, snapshot) {
            Some(workload) => Party::new(&workload, proven),
            None => Party::unknown(proven),
        };
        let party = self.share(party);
        *arrival.source.borrow_mut() = Some((snapshot.clone(), party.clone()));
        party
    }

    /// The pod it was sent to.
    fn endpoint(&mut self, workload: &Arc<Workload>) -> Arc<Party> {
        if let Some((known, party)) = self.endpoints.get(&workload.uid)
            && Arc::ptr_eq(known, workload)
        {
            return party.clone();
        }
        // The handshake proved it; over plain TCP nobody did.
        let proven = match workload.tunnel {
            TunnelProtocol::Plain => None,
            _ => workload.identity(),
        };
        let party = self.share(Party::new(workload, proven.as_ref()));
        if self.endpoints.len() >= REMEMBERED {
            self.endpoints.clear();
        }
        self.endpoints.insert(workload.uid.clone(), (workload.clone(), party.clone()));
        party
    }

    fn service(&mut self, key: &ServiceKey, snapshot: &Snapshot) -> Option<Arc<Dialled>> {
        if let Some(known) = self.services.get(key) {
            return Some(known.clone());
        }
        let service = &snapshot.services.get(key)?.service;
        remember(&mut self.services, key, || Arc::new(Dialled::new(service)))
    }

    fn share(&mut self, party: Party) -> Arc<Party> {
        if let Some(known) = self.sets.get(&party) {
            return known.clone();
        }
        if self.sets.len() >= REMEMBERED {
            return nobody();
        }
        let party = Arc::new(party);
        self.sets.insert(party.clone());
        party
    }
}

fn remember<K: Clone + Eq + Hash, V: Clone>(
    known: &mut HashMap<K, V>,
    key: &K,
    make: impl FnOnce() -> V,
) -> Option<V> {
    if known.len() >= REMEMBERED {
        return None;
    }
    Some(known.entry(key.clone()).or_insert_with(make).clone())
}
