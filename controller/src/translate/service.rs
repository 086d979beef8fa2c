//! Service → `istio.workload.Service`: names, virtual addresses, ports, choice of endpoints.

use ambit_api::wire::workload::load_balancing::{HealthPolicy, Mode, Scope};
use ambit_api::wire::workload::{
    Address, AppProtocol, IpFamilies, LoadBalancing, NetworkAddress, Port, Service as WireService,
    WeightedWaypoint, address,
};
use ambit_crds::pod::{IntOrString, Protocol};
use ambit_crds::service::{Addressing, InternalTrafficPolicy, IpFamily, Service, ServicePort, ServiceType};
use prost::Message as _;

use super::attach::Lead;
use super::names::{Names, octets};
use crate::snapshot::Resource;

/// The annotation older clusters write instead of `spec.trafficDistribution`.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// Our ingress goes through the Service's waypoint too.
const INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";

/// Whether the mesh carries traffic to this Service at all.
pub(crate) fn is_served(service: &Service) -> bool {
    service.spec.kind != ServiceType::ExternalName
}

/// A Service's TCP ports; the mesh carries no other.
pub(crate) fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service.spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp)
}

/// The Service's resource; `None` when the mesh does not carry its traffic.
pub(crate) fn translate(service: &Service, names: &Names, lead: &Lead) -> Option<Resource> {
    if !is_served(service) {
        return None;
    }
    let meta = &service.meta;
    let ips = match service.addressing() {
        Addressing::Virtual(ips) => ips,
        Addressing::Headless | Addressing::Unassigned => Vec::new(),
    };
    let message = WireService {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        hostname: names.hostname(&meta.namespace, &meta.name),
        addresses: ips
            .iter()
            .map(|ip| NetworkAddress { network: names.network.clone(), address: octets(*ip), length: None })
            .collect(),
        ports: tcp_ports(service).map(port).collect(),
        load_balancing: load_balancing(service),
        ip_families: ip_families(service).into(),
        canonical: true,
        waypoint: names.leads(lead).next(),
        ingress_use_waypoint: service.meta.label(INGRESS_USE_WAYPOINT) == Some("true"),
        weighted_waypoints: weighted(lead, names),
        ..WireService::default()
    };
    let body = Address { r#type: Some(address::Type::Service(message)) }.encode_to_vec();
    let aliases = ips.iter().map(|ip| names.alias(*ip)).collect();
    Some(Resource::new(names.service(&meta.namespace, &meta.name), aliases, body.into()))
}

/// None where there is no choice.
fn weighted(lead: &Lead, names: &Names) -> Vec<WeightedWaypoint> {
    if lead.0.len() < 2 {
        return Vec::new();
    }
    let weights = lead.0.iter().map(|(_, weight)| *weight);
    let each = names.leads(lead).zip(weights);
    each.map(|(destination, weight)| WeightedWaypoint { destination: Some(destination), weight }).collect()
}

fn port(port: &ServicePort) -> Port {
    let target_port = match port.target() {
        IntOrString::Number(number) => u32::from(number),
        // Every endpoint may give the name another number; each says so itself.
        IntOrString::Name(_) => 0,
    };
    Port { service_port: u32::from(port.port), target_port, app_protocol: app_protocol(port).into() }
}

/// `appProtocol`, else the part of the port's name before its first dash.
pub(crate) fn app_protocol(port: &ServicePort) -> AppProtocol {
    let declared = port.app_protocol.to_ascii_lowercase();
    let text = match declared.as_str() {
        "" => port.name.to_ascii_lowercase(),
        other => other.to_owned(),
    };
    match text.as_str() {
        "kubernetes.io/h2c" | "istio.io/h2c" => return AppProtocol::Http2,
        "kubernetes.io/ws" => return AppProtocol::Http11,
        "kubernetes.io/wss" => return AppProtocol::Tls,
        _ => {}
    }
    // `grpc-web` is HTTP/1.1 on the wire, whatever its prefix says.
    if text.starts_with("grpc-web") {
        return AppProtocol::Http11;
    }
    match text.split('-').next().unwrap_or_default() {
        "http" => AppProtocol::Http11,
        "http2" | "h2c" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "tcp" | "mongo" | "redis" | "mysql" => AppProtocol::Tcp,
        "tls" | "https" => AppProtocol::Tls,
        _ => AppProtocol::Unknown,
    }
}

fn load_balancing(service: &Service) -> Option<LoadBalancing> {
    let spec = &service.spec;
    let annotated = service.meta.annotation(TRAFFIC_DISTRIBUTION).unwrap_or_default();
    let distribution =
        if spec.traffic_distribution.is_empty() { annotated } else { &spec.traffic_distribution };
    let (mode, scopes): (Mode, &[Scope]) = match (spec.internal_traffic_policy, distribution) {
        (InternalTrafficPolicy::Local, _) => (Mode::Strict, &[Scope::Node]),
        (_, "PreferClose" | "PreferSameZone") => {
            (Mode::Failover, &[Scope::Network, Scope::Region, Scope::Zone])
        }
        (_, "PreferSameNode") => {
            (Mode::Failover, &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node])
        }
        _ => (Mode::UnspecifiedMode, &[]),
    };
    let health =
        if spec.publish_not_ready_addresses { HealthPolicy::AllowAll } else { HealthPolicy::OnlyHealthy };
    let message = LoadBalancing {
        routing_preference: scopes.iter().map(|scope| i32::from(*scope)).collect(),
        mode: mode.into(),
        health_policy: health.into(),
    };
    (message != LoadBalancing::default()).then_some(message)
}

fn ip_families(service: &Service) -> IpFamilies {
    let has = |family| service.spec.ip_families.contains(&family);
    match (has(IpFamily::IPv4), has(IpFamily::IPv6)) {
        (true, true) => IpFamilies::Dual,
        (true, false) => IpFamilies::Ipv4Only,
        (false, true) => IpFamilies::Ipv6Only,
        (false, false) => IpFamilies::Automatic,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn protocol_comes_from_app_protocol_then_name() {
        let table = [
            ("", "", AppProtocol::Unknown),
            ("", "http", AppProtocol::Http11),
            ("", "http-web", AppProtocol::Http11),
            ("", "HTTP2-x", AppProtocol::Http2),
            ("", "grpc", AppProtocol::Grpc),
            ("", "grpc-web", AppProtocol::Http11),
            ("", "grpc-web-x", AppProtocol::Http11),
            ("", "https", AppProtocol::Tls),
            ("", "httpx", AppProtocol::Unknown),
            ("", "redis", AppProtocol::Tcp),
            ("grpc", "http", AppProtocol::Grpc),
            ("kubernetes.io/h2c", "tcp", AppProtocol::Http2),
            ("something.else/x", "http", AppProtocol::Unknown),
        ];
        for (app, name, expected) in table {
            let port = ServicePort { name: name.into(), app_protocol: app.into(), ..ServicePort::default() };
            assert_eq!(app_protocol(&port), expected, "appProtocol {app:?} name {name:?}");
        }
    }

    #[test]
    fn only_tcp_ports_are_carried() {
        let mut service = Service::default();
        for (port, protocol) in [(53, Protocol::Udp), (53, Protocol::Tcp), (132, Protocol::Sctp)] {
            service.spec.ports.push(ServicePort { port, protocol, ..ServicePort::default() });
        }
        let ports: BTreeSet<u16> = tcp_ports(&service).map(|port| port.port).collect();
        assert_eq!(ports, BTreeSet::from([53]));
    }
}
