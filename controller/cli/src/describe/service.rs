//! One Service.

use std::collections::BTreeSet;

use ambit_api::service::{AppProtocol, ServicePort};
use ambit_api::workload::TunnelProtocol;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::pod::IntOrString;
use ambit_crds::service::{Addressing, Service as Object};
use controller::objects::Key;
use controller::translate::about::{Lockedness, Pod as AboutPod, Service as About};
use serde::Serialize;

use super::rows::{ConditionRow, PolicyRow, WaypointRow, full, section};
use crate::failure::Failure;
use crate::mesh::Mesh;
use crate::mesh::name::Found;
use crate::output::{Page, Row, Show};

/// Everything about a Service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Description {
    kind: &'static str,
    name: String,
    hostname: Option<String>,
    addresses: Vec<String>,
    /// The Gateway that stands before it.
    waypoint: Option<String>,
    /// Why its pods' ports are closed to all but waypoints; none where they are not.
    locked: Option<&'static str>,
    ports: Vec<PortRow>,
    pods: Vec<PodRow>,
    waypoints: Vec<WaypointRow>,
    policies: Vec<PolicyRow>,
    routes: Vec<String>,
    conditions: Vec<ConditionRow>,
    not_in_effect: Vec<ConditionRow>,
}

/// One of its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortRow {
    port: u16,
    name: String,
    target: String,
    /// What a waypoint takes it for.
    protocol: &'static str,
}

/// One of its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodRow {
    pod: String,
    node: String,
    ready: bool,
    in_mesh: bool,
    identity: Option<String>,
    /// What becomes of plain text: STRICT or PERMISSIVE, with ports for which the opposite holds.
    mode: Option<String>,
}

impl Row for PortRow {
    const HEAD: &'static [&'static str] = &["PORT", "NAME", "TARGET", "PROTOCOL"];

    fn cells(&self) -> Vec<String> {
        let name = if self.name.is_empty() { "-" } else { &self.name };
        vec![self.port.to_string(), name.to_owned(), self.target.clone(), self.protocol.to_owned()]
    }
}

impl Row for PodRow {
    const HEAD: &'static [&'static str] = &["POD", "NODE", "READY", "IN MESH", "MODE", "IDENTITY"];

    fn cells(&self) -> Vec<String> {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let (ready, in_mesh) = (yes(self.ready), yes(self.in_mesh));
        vec![self.pod.clone(), self.node.clone(), ready, in_mesh, or(&self.mode), or(&self.identity)]
    }
}

impl Show for Description {
    fn show(&self, page: &mut Page) {
        page.section(&format!("Service {}", self.name), |page| {
            let address = match self.addresses.as_slice() {
                [] => "none: it is headless".to_owned(),
                some => some.join(", "),
            };
            let waypoint = self.waypoint.clone().unwrap_or_else(|| "none".to_owned());
            let locked = match self.locked {
                Some(why) => format!("yes, {why}: its pods let only waypoints in"),
                None => "no".to_owned(),
            };
            page.fields(&[
                (
                    "host name",
                    vec![self.hostname.clone().unwrap_or_else(|| "none: nobody is told of it".to_owned())],
                ),
                ("address", vec![address]),
                ("waypoint", vec![waypoint]),
                ("locked", vec![locked]),
            ]);
        });
        section(page, "Ports:", &self.ports, "none");
        section(page, "Pods:", &self.pods, "none");
        section(page, "Waypoints:", &self.waypoints, "");
        section(page, "Policies:", &self.policies, "none");
        if !self.routes.is_empty() {
            page.section("Routes that name it:", |page| {
                self.routes.iter().for_each(|route| page.line(route));
            });
        }
        section(page, "In effect:", &self.conditions, "");
        section(page, "Not in effect:", &self.not_in_effect, "");
    }
}

