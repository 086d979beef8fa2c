//! Endpoint choice: who may be chosen, by which port, how often, and how locality ranks them (l4-protocols §8.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::EndpointSet;
use crate::arbitrary;
use crate::service::{
    AppProtocol, BalanceMode, HealthPolicy, LoadBalancing, Scope, Service, ServiceKey, ServicePort,
};
use crate::wire::workload as wire;
use crate::workload::{
    ApplicationTunnel, Health, Locality, Network, PortMapping, Uid, Workload, tests::pod as bare_pod,
};

fn service(scopes: &[Scope], mode: BalanceMode) -> Service {
    let sent = wire::Service { hostname: "web".to_owned(), namespace: "ns".to_owned(), ..Default::default() };
    let mut service = Service::try_from(sent).expect("is valid");
    service.ports = vec![port(80, 8080), port(81, 0)];
    service.load_balancing =
        LoadBalancing { scopes: scopes.to_vec(), mode, health: HealthPolicy::OnlyHealthy };
    service
}

fn port(service_port: u16, target_port: u16) -> ServicePort {
    ServicePort { service_port, target_port, protocol: AppProtocol::Unknown }
}

fn mapping(service_port: u16, target_port: u16) -> PortMapping {
    PortMapping { service_port, target_port }
}

fn pod(name: &str) -> Workload {
    let mut pod = bare_pod();
    pod.uid = Uid(name.into());
    pod.addresses = vec!["10.0.0.1".parse().expect("an address")];
    pod.services = [(ServiceKey::new("ns", "web"), vec![])].into();
    pod
}

/// A pod at `network/region/zone/node`.
fn at(name: &str, place: &str) -> Workload {
    let parts: Vec<&str> = place.split('/').collect();
    let mut pod = pod(name);
    pod.network = Network(parts[0].into());
    pod.locality = Locality { region: parts[1].to_owned(), zone: parts[2].to_owned(), ..Locality::default() };
    pod.node = parts[3].to_owned();
    pod
}

fn set(service: &Service, pods: impl IntoIterator<Item = Workload>) -> EndpointSet {
    EndpointSet::new(service, pods.into_iter().map(Arc::new))
}

/// How often each endpoint was chosen, of `draws`.
fn counts(set: &EndpointSet, client: &Workload, tried: &[Uid], draws: usize) -> BTreeMap<String, usize> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut counts = BTreeMap::new();
    for _ in 0..draws {
        if let Some(chosen) = set.choose(client, 80, tried, &mut rng) {
            *counts.entry(chosen.workload.uid.to_string()).or_default() += 1;
        }
    }
    counts
}

fn names(counts: &BTreeMap<String, usize>) -> Vec<&str> {
    counts.keys().map(String::as_str).collect()
}

#[test]
fn ten_thousand_connections_spread_evenly_over_five_endpoints() {
    let set = set(&service(&[], BalanceMode::Any), ["a", "b", "c", "d", "e"].map(pod));
    let counts = counts(&set, &pod("client"), &[], 10_000);
    assert_eq!(counts.len(), 5);
    assert!(counts.values().all(|count| (1800..=2200).contains(count)), "{counts:?}");
}

#[test]
fn capacity_is_the_weight_and_nothing_means_never() {
    let weighted = |name, capacity| Workload { capacity, ..pod(name) };
    for mode in [BalanceMode::Any, BalanceMode::Failover] {
        let set = set(&service(&[], mode), [weighted("none", 0), weighted("one", 1), weighted("three", 3)]);
        let counts = counts(&set, &pod("client"), &[], 10_000);
        assert_eq!(names(&counts), ["one", "three"]);
        assert!((2300..=2700).contains(&counts["one"]), "{counts:?}");
    }
    let huge = ["a", "b", "c"].map(|name| weighted(name, u32::MAX));
    let spread = counts(&set(&service(&[], BalanceMode::Any), huge), &pod("client"), &[], 1000);
    assert_eq!(spread.len(), 3, "sums are wider than capacities");
}

#[test]
fn only_ready_reachable_members_are_chosen() {
    let unready = || Workload { health: Health::Unhealthy, ..pod("unready") };
    let lost = Workload { addresses: vec![], ..pod("unreachable") };
    let named = Workload { addresses: vec![], hostname: "db.example.com".to_owned(), ..pod("by-name") };
    let stranger = Workload { services: BTreeMap::new(), ..pod("stranger") };
    let mut service = service(&[], BalanceMode::Any);
    let some = set(&service, [unready(), lost, named, stranger, pod("ready")]);
    assert_eq!(names(&counts(&some, &pod("client"), &[], 200)), ["by-name", "ready"]);
    service.load_balancing.health = HealthPolicy::AllowAll;
    assert_eq!(names(&counts(&set(&service, [unready()]), &pod("client"), &[], 20)), ["unready"]);
    assert_eq!(counts(&set(&service, []), &pod("client"), &[], 20).len(), 0);
}

