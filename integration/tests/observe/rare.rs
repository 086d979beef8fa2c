//! What is counted beside requests: policies that decide nothing, messages of gRPC, copies, and endpoints sent to rest.

use std::time::Duration;

use ambit_lab::key_of;
use ambit_lab::load::Protocol;
use ambit_lab::stream::Call;
use libtest_mimic::Failed;

use crate::support::{Check, check};
use crate::{PATIENCE, Shop};

const CLUSTER: (&str, &str) = ("cluster_name", "inbound-vip|80|http|web.shop.svc.cluster.local");

/// Applies objects for as long as a trial runs, and waits until everybody has them.
fn with(shop: &Shop, objects: &[(&str, &str, String)], run: impl FnOnce() -> Check) -> Check {
    let yaml: Vec<_> = objects.iter().map(|(_, _, yaml)| yaml.as_str()).collect();
    let faults = shop.lab.apply(&yaml.join("\n---\n"))?;
    check(faults.is_empty(), || format!("{faults:?}"))?;
    shop.lab.settled()?;
    let outcome = run();
    let keys: Vec<_> = objects.iter().map(|(kind, name, _)| key_of(kind, &format!("shop/{name}"))).collect();
    shop.lab.delete(&keys)?;
    shop.lab.settled()?;
    outcome
}

fn policy(name: &str, dry_run: bool, spec: &str) -> (&'static str, String, String) {
    let yaml = format!(
        "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: {name}, namespace: shop, annotations: {{istio.io/dry-run: '{dry_run}'}}}}, spec: {{{spec}}}}}"
    );
    ("AuthorizationPolicy", name.to_owned(), yaml)
}

fn get(shop: &Shop, path: &str, count: u64) -> Check {
    let outcome = shop.asked(|load| (load.path, load.count) = (path.to_owned(), count))?;
    check(outcome == "200", || format!("{path}: {outcome}"))
}

/// Dry runs and audits are counted and logged, in T and in S, by policy and by whether they matched, and refuse nobody.
pub(crate) fn trials(shop: &Shop) -> Check {
    let target = "targetRefs: [{kind: Service, group: '', name: web}]";
    let tried = "rules: [{to: [{operation: {paths: [/tried]}}]}]";
    let policies = [
        policy("dry-t", true, &format!("{target}, action: DENY, {tried}")),
        policy("dry-s", true, &format!("selector: {{matchLabels: {{app: web}}}}, action: ALLOW, {tried}")),
        policy("marks", false, &format!("{target}, action: AUDIT, {tried}")),
    ];
    let objects: Vec<_> =
        policies.iter().map(|(kind, name, yaml)| (*kind, name.as_str(), yaml.clone())).collect();
    let rows = [
        ("ambit_policy_dry_run_total", [("policy", "shop/dry-t"), ("layer", "T"), ("matched", "true")], 5.0),
        ("ambit_policy_dry_run_total", [("policy", "shop/dry-t"), ("layer", "T"), ("matched", "false")], 3.0),
        ("ambit_policy_dry_run_total", [("policy", "shop/dry-s"), ("layer", "S"), ("matched", "true")], 5.0),
        ("ambit_policy_dry_run_total", [("policy", "shop/dry-s"), ("layer", "S"), ("matched", "false")], 3.0),
    ];
    let marked = [("policy", "shop/marks"), ("layer", "T")];
    let before = shop.log()?.len();
    with(shop, &objects, || {
        get(shop, "/tried", 5)?;
        get(shop, "/other", 3)?;
        for (name, labels, value) in &rows {
            shop.comes_to(name, labels, *value)?;
        }
        shop.comes_to("ambit_policy_audited_total", &marked, 5.0).map(drop)
    })?;
    let new = shop.log()?.get(before..).unwrap_or_default().to_owned();
    let lines =
        |words: &[&str]| new.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    for (words, count) in [
        (&["dry-run policy", "policy=shop/dry-t", "matched=true", "path=/tried", "sa/alice"][..], 5),
        (&["dry-run policy", "policy=shop/dry-s", "matched=false", "path=/other"], 3),
        (&["audit policy", "policy=shop/marks", "path=/tried"], 5),
        (&["audit policy", "path=/other"], 0),
    ] {
        check(lines(words) == count, || format!("{words:?}: {} lines, not {count}", lines(words)))?;
    }
    // Control: without them nothing is counted any more.
    get(shop, "/tried", 2)?;
    shop.comes_to(rows[0].0, &rows[0].1, 5.0)?;
    shop.comes_to("ambit_policy_audited_total", &marked, 5.0).map(drop)
}

