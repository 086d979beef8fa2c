//! Policies on layer 4: who they let in, what they say when they refuse, and what a change does to open connections.

#[path = "support/callers.rs"]
mod callers;
#[path = "support/controller.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod controller;
#[path = "support/hbone.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod hbone;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ambit_api::policy::{Clause, Match, Policy, PolicyAction};
use ambit_api::wire::security::Authorization;
use ambit_lab::settings::left_out;
use ambit_lab::{NodeNumber, key_of};
use callers::{Room, SECOND};
use libtest_mimic::{Arguments, Failed, Trial};
use prost::Message as _;
use support::{Check, check};

const KIND: &str = "AuthorizationPolicy";
const ALL: &str = "a123 b123 c123 d123 e123";
const WEB: &str = "selector: {matchLabels: {app: web}}";
/// What the names of those trials begin with that run as a user without rights too, and how many they are.
const UNPRIVILEGED: (&str, usize) = ("rules_", 3);

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One lab for all, and times are measured.
    arguments.test_threads = Some(1);
    let room = Arc::new(OnceLock::new());
    let trial = |name: &str, run: fn(&Room) -> Check| {
        let room = Arc::clone(&room);
        Trial::test(name, move || {
            let up = room.get_or_init(|| Room::up().map_err(|error| format!("{error:?}")));
            let room: &Room = up.as_ref()?;
            room.clear()?;
            run(room)
        })
    };
    let trials = vec![
        trial("rules_of_every_attribute", |room| table(room, RULES)),
        trial("ports_of_services", |room| table(room, PORTS)),
        trial("attributes_of_requests_without_a_waypoint", |room| table(room, REQUESTS)),
        trial("places", |room| table(room, PLACES)),
        trial("rules_that_refuse_are_named", explained),
        trial("rules_that_change_cut_what_they_forbid", changes),
        trial("policies_for_services_lock_them", locked),
        trial("services_for_waypoints_only", waypoint_only),
        trial("a_dry_run_only_logs", dry_run),
        trial("nothing_empty_is_sent", sent),
        Trial::test("as_a_user_without_rights", without_rights),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// (specification of a policy in shop for web, who gets through): everybody may go to `3`, another pod.
type Row = (&'static str, &'static str);

/// Every attribute, positive and negative, in ALLOW and DENY.
const RULES: &[Row] = &[
    (
        "action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/alice]}}]}]",
        "a123 b3 c3 d3 e3",
    ),
    (
        "action: ALLOW, rules: [{from: [{source: {principals: ['cluster.local/ns/shop/*']}}]}]",
        "a123 b123 c3 d3 e3",
    ),
    ("action: ALLOW, rules: [{from: [{source: {principals: ['*/sa/carol']}}]}]", "a3 b3 c123 d3 e3"),
    ("action: ALLOW, rules: [{from: [{source: {principals: ['*']}}]}]", "a123 b123 c123 d3 e3"),
    (
        "action: ALLOW, rules: [{from: [{source: {principals: [other.domain/ns/shop/sa/alice]}}]}]",
        "a3 b3 c3 d3 e3",
    ),
    (
        "action: ALLOW, rules: [{from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/alice]}}]}]",
        "a3 b123 c123 d123 e123",
    ),
    (
        "action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/alice]}}]}]",
        "a3 b123 c123 d123 e123",
    ),
    (
        "action: DENY, rules: [{from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/alice]}}]}]",
        "a123 b3 c3 d3 e3",
    ),
    ("action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]", "a123 b123 c123 d3 e3"),
    ("action: ALLOW, rules: [{from: [{source: {namespaces: [other]}}]}]", "a3 b3 c123 d3 e3"),
    ("action: ALLOW, rules: [{from: [{source: {notNamespaces: [other]}}]}]", "a123 b123 c3 d123 e123"),
    ("action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]", "a3 b3 c123 d123 e123"),
    ("action: DENY, rules: [{from: [{source: {notNamespaces: [shop]}}]}]", "a123 b123 c3 d3 e3"),
    ("action: ALLOW, rules: [{from: [{source: {serviceAccounts: [shop/bob]}}]}]", "a3 b123 c3 d3 e3"),
    (
        "action: ALLOW, rules: [{from: [{source: {serviceAccounts: [bob, other/carol]}}]}]",
        "a3 b123 c123 d3 e3",
    ),
    (
        "action: ALLOW, rules: [{from: [{source: {notServiceAccounts: [shop/bob]}}]}]",
        "a123 b3 c123 d123 e123",
    ),
    ("action: DENY, rules: [{from: [{source: {serviceAccounts: [shop/bob]}}]}]", "a123 b3 c123 d123 e123"),
    ("action: DENY, rules: [{from: [{source: {notServiceAccounts: [shop/bob]}}]}]", "a3 b123 c3 d3 e3"),
    // The address is the caller's own, through tunnels too.
    (
        "action: ALLOW, rules: [{from: [{source: {ipBlocks: ['{alice}', '{dave}/32']}}]}]",
        "a123 b3 c3 d123 e3",
    ),
    (
        "action: ALLOW, rules: [{from: [{source: {notIpBlocks: ['{alice}', '{dave}']}}]}]",
        "a3 b123 c123 d3 e123",
    ),
    ("action: DENY, rules: [{from: [{source: {ipBlocks: ['{bob}', '{erin}']}}]}]", "a123 b3 c123 d123 e3"),
    ("action: DENY, rules: [{from: [{source: {notIpBlocks: ['{bob}', '{erin}']}}]}]", "a3 b123 c3 d3 e123"),
    ("action: ALLOW, rules: [{from: [{source: {ipBlocks: ['0.0.0.0/0']}}]}]", ALL),
    ("action: DENY, rules: [{from: [{source: {ipBlocks: ['0.0.0.0/0']}}]}]", "a3 b3 c3 d3 e3"),
    ("action: ALLOW, rules: [{to: [{operation: {ports: ['8080']}}]}]", "a13 b13 c13 d13 e13"),
    ("action: ALLOW, rules: [{to: [{operation: {notPorts: ['8080']}}]}]", "a23 b23 c23 d23 e23"),
    ("action: DENY, rules: [{to: [{operation: {ports: ['8080']}}]}]", "a23 b23 c23 d23 e23"),
    ("action: DENY, rules: [{to: [{operation: {notPorts: ['8080']}}]}]", "a13 b13 c13 d13 e13"),
    // Fields of a source, from and to and when: all of them; sources and rules: any of them.
    (
        "action: ALLOW, rules: [{from: [{source: {namespaces: [shop], notPrincipals: [cluster.local/ns/shop/sa/bob]}}], to: [{operation: {ports: ['8081']}}]}]",
        "a23 b3 c3 d3 e3",
    ),
    (
        "action: ALLOW, rules: [{from: [{source: {namespaces: [other]}}, {source: {ipBlocks: ['{dave}']}}]}, {to: [{operation: {ports: ['8081']}}]}]",
        "a23 b23 c123 d123 e23",
    ),
    ("action: ALLOW, rules: [{when: [{key: source.principal, values: ['*/sa/alice']}]}]", "a123 b3 c3 d3 e3"),
    (
        "action: DENY, rules: [{when: [{key: source.principal, notValues: ['*/sa/alice']}]}]",
        "a123 b3 c3 d3 e3",
    ),
    ("action: ALLOW, rules: [{when: [{key: source.namespace, values: [other]}]}]", "a3 b3 c123 d3 e3"),
    ("action: ALLOW, rules: [{when: [{key: source.ip, notValues: ['{bob}']}]}]", "a123 b3 c123 d123 e123"),
    ("action: DENY, rules: [{when: [{key: destination.port, values: ['8081']}]}]", "a13 b13 c13 d13 e13"),
    ("action: ALLOW, rules: [{when: [{key: destination.ip, values: ['{web}/32']}]}]", ALL),
    ("action: DENY, rules: [{when: [{key: destination.ip, values: ['{web}']}]}]", "a3 b3 c3 d3 e3"),
    // An ALLOW that is there and does not match denies.
    (
        "action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/nobody]}}]}]",
        "a3 b3 c3 d3 e3",
    ),
    ("action: ALLOW", "a3 b3 c3 d3 e3"),
    ("action: ALLOW, rules: [{}]", ALL),
    ("action: DENY, rules: [{}]", "a3 b3 c3 d3 e3"),
    ("action: DENY", ALL),
    // Somebody's slip of the pen never widens anything.
    (
        "action: ALLOW, rules: [{from: [{source: {princpals: [cluster.local/ns/shop/sa/alice]}}]}]",
        "a3 b3 c3 d3 e3",
    ),
    (
        "action: DENY, rules: [{from: [{source: {princpals: [cluster.local/ns/shop/sa/alice]}}]}]",
        "a3 b3 c3 d3 e3",
    ),
];

/// A Service's port means the port behind it. These are for the pod hello: 80 leads to 5678.
const PORTS: &[Row] = &[
    (
        "selector: {matchLabels: {app: hello}}, action: ALLOW, rules: [{to: [{operation: {ports: ['80']}}]}]",
        ALL,
    ),
    (
        "selector: {matchLabels: {app: hello}}, action: ALLOW, rules: [{to: [{operation: {ports: ['5678']}}]}]",
        ALL,
    ),
    (
        "selector: {matchLabels: {app: hello}}, action: ALLOW, rules: [{to: [{operation: {ports: ['81']}}]}]",
        "a12 b12 c12 d12 e12",
    ),
    (
        "selector: {matchLabels: {app: hello}}, action: ALLOW, rules: [{to: [{operation: {notPorts: ['80']}}]}]",
        "a12 b12 c12 d12 e12",
    ),
    (
        "selector: {matchLabels: {app: hello}}, action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]",
        "a12 b12 c12 d12 e12",
    ),
    (
        "selector: {matchLabels: {app: hello}}, action: DENY, rules: [{to: [{operation: {ports: ['81']}}]}]",
        ALL,
    ),
    // Literally: 5678 is not 80.
    (
        "selector: {matchLabels: {app: hello}}, action: DENY, rules: [{to: [{operation: {notPorts: ['80']}}]}]",
        "a12 b12 c12 d12 e12",
    ),
    (
        "selector: {matchLabels: {app: hello}}, action: ALLOW, rules: [{when: [{key: destination.port, values: ['80']}, {key: source.namespace, values: [shop]}]}]",
        "a123 b123 c12 d12 e12",
    ),
    // One policy for both pods, with a form for each.
    ("action: ALLOW, rules: [{to: [{operation: {ports: ['80']}}]}]", "a13 b13 c13 d13 e13"),
    ("action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]", "a2 b2 c2 d2 e2"),
];

/// Only a waypoint could judge these, and there is none: an ALLOW rule with them never matches, a DENY rule denies
/// whatever its other attributes say.
const REQUESTS: &[Row] = &[
    ("action: ALLOW, rules: [{to: [{operation: {methods: [GET]}}]}]", "a3 b3 c3 d3 e3"),
    (
        "action: ALLOW, rules: [{to: [{operation: {paths: [/]}}]}, {from: [{source: {serviceAccounts: [bob]}}]}]",
        "a3 b123 c3 d3 e3",
    ),
    ("action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]", "a3 b3 c3 d3 e3"),
    (
        "action: DENY, rules: [{from: [{source: {serviceAccounts: [alice]}}], to: [{operation: {methods: [POST]}}]}]",
        "a3 b123 c123 d123 e123",
    ),
    ("action: DENY, rules: [{to: [{operation: {ports: ['8081'], paths: [/admin]}}]}]", "a13 b13 c13 d13 e13"),
    (
        "action: DENY, rules: [{from: [{source: {namespaces: [other]}}], when: [{key: 'request.headers[x]', values: [v1]}]}]",
        "a123 b123 c3 d123 e123",
    ),
    (
        "action: CUSTOM, provider: {name: p}, rules: [{from: [{source: {namespaces: [other]}}]}]",
        "a123 b123 c3 d123 e123",
    ),
    ("action: ALLOW, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]", "a3 b3 c3 d3 e3"),
    ("action: AUDIT, rules: [{}]", ALL),
];

/// Policies elsewhere, by name: for a whole namespace, in the root namespace, in somebody else's.
const PLACES: &[Row] = &[
    ("shop/p: action: DENY, rules: [{from: [{source: {namespaces: [other]}}]}]", "a123 b123 d123 e123"),
    ("shop/p: action: ALLOW", ""),
    ("other/p: action: ALLOW", ALL),
    ("plain/p: action: DENY, rules: [{}]", ALL),
    (
        "istio-system/p: action: DENY, rules: [{from: [{source: {namespaces: [other]}}]}]",
        "a123 b123 d123 e123",
    ),
    ("istio-system/p: action: ALLOW", ""),
    ("istio-system/p: action: ALLOW, rules: [{from: [{source: {principals: ['*']}}]}]", "a123 b123 c123"),
    (
        "istio-system/p: selector: {matchLabels: {app: web}}, action: DENY, rules: [{from: [{source: {serviceAccounts: [shop/alice]}}]}]",
        "a3 b123 c123 d123 e123",
    ),
    ("istio-system/p: selector: {matchLabels: {app: hello}}, action: ALLOW", "a12 b12 c12 d12 e12"),
    ("istio-system/p: action: ALLOW, rules: [{to: [{operation: {ports: ['80']}}]}]", "a13 b13 c13 d13 e13"),
];

/// Applies each policy alone, looks who gets through, takes it away and sees everybody come back.
fn table(room: &Room, rows: &[Row]) -> Check {
    let (mut slowest, mut back) = (Duration::ZERO, Duration::ZERO);
    for (spec, expected) in rows {
        let placed = ["shop/p: ", "other/p: ", "plain/p: ", "istio-system/p: "]
            .into_iter()
            .find(|at| spec.starts_with(at));
        let (name, spec) = match placed {
            Some(at) => (at.trim_end_matches(": "), spec[at.len()..].to_owned()),
            None if spec.starts_with("selector") || rows == PORTS => ("shop/p", (*spec).to_owned()),
            None => ("shop/p", format!("{WEB}, {spec}")),
        };
        let named = |error: Failed| -> Failed {
            format!("{name} {{{spec}}}: {}", error.message().unwrap_or_default()).into()
        };
        room.put(KIND, name, &format!("{{{spec}}}"))?;
        let took = room.comes_to(expected, 3 * SECOND).map_err(named)?;
        // It must stay so once everything has arrived everywhere.
        room.lab.settled()?;
        let found = room.admitted();
        check(found == *expected, || {
            format!("{name} {{{spec}}}: [{found}] in the end instead of [{expected}]")
        })?;
        back = back.max(room.clear().map_err(named)?);
        slowest = slowest.max(took);
    }
    println!("{} policies: acted within {slowest:?}, everybody back within {back:?}", rows.len());
    check(slowest.max(back) < SECOND, || format!("acted only after {slowest:?}, back after {back:?}"))
}

/// (specification, refused caller, words of the log line)
const REFUSALS: &[(&str, char, &[&str])] = &[
    (
        "action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/alice]}}]}]",
        'b',
        &["rule=0", "attribute=principals", "src.identity=spiffe://cluster.local/ns/shop/sa/bob"],
    ),
    (
        "action: DENY, rules: [{from: [{source: {namespaces: [nobody]}}]}, {from: [{source: {namespaces: [other]}}]}]",
        'c',
        &["rule=1", "src.identity=spiffe://cluster.local/ns/other/sa/carol"],
    ),
    (
        "action: ALLOW, rules: [{from: [{source: {namespaces: [nobody]}}]}, {from: [{source: {serviceAccounts: [shop/bob]}}], to: [{operation: {ports: ['1']}}]}]",
        'b',
        &["rule=1", "attribute=ports"],
    ),
    (
        "action: ALLOW, rules: [{from: [{source: {ipBlocks: ['{alice}']}}]}]",
        'd',
        &["rule=0", "attribute=ipBlocks"],
    ),
    (
        "action: ALLOW, rules: [{from: [{source: {namespaces: [shop]}}]}]",
        'e',
        &["rule=0", "attribute=namespaces"],
    ),
    (
        "action: ALLOW, rules: [{from: [{source: {notServiceAccounts: [shop/alice]}}]}]",
        'a',
        &["rule=0", "attribute=notServiceAccounts"],
    ),
    ("action: ALLOW", 'a', &["reason=policy_denied"]),
];

fn explained(room: &Room) -> Check {
    let words = "the line of a refused connection names policy, rule and attribute: Istio's has other words";
    let named = !left_out("rules_that_refuse_are_named", words);
    for (index, (spec, letter, words)) in REFUSALS.iter().enumerate() {
        let name = format!("shop/explained-{index}");
        room.put(KIND, &name, &format!("{{{WEB}, {spec}}}"))?;
        let start = Instant::now();
        while room.admitted().contains(&format!("{letter}1")) {
            check(start.elapsed() < SECOND, || format!("{letter} is still admitted under {spec}"))?;
        }
        let address = format!("src.addr={}:", room.caller(*letter)?.address.v4);
        let policy = format!("policy={name}");
        let mut wanted = vec!["connection failed", "layer=l4 reason=policy_denied", &policy, &address];
        wanted.extend_from_slice(words);
        if named {
            println!("{}", room.logged(&wanted)?);
        }
        room.clear()?;
    }
    Ok(())
}

/// How a policy comes to cover a connection's pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// By its namespace.
    Namespace,
    /// Its Workload lists it.
    Workload,
}

