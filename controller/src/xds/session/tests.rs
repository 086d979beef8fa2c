//! One stream as a table of conversations, with a clock of the test's own.

use ambit_api::wire::rpc_status::Status;
use bytes::Bytes;

use super::super::pass::MAX_RESOURCES;
use super::*;
use crate::snapshot::WaypointResources;

const A: Kind = Kind::Address;
const P: Kind = Kind::Authorization;
const P2: Kind = Kind::Policy;

fn resource(name: &str, version: &str) -> Resource {
    Resource::new(name, vec![format!("/{name}-ip")], Bytes::copy_from_slice(version.as_bytes()))
}

fn snapshot(generation: u64, policies: &[(&str, &str)], addresses: &[(&str, &str)]) -> Arc<Snapshot> {
    let all = |list: &[(&str, &str)]| {
        let named =
            |(name, version): &(&str, &str)| (Arc::<str>::from(*name), Arc::new(resource(name, version)));
        list.iter().map(named).collect()
    };
    let (addresses, authorizations) = (all(addresses), all(policies));
    Arc::new(Snapshot { generation, addresses, authorizations, ..Snapshot::default() })
}

struct Stream {
    session: Session,
    now: Instant,
}

/// What was sent: kind, names, removed, nonce.
type Sent = (Kind, Vec<String>, Vec<String>, String);

impl Stream {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { session: Session::new(Audience::Ztunnel, snapshot), now: Instant::now() }
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.session.step(input, self.now)
    }

    fn request(&mut self, kind: Kind, change: impl FnOnce(&mut DeltaDiscoveryRequest)) -> Vec<Effect> {
        let mut request =
            DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..Default::default() };
        change(&mut request);
        self.step(Input::Request(Box::new(request)))
    }

    fn ack(&mut self, sent: &Sent) -> Vec<Effect> {
        self.request(sent.0, |request| request.response_nonce = sent.3.clone())
    }

    /// Both subscriptions, everything answered.
    fn settle(&mut self) {
        let mut effects = self.request(A, |_| ());
        effects.extend(self.request(P, |_| ()));
        while let Some(sent) = sent(&effects).pop() {
            effects = self.ack(&sent);
        }
        assert!(matches!(effects[..], [Effect::Acknowledged(_)]), "{effects:?}");
    }
}

fn acknowledged(generation: u64) -> Effect {
    Effect::Acknowledged(Moment { generation, step: 0 })
}

fn sent(effects: &[Effect]) -> Vec<Sent> {
    let one = |effect: &Effect| match effect {
        Effect::Send { response, kind, .. } => {
            let names = response.resources.iter().map(|one| one.name.clone()).collect();
            Some((*kind, names, response.removed_resources.clone(), response.nonce.clone()))
        }
        _ => None,
    };
    effects.iter().filter_map(one).collect()
}

fn one(effects: &[Effect]) -> Sent {
    let mut all = sent(effects);
    assert_eq!(all.len(), 1, "{effects:?}");
    all.remove(0)
}

#[test]
fn addresses_wait_for_the_answer_to_policies_and_policies_leave_last() {
    let mut stream = Stream::new(snapshot(1, &[("p", "1")], &[("w", "1")]));
    assert_eq!(stream.request(A, |_| ()), [], "addresses wait until the stream asks for policies");
    let policies = one(&stream.request(P, |_| ()));
    assert_eq!((policies.0, &policies.1), (P, &vec!["p".to_owned()]));
    let addresses = one(&stream.ack(&policies));
    assert_eq!((addresses.0, &addresses.1), (A, &vec!["w".to_owned()]));
    assert_eq!(stream.ack(&addresses), [acknowledged(1)]);

    let policies = one(&stream.step(Input::Snapshot(snapshot(2, &[("q", "1")], &[("w", "2")]))));
    assert_eq!(
        (policies.1.clone(), policies.2.clone()),
        (vec!["q".to_owned()], vec![]),
        "added, none removed"
    );
    let addresses = one(&stream.ack(&policies));
    assert_eq!(addresses.1, ["w"]);
    let removal = one(&stream.ack(&addresses));
    assert_eq!((removal.0, removal.2.clone()), (P, vec!["p".to_owned()]));
    assert_eq!(stream.ack(&removal), [acknowledged(2)]);
}

