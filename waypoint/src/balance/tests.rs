//! Who is chosen, how often, and what workers know of each other. Shares are checked within five standard deviations of
//! what chance gives, with fixed seeds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_api::select::EndpointSet;
use ambit_api::service::{BalanceMode, Scope, Service, ServiceKey};
use ambit_api::waypoint::{LoadBalancer, Outlier, TrafficPolicy};
use ambit_api::wire::workload as wire;
use ambit_api::workload::{Uid, Workload};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::cluster::{Cluster, ClusterKey, Clusters};
use super::{Balancer, Pick};
use crate::outlier::{Cause, Outcome};

fn service() -> Service {
    let sent = wire::Service {
        hostname: "web".to_owned(),
        namespace: "ns".to_owned(),
        ports: vec![wire::Port { service_port: 80, target_port: 8080, ..Default::default() }],
        ..Default::default()
    };
    Service::try_from(sent).expect("is valid")
}

fn pod(name: &str, capacity: u32) -> Workload {
    let sent =
        wire::Workload { uid: name.to_owned(), addresses: vec![vec![10, 0, 0, 1]], ..Default::default() };
    let mut pod = Workload::try_from(sent).expect("is valid");
    pod.services = [(ServiceKey::new("ns", "web"), vec![])].into();
    pod.capacity = capacity;
    pod
}

fn on(node: &str, mut pod: Workload) -> Workload {
    pod.node = node.to_owned();
    pod
}

fn pods(count: usize) -> Vec<Workload> {
    (0..count).map(|index| pod(&format!("p{index}"), 1)).collect()
}

fn policy(load_balancer: LoadBalancer) -> TrafficPolicy {
    TrafficPolicy { load_balancer, ..Default::default() }
}

/// Three errors in a row eject.
fn ejecting(max_ejection_percent: u32, min_health_percent: u32) -> TrafficPolicy {
    let outlier = Outlier {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        consecutive_local: 0,
        split_local: false,
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection_percent,
        min_health_percent,
    };
    TrafficPolicy { outlier: Some(outlier), ..policy(LoadBalancer::Random) }
}

fn cluster(clusters: &Clusters) -> Arc<Cluster> {
    clusters.get(ClusterKey { service: ServiceKey::new("ns", "web"), port: 80, subset: None })
}

fn balancer(cluster: Arc<Cluster>, policy: TrafficPolicy, pods: &[Workload]) -> Balancer {
    of_service(&service(), cluster, policy, pods)
}

fn of_service(
    service: &Service,
    cluster: Arc<Cluster>,
    policy: TrafficPolicy,
    pods: &[Workload],
) -> Balancer {
    let endpoints = EndpointSet::new(service, pods.iter().cloned().map(Arc::new));
    Balancer::new(cluster, Arc::new(policy), &endpoints, &on("here", pod("waypoint", 1)), |_| true)
}

fn single(policy: TrafficPolicy, pods: &[Workload]) -> Balancer {
    balancer(cluster(&Clusters::default()), policy, pods)
}

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(7)
}

fn name(pick: &Pick) -> String {
    pick.workload.uid.to_string()
}

/// The endpoints of `draws` attempts, each over before the next.
fn drawn(balancer: &Balancer, draws: usize, now: Instant) -> Vec<String> {
    let mut rng = rng();
    (0..draws).filter_map(|_| balancer.choose(&[], now, &mut rng)).map(|pick| name(&pick)).collect()
}

