//! Requests that meet several pods: retries, mirrors, and calls of a pod's own address behind a waypoint.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ambit_lab::load::{Connections, Load, Outcome};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::judged::{Asked, Marks, PATIENCE};
use crate::shop::Shop;
use crate::support::{Check, check};

const COUNT: u64 = 40;
const FORBIDDEN: &str = "shop/s: S(version=v2), action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]";

/// Requests that a version's pod has seen.
fn seen(shop: &Shop, pod: &str) -> Result<u64, Failed> {
    let told: Value = serde_json::from_str(&ask(shop, pod, "/counters")?)?;
    told["requests"].as_u64().ok_or_else(|| told.to_string().into())
}

/// Asks a pod from within itself.
fn ask(shop: &Shop, pod: &str, path: &'static str) -> Result<String, Failed> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 5678));
    let asked = shop.lab.in_pod(&shop.lab.pod(pod)?, move || {
        ambit_lab::http::request("GET", to, path, Duration::from_secs(5))
    });
    Ok(asked?.body)
}

fn reset(shop: &Shop) -> Check {
    ["shop/web-1", "shop/web-2"].into_iter().try_for_each(|pod| ask(shop, pod, "/counters/reset").map(drop))
}

/// Many requests of alice's for web.
fn many(shop: &Shop, fail_first: Option<u64>) -> Result<Outcome, Failed> {
    let asked = Asked::read(&shop.lab, "alice GET web/")?;
    let mut load = Load::new(asked.to);
    (load.count, load.width, load.connections) = (COUNT, 4, Connections::OnePerRequest);
    if let Some(count) = fail_first {
        load.headers.insert("x-fail-first", count.into());
        load.headers.insert("x-fail-key", format!("{count}-{{n}}").parse()?);
    }
    Ok(shop.lab.in_pod(&asked.from, move || load.run())?)
}

/// The first pod fails, the second one is forbidden: the answer is the denial, and there is no further attempt.
pub(crate) fn retries(shop: &Shop) -> Check {
    let route = "VirtualService shop/web: hosts: [web], http: [{retries: {attempts: 3, retryOn: 5xx}, route: [{destination: {host: web}}]}]";
    shop.put(route)?;
    shop.lab.settled()?;
    reset(shop)?;
    // Control: each pod fails once for each request, and the third attempt succeeds.
    let outcome = many(shop, Some(1))?;
    let (first, second) = (seen(shop, "shop/web-1")?, seen(shop, "shop/web-2")?);
    println!("without a policy {first} and {second} attempts: {:?}", outcome.statuses);
    check(outcome.good == COUNT && first >= COUNT && second >= COUNT, || {
        format!("{first} and {second} attempts: {outcome:?}")
    })?;
    shop.put(FORBIDDEN)?;
    shop.lab.settled()?;
    reset(shop)?;
    let outcome = many(shop, Some(1000))?;
    let (first, second) = (seen(shop, "shop/web-1")?, seen(shop, "shop/web-2")?);
    println!("with the second pod forbidden {first} and {second} attempts: {:?}", outcome.statuses);
    check(outcome.statuses.get("403") == Some(&COUNT), || format!("{outcome:?}"))?;
    check(first > 0 && first <= COUNT && second == 0, || format!("{first} and {second} attempts"))?;
    // Nor does it mark the pod: once it is permitted it serves at once.
    shop.clear()?;
    let outcome = many(shop, None)?;
    check(outcome.good == COUNT && outcome.versions.len() == 2, || format!("{outcome:?}"))
}

/// Without a route one of the two pods is chosen: what is refused is refused for that pod alone.
pub(crate) fn labels(shop: &Shop) -> Check {
    shop.put(FORBIDDEN)?;
    shop.lab.settled()?;
    reset(shop)?;
    let outcome = many(shop, None)?;
    let second = seen(shop, "shop/web-2")?;
    println!("{:?} by {:?}", outcome.statuses, outcome.versions);
    let good = outcome.statuses.get("200").copied().unwrap_or(0);
    let refused = outcome.statuses.get("403").copied().unwrap_or(0);
    check(good > 0 && refused > 0 && good + refused == COUNT && second == 0, || {
        format!("{outcome:?}, and the forbidden pod saw {second}")
    })?;
    check(outcome.versions.get("v1") == Some(&good) && outcome.versions.len() == 1, || format!("{outcome:?}"))
}

