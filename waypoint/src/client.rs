//! Who sends: the client's pod, as routes ask for it.

use std::sync::Arc;

use ambit_api::route::Client;
use ambit_api::workload::{Network, NetworkAddress, Workload};
use ambit_discovery::resolve::waypoint as resolve;
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
    resolve::client(snapshot, &address(arrival), arrival.identity.as_ref())
}

/// The client's pod.
pub fn workload(arrival: &Arrival, snapshot: &Snapshot) -> Option<Arc<Workload>> {
    resolve::client_pod(snapshot, &address(arrival), arrival.identity.as_ref()).cloned()
}

fn address(arrival: &Arrival) -> NetworkAddress {
    let network = Network(arrival.mesh.settings.control.network.as_str().into());
    NetworkAddress::new(network, arrival.client.ip())
}