#[test]
fn a_stream_without_policies_gets_no_addresses_and_is_sent_away() {
    let mut stream = Stream::new(snapshot(1, &[], &[("w", "1")]));
    assert_eq!(stream.request(A, |_| ()), []);
    assert_eq!(stream.step(Input::Snapshot(snapshot(2, &[("p", "1")], &[("w", "2")]))), []);
    let wake = stream.session.wake_at().expect("a time to come back");
    stream.now = wake;
    let effects = stream.step(Input::Tick);
    assert!(matches!(effects[..], [Effect::Refuse(_)]), "{effects:?}");
    // One that asks in time is served, policies first.
    let mut late = Stream::new(snapshot(1, &[("p", "1")], &[("w", "1")]));
    late.request(A, |_| ());
    late.now += POLICIES_WITHIN - Duration::from_millis(1);
    assert_eq!(late.step(Input::Tick), []);
    let policies = one(&late.request(P, |_| ()));
    assert_eq!((policies.0, one(&late.ack(&policies)).1), (P, vec!["w".to_owned()]));
}

#[test]
fn a_slow_proxy_is_overdue_after_ten_seconds_waits_and_then_gets_only_the_latest() {
    let mut stream = Stream::new(snapshot(1, &[], &[("w", "1")]));
    stream.settle();
    let first = one(&stream.step(Input::Snapshot(snapshot(2, &[], &[("w", "2")]))));
    for generation in 3..50 {
        let version = generation.to_string();
        assert_eq!(stream.step(Input::Snapshot(snapshot(generation, &[("p", "1")], &[("w", &version)]))), []);
    }
    stream.now += ANSWER_WITHIN - Duration::from_millis(1);
    assert_eq!(stream.step(Input::Tick), []);
    stream.now += Duration::from_millis(1);
    assert_eq!(stream.step(Input::Tick), [Effect::Overdue(A)]);
    assert_eq!((stream.step(Input::Tick), stream.session.wake_at()), (vec![], None), "said once");
    let effects = stream.ack(&first);
    assert_eq!(effects[0], acknowledged(2));
    let policies = one(&effects);
    assert_eq!(policies.1, ["p"]);
    let addresses = one(&stream.ack(&policies));
    assert_eq!(stream.ack(&addresses), [acknowledged(49)]);
}

#[test]
fn a_reconnect_with_known_versions_gets_the_difference() {
    let held = snapshot(1, &[("p", "1")], &[("same", "1"), ("old", "1"), ("gone", "1")]);
    let mut stream = Stream::new(snapshot(9, &[("p", "1")], &[("same", "1"), ("old", "2"), ("new", "1")]));
    let versions = |kind: Kind| {
        Audience::Ztunnel
            .resources(kind, &held)
            .expect("served")
            .values()
            .map(|one| (one.name.to_string(), one.version.to_string()))
            .collect()
    };
    stream.request(A, |request| request.initial_resource_versions = versions(A));
    let policies = one(&stream.request(P, |request| request.initial_resource_versions = versions(P)));
    assert_eq!((policies.1.len(), policies.2.len()), (0, 0), "an empty answer, so that it becomes ready");
    let addresses = one(&stream.ack(&policies));
    assert_eq!(
        (addresses.1.clone(), addresses.2.clone()),
        (vec!["new".to_owned(), "old".to_owned()], vec!["gone".to_owned()])
    );
    assert_eq!(stream.ack(&addresses), [acknowledged(9)]);
}

#[test]
fn a_refused_resource_is_reported_and_not_sent_again_before_it_changes() {
    let mut stream = Stream::new(snapshot(1, &[], &[]));
    stream.settle();
    let bad = one(&stream.step(Input::Snapshot(snapshot(2, &[("bad", "1")], &[("w", "1")]))));
    let effects = stream.request(P, |request| {
        request.response_nonce = bad.3.clone();
        request.error_detail = Some(Status { code: 3, message: "é".repeat(2_000), details: vec![] });
    });
    let Effect::Nacked { kind: P, message } = &effects[0] else { panic!("{effects:?}") };
    assert!(message.len() <= MAX_MESSAGE_BYTES, "clipped at a character");
    let addresses = one(&effects);
    assert_eq!(addresses.1, ["w"], "the rest goes on");
    stream.ack(&addresses);
    assert_eq!(stream.step(Input::Snapshot(snapshot(3, &[("bad", "1")], &[("w", "1")]))), [acknowledged(3)]);
    assert_eq!(one(&stream.step(Input::Snapshot(snapshot(4, &[("bad", "2")], &[("w", "1")])))).1, ["bad"]);
}

