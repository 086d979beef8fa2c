//! Looks at promises that disturb nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::promise::{Broken, Look, ensure};
use super::shop::{CATALOG, SECRET, Shop, WEB, field, name, web_of};
use super::wire;
use crate::address::NodeNumber;
use crate::component::Component;
use crate::lab::pods::PodHandle;
use crate::metrics::Samples;
use crate::process::poll;

/// Requests of the look at the wire.
const REQUESTS: usize = 60;
/// TLS records those make at least.
const RECORDS: usize = 100;
/// Connections spread over a Service's pods.
const SPREAD: usize = 5_000;
/// How far a pod's count may be from its share: five standard deviations.
const SIGMAS: f64 = 5.0;
/// Callers that spread them.
const CALLERS: usize = 8;
const LATE: Duration = Duration::from_secs(3);
/// Longest time for spreading them.
const ENOUGH: Duration = Duration::from_secs(15);

pub(super) fn served(shop: &Shop<'_>) -> Look {
    let pods = shop.enrolled();
    let objects = shop.lab.pod_objects();
    for pod in &pods {
        let object = objects.iter().find(|object| object["metadata"]["uid"] == pod.uid.as_str());
        let state = object.and_then(|object| shop.lab.redirection(object));
        ensure(state.as_deref() == Some("enabled"), || {
            format!(
                "{} is not in the mesh (redirection {})",
                name(pod),
                state.unwrap_or("not set".to_owned())
            )
        })?;
    }
    let mut counts = Vec::new();
    for node in [NodeNumber(1), NodeNumber(2)] {
        let proxy = Component::Ztunnel(node);
        ensure(shop.lab.pid(proxy).is_some(), || format!("{proxy} does not run"))?;
        let expected = pods.iter().filter(|pod| pod.node == node).count();
        let have = || {
            let samples = shop.lab.metrics(proxy).ok()?;
            let served: f64 = with_end(&samples, "active_proxy_count");
            (served as usize >= expected).then_some(served as usize)
        };
        let have = poll(LATE, have);
        let have = have.ok_or_else(|| {
            Broken::Found(format!("{proxy} does not serve the {expected} pods of its node"))
        })?;
        counts.push(format!("{proxy} serves {have}"));
    }
    Ok(format!("{} pods in the mesh: {}", pods.len(), counts.join(", ")))
}

fn with_end(samples: &Samples, end: &str) -> f64 {
    samples.0.iter().filter(|sample| sample.name.ends_with(end)).map(|sample| sample.value).sum()
}

pub(super) fn encrypted(shop: &Shop<'_>) -> Look {
    let to = shop.service("shop/cart")?;
    let capture = wire::listen(shop)?;
    let reached = shop.reach(&shop.client, to, REQUESTS, SECRET);
    let seen = wire::read(shop, &capture.finish());
    seen.nothing_leaks()?;
    reached?;
    ensure(seen.records >= RECORDS, || {
        format!("{REQUESTS} requests made {} TLS records on port 15008, not {RECORDS}", seen.records)
    })?;
    let hello = match seen.hellos.len() {
        0 => "the tunnel was open before",
        _ => "its ClientHello offers X25519MLKEM768 first",
    };
    Ok(format!(
        "{REQUESTS} requests: {} TLS records on 15008 ({hello}), 0 packets of data beside, 0 readable",
        seen.records
    ))
}

pub(super) fn identity(shop: &Shop<'_>) -> Look {
    let proxy = Component::Ztunnel(shop.cart.node);
    let (client, cart) =
        ("spiffe://cluster.local/ns/shop/sa/client", "spiffe://cluster.local/ns/shop/sa/cart");
    let labels = [("source_principal", client), ("destination_principal", cart), ("reporter", "destination")];
    let count =
        || shop.lab.metrics(proxy).map(|samples| samples.sum("istio_tcp_connections_opened_total", &labels));
    let (before, mark) = (count()?, shop.mark(proxy));
    shop.reach(&shop.client, shop.service("shop/cart")?, 5, SECRET)?;
    let peers = [format!("src.identity={client}"), format!("dst.identity={cart}")];
    shop.line(proxy, mark, &["connection complete", &peers[0], &peers[1]])?;
    let grown = poll(LATE, || count().ok().map(|now| now - before).filter(|grown| *grown >= 5.0));
    let grown = grown.ok_or_else(|| {
        Broken::Found(format!(
            "istio_tcp_connections_opened_total of {proxy} did not grow with these principals"
        ))
    })?;
    Ok(format!("5 connections: {} in the log, +{grown} in istio_tcp_connections_opened_total", peers[0]))
}

pub(super) fn strict(shop: &Shop<'_>) -> Look {
    let mark = |node| shop.mark(Component::Ztunnel(NodeNumber(node)));
    let marks = [mark(1), mark(2)];
    let mut why = String::new();
    for pod in &shop.web {
        shop.refuse(&shop.visitor, web_of(pod, WEB), 2)?;
        shop.reach(&shop.client, web_of(pod, WEB), 2, "")?;
        let mark = marks[usize::from(pod.node.0 != 1)];
        let words = ["src.workload=visitor", "reason=policy_denied", &pod.name];
        why = shop.line(Component::Ztunnel(pod.node), mark, &words)?;
    }
    let pods = shop.web.len();
    Ok(format!(
        "{0} of {0} requests from outside refused by {pods} pods ({1}); {0} of {0} from inside answered",
        2 * pods,
        field(&why, "error")
    ))
}

