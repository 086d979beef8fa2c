//! Replicas of a waypoint that come and go under load from 200 clients.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ambit_lab::PodHandle;
use ambit_lab::load::Connections;
use libtest_mimic::Failed;

use crate::replicas::{Beside, Mesh, PATIENCE, all_go_on, end, load, well};
use crate::support::{Check, check};

/// Who calls.
const CALLERS: [&str; 4] = ["caller-1", "caller-2", "caller-3", "caller-4"];
/// Clients of one caller with a connection for each request, and as many that keep theirs.
const CLIENTS: usize = 25;
/// Requests a second of either.
const RATE: f64 = 50.0;
/// How far a replica's share may be from even.
const UNEVEN: f64 = 0.2;
/// New connections over which evenness is judged: chance alone stays within it by five standard deviations.
const MEASURED: f64 = 1600.0;
/// Kept connections of one caller.
const KEPT: usize = 150;
/// How long a slow request takes.
const SLOW: Duration = Duration::from_millis(300);
/// More are never in flight at one replica: every slow one, and one of each third client that keeps its connection.
const IN_FLIGHT: usize = CLIENTS + CALLERS.len() * CLIENTS / 2;
/// How long a client may take to hear that its connection has ended.
const HEARD: Duration = Duration::from_millis(500);
/// From when on nothing may fail any more.
const LATER: Duration = Duration::from_secs(1);

/// Load from every caller, on 200 connections at once.
fn clients(mesh: &Mesh) -> Result<Vec<Beside>, Failed> {
    let web = mesh.service("web", 80)?;
    let mut all = Vec::new();
    for caller in CALLERS {
        for connections in [Connections::OnePerRequest, Connections::Replaced] {
            let mut load = load(web, (RATE, CLIENTS), connections);
            load.expect = "\"namespace\": \"steady\"".to_owned();
            all.push(mesh.beside(caller, load)?);
        }
    }
    all_go_on(&all, CLIENTS as u64 * 2)?;
    Ok(all)
}

/// Requests each replica has answered.
fn answered(mesh: &Mesh, replicas: &[PodHandle]) -> Result<BTreeMap<String, f64>, Failed> {
    let of =
        |pod: &PodHandle| Ok((pod.name.clone(), mesh.lab.pod_metrics(pod)?.sum("istio_requests_total", &[])));
    replicas.iter().map(of).collect()
}

/// Waits until the replicas have answered enough, and compares their shares.
fn even(mesh: &Mesh, replicas: &[PodHandle]) -> Check {
    let (before, start) = (answered(mesh, replicas)?, Instant::now());
    let shares = loop {
        let now = answered(mesh, replicas)?;
        let shares: BTreeMap<String, f64> =
            now.into_iter().map(|(name, count)| (name.clone(), count - before[&name])).collect();
        if shares.values().sum::<f64>() >= MEASURED {
            break shares;
        }
        check(start.elapsed() < Duration::from_secs(30), || format!("too little to judge by: {shares:?}"))?;
        std::thread::sleep(Duration::from_millis(50));
    };
    let even = shares.values().sum::<f64>() / shares.len() as f64;
    println!("  answered since: {shares:?}, even were {even:.0}");
    check(shares.values().all(|share| (share / even - 1.0).abs() < UNEVEN), || format!("uneven: {shares:?}"))
}

/// From two replicas to three, while every caller has tunnels to both that live on.
pub(crate) fn added(mesh: &Mesh) -> Check {
    mesh.replicas(2)?;
    let web = mesh.service("web", 80)?;
    let mut loads = Vec::new();
    for caller in CALLERS {
        let mut load = load(web, (RATE * 2.0, CLIENTS * 2), Connections::OnePerRequest);
        load.expect = "\"namespace\": \"steady\"".to_owned();
        loads.push(mesh.beside(caller, load)?);
    }
    all_go_on(&loads, CLIENTS as u64)?;
    let three = mesh.replicas(3)?;
    even(mesh, &three)?;
    well(loads)
}