#[test]
fn an_answer_to_something_else_is_no_answer() {
    let mut stream = Stream::new(snapshot(1, &[("p", "1")], &[("w", "1")]));
    stream.request(A, |_| ());
    let policies = one(&stream.request(P, |_| ()));
    assert_eq!(stream.ack(&(A, vec![], vec![], policies.3.clone())), [], "right nonce, wrong kind");
    assert_eq!(stream.ack(&(P, vec![], vec![], "1-99".to_owned())), []);
    assert_eq!(stream.ack(&(P, vec![], vec![], String::new())), []);
    assert_eq!(one(&stream.ack(&policies)).0, A);
}

#[test]
fn names_are_answered_by_name_or_alias_and_missing_ones_as_removed() {
    let mut stream = Stream::new(snapshot(1, &[], &[("a", "1"), ("b", "1")]));
    stream.request(A, |request| {
        request.resource_names_subscribe = vec!["*".to_owned()];
        request.resource_names_unsubscribe = vec!["*".to_owned()];
    });
    let policies = one(&stream.request(P, |_| ()));
    let nothing = one(&stream.ack(&policies));
    assert_eq!((nothing.1.len(), nothing.2.len()), (0, 0), "on demand: nothing asked for yet");
    stream.ack(&nothing);
    let ask = |request: &mut DeltaDiscoveryRequest| {
        request.resource_names_subscribe = vec!["/a-ip".to_owned(), "nobody".to_owned()];
    };
    for _ in 0..2 {
        let answer = one(&stream.request(A, ask));
        assert_eq!(
            (&answer.1, &answer.2),
            (&vec!["a".to_owned()], &vec!["nobody".to_owned()]),
            "each time it asks"
        );
        stream.ack(&answer);
    }
    let changed = one(&stream.step(Input::Snapshot(snapshot(2, &[], &[("a", "2"), ("b", "2")]))));
    assert_eq!(changed.1, ["a"], "b was not asked for");
    stream.ack(&changed);
    let effects = stream.request(A, |request| request.resource_names_unsubscribe = vec!["/a-ip".to_owned()]);
    assert_eq!(effects, [acknowledged(2)], "not told that it is gone");
}

#[test]
fn too_many_names_end_the_stream_and_unknown_types_do_not() {
    let mut stream = Stream::new(snapshot(1, &[], &[]));
    let names = (0..=MAX_NAMES).map(|n| n.to_string()).collect();
    let effects = stream.request(A, |request| request.resource_names_subscribe = names);
    assert!(matches!(effects[0], Effect::Refuse(_)), "{effects:?}");
    let mut stream = Stream::new(snapshot(1, &[], &[]));
    let effects = stream.request(A, |request| request.type_url = "other".to_owned());
    assert_eq!(effects, [Effect::UnknownType("other".to_owned())]);
}

#[test]
fn a_large_snapshot_goes_in_bounded_responses_one_at_a_time() {
    let names: Vec<String> = (0..MAX_RESOURCES * 2 + 10).map(|n| format!("w{n:05}")).collect();
    let addresses: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let mut stream = Stream::new(snapshot(1, &[], &addresses));
    stream.request(A, |_| ());
    let mut effects = stream.request(P, |_| ());
    let (mut seen, mut responses) = (0, 0);
    while let Some(response) = sent(&effects).pop() {
        assert!(response.1.len() <= MAX_RESOURCES);
        (seen, responses) = (seen + response.1.len(), responses + 1);
        effects = stream.ack(&response);
    }
    assert_eq!((seen, responses), (names.len(), 4), "policies, then three parts");
    let big = "x".repeat(super::super::pass::MAX_BYTES / 2 + 1);
    let changed = [(names[0].as_str(), big.as_str()), (names[1].as_str(), big.as_str())];
    let mut all = addresses.clone();
    all[..2].copy_from_slice(&changed);
    let first = one(&stream.step(Input::Snapshot(snapshot(2, &[], &all))));
    assert_eq!(first.1.len(), 1, "two would be too large");
    assert_eq!(one(&stream.ack(&first)).1.len(), 1);
}

