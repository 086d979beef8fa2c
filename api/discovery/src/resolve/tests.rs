//! Tables for resolution, outbound and inbound.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_api::reason::Reason;
use ambit_api::service::ServiceKey;
use ambit_api::wire;
use ambit_api::workload::{Uid, Workload};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::waypoint::{Behind, Here, Standing};
use super::{Ask, Hop, inbound, outbound};
use crate::view::View;
use crate::view::tests::{addresses, member, pod, service, svc, workload};
use crate::view::view;
use crate::xds::{Changes, Named, Push, Sink};

const WEB: &str = "shop/web.shop.svc.cluster.local";

fn mesh(items: Vec<wire::workload::address::Type>) -> View {
    let (mut writer, view) = view();
    assert!(writer.apply(addresses(items)).is_empty());
    view
}

fn source(view: &View) -> Arc<Workload> {
    view.load().workload(&Uid("Kubernetes//Pod/shop/client".into())).expect("the client is known").clone()
}

fn client() -> wire::workload::address::Type {
    pod(workload("shop", "client", [10, 0, 0, 9]))
}

/// A hop in one line: `tunnel SERVER AUTHORITY`, `plain SERVER`, or the reason there is none.
fn way(view: &View, dialled: &str, tried: &[Uid]) -> String {
    let source = source(view);
    let ask = Ask { source: &source, dialled: dialled.parse().expect("an address"), tried };
    match outbound(&view.load(), ask, &mut SmallRng::seed_from_u64(1)) {
        Ok(Hop::Tunnel(tunnel)) => format!("tunnel {} {}", tunnel.server, tunnel.authority),
        Ok(Hop::Plain(plain)) => format!("plain {}", plain.server),
        Err(unresolved) => unresolved.reason.to_string(),
    }
}

fn endpoint(name: &str, last: u8) -> wire::workload::Workload {
    member(workload("shop", name, [10, 0, 0, last]), WEB)
}

fn plain(mut workload: wire::workload::Workload) -> wire::workload::Workload {
    workload.tunnel_protocol = wire::workload::TunnelProtocol::None.into();
    workload
}

fn gateway(hostname: &str) -> Option<wire::workload::GatewayAddress> {
    let destination =
        wire::workload::NamespacedHostname { namespace: "shop".into(), hostname: hostname.into() };
    Some(wire::workload::GatewayAddress {
        destination: Some(wire::workload::gateway_address::Destination::Hostname(destination)),
        hbone_mtls_port: 15008,
    })
}

#[test]
fn outbound_ways() {
    let view = mesh(vec![
        client(),
        svc(service("shop", "web", [10, 96, 0, 1])),
        pod(endpoint("web", 1)),
        pod(plain(workload("shop", "outside", [10, 0, 0, 2]))),
        svc(service("shop", "empty", [10, 96, 0, 2])),
    ]);
    let cases = [
        ("10.96.0.1:80", "tunnel 10.0.0.1:15008 10.0.0.1:8080"),
        ("10.0.0.1:8080", "tunnel 10.0.0.1:15008 10.0.0.1:8080"),
        ("127.0.0.1:15006", "illegal_destination"),
        ("10.0.0.9:15001", "illegal_destination"),
        ("10.0.0.9:8080", "tunnel 10.0.0.9:15008 10.0.0.9:8080"),
        ("10.0.0.1:9999", "tunnel 10.0.0.1:15008 10.0.0.1:9999"),
        ("10.0.0.2:80", "plain 10.0.0.2:80"),
        ("192.0.2.1:443", "plain 192.0.2.1:443"),
        ("10.96.0.2:80", "no_healthy_endpoint"),
        ("10.96.0.1:81", "no_healthy_endpoint"),
        ("127.0.0.1:15001", "illegal_destination"),
        ("127.0.0.1:15006", "illegal_destination"),
        ("127.0.0.1:15008", "illegal_destination"),
        ("127.0.0.1:80", "plain 127.0.0.1:80"),
    ];
    for (dialled, expected) in cases {
        assert_eq!(way(&view, dialled, &[]), expected, "{dialled}");
    }
}

