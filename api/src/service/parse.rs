//! Services, and the gateway addresses they share with workloads, between wire and model.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    AppProtocol, BalanceMode, GatewayAddress, GatewayDestination, HealthPolicy, IpFamilies, LoadBalancing,
    Scope, Service, ServiceKey, ServicePort, Vip, Visibility, WeightedWaypoint,
};
use crate::invalid::{self, InvalidField, Problem};
use crate::wire::workload as wire;
use crate::workload::{Network, NetworkAddress};

/// Why a service is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("service {key}: {fault}")]
pub struct InvalidService {
    /// The service's name, as far as it has one.
    pub key: ServiceKey,
    /// The field at fault.
    pub fault: InvalidField,
}

/// What a gateway without a port means.
const HBONE_PORT: u16 = 15008;

impl TryFrom<wire::Service> for Service {
    type Error = InvalidService;

    fn try_from(wire: wire::Service) -> Result<Self, InvalidService> {
        let key = ServiceKey::new(&wire.namespace, &wire.hostname);
        parse(wire, key.clone()).map_err(|fault| InvalidService { key, fault })
    }
}

fn parse(wire: wire::Service, key: ServiceKey) -> Result<Service, InvalidField> {
    if wire.hostname.is_empty() {
        return Err(Problem::Missing.of("hostname"));
    }
    let vips = wire.addresses.iter().map(vip);
    let ports = wire.ports.iter().map(service_port);
    let waypoints = wire.weighted_waypoints.into_iter().map(weighted);
    Ok(Service {
        key,
        name: wire.name,
        vips: vips.collect::<Result<_, _>>().map_err(|problem| problem.of("addresses"))?,
        ports: ports.collect::<Result<_, _>>().map_err(|problem| problem.of("ports"))?,
        // A name that is no identity of ours cannot be presented to us either: leaving it out only accepts less.
        subject_alt_names: wire.subject_alt_names.iter().filter_map(|name| name.parse().ok()).collect(),
        waypoint: wire
            .waypoint
            .map(GatewayAddress::try_from)
            .transpose()
            .map_err(|problem| problem.of("waypoint"))?,
        load_balancing: load_balancing(wire.load_balancing.unwrap_or_default())?,
        ip_families: ip_families(wire.ip_families).map_err(|problem| problem.of("ip_families"))?,
        canonical: wire.canonical,
        ingress_use_waypoint: wire.ingress_use_waypoint,
        weighted_waypoints: waypoints
            .collect::<Result<_, _>>()
            .map_err(|problem| problem.of("weighted_waypoints"))?,
        visibility: visibility(wire.visibility),
    })
}

fn vip(wire: &wire::NetworkAddress) -> Result<Vip, Problem> {
    let prefix = match wire.length {
        Some(length) => invalid::prefix(&wire.address, length)?,
        None => IpNet::from(invalid::address(&wire.address)?),
    };
    Ok(Vip { network: Network(wire.network.as_str().into()), prefix })
}

fn service_port(wire: &wire::Port) -> Result<ServicePort, Problem> {
    Ok(ServicePort {
        service_port: invalid::port(wire.service_port)?,
        target_port: invalid::port(wire.target_port)?,
        protocol: protocol(wire.app_protocol),
    })
}

/// A protocol we do not know is carried like any other.
fn protocol(value: i32) -> AppProtocol {
    match wire::AppProtocol::try_from(value) {
        Ok(wire::AppProtocol::Unknown) | Err(_) => AppProtocol::Unknown,
        Ok(wire::AppProtocol::Http11) => AppProtocol::Http11,
        Ok(wire::AppProtocol::Http2) => AppProtocol::Http2,
        Ok(wire::AppProtocol::Grpc) => AppProtocol::Grpc,
        Ok(wire::AppProtocol::Tcp) => AppProtocol::Tcp,
        Ok(wire::AppProtocol::Tls) => AppProtocol::Tls,
    }
}

fn weighted(wire: wire::WeightedWaypoint) -> Result<WeightedWaypoint, Problem> {
    let waypoint = wire.destination.ok_or(Problem::Missing)?.try_into()?;
    Ok(WeightedWaypoint { waypoint, weight: wire.weight })
}

