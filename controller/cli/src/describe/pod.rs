//! One pod.

use std::collections::{BTreeMap, BTreeSet};

use ambit_api::identity::Identity;
use ambit_api::workload::{TunnelProtocol, Workload};
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::pod::{Pod as Object, Protocol};
use controller::objects::Key;
use controller::translate::about::{self, Member};
use serde::Serialize;

use super::rows::{ConditionRow, PolicyRow, WaypointRow, full, section};
use crate::failure::Failure;
use crate::mesh::Mesh;
use crate::mesh::name::Found;
use crate::output::{Page, Row, Show};

/// Everything about a pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Description {
    kind: &'static str,
    name: String,
    in_mesh: bool,
    because: Option<String>,
    node: String,
    addresses: Vec<String>,
    ready: bool,
    service_account: String,
    /// As a SPIFFE URI; none of pods outside the mesh.
    identity: Option<String>,
    /// Who decides what becomes of plain text; empty where nobody asks for anything, and outside the mesh.
    mode_decided_by: Vec<String>,
    services: Vec<ServiceRow>,
    ports: Vec<PortRow>,
    waypoints: Vec<WaypointRow>,
    policies: Vec<PolicyRow>,
    routes: Vec<String>,
    conditions: Vec<ConditionRow>,
    not_in_effect: Vec<ConditionRow>,
}

/// A Service before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceRow {
    service: String,
    /// `80 -> 5678`; a question mark where the pod has no port of that name.
    ports: Vec<String>,
    waypoint: Option<String>,
}

/// One of its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortRow {
    port: u16,
    /// `shop/web:80`.
    services: Vec<String>,
    /// STRICT or PERMISSIVE; none of pods outside the mesh.
    mode: Option<&'static str>,
    /// The waypoints that alone may reach it; none where it is open to all whom policies let in.
    locked_to: Option<Vec<String>>,
}

impl Row for ServiceRow {
    const HEAD: &'static [&'static str] = &["SERVICE", "PORTS", "WAYPOINT"];

    fn cells(&self) -> Vec<String> {
        let waypoint = self.waypoint.clone().unwrap_or_else(|| "-".to_owned());
        vec![self.service.clone(), self.ports.join(", "), waypoint]
    }
}

impl Row for PortRow {
    const HEAD: &'static [&'static str] = &["PORT", "SERVICES", "MODE", "REACHED BY"];

    fn cells(&self) -> Vec<String> {
        let services = if self.services.is_empty() { "-".to_owned() } else { self.services.join(", ") };
        let reached = match self.locked_to.as_deref() {
            _ if self.mode.is_none() => "everyone: it is not in the mesh".to_owned(),
            None => "whom policies let in".to_owned(),
            Some([]) => "nobody: it is locked and no waypoint is named".to_owned(),
            Some(waypoints) => format!("waypoint {} only (locked)", waypoints.join(", ")),
        };
        vec![self.port.to_string(), services, self.mode.unwrap_or("-").to_owned(), reached]
    }
}

impl Show for Description {
    fn show(&self, page: &mut Page) {
        let or = |text: &str, none: &str| vec![if text.is_empty() { none } else { text }.to_owned()];
        let in_mesh = match (&self.because, self.in_mesh) {
            (Some(why), true) => format!("yes: {why}"),
            (Some(why), false) => format!("no: {why}"),
            (None, in_mesh) => if in_mesh { "yes" } else { "no" }.to_owned(),
        };
        let identity = self.identity.clone().unwrap_or_else(|| "none: it is not in the mesh".to_owned());
        let decided = match self.mode_decided_by.as_slice() {
            _ if !self.in_mesh => "nobody: it is not in the mesh".to_owned(),
            [] => "nobody (PERMISSIVE without a PeerAuthentication that says otherwise)".to_owned(),
            by => by.join(", then "),
        };
        page.section(&format!("Pod {}", self.name), |page| {
            page.fields(&[
                ("in the mesh", vec![in_mesh]),
                ("ready", or(if self.ready { "yes" } else { "no" }, "")),
                ("node", or(&self.node, "none yet")),
                ("address", or(&self.addresses.join(", "), "none yet")),
                ("account", vec![self.service_account.clone()]),
                ("identity", vec![identity]),
                ("mode set by", vec![decided]),
            ]);
        });
        section(page, "Services before it:", &self.services, "none");
        section(page, "Ports:", &self.ports, "none are declared or served");
        section(page, "Waypoints:", &self.waypoints, "none may stand before it");
        section(page, "Policies:", &self.policies, "none");
        if !self.routes.is_empty() {
            page.section("Routes that name its Services:", |page| {
                self.routes.iter().for_each(|route| page.line(route));
            });
        }
        section(page, "In effect:", &self.conditions, "");
        section(page, "Not in effect:", &self.not_in_effect, "");
    }
}

