//! A waypoint's own settings: what it serves, T(gw), its plain listeners, and what the mesh configuration says to it.

use std::sync::Arc;

use ambit_api::wire::waypoint as wire;

use super::place::encoded;
use super::{Placed, resource_name};
use crate::objects::Key;
use crate::snapshot::Resource;
use crate::translate::gateways::{Serves, Waypoint};
use crate::translate::routes;
use crate::translate::state::State;

impl State {
    /// The one `Gateway` resource of a waypoint, and what that needs.
    pub(super) fn gateway_resource(&self, key: &Key, waypoint: &Waypoint) -> (Resource, Placed) {
        let policies = self.policies.of_gateway(key, &waypoint.class, &self.mesh.root);
        let mut own = Placed { policies: policies.collect(), ..Placed::default() };
        let mut listeners = Vec::new();
        let plain = if waypoint.plain.is_empty() { Vec::new() } else { routes::plain(&self.routes(), key) };
        for routes::Plain { name, port, routed } in plain {
            own.destinations.extend(routed.destinations);
            own.client_keys.extend(routed.client_labels);
            listeners.push(wire::Listener { name, port: u32::from(port), http: routed.http });
        }
        let serves = match waypoint.serves {
            Serves::Services => wire::Serves::Services,
            Serves::Workloads => wire::Serves::Workloads,
            Serves::All => wire::Serves::All,
            Serves::Nothing => wire::Serves::None,
        };
        let message = wire::Gateway {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            serves: serves.into(),
            policies: own.policies.iter().map(resource_name).collect(),
            path_normalization: self.mesh.paths.into(),
            access_log: self.mesh.access_log.clone(),
            tracing: self.mesh.tracing.clone(),
            listeners,
        };
        let name: Arc<str> = resource_name(key).into();
        (encoded(&name, &message), own)
    }
}
