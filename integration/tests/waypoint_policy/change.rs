//! Policies that come, change and go while requests, streams and connections are under way (rules 15 to 18).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::Component;
use ambit_lab::load::{Connections, Live, Load, Outcome, Protocol};
use ambit_lab::stream::Stream;
use libtest_mimic::Failed;

use crate::judged::{Asked, Met, PATIENCE};
use crate::shop::Shop;
use crate::support::{Check, check};

const LABEL: &str = "istio.io/use-waypoint";
const ONLY_ALICE: &str =
    "shop/t: T(bare), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [alice]}}]}]";
/// How long a waypoint serves what was under way when it was detached.
const LINGER: Duration = Duration::from_secs(10);
/// Within this a change must have acted.
const SECOND: Duration = Duration::from_secs(1);

/// Somebody who calls again and again.
struct Prober {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Probe>>,
}

struct Probe {
    begun: Instant,
    ended: Instant,
    met: Met,
}

impl Prober {
    fn start(shop: &Shop, call: &str) -> Result<Self, Failed> {
        let asked = Asked::read(&shop.lab, call)?;
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&made));
        let from = asked.from.clone();
        let thread = shop.lab.thread_in(&from, move || {
            let mut probes = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let met = asked.clone().run();
                probes.push(Probe { begun, ended: Instant::now(), met });
                count.fetch_add(1, Ordering::Relaxed);
            }
            probes
        });
        Ok(Prober { stop, made, thread })
    }

    /// Waits for this many more.
    fn more(&self, count: usize) -> Check {
        let (start, goal) = (Instant::now(), self.made.load(Ordering::Relaxed) + count);
        while self.made.load(Ordering::Relaxed) < goal {
            check(start.elapsed() < 2 * PATIENCE, || "the calls stand still".to_owned())?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Probe>, Failed> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| "the caller failed".into())
    }
}

fn good(probe: &Probe) -> bool {
    probe.met == Met::Status(200)
}

/// While a waypoint and then a policy come and go again at once, alice is never refused; bob is never let through again once
/// he was refused, until they have gone, and never refused once they have.
pub(crate) fn attach(shop: &Shop) -> Check {
    const EACH: usize = 40;
    let alice = ["alice GET bare/", "alice GET bare/again"].map(|call| Prober::start(shop, call));
    let alice: Vec<Prober> = alice.into_iter().collect::<Result<_, _>>()?;
    let (mut probes, mut refused) = (0, 0);
    for turn in 0..3 {
        let bob = Prober::start(shop, "bob GET bare/")?;
        let more = || alice.iter().chain([&bob]).try_for_each(|caller| caller.more(EACH));
        more()?;
        shop.mark(("svc", "shop/bare"), "labels", LABEL, Some("waypoint"))?;
        shop.lab.settled()?;
        more()?;
        shop.put(ONLY_ALICE)?;
        shop.lab.settled()?;
        let attached = Instant::now();
        more()?;
        let all = bob.finish()?;
        let first = all.iter().find(|probe| !good(probe)).map(|probe| probe.ended).ok_or("never refused")?;
        let late = all.iter().filter(|probe| good(probe) && probe.begun > first.min(attached)).count();
        check(late == 0, || {
            format!("turn {turn}: bob was let through {late} times after he had been refused")
        })?;
        (probes, refused) = (probes + all.len(), refused + all.iter().filter(|probe| !good(probe)).count());
        let bob = Prober::start(shop, "bob GET bare/")?;
        bob.more(EACH)?;
        shop.clear()?;
        let detached = Instant::now();
        bob.more(EACH)?;
        let all = bob.finish()?;
        let late = all.iter().filter(|probe| !good(probe) && probe.begun > detached).count();
        check(late == 0, || format!("turn {turn}: bob was refused {late} times after the policy was gone"))?;
        probes += all.len();
    }
    for caller in alice {
        let all = caller.finish()?;
        let failed: Vec<_> = all.iter().filter(|probe| !good(probe)).map(|probe| &probe.met).collect();
        check(failed.is_empty(), || {
            format!("{} of {} of alice's failed: {failed:?}", failed.len(), all.len())
        })?;
        probes += all.len();
    }
    println!("{probes} calls, {refused} of them bob's and refused, none of alice's");
    check(probes >= 1000, || format!("only {probes} calls"))
}

