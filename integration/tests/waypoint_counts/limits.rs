//! Limits: no more than they say at the backend at once, and what is too much is answered at once.

use std::time::{Duration, Instant};

use ambit_lab::load::{Outcome, Protocol};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::routed::{Mesh, all_good};
use crate::support::{Check, check};
use crate::{routes, traffic};

/// How long the endpoint thinks about each request.
const THINKS: Duration = Duration::from_millis(100);
/// Clients at once.
const CLIENTS: usize = 20;
/// How long they ask.
const TIME: Duration = Duration::from_secs(2);

/// Clients ask as fast as they are answered; what came of it, what the endpoint counted, and how many `UO` were added.
fn pressed(mesh: &Mesh, pool: &str) -> Result<(Outcome, Value, f64), Failed> {
    mesh.apply(&traffic("limited", &format!("trafficPolicy: {{connectionPool: {pool}}}")))?;
    mesh.apply(&routes("limited", "[{route: [{destination: {host: limited}}], retries: {attempts: 0}}]"))?;
    let backend = mesh.pod("counts/limited")?;
    mesh.counted(&backend)?;
    let before = overflows(mesh)?;
    let outcome = mesh.load(&mesh.pod("counts/client")?, "counts/limited", |load| {
        (load.width, load.time) = (CLIENTS, TIME);
        load.path = format!("/?delay={}", THINKS.as_millis());
    })?;
    let seen = mesh.counted(&backend)?;
    println!(
        "{pool}: {} of {} good, {:?}, most at once {}",
        outcome.good, outcome.sent, outcome.statuses, seen["most_open"]
    );
    Ok((outcome, seen, overflows(mesh)? - before))
}

fn overflows(mesh: &Mesh) -> Result<f64, Failed> {
    let metrics = mesh.lab.pod_metrics(&mesh.waypoint("counts")?)?;
    Ok(metrics.sum("istio_requests_total", &[("response_flags", "UO"), ("response_code", "503")]))
}

/// So many at once and no more; everything beyond is shed with 503 `UO`, and nothing else fails.
fn shed(limit: u64, (outcome, seen, overflows): &(Outcome, Value, f64)) -> Check {
    let of = |status: &str| outcome.statuses.get(status).copied().unwrap_or_default();
    let (good, shed) = (of("200"), of("503"));
    check(seen["most_open"] == limit, || format!("{} at once, not {limit}", seen["most_open"]))?;
    check(seen["requests"] == good, || format!("{} arrived, {good} were answered", seen["requests"]))?;
    check(good + shed == outcome.sent && shed > 0, || format!("{outcome:?}"))?;
    // The endpoint can answer so many in the time, and what waits at its end; half of it is enough on a busy machine.
    let most = limit * (outcome.seconds / THINKS.as_secs_f64()).ceil() as u64 + CLIENTS as u64;
    check((most / 4..=most).contains(&good), || format!("{good} were answered, at most {most} can be"))?;
    check(*overflows == shed as f64, || format!("{shed} were shed, and {overflows} counted as UO"))
}

/// `http2MaxRequests` is the limit of requests at once, of whatever protocol.
pub(crate) fn requests(mesh: &Mesh) -> Check {
    shed(5, &pressed(mesh, "{http: {http2MaxRequests: 5}}")?)?;
    // Control: with room for all nothing is shed.
    let (outcome, seen, _) = pressed(mesh, "{http: {http2MaxRequests: 100}}")?;
    all_good("with room", &outcome)?;
    check(seen["most_open"] == CLIENTS, || format!("{} at once", seen["most_open"]))
}

/// `maxConnections`, with and without a limit of those who wait for one.
pub(crate) fn connections(mesh: &Mesh) -> Check {
    shed(2, &pressed(mesh, "{tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 3}}")?)?;
    let start = Instant::now();
    let (outcome, seen, _) = pressed(mesh, "{tcp: {maxConnections: 2}}")?;
    check(seen["most_open"] == 2, || format!("{} at once", seen["most_open"]))?;
    all_good(&format!("who may wait, {:?}", start.elapsed()), &outcome)
}

/// A limit of one connection does not keep one worker's calls waiting for another's: HTTP/2 carries them all at once.
pub(crate) fn calls(mesh: &Mesh) -> Check {
    mesh.apply(&traffic("tried", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}"))?;
    mesh.apply(&routes("tried", "[{route: [{destination: {host: tried}}]}]"))?;
    let outcome = mesh.load(&mesh.pod("counts/client")?, "counts/tried", |load| {
        (load.protocol, load.body) = (Protocol::Grpc, "a message".into());
        (load.width, load.count, load.expect) = (CLIENTS, 500, "a message".to_owned());
        load.to.set_port(90);
    })?;
    mesh.delete(&[("DestinationRule", "counts/tried")])?;
    all_good("calls", &outcome)
}
