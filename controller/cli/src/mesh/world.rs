//! What every proxy would know: the controller's own translation, read by the proxies' own reader.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_api::workload::Workload;
use ambit_discovery::view::{self, Writer, view};
use ambit_discovery::xds::{Changes, Named, Push, Sink};
use controller::snapshot::{Resources, Snapshot, WaypointResources};
use prost::Message;

/// What proxies know.
pub(crate) struct World {
    /// What every ztunnel knows.
    pub(crate) mesh: Arc<view::Snapshot>,
    waypoints: BTreeMap<(String, String), Waypoint>,
    /// What people should know of how this was read.
    pub(crate) remarks: Vec<String>,
}

/// A waypoint, and what it knows.
pub(crate) struct Waypoint {
    /// `namespace/name` of its Gateway.
    pub(crate) gateway: Arc<str>,
    pub(crate) knows: Arc<view::Snapshot>,
}

impl World {
    /// Of what a controller tells.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut remarks = Vec::new();
        let (mut writer, mesh) = view();
        fill(&mut writer, snapshot, &mut remarks);
        let upserts = decode(&snapshot.authorizations, &mut remarks);
        let push = Push::Authorization { upserts, unreadable: Vec::new(), removed: Vec::new() };
        apply(&mut writer, push, &mut remarks);
        let waypoints = snapshot.waypoints.iter().map(|(gateway, own)| {
            let (mut writer, knows) = view();
            fill(&mut writer, snapshot, &mut Vec::new());
            fill_waypoint(&mut writer, own, &mut remarks);
            let account = (own.account.namespace.clone(), own.account.name.clone());
            (account, Waypoint { gateway: gateway.clone(), knows: knows.load().clone() })
        });
        let waypoints = waypoints.collect();
        Self { mesh: mesh.load().clone(), waypoints, remarks }
    }

    /// The waypoint that a pod is a replica of.
    pub(crate) fn waypoint(&self, replica: &Workload) -> Option<&Waypoint> {
        self.waypoints.get(&(replica.namespace.clone(), replica.service_account.clone()))
    }
}

fn fill(writer: &mut Writer, snapshot: &Snapshot, remarks: &mut Vec<String>) {
    let upserts = decode(&snapshot.addresses, remarks);
    apply(writer, Push::Address { upserts, removed: Vec::new() }, remarks);
}

fn fill_waypoint(writer: &mut Writer, own: &WaypointResources, remarks: &mut Vec<String>) {
    let pushes = [
        Push::Policy(changes(&own.policies, remarks)),
        Push::Workload(changes(&own.workloads, remarks)),
        Push::Destination(changes(&own.destinations, remarks)),
        Push::Service(changes(&own.services, remarks)),
        Push::Gateway(changes(&own.gateway, remarks)),
    ];
    pushes.into_iter().for_each(|push| apply(writer, push, remarks));
}

fn apply(writer: &mut Writer, push: Push, remarks: &mut Vec<String>) {
    let rejected = writer.apply(push);
    remarks.extend(rejected.into_iter().map(|one| format!("proxies refuse {}: {}", one.name, one.reason)));
}

fn changes<M: Message + Default>(resources: &Resources, remarks: &mut Vec<String>) -> Changes<M> {
    Changes { upserts: decode(resources, remarks), unreadable: Vec::new(), removed: Vec::new() }
}

fn decode<M: Message + Default>(resources: &Resources, remarks: &mut Vec<String>) -> Vec<Named<M>> {
    let decoded = resources.values().filter_map(|resource| match M::decode(resource.body.clone()) {
        Ok(body) => Some(Named { name: resource.name.to_string(), body }),
        Err(error) => {
            remarks.push(format!("proxies cannot read {}: {error}", resource.name));
            None
        }
    });
    decoded.collect()
}
