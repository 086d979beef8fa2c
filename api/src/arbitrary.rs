//! Random model values for property tests. Texts come from small alphabets, so that policies and connections meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::select;

use crate::authz::{Attributes, PolicySet};
use crate::identity::{Identity, TrustDomain};
use crate::policy::{
    Clause, Match, Policy, PolicyAction, PolicyKey, PolicyScope, Rule, ServiceAccountMatch, StringMatch,
};
use crate::service::{
    AppProtocol, BalanceMode, GatewayAddress, GatewayDestination, HealthPolicy, IpFamilies, LoadBalancing,
    Scope, Service, ServiceKey, ServicePort, Vip, Visibility, WeightedWaypoint,
};
use crate::workload::{
    ApplicationTunnel, Health, Locality, Network, NetworkAddress, NetworkMode, PortMapping, TunnelProtocol,
    Uid, Workload, WorkloadType,
};

fn word() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "ab", "web"]).prop_map(str::to_owned)
}

fn maybe_word() -> impl Strategy<Value = String> {
    select(vec!["", "a", "b", "web"]).prop_map(str::to_owned)
}

pub(crate) fn ip() -> impl Strategy<Value = IpAddr> {
    let v4 = (0..4u8, 0..4u8).prop_map(|(a, b)| IpAddr::V4(Ipv4Addr::new(10, 0, a, b)));
    let v6 = (0..4u16).prop_map(|last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)));
    proptest::prop_oneof![v4, v6]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    (ip(), 0..=32u8).prop_map(|(ip, length)| IpNet::new(ip, length).expect("short enough for both families"))
}

fn text_match() -> impl Strategy<Value = StringMatch> {
    let text = || select(vec!["a", "b", "td/ns/a/sa/a", "td/", "/sa/b", ""]).prop_map(str::to_owned);
    proptest::prop_oneof![
        text().prop_map(StringMatch::Exact),
        text().prop_map(StringMatch::Prefix),
        text().prop_map(StringMatch::Suffix),
        Just(StringMatch::Presence),
    ]
}

fn account_match() -> impl Strategy<Value = ServiceAccountMatch> {
    (word(), word())
        .prop_map(|(namespace, service_account)| ServiceAccountMatch { namespace, service_account })
}

fn one_match() -> impl Strategy<Value = Match> {
    // Mostly empty, so that matches with one or two fields are common.
    fn few<S: Strategy>(item: S) -> impl Strategy<Value = Vec<S::Value>> {
        (vec(item, 0..=1), 0..4u8).prop_map(|(items, keep)| if keep == 0 { items } else { Vec::new() })
    }
    let texts = (few(text_match()), few(text_match()), few(text_match()), few(text_match()));
    let accounts = (few(account_match()), few(account_match()));
    let prefixes = (few(prefix()), few(prefix()), few(prefix()), few(prefix()));
    let ports = (few(79..82u16), few(79..82u16));
    (texts, accounts, prefixes, ports).prop_map(|(texts, accounts, prefixes, ports)| Match {
        namespaces: texts.0,
        not_namespaces: texts.1,
        principals: texts.2,
        not_principals: texts.3,
        service_accounts: accounts.0,
        not_service_accounts: accounts.1,
        source_ips: prefixes.0,
        not_source_ips: prefixes.1,
        destination_ips: prefixes.2,
        not_destination_ips: prefixes.3,
        destination_ports: ports.0,
        not_destination_ports: ports.1,
    })
}

pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let scope = select(vec![PolicyScope::Global, PolicyScope::Namespace, PolicyScope::WorkloadSelector]);
    let action = select(vec![PolicyAction::Allow, PolicyAction::Deny]);
    let clause = vec(one_match(), 0..3).prop_map(|matches| Clause { matches });
    let rule = vec(clause, 0..3).prop_map(|clauses| Rule { clauses });
    (policy_key(), scope, action, vec(rule, 0..3), any::<bool>())
        .prop_map(|(key, scope, action, rules, dry_run)| Policy { key, scope, action, rules, dry_run })
}

fn policy_key() -> impl Strategy<Value = PolicyKey> {
    (maybe_word(), word()).prop_map(|(namespace, name)| PolicyKey::new(&namespace, &name))
}

pub(crate) fn policy_set() -> impl Strategy<Value = PolicySet> {
    (vec(policy().prop_map(Arc::new), 0..5), vec(policy_key(), 0..2), vec(policy_key(), 0..2))
        .prop_map(|(policies, missing, unusable)| PolicySet { policies, missing, unusable })
}

fn identity() -> impl Strategy<Value = Identity> {
    (word(), word()).prop_map(|(namespace, account)| {
        let domain = TrustDomain::new("td").expect("a valid name");
        Identity::new(&domain, &namespace, &account).expect("valid names")
    })
}

pub(crate) fn attributes() -> impl Strategy<Value = Attributes> {
    (option::of(identity()), ip(), ip(), 79..82u16).prop_map(|(peer, source, ip, port)| Attributes {
        peer,
        source,
        destination: SocketAddr::new(ip, port),
    })
}

fn network() -> impl Strategy<Value = Network> {
    maybe_word().prop_map(|name| Network(name.into()))
}

