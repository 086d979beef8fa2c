//! policy.md rules 8 and 9 as a property: what the wire allows the policy allows, and ztunnels and waypoints read the same,
//! for random policies, pods and callers.
//!
//! The policy is judged here a second time, straight from its fields, by code that shares nothing with translation.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ambit_api::authz::{Attributes, PolicySet, decide, http};
use ambit_api::identity::TrustDomain;
use ambit_api::policy::{Policy as WirePolicy, PolicyKey, ServiceAccountMatch};
use ambit_api::waypoint::PortAlias;
use ambit_api::waypoint::policy::Policy as WaypointPolicy;
use ambit_api::wire::security::Scope;
use ambit_crds::authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, Condition, ConditionKey, Operation,
    Rule as CrdRule, Scope as CrdScope, Source, Values,
};
use ambit_crds::meta::ObjectMeta;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::parse::{self, TrustDomains};
use super::*;
use crate::objects::Key;
use crate::translate::waypoints::policy::message;

/// A pod as its owner sees it.
#[derive(Debug)]
struct Pod {
    container: Vec<u16>,
    services: Vec<(u16, Option<u16>)>,
    waypoints: Waypoints,
}

/// How the attributes that ztunnels do not see turn out for one request.
struct Unseen(bool);

fn pick<T: Clone>(rng: &mut SmallRng, from: &[T]) -> T {
    from.choose(rng).expect("a choice").clone()
}

fn some<T: Clone>(rng: &mut SmallRng, odds: f64, from: &[T]) -> Vec<T> {
    if rng.random_bool(odds) {
        (0..rng.random_range(1..3)).map(|_| pick(rng, from)).collect()
    } else {
        Vec::new()
    }
}

fn text(written: &str) -> StringMatch {
    match (written, written.strip_prefix('*'), written.strip_suffix('*')) {
        ("*", _, _) => StringMatch::Presence,
        (_, Some(suffix), _) => StringMatch::Suffix(suffix.to_owned()),
        (_, _, Some(prefix)) => StringMatch::Prefix(prefix.to_owned()),
        _ => StringMatch::Exact(written.to_owned()),
    }
}

fn texts(written: &[&str]) -> Vec<StringMatch> {
    written.iter().map(|one| text(one)).collect()
}

fn account(rng: &mut SmallRng) -> ServiceAccountMatch {
    ServiceAccountMatch {
        namespace: pick(rng, &["a", "b"]).into(),
        service_account: pick(rng, &["x", "y"]).into(),
    }
}

const PORTS: [u16; 5] = [80, 81, 5678, 9090, 443];

fn random_source(rng: &mut SmallRng, unseen: f64) -> Source {
    let principals =
        texts(&["cluster.local/ns/a/sa/x", "cluster.local/ns/*", "*/sa/y", "*", "other.org/ns/a/sa/x"]);
    let namespaces = texts(&["a", "b", "*", "a*"]);
    let nets: Vec<ipnet::IpNet> =
        ["10.0.0.0/24", "10.0.0.1/32", "fd00::/64"].map(|net| net.parse().unwrap()).to_vec();
    let domains = texts(if unseen > 0.0 {
        &["cluster.local", "other.org", "*", "o*", "*.org"]
    } else {
        &["cluster.local", "other.org", "*", "o*"]
    });
    let accounts = [account(rng), account(rng)];
    let mut source = Source {
        principals: some(rng, 0.3, &principals),
        not_principals: some(rng, 0.15, &principals),
        namespaces: some(rng, 0.2, &namespaces),
        not_namespaces: some(rng, 0.1, &namespaces),
        service_accounts: some(rng, 0.2, &accounts),
        not_service_accounts: some(rng, 0.1, &accounts),
        ip_blocks: some(rng, 0.2, &nets),
        not_ip_blocks: some(rng, 0.1, &nets),
        trust_domains: some(rng, 0.2, &domains),
        not_trust_domains: some(rng, 0.1, &domains),
        request_principals: some(rng, unseen, &texts(&["*"])),
        not_request_principals: some(rng, unseen / 2.0, &texts(&["*"])),
        remote_ip_blocks: some(rng, unseen / 2.0, &nets),
        ..Source::default()
    };
    if source == Source::default() {
        source.namespaces = vec![text("a")];
    }
    source
}

