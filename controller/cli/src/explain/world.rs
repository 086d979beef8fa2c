//! What every proxy would know: the controller's own translation, read by the proxies' own reader.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use ambit_api::workload::Workload;
use ambit_crds::complete::complete;
use ambit_crds::meta::ObjectRef;
use ambit_crds::object::Object;
use ambit_crds::{Loaded, Severity, load_once, read};
use ambit_discovery::view::{self, Writer, view};
use ambit_discovery::xds::{Changes, Named, Push, Sink};
use controller::snapshot::{Resources, Snapshot, WaypointResources};
use controller::translate::{Change, Names, Translator};
use prost::Message;

/// Translations until nothing new is wanted: a Gateway that a namespace asks for, then what it is deployed as.
const ROUNDS: usize = 4;

/// What proxies know.
pub(super) struct World {
    /// What every ztunnel knows.
    pub(super) mesh: Arc<view::Snapshot>,
    waypoints: BTreeMap<(String, String), Waypoint>,
    /// What people should know of how this was read.
    pub(super) remarks: Vec<String>,
}

/// A waypoint, and what it knows.
pub(super) struct Waypoint {
    /// `namespace/name` of its Gateway.
    pub(super) gateway: Arc<str>,
    pub(super) knows: Arc<view::Snapshot>,
}

impl World {
    /// Of folders.
    pub(super) fn read(directories: &[PathBuf]) -> Self {
        Self::settled(load_once(directories))
    }

    /// Of manifests, as a cluster would have them once everything has settled.
    pub(super) fn settled(loaded: Loaded) -> Self {
        let wrong = loaded.faults.iter().filter(|fault| fault.severity == Severity::Error).count();
        let mut world = Self::of(&translate(loaded));
        if wrong > 0 {
            world.remarks.insert(0, format!("{wrong} errors in the manifests; `ambit analyze` tells them"));
        }
        world
    }

    /// Of what a controller tells.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
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
    pub(super) fn waypoint(&self, replica: &Workload) -> Option<&Waypoint> {
        self.waypoints.get(&(replica.namespace.clone(), replica.service_account.clone()))
    }
}

/// Translates until what we deploy is deployed and up.
fn translate(loaded: Loaded) -> Snapshot {
    let mut translator = Translator::new(Names::default());
    let mut objects: BTreeMap<ObjectRef, Arc<Object>> =
        loaded.objects.into_iter().map(|object| (object.reference(), object)).collect();
    let mut changes: Vec<Change> = objects.values().cloned().map(Change::Applied).collect();
    changes.extend(loaded.invalid.into_iter().map(Change::Invalid));
    let mut snapshot = Arc::default();
    for _ in 0..ROUNDS {
        let listed: Vec<_> = objects.values().cloned().collect();
        changes.extend(complete(&listed).into_iter().map(|object| {
            objects.insert(object.reference(), object.clone());
            Change::Applied(object)
        }));
        if changes.is_empty() {
            break;
        }
        let applied = translator.apply(std::mem::take(&mut changes));
        snapshot = applied.snapshot;
        let wanted = applied.writes.owned.iter().filter_map(|owned| owned.manifest.as_ref());
        for object in wanted.flat_map(|manifest| read::objects(&manifest.to_string())) {
            // One that is there already is the running one, with addresses and all.
            if let Entry::Vacant(place) = objects.entry(object.reference()) {
                place.insert(object.clone());
                changes.push(Change::Applied(object));
            }
        }
    }
    Snapshot::clone(&snapshot)
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
