//! What a configuration says of a connection: looked up by names once for both, not for each request.

use std::rc::Rc;
use std::sync::Arc;

use ambit_api::route::Client;
use ambit_api::waypoint::Service;
use ambit_api::workload::{Network, NetworkAddress, Workload};
use ambit_discovery::resolve::waypoint as resolve;
use ambit_discovery::view::Snapshot;

use crate::arrive::{Arrival, Bound};

/// What one configuration says.
pub struct Known {
    /// The configuration.
    snapshot: Arc<Snapshot>,
    /// The client, as routes ask for it.
    pub client: Client,
    /// The service dialled; `None` if it was none, or one that we no longer stand before.
    pub service: Option<Arc<Service>>,
    /// Our own pod, once it is known.
    pub here: Option<Arc<Workload>>,
}

impl Known {
    /// Of a connection, by the configuration at hand.
    pub fn of(arrival: &Arrival, snapshot: &Arc<Snapshot>) -> Rc<Self> {
        if let Some(known) = &*arrival.known.borrow()
            && Arc::ptr_eq(&known.snapshot, snapshot)
        {
            return known.clone();
        }
        let known = Rc::new(Self {
            snapshot: snapshot.clone(),
            client: resolve::client(snapshot, &address(arrival), arrival.identity.as_ref()),
            service: match &arrival.bound {
                Bound::Service(key) => snapshot.waypoint.services.get(key).cloned(),
                Bound::Workload(_) | Bound::Listener(_) => None,
            },
            here: arrival.mesh.here(snapshot),
        });
        *arrival.known.borrow_mut() = Some(known.clone());
        known
    }
}

/// The client's pod.
pub fn workload(arrival: &Arrival, snapshot: &Snapshot) -> Option<Arc<Workload>> {
    resolve::client_pod(snapshot, &address(arrival), arrival.identity.as_ref()).cloned()
}

fn address(arrival: &Arrival) -> NetworkAddress {
    let network = Network(arrival.mesh.settings.control.network.as_str().into());
    NetworkAddress::new(network, arrival.client.ip())
}