/// What forbids bob's connection in `changes`, and how to take it back.
type Change = (&'static str, Where, fn(&Room) -> Check, fn(&Room) -> Check);

const BOB: &str = "action: DENY, rules: [{from: [{source: {serviceAccounts: [shop/bob]}}]}]";

const CHANGES: &[Change] = &[
    (
        "a DENY that matches",
        Where::Workload,
        |room| room.put(KIND, "shop/cut", &format!("{{{WEB}, {BOB}}}")),
        |room| room.clear().map(drop),
    ),
    (
        "an ALLOW that does not match",
        Where::Workload,
        |room| {
            room.put(
                KIND,
                "shop/cut",
                &format!(
                    "{{{WEB}, action: ALLOW, rules: [{{from: [{{source: {{notServiceAccounts: [bob]}}}}]}}]}}"
                ),
            )
        },
        |room| room.clear().map(drop),
    ),
    (
        "a selector that now selects",
        Where::Workload,
        |room| {
            room.put(KIND, "shop/cut", &format!("{{selector: {{matchLabels: {{app: else}}}}, {BOB}}}"))?;
            room.lab.settled()?;
            room.put(KIND, "shop/cut", &format!("{{{WEB}, {BOB}}}"))
        },
        |room| room.put(KIND, "shop/cut", &format!("{{selector: {{matchLabels: {{app: else}}}}, {BOB}}}")),
    ),
    (
        "a label that is now selected",
        Where::Workload,
        |room| {
            room.put(KIND, "shop/cut", &format!("{{selector: {{matchLabels: {{tier: locked}}}}, {BOB}}}"))?;
            room.lab.settled()?;
            Ok(room.lab.label("pod", "shop/web", &["tier=locked"])?)
        },
        |room| Ok(room.lab.label("pod", "shop/web", &["tier-"])?),
    ),
    (
        "a policy in the root namespace",
        Where::Namespace,
        |room| room.put(KIND, "istio-system/cut", &format!("{{{BOB}}}")),
        |room| room.clear().map(drop),
    ),
    (
        "a rule that was changed",
        Where::Workload,
        |room| {
            let all = "action: ALLOW, rules: [{from: [{source: {ipBlocks: [0.0.0.0/0]}}]}]";
            room.put(KIND, "shop/cut", &format!("{{{WEB}, {all}}}"))?;
            room.lab.settled()?;
            room.put(
                KIND,
                "shop/cut",
                &format!(
                    "{{{WEB}, action: ALLOW, rules: [{{from: [{{source: {{notIpBlocks: ['{{bob}}']}}}}]}}]}}"
                ),
            )
        },
        |room| room.clear().map(drop),
    ),
];

fn changes(room: &Room) -> Check {
    let trial = "rules_that_change_cut_what_they_forbid";
    for (what, place, forbid, permit) in CHANGES {
        // Of the same and another node, with and without the mesh: these stay.
        let stay = ['a', 'c', 'd', 'e']
            .into_iter()
            .map(|letter| room.open(letter))
            .collect::<Result<Vec<_>, _>>()?;
        let cut = room.open('b')?;
        forbid(room)?;
        let stays = format!(
            "{what} cuts an open connection: Istio's judges it by the policies that its pod listed when it was opened"
        );
        let took = if *place == Where::Workload && left_out(trial, &stays) {
            room.lab.settled()?;
            Duration::ZERO
        } else {
            cut.cut_within(Instant::now(), SECOND).map_err(|error| -> Failed {
                format!("{what}: {}", error.message().unwrap_or_default()).into()
            })?
        };
        room.lab.settled()?;
        stay.iter().try_for_each(callers::Open::goes_on)?;
        let found = room.admitted();
        check(found.contains("a12") && !found.contains("b1") && !found.contains("b2"), || {
            format!("{what}: [{found}]")
        })?;
        println!("{what} acted on the connection it forbids within {took:?} and left 4 others");
        permit(room)?;
        room.comes_to(ALL, SECOND)?;
        room.open('b')?.finish()?;
        stay.into_iter().try_for_each(callers::Open::finish)?;
        room.clear()?;
    }
    room.logged(&["closed due to policy change", "ns/shop/sa/bob"]).map(drop)
}

fn locked(room: &Room) -> Check {
    let target = "targetRefs: [{group: '', kind: Service, name: web}]";
    let words = "the line of a refused connection names the lock: Istio's has other words";
    let named = !left_out("policies_for_services_lock_them", words);
    for spec in [
        "action: ALLOW, rules: [{from: [{source: {serviceAccounts: [shop/alice]}}]}]",
        "action: ALLOW, rules: [{}]",
        "action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]",
    ] {
        room.put(KIND, "shop/locked", &format!("{{{target}, {spec}}}"))?;
        room.comes_to("a23 b23 c23 d23 e23", SECOND)?;
        let (status, message) = room.enforced(KIND, "shop/locked", "WaypointRequired")?;
        println!("{spec}: Enforced={status} {message}");
        check(
            status == "False"
                && message.contains("kubectl label ")
                && message.contains("istio.io/use-waypoint=waypoint"),
            || message,
        )?;
        if named {
            println!("{}", room.logged(&["policy=shop/lock~8080", "rule=0"])?);
        }
        room.clear()?;
    }
    // Attributes of requests without a waypoint say so too.
    room.put(
        KIND,
        "shop/request",
        &format!("{{{WEB}, action: ALLOW, rules: [{{to: [{{operation: {{methods: [GET]}}}}]}}]}}"),
    )?;
    room.comes_to("a3 b3 c3 d3 e3", SECOND)?;
    let (status, message) = room.enforced(KIND, "shop/request", "WaypointRequired")?;
    check(
        status == "False"
            && message.contains("kubectl label ")
            && message.contains("istio.io/use-waypoint=waypoint"),
        || message,
    )?;
    room.clear().map(drop)
}

fn annotate(room: &Room, value: Option<&str>) -> Check {
    room.lab.edit(&key_of("svc", "shop/web"), |object| {
        object["metadata"]["annotations"] = value
            .map_or(serde_json::json!({}), |value| serde_json::json!({"ambit.mesh/waypoint-only": value}));
        Ok(())
    })?;
    Ok(())
}

fn waypoint_only(room: &Room) -> Check {
    let (near, far) = (room.open('b')?, room.open('e')?);
    annotate(room, Some("true"))?;
    room.comes_to("a23 b23 c23 d23 e23", SECOND)?;
    let (status, message) = room.enforced("Service", "shop/web", "WaypointRequired")?;
    println!("Enforced={status} {message}");
    check(status == "False", || message)?;
    annotate(room, None)?;
    room.comes_to(ALL, SECOND)?;
    // Its owner may give the policies for the Service up.
    room.put(KIND, "shop/locked", "{targetRefs: [{group: '', kind: Service, name: web}], action: ALLOW}")?;
    room.comes_to("a23 b23 c23 d23 e23", SECOND)?;
    annotate(room, Some("false"))?;
    room.comes_to(ALL, SECOND)?;
    annotate(room, None)?;
    room.comes_to("a23 b23 c23 d23 e23", SECOND)?;
    room.clear()?;
    // Another port of the pod was never concerned.
    near.finish()?;
    far.finish()
}

fn dry_run(room: &Room) -> Check {
    let open = room.open('b')?;
    let dry = "{istio.io/dry-run: 'true'}";
    room.put_annotated(KIND, "shop/dry", &format!("{{{WEB}, {BOB}}}"), dry)?;
    room.put_annotated(KIND, "shop/dry-allow", &format!("{{{WEB}, action: ALLOW}}"), dry)?;
    room.lab.settled()?;
    room.comes_to(ALL, SECOND)?;
    let words =
        "what a dry run would have done is logged: Istio's does so at another level and in other words";
    if !left_out("a_dry_run_only_logs", words) {
        println!("{}", room.logged(&["dry-run policy", "policy=shop/dry ", "matched=true", "sa/bob"])?);
        room.logged(&["dry-run policy", "policy=shop/dry ", "matched=false", "sa/alice"])?;
        room.logged(&["dry-run policy", "policy=shop/dry-allow", "matched=false"])?;
    }
    let (status, message) = room.enforced(KIND, "shop/dry", "DryRun")?;
    println!("Enforced={status} {message}");
    open.goes_on()?;
    // Control: the same without the annotation.
    room.put(KIND, "shop/dry", &format!("{{{WEB}, {BOB}}}"))?;
    let cut = "an open connection is cut once the policy counts: Istio's judges it by the policies that its pod listed when it was opened";
    if !left_out("a_dry_run_only_logs", cut) {
        open.cut_within(Instant::now(), SECOND)?;
    }
    room.comes_to("a123 b3 c123 d123 e123", SECOND)?;
    room.clear().map(drop)
}

/// Applies every policy of every table at once and decodes what the controller sends a proxy.
fn sent(room: &Room) -> Check {
    let all = [RULES, PORTS, REQUESTS, PLACES].concat();
    for (index, (spec, _)) in all.iter().enumerate() {
        let (place, spec) = spec.split_once("/p: ").unwrap_or(("shop", spec));
        let spec = if spec.starts_with("selector") { spec.to_owned() } else { format!("{WEB}, {spec}") };
        room.put(KIND, &format!("{place}/sent-{index}"), &format!("{{{spec}}}"))?;
    }
    room.put(
        KIND,
        "shop/sent-lock",
        "{targetRefs: [{group: '', kind: Service, name: hello}], action: ALLOW}",
    )?;
    room.put(
        "PeerAuthentication",
        "shop/web",
        &format!("{{{WEB}, mtls: {{mode: STRICT}}, portLevelMtls: {{8080: {{mode: PERMISSIVE}}}}}}"),
    )?;
    room.put("PeerAuthentication", "shop/default", "{mtls: {mode: STRICT}}")?;
    room.lab.settled()?;
    let controller = controller::Controller::of(&room.lab);
    let token = room.lab.token(&controller::claims(&room.lab, NodeNumber(2))?)?;
    let resources = controller.configuration(NodeNumber(2), Some(token), controller::AUTHORIZATIONS)?;
    let mut clauses = 0;
    for (name, body) in &resources {
        let wire = Authorization::decode(body.as_slice())?;
        let empty = wire.rules.iter().flat_map(|rule| &rule.clauses).any(|clause| {
            clauses += 1;
            clause.matches.is_empty() || clause.matches.iter().any(|one| *one == Default::default())
        });
        check(!empty, || format!("{name} holds an empty clause or match: {wire:?}"))?;
        let policy = Policy::try_from(wire).map_err(|error| format!("{name}: {error}"))?;
        let none = |clause: &Clause| clause.matches.is_empty() || clause.matches.contains(&Match::default());
        check(!policy.rules.iter().flat_map(|rule| &rule.clauses).any(none), || format!("{policy:?}"))?;
        check(policy.action == PolicyAction::Allow || !policy.rules.is_empty(), || {
            format!("a DENY without rules: {name}")
        })?;
    }
    println!("{} Authorizations with {clauses} clauses, none of them empty", resources.len());
    check(resources.len() >= all.len() / 2 && clauses > 50, || {
        format!("only {} Authorizations", resources.len())
    })?;
    room.clear().map(drop)
}

/// The same in a user namespace of a user who may do nothing.
fn without_rights() -> Check {
    let program = std::env::current_exe()?;
    let Some(mut command) = ambit_lab::sandbox::again_unprivileged(&program) else {
        println!("this user has no rights to give up: the other trials were it");
        return Ok(());
    };
    let output = command.args([UNPRIVILEGED.0, "--nocapture"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let passed = format!("{} passed; 0 failed", UNPRIVILEGED.1);
    check(output.status.success() && said.contains(&passed), || {
        format!("{said}\n{}", String::from_utf8_lossy(&output.stderr))
    })
}