/// Each of a waypoint's kinds holds the resources named; the addresses are everybody's.
fn waypoint_snapshot(generation: u64, names: &[&str]) -> Arc<Snapshot> {
    let all: crate::snapshot::Resources =
        names.iter().map(|name| (Arc::from(*name), Arc::new(resource(name, "1")))).collect();
    let account = "shop/wp".parse().expect("an account");
    let mut own = WaypointResources::new(account);
    for map in
        [&mut own.gateway, &mut own.services, &mut own.destinations, &mut own.workloads, &mut own.policies]
    {
        *map = all.clone();
    }
    let other = WaypointResources { policies: crate::snapshot::Resources::new(), ..own.clone() };
    let waypoints = [("shop/wp", own), ("shop/other", other)];
    let waypoints = waypoints.map(|(name, own)| (Arc::from(name), Arc::new(own))).into_iter().collect();
    Arc::new(Snapshot { generation, addresses: all, waypoints, ..Snapshot::default() })
}

fn waypoint(snapshot: Arc<Snapshot>) -> Stream {
    let audience = Audience::Waypoint("shop/wp".into());
    Stream { session: Session::new(audience, snapshot), now: Instant::now() }
}

/// Answers everything and returns what was sent.
fn converse(stream: &mut Stream, mut effects: Vec<Effect>) -> Vec<Sent> {
    let mut all = Vec::new();
    while let Some(response) = sent(&effects).pop() {
        effects = stream.ack(&response);
        all.push(response);
    }
    all
}

#[test]
fn a_waypoint_is_told_in_the_order_of_kinds_and_what_is_gone_in_the_opposite_one() {
    let order = [P2, Kind::Workload, A, Kind::Destination, Kind::Service, Kind::Gateway];
    let mut stream = waypoint(waypoint_snapshot(1, &["a"]));
    // In whatever order it asks, nothing is sent before it asks for policies and what pods demand.
    for kind in [Kind::Gateway, Kind::Service, Kind::Destination, A, Kind::Workload] {
        assert_eq!(stream.request(kind, |_| ()), [], "{kind}");
    }
    let effects = stream.request(P2, |_| ());
    let told = converse(&mut stream, effects);
    assert_eq!(told.iter().map(|sent| sent.0).collect::<Vec<_>>(), order);

    let effects = stream.step(Input::Snapshot(waypoint_snapshot(2, &["b"])));
    let told = converse(&mut stream, effects);
    let additions = told.iter().filter(|sent| !sent.1.is_empty()).map(|sent| sent.0);
    assert_eq!(additions.collect::<Vec<_>>(), order);
    let removals = told.iter().filter(|sent| !sent.2.is_empty()).map(|sent| sent.0);
    assert_eq!(removals.collect::<Vec<_>>(), order.iter().rev().copied().collect::<Vec<_>>());
    let last_addition = told.iter().rposition(|sent| !sent.1.is_empty());
    assert_eq!(last_addition, told.iter().position(|sent| !sent.2.is_empty()), "the turn is one response");
}

#[test]
fn a_waypoint_gets_its_own_gateways_resources_and_a_ztunnel_none() {
    let mut stream = Stream::new(waypoint_snapshot(1, &["a"]));
    for kind in Kind::ALL.into_iter().filter(|kind| !matches!(*kind, A | P)) {
        assert_eq!(stream.request(kind, |_| ()), [Effect::UnknownType(kind.type_url().to_owned())]);
    }
    let mut stream = waypoint(waypoint_snapshot(1, &["a"]));
    assert_eq!(stream.request(P, |_| ()), [Effect::UnknownType(P.type_url().to_owned())]);
    let mut other = Stream {
        session: Session::new(Audience::Waypoint("shop/other".into()), waypoint_snapshot(1, &["a"])),
        now: Instant::now(),
    };
    assert_eq!(other.request(Kind::Workload, |_| ()), []);
    let policies = one(&other.request(P2, |_| ()));
    assert_eq!((policies.0, policies.1.len()), (P2, 0), "the other has none");
    let workloads = one(&other.ack(&policies));
    assert_eq!((workloads.0, workloads.1.len()), (Kind::Workload, 1));
}

#[test]
fn a_waypoint_whose_gateway_is_gone_keeps_what_it_holds() {
    let mut stream = waypoint(waypoint_snapshot(1, &["a"]));
    for kind in [P2, Kind::Workload, A, Kind::Destination, Kind::Service, Kind::Gateway] {
        let effects = stream.request(kind, |_| ());
        converse(&mut stream, effects);
    }
    assert_eq!(stream.step(Input::Snapshot(snapshot(2, &[], &[]))), []);
}