#[test]
fn endpoints_that_failed_are_left_out() {
    let view = mesh(vec![
        client(),
        svc(service("shop", "web", [10, 96, 0, 1])),
        pod(endpoint("one", 1)),
        pod(endpoint("two", 2)),
    ]);
    let uid = |name: &str| Uid(format!("Kubernetes//Pod/shop/{name}").as_str().into());
    assert_eq!(way(&view, "10.96.0.1:80", &[uid("one")]), "tunnel 10.0.0.2:15008 10.0.0.2:8080");
    assert_eq!(way(&view, "10.96.0.1:80", &[uid("two")]), "tunnel 10.0.0.1:15008 10.0.0.1:8080");
    assert_eq!(way(&view, "10.96.0.1:80", &[uid("one"), uid("two")]), "no_healthy_endpoint");
}

#[test]
fn an_unready_endpoint_gets_nothing() {
    let mut unready = endpoint("one", 1);
    unready.status = wire::workload::WorkloadStatus::Unhealthy.into();
    let view = mesh(vec![client(), svc(service("shop", "web", [10, 96, 0, 1])), pod(unready)]);
    assert_eq!(way(&view, "10.96.0.1:80", &[]), "no_healthy_endpoint");
    assert_eq!(
        way(&view, "10.0.0.1:8080", &[]),
        "tunnel 10.0.0.1:15008 10.0.0.1:8080",
        "its own address is asked"
    );
}

#[test]
fn a_service_with_a_waypoint_goes_through_it_or_not_at_all() {
    let mut fronted = service("shop", "web", [10, 96, 0, 1]);
    fronted.waypoint = gateway("waypoint.shop.svc.cluster.local");
    let without = mesh(vec![client(), svc(fronted.clone()), pod(endpoint("web", 1))]);
    assert_eq!(way(&without, "10.96.0.1:80", &[]), "waypoint_unresolved");

    let mut front = service("shop", "waypoint", [10, 96, 0, 9]);
    front.ports =
        vec![wire::workload::Port { service_port: 15008, target_port: 15008, ..Default::default() }];
    let mut replica = workload("shop", "waypoint", [10, 0, 0, 7]);
    let ports = front.ports.clone();
    let key = "shop/waypoint.shop.svc.cluster.local".to_owned();
    replica.services.insert(key, wire::workload::PortList { ports });
    let view = mesh(vec![client(), svc(fronted), pod(endpoint("web", 1)), svc(front), pod(replica)]);
    assert_eq!(way(&view, "10.96.0.1:80", &[]), "tunnel 10.0.0.7:15008 10.96.0.1:80");
    assert_eq!(
        way(&view, "10.0.0.1:8080", &[]),
        "tunnel 10.0.0.1:15008 10.0.0.1:8080",
        "a service's waypoint only"
    );
}