fn random_operation(rng: &mut SmallRng, unseen: f64) -> Operation {
    let mut operation = Operation {
        ports: some(rng, 0.5, &PORTS),
        not_ports: some(rng, 0.3, &PORTS),
        methods: some(rng, unseen, &texts(&["GET"])),
        not_hosts: some(rng, unseen / 2.0, &texts(&["web"])),
        paths: some(rng, unseen / 2.0, &["/admin".to_owned()]),
        ..Operation::default()
    };
    if operation == Operation::default() {
        operation.ports = vec![80];
    }
    operation
}

fn random_condition(rng: &mut SmallRng, unseen: f64) -> Condition {
    let nets: Vec<ipnet::IpNet> = vec!["10.0.0.0/24".parse().unwrap(), "10.9.0.0/16".parse().unwrap()];
    let two = |rng: &mut SmallRng, wrap: &dyn Fn(&mut SmallRng) -> Values, none: Values| match rng
        .random_range(0..3)
    {
        0 => (wrap(rng), none),
        1 => (none, wrap(rng)),
        _ => (wrap(rng), wrap(rng)),
    };
    let pattern = |of: &[&str]| {
        let of = texts(of);
        move |rng: &mut SmallRng| Values::Text(vec![pick(rng, &of)])
    };
    let (key, (values, not_values)) = if rng.random_bool(unseen) {
        let key = pick(
            rng,
            &[ConditionKey::RequestHeader("x".into()), ConditionKey::RemoteIp, ConditionKey::ConnectionSni],
        );
        (key, (Values::Text(texts(&["v"])), Values::Text(Vec::new())))
    } else {
        match rng.random_range(0..5) {
            0 => {
                let value = |rng: &mut SmallRng| Values::Ports(vec![pick(rng, &PORTS)]);
                (ConditionKey::DestinationPort, two(rng, &value, Values::Ports(Vec::new())))
            }
            1 => {
                let value = |rng: &mut SmallRng| Values::Networks(vec![pick(rng, &nets)]);
                let key = pick(rng, &[ConditionKey::SourceIp, ConditionKey::DestinationIp]);
                (key, two(rng, &value, Values::Networks(Vec::new())))
            }
            2 => (ConditionKey::SourceNamespace, two(rng, &pattern(&["a", "b*"]), Values::Text(Vec::new()))),
            3 => (
                ConditionKey::SourceTrustDomain,
                two(rng, &pattern(&["cluster.local", "*"]), Values::Text(Vec::new())),
            ),
            _ => {
                let value = |rng: &mut SmallRng| Values::ServiceAccounts(vec![account(rng)]);
                (ConditionKey::SourceServiceAccount, two(rng, &value, Values::ServiceAccounts(Vec::new())))
            }
        }
    };
    Condition { key, values, not_values }
}

fn random_policy(rng: &mut SmallRng, unseen: f64, index: usize) -> AuthorizationPolicy {
    let rule = |rng: &mut SmallRng| CrdRule {
        from: (0..rng.random_range(0..3)).map(|_| random_source(rng, unseen)).collect(),
        to: (0..rng.random_range(0..3)).map(|_| random_operation(rng, unseen)).collect(),
        when: (0..rng.random_range(0..3)).map(|_| random_condition(rng, unseen)).collect(),
    };
    let custom = Action::Custom { provider: "ext".to_owned() };
    let action = match rng.random_range(0..10) {
        0..5 => Action::Allow,
        5..9 => Action::Deny,
        _ if unseen > 0.0 => custom,
        _ => Action::Audit,
    };
    let rules = (0..rng.random_range(0..4)).map(|_| rule(rng)).collect();
    let mut meta = ObjectMeta { namespace: "a".into(), name: format!("p{index}"), ..ObjectMeta::default() };
    if rng.random_bool(0.1) {
        meta.annotations.insert("istio.io/dry-run".into(), "true".into());
    }
    AuthorizationPolicy { meta, spec: AuthorizationPolicySpec { scope: CrdScope::Namespace, action, rules } }
}

fn random_pod(rng: &mut SmallRng) -> Pod {
    let targets = [Some(5678), Some(5678), Some(9090), Some(80), None];
    let waypoint = |name: &str| Identity::new(&TrustDomain::default(), "a", name).unwrap();
    Pod {
        container: some(rng, 0.5, &PORTS),
        services: (0..rng.random_range(0..3))
            .map(|_| (pick(rng, &[80, 81, 443]), pick(rng, &targets)))
            .collect(),
        waypoints: some(rng, 0.5, &[waypoint("way"), waypoint("other-way")]).into_iter().collect(),
    }
}