fn service_key() -> impl Strategy<Value = ServiceKey> {
    (maybe_word(), word()).prop_map(|(namespace, hostname)| ServiceKey::new(&namespace, &hostname))
}

fn gateway() -> impl Strategy<Value = GatewayAddress> {
    let address = (network(), ip()).prop_map(|(network, ip)| NetworkAddress::new(network, ip));
    let destination = proptest::prop_oneof![
        service_key().prop_map(GatewayDestination::Service),
        address.prop_map(GatewayDestination::Address),
    ];
    (destination, 1..=u16::MAX)
        .prop_map(|(destination, hbone_port)| GatewayAddress { destination, hbone_port })
}

pub(crate) fn service() -> impl Strategy<Value = Service> {
    let vip = (network(), prefix()).prop_map(|(network, prefix)| Vip { network, prefix });
    let protocol =
        select(vec![AppProtocol::Unknown, AppProtocol::Http11, AppProtocol::Http2, AppProtocol::Tls]);
    let port = (any::<u16>(), any::<u16>(), protocol).prop_map(|(service_port, target_port, protocol)| {
        ServicePort { service_port, target_port, protocol }
    });
    let waypoint =
        (gateway(), any::<u32>()).prop_map(|(waypoint, weight)| WeightedWaypoint { waypoint, weight });
    let names = (service_key(), maybe_word(), vec(vip, 0..3), vec(port, 0..3), vec(identity(), 0..2));
    let waypoints = (option::of(gateway()), vec(waypoint, 0..2), any::<bool>(), any::<bool>());
    let visibility = select(vec![Visibility::Public, Visibility::Namespace]);
    (names, waypoints, load_balancing(), families(), visibility).prop_map(
        |(names, waypoints, load_balancing, ip_families, visibility)| Service {
            key: names.0,
            name: names.1,
            vips: names.2,
            ports: names.3,
            subject_alt_names: names.4,
            waypoint: waypoints.0,
            weighted_waypoints: waypoints.1,
            canonical: waypoints.2,
            ingress_use_waypoint: waypoints.3,
            load_balancing,
            ip_families,
            visibility,
        },
    )
}

fn families() -> impl Strategy<Value = IpFamilies> {
    select(vec![IpFamilies::Automatic, IpFamilies::V4Only, IpFamilies::V6Only, IpFamilies::Dual])
}

fn load_balancing() -> impl Strategy<Value = LoadBalancing> {
    let all = vec![Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node, Scope::Cluster, Scope::Network];
    let mode =
        select(vec![BalanceMode::Any, BalanceMode::Strict, BalanceMode::Failover, BalanceMode::Passthrough]);
    let health = select(vec![HealthPolicy::OnlyHealthy, HealthPolicy::AllowAll]);
    (vec(select(all), 0..4), mode, health).prop_map(|(scopes, mode, health)| LoadBalancing {
        scopes,
        mode,
        health,
    })
}

fn locality() -> impl Strategy<Value = Locality> {
    (maybe_word(), maybe_word(), maybe_word()).prop_map(|(region, zone, subzone)| Locality {
        region,
        zone,
        subzone,
    })
}

pub(crate) fn workload() -> impl Strategy<Value = Workload> {
    let kind =
        select(vec![WorkloadType::Deployment, WorkloadType::CronJob, WorkloadType::Pod, WorkloadType::Job]);
    let tunnel = select(vec![TunnelProtocol::Plain, TunnelProtocol::Hbone]);
    let mode = select(vec![NetworkMode::Standard, NetworkMode::HostNetwork]);
    let health = select(vec![Health::Healthy, Health::Unhealthy]);
    let application = option::of(any::<u16>().prop_map(|port| ApplicationTunnel::Proxy { port }));
    let mapping = (79..82u16, any::<u16>())
        .prop_map(|(service_port, target_port)| PortMapping { service_port, target_port });
    let names = (word(), maybe_word(), maybe_word(), word(), maybe_word(), word());
    let place = (vec(ip(), 0..3), network(), locality(), maybe_word(), maybe_word());
    let gateways = (option::of(gateway()), option::of(gateway()));
    let states = (tunnel, kind, mode, health, application, any::<bool>(), 0..4u32);
    let lists = (btree_map(service_key(), vec(mapping, 0..3), 0..3), vec(policy_key(), 0..3));
    (names, place, gateways, states, lists).prop_map(|(names, place, gateways, states, lists)| Workload {
        uid: Uid(names.0.into()),
        name: names.1.clone(),
        namespace: names.2,
        service_account: names.3,
        trust_domain: TrustDomain::new("td").expect("a valid name"),
        addresses: place.0,
        hostname: names.4,
        network: place.1,
        tunnel: states.0,
        waypoint: gateways.0,
        network_gateway: gateways.1,
        node: place.3,
        canonical_name: place.4.clone(),
        canonical_revision: place.4,
        workload_type: states.1,
        workload_name: names.1,
        native_tunnel: states.5,
        application_tunnel: states.4,
        services: lists.0,
        policies: lists.1,
        health: states.3,
        cluster: names.5,
        locality: place.2,
        network_mode: states.2,
        capacity: states.6,
    })
}
