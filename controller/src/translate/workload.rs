//! Pod (or an endpoint that is no pod) → `istio.workload.Workload`.

use std::net::IpAddr;

use ambit_api::wire::workload::{
    Address, Locality, NetworkMode, Port, PortList, TunnelProtocol, Workload, WorkloadStatus, WorkloadType,
    address,
};
use ambit_crds::endpoint_slice::{AddressType, Endpoint, EndpointSlice};
use ambit_crds::meta::ObjectMeta;
use ambit_crds::node::Node;
use ambit_crds::pod::{Pod, Protocol};
use ambit_crds::service::Service;
use prost::Message as _;

use super::attach::Lead;
use super::members::Membership;
use super::names::{Names, octets};
use crate::snapshot::Resource;

/// Written by the node agent once a pod's ztunnel has accepted it.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// The trust domain a Workload without one belongs to.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// What a pod's Workload is made of besides the pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) names: &'a Names,
    pub(crate) trust_domain: &'a str,
    pub(crate) node: Option<&'a Node>,
    pub(crate) members: &'a [Membership],
    pub(crate) policies: &'a [String],
    pub(crate) lead: &'a Lead,
}

/// Whether a pod is part of the data plane: it runs and has an address.
pub(crate) fn is_present(pod: &Pod) -> bool {
    !pod.is_terminal() && !pod.ips().is_empty()
}

/// Whether a pod's traffic is in the mesh.
pub(crate) fn is_enrolled(pod: &Pod) -> bool {
    !pod.spec.host_network && pod.meta.annotation(REDIRECTION) == Some("enabled")
}

/// A pod's resource.
pub(crate) fn of_pod(pod: &Pod, around: &Surroundings<'_>) -> Resource {
    let (meta, names) = (&pod.meta, around.names);
    let owner = owner(pod);
    let healthy = pod.is_ready() && !meta.is_terminating();
    let message = Workload {
        uid: names.pod(&meta.namespace, &meta.name),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        addresses: pod.ips().into_iter().map(octets).collect(),
        network: names.network.clone(),
        tunnel_protocol: if is_enrolled(pod) { TunnelProtocol::Hbone } else { TunnelProtocol::None }.into(),
        trust_domain: written_trust_domain(around.trust_domain),
        service_account: pod.service_account().to_owned(),
        node: pod.spec.node_name.clone(),
        canonical_name: canonical_name(meta, &owner.name),
        canonical_revision: canonical_revision(meta),
        workload_type: owner.kind.into(),
        workload_name: owner.name,
        services: around.members.iter().map(|member| (names_of(member, names), port_list(member))).collect(),
        authorization_policies: around.policies.to_vec(),
        waypoint: names.leads(around.lead).next(),
        status: status(healthy).into(),
        cluster_id: names.cluster.clone(),
        locality: around.node.and_then(|node| locality(&node.meta)),
        network_mode: network_mode(pod.spec.host_network).into(),
        ..Workload::default()
    };
    // Pods of the node's network share its address, which therefore finds none of them.
    let aliases = if pod.spec.host_network { Vec::new() } else { pod.ips() };
    resource(message, aliases.into_iter().map(|ip| names.alias(ip)).collect())
}

/// The resources of a slice's endpoints that are no pods, for a Service without a selector.
pub(crate) fn of_slice(slice: &EndpointSlice, service: &Service, around: &Surroundings<'_>) -> Vec<Resource> {
    if slice.spec.address_type == AddressType::Fqdn || !service.spec.selector.is_empty() {
        return Vec::new();
    }
    let strangers = slice.spec.endpoints.iter().filter(|endpoint| !is_pod(endpoint));
    strangers.filter_map(|endpoint| of_endpoint(slice, service, endpoint, around)).collect()
}

