//! A waypoint's own settings: what it serves, T(gw), and what the mesh configuration says to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_api::wire::waypoint as wire;

use super::place::encoded;
use super::resource_name;
use crate::objects::Key;
use crate::snapshot::Resource;
use crate::translate::gateways::{Serves, Waypoint};
use crate::translate::state::State;

impl State {
    /// The one `Gateway` resource of a waypoint.
    pub(super) fn gateway_resource(&self, key: &Key, waypoint: &Waypoint, own: &BTreeSet<Key>) -> Resource {
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
            policies: own.iter().map(resource_name).collect(),
            path_normalization: self.mesh.paths.into(),
            access_log: self.mesh.access_log.clone(),
            tracing: self.mesh.tracing.clone(),
            listeners: Vec::new(),
        };
        let name: Arc<str> = resource_name(key).into();
        encoded(&name, &message)
    }
}