/// Describes a Service.
pub(super) fn describe(mesh: &Mesh, found: &Found) -> Result<Description, Failure> {
    let key = Key::new(&found.namespace, &found.name);
    let object = mesh.service(&found.namespace, &found.name).zip(mesh.translator.about_service(&key));
    let gone = || Failure::new(format!("service {} is gone", found.full()), "ask again");
    let (object, about) = object.ok_or_else(gone)?;
    let told =
        mesh.world.mesh.services.iter().find(|entry| {
            *entry.service.key.namespace == *found.namespace && entry.service.name == found.name
        });
    let pods: Vec<(&Key, AboutPod)> =
        about.pods.iter().filter_map(|pod| Some((pod, mesh.translator.about_pod(pod)?))).collect();
    let mut policies = mesh.target_policies(&about);
    for (pod, about_pod) in &pods {
        let node = mesh.pod(&pod.namespace, &pod.name).map(|pod| pod.spec.node_name.as_str());
        policies.extend(mesh.endpoint_policies(about_pod, node.unwrap_or_default()));
    }
    let mut seen = Vec::new();
    policies.retain(|row| {
        let new = !seen.contains(row);
        seen.push(row.clone());
        new
    });
    let (conditions, not_in_effect) = mesh.said(&concerned(&key, &about, &pods), &found.namespace);
    Ok(Description {
        kind: "Service",
        name: found.full(),
        hostname: told.map(|entry| entry.service.key.hostname.to_string()),
        addresses: match object.addressing() {
            Addressing::Virtual(ips) => ips.iter().map(ToString::to_string).collect(),
            Addressing::Headless | Addressing::Unassigned => Vec::new(),
        },
        locked: about.locked.map(|locked| match locked {
            Lockedness::Policies => "by the policies attached to it",
            Lockedness::Annotation => "by its annotation ambit.mesh/waypoint-only",
        }),
        ports: ports(object, told.map(|entry| entry.service.ports.as_slice()).unwrap_or_default()),
        pods: pods.iter().map(|(pod, about)| mesh.pod_row(pod, about)).collect(),
        waypoints: mesh.waypoint_rows(about.waypoint.iter()),
        waypoint: about.waypoint.as_ref().map(full),
        routes: about.routes.iter().map(ObjectRef::to_string).collect(),
        policies,
        conditions,
        not_in_effect,
    })
}

impl Mesh {
    fn pod_row(&self, pod: &Key, about: &AboutPod) -> PodRow {
        let object = self.pod(&pod.namespace, &pod.name);
        let told =
            self.world.mesh.workloads.by_pod(&pod.namespace.as_str().into(), &pod.name.as_str().into());
        let in_mesh = told.is_some_and(|told| told.tunnel == TunnelProtocol::Hbone);
        let identity = told.and_then(|told| told.identity()).filter(|_| in_mesh);
        let mode = if about.mode.strict { "STRICT" } else { "PERMISSIVE" };
        let except: Vec<String> = about.mode.except.iter().map(u16::to_string).collect();
        let mode = match except.as_slice() {
            [] => mode.to_owned(),
            ports => format!("{mode} except {}", ports.join(", ")),
        };
        PodRow {
            pod: full(pod),
            node: object.map(|pod| pod.spec.node_name.clone()).unwrap_or_default(),
            ready: object.is_some_and(ambit_crds::pod::Pod::is_ready),
            in_mesh,
            identity: identity.map(|one| one.uri().to_owned()),
            mode: in_mesh.then_some(mode),
        }
    }
}

fn ports(object: &Object, told: &[ServicePort]) -> Vec<PortRow> {
    let rows = object.spec.ports.iter().map(|port| PortRow {
        port: port.port,
        name: port.name.clone(),
        target: match port.target() {
            IntOrString::Number(number) => number.to_string(),
            IntOrString::Name(name) => name,
        },
        protocol: match told.iter().find(|one| one.service_port == port.port).map(|one| one.protocol) {
            None => "not served",
            Some(AppProtocol::Unknown) => "as the client speaks",
            Some(AppProtocol::Http11) => "HTTP/1.1",
            Some(AppProtocol::Http2) => "HTTP/2",
            Some(AppProtocol::Grpc) => "gRPC",
            Some(AppProtocol::Tcp) => "TCP",
            Some(AppProtocol::Tls) => "TLS",
        },
    });
    rows.collect()
}

/// The objects whose conditions tell of it.
fn concerned(service: &Key, about: &About, pods: &[(&Key, AboutPod)]) -> BTreeSet<ObjectRef> {
    let own = ObjectRef::new(Kind::Service, &service.namespace, &service.name);
    let policies = about.policies.iter().map(|one| one.policy.clone());
    let of_pods = pods.iter().flat_map(|(_, pod)| {
        let policies = pod.policies.iter().map(|one| one.policy.clone());
        policies.chain(pod.mode.decided_by.iter().cloned())
    });
    let gateway = about.waypoint.iter();
    let gateway = gateway.map(|one| ObjectRef::new(Kind::Gateway, &one.namespace, &one.name));
    let routes = about.routes.iter().cloned();
    std::iter::once(own).chain(policies).chain(of_pods).chain(gateway).chain(routes).collect()
}