fn of_endpoint(
    slice: &EndpointSlice,
    service: &Service,
    endpoint: &Endpoint,
    around: &Surroundings<'_>,
) -> Option<Resource> {
    let (meta, names) = (&slice.meta, around.names);
    // Kubernetes reads the first address and no other.
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let member = Membership::by_slice(service, slice);
    let message = Workload {
        uid: names.endpoint(&meta.namespace, &meta.name, &ip.to_string()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        addresses: vec![octets(ip.to_canonical())],
        network: names.network.clone(),
        trust_domain: written_trust_domain(around.trust_domain),
        node: endpoint.node_name.clone(),
        services: [(names_of(&member, names), port_list(&member))].into(),
        status: status(endpoint.conditions.is_ready()).into(),
        cluster_id: names.cluster.clone(),
        // Nothing is known of who else has this address, so it is never looked up by it.
        network_mode: NetworkMode::HostNetwork.into(),
        ..Workload::default()
    };
    Some(resource(message, Vec::new()))
}

/// Whether an endpoint stands for a pod, which speaks for itself.
pub(crate) fn is_pod(endpoint: &Endpoint) -> bool {
    endpoint.target_ref.as_ref().is_some_and(|target| target.kind == "Pod")
}

/// The pod's declared TCP ports.
pub(crate) fn container_ports(pod: &Pod) -> impl Iterator<Item = u16> {
    let ports = pod.serving_containers().flat_map(|container| &container.ports);
    ports.filter(|port| port.protocol == Protocol::Tcp).map(|port| port.container_port)
}

struct Owner {
    kind: WorkloadType,
    name: String,
}

/// The object a person would name as the pod's owner.
fn owner(pod: &Pod) -> Owner {
    let meta = &pod.meta;
    let (kind, name) = match &meta.owner {
        None => (WorkloadType::Pod, meta.name.clone()),
        Some(owner) => match owner.kind.as_str() {
            "ReplicaSet" => of_replica_set(&owner.name, meta.label("pod-template-hash")),
            "Deployment" => (WorkloadType::Deployment, owner.name.clone()),
            "CronJob" => (WorkloadType::Cronjob, owner.name.clone()),
            "Job" => of_job(&owner.name),
            _ => (WorkloadType::Pod, owner.name.clone()),
        },
    };
    let name = meta.label("service.istio.io/workload-name").map_or(name, str::to_owned);
    Owner { kind, name }
}

fn of_replica_set(name: &str, hash: Option<&str>) -> (WorkloadType, String) {
    let deployment = hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
    match deployment {
        Some(deployment) if !deployment.is_empty() => (WorkloadType::Deployment, deployment.to_owned()),
        _ => (WorkloadType::Pod, name.to_owned()),
    }
}

/// A CronJob names its Jobs after itself and the scheduled minute.
fn of_job(name: &str) -> (WorkloadType, String) {
    match name.rsplit_once('-') {
        Some((cron, minute))
            if (8..=10).contains(&minute.len()) && minute.bytes().all(|c| c.is_ascii_digit()) =>
        {
            (WorkloadType::Cronjob, cron.to_owned())
        }
        _ => (WorkloadType::Job, name.to_owned()),
    }
}

fn canonical_name(meta: &ObjectMeta, workload: &str) -> String {
    let keys = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
    keys.iter().find_map(|key| meta.label(key)).unwrap_or(workload).to_owned()
}

fn canonical_revision(meta: &ObjectMeta) -> String {
    let keys = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    keys.iter().find_map(|key| meta.label(key)).unwrap_or("latest").to_owned()
}

fn locality(node: &ObjectMeta) -> Option<Locality> {
    let label = |keys: &[&str]| keys.iter().find_map(|key| node.label(key)).unwrap_or_default().to_owned();
    let locality = Locality {
        region: label(&["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]),
        zone: label(&["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
        subzone: label(&["topology.istio.io/subzone"]),
    };
    (locality != Locality::default()).then_some(locality)
}

fn status(healthy: bool) -> WorkloadStatus {
    if healthy { WorkloadStatus::Healthy } else { WorkloadStatus::Unhealthy }
}

fn network_mode(host: bool) -> NetworkMode {
    if host { NetworkMode::HostNetwork } else { NetworkMode::Standard }
}

fn written_trust_domain(domain: &str) -> String {
    if domain == DEFAULT_TRUST_DOMAIN { String::new() } else { domain.to_owned() }
}

fn names_of(member: &Membership, names: &Names) -> String {
    names.service(&member.namespace, &member.service)
}

fn port_list(member: &Membership) -> PortList {
    let ports = member.ports.iter().filter_map(|(service, target)| Some((*service, (*target)?)));
    PortList {
        ports: ports
            .map(|(service, target)| Port {
                service_port: u32::from(service),
                target_port: u32::from(target),
                app_protocol: 0,
            })
            .collect(),
    }
}

fn resource(message: Workload, aliases: Vec<String>) -> Resource {
    let name = message.uid.clone();
    let body = Address { r#type: Some(address::Type::Workload(message)) }.encode_to_vec();
    Resource::new(name, aliases, body.into())
}