fn random_caller(rng: &mut SmallRng) -> Attributes {
    let ids = [
        "cluster.local/ns/a/sa/x",
        "cluster.local/ns/a/sa/y",
        "cluster.local/ns/b/sa/x",
        "other.org/ns/a/sa/x",
    ];
    let peer = rng.random_bool(0.8).then(|| format!("spiffe://{}", pick(rng, &ids)).parse().unwrap());
    let source: IpAddr = pick(rng, &["10.0.0.1", "10.0.0.9", "10.2.0.1", "fd00::1"]).parse().unwrap();
    let destination =
        SocketAddr::new(pick(rng, &["10.9.0.1", "10.0.0.7"]).parse().unwrap(), pick(rng, &PORTS));
    Attributes { peer, source, destination }
}

/// The policies' own meaning, in the order of l4-protocols §6.2.
fn meant(policies: &[AuthorizationPolicy], pod: &Pod, caller: &Attributes, unseen: &Unseen) -> bool {
    let live = || policies.iter().filter(|policy| !policy.is_dry_run());
    let matches = |policy: &AuthorizationPolicy| {
        policy.spec.rules.iter().any(|rule| holds(rule, policy, pod, caller, unseen))
    };
    let denies =
        |policy: &&AuthorizationPolicy| matches!(policy.spec.action, Action::Deny | Action::Custom { .. });
    // A provider may say yes; the strictest reading of "what the wire allows" is that it says no.
    if live().filter(denies).any(matches) {
        return false;
    }
    let mut allows = live().filter(|policy| policy.spec.action == Action::Allow).peekable();
    allows.peek().is_none() || allows.any(matches)
}

#[allow(clippy::too_many_lines, reason = "one rule's meaning, read from top to bottom")]
fn holds(
    rule: &CrdRule,
    policy: &AuthorizationPolicy,
    pod: &Pod,
    caller: &Attributes,
    unseen: &Unseen,
) -> bool {
    let allow = policy.spec.action == Action::Allow;
    let peer = caller.peer.as_ref();
    let string = |one: &StringMatch, value: Option<&str>| {
        value.is_some_and(|value| match one {
            StringMatch::Exact(text) => value == text,
            StringMatch::Prefix(text) => value.starts_with(text),
            StringMatch::Suffix(text) => value.ends_with(text),
            StringMatch::Presence => !value.is_empty(),
        })
    };
    let strings = |yes: &[StringMatch], no: &[StringMatch], value: Option<&str>| {
        (yes.is_empty() || yes.iter().any(|one| string(one, value)))
            && !no.iter().any(|one| string(one, value))
    };
    let nets = |yes: &[ipnet::IpNet], no: &[ipnet::IpNet], ip: IpAddr| {
        (yes.is_empty() || yes.iter().any(|one| one.contains(&ip))) && !no.iter().any(|one| one.contains(&ip))
    };
    let is = |one: &ServiceAccountMatch| {
        peer.is_some_and(|peer| {
            peer.namespace() == one.namespace && peer.service_account() == one.service_account
        })
    };
    let accounts = |yes: &[ServiceAccountMatch], no: &[ServiceAccountMatch]| {
        (yes.is_empty() || yes.iter().any(is)) && !no.iter().any(is)
    };
    let ports = |yes: &[u16], no: &[u16]| {
        let port = caller.port();
        (yes.is_empty() || yes.iter().any(|one| port_is(*one, port, pod, allow, true)))
            && !no.iter().any(|one| port_is(*one, port, pod, allow, false))
    };
    let l7 = |absent: bool| absent || unseen.0;
    let from = |one: &Source| {
        strings(&one.principals, &one.not_principals, peer.map(Identity::principal))
            && strings(&one.namespaces, &one.not_namespaces, peer.map(Identity::namespace))
            && strings(
                &one.trust_domains,
                &one.not_trust_domains,
                peer.map(|peer| peer.trust_domain().as_str()),
            )
            && accounts(&one.service_accounts, &one.not_service_accounts)
            && nets(&one.ip_blocks, &one.not_ip_blocks, caller.source)
            && l7(one.request_principals.is_empty()
                && one.not_request_principals.is_empty()
                && one.remote_ip_blocks.is_empty())
    };
    let to = |one: &Operation| {
        ports(&one.ports, &one.not_ports)
            && l7(one.methods.is_empty() && one.not_hosts.is_empty() && one.paths.is_empty())
    };
    let when = |one: &Condition| match (&one.key, &one.values, &one.not_values) {
        (ConditionKey::SourceIp, Values::Networks(yes), Values::Networks(no)) => nets(yes, no, caller.source),
        (ConditionKey::DestinationIp, Values::Networks(yes), Values::Networks(no)) => {
            nets(yes, no, caller.destination.ip())
        }
        (ConditionKey::DestinationPort, Values::Ports(yes), Values::Ports(no)) => ports(yes, no),
        (ConditionKey::SourceNamespace, Values::Text(yes), Values::Text(no)) => {
            strings(yes, no, peer.map(Identity::namespace))
        }
        (ConditionKey::SourceTrustDomain, Values::Text(yes), Values::Text(no)) => {
            strings(yes, no, peer.map(|peer| peer.trust_domain().as_str()))
        }
        (ConditionKey::SourceServiceAccount, Values::ServiceAccounts(yes), Values::ServiceAccounts(no)) => {
            accounts(yes, no)
        }
        _ => unseen.0,
    };
    (rule.from.is_empty() || rule.from.iter().any(from))
        && (rule.to.is_empty() || rule.to.iter().any(to))
        && rule.when.iter().all(when)
}