#[test]
fn the_endpoints_port_wins_over_the_services() {
    let key = ServiceKey::new("ns", "web");
    let with = |ports: Vec<PortMapping>, application_tunnel| {
        let services = [(key.clone(), ports)].into();
        Workload { services, application_tunnel, ..pod("p") }
    };
    let proxy = Some(ApplicationTunnel::Proxy { port: 15088 });
    // (endpoint, port asked, port dialled)
    let rows = [
        (with(vec![mapping(80, 9090)], None), 80, Some(9090)),
        (with(vec![mapping(80, 9090)], None), 81, None),
        (with(vec![mapping(81, 9091)], None), 81, Some(9091)),
        (with(vec![mapping(80, 0)], None), 80, Some(8080)),
        (with(vec![], None), 80, Some(8080)),
        (with(vec![], None), 81, None),
        (with(vec![], None), 4711, None),
        (with(vec![], proxy), 80, Some(8080)),
        (with(vec![], proxy), 81, Some(81)),
        (with(vec![], proxy), 4711, Some(4711)),
    ];
    for (endpoint, asked, expected) in rows {
        let set = set(&service(&[], BalanceMode::Any), [endpoint.clone()]);
        let chosen = set.choose(&pod("client"), asked, &[], &mut SmallRng::seed_from_u64(7));
        assert_eq!(chosen.map(|chosen| chosen.port), expected, "port {asked} of {:?}", endpoint.services);
    }
}

#[test]
fn tried_endpoints_are_left_out_and_the_rest_stay_fair() {
    for mode in [BalanceMode::Any, BalanceMode::Failover] {
        let set = set(&service(&[], mode), ["a", "b", "c"].map(pod));
        let tried = |names: &[&str]| names.iter().map(|name| Uid((*name).into())).collect::<Vec<_>>();
        let two = counts(&set, &pod("client"), &tried(&["b"]), 10_000);
        assert_eq!(names(&two), ["a", "c"]);
        assert!((4700..=5300).contains(&two["a"]), "{two:?}");
        assert_eq!(counts(&set, &pod("client"), &tried(&["a", "b", "c"]), 10).len(), 0);
    }
}

#[test]
fn scopes_rank_endpoints_by_the_clients_place() {
    use Scope::{Network as Net, Node, Region, Zone};
    let client = at("client", "net/r1/z1/n1");
    let (node, zone) = (at("node", "net/r1/z1/n1"), at("zone", "net/r1/z1/n2"));
    let (region, far) = (at("region", "net/r1/z2/n3"), at("far", "net/r2/z1/n4"));
    let (abroad, abroad_zone) = (at("abroad", "other/r2/z1/n5"), at("abroad-zone", "other/r1/z1/n6"));
    let all = [&node, &zone, &region, &far, &abroad, &abroad_zone];
    let strict = |scopes: &'static [Scope]| (BalanceMode::Strict, scopes);
    let failover = |scopes: &'static [Scope]| (BalanceMode::Failover, scopes);
    let close = failover(&[Net, Region, Zone]);
    let rows = [
        ((BalanceMode::Any, &[Node][..]), all.to_vec(), "abroad abroad-zone far node region zone"),
        (strict(&[Node]), all.to_vec(), "node"),
        (strict(&[Node]), vec![&zone, &far], ""),
        (strict(&[Net, Region]), all.to_vec(), "node region zone"),
        (close, all.to_vec(), "node zone"),
        (close, vec![&region, &far], "region"),
        // A zone of the same name in another region is another zone.
        (strict(&[Zone]), all.to_vec(), "abroad-zone node zone"),
        // One's own network comes first, however near another network's endpoint is.
        (close, vec![&far, &abroad, &abroad_zone], "far"),
        // Among other networks' endpoints the nearer one.
        (close, vec![&abroad, &abroad_zone], "abroad-zone"),
        (failover(&[Region, Zone, Node]), all.to_vec(), "node"),
        (failover(&[Region, Zone, Node]), vec![&far, &abroad], "abroad far"),
        (failover(&[Net]), vec![&abroad], "abroad"),
        (failover(&[Net]), all.to_vec(), "far node region zone"),
        (failover(&[]), all.to_vec(), "abroad abroad-zone far node region zone"),
    ];
    for ((mode, scopes), endpoints, expected) in rows {
        let set = set(&service(scopes, mode), endpoints.into_iter().cloned());
        let counts = counts(&set, &client, &[], 300);
        assert_eq!(names(&counts).join(" "), expected, "{mode:?} {scopes:?}");
    }
}

#[test]
fn failover_passes_on_to_the_next_rank_when_the_best_was_tried() {
    let (near, far) = (at("near", "net/r1/z1/n1"), at("far", "net/r1/z2/n2"));
    let set = set(&service(&[Scope::Zone], BalanceMode::Failover), [near.clone(), far]);
    let client = at("client", "net/r1/z1/n9");
    assert_eq!(names(&counts(&set, &client, &[], 50)), ["near"]);
    assert_eq!(names(&counts(&set, &client, &[near.uid], 50)), ["far"]);
}

proptest! {
    #[test]
    fn what_is_chosen_may_be_chosen(
        service in arbitrary::service(),
        pods in proptest::collection::vec(arbitrary::workload(), 0..8),
        client in arbitrary::workload(),
        port in 79..82u16,
    ) {
        let members = pods.into_iter().enumerate().map(|(at, mut pod)| {
            pod.uid = Uid(at.to_string().into());
            pod.services.entry(service.key.clone()).or_insert_with(|| vec![mapping(80, 8080)]);
            Arc::new(pod)
        });
        let set = EndpointSet::new(&service, members);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut tried = Vec::new();
        // Every attempt goes to another endpoint, and the attempts end.
        while let Some(chosen) = set.choose(&client, port, &tried, &mut rng) {
            prop_assert!(chosen.workload.capacity > 0 && chosen.port > 0);
            prop_assert!(!tried.contains(&chosen.workload.uid));
            tried.push(chosen.workload.uid.clone());
            prop_assert!(tried.len() <= set.endpoints().len());
        }
    }
}
