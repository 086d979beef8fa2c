//! Services between wire and model: defaults, what is rejected, and that nothing is lost.

use proptest::prelude::*;

use super::{HealthPolicy, Scope, Service, Visibility};
use crate::arbitrary;
use crate::wire::workload as wire;

fn named() -> wire::Service {
    wire::Service {
        hostname: "web.ns.svc".to_owned(),
        namespace: "ns".to_owned(),
        ..Default::default()
    }
}

fn parsed(sent: wire::Service) -> Service {
    Service::try_from(sent).expect("is valid")
}

#[test]
fn unknown_values_are_read_the_narrow_way() {
    for (sent, expected) in [
        (0, Visibility::Public),
        (1, Visibility::Namespace),
        (2, Visibility::Namespace),
    ] {
        assert_eq!(
            parsed(wire::Service {
                visibility: sent,
                ..named()
            })
            .visibility,
            expected
        );
    }
    for (sent, expected) in [
        (0, HealthPolicy::OnlyHealthy),
        (1, HealthPolicy::AllowAll),
        (2, HealthPolicy::OnlyHealthy),
    ] {
        let load_balancing = Some(wire::LoadBalancing {
            health_policy: sent,
            ..Default::default()
        });
        assert_eq!(
            parsed(wire::Service {
                load_balancing,
                ..named()
            })
            .load_balancing
            .health,
            expected
        );
    }
    let names = ["spiffe://td/ns/a/sa/b", "web.example.com", "spiffe://td/ns/a"];
    let subject_alt_names = names.iter().map(|name| (*name).to_owned()).collect();
    let service = parsed(wire::Service {
        subject_alt_names,
        ..named()
    });
    assert_eq!(
        service.subject_alt_names.len(),
        1,
        "only identities of the mesh can be presented"
    );
}

#[test]
fn an_unspecified_scope_is_no_scope() {
    let load_balancing = Some(wire::LoadBalancing {
        routing_preference: vec![0, 6, 1],
        ..Default::default()
    });
    let service = parsed(wire::Service {
        load_balancing,
        ..named()
    });
    assert_eq!(service.load_balancing.scopes, [Scope::Network, Scope::Region]);
}

#[test]
fn a_bad_field_rejects_the_service_by_name() {
    let address = |address: &[u8], length| {
        vec![wire::NetworkAddress {
            network: String::new(),
            address: address.to_vec(),
            length,
        }]
    };
    let port = |service_port, target_port| {
        vec![wire::Port {
            service_port,
            target_port,
            app_protocol: 0,
        }]
    };
    let balancing = |scope, mode| {
        Some(wire::LoadBalancing {
            routing_preference: vec![scope],
            mode,
            ..Default::default()
        })
    };
    let rows = [
        (
            "hostname: is missing",
            wire::Service {
                hostname: String::new(),
                ..named()
            },
        ),
        (
            "addresses: 3 bytes",
            wire::Service {
                addresses: address(&[1, 2, 3], None),
                ..named()
            },
        ),
        (
            "addresses: /33",
            wire::Service {
                addresses: address(&[1, 2, 3, 4], Some(33)),
                ..named()
            },
        ),
        (
            "ports: 65536",
            wire::Service {
                ports: port(65536, 80),
                ..named()
            },
        ),
        (
            "ports: 70000",
            wire::Service {
                ports: port(80, 70000),
                ..named()
            },
        ),
        (
            "waypoint: is missing",
            wire::Service {
                waypoint: Some(wire::GatewayAddress::default()),
                ..named()
            },
        ),
        (
            "weighted_waypoints: is missing",
            wire::Service {
                weighted_waypoints: vec![wire::WeightedWaypoint::default()],
                ..named()
            },
        ),
        (
            "routing_preference: value 7",
            wire::Service {
                load_balancing: balancing(7, 0),
                ..named()
            },
        ),
        (
            "load_balancing.mode: value 4",
            wire::Service {
                load_balancing: balancing(1, 4),
                ..named()
            },
        ),
        (
            "ip_families: value 4",
            wire::Service {
                ip_families: 4,
                ..named()
            },
        ),
    ];
    for (expected, sent) in rows {
        let text = Service::try_from(sent).expect_err(expected).to_string();
        assert!(
            text.starts_with("service ns/") && text.contains(expected),
            "{text}, expected {expected}"
        );
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
