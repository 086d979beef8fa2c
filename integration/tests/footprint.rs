//! Ports an application cannot take, and what idle pods and workers cost: descriptors, memory, tunnels.

#[path = "support/flows.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod flows;
mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ambit_lab::component::{Kind, Programs};
use ambit_lab::{Component, Lab, LabOptions, MeshMode, NodeNumber, PodHandle};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use support::{Check, check};

const PODS: &str = include_str!("manifests/footprint.yaml");
const PORTS: &str = include_str!("manifests/footprint-ports.yaml");
const AMBIENT: &str = "istio.io/dataplane-mode=ambient";
/// The proxy's ports in a pod.
const PROXY_PORTS: [u16; 3] = [15001, 15006, 15008];
/// The idle pods of the manifest, and descriptors that one may cost.
const IDLE: usize = 200;
const PER_POD: usize = 4;
/// Idle pods that send a request to each of the manifest's servers.
const CALLERS: usize = 50;
const SERVERS: usize = 4;
const SERVED: u16 = 8080;
/// Workers of the two runs, and what each further one may cost.
const FEW: usize = 2;
const MANY: usize = 16;
const FILES_PER_WORKER: usize = 4;
const KIB_PER_WORKER: usize = 150;
/// Longest time for many pods to come up or to join.
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // What is measured shall not depend on what runs beside it.
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("an_application_cannot_take_the_proxys_ports", ports),
        Trial::test("idle_pods_and_workers_cost_little", cost),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn ports() -> Check {
    let lab = Lab::up(support::named(LabOptions::inline(PORTS)))?;
    check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
    lab.settled()?;
    let (inside, outside) = (lab.pod("ports/inside")?, lab.pod("ports/outside")?);
    let user = support::output(&lab, &inside, &["id", "-u"])?;
    check(user.trim() == "0", || format!("the application runs as {user}"))?;
    for port in PROXY_PORTS {
        for address in addresses(&inside) {
            let taken = listen(&lab, &inside, SocketAddr::new(address, port));
            let refused =
                taken.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::EADDRINUSE as i32));
            check(refused, || format!("{address} port {port} in an enrolled pod: {taken:?}"))?;
        }
        for address in addresses(&outside) {
            listen(&lab, &outside, SocketAddr::new(address, port))
                .map_err(|error| format!("{address} port {port} outside the mesh: {error}"))?;
        }
    }
    let tried = PROXY_PORTS.len() * addresses(&inside).len();
    println!("{tried} attempts as uid 0 with SO_REUSEPORT: all EADDRINUSE in the mesh, none outside it");
    Ok(())
}

/// Where an application may listen: everywhere, within its pod, at its pod's addresses.
fn addresses(pod: &PodHandle) -> [IpAddr; 6] {
    let [four, six] = pod.address.both();
    [
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv4Addr::LOCALHOST.into(),
        Ipv6Addr::LOCALHOST.into(),
        four,
        six,
    ]
}

/// Listens in a pod as an application that is ready to share the port.
fn listen(lab: &Lab, pod: &PodHandle, at: SocketAddr) -> std::io::Result<()> {
    lab.in_pod(pod, move || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&at.into())?;
        socket.listen(1)
    })
}

/// What a process holds.
#[derive(Debug)]
struct Held {
    /// Descriptors by what they are of.
    files: BTreeMap<String, usize>,
    resident_kib: usize,
    threads: usize,
}

impl Held {
    fn by(pid: u32) -> Result<Self, Failed> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            // One that is closed meanwhile does not count.
            let Ok(of) = std::fs::read_link(entry?.path()) else { continue };
            let of = of.to_string_lossy().into_owned();
            let kind = if of.starts_with('/') { "file" } else { of.split(":[").next().unwrap_or_default() };
            *files.entry(kind.to_owned()).or_default() += 1;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().next()?.parse().ok()
        };
        let (resident_kib, threads) = number("VmRSS:").zip(number("Threads:")).ok_or("no such figures")?;
        Ok(Held { files, resident_kib, threads })
    }

    fn descriptors(&self) -> usize {
        self.files.values().sum()
    }
}

/// What one run showed.
struct Run {
    /// With one pod in the mesh, so that what the mesh costs by itself (its connection to the CA, a handle of the
    /// node's network namespace) does not count as the cost of the others.
    one: Held,
    /// With the idle pods in it too.
    all: Held,
    /// After the requests, when every worker has dialled.
    used: Held,
    tunnels: usize,
}

