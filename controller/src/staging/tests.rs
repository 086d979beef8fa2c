//! The order of attaching and detaching as tables, with a clock and proxies of the test's own.

use std::fmt::Write as _;

use ambit_api::wire::security::string_match::MatchType;
use ambit_api::wire::security::{Action, Authorization, Clause, Match, Rule, StringMatch};
use ambit_api::wire::workload::address::Type;
use ambit_api::wire::workload::gateway_address::Destination;
use ambit_api::wire::workload::{Address, GatewayAddress, NamespacedHostname, Service, Workload};
use prost::Message;

use super::*;
use crate::xds::Audience;
use crate::xds::syncz::Proxy;

const WEB: &str = "shop/web.shop.svc.cluster.local";
const POD: &str = "c//Pod/shop/web-1";

/// What happens.
enum Event {
    /// A translation, as [`snapshot`] reads it.
    Now(&'static str),
    /// All ztunnels have answered.
    Ztunnels,
    /// The replicas of a waypoint have.
    Waypoint(&'static str),
    /// Time passes.
    Pass(Duration),
}

use Event::{Now, Pass, Waypoint, Ztunnels};

/// What happens, and what is told then.
type Story<'a> = &'a [(Event, &'a str)];

struct World {
    staging: Staging,
    now: Instant,
    generation: u64,
    slowest: Slowest,
}

fn resource(name: &str, body: Vec<u8>) -> (Arc<str>, Arc<Resource>) {
    (name.into(), Arc::new(Resource::new(name, vec![], body.into())))
}

/// `alice`: a rule of an ALLOW; `*` a clause of a DENY and `!alice` an exception from it; `=2` some version of a policy.
fn authorization(said: &str) -> Authorization {
    let mut message = Authorization::default();
    let exact = |name: &str| {
        vec![StringMatch { match_type: Some(MatchType::Exact(format!("cluster.local/ns/shop/sa/{name}"))) }]
    };
    let clause = |one: Match| Clause { matches: vec![one] };
    let mut denied = Rule::default();
    for word in said.split(' ').filter(|word| !word.is_empty()) {
        match (word.strip_prefix('='), word.strip_prefix('!')) {
            (Some(version), _) => message.name = version.to_owned(),
            (_, Some(name)) => {
                denied.clauses.push(clause(Match { not_principals: exact(name), ..Match::default() }));
            }
            _ if word == "*" => {
                denied.clauses.push(clause(Match { destination_ports: vec![80], ..Match::default() }));
            }
            _ => {
                let one = clause(Match { principals: exact(word), ..Match::default() });
                message.rules.push(Rule { clauses: vec![one] });
            }
        }
    }
    if !denied.clauses.is_empty() {
        message.set_action(Action::Deny);
        message.rules.push(denied);
    }
    message
}

/// The opposite.
fn said(message: &Authorization) -> String {
    let mut words = Vec::new();
    if !message.name.is_empty() {
        words.push(format!("={}", message.name));
    }
    let name = |text: &StringMatch| match &text.match_type {
        Some(MatchType::Exact(text)) => text.rsplit('/').next().unwrap_or_default().to_owned(),
        other => format!("{other:?}"),
    };
    let clauses = message.rules.iter().flat_map(|rule| &rule.clauses);
    for one in clauses.flat_map(|clause| &clause.matches) {
        words.extend(one.destination_ports.iter().map(|_| "*".to_owned()));
        words.extend(one.principals.iter().map(name));
        words.extend(one.not_principals.iter().map(|text| format!("!{}", name(text))));
    }
    words.join(" ")
}

fn gateway(name: &str) -> GatewayAddress {
    let hostname = format!("{name}.shop.svc.cluster.local");
    let host = NamespacedHostname { namespace: "shop".to_owned(), hostname };
    GatewayAddress { destination: Some(Destination::Hostname(host)), ..GatewayAddress::default() }
}

/// `pod[…]`: the policies the pod names; `web[…]`: the waypoint before the Service; `held[…]`: the waypoints that hold it;
/// anything else is an Authorization of the namespace.
fn snapshot(generation: u64, line: &str) -> Arc<Snapshot> {
    let mut snapshot = Snapshot { generation, ..Snapshot::default() };
    let mut waypoints = ["new", "wp"].map(|name| {
        let account = format!("shop/{name}").parse().expect("an account");
        (name, WaypointResources::new(account))
    });
    let address = |name: &str, one: Type| resource(name, Address { r#type: Some(one) }.encode_to_vec());
    for group in line.split("] ").map(|group| group.trim_end_matches(']')) {
        let (kind, list) = group.split_once('[').expect("a list");
        let words = list.split(' ').filter(|word| !word.is_empty());
        let namespace = "shop".to_owned();
        match kind {
            "pod" => {
                let authorization_policies = words.map(|word| format!("shop/{word}")).collect();
                let pod = Workload { namespace, authorization_policies, ..Workload::default() };
                snapshot.addresses.extend([address(POD, Type::Workload(pod))]);
            }
            "web" => {
                let web = Service { namespace, waypoint: words.map(gateway).next(), ..Service::default() };
                snapshot.addresses.extend([address(WEB, Type::Service(web))]);
            }
            "held" => {
                for (name, own) in &mut waypoints {
                    let serves = words.clone().any(|word| word == *name);
                    own.services.extend(serves.then(|| resource(WEB, vec![])));
                }
            }
            name => {
                let body = authorization(list).encode_to_vec();
                snapshot.authorizations.extend([resource(&format!("shop/{name}"), body)]);
            }
        }
    }
    let waypoints = waypoints.into_iter();
    snapshot.waypoints =
        waypoints.map(|(name, own)| (Arc::from(format!("shop/{name}")), Arc::new(own))).collect();
    Arc::new(snapshot)
}

/// A snapshot in a line.
fn line(told: &Snapshot) -> String {
    let mut line = String::new();
    for (name, one) in &told.authorizations {
        let message = Authorization::decode(&*one.body).expect("an Authorization");
        let name = name.strip_prefix("shop/").expect("of the shop");
        write!(line, "{name}[{}] ", said(&message)).expect("room");
    }
    let bound = |name| Binding::of(told.addresses.get(name));
    let short = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let words = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(" ");
    let policies = words(&mut bound(POD).policies.iter().map(|one| short(one)));
    let waypoints = words(&mut bound(WEB).waypoints.iter().map(|one| short(one)));
    let serving = told.waypoints.iter().filter(|(_, own)| own.services.contains_key(WEB));
    let held = words(&mut serving.map(|(name, _)| short(name)));
    line + &format!("pod[{policies}] web[{waypoints}] held[{held}]")
}

impl World {
    /// A settled world with one ztunnel and one replica of each waypoint.
    fn new(first: &str) -> Self {
        let (staging, slowest) = (Staging::default(), Slowest::default());
        let mut world = Self { staging, now: Instant::now(), generation: 0, slowest };
        assert_eq!(world.now(first), first);
        assert_eq!(world.staging.wake_at(), None, "the first snapshot is told at once");
        world.slowest.waypoints = [("shop/wp".to_owned(), 1), ("shop/new".to_owned(), 1)].into();
        world.slowest.ztunnel = Some(1);
        world
    }

    fn now(&mut self, translated: &str) -> String {
        self.generation += 1;
        self.staging.take(snapshot(self.generation, translated), self.now);
        self.told()
    }

    fn told(&mut self) -> String {
        self.staging.advance(&self.slowest, self.now);
        line(&self.staging.told)
    }

    fn after(&mut self, event: &Event) -> String {
        match event {
            Now(translated) => return self.now(translated),
            Ztunnels => self.slowest.ztunnel = Some(self.staging.told.step),
            Waypoint(name) => {
                self.slowest.waypoints.insert(format!("shop/{name}"), self.staging.told.step);
            }
            Pass(time) => self.now += *time,
        }
        self.told()
    }

    fn goes(&mut self, story: Story<'_>) {
        for (place, (event, expected)) in story.iter().enumerate() {
            assert_eq!(self.after(event), *expected, "after step {place}");
        }
    }

    /// Whether all is acknowledged that is not merely kept for a while.
    fn is_settled(&self) -> bool {
        self.staging.told.generation == self.generation
    }
}

const MOMENT: Duration = Duration::from_millis(1);
const FREE: &str = "allow[alice] pod[] web[] held[]";
const BOUND: &str = "allow[alice wp] lock[* !wp] pod[lock] web[wp] held[wp]";
/// On the way from one to the other.
const HELD: &str = "allow[alice] pod[] web[] held[wp]";
const LET_IN: &str = "allow[alice wp] lock[* !wp] pod[] web[] held[wp]";
const LOCKED: &str = "allow[alice wp] lock[* !wp] pod[lock] web[] held[wp]";

#[test]
fn attaching_goes_waypoint_policies_workloads_binding() {
    let mut world = World::new(FREE);
    world.goes(&[
        (Now(BOUND), HELD),
        (Ztunnels, HELD),
        (Waypoint("new"), HELD),
        (Waypoint("wp"), LET_IN),
        (Waypoint("wp"), LET_IN),
        (Ztunnels, LOCKED),
        (Ztunnels, BOUND),
    ]);
    assert!(!world.is_settled(), "not all is acknowledged yet");
    world.goes(&[(Ztunnels, BOUND)]);
    assert!(world.is_settled() && world.staging.wake_at().is_none());
}

#[test]
fn detaching_goes_policies_workloads_binding_and_a_while_later_the_rest() {
    let unlocked = "allow[alice wp] pod[] web[wp] held[wp]";
    let lingers = "allow[alice wp] pod[] web[] held[wp]";
    let mut world = World::new(BOUND);
    world.goes(&[
        // Kept for the workload that names it.
        (Now(FREE), "allow[alice wp] lock[* !wp] pod[lock] web[wp] held[wp]"),
        (Ztunnels, unlocked),
        (Ztunnels, lingers),
    ]);
    assert!(!world.is_settled());
    world.goes(&[(Ztunnels, lingers)]);
    assert!(world.is_settled(), "nobody waits for what lingers");
    assert_eq!(world.staging.wake_at(), Some(world.now + LINGER));
    world.goes(&[(Ztunnels, lingers), (Pass(LINGER - MOMENT), lingers), (Pass(MOMENT), FREE)]);
    assert_eq!(world.staging.wake_at(), None);
}

/// (before, after, what is told from the acknowledged binding on)
const LINGERING: &[(&str, &str, &str)] = &[
    // Its policy stays, so nobody but those under way through the waypoint comes to the pod.
    (
        "lock~80~00000000000000aa[* !wp] pod[lock~80~00000000000000aa] web[wp] held[wp]",
        "lock~80[*] pod[lock~80] web[] held[]",
        "lock~80[* !wp] pod[lock~80] web[] held[wp]",
    ),
    // A policy is edited in the same breath: what it says now counts.
    (
        "p[alice bob wp] pod[p] web[wp] held[wp]",
        "p[alice] pod[p] web[] held[]",
        "p[alice wp] pod[p] web[] held[wp]",
    ),
    (
        "p[alice wp] pod[p] web[wp] held[wp]",
        "p[* !alice] pod[p] web[] held[]",
        "p[* !alice !wp] pod[p] web[] held[wp]",
    ),
    // The pod changes to a form of the policy that was there all the time, for pods without a waypoint.
    (
        "p~00000000000000aa[* !wp] p~00000000000000bb[*] pod[p~00000000000000aa] web[wp] held[wp]",
        "p~00000000000000aa[* !wp] p~00000000000000bb[*] pod[p~00000000000000bb] web[] held[]",
        "p~00000000000000aa[* !wp] p~00000000000000bb[* !wp] pod[p~00000000000000bb] web[] held[wp]",
    ),
    // It is the last with a form of its own.
    (
        "p~00000000000000aa[wp] p~00000000000000bb[alice] pod[p~00000000000000aa] web[wp] held[wp]",
        "p[alice] pod[] web[] held[]",
        "p[alice wp] pod[] web[] held[wp]",
    ),
    // Whom the policy names itself it goes on to name; another policy is none of this one's business.
    (
        "other[alice] p[wp] pod[p] web[wp] held[wp]",
        "other[alice] p[wp] pod[p] web[] held[]",
        "other[alice] p[wp] pod[p] web[] held[wp]",
    ),
    // Another waypoint follows.
    (
        "p[* !wp] pod[p] web[wp] held[wp]",
        "p[* !new] pod[p] web[new] held[new]",
        "p[* !new !wp] pod[p] web[new] held[new wp]",
    ),
];

#[test]
fn what_is_under_way_passes_while_the_waypoint_lingers_and_nothing_else() {
    for (before, after, lingers) in LINGERING {
        let mut world = World::new(before);
        let served = |line: &str, name: &str| line.contains("web[wp]") && line.contains(name);
        let mut told = world.now(after);
        for _ in 0..4 {
            assert!(!served(&told, "held[]"), "{before}: {told}");
            world.after(&Waypoint("new"));
            told = world.after(&Ztunnels);
        }
        assert_eq!(told, *lingers, "{before}");
        assert!(world.is_settled(), "{before}");
        world.goes(&[(Pass(LINGER), after)]);
        assert_eq!(world.staging.wake_at(), None);
    }
}

#[test]
fn who_comes_back_while_it_lingers_is_not_forgotten_later() {
    let mut world = World::new(BOUND);
    world.after(&Now(FREE));
    (0..4).for_each(|_| drop(world.after(&Ztunnels)));
    world.after(&Now(BOUND));
    world.after(&Waypoint("wp"));
    (0..4).for_each(|_| drop(world.after(&Ztunnels)));
    assert!(world.is_settled() && world.staging.wake_at().is_none());
    world.goes(&[(Pass(LINGER), BOUND)]);
}

#[test]
fn several_that_linger_add_one_exception() {
    let mut world = World::new(BOUND);
    for _ in 0..3 {
        world.after(&Now(FREE));
        (0..4).for_each(|_| drop(world.after(&Ztunnels)));
        world.goes(&[(
            Now("allow[alice] q[=1] pod[] web[] held[]"),
            "allow[alice wp] q[=1] pod[] web[] held[wp]",
        )]);
    }
}

#[test]
fn another_waypoint_is_there_before_the_old_one_goes() {
    let mut world = World::new("p[* !wp] pod[p] web[wp] held[wp]");
    let both = "p[* !wp] pod[p] web[wp] held[new wp]";
    let either = "p[* !new !wp] pod[p] web[wp] held[new wp]";
    let moved = "p[* !new !wp] pod[p] web[new] held[new wp]";
    let new = "p[* !new] pod[p] web[new] held[new]";
    world.goes(&[
        (Now(new), both),
        (Waypoint("wp"), both),
        (Waypoint("new"), either),
        // The pod names the same policy as before: its Workload does not change.
        (Ztunnels, moved),
        (Ztunnels, moved),
        (Pass(LINGER), new),
    ]);
}

#[test]
fn what_does_not_concern_a_move_passes_at_once() {
    let mut world = World::new("allow[alice] q[=1] pod[] web[] held[]");
    world.goes(&[
        (
            Now("allow[alice wp] lock[* !wp] q[=2] pod[lock] web[wp] held[wp]"),
            "allow[alice] q[=2] pod[] web[] held[wp]",
        ),
        (
            Now("allow[alice wp] lock[* !wp] q[=3] pod[lock] web[wp] held[wp]"),
            "allow[alice] q[=3] pod[] web[] held[wp]",
        ),
        // Nor does any of that begin the wait anew.
        (Pass(STEP_WITHIN), "allow[alice wp] lock[* !wp] q[=3] pod[] web[] held[wp]"),
    ]);
}

#[test]
fn nobody_is_waited_for_longer_than_ten_seconds_or_at_all_when_not_there() {
    let mut world = World::new(FREE);
    world.goes(&[(Now(BOUND), HELD)]);
    for expected in [LET_IN, LOCKED, BOUND] {
        assert_eq!(world.staging.wake_at(), Some(world.now + STEP_WITHIN));
        world.now += STEP_WITHIN - MOMENT;
        assert!(world.staging.advance(&world.slowest, world.now).is_none());
        world.goes(&[(Pass(MOMENT), expected)]);
    }
    let mut world = World::new(FREE);
    world.slowest = Slowest::default();
    world.goes(&[(Now(BOUND), BOUND)]);
    assert!(world.is_settled() && world.staging.wake_at().is_none());
}

#[test]
fn a_move_that_is_taken_back_leaves_nothing_behind() {
    let mut world = World::new(FREE);
    world.goes(&[(Now(BOUND), HELD), (Now(FREE), FREE)]);
    assert!(world.is_settled() && world.staging.wake_at().is_none());
    // Half way there, policies and workloads follow at once.
    let mut world = World::new(FREE);
    world.goes(&[(Now(BOUND), HELD), (Waypoint("wp"), LET_IN), (Ztunnels, LOCKED), (Now(FREE), FREE)]);
    assert_eq!(world.staging.wake_at(), None);
}

#[test]
fn every_publication_has_a_moment_of_its_own() {
    let mut world = World::new(FREE);
    let mut moments = vec![world.staging.told.moment()];
    let new = "allow[alice new] lock[* !new] pod[lock] web[new] held[new]";
    for line in [BOUND, new, FREE, BOUND, FREE] {
        world.now(line);
        moments.push(world.staging.told.moment());
        for event in [Waypoint("wp"), Waypoint("new"), Ztunnels, Pass(LINGER / 2)].iter().cycle().take(24) {
            world.after(event);
            moments.push(world.staging.told.moment());
        }
        assert_eq!(world.staging.wake_at(), None, "it ends");
    }
    moments.dedup();
    let mut sorted = moments.clone();
    sorted.sort_by_key(|moment| moment.step);
    sorted.dedup();
    assert_eq!(moments, sorted);
}

#[tokio::test]
async fn the_task_tells_the_first_snapshot_and_follows_what_proxies_answer() {
    let (targets, source) = watch::channel(snapshot(1, FREE));
    let (sender, mut told) = watch::channel(Arc::new(Snapshot::default()));
    let proxies = Proxies::default();
    let ztunnel = proxies.enter(Proxy::new(&Audience::Ztunnel));
    let waypoint = proxies.enter(Proxy::new(&Audience::Waypoint("shop/wp".into())));
    let task = ambit_process::spawn::spawn("staging", run(source, sender, proxies.clone()));
    told.wait_for(|told| told.generation == 1).await.expect("running");
    targets.send_replace(snapshot(2, BOUND));
    let now = told.wait_for(|told| line(told) == HELD).await.expect("running").clone();
    waypoint.acknowledged(now.moment());
    // Policies, Workloads, the binding, and nothing more.
    while told.borrow().generation == 1 {
        told.changed().await.expect("running");
        let moment = told.borrow_and_update().moment();
        ztunnel.acknowledged(moment);
    }
    assert_eq!(line(&told.borrow()), BOUND);
    drop(targets);
    task.await.expect("it ends with the translation");
}
