//! Services between wire and model: defaults, what is rejected, and that nothing is lost.

use proptest::prelude::*;

use super::{HealthPolicy, Scope, Service, Visibility};
use crate::arbitrary;
use crate::wire::workload as wire;

fn named() -> wire::Service {
    wire::Service { hostname: "web.ns.svc".to_owned(), namespace: "ns".to_owned(), ..Default::default() }
}

fn parsed(sent: wire::Service) -> Service {
    Service::try_from(sent).expect("is valid")
}

#[test]
fn unknown_values_are_read_the_narrow_way() {
    for (sent, expected) in [(0, Visibility::Public), (1, Visibility::Namespace), (2, Visibility::Namespace)]
    {
        assert_eq!(parsed(wire::Service { visibility: sent, ..named() }).visibility, expected);
    }
    for (sent, expected) in
        [(0, HealthPolicy::OnlyHealthy), (1, HealthPolicy::AllowAll), (2, HealthPolicy::OnlyHealthy)]
    {
        let load_balancing = Some(wire::LoadBalancing { health_policy: sent, ..Default::default() });
        assert_eq!(parsed(wire::Service { load_balancing, ..named() }).load_balancing.health, expected);
    }
    let names = ["spiffe://td/ns/a/sa/b", "web.example.com", "spiffe://td/ns/a"];
    let subject_alt_names = names.iter().map(|name| (*name).to_owned()).collect();
    let service = parsed(wire::Service { subject_alt_names, ..named() });
    assert_eq!(service.subject_alt_names.len(), 1, "only identities of the mesh can be presented");
}

#[test]
fn an_unspecified_scope_is_no_scope() {
    let load_balancing =
        Some(wire::LoadBalancing { routing_preference: vec![0, 6, 1], ..Default::default() });
    let service = parsed(wire::Service { load_balancing, ..named() });
    assert_eq!(service.load_balancing.scopes, [Scope::Network, Scope::Region]);
}

fn with(set: impl FnOnce(&mut wire::Service)) -> wire::Service {
    let mut sent = named();
    set(&mut sent);
    sent
}

#[test]
fn a_bad_field_rejects_the_service_by_name() {
    let address = |address: &[u8], length| {
        let (network, address) = (String::new(), address.to_vec());
        vec![wire::NetworkAddress { network, address, length }]
    };
    let port = |service_port, target_port| vec![wire::Port { service_port, target_port, app_protocol: 0 }];
    let balancing = |scope, mode| {
        Some(wire::LoadBalancing { routing_preference: vec![scope], mode, ..Default::default() })
    };
    let rows = [
        ("hostname: is missing", with(|s| s.hostname.clear())),
        ("addresses: 3 bytes", with(|s| s.addresses = address(&[1, 2, 3], None))),
        ("addresses: /33", with(|s| s.addresses = address(&[1, 2, 3, 4], Some(33)))),
        ("ports: 65536", with(|s| s.ports = port(65536, 80))),
        ("ports: 70000", with(|s| s.ports = port(80, 70000))),
        ("waypoint: is missing", with(|s| s.waypoint = Some(Default::default()))),
        ("weighted_waypoints: is missing", with(|s| s.weighted_waypoints = vec![Default::default()])),
        ("routing_preference: value 7", with(|s| s.load_balancing = balancing(7, 0))),
        ("load_balancing.mode: value 4", with(|s| s.load_balancing = balancing(1, 4))),
        ("ip_families: value 4", with(|s| s.ip_families = 4)),
    ];
    for (expected, sent) in rows {
        let text = Service::try_from(sent).expect_err(expected).to_string();
        assert!(text.starts_with("service ns/") && text.contains(expected), "{text}, expected {expected}");
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_on_the_way(service in arbitrary::service()) {
        let bytes = prost::Message::encode_to_vec(&wire::Service::from(&service));
        let decoded: wire::Service = prost::Message::decode(&bytes[..]).expect("decodes");
        prop_assert_eq!(Service::try_from(decoded), Ok(service));
    }

    #[test]
    fn any_bytes_are_taken_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(decoded) = <wire::Service as prost::Message>::decode(&bytes[..]) {
            let _ = Service::try_from(decoded);
        }
    }
}
