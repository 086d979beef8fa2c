//! What an address says of waypoints and policies.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_api::wire::workload::address::Type;
use ambit_api::wire::workload::gateway_address::Destination;
use ambit_api::wire::workload::{Address, GatewayAddress};
use prost::Message;

use crate::snapshot::Resource;

/// The waypoints before a Service or a workload, and the policies a workload names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) namespace: String,
    /// `namespace/name` of their Gateways.
    pub(super) waypoints: BTreeSet<Arc<str>>,
    pub(super) policies: BTreeSet<String>,
}

impl Binding {
    /// Of a resource that is not there, or is no address: none.
    pub(super) fn of(resource: Option<&Arc<Resource>>) -> Self {
        let address = resource.and_then(|resource| Address::decode(&*resource.body).ok());
        match address.and_then(|address| address.r#type) {
            Some(Type::Workload(workload)) => Self {
                waypoints: workload.waypoint.iter().filter_map(gateway).collect(),
                policies: workload.authorization_policies.into_iter().collect(),
                namespace: workload.namespace,
            },
            Some(Type::Service(service)) => {
                let weighted = service.weighted_waypoints.iter().filter_map(|one| one.destination.as_ref());
                Self {
                    waypoints: service.waypoint.iter().chain(weighted).filter_map(gateway).collect(),
                    policies: BTreeSet::new(),
                    namespace: service.namespace,
                }
            }
            None => Self::default(),
        }
    }
}

/// A waypoint of ours is published by the hostname of its Service, which is named like its Gateway.
fn gateway(address: &GatewayAddress) -> Option<Arc<str>> {
    match address.destination.as_ref()? {
        Destination::Hostname(host) => {
            let name = host.hostname.split('.').next()?;
            Some(format!("{}/{name}", host.namespace).into())
        }
        Destination::Address(_) => None,
    }
}
