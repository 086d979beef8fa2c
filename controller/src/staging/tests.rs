//! The order of attaching and detaching, with a clock and proxies of the test's own.

use ambit_api::wire::security::Authorization;
use ambit_api::wire::workload::address::Type;
use ambit_api::wire::workload::gateway_address::Destination;
use ambit_api::wire::workload::{Address, GatewayAddress, NamespacedHostname, Service, Workload};
use prost::Message;

use super::*;
use crate::xds::Audience;
use crate::xds::syncz::Proxy;

const WEB: &str = "shop/web.shop.svc.cluster.local";
const POD: &str = "c//Pod/shop/web-1";

/// What the world looks like: is there a waypoint before the service, and which version has a policy elsewhere.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Waypoint(&'static str),
}

struct World {
    staging: Staging,
    now: Instant,
    generation: u64,
    slowest: Slowest,
}

fn resource(name: &str, body: Vec<u8>) -> (Arc<str>, Arc<Resource>) {
    (name.into(), Arc::new(Resource::new(name, vec![], body.into())))
}

fn authorization(name: &str, names: &str) -> (Arc<str>, Arc<Resource>) {
    resource(name, Authorization { name: names.to_owned(), ..Default::default() }.encode_to_vec())
}

fn address(name: &str, r#type: Type) -> (Arc<str>, Arc<Resource>) {
    resource(name, Address { r#type: Some(r#type) }.encode_to_vec())
}

/// `allow` lets the waypoint in; `lock` is there only with one, and the pod names it then.
fn snapshot(generation: u64, before: Before, elsewhere: &str) -> Arc<Snapshot> {
    let gateway = |name: &str| GatewayAddress {
        destination: Some(Destination::Hostname(NamespacedHostname {
            namespace: "shop".to_owned(),
            hostname: format!("{name}.shop.svc.cluster.local"),
        })),
        ..Default::default()
    };
    let mut authorizations = vec![authorization("other/p", elsewhere), authorization("shop/q", elsewhere)];
    let mut workload = Workload { namespace: "shop".to_owned(), ..Default::default() };
    let mut service = Service { namespace: "shop".to_owned(), ..Default::default() };
    let mut waypoints = ["wp", "new"].map(|name| {
        let account = format!("shop/{name}").parse().expect("an account");
        (format!("shop/{name}"), WaypointResources::new(account))
    });
    let mut allow = String::new();
    if let Before::Waypoint(name) = before {
        allow = format!("cluster.local/ns/shop/sa/{name}");
        authorizations.push(authorization("shop/lock", &allow));
        workload.authorization_policies = vec!["shop/lock".to_owned()];
        service.waypoint = Some(gateway(name));
        let own = waypoints.iter_mut().find(|(gateway, _)| gateway.ends_with(name));
        own.expect("known").1.services = [resource(WEB, vec![])].into_iter().collect();
    }
    authorizations.push(authorization("shop/allow", &allow));
    Arc::new(Snapshot {
        generation,
        step: 0,
        addresses: [address(POD, Type::Workload(workload)), address(WEB, Type::Service(service))]
            .into_iter()
            .collect(),
        authorizations: authorizations.into_iter().collect(),
        waypoints: waypoints.into_iter().map(|(name, own)| (Arc::from(name), Arc::new(own))).collect(),
    })
}

impl World {
    /// A settled world with one ztunnel and one replica of each waypoint.
    fn new(before: Before) -> Self {
        let mut world = Self {
            staging: Staging::default(),
            now: Instant::now(),
            generation: 0,
            slowest: Slowest::default(),
        };
        world.change(before, "1");
        assert_eq!(world.staging.wake_at(), None, "the first snapshot is told at once");
        world.slowest.waypoints = [("shop/wp".to_owned(), 1), ("shop/new".to_owned(), 1)].into();
        world.slowest.ztunnel = Some(1);
        world
    }

    fn change(&mut self, before: Before, elsewhere: &str) -> Told {
        self.generation += 1;
        self.staging.take(snapshot(self.generation, before, elsewhere), self.now);
        self.told()
    }

    fn told(&mut self) -> Told {
        self.staging.advance(&self.slowest, self.now);
        Told(self.staging.told.clone())
    }

    fn waypoint_answers(&mut self, name: &str) -> Told {
        self.slowest.waypoints.insert(name.to_owned(), self.staging.told.step);
        self.told()
    }

    fn ztunnels_answer(&mut self) -> Told {
        self.slowest.ztunnel = Some(self.staging.told.step);
        self.told()
    }
}

struct Told(Arc<Snapshot>);

impl Told {
    /// Policies, workload, binding as in the snapshot of `before`; the rest of `shop/wp` is told or not.
    fn is(&self, policies: Before, workload: Before, binding: Before, served: &[&str]) {
        let body = |map: &Resources, name: &str| map.get(name).map(|one| one.version.clone());
        let like = |before: Before| snapshot(0, before, "1");
        for name in ["shop/allow", "shop/lock"] {
            let told = body(&self.0.authorizations, name);
            assert_eq!(told, body(&like(policies).authorizations, name), "{name}");
        }
        assert_eq!(body(&self.0.addresses, POD), body(&like(workload).addresses, POD), "workload");
        assert_eq!(body(&self.0.addresses, WEB), body(&like(binding).addresses, WEB), "binding");
        let serving = self.0.waypoints.iter().filter(|(_, own)| own.services.contains_key(WEB));
        assert_eq!(serving.map(|(gateway, _)| &**gateway).collect::<Vec<_>>(), served);
    }

    fn elsewhere(&self, name: &str, version: &str) {
        let expected = authorization(name, version).1.version.clone();
        assert_eq!(self.0.authorizations.get(name).map(|one| one.version.clone()), Some(expected), "{name}");
    }
}

const NONE: Before = Before::Nothing;
const WP: Before = Before::Waypoint("wp");
const NEW: Before = Before::Waypoint("new");

#[test]
fn attaching_goes_waypoint_policies_workloads_binding() {
    let mut world = World::new(NONE);
    world.change(WP, "1").is(NONE, NONE, NONE, &["shop/wp"]);
    world.ztunnels_answer().is(NONE, NONE, NONE, &["shop/wp"]);
    world.waypoint_answers("shop/new").is(NONE, NONE, NONE, &["shop/wp"]);
    world.waypoint_answers("shop/wp").is(WP, NONE, NONE, &["shop/wp"]);
    world.waypoint_answers("shop/wp").is(WP, NONE, NONE, &["shop/wp"]);
    world.ztunnels_answer().is(WP, WP, NONE, &["shop/wp"]);
    let told = world.ztunnels_answer();
    told.is(WP, WP, WP, &["shop/wp"]);
    assert_eq!(told.0.generation, 1, "not all is acknowledged yet");
    let told = world.ztunnels_answer();
    assert_eq!((told.0.generation, world.staging.wake_at()), (2, None));
}

#[test]
fn detaching_goes_policies_workloads_binding_waypoint() {
    let mut world = World::new(WP);
    let told = world.change(NONE, "1");
    told.elsewhere("shop/allow", "");
    assert!(told.0.authorizations.contains_key("shop/lock"), "kept for the workload that names it");
    world.ztunnels_answer().is(NONE, NONE, WP, &["shop/wp"]);
    world.ztunnels_answer().is(NONE, NONE, NONE, &["shop/wp"]);
    world.ztunnels_answer().is(NONE, NONE, NONE, &[]);
    assert_eq!(world.staging.wake_at(), None);
}

#[test]
fn another_waypoint_is_there_before_the_old_one_goes() {
    let mut world = World::new(WP);
    world.change(NEW, "1").is(WP, WP, WP, &["shop/new", "shop/wp"]);
    world.waypoint_answers("shop/wp").is(WP, WP, WP, &["shop/new", "shop/wp"]);
    world.waypoint_answers("shop/new").is(NEW, WP, WP, &["shop/new", "shop/wp"]);
    // The pod names the same policy as before: its Workload does not change.
    world.ztunnels_answer().is(NEW, NEW, NEW, &["shop/new", "shop/wp"]);
    world.ztunnels_answer().is(NEW, NEW, NEW, &["shop/new"]);
}

#[test]
fn what_does_not_concern_a_move_passes_at_once() {
    let mut world = World::new(NONE);
    let told = world.change(WP, "2");
    told.elsewhere("other/p", "2");
    told.elsewhere("shop/q", "2");
    for version in ["3", "4"] {
        let told = world.change(WP, version);
        told.is(NONE, NONE, NONE, &["shop/wp"]);
        told.elsewhere("other/p", version);
        told.elsewhere("shop/q", version);
    }
    // Nor does any of that begin the wait anew.
    world.now += STEP_WITHIN;
    world.told().is(WP, NONE, NONE, &["shop/wp"]);
}

#[test]
fn nobody_is_waited_for_longer_than_ten_seconds_or_at_all_when_not_there() {
    let mut world = World::new(NONE);
    let told = world.change(WP, "1");
    told.is(NONE, NONE, NONE, &["shop/wp"]);
    for expected in [(WP, NONE, NONE), (WP, WP, NONE), (WP, WP, WP)] {
        assert_eq!(world.staging.wake_at(), Some(world.now + STEP_WITHIN));
        world.now += STEP_WITHIN - Duration::from_millis(1);
        assert!(world.staging.advance(&world.slowest, world.now).is_none());
        world.now += Duration::from_millis(1);
        world.told().is(expected.0, expected.1, expected.2, &["shop/wp"]);
    }
    let mut world = World::new(NONE);
    world.slowest = Slowest::default();
    let told = world.change(WP, "1");
    told.is(WP, WP, WP, &["shop/wp"]);
    assert_eq!((told.0.generation, world.staging.wake_at()), (2, None));
}

#[test]
fn a_move_that_is_taken_back_leaves_nothing_behind() {
    let mut world = World::new(NONE);
    world.change(WP, "1");
    let told = world.change(NONE, "1");
    told.is(NONE, NONE, NONE, &[]);
    assert_eq!((told.0.generation, world.staging.wake_at()), (3, None));
    // Half way there, policies and workloads follow at once.
    let mut world = World::new(NONE);
    world.change(WP, "1");
    world.waypoint_answers("shop/wp");
    world.ztunnels_answer().is(WP, WP, NONE, &["shop/wp"]);
    world.change(NONE, "1").is(NONE, NONE, NONE, &[]);
    assert_eq!(world.staging.wake_at(), None);
}

#[test]
fn every_publication_has_a_moment_of_its_own() {
    let mut world = World::new(NONE);
    let mut moments = vec![world.staging.told.moment()];
    for before in [WP, NEW, NONE, WP, NONE] {
        moments.push(world.change(before, "1").0.moment());
        for _ in 0..6 {
            world.waypoint_answers("shop/wp");
            world.waypoint_answers("shop/new");
            moments.push(world.ztunnels_answer().0.moment());
        }
        assert_eq!(world.staging.wake_at(), None, "it ends");
    }
    moments.dedup();
    let sorted = {
        let mut all = moments.clone();
        all.sort_by_key(|moment| moment.step);
        all.dedup();
        all
    };
    assert_eq!(moments, sorted);
}

#[tokio::test]
async fn the_task_tells_the_first_snapshot_and_follows_what_proxies_answer() {
    let (targets, source) = watch::channel(snapshot(1, NONE, "1"));
    let (sender, mut told) = watch::channel(Arc::new(Snapshot::default()));
    let proxies = Proxies::default();
    let ztunnel = proxies.enter(Proxy::new(&Audience::Ztunnel));
    let waypoint = proxies.enter(Proxy::new(&Audience::Waypoint("shop/wp".into())));
    let task = ambit_process::spawn::spawn("staging", run(source, sender, proxies.clone()));
    told.wait_for(|told| told.generation == 1).await.expect("running");
    targets.send_replace(snapshot(2, WP, "1"));
    let bound = |told: &Arc<Snapshot>| Binding::of(told.addresses.get(WEB)).waypoints.len() == 1;
    let served = |told: &Arc<Snapshot>| told.waypoints["shop/wp"].services.contains_key(WEB);
    let now = told.wait_for(|told| served(told)).await.expect("running").clone();
    assert!(!bound(&now));
    waypoint.acknowledged(now.moment());
    // Policies, Workloads, the binding, and nothing more.
    while told.borrow().generation == 1 {
        told.changed().await.expect("running");
        let moment = told.borrow_and_update().moment();
        ztunnel.acknowledged(moment);
    }
    assert!(bound(&told.borrow()));
    drop(targets);
    task.await.expect("it ends with the translation");
}
