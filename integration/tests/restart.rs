//! Controller, node agents and ztunnels die and come back under load: what must be denied stays denied, what need not
//! fail does not fail, and state returns by itself.

#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::component::{Kind, Programs};
use ambit_lab::load::{Connections, Live, Load, Outcome};
use ambit_lab::settings::{foreign_ztunnel, left_out};
use ambit_lab::stream::Stream;
use ambit_lab::{Component, Lab, LabOptions, MeshMode, NodeNumber, PodHandle, Served, key_of};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Check, check};

const MANIFESTS: &str = include_str!("manifests/restart.yaml");
const POLICIES: &str = include_str!("manifests/restart-policies.yaml");
const BAN: &str = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: ban, namespace: restart}, spec: {action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/restart/sa/second]}}]}]}}";
/// Probes that must be denied during every trial, at least.
const PROBES: u64 = 1000;
/// Requests a second of each load.
const RATE: f64 = 200.0;
/// Requests that each load can have under way.
const WIDTH: usize = 8;
/// Longest time anything may take to happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Deadline for open connections after SIGTERM.
const DRAIN: Duration = Duration::from_secs(4);
/// How long a connection waits for its pod's configuration.
const CONFIGURATION: &str = "1s";
const CALLERS: NodeNumber = NodeNumber(1);
const SERVERS: NodeNumber = NodeNumber(2);
const WEB: u16 = 8080;
const RAW: u16 = 9090;

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // All trials stop programs of one mesh.
    arguments.test_threads = Some(1);
    let mesh = Arc::new(OnceLock::new());
    let trial = |name: &str, run: fn(&Mesh) -> Check| {
        let mesh = Arc::clone(&mesh);
        Trial::test(name, move || {
            let mesh = mesh.get_or_init(|| Mesh::up().map_err(|error| format!("{error:?}"))).as_ref()?;
            mesh.heal()?;
            run(mesh)
        })
    };
    let trials = vec![
        trial("the_controller_is_killed", controller),
        trial("the_callers_agent_is_killed", |mesh| agent(mesh, CALLERS)),
        trial("the_servers_agent_is_killed", |mesh| agent(mesh, SERVERS)),
        trial("the_callers_ztunnel_is_killed", |mesh| ztunnel(mesh, CALLERS)),
        trial("the_servers_ztunnel_is_killed", |mesh| ztunnel(mesh, SERVERS)),
        trial("a_ztunnel_without_a_controller_lets_nothing_pass", alone),
        trial("the_callers_ztunnel_drains", |mesh| drain(mesh, CALLERS)),
        trial("the_servers_ztunnel_drains", |mesh| drain(mesh, SERVERS)),
        trial("without_the_policies_the_probes_succeed", control),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

struct Mesh {
    lab: Arc<Lab>,
    server: SocketAddr,
}

impl Mesh {
    fn up() -> Result<Self, Failed> {
        let drain = format!("{}s", DRAIN.as_secs());
        let programs = Programs::default().set(Kind::Ztunnel, "CONNECTION_TERMINATION_DEADLINE", &drain);
        let programs = programs.set(Kind::Ztunnel, "AMBIT_CONFIGURATION_WAIT", CONFIGURATION);
        let mut options = support::named(LabOptions::inline(format!("{MANIFESTS}\n---\n{POLICIES}")));
        options.mesh = MeshMode::On(programs);
        let lab = Arc::new(Lab::up(options)?);
        check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
        lab.settled()?;
        let server = SocketAddr::new(lab.pod("restart/server")?.address.v4.into(), WEB);
        Ok(Mesh { lab, server })
    }

    fn pod(&self, name: &str) -> Result<PodHandle, Failed> {
        Ok(self.lab.pod(&format!("restart/{name}"))?)
    }

    /// One request from a pod; its body.
    fn ask(&self, from: &str, to: SocketAddr) -> Result<std::io::Result<String>, Failed> {
        let from = self.pod(from)?;
        let limit = Duration::from_secs(5);
        Ok(self
            .lab
            .in_pod(&from, move || ambit_lab::http::request("GET", to, "/", limit))
            .map(|answer| answer.body))
    }

    fn served(&self, from: &str) -> Result<bool, Failed> {
        Ok(self.ask(from, self.server)?.is_ok_and(|body| body == "served"))
    }

    /// Waits until a request from a pod has this outcome.
    fn until_served(&self, from: &str, wanted: bool) -> Result<Duration, Failed> {
        let start = Instant::now();
        while self.served(from)? != wanted {
            check(start.elapsed() < PATIENCE, || format!("{from} is still not served={wanted}"))?;
        }
        Ok(start.elapsed())
    }

    /// What a failed trial left dead comes back, so that the next one fails only for its own reasons.
    fn heal(&self) -> Check {
        let nodes = [CALLERS, SERVERS];
        let on = |kind: fn(NodeNumber) -> Component| nodes.map(kind);
        let all =
            [Component::Controller].into_iter().chain(on(Component::Agent)).chain(on(Component::Ztunnel));
        all.filter(|component| self.lab.pid(*component).is_none())
            .try_for_each(|component| self.bring_back(component))
    }

    fn bring_back(&self, component: Component) -> Check {
        self.lab.start(component)?;
        Ok(self.lab.wait_ready(component)?)
    }

    /// Every pod's processes.
    fn processes(&self) -> Vec<(String, Vec<u32>)> {
        let pods = ["client", "second", "intruder", "outsider", "server", "plain"];
        let found = pods.iter().flat_map(|name| self.lab.pods(&format!("restart/{name}")));
        found.map(|pod| (pod.name.clone(), self.lab.processes(&pod))).collect()
    }

    /// A pod that comes while something is dead.
    fn create(&self, name: &str, node: NodeNumber) -> Check {
        let node = node.name();
        let faults = self.lab.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: restart}}, spec: {{nodeName: {node}, serviceAccountName: client, containers: [{{name: curl, image: curlimages/curl, command: [sleep, infinity]}}]}}}}"
        ))?;
        check(faults.is_empty(), || format!("{faults:?}"))?;
        Ok(self.lab.wait_pods_ready(PATIENCE)?)
    }

    fn delete(&self, kind: &str, name: &str) -> Check {
        self.lab.delete(&[key_of(kind, &format!("restart/{name}"))])?;
        Ok(self.lab.settled()?)
    }
}

