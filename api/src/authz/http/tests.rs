//! policy.md rules 3 to 8, 16 and 17, and every attribute, as tables.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::{Facts, HttpFacts, audited, dry_run};
use crate::authz::{Denied, Layer};
use crate::identity::Identity;
use crate::policy::PolicyKey;
use crate::reason::Reason;
use crate::service::ServiceKey;
use crate::waypoint::decide::{self, Dialled, Snapshot};
use crate::waypoint::{Gateway, Policy, Service, Workload};
use crate::wire::waypoint as wire;
use crate::workload::Uid;

use wire::policy::Action::{self, Allow, Audit, Custom, Deny};
use wire::text::Kind::{Exact, Prefix, Present, Suffix};

#[derive(Default)]
struct World {
    gateway: Option<Arc<Gateway>>,
    pod: Option<Arc<Workload>>,
    policies: BTreeMap<PolicyKey, Arc<Policy>>,
}

impl Snapshot for World {
    fn gateway(&self) -> Option<&Arc<Gateway>> {
        self.gateway.as_ref()
    }

    fn service(&self, _: &ServiceKey) -> Option<&Arc<Service>> {
        None
    }

    fn workload(&self, _: &Uid) -> Option<&Arc<Workload>> {
        self.pod.as_ref()
    }

    fn policy(&self, key: &PolicyKey) -> Option<&Arc<Policy>> {
        self.policies.get(key)
    }
}

/// A world whose gateway and pod list nothing yet.
fn world(policies: Vec<wire::Policy>) -> World {
    let known = policies.into_iter().map(|one| Policy::try_from(one).expect("is valid"));
    World {
        gateway: Some(Arc::new(wire::Gateway::default().try_into().expect("is valid"))),
        pod: Some(Arc::new(pod(wire::Workload::default()))),
        policies: known.map(|one| (one.key.clone(), Arc::new(one))).collect(),
    }
}

fn pod(wire: wire::Workload) -> Workload {
    wire::Workload { uid: "pod".to_owned(), ..wire }.try_into().expect("is valid")
}

fn policy(name: &str, action: Action, rules: Vec<wire::PolicyRule>) -> wire::Policy {
    let (namespace, name) = ("shop".to_owned(), name.to_owned());
    wire::Policy { namespace, name, action: action.into(), rules, ..Default::default() }
}

fn text(kind: wire::text::Kind) -> Vec<wire::Text> {
    vec![wire::Text { kind: Some(kind) }]
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn from(source: wire::Source) -> wire::PolicyRule {
    wire::PolicyRule { from: vec![source], ..Default::default() }
}

fn to(operation: wire::Operation) -> wire::PolicyRule {
    wire::PolicyRule { to: vec![operation], ..Default::default() }
}

fn when(key: &str, values: &[&str], not_values: &[&str]) -> wire::PolicyRule {
    let (values, not_values) = (strings(values), strings(not_values));
    wire::PolicyRule {
        when: vec![wire::Condition { key: key.to_owned(), values, not_values }],
        ..Default::default()
    }
}

fn principal(name: &str) -> wire::PolicyRule {
    from(wire::Source { principals: text(Exact(name.to_owned())), ..Default::default() })
}

fn service(policies: &[&str]) -> Service {
    let wire = wire::Service {
        namespace: "shop".to_owned(),
        hostname: "web".to_owned(),
        policies: strings(policies),
        ..Default::default()
    };
    wire.try_into().expect("is valid")
}

/// The facts that every test starts from: `td/ns/shop/sa/ann` by the waypoint `td/ns/shop/sa/wp`.
struct Call {
    client: Identity,
    waypoint: Identity,
    destination: SocketAddr,
    method: Method,
    authority: &'static str,
    path: &'static str,
    headers: HeaderMap,
    tcp: bool,
}

fn call() -> Call {
    let identity = |text: &str| text.parse::<Identity>().expect("an identity");
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-one", "a"), ("x-two", "a"), ("x-two", "b")] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Call {
        client: identity("spiffe://td/ns/shop/sa/ann"),
        waypoint: identity("spiffe://td/ns/shop/sa/wp"),
        destination: "10.0.1.9:5678".parse().expect("an address"),
        method: Method::GET,
        authority: "web.shop:80",
        path: "/api/v1",
        headers,
        tcp: false,
    }
}