/// Clients that keep their connections through the waypoint, with policies of both kinds: T goes with the waypoint and S
/// stays. None of their requests fails; they soon go past it, and what stays open ends when it has forgotten them.
pub(crate) fn detach(shop: &Shop) -> Check {
    shop.mark(("svc", "shop/bare"), "labels", LABEL, Some("waypoint"))?;
    shop.put(ONLY_ALICE)?;
    shop.put("shop/s: S(bare), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [alice]}}]}]")?;
    shop.lab.settled()?;
    let kept = [Protocol::Http1, Protocol::H2c].map(|protocol| Kept::start(shop, protocol));
    let kept: Vec<Kept> = kept.into_iter().collect::<Result<_, _>>()?;
    let open = streams(shop, &["alice WS bare/socket", "alice GRPC bare/"])?;
    let more = |count| kept.iter().try_for_each(|load| load.more(count));
    more(40)?;
    let before = passed(shop)?;
    more(40)?;
    check(passed(shop)? > before, || "nothing goes through the waypoint".to_owned())?;
    shop.remove("shop/t")?;
    shop.mark(("svc", "shop/bare"), "labels", LABEL, None)?;
    shop.lab.settled()?;
    let detached = Instant::now();
    go_on(&open)?;
    more(40)?;
    let before = passed(shop)?;
    more(40)?;
    let late = passed(shop)? - before;
    check(late == 0.0, || format!("{late} requests still went through the waypoint"))?;
    // What has not ended by itself is cut once the waypoint is told of its policies no more.
    for (call, stream) in &open {
        while !stream.broken() {
            check(detached.elapsed() < LINGER + 2 * SECOND, || format!("{call} still lives"))?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let took = detached.elapsed();
    println!("past the waypoint at once; what stayed open was cut after {took:?}");
    check(took > LINGER - 2 * SECOND, || format!("cut after {took:?}"))?;
    more(40)?;
    let sent = kept.into_iter().map(Kept::finish).sum::<Result<u64, Failed>>()?;
    println!("{sent} requests on kept connections, none failed");
    shop.calls(&["alice GET bare/ = 200", "bob GET bare/ = l4 shop/s"])
}

/// A load of alice's on connections that are replaced only when the other side asks for it: HTTP/1.1 by an answer, HTTP/2
/// between two requests.
struct Kept {
    protocol: Protocol,
    live: Arc<Live>,
    thread: JoinHandle<std::io::Result<Outcome>>,
}

impl Kept {
    fn start(shop: &Shop, protocol: Protocol) -> Result<Self, Failed> {
        let asked = Asked::read(&shop.lab, "alice GET bare/")?;
        let mut load = Load::new(asked.to);
        load.connections = match protocol {
            Protocol::Http1 => Connections::Kept,
            Protocol::H2c | Protocol::Grpc => Connections::Replaced,
        };
        (load.protocol, load.rate, load.width, load.time) = (protocol, Some(200.0), 4, 4 * PATIENCE);
        let live = Arc::clone(&load.live);
        Ok(Kept { protocol, live, thread: shop.lab.thread_in(&asked.from, move || load.run()) })
    }

    /// Waits for this many more answers.
    fn more(&self, count: u64) -> Check {
        let (start, goal) = (Instant::now(), self.live.good() + count);
        while self.live.good() < goal {
            let failures = self.live.failures();
            check(start.elapsed() < PATIENCE && failures.is_empty(), || {
                format!("{:?}: {} more, then {failures:?}", self.protocol, self.live.good() + count - goal)
            })?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// The number of its requests, none of which failed.
    fn finish(self) -> Result<u64, Failed> {
        self.live.stop();
        let outcome = self.thread.join().map_err(|_panic| "the load failed")??;
        check(outcome.good == outcome.sent, || format!("{:?}: {outcome:?}", self.protocol))?;
        Ok(outcome.sent)
    }
}

/// Requests that the waypoint has answered.
fn passed(shop: &Shop) -> Result<f64, Failed> {
    let waypoint = shop.lab.waypoints().into_iter().next().ok_or("no waypoint")?;
    Ok(shop.lab.pod_metrics(&waypoint)?.sum("istio_requests_total", &[]))
}

/// Label and policy at once: who is forbidden is let through no more from the first refusal on, and who is permitted is
/// refused for no longer than the change takes to arrive.
pub(crate) fn at_once(shop: &Shop) -> Check {
    let (alice, bob) = (Prober::start(shop, "alice GET bare/")?, Prober::start(shop, "bob GET bare/")?);
    bob.more(20)?;
    let begun = Instant::now();
    shop.put(ONLY_ALICE)?;
    shop.mark(("svc", "shop/bare"), "labels", LABEL, Some("waypoint"))?;
    shop.lab.settled()?;
    let settled = Instant::now();
    alice.more(50)?;
    bob.more(50)?;
    let (alice, bob) = (alice.finish()?, bob.finish()?);
    let first = bob.iter().find(|probe| !good(probe)).map(|probe| probe.ended).ok_or("never refused")?;
    let late = bob.iter().filter(|probe| good(probe) && probe.begun > first).count();
    let between = alice.iter().filter(|probe| !good(probe)).count();
    let after = alice.iter().filter(|probe| !good(probe) && probe.begun > settled).count();
    println!("settled after {:?}; {between} of alice's were refused until then", settled - begun);
    check(late == 0, || format!("bob was let through {late} times after he had been refused"))?;
    check(after == 0, || format!("alice was refused {after} times once it had settled"))
}

/// Opens what stays open.
fn streams(shop: &Shop, calls: &[impl AsRef<str>]) -> Result<Vec<(String, Stream)>, Failed> {
    let open = |call: &str| {
        let stream = Asked::read(&shop.lab, call)?.open(&shop.lab);
        Ok((call.to_owned(), stream.map_err(|error| format!("{call}: {error}"))?))
    };
    calls.iter().map(|call| open(call.as_ref())).collect()
}

/// Every kind of that, of somebody's.
fn every(who: &str) -> [String; 3] {
    [format!("{who} TCP web:9090/"), format!("{who} WS web/socket"), format!("{who} GRPC web/")]
}

fn go_on(streams: &[(String, Stream)]) -> Check {
    for (call, stream) in streams {
        let (start, before) = (Instant::now(), stream.rounds());
        while stream.rounds() < before + 3 {
            check(start.elapsed() < PATIENCE && !stream.broken(), || {
                format!("{call} stands still or is broken")
            })?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// What forbids bob, and nobody else.
const CUTS: &[(&str, &[&str])] = &[
    ("T", &["shop/cut: T(web), action: DENY, rules: [{from: [{source: {serviceAccounts: [bob]}}]}]"]),
    ("S", &["shop/cut: S(web), action: DENY, rules: [{from: [{source: {serviceAccounts: [bob]}}]}]"]),
    (
        "an ALLOW that does not match",
        &["shop/cut: T(web), action: ALLOW, rules: [{from: [{source: {notIpBlocks: ['{bob}']}}]}]"],
    ),
    (
        "the Gateway's",
        &[
            "shop/cut: T(Gateway waypoint), action: DENY, rules: [{from: [{source: {serviceAccounts: [bob]}}]}]",
        ],
    ),
    (
        "a lock",
        &[
            "shop/cut: T(side), action: ALLOW, rules: [{from: [{source: {notServiceAccounts: [bob]}}]}]",
            "shop/tcp: T(web), action: DENY, rules: [{from: [{source: {serviceAccounts: [bob]}}], to: [{operation: {ports: ['9090']}}]}]",
        ],
    ),
];

pub(crate) fn open(shop: &Shop) -> Check {
    let stay = streams(shop, &every("alice"))?;
    for (what, policies) in CUTS {
        let cut = streams(shop, &every("bob"))?;
        go_on(&cut)?;
        policies.iter().try_for_each(|policy| shop.put(policy))?;
        let since = Instant::now();
        for (call, stream) in cut {
            while !stream.broken() {
                check(since.elapsed() < 2 * SECOND, || format!("{what}: {call} still lives"))?;
                std::thread::sleep(Duration::from_millis(1));
            }
            let end = stream.finish();
            check(end.is_err(), || format!("{what}: {call} ended well: {end:?}"))?;
        }
        println!("{what}: bob's are cut within {:?}", since.elapsed());
        check(since.elapsed() < SECOND, || format!("{what}: cut only within {:?}", since.elapsed()))?;
        shop.lab.settled()?;
        go_on(&stay)?;
        shop.calls(&["alice GET web/ = 200"])?;
        shop.clear()?;
        for (call, stream) in streams(shop, &every("bob"))? {
            stream.finish().map_err(|error| format!("{call}, permitted again: {error}"))?;
        }
    }
    for (call, stream) in stay {
        stream.finish().map_err(|error| format!("{call}: {error}"))?;
    }
    Ok(())
}

/// An edit that is not valid changes nothing; neither does a new controller.
pub(crate) fn last_good(shop: &Shop) -> Check {
    let before = ["alice GET web/ = 200", "bob GET web/ = T shop/t attribute=serviceAccounts"];
    shop.put("shop/t: T(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [alice]}}]}]")?;
    shop.put("shop/s: S(web), action: DENY, rules: [{from: [{source: {serviceAccounts: [alice]}}], to: [{operation: {methods: [POST]}}]}]")?;
    shop.lab.settled()?;
    shop.calls(&before)?;
    shop.put("shop/t: T(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [bob], serviceAcounts: [x]}}]}]")?;
    shop.put("shop/s: S(web), action: DENY, rules: [{from: [{source: {serviceAccounts: [alice]}}], to: [{operation: {method: [GET]}}]}]")?;
    shop.lab.settled()?;
    shop.calls(&before)?;
    shop.calls(&["alice POST web/ = S shop/s rule=0"])?;
    shop.lab.restart(Component::Controller)?;
    shop.lab.settled()?;
    shop.calls(&before)?;
    shop.calls(&["alice POST web/ = S shop/s rule=0"])?;
    // Mended.
    shop.put("shop/t: T(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [bob]}}]}]")?;
    shop.lab.settled()?;
    shop.calls(&["alice GET web/ = T shop/t attribute=serviceAccounts", "bob GET web/ = 200"])
}

/// Istio's placement on request (rule 18): no locks, selectors are the ztunnels' business, a missing waypoint closes nothing.
pub(crate) fn placement(shop: &Shop) -> Check {
    let only = "action: ALLOW, rules: [{from: [{source: {serviceAccounts: [alice]}}]}]";
    shop.put(&format!("shop/t: T(web), {only}"))?;
    shop.put(&format!("shop/u: T(bare), {only}"))?;
    shop.lab.settled()?;
    // Control: the same in Ambit's.
    shop.calls(&[
        "alice GET web/ = 200",
        "bob GET web-1:5678/ = l4 shop/lock~5678",
        "bob GET bare/ = l4 shop/lock~5678",
    ])?;
    shop.put("ConfigMap ambit-system/ambit: mesh: '{policy: {placement: istio}}'")?;
    shop.lab.settled()?;
    shop.calls(&[
        "alice GET web/ = 200",
        "bob GET web/ = T shop/t attribute=serviceAccounts",
        "bob GET web-1:5678/ = 200",
        "dave GET web/ = 200",
        "bob GET bare/ = 200",
    ])?;
    // The ztunnel sees the waypoint alone.
    shop.put("shop/s: S(web), action: ALLOW, rules: [{from: [{source: {namespaces: [shop]}}]}]")?;
    shop.put("shop/t: T(web), action: ALLOW, rules: [{}]")?;
    shop.lab.settled()?;
    shop.calls(&[
        "carol GET web/ = 200",
        "carol GET web-1:5678/ = l4 shop/s",
        "alice GET web-1:5678/ = 200",
    ])?;
    // What is left of a rule is never empty: it denies everybody, the waypoint too.
    shop.put("shop/s: S(web), action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]")?;
    shop.lab.settled()?;
    shop.calls(&["alice GET web/ = 503", "alice GET web-1:5678/ = l4 shop/s"])
}
