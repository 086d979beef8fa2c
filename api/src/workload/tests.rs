//! Workloads between wire and model: defaults, what is rejected, and that nothing is lost.

use proptest::prelude::*;

use super::{ApplicationTunnel, Health, NetworkMode, TunnelProtocol, Workload, WorkloadType};
use crate::arbitrary;
use crate::service::{GatewayDestination, ServiceKey};
use crate::wire::workload as wire;

/// A pod with nothing but a name.
pub(crate) fn pod() -> Workload {
    Workload::try_from(named()).expect("is valid")
}

fn named() -> wire::Workload {
    wire::Workload { uid: "c//Pod/ns/pod".to_owned(), ..Default::default() }
}

#[test]
fn what_is_absent_has_the_reference_defaults() {
    let workload = pod();
    assert_eq!(workload.trust_domain.as_str(), "cluster.local");
    assert_eq!(workload.service_account, "default");
    assert_eq!(workload.cluster, "Kubernetes");
    assert_eq!(workload.capacity, 1);
    assert_eq!(workload.tunnel, TunnelProtocol::Plain);
    assert_eq!(workload.health, Health::Healthy);
    assert_eq!(workload.workload_type, WorkloadType::Deployment);
    assert_eq!(workload.network_mode, NetworkMode::Standard);
    assert_eq!(workload.application_tunnel, None);
    let none = wire::Workload { capacity: Some(0), ..named() };
    assert_eq!(Workload::try_from(none).expect("is valid").capacity, 0);
}

fn with(set: impl FnOnce(&mut wire::Workload)) -> wire::Workload {
    let mut sent = named();
    set(&mut sent);
    sent
}

fn gateway(destination: Option<wire::gateway_address::Destination>) -> Option<wire::GatewayAddress> {
    Some(wire::GatewayAddress { destination, hbone_mtls_port: 15008 })
}

/// Checks that each message is rejected with the text that stands before it.
fn check(rows: impl IntoIterator<Item = (&'static str, wire::Workload)>) {
    for (expected, sent) in rows {
        let uid = sent.uid.clone();
        let text = Workload::try_from(sent).expect_err(expected).to_string();
        assert!(text.starts_with(&format!("workload {uid:?}: {expected}")), "{text}, expected {expected}");
    }
}

#[test]
fn a_bad_name_or_port_rejects_the_workload() {
    let of = |name: &str, service_port, target_port| {
        let ports = vec![wire::Port { service_port, target_port, app_protocol: 0 }];
        [(name.to_owned(), wire::PortList { ports })].into()
    };
    check([
        ("services: \"web\"", with(|w| w.services = of("web", 80, 80))),
        ("services: \"ns/\"", with(|w| w.services = of("ns/", 80, 80))),
        ("services: 70000", with(|w| w.services = of("ns/web", 70000, 80))),
        ("services: 65536", with(|w| w.services = of("ns/web", 80, 65536))),
        ("authorization_policies: \"p\"", with(|w| w.authorization_policies = vec!["p".to_owned()])),
    ]);
}

#[test]
fn a_bad_field_rejects_the_workload_by_name() {
    use wire::gateway_address::Destination::{Address, Hostname};
    let short = || Address(wire::NetworkAddress { address: vec![1, 2], ..Default::default() });
    let nameless = || Hostname(wire::NamespacedHostname::default());
    let tunnel = |protocol, port| Some(wire::ApplicationTunnel { protocol, port });
    check([
        ("uid: is missing", with(|w| w.uid.clear())),
        ("addresses: 5 bytes", with(|w| w.addresses = vec![vec![0; 5]])),
        ("addresses: 0 bytes", with(|w| w.addresses = vec![vec![]])),
        ("tunnel_protocol: sidecars", with(|w| w.tunnel_protocol = 2)),
        ("tunnel_protocol: value 3", with(|w| w.tunnel_protocol = 3)),
        ("trust_domain: ", with(|w| w.trust_domain = "Not A Domain".to_owned())),
        ("network_mode: value 2", with(|w| w.network_mode = 2)),
        ("waypoint: is missing", with(|w| w.waypoint = gateway(None))),
        ("waypoint: is missing", with(|w| w.waypoint = gateway(Some(nameless())))),
        ("network_gateway: 2 bytes", with(|w| w.network_gateway = gateway(Some(short())))),
        ("application_tunnel: value 7", with(|w| w.application_tunnel = tunnel(7, 0))),
        ("application_tunnel: 65536", with(|w| w.application_tunnel = tunnel(1, 65536))),
    ]);
}

#[test]
fn what_only_informs_does_not_reject_and_unknown_health_is_not_healthy() {
    let sent = wire::Workload { workload_type: 9, status: 9, ..named() };
    let workload = Workload::try_from(sent).expect("is valid");
    assert_eq!((workload.workload_type, workload.health), (WorkloadType::Pod, Health::Unhealthy));
}

#[test]
fn ports_of_gateways_and_mapped_addresses_are_read_as_meant() {
    let name = wire::NamespacedHostname { namespace: "ns".to_owned(), hostname: "wp".to_owned() };
    let mut mapped = vec![0; 10];
    mapped.extend([0xff, 0xff, 10, 0, 0, 1]);
    let sent = wire::Workload {
        waypoint: Some(wire::GatewayAddress {
            destination: Some(wire::gateway_address::Destination::Hostname(name)),
            hbone_mtls_port: 0,
        }),
        addresses: vec![mapped],
        application_tunnel: Some(wire::ApplicationTunnel { protocol: 1, port: 0 }),
        ..named()
    };
    let workload = Workload::try_from(sent).expect("is valid");
    let waypoint = workload.waypoint.expect("has one");
    assert_eq!(waypoint.hbone_port, 15008);
    assert_eq!(waypoint.destination, GatewayDestination::Service(ServiceKey::new("ns", "wp")));
    assert_eq!(workload.addresses[0].to_string(), "10.0.0.1");
    assert_eq!(workload.application_tunnel, Some(ApplicationTunnel::Proxy { port: 0 }));
}

/// Field numbers are the compatibility with Istio's peers; bytes written by hand show that ours are the same.
#[test]
fn field_numbers_are_the_references() {
    let text = |number: u8, value: &str| {
        let key = u32::from(number) << 3 | 2;
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(key.into(), &mut bytes);
        bytes.push(u8::try_from(value.len()).expect("short"));
        bytes.extend(value.as_bytes());
        bytes
    };
    let bytes = [text(20, "uid"), text(1, "n"), text(2, "ns"), text(7, "sa"), text(16, "a/b"), text(18, "c")];
    let decoded: wire::Workload = prost::Message::decode(&bytes.concat()[..]).expect("decodes");
    let workload = Workload::try_from(decoded).expect("is valid");
    assert_eq!(&*workload.uid.0, "uid");
    assert_eq!((&*workload.name, &*workload.namespace, &*workload.service_account), ("n", "ns", "sa"));
    assert_eq!((workload.policies[0].to_string(), &*workload.cluster), ("a/b".to_owned(), "c"));
}

proptest! {
    #[test]
    fn nothing_is_lost_on_the_way(workload in arbitrary::workload()) {
        let bytes = prost::Message::encode_to_vec(&wire::Workload::from(&workload));
        let decoded: wire::Workload = prost::Message::decode(&bytes[..]).expect("decodes");
        prop_assert_eq!(Workload::try_from(decoded), Ok(workload));
    }

    #[test]
    fn any_bytes_are_taken_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(decoded) = <wire::Workload as prost::Message>::decode(&bytes[..]) {
            let _ = Workload::try_from(decoded);
        }
    }
}