pub(super) fn permissive(shop: &Shop<'_>) -> Look {
    let to = web_of(&shop.catalog, CATALOG);
    shop.reach(&shop.visitor, to, 10, "apples")?;
    shop.reach(&shop.client, to, 10, "apples")?;
    shop.refuse(&shop.visitor, web_of(&shop.cart, WEB), 10)?;
    Ok("the catalog answered 10 of 10 requests from outside and 10 of 10 from inside; the STRICT cart beside it 0 of 10 from outside".to_owned())
}

pub(super) fn allow(shop: &Shop<'_>) -> Look {
    let to = shop.service("shop/cart")?;
    let why = denied(shop, to, &shop.cart, "policy=shop/cart")?;
    shop.reach(&shop.client, to, 10, SECRET)?;
    Ok(format!("batch refused 10 of 10 times ({why}); client answered 10 of 10 times"))
}

pub(super) fn deny(shop: &Shop<'_>) -> Look {
    let mut why = String::new();
    for pod in &shop.web {
        why = denied(shop, web_of(pod, WEB), pod, "policy=shop/web")?;
        shop.reach(&shop.client, web_of(pod, WEB), 2, "")?;
    }
    let pods = shop.web.len();
    Ok(format!(
        "batch refused {0} of {0} times by {pods} pods ({why}); client answered {1} of {1} times",
        10 * pods,
        2 * pods
    ))
}

/// Requests of the batch pod are refused; the explanation in the log of the server's proxy.
fn denied(
    shop: &Shop<'_>,
    to: std::net::SocketAddr,
    server: &PodHandle,
    policy: &str,
) -> Result<String, Broken> {
    let proxy = Component::Ztunnel(server.node);
    let mark = shop.mark(proxy);
    shop.refuse(&shop.batch, to, 10)?;
    let line = shop.line(proxy, mark, &["sa/batch", "reason=policy_denied", policy, &server.name])?;
    Ok(field(&line, "error").to_owned())
}

pub(super) fn names(shop: &Shop<'_>) -> Look {
    let inside = ["cart", "cart.shop", "cart.shop.svc", "cart.shop.svc.cluster.local"];
    let outside = ["catalog.shop", "catalog.shop.svc.cluster.local"];
    let cases = inside.iter().map(|name| (&shop.client, *name, SECRET));
    let cases = cases.chain(outside.iter().map(|name| (&shop.visitor, *name, "apples")));
    for (from, host, text) in cases {
        let output = shop.lab.exec(from, &["curl", "-sS", "-m", "3", host])?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure(output.status.success() && said.contains(text), || {
            format!("curl {host} in {}: {said}{}", name(from), String::from_utf8_lossy(&output.stderr))
        })?;
    }
    Ok(format!("curl from shop/client: {}; from legacy/visitor: {}", inside.join(", "), outside.join(", ")))
}

pub(super) fn balance(shop: &Shop<'_>) -> Look {
    let to = shop.service("shop/web")?;
    let start = Instant::now();
    let callers: Vec<_> =
        (0..CALLERS).map(|_| shop.lab.thread_in(&shop.client, move || spread(to))).collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for caller in callers {
        let told = caller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        told.into_iter().for_each(|(pod, count)| *counts.entry(pod).or_default() += count);
    }
    let seconds = start.elapsed().as_secs_f64();
    let fair = SPREAD / shop.web.len();
    let strange = counts.keys().find(|pod| shop.web.iter().all(|web| web.name != **pod));
    ensure(strange.is_none(), || format!("not every connection was answered by a web pod: {counts:?}"))?;
    let worst = counts.values().map(|count| count.abs_diff(fair)).max().unwrap_or(fair);
    let part = 1.0 / shop.web.len() as f64;
    let allowed = SIGMAS * (SPREAD as f64 * part * (1.0 - part)).sqrt();
    ensure(counts.len() == shop.web.len() && worst as f64 <= allowed, || {
        format!("{SPREAD} connections over {} pods, {fair} ± {allowed:.0} each: {counts:?}", shop.web.len())
    })?;
    let share = 100.0 * worst as f64 / fair as f64;
    Ok(format!(
        "{SPREAD} connections over {} pods, each within {share:.1} % of its share; 0 failed, {:.0} a second",
        shop.web.len(),
        SPREAD as f64 / seconds
    ))
}

/// Asks again and again and counts who answered; what went wrong ends it.
fn spread(to: std::net::SocketAddr) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let end = Instant::now() + ENOUGH;
    for _ in 0..SPREAD / CALLERS {
        if Instant::now() > end {
            counts.insert(format!("not done within {} s", ENOUGH.as_secs()), 1);
            return counts;
        }
        let answer = match crate::http::request("GET", to, "/", LATE) {
            Ok(answer) => answer.body,
            Err(error) => {
                counts.insert(error.to_string(), 1);
                return counts;
            }
        };
        let told = serde_json::from_str::<serde_json::Value>(&answer).ok();
        let pod = told.and_then(|told| Some(told["pod"].as_str()?.to_owned()));
        *counts.entry(pod.unwrap_or(answer)).or_default() += 1;
    }
    counts
}
