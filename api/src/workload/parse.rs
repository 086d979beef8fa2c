//! Workloads between wire and model.

use std::collections::BTreeMap;

use super::{
    ApplicationTunnel, Health, Locality, Network, NetworkMode, PortMapping, TunnelProtocol, Uid, Workload,
    WorkloadType,
};
use crate::identity::TrustDomain;
use crate::invalid::{self, InvalidField, Problem};
use crate::policy::PolicyKey;
use crate::service::{GatewayAddress, ServiceKey};
use crate::wire::workload as wire;

/// Why a workload is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("workload {uid:?}: {fault}")]
pub struct InvalidWorkload {
    /// The workload's unique name, as far as it has one.
    pub uid: String,
    /// The field at fault.
    pub fault: InvalidField,
}

impl TryFrom<wire::Workload> for Workload {
    type Error = InvalidWorkload;

    fn try_from(wire: wire::Workload) -> Result<Self, InvalidWorkload> {
        let uid = wire.uid.clone();
        parse(wire).map_err(|fault| InvalidWorkload { uid, fault })
    }
}

fn parse(wire: wire::Workload) -> Result<Workload, InvalidField> {
    if wire.uid.is_empty() {
        return Err(Problem::Missing.of("uid"));
    }
    let tunnel = tunnel(wire.tunnel_protocol).map_err(|problem| problem.of("tunnel_protocol"))?;
    let health = health(wire.status);
    let workload_type = workload_type(wire.workload_type);
    let network_mode = network_mode(wire.network_mode).map_err(|problem| problem.of("network_mode"))?;
    let addresses = wire.addresses.iter().map(|bytes| invalid::address(bytes));
    let policies = wire.authorization_policies.iter().map(|name| policy(name));
    Ok(Workload {
        uid: Uid(wire.uid.into()),
        name: wire.name,
        namespace: wire.namespace,
        service_account: or(wire.service_account, "default"),
        trust_domain: trust_domain(&wire.trust_domain).map_err(|problem| problem.of("trust_domain"))?,
        addresses: addresses.collect::<Result<_, _>>().map_err(|problem| problem.of("addresses"))?,
        hostname: wire.hostname,
        network: Network(wire.network.into()),
        tunnel,
        waypoint: gateway(wire.waypoint, "waypoint")?,
        network_gateway: gateway(wire.network_gateway, "network_gateway")?,
        node: wire.node,
        canonical_name: wire.canonical_name,
        canonical_revision: wire.canonical_revision,
        workload_type,
        workload_name: wire.workload_name,
        native_tunnel: wire.native_tunnel,
        application_tunnel: wire
            .application_tunnel
            .map_or(Ok(None), application_tunnel)
            .map_err(|problem| problem.of("application_tunnel"))?,
        services: services(wire.services)?,
        policies: policies
            .collect::<Result<_, _>>()
            .map_err(|problem| problem.of("authorization_policies"))?,
        health,
        cluster: or(wire.cluster_id, "Kubernetes"),
        locality: locality(wire.locality.unwrap_or_default()),
        network_mode,
        capacity: wire.capacity.unwrap_or(1),
    })
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

fn trust_domain(name: &str) -> Result<TrustDomain, Problem> {
    if name.is_empty() { Ok(TrustDomain::default()) } else { Ok(TrustDomain::new(name)?) }
}

fn tunnel(value: i32) -> Result<TunnelProtocol, Problem> {
    match wire::TunnelProtocol::try_from(value) {
        Ok(wire::TunnelProtocol::None) => Ok(TunnelProtocol::Plain),
        Ok(wire::TunnelProtocol::Hbone) => Ok(TunnelProtocol::Hbone),
        Ok(wire::TunnelProtocol::LegacyIstioMtls) => Err(Problem::Unsupported("sidecars' mutual TLS")),
        Err(_) => Err(Problem::Value(value)),
    }
}

/// A status we do not know is not a promise to serve.
fn health(value: i32) -> Health {
    match wire::WorkloadStatus::try_from(value) {
        Ok(wire::WorkloadStatus::Healthy) => Health::Healthy,
        Ok(wire::WorkloadStatus::Unhealthy) | Err(_) => Health::Unhealthy,
    }
}

/// Telemetry only, so an unknown kind of owner is read as none.
fn workload_type(value: i32) -> WorkloadType {
    match wire::WorkloadType::try_from(value) {
        Ok(wire::WorkloadType::Deployment) => WorkloadType::Deployment,
        Ok(wire::WorkloadType::Cronjob) => WorkloadType::CronJob,
        Ok(wire::WorkloadType::Job) => WorkloadType::Job,
        Ok(wire::WorkloadType::Pod) | Err(_) => WorkloadType::Pod,
    }
}

fn network_mode(value: i32) -> Result<NetworkMode, Problem> {
    match wire::NetworkMode::try_from(value) {
        Ok(wire::NetworkMode::Standard) => Ok(NetworkMode::Standard),
        Ok(wire::NetworkMode::HostNetwork) => Ok(NetworkMode::HostNetwork),
        Err(_) => Err(Problem::Value(value)),
    }
}

fn application_tunnel(wire: wire::ApplicationTunnel) -> Result<Option<ApplicationTunnel>, Problem> {
    match wire::application_tunnel::Protocol::try_from(wire.protocol) {
        Ok(wire::application_tunnel::Protocol::None) => Ok(None),
        Ok(wire::application_tunnel::Protocol::Proxy) => {
            Ok(Some(ApplicationTunnel::Proxy { port: invalid::port(wire.port)? }))
        }
        Err(_) => Err(Problem::Value(wire.protocol)),
    }
}

fn gateway(
    wire: Option<wire::GatewayAddress>,
    field: &'static str,
) -> Result<Option<GatewayAddress>, InvalidField> {
    wire.map(GatewayAddress::try_from).transpose().map_err(|problem| problem.of(field))
}

fn policy(text: &str) -> Result<PolicyKey, Problem> {
    invalid::name(text).map(|(namespace, name)| PolicyKey::new(namespace, name))
}

fn services(
    wire: BTreeMap<String, wire::PortList>,
) -> Result<BTreeMap<ServiceKey, Vec<PortMapping>>, InvalidField> {
    let one = |(name, list): (String, wire::PortList)| {
        let (namespace, hostname) = invalid::name(&name)?;
        let ports = list.ports.iter().map(mapping).collect::<Result<_, _>>()?;
        Ok((ServiceKey::new(namespace, hostname), ports))
    };
    wire.into_iter().map(one).collect::<Result<_, Problem>>().map_err(|problem| problem.of("services"))
}

fn mapping(wire: &wire::Port) -> Result<PortMapping, Problem> {
    Ok(PortMapping {
        service_port: invalid::port(wire.service_port)?,
        target_port: invalid::port(wire.target_port)?,
    })
}

fn locality(wire: wire::Locality) -> Locality {
    Locality { region: wire.region, zone: wire.zone, subzone: wire.subzone }
}

impl From<&Workload> for wire::Workload {
    fn from(model: &Workload) -> Self {
        let locality = &model.locality;
        Self {
            uid: model.uid.to_string(),
            name: model.name.clone(),
            namespace: model.namespace.clone(),
            addresses: model.addresses.iter().map(|address| invalid::bytes(*address)).collect(),
            hostname: model.hostname.clone(),
            network: model.network.0.to_string(),
            tunnel_protocol: wire::TunnelProtocol::from(model.tunnel).into(),
            trust_domain: model.trust_domain.to_string(),
            service_account: model.service_account.clone(),
            waypoint: model.waypoint.as_ref().map(Into::into),
            network_gateway: model.network_gateway.as_ref().map(Into::into),
            node: model.node.clone(),
            canonical_name: model.canonical_name.clone(),
            canonical_revision: model.canonical_revision.clone(),
            workload_type: wire::WorkloadType::from(model.workload_type).into(),
            workload_name: model.workload_name.clone(),
            native_tunnel: model.native_tunnel,
            application_tunnel: model.application_tunnel.map(Into::into),
            services: model.services.iter().map(|(key, ports)| (key.to_string(), port_list(ports))).collect(),
            authorization_policies: model.policies.iter().map(ToString::to_string).collect(),
            status: wire::WorkloadStatus::from(model.health).into(),
            cluster_id: model.cluster.clone(),
            locality: (*locality != Locality::default()).then(|| locality.into()),
            network_mode: wire::NetworkMode::from(model.network_mode).into(),
            extensions: Vec::new(),
            capacity: Some(model.capacity),
        }
    }
}

fn port_list(ports: &[PortMapping]) -> wire::PortList {
    let port = |mapping: &PortMapping| wire::Port {
        service_port: mapping.service_port.into(),
        target_port: mapping.target_port.into(),
        app_protocol: wire::AppProtocol::Unknown.into(),
    };
    wire::PortList { ports: ports.iter().map(port).collect() }
}

impl From<&Locality> for wire::Locality {
    fn from(model: &Locality) -> Self {
        Self { region: model.region.clone(), zone: model.zone.clone(), subzone: model.subzone.clone() }
    }
}

impl From<TunnelProtocol> for wire::TunnelProtocol {
    fn from(model: TunnelProtocol) -> Self {
        match model {
            TunnelProtocol::Plain => Self::None,
            TunnelProtocol::Hbone => Self::Hbone,
        }
    }
}

impl From<WorkloadType> for wire::WorkloadType {
    fn from(model: WorkloadType) -> Self {
        match model {
            WorkloadType::Deployment => Self::Deployment,
            WorkloadType::CronJob => Self::Cronjob,
            WorkloadType::Pod => Self::Pod,
            WorkloadType::Job => Self::Job,
        }
    }
}

impl From<Health> for wire::WorkloadStatus {
    fn from(model: Health) -> Self {
        match model {
            Health::Healthy => Self::Healthy,
            Health::Unhealthy => Self::Unhealthy,
        }
    }
}

impl From<NetworkMode> for wire::NetworkMode {
    fn from(model: NetworkMode) -> Self {
        match model {
            NetworkMode::Standard => Self::Standard,
            NetworkMode::HostNetwork => Self::HostNetwork,
        }
    }
}

impl From<ApplicationTunnel> for wire::ApplicationTunnel {
    fn from(model: ApplicationTunnel) -> Self {
        let ApplicationTunnel::Proxy { port } = model;
        Self { protocol: wire::application_tunnel::Protocol::Proxy.into(), port: port.into() }
    }
}
