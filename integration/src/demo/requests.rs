//! Looks at what the waypoint does with requests; they disturb nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::promise::{Broken, Look, ensure};
use super::shop::{Shop, field, name};
use crate::lab::pods::PodHandle;
use crate::process::poll;

/// Requests that are spread over both versions.
const SPREAD: usize = 1_000;
/// What the canary gets of them.
const CANARY: f64 = 0.1;
/// How far its count may be from that: five standard deviations.
const SIGMAS: f64 = 5.0;
/// Failures after which no more is asked.
const ENOUGH: usize = 5;
/// Requests that must be refused, each.
const REFUSED: usize = 10;
/// A path that the policy admits.
const PATH: &str = "/reviews/1";
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest time until a line is written or a figure shown.
const LATE: Duration = Duration::from_secs(3);

pub(super) fn canary(shop: &Shop<'_>) -> Look {
    let to = service(shop)?;
    let answers = shop.lab.in_pod(&shop.client, move || {
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        let mut failed = 0;
        for _ in 0..SPREAD {
            let answer = crate::http::request("GET", to, PATH, PATIENCE);
            failed += usize::from(!answer.as_ref().is_ok_and(|answer| answer.status == 200));
            let said = answer.map_or_else(
                |error| error.to_string(),
                |answer| format!("{} {}", answer.status, answer.body.trim()),
            );
            *answers.entry(said).or_default() += 1;
            // It does not hold; how often does not matter.
            if failed == ENOUGH {
                break;
            }
        }
        answers
    });
    let count = |version: &str| answers.get(&format!("200 reviews {version}")).copied().unwrap_or_default();
    let (old, new) = (count("v1"), count("v2"));
    ensure(old + new == SPREAD, || format!("not every request was answered well: {answers:?}"))?;
    let expected = SPREAD as f64 * CANARY;
    let allowed = SIGMAS * (expected * (1.0 - CANARY)).sqrt();
    ensure((new as f64 - expected).abs() <= allowed, || {
        format!("v2 got {new} of {SPREAD} requests, {expected:.0} ± {allowed:.0} were expected")
    })?;
    Ok(format!(
        "{SPREAD} requests with weights 90/10: v1 {old}, v2 {new} (expected {expected:.0} ± {allowed:.0}); 0 failed"
    ))
}

pub(super) fn refusals(shop: &Shop<'_>) -> Look {
    let waypoint = waypoint(shop)?;
    let to = service(shop)?;
    let table = [(&shop.client, "POST", PATH), (&shop.client, "GET", "/admin"), (&shop.batch, "GET", PATH)];
    let mut why = String::new();
    for (from, method, path) in table {
        let mark = shop.lab.pod_logs(&waypoint).len();
        let statuses = ask(shop, from, to, (method, path));
        ensure(statuses == [(403, REFUSED)].into(), || {
            format!("{method} {path} from {}: {statuses:?}, not 403 every time", name(from))
        })?;
        let words = ["reason=policy_denied", "policy=reviews/reviews", method];
        why = line(shop, &waypoint, mark, &words)?;
    }
    let statuses = ask(shop, &shop.client, to, ("GET", PATH));
    ensure(statuses == [(200, REFUSED)].into(), || format!("GET {PATH} from the client: {statuses:?}"))?;
    let reason =
        ["layer", "policy", "attribute"].map(|name| format!("{name}={}", field(&why, name))).join(" ");
    Ok(format!(
        "POST, another path and another caller: 403 for {0} of {0} requests ({reason}); GET by the client: {REFUSED} of {REFUSED} answered",
        table.len() * REFUSED
    ))
}

/// Asks the command line about requests and then sends them.
pub(super) fn explained(shop: &Shop<'_>) -> Look {
    let to = service(shop)?;
    let mut said = Vec::new();
    for (from, method, path, status) in
        [(&shop.client, "GET", PATH, 200), (&shop.client, "POST", PATH, 403), (&shop.batch, "GET", PATH, 403)]
    {
        let explained = explain(shop, from, (method, path))?;
        let verdict = if explained.status.success() { 200 } else { 403 };
        let words = String::from_utf8_lossy(&explained.stdout).into_owned();
        ensure(explained.status.code().is_some_and(|code| code < 2) && verdict == status, || {
            format!(
                "{method} {path} from {}: {words}{}",
                name(from),
                String::from_utf8_lossy(&explained.stderr)
            )
        })?;
        let statuses = ask(shop, from, to, (method, path));
        ensure(statuses == [(status, REFUSED)].into(), || {
            format!("{method} {path} from {}: explained as {verdict}, in fact {statuses:?}", name(from))
        })?;
        said.push(words);
    }
    let refusal =
        said[1].lines().rfind(|line| line.contains("policy=")).unwrap_or_default().trim().to_owned();
    Ok(format!("3 requests explained and sent, the same came of each ({refusal})"))
}