fn load_balancing(wire: wire::LoadBalancing) -> Result<LoadBalancing, InvalidField> {
    let scopes = wire.routing_preference.iter().filter_map(|value| scope(*value).transpose());
    Ok(LoadBalancing {
        scopes: scopes.collect::<Result<_, _>>().map_err(|problem| problem.of("routing_preference"))?,
        mode: mode(wire.mode).map_err(|problem| problem.of("load_balancing.mode"))?,
        // An unready endpoint is chosen only where that is asked for in words we know.
        health: match wire::load_balancing::HealthPolicy::try_from(wire.health_policy) {
            Ok(wire::load_balancing::HealthPolicy::AllowAll) => HealthPolicy::AllowAll,
            Ok(wire::load_balancing::HealthPolicy::OnlyHealthy) | Err(_) => HealthPolicy::OnlyHealthy,
        },
    })
}

fn scope(value: i32) -> Result<Option<Scope>, Problem> {
    Ok(Some(match wire::load_balancing::Scope::try_from(value) {
        Ok(wire::load_balancing::Scope::UnspecifiedScope) => return Ok(None),
        Ok(wire::load_balancing::Scope::Region) => Scope::Region,
        Ok(wire::load_balancing::Scope::Zone) => Scope::Zone,
        Ok(wire::load_balancing::Scope::Subzone) => Scope::Subzone,
        Ok(wire::load_balancing::Scope::Node) => Scope::Node,
        Ok(wire::load_balancing::Scope::Cluster) => Scope::Cluster,
        Ok(wire::load_balancing::Scope::Network) => Scope::Network,
        Err(_) => return Err(Problem::Value(value)),
    }))
}

fn mode(value: i32) -> Result<BalanceMode, Problem> {
    match wire::load_balancing::Mode::try_from(value) {
        Ok(wire::load_balancing::Mode::UnspecifiedMode) => Ok(BalanceMode::Any),
        Ok(wire::load_balancing::Mode::Strict) => Ok(BalanceMode::Strict),
        Ok(wire::load_balancing::Mode::Failover) => Ok(BalanceMode::Failover),
        Ok(wire::load_balancing::Mode::Passthrough) => Ok(BalanceMode::Passthrough),
        Err(_) => Err(Problem::Value(value)),
    }
}

fn ip_families(value: i32) -> Result<IpFamilies, Problem> {
    match wire::IpFamilies::try_from(value) {
        Ok(wire::IpFamilies::Automatic) => Ok(IpFamilies::Automatic),
        Ok(wire::IpFamilies::Ipv4Only) => Ok(IpFamilies::V4Only),
        Ok(wire::IpFamilies::Ipv6Only) => Ok(IpFamilies::V6Only),
        Ok(wire::IpFamilies::Dual) => Ok(IpFamilies::Dual),
        Err(_) => Err(Problem::Value(value)),
    }
}

/// A visibility we do not know is narrower than public.
fn visibility(value: i32) -> Visibility {
    match wire::Visibility::try_from(value) {
        Ok(wire::Visibility::Public) => Visibility::Public,
        Ok(wire::Visibility::Namespace) | Err(_) => Visibility::Namespace,
    }
}

impl TryFrom<wire::GatewayAddress> for GatewayAddress {
    type Error = Problem;

    fn try_from(wire: wire::GatewayAddress) -> Result<Self, Problem> {
        let destination = match wire.destination.ok_or(Problem::Missing)? {
            wire::gateway_address::Destination::Hostname(name) if name.hostname.is_empty() => {
                return Err(Problem::Missing);
            }
            wire::gateway_address::Destination::Hostname(name) => {
                GatewayDestination::Service(ServiceKey::new(&name.namespace, &name.hostname))
            }
            wire::gateway_address::Destination::Address(address) => {
                let ip = invalid::address(&address.address)?;
                GatewayDestination::Address(NetworkAddress::new(Network(address.network.into()), ip))
            }
        };
        let port = invalid::port(wire.hbone_mtls_port)?;
        Ok(Self { destination, hbone_port: if port == 0 { HBONE_PORT } else { port } })
    }
}

impl From<&GatewayAddress> for wire::GatewayAddress {
    fn from(model: &GatewayAddress) -> Self {
        let destination = match &model.destination {
            GatewayDestination::Service(key) => {
                wire::gateway_address::Destination::Hostname(wire::NamespacedHostname {
                    namespace: key.namespace.to_string(),
                    hostname: key.hostname.to_string(),
                })
            }
            GatewayDestination::Address(address) => wire::gateway_address::Destination::Address(
                network_address(&address.network, address.ip, None),
            ),
        };
        Self { destination: Some(destination), hbone_mtls_port: model.hbone_port.into() }
    }
}

