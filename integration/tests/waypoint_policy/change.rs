//! Policies that come, change and go while requests, streams and connections are under way (rules 15 to 18).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::Component;
use ambit_lab::stream::Stream;
use libtest_mimic::Failed;

use crate::judged::{Asked, Met, PATIENCE};
use crate::shop::Shop;
use crate::support::{Check, check};

const LABEL: &str = "istio.io/use-waypoint";
const ONLY_ALICE: &str =
    "shop/t: T(bare), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [alice]}}]}]";
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

/// While a waypoint and then a policy come, alice is never refused, and bob never let through again once he was refused;
/// when both have gone he is let through again.
pub(crate) fn attach(shop: &Shop) -> Check {
    const EACH: usize = 120;
    let (mut probes, mut refused) = (0, 0);
    for turn in 0..2 {
        let callers = ["alice GET bare/", "alice GET bare/again", "bob GET bare/"];
        let callers: Vec<_> =
            callers.into_iter().map(|call| Prober::start(shop, call)).collect::<Result<_, _>>()?;
        let more = || callers.iter().try_for_each(|caller| caller.more(EACH / 3));
        more()?;
        shop.mark(("svc", "shop/bare"), "labels", LABEL, Some("waypoint"))?;
        shop.lab.settled()?;
        more()?;
        shop.put(ONLY_ALICE)?;
        shop.lab.settled()?;
        let attached = Instant::now();
        more()?;
        let made = callers.into_iter().map(Prober::finish).collect::<Result<Vec<_>, _>>()?;
        let [alice @ .., bob] = made.as_slice() else { return Err("nobody called".into()) };
        let failed: Vec<_> =
            alice.iter().flatten().filter(|probe| !good(probe)).map(|probe| &probe.met).collect();
        check(failed.is_empty(), || format!("turn {turn}: {} of alice's failed: {failed:?}", failed.len()))?;
        let first = bob.iter().find(|probe| !good(probe)).map(|probe| probe.ended).ok_or("never refused")?;
        let late = bob.iter().filter(|probe| good(probe) && probe.begun > first.min(attached)).count();
        check(late == 0, || {
            format!("turn {turn}: bob was let through {late} times after he had been refused")
        })?;
        probes += made.iter().map(Vec::len).sum::<usize>();
        refused += bob.iter().filter(|probe| !good(probe)).count();
        let bob = Prober::start(shop, "bob GET bare/")?;
        bob.more(EACH / 3)?;
        shop.clear()?;
        let detached = Instant::now();
        bob.more(EACH / 3)?;
        let bob = bob.finish()?;
        let late = bob.iter().filter(|probe| !good(probe) && probe.begun > detached).count();
        check(late == 0, || format!("turn {turn}: bob was refused {late} times after the policy was gone"))?;
        probes += bob.len();
    }
    println!("{probes} calls, {refused} of them bob's and refused, none of alice's");
    check(probes >= 1000, || format!("only {probes} calls"))
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

/// Every kind of thing that stays open, of somebody's.
fn streams(shop: &Shop, who: &str) -> Result<Vec<(String, Stream)>, Failed> {
    let calls = [format!("{who} TCP web:9090/"), format!("{who} WS web/socket"), format!("{who} GRPC web/")];
    let open = |call: String| {
        let stream = Asked::read(&shop.lab, &call)?.open(&shop.lab);
        Ok((call.clone(), stream.map_err(|error| format!("{call}: {error}"))?))
    };
    calls.into_iter().map(open).collect()
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
    let stay = streams(shop, "alice")?;
    for (what, policies) in CUTS {
        let cut = streams(shop, "bob")?;
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
        for (call, stream) in streams(shop, "bob")? {
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