impl Call {
    fn facts(&self) -> Facts<'_> {
        let (method, authority, path, headers) = (&self.method, self.authority, self.path, &self.headers);
        Facts {
            client: Some(&self.client),
            waypoint: &self.waypoint,
            source: "10.0.0.5".parse().expect("an address"),
            remote: None,
            destination: self.destination,
            request: (!self.tcp).then_some(HttpFacts { method, authority, path, headers }),
        }
    }

    /// T of a service with these policies.
    fn target(&self, policies: Vec<wire::Policy>) -> Result<(), Denied> {
        let names: Vec<String> =
            policies.iter().map(|one| format!("{}/{}", one.namespace, one.name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let service = service(&names);
        let dialled = Dialled::Service { service: &service, port: 80 };
        decide::target(&world(policies), dialled, &self.facts()).map(drop)
    }

    /// S of a pod like this.
    fn endpoint(&self, wire: wire::Workload, policies: Vec<wire::Policy>) -> Result<(), Denied> {
        let world = World { pod: Some(Arc::new(pod(wire))), ..world(policies) };
        let service = service(&[]);
        let dialled = Dialled::Service { service: &service, port: 80 };
        decide::endpoint(&world, dialled, &Uid("pod".into()), &self.facts()).map(drop)
    }

    /// Whether one rule, alone in an ALLOW or a DENY of T, matches.
    fn hits(&self, action: Action, rule: wire::PolicyRule) -> bool {
        self.target(vec![policy("p", action, vec![rule])]).is_ok() == (action == Allow)
    }
}

#[test]
fn every_attribute_and_its_opposite() {
    let t = |kind: wire::text::Kind| text(kind);
    let s = |one: &str| one.to_owned();
    // (a rule, whether it matches); negated attributes stand beside their opposites
    let rows = [
        (principal("td/ns/shop/sa/ann"), true),
        (principal("td/ns/shop/sa/an"), false),
        (principal("spiffe://td/ns/shop/sa/ann"), false),
        (from(wire::Source { principals: t(Prefix(s("td/ns/shop/"))), ..Default::default() }), true),
        (from(wire::Source { principals: t(Suffix(s("/sa/ann"))), ..Default::default() }), true),
        (from(wire::Source { principals: t(Present(true)), ..Default::default() }), true),
        (from(wire::Source { not_principals: t(Suffix(s("/sa/ann"))), ..Default::default() }), false),
        (from(wire::Source { not_principals: t(Exact(s("other"))), ..Default::default() }), true),
        (from(wire::Source { namespaces: t(Exact(s("shop"))), ..Default::default() }), true),
        (from(wire::Source { not_namespaces: t(Exact(s("shop"))), ..Default::default() }), false),
        (from(wire::Source { service_accounts: vec![s("shop/ann")], ..Default::default() }), true),
        (from(wire::Source { service_accounts: vec![s("sh.p/ann")], ..Default::default() }), false),
        (from(wire::Source { not_service_accounts: vec![s("shop/ann")], ..Default::default() }), false),
        (from(wire::Source { ip_blocks: vec![s("10.0.0.0/24")], ..Default::default() }), true),
        (from(wire::Source { ip_blocks: vec![s("10.0.0.6")], ..Default::default() }), false),
        (from(wire::Source { not_ip_blocks: vec![s("::ffff:10.0.0.0/120")], ..Default::default() }), false),
        (from(wire::Source { trust_domains: t(Exact(s("td"))), ..Default::default() }), true),
        (from(wire::Source { not_trust_domains: t(Exact(s("td"))), ..Default::default() }), false),
        (to(wire::Operation { hosts: t(Exact(s("WEB.Shop"))), ..Default::default() }), true),
        (to(wire::Operation { hosts: t(Exact(s("web.shop:80"))), ..Default::default() }), true),
        (to(wire::Operation { hosts: t(Exact(s("web.shop:81"))), ..Default::default() }), false),
        (to(wire::Operation { hosts: t(Suffix(s(".shop"))), ..Default::default() }), true),
        (to(wire::Operation { not_hosts: t(Exact(s("web.SHOP"))), ..Default::default() }), false),
        (to(wire::Operation { ports: vec![5678], ..Default::default() }), true),
        (to(wire::Operation { ports: vec![80], ..Default::default() }), false),
        (to(wire::Operation { not_ports: vec![5678], ..Default::default() }), false),
        (to(wire::Operation { methods: t(Exact(s("GET"))), ..Default::default() }), true),
        (to(wire::Operation { methods: t(Exact(s("get"))), ..Default::default() }), false),
        (to(wire::Operation { not_methods: t(Exact(s("GET"))), ..Default::default() }), false),
        (to(wire::Operation { paths: vec![s("/api/*")], ..Default::default() }), true),
        (to(wire::Operation { paths: vec![s("/api")], ..Default::default() }), false),
        (to(wire::Operation { not_paths: vec![s("/api/{*}")], ..Default::default() }), false),
        (when("request.headers[X-One]", &["a"], &[]), true),
        (when("request.headers[x-one]", &["*"], &[]), true),
        (when("request.headers[x-one]", &["b*"], &[]), false),
        (when("request.headers[x-one]", &[], &["a"]), false),
        (when("request.headers[x-none]", &["*"], &[]), false),
        (when("request.headers[x-none]", &[], &["a"]), true),
        (when("request.headers[:method]", &["GET"], &[]), true),
        (when("request.headers[host]", &["web.shop"], &[]), true),
        (when("source.ip", &["10.0.0.0/8"], &["10.0.0.5"]), false),
        (when("source.namespace", &["sh*"], &[]), true),
        (when("source.principal", &["*/sa/ann"], &[]), true),
        (when("source.serviceAccount", &["shop/ann"], &[]), true),
        (when("source.trustDomain", &["td"], &[]), true),
        (when("destination.ip", &["10.0.1.0/24"], &[]), true),
        (when("destination.port", &["5678"], &[]), true),
        (when("destination.port", &[], &["5678"]), false),
        (wire::PolicyRule::default(), true),
    ];
    for (rule, hits) in rows {
        for action in [Allow, Deny, Custom] {
            assert_eq!(call().hits(action, rule.clone()), hits, "{action:?} {rule:?}");
        }
    }
}

#[test]
fn what_cannot_be_evaluated_never_allows_and_always_denies() {
    let unseen = [
        from(wire::Source { request_principals: text(Present(true)), ..Default::default() }),
        from(wire::Source { not_request_principals: text(Present(true)), ..Default::default() }),
        from(wire::Source { remote_ip_blocks: strings(&["0.0.0.0/0"]), ..Default::default() }),
        from(wire::Source { not_remote_ip_blocks: strings(&["0.0.0.0/0"]), ..Default::default() }),
        from(wire::Source::default()),
        to(wire::Operation::default()),
        when("request.auth.claims[iss]", &["x"], &[]),
        when("request.auth.claims[iss]", &[], &["x"]),
        when("connection.sni", &["x"], &[]),
        when("what.is.this", &["x"], &[]),
        when("request.headers[:path]", &["/"], &[]),
    ];
    for rule in unseen {
        assert!(!call().hits(Allow, rule.clone()), "{rule:?}");
        assert!(call().hits(Deny, rule.clone()), "{rule:?}");
    }
    let http = [
        to(wire::Operation { methods: text(Exact("POST".to_owned())), ..Default::default() }),
        to(wire::Operation { not_paths: strings(&["/x"]), ..Default::default() }),
        when("request.headers[x-one]", &[], &["b"]),
    ];
    for rule in http {
        let tcp = Call { tcp: true, ..call() };
        assert!(!tcp.hits(Allow, rule.clone()), "rule 16: {rule:?}");
        assert!(tcp.hits(Deny, rule.clone()), "rule 16: {rule:?}");
    }
}

#[test]
fn each_value_of_a_repeated_header_counts_for_itself() {
    // x-two is sent twice, as `a` and as `b`
    let rows: [(&[&str], &[&str], bool, bool); 6] = [
        (&["a"], &[], false, true),
        (&["b"], &[], false, true),
        (&["a", "b"], &[], true, true),
        (&["a,b"], &[], false, false),
        (&[], &["a"], false, true),
        (&[], &["c"], true, true),
    ];
    for (values, not_values, allows, denies) in rows {
        let rule = when("request.headers[x-two]", values, not_values);
        assert_eq!(call().hits(Allow, rule.clone()), allows, "{values:?} {not_values:?}");
        assert_eq!(call().hits(Deny, rule), denies, "{values:?} {not_values:?}");
    }
}

#[test]
fn t_and_s_are_each_decided_alone() {
    let ann = || principal("td/ns/shop/sa/ann");
    let other = || principal("td/ns/shop/sa/bob");
    let deny = policy("d", Deny, vec![ann()]);
    let allow = policy("a", Allow, vec![ann()]);
    let nobody = policy("n", Allow, vec![]);
    let bob = policy("b", Allow, vec![other()]);
    let custom = policy("c", Custom, vec![ann()]);
    let denied = |name: &str| Err((Some(PolicyKey::new("shop", name)), Reason::PolicyDenied));
    let rows = [
        (vec![], Ok(())),
        (vec![allow.clone()], Ok(())),
        (vec![bob.clone()], denied("b")),
        (vec![bob.clone(), allow.clone()], Ok(())),
        (vec![nobody.clone()], denied("n")),
        (vec![allow.clone(), deny.clone()], denied("d")),
        (vec![deny.clone(), custom.clone()], denied("c")),
        (vec![wire::Policy { dry_run: true, ..deny.clone() }], Ok(())),
        (vec![policy("u", Audit, vec![ann()])], Ok(())),
    ];
    for (policies, verdict) in rows {
        let names: Vec<String> = policies.iter().map(|one| format!("shop/{}", one.name)).collect();
        let short = |denied: Denied| (denied.policy, denied.reason);
        assert_eq!(call().target(policies.clone()).map_err(short), verdict, "T {names:?}");
        let pod = wire::Workload { policies: names.clone(), ..Default::default() };
        assert_eq!(call().endpoint(pod, policies).map_err(short), verdict, "S {names:?}");
    }
}

#[test]
fn what_is_missing_is_closed_and_says_so() {
    let unknown = |layer, policy: Option<&str>| {
        let policy = policy.map(|name| PolicyKey::new("shop", name));
        Err(Denied { layer, reason: Reason::PolicyUnknown, policy, rule: None, attribute: None })
    };
    let call = call();
    let (missing, uid) = (service(&["shop/p"]), Uid("pod".into()));
    let dialled = Dialled::Service { service: &missing, port: 80 };
    assert_eq!(
        decide::target(&world(vec![]), dialled, &call.facts()).map(drop),
        unknown(Layer::Target, Some("p"))
    );
    assert_eq!(
        decide::target(&World::default(), Dialled::Pod, &call.facts()).map(drop),
        unknown(Layer::Target, None)
    );
    let endpoint = decide::endpoint(&World::default(), dialled, &uid, &call.facts()).map(drop);
    assert_eq!(endpoint, unknown(Layer::Endpoint, None), "rule 4");
    let closed = wire::Policy { closed: true, ..policy("p", Allow, vec![]) };
    assert_eq!(call.target(vec![closed]), unknown(Layer::Target, Some("p")), "rule 17");
}

#[test]
fn in_s_the_waypoint_named_exactly_is_whoever_comes_through_it() {
    let wp = || text(Exact("td/ns/shop/sa/wp".to_owned()));
    let rows = [
        (Allow, wire::Source { principals: wp(), ..Default::default() }, true),
        (Deny, wire::Source { not_principals: wp(), ..Default::default() }, true),
        (Deny, wire::Source { principals: wp(), ..Default::default() }, false),
        (Allow, wire::Source { service_accounts: strings(&["shop/wp"]), ..Default::default() }, true),
        (Deny, wire::Source { not_service_accounts: strings(&["shop/wp"]), ..Default::default() }, true),
        (Allow, wire::Source { principals: text(Suffix("/sa/wp".to_owned())), ..Default::default() }, false),
        (
            Allow,
            wire::Source { principals: text(Prefix("td/ns/shop/sa/w".to_owned())), ..Default::default() },
            false,
        ),
        (
            Allow,
            wire::Source { principals: text(Exact("td/ns/shop/sa/wp2".to_owned())), ..Default::default() },
            false,
        ),
    ];
    for (action, source, passes) in rows {
        let policies = || vec![policy("p", action, vec![from(source.clone())])];
        let pod = wire::Workload { policies: strings(&["shop/p"]), ..Default::default() };
        assert_eq!(call().endpoint(pod, policies()).is_ok(), passes, "S {action:?} {source:?}");
        let alone = match action {
            Allow => false,
            _ => source.not_principals.is_empty() && source.not_service_accounts.is_empty(),
        };
        assert_eq!(
            call().target(policies()).is_ok(),
            alone,
            "T counts the client alone: {action:?} {source:?}"
        );
    }
    // Namespaces are the client's alone, though the waypoint lives in one that would do.
    let away = Call { client: "spiffe://td/ns/far/sa/ann".parse().expect("an identity"), ..call() };
    let rule = from(wire::Source { namespaces: text(Exact("shop".to_owned())), ..Default::default() });
    let pod = wire::Workload { policies: strings(&["shop/p"]), ..Default::default() };
    assert!(away.endpoint(pod, vec![policy("p", Allow, vec![rule])]).is_err());
}

#[test]
fn numbers_of_services_stand_for_ports_of_the_pod() {
    // The pod's port is 5678. (targets of 80, whether each of ALLOW ports, DENY ports, ALLOW notPorts, DENY notPorts hits)
    let rows: [(&[u32], [bool; 4]); 5] = [
        (&[5678], [true, true, true, false]),
        (&[9999], [false, false, false, false]),
        (&[5678, 9999], [false, true, true, false]),
        (&[0], [false, true, true, false]),
        (&[], [false, false, false, false]),
    ];
    for (targets, hits) in rows {
        let pod = || wire::Workload {
            policies: strings(&["shop/p"]),
            port_aliases: vec![wire::PortAlias { port: 80, targets: targets.to_vec() }],
            ..Default::default()
        };
        let ports = || to(wire::Operation { ports: vec![80], ..Default::default() });
        let not_ports = || to(wire::Operation { not_ports: vec![80], ..Default::default() });
        let condition = || when("destination.port", &["80"], &[]);
        let passes = |action, rule| call().endpoint(pod(), vec![policy("p", action, vec![rule])]).is_ok();
        let got = [
            passes(Allow, ports()),
            !passes(Deny, ports()),
            !passes(Allow, not_ports()),
            passes(Deny, not_ports()),
        ];
        assert_eq!(got, hits, "{targets:?}");
        assert_eq!(passes(Allow, condition()), hits[0], "{targets:?}");
        assert_eq!(!passes(Deny, condition()), hits[1], "{targets:?}");
        assert!(!call().hits(Allow, ports()), "T knows no aliases");
    }
}

#[test]
fn a_locked_port_asks_the_service_that_locks_it() {
    let bob = policy("b", Allow, vec![principal("td/ns/shop/sa/bob")]);
    let port = policy("d", Deny, vec![to(wire::Operation { ports: vec![81], ..Default::default() })]);
    let lock = |port, service: &str, service_ports: &[u32], policies: &[&str]| wire::Lock {
        port,
        service: service.to_owned(),
        service_ports: service_ports.to_vec(),
        policies: strings(policies),
    };
    // The call comes through shop/web on port 80.
    let rows = [
        (lock(5678, "shop/db", &[90], &["shop/b"]), false),
        (lock(0, "shop/db", &[90], &["shop/b"]), false),
        (lock(0, "shop/db", &[], &["shop/b"]), false),
        (lock(9999, "shop/db", &[90], &["shop/b"]), true),
        (lock(5678, "shop/web", &[80], &["shop/b"]), true),
        (lock(5678, "shop/web", &[81], &["shop/b"]), false),
        (lock(5678, "shop/db", &[90], &[]), true),
        (lock(5678, "shop/db", &[90], &["shop/gone"]), false),
        (lock(5678, "shop/db", &[80, 82], &["shop/d"]), true),
        (lock(5678, "shop/db", &[80, 81], &["shop/d"]), false),
    ];
    for (lock, passes) in rows {
        let pod = wire::Workload { locks: vec![lock.clone()], ..Default::default() };
        let verdict = call().endpoint(pod, vec![bob.clone(), port.clone()]);
        assert_eq!(verdict.is_ok(), passes, "{lock:?}");
        assert!(verdict.err().is_none_or(|denied| denied.layer == Layer::Lock));
    }
}

#[test]
fn a_denial_names_the_nearest_rule() {
    let rule = wire::PolicyRule {
        to: vec![wire::Operation {
            methods: text(Exact("GET".to_owned())),
            paths: strings(&["/admin"]),
            ..Default::default()
        }],
        ..principal("td/ns/shop/sa/ann")
    };
    let policies = vec![policy("a", Allow, vec![principal("td/ns/shop/sa/bob"), rule])];
    let denied = call().target(policies).expect_err("is denied");
    assert_eq!(denied.explain(), "layer=T reason=policy_denied policy=shop/a rule=1 attribute=paths");
}

#[test]
fn audit_and_dry_run_are_counted_and_change_nothing() {
    let audit = policy("u", Audit, vec![principal("td/ns/shop/sa/ann")]);
    let dry = wire::Policy { dry_run: true, ..policy("d", Deny, vec![principal("td/ns/shop/sa/bob")]) };
    let (world, service) = (world(vec![audit, dry]), service(&["shop/u", "shop/d"]));
    let dialled = Dialled::Service { service: &service, port: 80 };
    let (call, judged) = (call(), super::Judged::Target);
    let set = decide::target_set(&world, dialled).expect("has a gateway");
    assert_eq!(audited(&set, &call.facts(), judged), [PolicyKey::new("shop", "u")]);
    let outcomes = dry_run(&set, &call.facts(), judged);
    assert_eq!(outcomes.iter().map(|one| one.matched).collect::<Vec<_>>(), [false]);
    assert!(decide::target(&world, dialled, &call.facts()).is_ok());
}

/// Rules of all sorts, half of which match the call.
fn some_rule() -> impl Strategy<Value = wire::PolicyRule> {
    prop_oneof![
        Just(principal("td/ns/shop/sa/ann")),
        Just(principal("td/ns/shop/sa/bob")),
        Just(to(wire::Operation { paths: strings(&["/api/*"]), ..Default::default() })),
        Just(to(wire::Operation { ports: vec![1], ..Default::default() })),
        Just(when("request.headers[x-two]", &["a"], &[])),
        Just(when("unknown", &["a"], &[])),
        Just(wire::PolicyRule::default()),
    ]
}

fn some_policies() -> impl Strategy<Value = Vec<wire::Policy>> {
    let one = (prop_oneof![Just(Allow), Just(Deny)], proptest::collection::vec(some_rule(), 0..3));
    proptest::collection::vec(one, 0..4).prop_map(|all| {
        let named = all.into_iter().enumerate();
        named.map(|(place, (action, rules))| policy(&format!("p{place}"), action, rules)).collect()
    })
}

proptest! {
    #[test]
    fn another_deny_never_allows_more(policies in some_policies(), rules in proptest::collection::vec(some_rule(), 0..3)) {
        let before = call().target(policies.clone());
        let mut more = policies;
        more.push(policy("more", Deny, rules));
        let after = call().target(more);
        prop_assert!(before.is_ok() || after.is_err());
    }

    #[test]
    fn another_rule_allows_no_less_in_an_allow_and_no_more_in_a_deny(policies in some_policies(), rule in some_rule()) {
        let before = call().target(policies.clone()).is_ok();
        for place in 0..policies.len() {
            let mut changed = policies.clone();
            changed[place].rules.push(rule.clone());
            let after = call().target(changed).is_ok();
            let holds = if policies[place].action == i32::from(Allow) { after || !before } else { before || !after };
            prop_assert!(holds);
        }
    }
}