/// Rule 8, word by word.
fn port_is(written: u16, port: u16, pod: &Pod, allow: bool, positive: bool) -> bool {
    let targets: Vec<Option<u16>> =
        pod.services.iter().filter(|(one, _)| *one == written).map(|(_, target)| *target).collect();
    let own =
        pod.container.contains(&written) || pod.services.iter().any(|(_, target)| *target == Some(written));
    if written == port || own || targets.is_empty() {
        return written == port;
    }
    let distinct: BTreeSet<Option<u16>> = targets.into_iter().collect();
    let certain = distinct.len() == 1 && !distinct.contains(&None);
    let possible = distinct.contains(&None) || distinct.contains(&Some(port));
    match (allow, positive) {
        (true, true) => certain && possible,
        (false, true) | (true, false) => possible,
        (false, false) => false,
    }
}

/// What ztunnel makes of the messages.
fn wire(policies: &[AuthorizationPolicy], pod: &Pod) -> PolicySet {
    let ports = PodPorts::new(pod.container.iter().copied(), pod.services.iter().copied());
    let mut set = PolicySet::default();
    for policy in policies {
        let Some(read) = parse::read(policy, &TrustDomains::default()) else { continue };
        let form = read.carried.form(&ports, &pod.waypoints);
        let head = Head {
            namespace: "a",
            name: &policy.meta.name,
            scope: Scope::Namespace,
            action: read.carried.action,
            dry_run: policy.is_dry_run(),
        };
        let message = security::Authorization::decode(form.resource(&head).body).unwrap();
        assert_nothing_empty(&message);
        set.policies.push(Arc::new(WirePolicy::try_from(message).unwrap()));
    }
    set
}

/// What a waypoint makes of them as the pod's S, for a connection of which only the addresses are known.
fn at_waypoint(policies: &[AuthorizationPolicy], pod: &Pod, caller: &Attributes) -> bool {
    let ports = PodPorts::new(pod.container.iter().copied(), pod.services.iter().copied());
    let told = policies.iter().map(|policy| {
        let message = message(&Key::of(&policy.meta), policy, &TrustDomains::default());
        WaypointPolicy::try_from(message).unwrap()
    });
    let told: Vec<WaypointPolicy> = told.collect();
    let keys: Vec<PolicyKey> = told.iter().map(|one| one.key.clone()).collect();
    let aliases: Vec<PortAlias> = ports.aliases().into_iter().map(alias).collect();
    // No policy names it.
    let judge = Identity::new(&TrustDomain::default(), "elsewhere", "judge").unwrap();
    let facts = http::Facts {
        client: caller.peer.as_ref(),
        waypoint: &judge,
        source: caller.source,
        remote: None,
        destination: caller.destination,
        request: None,
    };
    let set = http::Set::new(&keys, |key: &PolicyKey| told.iter().find(|one| one.key == *key));
    http::decide(&set, &facts, http::Judged::Endpoint(&aliases)).is_ok()
}

fn alias(wire: ambit_api::wire::waypoint::PortAlias) -> PortAlias {
    let port = |number: u32| u16::try_from(number).unwrap();
    PortAlias { port: port(wire.port), targets: wire.targets.into_iter().map(port).collect() }
}

fn assert_nothing_empty(message: &security::Authorization) {
    for clause in message.rules.iter().flat_map(|rule| &rule.clauses) {
        assert!(!clause.matches.is_empty(), "{message:?}");
        for one in &clause.matches {
            assert_ne!(*one, security::Match::default(), "{message:?}");
        }
    }
}

fn uses_unseen(policy: &AuthorizationPolicy) -> bool {
    let custom = matches!(policy.spec.action, Action::Custom { .. });
    custom || parse::read(policy, &TrustDomains::default()).is_some_and(|read| !read.beyond.is_empty())
}