/// One load that runs.
struct Running {
    what: String,
    live: Arc<Live>,
    thread: Option<JoinHandle<std::io::Result<Outcome>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.live.stop();
    }
}

impl Running {
    fn start(mesh: &Mesh, from: &str, connections: Connections) -> Result<Self, Failed> {
        let mut load = Load::new(mesh.server);
        // Wide enough that one slow answer keeps none waiting.
        (load.rate, load.width, load.connections) = (Some(RATE), WIDTH, connections);
        (load.time, load.timeout, load.expect) =
            (Duration::from_secs(300), Duration::from_secs(5), "served".to_owned());
        let live = Arc::clone(&load.live);
        let thread = mesh.lab.thread_in(&mesh.pod(from)?, move || load.run());
        Ok(Running { what: format!("{from}, {connections:?}"), live, thread: Some(thread) })
    }

    /// Both ways to use connections.
    fn both(mesh: &Mesh, from: &str) -> Result<Vec<Self>, Failed> {
        [Connections::Kept, Connections::OnePerRequest]
            .into_iter()
            .map(|connections| Self::start(mesh, from, connections))
            .collect()
    }

    /// Waits for so many more well answered requests.
    fn goes_on(&self, more: u64) -> Check {
        let wanted = self.live.good() + more;
        until(&format!("{more} more answers for {}", self.what), || self.live.good() >= wanted)
    }

    fn end(mut self) -> Result<Outcome, Failed> {
        self.live.stop();
        let thread = self.thread.take().ok_or("it has ended")?;
        let outcome = thread.join().map_err(|_panic| format!("the load of {} failed", self.what))??;
        println!(
            "  {}: {} good, failed {:?}, {:.1} s",
            self.what, outcome.good, outcome.failed, outcome.seconds
        );
        Ok(outcome)
    }
}

/// Probes that must be denied and a load that is permitted, both running.
struct Pressure {
    denied: Vec<Running>,
    permitted: Vec<Running>,
}

/// Whether the permitted load may see failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permitted {
    NeverFails,
    MayFail,
}

impl Pressure {
    fn start(mesh: &Mesh) -> Result<Self, Failed> {
        mesh.lab.settled()?;
        let mut denied = Running::both(mesh, "intruder")?;
        denied.append(&mut Running::both(mesh, "outsider")?);
        let pressure = Pressure { denied, permitted: Running::both(mesh, "client")? };
        pressure.goes_on(100)?;
        Ok(pressure)
    }

    fn goes_on(&self, more: u64) -> Check {
        self.permitted.iter().try_for_each(|load| load.goes_on(more))
    }

    /// No permitted request is served any more: it fails rather than takes another way.
    fn fails_closed(&self, times: u64) -> Check {
        // Answers that were on their way have arrived by then.
        self.fails_on(WIDTH as u64)?;
        let before: Vec<u64> = self.permitted.iter().map(|load| load.live.good()).collect();
        self.fails_on(times)?;
        for (load, before) in self.permitted.iter().zip(before) {
            let after = load.live.good();
            check(before == after, || format!("{} was served {} times", load.what, after - before))?;
        }
        Ok(())
    }

