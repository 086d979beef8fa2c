//! A waypoint under load while its routes change and its replicas come and go: no request fails that need not, memory
//! stays, long streams live on, and every replica gets its share.
//!
//! The routes change for two minutes, 1 000 edits in each, after half a minute of warming up; for ten with `--long` (`AMBIT_LONG`
//! in the environment), or for N seconds with `AMBIT_STEADY_SECONDS=N`. The rates are the same whatever the length.

#[path = "support/replicas.rs"]
mod replicas;
#[path = "waypoint_steady/scale.rs"]
mod scale;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::PodHandle;
use ambit_lab::load::Connections;
use ambit_lab::stream::{Call, Stream};
use libtest_mimic::{Arguments, Failed};
use replicas::{Mesh, PATIENCE, Shared, all_go_on, load, well};
use support::{Check, check};

const MANIFESTS: &str = include_str!("manifests/waypoint-steady.yaml");
/// How long routes change, and streams live, when nothing else is asked, and in a long run.
const SECONDS: u64 = 120;
const LONG: u64 = 600;
/// Edits a second: 1 000 in a minute.
const EDITS: f64 = 1000.0 / 60.0;
/// Requests a second, by connections that are kept and by such that serve one.
const RATE: f64 = 500.0;
/// Edits whose arrival is timed.
const SAMPLES: usize = 20;
/// How soon each has to arrive.
const SOON: Duration = Duration::from_secs(1);
/// How much memory may grow.
const GROWTH: f64 = 0.05;
/// Edits before memory is looked at: until then it grows to what this load needs.
const WARM: u64 = 500;
/// Time between two numbers of a stream.
const PAUSE: Duration = Duration::from_millis(20);
/// Header by which an endpoint sees the edit that sent it.
const EDIT: &str = "x-edit";
/// What the streams and those forbidden later on are known by.
const PATHS: [&str; 2] = ["/forbidden.Echo/Stream", "/allowed.Echo/Stream"];
const BAN: &str = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: ban, namespace: steady}, spec: {targetRefs: [{group: \"\", kind: Service, name: web}], action: DENY, rules: [{to: [{operation: {paths: [/forbidden.Echo/Stream]}}]}]}}";

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // All trials share one mesh and measure.
    arguments.test_threads = Some(1);
    let shared = Shared::new("steady", MANIFESTS);
    let trials = vec![
        shared.trial("route_edits_under_load", edits),
        shared.trial("a_replica_that_is_added_gets_its_share", scale::added),
        shared.trial("kept_connections_are_spread_evenly", scale::kept),
        shared.trial("a_replica_that_is_stopped_fails_no_request", scale::stopped),
        shared.trial("a_replica_that_is_killed_fails_only_what_it_had", scale::killed),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// How long routes are edited.
fn duration() -> Result<Duration, Failed> {
    let asked = std::env::var_os("AMBIT_STEADY_SECONDS");
    let asked = asked.map(|asked| asked.to_string_lossy().parse()).transpose()?;
    let usual = if std::env::var_os("AMBIT_LONG").is_some() { LONG } else { SECONDS };
    Ok(Duration::from_secs(asked.unwrap_or(usual)))
}

/// A route by which an endpoint sees the number of the edit; its weights wander.
fn route(number: u64) -> String {
    let weight = number * 7 % 101;
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: web, namespace: steady}}, spec: {{hosts: [web], http: [{{headers: {{request: {{set: {{{EDIT}: \"{number}\"}}}}}}, route: [{{destination: {{host: web, subset: v1}}, weight: {weight}}}, {{destination: {{host: web, subset: v2}}, weight: {}}}]}}]}}}}",
        100 - weight.min(100)
    )
}

/// Long streams, two of each kind: one path is forbidden later on.
struct Streams(Vec<(&'static str, &'static str, Stream)>);

impl Streams {
    fn open(mesh: &Mesh, from: &str, to: SocketAddr) -> Result<Self, Failed> {
        let from = mesh.pod(from)?;
        let mut all = Vec::new();
        for path in PATHS {
            let mut call = Call::new(to, PAUSE);
            (call.host, call.path) = ("web".to_owned(), path.to_owned());
            let other = call.clone();
            all.push(("gRPC", path, mesh.lab.in_pod(&from, move || call.grpc())?));
            all.push(("WebSocket", path, mesh.lab.in_pod(&from, move || other.websocket())?));
        }
        Ok(Streams(all))
    }

    /// None has ended and each has had so many numbers back.
    fn live(&self, rounds: u64) -> Check {
        self.0.iter().try_for_each(|(kind, path, stream)| {
            check(!stream.broken() && stream.rounds() >= rounds, || {
                format!("{kind} {path}: {} rounds, broken: {}", stream.rounds(), stream.broken())
            })
        })
    }

    /// A policy cuts those on one path, and those on the other go on.
    fn are_cut(self, mesh: &Mesh) -> Check {
        let start = Instant::now();
        mesh.apply(BAN)?;
        let (forbidden, allowed): (Vec<_>, Vec<_>) =
            self.0.into_iter().partition(|(_, path, _)| *path == PATHS[0]);
        for (kind, _path, stream) in &forbidden {
            while !stream.broken() {
                check(start.elapsed() < PATIENCE, || format!("a {kind} stream is not cut"))?;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        println!("  a policy cuts what it forbids {:?} after it is written", start.elapsed());
        for (kind, path, stream) in forbidden {
            let ended = stream.finish();
            check(ended.is_err(), || format!("{kind} {path} ended in order: {ended:?}"))?;
        }
        let before: Vec<_> = allowed.iter().map(|(_, _, stream)| stream.rounds()).collect();
        for ((kind, path, stream), before) in allowed.into_iter().zip(before) {
            while stream.rounds() < before + 10 && !stream.broken() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let rounds = stream.finish().map_err(|error| format!("{kind} {path}: {error}"))?;
            println!("  {kind} {path}: {rounds} numbers went both ways");
        }
        Ok(())
    }
}

/// What an endpoint has seen of the edits: each look's number and time.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Vec<(Instant, u64)>>>,
}

impl Watch {
    fn start(mesh: &Mesh, from: &PodHandle, to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = mesh.lab.thread_in(from, move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let answer = ambit_lab::http::request("GET", to, "/", Duration::from_secs(5))?;
                let told: serde_json::Value = serde_json::from_str(&answer.body)?;
                let edit = told["headers"][EDIT][0].as_str().and_then(|number| number.parse().ok());
                // Before the first edit there is none.
                seen.push((Instant::now(), edit.unwrap_or(0)));
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(seen)
        });
        Watch { stop, thread }
    }

    fn end(self) -> Result<Vec<(Instant, u64)>, Failed> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_panic| "the watch failed")??)
    }
}

fn edits(mesh: &Mesh) -> Check {
    let time = duration()?;
    let [waypoint] = &mesh.replicas(1)?[..] else { return Err("one replica".into()) };
    let web = mesh.service("web", 80)?;
    mesh.apply(&route(0))?;
    let streams = Streams::open(mesh, "caller-1", web)?;
    let mut loads = Vec::new();
    for connections in [Connections::Kept, Connections::OnePerRequest] {
        let mut load = load(web, (RATE / 2.0, 16), connections);
        load.expect = "\"namespace\": \"steady\"".to_owned();
        loads.push(mesh.beside("caller-1", load)?);
    }
    let watch = Watch::start(mesh, &mesh.pod("caller-2")?, web);
    let (written, memory) = write(mesh, waypoint, time)?;
    mesh.lab.settled()?;
    all_go_on(&loads, 10)?;
    let seen = watch.end()?;
    streams.live((time.as_secs_f64() / PAUSE.as_secs_f64() / 4.0) as u64)?;
    well(loads)?;
    arrive(&written, &seen)?;
    grow(memory)?;
    streams.are_cut(mesh)?;
    mesh.delete("AuthorizationPolicy", "ban")
}

/// Edits the route by the clock: when each was written, and the waypoint's memory: its peak while warming up, and the end's.
fn write(mesh: &Mesh, waypoint: &PodHandle, time: Duration) -> Result<(Vec<Instant>, [u64; 2]), Failed> {
    let (start, count) = (Instant::now(), (time.as_secs_f64() * EDITS) as u64);
    let (mut written, mut warm) = (Vec::new(), 0);
    for number in 1..=WARM + count {
        let due = start + Duration::from_secs_f64(number as f64 / EDITS);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        written.push(Instant::now());
        let faults = mesh.lab.apply(&route(number))?;
        check(faults.is_empty(), || format!("{faults:?}"))?;
        if number == WARM {
            warm = mesh.memory(waypoint, "VmHWM:")?;
        }
    }
    let rate = written.len() as f64 / start.elapsed().as_secs_f64();
    println!("  {} edits, {rate:.1} a second", written.len());
    check(rate > EDITS * 0.95, || format!("{rate:.1} edits a second and not {EDITS:.1}"))?;
    Ok((written, [warm, mesh.memory(waypoint, "VmRSS:")?]))
}

/// Edits drawn from all of them have reached an endpoint soon enough.
fn arrive(written: &[Instant], seen: &[(Instant, u64)]) -> Check {
    let mut took = Vec::new();
    for sample in 0..SAMPLES {
        let index = written.len() * (2 * sample + 1) / (2 * SAMPLES);
        let number = index as u64 + 1;
        // Those after it may have come over it.
        let first = seen.iter().find(|(_, seen)| *seen >= number);
        let (at, _) = first.ok_or_else(|| format!("edit {number} was never seen"))?;
        took.push(at.saturating_duration_since(written[index]));
    }
    took.sort();
    println!(
        "  {SAMPLES} of them at an endpoint after {:?} (median), {:?} (longest)",
        took[SAMPLES / 2],
        took[SAMPLES - 1]
    );
    check(took[SAMPLES - 1] < SOON, || format!("the slowest edit took {:?}", took[SAMPLES - 1]))
}

fn grow([warm, end]: [u64; 2]) -> Check {
    let growth = end as f64 / warm as f64 - 1.0;
    println!("  the waypoint's memory: {warm} KiB warm, {end} KiB at the end ({:+.1} %)", growth * 100.0);
    check(growth < GROWTH, || format!("{warm} KiB became {end} KiB"))
}