/// Every message of a call is counted, both ways; of other requests none.
pub(crate) fn messages(shop: &Shop) -> Check {
    let labels = [("request_protocol", "grpc"), ("source_workload", "alice")];
    let names = ["istio_request_messages_total", "istio_response_messages_total"];
    let sums = || -> Result<[f64; 2], Failed> {
        let samples = shop.metrics()?;
        Ok(names.map(|name| samples.sum(name, &labels)))
    };
    let before = sums()?;
    let outcome = shop.asked(|load| {
        (load.protocol, load.count, load.body) = (Protocol::Grpc, 10, "a message".into());
        load.path = "/ambit.Echo/Stream".to_owned();
    })?;
    println!("  calls: {outcome}");
    for (name, before) in names.iter().zip(before) {
        shop.comes_to(name, &labels, before + 10.0)?;
    }
    let before = sums()?;
    let call = Call::new(shop.web, Duration::from_millis(5));
    let stream = shop.lab.in_pod(&shop.alice, move || call.grpc())?;
    let end = std::time::Instant::now() + PATIENCE;
    while stream.rounds() < 20 && !stream.broken() && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let rounds = stream.finish()? as f64;
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let now = sums()?;
        let more: Vec<_> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        // The last ones may have been on their way when the client ended it.
        if more.iter().all(|more| *more >= rounds && *more <= rounds + 2.0) {
            break;
        }
        check(std::time::Instant::now() < end, || format!("{rounds} rounds, {more:?} messages"))?;
    }
    get(shop, "/", 5)?;
    let samples = shop.metrics()?;
    let others = samples.matching(names[0], &[("request_protocol", "http")]).count();
    check(others == 0, || format!("{others} series of requests that are no calls"))
}

/// Copies are counted by where they went and what became of them.
pub(crate) fn mirrors(shop: &Shop) -> Check {
    let route = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: web, namespace: shop}, spec: {hosts: [web], http: [{route: [{destination: {host: web}}], mirror: {host: web}}]}}";
    let labels = [CLUSTER, ("outcome", "answered")];
    with(shop, &[("VirtualService", "web", route.to_owned())], || {
        get(shop, "/copied", 7)?;
        shop.comes_to("ambit_mirrored_requests_total", &labels, 7.0).map(drop)
    })?;
    get(shop, "/alone", 3)?;
    shop.comes_to("ambit_mirrored_requests_total", &labels, 7.0).map(drop)
}

/// An endpoint that is sent to rest is counted, by its cluster and the cause.
pub(crate) fn ejections(shop: &Shop) -> Check {
    let rule = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: web, namespace: shop}, spec: {host: web, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 100}}}}";
    let labels = [CLUSTER, ("cause", "consecutive_5xx")];
    let name = "envoy_cluster_outlier_detection_ejections_enforced_total";
    with(shop, &[("DestinationRule", "web", rule.to_owned())], || {
        // Control: too few in a row.
        for path in ["/status/500", "/status/500", "/", "/status/500", "/status/500", "/"] {
            shop.asked(|load| load.path = path.to_owned())?;
        }
        shop.comes_to(name, &labels, 0.0)?;
        for _ in 0..3 {
            shop.asked(|load| load.path = "/status/500".to_owned())?;
        }
        shop.comes_to(name, &labels, 1.0).map(drop)
    })
}