impl Run {
    fn with(workers: usize) -> Result<Self, Failed> {
        let start = Instant::now();
        let lab = up(workers)?;
        let ztunnel = lab.pid(Component::Ztunnel(NodeNumber(1))).ok_or("no ztunnel")?;
        let one = Held::by(ztunnel)?;
        lab.label("namespace", "footprint", &[AMBIENT])?;
        lab.settled_within(LIMIT)?;
        let all = Held::by(ztunnel)?;
        let tunnels = tunnels(&lab)?;
        let used = Held::by(ztunnel)?;
        println!(
            "{workers} workers: {one:?}; {IDLE} idle pods more: {all:?}; {CALLERS} pods, a request to each of {SERVERS}: {tunnels} tunnels, {used:?}; {:.1} s",
            start.elapsed().as_secs_f64()
        );
        Ok(Run { one, all, used, tunnels })
    }

    /// Descriptors that all the idle pods cost.
    fn pods(&self) -> usize {
        self.all.descriptors().saturating_sub(self.one.descriptors())
    }
}

fn up(workers: usize) -> Result<Lab, Failed> {
    let mut options = support::named(LabOptions::inline(PODS));
    let workers = workers.to_string();
    options.mesh = MeshMode::On(Programs::default().set(Kind::Ztunnel, "ZTUNNEL_WORKER_THREADS", &workers));
    options.ready_within = Some(LIMIT);
    let lab = Lab::up(options)?;
    check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
    let idle = lab.pods("footprint/idle").len();
    check(idle == IDLE, || format!("{idle} idle pods"))?;
    lab.settled_within(LIMIT)?;
    Ok(lab)
}

/// Tunnels that are open once some pods have sent each server a request.
fn tunnels(lab: &Lab) -> Result<usize, Failed> {
    let servers: Vec<_> = lab.pods("footprint/server").iter().map(|pod| pod.address.v4).collect();
    check(servers.len() == SERVERS, || format!("{servers:?}"))?;
    let callers: Vec<_> = lab.pods("footprint/idle").into_iter().take(CALLERS).collect();
    for caller in &callers {
        for server in servers.clone() {
            let to = SocketAddr::new(server.into(), SERVED);
            let answer = lab
                .in_pod(caller, move || ambit_lab::http::request("GET", to, "/", Duration::from_secs(10)))?;
            check(answer.status == 200, || format!("{} to {to}: {answer:?}", caller.name))?;
        }
    }
    callers.iter().try_fold(0, |sum, caller| Ok(sum + flows::tunnels(lab, caller)?))
}

fn cost() -> Check {
    let (few, many) = (Run::with(FEW)?, Run::with(MANY)?);
    let further = MANY - FEW;
    let threads = many.all.threads.saturating_sub(few.all.threads);
    check(threads == further, || format!("{threads} further threads"))?;

    let pods = [few.pods(), many.pods()];
    check(pods[0] > 0 && pods[0] <= IDLE * PER_POD, || format!("{IDLE} pods cost {pods:?} descriptors"))?;
    check(pods[0] == pods[1], || format!("{IDLE} pods cost {pods:?} descriptors, by number of workers"))?;
    let more_files = |many: &Held, few: &Held| many.descriptors().saturating_sub(few.descriptors());
    let files = more_files(&many.all, &few.all).max(more_files(&many.used, &few.used));
    check(files <= further * FILES_PER_WORKER, || format!("{further} workers cost {files} descriptors"))?;

    let (less, more) = (few.all.resident_kib, many.all.resident_kib);
    let allowed = (less / 10).max(further * KIB_PER_WORKER);
    println!(
        "a pod: {} descriptors; a further worker: {:.2} descriptors and {:.0} KiB ({less} KiB to {more} KiB, {allowed} KiB allowed)",
        pods[0] as f64 / IDLE as f64,
        files as f64 / further as f64,
        (more as f64 - less as f64) / further as f64
    );
    check(more <= less + allowed, || format!("resident: {less} KiB and {more} KiB"))?;

    let expected = CALLERS * SERVERS;
    let tunnels = [few.tunnels, many.tunnels];
    check(tunnels == [expected; 2], || format!("{tunnels:?} tunnels where {expected} pairs spoke"))
}