/// Describes a pod.
pub(super) fn describe(mesh: &Mesh, found: &Found) -> Result<Description, Failure> {
    let object = mesh.pod(&found.namespace, &found.name);
    let gone = || Failure::new(format!("pod {} is gone", found.full()), "ask again");
    let object = object.ok_or_else(gone)?;
    let key = Key::new(&found.namespace, &found.name);
    let told = mesh.world.mesh.workloads.by_pod(&key.namespace.as_str().into(), &key.name.as_str().into());
    let in_mesh = told.is_some_and(|told| told.tunnel == TunnelProtocol::Hbone);
    let about = mesh.translator.about_pod(&key);
    let services = about.as_ref().map(|about| mesh.services_before(about)).unwrap_or_default();
    let mut policies =
        about.as_ref().map(|about| mesh.endpoint_policies(about, &object.spec.node_name)).unwrap_or_default();
    policies.extend(services.iter().flat_map(|(_, service)| mesh.target_policies(service)));
    policies.dedup();
    let routes: BTreeSet<&ObjectRef> = services.iter().flat_map(|(_, service)| &service.routes).collect();
    let (conditions, not_in_effect) =
        mesh.said(&concerned(&key, about.as_ref(), &services), &found.namespace);
    let identity = told.and_then(|told| told.identity()).filter(|_| in_mesh);
    let decided = about.as_ref().filter(|_| in_mesh).map(|about| about.mode.decided_by.as_slice());
    Ok(Description {
        kind: "Pod",
        name: found.full(),
        in_mesh,
        because: mesh.enrolment(&found.namespace, &found.name, in_mesh),
        node: object.spec.node_name.clone(),
        addresses: object.ips().iter().map(ToString::to_string).collect(),
        ready: object.is_ready(),
        service_account: object.service_account().to_owned(),
        identity: identity.map(|one| one.uri().to_owned()),
        mode_decided_by: decided.unwrap_or_default().iter().map(ObjectRef::to_string).collect(),
        ports: ports(object, about.as_ref(), told.map(|told| &**told)),
        waypoints: mesh.waypoint_rows(gateways(about.as_ref(), &services).iter()),
        services: services.iter().map(|(member, service)| service_row(member, service)).collect(),
        policies,
        routes: routes.into_iter().map(ObjectRef::to_string).collect(),
        conditions,
        not_in_effect,
    })
}

impl Mesh {
    fn services_before<'a>(&self, about: &'a about::Pod) -> Vec<(&'a Member, about::Service)> {
        let each = about
            .services
            .iter()
            .filter_map(|member| Some((member, self.translator.about_service(&member.service)?)));
        each.collect()
    }
}

fn service_row(member: &Member, service: &about::Service) -> ServiceRow {
    let ports = member.ports.iter().map(|(port, target)| match target {
        Some(target) => format!("{port} -> {target}"),
        None => format!("{port} -> ?"),
    });
    ServiceRow {
        service: full(&member.service),
        ports: ports.collect(),
        waypoint: service.waypoint.as_ref().map(full),
    }
}

/// Those that may stand before it, and those before its Services.
fn gateways(about: Option<&about::Pod>, services: &[(&Member, about::Service)]) -> BTreeSet<Key> {
    let own = about.into_iter().flat_map(|about| &about.waypoints);
    let own = own.map(|one| Key::new(one.namespace(), one.service_account()));
    own.chain(services.iter().filter_map(|(_, service)| service.waypoint.clone())).collect()
}

/// The objects whose conditions tell of it.
fn concerned(
    pod: &Key,
    about: Option<&about::Pod>,
    services: &[(&Member, about::Service)],
) -> BTreeSet<ObjectRef> {
    let own = ObjectRef::new(Kind::Pod, &pod.namespace, &pod.name);
    let of_pod = about.into_iter().flat_map(|about| {
        let policies = about.policies.iter().map(|one| one.policy.clone());
        policies.chain(about.mode.decided_by.iter().cloned())
    });
    let of_services = services.iter().flat_map(|(member, service)| {
        let own = ObjectRef::new(Kind::Service, &member.service.namespace, &member.service.name);
        let policies = service.policies.iter().map(|one| one.policy.clone());
        std::iter::once(own).chain(policies).chain(service.routes.iter().cloned())
    });
    let gateways = gateways(about, services)
        .into_iter()
        .map(|gateway| ObjectRef::new(Kind::Gateway, &gateway.namespace, &gateway.name));
    std::iter::once(own).chain(of_pod).chain(of_services).chain(gateways).collect()
}

/// The ports it declares, those that Services lead to, and those that something is said of.
fn ports(object: &Object, about: Option<&about::Pod>, told: Option<&Workload>) -> Vec<PortRow> {
    let declared = object.serving_containers().flat_map(|container| &container.ports);
    let declared = declared.filter(|port| port.protocol == Protocol::Tcp).map(|port| port.container_port);
    let mut ports: BTreeMap<u16, Vec<String>> = declared.map(|port| (port, Vec::new())).collect();
    let Some(about) = about else { return Vec::new() };
    for member in &about.services {
        for (port, target) in &member.ports {
            let services = target.map(|target| ports.entry(target).or_default());
            if let Some(services) = services {
                services.push(format!("{}:{port}", full(&member.service)));
            }
        }
    }
    let said = about.mode.except.iter().copied().chain(about.locks.iter().filter_map(|lock| lock.port));
    for port in said {
        ports.entry(port).or_default();
    }
    let is_in = told.is_some_and(|told| told.tunnel == TunnelProtocol::Hbone);
    let rows = ports.into_iter().map(|(port, services)| PortRow {
        port,
        services,
        mode: is_in.then(|| about.mode.word(port)),
        locked_to: about.locked_to(port).filter(|_| is_in).map(|waypoints| names(&waypoints)),
    });
    rows.collect()
}

/// `namespace/name` of waypoints.
fn names(waypoints: &BTreeSet<Identity>) -> Vec<String> {
    waypoints.iter().map(|one| format!("{}/{}", one.namespace(), one.service_account())).collect()
}