/// A mirror that is denied reaches no pod and fails nothing.
pub(crate) fn mirrors(shop: &Shop) -> Check {
    let route = "VirtualService shop/web: hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}], mirror: {host: web, subset: v2}, mirrorPercentage: {value: 100}}]";
    shop.put(route)?;
    shop.lab.settled()?;
    for mirrored in [COUNT, 0] {
        if mirrored == 0 {
            shop.put(FORBIDDEN)?;
            shop.lab.settled()?;
        }
        reset(shop)?;
        let marks = Marks::now(&shop.lab);
        let outcome = many(shop, None)?;
        check(outcome.good == COUNT && outcome.versions.get("v1") == Some(&COUNT), || {
            format!("{outcome:?}")
        })?;
        let start = Instant::now();
        while seen(shop, "shop/web-2")? < mirrored {
            check(start.elapsed() < PATIENCE, || format!("{:?} mirrors arrived", seen(shop, "shop/web-2")))?;
        }
        if mirrored == 0 {
            marks.refused(&shop.lab, &["layer=S", "policy=shop/s"])?;
        }
        let (first, second) = (seen(shop, "shop/web-1")?, seen(shop, "shop/web-2")?);
        println!("{first} requests and {second} mirrors arrived");
        check(first == COUNT && second == mirrored, || format!("{first} requests, {second} mirrors"))?;
    }
    Ok(())
}

/// A pod's own address behind a waypoint (rule 14): T of the Gateway and S judge its callers there.
pub(crate) fn workload(shop: &Shop) -> Check {
    shop.mark(("pod", "shop/web-1"), "labels", "istio.io/use-waypoint", Some("waypoint"))?;
    shop.put("shop/s: S(web), action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]")?;
    shop.put("shop/t: T(Gateway waypoint), action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]")?;
    shop.lab.settled()?;
    shop.calls(&[
        "alice GET web-1:5678/ = 200",
        "bob GET web-1:5678/ = 200",
        "alice POST web-1:5678/ = S shop/s rule=0",
        "alice GET web-1:5678/admin = T shop/t rule=0",
        // The other pod has none.
        "alice GET web-2:5678/ = l4 shop/s",
        "dave GET web-1:5678/ = l4 shop/s",
    ])
}

/// Two Services lead one number to different ports of a pod (rule 8): an ALLOW takes it literally, a DENY takes both.
pub(crate) fn ambiguous(shop: &Shop) -> Check {
    shop.put("Service shop/twin: selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8081}]")?;
    let open = ["alice GET web/ = 200", "alice GET twin/ = 200", "alice GET web-1:8081/ = 200"];
    shop.comes_to("the other Service", &open)?;
    let rule = "rules: [{to: [{operation: {ports: ['80']}}]}]";
    shop.put(&format!("shop/s: S(web), action: ALLOW, {rule}"))?;
    shop.lab.settled()?;
    shop.calls(&[
        "alice GET web/ = S shop/s attribute=ports",
        "alice GET twin/ = l4 shop/s attribute=ports",
        "alice GET web-1:5678/ = l4 shop/s attribute=ports",
    ])?;
    shop.put(&format!("shop/s: S(web), action: DENY, {rule}"))?;
    shop.lab.settled()?;
    shop.calls(&[
        "alice GET web/ = S shop/s rule=0",
        "alice GET twin/ = l4 shop/s",
        "alice GET web-1:5678/ = l4 shop/s",
        "alice TCP web:9090/ = echo",
    ])?;
    let (status, message) =
        shop.condition(("AuthorizationPolicy", "shop/s"), ("Enforced", "AmbiguousPorts"))?;
    println!("Enforced={status} {message}");
    check(status == "True" && message.contains("80"), || message)
}