/// Connections that stay open are spread as evenly as chance spreads them, though every caller's tunnels have room.
pub(crate) fn kept(mesh: &Mesh) -> Check {
    let three = mesh.replicas(3)?;
    let before = answered(mesh, &three)?;
    let web = mesh.service("web", 80)?;
    let mut loads = Vec::new();
    for caller in CALLERS {
        let mut load = load(web, (KEPT as f64, KEPT), Connections::Kept);
        // One round: each connection asks once.
        load.count = KEPT as u64;
        loads.push(mesh.beside(caller, load)?);
    }
    all_go_on(&loads, KEPT as u64)?;
    let now = answered(mesh, &three)?;
    well(loads)?;
    let shares: BTreeMap<String, f64> =
        now.into_iter().map(|(name, count)| (name.clone(), count - before[&name])).collect();
    let all = (CALLERS.len() * KEPT) as f64;
    let (mean, deviation) = (all / 3.0, (all * 2.0 / 9.0).sqrt());
    println!("  kept connections: {shares:?}, even were {mean:.0}, chance's deviation is {deviation:.0}");
    check(shares.values().all(|share| (share - mean).abs() < 5.0 * deviation), || {
        format!("uneven: {shares:?}")
    })
}

/// One of three is taken away as a rollout would do it, then another is asked to end without its endpoint going first.
pub(crate) fn stopped(mesh: &Mesh) -> Check {
    let three = mesh.replicas(3)?;
    let loads = clients(mesh)?;
    mesh.lab.delete_pod(&three[0])?;
    all_go_on(&loads, CLIENTS as u64 * 4)?;
    let three = mesh.replicas(3)?;
    all_go_on(&loads, CLIENTS as u64 * 4)?;
    let asked = mesh.lab.processes(&three[1]);
    mesh.lab.stop_pod(&three[1])?;
    is_another(mesh, &three[1], &asked)?;
    all_go_on(&loads, CLIENTS as u64 * 4)?;
    well(loads)
}

/// Waits until a pod's program has ended and runs again.
fn is_another(mesh: &Mesh, pod: &PodHandle, before: &[u32]) -> Check {
    let start = Instant::now();
    loop {
        let now = mesh.lab.processes(pod);
        if !now.is_empty() && now != before {
            println!("  {} runs again {:.1} s later", pod.name, start.elapsed().as_secs_f64());
            return Ok(());
        }
        check(start.elapsed() < PATIENCE, || format!("{} still runs {now:?}", pod.name))?;
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What is in flight at the killed replica fails: of these there are some at any time.
pub(crate) fn killed(mesh: &Mesh) -> Check {
    let three = mesh.replicas(3)?;
    let mut before = clients(mesh)?;
    let mut slow = load(mesh.service("web", 80)?, (RATE, CLIENTS), Connections::OnePerRequest);
    slow.path = format!("/?delay={}", SLOW.as_millis());
    before.push(mesh.beside(CALLERS[0], slow)?);
    all_go_on(&before, CLIENTS as u64)?;
    let was = mesh.lab.processes(&three[0]);
    mesh.lab.kill_pod(&three[0])?;
    let end_of_patience = Instant::now() + PATIENCE;
    while mesh.lab.processes(&three[0]) == was {
        check(Instant::now() < end_of_patience, || "the killed replica lives on".to_owned())?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let dead = Instant::now();
    std::thread::sleep(LATER);
    before.iter().for_each(Beside::stop);
    let after = clients(mesh)?;
    let ended = end(before)?;
    let failed: Vec<_> = ended.iter().flat_map(|(_, failures)| failures).collect();
    let sent: u64 = ended.iter().map(|(outcome, _)| outcome.sent).sum();
    println!("  {} of {sent} failed that were begun before the end or within {LATER:?} of it", failed.len());
    check(!failed.is_empty(), || "nothing was in flight there".to_owned())?;
    let wrong: Vec<_> = failed.iter().filter(|failure| failure.begun > dead + HEARD).collect();
    check(wrong.is_empty(), || format!("these were not in flight: {wrong:?}"))?;
    check(failed.len() <= IN_FLIGHT, || format!("more failed than were in flight there: {}", failed.len()))?;
    is_another(mesh, &three[0], &was)?;
    mesh.replicas(3)?;
    all_go_on(&after, CLIENTS as u64 * 2)?;
    well(after)
}