    /// Waits for so many more failed requests of each load.
    fn fails_on(&self, more: u64) -> Check {
        let wanted: Vec<u64> = self.permitted.iter().map(|load| load.live.failed() + more).collect();
        let loads = || self.permitted.iter().zip(&wanted);
        until(&format!("{more} more failures"), || {
            loads().all(|(load, wanted)| load.live.failed() >= *wanted)
        })
    }

    /// Ends when there were enough probes.
    fn end(self, permitted: Permitted) -> Check {
        let tried = |load: &Running| load.live.failed() + load.live.good();
        until("enough probes", || self.denied.iter().map(tried).sum::<u64>() >= PROBES)?;
        let mut probes = 0;
        for load in self.denied {
            let outcome = load.end()?;
            probes += outcome.sent;
            check(outcome.good == 0, || format!("a probe that must be denied succeeded: {outcome:?}"))?;
        }
        for load in self.permitted {
            let outcome = load.end()?;
            check(permitted == Permitted::MayFail || outcome.failures() == 0, || {
                format!("permitted requests failed: {outcome:?}")
            })?;
        }
        println!("  {probes} probes that must be denied, none succeeded");
        check(probes >= PROBES, || format!("{probes} probes"))
    }
}

fn until(what: &str, holds: impl Fn() -> bool) -> Check {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        check(Instant::now() < end, || format!("{what}: not within {PATIENCE:?}"))?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What the certificate authority and the certificates it signed are.
fn certificates(mesh: &Mesh) -> Result<(Vec<u8>, Vec<String>), Failed> {
    let root = std::fs::read(mesh.lab.folder().join("ca/root-cert.pem"))?;
    let mut leaves = Vec::new();
    for node in [CALLERS, SERVERS] {
        let dump = mesh.lab.ask(Component::Ztunnel(node), Served::Administration, "GET", "/config_dump")?;
        let dump: serde_json::Value = serde_json::from_str(&dump.body)?;
        let listed = dump["certificates"].as_array().into_iter().flatten();
        // Istio's ztunnel lists those too that it does not have yet.
        let there = listed.filter(|leaf| leaf["state"] != "Initializing");
        leaves.extend(there.map(ToString::to_string));
    }
    let first_use = "every pod's certificate is there before it is needed: Istio's asks for it when it is";
    let least = if left_out("the_controller_is_killed", first_use) { 2 } else { 4 };
    check(leaves.len() >= least, || format!("{} certificates", leaves.len()))?;
    Ok((root, leaves))
}

fn controller(mesh: &Mesh) -> Check {
    println!();
    let pressure = Pressure::start(mesh)?;
    pressure.goes_on(1)?;
    let before = certificates(mesh)?;
    mesh.lab.kill(Component::Controller)?;
    pressure.goes_on(100)?;
    mesh.lab.apply(BAN)?;
    mesh.create("late", CALLERS)?;
    pressure.goes_on(100)?;
    check(mesh.served("second")?, || "a permission was lost with the controller".to_owned())?;

    mesh.bring_back(Component::Controller)?;
    let took = mesh.until_served("second", false)?;
    println!("  a policy written while the controller was dead acts {took:?} after it is ready again");
    mesh.lab.settled()?;
    check(mesh.served("late")?, || "a pod that came while the controller was dead is not served".to_owned())?;
    pressure.goes_on(100)?;
    pressure.end(Permitted::NeverFails)?;
    mesh.delete("AuthorizationPolicy", "ban")?;
    mesh.until_served("second", true)?;
    mesh.delete("Pod", "late")?;

    let after = certificates(mesh)?;
    check(before.0 == after.0, || "the root is another one".to_owned())?;
    let lost: Vec<_> = before.1.iter().filter(|leaf| !after.1.contains(leaf)).collect();
    check(lost.is_empty(), || format!("certificates did not survive: {lost:?}"))
}

fn agent(mesh: &Mesh, node: NodeNumber) -> Check {
    println!();
    let pressure = Pressure::start(mesh)?;
    let before = mesh.processes();
    mesh.lab.kill(Component::Agent(node))?;
    pressure.goes_on(100)?;
    mesh.create("late", node)?;
    pressure.goes_on(100)?;
    mesh.bring_back(Component::Agent(node))?;
    mesh.lab.settled()?;
    // Only an enrolled pod has the identity that may call.
    check(mesh.served("late")?, || "a pod that came while its agent was dead is not served".to_owned())?;
    pressure.goes_on(100)?;
    pressure.end(Permitted::NeverFails)?;
    mesh.delete("Pod", "late")?;
    check(mesh.processes() == before, || "a pod was restarted".to_owned())
}

fn ztunnel(mesh: &Mesh, node: NodeNumber) -> Check {
    println!();
    let pressure = Pressure::start(mesh)?;
    let before = mesh.processes();
    let component = Component::Ztunnel(node);
    mesh.lab.kill(component)?;
    pressure.fails_closed(100)?;
    let plain = SocketAddr::new(mesh.pod("plain")?.address.v4.into(), WEB);
    let past = mesh.ask("client", plain)?;
    // The callers' ztunnel carries their plain text too; the servers' has nothing to do with it.
    check(past.is_ok() == (node == SERVERS), || format!("plain text of a client: {past:?}"))?;

    let start = Instant::now();
    mesh.lab.start(component)?;
    pressure.goes_on(1)?;
    println!("  served again {:?} after the start", start.elapsed());
    mesh.lab.wait_ready(component)?;
    pressure.goes_on(100)?;
    pressure.end(Permitted::MayFail)?;
    check(mesh.processes() == before, || "a pod was restarted".to_owned())
}

fn alone(mesh: &Mesh) -> Check {
    println!();
    let pressure = Pressure::start(mesh)?;
    mesh.lab.kill(Component::Controller)?;
    for node in [CALLERS, SERVERS] {
        mesh.lab.kill(Component::Ztunnel(node))?;
        mesh.lab.start(Component::Ztunnel(node))?;
    }
    for node in [CALLERS, SERVERS] {
        // It has its pods and knows of no policy.
        let words = if foreign_ztunnel().is_some() { "starting proxy" } else { "serving pod" };
        mesh.lab.wait_log(Component::Ztunnel(node), PATIENCE, |line| line.contains(words))?;
    }
    // Here each waits for its pod's configuration.
    pressure.fails_closed(WIDTH as u64)?;
    mesh.bring_back(Component::Controller)?;
    pressure.goes_on(100)?;
    pressure.end(Permitted::MayFail)
}

fn drain(mesh: &Mesh, node: NodeNumber) -> Check {
    println!();
    mesh.lab.settled()?;
    let component = Component::Ztunnel(node);
    let open = || -> Result<Stream, Failed> {
        let to = SocketAddr::new(mesh.server.ip(), RAW);
        Ok(mesh.lab.in_pod(&mesh.pod("client")?, move || Stream::open(to, Duration::from_millis(5)))?)
    };
    let (short, long) = (open()?, open()?);
    until("both streams", || short.rounds() > 10 && long.rounds() > 10)?;
    let pid = mesh.lab.pid(component).ok_or("the ztunnel has ended")?;
    let start = Instant::now();
    kill(Pid::from_raw(pid as i32), Signal::SIGTERM)?;
    mesh.until_served("client", false)?;
    let refused = start.elapsed();
    let so_far = long.rounds();
    until("open streams going on", || long.rounds() > so_far + 50)?;
    let rounds = short.finish()?;
    println!(
        "  new connections end after {refused:?}, an open one went on and closed cleanly after {rounds} rounds"
    );
    until("the end of the ztunnel", || mesh.lab.pid(component).is_none())?;
    let took = start.elapsed();
    println!("  the other one, {} rounds, and the ztunnel ended after {took:?}", long.rounds());
    check(took >= DRAIN && took < DRAIN + Duration::from_secs(3), || {
        format!("{took:?}, deadline {DRAIN:?}")
    })?;
    check(long.finish().is_err(), || "a stream survived its ztunnel".to_owned())?;

    // With nothing open it does not wait for the deadline.
    mesh.bring_back(component)?;
    mesh.until_served("client", true)?;
    let start = Instant::now();
    mesh.lab.stop(component)?;
    println!("  with nothing open it ended after {:?}", start.elapsed());
    check(start.elapsed() < DRAIN, || format!("{:?}", start.elapsed()))?;
    mesh.bring_back(component)?;
    mesh.until_served("client", true)?;
    Ok(())
}

fn control(mesh: &Mesh) -> Check {
    println!();
    mesh.lab.settled()?;
    let (documents, _faults) = ambit_lab::manifest::parse(Path::new("policies"), POLICIES);
    let keys: Vec<_> = documents.into_iter().map(|document| document.key).collect();
    mesh.lab.delete(&keys)?;
    mesh.lab.settled()?;
    let mut probes = Running::both(mesh, "intruder")?;
    probes.append(&mut Running::both(mesh, "outsider")?);
    probes.iter().try_for_each(|load| load.goes_on(100))?;
    for load in probes {
        let outcome = load.end()?;
        check(outcome.failures() == 0, || format!("without policies: {outcome:?}"))?;
    }
    mesh.lab.apply(POLICIES)?;
    mesh.lab.settled()?;
    for from in ["intruder", "outsider"] {
        mesh.until_served(from, false)?;
    }
    Ok(())
}
