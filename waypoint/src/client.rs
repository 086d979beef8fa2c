//! Who sends: the client's pod, as routes ask for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_api::route::Client;
use ambit_api::workload::{Network, NetworkAddress, Workload};
use ambit_discovery::view::Snapshot;

use crate::arrive::Arrival;

/// The client of a connection, by the configuration at hand; looked up once per configuration.
pub fn of(arrival: &Arrival, snapshot: &Arc<Snapshot>) -> Arc<Client> {
    if let Some((known, client)) = &*arrival.caller.borrow()
        && Arc::ptr_eq(known, snapshot)
    {
        return client.clone();
    }
    let client = Arc::new(look_up(arrival, snapshot));
    *arrival.caller.borrow_mut() = Some((snapshot.clone(), client.clone()));
    client
}

fn look_up(arrival: &Arrival, snapshot: &Snapshot) -> Client {
    let workload = workload(arrival, snapshot);
    let pod = workload.as_ref().and_then(|workload| snapshot.waypoint.workloads.get(&workload.uid));
    let namespace = match (&arrival.identity, &workload) {
        (Some(identity), _) => identity.namespace().into(),
        (None, Some(workload)) => workload.namespace.as_str().into(),
        (None, None) => Arc::from(""),
    };
    Client {
        identity: arrival.identity.clone(),
        ip: arrival.client.ip(),
        namespace,
        labels: pod.map_or_else(Arc::<BTreeMap<_, _>>::default, |pod| pod.labels.clone()),
    }
}

/// The client's pod, by its address. A proven identity outranks the address: a pod of another identity is not the one
/// that called.
pub fn workload(arrival: &Arrival, snapshot: &Snapshot) -> Option<Arc<Workload>> {
    let network = Network(arrival.mesh.settings.control.network.as_str().into());
    let found = snapshot.workloads.by_address(&NetworkAddress::new(network, arrival.client.ip()))?;
    let same = match &arrival.identity {
        Some(proven) => found.identity().as_ref() == Some(proven),
        None => true,
    };
    same.then(|| found.clone())
}