fn counts(names: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn near(count: usize, draws: usize, share: f64) -> bool {
    let expected = draws as f64 * share;
    (count as f64 - expected).abs() <= 5.0 * (expected * (1.0 - share)).sqrt()
}

/// Makes an endpoint fail until it is ejected; whether it was.
fn fail(balancer: &Balancer, uid: &str, now: Instant) -> bool {
    let pick =
        balancer.tiers.iter().flat_map(|tier| &tier.candidates).find(|one| *one.workload.uid.0 == *uid);
    let pick = pick.expect("is an endpoint").pick();
    let judged: Vec<_> = (0..3).map(|_| balancer.judge(&pick, Outcome::Answered(500), now)).collect();
    assert_eq!(judged[..2], [None, None]);
    judged[2].is_some_and(|ejection| ejection.cause == Cause::Consecutive5xx)
}

#[test]
fn every_way_follows_capacity() {
    let pods = [pod("a", 1), pod("b", 2), pod("c", 5)];
    for how in [LoadBalancer::Random, LoadBalancer::LeastRequest, LoadBalancer::RoundRobin] {
        let counts = counts(drawn(&single(policy(how), &pods), 8_000, Instant::now()));
        for (name, share) in [("a", 0.125), ("b", 0.25), ("c", 0.625)] {
            assert!(near(counts[name], 8_000, share), "{how:?}: {counts:?}");
        }
    }
}

#[test]
fn round_robin_takes_everybody_once_a_round() {
    let names = drawn(&single(policy(LoadBalancer::RoundRobin), &pods(5)), 100, Instant::now());
    assert!(names.windows(5).all(|round| counts(round.to_vec()).len() == 5), "{names:?}");
}

#[test]
fn round_robin_by_weight_is_even_within_a_round() {
    let balancer = single(policy(LoadBalancer::RoundRobin), &[pod("a", 1), pod("b", 3)]);
    let names = drawn(&balancer, 400, Instant::now());
    for round in names.windows(8) {
        let a = round.iter().filter(|name| *name == "a").count();
        assert!((1..=3).contains(&a), "{round:?}");
    }
}

#[test]
fn one_who_returns_does_not_make_up_for_its_absence() {
    let balancer = single(policy(LoadBalancer::RoundRobin), &pods(2));
    let (now, mut rng) = (Instant::now(), rng());
    for _ in 0..50 {
        let pick = balancer.choose(&[Uid("p0".into())], now, &mut rng).unwrap();
        assert_eq!(name(&pick), "p1");
    }
    let names = drawn(&balancer, 10, now);
    assert!((4..=6).contains(&names.iter().filter(|name| *name == "p0").count()), "{names:?}");
}

#[test]
fn the_busier_of_two_is_left_alone_also_by_other_workers() {
    let shared = cluster(&Clusters::default());
    let two = pods(2);
    let workers = [(); 2].map(|()| balancer(shared.clone(), policy(LoadBalancer::LeastRequest), &two));
    let (now, mut rng) = (Instant::now(), rng());
    let busy = workers[0].choose(&[Uid("p1".into())], now, &mut rng).unwrap();
    assert_eq!(name(&busy), "p0");
    for worker in &workers {
        assert_eq!(counts(drawn(worker, 50, now)), BTreeMap::from([("p1".to_owned(), 50)]));
    }
    drop(busy);
    assert_eq!(counts(drawn(&workers[1], 50, now)).len(), 2);
}

#[test]
fn open_requests_even_out_by_capacity() {
    let mut many = pods(9);
    many.push(pod("large", 3));
    let balancer = single(policy(LoadBalancer::LeastRequest), &many);
    let (now, mut rng) = (Instant::now(), rng());
    let open: Vec<_> = (0..1_200).map(|_| balancer.choose(&[], now, &mut rng).unwrap()).collect();
    let counts = counts(open.iter().map(name));
    for (name, count) in &counts {
        let fair = if name == "large" { 300 } else { 100 };
        // Of two random choices the fuller is ever avoided: loads stay within a few requests of each other.
        assert!(count.abs_diff(fair) <= fair / 15, "{counts:?}");
    }
}

#[test]
fn whoever_refuses_is_chosen_no_more_often_than_the_others() {
    const DRAWS: usize = 6_000;
    for refusing in [&["p0"][..], &["p0", "p1"], &["p0", "p1", "p2"]] {
        let balancer = single(policy(LoadBalancer::LeastRequest), &pods(4));
        let (now, mut rng) = (Instant::now(), rng());
        let (mut open, mut names) = (std::collections::VecDeque::new(), Vec::new());
        for _ in 0..DRAWS {
            let pick = balancer.choose(&[], now, &mut rng).unwrap();
            names.push(name(&pick));
            if refusing.contains(&&*name(&pick)) {
                pick.refused();
            } else {
                open.push_back(pick);
            }
            if open.len() > 40 {
                open.pop_front();
            }
        }
        let counts = counts(names);
        assert!(counts.values().all(|count| near(*count, DRAWS, 0.25)), "{refusing:?}: {counts:?}");
    }
}

#[test]
fn one_that_refuses_no_more_is_judged_by_its_load_again() {
    let balancer = single(policy(LoadBalancer::LeastRequest), &pods(2));
    let (now, mut rng) = (Instant::now(), rng());
    let busy = balancer.choose(&[Uid("p1".into())], now, &mut rng).unwrap();
    busy.refused();
    assert_eq!(counts(drawn(&balancer, 10, now)).len(), 2);
    drawn(&balancer, 100, now);
    assert_eq!(counts(drawn(&balancer, 50, now)), BTreeMap::from([("p1".to_owned(), 50)]));
}

#[test]
fn tried_ones_come_last() {
    let (now, mut rng) = (Instant::now(), rng());
    for how in [LoadBalancer::Random, LoadBalancer::LeastRequest, LoadBalancer::RoundRobin] {
        let balancer = single(policy(how), &pods(3));
        let mut tried = vec![];
        for _ in 0..3 {
            let pick = balancer.choose(&tried, now, &mut rng).unwrap();
            assert!(!tried.contains(&pick.workload.uid));
            tried.push(pick.workload.uid.clone());
        }
        assert!(balancer.choose(&tried, now, &mut rng).is_some());
    }
}

#[test]
fn nearer_endpoints_come_first_and_farther_ones_when_those_fail() {
    let mut service = service();
    service.load_balancing.scopes = vec![Scope::Node];
    let pods = [on("here", pod("near", 1)), on("there", pod("far", 1))];
    for (mode, instead) in [(BalanceMode::Failover, Some("far")), (BalanceMode::Strict, None)] {
        service.load_balancing.mode = mode;
        let balancer = of_service(&service, cluster(&Clusters::default()), ejecting(100, 0), &pods);
        let now = Instant::now();
        assert_eq!(counts(drawn(&balancer, 20, now)), BTreeMap::from([("near".to_owned(), 20)]));
        let retried = balancer.choose(&[Uid("near".into())], now, &mut rng()).unwrap();
        assert_eq!(name(&retried), instead.unwrap_or("near"));
        assert!(fail(&balancer, "near", now));
        let chosen = balancer.choose(&[], now, &mut rng()).map(|pick| name(&pick));
        assert_eq!(chosen.as_deref(), instead);
    }
}

#[test]
fn an_ejected_endpoint_gets_nothing_until_its_time_is_over() {
    let balancer = single(ejecting(50, 0), &pods(3));
    let now = Instant::now();
    assert!(fail(&balancer, "p0", now));
    for after in [0, 29] {
        let counts = counts(drawn(&balancer, 100, now + Duration::from_secs(after)));
        assert_eq!(counts.keys().collect::<Vec<_>>(), ["p1", "p2"]);
    }
    assert_eq!(counts(drawn(&balancer, 100, now + Duration::from_secs(30))).len(), 3);
}

#[test]
fn ejections_hold_for_all_workers_and_outlast_a_snapshot() {
    let (clusters, three, now) = (Clusters::default(), pods(3), Instant::now());
    let workers = [(); 2].map(|()| balancer(cluster(&clusters), ejecting(50, 0), &three));
    assert!(fail(&workers[0], "p0", now));
    assert!(!fail(&workers[1], "p1", now), "one of three rests already; two would be more than half");
    let [stays, goes] = workers;
    let renewed = balancer(cluster(&clusters), ejecting(50, 0), &three[..2]);
    drop((stays, goes));
    assert_eq!(counts(drawn(&renewed, 20, now)), BTreeMap::from([("p1".to_owned(), 20)]));
}

#[test]
fn with_all_ejected_nobody_is_chosen_unless_too_few_stay() {
    let now = Instant::now();
    for (min_health_percent, chosen) in [(0, 0), (50, 2)] {
        let balancer = single(ejecting(100, min_health_percent), &pods(2));
        assert!(fail(&balancer, "p0", now));
        assert_eq!(counts(drawn(&balancer, 50, now)).len(), 1, "half is enough");
        assert!(fail(&balancer, "p1", now));
        assert_eq!(counts(drawn(&balancer, 50, now)).len(), chosen);
    }
}

#[test]
fn members_alone_are_chosen_and_their_own_port() {
    let mut other = pod("p1", 1);
    other.services = [(
        ServiceKey::new("ns", "web"),
        vec![ambit_api::workload::PortMapping { service_port: 80, target_port: 9090 }],
    )]
    .into();
    let endpoints = EndpointSet::new(&service(), [pod("p0", 1), other].map(Arc::new));
    for (member, port) in [("p0", 8080), ("p1", 9090)] {
        let balancer = Balancer::new(
            cluster(&Clusters::default()),
            Arc::default(),
            &endpoints,
            &pod("waypoint", 1),
            |workload| *workload.uid.0 == *member,
        );
        let pick = balancer.choose(&[], Instant::now(), &mut rng()).unwrap();
        assert_eq!((name(&pick).as_str(), pick.port), (member, port));
    }
    let nobody =
        Balancer::new(cluster(&Clusters::default()), Arc::default(), &endpoints, &pod("w", 1), |_| false);
    assert!(nobody.is_empty() && nobody.choose(&[], Instant::now(), &mut rng()).is_none());
}

#[test]
fn a_cluster_lives_as_long_as_it_is_used() {
    let clusters = Clusters::default();
    let one = cluster(&clusters);
    assert!(Arc::ptr_eq(&one, &cluster(&clusters)));
    let subset = ClusterKey { subset: Some("v1".into()), ..one.key().clone() };
    assert!(!Arc::ptr_eq(&one, &clusters.get(subset)));
    let gone = Arc::downgrade(&one);
    drop(one);
    assert!(gone.upgrade().is_none());
}