impl From<&Service> for wire::Service {
    fn from(model: &Service) -> Self {
        let balancing = &model.load_balancing;
        Self {
            name: model.name.clone(),
            namespace: model.key.namespace.to_string(),
            hostname: model.key.hostname.to_string(),
            addresses: model.vips.iter().map(Into::into).collect(),
            ports: model.ports.iter().map(Into::into).collect(),
            subject_alt_names: model.subject_alt_names.iter().map(ToString::to_string).collect(),
            waypoint: model.waypoint.as_ref().map(Into::into),
            load_balancing: (*balancing != LoadBalancing::default()).then(|| balancing.into()),
            ip_families: wire::IpFamilies::from(model.ip_families).into(),
            extensions: Vec::new(),
            canonical: model.canonical,
            ingress_use_waypoint: model.ingress_use_waypoint,
            weighted_waypoints: model.weighted_waypoints.iter().map(Into::into).collect(),
            visibility: wire::Visibility::from(model.visibility).into(),
        }
    }
}

fn network_address(network: &Network, address: IpAddr, length: Option<u32>) -> wire::NetworkAddress {
    wire::NetworkAddress { network: network.0.to_string(), address: invalid::bytes(address), length }
}

impl From<&Vip> for wire::NetworkAddress {
    fn from(model: &Vip) -> Self {
        let length = model.prefix.prefix_len();
        // A single address goes without a length: peers look those up by equality and scan the others.
        let length = (length != model.prefix.max_prefix_len()).then_some(length.into());
        network_address(&model.network, model.prefix.addr(), length)
    }
}

impl From<&ServicePort> for wire::Port {
    fn from(model: &ServicePort) -> Self {
        let app_protocol = match model.protocol {
            AppProtocol::Unknown => wire::AppProtocol::Unknown,
            AppProtocol::Http11 => wire::AppProtocol::Http11,
            AppProtocol::Http2 => wire::AppProtocol::Http2,
            AppProtocol::Grpc => wire::AppProtocol::Grpc,
            AppProtocol::Tcp => wire::AppProtocol::Tcp,
            AppProtocol::Tls => wire::AppProtocol::Tls,
        };
        Self {
            service_port: model.service_port.into(),
            target_port: model.target_port.into(),
            app_protocol: app_protocol.into(),
        }
    }
}

impl From<&WeightedWaypoint> for wire::WeightedWaypoint {
    fn from(model: &WeightedWaypoint) -> Self {
        Self { destination: Some((&model.waypoint).into()), weight: model.weight }
    }
}

impl From<&LoadBalancing> for wire::LoadBalancing {
    fn from(model: &LoadBalancing) -> Self {
        let scope = |scope: &Scope| match scope {
            Scope::Region => wire::load_balancing::Scope::Region,
            Scope::Zone => wire::load_balancing::Scope::Zone,
            Scope::Subzone => wire::load_balancing::Scope::Subzone,
            Scope::Node => wire::load_balancing::Scope::Node,
            Scope::Cluster => wire::load_balancing::Scope::Cluster,
            Scope::Network => wire::load_balancing::Scope::Network,
        };
        let mode = match model.mode {
            BalanceMode::Any => wire::load_balancing::Mode::UnspecifiedMode,
            BalanceMode::Strict => wire::load_balancing::Mode::Strict,
            BalanceMode::Failover => wire::load_balancing::Mode::Failover,
            BalanceMode::Passthrough => wire::load_balancing::Mode::Passthrough,
        };
        let health = match model.health {
            HealthPolicy::OnlyHealthy => wire::load_balancing::HealthPolicy::OnlyHealthy,
            HealthPolicy::AllowAll => wire::load_balancing::HealthPolicy::AllowAll,
        };
        Self {
            routing_preference: model.scopes.iter().map(|known| scope(known).into()).collect(),
            mode: mode.into(),
            health_policy: health.into(),
        }
    }
}

impl From<IpFamilies> for wire::IpFamilies {
    fn from(model: IpFamilies) -> Self {
        match model {
            IpFamilies::Automatic => Self::Automatic,
            IpFamilies::V4Only => Self::Ipv4Only,
            IpFamilies::V6Only => Self::Ipv6Only,
            IpFamilies::Dual => Self::Dual,
        }
    }
}

impl From<Visibility> for wire::Visibility {
    fn from(model: Visibility) -> Self {
        match model {
            Visibility::Public => Self::Public,
            Visibility::Namespace => Self::Namespace,
        }
    }
}