/// `ambit explain` over the lab's objects.
fn explain(
    shop: &Shop<'_>,
    from: &PodHandle,
    (method, path): (&str, &str),
) -> Result<std::process::Output, Broken> {
    let folders = shop.lab.sources();
    let mut command = std::process::Command::new(crate::settings::programs().join("ambit"));
    command.arg("explain");
    for folder in &folders {
        command.arg("--dir").arg(folder);
    }
    command.args(["--from", &name(from), "--to", "reviews/reviews", "--method", method, "--path", path]);
    Ok(command.output()?)
}

/// Requests are counted with client, server and status.
pub(super) fn metrics(shop: &Shop<'_>) -> Look {
    const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
    const SERVER: &str = "spiffe://cluster.local/ns/reviews/sa/reviews";
    let (waypoint, to) = (waypoint(shop)?, service(shop)?);
    let ends = [("reporter", "waypoint"), ("source_principal", CLIENT)];
    let good = [ends[0], ends[1], ("destination_principal", SERVER), ("response_code", "200")];
    let bad = [ends[0], ends[1], ("response_code", "403")];
    let count = || -> Result<[f64; 2], Broken> {
        let samples = shop.lab.pod_metrics(&waypoint)?;
        Ok([samples.sum("istio_requests_total", &good), samples.sum("istio_requests_total", &bad)])
    };
    let before = count()?;
    ask(shop, &shop.client, to, ("GET", PATH));
    ask(shop, &shop.client, to, ("POST", PATH));
    let expected = REFUSED as f64;
    let grown = poll(LATE, || {
        let now = count().ok()?;
        let grown = [now[0] - before[0], now[1] - before[1]];
        // Others may call meanwhile, when the demo's callers do.
        grown.iter().all(|grown| *grown >= expected).then_some(grown)
    });
    let [well, refused] = grown.ok_or_else(|| {
        Broken::Found(format!("istio_requests_total of {} did not grow as it should", name(&waypoint)))
    })?;
    Ok(format!(
        "istio_requests_total of {}: +{well} with response_code 200 from {CLIENT} to {SERVER}, +{refused} with 403",
        name(&waypoint)
    ))
}

/// The Service with reviews.
fn service(shop: &Shop<'_>) -> Result<SocketAddr, Broken> {
    Ok(shop.service("reviews/reviews")?)
}

/// The waypoint's pod.
fn waypoint(shop: &Shop<'_>) -> Result<PodHandle, Broken> {
    let all = shop.lab.waypoints();
    let found = all.into_iter().find(|pod| pod.namespace == "reviews");
    found.ok_or_else(|| Broken::Found("the namespace reviews has no waypoint".to_owned()))
}

/// Statuses of some requests, 0 for those without an answer.
fn ask(
    shop: &Shop<'_>,
    from: &PodHandle,
    to: SocketAddr,
    (method, path): (&'static str, &'static str),
) -> BTreeMap<u16, usize> {
    shop.lab.in_pod(from, move || {
        let mut statuses = BTreeMap::new();
        for _ in 0..REFUSED {
            let status = crate::http::request(method, to, path, PATIENCE).map_or(0, |answer| answer.status);
            *statuses.entry(status).or_default() += 1;
        }
        statuses
    })
}

/// A line of a pod's log after the mark that holds all these words.
fn line(shop: &Shop<'_>, pod: &PodHandle, mark: usize, words: &[&str]) -> Result<String, Broken> {
    let found = poll(LATE, || {
        let log = shop.lab.pod_logs(pod);
        // A log that is shorter now has been cut (see `watch`).
        let new = log.get(mark..).unwrap_or(&log);
        new.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    });
    found.ok_or_else(|| {
        Broken::Found(format!("the log of {} has no new line with {}", name(pod), words.join(" and ")))
    })
}