#[test]
fn the_far_end_must_be_the_endpoint_or_one_the_service_vouches_for() {
    let mut vouched = service("shop", "web", [10, 96, 0, 1]);
    vouched.subject_alt_names = vec!["spiffe://cluster.local/ns/shop/sa/vouched".to_owned()];
    let view = mesh(vec![client(), svc(vouched), pod(endpoint("web", 1))]);
    let source = source(&view);
    let expected = |dialled: &str| -> Vec<String> {
        let ask = Ask { source: &source, dialled: dialled.parse().expect("an address"), tried: &[] };
        match outbound(&view.load(), ask, &mut SmallRng::seed_from_u64(1)) {
            Ok(Hop::Tunnel(tunnel)) => tunnel.expected.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    };
    let own = "spiffe://cluster.local/ns/shop/sa/default".to_owned();
    assert_eq!(
        expected("10.96.0.1:80"),
        [own.clone(), "spiffe://cluster.local/ns/shop/sa/vouched".to_owned()]
    );
    assert_eq!(expected("10.0.0.1:80"), [own]);
}

#[test]
fn inbound_targets() {
    let view = mesh(vec![client(), svc(service("shop", "web", [10, 96, 0, 1])), pod(endpoint("web", 1))]);
    let own = view.load().workload(&Uid("Kubernetes//Pod/shop/web".into())).expect("known").clone();
    let cases: [(&str, Result<&str, Reason>); 11] = [
        ("10.0.0.1:8080", Ok("10.0.0.1:8080")),
        ("10.0.0.1:9", Ok("10.0.0.1:9")),
        ("web.shop.svc.cluster.local:80", Ok("10.0.0.1:8080")),
        ("10.0.0.2:8080", Err(Reason::BadRequest)),
        ("10.96.0.1:80", Err(Reason::BadRequest)),
        ("web.shop.svc.cluster.local:81", Err(Reason::NoHealthyEndpoint)),
        ("other.shop.svc.cluster.local:80", Err(Reason::NoHealthyEndpoint)),
        ("10.0.0.1:15008", Err(Reason::IllegalDestination)),
        ("10.0.0.1:0", Err(Reason::IllegalDestination)),
        ("nonsense", Err(Reason::BadRequest)),
        ("", Err(Reason::BadRequest)),
    ];
    for (authority, expected) in cases {
        let target = inbound(&view.load(), &own, [10, 0, 0, 1].into(), authority);
        let target = target.map(|target| target.application).map_err(|unresolved| unresolved.reason);
        let expected = expected.map(|address| address.parse::<SocketAddr>().expect("an address"));
        assert_eq!(target, expected, "{authority:?}");
    }
}

/// (the waypoint that addresses name before the service, whether the waypoint holds it, how it stands before it, whether its
/// own requests for it go through another one)
const STANDING: &[(Option<&str>, bool, Standing, bool)] = &[
    (Some("waypoint"), true, Standing::Before, false),
    (None, true, Standing::Leaving, false),
    // It would be taken for the client there.
    (Some("other"), true, Standing::Leaving, false),
    (Some("other"), false, Standing::Gone, true),
    (Some("waypoint"), false, Standing::Gone, false),
    (None, false, Standing::Gone, false),
];

#[test]
fn a_waypoint_stands_before_what_leads_to_it_until_it_has_forgotten_that() {
    let mut replica = workload("shop", "waypoint-1", [10, 0, 0, 7]);
    let front = "shop/waypoint.shop.svc.cluster.local".to_owned();
    replica.services.insert(front, wire::workload::PortList::default());
    for (named, held, standing, beyond) in STANDING {
        let named_by = named.and_then(|name| gateway(&format!("{name}.shop.svc.cluster.local")));
        let mut web = service("shop", "web", [10, 96, 0, 1]);
        web.waypoint = named_by.clone();
        let mut own = workload("shop", "web-1", [10, 0, 0, 1]);
        own.waypoint = named_by;
        let (mut writer, view) = view();
        assert!(writer.apply(addresses(vec![svc(web), pod(own), pod(replica.clone())])).is_empty());
        let uid = "Kubernetes//Pod/shop/web-1";
        if *held {
            let name = "web.shop.svc.cluster.local".to_owned();
            let service = wire::waypoint::Service {
                namespace: "shop".to_owned(),
                hostname: name,
                ..Default::default()
            };
            let workload = wire::waypoint::Workload { uid: uid.to_owned(), ..Default::default() };
            assert_eq!(writer.apply(Push::Workload(upsert(uid, workload))), []);
            assert_eq!(writer.apply(Push::Service(upsert(WEB, service))), []);
        }
        let snapshot = view.load();
        let pod = snapshot.workload(&Uid("Kubernetes//Pod/shop/waypoint-1".into())).expect("known");
        let here = Here { snapshot: &snapshot, pod };
        let key = ServiceKey::new("shop", "web.shop.svc.cluster.local");
        let told = (named, held);
        assert_eq!(here.standing(&Behind::Workload(Uid(uid.into()))), *standing, "{told:?}");
        assert_eq!(here.standing(&Behind::Service(key.clone())), *standing, "{told:?}");
        let entry = snapshot.services.get(&key).expect("known");
        assert_eq!(here.is_beyond(&entry.service), *beyond, "{told:?}");
    }
}

fn upsert<T>(name: &str, body: T) -> Changes<T> {
    let upserts = vec![Named { name: name.to_owned(), body }];
    Changes { upserts, unreadable: Vec::new(), removed: Vec::new() }
}