fn check(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut allowed = 0;
    for round in 0..1500 {
        let unseen = if round % 2 == 0 { 0.0 } else { 0.25 };
        let count = rng.random_range(0..4);
        let policies: Vec<_> = (0..count).map(|index| random_policy(&mut rng, unseen, index)).collect();
        let pod = random_pod(&mut rng);
        let set = wire(&policies, &pod);
        for _ in 0..20 {
            let caller = random_caller(&mut rng);
            let by_wire = decide(&set, &caller).is_ok();
            for unseen in [Unseen(true), Unseen(false)] {
                let by_policy = meant(&policies, &pod, &caller, &unseen);
                let story = || format!("seed {seed} round {round}: {policies:#?} {pod:?} {caller:?}");
                assert!(!by_wire || by_policy, "the wire allows what the policy denies: {}", story());
                if !policies.iter().any(uses_unseen) {
                    let by_waypoint = at_waypoint(&policies, &pod, &caller);
                    assert_eq!(by_waypoint, by_policy, "a waypoint reads it otherwise: {}", story());
                    assert_eq!(by_wire, by_policy, "the wire denies what the policy allows: {}", story());
                }
            }
            allowed += usize::from(by_wire);
        }
    }
    assert!(allowed > 3000, "seed {seed}: only {allowed} callers were allowed, so little was tested");
}

#[test]
fn what_the_wire_allows_the_policy_allows() {
    let fresh = rand::rng().random();
    println!("fresh seed {fresh}");
    [1, 2, 3, fresh].into_iter().for_each(check);
}

#[test]
fn callers_that_are_waypoints_are_left_to_the_waypoint() {
    let way = Identity::new(&TrustDomain::default(), "a", "way").unwrap();
    let pod = Pod { container: vec![80], services: Vec::new(), waypoints: [way.clone()].into() };
    let policy = |action, rules| AuthorizationPolicy {
        meta: ObjectMeta { namespace: "a".into(), name: "p".into(), ..ObjectMeta::default() },
        spec: AuthorizationPolicySpec { scope: CrdScope::Namespace, action, rules },
    };
    let methods = Operation { methods: texts(&["GET"]), ..Operation::default() };
    let get = CrdRule { to: vec![methods], ..CrdRule::default() };
    let attributes = |peer: Option<Identity>| Attributes {
        peer,
        source: "10.0.0.1".parse().unwrap(),
        destination: "10.0.0.2:80".parse().unwrap(),
    };
    let client = Identity::new(&TrustDomain::default(), "a", "x").unwrap();
    for (action, rules) in [
        (Action::Allow, vec![get.clone()]),
        (Action::Allow, vec![]),
        (Action::Deny, vec![get.clone()]),
        (Action::Deny, vec![CrdRule::default()]),
        (Action::Custom { provider: "ext".into() }, vec![get]),
    ] {
        let set = wire(&[policy(action.clone(), rules)], &pod);
        assert!(decide(&set, &attributes(Some(way.clone()))).is_ok(), "{action:?}");
        assert!(decide(&set, &attributes(Some(client.clone()))).is_err(), "{action:?}");
        assert!(decide(&set, &attributes(None)).is_err(), "{action:?} plaintext");
    }
}

#[test]
fn principals_of_our_trust_domain_are_known_under_all_its_names() {
    let domain = |name: &str| TrustDomain::new(name).unwrap();
    let domains = TrustDomains { own: domain("new.org"), aliases: vec![domain("old.org")] };
    let policy = |principal: &str| AuthorizationPolicy {
        meta: ObjectMeta::default(),
        spec: AuthorizationPolicySpec {
            rules: vec![CrdRule {
                from: vec![Source { principals: texts(&[principal]), ..Source::default() }],
                ..CrdRule::default()
            }],
            ..AuthorizationPolicySpec::default()
        },
    };
    for (written, expected) in [
        ("old.org/ns/a/sa/x", vec!["new.org/ns/a/sa/x", "old.org/ns/a/sa/x"]),
        ("cluster.local/ns/a/*", vec!["new.org/ns/a/*", "old.org/ns/a/*"]),
        ("other.org/ns/a/sa/x", vec!["other.org/ns/a/sa/x"]),
        ("*/sa/x", vec!["*/sa/x"]),
        ("*", vec!["*"]),
    ] {
        let read = parse::read(&policy(written), &domains).unwrap();
        assert_eq!(read.carried.rules[0].clauses[0].matches[0].principals, texts(&expected), "{written}");
    }
}
